//! Atomic batches: what is larger than one blob travels as parts and a commit, and is one entry to
//! the app.
//!
//! Invariants: a batch is a run of one device's chain, its parts and right behind them its commit,
//! queued in one local transaction; so the chain itself says which parts belong to it, and the
//! commit's signature vouches for them. The app sees nothing before the commit; whether a batch
//! counts follows from the chain alone, so all devices agree. The parts stay in the mirror: whoever
//! reads the entry puts them together, and no device holds a batch that nobody reads in memory.

use bytes::Bytes;
use zerok_sync_protocol::{wire, wire_struct};

use super::Engine;
use super::mirror::Place;
use super::rows::{PartsRow, hot, hot_key};
use crate::content::Kind;
use crate::error::PushError;
use crate::id::DeviceId;
use crate::seal::Authenticated;

/// What one part holds: sealed, four of them fill what may be unanswered, and one that was lost on
/// the way costs little to send again.
pub(super) const PART_BYTES: usize = 240 * 1024;
/// Largest push, in whatever number of parts: an app's whole state, and still in one piece in the
/// memory of a phone's browser when it is pushed and when it is read.
pub const PUSH_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Parts of one batch; a relay with a low limit on envelopes has smaller ones.
pub(super) const PARTS_MAX: usize = 4_096;

wire_struct! {
    /// Body of a commit: the parts right before it in its sender's chain are one blob.
    pub struct Commit {
        /// How many parts.
        parts: u64,
        /// Bytes of all their bodies.
        bytes: u64,
    }
}

impl Commit {
    /// Of an entry's body; nothing if no honest device wrote it.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let commit: Self = wire::decode(body).ok()?;
        let sound = (1..=PARTS_MAX as u64).contains(&commit.parts) && commit.bytes <= PUSH_BYTES_MAX as u64;
        sound.then_some(commit)
    }
}

impl PartsRow {
    /// Whether these parts, which end right before it, are the commit's.
    fn are_of(&self, commit: &Commit) -> bool {
        (self.parts, self.bytes) == (commit.parts, commit.bytes)
    }

    /// Where the first of them stands in the mirror.
    fn first(&self) -> Place {
        Place { position: self.position, ordinal: self.ordinal }
    }
}

impl Engine {
    /// The largest push that is taken now.
    pub(super) fn push_bytes_max(&self) -> usize {
        let blob_max = self.blob_bytes_max();
        let in_parts = PART_BYTES.min(blob_max).saturating_mul(PARTS_MAX).min(PUSH_BYTES_MAX);
        in_parts.max(blob_max)
    }

    /// Puts a push at the end of the outbox, in parts if it is larger than one entry can be. Returns
    /// the number of the entry that the app will see.
    pub(super) fn queue_push(&mut self, blob: Bytes) -> Result<u64, PushError> {
        let bytes = blob.len();
        let (blob_max, bytes_max) = (self.blob_bytes_max(), self.push_bytes_max());
        if bytes > bytes_max {
            return Err(PushError::TooLarge { bytes, bytes_max });
        }
        if bytes <= blob_max {
            return Ok(self.queue(Kind::APP, blob));
        }
        let parts = self.queue_parts(&blob);
        let commit = Commit { parts, bytes: bytes as u64 };
        Ok(self.queue(Kind::COMMIT, wire::encode(&commit).into()))
    }

    /// Puts bytes at the end of the outbox in parts; how many these are.
    pub(super) fn queue_parts(&mut self, bytes: &Bytes) -> u64 {
        let part_bytes = PART_BYTES.min(self.blob_bytes_max()).max(1);
        for from in (0..bytes.len()).step_by(part_bytes) {
            self.queue(Kind::PART, bytes.slice(from..bytes.len().min(from + part_bytes)));
        }
        bytes.len().div_ceil(part_bytes) as u64
    }

    /// Notes an accepted part, which stands there in the mirror.
    pub(super) fn note_part(&mut self, entry: &Authenticated, place: Place) {
        let (position, ordinal) = (place.position, place.ordinal);
        let row = self.parts.entry(entry.sender).or_insert(PartsRow { parts: 0, bytes: 0, position, ordinal });
        row.parts += 1;
        row.bytes = row.bytes.saturating_add(entry.body.len() as u64);
        self.effects.put(hot_key(hot::PARTS, &entry.sender.0), wire::encode(row));
    }

    /// An entry that is no part ends the run of parts before it: where that began.
    pub(super) fn end_parts(&mut self, sender: &DeviceId) -> Option<PartsRow> {
        let row = self.parts.remove(sender)?;
        self.effects.delete(hot_key(hot::PARTS, &sender.0));
        Some(row)
    }

    /// Where a commit's batch begins, if that is whole and nothing else.
    pub(super) fn batch_of(commit: &Authenticated, parts: Option<PartsRow>) -> Option<Place> {
        let commit = Commit::parse(&commit.body)?;
        parts.filter(|parts| parts.are_of(&commit)).map(|parts| parts.first())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_of_so_many_parts_and_bytes_as_there_can_be() {
        let parse = |parts, bytes| Commit::parse(&wire::encode(&Commit { parts, bytes }));
        assert_eq!(parse(2, 5), Some(Commit { parts: 2, bytes: 5 }));
        let (parts_max, bytes_max) = (PARTS_MAX as u64, PUSH_BYTES_MAX as u64);
        assert!(parse(parts_max, bytes_max).is_some());
        for (parts, bytes) in [(0, 5), (parts_max + 1, 5), (2, bytes_max + 1), (u64::MAX, u64::MAX)] {
            assert_eq!(parse(parts, bytes), None);
        }
        assert_eq!(Commit::parse(b"no commit"), None);
    }
}
