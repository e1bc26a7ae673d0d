//! Searching a relay's log for the snapshot to go on from ([`super::resetting`]).
//!
//! The log is read from below its floor to its end. A snapshot counts that its author signed, behind
//! what it stands for and in a time that can be, and that ends in this log behind what is gone. Of
//! those the newest is chosen, and the relay asked what stands where it says that it ends: reading on
//! from a place that never was would accuse the relay of having lost it. One that could not be taken is [`Unusable`] for the rest of the run, or
//! until its parts may have come, and the next one has its turn, until there is none.

use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::EntryItem;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, ClientFrame};

use super::Engine;
use super::comparing::Anchor;
use super::reading::is_epoch;
use super::relay::{Relay, RelayAt};
use super::resetting::{Reset, Step};
use super::snapshots::Snapshot;
use super::truncating::Asked;
use crate::content::{Kind, SeenHash};
use crate::error::Problem;
use crate::event::IntegrityEvent;
use crate::id::DeviceId;
use crate::io::Now;
use crate::keyring::Keyring;
use crate::pairing::SnapshotRef;
use crate::seal;
use crate::snapshot::{Floor, Manifest};
use crate::statement::Vouch;

/// A relay that has lost the snapshot is given this long between two searches to get it from another
/// device …
const SEARCH_AGAIN_MS: u64 = 15_000;
/// … so often, before what is gone is told: two minutes, or as many runs of a device that is not on for
/// that long.
const SEARCHES_MAX: u32 = 8;
/// Snapshots of a relay that may turn out unusable, each at the cost of two readings of the log; with
/// them whoever wrote them has had their say, and there is none. As many as a group has devices: with
/// one false word each, all of them leave the last its turn.
const UNUSABLE_MAX: usize = 64;

/// A snapshot that may be gone on from.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) wanted: SnapshotRef,
    pub(super) manifest: Manifest,
    /// Where reading goes on behind it in this relay's log, …
    pub(super) end: Anchor,
    /// … which is where it ends there, by its own account.
    pub(super) ends_there: bool,
}

/// A snapshot that was chosen and could not be taken.
#[derive(Debug)]
pub(super) struct Unusable {
    by: DeviceId,
    manifest: BlobId,
    /// It is false; otherwise parts of it were not there, and another device may bring them.
    is_false: bool,
}

impl Relay {
    /// The next search goes without it.
    pub(super) fn set_aside(&mut self, snapshot: &SnapshotRef, is_false: bool) {
        self.unusable.push(Unusable { by: snapshot.sender, manifest: snapshot.blob_id, is_false });
    }

    /// It was searched in vain, and is waited for. Runs that follow each other at once count as one look.
    fn count_search(&mut self, now: Now) {
        let row = &mut self.row;
        if now.wall_ms.abs_diff(row.searched_ms) >= SEARCH_AGAIN_MS {
            (row.searches, row.searched_ms, self.changed) = (row.searches + 1, now.wall_ms, true);
        }
    }

    /// Nothing is waited for there any more.
    pub(super) fn end_searches(&mut self) {
        self.changed |= self.row.searches > 0;
        (self.row.searches, self.row.searched_ms) = (0, 0);
    }

    fn may_be_chosen(&self, manifest: &BlobId) -> bool {
        self.unusable.len() < UNUSABLE_MAX && !self.unusable.iter().any(|it| it.manifest == *manifest)
    }
}

impl Engine {
    /// Whether a relay's log is read for a snapshot.
    pub(super) fn searches_snapshot(&self, at: RelayAt) -> bool {
        matches!(self.relays[at].reset, Some(Reset { step: Step::Searching { .. }, .. }))
    }

    /// A page of the log while a snapshot is looked for.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`] when cursors are left out.
    pub(super) fn reset_page(&mut self, at: RelayAt, items: Vec<EntryItem>) -> Result<(), Problem> {
        let keyring = self.keyring_to_search(at);
        for item in items {
            let Some(Reset { step: Step::Searching { cursor: read, .. }, .. }) = &mut self.relays[at].reset else {
                return Ok(());
            };
            let (EntryItem::Stored { cursor, .. } | EntryItem::Own { cursor, .. } | EntryItem::Absent { cursor, .. }) =
                item;
            let expected = *read + 1;
            if cursor != expected {
                self.find_once(IntegrityEvent::CursorJump { expected, got: cursor });
                return Err(Problem::ProtocolViolation("cursors that are not consecutive"));
            }
            *read = cursor;
            // What is wrong with an entry is told when it is read for good.
            if let EntryItem::Stored { blob_id: id, envelope, .. } = item
                && blob_id(&envelope) == id
                && !is_epoch(&envelope)
            {
                self.consider_snapshot(at, &keyring, &envelope);
            }
        }
        Ok(())
    }

    /// The keys that what is looked for may be sealed under: also those that the relay has handed out,
    /// which prove nothing.
    pub(super) fn keyring_to_search(&self, at: RelayAt) -> Keyring {
        let mut keyring = (*self.keyring).clone();
        for secret in &self.relays[at].handed_out {
            keyring.insert(secret.clone());
        }
        keyring
    }

    fn consider_snapshot(&mut self, at: RelayAt, keyring: &Keyring, envelope: &[u8]) {
        let Ok(entry) = seal::open(keyring, envelope) else { return };
        if entry.claims().kind != Kind::SNAPSHOT || !self.may_be_of_group(&entry.claims().sender) {
            return;
        }
        let Ok(entry) = entry.verify() else { return };
        let Ok(manifest) = Manifest::parse(&entry.body) else { return };
        // Its author sealed it behind what it stands for.
        if manifest.lamport >= entry.lamport || !self.is_possible_time_of(&manifest) {
            return;
        }
        let Some(&Reset { step: Step::Searching { below, .. }, gap }) = self.relays[at].reset.as_ref() else { return };
        let end = self.end_behind(at, &below, &manifest).filter(|_| !gap);
        if end.is_none() && (!gap || self.has_all_that(&manifest)) {
            return;
        }
        let (end, ends_there) = (end.unwrap_or(below), end.is_some());
        let wanted = SnapshotRef {
            sender: entry.sender,
            seq: entry.seq,
            blob_id: entry.blob_id(),
            parts: manifest.parts,
            bytes: manifest.bytes,
        };
        if !self.relays[at].may_be_chosen(&wanted.blob_id) {
            return;
        }
        let (relay, members) = (&mut self.relays[at], &self.members);
        let unusable = &relay.unusable;
        // Who wrote an unusable one comes last, and then whom this device does not know: anybody with the
        // group's keys can be as many such devices as it takes.
        let (doubted, written) = (!unusable.is_empty(), |by: DeviceId| unusable.iter().any(|it| it.by == by));
        let worth = |it: &Choice| {
            let SnapshotRef { sender, seq, .. } = it.wanted;
            (!written(sender), !doubted || members.contains_key(&sender), it.manifest.lamport, sender, seq)
        };
        let choice = Choice { wanted, manifest, end, ends_there };
        if let Some(Reset { step: Step::Searching { best, .. }, .. }) = &mut relay.reset
            && best.as_ref().is_none_or(|best| worth(best) < worth(&choice))
        {
            *best = Some(choice);
        }
    }

    /// Where a snapshot ends in a relay's log that begins behind this place, if it stands for what is
    /// gone there.
    fn end_behind(&self, at: RelayAt, below: &Anchor, manifest: &Manifest) -> Option<Anchor> {
        let relay = &self.relays[at];
        let stands_for = |floor: &&Floor| {
            let same_log = floor.timeline == relay.row.timeline && floor.cursor >= below.cursor;
            // Made before the relay began another history: it must end exactly here.
            let same_end = (floor.cursor, floor.blob_id) == (below.cursor, below.blob_id);
            Some(floor.relay) == relay.tag() && (same_log || same_end)
        };
        manifest.floors.iter().find(stands_for).map(Floor::anchor)
    }

    /// The newest snapshot here that stands for what is gone at a relay: of one that has lost it, this
    /// device has it from another.
    fn known_to_stand_for(&self, at: RelayAt, below: &Anchor) -> Option<Choice> {
        let relay = &self.relays[at];
        let known =
            [&self.snapshot, &self.base].into_iter().flatten().filter(|it| relay.may_be_chosen(&it.row.blob_id));
        let ends = known.filter_map(|snapshot| Some((snapshot, self.end_behind(at, below, &snapshot.manifest)?)));
        let (Snapshot { row, manifest }, end) =
            ends.max_by_key(|(it, _)| (it.row.lamport, it.row.sender, it.row.seq))?;
        let (parts, bytes) = (manifest.parts, row.bytes);
        let wanted = SnapshotRef { sender: row.sender, seq: row.seq, blob_id: row.blob_id, parts, bytes };
        Some(Choice { wanted, manifest: manifest.clone(), end, ends_there: true })
    }

    /// Whether a device may be a member: whoever its inviter named, to one that is new. Otherwise the
    /// archive tells.
    fn may_be_of_group(&self, device: &DeviceId) -> bool {
        let Some(joining) = self.joining.as_ref().filter(|joining| !joining.members.is_empty()) else { return true };
        joining.inviter == *device
            || joining.members.iter().any(|member| member.device == *device)
            || self.members.contains_key(device)
    }

    /// All of the log was read.
    pub(super) fn reset_searched(&mut self, now: Now, at: RelayAt) {
        let (cursor, row_cursor) = (self.relays[at].row.floor, self.relays[at].row.cursor);
        let Some(Reset { step: Step::Searching { below, best, cursor: head }, gap }) = self.relays[at].reset.take()
        else {
            return;
        };
        let known = || self.known_to_stand_for(at, &below).filter(|choice| self.has_all_that(&choice.manifest));
        if let Some(choice) = best.or_else(|| known().filter(|_| !gap)) {
            let is_known = (choice.end.cursor, choice.end.blob_id) == (below.cursor, below.blob_id);
            let cursors = List::try_from(vec![choice.end.cursor]).expect("one fits");
            let step = if is_known { Step::Chosen { below, choice } } else { Step::Placing { below, head, choice } };
            let relay = &mut self.relays[at];
            relay.reset = Some(Reset { step, gap });
            if let Some(open) = relay.session.live().filter(|_| !is_known) {
                open.send(&ClientFrame::Probe { cursors });
            }
            return;
        }
        let still = self.may_still_come(at);
        // Parts that were not there may be by the next search.
        self.relays[at].unusable.retain(|it| it.is_false);
        if gap {
            // The doubt goes on.
            self.subscribe(at);
        } else if still {
            self.relays[at].count_search(now);
            self.lose(now, at, Some(Problem::SnapshotAwaited), SEARCH_AGAIN_MS);
        } else {
            self.relays[at].end_searches();
            self.find_once(IntegrityEvent::Withheld { from_cursor: row_cursor + 1, to_cursor: cursor - 1 });
            self.relays[at].reset = Some(Reset { step: Step::TakingBack { below }, gap });
            self.ask_floor(at, row_cursor + 1, Asked::TakeBack);
        }
    }

    /// The relay says what stands where the chosen one ends.
    pub(super) fn placed(&mut self, at: RelayAt, below: Anchor, head: u64, mut choice: Choice, there: Option<BlobId>) {
        let SnapshotRef { sender, seq, blob_id, .. } = choice.wanted;
        let is_lost = there.is_none() && choice.end.cursor <= head;
        if is_lost {
            // What it stands for is gone up to here at least, and a place that is gone cannot be named.
            choice.end = below;
        }
        // Two members do not lie about the same: then it is the relay that says something else.
        let vouch = self.relays[at].tag().map(|relay| Vouch { relay, manifest: SeenHash::of(&blob_id) });
        let vouched = vouch.is_some_and(|vouch| self.is_vouched_for(&vouch, &sender));
        let step = if is_lost || there == Some(choice.end.blob_id) || vouched {
            Step::Chosen { below, choice }
        } else {
            self.suspect(at, IntegrityEvent::FalseSnapshot { sender, seq });
            self.relays[at].set_aside(&choice.wanted, true);
            self.read_from(at, below);
            Step::Searching { below, cursor: below.cursor, best: None }
        };
        self.relays[at].reset = Some(Reset { step, gap: false });
    }

    /// What was chosen is not what its author said.
    pub(super) fn refuse_choice(&mut self, now: Now, at: RelayAt, choice: &SnapshotRef) {
        let SnapshotRef { sender, seq, .. } = *choice;
        self.find_once(IntegrityEvent::FalseSnapshot { sender, seq });
        self.relays[at].set_aside(choice, true);
        self.reconnect(now, at);
    }

    /// Whether a snapshot that a relay has not may be put back there: others have it from another relay,
    /// or this one has lost a part of its log: one of which parts are missing is a part itself.
    fn may_still_come(&self, at: RelayAt) -> bool {
        let relay = &self.relays[at];
        let in_part = relay.unusable.iter().any(|it| !it.is_false);
        let lost = in_part || relay.was_broken_off() || !relay.row.heard.is_empty();
        (lost || !self.relays.is_alone()) && relay.row.searches < SEARCHES_MAX
    }
}
