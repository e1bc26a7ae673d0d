//! Giving up what a snapshot stands for: asking relays to raise their floors, and watching that
//! nothing else raises them.
//!
//! A floor goes up to where a snapshot ends in that relay's log, once three things hold: the
//! snapshot is as this device has it, this device has read all its bytes from that relay (who wrote
//! it was shown stubs, and leaves this to another), and another member has said in signed words that
//! it has everything up to there. The relay keeps what lies below for a grace, in which any member
//! takes the floor back. A floor that stands higher than any such snapshot withholds what lies
//! between: that is told, the floor is asked back, and what stays away is put back from the mirror.

use zerok_sync_protocol::{BlobId, ClientFrame, ErrorCode};

use super::Engine;
use super::comparing::Anchor;
use super::mirror::Place;
use super::relay::{Relay, RelayAt};
use super::rows::{CoveredRow, PastRow};
use super::snapshots::Snapshot;
use crate::content::{SeenHash, SeenItem};
use crate::error::Problem;
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::io::Now;
use crate::pairing::SnapshotRef;
use crate::snapshot::{Floor, Manifest};

/// A relay raises a log's floor once an hour; who asks more often is refused.
const TRUNCATE_EVERY_MS: u64 = 3_600_000;
/// A relay that refuses, mostly because some device has not read as far, is asked again after what it
/// says, and this at least.
const TRUNCATE_RETRY_MS: u64 = 60_000;
/// Of several devices that are there each asks so much later than the one before, in the order of
/// their identities: the first one does it, and what the others ask changes nothing.
const TRUNCATE_TURN_MS: u64 = 10_000;

/// What one relay is asked about its floor.
#[derive(Debug, Default)]
pub(super) struct Truncation {
    /// `Truncate` is out, and why.
    pub(super) asked: Option<Asked>,
    /// This device's turn to raise the floor.
    due_ms: Option<u64>,
    /// No sooner than this.
    not_before_ms: u64,
    /// The floor that was found too high in this session.
    judged: u64,
}

/// Why a floor is to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A snapshot stands for what is below.
    Raise,
    /// It withholds what no snapshot stands for.
    TakeBack,
}

impl CoveredRow {
    /// Whether it stands for an entry.
    pub(super) fn covers(&self, device: &DeviceId, seq: u64) -> bool {
        self.heads.iter().any(|head| head.tag == device.tag() && seq <= head.seq)
    }

    /// Where it ends in the relay's log.
    pub(super) fn anchor(&self) -> Anchor {
        Anchor { cursor: self.cursor, blob_id: self.blob_id, observed: self.hash }
    }
}

impl Relay {
    /// Where what is served begins for this device: a place that it knows, and below which the relay
    /// need not have anything.
    pub(super) fn beginning(&self) -> Anchor {
        match &self.row.covered {
            Some(covered) if self.row.floor > 1 => covered.anchor(),
            _ => Anchor::start(),
        }
    }

    /// Whether it need not have an entry any more: a snapshot stands for it, and the floor was moved.
    pub(super) fn need_not_have(&self, device: &DeviceId, seq: u64) -> bool {
        self.row.floor > 1 && self.row.covered.as_ref().is_some_and(|covered| covered.covers(device, seq))
    }

    /// The same of an epoch.
    pub(super) fn need_not_have_epoch(&self, blob_id: &BlobId) -> bool {
        self.row.floor > 1 && self.row.covered.as_ref().is_some_and(|covered| covered.epochs.contains(blob_id))
    }

    /// Where its floor may stand.
    pub(super) fn floor_max(&self) -> u64 {
        self.row.covered.as_ref().map_or(1, |covered| covered.cursor + 1)
    }
}

impl Engine {
    /// A snapshot is as this device has it: what it stands for at each relay.
    pub(super) fn note_covered(&mut self, snapshot: &Snapshot) {
        self.relays.all().for_each(|at| self.note_covered_at(at, snapshot));
    }

    fn note_covered_at(&mut self, at: RelayAt, snapshot: &Snapshot) {
        let relay = &self.relays[at];
        let is_of_log = |floor: &&Floor| {
            let row = &relay.row;
            let past = |past: &PastRow| past.timeline == floor.timeline && floor.cursor <= past.to_cursor;
            Some(floor.relay) == relay.tag() && (floor.timeline == row.timeline || row.past.iter().any(past))
        };
        let Some(floor) = snapshot.manifest.floors.iter().find(is_of_log) else { return };
        let (cursor, blob_id, hash) = (floor.cursor, floor.blob_id, floor.hash);
        let (row, manifest) = (&snapshot.row, &snapshot.manifest);
        let (parts, bytes) = (manifest.parts, row.bytes);
        let wanted = SnapshotRef { sender: row.sender, seq: row.seq, blob_id: row.blob_id, parts, bytes };
        self.cover(at, Anchor { cursor, blob_id, observed: hash }, manifest, &wanted);
    }

    /// A snapshot stands for a relay's log up to there.
    pub(super) fn cover(&mut self, at: RelayAt, end: Anchor, manifest: &Manifest, by: &SnapshotRef) {
        if self.relays[at].row.covered.as_ref().is_some_and(|covered| covered.cursor >= end.cursor) {
            return;
        }
        let heads = manifest.heads.iter().map(|head| SeenItem {
            tag: head.device.tag(),
            seq: head.seq,
            hash: SeenHash::of(&head.blob_id),
        });
        let covered = CoveredRow {
            cursor: end.cursor,
            blob_id: end.blob_id,
            hash: end.observed,
            heads: heads.collect(),
            epochs: self.epochs_of(manifest),
            sender: by.sender,
            first_seq: by.seq.saturating_sub(by.parts),
            seq: by.seq,
            manifest: by.blob_id,
        };
        self.relays[at].row.covered = Some(covered);
        self.relays[at].changed = true;
    }

    /// The epochs that a snapshot was made in or after.
    fn epochs_of(&self, manifest: &Manifest) -> Vec<BlobId> {
        let lineage = self.lineage(&manifest.epoch);
        let count = usize::try_from(manifest.epochs).unwrap_or(usize::MAX);
        let known = self.epochs.iter().enumerate();
        known.filter(|(n, row)| *n < count || lineage.contains(&row.id)).map(|(_, row)| row.blob_id).collect()
    }

    /// Asks relays to raise their floors where it is time.
    pub(super) fn pump_truncation(&mut self, now: Now) {
        for at in self.relays.all() {
            self.judge_floor(at);
            if !self.may_raise(at) {
                self.relays[at].truncation.due_ms = None;
                continue;
            }
            let turn_ms = TRUNCATE_TURN_MS * self.turn_to_truncate(at);
            let relay = &mut self.relays[at];
            let begins_ms = now.mono_ms.max(relay.truncation.not_before_ms);
            if now.mono_ms >= *relay.truncation.due_ms.get_or_insert(begins_ms + turn_ms) {
                let below = relay.floor_max();
                relay.truncation.due_ms = None;
                relay.truncation.not_before_ms = now.mono_ms + TRUNCATE_EVERY_MS;
                self.ask_floor(at, below, Asked::Raise);
            }
        }
    }

    /// Whether a snapshot is being compared, a relay has still to answer where its floor is, or this
    /// device gives up what is below.
    pub(super) fn is_settling_floors(&self) -> bool {
        self.is_comparing_snapshot()
            || self.shrinking.is_under_way()
            || self.relays.iter().any(|relay| relay.truncation.asked.is_some())
    }

    /// When it is this device's turn to raise a floor.
    pub(super) fn truncation_due_ms(&self, at: RelayAt) -> Option<u64> {
        self.relays[at].truncation.due_ms.filter(|_| self.may_raise(at))
    }

    pub(super) fn ask_floor(&mut self, at: RelayAt, below: u64, why: Asked) {
        let relay = &mut self.relays[at];
        if let Some(open) = relay.session.live() {
            open.send(&ClientFrame::Truncate { below });
            relay.truncation.asked = Some(why);
        }
    }

    /// How many others that are there may do it before this device.
    fn turn_to_truncate(&self, at: RelayAt) -> u64 {
        let author = self.relays[at].row.covered.as_ref().map(|covered| covered.sender);
        let before_me = self.members.range(..self.me.device());
        before_me.filter(|(device, _)| Some(**device) != author && self.is_online(device)).count() as u64
    }

    /// Whether a relay's floor may be raised, and this device may say so.
    fn may_raise(&self, at: RelayAt) -> bool {
        // Where another relay may lose what stands behind this one's floor, who joins meanwhile could
        // not tell that from a floor that withholds.
        if !self.relays.is_alone() {
            return false;
        }
        let relay = &self.relays[at];
        let Some(covered) = relay.row.covered.as_ref().filter(|covered| covered.cursor >= relay.row.floor) else {
            return false;
        };
        self.is_at_rest(at)
            && self.check_acts().is_ok()
            && relay.truncation.asked.is_none()
            && relay.has_shown(&covered.sender, covered.first_seq, covered.seq)
            && self.another_has(covered)
            && self.nobody_here_lags(covered)
    }

    /// Whether nothing is under way at a relay that changes what it has, or what is known of it.
    pub(super) fn is_at_rest(&self, at: RelayAt) -> bool {
        let relay = &self.relays[at];
        let busy = relay.comparison.is_some() || relay.repair.is_some() || relay.recheck.is_some();
        let busy = busy || relay.rechecked.is_some() || relay.row.rebuilding || relay.reset.is_some();
        self.may_repair(at) && !busy && self.bootstrap.is_none() && self.candidates.is_empty() && !self.is_rotating()
    }

    /// Whether another device has said that it has all that a snapshot stands for, and the snapshot.
    fn another_has(&self, covered: &CoveredRow) -> bool {
        let manifest = SeenItem { tag: covered.sender.tag(), seq: covered.seq, hash: SeenHash::of(&covered.manifest) };
        self.another_has_all_of(covered.heads.iter().cloned(), manifest)
    }

    /// The same of these heads and this manifest.
    pub(super) fn another_has_all_of(&self, heads: impl Iterator<Item = SeenItem>, manifest: SeenItem) -> bool {
        // Its author's own head is behind it.
        let items: Vec<SeenItem> = heads.filter(|head| head.tag != manifest.tag).chain([manifest.clone()]).collect();
        let mut members = self.members.iter().filter(|(device, member)| **device != self.me.device() && !member.paper);
        members.any(|(device, _)| self.has_all_of(device, &items))
    }

    /// Whether every device that is there has what a snapshot stands for: one that reads it just now
    /// need not be sent another way.
    fn nobody_here_lags(&self, covered: &CoveredRow) -> bool {
        let mut here = self.members.keys().filter(|device| **device != self.me.device() && self.is_online(device));
        here.all(|device| self.has_all_of(device, &covered.heads))
    }

    /// A relay says where its floor is now.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`] when it was not asked.
    pub(super) fn on_truncated(&mut self, at: RelayAt, floor: u64) -> Result<(), Problem> {
        let Some(asked) = self.relays[at].truncation.asked.take() else {
            return Err(Problem::ProtocolViolation("a floor that was not asked for"));
        };
        self.set_floor(at, floor);
        self.event(Event::StatusChanged);
        if asked == Asked::TakeBack {
            self.floor_answered(at);
        }
        Ok(())
    }

    /// What a relay says of its floor.
    pub(super) fn set_floor(&mut self, at: RelayAt, floor: u64) {
        let relay = &mut self.relays[at];
        let floor = floor.max(1);
        if relay.row.floor != floor {
            relay.row.floor = floor;
            relay.changed = true;
            self.stand_on_covered(at);
        }
    }

    /// What a relay need not have counts as if it stood there.
    pub(super) fn stand_on_covered(&mut self, at: RelayAt) {
        let relay = &mut self.relays[at];
        let Some(covered) = relay.row.covered.clone().filter(|_| relay.row.floor > 1) else { return };
        for device in self.chains.keys() {
            if let Some(head) = covered.heads.iter().find(|head| head.tag == device.tag()) {
                relay.is_there_up_to(*device, head.seq);
            }
        }
        covered.epochs.into_iter().for_each(|epoch| relay.epoch_stands_there(epoch));
    }

    /// A relay will not move its floor, now or at all; whether that was asked.
    pub(super) fn truncation_refused(&mut self, now: Now, at: RelayAt, code: ErrorCode, retry_after_ms: u64) -> bool {
        let refusal = matches!(code, ErrorCode::RateLimited | ErrorCode::RotationConflict);
        match self.relays[at].truncation.asked.take_if(|_| refusal) {
            Some(Asked::Raise) => {
                let wait_ms = retry_after_ms.clamp(TRUNCATE_RETRY_MS, TRUNCATE_EVERY_MS);
                self.relays[at].truncation.not_before_ms = now.mono_ms + wait_ms;
                self.event(Event::StatusChanged);
                true
            }
            Some(Asked::TakeBack) => {
                self.floor_answered(at);
                true
            }
            None => false,
        }
    }

    /// Whether a relay's floor withholds what no snapshot stands for. Told once everything was read:
    /// the snapshot that justifies a floor stands behind it.
    fn judge_floor(&mut self, at: RelayAt) {
        let relay = &self.relays[at];
        let (floor, floor_max) = (relay.row.floor, relay.floor_max());
        let known = relay.truncation.judged == floor || relay.row.told_floor == floor;
        let waits = relay.truncation.asked.is_some() || known;
        if floor <= floor_max || waits || !self.is_at_rest(at) || !self.lookups.is_empty() {
            return;
        }
        self.relays[at].truncation.judged = floor;
        // In a log that was broken off what one device read of its snapshots another need not find.
        let whole = relay_is_unbroken(&self.relays[at]);
        if whole {
            self.find_once(IntegrityEvent::Withheld { from_cursor: floor_max, to_cursor: floor - 1 });
        }
        self.ask_floor(at, floor_max, Asked::TakeBack);
    }

    /// The floor was asked back: what stays away is put back behind the rest.
    fn floor_answered(&mut self, at: RelayAt) {
        if self.floor_reset_answered(at) {
            return;
        }
        let relay = &self.relays[at];
        if relay.row.floor <= relay.floor_max() {
            return;
        }
        self.tell_of_damage(at);
        let relay = &mut self.relays[at];
        relay.row.told_floor = relay.row.floor;
        relay.row.read.clear();
        relay.row.epochs_there.clear();
        relay.row.set_whole_to(Place::default());
        relay.changed = true;
        relay.forget_what_was_shown();
        self.stand_on_covered(at);
    }
}

fn relay_is_unbroken(relay: &Relay) -> bool {
    relay.row.past.is_empty() && relay.row.left.is_empty()
}
