//! Who is connected to this instance, and the doorbells between them.
//!
//! A doorbell says *that* something is new, never what: whoever hears it reads the store at its
//! own pace. So a slow session costs one number, and a doorbell that is lost (or rings on another
//! instance) is made good by a poll. The exceptions are notices (`Acked`, `Whispered`), ephemeral
//! by definition: a bounded queue per session, full means dropped.
//!
//! Everything here is one short lock, never held across an await, and is undone by `Drop`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use zerok_sync_protocol::limits::SESSIONS_PER_DEVICE_MAX;
use zerok_sync_protocol::{MailboxId, NoisePublicKey};

use crate::limits::NOTICES_MAX;
use crate::store::GroupKey;

/// Why the relay ends a session from outside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kick {
    /// Its device opened more sessions than it may; this one was idle longest.
    TooManySessions,
    /// Its device was taken off the allow-list.
    Revoked,
    /// The relay goes away.
    ShuttingDown {
        /// When the client should come back.
        retry_after_ms: u64,
    },
}

/// What a group's doorbell says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bell {
    /// The highest head heard of.
    pub head: u64,
    /// The highest auth generation heard of.
    pub auth_gen: u64,
}

/// See the module's documentation. Clones share the state.
#[derive(Clone, Default)]
pub struct Hub(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    next_session: AtomicU64,
}

#[derive(Default)]
struct State {
    devices: HashMap<NoisePublicKey, Vec<Occupant>>,
    groups: HashMap<GroupKey, Group>,
    mailboxes: HashMap<MailboxId, (watch::Sender<u64>, usize)>,
    closing: bool,
}

struct Occupant {
    session: u64,
    last_active_ms: Arc<AtomicU64>,
    kick: Arc<watch::Sender<Option<Kick>>>,
}

struct Group {
    bell: watch::Sender<Bell>,
    seats: HashMap<u64, Taken>,
}

struct Taken {
    device: NoisePublicKey,
    notices: mpsc::Sender<Bytes>,
    kick: Arc<watch::Sender<Option<Kick>>>,
}

impl Hub {
    /// Registers a session of `device`. If the device has too many, the one that has been idle
    /// longest is kicked. `None` while the relay shuts down.
    #[must_use]
    pub fn enter(&self, device: NoisePublicKey, now_ms: u64) -> Option<Presence> {
        let session = self.0.next_session.fetch_add(1, Ordering::Relaxed);
        let last_active_ms = Arc::new(AtomicU64::new(now_ms));
        let (kick, kicked) = watch::channel(None);
        let kick = Arc::new(kick);
        let mut state = self.lock();
        if state.closing {
            return None;
        }
        let occupants = state.devices.entry(device).or_default();
        if occupants.len() >= SESSIONS_PER_DEVICE_MAX {
            let idlest = (0..occupants.len())
                .min_by_key(|&index| occupants[index].last_active_ms.load(Ordering::Relaxed))
                .expect("there are at least four");
            occupants.swap_remove(idlest).kick.send_replace(Some(Kick::TooManySessions));
        }
        occupants.push(Occupant { session, last_active_ms: last_active_ms.clone(), kick: kick.clone() });
        Some(Presence { hub: self.clone(), session, device, last_active_ms, kick, kicked })
    }

    /// Tells a group's sessions that there is something new.
    pub fn ring(&self, group: GroupKey, bell: Bell) {
        if let Some(entry) = self.lock().groups.get(&group) {
            entry.bell.send_if_modified(|current| {
                let newer = Bell { head: current.head.max(bell.head), auth_gen: current.auth_gen.max(bell.auth_gen) };
                let changed = newer != *current;
                *current = newer;
                changed
            });
        }
    }

    /// Gives an encoded frame to a group's sessions other than `from`. Full queues drop it.
    pub fn notify_others(&self, group: GroupKey, from: &Seat, frame: &Bytes) {
        if let Some(entry) = self.lock().groups.get(&group) {
            for (session, seat) in &entry.seats {
                if *session != from.session {
                    // A full queue drops the notice; a closed one belongs to a session that ends.
                    let _ = seat.notices.try_send(frame.clone());
                }
            }
        }
    }

    /// Ends a group's sessions whose device is not listed.
    pub fn kick_unlisted(&self, group: GroupKey, allow: &[NoisePublicKey]) {
        if let Some(entry) = self.lock().groups.get(&group) {
            for seat in entry.seats.values().filter(|seat| !allow.contains(&seat.device)) {
                seat.kick.send_replace(Some(Kick::Revoked));
            }
        }
    }

    /// Groups that have a session here.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupKey> {
        self.lock().groups.keys().copied().collect()
    }

    /// Wakes whoever waits at a mailbox.
    pub fn ring_mailbox(&self, mailbox: &MailboxId) {
        if let Some((bell, _)) = self.lock().mailboxes.get(mailbox) {
            bell.send_modify(|rings| *rings += 1);
        }
    }

    /// Waits at a mailbox.
    #[must_use]
    pub fn wait_at_mailbox(&self, mailbox: &MailboxId) -> MailboxWatch {
        let mut state = self.lock();
        let (bell, waiting) = state.mailboxes.entry(mailbox.clone()).or_insert_with(|| (watch::Sender::new(0), 0));
        *waiting += 1;
        MailboxWatch { bell: bell.subscribe(), mailbox: mailbox.clone(), hub: self.clone() }
    }

    /// Kicks everybody, each with a `retry_after` of its own, and lets nobody in any more.
    pub fn close(&self, mut retry_after_ms: impl FnMut() -> u64) {
        let mut state = self.lock();
        state.closing = true;
        for occupant in state.devices.values().flatten() {
            occupant.kick.send_replace(Some(Kick::ShuttingDown { retry_after_ms: retry_after_ms() }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if it ever does, the maps are still maps.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's entry in the hub; dropping it leaves.
pub struct Presence {
    hub: Hub,
    session: u64,
    device: NoisePublicKey,
    last_active_ms: Arc<AtomicU64>,
    kick: Arc<watch::Sender<Option<Kick>>>,
    kicked: watch::Receiver<Option<Kick>>,
}

impl Presence {
    /// Notes that the session is alive.
    pub fn touch(&self, now_ms: u64) {
        self.last_active_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Waits until the relay wants the session gone. Cancel-safe.
    pub async fn kicked(&mut self) -> Kick {
        match self.kicked.wait_for(Option::is_some).await {
            Ok(kick) => kick.expect("that is what was waited for"),
            Err(_) => unreachable!("this session holds a sender itself"),
        }
    }

    /// Takes a seat in a group.
    #[must_use]
    pub fn sit(&self, group: GroupKey) -> Seat {
        let (notices, inbox) = mpsc::channel(NOTICES_MAX);
        let mut state = self.hub.lock();
        let entry = state
            .groups
            .entry(group)
            .or_insert_with(|| Group { bell: watch::Sender::new(Bell::default()), seats: HashMap::new() });
        entry.seats.insert(self.session, Taken { device: self.device, notices, kick: self.kick.clone() });
        Seat { bell: entry.bell.subscribe(), notices: inbox, group, session: self.session, hub: self.hub.clone() }
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

/// A session's seat in a group: its doorbell and its notices. Dropping it leaves the group.
pub struct Seat {
    /// Rings when there is something new.
    pub bell: watch::Receiver<Bell>,
    /// Encoded frames from other sessions.
    pub notices: mpsc::Receiver<Bytes>,
    group: GroupKey,
    session: u64,
    hub: Hub,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        if let Some(entry) = state.groups.get_mut(&self.group) {
            entry.seats.remove(&self.session);
            if entry.seats.is_empty() {
                state.groups.remove(&self.group);
            }
        }
    }
}

/// A place at a mailbox's doorbell.
pub struct MailboxWatch {
    /// Rings when the mailbox changed.
    pub bell: watch::Receiver<u64>,
    mailbox: MailboxId,
    hub: Hub,
}

impl Drop for MailboxWatch {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        if let Some((_, waiting)) = state.mailboxes.get_mut(&self.mailbox) {
            *waiting -= 1;
            if *waiting == 0 {
                state.mailboxes.remove(&self.mailbox);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const GROUP: GroupKey = GroupKey([1; 32]);

    fn device(id: u8) -> NoisePublicKey {
        NoisePublicKey([id; 32])
    }

    fn enter(hub: &Hub, id: u8, now_ms: u64) -> Presence {
        hub.enter(device(id), now_ms).expect("the hub is open")
    }

    #[test]
    fn a_fifth_session_closes_the_one_idle_longest() {
        let hub = Hub::default();
        let mut sessions: Vec<Presence> = (0..4).map(|at| enter(&hub, 7, at)).collect();
        sessions[0].touch(100);

        let _fifth = enter(&hub, 7, 101);

        let kicked: Vec<bool> = sessions.iter_mut().map(|session| session.kicked().now_or_never().is_some()).collect();
        assert_eq!(kicked, [false, true, false, false]);
    }

    #[test]
    fn sessions_of_other_devices_do_not_count() {
        let hub = Hub::default();
        let mut sessions: Vec<Presence> = (0..20).map(|id| enter(&hub, id, 0)).collect();
        assert!(sessions.iter_mut().all(|session| session.kicked().now_or_never().is_none()));
    }

    #[test]
    fn everything_is_forgotten_when_sessions_leave() {
        let hub = Hub::default();
        let presence = enter(&hub, 1, 0);
        let seat = presence.sit(GROUP);
        let mailbox = hub.wait_at_mailbox(&MailboxId::from_slice(&[0, 1]).expect("two bytes"));
        drop((seat, mailbox, presence));
        let state = hub.lock();
        assert!(state.devices.is_empty() && state.groups.is_empty() && state.mailboxes.is_empty());
    }

    #[test]
    fn a_bell_keeps_the_highest_head_it_heard_of() {
        let hub = Hub::default();
        let presence = enter(&hub, 1, 0);
        let mut seat = presence.sit(GROUP);
        hub.ring(GROUP, Bell { head: 9, auth_gen: 0 });
        hub.ring(GROUP, Bell { head: 5, auth_gen: 1 });
        assert_eq!(*seat.bell.borrow_and_update(), Bell { head: 9, auth_gen: 1 });
    }

    #[test]
    fn a_notice_reaches_the_others_and_a_full_queue_drops_it() {
        let hub = Hub::default();
        let (one, two) = (enter(&hub, 1, 0), enter(&hub, 2, 0));
        let (mut seat_one, mut seat_two) = (one.sit(GROUP), two.sit(GROUP));
        for _ in 0..NOTICES_MAX + 5 {
            hub.notify_others(GROUP, &seat_one, &Bytes::from_static(b"x"));
        }
        assert!(seat_one.notices.try_recv().is_err());
        let received = std::iter::from_fn(|| seat_two.notices.try_recv().ok()).count();
        assert_eq!(received, NOTICES_MAX);
    }

    #[test]
    fn a_restriction_kicks_exactly_the_unlisted() {
        let hub = Hub::default();
        let (mut stays, mut goes) = (enter(&hub, 1, 0), enter(&hub, 2, 0));
        let _seats = (stays.sit(GROUP), goes.sit(GROUP));
        hub.kick_unlisted(GROUP, &[device(1)]);
        assert_eq!(goes.kicked().now_or_never(), Some(Kick::Revoked));
        assert_eq!(stays.kicked().now_or_never(), None);
    }

    #[test]
    fn a_closed_hub_kicks_everybody_and_lets_nobody_in() {
        let hub = Hub::default();
        let mut present = enter(&hub, 1, 0);
        hub.close(|| 42);
        assert_eq!(present.kicked().now_or_never(), Some(Kick::ShuttingDown { retry_after_ms: 42 }));
        assert!(hub.enter(device(2), 0).is_none());
    }
}
