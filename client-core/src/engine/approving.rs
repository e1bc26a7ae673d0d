//! Approving a copy: the group's only device was restored from an older copy, and goes on.
//!
//! A copy writes no more ([`Engine::stop_writing`]): what it would write could fork its chain. With
//! other devices in the group, one of them invites it again. Alone, its person can say that no other
//! copy is in use; then it takes the chain as the log has it for its own and goes on behind its end.
//! What was queued here and is not in the log gets new places there, in its order.

use bytes::Bytes;
use zerok_sync_protocol::wire;

use super::Engine;
use super::outbox::Outbox;
use super::rows::{self, OutboxRow, outbox_seq_of};
use crate::content::Kind;
use crate::error::MembershipError;
use crate::event::Event;
use crate::io::{Now, Row, ScanId};
use crate::{seal, store_seal};

impl Engine {
    /// Takes this device, which is a copy of what it was and the group's only one, for the one that
    /// goes on. Numbers of pushes that no relay has acknowledged mean nothing any more: they get new
    /// ones.
    ///
    /// # Errors
    /// [`MembershipError::NothingToApprove`], [`MembershipError::NotAlone`],
    /// [`MembershipError::NotYet`] before the log was read; nothing changed.
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
        if !self.members.contains_key(&me) || !self.relays.iter().all(|relay| relay.caught_up()) {
            return Err(MembershipError::NotYet);
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
            relay.sending.restart(relay.row.acked_seq);
            relay.changed = true;
            self.set_problem(at, None);
        }
        for (kind, body) in queued.into_iter().filter(|(kind, _)| *kind != Kind::JOIN) {
            self.queue(kind, body);
        }
        self.event(Event::StatusChanged);
        true
    }

    fn plaintext_of(&self, row: &Row) -> Option<(Kind, Bytes)> {
        outbox_seq_of(&row.key)?;
        match wire::decode(&row.value).ok()? {
            OutboxRow::Sealed { envelope } => {
                let content = seal::open(&self.keyring, &envelope).ok()?.into_claims();
                Some((content.kind, content.body))
            }
            OutboxRow::Waiting { kind, body } => {
                let body = store_seal::open_row(&self.store_key, &row.key, &body).ok()?;
                Some((Kind(kind), Bytes::copy_from_slice(&body)))
            }
        }
    }
}
