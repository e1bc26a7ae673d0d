//! A store's contents as a stream of records, the same for both databases: what a backup is made
//! of, and how a log moves from SQLite to Postgres.
//!
//! Pairing mailboxes are left out, they live for minutes; so are logs whose removal has begun.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, NoisePublicKey, Timeline, wire_enum};

use super::StoreError;
use super::rules::{fixed, from_db, to_db};

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

/// What a column holds; both databases have these three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bytes,
    Number,
    Flag,
}

/// The tables that are in archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Groups,
    Names,
    Devices,
    Entries,
}

impl Table {
    /// In the order of an archive.
    pub const ALL: [Self; 4] = [Self::Groups, Self::Names, Self::Devices, Self::Entries];

    /// As in the schema.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Groups => "groups",
            Self::Names => "names",
            Self::Devices => "devices",
            Self::Entries => "entries",
        }
    }

    /// In the order in which [`Table::record`] takes them and [`Record::row`] gives them.
    pub const fn columns(self) -> &'static [(&'static str, Kind)] {
        use Kind::{Bytes as B, Flag as F, Number as N};
        match self {
            Self::Groups => &[
                ("group_id", B),
                ("auth_pub", B),
                ("auth_gen", N),
                ("timeline", B),
                ("head", N),
                ("head_blob_id", B),
                ("floor", N),
                ("floor_blob_id", B),
                ("bytes", N),
                ("restricted", F),
                ("created_at", N),
                ("kept_from", N),
                ("kept_blob_id", B),
                ("raised_at", N),
                ("purge_below", N),
                ("purge_at", N),
                ("active_at", N),
                ("delete_at", N),
                ("epoch_envelope", B),
            ],
            Self::Names => &[("name", B), ("group_id", B)],
            Self::Devices => &[("group_id", B), ("noise_key", B), ("slot", B), ("acked", N), ("last_seen", N)],
            Self::Entries => &[("group_id", B), ("cursor", N), ("blob_id", B), ("received_at", N), ("envelope", B)],
        }
    }

    /// Its columns as SQL lists them.
    pub fn list(self) -> String {
        self.columns().iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// Its rows that belong to no log whose removal has begun.
    pub fn select(self) -> String {
        format!(
            "SELECT {} FROM {} AS rows WHERE NOT EXISTS
             (SELECT 1 FROM groups WHERE groups.group_id = rows.group_id AND CAST(removing AS integer) = 1)",
            self.list(),
            self.name()
        )
    }

    /// The record of a row that was read.
    pub fn record(self, row: &impl Columns) -> Result<Record, StoreError> {
        let key = |column| Ok::<_, StoreError>(LogName(fixed(&row.bytes(column)?)?));
        let blob_id = |column| Ok::<_, StoreError>(BlobId(fixed(&row.bytes(column)?)?));
        let number = |column| from_db(row.number(column)?);
        Ok(match self {
            Self::Groups => Record::Group {
                group: key(0)?,
                auth_public: AuthPublicKey(fixed(&row.bytes(1)?)?),
                auth_gen: number(2)?,
                timeline: Timeline(fixed(&row.bytes(3)?)?),
                head: number(4)?,
                head_blob_id: blob_id(5)?,
                floor: number(6)?,
                floor_blob_id: blob_id(7)?,
                bytes: number(8)?,
                restricted: row.flag(9)?,
                created_at: number(10)?,
                kept_from: number(11)?,
                kept_blob_id: blob_id(12)?,
                raised_at: number(13)?,
                purge_below: number(14)?,
                purge_at: number(15)?,
                active_at: number(16)?,
                delete_at: number(17)?,
                epoch_envelope: row.bytes(18)?,
            },
            Self::Names => Record::Name { name: key(0)?, group: key(1)? },
            Self::Devices => Record::Device {
                group: key(0)?,
                noise_key: NoisePublicKey(fixed(&row.bytes(1)?)?),
                slot: row.bytes(2)?,
                acked: number(3)?,
                last_seen: number(4)?,
            },
            Self::Entries => Record::Entry {
                group: key(0)?,
                cursor: number(1)?,
                blob_id: row.bytes(2)?,
                received_at: number(3)?,
                envelope: row.bytes(4)?,
            },
        })
    }
}

/// A row as a database hands it out.
pub(super) trait Columns {
    fn bytes(&self, column: usize) -> Result<Bytes, StoreError>;
    fn number(&self, column: usize) -> Result<i64, StoreError>;
    fn flag(&self, column: usize) -> Result<bool, StoreError>;
}

/// A value as a database takes it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Bytes(&'a [u8]),
    Number(i64),
    Flag(bool),
}

impl Record {
    /// The table that it is a row of, and the row; `None` for what stands around the rows.
    pub(super) fn row(&self) -> Option<(Table, Vec<Value<'_>>)> {
        let number = |number: &u64| Value::Number(to_db(*number));
        Some(match self {
            Self::Group {
                group,
                auth_public,
                auth_gen,
                timeline,
                head,
                head_blob_id,
                floor,
                floor_blob_id,
                bytes,
                restricted,
                created_at,
                kept_from,
                kept_blob_id,
                raised_at,
                purge_below,
                purge_at,
                active_at,
                delete_at,
                epoch_envelope,
            } => (
                Table::Groups,
                vec![
                    Value::Bytes(&group.0),
                    Value::Bytes(&auth_public.0),
                    number(auth_gen),
                    Value::Bytes(&timeline.0),
                    number(head),
                    Value::Bytes(&head_blob_id.0),
                    number(floor),
                    Value::Bytes(&floor_blob_id.0),
                    number(bytes),
                    Value::Flag(*restricted),
                    number(created_at),
                    number(kept_from),
                    Value::Bytes(&kept_blob_id.0),
                    number(raised_at),
                    number(purge_below),
                    number(purge_at),
                    number(active_at),
                    number(delete_at),
                    Value::Bytes(epoch_envelope),
                ],
            ),
            Self::Name { name, group } => (Table::Names, vec![Value::Bytes(&name.0), Value::Bytes(&group.0)]),
            Self::Device { group, noise_key, slot, acked, last_seen } => (
                Table::Devices,
                vec![
                    Value::Bytes(&group.0),
                    Value::Bytes(&noise_key.0),
                    Value::Bytes(slot),
                    number(acked),
                    number(last_seen),
                ],
            ),
            Self::Entry { group, cursor, blob_id, received_at, envelope } => (
                Table::Entries,
                vec![
                    Value::Bytes(&group.0),
                    number(cursor),
                    Value::Bytes(blob_id),
                    number(received_at),
                    Value::Bytes(envelope),
                ],
            ),
            Self::Head { .. } | Self::End { .. } => return None,
        })
    }
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
