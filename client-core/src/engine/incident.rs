//! What a relay did and how it was healed, told to the group: an entry of the kind `INCIDENT`.
//!
//! Whoever was there reports it once; a device that joins later reads history, not alarm: what
//! looks wrong in a timeline that an incident names is not reported again. Only orders that differ
//! are, always: bytes that were healed and rows that are gone change nobody's order, and a relay whose
//! order was not to be relied on gets another timeline ([`Engine::leave_order`]). So no relay has a
//! free hand to fork because it was caught once.

use zerok_sync_protocol::id::RelayTag;
use zerok_sync_protocol::{Timeline, wire, wire_struct};

use super::Engine;
use super::relay::RelayAt;
use super::rows::{CaughtRow, PastRow, remember};
use crate::content::Kind;
use crate::event::IntegrityEvent;
use crate::io::Now;
use crate::seal::Authenticated;

/// Anomalies that wait for their explanation; more than these are no accident.
const SUSPICIONS_MAX: usize = 256;
/// Who has what is missing looks as late as who lacks it, or is away for a moment: so often the one
/// that lacks it looks again.
pub(super) const LOOKS_MAX: u32 = 3;

wire_struct! {
    /// Body of an incident entry: a relay went back in time, or (`old` is `timeline`) spoiled what it
    /// had.
    pub struct Incident {
        /// Which relay.
        relay: RelayTag,
        /// The history it broke off.
        old: Timeline,
        /// The one that goes on from the last common cursor.
        timeline: Timeline,
        /// Highest cursor the author had read.
        from_cursor: u64,
        /// Highest cursor still in common.
        to_cursor: u64,
    }
}

impl super::relay::Relay {
    /// Whether what looks wrong in the current timeline is history.
    pub(super) fn is_explained(&self) -> bool {
        self.row.incidents.contains(&self.row.timeline)
    }

    /// Whether others were told how the current timeline ended; this device has not followed yet. A relay
    /// that goes by that timeline afterwards has no excuse in it.
    fn is_over(&self) -> bool {
        !self.stays && self.has_heard_of(self.row.timeline)
    }

    /// It says which timeline it has: the one that is said to be over, perhaps.
    pub(super) fn note_timeline_said(&mut self, timeline: Timeline) {
        self.stays = timeline == self.row.timeline && self.has_heard_of(timeline);
        self.ask_timeline = false;
    }

    /// Whether others told how a timeline ended.
    fn has_heard_of(&self, timeline: Timeline) -> bool {
        self.row.heard.iter().any(|heard| heard.timeline == timeline)
    }

    /// Notes that a timeline has been explained; `false` if it had been.
    fn note_incident(&mut self, timeline: Timeline) -> bool {
        let first = !self.row.incidents.contains(&timeline);
        if first {
            let current = self.row.timeline;
            remember(&mut self.row.incidents, timeline, |explained| *explained == current);
            self.changed = true;
        }
        first
    }

    /// Notes that what a relay did in a timeline was told; `false` if it had been.
    pub(super) fn note_told(&mut self, timeline: Timeline) -> bool {
        let first = !self.row.told.contains(&timeline);
        if first {
            remember(&mut self.row.told, timeline, |_| false);
            self.changed = true;
        }
        first
    }
}

impl Engine {
    /// Asks relays which timeline they have now: that is said at the beginning of a session.
    pub(super) fn ask_timelines(&mut self, now: Now) {
        for at in self.relays.all() {
            if self.relays[at].ask_timeline && self.relays[at].session.live_ref().is_some() {
                self.relays[at].ask_timeline = false;
                self.reconnect(now, at);
            }
        }
    }

    /// Queues the entry that tells of a rollback.
    pub(super) fn tell_of_rollback(&mut self, at: RelayAt, old: Timeline, from_cursor: u64, to_cursor: u64) {
        let Some(relay) = self.relays[at].tag() else { return };
        let timeline = self.relays[at].row.timeline;
        let incident = Incident { relay, old, timeline, from_cursor, to_cursor };
        self.queue(Kind::INCIDENT, wire::encode(&incident).into());
    }

    /// Queues the entry that tells of damage in the timeline that is read: what looks wrong there is
    /// history from then on, and whoever has what is missing puts it back.
    pub(super) fn tell_of_damage(&mut self, at: RelayAt) {
        let relay = &mut self.relays[at];
        let (timeline, cursor) = (relay.row.timeline, relay.row.cursor);
        if relay.note_incident(timeline) {
            self.tell_of_rollback(at, timeline, cursor, 0);
        }
    }

    /// Something of this relay's log could not be read: the group is told, and after a while looked
    /// again whether somebody has put it back.
    pub(super) fn ask_for_help(&mut self, at: RelayAt) {
        self.relays[at].recheck_soon = true;
        self.relays[at].looks_left = LOOKS_MAX;
        self.tell_of_damage(at);
    }

    /// An anomaly that may turn out to be history: judged once everything was read.
    pub(super) fn suspect(&mut self, at: RelayAt, finding: IntegrityEvent) {
        let relay = &mut self.relays[at];
        if relay.row.suspicions.len() < SUSPICIONS_MAX {
            // On disk together with the cursor: the next run does not read it again.
            relay.row.suspicions.push(finding);
            relay.changed = true;
        } else {
            self.find_once(finding);
        }
    }

    /// A relay has shown all it has. That others were shown another order there may be what an incident
    /// tells of, and where there are several relays that may be on its way through another: so this
    /// waits like what is suspected later. So does that a snapshot ends where something else stands.
    pub(super) fn judge_at_end(&mut self, at: RelayAt) {
        let several = !self.relays.is_alone();
        let (later, now): (Vec<_>, Vec<_>) = std::mem::take(&mut self.relays[at].row.suspicions)
            .into_iter()
            .partition(|it| several && is_of_timeline(it));
        self.relays[at].row.suspicions = now;
        self.judge_suspicions(at);
        self.relays[at].row.suspicions = later;
    }

    /// No incident explains what was suspected: it is told.
    pub(super) fn judge_suspicions(&mut self, at: RelayAt) {
        let relay = &mut self.relays[at];
        relay.suspected_ms = None;
        let (explained, over) = (relay.is_explained(), relay.is_over());
        let mut suspicions = std::mem::take(&mut relay.row.suspicions);
        relay.changed |= !suspicions.is_empty();
        suspicions.retain(|finding| !over && (!explained || is_of_timeline(finding)));
        let lost = suspicions.iter().any(|finding| matches!(finding, IntegrityEvent::Lost { .. }));
        suspicions.into_iter().for_each(|finding| self.find_once(finding));
        if lost {
            self.ask_for_help(at);
        }
    }

    /// Another device tells what a relay did.
    pub(super) fn on_incident(&mut self, entry: &Authenticated) {
        let Ok(incident) = wire::decode::<Incident>(&entry.body) else { return };
        if entry.sender == self.me.device() {
            return;
        }
        let Some(at) = self.relays.by_tag(incident.relay) else { return };
        let first = self.relays[at].note_incident(incident.timeline);
        if incident.old == incident.timeline {
            if first && incident.timeline == self.relays[at].row.timeline {
                self.relays[at].recheck_soon = true;
                self.relays[at].looks_left = LOOKS_MAX;
            }
            return;
        }
        // Through another relay this device may hear of it before it has found out anything here.
        let relay = &mut self.relays[at];
        // In the next session it says whether it has left that timeline.
        relay.ask_timeline |= incident.old == relay.row.timeline && !relay.has_heard_of(incident.old);
        let heard = PastRow { timeline: incident.old, to_cursor: incident.to_cursor };
        let (current, left) = (relay.row.timeline, &relay.row.left);
        let is_ours =
            |heard: &PastRow| heard.timeline == current || left.iter().any(|left| left.timeline == heard.timeline);
        remember(&mut relay.row.heard, heard, is_ours);
        relay.changed = true;
        self.compare_with_what_was_heard(at);
    }

    /// Tells of what others told of a timeline that this device found its way out of without being
    /// told why, if it had read what was lost.
    pub(super) fn compare_with_what_was_heard(&mut self, at: RelayAt) {
        let row = &self.relays[at].row;
        let was_there = |heard: &PastRow| {
            let left = row.left.iter().find(|left| left.timeline == heard.timeline)?;
            (left.to_cursor > heard.to_cursor).then_some((heard.timeline, left.to_cursor, heard.to_cursor))
        };
        let lost: Vec<_> = row.heard.iter().filter_map(was_there).collect();
        for (old, from, to) in lost {
            self.rolled_back(at, old, from, to);
        }
    }

    /// A relay went back in a timeline: told once, whoever finds it out.
    pub(super) fn rolled_back(&mut self, at: RelayAt, old: Timeline, from: u64, to: u64) {
        let relay = &mut self.relays[at];
        if relay.note_told(old) {
            self.find(IntegrityEvent::RolledBack { from, to: Some(to) });
        }
    }

    /// Queues the entry that tells the group of a rollback, once the timeline behind it has begun.
    pub(super) fn tell_of_what_was_caught(&mut self, at: RelayAt) {
        self.compare_with_what_was_heard(at);
        if let Some(CaughtRow { old, from_cursor, to_cursor }) = self.relays[at].row.caught.take() {
            let timeline = self.relays[at].row.timeline;
            self.relays[at].changed = true;
            self.relays[at].note_incident(timeline);
            self.tell_of_rollback(at, old, from_cursor, to_cursor);
        }
    }
}

/// Whether it is about what stands where in a timeline: no damage explains that, and with the timeline
/// it is over.
pub(super) fn is_of_timeline(finding: &IntegrityEvent) -> bool {
    matches!(finding, IntegrityEvent::Forked { .. } | IntegrityEvent::FalseSnapshot { .. })
}
