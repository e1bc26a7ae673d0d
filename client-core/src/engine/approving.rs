//! Approving a copy: the group's only device was restored from an older copy, and goes on.
//!
//! A copy writes no more ([`Engine::stop_writing`]): what it would write could fork its chain. With
//! other devices in the group, one of them invites it again. Alone, its person can say that no other
//! copy is in use; then it takes the chain as the log has it for its own and goes on behind its end.
//! What was queued here and is not in the log gets new places there, in its order; what was pushed in
//! parts stays in one piece, or goes on where the log has its first parts.

use bytes::Bytes;
use zerok_sync_protocol::wire;

use super::Engine;
use super::batches::Commit;
use super::outbox::Outbox;
use super::rows::{self, OutboxRow, outbox_seq_of};
use crate::content::Kind;
use crate::error::MembershipError;
use crate::event::Event;
use crate::io::{Now, Row, ScanId};
use crate::{seal, store_seal};

/// What an outbox held.
struct Queued {
    seq: u64,
    kind: Kind,
    body: Bytes,
}

impl Engine {
    /// Takes this device, which is a copy of what it was and the group's only one, for the one that
    /// goes on. Numbers of pushes that no relay has acknowledged mean nothing any more: they get new
    /// ones.
    ///
    /// # Errors
    /// [`MembershipError::NothingToApprove`], [`MembershipError::NotAlone`],
    /// [`MembershipError::NotYet`] and [`MembershipError::RelayUnread`] before the log was read
    /// everywhere; nothing changed.
    pub fn approve(&mut self, now: Now) -> Result<(), MembershipError> {
        if self.stopped {
            return Err(MembershipError::Stopped);
        }
        if !self.progress.copied {
            return Err(MembershipError::NothingToApprove);
        }
        let me = self.me.device();
        if self.members.iter().any(|(device, member)| *device != me && !member.paper) {
            return Err(MembershipError::NotAlone);
        }
        if !self.members.contains_key(&me) {
            return Err(MembershipError::NotYet);
        }
        if let Some(unread) = self.relays.iter().find(|relay| !relay.row.unlisted && !relay.caught_up()) {
            return Err(MembershipError::RelayUnread { relay: unread.row.url.clone() });
        }
        self.approval = Some(self.scan((rows::outbox_key(0), rows::outbox_key(u64::MAX)), usize::MAX));
        self.step(now);
        Ok(())
    }

    /// Whether this was the outbox of a copy that was approved; goes on behind the end of its chain.
    pub(super) fn approval_read(&mut self, id: ScanId, found: &[Row]) -> bool {
        if self.approval.take_if(|scan| *scan == id).is_none() {
            return false;
        }
        let Some(queued) = found.iter().map(|row| self.plaintext_of(row)).collect::<Option<Vec<_>>>() else {
            self.stop_corrupt("outbox");
            return true;
        };
        for row in found {
            self.effects.delete(row.key.clone());
        }
        let me = self.me.device();
        let Some((seq, blob_id)) = self.chains.get(&me).map(|chain| (chain.seq, chain.blob_id)) else { return true };
        (self.progress.sealed_seq, self.progress.sealed_blob_id) = (seq, blob_id);
        (self.progress.queued_seq, self.progress.acked_seq) = (seq, seq);
        (self.progress.outbox_bytes, self.progress.copied) = (0, false);
        self.progress_changed = true;
        self.outbox = Outbox::default();
        self.outbox_scan = None;
        self.outbox_loaded = seq + 1;
        for at in self.relays.all() {
            let relay = &mut self.relays[at];
            relay.row.acked_seq =
                relay.row.read.iter().find(|run| run.device == me).map_or(0, |run| run.to_seq).min(seq);
            relay.sending.send_behind(relay.row.acked_seq);
            relay.changed = true;
            self.set_problem(at, None);
        }
        self.queue_again(queued, seq);
        self.event(Event::StatusChanged);
        true
    }

    /// Queues what is to be sent behind the end of the chain, `end_seq`.
    fn queue_again(&mut self, queued: Vec<Queued>, end_seq: u64) {
        let mut parts = Vec::new();
        for item in queued {
            match item.kind {
                Kind::PART => parts.push(item),
                // It speaks of this device's chain as it was; the app makes another.
                Kind::SNAPSHOT => parts.clear(),
                Kind::JOIN => {}
                Kind::COMMIT => self.queue_batch_again(std::mem::take(&mut parts), item, end_seq),
                _ => {
                    self.queue(item.kind, item.body);
                }
            }
        }
    }

    fn queue_batch_again(&mut self, mut parts: Vec<Queued>, commit: Queued, end_seq: u64) {
        let whole = Commit::parse(&commit.body).is_some_and(|commit| commit.parts == parts.len() as u64);
        if !whole {
            // Its first parts were sent before the copy was made, so what the log has behind them are
            // these, sent by what this device was.
            if commit.seq <= end_seq {
                return;
            }
            parts.retain(|part| part.seq > end_seq);
        } else if self.progress.queued_seq == end_seq && self.parts.contains_key(&self.me.device()) {
            // Parts that end the chain are another batch's; what is no part sets them apart.
            let name = Bytes::copy_from_slice(self.group.device_name.as_bytes());
            self.queue(Kind::RENAME, name);
        }
        for item in parts.into_iter().chain([commit]) {
            self.queue(item.kind, item.body);
        }
    }

    fn plaintext_of(&self, row: &Row) -> Option<Queued> {
        let seq = outbox_seq_of(&row.key)?;
        match wire::decode(&row.value).ok()? {
            OutboxRow::Sealed { envelope } => {
                let content = seal::open(&self.keyring, &envelope).ok()?.into_claims();
                Some(Queued { seq, kind: content.kind, body: content.body })
            }
            OutboxRow::Waiting { kind, body } => {
                let body = store_seal::open_row(&self.store_key, &row.key, &body).ok()?;
                Some(Queued { seq, kind: Kind(kind), body: Bytes::copy_from_slice(&body) })
            }
        }
    }
}
