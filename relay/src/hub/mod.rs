//! Who is connected to this instance, and what wakes them.
//!
//! A group's sessions meet in a room. Whoever commits something [`Hub::publish`]es it there: the
//! fresh entries are kept, encoded once, for as long as a follower that was caught up has still to
//! take them, within a byte budget. A follower that does not keep up is marked behind and reads the
//! store at its own pace: it costs one number. The hand-over is by cursor alone, so nothing is
//! skipped or sent twice, whatever is late, lost or out of order here: a hint that is missing is
//! made good by a poll.
//!
//! Notices (`Acked`, `Whispered`) are ephemeral by definition: a bounded queue per session, full
//! means dropped, and of a device's `Acked` only the newest waits.
//!
//! Everything here is one short lock, never held across an await, and is undone by `Drop`. A
//! room's lock is taken inside the hub's, never the other way round.

mod fresh;
mod mailboxes;
mod notice;
mod presence;
mod room;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zerok_sync_protocol::frame::LogState;
use zerok_sync_protocol::limits::SESSIONS_PER_DEVICE_MAX;
use zerok_sync_protocol::{LogName, MailboxId, NoisePublicKey};

pub use self::fresh::{Fresh, Slice};
pub use self::mailboxes::MailboxWatch;
pub use self::notice::{Notice, Reader};
pub use self::presence::{Kick, Presence};
pub use self::room::{Bell, Found, Seat};

use self::fresh::Budget;
use self::mailboxes::Waiting;
use self::presence::{Occupant, Signal};
use self::room::Room;
use crate::doorbell::{Doorbell, News};
use crate::limits::RelayLimits;
use crate::metrics::Metrics;
use crate::store::{GroupKey, Standing};

/// See the module's documentation. Clones share the state.
#[derive(Clone)]
pub struct Hub(Arc<Shared>);

struct Shared {
    doorbell: Arc<dyn Doorbell>,
    state: Mutex<State>,
    next_session: AtomicU64,
    budget: Arc<Budget>,
}

#[derive(Default)]
struct State {
    devices: HashMap<NoisePublicKey, Vec<Occupant>>,
    rooms: HashMap<GroupKey, Arc<Room>>,
    mailboxes: HashMap<MailboxId, Waiting>,
    closing: bool,
}

impl Hub {
    /// An empty hub; `doorbell` carries its news to the other instances.
    #[must_use]
    pub fn new(limits: &RelayLimits, metrics: &Metrics, doorbell: Arc<dyn Doorbell>) -> Self {
        Self(Arc::new(Shared {
            doorbell,
            state: Mutex::default(),
            next_session: AtomicU64::new(0),
            budget: Arc::new(Budget::new(limits, metrics)),
        }))
    }

    /// Registers a session of `device`. If the device has too many, the one that has been idle
    /// longest is kicked. `None` while the relay shuts down.
    #[must_use]
    pub fn enter(&self, device: NoisePublicKey, now_ms: u64) -> Option<Presence> {
        let session = self.0.next_session.fetch_add(1, Ordering::Relaxed);
        let signal = Arc::new(Signal::new(now_ms));
        let mut state = self.lock();
        if state.closing {
            return None;
        }
        let occupants = state.devices.entry(device).or_default();
        if occupants.len() >= SESSIONS_PER_DEVICE_MAX {
            let idlest = (0..occupants.len())
                .min_by_key(|&index| occupants[index].signal.last_active_ms())
                .expect("there are at least four");
            occupants.swap_remove(idlest).signal.kick(Kick::TooManySessions);
        }
        occupants.push(Occupant { session, signal: signal.clone() });
        Some(Presence { hub: self.clone(), session, device, signal })
    }

    /// Tells a group's sessions what was committed here, on every instance, and hands the fresh
    /// entries to those of this one that are caught up.
    pub fn publish(&self, group: GroupKey, auth_gen: u64, fresh: &Fresh) {
        self.share(group, auth_gen, fresh);
        self.tell(News::Log { group: LogName(group.0), head: fresh.last_cursor(), auth_gen });
    }

    /// Hands fresh entries to the sessions of this instance: whoever committed them has told the
    /// others.
    pub fn share(&self, group: GroupKey, auth_gen: u64, fresh: &Fresh) {
        if let Some(room) = self.room(group) {
            room.publish(auth_gen, fresh);
        }
    }

    /// Takes in where the store says that the log stands.
    pub fn heard(&self, group: GroupKey, state: &LogState) {
        if let Some(room) = self.room(group) {
            room.heard(state);
        }
    }

    /// Takes in where a session found the log when it was admitted.
    pub fn admitted(&self, group: GroupKey, state: &LogState, removals: u64) {
        if let Some(room) = self.room(group) {
            room.admitted(state, removals);
        }
    }

    /// The log has another history since a moment ago.
    pub fn timeline_changed(&self, group: GroupKey, state: &LogState) {
        self.heard(group, state);
        self.tell(News::Timeline { group: LogName(group.0) });
    }

    /// Gives a notice to a group's sessions other than `from`. Full queues drop it.
    pub fn notify_others(&self, group: GroupKey, from: &Seat, notice: Notice) {
        if let Some(room) = self.room(group) {
            room.notify(Some(from.session()), &notice);
        }
        let Notice { reader, frame } = notice;
        self.tell(News::Notice { group: LogName(group.0), reader, frame });
    }

    /// Ends a group's sessions whose device is not listed.
    pub fn kick_unlisted(&self, group: GroupKey, allow: &[NoisePublicKey]) {
        if let Some(room) = self.room(group) {
            room.kick_unlisted(allow);
        }
        self.tell(News::Members { group: LogName(group.0) });
    }

    /// Wakes whoever waits at a mailbox.
    pub fn ring_mailbox(&self, mailbox: &MailboxId) {
        self.ring_mailbox_here(mailbox);
        self.tell(News::Mailbox { mailbox: mailbox.clone() });
    }

    /// Takes in what another instance tells.
    pub fn hear(&self, news: News) {
        let room = |group: LogName| self.room(GroupKey(group.0));
        match news {
            News::Log { group, head, auth_gen } => {
                room(group).inspect(|room| room.ring(head, auth_gen));
            }
            News::Timeline { group } => {
                room(group).inspect(|room| room.compare());
            }
            News::Members { group } => {
                room(group).inspect(|room| room.recount());
            }
            News::Notice { group, reader, frame } => {
                let notice = Notice { reader, frame };
                room(group).inspect(|room| room.notify(None, &notice));
            }
            News::Mailbox { mailbox } => self.ring_mailbox_here(&mailbox),
        }
    }

    /// If more than one session of the group waits live for what comes up to `head`: from which
    /// cursor on.
    #[must_use]
    pub fn several_wait_for(&self, group: GroupKey, head: u64) -> Option<u64> {
        self.room(group).and_then(|room| room.several_wait_for(head))
    }

    fn tell(&self, news: News) {
        self.0.doorbell.ring(news);
    }

    /// Ends all sessions of a group that is not served any more.
    pub fn kick_group(&self, group: GroupKey) {
        if let Some(room) = self.room(group) {
            room.kick_all(Kick::Gone);
        }
        self.tell(News::Members { group: LogName(group.0) });
    }

    /// Logs that have a session here, each with the head that is known of it: what to look up in
    /// the store, for [`Self::looked_up`].
    #[must_use]
    pub fn followed(&self) -> Vec<(GroupKey, u64)> {
        let rooms: Vec<(GroupKey, Arc<Room>)> =
            self.lock().rooms.iter().map(|(group, room)| (*group, room.clone())).collect();
        rooms.into_iter().map(|(group, room)| (group, room.head())).collect()
    }

    /// Takes in what the store says of a log; `known` is from before it was asked. `None`: there
    /// is no such log.
    pub fn looked_up(&self, group: GroupKey, known: u64, standing: Option<&Standing>) {
        let Some(room) = self.room(group) else { return };
        match standing {
            Some(standing) => room.looked_up(known, standing),
            None => room.recount(),
        }
    }

    /// Bytes of fresh entries that wait for somebody.
    #[must_use]
    pub fn fanout_bytes(&self) -> usize {
        self.0.budget.used()
    }

    /// Kicks everybody, each with a `retry_after` of its own, and lets nobody in any more.
    pub fn close(&self, mut retry_after_ms: impl FnMut() -> u64) {
        let mut state = self.lock();
        state.closing = true;
        for occupant in state.devices.values().flatten() {
            occupant.signal.kick(Kick::ShuttingDown { retry_after_ms: retry_after_ms() });
        }
    }

    fn room(&self, group: GroupKey) -> Option<Arc<Room>> {
        self.lock().rooms.get(&group).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if it ever does, the maps are still maps.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
