//! What the relay must never hold, seen with the members' keys: two envelopes for one place in a
//! chain, an entry twice, a hole.

use std::collections::BTreeMap;

use bytes::Bytes;
use zerok_sync_core::id::DeviceId;
use zerok_sync_core::keyring::Keyring;
use zerok_sync_core::{epoch, seal};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{BlobId, EnvelopeHeader, EnvelopeType};

use crate::sim::relay::Relay;

/// Sender, seq and predecessor.
type Place = (DeviceId, u64, BlobId);

/// Follows a relay's log, and everything that was ever sent to it.
#[derive(Debug)]
pub struct Inspector {
    keyring: Keyring,
    inspected: usize,
    heads: BTreeMap<DeviceId, (u64, BlobId)>,
    sent: BTreeMap<(DeviceId, u64), BlobId>,
    /// What was opened already.
    places: BTreeMap<BlobId, Place>,
}

impl Inspector {
    /// An inspector with a member's keys.
    #[must_use]
    pub fn new(keyring: Keyring) -> Self {
        Self { keyring, inspected: 0, heads: BTreeMap::new(), sent: BTreeMap::new(), places: BTreeMap::new() }
    }

    /// Highest seq of a device in the log.
    #[must_use]
    pub fn stored_seq(&self, device: &DeviceId) -> u64 {
        self.heads.get(device).map_or(0, |(seq, _)| *seq)
    }

    /// Looks at what came since the last time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn inspect(&mut self, relay: &mut Relay) -> Result<(), String> {
        for envelope in relay.take_received() {
            let id = blob_id(&envelope);
            let (sender, seq, _) = self.place(id, &envelope)?;
            if *self.sent.entry((sender, seq)).or_insert(id) != id {
                return Err(format!("two envelopes were sent for seq {seq} of {sender:?}"));
            }
        }
        for stored in &relay.entries()[self.inspected.min(relay.entries().len())..] {
            self.inspected += 1;
            let cursor = self.inspected;
            let envelope = stored.envelope.as_ref().ok_or_else(|| format!("nothing at cursor {cursor}"))?;
            let (sender, seq, prev) = self.place(stored.blob_id, envelope)?;
            let (have, at) = self.heads.get(&sender).copied().unwrap_or((0, BlobId::ZERO));
            if (seq, prev) != (have + 1, at) {
                return Err(format!("cursor {cursor} holds seq {seq} of {sender:?} behind {have}"));
            }
            self.heads.insert(sender, (seq, stored.blob_id));
        }
        Ok(())
    }

    fn place(&mut self, id: BlobId, envelope: &Bytes) -> Result<Place, String> {
        if let Some(place) = self.places.get(&id) {
            return Ok(*place);
        }
        let place = self.open(envelope)?;
        self.places.insert(id, place);
        Ok(place)
    }

    fn open(&self, envelope: &Bytes) -> Result<Place, String> {
        let (header, _) = EnvelopeHeader::parse(envelope).map_err(|error| error.to_string())?;
        let keys = self.keyring.get(&header.epoch).ok_or("an unknown epoch")?;
        if header.kind == EnvelopeType::Epoch {
            let opened = epoch::open_epoch(self.keyring.group(), keys, envelope).map_err(|error| error.to_string())?;
            let body = opened.claims();
            return Ok((body.sender, body.seq, body.prev));
        }
        let entry = seal::open(&self.keyring, envelope).map_err(|error| error.to_string())?;
        let content = entry.claims();
        Ok((content.sender, content.seq, content.prev))
    }
}
