//! Appending.
//!
//! *Prefix rule*: pushes of a session are accepted as a prefix. After the first refusal everything
//! pipelined behind it gets 1010 until a push with `resume`, so that a refusal never leaves a hole
//! in the sender's chain.
//!
//! Pushes that have arrived together are appended together, and acknowledged only when the store
//! says that they are on disk; each push has its answer, in order.

use std::sync::Arc;

use bytes::Bytes;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::PushResult;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, ErrorCode, RelayFrame};

use super::hello::refusal_of;
use super::member::{Member, REVOKED};
use super::wire::Wire;
use crate::core::Core;
use crate::limits::{APPEND_BYTES_MAX, APPEND_ENVELOPES_MAX, RelayLimits};
use crate::metrics::Refusal;
use crate::store::{Append, AppendRequest, Appended, StoreError};

/// Pushes that wait for their append.
#[derive(Default)]
pub(super) struct Pushes {
    waiting: Vec<Waiting>,
    envelopes: Vec<(BlobId, Bytes)>,
    bytes: usize,
    /// Something was refused and no `resume` has come.
    refusing: bool,
}

/// One `Push`: the first `accepted` of its `total` envelopes are to be appended.
struct Waiting {
    push: u64,
    accepted: usize,
    total: usize,
    /// Why the envelope behind the accepted ones is refused.
    code: ErrorCode,
}

impl Pushes {
    fn is_full(&self) -> bool {
        self.bytes >= APPEND_BYTES_MAX
            || self.envelopes.len() >= APPEND_ENVELOPES_MAX
            || self.waiting.len() >= APPEND_ENVELOPES_MAX
    }

    /// Bytes of envelopes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something is to be appended or answered.
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// As if a push had been refused.
    pub(super) fn refuse_until_resume(&mut self) {
        self.refusing = true;
    }

    /// Takes what a Push may append; the limit it went over, if it did. The bytes that wait may be
    /// gone over by one Push, as a client does that sends while there is room.
    fn enqueue(&mut self, push: u64, envelopes: Vec<Bytes>, limits: &RelayLimits) -> Option<Refusal> {
        let mut waiting = Waiting { push, accepted: 0, total: envelopes.len(), code: ErrorCode::OutOfOrder };
        let mut over = None;
        if !self.refusing {
            let room = (self.bytes as u64) < limits.push_bytes_in_flight_max;
            for (index, envelope) in envelopes.into_iter().enumerate() {
                let refused = if !room {
                    Some((ErrorCode::RateLimited, Some(Refusal::PushBytes)))
                } else if index as u64 >= limits.push_envelopes_max {
                    Some((ErrorCode::RateLimited, Some(Refusal::PushEnvelopes)))
                } else {
                    refusal_of(limits, &envelope)
                        .map(|code| (code, (code == ErrorCode::EnvelopeTooLarge).then_some(Refusal::EnvelopeBytes)))
                };
                if let Some((code, limit)) = refused {
                    waiting.code = code;
                    over = limit;
                    self.refusing = true;
                    break;
                }
                waiting.accepted += 1;
                self.bytes += envelope.len();
                self.envelopes.push((blob_id(&envelope), envelope));
            }
        }
        self.waiting.push(waiting);
        over
    }
}

impl Member {
    /// Takes a `Push`.
    pub(super) async fn push(
        &mut self,
        core: &Arc<Core>,
        wire: &mut Wire,
        push: u64,
        envelopes: Vec<Bytes>,
        resume: bool,
    ) {
        core.metrics.pushes.inc();
        if resume && self.pushes.refusing && !self.superseded {
            let clean = self.finish_pushes(core, wire).await;
            self.pushes.refusing = !clean;
        }
        if let Some(limit) = self.pushes.enqueue(push, envelopes, &core.limits) {
            wire.count(limit);
        }
        if self.pushes.is_full() {
            self.finish_pushes(core, wire).await;
        }
    }

    /// Appends what waits and answers it; whether all that was to be appended was.
    pub(super) async fn finish_pushes(&mut self, core: &Arc<Core>, wire: &mut Wire) -> bool {
        if !self.pushes.are_waiting() {
            return true;
        }
        let waiting = std::mem::take(&mut self.pushes.waiting);
        let envelopes = std::mem::take(&mut self.pushes.envelopes);
        self.pushes.bytes = 0;
        let (cursors, refused) =
            if envelopes.is_empty() { (Vec::new(), None) } else { self.append(core, wire, envelopes).await };
        let clean = refused.is_none();
        self.pushes.refusing |= !clean;
        for appended in &cursors {
            self.own.insert(appended.cursor);
        }
        for (push, results) in results(&waiting, &cursors, refused) {
            core.metrics.acks.inc();
            wire.send(&RelayFrame::PushAck {
                push,
                results: List::try_from(results).expect("as many results as the Push had envelopes"),
            });
        }
        clean
    }

    /// What was stored, and why the rest was not.
    async fn append(
        &mut self,
        core: &Arc<Core>,
        wire: &mut Wire,
        envelopes: Vec<(BlobId, Bytes)>,
    ) -> (Vec<Appended>, Option<ErrorCode>) {
        match core.writer.append(self.append_request(core, wire, envelopes)).await {
            Ok(Append::Stored { cursors, .. }) => (cursors, None),
            Ok(Append::QuotaExceeded { cursors, .. }) => {
                wire.count(Refusal::GroupBytes);
                (cursors, Some(ErrorCode::GroupQuotaExceeded))
            }
            Ok(Append::Superseded { epoch_envelope }) => {
                self.tell_superseded(core, wire, epoch_envelope).await;
                (Vec::new(), Some(ErrorCode::OutOfOrder))
            }
            Ok(Append::Revoked) => {
                wire.fail(ErrorCode::DeviceRevoked, REVOKED);
                (Vec::new(), Some(ErrorCode::DeviceRevoked))
            }
            Ok(Append::Gone) => {
                wire.storage_failed(&StoreError::Gone);
                (Vec::new(), Some(ErrorCode::UnknownLog))
            }
            // The writer has said why.
            Err(_) => {
                wire.count(Refusal::Storage);
                (Vec::new(), Some(ErrorCode::StorageUnavailable))
            }
        }
    }

    pub(super) fn append_request(&self, core: &Core, wire: &Wire, envelopes: Vec<(BlobId, Bytes)>) -> AppendRequest {
        AppendRequest {
            group: self.group,
            auth_gen: self.auth_gen,
            device: wire.device,
            envelopes,
            group_bytes_max: core.limits.group_bytes_max,
            now_ms: core.now().unix_ms,
        }
    }
}

/// The answers, in order: a prefix is stored, the next one is refused with a reason, the rest is
/// out of order.
fn results(waiting: &[Waiting], cursors: &[Appended], refused: Option<ErrorCode>) -> Vec<(u64, Vec<PushResult>)> {
    let mut cursors = cursors.iter();
    let mut reason = refused;
    let mut stopped = false;
    waiting
        .iter()
        .map(|push| {
            let results = (0..push.total)
                .map(|index| {
                    let wanted = index < push.accepted;
                    if let Some(appended) = wanted.then(|| cursors.next()).flatten() {
                        return PushResult::Stored { cursor: appended.cursor };
                    }
                    let code = if stopped {
                        ErrorCode::OutOfOrder
                    } else if wanted {
                        reason.take().unwrap_or(ErrorCode::OutOfOrder)
                    } else {
                        push.code
                    };
                    stopped = true;
                    PushResult::Refused { code: code.number() }
                })
                .collect();
            (push.push, results)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use zerok_sync_protocol::envelope::ENVELOPE_BYTES_MIN;

    use super::*;

    const OK: usize = ENVELOPE_BYTES_MIN;
    const LONG: usize = ENVELOPE_BYTES_MIN + 1;

    fn limits() -> RelayLimits {
        RelayLimits { envelope_bytes_max: OK as u64, ..RelayLimits::default() }
    }

    fn answer(pushes: &Pushes, stored: u64, refused: Option<ErrorCode>) -> Vec<Vec<u16>> {
        let cursors: Vec<Appended> = (1..=stored).map(|cursor| Appended { cursor, new: true }).collect();
        results(&pushes.waiting, &cursors, refused)
            .into_iter()
            .map(|(_, results)| {
                results
                    .into_iter()
                    .map(|result| match result {
                        PushResult::Stored { cursor } => u16::try_from(cursor).expect("small"),
                        PushResult::Refused { code } => code,
                    })
                    .collect()
            })
            .collect()
    }

    fn pushes(list: &[&[usize]]) -> Pushes {
        pushes_within(&limits(), list).0
    }

    fn pushes_within(limits: &RelayLimits, list: &[&[usize]]) -> (Pushes, Vec<Refusal>) {
        let mut pushes = Pushes::default();
        let refused = list.iter().enumerate().filter_map(|(number, envelopes)| {
            let envelopes = envelopes.iter().map(|&len| Bytes::from(vec![0; len])).collect();
            pushes.enqueue(number as u64, envelopes, limits)
        });
        let refused = refused.collect();
        (pushes, refused)
    }

    #[test]
    fn after_a_refused_envelope_everything_behind_it_is_out_of_order() {
        let pushes = pushes(&[&[OK, LONG], &[OK], &[OK, LONG]]);
        assert_eq!(pushes.envelopes.len(), 1, "nothing behind the refusal is appended");
        assert_eq!(answer(&pushes, 1, None), [vec![1, 2001], vec![1010], vec![1010, 1010]]);
    }

    #[test]
    fn where_the_store_stops_the_prefix_ends() {
        let pushes = pushes(&[&[OK, OK], &[OK, OK], &[OK, LONG]]);
        let quota = Some(ErrorCode::GroupQuotaExceeded);
        assert_eq!(answer(&pushes, 3, quota), [vec![1, 2], vec![3, 2002], vec![1010, 1010]]);
    }

    #[test]
    fn a_client_that_ignores_what_may_be_unanswered_is_refused() {
        let limits = RelayLimits { push_bytes_in_flight_max: OK as u64 + 1, ..limits() };
        let (pushes, refused) = pushes_within(&limits, &[&[OK], &[OK], &[OK], &[OK]]);
        assert_eq!(answer(&pushes, 2, None), [vec![1], vec![2], vec![2000], vec![1010]]);
        assert_eq!(refused, [Refusal::PushBytes]);
    }

    #[test]
    fn what_is_more_than_a_push_may_hold_is_refused() {
        let limits = RelayLimits { push_envelopes_max: 2, ..limits() };
        let (pushes, refused) = pushes_within(&limits, &[&[OK, OK, OK, OK], &[OK]]);
        assert_eq!(answer(&pushes, 2, None), [vec![1, 2, 2000, 1010], vec![1010]]);
        assert_eq!(refused, [Refusal::PushEnvelopes]);
    }

    #[test]
    fn an_empty_push_has_an_empty_answer() {
        assert_eq!(answer(&pushes(&[&[], &[OK]]), 1, None), [vec![], vec![1]]);
    }

    #[test]
    fn what_is_appended_at_once_is_bounded_in_bytes_envelopes_and_pushes() {
        let until_full = |envelopes: usize, bytes: usize| {
            let (limits, mut pushes) = (RelayLimits::default(), Pushes::default());
            let envelope = Bytes::from(vec![0; bytes]);
            (0..).find(|&number| {
                pushes.enqueue(number, vec![envelope.clone(); envelopes], &limits);
                pushes.is_full()
            })
        };
        assert_eq!(until_full(1, APPEND_BYTES_MAX / 4), Some(3));
        assert_eq!(until_full(APPEND_ENVELOPES_MAX / 10, OK), Some(9));
        assert_eq!(until_full(0, 0), Some(APPEND_ENVELOPES_MAX as u64 - 1), "empty ones are answered, too");
    }
}
