//! Giving up here what a snapshot stands for: a mirror that shrinks to the snapshot and the tail.
//!
//! It ends as the mirror of a device that began with that snapshot ([`super::bootstrap`]): the
//! snapshot is the base, an entry of the app's at the highest position that is gone; who is in the
//! group, and everything behind, stays. Three steps, of which only the second is large:
//!
//! 1. the mirror is read through: whether all that goes stands before all of the app's that stays;
//! 2. in one batch the snapshot's own entries take the places of the last ones that it stands for,
//!    and it becomes the base: from here on nothing lower is read;
//! 3. the rest goes, a page of rows in each batch, then what the index says of it.
//!
//! Invariants: nothing goes before its replacement is durable, compared, and vouched for by another
//! member; nothing that another device wrote goes before the app has processed it; while the third
//! step is under way (a row says so, and every start goes on with it) what is still there is only
//! too much.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use zerok_sync_protocol::{BlobId, wire};

use super::Engine;
use super::mirror::{self, ForApp, MirrorWriter, Place, Record, Records};
use super::reading::is_epoch;
use super::relay::RelayAt;
use super::rows::{self, ProgressRow, SnapshotRow, hot, hot_key};
use super::snapshots::{Candidate, Snapshot};
use crate::content::{Kind, SeenHash, SeenItem};
use crate::event::Event;
use crate::id::DeviceId;
use crate::io::{Row, ScanId};
use crate::keyring::Keyring;
use crate::seal;
use crate::snapshot::Head;

/// Rows that are read, opened and written again at a time: some hundred small entries, so that what
/// the app and the relays want meanwhile waits for milliseconds.
const SHED_BYTES: usize = 128 * 1024;
/// The same of the index, whose rows are a twentieth of that.
const UNINDEX_BYTES: usize = 16 * 1024;

/// How much of the log a device keeps besides who is in the group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MirrorPolicy {
    /// Everything since the newest snapshot up to which every relay has moved its floor: what a relay
    /// still has to serve it can be given back from here.
    #[default]
    Full,
    /// Everything since the newest snapshot that another device has as well. A relay that loses what
    /// is older gets the snapshot from here, and the rest from devices that keep all of it.
    Own,
}

/// A text that should have been a [`MirrorPolicy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a mirror is full or own")]
pub struct UnknownMirrorPolicy;

impl std::str::FromStr for MirrorPolicy {
    type Err = UnknownMirrorPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownMirrorPolicy> {
        match text {
            "full" => Ok(Self::Full),
            "own" => Ok(Self::Own),
            _ => Err(UnknownMirrorPolicy),
        }
    }
}

/// What is given up here, and what is not.
#[derive(Debug, Default)]
pub(super) struct Shrinking {
    policy: MirrorPolicy,
    /// The mirror has more than the base leaves of it.
    sheds: bool,
    /// Position of the snapshot below which nothing is read, once it stands there on disk.
    stands_at: u64,
    under_way: Option<UnderWay>,
    /// A snapshot that this mirror does not shrink to: the next one counts.
    unfit: Option<BlobId>,
    /// The app has this still to process.
    awaited: u64,
}

#[derive(Debug)]
struct UnderWay {
    scan: ScanId,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Surveying(Box<Survey>),
    Shedding,
    /// The index of these chains, the last one first.
    Unindexing(Vec<Head>),
}

/// What of the mirror a snapshot stands for.
#[derive(Debug)]
struct Survey {
    snapshot: Snapshot,
    keyring: Arc<Keyring>,
    me: DeviceId,
    /// The base so far, and how far the app is that knows it.
    base: (u64, u64),
    /// As many rows as have the last of what goes, by their keys: enough places for the snapshot.
    window: VecDeque<Surveyed>,
    places: usize,
    /// Rows with the snapshot's own entries, …
    holding: Vec<Surveyed>,
    /// … and these, by seq.
    found: BTreeMap<u64, Record>,
    /// An entry of the app's that stays was read: nothing of the app's that goes may follow.
    app_stays: bool,
    /// Highest position of what another device wrote and goes.
    others_position: u64,
}

#[derive(Debug, Clone)]
struct Surveyed {
    key: Vec<u8>,
    records: Records,
    /// Where what goes of it stands.
    goes: Vec<Place>,
}

/// The mirror cannot shrink to this snapshot.
#[derive(Debug)]
struct Unfit;

/// What becomes of an envelope.
enum Fate {
    Stays,
    /// The snapshot stands for this device's entry.
    Goes {
        sender: DeviceId,
        seq: u64,
        kind: Kind,
    },
    /// It is the snapshot's own.
    OfSnapshot {
        seq: u64,
    },
}

fn fate(snapshot: &Snapshot, keyring: &Keyring, record: &Record) -> Fate {
    if is_epoch(&record.envelope) {
        return Fate::Stays;
    }
    // What has rotted is for an audit to tell.
    let Ok(entry) = seal::open(keyring, &record.envelope) else { return Fate::Stays };
    let (sender, seq, kind) = (entry.claims().sender, entry.claims().seq, entry.claims().kind);
    if snapshot.holds(&sender, seq) {
        Fate::OfSnapshot { seq }
    } else if snapshot.manifest.covers(&sender, seq) && !kind.is_control() {
        Fate::Goes { sender, seq, kind }
    } else {
        Fate::Stays
    }
}

impl Shrinking {
    /// As it was stored.
    pub(super) fn restore(progress: &ProgressRow, sheds: bool) -> Self {
        Self { sheds, stands_at: progress.base_position, ..Self::default() }
    }

    pub(super) fn first_position(&self) -> u64 {
        self.stands_at.max(1)
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }
}

impl Survey {
    /// The snapshot's entries, its manifest among them.
    fn entries(&self) -> usize {
        usize::try_from(self.snapshot.manifest.parts).unwrap_or(usize::MAX).saturating_add(1)
    }

    fn take(&mut self, row: Row) -> Result<(), Unfit> {
        let key = row.key.clone();
        let records = Records::of(row);
        let (mut goes, mut holds) = (Vec::new(), false);
        for record in records.clone() {
            let record = record.map_err(|_| Unfit)?;
            let is_app = record.for_app != ForApp::Nothing;
            match fate(&self.snapshot, &self.keyring, &record) {
                Fate::Stays => self.app_stays |= is_app,
                Fate::Goes { sender, seq, kind } => {
                    // The rest of that batch would stay.
                    let cut =
                        kind == Kind::PART && self.snapshot.manifest.head(&sender).is_some_and(|head| head.seq == seq);
                    if cut || (is_app && self.app_stays) {
                        return Err(Unfit);
                    }
                    if is_app && record.place.position == self.base.0 {
                        self.others_position = self.others_position.max(self.base.1);
                    } else if is_app && sender != self.me {
                        self.others_position = record.place.position;
                    }
                    if !self.app_stays {
                        goes.push(record.place);
                    }
                }
                Fate::OfSnapshot { seq } => {
                    holds = true;
                    self.found.entry(seq).or_insert(record);
                }
            }
        }
        let surveyed = Surveyed { key, records, goes };
        if holds {
            self.holding.push(surveyed.clone());
        }
        if !surveyed.goes.is_empty() {
            self.places += surveyed.goes.len();
            self.window.push_back(surveyed);
        }
        while let Some(first) = self.window.front()
            && self.places - first.goes.len() >= self.entries()
        {
            self.places -= first.goes.len();
            self.window.pop_front();
        }
        Ok(())
    }

    /// The places that the snapshot's entries take, in their order.
    fn places(&self) -> Result<Vec<Place>, Unfit> {
        let places: Vec<Place> = self.window.iter().flat_map(|row| row.goes.iter().copied()).collect();
        let first = places.len().checked_sub(self.entries()).ok_or(Unfit)?;
        let last = places.last().ok_or(Unfit)?;
        // Below the first position nothing can be read.
        let whole = self.found.len() == self.entries() && last.position > 0;
        if whole { Ok(places[first..].to_vec()) } else { Err(Unfit) }
    }
}

impl Snapshot {
    /// Whether it stands for everything that another one stands for.
    fn goes_beyond(&self, other: &Self) -> bool {
        let here = |head: &Head| self.manifest.covers(&head.device, head.seq);
        self.manifest.covers(&other.row.sender, other.row.seq) && other.manifest.heads.iter().all(here)
    }
}

impl Engine {
    /// How much of the log this device keeps, from now on.
    pub fn set_mirror_policy(&mut self, policy: MirrorPolicy) {
        self.shrinking.policy = policy;
    }

    /// The base leaves less of the mirror than there is.
    pub(super) fn shed(&mut self) {
        self.shrinking.sheds = true;
        self.effects.put(hot_key(hot::SHEDDING, &[]), Vec::new());
    }

    /// Begins, or begins again, what is due.
    pub(super) fn pump_shrinking(&mut self) {
        if self.shrinking.is_under_way() || self.stopped {
            return;
        }
        if self.shrinking.sheds {
            if self.may_shed() {
                self.read_lower_no_more();
                let (from, _) = mirror::mirror_range();
                self.shrink_on(from, Step::Shedding);
            }
        } else if let Some(snapshot) = self.fit_to_stand_on() {
            let survey = Survey {
                snapshot: snapshot.clone(),
                keyring: self.keyring.clone(),
                me: self.me.device(),
                base: (self.progress.base_position, self.progress.base_news),
                window: VecDeque::new(),
                places: 0,
                holding: Vec::new(),
                found: BTreeMap::new(),
                app_stays: false,
                others_position: 0,
            };
            let (from, _) = mirror::mirror_range();
            self.shrink_on(from, Step::Surveying(Box::new(survey)));
        }
    }

    fn shrink_on(&mut self, from: Vec<u8>, step: Step) {
        let (_, to) = mirror::mirror_range();
        let scan = self.scan((from, to), SHED_BYTES);
        self.shrinking.under_way = Some(UnderWay { scan, step });
    }

    /// The snapshot that this mirror is to shrink to now.
    fn fit_to_stand_on(&self) -> Option<&Snapshot> {
        let snapshot = self.snapshot.as_ref()?;
        let is_news = self.base.as_ref().is_none_or(|base| snapshot.goes_beyond(base));
        let may = self.shrinking.unfit != Some(snapshot.row.blob_id)
            && self.progress.processed >= self.shrinking.awaited
            && self.joining.is_none()
            && self.lookups.is_empty();
        let fit =
            is_news && may && self.relays.all().all(|at| self.spares(at, snapshot)) && self.is_elsewhere(snapshot);
        fit.then_some(snapshot)
    }

    /// Whether a relay needs nothing from here of what a snapshot stands for.
    fn spares(&self, at: RelayAt, snapshot: &Snapshot) -> bool {
        let relay = &self.relays[at];
        let given_up =
            match self.shrinking.policy {
                MirrorPolicy::Own => true,
                MirrorPolicy::Full => relay.row.covered.as_ref().is_some_and(|covered| {
                    covered.manifest == snapshot.row.blob_id && relay.row.floor > covered.cursor
                }),
            };
        given_up && self.is_at_rest(at) && !relay.lacks(&self.chains, self.progress.epoch_blob_id)
    }

    /// Whether another member has said that it has all that a snapshot stands for, and the snapshot.
    fn is_elsewhere(&self, snapshot: &Snapshot) -> bool {
        let SnapshotRow { sender, seq, blob_id, .. } = &snapshot.row;
        let item = |device: &DeviceId, seq, blob_id| SeenItem { tag: device.tag(), seq, hash: SeenHash::of(blob_id) };
        let heads = snapshot.manifest.heads.iter().map(|head| item(&head.device, head.seq, &head.blob_id));
        self.another_has_all_of(heads, item(sender, *seq, blob_id), |_| true)
    }

    /// Whether these rows were asked for to shrink; goes on with them.
    pub(super) fn shrinking_scanned(&mut self, id: ScanId, rows: &[Row]) -> bool {
        let Some(UnderWay { step, .. }) = self.shrinking.under_way.take_if(|it| it.scan == id) else { return false };
        match step {
            Step::Surveying(survey) => self.survey(survey, rows),
            Step::Shedding => self.shed_rows(rows),
            Step::Unindexing(heads) => self.unindex_rows(heads, rows),
        }
        if !self.shrinking.is_under_way() {
            self.event(Event::StatusChanged);
        }
        true
    }

    fn survey(&mut self, mut survey: Box<Survey>, rows: &[Row]) {
        let wanted = survey.snapshot.row.blob_id;
        if self.fit_to_stand_on().is_none_or(|snapshot| snapshot.row.blob_id != wanted) {
            // Something has come in between.
            return;
        }
        let outcome = match rows.last() {
            Some(last) => {
                let from = behind(last);
                rows.iter().try_for_each(|row| survey.take(row.clone())).map(|()| {
                    self.shrink_on(from, Step::Surveying(survey));
                })
            }
            None => self.stand_on(*survey),
        };
        if outcome.is_err() {
            self.shrinking.unfit = Some(wanted);
        }
    }

    /// All of the mirror was read: the snapshot becomes the base.
    fn stand_on(&mut self, survey: Survey) -> Result<(), Unfit> {
        let places = survey.places()?;
        let (Some(&first), Some(&last)) = (places.first(), places.last()) else { return Err(Unfit) };
        if self.progress.processed < survey.others_position {
            self.shrinking.awaited = survey.others_position;
            return Ok(());
        }
        let mut moved: BTreeMap<Place, Record> = BTreeMap::new();
        for (place, record) in places.into_iter().zip(survey.found.into_values()) {
            let for_app = if place == last { ForApp::Batch { first } } else { ForApp::Nothing };
            moved.insert(place, Record { place, for_app, ..record });
        }
        let rows = survey.window.into_iter().chain(survey.holding).map(|row| (row.key, row.records));
        let rows: BTreeMap<Vec<u8>, Records> = rows.collect();
        for (key, records) in rows {
            let stays = |record: &Record| matches!(fate(&survey.snapshot, &survey.keyring, record), Fate::Stays);
            let records = records.filter_map(Result::ok);
            let kept = records.filter_map(|record| moved.remove(&record.place).or(Some(record).filter(stays)));
            self.write_again(key, kept.collect());
        }
        let Snapshot { mut row, manifest } = survey.snapshot;
        (row.position, row.ordinal) = (first.position, first.ordinal);
        for kind in [hot::SNAPSHOT, hot::BASE] {
            self.effects.put(hot_key(kind, &[]), wire::encode(&row));
        }
        let snapshot = Snapshot { row, manifest };
        (self.snapshot, self.base) = (Some(snapshot.clone()), Some(snapshot));
        (self.progress.base_position, self.progress.base_news) = (last.position, survey.others_position);
        self.progress_changed = true;
        for at in self.relays.all() {
            // The snapshot stands elsewhere in the mirror now.
            self.relays[at].row.set_whole_to(Place::default());
            self.stand_on_base(at);
        }
        self.shed();
        Ok(())
    }

    /// Puts what is kept of a segment in its place.
    fn write_again(&mut self, key: Vec<u8>, kept: Vec<Record>) {
        let mut segment = MirrorWriter::default();
        kept.iter().for_each(|record| segment.append(record));
        self.effects.delete(key);
        for Row { key, value } in segment.take() {
            self.effects.put(key, value);
        }
    }

    /// Whether the app has got as far as what stands for the rest. A snapshot that is still compared
    /// may be among that.
    fn may_shed(&self) -> bool {
        let Some(base) = &self.base else { return false };
        let read = self.progress.processed >= self.progress.base_news.max(self.progress.reset_position);
        let compared = |it: &Candidate| !base.manifest.covers(&it.snapshot.row.sender, it.snapshot.row.seq);
        read && self.bootstrap.is_none() && self.candidates.iter().all(compared)
    }

    /// Behind a snapshot that took the place of everything what it does not hold came again.
    fn read_lower_no_more(&mut self) {
        let position = self.progress.reset_position;
        if position > self.progress.base_position {
            (self.progress.base_position, self.progress.base_news) = (position, position);
            self.progress_changed = true;
        }
    }

    fn shed_rows(&mut self, rows: &[Row]) {
        // What was read is behind the commit of what stands for it.
        self.shrinking.stands_at = self.progress.base_position;
        let Some(base) = self.base.clone().filter(|_| self.may_shed()) else { return };
        let Some(from) = rows.last().map(behind) else {
            return self.unindex(base.manifest.heads.iter().cloned().collect());
        };
        for row in rows {
            let Ok(records) = Records::of(row.clone()).collect::<Result<Vec<_>, _>>() else { continue };
            let count = records.len();
            let stays = |record: &Record| !matches!(fate(&base, &self.keyring, record), Fate::Goes { .. });
            let kept: Vec<Record> = records.into_iter().filter(stays).collect();
            if kept.len() < count {
                self.write_again(row.key.clone(), kept);
            }
        }
        self.shrink_on(from, Step::Shedding);
    }

    /// Reads the next of what the index has of these chains; ends if there are none.
    fn unindex(&mut self, heads: Vec<Head>) {
        let Some(head) = heads.last() else {
            self.shrinking.sheds = false;
            return self.effects.delete(hot_key(hot::SHEDDING, &[]));
        };
        let range = rows::index_keys_up_to(&head.device, head.seq);
        let scan = self.scan(range, UNINDEX_BYTES);
        self.shrinking.under_way = Some(UnderWay { scan, step: Step::Unindexing(heads) });
    }

    fn unindex_rows(&mut self, mut heads: Vec<Head>, rows: &[Row]) {
        if rows.is_empty() {
            heads.pop();
        }
        rows.iter().for_each(|row| self.effects.delete(row.key.clone()));
        self.unindex(heads);
    }
}

fn behind(row: &Row) -> Vec<u8> {
    [row.key.as_slice(), &[0]].concat()
}
