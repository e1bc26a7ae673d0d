//! Going on from a snapshot: a device that was away for longer than a relay's log reaches back.
//!
//! The log is read from its floor once, for the newest snapshot that stands for what is gone. It is
//! proven by its author's signature and by the control archive, replayed upon what this device has
//! itself. If this device has all of it from another relay, it only reads on behind it. Otherwise the
//! snapshot is taken over as a joining device does ([`super::bootstrap`]), in one transaction: it
//! becomes the app's newest entry and replaces the app's state; what this device has and the snapshot
//! has not comes again behind it; the own chain and the outbox go on. Nothing is stored before, so a
//! crash or a lost link begins again.
//!
//! Where nothing stands for what is gone, that is told, and the floor asked back.
//!
//! What only a snapshot still stands for may also be gone where the floor says nothing of it: a relay
//! that lost everything is given the snapshot, and not what every device has given up. Who lacks that,
//! and was brought it by nobody, goes the same way, and reads the log from its beginning.

use std::collections::BTreeSet;

use litemap::LiteMap;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, ClientFrame};

use super::Engine;
use super::bootstrap::Bootstrap;
use super::comparing::{Anchor, SCAN_BYTES};
use super::connection::CREDIT_BYTES;
use super::mirror::{self, ForApp, Place, Record, Records};
use super::relay::RelayAt;
use super::rows::HeldRow;
use super::searching::Choice;
use crate::content::Kind;
use crate::error::Problem;
use crate::event::Event;
use crate::id::DeviceId;
use crate::io::{Now, Row, ScanId};
use crate::observed::FoldHash;
use crate::one_by_one::few_of;
use crate::seal;
use crate::snapshot::Manifest;

/// What comes again behind a snapshot is in memory at once: what one relay had more than another for
/// a while, not a log.
const AGAIN_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The search at one relay.
#[derive(Debug)]
pub(super) struct Reset {
    pub(super) step: Step,
    /// The log has a gap, and any snapshot in it is looked for that has more than this device.
    pub(super) gap: bool,
}

#[derive(Debug)]
pub(super) enum Step {
    /// What stands right below the floor is asked for.
    Asking { floor: u64 },
    /// The log is read from there.
    Searching { below: Anchor, cursor: u64, best: Option<Choice> },
    /// All of it was read, up to `head`; what stands where the one that was found ends is asked for.
    Placing { below: Anchor, head: u64, choice: Choice },
    /// Another relay may still bring what the snapshot stands for.
    Chosen { below: Anchor, choice: Choice },
    /// Its parts are read.
    Taking,
    /// Nothing stands for what is gone: the floor is asked back.
    TakingBack { below: Anchor },
}

/// What this device has and a snapshot has not, on its way out of the mirror.
#[derive(Debug)]
pub(super) struct Again {
    scan: ScanId,
    pub(super) entries: Vec<(DeviceId, Record)>,
    bytes: usize,
    /// Read up to this ordinal.
    ordinal: u64,
    from: Vec<u8>,
}

impl Engine {
    /// The log begins behind where this device stands: looks for a snapshot in it.
    pub(super) fn begin_reset(&mut self, at: RelayAt) {
        let relay = &mut self.relays[at];
        let floor = relay.row.floor;
        let gap = std::mem::take(&mut relay.gap_wanted);
        if gap && floor == 1 {
            let below = Anchor::start();
            relay.reset = Some(Reset { step: Step::Searching { below, cursor: below.cursor, best: None }, gap });
            return self.read_from(at, below);
        }
        relay.reset = Some(Reset { step: Step::Asking { floor }, gap });
        let cursors = List::try_from(vec![floor - 1]).expect("one fits");
        if let Some(open) = relay.session.live() {
            open.send(&ClientFrame::Probe { cursors });
        }
    }

    /// Whether a relay's log begins behind where this device stands.
    pub(super) fn is_below_floor(&self, at: RelayAt) -> bool {
        let row = &self.relays[at].row;
        row.floor > row.cursor + 1
    }

    /// A relay that has shown all it has, and in that a snapshot that stands for an entry which this
    /// device lacks.
    pub(super) fn relay_with_snapshot_for(&self, device: &DeviceId, seq: u64) -> Option<RelayAt> {
        let compared = self.candidates.iter().any(|it| it.snapshot.manifest.covers(device, seq));
        let any = self.relays.all().filter(|_| compared);
        let held = self.held_snapshots_for(device, seq).filter_map(|row| self.relays.by_tag(row.relay));
        held.chain(any).find(|at| self.relays[*at].caught_up())
    }

    /// Whether a snapshot stands for an entry, as far as this device has heard of any.
    pub(super) fn is_stood_for(&self, device: &DeviceId, seq: u64) -> bool {
        self.snapshot.as_ref().is_some_and(|snapshot| snapshot.manifest.covers(device, seq))
            || self.candidates.iter().any(|it| it.snapshot.manifest.covers(device, seq))
            || self.held_snapshots_for(device, seq).next().is_some()
    }

    fn held_snapshots_for(&self, device: &DeviceId, seq: u64) -> impl Iterator<Item = &HeldRow> {
        self.held.values().filter(move |row| {
            let entry = seal::open(&self.keyring, &row.envelope);
            let claims = entry.as_ref().map(seal::Decrypted::claims);
            claims.is_ok_and(|claims| claims.kind == Kind::SNAPSHOT && covers(&claims.body, device, seq))
        })
    }

    /// Nobody has brought what is missing: the log is searched for the snapshot that stands for it, in
    /// a session in which nothing else was asked for.
    pub(super) fn fill_gap(&mut self, now: Now, at: RelayAt) {
        self.relays[at].gap_wanted = true;
        self.reconnect(now, at);
    }

    /// What stands below the floor, if it was asked for.
    pub(super) fn reset_probed(&mut self, now: Now, at: RelayAt, blob_ids: &[Option<BlobId>]) -> bool {
        let relay = &mut self.relays[at];
        let placing = |it: &mut Reset| matches!(it.step, Step::Placing { .. });
        if let Some(Reset { step: Step::Placing { below, head, choice }, .. }) = relay.reset.take_if(placing) {
            self.placed(at, below, head, choice, blob_ids.first().copied().flatten());
            return true;
        }
        let Some(Reset { step: Step::Asking { floor }, gap }) = relay.reset else { return false };
        let &[Some(blob_id)] = blob_ids else {
            // It moved again in between.
            self.lose(now, at, None, 0);
            return true;
        };
        let below = Anchor { cursor: floor - 1, blob_id, observed: FoldHash::ZERO };
        relay.reset = Some(Reset { step: Step::Searching { below, cursor: below.cursor, best: None }, gap });
        self.read_from(at, below);
        true
    }

    /// Reads the log from there to its end, once.
    pub(super) fn read_from(&mut self, at: RelayAt, after: Anchor) {
        let relay = &mut self.relays[at];
        let (after, blob_id_at_after) = (after.cursor, after.blob_id);
        let (timeline, credit) = (relay.row.timeline, CREDIT_BYTES);
        let subscribe = ClientFrame::Subscribe { timeline, after, blob_id_at_after, credit, follow: false };
        if let Some(open) = relay.session.live() {
            open.send(&subscribe);
        }
    }

    /// The floor that was asked back, if it was for this: it is low enough now, or what is gone is gone
    /// and reading goes on behind it.
    pub(super) fn floor_reset_answered(&mut self, at: RelayAt) -> bool {
        let Some(Reset { step: Step::TakingBack { below }, .. }) = self.relays[at].reset else { return false };
        self.relays[at].reset = None;
        if self.is_below_floor(at) {
            self.jump_to(at, below);
        }
        self.subscribe(at);
        true
    }

    /// Goes on from what was found, once no other relay may make that needless.
    pub(super) fn pump_resets(&mut self, now: Now) {
        for at in self.relays.all() {
            let Some(Reset { step: Step::Chosen { .. }, .. }) = &self.relays[at].reset else { continue };
            let elsewhere = |other: &RelayAt| *other != at && self.relays[*other].reset.is_none();
            let under_way = |other: RelayAt| self.relays[other].session.is_under_way();
            let waits = self.relays.all().filter(elsewhere).any(under_way);
            if self.bootstrap.is_some() || self.compaction.is_some() || !self.lookups.is_empty() {
                continue;
            }
            let Some(Reset { step: Step::Chosen { below, choice }, gap }) = self.relays[at].reset.take() else {
                continue;
            };
            if gap && self.has_all_that(&choice.manifest) {
                self.subscribe(at);
            } else if self.has_all_that(&choice.manifest) {
                self.read_on_behind(at, &choice);
            } else if waits {
                self.relays[at].reset = Some(Reset { step: Step::Chosen { below, choice }, gap });
            } else if self.contradicts_own(&choice.manifest) {
                self.refuse_choice(now, at, &choice.wanted);
            } else {
                let keyring = self.keyring_to_search(at);
                self.bootstrap = Some(Bootstrap::in_place(at, choice, below, keyring));
                self.relays[at].reset = Some(Reset { step: Step::Taking, gap });
                self.read_from(at, below);
            }
        }
    }

    /// Whether this device has everything that a snapshot stands for.
    pub(super) fn has_all_that(&self, manifest: &Manifest) -> bool {
        let here = |head: &crate::snapshot::Head| {
            self.chains
                .get(&head.device)
                .is_some_and(|it| it.seq > head.seq || (it.seq, it.blob_id) == (head.seq, head.blob_id))
        };
        manifest.heads.iter().all(here) && self.epochs.iter().any(|epoch| epoch.blob_id == manifest.epoch_blob_id)
    }

    /// Whether a snapshot says otherwise of a chain than this device knows.
    fn contradicts_own(&self, manifest: &Manifest) -> bool {
        let other = |head: &crate::snapshot::Head| {
            self.chains.get(&head.device).is_some_and(|it| it.seq == head.seq && it.blob_id != head.blob_id)
        };
        manifest.heads.iter().any(other)
    }

    /// What is gone here came from another relay: reading goes on behind it.
    fn read_on_behind(&mut self, at: RelayAt, choice: &Choice) {
        self.jump_to(at, choice.end);
        for head in choice.manifest.heads.iter() {
            self.relays[at].is_there_up_to(head.device, head.seq);
        }
        self.claim(at, choice.end, &choice.manifest, &choice.wanted);
        self.stand_on_covered(at);
        self.subscribe(at);
    }

    /// Reading goes on behind a place that this device did not read up to.
    pub(super) fn jump_to(&mut self, at: RelayAt, to: Anchor) {
        let relay = &mut self.relays[at];
        (relay.row.cursor, relay.row.blob_id_at_cursor, relay.row.observed) = (to.cursor, to.blob_id, to.observed);
        relay.row.jumped_to = to.cursor;
        relay.end_searches();
        relay.row.set_whole_to(Place::default());
        relay.forget_reading();
    }

    /// What this device has and the snapshot has not is read out of the mirror, until nothing came in
    /// between.
    pub(super) fn gather_again(&mut self, from: Vec<u8>, again: Option<Again>) -> Again {
        let (_, to) = mirror::mirror_range();
        let scan = self.scan((from.clone(), to), SCAN_BYTES);
        match again {
            Some(again) => Again { scan, from, ..again },
            None => Again { scan, from, entries: Vec::new(), bytes: 0, ordinal: 0 },
        }
    }

    /// Whether these rows were asked for to come again behind a snapshot; goes on with them.
    pub(super) fn again_scanned(&mut self, now: Now, id: ScanId, rows: &[Row]) -> bool {
        let Some(bootstrap) = &mut self.bootstrap else { return false };
        let Some(mut again) = bootstrap.again.take_if(|again| again.scan == id) else { return false };
        let (at, heads) = (bootstrap.at, bootstrap.heads());
        let from = rows.last().map_or(again.from.clone(), |row| [row.key.as_slice(), &[0]].concat());
        let read_all = rows.is_empty();
        for record in rows.iter().flat_map(|row| Records::of(row.clone())) {
            let Ok(record) = record else {
                self.stop_corrupt("mirror");
                return true;
            };
            again.ordinal = again.ordinal.max(record.place.ordinal);
            let Ok(entry) = seal::open(&self.keyring, &record.envelope) else { continue };
            let (sender, seq, kind) = (entry.claims().sender, entry.claims().seq, entry.claims().kind);
            let for_app = matches!(kind, Kind::APP | Kind::PART | Kind::COMMIT);
            if for_app && heads.get(&sender).is_none_or(|head| seq > *head) {
                again.bytes += record.envelope.len();
                again.entries.push((sender, record));
            }
        }
        let Some(at) = at else { return true };
        if again.bytes > AGAIN_BYTES_MAX {
            self.refused(now, at, Problem::SnapshotUnusable);
        } else if read_all && again.ordinal >= self.progress.ordinal {
            let entries = whole_batches(std::mem::take(&mut again.entries));
            self.take_snapshot(now, at, entries);
        } else {
            let again = self.gather_again(from, Some(again));
            if let Some(bootstrap) = &mut self.bootstrap {
                bootstrap.again = Some(again);
            }
        }
        true
    }

    /// The snapshot has taken the place of what was here.
    pub(super) fn tell_reset(&mut self, position: u64) {
        self.progress.reset_position = position;
        self.progress.reset_seq = self.progress.queued_seq;
        self.shed();
        self.progress_changed = true;
        self.event(Event::Reset { position });
    }
}

/// Whether the body of an entry is that of a snapshot which stands for another entry.
fn covers(body: &[u8], device: &DeviceId, seq: u64) -> bool {
    Manifest::parse(body).is_ok_and(|manifest| manifest.covers(device, seq))
}

/// Where a snapshot ends in each chain.
pub(super) fn heads_of(manifest: &Manifest) -> LiteMap<DeviceId, u64> {
    few_of(manifest.heads.iter().map(|head| (head.device, head.seq)))
}

/// What the app is given again: parts only where their commit follows, each entry once.
fn whole_batches(entries: Vec<(DeviceId, Record)>) -> Vec<(DeviceId, Record)> {
    let mut in_batch: LiteMap<DeviceId, bool> = LiteMap::new();
    let mut seen = BTreeSet::new();
    let mut kept: Vec<_> = Vec::with_capacity(entries.len());
    for (sender, record) in entries.into_iter().rev() {
        let in_batch = in_batch.entry(sender).or_default();
        if record.for_app != ForApp::Nothing {
            *in_batch = matches!(record.for_app, ForApp::Batch { .. });
        }
        if (record.for_app != ForApp::Nothing || *in_batch) && seen.insert(blob_id(&record.envelope)) {
            kept.push((sender, record));
        }
    }
    kept.reverse();
    kept
}
