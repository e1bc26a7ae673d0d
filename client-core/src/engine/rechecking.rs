//! Reading a relay's log again from its first cursor, beside what was read before: what `verify`
//! does with a relay, and what the explicit repair begins with.
//!
//! A recheck is a subscription from cursor 0 on a session of its own. Up to the reading position
//! nothing is accounted anew: bytes are compared with their ids, entries with the order of their
//! chains, the fold with the one made the first time. What this device lacks (it was rotten, and
//! somebody has healed it) is accepted. From the reading position on, reading goes on as ever. A
//! walk over the mirror ([`super::repairing`]) then finds what the log no longer has; it puts it
//! back, or only says so.
//!
//! A *look* reads no more than the stretch in which something was damaged when it was read, and no
//! mirror: every session begins with one while there is such a stretch, so that a device does not
//! say that it has everything before it has what others have healed since.

use std::collections::{BTreeMap, BTreeSet};

use zerok_sync_protocol::BlobId;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::EntryItem;

use super::Engine;
use super::comparing::Anchor;
use super::incident::LOOKS_MAX;
use super::reading::{Placed, is_epoch};
use super::relay::{Relay, RelayAt};
use super::rows::DamagedRow;
use crate::error::Problem;
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::io::Now;
use crate::observed::FoldHash;
use crate::seal;

/// What a recheck is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RecheckFor {
    /// To tell.
    Verify,
    /// To put back what is not as it was.
    Repair,
    /// To see whether what was put back stands: an acknowledgement is only the relay's word.
    Proof,
    /// To get what was damaged and is healed.
    Look,
}

/// A verification found a relay's log whole.
#[derive(Debug)]
pub(super) struct Verified {
    /// Its order, too, is the one that was read the first time.
    order: bool,
}

/// A recheck under way.
#[derive(Debug)]
pub(super) struct Recheck {
    /// How far it has come.
    place: Anchor,
    /// It ends there.
    to_cursor: u64,
    /// What of the damaged stretch is still damaged.
    damaged: Option<DamagedRow>,
    /// The highest entry of each chain so far, by the senders that entries claim: any number.
    chains: BTreeMap<DeviceId, u64>,
    found: Found,
}

/// What stands in a log, by what its bytes are and not by what the relay calls them.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) purpose: RecheckFor,
    pub(super) sound: BTreeSet<BlobId>,
    /// What the relay says it has, and has not.
    pub(super) damaged: BTreeSet<BlobId>,
    /// Cursors of which the relay does not know any more what stood there. They stay, also once
    /// that stands at another cursor.
    holes: BTreeSet<u64>,
    /// Rows that are what their ids say and open under no key of the group.
    unopened: Vec<(u64, BlobId)>,
    /// Of what this device has, the relay had none.
    missing: u64,
    /// Entries stand in another order than when they were read, or than their senders wrote them.
    other_order: bool,
    reordered: bool,
    /// The reading position then.
    pub(super) to_cursor: u64,
    /// How much was wrong.
    pub(super) anomalies: u64,
    /// Of that, entries that stand where an incident has told of it.
    explained: u64,
    /// The order could be compared with the one that was read first.
    compared: bool,
}

impl Found {
    fn new(purpose: RecheckFor) -> Self {
        let (sound, damaged, holes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self {
            purpose,
            sound,
            damaged,
            holes,
            unopened: Vec::new(),
            missing: 0,
            other_order: false,
            reordered: false,
            to_cursor: 0,
            anomalies: 0,
            explained: 0,
            compared: false,
        }
    }

    /// An entry stands where its sender's chain does not have it.
    fn note_out_of_place(&mut self, explained: bool) {
        self.anomalies += 1;
        self.explained += u64::from(explained);
    }

    /// Whether nothing is wrong but what the group was told of.
    fn is_as_told(&self) -> bool {
        self.anomalies == self.explained
    }

    /// Whether it is only told.
    pub(super) fn is_dry(&self) -> bool {
        self.purpose != RecheckFor::Repair
    }

    /// An entry of this device that the relay had here is gone.
    pub(super) fn note_missing(&mut self, cursor: u64) {
        self.holes.remove(&cursor);
        self.missing += 1;
        self.anomalies += 1;
    }

    /// Whether something is still to be put back.
    fn is_whole(&self) -> bool {
        self.missing == 0 && self.damaged.is_subset(&self.sound)
    }
}

impl Recheck {
    fn new(purpose: RecheckFor, place: Anchor, to_cursor: u64) -> Self {
        Self { place, to_cursor, damaged: None, chains: BTreeMap::new(), found: Found::new(purpose) }
    }
}

impl DamagedRow {
    fn behind(place: Anchor, to_cursor: u64) -> Self {
        Self { after: place.cursor, blob_id: place.blob_id, hash: place.observed, to_cursor }
    }

    fn place(&self) -> Anchor {
        Anchor { cursor: self.after, blob_id: self.blob_id, observed: self.hash }
    }

    fn holds(&self, cursor: u64) -> bool {
        (self.after + 1..=self.to_cursor).contains(&cursor)
    }
}

impl Relay {
    /// What it showed at this cursor was damaged; this is the place before.
    pub(super) fn note_damaged(&mut self, before: Anchor, cursor: u64) {
        (self.damage_told, self.changed) = (true, true);
        match &mut self.row.damaged {
            Some(damaged) => damaged.to_cursor = cursor,
            // A place of which the relay does not know what stood there is none to begin at.
            None if before.blob_id.is_zero() => {
                self.row.damaged = Some(DamagedRow::behind(self.beginning(), cursor));
            }
            None => self.row.damaged = Some(DamagedRow::behind(before, cursor)),
        }
    }

    /// An epoch that stands there did not open: whoever changes the keys behind it may hand on its secret.
    pub(super) fn note_unopened_epoch(&mut self, cursor: u64) {
        let before = self.position();
        // Beside what is read it is noted by whoever reads.
        if before.cursor + 1 == cursor {
            let told = self.damage_told;
            self.note_damaged(before, cursor);
            self.damage_told = told;
        }
    }

    /// What stands there, up to where it was read, was left for want of room.
    pub(super) fn leave(&mut self, cursor: u64) {
        let before = self.place_before(cursor).unwrap_or_else(|| self.beginning());
        let to_cursor = self.row.damaged.as_ref().map_or(cursor, |damaged| damaged.to_cursor.max(cursor));
        if self.row.damaged.as_ref().is_none_or(|damaged| before.cursor < damaged.after) {
            self.row.damaged = Some(DamagedRow::behind(before, to_cursor));
        } else if let Some(damaged) = &mut self.row.damaged {
            damaged.to_cursor = to_cursor;
        }
        (self.left_in_recheck, self.changed) = (true, true);
    }

    /// What stands there did not open: for want of what is damaged, perhaps.
    pub(super) fn note_unopened(&mut self, cursor: u64) {
        if let Some(damaged) = &mut self.row.damaged {
            damaged.to_cursor = cursor;
            self.changed = true;
        }
    }

    /// What is to be read again in the session that begins: all that this device can ask for, if that
    /// is wanted, or else what was damaged.
    fn next_recheck(&self) -> Option<Recheck> {
        let beginning = self.beginning();
        // A floor that no snapshot stands for is a finding of its own.
        let known = |place: Anchor, to: u64| self.row.floor <= place.cursor + 1 && place.cursor < to;
        if let Some(purpose) = self.recheck_wanted {
            let to = self.row.cursor;
            return known(beginning, to).then(|| Recheck::new(purpose, beginning, to));
        }
        let damaged = self.row.damaged.as_ref().filter(|_| !self.looked)?;
        let (place, to) = (damaged.place(), damaged.to_cursor.min(self.row.cursor));
        known(place, to).then(|| Recheck::new(RecheckFor::Look, place, to))
    }
}

impl Engine {
    /// Compares every relay's log with what was read of it, from the first cursor on. What is wrong
    /// is told in [`Event::Integrity`]; [`crate::RelayStatus::settled`] says when it is done.
    pub fn verify_relays(&mut self, now: Now) {
        self.recheck_all(now, RecheckFor::Verify);
    }

    /// Compares every relay's log with what was read of it and puts back what is missing or damaged
    /// there, with [`Event::Repairing`]; [`crate::RelayStatus::settled`] says when it is done.
    pub fn repair(&mut self, now: Now) {
        self.recheck_all(now, RecheckFor::Repair);
    }

    fn recheck_all(&mut self, now: Now, purpose: RecheckFor) {
        for at in self.relays.all() {
            self.relays[at].recheck_wanted = Some(purpose);
            (self.relays[at].unhealed, self.relays[at].verified) = (false, None);
            // Nothing else is to be looked for then.
            (self.relays[at].looks_left, self.relays[at].recheck_soon) = (0, false);
            self.relays[at].recheck_at_ms = None;
            // With a session of its own, so that nothing comes back as a stub.
            if self.relays[at].session.live_ref().is_some() {
                self.reconnect(now, at);
            }
        }
        self.step(now);
    }

    /// Begins a recheck if one is wanted; from where the log is to be read then.
    pub(super) fn begin_recheck(&mut self, at: RelayAt) -> Option<Anchor> {
        let relay = &mut self.relays[at];
        relay.recheck = relay.next_recheck();
        relay.left_in_recheck = false;
        if relay.recheck.is_none() {
            relay.recheck_wanted = None;
        }
        relay.recheck.as_ref().map(|recheck| recheck.place)
    }

    /// Whether the relay does not know the place where a look begins; it is not asked for again then.
    pub(super) fn look_refused(&mut self, at: RelayAt) -> bool {
        let relay = &mut self.relays[at];
        if relay.recheck.as_ref().is_none_or(|recheck| recheck.found.purpose != RecheckFor::Look) {
            return false;
        }
        let beginning = relay.beginning();
        if let Some(damaged) = &mut relay.row.damaged {
            *damaged = DamagedRow::behind(beginning, damaged.to_cursor);
        }
        (relay.looked, relay.changed) = (true, true);
        true
    }

    /// Takes what belongs to a recheck off a page; the rest is read as ever.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`] when cursors are left out.
    pub(super) fn recheck_page(&mut self, at: RelayAt, items: Vec<EntryItem>) -> Result<Vec<EntryItem>, Problem> {
        let mut items = items.into_iter();
        while let Some(recheck) = &self.relays[at].recheck {
            if recheck.place.cursor == recheck.to_cursor {
                self.end_recheck(at);
                if self.relays[at].read_on {
                    return Ok(Vec::new());
                }
                break;
            }
            let expected = recheck.place.cursor + 1;
            let Some(item) = items.next() else { break };
            let (EntryItem::Stored { cursor, .. } | EntryItem::Own { cursor, .. } | EntryItem::Absent { cursor, .. }) =
                item;
            if cursor != expected {
                self.find_once(IntegrityEvent::CursorJump { expected, got: cursor });
                return Err(Problem::ProtocolViolation("cursors that are not consecutive"));
            }
            self.recheck_item(at, cursor, item)?;
        }
        Ok(items.collect())
    }

    fn recheck_item(&mut self, at: RelayAt, cursor: u64, item: EntryItem) -> Result<(), Problem> {
        let timeline = self.relays[at].row.timeline;
        let explained = self.relays[at].is_explained();
        let was_damaged = self.relays[at].row.damaged.as_ref().is_some_and(|damaged| damaged.holds(cursor));
        let Some(mut recheck) = self.relays[at].recheck.take() else { return Ok(()) };
        let before = recheck.place;
        let mut unread = false;
        let (id, envelope) = match item {
            EntryItem::Stored { blob_id: id, envelope, .. } if blob_id(&envelope) == id => (Some(id), Some(envelope)),
            EntryItem::Own { blob_id, .. } => (Some(blob_id), None),
            EntryItem::Stored { blob_id, .. } => {
                recheck.found.damaged.insert(blob_id);
                recheck.found.anomalies += 1;
                unread = true;
                self.find_in_recheck(at, recheck.found.purpose, IntegrityEvent::Corrupt { cursor, blob_id });
                (Some(blob_id), None)
            }
            EntryItem::Absent { blob_id: Some(blob_id), .. } => {
                recheck.found.damaged.insert(blob_id);
                recheck.found.anomalies += 1;
                unread = true;
                let lost = IntegrityEvent::Lost { cursor, blob_id: Some(blob_id) };
                self.find_in_recheck(at, recheck.found.purpose, lost);
                (Some(blob_id), None)
            }
            // Whether it was put back since is for the walk to say.
            EntryItem::Absent { blob_id: None, .. } => {
                recheck.found.holes.insert(cursor);
                (None, None)
            }
        };
        let observed = match id {
            Some(id) if !before.observed.is_zero() => before.observed.fold(cursor, &id),
            _ => FoldHash::ZERO,
        };
        recheck.place = Anchor { cursor, blob_id: id.unwrap_or(BlobId::ZERO), observed };
        let mut accepted = Ok(());
        if let (Some(blob_id), Some(envelope)) = (id, envelope) {
            if !recheck.found.sound.insert(blob_id) {
                recheck.found.note_out_of_place(explained);
                self.suspect(at, IntegrityEvent::Replayed { cursor, blob_id });
            } else if is_epoch(&envelope) {
                if let Some(founder) = self.genesis_author(&envelope) {
                    recheck.chains.insert(founder, 1);
                }
                if was_damaged && !self.relays.iter().any(|relay| relay.has_epoch(blob_id)) {
                    accepted = self.accept_epoch(Placed { at, timeline, cursor, observed, blob_id, envelope });
                    unread = self.is_epoch_in_doubt(&blob_id);
                }
            } else if let Ok(entry) = seal::open(&self.keyring, &envelope) {
                let (sender, seq) = (entry.claims().sender, entry.claims().seq);
                let last = recheck.chains.entry(sender).or_default();
                if seq <= *last && !self.is_stood_for(&sender, seq) && !self.is_in_gap(&sender, seq) {
                    recheck.found.note_out_of_place(explained);
                    recheck.found.reordered = true;
                    self.suspect(at, IntegrityEvent::Reordered { cursor, sender });
                }
                *last = seq.max(*last);
                let lacking = self.chains.get(&sender).is_none_or(|chain| chain.seq < seq);
                if lacking {
                    let placed = Placed { at, timeline, cursor, observed, blob_id, envelope };
                    match entry.verify() {
                        Ok(entry) => self.accept(placed, &entry),
                        Err(entry) => self.accept_unsigned(placed, &entry),
                    }
                }
            } else {
                unread = recheck.damaged.is_some();
                recheck.found.unopened.push((cursor, blob_id));
            }
        }
        if was_damaged && unread {
            let damaged = recheck.damaged.get_or_insert_with(|| DamagedRow::behind(before, cursor));
            damaged.to_cursor = cursor;
        }
        self.relays[at].recheck = Some(recheck);
        accepted
    }

    /// It has come as far as it was to.
    fn end_recheck(&mut self, at: RelayAt) {
        let relay = &mut self.relays[at];
        let Some(mut recheck) = relay.recheck.take() else { return };
        // What was left again is in the same stretch.
        if !relay.left_in_recheck {
            relay.row.damaged = recheck.damaged.take();
        }
        relay.changed = true;
        // Nothing takes a row out of a log. One that stands where it stood when it was read was told then,
        // and the group has heard since that the relay is like that.
        let as_read = !recheck.place.observed.is_zero()
            && recheck.place.cursor == relay.row.cursor
            && recheck.place.observed == relay.row.observed;
        let history = as_read && relay.is_explained();
        for (cursor, blob_id) in std::mem::take(&mut recheck.found.unopened) {
            recheck.found.note_out_of_place(history);
            if !history {
                self.find_once(IntegrityEvent::Corrupt { cursor, blob_id });
            }
        }
        let relay = &mut self.relays[at];
        if recheck.found.purpose == RecheckFor::Look {
            relay.looked = true;
            relay.read_on = recheck.to_cursor < relay.row.cursor;
            return;
        }
        recheck.found.to_cursor = recheck.place.cursor;
        let comparable = !recheck.place.observed.is_zero() && !relay.row.observed.is_zero();
        let from = relay.row.cursor;
        recheck.found.compared = comparable;
        if comparable && recheck.place.observed != relay.row.observed {
            recheck.found.other_order = true;
            let told = recheck.found.anomalies > 0;
            recheck.found.anomalies += 1;
            if !told {
                self.find_once(IntegrityEvent::RolledBack { from, to: None });
            }
        }
        // Others fold what they were shown the first time, so this device goes on with that as well.
        self.relays[at].rechecked = Some(recheck.found);
        self.event(Event::StatusChanged);
    }

    /// What is damaged although it was put back is told again; so is, in another run, what still is.
    pub(super) fn find_in_recheck(&mut self, at: RelayAt, purpose: RecheckFor, finding: IntegrityEvent) {
        match purpose {
            RecheckFor::Verify | RecheckFor::Repair => self.find_once(finding),
            RecheckFor::Proof => self.find(finding),
            RecheckFor::Look if !std::mem::replace(&mut self.relays[at].damage_told, true) => {
                self.event(Event::Integrity(finding));
                self.relays[at].recheck_soon = true;
                self.relays[at].looks_left = LOOKS_MAX;
            }
            RecheckFor::Look => {}
        }
    }

    /// A walk has put back what it could, or said what is missing. A repair that found something
    /// wrong reads all of it once more: what is whole then is healed.
    pub(super) fn recheck_done(&mut self, now: Now, at: RelayAt) {
        self.relays[at].recheck_wanted = None;
        let Some(mut found) = self.relays[at].rechecked.take() else { return };
        if !self.relays[at].is_explained() {
            for &cursor in &found.holes {
                found.anomalies += 1;
                self.find_once(IntegrityEvent::Lost { cursor, blob_id: None });
            }
        }
        let anomalies = found.anomalies > 0;
        if found.purpose == RecheckFor::Repair && anomalies {
            self.relays[at].leave_order = self.is_order_in_doubt(at, &found);
            self.tell_of_damage(at);
            self.relays[at].recheck_wanted = Some(RecheckFor::Proof);
            return self.reconnect(now, at);
        }
        if found.purpose != RecheckFor::Verify && !found.is_whole() {
            self.relays[at].unhealed = true;
            if let Some(left) = self.relays[at].looks_left.checked_sub(1) {
                self.relays[at].looks_left = left;
                self.relays[at].recheck_soon = true;
            }
        }
        let waits = |relay: &super::relay::Relay| relay.recheck_wanted.is_some() || relay.unhealed;
        if found.purpose != RecheckFor::Verify && !self.relays.iter().any(waits) {
            self.forget_what_is_healed();
        }
        let verified = found.purpose == RecheckFor::Verify && found.is_as_told();
        self.relays[at].verified = verified.then_some(Verified { order: found.compared });
        if self.relays.iter().all(|relay| relay.verified.is_some()) {
            self.forget_what_reads_well();
        }
        if found.purpose == RecheckFor::Proof && self.relays[at].leave_order {
            // Before anything is read in the next session.
            return self.reconnect(now, at);
        }
        self.event(Event::StatusChanged);
    }

    /// Whether others may have read the log in another order than it has now: it has changed since this
    /// device read it, no sender wrote so and nobody has told of that in this timeline, or they say so.
    fn is_order_in_doubt(&self, at: RelayAt, found: &Found) -> bool {
        let differs = |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::Forked { .. });
        found.other_order || (found.reordered && !self.relays[at].is_explained()) || self.findings.iter().any(differs)
    }

    /// What stood wrong in a log that every relay now shows whole was put right by another device. It
    /// was told when it was found; what only a repair looks for stays.
    fn forget_what_reads_well(&mut self) {
        // Behind a hole in a log nothing says in which order it was read.
        let order = self.relays.iter().all(|relay| relay.verified.as_ref().is_some_and(|verified| verified.order));
        let read_again = |finding: &IntegrityEvent| match finding {
            IntegrityEvent::Corrupt { .. }
            | IntegrityEvent::Lost { .. }
            | IntegrityEvent::Replayed { .. }
            | IntegrityEvent::CursorJump { .. } => true,
            IntegrityEvent::Reordered { .. } | IntegrityEvent::RolledBack { .. } => order,
            _ => false,
        };
        let kept: Vec<IntegrityEvent> = self.findings.iter().filter(|finding| !read_again(finding)).cloned().collect();
        if kept.len() < self.findings.len() {
            self.replace_findings(kept);
        }
    }

    /// Findings about relays end with the repair; those about members stay.
    fn forget_what_is_healed(&mut self) {
        let chains = &self.chains;
        let healed = |finding: &IntegrityEvent| match finding {
            IntegrityEvent::Gap { sender, to_seq, .. } => chains.get(sender).is_some_and(|chain| chain.seq >= *to_seq),
            IntegrityEvent::Unproven { sender, to_seq, .. } => {
                chains.get(sender).is_some_and(|chain| chain.seq >= *to_seq)
            }
            IntegrityEvent::Quarantined { sender, seq, .. } => !self.is_beyond_its_end(sender, *seq),
            IntegrityEvent::Corrupt { .. }
            | IntegrityEvent::Lost { .. }
            | IntegrityEvent::Replayed { .. }
            | IntegrityEvent::Reordered { .. }
            | IntegrityEvent::CursorJump { .. }
            | IntegrityEvent::RolledBack { .. }
            | IntegrityEvent::Forked { .. }
            | IntegrityEvent::Withheld { .. } => true,
            _ => false,
        };
        let kept: Vec<IntegrityEvent> = self.findings.iter().filter(|finding| !healed(finding)).cloned().collect();
        self.replace_findings(kept);
    }
}
