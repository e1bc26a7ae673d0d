//! The window on the outbox that is in memory: what is being sealed, sent and waited for.
//!
//! The whole outbox is on disk, one row per own entry; the window holds a bounded run of it, from
//! the oldest entry not yet mirrored on. Its rules (the prefix rule of the protocol, seen from the
//! client):
//!
//! - entries are sent in the order of `seq`, nothing is sent twice in a session unless refused;
//! - after the relay refused one, it refuses all behind it; once every answer is in, sending
//!   starts again at the first that is not acknowledged, with `resume`;
//! - an acknowledged entry stays until it was read back, because the relay may return it as a stub.

use std::collections::VecDeque;

use bytes::Bytes;
use zerok_sync_protocol::BlobId;

use crate::content::Kind;

/// Bytes of blobs and envelopes the window may hold; beyond it, pushes wait on disk.
const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of pushes that may be unanswered, if the relay allows as much.
pub(crate) const IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024;
/// Envelopes and bytes gathered into one `Push`: enough to fill a commit, small enough to be
/// answered soon.
const PUSH_ENVELOPES: usize = 64;
const PUSH_BYTES: usize = 256 * 1024;

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

/// A `Push` that is not answered yet.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    push: u64,
    first_seq: u64,
    count: usize,
    bytes: usize,
}

/// What to send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PushBatch {
    pub(crate) push: u64,
    pub(crate) envelopes: Vec<Bytes>,
    pub(crate) resume: bool,
}

/// A `PushAck` that answers nothing that was asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnexpectedAck;

/// The window. See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    items: VecDeque<OutboxItem>,
    bytes: usize,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    next_push: u64,
    /// First seq not yet sent in this session.
    next_seq: u64,
    /// The relay refused something: it wants `resume` before it takes more.
    refused: bool,
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

    /// A session ended or begins: everything not acknowledged will be sent again.
    pub(crate) fn restart(&mut self, acked_seq: u64) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.next_seq = acked_seq + 1;
        self.refused = false;
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

    /// Whether another push may be sent now.
    pub(crate) fn may_send(&self, in_flight_bytes_max: usize) -> bool {
        self.in_flight_bytes < in_flight_bytes_max && (!self.refused || self.in_flight.is_empty())
    }

    fn unsent_sealed(&self) -> usize {
        self.from(self.next_seq)
            .take(PUSH_ENVELOPES)
            .take_while(|item| matches!(item.body, OutboxBody::Sealed { .. }))
            .count()
    }

    /// Whether sealing more now would only pile up.
    pub(crate) fn wants_sealing(&self) -> bool {
        self.unsent_sealed() < PUSH_ENVELOPES
    }

    /// The next push of sealed entries, if there are any. A relay takes no longer frame than its
    /// limit for one envelope allows.
    pub(crate) fn next_push(&mut self, envelope_bytes_max: usize) -> Option<PushBatch> {
        let bytes_max = PUSH_BYTES.min(envelope_bytes_max);
        let mut envelopes = Vec::new();
        let mut bytes = 0;
        // Some that were to be sent may have been read back meanwhile.
        let first_seq = self.from(self.next_seq).next()?.seq;
        for item in self.from(first_seq) {
            let OutboxBody::Sealed { envelope, .. } = &item.body else { break };
            if envelopes.len() == PUSH_ENVELOPES || (!envelopes.is_empty() && bytes + envelope.len() > bytes_max) {
                break;
            }
            bytes += envelope.len();
            envelopes.push(envelope.clone());
        }
        if envelopes.is_empty() {
            return None;
        }
        self.next_push += 1;
        self.next_seq = first_seq + envelopes.len() as u64;
        self.in_flight.push_back(InFlight { push: self.next_push, first_seq, count: envelopes.len(), bytes });
        self.in_flight_bytes += bytes;
        Some(PushBatch { push: self.next_push, envelopes, resume: std::mem::take(&mut self.refused) })
    }

    /// An answer came: the seq of the push's first entry, if it answers the oldest open push in
    /// full.
    pub(crate) fn answered(&mut self, push: u64, results: usize) -> Result<u64, UnexpectedAck> {
        let open = self.in_flight.front().filter(|open| open.push == push && open.count == results);
        let InFlight { first_seq, bytes, .. } = *open.ok_or(UnexpectedAck)?;
        self.in_flight.pop_front();
        self.in_flight_bytes -= bytes;
        Ok(first_seq)
    }

    /// The relay refused an entry; nothing more is sent until every answer is in.
    pub(crate) fn refuse(&mut self, acked_seq: u64) {
        self.refused = true;
        self.next_seq = acked_seq + 1;
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

    fn sealed(seq: u64, bytes: usize) -> OutboxItem {
        let envelope = Bytes::from(vec![u8::try_from(seq).expect("small"); bytes]);
        OutboxItem {
            seq,
            body: OutboxBody::Sealed { blob_id: BlobId([u8::try_from(seq).expect("small"); 32]), envelope },
        }
    }

    fn outbox(items: impl IntoIterator<Item = OutboxItem>) -> Outbox {
        let mut outbox = Outbox::default();
        outbox.restart(0);
        items.into_iter().for_each(|item| outbox.append(item));
        outbox
    }

    #[test]
    fn entries_leave_in_the_order_of_seq_and_once() {
        let mut outbox = outbox([sealed(1, 10), sealed(2, 20)]);
        let push = outbox.next_push(usize::MAX).expect("two are sealed");
        assert_eq!(push.envelopes.iter().map(Bytes::len).collect::<Vec<_>>(), [10, 20]);
        assert!(!push.resume);
        assert_eq!(outbox.next_push(usize::MAX), None);
    }

    #[test]
    fn an_entry_that_waits_to_be_sealed_holds_those_behind_it() {
        let waiting = OutboxItem { seq: 2, body: OutboxBody::Waiting { kind: Kind::APP, body: Bytes::new() } };
        let mut outbox = outbox([sealed(1, 10), waiting, sealed(3, 10)]);
        assert_eq!(outbox.next_push(usize::MAX).expect("one is sealed").envelopes.len(), 1);
        assert_eq!(outbox.next_push(usize::MAX), None);
        assert_eq!(outbox.waiting(2), Some((Kind::APP, Bytes::new())));
        assert_eq!(outbox.waiting(3), None);
    }

    #[test]
    fn after_a_refusal_nothing_is_sent_until_every_answer_is_in_and_then_with_resume() {
        let mut outbox = outbox([sealed(1, PUSH_BYTES), sealed(2, PUSH_BYTES)]);
        let (first, second) =
            (outbox.next_push(usize::MAX).expect("first"), outbox.next_push(usize::MAX).expect("second"));
        assert_eq!(outbox.answered(first.push, 1), Ok(1));
        outbox.refuse(0);
        assert!(!outbox.may_send(IN_FLIGHT_BYTES_MAX));
        assert_eq!(outbox.answered(second.push, 1), Ok(2));
        assert!(outbox.may_send(IN_FLIGHT_BYTES_MAX));
        let again = outbox.next_push(usize::MAX).expect("from the refused one on");
        assert!(again.resume);
        assert_eq!(again.envelopes[0][0], 1);
    }

    #[test]
    fn a_new_session_sends_what_was_not_acknowledged_again() {
        let mut outbox = outbox([sealed(1, 10), sealed(2, 10)]);
        outbox.next_push(usize::MAX);
        outbox.restart(1);
        assert_eq!(outbox.next_push(usize::MAX).expect("seq 2").envelopes[0][0], 2);
    }

    #[test]
    fn an_answer_to_another_push_or_of_another_length_is_refused() {
        let mut outbox = outbox([sealed(1, 10)]);
        let push = outbox.next_push(usize::MAX).expect("one").push;
        assert_eq!(outbox.answered(push + 1, 1), Err(UnexpectedAck));
        assert_eq!(outbox.answered(push, 2), Err(UnexpectedAck));
    }

    #[test]
    fn an_acknowledged_entry_stays_until_it_was_read_back() {
        let mut outbox = outbox([sealed(1, 10)]);
        let push = outbox.next_push(usize::MAX).expect("one").push;
        outbox.answered(push, 1).expect("it was asked");
        assert!(outbox.envelope_of(&BlobId([1; 32])).is_some());
        outbox.forget_up_to(1);
        assert!(outbox.envelope_of(&BlobId([1; 32])).is_none());
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn what_was_read_back_before_it_was_sent_does_not_shift_the_answers() {
        let mut outbox = outbox([sealed(1, 10), sealed(2, 10), sealed(3, 10)]);
        outbox.forget_up_to(2);
        let push = outbox.next_push(usize::MAX).expect("seq 3").push;
        assert_eq!(outbox.answered(push, 1), Ok(3));
        assert_eq!(outbox.next_push(usize::MAX), None);
    }

    #[test]
    fn a_push_is_no_longer_than_the_relays_limit_for_one_envelope() {
        let mut outbox = outbox([sealed(1, 100), sealed(2, 100), sealed(3, 100)]);
        let lengths: Vec<_> = std::iter::from_fn(|| outbox.next_push(250)).map(|push| push.envelopes.len()).collect();
        assert_eq!(lengths, [2, 1]);
    }
}
