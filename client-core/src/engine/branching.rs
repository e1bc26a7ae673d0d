//! Epochs that do not simply follow the current one: branches.
//!
//! What a relay loses may be a rotation that some devices have read, while others start another one
//! from the epoch before: two *branches*. Those that came before what they follow wait in
//! [`super::early`].
//!
//! Every device that knows both takes the same one for its own (the longer one; of equals the one
//! with the smaller BlobId), applies the removals of both, and wants a third epoch, before which it
//! seals nothing. What cannot be united is that each removed the other's author.

use std::collections::BTreeSet;

use zerok_sync_protocol::limits::ALLOW_LIST_MAX;
use zerok_sync_protocol::{BlobId, EpochId, wire};

use super::Engine;
use super::reading::Placed;
use super::relay::RelayAt;
use super::repairing::SUSPICION_MS;
use super::rows::{EarlyEpochRow, EpochRow, doubt_key, epoch_key};
use crate::epoch::{AcceptedEpoch, Predecessor, Removed, SignedEpoch};
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::io::Now;
use crate::keys::{EpochSecret, MemberKeys};
use crate::one_by_one::set_of;

/// What waits to be cured; more is no accident.
const DOUBTS_MAX: usize = 4_096;

/// Something that honest devices cure in a while: told if it still is so then.
#[derive(Debug)]
pub(super) struct Doubt {
    finding: IntegrityEvent,
    /// The epoch it is about; otherwise it is about an entry, or several.
    early: Option<BlobId>,
    /// Since when nothing is under way that could cure it.
    since_ms: Option<u64>,
    /// The log was searched for a snapshot that stands for what is missing.
    filled: bool,
}

impl Doubt {
    /// About an epoch that waits for what it follows.
    pub(super) fn of_early(blob_id: BlobId, finding: IntegrityEvent) -> Self {
        Self { finding, early: Some(blob_id), since_ms: None, filled: false }
    }

    /// Whether it is about such a finding.
    pub(super) fn is_as(&self, same: impl Fn(&IntegrityEvent) -> bool) -> bool {
        same(&self.finding)
    }

    pub(super) fn is_of_early(&self, blob_id: &BlobId) -> bool {
        self.early.as_ref() == Some(blob_id)
    }
}

/// How an epoch stands to those that were accepted.
pub(super) enum Relation {
    /// It follows the current one.
    Next,
    /// It follows one that another follows already.
    Branch,
    /// What it follows was not read yet.
    Early,
    /// It cannot be.
    Void,
}

impl Engine {
    /// Follows an epoch if it rests on what is known, keeps it if that is still to come.
    pub(super) fn consider_epoch(&mut self, placed: &Placed, signed: &SignedEpoch, secret: Option<&EpochSecret>) {
        let followed = match self.relation(signed) {
            Relation::Next => self.follow_next(placed, signed, secret),
            Relation::Branch => {
                // Whoever changed the keys since, or let this device in, knew both.
                let united = self.keyring.get(&signed.header().epoch).is_some();
                self.follow_branch(placed, signed, secret, united)
            }
            Relation::Early => false,
            Relation::Void => return self.void(placed, signed.sender),
        };
        if followed {
            self.try_early_epochs();
            // Those that followed now were not passed over.
            self.pass_over_early();
        } else if self.removed.contains_key(&signed.sender) {
            self.judge_void_branch(placed, signed, secret);
        } else {
            self.keep_early(placed, signed, secret);
        }
    }

    pub(super) fn relation(&self, signed: &SignedEpoch) -> Relation {
        if self.progress.epoch_blob_id.is_zero() {
            return if signed.previous_epoch.is_zero() { Relation::Next } else { Relation::Early };
        }
        match self.epoch_row(&signed.previous_epoch) {
            None => Relation::Early,
            Some(row) if row.blob_id != signed.previous_blob_id => Relation::Void,
            Some(row) if row.id == self.keyring.current().id => Relation::Next,
            Some(_) => Relation::Branch,
        }
    }

    fn void(&mut self, placed: &Placed, sender: DeviceId) {
        self.find(IntegrityEvent::NotAMember { cursor: placed.cursor, sender });
    }

    /// Whether the epoch follows the current one, whose branch perhaps knew nothing of a removal in the
    /// other one; it is entered then. What was removed there is shut out by the next.
    pub(super) fn follow_next(&mut self, placed: &Placed, signed: &SignedEpoch, secret: Option<&EpochSecret>) -> bool {
        self.follow(placed, signed, secret)
            || (!self.removed_elsewhere().is_empty() && self.follow_branch(placed, signed, secret, true))
    }

    /// Whether the epoch follows the current one as the members known here are; it is entered then.
    fn follow(&mut self, placed: &Placed, signed: &SignedEpoch, secret: Option<&EpochSecret>) -> bool {
        let members: Vec<MemberKeys> = self.members.values().map(|member| member.keys.clone()).collect();
        let check = |members: &[MemberKeys]| {
            let predecessor = if self.progress.epoch_blob_id.is_zero() {
                Predecessor::None
            } else {
                let (id, blob_id) = (self.keyring.current().id, self.progress.epoch_blob_id);
                Predecessor::Epoch { id, blob_id, members }
            };
            signed.clone().check_succession(predecessor)
        };
        let mut voided = Vec::new();
        let accepted = check(&members).or_else(|refusal| {
            // Who joined in an epoch that is open, and is not known to the author of the next: its
            // certificate is void.
            let (gone, known): (Vec<_>, Vec<_>) = members
                .iter()
                .cloned()
                .partition(|member| !signed.is_wrapped_to(member) && self.joined_in_open_epoch(&member.device));
            voided = gone.iter().map(|member| member.device).filter(|device| !signed.removes(device)).collect();
            if voided.is_empty() { Err(refusal) } else { check(&known) }
        });
        let Ok(accepted) = accepted else { return false };
        for device in voided {
            self.remove_member(device, &Removed { device, last_seq: 0, last_blob_id: BlobId::ZERO });
        }
        self.learn_secret(secret);
        self.enter_epoch(placed, &accepted);
        true
    }

    /// Whether a device is a member by a certificate that the next epoch has to confirm.
    fn joined_in_open_epoch(&self, device: &DeviceId) -> bool {
        let joined = self.members.get(device).and_then(|member| member.certificate.as_ref());
        joined.is_some_and(|certificate| self.is_open(&certificate.epoch()))
    }

    /// Whether the epoch is the other branch of one that is known; it is united then.
    pub(super) fn follow_branch(
        &mut self,
        placed: &Placed,
        signed: &SignedEpoch,
        secret: Option<&EpochSecret>,
        united: bool,
    ) -> bool {
        let base = self.members_at_end(&signed.previous_epoch);
        let known: Vec<MemberKeys> = self
            .members
            .values()
            .filter(|member| base.contains(&member.keys.device))
            .map(|it| it.keys.clone())
            .collect();
        if self.removed.contains_key(&signed.sender) {
            return false;
        }
        let Ok(accepted) = signed.clone().check_branch(&base, &known) else { return false };
        self.learn_secret(secret);
        self.enter_branch(placed, &accepted, united);
        true
    }

    fn enter_branch(&mut self, placed: &Placed, accepted: &AcceptedEpoch, united: bool) {
        self.take_over(placed, accepted);
        let (id, current) = (accepted.id(), self.keyring.current().id);
        let worth = |id: &EpochId| {
            let blob_id = self.epoch_row(id).map_or(BlobId::ZERO, |row| row.blob_id);
            (self.lineage(id).len(), std::cmp::Reverse(blob_id))
        };
        if worth(&id) > worth(&current) {
            self.make_current(&id);
        }
        self.take_up_held(placed, accepted);
        self.rotation_settled();
        if !united && self.check_acts().is_ok() {
            self.want_rotation(Vec::new());
        }
    }

    /// Each removed the other's author, or one that was removed started it: void, and in the first
    /// case no accident.
    fn judge_void_branch(&mut self, placed: &Placed, signed: &SignedEpoch, secret: Option<&EpochSecret>) {
        let (at, sender) = (placed.at, signed.sender);
        let fork = self.epoch_row(&signed.previous_epoch).is_some();
        let admitted_by = self.relays[at].session.admitted_by();
        // A relay that goes by this device's epoch has ordered the two.
        let ordered = admitted_by == Some(self.keyring.current().id);
        match self.author_it_removes(signed) {
            Some(one) if fork && !ordered => {
                self.find_once(IntegrityEvent::MembershipConflict { cursor: placed.cursor, one, other: sender });
            }
            None if fork && self.may_not_have_known(at, signed) => {
                self.learn_void_secret(secret);
                if admitted_by == Some(signed.header().epoch) {
                    self.overrule(at, signed, secret);
                }
            }
            _ => self.void(placed, sender),
        }
    }

    /// Whether a removed device may have begun an epoch without knowing of its removal: on a relay that
    /// had lost that, or not heard of it yet. One that had shown it, and goes by this epoch now, let it.
    fn may_not_have_known(&self, at: RelayAt, signed: &SignedEpoch) -> bool {
        let relay = &self.relays[at];
        let goes_by_it = relay.session.admitted_by() == Some(signed.header().epoch);
        let showed = |row: &EpochRow| relay.has_read_epoch(row.blob_id);
        let knew_better = goes_by_it && self.epochs_since(signed).any(showed);
        !knew_better && (!self.relays.is_alone() || relay.was_broken_off())
    }

    /// The accepted epochs since a branch has parted from them.
    fn epochs_since(&self, signed: &SignedEpoch) -> impl Iterator<Item = &EpochRow> {
        let ours = self.lineage(&self.keyring.current().id);
        let previous = signed.previous_epoch;
        ours.into_iter().take_while(move |id| *id != previous).filter_map(|id| self.epoch_row(&id))
    }

    /// Whom an epoch removes that has begun another one since the two have parted.
    pub(super) fn author_it_removes(&self, signed: &SignedEpoch) -> Option<DeviceId> {
        let authors = set_of(self.epochs_since(signed).map(|row| row.author));
        signed.removed.iter().map(|removed| removed.device).find(|device| authors.contains(device))
    }

    /// Keeps the secret of an epoch that is void, so that what is sealed under it can be told from
    /// garbage.
    pub(super) fn learn_void_secret(&mut self, secret: Option<&EpochSecret>) {
        self.learn_unproven(secret.into_iter());
        self.put_identity();
    }

    /// An accepted epoch's row.
    pub(super) fn epoch_row(&self, id: &EpochId) -> Option<&EpochRow> {
        self.epochs.iter().find(|epoch| epoch.id == *id)
    }

    /// An accepted epoch and all before it, the latest first.
    pub(super) fn lineage(&self, id: &EpochId) -> Vec<EpochId> {
        std::iter::successors(self.epoch_row(id), |row| self.epoch_row(&row.previous)).map(|row| row.id).collect()
    }

    /// Whether somebody may still join in an epoch: nothing has been built upon it.
    pub(super) fn is_open(&self, id: &EpochId) -> bool {
        self.epoch_row(id).is_some_and(|row| !row.closed)
    }

    /// Nobody joins any more in the epochs that were there before this one.
    pub(super) fn close_epochs_before(&mut self, id: &EpochId) {
        for (number, row) in self.epochs.iter_mut().enumerate().filter(|(_, row)| row.id != *id && !row.closed) {
            row.closed = true;
            self.effects.put(epoch_key(number as u64), wire::encode(row));
        }
    }

    /// Who was a member at the end of an accepted epoch, before the next began.
    fn members_at_end(&self, id: &EpochId) -> BTreeSet<DeviceId> {
        let began = self.epoch_row(id).into_iter().flat_map(|row| row.members.iter().copied());
        let joined = self
            .members
            .iter()
            .filter(|(_, member)| member.certificate.as_ref().is_some_and(|certificate| certificate.epoch() == *id));
        let gone = self.removed.iter().filter(|(_, row)| row.joined_in == *id && !id.is_zero());
        set_of(began.chain(joined.map(|(device, _)| *device)).chain(gone.map(|(device, _)| *device)))
    }

    /// Removed devices that are members in the current epoch's own words: the other branch removed
    /// them.
    pub(super) fn removed_elsewhere(&self) -> Vec<Removed> {
        let current = self.epoch_row(&self.keyring.current().id);
        let members = current.map_or(&[][..], |row| &row.members);
        let removed = members.iter().filter(|device| self.removed.contains_key(device));
        removed
            .map(|device| {
                let chain = self.chains.get(device);
                let (last_seq, last_blob_id) = chain.map_or((0, BlobId::ZERO), |chain| (chain.seq, chain.blob_id));
                Removed { device: *device, last_seq, last_blob_id }
            })
            .take(ALLOW_LIST_MAX)
            .collect()
    }

    /// Told unless it is cured soon: an entry of a removed device from behind its end, by whoever
    /// vouches for it; one whose sender's inviter is unknown, and a gap, by another relay; an epoch that
    /// does not open, by one whose author has its keys.
    pub(super) fn doubt(&mut self, finding: IntegrityEvent) {
        if self.doubts.len() < DOUBTS_MAX {
            if is_kept(&finding) {
                self.effects.put(doubt_key(&finding), wire::encode(&finding));
            }
            self.doubts.push(Doubt { finding, early: None, since_ms: None, filled: false });
        } else {
            self.find_once(finding);
        }
    }

    /// Whether this epoch did not open, and still may.
    pub(super) fn is_epoch_in_doubt(&self, blob_id: &BlobId) -> bool {
        let same =
            |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::Corrupt { blob_id: of, .. } if of == blob_id);
        self.doubts.iter().any(|doubt| doubt.is_as(same))
    }

    /// What was in doubt when this device was stopped: of what is kept for itself, and of what waits.
    pub(super) fn doubt_again(&mut self, kept: Vec<IntegrityEvent>) {
        let kept = kept.into_iter().map(|finding| Doubt { finding, early: None, since_ms: None, filled: false });
        self.doubts.extend(kept);
        for (blob_id, EarlyEpochRow { held: row, .. }) in &self.early_epochs {
            if let Ok(Some((signed, _))) = self.open_signed(&row.envelope) {
                let finding = IntegrityEvent::NotAMember { cursor: row.cursor, sender: signed.sender };
                self.doubts.push(Doubt::of_early(*blob_id, finding));
            }
        }
        for ((sender, seq), row) in &self.held {
            if self.is_beyond_its_end(sender, *seq) {
                let finding = IntegrityEvent::Quarantined { cursor: row.cursor, sender: *sender, seq: *seq };
                self.doubts.push(Doubt { finding, early: None, since_ms: None, filled: false });
            }
        }
    }

    /// Whether a removed device wrote an entry that its remover had not read. Of one that was let in
    /// and became no member in time nothing counts unless somebody vouches for it, and nobody is to
    /// blame for what it wrote meanwhile.
    pub(super) fn is_beyond_its_end(&self, sender: &DeviceId, seq: u64) -> bool {
        self.removed.get(sender).is_some_and(|removed| removed.last_seq > 0 && seq > removed.last_seq)
    }

    fn is_cured(&self, doubt: &Doubt) -> bool {
        match (&doubt.early, &doubt.finding) {
            (Some(blob_id), _) => !self.early_epochs.contains_key(blob_id),
            (None, IntegrityEvent::Quarantined { sender, seq, .. }) => !self.is_beyond_its_end(sender, *seq),
            (None, IntegrityEvent::NotAMember { sender, .. }) => {
                self.members.contains_key(sender) || self.removed.contains_key(sender)
            }
            (None, IntegrityEvent::Corrupt { blob_id, .. }) => {
                self.epochs.iter().any(|epoch| epoch.blob_id == *blob_id) || self.early_epochs.contains_key(blob_id)
            }
            (None, IntegrityEvent::FalseSnapshot { sender, seq }) => !self.is_candidate(sender, *seq),
            (None, IntegrityEvent::Gap { sender, to_seq, .. }) => self.seq_of(sender) >= *to_seq,
            (None, IntegrityEvent::Unproven { sender, by, .. }) => !self.is_named_by(sender, by),
            (None, IntegrityEvent::FalseSeen { sender, .. }) => self.is_of_a_copy(sender),
            (None, _) => false,
        }
    }

    /// Tells what was not cured in time.
    pub(super) fn judge_doubts(&mut self, now: Now) {
        if self.doubts.is_empty() {
            return;
        }
        let repaired = |relay: &super::relay::Relay| relay.comparison.is_some() || relay.row.rebuilding;
        let under_way = self.relays.iter().any(|relay| relay.session.is_under_way() || repaired(relay));
        // Nor is anything cured where nothing is read: before this device was let in again.
        let busy = under_way || !self.relays.iter().any(super::relay::Relay::caught_up);
        for mut doubt in std::mem::take(&mut self.doubts) {
            if self.is_cured(&doubt) {
                self.forget_doubt(doubt.early, &doubt.finding);
                continue;
            }
            doubt.since_ms = (!busy).then(|| doubt.since_ms.unwrap_or(now.mono_ms));
            match doubt.since_ms {
                Some(since_ms) if now.mono_ms >= since_ms + SUSPICION_MS => self.tell_or_fill(now, doubt),
                _ => self.doubts.push(doubt),
            }
        }
    }

    fn forget_doubt(&mut self, early: Option<BlobId>, finding: &IntegrityEvent) {
        if early.is_none() && is_kept(finding) {
            self.effects.delete(doubt_key(finding));
        }
    }

    /// Nothing has cured it. What a snapshot stands for is not missing: this device goes on from that.
    fn tell_or_fill(&mut self, now: Now, doubt: Doubt) {
        if self.relays.iter().any(|relay| relay.gap_wanted || relay.reset.is_some()) {
            // It may be filled with another's.
            return self.doubts.push(Doubt { since_ms: None, ..doubt });
        }
        match doubt.finding {
            IntegrityEvent::Gap { sender, to_seq, .. }
                if let Some(at) = self.relay_with_snapshot_for(&sender, to_seq).filter(|_| !doubt.filled) =>
            {
                self.doubts.push(Doubt { filled: true, since_ms: None, ..doubt });
                self.fill_gap(now, at);
            }
            finding => {
                self.forget_doubt(doubt.early, &finding);
                self.note_named_told(&finding);
                self.find_once(finding);
            }
        }
    }

    /// When [`Self::judge_doubts`] has something to say.
    pub(super) fn doubts_deadline_ms(&self) -> Option<u64> {
        self.doubts.iter().filter_map(|doubt| Some(doubt.since_ms? + SUSPICION_MS)).min()
    }

    /// The branch that is longer is the group's.
    fn make_current(&mut self, id: &EpochId) {
        let Some(row) = self.epoch_row(id).cloned() else { return };
        let held = self.keyring_mut().set_current(id);
        debug_assert!(held, "its secret joined the keyring with it");
        self.progress.epoch_blob_id = row.blob_id;
        self.progress_changed = true;
        self.put_identity();
        self.greet_again();
        self.event(Event::KeysChanged { by: row.author });
        self.event(Event::StatusChanged);
    }
}

/// Whether it is on disk together with the cursor of what it is about. The others come again from what
/// waits: held entries, what members name, early epochs.
fn is_kept(finding: &IntegrityEvent) -> bool {
    !matches!(
        finding,
        IntegrityEvent::Gap { .. } | IntegrityEvent::Unproven { .. } | IntegrityEvent::Quarantined { .. }
    )
}
