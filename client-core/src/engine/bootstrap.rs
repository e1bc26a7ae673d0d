//! Beginning with a snapshot: a new device that does not read the log from its first entry.
//!
//! Its inviter says which snapshot, by BlobId, and where the log begins that the snapshot does not
//! cover. The log is read from there twice. The first time only that snapshot is looked for;
//! nothing else is accepted, for nobody is known yet. Once its parts are there and hang together by
//! their hashes, the control archive is gone through like a log of its own, the chains are set to
//! where the snapshot ends in them, and the app's state becomes this device's first entry. The
//! second time everything is read as ever. Until then nothing is stored, so a crash begins again.

use std::collections::BTreeMap;

use bytes::Bytes;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::EntryItem;
use zerok_sync_protocol::wire;
use zerok_sync_protocol::{BlobId, Timeline};

use super::Engine;
use super::accepting::Admission;
use super::mirror::ForApp;
use super::reading::{Placed, is_epoch};
use super::relay::{Relay, RelayAt};
use super::rows::{ChainRow, SnapshotRow, hot, hot_key};
use crate::content::{Kind, SeenHash};
use crate::error::Problem;
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::observed::FoldHash;
use crate::pairing::{HistoryStart, SnapshotRef};
use crate::seal;
use crate::snapshot::{ARCHIVE_BYTES_MAX, Archived, Manifest, NotASnapshot, STATE_BYTES_MAX};

/// The search for the snapshot to begin with.
#[derive(Debug)]
pub(super) struct Bootstrap {
    wanted: SnapshotRef,
    /// The relay it is looked for at: one at a time.
    at: Option<RelayAt>,
    /// How far the log was read in this session, and its fold there.
    cursor: u64,
    observed: FoldHash,
    /// The snapshot's entries so far, by seq.
    found: BTreeMap<u64, Found>,
    bytes: usize,
}

/// One of the snapshot's entries at its place in the log.
#[derive(Debug)]
struct Found {
    blob_id: BlobId,
    prev: BlobId,
    cursor: u64,
    observed: FoldHash,
    envelope: Bytes,
}

/// What this device began with: what lies before it was never here.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) row: SnapshotRow,
    pub(super) manifest: Manifest,
}

impl Base {
    /// Of a stored row.
    pub(super) fn of(row: SnapshotRow) -> Result<Self, NotASnapshot> {
        Ok(Self { manifest: Manifest::parse(&row.manifest)?, row })
    }

    /// Whether an entry is one of the snapshot's own, which were mirrored when it was taken over.
    pub(super) fn holds(&self, sender: &DeviceId, seq: u64) -> bool {
        let first = self.row.seq - self.manifest.parts;
        *sender == self.row.sender && (first..=self.row.seq).contains(&seq)
    }
}

impl Bootstrap {
    pub(super) fn new(wanted: SnapshotRef) -> Self {
        Self { wanted, at: None, cursor: 0, observed: FoldHash::ZERO, found: BTreeMap::new(), bytes: 0 }
    }

    fn first_seq(&self) -> u64 {
        self.wanted.seq.saturating_sub(self.wanted.parts)
    }

    fn is_whole(&self) -> bool {
        self.found.len() as u64 > self.wanted.parts
    }
}

impl Engine {
    /// Where a new member begins: behind what the newest snapshot covers, if there is one and the
    /// relay's log is the one it speaks of.
    pub(super) fn history_start(&self, at: RelayAt) -> Option<HistoryStart> {
        let row = self.snapshot.as_ref()?;
        let manifest = Manifest::parse(&row.manifest).ok()?;
        let relay = &self.relays[at];
        let timeline = relay.row.timeline;
        let snapshot = SnapshotRef {
            sender: row.sender,
            seq: row.seq,
            blob_id: row.blob_id,
            parts: manifest.parts,
            bytes: row.bytes,
        };
        let of_log = |floor: &&crate::snapshot::Floor| Some(floor.relay) == relay.tag() && floor.timeline == timeline;
        match manifest.floors.iter().find(of_log) {
            Some(floor) if relay.has_read(&row.sender, row.seq) => {
                let (cursor, blob_id, hash) = (floor.cursor, floor.blob_id, floor.hash);
                Some(HistoryStart { timeline, cursor, blob_id, hash, snapshot })
            }
            // What lies before it may be nowhere any more.
            _ if self.base.is_some() => {
                let (cursor, blob_id, hash) = (0, BlobId::ZERO, FoldHash::start());
                Some(HistoryStart { timeline, cursor, blob_id, hash, snapshot })
            }
            _ => None,
        }
    }

    /// The log is to be read from where it begins for this device. Whether at this relay: not while it
    /// is at another.
    pub(super) fn begin_search(&mut self, at: RelayAt) -> bool {
        let row = &self.relays[at].row;
        let (cursor, observed) = (row.cursor, row.observed);
        let Some(bootstrap) = &mut self.bootstrap else { return false };
        let elsewhere = bootstrap.at.filter(|other| *other != at);
        if elsewhere.is_some_and(|other| self.relays[other].session.live_ref().is_some()) {
            return false;
        }
        *bootstrap = Bootstrap { at: Some(at), cursor, observed, ..Bootstrap::new(bootstrap.wanted.clone()) };
        true
    }

    /// The relay of the search is gone: another that is there takes its turn.
    pub(super) fn search_lost(&mut self, at: RelayAt) {
        let here = |bootstrap: &mut Bootstrap| bootstrap.at.take_if(|searched| *searched == at).is_some();
        if self.bootstrap.as_mut().is_some_and(here) && self.online {
            self.subscribe_others(at);
        }
    }

    fn subscribe_others(&mut self, at: RelayAt) {
        for other in self.relays.all().filter(|other| *other != at) {
            if self.relays[other].session.live_ref().is_some() {
                self.subscribe(other);
            }
        }
    }

    /// A page of the log while the snapshot is looked for; whether it was found.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`] when cursors are left out, or nothing was asked for;
    /// [`Problem::SnapshotUnusable`].
    pub(super) fn search_page(&mut self, at: RelayAt, items: Vec<EntryItem>) -> Result<bool, Problem> {
        if self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.at != Some(at)) {
            return Err(Problem::ProtocolViolation("entries that were not asked for"));
        }
        for item in items {
            let Some(bootstrap) = &mut self.bootstrap else { return Ok(true) };
            let (EntryItem::Stored { cursor, .. } | EntryItem::Own { cursor, .. } | EntryItem::Absent { cursor, .. }) =
                item;
            let expected = bootstrap.cursor + 1;
            if cursor != expected {
                self.find_once(IntegrityEvent::CursorJump { expected, got: cursor });
                return Err(Problem::ProtocolViolation("cursors that are not consecutive"));
            }
            let (id, envelope) = match item {
                EntryItem::Stored { blob_id, envelope, .. } => (Some(blob_id), Some(envelope)),
                EntryItem::Own { blob_id, .. } => (Some(blob_id), None),
                EntryItem::Absent { blob_id, .. } => (blob_id, None),
            };
            bootstrap.cursor = cursor;
            bootstrap.observed = match id {
                Some(id) if !bootstrap.observed.is_zero() => bootstrap.observed.fold(cursor, &id),
                _ => FoldHash::ZERO,
            };
            // What is wrong with an entry is told when it is read for good.
            let Some(envelope) = envelope.filter(|envelope| Some(blob_id(envelope)) == id) else { continue };
            self.consider(envelope);
            if self.bootstrap.as_ref().is_some_and(Bootstrap::is_whole) {
                return match self.begin_with_snapshot(at) {
                    Ok(()) => Ok(true),
                    Err(NotASnapshot(_)) => Err(Problem::SnapshotUnusable),
                };
            }
        }
        Ok(false)
    }

    /// Keeps what may be a part of the snapshot.
    fn consider(&mut self, envelope: Bytes) {
        let Some(bootstrap) = &mut self.bootstrap else { return };
        let Ok(entry) = seal::open(&self.keyring, &envelope) else { return };
        let claims = entry.claims();
        let wanted = claims.sender == bootstrap.wanted.sender
            && (bootstrap.first_seq()..=bootstrap.wanted.seq).contains(&claims.seq)
            && !bootstrap.found.contains_key(&claims.seq);
        if !wanted {
            return;
        }
        // Any member can seal a part in the author's name, and would keep new devices out with it.
        let Ok(entry) = entry.verify() else { return };
        bootstrap.bytes = bootstrap.bytes.saturating_add(entry.body.len());
        if bootstrap.bytes <= ARCHIVE_BYTES_MAX + 2 * STATE_BYTES_MAX {
            let (cursor, observed) = (bootstrap.cursor, bootstrap.observed);
            let found = Found { blob_id: entry.blob_id(), prev: entry.prev, cursor, observed, envelope };
            bootstrap.found.insert(entry.seq, found);
        }
    }

    /// The log has ended and the snapshot is not in it: if the log is there from its first entry, it
    /// is read from there.
    ///
    /// # Errors
    /// [`Problem::SnapshotUnusable`] if it is not.
    pub(super) fn search_ended(&mut self, at: RelayAt) -> Result<(), Problem> {
        if self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.at != Some(at)) {
            return Err(Problem::ProtocolViolation("an end that was not asked for"));
        }
        let relay = &mut self.relays[at];
        let from_the_first =
            relay.session.live_ref().and_then(|open| open.log.as_ref()).is_some_and(|log| log.floor <= 1);
        if !from_the_first {
            return Err(Problem::SnapshotUnusable);
        }
        relay.row.cursor = 0;
        relay.row.blob_id_at_cursor = BlobId::ZERO;
        relay.row.observed = FoldHash::start();
        relay.changed = true;
        relay.forget_what_was_shown();
        self.end_bootstrap();
        self.subscribe_others(at);
        Ok(())
    }

    fn end_bootstrap(&mut self) -> Option<Bootstrap> {
        self.effects.delete(hot_key(hot::START, &[]));
        self.bootstrap.take()
    }

    /// All of the snapshot is there: it becomes this device's state.
    fn begin_with_snapshot(&mut self, at: RelayAt) -> Result<(), NotASnapshot> {
        let Some(bootstrap) = &self.bootstrap else { return Ok(()) };
        let wanted = bootstrap.wanted.clone();
        // By hashes, from the one that the inviter named.
        let mut expected = wanted.blob_id;
        for (_, found) in bootstrap.found.iter().rev() {
            if found.blob_id != expected {
                return Err(NotASnapshot("another entry than the one named"));
            }
            expected = found.prev;
        }
        let bodies = self.open_parts(bootstrap)?;
        let commit = bootstrap.found.get(&wanted.seq).ok_or(NotASnapshot("no manifest"))?;
        let commit = seal::open(&self.keyring, &commit.envelope).ok().and_then(|commit| commit.verify().ok());
        let commit = commit.filter(|commit| commit.kind == Kind::SNAPSHOT).ok_or(NotASnapshot("no manifest"))?;
        let manifest = Manifest::parse(&commit.body)?;
        if (manifest.parts, manifest.bytes) != (wanted.parts, bodies.len() as u64) {
            return Err(NotASnapshot("parts"));
        }
        let archive = bodies.slice(..usize::try_from(manifest.archive_bytes).map_err(|_| NotASnapshot("lengths"))?);
        self.replay(at, archive)?;
        let (epochs, epoch) = (self.epochs.len() as u64, self.keyring.current().id);
        if (epochs, epoch, self.progress.epoch_blob_id) != (manifest.epochs, manifest.epoch, manifest.epoch_blob_id)
            || !self.members.contains_key(&wanted.sender)
        {
            return Err(NotASnapshot("who is in the group"));
        }
        self.set_ends(&manifest);
        let Some(bootstrap) = self.end_bootstrap() else { return Ok(()) };
        let first = self.mirror_snapshot(at, bootstrap);
        let row = SnapshotRow {
            sender: wanted.sender,
            seq: wanted.seq,
            blob_id: wanted.blob_id,
            manifest: commit.body.clone(),
            lamport: manifest.lamport,
            bytes: manifest.bytes,
            position: first.position,
            ordinal: first.ordinal,
        };
        for kind in [hot::SNAPSHOT, hot::BASE] {
            self.effects.put(hot_key(kind, &[]), wire::encode(&row));
        }
        self.snapshot = Some(row.clone());
        self.base = Some(Base { row, manifest });
        self.relays[at].forget_reading();
        self.relays.all().for_each(|at| self.stand_on_base(at));
        self.subscribe_others(at);
        self.progress_changed = true;
        self.event(Event::EntriesAvailable { position: self.progress.position });
        self.event(Event::StatusChanged);
        Ok(())
    }

    /// The snapshot's bytes.
    fn open_parts(&self, bootstrap: &Bootstrap) -> Result<Bytes, NotASnapshot> {
        let mut bodies = Vec::with_capacity(bootstrap.bytes);
        for (_, found) in bootstrap.found.range(..bootstrap.wanted.seq) {
            let part = seal::open(&self.keyring, &found.envelope).map_err(|_| NotASnapshot("parts"))?.into_claims();
            if part.kind != Kind::PART {
                return Err(NotASnapshot("parts"));
            }
            bodies.extend_from_slice(&part.body);
        }
        Ok(bodies.into())
    }

    /// Goes through a control archive: each envelope is checked by those before it, as in a log.
    fn replay(&mut self, at: RelayAt, archive: Bytes) -> Result<(), NotASnapshot> {
        for envelope in Archived(archive) {
            let envelope = envelope?;
            // In no timeline: nothing says that a relay showed it.
            let (blob_id, timeline) = (blob_id(&envelope), Timeline::ZERO);
            let placed = Placed { at, timeline, cursor: 0, observed: FoldHash::ZERO, blob_id, envelope };
            if is_epoch(&placed.envelope) {
                let before = self.epochs.len();
                let accepted = self.accept_epoch(placed);
                if accepted.is_err() || self.epochs.len() != before + 1 {
                    return Err(NotASnapshot("an epoch"));
                }
                continue;
            }
            let entry = seal::open(&self.keyring, &placed.envelope).ok().and_then(|entry| entry.verify().ok());
            let entry = entry.ok_or(NotASnapshot("an entry of the archive"))?;
            if matches!(entry.kind, Kind::JOIN | Kind::PAPER) && !matches!(self.admit(&entry), Admission::Member) {
                return Err(NotASnapshot("a certificate"));
            }
            self.note_control(&entry, &placed.envelope);
            let in_chain = Some((entry.sender, entry.seq));
            self.mirror(placed, in_chain, ForApp::Nothing, false);
            self.act_on(&entry);
        }
        Ok(())
    }

    /// The chains go on from where the snapshot ends in them.
    fn set_ends(&mut self, manifest: &Manifest) {
        for head in manifest.heads.iter() {
            let (seq, blob_id) = (head.seq, head.blob_id);
            self.chains.insert(head.device, ChainRow { seq, blob_id, said_seq: 0, sent_at_ms: 0 });
            self.chains_changed.insert(head.device);
            if let Some(removed) = self.removed.get_mut(&head.device) {
                (removed.last_seq, removed.last_hash) = (seq, SeenHash::of(&blob_id));
                self.effects.put(hot_key(hot::REMOVED, &head.device.0), wire::encode(removed));
            }
        }
        self.wanted.clear();
        self.progress.lamport = self.progress.lamport.max(manifest.lamport);
    }

    /// Keeps the snapshot's own entries; the manifest is the app's first entry.
    fn mirror_snapshot(&mut self, at: RelayAt, bootstrap: Bootstrap) -> super::mirror::Place {
        let (sender, last, timeline) = (bootstrap.wanted.sender, bootstrap.wanted.seq, self.relays[at].row.timeline);
        let mut first = None;
        for (seq, found) in bootstrap.found {
            let Found { blob_id, cursor, observed, envelope, .. } = found;
            let placed = Placed { at, timeline, cursor, observed, blob_id, envelope };
            let for_app = first.filter(|_| seq == last).map_or(ForApp::Nothing, |first| ForApp::Batch { first });
            let place = self.mirror(placed, Some((sender, seq)), for_app, false);
            first.get_or_insert(place);
        }
        self.progress.others_position = self.progress.position;
        first.unwrap_or_default()
    }

    /// A relay is taken to have what this device never had.
    pub(super) fn stand_on_base(&mut self, at: RelayAt) {
        let Some(base) = &self.base else { return };
        for head in base.manifest.heads.iter() {
            self.relays[at].is_there_up_to(head.device, head.seq);
        }
    }
}

impl Relay {
    /// What the archive says was read nowhere: the log is about to be.
    fn forget_reading(&mut self) {
        self.row.read.clear();
        self.row.epochs_read.iter_mut().for_each(|epoch| epoch.timeline = Timeline::ZERO);
        self.forget_what_was_shown();
        self.changed = true;
    }

    /// Whether an entry was read here in this timeline, with all before it that was to be read.
    fn has_read(&self, sender: &DeviceId, seq: u64) -> bool {
        self.row.read.iter().any(|run| run.device == *sender && (run.from_seq..=run.to_seq).contains(&seq))
    }
}
