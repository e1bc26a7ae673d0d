//! The window on the outbox that is in memory: what is being sealed, sent and waited for.
//!
//! The whole outbox is on disk, one row per own entry; the window holds a bounded run of it, from
//! the oldest entry not yet mirrored on. All relays are sent from it, each at its own pace
//! ([`super::relay`]); an acknowledged entry stays until it was read back from one, because that
//! relay may return it as a stub. A relay that still lacks it then is served from the mirror.

use std::collections::VecDeque;

use bytes::Bytes;
use zerok_sync_protocol::BlobId;

use crate::content::Kind;

/// Bytes of blobs and envelopes the window may hold; beyond it, pushes wait on disk.
const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Envelopes and bytes gathered into one `Push`: enough to fill a commit, small enough to be
/// answered soon.
pub(crate) const PUSH_ENVELOPES: usize = 64;
pub(crate) const PUSH_BYTES: usize = 256 * 1024;

/// One own entry in memory.
#[derive(Debug)]
pub(crate) struct OutboxItem {
    pub(crate) seq: u64,
    pub(crate) body: OutboxBody,
}

/// How far it has come.
#[derive(Debug)]
pub(crate) enum OutboxBody {
    /// Not sealed: nothing about it is fixed but its place in the queue.
    Waiting { kind: Kind, body: Bytes },
    /// Sealed and durable; the bytes never change again.
    Sealed { blob_id: BlobId, envelope: Bytes },
}

impl OutboxItem {
    fn bytes(&self) -> usize {
        match &self.body {
            OutboxBody::Waiting { body, .. } => body.len(),
            OutboxBody::Sealed { envelope, .. } => envelope.len(),
        }
    }
}

/// Sealed entries to be pushed together.
#[derive(Debug)]
pub(crate) struct SealedRun {
    pub(crate) first_seq: u64,
    pub(crate) entries: Vec<(BlobId, Bytes)>,
}

/// The window. See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    items: VecDeque<OutboxItem>,
    bytes: usize,
}

impl Outbox {
    /// Seq of the newest entry in memory.
    pub(crate) fn last_seq(&self) -> Option<u64> {
        self.items.back().map(|item| item.seq)
    }

    /// Whether more of the outbox may be brought into memory.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < WINDOW_BYTES_MAX / 2
    }

    /// How many bytes may be brought in.
    pub(crate) fn room(&self) -> usize {
        WINDOW_BYTES_MAX.saturating_sub(self.bytes)
    }

    /// Takes an entry in; entries come in the order of `seq` without holes.
    pub(crate) fn append(&mut self, item: OutboxItem) {
        debug_assert!(self.last_seq().is_none_or(|last| last + 1 == item.seq), "the window has no holes");
        self.bytes += item.bytes();
        self.items.push_back(item);
    }

    /// Where an entry is in the window: seqs are consecutive.
    fn index(&self, seq: u64) -> Option<usize> {
        let first = self.items.front()?.seq;
        usize::try_from(seq.checked_sub(first)?).ok().filter(|&index| index < self.items.len())
    }

    /// The entries from `seq` on.
    fn from(&self, seq: u64) -> impl Iterator<Item = &OutboxItem> {
        let first = self.items.front().map_or(seq, |item| item.seq);
        let skip = usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX);
        self.items.range(skip.min(self.items.len())..)
    }

    /// An entry that is in the window and not sealed.
    pub(crate) fn waiting(&self, seq: u64) -> Option<(Kind, Bytes)> {
        match &self.items[self.index(seq)?].body {
            OutboxBody::Waiting { kind, body } => Some((*kind, body.clone())),
            OutboxBody::Sealed { .. } => None,
        }
    }

    /// Notes that an entry was sealed.
    pub(crate) fn sealed(&mut self, seq: u64, blob_id: BlobId, envelope: Bytes) {
        if let Some(index) = self.index(seq) {
            let item = &mut self.items[index];
            self.bytes -= item.bytes();
            item.body = OutboxBody::Sealed { blob_id, envelope };
            self.bytes += item.bytes();
        }
    }

    /// Whether sealing more now would only pile up for a relay that was sent all before `next_seq`.
    pub(crate) fn wants_sealing(&self, next_seq: u64) -> bool {
        let unsent = self.from(next_seq).take(PUSH_ENVELOPES);
        unsent.take_while(|item| matches!(item.body, OutboxBody::Sealed { .. })).count() < PUSH_ENVELOPES
    }

    /// Sealed entries from `next_seq` on, as many as make one push; nothing if the window begins
    /// behind it.
    pub(crate) fn sealed_run(&self, next_seq: u64, envelope_bytes_max: usize) -> Option<SealedRun> {
        let bytes_max = PUSH_BYTES.min(envelope_bytes_max);
        let mut entries = Vec::new();
        let mut bytes = 0;
        if self.from(next_seq).next()?.seq != next_seq {
            return None;
        }
        for item in self.from(next_seq) {
            let OutboxBody::Sealed { blob_id, envelope } = &item.body else { break };
            if entries.len() == PUSH_ENVELOPES || (!entries.is_empty() && bytes + envelope.len() > bytes_max) {
                break;
            }
            bytes += envelope.len();
            entries.push((*blob_id, envelope.clone()));
        }
        (!entries.is_empty()).then_some(SealedRun { first_seq: next_seq, entries })
    }

    /// The sealed bytes of a stub.
    pub(crate) fn envelope_of(&self, blob_id: &BlobId) -> Option<Bytes> {
        self.items.iter().find_map(|item| match &item.body {
            OutboxBody::Sealed { blob_id: id, envelope } if id == blob_id => Some(envelope.clone()),
            _ => None,
        })
    }

    /// The id an entry of the window was sealed with.
    pub(crate) fn sealed_as(&self, seq: u64) -> Option<BlobId> {
        match &self.items[self.index(seq)?].body {
            OutboxBody::Sealed { blob_id, .. } => Some(*blob_id),
            OutboxBody::Waiting { .. } => None,
        }
    }

    /// Everything up to `seq` was read back and is in the mirror.
    pub(crate) fn forget_up_to(&mut self, seq: u64) {
        while let Some(item) = self.items.front().filter(|item| item.seq <= seq) {
            self.bytes -= item.bytes();
            self.items.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_in_the_window_until_it_was_read_back() {
        let mut outbox = Outbox::default();
        let envelope = Bytes::from_static(b"sealed");
        outbox.append(OutboxItem { seq: 1, body: OutboxBody::Sealed { blob_id: BlobId([1; 32]), envelope } });
        assert!(outbox.envelope_of(&BlobId([1; 32])).is_some());
        outbox.forget_up_to(1);
        assert!(outbox.envelope_of(&BlobId([1; 32])).is_none());
        assert_eq!(outbox.bytes, 0);
    }
}
