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
use super::rows::CoveredRow;
use crate::content::{SeenHash, SeenItem};
use crate::error::Problem;
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::io::Now;
use crate::observed::FoldHash;
use crate::statement::Vouch;

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
        if self.row.floor <= 1 {
            return Anchor::start();
        }
        match (&self.row.covered, &self.row.claimed) {
            (Some(covered), _) if covered.cursor + 1 >= self.row.floor => covered.anchor(),
            // Only who began there has made the fold that was claimed its own.
            (_, Some(claimed)) if claimed.cursor == self.row.jumped_to => claimed.anchor(),
            (_, Some(claimed)) => Anchor { observed: FoldHash::ZERO, ..claimed.anchor() },
            (Some(covered), None) => covered.anchor(),
            (None, None) => Anchor::start(),
        }
    }

    /// What snapshots stand for here, compared or not: their heads are as this device has the chains.
    fn stood_for(&self) -> impl Iterator<Item = &CoveredRow> {
        [&self.row.covered, &self.row.claimed].into_iter().flatten()
    }

    /// Whether it need not have an entry any more: a snapshot stands for it, and the floor was moved.
    /// Perhaps for an older one, of which nothing is remembered here any more, so it does not matter
    /// where this one ends: what was given up would be put back.
    pub(super) fn need_not_have(&self, device: &DeviceId, seq: u64) -> bool {
        self.row.floor > 1 && self.stood_for().any(|covered| covered.covers(device, seq))
    }

    /// The same of an epoch.
    pub(super) fn need_not_have_epoch(&self, blob_id: &BlobId) -> bool {
        self.row.floor > 1 && self.stood_for().any(|covered| covered.epochs.contains(blob_id))
    }

    /// How far its floor may stand without withholding anything. What only another device could compare
    /// is no reason to accuse the relay.
    pub(super) fn floor_max(&self) -> u64 {
        self.stood_for().map(|covered| covered.cursor.saturating_add(1)).max().unwrap_or(1)
    }
}

impl Engine {
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
                let below = relay.row.covered.as_ref().map_or(1, |covered| covered.cursor + 1);
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
        let before_me = self.members.iter().take_while(|(device, _)| **device < self.me.device());
        before_me.filter(|(device, _)| Some(**device) != author && self.is_online(device)).count() as u64
    }

    /// Whether a relay's floor may be raised, and this device may say so.
    fn may_raise(&self, at: RelayAt) -> bool {
        let relay = &self.relays[at];
        let Some(covered) = relay.row.covered.as_ref().filter(|covered| covered.cursor >= relay.row.floor) else {
            return false;
        };
        self.is_at_rest(at)
            && self.check_acts().is_ok()
            && relay.truncation.asked.is_none()
            && relay.has_shown(&covered.sender, covered.first_seq, covered.seq)
            && self.another_has(at, covered)
            && self.nobody_here_lags(covered)
    }

    /// Whether nothing is under way at a relay that changes what it has, or what is known of it.
    pub(super) fn is_at_rest(&self, at: RelayAt) -> bool {
        let relay = &self.relays[at];
        let busy = relay.comparison.is_some() || relay.repair.is_some() || relay.recheck.is_some();
        let busy = busy || relay.rechecked.is_some() || relay.row.rebuilding || relay.reset.is_some();
        self.may_repair(at) && !busy && self.bootstrap.is_none() && !self.is_comparing_snapshot() && !self.is_rotating()
    }

    /// Whether another device has said that it has all that a snapshot stands for, and the snapshot, and
    /// vouches for where it ends: its author, or one that has compared that.
    fn another_has(&self, at: RelayAt, covered: &CoveredRow) -> bool {
        let Some(relay) = self.relays[at].tag() else { return false };
        let manifest = SeenItem { tag: covered.sender.tag(), seq: covered.seq, hash: SeenHash::of(&covered.manifest) };
        let vouched = Vouch { relay, manifest: manifest.hash };
        let vouches = |device: &DeviceId| *device == covered.sender || self.receipts.vouches(device, &vouched);
        self.another_has_all_of(covered.heads.iter().cloned(), manifest, vouches)
    }

    /// The same of these heads and this manifest, of those devices that count.
    pub(super) fn another_has_all_of(
        &self,
        heads: impl Iterator<Item = SeenItem>,
        manifest: SeenItem,
        counts: impl Fn(&DeviceId) -> bool,
    ) -> bool {
        // Its author's own head is behind it.
        let items: Vec<SeenItem> = heads.filter(|head| head.tag != manifest.tag).chain([manifest.clone()]).collect();
        let mut members = self.members.iter().filter(|(device, member)| **device != self.me.device() && !member.paper);
        members.any(|(device, _)| counts(device) && self.has_all_of(device, &items))
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
        if relay.row.floor <= 1 {
            return;
        }
        for covered in relay.stood_for().cloned().collect::<Vec<_>>() {
            for device in self.chains.keys() {
                if let Some(head) = covered.heads.iter().find(|head| head.tag == device.tag()) {
                    relay.is_there_up_to(*device, head.seq);
                }
            }
            covered.epochs.into_iter().for_each(|epoch| relay.epoch_stands_there(epoch));
        }
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
        if floor <= floor_max || waits || !self.is_at_rest(at) || !self.lookups.is_empty() || self.may_be_covered(at) {
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
