//! What a store gives up, and when: floors, deletion, eviction, and the collector that removes the
//! rows. The rules both databases follow are in `rules/retention.rs`; `docs/RETENTION.md` tells the
//! operator's side.
//!
//! Nothing is removed by a request. A request moves a number (a floor, a date); rows go later, in
//! small transactions of a [`Collector`], of which a database has one at a time.

use async_trait::async_trait;
use bytes::Bytes;
use zerok_sync_protocol::NoisePublicKey;

use super::{GroupKey, Result};

/// Moves a log's floor.
#[derive(Debug, Clone)]
pub struct TruncateRequest {
    /// The log.
    pub group: GroupKey,
    /// Generation the session was admitted under.
    pub auth_gen: u64,
    /// The session's device; must be on the allow-list.
    pub device: NoisePublicKey,
    /// The floor asked for.
    pub below: u64,
    /// How long entries below a raised floor keep their bytes.
    pub grace_ms: u64,
    /// How long a floor stays before it is raised again.
    pub interval_ms: u64,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// Outcome of a [`TruncateRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Truncated {
    /// The floor that holds now: the one asked for, or the nearest lower one that can be had.
    Done {
        /// Entries from here on can be read.
        floor: u64,
    },
    /// The floor was raised a moment ago.
    TooSoon {
        /// When it may be raised again.
        retry_after_ms: u64,
    },
    /// A device seen lately has not acknowledged that far.
    NotReached {
        /// The highest floor that all of them have reached.
        below_max: u64,
    },
    /// The session's `auth_gen` is not the current one; nothing changed.
    Superseded {
        /// Current epoch envelope.
        epoch_envelope: Bytes,
    },
    /// The device was taken off the allow-list.
    Revoked,
}

/// Ends a log. It is not served any more from the commit on; [`super::Store::admit`] undoes that
/// until a collector has begun to remove it.
#[derive(Debug, Clone)]
pub struct DeleteRequest {
    /// The log.
    pub group: GroupKey,
    /// Generation the session was admitted under.
    pub auth_gen: u64,
    /// The session's device; must be on the allow-list.
    pub device: NoisePublicKey,
    /// How long a member can undo it.
    pub grace_ms: u64,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// Outcome of a [`DeleteRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleted {
    /// The log is not served any more.
    Done,
    /// The session's `auth_gen` is not the current one; nothing changed.
    Superseded {
        /// Current epoch envelope.
        epoch_envelope: Bytes,
    },
    /// The device was taken off the allow-list.
    Revoked,
}

/// What one log occupies, and what is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The log.
    pub group: GroupKey,
    /// Entries that have their rows, those below the floor among them.
    pub entries: u64,
    /// Their bytes: what the quota counts.
    pub bytes: u64,
    /// From when on what lies below the floor is to be removed; `None` if nothing is.
    pub purge_at_ms: Option<u64>,
    /// From when on the deleted log is to be removed; `None` if it is served.
    pub delete_at_ms: Option<u64>,
    /// When it was made.
    pub created_at_ms: u64,
    /// A time at which it was in use; it may have been later.
    pub active_at_ms: u64,
}

/// How much one transaction of a [`Collector`] may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Rows.
    pub entries_max: u64,
    /// Bytes of envelopes; the last row may exceed it.
    pub bytes_max: u64,
}

/// What one transaction of a [`Collector`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// Entries.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What comes next.
    pub then: Then,
}

/// Whether a log needs another step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Then {
    /// There was nothing to do, or it is not due (any more).
    #[default]
    NotDue,
    /// More of it is due.
    Continue,
    /// That was the last of it.
    Finished,
}

/// Why a whole log is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// A member deleted it and nobody came back in time.
    Deleted,
    /// No device was there since.
    Idle {
        /// Unix milliseconds.
        since_ms: u64,
    },
}

/// What the database occupies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Storage {
    /// All of its files but the log it writes ahead.
    pub database_bytes: u64,
    /// The log it writes ahead, where it is a file of the relay's (SQLite).
    pub wal_bytes: Option<u64>,
    /// Of `database_bytes`, pages that hold nothing (SQLite).
    pub free_bytes: Option<u64>,
    /// Size of each table with its indexes (Postgres).
    pub tables: Vec<TableSize>,
    /// Devices on allow-lists.
    pub devices: u64,
    /// Pairing mailboxes, expired ones included.
    pub mailboxes: u64,
}

/// What a table occupies. The row counts are the database's estimates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSize {
    /// Its name.
    pub name: String,
    /// With indexes and values stored out of line.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
    /// Rows removed or replaced whose space autovacuum has yet to free.
    pub dead_rows: u64,
}

/// The part of a store that gives things up. Each method is one transaction, as in
/// [`super::Store`].
#[async_trait]
pub trait Retention: Send + Sync + 'static {
    /// Moves a log's floor at once: up to what every device seen in the last 30 days has
    /// acknowledged, down to what still has its bytes. A floor whose lower neighbour's blob id is
    /// lost is not taken; the next lower one is.
    async fn truncate(&self, request: TruncateRequest) -> Result<Truncated>;
    /// Stops serving a log.
    async fn delete_group(&self, request: DeleteRequest) -> Result<Deleted>;
    /// Notes that these logs are in use, where the last note is of before `stale_ms`.
    async fn mark_active(&self, groups: &[GroupKey], stale_ms: u64, now_ms: u64) -> Result<()>;
    /// Up to `count_max` logs behind `after`, in order of their keys, deleted ones included. Reads
    /// rows of `groups` only.
    async fn survey(&self, after: Option<GroupKey>, count_max: usize) -> Result<Vec<Account>>;
    /// The right to remove things; `None` while another instance has it.
    async fn collector(&self) -> Result<Option<Box<dyn Collector + '_>>>;
    /// What the database occupies. Counts the rows of `devices`.
    async fn storage(&self) -> Result<Storage>;
    /// Gives every log a new timeline, so that clients compare what they have with what is there.
    /// Answers how many.
    async fn declare_restore(&self) -> Result<u64>;
}

/// Removes rows. There is one at a time on a database, so what it is told to remove is removed
/// once. Each call is one short transaction that holds one log.
#[async_trait]
pub trait Collector: Send {
    /// Removes entries below the floor that have had their grace.
    async fn purge(&mut self, group: GroupKey, budget: Budget, now_ms: u64, grace_ms: u64) -> Result<Step>;
    /// Removes a log: from the first step on it cannot come back, with the last one its names are
    /// free again.
    async fn remove(&mut self, group: GroupKey, why: Removal, budget: Budget, now_ms: u64) -> Result<Step>;
    /// Gives up to `pages_max` free pages back to the file system; whether there may be more.
    /// (Postgres: autovacuum's business.)
    async fn give_back(&mut self, pages_max: u64) -> Result<bool>;
    /// Lets another instance have its turn at once. One that is dropped instead gives the right up
    /// when the database notices.
    async fn finish(self: Box<Self>) -> Result<()>;
}
