//! Saying something to the devices that are there, past the log.

use bytes::Bytes;
use tokio::sync::broadcast;
use zerok_sync_core::id::DeviceId;

use super::Client;
use crate::error::ClientError;

/// Whispers kept for a listener that is slow; it misses the oldest of more.
pub(super) const WHISPERS_KEPT: usize = 64;

/// Something that another device said to whoever is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whisper {
    /// Who said it.
    pub device: DeviceId,
    /// What.
    pub data: Bytes,
}

/// What other devices say from now on.
#[derive(Debug)]
pub struct Whispers(broadcast::Receiver<Whisper>);

impl Client {
    /// Says something to the group's devices that are there: a cursor's place, "is typing". It is
    /// sealed and signed, stored nowhere, and may be lost; who is there is in [`Client::status`]
    /// (`members`, `online`). At most [`crate::WHISPER_BODY_BYTES_MAX`] bytes and ten a second.
    ///
    /// # Errors
    /// [`ClientError::Whisper`]; [`ClientError::Closed`], [`ClientError::StorageFailed`].
    pub async fn whisper(&self, data: impl Into<Bytes>) -> Result<(), ClientError> {
        let data = data.into();
        Ok(self.ask(move |engine, now| engine.whisper(now, data)).await??)
    }

    /// Listens to what other devices whisper.
    #[must_use]
    pub fn whispers(&self) -> Whispers {
        Whispers(self.whispers.subscribe())
    }
}

impl Whispers {
    /// The next one; nothing once the client is closed. Who listens too slowly misses some.
    pub async fn next(&mut self) -> Option<Whisper> {
        loop {
            match self.0.recv().await {
                Ok(whisper) => return Some(whisper),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
