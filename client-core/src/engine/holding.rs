//! Entries that wait, on disk and bounded, for an earlier one of their sender.
//!
//! Whatever else is missing keeps nobody waiting: only a sender's own next entry can release what is
//! held of it. What there is no room for is left at the relay, and the stretch of its log in which that
//! stands is read again: at once where there is room now, or else in its next session.

use zerok_sync_protocol::{Timeline, wire};

use super::Engine;
use super::accepting::Place;
use super::reading::Placed;
use super::relay::RelayAt;
use super::rows::{self, HeldRow};
use crate::event::IntegrityEvent;
use crate::id::DeviceId;
use crate::seal::Authenticated;

/// Entries that may wait for an earlier one, and their bytes. Beyond it they are left at the relay;
/// the gap is reported either way.
pub(super) const HELD_MAX: usize = 4_096;
const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Where the entry stood that others had waited for.
pub(super) struct Came {
    at: RelayAt,
    timeline: Timeline,
    cursor: u64,
    seq: u64,
}

impl Came {
    pub(super) fn of(placed: &Placed, seq: u64) -> Self {
        Self { at: placed.at, timeline: placed.timeline, cursor: placed.cursor, seq }
    }

    /// A snapshot stands for it: no relay showed it.
    pub(super) fn in_no_timeline(at: RelayAt) -> Self {
        Self { at, timeline: Timeline::ZERO, cursor: 0, seq: 0 }
    }
}

impl Engine {
    /// Keeps an entry until the one before it is here.
    pub(super) fn hold(&mut self, placed: Placed, entry: &Authenticated) {
        let Some(relay) = self.relays[placed.at].tag() else { return };
        let Placed { timeline, cursor, observed, envelope, .. } = placed;
        self.hold_row(entry.sender, entry.seq, HeldRow { relay, timeline, cursor, observed, envelope });
    }

    pub(super) fn hold_row(&mut self, sender: DeviceId, seq: u64, row: HeldRow) {
        if self.held.contains_key(&(sender, seq)) || !self.has_room_to_hold(&sender, row.envelope.len()) {
            return;
        }
        self.held_bytes += row.envelope.len();
        self.effects.put(rows::held_key(&sender, seq), wire::encode(&row));
        self.held.insert((sender, seq), row);
    }

    /// Whether another entry can be held. Whoever has the group's keys can write in the name of devices
    /// that nobody let in: what they wrote goes first.
    fn has_room_to_hold(&mut self, sender: &DeviceId, bytes: usize) -> bool {
        let is_known = |device: &DeviceId| self.members.contains_key(device) || self.removed.contains_key(device);
        let full = |held: usize, held_bytes: usize| held >= HELD_MAX || held_bytes + bytes > HELD_BYTES_MAX;
        if full(self.held.len(), self.held_bytes) && is_known(sender) {
            let strangers: Vec<_> = self.held.keys().filter(|(device, _)| !is_known(device)).copied().collect();
            for key in strangers {
                let Some(row) = self.held.remove(&key) else { continue };
                self.held_bytes -= row.envelope.len();
                self.effects.delete(rows::held_key(&key.0, key.1));
            }
        }
        !full(self.held.len(), self.held_bytes)
    }

    /// Accepts what waited for the entry just stored, which came from there. Only a relay that showed
    /// both, in one timeline, showed them in the wrong order.
    pub(super) fn release_held(&mut self, sender: DeviceId, came: &Came) {
        let next = self.seq_of(&sender) + 1;
        let Ok(run) = self.held_run(&sender, next, HELD_MAX) else { return self.stop_corrupt("held entry") };
        for entry in run {
            let key = (sender, self.seq_of(&sender) + 1);
            let Some(row) = self.held.remove(&key) else { return };
            self.held_bytes -= row.envelope.len();
            self.effects.delete(rows::held_key(&key.0, key.1));
            let Ok(entry) = entry else {
                // Whoever vouched for it then is not here any more.
                return self.find(IntegrityEvent::ForgedByMember { cursor: row.cursor, sender });
            };
            let there = (self.relays.by_tag(row.relay), row.timeline) == (Some(came.at), came.timeline);
            let behind = there && row.cursor < came.cursor && entry.seq > came.seq;
            // What a snapshot stands for may be put back behind what follows it.
            // So may what others gave up.
            if behind && !self.is_stood_for(&sender, came.seq) && !self.is_in_gap(&sender, came.seq) {
                self.suspect(came.at, IntegrityEvent::Reordered { cursor: row.cursor, sender });
            }
            // One that is not on the list any more left what it had shown.
            let at = self.relays.by_tag(row.relay).unwrap_or(self.relays.home());
            let HeldRow { timeline, cursor, observed, envelope, .. } = row;
            let placed = Placed { at, timeline, cursor, observed, blob_id: entry.blob_id(), envelope };
            match self.place_in_chain(&entry) {
                Place::Next => self.store(placed, &entry),
                _ => return self.accept(placed, &entry),
            }
        }
    }
}
