//! A relay's log that is not the one this device read: how far do the two agree?
//!
//! After a rollback the relay may even have grown past the old head, so blob ids are compared, not
//! numbers: first at the reading position; if that is gone, at ever closer cursors out of the
//! mirror ([`Samples`]), with `Probe`, down to the last one in common. From there on the log is
//! read as another timeline; what it lacks is put back by [`super::repairing`].
//!
//! Whether somebody is to be told: a relay that was restored and *says so* has another timeline
//! already, and nothing is said. One that still claims the old timeline is caught; it is given a
//! new one, and an [`super::incident`] entry tells the devices that come later.

use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::limits::PROBE_CURSORS_MAX;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, ClientFrame, Timeline};

use super::incident::is_of_timeline;
use super::mirror::{Place, Records};
use super::relay::RelayAt;
use super::rows::{CaughtRow, CreationRow, PastRow, remember};
use super::{Engine, mirror};
use crate::error::Problem;
use crate::event::Event;
use crate::io::{Now, Row, ScanId};
use crate::observed::FoldHash;

/// Cursors that are compared in one pass over the mirror; a longer log takes a second pass.
const SAMPLES_MAX: usize = 65_536;
/// Bytes of the mirror read at a time.
pub(super) const SCAN_BYTES: usize = 1024 * 1024;

/// A place in a relay's log that this device can name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anchor {
    pub(super) cursor: u64,
    pub(super) blob_id: BlobId,
    pub(super) observed: FoldHash,
}

impl Anchor {
    /// Before the first cursor.
    pub(super) fn start() -> Self {
        Self { cursor: 0, blob_id: BlobId::ZERO, observed: FoldHash::start() }
    }
}

/// A comparison under way.
#[derive(Debug)]
pub(super) struct Comparison {
    /// The relay said itself that its log is another one.
    declared: bool,
    /// What it calls its log now.
    timeline: Timeline,
    /// The common part ends here or later …
    agreed: Anchor,
    /// … and before this cursor.
    differs_at: u64,
    /// Every place was asked for: what agrees is all there is, and not only where it was looked at.
    exact: bool,
    samples: Samples,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// The reading position itself is asked for.
    AskingPosition,
    /// The mirror is read for places between `agreed` and `differs_at`.
    Collecting { scan: ScanId },
    /// These indices of the samples are asked for.
    Asking { first: usize, stride: usize, count: usize },
    /// `NewTimeline` is out.
    Renewing,
    /// The current epoch's envelope is looked for, to make the log again.
    Recreating { scan: ScanId },
}

/// Places in cursor order, thinned evenly when there are more than fit.
#[derive(Debug, Default)]
struct Samples {
    places: Vec<Anchor>,
    /// Of how many places one is kept, and how many were left out since.
    keep_every: usize,
    left_out: usize,
}

impl Comparison {
    /// Whether every cursor up to the last one in common was compared, from where the log begins. What was read from another relay
    /// first stands in the mirror with its place there.
    fn compared_all(&self, beginning: u64) -> bool {
        let agreed = self.agreed.cursor;
        let up_to = |cursor| self.samples.places.partition_point(|place| place.cursor <= cursor);
        self.exact && agreed >= beginning && (up_to(agreed) - up_to(beginning)) as u64 == agreed - beginning
    }
}

impl Samples {
    fn add(&mut self, place: Anchor) {
        // What was held for an earlier entry stands out of order.
        if self.places.last().is_some_and(|last| last.cursor >= place.cursor) {
            return;
        }
        self.keep_every = self.keep_every.max(1);
        self.left_out += 1;
        if self.left_out < self.keep_every {
            return;
        }
        self.left_out = 0;
        self.places.push(place);
        if self.places.len() == SAMPLES_MAX {
            let mut index = 0;
            self.places.retain(|_| {
                index += 1;
                index % 2 == 0
            });
            self.keep_every *= 2;
        }
    }
}

impl Engine {
    /// The relay's history is not the one this device read. Nothing is read or pushed there until
    /// it is known what they have in common.
    pub(super) fn compare(&mut self, at: RelayAt) {
        let relay = &mut self.relays[at];
        let row = &relay.row;
        let Some(open) = relay.session.live() else { return };
        let Some(log) = open.log.clone() else { return };
        open.compared = true;
        let (cursor, known) = (row.cursor, row.timeline);
        let mut comparison = Comparison {
            declared: log.timeline != known,
            timeline: log.timeline,
            agreed: Anchor::start(),
            differs_at: cursor.max(1),
            exact: true,
            samples: Samples::default(),
            step: Step::AskingPosition,
        };
        if comparison.declared {
            // What was put back may stand in another order, and yet end as it did.
            comparison.differs_at = cursor.min(log.head) + 1;
            comparison.step = Step::Collecting { scan: ScanId(0) };
        } else if log.head >= cursor && cursor > 0 {
            open.send(&ClientFrame::Probe { cursors: List::try_from(vec![cursor]).expect("one fits") });
        } else {
            comparison.differs_at = comparison.differs_at.min(log.head.saturating_add(1));
            comparison.step = Step::Collecting { scan: ScanId(0) };
        }
        relay.comparison = Some(comparison);
        self.collect_from(at, None);
    }

    /// Reads the next part of the mirror, if places are being collected.
    fn collect_from(&mut self, at: RelayAt, after: Option<Vec<u8>>) {
        let collects = |it: &Comparison| matches!(it.step, Step::Collecting { .. } | Step::Recreating { .. });
        if !self.relays[at].comparison.as_ref().is_some_and(collects) {
            return;
        }
        let (from, to) = mirror::mirror_range();
        let next = self.scan((after.unwrap_or(from), to), SCAN_BYTES);
        let step = self.relays[at].comparison.as_mut().map(|it| &mut it.step);
        if let Some(Step::Collecting { scan } | Step::Recreating { scan }) = step {
            *scan = next;
        }
    }

    /// Whether these rows were asked for to compare; goes on with them.
    pub(super) fn comparison_scanned(&mut self, now: Now, id: ScanId, rows: &[Row]) -> bool {
        let asked = |comparison: &Comparison| matches!(comparison.step, Step::Collecting { scan } | Step::Recreating { scan } if scan == id);
        let Some(at) = self.relays.all().find(|at| self.relays[*at].comparison.as_ref().is_some_and(asked)) else {
            return false;
        };
        let last = rows.last().map(|row| [row.key.as_slice(), &[0]].concat());
        let (epoch, relay) = (self.progress.epoch_blob_id, &mut self.relays[at]);
        let beginning = relay.beginning();
        let Some(comparison) = &mut relay.comparison else { return true };
        // The place from which on the log is there for this device may be in no mirror.
        let (agreed, differs_at) = (comparison.agreed.cursor, comparison.differs_at);
        if comparison.samples.places.is_empty() && agreed < beginning.cursor && beginning.cursor < differs_at {
            comparison.samples.add(beginning);
        }
        let records = rows.iter().flat_map(|row| Records::of(row.clone())).filter_map(Result::ok);
        if matches!(comparison.step, Step::Recreating { .. }) {
            let envelope = records.map(|record| record.envelope).find(|envelope| blob_id(envelope) == epoch);
            return match (envelope, last) {
                (Some(epoch_envelope), _) => {
                    relay.comparison = None;
                    relay.row.creation = Some(CreationRow { epoch_envelope, token: relay.row.token.clone() });
                    relay.changed = true;
                    self.say_hello(at);
                    true
                }
                (None, Some(after)) => {
                    self.collect_from(at, Some(after));
                    true
                }
                // A member that was let in and has read nothing yet has nothing to put back.
                (None, None) => {
                    relay.comparison = None;
                    self.refused(now, at, Problem::LogGone);
                    true
                }
            };
        }
        for record in records {
            let served = record.cursor + 1 >= relay.row.floor;
            let between = served && record.cursor > comparison.agreed.cursor && record.cursor < comparison.differs_at;
            if between && relay.row.shows(record.timeline, record.cursor) {
                let blob_id = blob_id(&record.envelope);
                comparison.samples.add(Anchor { cursor: record.cursor, blob_id, observed: record.observed });
            }
        }
        match last {
            Some(after) => self.collect_from(at, Some(after)),
            None => self.ask_samples(now, at),
        }
        true
    }

    /// Asks for evenly spaced samples, or ends with the last one in common.
    fn ask_samples(&mut self, now: Now, at: RelayAt) {
        let relay = &mut self.relays[at];
        let Some(comparison) = &mut relay.comparison else { return };
        let agreed = comparison.agreed.cursor;
        let places = &comparison.samples.places;
        let first = places.partition_point(|place| place.cursor <= agreed);
        let end = places.partition_point(|place| place.cursor < comparison.differs_at);
        if first == end {
            if comparison.samples.keep_every > 1 {
                // Between two samples there are places that were left out.
                comparison.samples = Samples::default();
                comparison.step = Step::Collecting { scan: ScanId(0) };
                return self.collect_from(at, None);
            }
            return self.compared(now, at);
        }
        let stride = (end - first).div_ceil(PROBE_CURSORS_MAX);
        comparison.exact &= stride == 1 && comparison.samples.keep_every == 1;
        let cursors: Vec<u64> = places[first..end].iter().step_by(stride).map(|place| place.cursor).collect();
        comparison.step = Step::Asking { first, stride, count: cursors.len() };
        let cursors = List::try_from(cursors).expect("cut to the limit");
        if let Some(open) = relay.session.live() {
            open.send(&ClientFrame::Probe { cursors });
        }
    }

    /// The relay's blob ids at the cursors asked for.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`] when nothing or something else was asked.
    pub(super) fn on_probed(&mut self, now: Now, at: RelayAt, blob_ids: &[Option<BlobId>]) -> Result<(), Problem> {
        const UNASKED: Problem = Problem::ProtocolViolation("an answer to no probe");
        let relay = &mut self.relays[at];
        let Some(comparison) = &mut relay.comparison else { return Err(UNASKED) };
        match (&comparison.step, blob_ids) {
            (Step::AskingPosition, [blob_id]) => {
                let row = &relay.row;
                if *blob_id == Some(row.blob_id_at_cursor) {
                    let (cursor, blob_id, observed) = (row.cursor, row.blob_id_at_cursor, row.observed);
                    comparison.agreed = Anchor { cursor, blob_id, observed };
                    self.compared(now, at);
                } else {
                    comparison.step = Step::Collecting { scan: ScanId(0) };
                    self.collect_from(at, None);
                }
            }
            (&Step::Asking { first, stride, count }, blob_ids) if blob_ids.len() == count => {
                let asked = comparison.samples.places[first..].iter().step_by(stride);
                for (place, blob_id) in asked.zip(blob_ids) {
                    if *blob_id == Some(place.blob_id) {
                        comparison.agreed = *place;
                    } else {
                        comparison.differs_at = place.cursor;
                        break;
                    }
                }
                self.ask_samples(now, at);
            }
            _ => return Err(UNASKED),
        }
        Ok(())
    }

    /// The relay changed the order of what was read there. Devices that read it before and after agree
    /// no more on any order behind that, so orders begin anew, in a timeline that is read from where the
    /// log begins.
    pub(super) fn leave_order(&mut self, at: RelayAt) {
        let relay = &mut self.relays[at];
        let (old, agreed, cursor) = (relay.row.timeline, relay.beginning(), relay.row.cursor);
        relay.leave_order = false;
        let Some(open) = relay.session.live() else { return };
        open.compared = true;
        open.send(&ClientFrame::NewTimeline { old });
        relay.comparison = Some(Comparison {
            declared: false,
            timeline: old,
            agreed,
            differs_at: agreed.cursor + 1,
            exact: true,
            samples: Samples::default(),
            step: Step::Renewing,
        });
        relay.row.caught = Some(CaughtRow { old, from_cursor: cursor, to_cursor: agreed.cursor });
        // What happened in it is told already.
        relay.note_told(old);
        relay.changed = true;
    }

    /// The last common cursor is known.
    fn compared(&mut self, now: Now, at: RelayAt) {
        let relay = &mut self.relays[at];
        let Some(comparison) = &mut relay.comparison else { return };
        let (from, to) = (relay.row.cursor, comparison.agreed.cursor);
        if comparison.declared {
            let timeline = comparison.timeline;
            return self.adopt(at, timeline);
        }
        if to == from {
            // Nothing that was read is gone: it refused for something that has passed.
            return self.lose(now, at, None, 0);
        }
        comparison.step = Step::Renewing;
        let old = comparison.timeline;
        // Kept until the group was told: in the next session the relay may call its log something else.
        relay.row.caught = Some(CaughtRow { old, from_cursor: from, to_cursor: to });
        relay.changed = true;
        if let Some(open) = relay.session.live() {
            open.send(&ClientFrame::NewTimeline { old });
        }
        self.rolled_back(at, old, from, to);
    }

    /// The relay has begun another timeline, for this device or for one that asked a moment before.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`] when it was not asked to.
    pub(super) fn on_timeline_changed(&mut self, at: RelayAt, timeline: Timeline) -> Result<(), Problem> {
        if !matches!(self.relays[at].comparison, Some(Comparison { step: Step::Renewing, .. })) {
            return Err(Problem::ProtocolViolation("a timeline that was not asked for"));
        }
        self.adopt(at, timeline);
        Ok(())
    }

    /// Reads on from the last common cursor, in the timeline that begins there.
    fn adopt(&mut self, at: RelayAt, timeline: Timeline) {
        let relay = &mut self.relays[at];
        let Some(mut comparison) = relay.comparison.take() else { return };
        if !comparison.compared_all(relay.beginning().cursor) {
            // Between two places that agree others may have changed theirs.
            comparison.agreed.observed = FoldHash::ZERO;
            relay.row.observed = FoldHash::ZERO;
        }
        relay.begin_timeline(timeline, comparison.agreed, comparison.declared);
        self.stand_on_base(at);
        self.stand_on_covered(at);
        self.tell_of_what_was_caught(at);
        self.subscribe(at);
        self.event(Event::StatusChanged);
    }

    /// The relay does not know the log this device has read there: it was wiped. Any member makes it
    /// again under the current name; `false` if there is nothing to make it of.
    pub(super) fn recreate(&mut self, at: RelayAt) -> bool {
        let nothing_accepted = self.progress.epoch_blob_id.is_zero();
        let relay = &mut self.relays[at];
        let live = relay.session.live_ref().is_some();
        let nothing_read = relay.row.cursor == 0 && nothing_accepted;
        if live || nothing_read || relay.row.creation.is_some() || relay.comparison.is_some() {
            return false;
        }
        relay.comparison = Some(Comparison {
            declared: true,
            timeline: Timeline::ZERO,
            agreed: Anchor::start(),
            differs_at: 1,
            exact: true,
            samples: Samples::default(),
            step: Step::Recreating { scan: ScanId(0) },
        });
        self.collect_from(at, None);
        true
    }
}

impl super::relay::Relay {
    /// Whether its log was broken off once: what it shows need not stand in the order of its writing.
    pub(super) fn was_broken_off(&self) -> bool {
        !(self.row.past.is_empty() && self.row.left.is_empty())
    }

    /// From `agreed` on, everything is to be read and put back anew.
    pub(super) fn begin_timeline(&mut self, timeline: Timeline, agreed: Anchor, declared: bool) {
        let row = &mut self.row;
        // What was acknowledged may be gone without having been read.
        let lost = agreed.cursor < row.cursor || agreed.cursor == 0;
        // Behind the place in common everything is read anew.
        row.damaged.take_if(|damaged| damaged.after >= agreed.cursor);
        if let Some(damaged) = &mut row.damaged {
            damaged.to_cursor = damaged.to_cursor.min(agreed.cursor);
        }
        // Of another log nobody has said what stands for it.
        row.covered.take_if(|covered| covered.cursor > agreed.cursor);
        row.claimed.take_if(|claimed| claimed.cursor > agreed.cursor);
        row.jumped_to = row.jumped_to.min(agreed.cursor);
        for past in &mut row.past {
            past.to_cursor = past.to_cursor.min(agreed.cursor);
        }
        row.past.retain(|past| past.to_cursor > 0);
        if agreed.cursor > 0 {
            let past = PastRow { timeline: row.timeline, to_cursor: agreed.cursor };
            remember(&mut row.past, past, |_| false);
        }
        if declared && lost {
            // Somebody may tell later what happened to it, or has told already.
            let left = PastRow { timeline: row.timeline, to_cursor: row.cursor };
            remember(&mut row.left, left, |_| false);
        }
        (self.leave_order, self.stays) = (false, false);
        row.timeline = timeline;
        row.excused = true;
        row.observed_said = row.observed_said.min(agreed.cursor);
        if lost {
            row.cursor = agreed.cursor;
            row.blob_id_at_cursor = agreed.blob_id;
            row.observed = agreed.observed;
            row.acked_seq = 0;
            // Also what was acknowledged and is in no mirror yet.
            self.sending.next_seq = 1;
            row.read.clear();
            row.epochs_there.clear();
            row.set_whole_to(Place::default());
            row.rebuilding = true;
        }
        // Orders of the one before are compared no more: what became of it is told, or was declared.
        row.suspicions.retain(|finding| !is_of_timeline(finding));
        self.changed = true;
        self.forget_what_was_shown();
    }
}
