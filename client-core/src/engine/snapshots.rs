//! Other devices' snapshots: believed once they agree with what this device has itself.
//!
//! A snapshot is compared as soon as everything it covers is here: each chain's entry at its head,
//! each relay's order at its floor, and envelope for envelope the control archive. One that
//! contradicts the log is reported and never used. What the app's own part says is between the
//! members, as with any entry: who may write may write that.

use bytes::Bytes;
use litemap::LiteMap;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{BlobId, wire};

use super::compaction::ControlReading;
use super::comparing::SCAN_BYTES;
use super::floors::Ends;
use super::mirror::{Place, Records};
use super::reading::is_epoch;
use super::relay::RelayAt;
use super::rows::{PartsRow, SnapshotRow, candidate_key, hot, hot_key};
use super::{Engine, mirror};
use crate::event::{Event, IntegrityEvent};
use crate::id::{DeviceId, SenderTag};
use crate::io::{Row, ScanId};
use crate::one_by_one::few_of;
use crate::seal::{self, Authenticated};
use crate::snapshot::{Archived, Floor, Head, Manifest, NotASnapshot};

/// Snapshots that wait to be compared: more are not made while one that is newer is under way.
const CANDIDATES_MAX: usize = 8;

/// A snapshot, and what its manifest says.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) row: SnapshotRow,
    pub(super) manifest: Manifest,
}

impl Snapshot {
    /// Of a stored row.
    pub(super) fn of(row: SnapshotRow) -> Result<Self, NotASnapshot> {
        Ok(Self { manifest: Manifest::parse(&row.manifest)?, row })
    }

    /// Whether an entry is one of the snapshot's own, its parts or its manifest.
    pub(super) fn holds(&self, sender: &DeviceId, seq: u64) -> bool {
        let first = self.row.seq - self.manifest.parts;
        *sender == self.row.sender && (first..=self.row.seq).contains(&seq)
    }
}

/// A snapshot that waits to be compared.
#[derive(Debug)]
pub(super) struct Candidate {
    /// What it says.
    pub(super) snapshot: Snapshot,
    /// It has an epoch that was none here as far as these: it waits for the next, and nothing for it.
    unread: Option<usize>,
}

impl Candidate {
    /// Of a stored row.
    pub(super) fn of(row: SnapshotRow) -> Result<Self, NotASnapshot> {
        Ok(Self { snapshot: Snapshot::of(row)?, unread: None })
    }

    fn is(&self, sender: &DeviceId, seq: u64) -> bool {
        (self.snapshot.row.sender, self.snapshot.row.seq) == (*sender, seq)
    }
}

/// A snapshot that is being compared.
#[derive(Debug)]
pub(super) struct SnapshotCheck {
    row: SnapshotRow,
    manifest: Manifest,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// What this device has at a head that is behind its own; others are still to be asked for.
    Heads { scan: ScanId, rest: Vec<Head> },
    /// Its parts are read, as far as the archive goes.
    Parts { scan: ScanId, next_seq: u64, archive: Vec<u8> },
    /// This device's own control archive is read.
    Control { theirs: Theirs, reading: ControlReading },
}

/// What came of a step.
enum Compared {
    /// Another one follows.
    Next(Step),
    /// It is as this device has it.
    Sound,
    /// It has an epoch that is none here.
    Unread,
}

/// The envelopes of a snapshot's control archive; whether each is an epoch.
pub(super) type Theirs = LiteMap<BlobId, bool>;

/// It says what this device knows to be otherwise, or says nothing sensible.
struct Contradiction;

impl Engine {
    /// A snapshot's manifest was accepted, behind these parts.
    pub(super) fn on_snapshot(&mut self, entry: &Authenticated, parts: Option<PartsRow>) {
        let manifest = Manifest::parse(&entry.body).ok();
        let whole = |manifest: &Manifest| {
            parts.as_ref().is_some_and(|parts| (parts.parts, parts.bytes) == (manifest.parts, manifest.bytes))
                && manifest.lamport < entry.lamport
        };
        let (Some(manifest), Some(parts)) = (manifest.filter(whole), &parts) else {
            return self.find_once(IntegrityEvent::FalseSnapshot { sender: entry.sender, seq: entry.seq });
        };
        let row = SnapshotRow {
            sender: entry.sender,
            seq: entry.seq,
            blob_id: entry.blob_id(),
            manifest: entry.body.clone(),
            lamport: manifest.lamport,
            position: parts.position,
            ordinal: parts.ordinal,
            bytes: manifest.bytes,
        };
        if entry.sender == self.me.device() {
            return self.snapshot_verified(Snapshot { row, manifest }, true);
        }
        if self.candidates.len() == CANDIDATES_MAX
            && let Some(Candidate { snapshot, .. }) = self.candidates.front()
        {
            let (sender, seq) = (snapshot.row.sender, snapshot.row.seq);
            self.forget_candidate(&sender, seq);
        }
        self.effects.put(candidate_key(&row.sender, row.seq), wire::encode(&row));
        self.candidates.push_back(Candidate { snapshot: Snapshot { row, manifest }, unread: None });
    }

    /// Begins to compare the first snapshot of which everything that it covers is here. One that waits
    /// holds up none behind it.
    pub(super) fn check_candidate(&mut self) {
        if self.snapshot_check.is_some() {
            return;
        }
        let epochs = self.epochs.len();
        let here = |head: &Head| self.seq_of(&head.device) >= head.seq;
        let ready = |it: &&Candidate| {
            it.unread.is_none_or(|known| known < epochs) && it.snapshot.manifest.heads.iter().all(here)
        };
        let Some(Snapshot { row, manifest }) = self.candidates.iter().find(ready).map(|it| it.snapshot.clone()) else {
            return;
        };
        if self.epoch_row(&manifest.epoch).is_none() {
            return self.wait_for_epoch(&row);
        }
        match self.compare_ends(&row, &manifest) {
            Ok(rest) => {
                let step = self.next_head(rest, &row);
                self.snapshot_check = Some(SnapshotCheck { row, manifest, step });
            }
            Err(Contradiction) => self.refuse_snapshot(&row),
        }
    }

    /// What can be compared at once; which heads are to be looked up.
    fn compare_ends(&mut self, row: &SnapshotRow, manifest: &Manifest) -> Result<Vec<Head>, Contradiction> {
        if self.epoch_row(&manifest.epoch).is_none_or(|epoch| epoch.blob_id != manifest.epoch_blob_id) {
            return Err(Contradiction);
        }
        // All that it covers is here: of the sound ones the latest counts.
        if !self.is_possible_time_of(manifest) {
            return Err(Contradiction);
        }
        let heads: LiteMap<SenderTag, u64> = few_of(manifest.heads.iter().map(|head| (head.device.tag(), head.seq)));
        for floor in manifest.floors.iter() {
            let Some(at) = self.relays.by_tag(floor.relay) else { continue };
            let relay = &mut self.relays[at];
            if relay.row.timeline != floor.timeline {
                continue;
            }
            if relay.contradicts(row.sender, floor.cursor, floor.hash.short()) {
                self.suspect(at, IntegrityEvent::Forked { observer: row.sender, cursor: floor.cursor });
            } else if relay.shows_not_behind(&row.sender, row.seq, floor.cursor) {
                // Its author had read up to there before it wrote this.
                return Err(Contradiction);
            } else if self.where_it_ends(at, &floor.anchor(), &heads) == Ends::TooFar {
                return Err(Contradiction);
            }
        }
        let chain = |head: &Head| self.chains.get(&head.device).map(|chain| (chain.seq, chain.blob_id));
        let (ends, behind): (Vec<_>, Vec<_>) =
            manifest.heads.iter().cloned().partition(|head| chain(head).is_some_and(|(seq, _)| seq == head.seq));
        if ends.iter().any(|head| chain(head) != Some((head.seq, head.blob_id))) {
            return Err(Contradiction);
        }
        Ok(behind)
    }

    /// Asks for what stands at the next head, or begins to read the parts.
    fn next_head(&mut self, rest: Vec<Head>, row: &SnapshotRow) -> Step {
        match rest.last() {
            Some(head) => {
                let scan = self.scan(mirror::index_range(&head.device, head.seq), 1);
                Step::Heads { scan, rest }
            }
            None => {
                let first = Place { position: row.position, ordinal: row.ordinal };
                let scan = self.scan(mirror::range_from(first), SCAN_BYTES);
                // Nothing is known of the first part's number but that it is the first there.
                Step::Parts { scan, next_seq: 0, archive: Vec::new() }
            }
        }
    }

    /// Whether these rows were asked for to compare a snapshot; goes on with them.
    pub(super) fn snapshot_scanned(&mut self, id: ScanId, rows: &[Row]) -> bool {
        let asked = |check: &mut SnapshotCheck| match &check.step {
            Step::Heads { scan, .. } | Step::Parts { scan, .. } => *scan == id,
            Step::Control { reading, .. } => reading.is_asked(id),
        };
        let Some(check) = self.snapshot_check.take_if(asked) else { return false };
        let SnapshotCheck { row, manifest, step } = check;
        let next = match step {
            Step::Heads { mut rest, .. } => {
                let sound = rest.pop().is_none_or(|head| self.is_head(&head, rows));
                if sound { Ok(Compared::Next(self.next_head(rest, &row))) } else { Err(Contradiction) }
            }
            Step::Parts { next_seq, archive, .. } => self.read_parts(&row, &manifest, next_seq, archive, rows),
            Step::Control { theirs, mut reading } => match self.control_read(&mut reading, rows.to_vec()) {
                Ok(false) => Ok(Compared::Next(Step::Control { theirs, reading })),
                Ok(true) => self.compare_archives(&manifest, &theirs, &reading),
                Err(_) => {
                    self.stop_corrupt("control archive");
                    return true;
                }
            },
        };
        match next {
            Ok(Compared::Next(step)) => self.snapshot_check = Some(SnapshotCheck { row, manifest, step }),
            Ok(Compared::Sound) => {
                self.forget_candidate(&row.sender, row.seq);
                self.snapshot_verified(Snapshot { row, manifest }, false);
            }
            Ok(Compared::Unread) => self.wait_for_epoch(&row),
            Err(Contradiction) => self.refuse_snapshot(&row),
        }
        true
    }

    /// Branches of the keys reach two devices in either order: so what was said has to be the same, and
    /// the epochs up to the snapshot's; an epoch besides that is none here may still come.
    fn compare_archives(
        &self,
        manifest: &Manifest,
        theirs: &Theirs,
        reading: &ControlReading,
    ) -> Result<Compared, Contradiction> {
        // What some have and others gave up is compared with nobody.
        let ours = reading.said_before(manifest, |sender, seq| !self.is_in_gap(sender, seq));
        let lineage = self.lineage(&manifest.epoch);
        let lineage = lineage.iter().filter_map(|id| Some(self.epoch_row(id)?.blob_id));
        let whole = ours.iter().copied().chain(lineage).all(|id| theirs.contains_key(&id));
        let invented = theirs.iter().any(|(id, is_epoch)| !is_epoch && !ours.contains(id));
        let epochs = theirs.values().filter(|is_epoch| **is_epoch).count() as u64;
        if !whole || invented || epochs != manifest.epochs {
            return Err(Contradiction);
        }
        let known = |id: &BlobId| self.epochs.iter().any(|epoch| epoch.blob_id == *id);
        let all_known = theirs.iter().all(|(id, is_epoch)| !is_epoch || known(id));
        Ok(if all_known { Compared::Sound } else { Compared::Unread })
    }

    /// It is told if no epoch comes that cures it.
    fn wait_for_epoch(&mut self, row: &SnapshotRow) {
        let epochs = self.epochs.len();
        if let Some(candidate) = self.candidates.iter_mut().find(|it| it.is(&row.sender, row.seq)) {
            let waited = candidate.unread.replace(epochs).is_some();
            if !waited {
                self.doubt(IntegrityEvent::FalseSnapshot { sender: row.sender, seq: row.seq });
            }
        }
    }

    /// Whether a snapshot is being compared with what is here.
    pub(super) fn is_comparing_snapshot(&self) -> bool {
        self.snapshot_check.is_some()
    }

    /// Whether a snapshot still waits to be compared.
    pub(super) fn is_candidate(&self, sender: &DeviceId, seq: u64) -> bool {
        self.candidates.iter().any(|it| it.is(sender, seq))
    }

    /// Whether a snapshot that waits names a relay's log as far as its floor goes.
    pub(super) fn may_be_covered(&self, at: RelayAt) -> bool {
        let relay = &self.relays[at];
        let names =
            |floor: &Floor| Some(floor.relay) == relay.tag() && floor.cursor.saturating_add(1) >= relay.row.floor;
        self.candidates.iter().any(|it| it.snapshot.manifest.floors.iter().any(names))
    }

    /// Whether a chain has this entry there, as the index says, or what this device began with.
    fn is_head(&self, head: &Head, rows: &[Row]) -> bool {
        let indexed = rows.first().and_then(|row| mirror::indexed(row, &head.device, head.seq));
        let base = || self.base.as_ref()?.manifest.head(&head.device);
        match (indexed, base()) {
            (Some((blob_id, _)), _) => blob_id == head.blob_id,
            (None, Some(known)) => known.seq > head.seq || known.blob_id == head.blob_id,
            (None, None) => self.is_in_gap(&head.device, head.seq),
        }
    }

    /// Whether an entry of an archive is one that members have given up.
    fn is_given_up(&self, envelope: &[u8]) -> bool {
        let claims = || seal::open(&self.keyring, envelope).ok().map(seal::Decrypted::into_claims);
        !self.gaps.is_empty() && claims().is_some_and(|entry| self.is_in_gap(&entry.sender, entry.seq))
    }

    /// Collects the archive out of the parts.
    fn read_parts(
        &mut self,
        row: &SnapshotRow,
        manifest: &Manifest,
        next_seq: u64,
        mut archive: Vec<u8>,
        rows: &[Row],
    ) -> Result<Compared, Contradiction> {
        let archive_bytes = usize::try_from(manifest.archive_bytes).map_err(|_| Contradiction)?;
        let mut next_seq = next_seq.max(row.seq - manifest.parts);
        for record in rows.iter().flat_map(|row| Records::of(row.clone())) {
            let Ok(record) = record else {
                self.stop_corrupt("mirror");
                return Ok(Compared::Unread);
            };
            let Ok(part) = seal::open(&self.keyring, &record.envelope) else { continue };
            if (part.claims().sender, part.claims().seq) != (row.sender, next_seq) || next_seq == row.seq {
                continue;
            }
            // Who begins with it takes no part that its author did not sign.
            let part = part.verify().map_err(|_| Contradiction)?;
            if archive.len() < archive_bytes {
                archive.extend_from_slice(&part.body);
            }
            next_seq += 1;
        }
        if next_seq < row.seq {
            let Some(last) = rows.last() else { return Err(Contradiction) };
            let (_, to) = mirror::mirror_range();
            let scan = self.scan(([last.key.as_slice(), &[0]].concat(), to), SCAN_BYTES);
            return Ok(Compared::Next(Step::Parts { scan, next_seq, archive }));
        }
        archive.truncate(archive_bytes);
        let theirs = Archived(Bytes::from(archive))
            .filter(|envelope| !envelope.as_ref().is_ok_and(|envelope| self.is_given_up(envelope)))
            .map(|envelope| envelope.map(|envelope| (blob_id(&envelope), is_epoch(&envelope))));
        let theirs: Theirs = theirs.collect::<Result<_, _>>().map_err(|_| Contradiction)?;
        let reading = self.read_control();
        Ok(Compared::Next(Step::Control { theirs, reading }))
    }

    fn refuse_snapshot(&mut self, row: &SnapshotRow) {
        self.forget_candidate(&row.sender, row.seq);
        self.find_once(IntegrityEvent::FalseSnapshot { sender: row.sender, seq: row.seq });
    }

    /// It is as this device has it: the newest one counts.
    fn snapshot_verified(&mut self, snapshot: Snapshot, made_here: bool) {
        self.note_covered(&snapshot, made_here);
        // Two devices may have made one each: every device ends with the one that covers more.
        let worth = |it: &Snapshot| (it.row.lamport, it.row.sender, it.row.seq);
        if self.snapshot.as_ref().is_none_or(|newest| worth(newest) < worth(&snapshot)) {
            self.effects.put(hot_key(hot::SNAPSHOT, &[]), wire::encode(&snapshot.row));
            self.snapshot = Some(snapshot);
        }
        self.progress.log_bytes = 0;
        self.progress_changed = true;
        self.advised = false;
        self.event(Event::StatusChanged);
    }

    /// It is not what its author said: nobody begins with it.
    pub(super) fn forget_snapshot(&mut self, manifest: &BlobId) {
        if self.snapshot.take_if(|snapshot| snapshot.row.blob_id == *manifest).is_some() {
            self.effects.delete(hot_key(hot::SNAPSHOT, &[]));
            self.event(Event::StatusChanged);
        }
    }

    /// One of those that wait does so no more.
    pub(super) fn forget_candidate(&mut self, sender: &DeviceId, seq: u64) {
        self.snapshot_check.take_if(|check| (check.row.sender, check.row.seq) == (*sender, seq));
        self.candidates.retain(|it| !it.is(sender, seq));
        self.effects.delete(candidate_key(sender, seq));
    }
}
