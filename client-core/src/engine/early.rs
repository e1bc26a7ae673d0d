//! Epochs that came before what they follow, on disk and bounded.
//!
//! A relay that lost something is told its rotations before the rest is put back, one that was wiped
//! begins with the newest epoch, and of several relays each may lag behind. Such an epoch is kept with
//! its secret, so that what is sealed under it opens, and tried again after each epoch and each join.
//!
//! It waits no more once it is followed, once what it names turns out to be something else, or once
//! the group has gone on without it for long. That it waits proves nothing; it is told if nobody cures
//! it soon ([`super::branching`]).

use litemap::LiteMap;
use zerok_sync_protocol::{BlobId, wire};

use super::Engine;
use super::branching::{Doubt, Relation};
use super::reading::Placed;
use super::rows::{EarlyEpochRow, HeldRow, early_epoch_key};
use crate::epoch::SignedEpoch;
use crate::event::IntegrityEvent;
use crate::id::DeviceId;
use crate::keys::EpochSecret;

/// Epochs that wait for what they rest on; more than these no repair leaves open. Time ends no wait, for
/// a device may bring that after a year; so where there is no room fairness decides: one by an author
/// whom nobody here has let in gives way to one by a member, and the latest of who has most to one of
/// who has fewer.
pub(super) const EARLY_EPOCHS_MAX: usize = 32;

/// One that was told of, because nobody has brought what it rests on, is given up when the keys were
/// changed so often since: the group goes on without it. A repair that still comes is done long before.
const PASSED_OVER_MAX: u64 = 8;

impl Engine {
    /// Keeps it, and its secret: what is sealed under it comes behind it.
    pub(super) fn keep_early(&mut self, placed: &Placed, signed: &SignedEpoch, secret: Option<&EpochSecret>) {
        let Some(relay) = self.relays[placed.at].tag() else { return };
        let finding = IntegrityEvent::NotAMember { cursor: placed.cursor, sender: signed.sender };
        if self.early_epochs.contains_key(&placed.blob_id) {
            return;
        }
        if self.early_epochs.len() >= EARLY_EPOCHS_MAX && !self.make_room_for_early(&signed.sender) {
            return self.find(finding);
        }
        let held = HeldRow {
            relay,
            timeline: placed.timeline,
            cursor: placed.cursor,
            observed: placed.observed,
            envelope: placed.envelope.clone(),
        };
        let united = self.keyring.get(&signed.header().epoch).is_some();
        let row = EarlyEpochRow { held, united, passed_over: 0 };
        self.learn_unproven(secret.into_iter());
        self.put_identity();
        self.relays[placed.at].epoch_read_again(placed.blob_id);
        self.effects.put(early_epoch_key(&placed.blob_id), wire::encode(&row));
        self.early_epochs.insert(placed.blob_id, row);
        self.doubts.push(Doubt::of_early(placed.blob_id, finding));
    }

    /// Whether one of the epochs that wait has given way to another one, by this author.
    fn make_room_for_early(&mut self, author: &DeviceId) -> bool {
        let is_known = |device: &DeviceId| self.members.contains_key(device) || self.removed.contains_key(device);
        let mut by_author: LiteMap<DeviceId, Vec<(u64, BlobId)>> = LiteMap::new();
        for (blob_id, EarlyEpochRow { held, .. }) in &self.early_epochs {
            let Ok(Some((signed, _))) = self.open_signed(&held.envelope) else { continue };
            by_author.entry(signed.sender).or_default().push((held.cursor, *blob_id));
        }
        let worth = |author: &DeviceId, waiting: usize| (!is_known(author), waiting);
        let own = worth(author, by_author.get(author).map_or(0, Vec::len) + 1);
        let most = by_author.iter().max_by_key(|(author, waiting)| worth(author, waiting.len()));
        let Some((sender, waiting)) = most.filter(|(author, waiting)| worth(author, waiting.len()) > own) else {
            return false;
        };
        let Some(&(cursor, blob_id)) = waiting.iter().max() else { return false };
        let sender = *sender;
        self.give_up_early(&blob_id);
        self.find_once(IntegrityEvent::NotAMember { cursor, sender });
        true
    }

    /// It waits no more. Shown again, by another relay or in another timeline, it is looked at again.
    fn give_up_early(&mut self, blob_id: &BlobId) {
        self.forget_early(blob_id);
        for relay in self.relays.iter_mut() {
            relay.row.epochs_read.retain(|read| read.blob_id != *blob_id);
            relay.changed = true;
        }
    }

    fn forget_early(&mut self, blob_id: &BlobId) {
        self.early_epochs.remove(blob_id);
        self.effects.delete(early_epoch_key(blob_id));
    }

    /// An epoch came and was accepted: those that still wait have been passed over once more.
    pub(super) fn pass_over_early(&mut self) {
        let mut given_up = Vec::new();
        for (blob_id, row) in &mut self.early_epochs {
            row.passed_over += 1;
            let in_doubt = self.doubts.iter().any(|doubt| doubt.is_of_early(blob_id));
            if row.passed_over >= PASSED_OVER_MAX && !in_doubt {
                given_up.push(*blob_id);
            } else {
                self.effects.put(early_epoch_key(blob_id), wire::encode(row));
            }
        }
        given_up.iter().for_each(|blob_id| self.give_up_early(blob_id));
    }

    /// Something came that an early epoch may have waited for. One that cannot be now waits no more; one
    /// that does not follow yet may still, once its author's view of the members has come.
    pub(super) fn try_early_epochs(&mut self) {
        let waiting: Vec<(BlobId, EarlyEpochRow)> =
            self.early_epochs.iter().map(|(id, row)| (*id, row.clone())).collect();
        for (blob_id, EarlyEpochRow { held: row, united, .. }) in waiting {
            let Ok(Some((signed, secret))) = self.open_signed(&row.envelope) else { continue };
            if !self.early_epochs.contains_key(&blob_id) {
                continue;
            }
            let at = self.relays.by_tag(row.relay).unwrap_or(self.relays.home());
            let HeldRow { timeline, cursor, observed, envelope, .. } = row;
            let placed = Placed { at, timeline, cursor, observed, blob_id, envelope };
            let followed = match self.relation(&signed) {
                Relation::Next => self.follow_next(&placed, &signed, secret.as_ref()),
                Relation::Branch => self.follow_branch(&placed, &signed, secret.as_ref(), united),
                Relation::Early => false,
                Relation::Void => {
                    self.forget_early(&blob_id);
                    self.find_once(IntegrityEvent::NotAMember { cursor, sender: signed.sender });
                    false
                }
            };
            if followed {
                self.forget_early(&blob_id);
                return self.try_early_epochs();
            }
        }
    }
}
