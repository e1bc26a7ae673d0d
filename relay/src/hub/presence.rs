//! A session's entry in the hub: the one thing that wakes it, and why it is to go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use zerok_sync_protocol::NoisePublicKey;

use super::Hub;
use super::room::Seat;
use crate::store::GroupKey;

/// Why the relay ends a session from outside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kick {
    /// Its device opened more sessions than it may; this one was idle longest.
    TooManySessions,
    /// Its device was taken off the allow-list.
    Revoked,
    /// Its log was deleted.
    Gone,
    /// The relay goes away.
    ShuttingDown {
        /// When the client should come back.
        retry_after_ms: u64,
    },
}

/// What the rest of the relay holds of a session. A ring is remembered until the session looks, so
/// none is lost and a thousand cost no more than one.
#[derive(Debug)]
pub(super) struct Signal {
    rings: Notify,
    kick: Mutex<Option<Kick>>,
    last_active_ms: AtomicU64,
}

impl Signal {
    pub fn new(now_ms: u64) -> Self {
        Self { rings: Notify::new(), kick: Mutex::new(None), last_active_ms: AtomicU64::new(now_ms) }
    }

    pub fn ring(&self) {
        self.rings.notify_one();
    }

    /// The first reason stands.
    pub fn kick(&self, kick: Kick) {
        self.kick.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(kick);
        self.ring();
    }

    pub fn last_active_ms(&self) -> u64 {
        self.last_active_ms.load(Ordering::Relaxed)
    }
}

/// One of a device's sessions.
pub(super) struct Occupant {
    pub session: u64,
    pub signal: Arc<Signal>,
}

/// A session's entry in the hub; dropping it leaves.
pub struct Presence {
    pub(super) hub: Hub,
    pub(super) session: u64,
    pub(super) device: NoisePublicKey,
    pub(super) signal: Arc<Signal>,
}

impl Presence {
    /// Notes that the session is alive.
    pub fn touch(&self, now_ms: u64) {
        self.signal.last_active_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Waits until there is something to look at: entries, notices, a kick. Cancel-safe.
    pub async fn rung(&self) {
        self.signal.rings.notified().await;
    }

    /// Whether the relay wants the session gone.
    #[must_use]
    pub fn kicked(&self) -> Option<Kick> {
        *self.signal.kick.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat in a group's room.
    #[must_use]
    pub fn sit(&self, group: GroupKey) -> Seat {
        let mut state = self.hub.lock();
        let room = state.rooms.entry(group).or_insert_with(|| super::Room::new(self.hub.0.budget.clone())).clone();
        room.enter(self.session, self.device, self.signal.clone());
        Seat::new(self.hub.clone(), group, room, self.session)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        if let Some(occupants) = state.devices.get_mut(&self.device) {
            occupants.retain(|occupant| occupant.session != self.session);
            if occupants.is_empty() {
                state.devices.remove(&self.device);
            }
        }
    }
}
