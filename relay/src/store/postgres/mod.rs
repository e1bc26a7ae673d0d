//! The log in Postgres: for a relay of several instances.
//!
//! A change to a log locks its row in `groups` first and looks at everything else in later
//! statements, whose snapshots are then no older than the lock: so any number of instances append
//! to one log and its cursors become visible in order. No instance holds state; a connection that
//! broke is replaced. A commit whose answer was lost is found by repeating it (blob ids).

mod commit;
mod log;
mod mailbox;
pub(super) mod pool;
mod read;
mod recent;
mod retention;
pub(super) mod schema;
mod snapshot;
mod tls;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use zeroize::Zeroizing;
use zerok_sync_protocol::frame::LogState;
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, MailboxId, NoisePublicKey, Timeline};

use self::pool::{Connection, Connections, Purpose, failed};
use self::recent::RecentLogs;
pub(crate) use self::tls::{Target, target};
use super::rules::fixed;
use super::{
    Admission, Append, Batch, GroupCommit, GroupKey, KnownLog, Lookup, Mailbox, MailboxInbox, MailboxOpening,
    MailboxRequest, MailboxSide, Missing, NewLog, RestrictRequest, Restricted, Result, RotateRequest, Rotated,
    Standing, Store, StoredEntry,
};
use crate::limits::RelayLimits;
use crate::metrics::Metrics;

/// A log in a Postgres database.
pub struct Postgres {
    connections: Connections,
    recent: RecentLogs,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The pool knows the password.
        f.write_str("Postgres([redacted])")
    }
}

impl Postgres {
    /// Connects to `postgres://USER:PASSWORD@HOST:PORT/DATABASE` and brings its tables up to date,
    /// which several instances may do at once.
    ///
    /// # Errors
    /// [`super::StoreError::Unavailable`] if the database cannot be reached or written to;
    /// [`super::StoreError::Corrupt`] if its tables are of a newer version. No message holds the URL.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_with(url, RelayLimits::default().store_connections_max, &Metrics::new()).await
    }

    /// The same with this many connections (at least three), counted in `metrics`.
    ///
    /// # Errors
    /// Those of [`Self::connect`].
    pub async fn connect_with(url: &str, connections_max: u64, metrics: &Metrics) -> Result<Self> {
        let connections = Connections::new(url, connections_max, metrics)?;
        schema::migrate(&mut *connections.get(Purpose::Change).await?).await?;
        Ok(Self { connections, recent: RecentLogs::default() })
    }

    /// A connection to change something with.
    async fn connection(&self) -> Result<Connection> {
        self.connections.get(Purpose::Change).await
    }

    /// A connection to read with.
    async fn reader(&self) -> Result<Connection> {
        self.connections.get(Purpose::Read).await
    }
}

#[async_trait]
impl GroupCommit for Postgres {
    fn writers(&self) -> usize {
        self.connections.commits_max()
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<Append>> {
        commit::commit(self.connections.get(Purpose::Commit).await?, &self.recent, &batch).await
    }
}

#[async_trait]
impl Store for Postgres {
    async fn shared_noise_secret(&self, fresh: &[u8; 32]) -> Result<Option<Zeroizing<[u8; 32]>>> {
        let db = self.connection().await?;
        // Whoever comes first inserts, under the row's lock; everybody reads what stands there.
        db.execute(
            "INSERT INTO meta (key, value) VALUES ('noise_secret', $1) ON CONFLICT (key) DO NOTHING",
            &[&fresh.as_slice()],
        )
        .await
        .map_err(failed)?;
        let row = db.query_one("SELECT value FROM meta WHERE key = 'noise_secret'", &[]).await.map_err(failed)?;
        let secret: Zeroizing<Vec<u8>> = Zeroizing::new(row.get(0));
        fixed(&secret).map(Zeroizing::new).map(Some)
    }

    async fn lookup(&self, name: &LogName) -> Result<Lookup> {
        read::lookup(&*self.reader().await?, name).await
    }

    async fn logs_of(&self, device: &NoisePublicKey) -> Result<Vec<KnownLog>> {
        read::logs_of(&*self.reader().await?, device).await
    }

    async fn admit(
        &self,
        group: GroupKey,
        auth_public: &AuthPublicKey,
        device: &NoisePublicKey,
        now_ms: u64,
    ) -> Result<Admission> {
        if let Some(admission) = read::admit(&*self.reader().await?, group, auth_public, device).await? {
            return Ok(admission);
        }
        log::list_now(&mut *self.connection().await?, group, auth_public, device, now_ms).await
    }

    async fn create(&self, log: NewLog, now_ms: u64) -> Result<Option<GroupKey>> {
        log::create(&mut *self.connection().await?, &log, now_ms).await
    }

    async fn state(&self, group: GroupKey) -> Result<Option<LogState>> {
        Ok(read::group(&*self.reader().await?, group).await?.map(|row| row.state()))
    }

    async fn standings(&self, groups: &[GroupKey]) -> Result<Vec<(GroupKey, Standing)>> {
        read::standings(&*self.reader().await?, groups).await
    }

    async fn read(&self, group: GroupKey, from: u64, bytes_max: usize, count_max: usize) -> Result<Vec<StoredEntry>> {
        read::page(&*self.reader().await?, group, from, bytes_max, count_max).await
    }

    async fn blob_ids(&self, group: GroupKey, cursors: &[u64]) -> Result<Vec<Option<BlobId>>> {
        read::blob_ids(&*self.reader().await?, group, cursors).await
    }

    async fn missing(&self, group: GroupKey, blob_ids: &[BlobId]) -> Result<Missing> {
        read::missing(&*self.reader().await?, group, blob_ids).await
    }

    async fn new_timeline(&self, group: GroupKey, old: Timeline, fresh: Timeline) -> Result<Timeline> {
        log::new_timeline(&*self.connection().await?, group, old, fresh).await
    }

    async fn restrict(&self, request: RestrictRequest) -> Result<Restricted> {
        log::restrict(&mut *self.connection().await?, &request).await
    }

    async fn rotate(&self, request: RotateRequest) -> Result<Rotated> {
        log::rotate(&mut *self.connection().await?, &request).await
    }

    async fn mailbox_open(&self, request: MailboxRequest) -> Result<MailboxOpening> {
        mailbox::open(&mut *self.connection().await?, request).await
    }

    async fn mailbox_join(&self, id: &MailboxId, now_ms: u64) -> Result<Option<Mailbox>> {
        mailbox::join(&*self.connection().await?, id, now_ms).await
    }

    async fn mailbox_send(&self, mailbox: &Mailbox, from: MailboxSide, data: Bytes, now_ms: u64) -> Result<bool> {
        mailbox::send(&mut *self.connection().await?, mailbox, from, &data, now_ms).await
    }

    async fn mailbox_read(
        &self,
        mailbox: &Mailbox,
        side: MailboxSide,
        skip: usize,
        now_ms: u64,
    ) -> Result<MailboxInbox> {
        mailbox::inbox(&*self.reader().await?, mailbox, side, skip, now_ms).await
    }

    async fn mailbox_close(&self, mailbox: &Mailbox, forget_at_ms: u64) -> Result<()> {
        mailbox::close(&*self.connection().await?, mailbox, forget_at_ms).await
    }

    async fn mailbox_sweep(&self, now_ms: u64) -> Result<u64> {
        mailbox::sweep(&mut *self.connection().await?, now_ms).await
    }

    async fn ready(&self) -> Result<()> {
        let db = self.connection().await?;
        let touched = "UPDATE meta SET value = value WHERE key = 'schema_version'";
        db.execute(touched, &[]).await.map_err(failed)?;
        Ok(())
    }
}
