//! Own entries on their way to one relay: what was sent in this session and what was answered.
//!
//! The entries themselves are in the [`Outbox`], which all relays share. The rules (the prefix rule
//! of the protocol, seen from the client):
//!
//! - entries are sent in the order of `seq`, nothing is sent twice in a session unless refused;
//! - after the relay refused one, it refuses all behind it; once every answer is in, sending
//!   starts again at the first that is not acknowledged, with `resume`.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use zerok_sync_protocol::BlobId;

use super::super::outbox::Outbox;
use super::super::reading::is_epoch;
use crate::id::DeviceId;

/// Bytes of pushes that may be unanswered, if the relay allows as much.
pub(crate) const IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024;
/// Pushed entries that the relay has not shown again: more than any honest one leaves open.
const PUSHED_MAX: usize = 65_536;

/// A `Push` that is not answered yet.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    push: u64,
    /// Of new own entries; nothing for what is put back.
    first_seq: Option<u64>,
    count: usize,
    bytes: usize,
}

/// Something of the log that this session pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// A new own entry.
    Own { seq: u64 },
    /// Out of the mirror.
    PutBack {
        /// Whose entry, and which.
        entry: Option<(DeviceId, u64)>,
        /// It begins an epoch.
        epoch: bool,
    },
}

/// An envelope that a relay lacks.
#[derive(Debug)]
pub(crate) struct Lacking {
    pub(crate) blob_id: BlobId,
    pub(crate) envelope: Bytes,
    /// Whose entry, and which.
    pub(crate) entry: Option<(DeviceId, u64)>,
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

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    next_push: u64,
    /// First seq not yet sent in this session.
    pub(crate) next_seq: u64,
    /// The relay refused something: it wants `resume` before it takes more.
    refused: bool,
    /// What this session pushed and the relay has not shown again: it may do so as a stub.
    pushed: HashMap<BlobId, Pushed>,
}

impl Sending {
    /// A session begins: everything not acknowledged will be sent again.
    pub(crate) fn restart(&mut self, acked_seq: u64) {
        *self = Self { next_push: self.next_push, next_seq: acked_seq + 1, ..Self::default() };
    }

    /// Own entries are sent from behind this one, while none of them is on its way. What the session
    /// has put back stays: its answers and stubs are still to come.
    pub(crate) fn send_behind(&mut self, acked_seq: u64) {
        self.next_seq = acked_seq + 1;
    }

    /// Whether another push may be sent now.
    pub(crate) fn may_send(&self, in_flight_bytes_max: usize) -> bool {
        self.in_flight_bytes < in_flight_bytes_max
            && (!self.refused || self.in_flight.is_empty())
            && self.pushed.len() < PUSHED_MAX
    }

    /// The next push of sealed entries, if there are any. A relay takes no longer frame than its
    /// limit for one envelope allows.
    pub(crate) fn next_push(&mut self, outbox: &Outbox, envelope_bytes_max: usize) -> Option<PushBatch> {
        let sealed = outbox.sealed_run(self.next_seq, envelope_bytes_max)?;
        let first_seq = sealed.first_seq;
        let mut envelopes = Vec::with_capacity(sealed.entries.len());
        let mut bytes = 0;
        for (seq, (blob_id, envelope)) in (first_seq..).zip(sealed.entries) {
            bytes += envelope.len();
            envelopes.push(envelope);
            self.pushed.insert(blob_id, Pushed::Own { seq });
        }
        self.next_push += 1;
        self.next_seq = first_seq + envelopes.len() as u64;
        Some(self.send(Some(first_seq), envelopes, bytes))
    }

    /// A push of what the relay lacks, with whose entry each is.
    pub(crate) fn put_back(&mut self, entries: Vec<Lacking>) -> PushBatch {
        let mut envelopes = Vec::with_capacity(entries.len());
        let mut bytes = 0;
        for Lacking { blob_id, envelope, entry } in entries {
            bytes += envelope.len();
            let epoch = is_epoch(&envelope);
            self.pushed.insert(blob_id, Pushed::PutBack { entry, epoch });
            envelopes.push(envelope);
        }
        self.next_push += 1;
        self.send(None, envelopes, bytes)
    }

    /// A change of keys was sent, for the first time or again: its envelope comes back like what was put
    /// back.
    pub(crate) fn rotated(&mut self, blob_id: BlobId) {
        self.pushed.insert(blob_id, Pushed::PutBack { entry: None, epoch: true });
    }

    fn send(&mut self, first_seq: Option<u64>, envelopes: Vec<Bytes>, bytes: usize) -> PushBatch {
        self.in_flight.push_back(InFlight { push: self.next_push, first_seq, count: envelopes.len(), bytes });
        self.in_flight_bytes += bytes;
        PushBatch { push: self.next_push, envelopes, resume: std::mem::take(&mut self.refused) }
    }

    /// An answer came: the seq of the push's first entry, or nothing for what was put back, if it
    /// answers the oldest open push in full.
    pub(crate) fn answered(&mut self, push: u64, results: usize) -> Result<Option<u64>, UnexpectedAck> {
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

    /// The relay showed what this session had pushed.
    pub(crate) fn shown(&mut self, blob_id: &BlobId) -> Option<Pushed> {
        self.pushed.remove(blob_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Kind;
    use crate::engine::outbox::{OutboxBody, OutboxItem, PUSH_BYTES};

    fn sealed(seq: u64, bytes: usize) -> OutboxItem {
        let byte = u8::try_from(seq).expect("small");
        let envelope = Bytes::from(vec![byte; bytes]);
        OutboxItem { seq, body: OutboxBody::Sealed { blob_id: BlobId([byte; 32]), envelope } }
    }

    fn outbox(items: impl IntoIterator<Item = OutboxItem>) -> (Outbox, Sending) {
        let mut outbox = Outbox::default();
        items.into_iter().for_each(|item| outbox.append(item));
        let mut sending = Sending::default();
        sending.restart(0);
        (outbox, sending)
    }

    #[test]
    fn entries_leave_in_the_order_of_seq_and_once() {
        let (outbox, mut sending) = outbox([sealed(1, 10), sealed(2, 20)]);
        let push = sending.next_push(&outbox, usize::MAX).expect("two are sealed");
        assert_eq!(push.envelopes.iter().map(Bytes::len).collect::<Vec<_>>(), [10, 20]);
        assert!(!push.resume);
        assert_eq!(sending.next_push(&outbox, usize::MAX), None);
    }

    #[test]
    fn what_was_put_back_is_still_expected_when_own_entries_are_sent_again() {
        let (outbox, mut sending) = outbox([sealed(1, 10)]);
        let blob_id = BlobId([9; 32]);
        sending.put_back(vec![Lacking { blob_id, envelope: Bytes::from_static(&[9; 10]), entry: None }]);
        sending.send_behind(0);
        assert_eq!(sending.next_push(&outbox, usize::MAX).expect("the own one").push, 2);
        assert_eq!(sending.answered(1, 1), Ok(None));
        assert!(matches!(sending.shown(&blob_id), Some(Pushed::PutBack { .. })));
    }

    #[test]
    fn each_relay_is_sent_all_of_it() {
        let (outbox, mut first) = outbox([sealed(1, 10), sealed(2, 20)]);
        let mut second = Sending::default();
        second.restart(1);
        assert_eq!(first.next_push(&outbox, usize::MAX).expect("both").envelopes.len(), 2);
        assert_eq!(second.next_push(&outbox, usize::MAX).expect("the second").envelopes.len(), 1);
    }

    #[test]
    fn an_entry_that_waits_to_be_sealed_holds_those_behind_it() {
        let waiting = OutboxItem { seq: 2, body: OutboxBody::Waiting { kind: Kind::APP, body: Bytes::new() } };
        let (outbox, mut sending) = outbox([sealed(1, 10), waiting, sealed(3, 10)]);
        assert_eq!(sending.next_push(&outbox, usize::MAX).expect("one is sealed").envelopes.len(), 1);
        assert_eq!(sending.next_push(&outbox, usize::MAX), None);
    }

    #[test]
    fn after_a_refusal_nothing_is_sent_until_every_answer_is_in_and_then_with_resume() {
        let (outbox, mut sending) = outbox([sealed(1, PUSH_BYTES), sealed(2, PUSH_BYTES)]);
        let first = sending.next_push(&outbox, usize::MAX).expect("first");
        let second = sending.next_push(&outbox, usize::MAX).expect("second");
        assert_eq!(sending.answered(first.push, 1), Ok(Some(1)));
        sending.refuse(0);
        assert!(!sending.may_send(IN_FLIGHT_BYTES_MAX));
        assert_eq!(sending.answered(second.push, 1), Ok(Some(2)));
        assert!(sending.may_send(IN_FLIGHT_BYTES_MAX));
        let again = sending.next_push(&outbox, usize::MAX).expect("from the refused one on");
        assert!(again.resume);
        assert_eq!(again.envelopes[0][0], 1);
    }

    #[test]
    fn a_new_session_sends_what_was_not_acknowledged_again() {
        let (outbox, mut sending) = outbox([sealed(1, 10), sealed(2, 10)]);
        sending.next_push(&outbox, usize::MAX);
        sending.restart(1);
        assert_eq!(sending.next_push(&outbox, usize::MAX).expect("seq 2").envelopes[0][0], 2);
    }

    #[test]
    fn an_answer_to_another_push_or_of_another_length_is_refused() {
        let (outbox, mut sending) = outbox([sealed(1, 10)]);
        let push = sending.next_push(&outbox, usize::MAX).expect("one").push;
        assert_eq!(sending.answered(push + 1, 1), Err(UnexpectedAck));
        assert_eq!(sending.answered(push, 2), Err(UnexpectedAck));
    }

    #[test]
    fn a_relay_that_lacks_what_is_not_in_the_window_any_more_is_sent_nothing_behind_it() {
        let (mut outbox, mut sending) = outbox([sealed(1, 10), sealed(2, 10), sealed(3, 10)]);
        outbox.forget_up_to(2);
        assert_eq!(sending.next_push(&outbox, usize::MAX), None);
        sending.next_seq = 3;
        let push = sending.next_push(&outbox, usize::MAX).expect("seq 3").push;
        assert_eq!(sending.answered(push, 1), Ok(Some(3)));
    }

    #[test]
    fn a_push_is_no_longer_than_the_relays_limit_for_one_envelope() {
        let (outbox, mut sending) = outbox([sealed(1, 100), sealed(2, 100), sealed(3, 100)]);
        let lengths: Vec<_> =
            std::iter::from_fn(|| sending.next_push(&outbox, 250)).map(|push| push.envelopes.len()).collect();
        assert_eq!(lengths, [2, 1]);
    }

    #[test]
    fn what_was_pushed_is_recognised_when_it_is_shown_once() {
        let (outbox, mut sending) = outbox([sealed(1, 10)]);
        sending.next_push(&outbox, usize::MAX);
        assert_eq!(sending.shown(&BlobId([1; 32])), Some(Pushed::Own { seq: 1 }));
        assert_eq!(sending.shown(&BlobId([1; 32])), None);
    }
}
