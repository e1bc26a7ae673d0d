//! Devices that were removed, and what still counts of them.
//!
//! A removal is in an epoch envelope, with the end of the removed device's chain as its remover had
//! read it. Up to there its entries count, once all that leads to that very end is here; what it wrote
//! behind is held back until a remaining member names it in `seen`.

use zerok_sync_protocol::{EpochId, wire};

use super::Engine;
use super::holding::Came;
use super::reading::Placed;
use super::relay::RelayAt;
use super::rows::{HeldRow, RemovedRow, held_key, hot, hot_key};
use crate::content::{Kind, SeenHash, SeenItem};
use crate::epoch::Removed;
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::one_by_one::set_of;
use crate::seal::Authenticated;

impl Engine {
    /// A device is no member any more, by the word of this one.
    pub(super) fn remove_member(&mut self, by: DeviceId, removed: &Removed) {
        let device = removed.device;
        if let Some(row) = self.removed.get_mut(&device) {
            // Two branches removed it: what one of them had read counts.
            if removed.last_seq > row.last_seq {
                (row.last_seq, row.last_hash) = (removed.last_seq, SeenHash::of(&removed.last_blob_id));
                self.effects.put(hot_key(hot::REMOVED, &device.0), wire::encode(row));
                self.release_removed(device);
            }
            return;
        }
        let member = self.members.remove(&device);
        self.effects.delete(hot_key(hot::MEMBER, &device.0));
        self.forget_receipts_of(&device);
        self.forget_names_by(&device);
        // What was delivered already cannot be taken back; the others are told that it counts.
        let more = self.chains.get(&device).is_some_and(|chain| chain.seq > removed.last_seq.max(chain.said_seq));
        if more && self.leaving.is_none() && device != self.me.device() {
            self.queue(Kind::WITNESS, bytes::Bytes::new());
        }
        let (last_seq, last_hash) = match self.chains.get(&device) {
            Some(chain) if chain.seq > removed.last_seq => (chain.seq, SeenHash::of(&chain.blob_id)),
            _ => (removed.last_seq, SeenHash::of(&removed.last_blob_id)),
        };
        if last_seq > self.seq_of(&device) {
            self.note_name(by, device, last_seq, last_hash);
        }
        let certificate = member.as_ref().and_then(|member| member.certificate.as_ref());
        let joined_in = certificate.map_or(EpochId::ZERO, crate::certificate::JoinCertificate::epoch);
        // One whose first entry did not come yet was never told of, and has no name.
        let name = member.map(|member| member.name);
        let row = RemovedRow {
            name: name.clone().unwrap_or_default(),
            last_seq,
            last_hash,
            joined_in,
            let_in_by: DeviceId([0; 32]),
        };
        self.effects.put(hot_key(hot::REMOVED, &device.0), wire::encode(&row));
        self.removed.insert(device, row);
        if let Some(name) = name {
            self.event(Event::MemberRemoved { device, name });
        }
        self.release_removed(device);
        if self.joining.is_some() {
            // Nobody has told of these: it was a member when they came.
            let held = self.held.range((device, 0)..=(device, u64::MAX));
            let held: Vec<_> = held.map(|((_, seq), row)| (*seq, row.cursor)).collect();
            for (seq, cursor) in
                held.into_iter().filter(|(seq, _)| self.is_beyond_its_end(&device, *seq)).collect::<Vec<_>>()
            {
                self.doubt(IntegrityEvent::Quarantined { cursor, sender: device, seq });
            }
        }
    }

    /// Whether an entry may be from behind the end of a device that was removed before this one was let
    /// in: the log is still to say of whom that is so, and a relay that colludes shows such entries in
    /// front of it. Who let this device in named the members, and all chains' ends.
    pub(super) fn is_beyond_grant(&self, sender: &DeviceId, seq: u64) -> bool {
        let Some(joining) = self.joining.as_ref().filter(|joining| !joining.members.is_empty()) else { return false };
        let is_member = joining.inviter == *sender
            || self.me.device() == *sender
            || joining.members.iter().any(|member| member.device == *sender);
        if is_member || self.epoch_row(&joining.epoch).is_some() {
            return false;
        }
        // Its certificate, entry 1, is for the log to judge.
        let end = joining.frontier.iter().find(|item| item.tag == sender.tag()).map_or(1, |item| item.seq);
        seq > end && seq > self.seq_of(sender)
    }

    /// The log has come to the epoch that this device was let in in: whoever is a member now is one.
    pub(super) fn release_beyond_grant(&mut self, at: RelayAt) {
        let waiting = set_of(self.held.keys().map(|(sender, _)| *sender));
        for sender in waiting.into_iter().filter(|sender| self.members.contains_key(sender)).collect::<Vec<_>>() {
            self.release_held(sender, &Came::in_no_timeline(at));
        }
    }

    /// An entry of a device that was removed: it counts up to the end of its chain, and then only
    /// once that end is here.
    pub(super) fn accept_of_removed(&mut self, placed: Placed, entry: &Authenticated) {
        self.relays[placed.at].showed(placed.timeline, placed.cursor, &entry.sender, entry.seq);
        let again = self.relays[placed.at].read_again(entry.sender, entry.seq);
        if entry.seq <= self.seq_of(&entry.sender) {
            return self.judge_earlier(&placed, entry, again);
        }
        if self.is_beyond_its_end(&entry.sender, entry.seq) {
            self.doubt(IntegrityEvent::Quarantined { cursor: placed.cursor, sender: entry.sender, seq: entry.seq });
        }
        self.hold(placed, entry);
        self.take_vouched(entry);
        self.release_removed(entry.sender);
    }

    /// Accepts what is held of a removed device, once it leads to the end that counts.
    pub(super) fn release_removed(&mut self, sender: DeviceId) {
        let Some(end) = self.removed.get(&sender).map(|row| (row.last_seq, row.last_hash)) else { return };
        // Others may have named less, where this one names what never was.
        let ends: Vec<(u64, SeenHash)> = std::iter::once(end).chain(self.named_ends(&sender)).collect();
        ends.into_iter().for_each(|(seq, hash)| self.release_removed_to(sender, seq, hash));
    }

    fn release_removed_to(&mut self, sender: DeviceId, last_seq: u64, last_hash: SeenHash) {
        let (mut have, mut at) =
            self.chains.get(&sender).map_or((0, zerok_sync_protocol::BlobId::ZERO), |chain| (chain.seq, chain.blob_id));
        // What leads up to the first hole; the others are gone through by whoever gives that one up.
        let mut first_run = None;
        while have < last_seq {
            let Ok(held) = self.held_run(&sender, have + 1, self.held.len()) else {
                return self.stop_corrupt("held entry");
            };
            let mut run = Vec::new();
            for (seq, entry) in (have + 1..=last_seq).zip(held) {
                let (Ok(entry), Some(row)) = (entry, self.held.get(&(sender, seq))) else { return };
                if entry.prev != at {
                    return;
                }
                (have, at) = (seq, entry.blob_id());
                run.push((row.clone(), entry));
            }
            first_run.get_or_insert(run);
            if have < last_seq {
                // Nothing leads on, but what members have given up.
                let Some((to_seq, hash_after)) = self.end_of_gap(&sender, have + 1, last_seq) else { return };
                (have, at) = (to_seq, hash_after);
            }
        }
        if SeenHash::of(&at) != last_hash {
            return;
        }
        for (row, entry) in first_run.unwrap_or_default() {
            let at = self.relays.by_tag(row.relay).unwrap_or(self.relays.home());
            let HeldRow { timeline, cursor, observed, envelope, .. } = row;
            self.held_bytes -= envelope.len();
            self.held.remove(&(sender, entry.seq));
            self.effects.delete(held_key(&sender, entry.seq));
            let placed = Placed { at, timeline, cursor, observed, blob_id: entry.blob_id(), envelope };
            self.store(placed, &entry);
        }
    }

    /// A remaining member has seen more of a removed device than its remover had: that counts.
    pub(super) fn vouch_for_removed(&mut self, seen: &[SeenItem]) {
        for item in seen {
            let device = self.removed.keys().find(|device| device.tag() == item.tag).copied();
            let Some((device, row)) = device.and_then(|device| Some((device, self.removed.get_mut(&device)?))) else {
                continue;
            };
            if item.seq > row.last_seq {
                (row.last_seq, row.last_hash) = (item.seq, item.hash);
                self.effects.put(hot_key(hot::REMOVED, &device.0), wire::encode(row));
                self.release_removed(device);
            } else {
                self.release_removed_to(device, item.seq, item.hash);
            }
        }
    }
}
