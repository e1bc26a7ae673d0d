//! Connections to Postgres: their settings, their number, and what their errors mean.

use std::num::NonZero;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Client, ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime,
};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::schema::SESSION_SETTINGS;
use super::tls::{self, Target};
use crate::limits::WRITER_LOOPS_MAX;
use crate::metrics::Metrics;
use crate::store::{Result, StoreError};

/// A call that gets no connection for this long is told to come back later.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The oldest server that the statements are tested with, as `server_version_num` has it.
const SERVER_VERSION_MIN: i32 = 15_00_00;

/// A pool for the database at `url`. Connects lazily and again after the database was away.
pub(crate) fn pool(url: &str, connections_max: usize) -> Result<Pool> {
    let Target { mut config, tls } = tls::target(url)?;
    config.connect_timeout(WAIT_MAX).application_name("zerok-relay");
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = match tls {
        None => Manager::from_config(config, NoTls, recycling),
        Some(tls) => Manager::from_config(config, tls, recycling),
    };
    Pool::builder(manager)
        .max_size(connections_max)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(WAIT_MAX))
        .create_timeout(Some(WAIT_MAX))
        .recycle_timeout(Some(WAIT_MAX))
        .post_create(Hook::async_fn(|client, _| {
            Box::pin(async move {
                let row = client
                    .query_one("SELECT current_setting('server_version_num')::int", &[])
                    .await
                    .map_err(HookError::Backend)?;
                if is_too_old(row.get(0)) {
                    return Err(HookError::message(TOO_OLD));
                }
                client.batch_execute(SESSION_SETTINGS).await.map_err(HookError::Backend)?;
                let row = client.query_one("SHOW synchronous_commit", &[]).await.map_err(HookError::Backend)?;
                if row.get::<_, &str>(0) == "on" { Ok(()) } else { Err(HookError::message(NOT_DURABLE)) }
            })
        }))
        .build()
        .map_err(|_| StoreError::Unavailable("the connection pool could not be set up".into()))
}

const NOT_DURABLE: &str = "the database refuses synchronous_commit = on, without which nothing is durable";
const TOO_OLD: &str = "the database is older than PostgreSQL 15: upgrade it";

fn is_too_old(server_version_num: i32) -> bool {
    server_version_num < SERVER_VERSION_MIN
}

/// A connection from the pool.
pub(crate) async fn connection(pool: &Pool) -> Result<Client> {
    pool.get().await.map_err(|error| match error {
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => failed(error),
        PoolError::PostCreateHook(HookError::Message(text)) => StoreError::Unusable(text.into_owned()),
        PoolError::Timeout(_) => keeps_up_no_more(),
        PoolError::Closed | PoolError::NoRuntimeSpecified => StoreError::Unavailable("the relay is stopping".into()),
    })
}

fn keeps_up_no_more() -> StoreError {
    StoreError::Unavailable("the database does not keep up or cannot be reached: try again later".into())
}

/// What a connection is for. Each use has its share of the pool, so that readers who wait for the
/// database cannot keep a commit waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Group commits.
    Commit,
    /// Whatever else writes: logs made, rotated, deleted; mailboxes; the collector.
    Change,
    /// Everything that only reads.
    Read,
}

/// The connections of one instance.
pub(super) struct Connections {
    pool: Pool,
    commits: Arc<Semaphore>,
    changes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    commits_max: usize,
    used: Gauge,
}

impl Connections {
    pub fn new(url: &str, connections_max: u64, metrics: &Metrics) -> Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let shares = Shares::of(usize::try_from(connections_max).unwrap_or(usize::MAX), processors);
        let total = shares.commits + shares.changes + shares.reads;
        metrics.store_connections_max.set(i64::try_from(total).unwrap_or(i64::MAX));
        Ok(Self {
            pool: pool(url, total)?,
            commits: Arc::new(Semaphore::new(shares.commits)),
            changes: Arc::new(Semaphore::new(shares.changes)),
            reads: Arc::new(Semaphore::new(shares.reads)),
            commits_max: shares.commits,
            used: metrics.store_connections_used.clone(),
        })
    }

    /// Commits that can be under way at once.
    pub fn commits_max(&self) -> usize {
        self.commits_max
    }

    pub async fn get(&self, purpose: Purpose) -> Result<Connection> {
        let places = match purpose {
            Purpose::Commit => &self.commits,
            Purpose::Change => &self.changes,
            Purpose::Read => &self.reads,
        };
        let place = timeout(WAIT_MAX, Arc::clone(places).acquire_owned())
            .await
            .map_err(|_| keeps_up_no_more())?
            .expect("the semaphores are never closed");
        let client = connection(&self.pool).await?;
        self.used.inc();
        Ok(Connection { client: Some(client), used: self.used.clone(), _place: place })
    }
}

/// How many connections each purpose gets.
#[derive(Debug, PartialEq, Eq)]
struct Shares {
    commits: usize,
    changes: usize,
    reads: usize,
}

impl Shares {
    /// A quarter for commits, but not more than fill each other's batches (see
    /// [`WRITER_LOOPS_MAX`]); two thirds of the rest for reads.
    fn of(connections_max: usize, processors: usize) -> Self {
        let total = connections_max.max(3);
        let commits = (total / 4).clamp(1, processors.clamp(2, WRITER_LOOPS_MAX));
        let changes = ((total - commits) / 3).max(1);
        Self { commits, changes, reads: total - commits - changes }
    }
}

/// A connection in use; goes back when dropped.
pub(super) struct Connection {
    /// `None` once it was detached.
    client: Option<Client>,
    used: Gauge,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Takes the connection out of the pool for good: it is closed when dropped.
    pub fn detach(mut self) -> ClientWrapper {
        Client::take(self.client.take().expect("a connection is detached once"))
    }
}

impl Deref for Connection {
    type Target = Client;
    fn deref(&self) -> &Client {
        self.client.as_ref().expect("only detaching takes it, and that consumes the connection")
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        self.client.as_mut().expect("only detaching takes it, and that consumes the connection")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.used.dec();
    }
}

/// The server's own messages can quote rows and settings, so only the kind of failure is passed on.
pub(in crate::store) fn failed(error: tokio_postgres::Error) -> StoreError {
    let unavailable = |text: &str| StoreError::Unavailable(text.into());
    let unusable = |text: &str| StoreError::Unusable(text.into());
    let Some(state) = error.code() else {
        if let Some(trouble) = tls::trouble(&error) {
            return trouble;
        }
        return unavailable("the connection to the database failed: check that it runs and can be reached");
    };
    let class = state.code().get(..2).unwrap_or_default();
    match class {
        _ if *state == SqlState::READ_ONLY_SQL_TRANSACTION => {
            unavailable("the database is read-only: connect to the primary server")
        }
        _ if *state == SqlState::INSUFFICIENT_PRIVILEGE => {
            unusable("the database user lacks rights: it must own the relay's tables")
        }
        "08" | "57" => unavailable("the database is stopping, starting or was too slow"),
        "28" => unusable("the database refused the user or password of --store"),
        "3D" => unusable("the database named by --store does not exist: create it"),
        "53" => unavailable("the database is out of connections, memory or disk space"),
        "40" | "55" => StoreError::Busy("another instance held the same rows for too long".into()),
        "XX" | "58" => StoreError::Corrupt(format!("Postgres reports damage ({}): see its log", state.code())),
        "42" => StoreError::Corrupt("a table is missing or of another shape: look for what else writes there".into()),
        _ => StoreError::Unavailable(format!("Postgres failed with SQLSTATE {}", state.code())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_has_a_connection_however_few_there_are() {
        for total in 3..100 {
            let Shares { commits, changes, reads } = Shares::of(total, total % 8);
            assert_eq!(commits + changes + reads, total);
            assert!(commits >= 1 && changes >= 1 && reads >= 1);
            assert!(commits <= WRITER_LOOPS_MAX);
        }
        assert_eq!(Shares::of(16, 8), Shares { commits: 4, changes: 4, reads: 8 });
        assert_eq!(Shares::of(16, 1), Shares { commits: 2, changes: 4, reads: 10 });
    }

    #[test]
    fn servers_before_postgresql_15_are_refused() {
        assert!(is_too_old(14_00_22) && is_too_old(9_06_24));
        assert!(!is_too_old(15_00_00) && !is_too_old(18_00_01));
    }
}
