//! The durable log: what a relay remembers, behind one trait with two implementations.
//!
//! Every method is one transaction. When a method that writes returns `Ok`, its effect is on disk
//! (SQLite `synchronous=FULL`, Postgres `synchronous_commit=on`); when it returns `Err`, nothing
//! of it is visible. Cursors are taken from the group's row, under its lock, in the transaction
//! that inserts: so they become visible in order and a reader never skips one in flight.
//!
//! Nothing in here knows a session, a socket or a clock: time comes in as Unix milliseconds.

pub(crate) mod inspect;
mod postgres;
mod retention;
mod rules;
mod snapshot;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use zerok_sync_protocol::frame::{AbsentReason, LogState};
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, MailboxId, NoisePublicKey, Timeline};

pub use self::postgres::Postgres;
pub(crate) use self::postgres::{Target as PostgresTarget, target as postgres_target};
pub use self::retention::{
    Account, Budget, Collector, DeleteRequest, Deleted, Removal, Retention, Step, Storage, TableSize, Then,
    TruncateRequest, Truncated,
};
pub use self::snapshot::{Import, Record, Snapshot, Timelines};
pub use self::sqlite::Sqlite;

/// The relay's immutable internal key for a log: the name it was created under. Never sent out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey(pub [u8; 32]);

/// What a name means at this relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The name's auth key is the current one.
    Current(GroupKey),
    /// The log exists and has moved on to another name.
    Superseded(GroupKey),
    /// No such name.
    Unknown,
}

/// A log that a Noise key is on the allow-list of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLog {
    /// Current epoch envelope.
    pub epoch_envelope: Bytes,
    /// The device's slot.
    pub slot: Bytes,
}

/// Everything `Welcome` needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Where the log stands.
    pub state: LogState,
    /// As in [`Standing`].
    pub removals: u64,
    /// Stored bytes.
    pub group_bytes: u64,
    /// The device's slot, empty if never written.
    pub slot: Bytes,
    /// Allow-list.
    pub allow: Vec<NoisePublicKey>,
    /// The other devices' slots that were ever written.
    pub slots: Vec<Slot>,
}

/// What is kept for a device of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Whose.
    pub device: NoisePublicKey,
    /// Highest cursor it acknowledged.
    pub acked: u64,
    /// At most 4 KiB, opaque.
    pub data: Bytes,
}

/// Outcome of asking to open a log with a proven auth key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The device is on the allow-list (now).
    Admitted(Admitted),
    /// The allow-list has no room.
    ListFull,
    /// A removal is under way and this device is not among those that stay.
    Restricted,
    /// The auth key was superseded between look-up and admission.
    Superseded,
}

/// A new log.
#[derive(Debug, Clone)]
pub struct NewLog {
    /// Auth key of epoch 0; its [`LogName`] becomes the name and the [`GroupKey`].
    pub auth_public: AuthPublicKey,
    /// Fresh random timeline.
    pub timeline: Timeline,
    /// Allow-list.
    pub allow: Vec<NoisePublicKey>,
    /// Becomes cursor 1 and the current epoch envelope.
    pub epoch_envelope: Bytes,
    /// Appended behind it.
    pub envelopes: Vec<Bytes>,
}

/// Outcome of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Append {
    /// All stored (or found stored before, with the cursor they had).
    Stored {
        /// One per envelope, in order.
        cursors: Vec<Appended>,
        /// The log's head after the append.
        head: u64,
    },
    /// The session's `auth_gen` is not the current one; nothing was stored.
    Superseded {
        /// Current epoch envelope.
        epoch_envelope: Bytes,
    },
    /// The group's quota would be exceeded by the envelope at this index; those before it are stored.
    QuotaExceeded {
        /// What was stored before the quota was reached.
        cursors: Vec<Appended>,
        /// The log's head after the append.
        head: u64,
    },
    /// The device was taken off the allow-list.
    Revoked,
    /// The log was deleted.
    Gone,
}

/// Where one envelope of an append stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its cursor.
    pub cursor: u64,
    /// Whether this call put it there, as opposed to an earlier one.
    pub new: bool,
}

/// An append by a session.
#[derive(Debug, Clone)]
pub struct AppendRequest {
    /// The log.
    pub group: GroupKey,
    /// Generation the session was admitted under.
    pub auth_gen: u64,
    /// The session's device.
    pub device: NoisePublicKey,
    /// Envelopes with their ids (already hashed by the caller).
    pub envelopes: Vec<(BlobId, Bytes)>,
    /// Quota of the log.
    pub group_bytes_max: u64,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// What is to be remembered of a device besides what it pushed.
#[derive(Debug, Clone)]
pub struct DeviceNote {
    /// The log.
    pub group: GroupKey,
    /// The device; one that is not on the log's allow-list is passed over.
    pub device: NoisePublicKey,
    /// How far it has stored the log. Never goes back, and never beyond the head.
    pub acked: Option<u64>,
    /// Replaces its slot.
    pub slot: Option<Bytes>,
    /// When it was here, in Unix milliseconds; 0 if that is not to be noted.
    pub seen_ms: u64,
    /// Whether this must be on disk before the commit is answered. What may be lost with a power
    /// cut (the device says it again) costs no disk flush of its own.
    pub durable: bool,
}

/// What is committed at once: appends of many sessions and logs, and notes.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// In the order in which they came; those of one log are numbered in it.
    pub appends: Vec<AppendRequest>,
    /// At most one per device and log.
    pub notes: Vec<DeviceNote>,
}

/// One cursor read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredEntry {
    /// The envelope, whose bytes hash to `blob_id` (checked on read).
    Present {
        /// Position.
        cursor: u64,
        /// Its id.
        blob_id: BlobId,
        /// Its bytes.
        envelope: Bytes,
    },
    /// Numbered, but the row is gone or rotten.
    Absent {
        /// Position.
        cursor: u64,
        /// Its id, if the row still says.
        blob_id: Option<BlobId>,
        /// Why.
        reason: AbsentReason,
    },
}

impl StoredEntry {
    /// Its position.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        match self {
            Self::Present { cursor, .. } | Self::Absent { cursor, .. } => *cursor,
        }
    }

    /// What stands there, if that is still known.
    #[must_use]
    pub fn blob_id(&self) -> Option<BlobId> {
        match self {
            Self::Present { blob_id, .. } => Some(*blob_id),
            Self::Absent { blob_id, .. } => *blob_id,
        }
    }

    /// Bytes of the envelope.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Present { envelope, .. } => envelope.len(),
            Self::Absent { .. } => 0,
        }
    }
}

/// Which blobs a log lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// One for each blob id asked for.
    pub flags: Vec<bool>,
    /// Bytes of envelopes that were read for the answer.
    pub bytes_read: u64,
}

/// A rotation, proven by the caller.
#[derive(Debug, Clone)]
pub struct RotateRequest {
    /// The log.
    pub group: GroupKey,
    /// The session's device; must be on the allow-list, so that one being removed cannot rotate first.
    pub device: NoisePublicKey,
    /// Generation it must be at.
    pub expect_gen: u64,
    /// Auth key of the next epoch; its name replaces the current one.
    pub next_auth_public: AuthPublicKey,
    /// New allow-list.
    pub allow: Vec<NoisePublicKey>,
    /// Appended, and kept as the current epoch envelope.
    pub epoch_envelope: Bytes,
    /// What the log may hold with it.
    pub group_bytes_max: u64,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// Outcome of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotated {
    /// Done.
    Done {
        /// The generation that holds.
        auth_gen: u64,
        /// Cursor of the epoch envelope.
        cursor: u64,
    },
    /// It was done before, with the same envelope; nothing changed.
    Again {
        /// The generation that holds: others may have rotated since.
        auth_gen: u64,
        /// Cursor of the epoch envelope.
        cursor: u64,
    },
    /// Another rotation came first.
    Conflict {
        /// The generation that holds.
        auth_gen: u64,
    },
    /// The log would hold more than it may; nothing changed.
    QuotaExceeded,
    /// The device was taken off the allow-list.
    Revoked,
}

/// A removal that is about to be sealed by a rotation.
#[derive(Debug, Clone)]
pub struct RestrictRequest {
    /// The log.
    pub group: GroupKey,
    /// Generation the session was admitted under: one of before a rotation restricts nothing.
    pub auth_gen: u64,
    /// The session's device; must be on the allow-list.
    pub device: NoisePublicKey,
    /// Who stays.
    pub allow: Vec<NoisePublicKey>,
}

/// Outcome of a [`RestrictRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restricted {
    /// Nothing of a removed device comes behind this head.
    Done {
        /// The frozen head.
        head: u64,
    },
    /// The session's `auth_gen` is not the current one; nothing changed.
    Superseded {
        /// Current epoch envelope.
        epoch_envelope: Bytes,
    },
    /// The device was taken off the allow-list itself.
    Revoked,
}

/// Where a log stands, as its followers' backstop looks it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where it stands.
    pub state: LogState,
    /// How often devices may have been taken off its list: by each restriction and each rotation.
    pub removals: u64,
}

/// Which side of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MailboxSide {
    /// The member that opened it.
    Inviter,
    /// The guest that joined it.
    Joiner,
}

/// A mailbox as seen by a party. An id that a person types is given out again; with its salt it names
/// one mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// Its id.
    pub id: MailboxId,
    /// The PAKE's session id.
    pub salt: [u8; 16],
    /// Unix milliseconds.
    pub expires_at_ms: u64,
}

/// A mailbox wanted.
#[derive(Debug, Clone)]
pub struct MailboxRequest {
    /// The log whose member asks.
    pub group: GroupKey,
    /// Ids to try, in order.
    pub candidates: Vec<MailboxId>,
    /// The PAKE's session id.
    pub salt: [u8; 16],
    /// Unix milliseconds.
    pub now_ms: u64,
    /// Unix milliseconds.
    pub expires_at_ms: u64,
    /// So many there may be, of all logs.
    pub total_max: u64,
    /// And so many of one.
    pub per_group_max: u64,
}

/// Outcome of a [`MailboxRequest`]. Counted are all that have not expired: a closed one is kept
/// for its last words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailboxOpening {
    /// Done.
    Opened(Mailbox),
    /// The log has as many as it may.
    GroupFull,
    /// The relay has as many as it may, or every id that was tried is taken.
    Full,
}

/// Messages for one side of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailboxInbox {
    /// Still open; messages numbered from the one asked for.
    Open(Vec<Bytes>),
    /// Closed by a party, expired, or never there. Remaining messages come first.
    Closed(Vec<Bytes>),
}

/// The database did not do what was asked; nothing was changed (or, for an append, repeating it
/// finds out: blob ids make it idempotent).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Cannot be reached, full, or timed out: error 3002, worth trying again.
    #[error("the relay's storage is unavailable: {0}")]
    Unavailable(String),
    /// The settings name a database that cannot be used; waiting does not cure it.
    #[error("the relay's storage cannot be used: {0}")]
    Unusable(String),
    /// Somebody else holds a log's rows for too long: error 3002, worth trying again. Other logs
    /// are served.
    #[error("the relay's storage is unavailable: {0}")]
    Busy(String),
    /// The stored data is not what this version writes: an operator must look.
    #[error("the relay's storage is damaged or of another version: {0}")]
    Corrupt(String),
    /// A panic: nothing was stored.
    #[error("a defect of the relay kept it from storing this: please report it with the line about a panic in its log")]
    Defect,
    /// The log was deleted since it was opened.
    #[error("the log is no longer in the relay's storage: open it again")]
    Gone,
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The part of a store that the writer loops use.
#[async_trait]
pub trait GroupCommit: Send + Sync + 'static {
    /// How many commits it can use to have under way at once.
    fn writers(&self) -> usize;
    /// Commits a batch in one transaction; one answer per append, see [`Append`]. A blob id known
    /// already keeps its cursor, and its row is replaced if its bytes are gone or rotten: so a
    /// batch whose outcome was not learned is simply committed again.
    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<Append>>;
}

/// The relay's memory. See the module's documentation for what every method promises.
#[async_trait]
pub trait Store: GroupCommit + Retention + Snapshot {
    /// The relay's Noise secret if the store keeps it (Postgres: one row shared by all instances,
    /// `fresh` is stored when there is none). `None`: the data directory keeps it (SQLite).
    async fn shared_noise_secret(&self, fresh: &[u8; 32]) -> Result<Option<zeroize::Zeroizing<[u8; 32]>>>;

    /// What a name means.
    async fn lookup(&self, name: &LogName) -> Result<Lookup>;
    /// Up to four logs whose allow-list holds `device`.
    async fn logs_of(&self, device: &NoisePublicKey) -> Result<Vec<KnownLog>>;
    /// Opens a log for a device that proved `auth_public`; puts the device on the allow-list. A
    /// log that was deleted comes back.
    async fn admit(
        &self,
        group: GroupKey,
        auth_public: &AuthPublicKey,
        device: &NoisePublicKey,
        now_ms: u64,
    ) -> Result<Admission>;
    /// Makes a log; `None` if the name exists already.
    async fn create(&self, log: NewLog, now_ms: u64) -> Result<Option<GroupKey>>;

    /// Where a log stands.
    async fn state(&self, group: GroupKey) -> Result<Option<LogState>>;
    /// Where each of these logs stands, in one statement; those that are not there are left out.
    async fn standings(&self, groups: &[GroupKey]) -> Result<Vec<(GroupKey, Standing)>>;
    /// Consecutive cursors from `from` on, until `bytes_max` or `count_max` is reached (at least
    /// one if there is one; the last may overdraw `bytes_max`). A cursor within the log that has no
    /// row comes back `Absent`. Below the floor there is nothing to read: the answer starts there.
    async fn read(&self, group: GroupKey, from: u64, bytes_max: usize, count_max: usize) -> Result<Vec<StoredEntry>>;
    /// Blob id at each cursor; at `floor - 1` the one that was kept.
    async fn blob_ids(&self, group: GroupKey, cursors: &[u64]) -> Result<Vec<Option<BlobId>>>;
    /// Whether each blob id is missing (or rotten): whatever is there is read and hashed.
    async fn missing(&self, group: GroupKey, blob_ids: &[BlobId]) -> Result<Missing>;
    /// Swaps `old` for `fresh`; answers the timeline that holds then.
    async fn new_timeline(&self, group: GroupKey, old: Timeline, fresh: Timeline) -> Result<Timeline>;

    /// Takes every device not listed off the allow-list and admits no new one until the next
    /// rotation.
    async fn restrict(&self, request: RestrictRequest) -> Result<Restricted>;
    /// Compare-and-swap of the auth key; see [`Rotated`].
    async fn rotate(&self, request: RotateRequest) -> Result<Rotated>;

    /// Opens a mailbox under a free id, within the limits of the request. An id whose mailbox has
    /// expired is free, swept or not.
    async fn mailbox_open(&self, request: MailboxRequest) -> Result<MailboxOpening>;
    /// Enters as the joiner; `None` if it is gone, expired or was joined before.
    async fn mailbox_join(&self, id: &MailboxId, now_ms: u64) -> Result<Option<Mailbox>>;
    /// Sends to the other side; `false` if the mailbox is gone, expired or full.
    async fn mailbox_send(&self, mailbox: &Mailbox, from: MailboxSide, data: Bytes, now_ms: u64) -> Result<bool>;
    /// Messages for `side`, leaving out the first `skip` it has had.
    async fn mailbox_read(
        &self,
        mailbox: &Mailbox,
        side: MailboxSide,
        skip: usize,
        now_ms: u64,
    ) -> Result<MailboxInbox>;
    /// Ends a mailbox; no error if it has ended. Its last messages can be read until
    /// `forget_at_ms`, if it does not expire before.
    async fn mailbox_close(&self, mailbox: &Mailbox, forget_at_ms: u64) -> Result<()>;
    /// Forgets mailboxes that expired; answers how many.
    async fn mailbox_sweep(&self, now_ms: u64) -> Result<u64>;

    /// Whether the store can be written to just now.
    async fn ready(&self) -> Result<()>;
}

/// A shared store.
pub type DynStore = Arc<dyn Store>;
