//! Own entries on their way out: queued, sealed at the first send, pushed, acknowledged.
//!
//! Every entry goes to every relay, at that relay's pace. One that one relay acknowledged is
//! acknowledged (the tier `relay`); the others follow from the window, or from the mirror.
//!
//! Sealing fixes `seq` and `prev` and happens as late as possible: only once a session has caught
//! up, so that `seen` is current and a device restored from an old copy finds out before it
//! writes. From then on the bytes never change; they are durable before they are sent.

use bytes::Bytes;
use zerok_sync_protocol::frame::PushResult;
use zerok_sync_protocol::limits::ENVELOPE_BYTES_MAX_DEFAULT;
use zerok_sync_protocol::wire::{self, List};
use zerok_sync_protocol::{BlobId, ClientFrame, ErrorCode};

use super::Engine;
use super::connection::random;
use super::outbox::{OutboxBody, OutboxItem};
use super::relay::{IN_FLIGHT_BYTES_MAX, Relay, RelayAt, UnexpectedAck};
use super::rows::{self, OutboxRow};
use crate::content::{Content, Kind, Observed, SEEN_ITEMS_MAX, SeenHash, SeenItem};
use crate::error::Problem;
use crate::event::{Event, IntegrityEvent};
use crate::io::{Now, Row};
use crate::seal;
use crate::store_seal;

/// How long to wait before a push is tried again that the relay refused for its load or storage …
const PUSH_RETRY_MS: u64 = 1_000;
/// … and for its limits.
const PUSH_RETRY_LIMIT_MS: u64 = 30_000;

impl Engine {
    /// The largest blob that is taken now: what every relay that is there takes.
    pub(super) fn blob_bytes_max(&self) -> usize {
        let limits = self.relays.iter().filter_map(|relay| relay.session.live_ref()?.limits.as_ref());
        let lowest = limits.map(|limits| limits.envelope_bytes_max).min();
        let envelope_bytes_max = lowest.unwrap_or(ENVELOPE_BYTES_MAX_DEFAULT);
        seal::max_blob_bytes(envelope_bytes_max as usize)
    }

    /// Puts an own entry at the end of the outbox; its number is the `seq` it will have.
    pub(super) fn queue(&mut self, kind: Kind, body: Bytes) -> u64 {
        self.progress.queued_seq += 1;
        self.progress.outbox_bytes += body.len() as u64;
        self.progress_changed = true;
        let seq = self.progress.queued_seq;
        self.effects.put(rows::outbox_key(seq), rows::waiting(&self.store_key, seq, kind, &body, &mut self.rng));
        let follows = self.outbox_loaded == seq && self.outbox_scan.is_none();
        if follows && self.outbox.has_room() {
            self.outbox.append(OutboxItem { seq, body: OutboxBody::Waiting { kind, body } });
            self.outbox_loaded = seq + 1;
        }
        // Somebody waits for these.
        if matches!(kind, Kind::APP | Kind::COMMIT | Kind::SNAPSHOT | Kind::RENAME) {
            self.event(Event::PushesStored { push: seq });
        }
        seq
    }

    /// Does whatever the outbox, the session and the limits allow now.
    pub(super) fn pump_outbox(&mut self, now: Now) {
        self.refill_outbox();
        for at in self.relays.all() {
            self.pump_to(now, at);
        }
    }

    fn pump_to(&mut self, now: Now, at: RelayAt) {
        let may_seal = self.may_seal(at);
        let relay = &self.relays[at];
        let behind = relay.comparison.is_some() || relay.row.rebuilding || relay.reset.is_some();
        // What it acknowledged in an earlier session it may have lost since: until it has shown all it
        // has, nobody knows whether it has what the next entry follows.
        let may_push = relay.caught_up() && self.is_at_newest_epoch(at) && !self.progress.copied && !behind;
        let Some(open) = self.relays[at].session.live() else { return };
        if now.mono_ms < open.push_again_ms {
            return;
        }
        // The pause is over, also for `next_deadline_ms`.
        open.push_again_ms = 0;
        // Let in under an older name: the relay has to learn of the rotations first. One that lost
        // something gets that back first.
        if !may_push {
            return;
        }
        let envelope_bytes_max = open.limits.as_ref().map_or(ENVELOPE_BYTES_MAX_DEFAULT, |it| it.envelope_bytes_max);
        let relay_max = open.limits.as_ref().map_or(u64::MAX, |limits| limits.push_bytes_in_flight_max);
        let in_flight_max = IN_FLIGHT_BYTES_MAX.min(usize::try_from(relay_max).unwrap_or(usize::MAX)).max(1);
        while self.relays[at].sending.may_send(in_flight_max) {
            let next_seq = self.relays[at].sending.next_seq;
            while may_seal && self.outbox.wants_sealing(next_seq) && self.seal_next(now) {}
            let sending = &mut self.relays[at].sending;
            let Some(push) = sending.next_push(&self.outbox, envelope_bytes_max as usize) else { return };
            let envelopes = List::try_from(push.envelopes).expect("a batch is smaller than the list's limit");
            let frame = ClientFrame::Push { push: push.push, envelopes, resume: push.resume };
            if let Some(open) = self.relays[at].session.live() {
                open.send(&frame);
            }
        }
    }

    /// Whether a new entry may be fixed now, to be sent to this relay first.
    fn may_seal(&self, at: RelayAt) -> bool {
        let relay = &self.relays[at];
        // An epoch that some relay handed out is read first: what is sealed behind it is in it.
        let in_epoch = self.relays.iter().all(|relay| relay.hello_epoch.is_none());
        // What is not sealed when the keys change is sealed under the new ones.
        let free = self.joining.is_none() && !self.progress.copied && !self.is_rotating();
        relay.caught_up() && relay.problem.is_none() && in_epoch && free
    }

    /// Seals the next waiting entry; `false` if there is none.
    fn seal_next(&mut self, now: Now) -> bool {
        let seq = self.progress.sealed_seq + 1;
        let Some((kind, body)) = self.outbox.waiting(seq) else { return false };
        let seen = self.seen_since_last();
        let content = Content {
            sender: self.me.device(),
            seq,
            prev: self.progress.sealed_blob_id,
            seen: List::try_from(seen.clone()).expect("cut to the limit"),
            observed: self.observed_since_last(),
            lamport: self.next_lamport(),
            kind,
            sent_at_ms: now.wall_ms,
            body,
        };
        let nonce = random(&mut self.rng);
        let sealed = seal::seal(self.keyring.group(), self.keyring.current(), &self.me.signing, nonce, &content)
            .expect("the size was checked when the blob was taken, and no limit on it is that high");
        for item in &seen {
            if let Some((device, chain)) = self.chains.iter_mut().find(|(device, _)| device.tag() == item.tag) {
                chain.said_seq = item.seq;
                self.chains_changed.insert(*device);
            }
        }
        if let Some(pair) = &content.observed
            && let Some(at) = self.relays.by_tag(pair.relay)
        {
            self.relays[at].row.observed_said = pair.cursor;
            self.relays[at].changed = true;
        }
        self.progress.lamport = content.lamport;
        self.progress.sealed_seq = seq;
        self.progress.sealed_blob_id = sealed.blob_id;
        self.progress_changed = true;
        let row = OutboxRow::Sealed { envelope: sealed.envelope.clone() };
        self.effects.put(rows::outbox_key(seq), wire::encode(&row));
        self.outbox.sealed(seq, sealed.blob_id, sealed.envelope);
        true
    }

    /// Heads of the other devices that are new since the last own entry.
    pub(super) fn seen_since_last(&self) -> Vec<SeenItem> {
        let me = self.me.device();
        self.chains
            .iter()
            .filter(|(device, chain)| **device != me && chain.seq > chain.said_seq)
            .map(|(device, chain)| SeenItem { tag: device.tag(), seq: chain.seq, hash: SeenHash::of(&chain.blob_id) })
            .take(SEEN_ITEMS_MAX)
            .collect()
    }

    /// What this device was shown by a relay since it last said so: by the one of which it has most
    /// to say, so that each has its turn.
    fn observed_since_last(&self) -> Option<Observed> {
        let news = |relay: &&Relay| relay.row.cursor.saturating_sub(relay.row.observed_said);
        let comparable = self.relays.iter().filter(|relay| !relay.row.observed.is_zero());
        let relay = comparable.max_by_key(news).filter(|relay| news(relay) > 0)?;
        relay.observed()
    }

    /// Asks storage for the next run of the outbox when the window has room for it.
    fn refill_outbox(&mut self) {
        let on_disk = self.outbox_loaded <= self.progress.queued_seq;
        if on_disk && self.outbox_scan.is_none() && self.outbox.has_room() && self.relays.any_live() {
            let range = (rows::outbox_key(self.outbox_loaded), rows::outbox_key(self.progress.queued_seq + 1));
            self.outbox_scan = Some((self.scan(range, self.outbox.room()), self.outbox_loaded));
        }
    }

    /// The run that begins at `from` came.
    pub(super) fn load_outbox(&mut self, from: u64, found: Vec<Row>) {
        for row in found {
            if rows::outbox_seq_of(&row.key).is_some_and(|seq| seq < self.outbox_loaded) {
                // Read back from the relay while storage was being read.
                continue;
            }
            let item = match rows::outbox_seq_of(&row.key) {
                Some(seq) if seq == self.outbox_loaded => self.outbox_item(seq, &row),
                // Rows already mirrored were removed; the window begins behind them.
                Some(seq) if self.outbox.last_seq().is_none() && seq > self.outbox_loaded => {
                    self.outbox_item(seq, &row)
                }
                _ => None,
            };
            let Some(item) = item else { return self.stop_corrupt("outbox") };
            self.outbox_loaded = item.seq + 1;
            self.outbox.append(item);
        }
        if self.outbox_loaded == from {
            // Queued entries that are not there: asking again would go on for ever.
            self.stop_corrupt("outbox");
        }
    }

    fn outbox_item(&self, seq: u64, row: &Row) -> Option<OutboxItem> {
        let body = match wire::decode(&row.value).ok()? {
            OutboxRow::Sealed { envelope } => {
                OutboxBody::Sealed { blob_id: zerok_sync_protocol::envelope::blob_id(&envelope), envelope }
            }
            OutboxRow::Waiting { kind, body } => {
                let body = store_seal::open_row(&self.store_key, &row.key, &body).ok()?;
                OutboxBody::Waiting { kind: Kind(kind), body: Bytes::copy_from_slice(&body) }
            }
        };
        Some(OutboxItem { seq, body })
    }

    /// The relay's answer to a push.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`] when it answers nothing that was asked.
    pub(super) fn on_push_ack(
        &mut self,
        now: Now,
        at: RelayAt,
        push: u64,
        results: &[PushResult],
    ) -> Result<(), Problem> {
        let first_seq = self.relays[at]
            .sending
            .answered(push, results.len())
            .map_err(|UnexpectedAck| Problem::ProtocolViolation("an answer to no push"))?;
        let Some(first_seq) = first_seq else {
            self.on_put_back(now, at, results);
            return Ok(());
        };
        for (seq, result) in (first_seq..).zip(results) {
            match result {
                PushResult::Stored { .. } if seq == self.relays[at].row.acked_seq + 1 => self.acked_up_to(at, seq),
                // Known to be stored already, because it was read back first.
                PushResult::Stored { .. } if seq <= self.relays[at].row.acked_seq => {}
                PushResult::Stored { .. } => return Err(Problem::ProtocolViolation("an acknowledgement with a hole")),
                PushResult::Refused { code } => self.on_push_refused(now, at, seq, *code),
            }
        }
        Ok(())
    }

    /// A relay has own entries up to this one; the first relay's word counts for the app.
    pub(super) fn acked_up_to(&mut self, at: RelayAt, seq: u64) {
        let relay = &mut self.relays[at];
        if seq > relay.row.acked_seq {
            relay.row.acked_seq = seq;
            relay.sending.next_seq = relay.sending.next_seq.max(seq + 1);
            relay.changed = true;
        }
        if seq <= self.progress.acked_seq {
            return;
        }
        self.progress.acked_seq = seq;
        self.progress_changed = true;
        if self.progress.acked_seq == self.progress.queued_seq {
            self.progress.outbox_bytes = 0;
        }
        self.receipts.recount();
        self.event(Event::PushesAcked { push: seq });
    }

    pub(super) fn on_push_refused(&mut self, now: Now, at: RelayAt, seq: u64, number: u16) {
        let relay = &mut self.relays[at];
        relay.sending.refuse(relay.row.acked_seq);
        let code = ErrorCode::from_number(number);
        let wait_ms = match code {
            // Follows another refusal, which said when to go on.
            Some(ErrorCode::OutOfOrder) => 0,
            Some(ErrorCode::EnvelopeTooLarge | ErrorCode::GroupQuotaExceeded) | None => PUSH_RETRY_LIMIT_MS,
            Some(_) => PUSH_RETRY_MS,
        };
        if let Some(open) = relay.session.live() {
            open.push_again_ms = open.push_again_ms.max(now.mono_ms + wait_ms);
        }
        if wait_ms == PUSH_RETRY_LIMIT_MS {
            let problem = Problem::Refused { code, number, detail: format!("push {seq}") };
            self.event(Event::PushRefused { push: seq, problem });
        }
    }

    /// An own entry was read back: it is in the mirror, so the outbox may forget it.
    pub(super) fn own_entry_stored(&mut self, at: RelayAt, seq: u64) {
        if seq > self.progress.sealed_seq {
            return self.stop_writing();
        }
        self.effects.delete(rows::outbox_key(seq));
        self.outbox.forget_up_to(seq);
        self.outbox_loaded = self.outbox_loaded.max(seq + 1);
        self.acked_up_to(at, seq);
        self.finish_leaving();
    }

    /// The log holds own entries this device never wrote: it was restored from an older copy, or
    /// copied. Writing, now or after a restart, would fork its chain.
    pub(super) fn stop_writing(&mut self) {
        self.progress.copied = true;
        self.progress_changed = true;
        for at in self.relays.all() {
            self.set_problem(at, Some(Problem::NeedsApproval));
        }
    }

    /// Whether this device sealed another entry under this seq than the log shows: then a copy of
    /// it writes too. Only entries that are known here to differ count.
    pub(super) fn wrote_otherwise(&mut self, seq: u64, blob_id: BlobId) -> bool {
        let newest = (seq == self.progress.sealed_seq).then_some(self.progress.sealed_blob_id);
        let Some(first) = self.outbox.sealed_as(seq).or(newest).filter(|own| *own != blob_id) else { return false };
        let sender = self.me.device();
        self.find(IntegrityEvent::ForkedDevice { sender, seq, first, second: blob_id });
        self.stop_writing();
        true
    }

    /// A new member may push once this device has all that its inviter had, whatever of it came last: an
    /// entry, an epoch of any branch, a snapshot that stands for the rest.
    pub(super) fn check_joined(&mut self) {
        let Some(joining) = &self.joining else { return };
        let covered = joining.frontier.iter().all(|item| {
            self.chains.keys().any(|device| device.tag() == item.tag && self.has_seen(device, item.seq, item.hash))
        });
        let anchored =
            joining.epoch_blob_id.is_zero() || self.epochs.iter().any(|epoch| epoch.blob_id == joining.epoch_blob_id);
        let let_in = joining.epoch.is_zero() || self.epoch_row(&joining.epoch).is_some();
        if covered && anchored && let_in && self.members.contains_key(&joining.inviter) {
            self.joining = None;
            self.take_relays_read();
            self.effects.delete(rows::hot_key(rows::hot::JOINING, &[]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Founding, Secrets};
    use crate::io::{Change, RelayAddress};
    use crate::keys::StoreKey;

    /// A founder's engine that is not started, and its one row of the outbox: seq 2, its name.
    fn founder() -> (Engine, Row) {
        let now = Now { mono_ms: 0, wall_ms: 0 };
        let secrets = || Secrets { store_key: StoreKey::from_bytes([1; 32]), rng_seed: [2; 32] };
        let relay = RelayAddress { url: "http://127.0.0.1:8080".into(), key: None };
        let founding = Founding { relay, device_name: "first".into(), token: None };
        let mut rows = Vec::new();
        for change in Engine::found(now, &secrets(), founding).changes {
            if let Change::Put(row) = change {
                rows.push(row);
            }
        }
        let queued = rows.iter().position(|row| row.key == rows::outbox_key(2)).expect("its name is queued");
        let queued = rows.swap_remove(queued);
        (Engine::open(now, secrets(), rows).expect("just founded"), queued)
    }

    #[test]
    fn an_entry_read_back_while_its_row_was_being_read_is_no_damage() {
        let (mut engine, queued) = founder();
        engine.outbox_loaded = 3;
        engine.load_outbox(1, vec![queued]);
        assert!(!engine.stopped);
        assert_eq!(engine.outbox.last_seq(), None);
    }

    #[test]
    fn queued_entries_that_are_not_there_stop_the_engine_instead_of_being_looked_for_for_ever() {
        let (mut engine, _) = founder();
        engine.load_outbox(1, vec![]);
        assert!(engine.stopped);
    }
}
