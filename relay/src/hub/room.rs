//! The sessions of one group on this instance, and the fresh entries that wait for them.
//!
//! A session is *live* when it follows and has taken everything up to the head that the room knows
//! of. Each kept slice counts the live sessions that have still to take it and goes when there is
//! none left; a session that takes nothing is no longer live once the room is full. Invariant: a
//! slice waits for exactly those live sessions whose next cursor is not behind its first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use zerok_sync_protocol::frame::LogState;
use zerok_sync_protocol::{NoisePublicKey, Timeline};

use super::Hub;
use super::fresh::{Budget, Fresh, Slice};
use super::notice::Notice;
use super::presence::{Kick, Signal};
use crate::limits::NOTICES_MAX;
use crate::store::{GroupKey, Standing};

/// What a room knows of its log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bell {
    /// The highest head heard of.
    pub head: u64,
    /// The highest auth generation heard of.
    pub auth_gen: u64,
    /// How often the log was found to be another than before: who reads it must compare.
    pub doubts: u64,
    /// How often its members may have changed: who is one must ask.
    pub recounts: u64,
}

/// What there is for a session at its next cursor.
#[derive(Debug)]
pub enum Found {
    /// Nothing: the session is live from now on.
    AtHead,
    /// The next entries, from memory.
    Fresh(Arc<Slice>),
    /// The log goes on to this head, and the store has it.
    Behind(u64),
}

pub(super) struct Room {
    state: Mutex<State>,
    budget: Arc<Budget>,
}

#[derive(Default)]
struct State {
    bell: Bell,
    timeline: Option<Timeline>,
    /// [`Standing::removals`] that the sessions know of.
    removals: Option<u64>,
    /// A head that the poll was the first to tell of.
    found: Option<u64>,
    places: HashMap<u64, Place>,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
}

struct Place {
    device: NoisePublicKey,
    signal: Arc<Signal>,
    notices: VecDeque<Notice>,
    /// The next cursor of a live session.
    live: Option<u64>,
}

struct Kept {
    slice: Arc<Slice>,
    waiting: usize,
}

impl Room {
    pub fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), budget })
    }

    pub fn enter(&self, session: u64, device: NoisePublicKey, signal: Arc<Signal>) {
        let place = Place { device, signal, notices: VecDeque::new(), live: None };
        self.lock().places.insert(session, place);
    }

    pub fn publish(&self, auth_gen: u64, fresh: &Fresh) {
        let mut state = self.lock();
        if state.places.values().any(|place| place.live.is_some()) {
            for slice in fresh.slices() {
                self.keep(&mut state, slice);
            }
        }
        state.ring(fresh.last_cursor(), auth_gen);
    }

    pub fn heard(&self, log: &LogState) {
        let mut state = self.lock();
        if state.timeline.replace(log.timeline).is_some_and(|known| known != log.timeline) {
            self.doubt(&mut state, log.head);
        }
        state.ring(log.head, log.auth_gen);
    }

    /// Where a session that was admitted just now found the log.
    pub fn admitted(&self, log: &LogState, removals: u64) {
        self.heard(log);
        self.lock().count_removals(removals);
    }

    pub fn head(&self) -> u64 {
        self.lock().bell.head
    }

    /// As [`Self::heard`], from somebody who asked the store when the head was `known` already: a
    /// lower one means that the database went back in time.
    pub fn looked_up(&self, known: u64, standing: &Standing) {
        if standing.state.head < known {
            self.doubt(&mut self.lock(), standing.state.head);
        }
        let is_news = standing.state.head > self.head();
        self.heard(&standing.state);
        let mut state = self.lock();
        // By the next look, a doorbell that was merely slower has rung.
        if state.found.take().is_some() {
            self.budget.metrics.doorbell_missed.inc();
        }
        state.found = is_news.then_some(standing.state.head);
        state.count_removals(standing.removals);
    }

    pub fn ring(&self, head: u64, auth_gen: u64) {
        self.lock().ring(head, auth_gen);
    }

    /// The log may have another history.
    pub fn compare(&self) {
        let mut state = self.lock();
        let head = state.bell.head;
        self.doubt(&mut state, head);
    }

    /// See [`Hub::several_wait_for`].
    pub fn several_wait_for(&self, head: u64) -> Option<u64> {
        let state = self.lock();
        let next = state.bell.head + 1;
        (next <= head && state.live_at_or_before(next).nth(1).is_some()).then_some(next)
    }

    pub fn recount(&self) {
        self.lock().recount();
    }

    pub fn notify(&self, except: Option<u64>, notice: &Notice) {
        for (_, place) in self.lock().places.iter_mut().filter(|(session, _)| Some(**session) != except) {
            let older = place.notices.iter_mut().find(|waiting| notice.replaces(waiting));
            if let Some(older) = older {
                *older = notice.clone();
            } else if place.notices.len() < NOTICES_MAX {
                place.notices.push_back(notice.clone());
                place.signal.ring();
            }
        }
    }

    pub fn kick_all(&self, kick: Kick) {
        for place in self.lock().places.values() {
            place.signal.kick(kick);
        }
    }

    pub fn kick_unlisted(&self, allow: &[NoisePublicKey]) {
        for place in self.lock().places.values().filter(|place| !allow.contains(&place.device)) {
            place.signal.kick(Kick::Revoked);
        }
    }

    fn keep(&self, state: &mut State, slice: Slice) {
        // One that comes late is in the store like all others.
        if state.kept.back().is_some_and(|kept| kept.slice.end() > slice.first()) {
            return;
        }
        let bytes = slice.bytes();
        while let Some(oldest) = state.kept.front().map(|kept| kept.slice.first())
            && state.kept_bytes + bytes > self.budget.room_bytes_max
        {
            self.give_up(state, oldest);
        }
        let waiting = state.live_at_or_before(slice.first()).count();
        if bytes > self.budget.room_bytes_max || !self.budget.reserve(bytes) {
            self.give_up(state, slice.first());
        } else if waiting > 0 {
            state.kept_bytes += bytes;
            state.kept.push_back(Kept { slice: Arc::new(slice), waiting });
        } else {
            self.budget.release(bytes);
        }
    }

    /// Whoever has still to take the slice at this cursor is behind from now on, and with it what
    /// is kept for nobody else goes.
    fn give_up(&self, state: &mut State, first: u64) {
        let stalled: Vec<u64> = state.live_at_or_before(first).collect();
        self.budget.metrics.fanout_behind.inc_by(stalled.len() as u64);
        for session in stalled {
            self.fall_behind(state, session);
        }
    }

    /// Makes a session no longer live, and lets go what waited for nobody else.
    fn fall_behind(&self, state: &mut State, session: u64) {
        let Some(next) = state.places.get_mut(&session).and_then(|place| place.live.take()) else { return };
        let State { kept, kept_bytes, .. } = state;
        let mut missed = false;
        for kept in kept.iter_mut().filter(|kept| kept.slice.first() >= next) {
            kept.waiting -= 1;
            missed = true;
        }
        if missed {
            kept.retain(|kept| self.still_waits(kept, kept_bytes));
        }
    }

    /// Nothing that is known of the log counts any more, but that it has this head.
    fn doubt(&self, state: &mut State, head: u64) {
        let sessions: Vec<u64> = state.places.keys().copied().collect();
        sessions.into_iter().for_each(|session| self.fall_behind(state, session));
        state.bell = Bell { head, doubts: state.bell.doubts + 1, ..state.bell };
        state.ring_all();
    }

    fn still_waits(&self, kept: &Kept, kept_bytes: &mut usize) -> bool {
        if kept.waiting == 0 {
            *kept_bytes -= kept.slice.bytes();
            self.budget.release(kept.slice.bytes());
        }
        kept.waiting > 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if it ever does, cursors still decide.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ring(&mut self, head: u64, auth_gen: u64) {
        self.found = self.found.filter(|found| head < *found);
        let newer = Bell { head: self.bell.head.max(head), auth_gen: self.bell.auth_gen.max(auth_gen), ..self.bell };
        if newer != self.bell {
            self.bell = newer;
            self.ring_all();
        }
    }

    /// One that no doorbell told of is found by its number, whoever looks first.
    fn count_removals(&mut self, removals: u64) {
        if self.removals.replace(removals).is_some_and(|known| known != removals) {
            self.recount();
        }
    }

    fn recount(&mut self) {
        self.bell.recounts += 1;
        self.ring_all();
    }

    fn ring_all(&self) {
        self.places.values().for_each(|place| place.signal.ring());
    }

    fn place(&mut self, session: u64) -> &mut Place {
        self.places.get_mut(&session).expect("a seat is taken until it is dropped")
    }

    fn live_at_or_before(&self, cursor: u64) -> impl Iterator<Item = u64> + '_ {
        self.places.iter().filter(move |(_, place)| place.live.is_some_and(|next| next <= cursor)).map(|(id, _)| *id)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.release(self.lock().kept_bytes);
    }
}

/// A session's seat in a group's room. Dropping it leaves the room.
pub struct Seat {
    hub: Hub,
    group: GroupKey,
    room: Arc<Room>,
    session: u64,
}

impl Seat {
    pub(super) fn new(hub: Hub, group: GroupKey, room: Arc<Room>, session: u64) -> Self {
        Self { hub, group, room, session }
    }

    pub(super) fn session(&self) -> u64 {
        self.session
    }

    /// What the room knows of the log.
    #[must_use]
    pub fn bell(&self) -> Bell {
        self.room.lock().bell
    }

    /// The next notice: an encoded frame of another session.
    #[must_use]
    pub fn notice(&self) -> Option<Bytes> {
        self.room.lock().place(self.session).notices.pop_front().map(|notice| notice.frame)
    }

    /// What there is at `next` for a follower with this credit. Of a slice that it takes, one
    /// entry may overdraw the credit; whatever does not fit is left to the store.
    #[must_use]
    pub fn take(&self, next: u64, credit: i64) -> Found {
        let room = &self.room;
        let mut state = room.lock();
        let head = state.bell.head;
        if head < next {
            if state.place(self.session).live != Some(next) {
                room.fall_behind(&mut state, self.session);
                state.place(self.session).live = Some(next);
            }
            return Found::AtHead;
        }
        if state.place(self.session).live == Some(next) {
            let index = state.kept.partition_point(|kept| kept.slice.first() < next);
            if let Some(kept) = state.kept.get_mut(index).filter(|kept| kept.slice.first() == next)
                && fits(&kept.slice, credit)
            {
                let slice = kept.slice.clone();
                kept.waiting -= 1;
                if kept.waiting == 0 {
                    let bytes = slice.bytes();
                    state.kept.remove(index);
                    state.kept_bytes -= bytes;
                    room.budget.release(bytes);
                }
                state.place(self.session).live = Some(slice.end());
                return Found::Fresh(slice);
            }
        }
        room.fall_behind(&mut state, self.session);
        Found::Behind(head)
    }

    /// The session follows no more, or from another cursor on.
    pub fn forget_position(&self) {
        self.room.fall_behind(&mut self.room.lock(), self.session);
    }
}

fn fits(slice: &Slice, credit: i64) -> bool {
    let one = slice.end() == slice.first() + 1;
    i64::try_from(slice.whole().len()).is_ok_and(|bytes| bytes <= credit || (one && credit > 0))
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut hub = self.hub.lock();
        let mut state = self.room.lock();
        self.room.fall_behind(&mut state, self.session);
        state.places.remove(&self.session);
        if state.places.is_empty() && hub.rooms.get(&self.group).is_some_and(|room| Arc::ptr_eq(room, &self.room)) {
            hub.rooms.remove(&self.group);
        }
    }
}
