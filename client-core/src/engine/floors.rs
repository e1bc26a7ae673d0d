//! Where a snapshot ends in a relay's log: its author's word, until this device has compared it.
//!
//! Who begins behind a floor never sees what stands before it, so one that is too high skips entries,
//! and has relays give them up. It counts here once this device has read the log up to there itself,
//! in the same timeline, and found the same entry and the same fold there, and behind it the first
//! entry of each chain that the snapshot does not have. What cannot be compared any more (this device
//! was stopped in between, or began behind it) accuses nobody, and nothing is built upon it: this
//! device does not vouch for it, asks no relay to give anything up and lets nobody begin there.

use litemap::LiteMap;

use super::Engine;
use super::comparing::Anchor;
use super::relay::{Relay, RelayAt};
use super::rows::{CoveredRow, PastRow};
use super::snapshots::Snapshot;
use crate::content::{SeenHash, SeenItem};
use crate::event::IntegrityEvent;
use crate::id::SenderTag;
use crate::one_by_one::few_of;
use crate::pairing::SnapshotRef;
use crate::snapshot::{FLOORS_MAX, Floor, Manifest};
use crate::statement::Vouch;

/// What comparing a floor came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// The snapshot has all that was shown up to there, and nothing else was.
    Here,
    /// A member's entry stands before it that the snapshot does not have.
    TooFar,
    /// This device cannot tell, or not yet.
    Unknown,
}

impl Engine {
    /// A snapshot is as this device has it: what it says of each relay. Of one that was made here that
    /// needs no comparing.
    pub(super) fn note_covered(&mut self, snapshot: &Snapshot, made_here: bool) {
        for at in self.relays.all() {
            let floor = if made_here { self.floor_of(at, &snapshot.manifest) } else { self.end_to_claim(at, snapshot) };
            let Some(floor) = floor else { continue };
            let (row, manifest) = (&snapshot.row, &snapshot.manifest);
            let (parts, bytes) = (manifest.parts, row.bytes);
            let by = SnapshotRef { sender: row.sender, seq: row.seq, blob_id: row.blob_id, parts, bytes };
            if made_here {
                let covered = self.covered_by(floor, manifest, &by);
                self.cover(at, covered);
            } else {
                self.claim(at, floor, manifest, &by);
            }
        }
    }

    /// Where a snapshot ends in a relay's log, if it says more than what is known there already, and this
    /// device has read as far: of what lies ahead nothing can be told, and it would take the place of
    /// what can.
    fn end_to_claim(&self, at: RelayAt, snapshot: &Snapshot) -> Option<Anchor> {
        let (relay, row) = (&self.relays[at], &snapshot.row);
        let end = self.floor_of(at, &snapshot.manifest)?;
        let ahead = end.cursor > relay.row.cursor;
        let may_be =
            !relay.ends_from(end.cursor) && !ahead && !relay.shows_not_behind(&row.sender, row.seq, end.cursor);
        may_be.then_some(end)
    }

    /// Where a snapshot ends in a relay's log as it is now.
    fn floor_of(&self, at: RelayAt, manifest: &Manifest) -> Option<Anchor> {
        let (relay, row) = (&self.relays[at], &self.relays[at].row);
        let is_of_log = |floor: &&Floor| {
            let past = |past: &PastRow| past.timeline == floor.timeline && floor.cursor <= past.to_cursor;
            Some(floor.relay) == relay.tag() && (floor.timeline == row.timeline || row.past.iter().any(past))
        };
        manifest.floors.iter().find(is_of_log).map(Floor::anchor)
    }

    /// Somebody says that a snapshot stands for a relay's log up to there.
    pub(super) fn claim(&mut self, at: RelayAt, end: Anchor, manifest: &Manifest, by: &SnapshotRef) {
        if self.relays[at].ends_from(end.cursor) {
            return;
        }
        let claimed = self.covered_by(end, manifest, by);
        let relay = &mut self.relays[at];
        relay.row.claimed = Some(claimed);
        (relay.claim_judged, relay.changed) = (false, true);
        self.stand_on_covered(at);
    }

    fn cover(&mut self, at: RelayAt, covered: CoveredRow) {
        let relay = &mut self.relays[at];
        relay.row.claimed.take_if(|claimed| claimed.cursor <= covered.cursor);
        if relay.row.covered.as_ref().is_none_or(|known| known.cursor < covered.cursor) {
            relay.row.covered = Some(covered);
        }
        relay.changed = true;
        self.stand_on_covered(at);
    }

    fn covered_by(&self, end: Anchor, manifest: &Manifest, by: &SnapshotRef) -> CoveredRow {
        let heads = manifest.heads.iter().map(|head| SeenItem {
            tag: head.device.tag(),
            seq: head.seq,
            hash: SeenHash::of(&head.blob_id),
        });
        let lineage = self.lineage(&manifest.epoch);
        let count = usize::try_from(manifest.epochs).unwrap_or(usize::MAX);
        let epochs = self.epochs.iter().enumerate();
        let epochs = epochs.filter(|(number, row)| *number < count || lineage.contains(&row.id));
        CoveredRow {
            cursor: end.cursor,
            blob_id: end.blob_id,
            hash: end.observed,
            heads: heads.collect(),
            epochs: epochs.map(|(_, row)| row.blob_id).collect(),
            sender: by.sender,
            first_seq: by.seq.saturating_sub(by.parts),
            seq: by.seq,
            manifest: by.blob_id,
        }
    }

    /// Compares what was claimed as soon as this device has read as far.
    pub(super) fn compare_claims(&mut self) {
        // Reading may have come meanwhile to where the newest snapshot ends at a relay that was behind.
        let reached = |it: &&Snapshot| self.relays.all().any(|at| self.end_to_claim(at, it).is_some());
        if let Some(snapshot) = self.snapshot.as_ref().filter(reached).cloned() {
            self.note_covered(&snapshot, false);
        }
        for at in self.relays.all() {
            let relay = &self.relays[at];
            let may_judge = |claimed: &&CoveredRow| !relay.claim_judged && claimed.cursor <= relay.row.cursor;
            let Some(claimed) = relay.row.claimed.as_ref().filter(may_judge).cloned() else { continue };
            let heads: LiteMap<SenderTag, u64> = few_of(claimed.heads.iter().map(|head| (head.tag, head.seq)));
            match self.where_it_ends(at, &claimed.anchor(), &heads) {
                Ends::Here if self.has_epochs_up_to(at, &claimed) => self.cover(at, claimed),
                Ends::Here | Ends::Unknown => self.relays[at].claim_judged = true,
                Ends::TooFar => {
                    let relay = &mut self.relays[at];
                    (relay.row.claimed, relay.changed) = (None, true);
                    self.forget_snapshot(&claimed.manifest);
                    self.find_once(IntegrityEvent::FalseSnapshot { sender: claimed.sender, seq: claimed.seq });
                }
            }
        }
    }

    /// Compares where a snapshot says that it ends with what this device was shown.
    pub(super) fn where_it_ends(&self, at: RelayAt, end: &Anchor, heads: &LiteMap<SenderTag, u64>) -> Ends {
        let relay = &self.relays[at];
        if !relay.has_come_to(end) {
            return Ends::Unknown;
        }
        let mut known = true;
        for (device, chain) in &self.chains {
            let next = heads.get(&device.tag()).map_or(1, |seq| seq + 1);
            known &= self.held.range((*device, next)..=(*device, u64::MAX)).next().is_none();
            if chain.seq < next {
                continue;
            }
            match relay.shown_at(device.tag(), next) {
                Some(cursor) if cursor > end.cursor => {}
                // Of who was removed it may be told later that something counts.
                Some(_) if self.members.contains_key(device) => return Ends::TooFar,
                Some(_) => known = false,
                None => known &= !relay.has_read(device, next),
            }
        }
        if known { Ends::Here } else { Ends::Unknown }
    }

    /// Whether no change of keys was shown up to there that the snapshot does not have.
    fn has_epochs_up_to(&self, at: RelayAt, covered: &CoveredRow) -> bool {
        let relay = &self.relays[at];
        let mut others = self.epochs.iter().map(|epoch| epoch.blob_id).filter(|id| !covered.epochs.contains(id));
        others.all(|id| match relay.shown_as(&id) {
            Some(cursor) => cursor > covered.cursor,
            None => !relay.has_read_epoch(id),
        })
    }

    /// What this device vouches for in its receipts: for each relay the snapshot whose end there it has
    /// compared.
    pub(super) fn vouches(&self) -> Vec<Vouch> {
        let vouch = |at: RelayAt| {
            let relay = &self.relays[at];
            let manifest = SeenHash::of(&relay.row.covered.as_ref()?.manifest);
            Some(Vouch { relay: relay.tag()?, manifest })
        };
        self.relays.all().filter_map(vouch).take(FLOORS_MAX).collect()
    }
}

impl Relay {
    /// Whether a snapshot is known that stands for this relay's log up to there, or further.
    fn ends_from(&self, cursor: u64) -> bool {
        [&self.row.covered, &self.row.claimed].into_iter().flatten().any(|known| known.cursor >= cursor)
    }
}

impl Floor {
    /// As a place in that log.
    pub(super) fn anchor(&self) -> Anchor {
        Anchor { cursor: self.cursor, blob_id: self.blob_id, observed: self.hash }
    }
}
