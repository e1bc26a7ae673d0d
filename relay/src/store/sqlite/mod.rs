//! The log in one SQLite file: for a relay that is one process.
//!
//! All writes go through one connection on a thread of its own, fed by a bounded queue; each job
//! is one `BEGIN IMMEDIATE` transaction and is answered after its commit. Checkpoints run beside it
//! on a thread of theirs. Reads use a small pool
//! of connections, each call in one snapshot (WAL), so they never wait for the writer. A lock file
//! beside the database keeps a second relay out.

mod checkpoint;
mod commit;
mod connections;
mod log;
mod mailbox;
mod read;
mod retention;
pub(super) mod schema;
mod snapshot;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::Transaction;
use zeroize::Zeroizing;
use zerok_sync_protocol::frame::LogState;
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, MailboxId, NoisePublicKey, Timeline};

pub(super) use self::connections::lock_path;
use self::connections::{Connections, Flush};
use super::{
    Admission, Append, Batch, GroupCommit, GroupKey, KnownLog, Lookup, Mailbox, MailboxInbox, MailboxOpening,
    MailboxRequest, MailboxSide, Missing, NewLog, RestrictRequest, Restricted, Result, RotateRequest, Rotated,
    Standing, Store, StoreError, StoredEntry,
};

/// A log in a SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    connections: Connections,
    /// Held by the one collector.
    collecting: tokio::sync::Mutex<()>,
}

impl Sqlite {
    /// Opens or creates the file (mode 0600), for this process alone.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be opened, is in use by another relay, or
    /// its file system cannot make writes durable; [`StoreError::Corrupt`] if it is damaged, of
    /// another schema version or not a relay's. Nothing in it is changed then.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self { connections: Connections::open(path.as_ref())?, collecting: tokio::sync::Mutex::default() })
    }

    /// Opens a file to look at it, beside the relay that runs on it: nothing can be written.
    ///
    /// # Errors
    /// As for [`Self::open`], except that nobody is kept out.
    pub fn inspect(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self { connections: Connections::inspect(path.as_ref())?, collecting: tokio::sync::Mutex::default() })
    }
}

#[async_trait]
impl GroupCommit for Sqlite {
    fn writers(&self) -> usize {
        1
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<Append>> {
        let flush = if commit::is_promised(&batch) { Flush::AtCommit } else { Flush::WithTheNext };
        self.connections.write_with(flush, move |transaction| commit::commit(transaction, &batch)).await
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn shared_noise_secret(&self, _fresh: &[u8; 32]) -> Result<Option<Zeroizing<[u8; 32]>>> {
        Ok(None)
    }

    async fn lookup(&self, name: &LogName) -> Result<Lookup> {
        let name = *name;
        self.connections.read(move |snapshot| read::lookup(snapshot, &name)).await
    }

    async fn logs_of(&self, device: &NoisePublicKey) -> Result<Vec<KnownLog>> {
        let device = *device;
        self.connections.read(move |snapshot| read::logs_of(snapshot, &device)).await
    }

    async fn admit(
        &self,
        group: GroupKey,
        auth_public: &AuthPublicKey,
        device: &NoisePublicKey,
        now_ms: u64,
    ) -> Result<Admission> {
        let (auth_public, device) = (*auth_public, *device);
        let admission =
            self.connections.read(move |snapshot| read::admit(snapshot, group, &auth_public, &device)).await?;
        match admission {
            Some(admission) => Ok(admission),
            None => {
                let list = move |db: &Transaction<'_>| log::list_now(db, group, &auth_public, &device, now_ms);
                self.connections.write(list).await
            }
        }
    }

    async fn create(&self, log: NewLog, now_ms: u64) -> Result<Option<GroupKey>> {
        self.connections.write(move |transaction| log::create(transaction, &log, now_ms)).await
    }

    async fn state(&self, group: GroupKey) -> Result<Option<LogState>> {
        self.connections.read(move |snapshot| Ok(read::group(snapshot, group)?.map(|row| row.state()))).await
    }

    async fn standings(&self, groups: &[GroupKey]) -> Result<Vec<(GroupKey, Standing)>> {
        let groups = groups.to_vec();
        self.connections.read(move |snapshot| read::standings(snapshot, &groups)).await
    }

    async fn read(&self, group: GroupKey, from: u64, bytes_max: usize, count_max: usize) -> Result<Vec<StoredEntry>> {
        self.connections.read(move |snapshot| read::page(snapshot, group, from, bytes_max, count_max)).await
    }

    async fn blob_ids(&self, group: GroupKey, cursors: &[u64]) -> Result<Vec<Option<BlobId>>> {
        let cursors = cursors.to_vec();
        self.connections.read(move |snapshot| read::blob_ids(snapshot, group, &cursors)).await
    }

    async fn missing(&self, group: GroupKey, blob_ids: &[BlobId]) -> Result<Missing> {
        let blob_ids = blob_ids.to_vec();
        self.connections.read(move |snapshot| read::missing(snapshot, group, &blob_ids)).await
    }

    async fn new_timeline(&self, group: GroupKey, old: Timeline, fresh: Timeline) -> Result<Timeline> {
        self.connections.write(move |transaction| log::new_timeline(transaction, group, old, fresh)).await
    }

    async fn restrict(&self, request: RestrictRequest) -> Result<Restricted> {
        self.connections.write(move |transaction| log::restrict(transaction, &request)).await
    }

    async fn rotate(&self, request: RotateRequest) -> Result<Rotated> {
        self.connections.write(move |transaction| log::rotate(transaction, &request)).await
    }

    async fn mailbox_open(&self, request: MailboxRequest) -> Result<MailboxOpening> {
        self.connections.write(move |transaction| mailbox::open(transaction, request)).await
    }

    async fn mailbox_join(&self, id: &MailboxId, now_ms: u64) -> Result<Option<Mailbox>> {
        let id = id.clone();
        self.connections.write(move |transaction| mailbox::join(transaction, id, now_ms)).await
    }

    async fn mailbox_send(&self, mailbox: &Mailbox, from: MailboxSide, data: Bytes, now_ms: u64) -> Result<bool> {
        let mailbox = mailbox.clone();
        self.connections.write(move |transaction| mailbox::send(transaction, &mailbox, from, &data, now_ms)).await
    }

    async fn mailbox_read(
        &self,
        mailbox: &Mailbox,
        side: MailboxSide,
        skip: usize,
        now_ms: u64,
    ) -> Result<MailboxInbox> {
        let mailbox = mailbox.clone();
        self.connections.read(move |snapshot| mailbox::inbox(snapshot, &mailbox, side, skip, now_ms)).await
    }

    async fn mailbox_close(&self, mailbox: &Mailbox, forget_at_ms: u64) -> Result<()> {
        let mailbox = mailbox.clone();
        self.connections.write(move |transaction| mailbox::close(transaction, &mailbox, forget_at_ms)).await
    }

    async fn mailbox_sweep(&self, now_ms: u64) -> Result<u64> {
        self.connections.write(move |transaction| mailbox::sweep(transaction, now_ms)).await
    }

    async fn ready(&self) -> Result<()> {
        self.connections.write(log::touch).await
    }
}

impl From<rusqlite::Error> for StoreError {
    /// SQLite's own messages can quote SQL, so only the kind of failure is passed on.
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let Some(code) = error.sqlite_error_code() else {
            return Self::Corrupt("a table does not have the shape that this relay writes".into());
        };
        let unavailable = |text: &str| Self::Unavailable(text.into());
        match code {
            Code::DatabaseCorrupt => Self::Corrupt("SQLite reports a damaged file: restore a backup".into()),
            Code::NotADatabase => Self::Corrupt("the file is not a SQLite database: name another one".into()),
            Code::Unknown | Code::TypeMismatch => {
                Self::Corrupt("a table is missing or of another shape: run the relay version that wrote it".into())
            }
            Code::DiskFull => unavailable("the disk is full: free some space"),
            Code::ReadOnly | Code::PermissionDenied => unavailable("the database file cannot be written to"),
            Code::CannotOpen => unavailable("the database file cannot be opened: check its folder and permissions"),
            Code::DatabaseBusy | Code::DatabaseLocked => unavailable("another program has locked the database file"),
            Code::SystemIoFailure => unavailable("reading or writing the database file failed: check the disk"),
            other => Self::Unavailable(format!("SQLite failed ({other:?})")),
        }
    }
}
