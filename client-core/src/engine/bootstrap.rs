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
use litemap::LiteMap;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::EntryItem;
use zerok_sync_protocol::wire;
use zerok_sync_protocol::{BlobId, Timeline};

use super::Engine;
use super::accepting::Admission;
use super::comparing::Anchor;
use super::holding::Came;
use super::mirror::{self, ForApp, Record};
use super::reading::{Placed, is_epoch};
use super::relay::{Relay, RelayAt};
use super::resetting::{Again, heads_of};
use super::rows::{self, ChainRow, CoveredRow, SnapshotRow, hot, hot_key};
use super::searching::Choice;
use super::snapshots::Snapshot;
use crate::content::{Kind, SeenHash};
use crate::error::Problem;
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::io::Now;
use crate::keyring::Keyring;
use crate::observed::FoldHash;
use crate::pairing::{HistoryStart, SnapshotRef};
use crate::seal;
use crate::snapshot::{ARCHIVE_BYTES_MAX, Archived, Manifest, NotASnapshot, STATE_BYTES_MAX};

/// The search for the snapshot to begin with.
#[derive(Debug)]
pub(super) struct Bootstrap {
    wanted: SnapshotRef,
    /// The relay it is looked for at: one at a time.
    pub(super) at: Option<RelayAt>,
    /// How far the log was read in this session, and its fold there.
    cursor: u64,
    observed: FoldHash,
    /// The snapshot's entries so far, by seq.
    found: BTreeMap<u64, Found>,
    bytes: usize,
    /// It takes the place of what this device has already: …
    in_place: Option<Choice>,
    /// … opened with these …
    keyring: Option<Keyring>,
    /// … and, once it is whole, followed by what it does not have.
    pub(super) again: Option<Again>,
}

/// The snapshot's bytes.
fn open_parts(bootstrap: &Bootstrap, keyring: &Keyring) -> Result<Bytes, NotASnapshot> {
    let mut bodies = Vec::with_capacity(bootstrap.bytes);
    for (_, found) in bootstrap.found.range(..bootstrap.wanted.seq) {
        let part = seal::open(keyring, &found.envelope).map_err(|_| NotASnapshot("parts"))?.into_claims();
        if part.kind != Kind::PART {
            return Err(NotASnapshot("parts"));
        }
        bodies.extend_from_slice(&part.body);
    }
    Ok(bodies.into())
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

impl Bootstrap {
    pub(super) fn new(wanted: SnapshotRef) -> Self {
        Self {
            wanted,
            at: None,
            cursor: 0,
            observed: FoldHash::ZERO,
            found: BTreeMap::new(),
            bytes: 0,
            in_place: None,
            keyring: None,
            again: None,
        }
    }

    /// Of a device that has read something already: the log is read from below its floor.
    pub(super) fn in_place(at: RelayAt, choice: Choice, below: Anchor, keyring: Keyring) -> Self {
        let observed = if below.cursor == choice.end.cursor { choice.end.observed } else { FoldHash::ZERO };
        let wanted = choice.wanted.clone();
        let (at, cursor) = (Some(at), below.cursor);
        Self { at, cursor, observed, in_place: Some(choice), keyring: Some(keyring), ..Self::new(wanted) }
    }

    /// Where it ends in each chain, of one that takes the place of what is here.
    pub(super) fn heads(&self) -> LiteMap<DeviceId, u64> {
        self.in_place.as_ref().map(|choice| heads_of(&choice.manifest)).unwrap_or_default()
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
        let Snapshot { row, manifest } = self.snapshot.as_ref()?;
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
            // Where it ends is the inviter's word: what it has compared, or begun with itself.
            Some(floor) if relay.has_read(&row.sender, row.seq) && self.knows_end(at, floor) => {
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

    fn knows_end(&self, at: RelayAt, floor: &crate::snapshot::Floor) -> bool {
        let row = &self.relays[at].row;
        let ends_there = |covered: &CoveredRow| (covered.cursor, covered.blob_id) == (floor.cursor, floor.blob_id);
        let begun = row.claimed.as_ref().filter(|claimed| claimed.cursor == row.jumped_to);
        row.covered.as_ref().is_some_and(ends_there) || begun.is_some_and(ends_there)
    }

    /// The log is to be read from where it begins for this device. Whether at this relay: not while it
    /// is at another.
    pub(super) fn begin_search(&mut self, at: RelayAt) -> bool {
        let row = &self.relays[at].row;
        let (cursor, observed) = (row.cursor, row.observed);
        let Some(bootstrap) = self.bootstrap.as_mut().filter(|bootstrap| bootstrap.in_place.is_none()) else {
            return true;
        };
        let elsewhere = bootstrap.at.filter(|other| *other != at);
        if elsewhere.is_some_and(|other| self.relays[other].session.live_ref().is_some()) {
            return false;
        }
        *bootstrap = Bootstrap { at: Some(at), cursor, observed, ..Bootstrap::new(bootstrap.wanted.clone()) };
        true
    }

    /// Whether what this relay shows is read for the snapshot only.
    pub(super) fn searches(&self, at: RelayAt) -> bool {
        self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.in_place.is_none() || bootstrap.at == Some(at))
    }

    /// The link is gone on which a snapshot was read that was to take the place of what is here.
    pub(super) fn taking_lost(&mut self, at: RelayAt) {
        self.bootstrap.take_if(|bootstrap| bootstrap.in_place.is_some() && bootstrap.at == Some(at));
    }

    /// The relay of the search is gone: another that is there takes its turn.
    pub(super) fn search_lost(&mut self, at: RelayAt) {
        self.taking_lost(at);
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
            if bootstrap.is_whole() {
                return Ok(false);
            }
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
            if let Some(choice) = bootstrap.in_place.as_ref().filter(|choice| choice.end.cursor == cursor) {
                bootstrap.observed = choice.end.observed;
            }
            // What is wrong with an entry is told when it is read for good.
            let Some(envelope) = envelope.filter(|envelope| Some(blob_id(envelope)) == id) else { continue };
            self.consider(envelope);
            let whole = self.bootstrap.as_ref().filter(|bootstrap| bootstrap.is_whole());
            if whole.is_some_and(|bootstrap| bootstrap.in_place.is_some()) {
                let (from, _) = mirror::mirror_range();
                let again = self.gather_again(from, None);
                if let Some(bootstrap) = &mut self.bootstrap {
                    bootstrap.again = Some(again);
                }
                return Ok(false);
            }
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
        let keyring = bootstrap.keyring.as_ref().unwrap_or(&self.keyring);
        let Ok(entry) = seal::open(keyring, &envelope) else { return };
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

    /// The log has ended and the snapshot is not in it, or not whole: another is looked for, or, by a
    /// joining device and if the log is there from its first entry, it is read from there. Whether that
    /// is to begin.
    ///
    /// # Errors
    /// [`Problem::SnapshotUnusable`] if it is not.
    pub(super) fn search_ended(&mut self, at: RelayAt) -> Result<bool, Problem> {
        if self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.at != Some(at)) {
            return Err(Problem::ProtocolViolation("an end that was not asked for"));
        }
        if let Some(bootstrap) = self.bootstrap.as_ref().filter(|bootstrap| bootstrap.in_place.is_some()) {
            // What does not come again behind it is still being read.
            if bootstrap.is_whole() {
                return Ok(false);
            }
            self.relays[at].set_aside(&bootstrap.wanted, false);
            return Ok(true);
        }
        let relay = &self.relays[at];
        let from_the_first =
            relay.session.live_ref().and_then(|open| open.log.as_ref()).is_some_and(|log| log.floor <= 1);
        if !from_the_first {
            return Err(Problem::SnapshotUnusable);
        }
        self.begin_at_start();
        self.subscribe_others(at);
        Ok(true)
    }

    /// The log begins behind the snapshot that the inviter named: the relay has moved its floor since.
    pub(super) fn search_overtaken(&mut self, at: RelayAt) {
        self.taking_lost(at);
        if self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.at == Some(at)) {
            self.begin_at_start();
            self.subscribe_others(at);
        }
    }

    /// Nothing stands for what lies before the place that the inviter named, at whatever relay: each is
    /// read like one of which nothing was said.
    fn begin_at_start(&mut self) {
        self.end_bootstrap();
        for relay in self.relays.iter_mut().filter(|relay| relay.row.jumped_to > 0) {
            relay.row.cursor = 0;
            relay.row.blob_id_at_cursor = BlobId::ZERO;
            relay.row.observed = FoldHash::start();
            relay.row.jumped_to = 0;
            relay.changed = true;
            relay.forget_what_was_shown();
        }
    }

    fn end_bootstrap(&mut self) -> Option<Bootstrap> {
        self.effects.delete(hot_key(hot::START, &[]));
        self.bootstrap.take()
    }

    /// All of a snapshot is there that takes the place of what this device has, and so is what comes
    /// again behind it.
    pub(super) fn take_snapshot(&mut self, now: Now, at: RelayAt, again: Vec<(DeviceId, Record)>) {
        let before = self.progress.position;
        let Some(Choice { end, wanted, .. }) = self.bootstrap.as_ref().and_then(|it| it.in_place.clone()) else {
            return;
        };
        if self.begin_with_snapshot(at).is_err() {
            return self.refuse_choice(now, at, &wanted);
        }
        let position = self.progress.position;
        let mut first_parts = BTreeMap::new();
        for (sender, record) in again {
            let Record { for_app, missing_deps, timeline, cursor, observed, envelope, .. } = record;
            let placed = Placed { at, timeline, cursor, observed, blob_id: blob_id(&envelope), envelope };
            let for_app = match (for_app, first_parts.get(&sender).copied()) {
                (ForApp::Batch { .. }, Some(first)) => ForApp::Batch { first },
                (for_app, _) => for_app,
            };
            // Its place in the index is the first one.
            let place = self.mirror(placed, None, for_app, missing_deps);
            if for_app == ForApp::Nothing {
                first_parts.entry(sender).or_insert(place);
            } else {
                first_parts.remove(&sender);
                if sender != self.me.device() {
                    self.progress.others_position = place.position;
                }
            }
        }
        self.release_behind_base(at);
        self.jump_to(at, end);
        self.stand_on_base(at);
        self.relays.all().for_each(|at| self.stand_on_covered(at));
        if before > 0 || self.progress.sealed_seq > 1 {
            self.tell_reset(position);
        }
        self.event(Event::EntriesAvailable { position: self.progress.position });
        self.event(Event::StatusChanged);
        self.reconnect(now, at);
    }

    /// All of the snapshot is there: it becomes this device's state.
    fn begin_with_snapshot(&mut self, at: RelayAt) -> Result<(), NotASnapshot> {
        let Some(bootstrap) = &self.bootstrap else { return Ok(()) };
        let wanted = bootstrap.wanted.clone();
        // By hashes, from the one that was named.
        let mut expected = wanted.blob_id;
        for (_, found) in bootstrap.found.iter().rev() {
            if found.blob_id != expected {
                return Err(NotASnapshot("another entry than the one named"));
            }
            expected = found.prev;
        }
        let keyring = bootstrap.keyring.as_ref().unwrap_or(&self.keyring);
        let bodies = open_parts(bootstrap, keyring)?;
        let commit = bootstrap.found.get(&wanted.seq).ok_or(NotASnapshot("no manifest"))?;
        let commit = seal::open(keyring, &commit.envelope).ok().and_then(|commit| commit.verify().ok());
        let commit = commit.filter(|commit| commit.kind == Kind::SNAPSHOT).ok_or(NotASnapshot("no manifest"))?;
        let manifest = Manifest::parse(&commit.body)?;
        if !self.is_possible_time_of(&manifest) {
            return Err(NotASnapshot("time"));
        }
        if (manifest.parts, manifest.bytes) != (wanted.parts, bodies.len() as u64) {
            return Err(NotASnapshot("parts"));
        }
        let in_place = bootstrap.in_place.as_ref().map(|choice| choice.end);
        let ends_there = bootstrap.in_place.as_ref().is_some_and(|choice| choice.ends_there);
        let archive = bodies.slice(..usize::try_from(manifest.archive_bytes).map_err(|_| NotASnapshot("lengths"))?);
        let epochs = self.replay(at, archive)?;
        let newest = self.epoch_row(&manifest.epoch).is_some_and(|epoch| epoch.blob_id == manifest.epoch_blob_id);
        // Who has read something may know more of them.
        let all = in_place.is_some() || self.epochs.len() as u64 == manifest.epochs;
        let current = in_place.is_some() || self.keyring.current().id == manifest.epoch;
        if !newest || !all || epochs != manifest.epochs || !current || !self.members.contains_key(&wanted.sender) {
            return Err(NotASnapshot("who is in the group"));
        }
        let chain_before = self.seq_of(&wanted.sender);
        self.set_ends(at, &manifest);
        let Some(bootstrap) = self.end_bootstrap() else { return Ok(()) };
        if chain_before < wanted.seq {
            self.end_parts(&wanted.sender);
        }
        let first = self.mirror_snapshot(at, bootstrap, chain_before);
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
        let snapshot = Snapshot { row, manifest };
        if let Some(end) = in_place.filter(|_| ends_there) {
            self.claim(at, end, &snapshot.manifest, &wanted);
        }
        self.note_covered(&snapshot, false);
        self.snapshot = Some(snapshot.clone());
        self.base = Some(snapshot);
        self.progress_changed = true;
        if in_place.is_some() {
            return Ok(());
        }
        self.release_behind_base(at);
        self.relays[at].forget_reading();
        // It may have been found at another relay than the one at which the grant says where it ends.
        let begins_behind_it = |other: &RelayAt| *other == at || self.relays[*other].row.jumped_to > 0;
        for begun in self.relays.all().filter(begins_behind_it).collect::<Vec<_>>() {
            self.stand_on_base(begun);
        }
        self.subscribe_others(at);
        self.event(Event::EntriesAvailable { position: self.progress.position });
        self.event(Event::StatusChanged);
        Ok(())
    }

    /// Goes through a control archive: each envelope is checked by those before it, as in a log. Answers
    /// how many epochs it has.
    fn replay(&mut self, at: RelayAt, archive: Bytes) -> Result<u64, NotASnapshot> {
        let mut epochs = 0;
        for envelope in Archived(archive) {
            let envelope = envelope?;
            // In no timeline: nothing says that a relay showed it.
            let (blob_id, timeline) = (blob_id(&envelope), Timeline::ZERO);
            let placed = Placed { at, timeline, cursor: 0, observed: FoldHash::ZERO, blob_id, envelope };
            if is_epoch(&placed.envelope) {
                epochs += 1;
                // It may have been here, or have come early and followed one of these.
                let is_known = |engine: &Self| engine.epochs.iter().any(|epoch| epoch.blob_id == blob_id);
                if !is_known(self) && (self.accept_epoch(placed).is_err() || !is_known(self)) {
                    return Err(NotASnapshot("an epoch"));
                }
                continue;
            }
            let entry = seal::open(&self.keyring, &placed.envelope).ok().and_then(|entry| entry.verify().ok());
            let entry = entry.ok_or(NotASnapshot("an entry of the archive"))?;
            if entry.seq <= self.seq_of(&entry.sender) || self.replayed.contains(&blob_id) {
                // Read before, or in the archive of one that turned out unusable.
                continue;
            }
            if matches!(entry.kind, Kind::JOIN | Kind::PAPER) {
                match self.admit(&entry) {
                    Admission::Member => {}
                    // Its author read the removal first: from a relay that was made again, or another one.
                    Admission::Removed => {}
                    Admission::Void(inviter) => self.note_void(entry.sender, inviter),
                    _ => return Err(NotASnapshot("a certificate")),
                }
            }
            self.follow_time(entry.lamport);
            self.note_control(&entry, &placed.envelope);
            let in_chain = Some((entry.sender, entry.seq));
            self.mirror(placed, in_chain, ForApp::Nothing, false);
            self.act_on(&entry);
            self.replayed.insert(blob_id);
        }
        Ok(epochs)
    }

    /// The chains go on from where the snapshot ends in them, if they did not come further here.
    fn set_ends(&mut self, at: RelayAt, manifest: &Manifest) {
        let me = self.me.device();
        for head in manifest.heads.iter() {
            let (device, seq, blob_id) = (head.device, head.seq, head.blob_id);
            let before = self.chains.get(&device).map_or((0, 0), |chain| (chain.seq, chain.said_seq));
            if device == me && seq > before.0 {
                self.own_entries_covered(at, before.0, seq, blob_id);
            }
            if seq > before.0 {
                self.chains.insert(device, ChainRow { seq, blob_id, said_seq: before.1, sent_at_ms: 0 });
                self.chains_changed.insert(device);
                self.end_parts(&device);
            }
            if let Some(removed) = self.removed.get_mut(&device).filter(|removed| removed.last_seq <= seq) {
                (removed.last_seq, removed.last_hash) = (seq, SeenHash::of(&blob_id));
                self.effects.put(hot_key(hot::REMOVED, &device.0), wire::encode(removed));
            }
        }
        let heads: Vec<(DeviceId, u64, BlobId)> =
            self.chains.iter().map(|(device, chain)| (*device, chain.seq, chain.blob_id)).collect();
        heads.into_iter().for_each(|(device, seq, blob_id)| self.settle_names(device, seq, &blob_id));
        self.progress.lamport = self.progress.lamport.max(manifest.lamport);
        let past: Vec<_> = self.held.keys().filter(|(device, seq)| manifest.covers(device, *seq)).copied().collect();
        for key in past {
            if let Some(row) = self.held.remove(&key) {
                self.held_bytes -= row.envelope.len();
                self.effects.delete(rows::held_key(&key.0, key.1));
            }
        }
    }

    /// What waited for what a snapshot stands for comes behind it.
    fn release_behind_base(&mut self, at: RelayAt) {
        let Some(base) = self.base.clone() else { return };
        for head in base.manifest.heads.iter() {
            self.release_held(head.device, &Came::in_no_timeline(at));
        }
    }

    /// The snapshot has own entries that this device had sent and not read back.
    fn own_entries_covered(&mut self, at: RelayAt, from_seq: u64, to_seq: u64, blob_id: BlobId) {
        if to_seq > self.progress.sealed_seq {
            return self.stop_writing();
        }
        if self.wrote_otherwise(to_seq, blob_id) {
            return;
        }
        (from_seq + 1..to_seq).for_each(|seq| self.effects.delete(rows::outbox_key(seq)));
        self.own_entry_stored(at, to_seq);
    }

    /// Keeps the snapshot's own entries; the manifest is the app's first entry.
    fn mirror_snapshot(&mut self, at: RelayAt, bootstrap: Bootstrap, chain_before: u64) -> super::mirror::Place {
        let (sender, last, timeline) = (bootstrap.wanted.sender, bootstrap.wanted.seq, self.relays[at].row.timeline);
        let mut first = None;
        for (seq, found) in bootstrap.found {
            let Found { blob_id, cursor, observed, envelope, .. } = found;
            let placed = Placed { at, timeline, cursor, observed, blob_id, envelope };
            let for_app = first.filter(|_| seq == last).map_or(ForApp::Nothing, |first| ForApp::Batch { first });
            // What came from another relay is in the index.
            let in_chain = Some((sender, seq)).filter(|_| seq > chain_before);
            let place = self.mirror(placed, in_chain, for_app, false);
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
    pub(super) fn forget_reading(&mut self) {
        self.row.read.clear();
        self.row.epochs_read.iter_mut().for_each(|epoch| epoch.timeline = Timeline::ZERO);
        self.forget_what_was_shown();
        self.changed = true;
    }

    /// Whether an entry was read here in this timeline, with all before it that was to be read.
    pub(super) fn has_read(&self, sender: &DeviceId, seq: u64) -> bool {
        self.row.read.iter().any(|run| run.device == *sender && (run.from_seq..=run.to_seq).contains(&seq))
    }
}
