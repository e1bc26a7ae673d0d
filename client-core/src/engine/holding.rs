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

/// Entries that may wait for an earlier one, and their bytes. Beyond it they are left at the relay, to
/// be read again; the gap is reported either way.
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

/// Under which condition an entry that waits may count: the later, the longer it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum MayCount {
    /// A removed device wrote it behind its end.
    OnlyIfVouchedFor,
    /// Nobody knows its sender.
    OnceLetIn,
    WithTheOneBefore,
}

impl Engine {
    /// Keeps an entry until the one before it is here.
    pub(super) fn hold(&mut self, placed: Placed, entry: &Authenticated) {
        let Some(relay) = self.relays[placed.at].tag() else { return };
        let Placed { timeline, cursor, observed, envelope, .. } = placed;
        self.hold_row(entry.sender, entry.seq, HeldRow { relay, timeline, cursor, observed, envelope });
    }

    pub(super) fn hold_row(&mut self, sender: DeviceId, seq: u64, row: HeldRow) {
        if self.held.contains_key(&(sender, seq)) {
            return;
        }
        if !self.make_room_to_hold(&sender, seq, row.envelope.len()) {
            return self.leave_at_relay(&sender, seq, &row);
        }
        self.held_bytes += row.envelope.len();
        self.effects.put(rows::held_key(&sender, seq), wire::encode(&row));
        self.held.insert((sender, seq), row);
    }

    /// Takes an entry that waited off the list.
    pub(super) fn take_held(&mut self, sender: DeviceId, seq: u64) -> Option<HeldRow> {
        let row = self.held.remove(&(sender, seq))?;
        self.held_bytes -= row.envelope.len();
        self.effects.delete(rows::held_key(&sender, seq));
        Some(row)
    }

    fn may_count(&self, sender: &DeviceId, seq: u64) -> MayCount {
        if self.counts_only_if_vouched_for(sender, seq) {
            MayCount::OnlyIfVouchedFor
        } else if self.members.contains_key(sender) || self.removed.contains_key(sender) {
            MayCount::WithTheOneBefore
        } else {
            MayCount::OnceLetIn
        }
    }

    /// Whether another entry can be held. Whoever has the group's keys can write in the name of devices
    /// that nobody let in, and a removed device goes on writing with those it had: that goes first.
    fn make_room_to_hold(&mut self, sender: &DeviceId, seq: u64, bytes: usize) -> bool {
        let may_count = self.may_count(sender, seq);
        for goes in [MayCount::OnlyIfVouchedFor, MayCount::OnceLetIn] {
            if self.has_room_to_hold(bytes) || goes >= may_count {
                break;
            }
            let go = |(device, seq): &&(DeviceId, u64)| self.may_count(device, *seq) == goes;
            for (device, seq) in self.held.keys().filter(go).copied().collect::<Vec<_>>() {
                if let Some(row) = self.take_held(device, seq) {
                    self.leave_at_relay(&device, seq, &row);
                }
            }
        }
        self.has_room_to_hold(bytes)
    }

    fn has_room_to_hold(&self, bytes: usize) -> bool {
        self.held.len() < HELD_MAX && self.held_bytes + bytes <= HELD_BYTES_MAX
    }

    /// There is no room for it: it is to be read again. What a removed device writes behind its end is
    /// not: it would have the log read again for ever.
    fn leave_at_relay(&mut self, sender: &DeviceId, seq: u64, row: &HeldRow) {
        let Some(at) = self.relays.by_tag(row.relay) else { return };
        if self.relays[at].row.timeline != row.timeline || self.counts_only_if_vouched_for(sender, seq) {
            return;
        }
        let relay = &mut self.relays[at];
        relay.leave(row.cursor);
        relay.left_at = Some(self.released);
    }

    /// Whether a relay has what there was no room for and there may be now: something that waited does
    /// not any more since.
    pub(super) fn has_room_for_what_was_left(&mut self, at: RelayAt) -> bool {
        let released = self.released;
        self.relays[at].left_at.take_if(|then| *then < released).is_some()
    }

    /// Accepts what waited for the entry just stored, which came from there. Only a relay that showed
    /// both, in one timeline, showed them in the wrong order.
    pub(super) fn release_held(&mut self, sender: DeviceId, came: &Came) {
        let next = self.seq_of(&sender) + 1;
        let Ok(run) = self.held_run(&sender, next, HELD_MAX) else { return self.stop_corrupt("held entry") };
        for entry in run {
            let key = (sender, self.seq_of(&sender) + 1);
            let Some(row) = self.take_held(key.0, key.1) else { return };
            self.released += 1;
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
