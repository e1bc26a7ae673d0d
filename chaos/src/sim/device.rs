//! One device: a machine of the core, its disk, its clocks and its link.

use std::collections::{BTreeMap, VecDeque};

use zerok_sync_core::io::{Batch, Change, CommitId, LinkId, Machine, Row};
use zerok_sync_core::{Engine, Event, Joiner, Now, Restorer};

use super::network::Run;
use super::world::Loss;

/// What runs on a device.
#[derive(Debug, Default)]
pub enum Running {
    /// Nothing: not started, or crashed.
    #[default]
    Nothing,
    /// A member.
    Engine(Box<Engine>),
    /// A device on its way into the group.
    Joiner(Box<Joiner>),
    /// A device on its way back into it, with nothing but the words.
    Restorer(Box<Restorer>),
}

impl Running {
    /// What runs, as a machine to drive.
    pub fn machine(&mut self) -> Option<&mut dyn Machine> {
        match self {
            Self::Nothing => None,
            Self::Engine(engine) => Some(&mut **engine),
            Self::Joiner(joiner) => Some(&mut **joiner),
            Self::Restorer(restorer) => Some(&mut **restorer),
        }
    }

    pub(super) fn deadline_ms(&self) -> Option<u64> {
        match self {
            Self::Nothing => None,
            Self::Engine(engine) => engine.next_deadline_ms(),
            Self::Joiner(joiner) => joiner.next_deadline_ms(),
            Self::Restorer(restorer) => restorer.next_deadline_ms(),
        }
    }
}

/// How a device's clocks differ from the world's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    /// Added to the monotonic one: it starts anywhere.
    pub mono_ahead_ms: u64,
    /// Added to the wall clock: years, either way.
    pub wall_ahead_ms: i64,
}

impl Clock {
    /// What the device reads at this world time.
    #[must_use]
    pub fn read(&self, now_ms: u64) -> Now {
        let wall_ms = (1_700_000_000_000 + now_ms).saturating_add_signed(self.wall_ahead_ms);
        Now { mono_ms: now_ms + self.mono_ahead_ms, wall_ms }
    }
}

/// A disk with one atomic batch on its way at most.
#[derive(Debug, Default)]
pub struct Disk {
    /// Batches given and not confirmed. The second of two is a broken contract.
    pub(super) unconfirmed: VecDeque<CommitId>,
    /// A batch given and not carried out: a crash decides.
    pub(super) pending: Option<Batch>,
    /// Refuse this many of the next batches.
    pub fail_next: u32,
    /// For a planted defect: what the disk says it has and does not.
    pub(super) owed: Option<Batch>,
}

/// One device. See the module's documentation.
#[derive(Debug, Default)]
pub struct Device {
    /// What runs on it.
    pub running: Running,
    /// What its disk holds.
    pub storage: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Everything the core told the app.
    pub events: Vec<Event>,
    /// Carry commits out, but confirm them only at [`super::World::confirm_commits`].
    pub slow_disk: bool,
    /// Its disk.
    pub disk: Disk,
    /// Its clocks.
    pub clock: Clock,
    /// No link of this device comes about.
    pub cut_off: bool,
    /// Crash after so many more outputs were carried out.
    pub crash_after: Option<u32>,
    /// Cut its link after so many more link messages arrived at either end, and lose what.
    pub cut_after: Option<(u32, Loss)>,
    /// One to each relay at most, besides those that have gone silent.
    pub(super) links: Vec<Link>,
    pub(super) run: Run,
}

/// A link from the device's side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) id: LinkId,
    /// The world's number for it.
    pub(super) number: u64,
    /// Which relay it leads to.
    pub(super) relay: usize,
    /// Nothing passes any more, and nobody has said so.
    pub(super) silent: bool,
}

impl Device {
    /// Whether a machine runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !matches!(self.running, Running::Nothing)
    }

    /// Which start this is.
    #[must_use]
    pub fn run(&self) -> Run {
        self.run
    }

    /// Whether every batch given to the disk is confirmed.
    #[must_use]
    pub fn disk_is_idle(&self) -> bool {
        self.disk.unconfirmed.is_empty()
    }

    /// The running engine.
    #[must_use]
    pub fn engine(&self) -> Option<&Engine> {
        match &self.running {
            Running::Engine(engine) => Some(engine),
            _ => None,
        }
    }

    /// Rows with `from <= key < to`.
    pub fn rows(&self, from: &[u8], to: &[u8]) -> impl Iterator<Item = Row> {
        self.storage
            .range(from.to_vec()..to.to_vec())
            .map(|(key, value)| Row { key: key.clone(), value: value.clone() })
    }

    /// Whether the app can read an entry at this position.
    #[must_use]
    pub fn has_entry_at(&self, position: u64) -> bool {
        let (from, to) = Engine::entry_range(position.saturating_sub(1));
        position > 0 && self.storage.range(from..to).next().is_some()
    }

    /// Carries a batch out.
    pub(super) fn apply(&mut self, batch: Batch) {
        for change in batch.changes {
            match change {
                Change::Put(row) => self.storage.insert(row.key, row.value),
                Change::Delete { key } => self.storage.remove(&key),
            };
        }
    }
}
