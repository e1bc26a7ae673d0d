//! What a relay did and how it was healed, told to the group: an entry of the kind `INCIDENT`.
//!
//! Whoever was there reports it once; a device that joins later reads history, not alarm: what
//! looks wrong in a timeline that an incident names is not reported again.

use zerok_sync_protocol::id::RelayTag;
use zerok_sync_protocol::{Timeline, wire, wire_struct};

use super::Engine;
use super::relay::RelayAt;
use crate::content::Kind;
use crate::event::IntegrityEvent;
use crate::seal::Authenticated;

/// Anomalies that wait for their explanation; more than these are no accident.
const SUSPICIONS_MAX: usize = 256;
/// Who has what is missing looks as late as who lacks it, or is away for a moment: so often the one
/// that lacks it looks again.
const LOOKS_MAX: u32 = 3;

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

    /// Notes that a timeline has been explained; `false` if it had been.
    fn note_incident(&mut self, timeline: Timeline) -> bool {
        let first = !self.row.incidents.contains(&timeline);
        if first {
            self.row.incidents.push(timeline);
            self.changed = true;
        }
        first
    }
}

impl Engine {
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
        if self.relays[at].suspicions.len() < SUSPICIONS_MAX {
            self.relays[at].suspicions.push(finding);
        } else {
            self.find_once(finding);
        }
    }

    /// No incident explains what was suspected: it is told.
    pub(super) fn judge_suspicions(&mut self, at: RelayAt) {
        let relay = &mut self.relays[at];
        relay.suspected_ms = None;
        let explained = relay.is_explained();
        let suspicions = std::mem::take(&mut relay.suspicions);
        if explained {
            return;
        }
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
        // This device found its way into the new timeline without being told why; was it there?
        let row = &self.relays[at].row;
        let was_there = row.left.iter().find(|left| left.timeline == incident.old).map(|left| left.to_cursor);
        if let Some(from) = was_there.filter(|&from| from > incident.to_cursor) {
            self.find_once(IntegrityEvent::RolledBack { from, to: Some(incident.to_cursor) });
        }
    }
}
