//! Devices that were removed, and what still counts of them.
//!
//! A removal is in an epoch envelope, with the end of the removed device's chain as its remover had
//! read it. Up to there its entries count, once all that leads to that very end is here; what it wrote
//! behind is held back until a remaining member names it in `seen`.

use zerok_sync_protocol::{BlobId, EpochId, wire};

use super::Engine;
use super::holding::{Came, HELD_MAX};
use super::reading::Placed;
use super::relay::RelayAt;
use super::rows::{HeldRow, RemovedRow, hot, hot_key};
use crate::content::{Kind, SeenHash, SeenItem};
use crate::epoch::Removed;
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::one_by_one::set_of;
use crate::seal::Authenticated;

/// Entries, and bytes, of a removed device's chain from one place that is remembered to the next: what
/// leads from one to the other is held, with as much of others'.
const PART_ENTRIES: u64 = 1_024;
const PART_BYTES: usize = 8 * 1024 * 1024;

/// How the chain of a removed device goes, as it was shown in this run from where it counts on.
///
/// It counts once it leads to the end that the remover had read, and may be longer than there is room
/// to hold. So places in it are remembered: once they are known to lead to that end, the chain is read
/// again and counts from one to the next.
#[derive(Debug)]
pub(super) struct Outline {
    seq: u64,
    blob_id: BlobId,
    /// Entries and bytes behind the last place.
    behind: (u64, usize),
    parts: Vec<(u64, SeenHash)>,
    /// It leads to the end that counts.
    proven: bool,
}

impl Outline {
    fn from(seq: u64, blob_id: BlobId) -> Self {
        Self { seq, blob_id, behind: (0, 0), parts: Vec::new(), proven: false }
    }

    fn follow(&mut self, entry: &Authenticated, bytes: usize) {
        if (entry.seq, entry.prev) != (self.seq + 1, self.blob_id) {
            return;
        }
        (self.seq, self.blob_id) = (entry.seq, entry.blob_id());
        self.behind = (self.behind.0 + 1, self.behind.1 + bytes);
        if self.behind.0 >= PART_ENTRIES || self.behind.1 >= PART_BYTES {
            self.behind = (0, 0);
            self.parts.push((self.seq, SeenHash::of(&self.blob_id)));
        }
    }
}

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

    /// Whether an entry is from behind what counts of a removed device; of one that came too late
    /// everything is.
    pub(super) fn counts_only_if_vouched_for(&self, sender: &DeviceId, seq: u64) -> bool {
        self.removed.get(sender).is_some_and(|removed| seq > removed.last_seq)
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
        self.outline(entry, placed.envelope.len());
        self.hold(placed, entry);
        self.take_vouched(entry);
        self.release_removed(entry.sender);
    }

    /// Notes how a removed device's chain goes on, whether or not there is room to hold it.
    fn outline(&mut self, entry: &Authenticated, bytes: usize) {
        let sender = entry.sender;
        let Some(end) = self.removed.get(&sender).map(|row| (row.last_seq, row.last_hash)) else { return };
        let (have, head) = self.head_of(&sender);
        if self.outlines.get(&sender).is_none_or(|outline| outline.seq < have) {
            let mut outline = Outline::from(have, head);
            // What was held before this run is not shown again.
            for held in self.held_run(&sender, have + 1, HELD_MAX).into_iter().flatten().flatten() {
                let bytes = self.held.get(&(sender, held.seq)).map_or(0, |row| row.envelope.len());
                outline.follow(&held, bytes);
            }
            self.outlines.insert(sender, outline);
        }
        let gap = entry.seq.checked_sub(1).and_then(|before| self.end_of_gap(&sender, before, before));
        let Some(outline) = self.outlines.get_mut(&sender).filter(|outline| !outline.proven) else { return };
        if let Some((to_seq, hash_after)) = gap.filter(|gap| gap.0 > outline.seq) {
            (outline.seq, outline.blob_id) = (to_seq, hash_after);
        }
        outline.follow(entry, bytes);
        if (outline.seq, SeenHash::of(&outline.blob_id)) == end {
            outline.proven = true;
            // What is held may count now, and makes room.
            self.released += 1;
        }
    }

    /// Accepts what is held of a removed device, once it leads to the end that counts.
    pub(super) fn release_removed(&mut self, sender: DeviceId) {
        let Some(end) = self.removed.get(&sender).map(|row| (row.last_seq, row.last_hash)) else { return };
        // Others may have named less, where this one names what never was. Of a chain that there is no
        // room for, what leads to its end is known part by part.
        let parts = self.outlines.get(&sender).filter(|outline| outline.proven);
        let mut ends: Vec<(u64, SeenHash)> = parts.into_iter().flat_map(|outline| outline.parts.clone()).collect();
        ends.push(end);
        ends.extend(self.named_ends(&sender));
        ends.into_iter().for_each(|(seq, hash)| self.release_removed_to(sender, seq, hash));
    }

    /// Where a chain has come to here.
    fn head_of(&self, sender: &DeviceId) -> (u64, BlobId) {
        self.chains.get(sender).map_or((0, BlobId::ZERO), |chain| (chain.seq, chain.blob_id))
    }

    /// Whether everything that leads to an entry is here, but for what members have given up. To open it
    /// for each entry that comes would be work without end.
    fn holds_all_up_to(&self, sender: &DeviceId, last_seq: u64) -> bool {
        let mut have = self.seq_of(sender);
        while have < last_seq {
            have = match self.held.contains_key(&(*sender, have + 1)) {
                true => have + 1,
                false => match self.end_of_gap(sender, have + 1, last_seq) {
                    Some((to_seq, _)) => to_seq,
                    None => return false,
                },
            };
        }
        true
    }

    fn release_removed_to(&mut self, sender: DeviceId, last_seq: u64, last_hash: SeenHash) {
        let (mut have, mut at) = self.head_of(&sender);
        let is_here = have >= last_seq || self.held.contains_key(&(sender, last_seq));
        if have >= last_seq || !(is_here || self.end_of_gap(&sender, last_seq, last_seq).is_some()) {
            return;
        }
        if !self.holds_all_up_to(&sender, last_seq) {
            return;
        }
        // What leads up to the first hole; the others are gone through by whoever gives that one up.
        let mut first_run = None;
        while have < last_seq {
            let most = usize::try_from(last_seq - have).unwrap_or(HELD_MAX);
            let Ok(held) = self.held_run(&sender, have + 1, most) else {
                return self.stop_corrupt("held entry");
            };
            let mut run = Vec::new();
            for entry in held {
                let Ok(entry) = entry else { return };
                if entry.prev != at {
                    return;
                }
                (have, at) = (entry.seq, entry.blob_id());
                run.push(entry);
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
        for entry in first_run.unwrap_or_default() {
            // One that is accepted may name the rest, and so have released it.
            let Some(row) = self.take_held(sender, entry.seq) else { return };
            self.released += 1;
            let at = self.relays.by_tag(row.relay).unwrap_or(self.relays.home());
            let HeldRow { timeline, cursor, observed, envelope, .. } = row;
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
