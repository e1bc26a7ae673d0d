//! Putting back what a relay lacks: out of the mirror, in this device's own order, which every
//! device can follow (what an entry needs stands before it).
//!
//! A walk over the mirror begins behind what the relay is known to hold in full (`whole_to`), after
//! a random delay, so that of several devices one does most of it. Each batch is asked for with
//! `Missing`, so nothing is uploaded that is there; it counts once the relay has acknowledged all
//! of it, so an entry goes only when its predecessor is there. The relay's answers are hints, what
//! is read back afterwards is the proof. New pushes wait behind the walk by themselves: the window
//! begins behind what is not there yet.

use std::collections::VecDeque;

use bytes::Bytes;
use litemap::LiteMap;
use rand_core::Rng;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::PushResult;
use zerok_sync_protocol::limits::{ENVELOPE_BYTES_MAX_DEFAULT, MISSING_BLOB_IDS_MAX};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, ClientFrame, EnvelopeHeader};

use super::Engine;
use super::comparing::SCAN_BYTES;
use super::mirror::{self, Place, Record, Records};
use super::outbox::{PUSH_BYTES, PUSH_ENVELOPES};
use super::reading::is_epoch;
use super::rechecking::{Found, RecheckFor};
use super::relay::{IN_FLIGHT_BYTES_MAX, Lacking, RelayAt};
use crate::epoch;
use crate::error::Problem;
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::io::{Now, Row, ScanId};
use crate::seal;

/// A relay that lacks something is given this long, and up to as long again, to get it from
/// whoever wrote it or from another device.
const REPAIR_DELAY_MS: u64 = 1_000;

/// The same where nobody else could: time for what was accepted to be on disk, where the walk reads.
const REPAIR_ALONE_DELAY_MS: u64 = 100;
/// What this device has only a snapshot of, others may have: how long a relay is given between two
/// looks at it …
const GAP_DELAY_MS: u64 = 15_000;
/// … and how often, before what comes behind goes up without it: two minutes.
const GAP_WALKS_MAX: u32 = 8;
/// Something could not be read: how long whoever has it is given to put it back.
const RECHECK_AFTER_MS: u64 = 15_000;
/// An anomaly in a live session is told after this long, unless an incident explains it by then.
pub(super) const SUSPICION_MS: u64 = 30_000;

/// A walk under way.
#[derive(Debug)]
pub(super) struct Repair {
    step: Step,
    /// What was read of the mirror and not asked for yet.
    read: VecDeque<Piece>,
    /// The mirror has been read to its end.
    read_all: bool,
    read_to: Place,
    examined: u64,
    uploaded: u64,
    /// Something waits for what stands before it in its sender's chain, and is not here.
    waits: bool,
}

#[derive(Debug)]
enum Step {
    Waiting {
        until_ms: u64,
    },
    Scanning {
        scan: ScanId,
    },
    Asking {
        batch: Vec<Piece>,
    },
    /// Those of the batch that are missing, from `next` on not sent yet.
    Uploading {
        batch: Vec<Piece>,
        missing: Vec<usize>,
        next: usize,
        answered: usize,
    },
}

/// An entry of the mirror on its way.
#[derive(Debug)]
struct Piece {
    place: Place,
    blob_id: BlobId,
    /// Whose entry, and which; a rotation is in no chain.
    entry: Option<(DeviceId, u64)>,
    /// Where this relay had it, if it did; else 0.
    cursor: u64,
    /// It was read from this relay in this timeline.
    read_there: bool,
    /// The relay says it has it, and has something else or nothing.
    damaged: bool,
    envelope: Bytes,
}

impl Engine {
    /// Begins what is due: looking again where something could not be read, and a walk where a relay
    /// has shown all it has and that is not all there is.
    pub(super) fn plan_repairs(&mut self, now: Now) {
        for at in self.relays.all() {
            let relay = &mut self.relays[at];
            if std::mem::take(&mut relay.recheck_soon) {
                let delay_ms = RECHECK_AFTER_MS / 2 + self.rng.next_u64() % RECHECK_AFTER_MS;
                relay.recheck_at_ms.get_or_insert(now.mono_ms + delay_ms);
            }
            if relay.recheck_at_ms.take_if(|at_ms| now.mono_ms >= *at_ms).is_some() {
                relay.recheck_wanted = Some(RecheckFor::Repair);
                relay.unhealed = false;
                if relay.session.live_ref().is_some() {
                    self.reconnect(now, at);
                    continue;
                }
            }
            let relay = &mut self.relays[at];
            if !relay.caught_up() {
                // What it calls its log now, and what became of it, is said in the next session.
                relay.suspected_ms = None;
            } else if !relay.row.suspicions.is_empty()
                && now.mono_ms >= *relay.suspected_ms.get_or_insert(now.mono_ms) + SUSPICION_MS
            {
                self.judge_suspicions(at);
            }
            if !self.may_repair(at) {
                continue;
            }
            let relay = &mut self.relays[at];
            match &relay.repair {
                None if relay.rechecked.is_some() => {
                    self.relays[at].repair = Some(Repair::new(now.mono_ms, Place::default()));
                    self.walk_on(at);
                }
                None if relay.lacks(&self.chains, self.progress.epoch_blob_id) => {
                    let delay_ms = match self.members.len() {
                        _ if relay.gap_walks > 0 => GAP_DELAY_MS,
                        0 | 1 if self.relays.is_alone() => REPAIR_ALONE_DELAY_MS,
                        _ => REPAIR_DELAY_MS + self.rng.next_u64() % REPAIR_DELAY_MS,
                    };
                    let from = self.relays[at].row.whole_to();
                    self.relays[at].repair = Some(Repair::new(now.mono_ms + delay_ms, from));
                }
                None => {
                    let end = Place { position: self.progress.position, ordinal: self.progress.ordinal };
                    relay.row.set_whole_to(end);
                    relay.row.rebuilding = false;
                    // Shown again, and the answer to what was put back lost with its link.
                    let there_seq = relay.there_seq(&self.me.device()).min(self.progress.sealed_seq);
                    self.acked_up_to(at, there_seq);
                }
                // Somebody else was faster.
                Some(Repair { step: Step::Waiting { .. }, .. })
                    if !relay.lacks(&self.chains, self.progress.epoch_blob_id) =>
                {
                    relay.repair = None;
                    relay.row.rebuilding = false;
                }
                Some(Repair { step: Step::Waiting { until_ms }, .. }) if now.mono_ms >= *until_ms => self.walk_on(at),
                // Once a pause is over that the relay asked for.
                Some(_) => self.upload(now, at),
            }
        }
    }

    /// Whether a relay has shown all it has, and takes pushes.
    pub(super) fn may_repair(&self, at: RelayAt) -> bool {
        self.relays[at].caught_up() && self.is_at_newest_epoch(at) && !self.progress.copied
    }

    /// Reads the next part of the mirror.
    fn walk_on(&mut self, at: RelayAt) {
        let Some(repair) = &self.relays[at].repair else { return };
        let after = repair.read_to;
        let (_, to) = mirror::mirror_range();
        let behind = Place { ordinal: after.ordinal + 1, ..after };
        let scan = self.scan((mirror::segment_key(behind), to), SCAN_BYTES);
        if let Some(repair) = &mut self.relays[at].repair {
            repair.step = Step::Scanning { scan };
        }
    }

    /// Whether these rows were asked for by a walk; goes on with them.
    pub(super) fn repair_scanned(&mut self, now: Now, id: ScanId, rows: &[Row]) -> bool {
        let asked = |repair: &Repair| matches!(repair.step, Step::Scanning { scan } if scan == id);
        let Some(at) = self.relays.all().find(|at| self.relays[*at].repair.as_ref().is_some_and(asked)) else {
            return false;
        };
        let read_to = self.relays[at].repair.as_ref().map_or(Place::default(), |repair| repair.read_to);
        let records = rows.iter().flat_map(|row| Records::of(row.clone())).filter_map(Result::ok);
        let records: Vec<Record> = records.filter(|record| record.place > read_to).collect();
        let last = records.last().map(|record| record.place);
        let pieces: Vec<Piece> = records.into_iter().filter_map(|record| self.piece(at, record)).collect();
        if let Some(repair) = &mut self.relays[at].repair {
            repair.read_to = last.unwrap_or(read_to);
            // Also where rows are damaged: what cannot be read is not read again.
            repair.read_all = last.is_none();
            repair.read.extend(pieces);
        }
        self.ask_missing(now, at);
        true
    }

    fn piece(&self, at: RelayAt, record: Record) -> Option<Piece> {
        let entry = if is_epoch(&record.envelope) {
            self.genesis_author(&record.envelope).map(|founder| (founder, 1))
        } else {
            // It was accepted once; a row that has rotted since is not passed on.
            let opened = seal::open(&self.keyring, &record.envelope).ok()?;
            Some((opened.claims().sender, opened.claims().seq))
        };
        let relay = &self.relays[at];
        let blob_id = blob_id(&record.envelope);
        let given_up = match &entry {
            Some((sender, seq)) => relay.need_not_have(sender, *seq),
            None => relay.need_not_have_epoch(&blob_id),
        };
        if given_up {
            return None;
        }
        let shown = relay.row.shows(record.timeline, record.cursor) && record.cursor >= relay.row.floor;
        let (read_there, damaged) = match &relay.rechecked {
            None => (shown, false),
            Some(found) => {
                let since = shown && record.timeline == relay.row.timeline && record.cursor > found.to_cursor;
                (since || found.sound.contains(&blob_id), found.damaged.contains(&blob_id))
            }
        };
        let cursor = if shown { record.cursor } else { 0 };
        let (place, envelope) = (record.place, record.envelope);
        Some(Piece { place, cursor, blob_id, entry, read_there, damaged, envelope })
    }

    /// Who founded the group, if this is the envelope: it is that device's entry 1.
    pub(super) fn genesis_author(&self, envelope: &[u8]) -> Option<DeviceId> {
        let (header, _) = EnvelopeHeader::parse(envelope).ok()?;
        let keys = self.keyring.get(&header.epoch)?;
        let epoch = epoch::open_epoch(self.keyring.group(), keys, envelope).ok()?;
        epoch.claims().previous_epoch.is_zero().then_some(epoch.claims().sender)
    }

    /// Asks for the next batch, or ends the walk.
    fn ask_missing(&mut self, now: Now, at: RelayAt) {
        let relay = &mut self.relays[at];
        let Some(repair) = &mut relay.repair else { return };
        if repair.read.is_empty() {
            if repair.read_all {
                return self.end_repair(now, at);
            }
            return self.walk_on(at);
        }
        let batch: Vec<Piece> = repair.read.drain(..repair.read.len().min(MISSING_BLOB_IDS_MAX)).collect();
        let ids: Vec<BlobId> = batch.iter().filter(|piece| !piece.read_there).map(|piece| piece.blob_id).collect();
        repair.examined += batch.len() as u64;
        if ids.is_empty() {
            let missing = Vec::new();
            return self.put_back(now, at, batch, missing);
        }
        repair.step = Step::Asking { batch };
        if let Some(open) = relay.session.live() {
            open.send(&ClientFrame::Missing { blob_ids: List::try_from(ids).expect("cut to the limit") });
        }
    }

    /// Which of the batch the relay lacks.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`] when that was not asked, or the answer is too short.
    pub(super) fn on_missing_blobs(&mut self, now: Now, at: RelayAt, bitmap: &[u8]) -> Result<(), Problem> {
        const UNASKED: Problem = Problem::ProtocolViolation("an answer to another question than was asked");
        let Some(repair) = &mut self.relays[at].repair else { return Err(UNASKED) };
        let Step::Asking { batch } = &mut repair.step else { return Err(UNASKED) };
        let batch = std::mem::take(batch);
        let asked: Vec<usize> = (0..batch.len()).filter(|&index| !batch[index].read_there).collect();
        if bitmap.len() != asked.len().div_ceil(8) {
            return Err(UNASKED);
        }
        let is_missing = |&(bit, _): &(usize, &usize)| bitmap[bit / 8] >> (bit % 8) & 1 == 1;
        let missing: Vec<usize> = asked.iter().enumerate().filter(is_missing).map(|(_, &index)| index).collect();
        self.put_back(now, at, batch, missing);
        Ok(())
    }

    /// Puts back what of a batch is missing or damaged; or only says so.
    fn put_back(&mut self, now: Now, at: RelayAt, batch: Vec<Piece>, missing: Vec<usize>) {
        let dry = self.relays[at].rechecked.as_ref().is_some_and(Found::is_dry);
        let is_out = |&index: &usize| missing.binary_search(&index).is_ok() || batch[index].damaged;
        let out: Vec<usize> = (0..batch.len()).filter(is_out).collect();
        if let Some(purpose) = self.relays[at].rechecked.as_ref().map(|found| found.purpose) {
            for piece in out.iter().map(|&index| &batch[index]).filter(|piece| piece.cursor > 0) {
                let (cursor, blob_id) = (piece.cursor, piece.blob_id);
                if !piece.damaged {
                    self.find_in_recheck(at, purpose, IntegrityEvent::Lost { cursor, blob_id: Some(blob_id) });
                    if let Some(found) = &mut self.relays[at].rechecked {
                        found.note_missing(cursor);
                    }
                }
            }
        }
        if dry {
            return self.ask_missing(now, at);
        }
        let all = out.len();
        let out = self.in_their_order(at, &batch, out);
        let waits = out.len() < all;
        if let Some(repair) = &mut self.relays[at].repair {
            repair.waits |= waits;
            repair.step = Step::Uploading { batch, missing: out, next: 0, answered: 0 };
        }
        self.upload(now, at);
    }

    /// What of these may go up: an entry whose predecessor in its chain stands there, or goes up before
    /// it. Who began with a snapshot may have no more than what comes behind a hole.
    fn in_their_order(&self, at: RelayAt, batch: &[Piece], out: Vec<usize>) -> Vec<usize> {
        if self.base.is_none() || self.relays[at].rechecked.is_some() {
            return out;
        }
        let mut there: LiteMap<DeviceId, u64> = LiteMap::new();
        let mut missing = out.into_iter().peekable();
        let mut may_go = Vec::new();
        for (index, piece) in batch.iter().enumerate() {
            let is_missing = missing.next_if_eq(&index).is_some();
            let Some((sender, seq)) = piece.entry else {
                may_go.extend(is_missing.then_some(index));
                continue;
            };
            let last = there.entry(sender).or_insert_with(|| self.relays[at].there_seq(&sender));
            let follows = seq <= self.behind_gap(&sender, *last).0 + 1;
            may_go.extend((is_missing && follows).then_some(index));
            if follows {
                *last = seq.max(*last);
            }
        }
        may_go
    }

    /// Sends what is missing, within what may be unanswered; ends the batch once all is answered.
    pub(super) fn upload(&mut self, now: Now, at: RelayAt) {
        loop {
            let relay = &mut self.relays[at];
            let Some(repair) = &mut relay.repair else { return };
            let Step::Uploading { batch, missing, next, answered } = &mut repair.step else { return };
            if *answered == missing.len() {
                repair.uploaded += missing.len() as u64;
                relay.put_back += missing.len() as u64;
                let batch = std::mem::take(batch);
                self.batch_is_there(at, &batch);
                return self.ask_missing(now, at);
            }
            let Some(open) = relay.session.live() else { return };
            if now.mono_ms < open.push_again_ms || *next == missing.len() {
                return;
            }
            let limits = open.limits.as_ref();
            let envelope_max = limits.map_or(ENVELOPE_BYTES_MAX_DEFAULT, |limits| limits.envelope_bytes_max) as usize;
            let relay_max = limits.map_or(u64::MAX, |limits| limits.push_bytes_in_flight_max);
            let in_flight_max = IN_FLIGHT_BYTES_MAX.min(usize::try_from(relay_max).unwrap_or(usize::MAX)).max(1);
            if !relay.sending.may_send(in_flight_max) {
                return;
            }
            let bytes_max = PUSH_BYTES.min(envelope_max);
            let mut entries = Vec::new();
            let mut bytes = 0;
            while let Some(&index) = missing.get(*next) {
                let piece = &batch[index];
                let full = entries.len() == PUSH_ENVELOPES || bytes + piece.envelope.len() > bytes_max;
                if full && !entries.is_empty() {
                    break;
                }
                bytes += piece.envelope.len();
                let (blob_id, envelope, entry) = (piece.blob_id, piece.envelope.clone(), piece.entry);
                entries.push(Lacking { blob_id, envelope, entry });
                *next += 1;
            }
            let push = relay.sending.put_back(entries);
            let envelopes = List::try_from(push.envelopes).expect("a batch is smaller than the list's limit");
            open.send(&ClientFrame::Push { push: push.push, envelopes, resume: push.resume });
        }
    }

    /// The relay's answer to a part of an upload.
    pub(super) fn on_put_back(&mut self, now: Now, at: RelayAt, results: &[PushResult]) {
        let refused = results.iter().find_map(|result| match result {
            PushResult::Refused { code } => Some(*code),
            PushResult::Stored { .. } => None,
        });
        if let Some(code) = refused {
            // Once it takes pushes again the walk begins again behind the last whole batch.
            self.relays[at].repair = None;
            return self.on_push_refused(now, at, self.relays[at].row.acked_seq + 1, code);
        }
        if let Some(Repair { step: Step::Uploading { answered, .. }, .. }) = &mut self.relays[at].repair {
            *answered += results.len();
        }
        self.upload(now, at);
    }

    /// All of a batch stands at the relay.
    fn batch_is_there(&mut self, at: RelayAt, batch: &[Piece]) {
        let me = self.me.device();
        for piece in batch {
            if is_epoch(&piece.envelope) {
                self.relays[at].epoch_stands_there(piece.blob_id);
            }
            if let Some((sender, seq)) = piece.entry {
                self.relays[at].stands_there(sender, seq);
                if sender == me && seq <= self.relays[at].row.acked_seq + 1 {
                    self.acked_up_to(at, seq);
                }
            }
        }
        let relay = &mut self.relays[at];
        let waits = relay.repair.as_ref().is_some_and(|repair| repair.waits);
        if let Some(last) = batch.last().filter(|last| !waits && last.place > relay.row.whole_to()) {
            relay.row.set_whole_to(last.place);
            relay.changed = true;
        }
        self.tell_repair(at, false);
    }

    fn end_repair(&mut self, now: Now, at: RelayAt) {
        self.tell_repair(at, true);
        let relay = &mut self.relays[at];
        relay.repair = None;
        relay.changed = true;
        match &relay.rechecked {
            None => {
                relay.row.rebuilding = false;
                self.leave_gaps(at);
            }
            Some(found) => {
                relay.row.rebuilding &= found.is_dry();
                self.recheck_done(now, at);
            }
        }
    }

    /// What a snapshot stands for here a relay may get from others. After a while that counts as there.
    fn leave_gaps(&mut self, at: RelayAt) {
        let (chains, epoch) = (&self.chains, self.progress.epoch_blob_id);
        let relay = &mut self.relays[at];
        if self.base.is_none() || !relay.lacks(chains, epoch) {
            relay.gap_walks = 0;
            return;
        }
        relay.gap_walks += 1;
        if relay.gap_walks > GAP_WALKS_MAX {
            relay.gap_walks = 0;
            self.stand_on_base(at);
            // What is there already follows on that, and was not counted before.
            self.relays[at].row.set_whole_to(Place::default());
        }
    }

    fn tell_repair(&mut self, at: RelayAt, done: bool) {
        let Some(repair) = &self.relays[at].repair else { return };
        let relay = self.relays[at].row.url.clone();
        let (examined, uploaded) = (repair.examined, repair.uploaded);
        if uploaded > 0 || done {
            self.event(Event::Repairing { relay, examined, uploaded, done });
        }
    }
}

impl Repair {
    fn new(until_ms: u64, from: Place) -> Self {
        let step = Step::Waiting { until_ms };
        Self { step, read: VecDeque::new(), read_all: false, read_to: from, examined: 0, uploaded: 0, waits: false }
    }

    /// When the walk begins, or goes on after a pause that the relay asked for.
    pub(super) fn deadline_ms(&self, push_again_ms: u64) -> Option<u64> {
        match self.step {
            Step::Waiting { until_ms } => Some(until_ms),
            Step::Uploading { .. } => Some(push_again_ms).filter(|&at_ms| at_ms > 0),
            Step::Scanning { .. } | Step::Asking { .. } => None,
        }
    }
}
