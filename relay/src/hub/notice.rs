//! What one session tells the others of its group, once and to whoever is there.
//!
//! A whisper is one of many. Of what a device has read only the newest word counts: it takes the
//! place of an older one that still waits, so that a device which repeats itself costs each of the
//! others two frames: a word without a receipt leaves the newest receipt where it is.

use bytes::Bytes;
use zerok_sync_protocol::{NoisePublicKey, RelayFrame};

/// Whose word of what it has read, and whether it came with a receipt.
pub type Reader = (NoisePublicKey, bool);

/// An encoded frame for the sessions that have a log open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whose newest `Acked` it is; `None` for a whisper.
    pub reader: Option<Reader>,
    /// `Acked` or `Whispered`.
    pub frame: Bytes,
}

impl Notice {
    /// What a device has read.
    #[must_use]
    pub fn acked(device: NoisePublicKey, cursor: u64, receipt: Option<Bytes>) -> Self {
        let reader = (device, receipt.is_some());
        let frame = RelayFrame::Acked { device, cursor, receipt }.encode().into();
        Self { reader: Some(reader), frame }
    }

    /// Something ephemeral.
    #[must_use]
    pub fn whispered(data: Bytes) -> Self {
        Self { reader: None, frame: RelayFrame::Whispered { data }.encode().into() }
    }

    /// Whether it makes one that still waits needless.
    #[must_use]
    pub fn replaces(&self, waiting: &Self) -> bool {
        self.reader.is_some() && self.reader == waiting.reader
    }
}
