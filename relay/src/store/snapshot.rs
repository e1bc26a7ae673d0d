//! A store's contents as a stream of records, the same for both databases: what a backup is made
//! of, and how a log moves from SQLite to Postgres.
//!
//! Pairing mailboxes are left out, they live for minutes; so are logs whose removal has begun.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, NoisePublicKey, Timeline, wire_enum};

use super::StoreError;

wire_enum! {
    /// One piece of an archive, in this order: a `Head`, rows table by table, an `End`. Times are
    /// Unix milliseconds.
    pub enum Record {
        /// What follows.
        0 => Head {
            /// When the snapshot was taken.
            created_at: u64,
            /// The relay's Noise secret, so that it is the same relay for its clients.
            noise_secret: Option<Bytes>,
        },
        /// A row of `groups`; the fields are its columns.
        1 => Group {
            /// Name at creation.
            group: LogName,
            /// See the schema.
            auth_public: AuthPublicKey,
            /// See the schema.
            auth_gen: u64,
            /// See the schema.
            timeline: Timeline,
            /// See the schema.
            head: u64,
            /// See the schema.
            head_blob_id: BlobId,
            /// See the schema.
            floor: u64,
            /// See the schema.
            floor_blob_id: BlobId,
            /// See the schema.
            bytes: u64,
            /// See the schema.
            restricted: bool,
            /// See the schema.
            created_at: u64,
            /// See the schema.
            kept_from: u64,
            /// See the schema.
            kept_blob_id: BlobId,
            /// See the schema.
            raised_at: u64,
            /// See the schema.
            purge_below: u64,
            /// See the schema.
            purge_at: u64,
            /// See the schema.
            active_at: u64,
            /// See the schema.
            delete_at: u64,
            /// See the schema.
            epoch_envelope: Bytes,
        },
        /// A row of `names`.
        2 => Name {
            /// A name that the log has or had.
            name: LogName,
            /// Which log.
            group: LogName,
        },
        /// A row of `devices`.
        3 => Device {
            /// Which log.
            group: LogName,
            /// See the schema.
            noise_key: NoisePublicKey,
            /// See the schema.
            slot: Bytes,
            /// See the schema.
            acked: u64,
            /// See the schema.
            last_seen: u64,
        },
        /// A row of `entries`, damaged ones as they are: a repair replaces them.
        4 => Entry {
            /// Which log.
            group: LogName,
            /// See the schema.
            cursor: u64,
            /// See the schema.
            blob_id: Bytes,
            /// See the schema.
            received_at: u64,
            /// See the schema.
            envelope: Bytes,
        },
        /// Everything was there.
        15 => End {
            /// Records before this one.
            records: u64,
        },
    }
}

/// Columns in the order of [`Record::Group`]'s fields.
pub(super) const GROUP_COLUMNS: &str = "group_id, auth_pub, auth_gen, timeline, head, head_blob_id, floor, \
    floor_blob_id, bytes, restricted, created_at, kept_from, kept_blob_id, raised_at, purge_below, purge_at, \
    active_at, delete_at, epoch_envelope";
/// Columns in the order of [`Record::Name`]'s fields.
pub(super) const NAME_COLUMNS: &str = "name, group_id";
/// Columns in the order of [`Record::Device`]'s fields.
pub(super) const DEVICE_COLUMNS: &str = "group_id, noise_key, slot, acked, last_seen";
/// Columns in the order of [`Record::Entry`]'s fields.
pub(super) const ENTRY_COLUMNS: &str = "group_id, cursor, blob_id, received_at, envelope";

/// Rows of a table that belong to no log whose removal has begun.
pub(super) fn select(columns: &str, table: &str) -> String {
    format!(
        "SELECT {columns} FROM {table} AS rows
         WHERE NOT EXISTS (SELECT 1 FROM groups WHERE groups.group_id = rows.group_id AND CAST(removing AS integer) = 1)"
    )
}

/// What an import does with the timelines in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timelines {
    /// Gives every log another one, as [`super::Retention::declare_restore`] does: clients compare,
    /// and put back what is missing.
    Fresh,
    /// Keeps them: right only if nothing was pushed since the archive was made.
    Kept,
}

/// What became of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Import {
    /// Everything is in the store.
    Done,
    /// Nothing changed: the store holds logs.
    NotEmpty,
    /// Nothing changed: the records ended without an [`Record::End`], or came in another order.
    Incomplete,
}

/// The part of a store that makes and takes archives.
#[async_trait]
pub trait Snapshot: Send + Sync + 'static {
    /// Sends every row as of one moment, while others go on writing. Whoever receives at the other
    /// end sets the pace; it must be prompt, because a snapshot held for long keeps the database
    /// from reusing space.
    async fn export(&self, records: mpsc::Sender<Record>) -> Result<(), StoreError>;
    /// Takes rows up to an [`Record::End`] into an empty store, in one transaction. With `replace`
    /// what the store holds makes room in the same transaction.
    async fn import(
        &self,
        records: mpsc::Receiver<Record>,
        replace: bool,
        timelines: Timelines,
    ) -> Result<Import, StoreError>;
}
