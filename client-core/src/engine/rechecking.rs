//! Reading a relay's log again from its first cursor, beside what was read before: what `verify`
//! does with a relay, and what the explicit repair begins with.
//!
//! A recheck is a subscription from cursor 0 on a session of its own. Up to the reading position
//! nothing is accounted anew: bytes are compared with their ids, entries with the order of their
//! chains, the fold with the one made the first time. What this device lacks (it was rotten, and
//! somebody has healed it) is accepted. From the reading position on, reading goes on as ever. A
//! walk over the mirror ([`super::repairing`]) then finds what the log no longer has; it puts it
//! back, or only says so.

use std::collections::{BTreeMap, BTreeSet};

use zerok_sync_protocol::BlobId;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::EntryItem;

use super::Engine;
use super::comparing::Anchor;
use super::reading::{Placed, is_epoch};
use super::relay::RelayAt;
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
}

/// A recheck under way.
#[derive(Debug)]
pub(super) struct Recheck {
    cursor: u64,
    observed: FoldHash,
    /// The highest entry of each chain so far.
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
    /// Of what this device has, the relay had none.
    missing: u64,
    /// The reading position then.
    pub(super) to_cursor: u64,
    /// How much was wrong.
    pub(super) anomalies: u64,
}

impl Found {
    fn new(purpose: RecheckFor) -> Self {
        let (sound, damaged, holes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { purpose, sound, damaged, holes, missing: 0, to_cursor: 0, anomalies: 0 }
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
    fn new(purpose: RecheckFor, from: Anchor) -> Self {
        let found = Found::new(purpose);
        Self { cursor: from.cursor, observed: from.observed, chains: BTreeMap::new(), found }
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
            self.relays[at].unhealed = false;
            self.relays[at].looks_left = 0;
            // With a session of its own, so that nothing comes back as a stub.
            if self.relays[at].session.live_ref().is_some() {
                self.reconnect(now, at);
            }
        }
        self.step(now);
    }

    /// Begins a recheck if one is wanted; whether to read from where the log begins.
    pub(super) fn begin_recheck(&mut self, at: RelayAt) -> bool {
        let relay = &mut self.relays[at];
        let beginning = relay.beginning();
        // A floor that no snapshot stands for is a finding of its own.
        let known = relay.row.floor <= beginning.cursor + 1 && beginning.cursor < relay.row.cursor;
        let wanted = relay.recheck_wanted.filter(|_| known);
        relay.recheck = wanted.map(|purpose| Recheck::new(purpose, beginning));
        if relay.recheck.is_none() {
            relay.recheck_wanted = None;
        }
        relay.recheck.is_some()
    }

    /// Takes what belongs to a recheck off a page; the rest is read as ever.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`] when cursors are left out.
    pub(super) fn recheck_page(&mut self, at: RelayAt, items: Vec<EntryItem>) -> Result<Vec<EntryItem>, Problem> {
        let mut items = items.into_iter();
        while let Some(recheck) = &self.relays[at].recheck {
            if recheck.cursor == self.relays[at].row.cursor {
                self.end_recheck(at);
                break;
            }
            let expected = recheck.cursor + 1;
            let Some(item) = items.next() else { break };
            let (EntryItem::Stored { cursor, .. } | EntryItem::Own { cursor, .. } | EntryItem::Absent { cursor, .. }) =
                item;
            if cursor != expected {
                self.find_once(IntegrityEvent::CursorJump { expected, got: cursor });
                return Err(Problem::ProtocolViolation("cursors that are not consecutive"));
            }
            self.recheck_item(at, cursor, item);
        }
        Ok(items.collect())
    }

    fn recheck_item(&mut self, at: RelayAt, cursor: u64, item: EntryItem) {
        let timeline = self.relays[at].row.timeline;
        let Some(mut recheck) = self.relays[at].recheck.take() else { return };
        recheck.cursor = cursor;
        let (id, envelope) = match item {
            EntryItem::Stored { blob_id: id, envelope, .. } if blob_id(&envelope) == id => (Some(id), Some(envelope)),
            EntryItem::Own { blob_id, .. } => (Some(blob_id), None),
            EntryItem::Stored { blob_id, .. } => {
                recheck.found.damaged.insert(blob_id);
                recheck.found.anomalies += 1;
                self.find_in_recheck(recheck.found.purpose, IntegrityEvent::Corrupt { cursor, blob_id });
                (Some(blob_id), None)
            }
            EntryItem::Absent { blob_id: Some(blob_id), .. } => {
                recheck.found.damaged.insert(blob_id);
                recheck.found.anomalies += 1;
                self.find_in_recheck(recheck.found.purpose, IntegrityEvent::Lost { cursor, blob_id: Some(blob_id) });
                (Some(blob_id), None)
            }
            // Whether it was put back since is for the walk to say.
            EntryItem::Absent { blob_id: None, .. } => {
                recheck.found.holes.insert(cursor);
                (None, None)
            }
        };
        recheck.observed = match id {
            Some(id) if !recheck.observed.is_zero() => recheck.observed.fold(cursor, &id),
            _ => FoldHash::ZERO,
        };
        if let (Some(blob_id), Some(envelope)) = (id, envelope) {
            if !recheck.found.sound.insert(blob_id) {
                recheck.found.anomalies += 1;
                self.suspect(at, IntegrityEvent::Replayed { cursor, blob_id });
            } else if is_epoch(&envelope) {
                if let Some(founder) = self.genesis_author(&envelope) {
                    recheck.chains.insert(founder, 1);
                }
            } else if let Ok(entry) = seal::open(&self.keyring, &envelope) {
                let (sender, seq) = (entry.claims().sender, entry.claims().seq);
                let last = recheck.chains.entry(sender).or_default();
                if seq <= *last {
                    recheck.found.anomalies += 1;
                    self.suspect(at, IntegrityEvent::Reordered { cursor, sender });
                }
                *last = seq.max(*last);
                let lacking = self.chains.get(&sender).is_none_or(|chain| chain.seq < seq);
                if lacking {
                    let placed = Placed { at, timeline, cursor, observed: recheck.observed, blob_id, envelope };
                    match entry.verify() {
                        Ok(entry) => self.accept(placed, &entry),
                        Err(entry) => self.accept_unsigned(placed, &entry),
                    }
                }
            } else {
                recheck.found.anomalies += 1;
                self.find_once(IntegrityEvent::Corrupt { cursor, blob_id });
            }
        }
        self.relays[at].recheck = Some(recheck);
    }

    /// The reading position is reached.
    fn end_recheck(&mut self, at: RelayAt) {
        let relay = &mut self.relays[at];
        let Some(mut recheck) = relay.recheck.take() else { return };
        recheck.found.to_cursor = recheck.cursor;
        let comparable = !recheck.observed.is_zero() && !relay.row.observed.is_zero();
        let other = comparable && recheck.observed != relay.row.observed;
        let (from, explained) = (relay.row.cursor, relay.is_explained());
        let damaged = recheck.found.anomalies > 0;
        relay.rechecked = Some(recheck.found);
        // Others fold what they were shown the first time, so this device goes on with that as well.
        if other && !damaged && !explained {
            self.find_once(IntegrityEvent::RolledBack { from, to: None });
        }
        self.event(Event::StatusChanged);
    }

    /// What is damaged although it was put back is told again.
    pub(super) fn find_in_recheck(&mut self, purpose: RecheckFor, finding: IntegrityEvent) {
        match purpose {
            RecheckFor::Verify | RecheckFor::Repair => self.find_once(finding),
            RecheckFor::Proof => self.find(finding),
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
        self.event(Event::StatusChanged);
    }

    /// Findings about relays end with the repair; those about members stay.
    fn forget_what_is_healed(&mut self) {
        let chains = &self.chains;
        let healed = |finding: &IntegrityEvent| match finding {
            IntegrityEvent::Gap { sender, to_seq, .. } => chains.get(sender).is_some_and(|chain| chain.seq >= *to_seq),
            IntegrityEvent::ForkedDevice { .. }
            | IntegrityEvent::ForgedByMember { .. }
            | IntegrityEvent::NotAMember { .. } => false,
            _ => true,
        };
        let kept: Vec<IntegrityEvent> = self.findings.iter().filter(|finding| !healed(finding)).cloned().collect();
        self.replace_findings(kept);
    }
}
