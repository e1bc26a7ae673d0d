//! Connections to Postgres: their settings, their number, and what their errors mean.

use std::time::Duration;

use deadpool_postgres::{Client, Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;

use super::schema::SESSION_SETTINGS;
use crate::store::{Result, StoreError};

/// Connections per instance. More would only wait for the same disk.
pub(in crate::store) const POOL_SIZE: usize = 16;
/// A call that gets no connection for this long is told to come back later.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A pool for the database at `url`. Connects lazily and again after the database was away.
pub(in crate::store) fn pool(url: &str) -> Result<Pool> {
    // The parser's own message could quote a mistyped password.
    let mut config: tokio_postgres::Config = url.parse().map_err(|_| {
        StoreError::Unusable("not a database URL: write postgres://USER:PASSWORD@HOST:PORT/DATABASE".into())
    })?;
    if config.get_ssl_mode() == SslMode::Require {
        return Err(StoreError::Unusable(
            "sslmode=require is not supported: connect over a local socket, a private network or a TLS tunnel".into(),
        ));
    }
    config.connect_timeout(WAIT_MAX).keepalives_idle(Duration::from_secs(30)).application_name("zerok-relay");
    let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    Pool::builder(manager)
        .max_size(POOL_SIZE)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(WAIT_MAX))
        .create_timeout(Some(WAIT_MAX))
        .recycle_timeout(Some(WAIT_MAX))
        .post_create(Hook::async_fn(|client, _| {
            Box::pin(async move {
                client.batch_execute(SESSION_SETTINGS).await.map_err(HookError::Backend)?;
                let row = client.query_one("SHOW synchronous_commit", &[]).await.map_err(HookError::Backend)?;
                if row.get::<_, &str>(0) == "on" { Ok(()) } else { Err(HookError::message(NOT_DURABLE)) }
            })
        }))
        .build()
        .map_err(|_| StoreError::Unavailable("the connection pool could not be set up".into()))
}

const NOT_DURABLE: &str = "the database refuses synchronous_commit = on, without which nothing is durable";

/// A connection from the pool.
pub(in crate::store) async fn connection(pool: &Pool) -> Result<Client> {
    pool.get().await.map_err(|error| match error {
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => failed(error),
        PoolError::PostCreateHook(_) => StoreError::Unusable(NOT_DURABLE.into()),
        PoolError::Timeout(_) => {
            StoreError::Unavailable("the database does not keep up or cannot be reached: try again later".into())
        }
        PoolError::Closed | PoolError::NoRuntimeSpecified => StoreError::Unavailable("the relay is stopping".into()),
    })
}

/// The server's own messages can quote rows and settings, so only the kind of failure is passed on.
pub(in crate::store) fn failed(error: tokio_postgres::Error) -> StoreError {
    let unavailable = |text: &str| StoreError::Unavailable(text.into());
    let unusable = |text: &str| StoreError::Unusable(text.into());
    let Some(state) = error.code() else {
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
