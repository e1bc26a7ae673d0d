//! Opens the store, waiting for a database server that is not there yet.
//!
//! After a power cut, or in a compose file, relay and database start together and the relay is
//! faster. What waiting cannot cure (a wrong password, another program's tables) ends the start at
//! once, and so does everything about a file.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::config::{Config, StoreConfig};
use crate::metrics::Metrics;
use crate::relay::StartError;
use crate::store::{DynStore, Postgres, Sqlite, StoreError};

/// Pauses between attempts double from the first to the last of these.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Opens the store that `config` names and brings it up to date; makes the data directory.
///
/// # Errors
/// [`StartError::Store`] at once for what stays wrong, [`StartError::StoreWait`] when the wait is over.
pub async fn open_store(config: &Config) -> Result<DynStore, StartError> {
    open_counted(config, &Metrics::new()).await
}

/// The same, with its connections counted in `metrics`.
///
/// # Errors
/// Those of [`open_store`].
pub(crate) async fn open_counted(config: &Config, metrics: &Metrics) -> Result<DynStore, StartError> {
    make_data_dir(config)?;
    let url = match &config.store {
        StoreConfig::Sqlite(path) => return Ok(Arc::new(Sqlite::open(path)?)),
        StoreConfig::Postgres(url) => url,
    };
    let began = Instant::now();
    let patience = Duration::from_millis(config.limits.store_wait_ms);
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match Postgres::connect_with(url, config.limits.store_connections_max, metrics).await {
            Ok(store) => return Ok(Arc::new(store)),
            // Busy: another instance is migrating.
            Err(error @ (StoreError::Unavailable(_) | StoreError::Busy(_))) => error,
            Err(error) => return Err(error.into()),
        };
        if !config.wait_for_store && began.elapsed() + pause > patience {
            return Err(StartError::StoreWait { source: error, waited: began.elapsed() });
        }
        tracing::warn!(%error, "waiting for the database");
        sleep(pause).await;
        pause = (2 * pause).min(LAST_PAUSE);
    }
}

/// Opens a store that a relay has run on: with a mistyped path nothing is made, and nothing done to
/// it.
///
/// # Errors
/// [`StartError::NoStore`], and those of [`open_store`].
pub async fn open_existing(config: &Config) -> Result<DynStore, StartError> {
    must_exist(config)?;
    open_store(config).await
}

/// Opens the store to look at it: a SQLite file beside the relay that runs on it.
///
/// # Errors
/// As for [`open_existing`].
pub async fn open_beside(config: &Config) -> Result<DynStore, StartError> {
    must_exist(config)?;
    match &config.store {
        StoreConfig::Sqlite(path) => Ok(Arc::new(Sqlite::inspect(path)?)),
        StoreConfig::Postgres(_) => open_store(config).await,
    }
}

fn must_exist(config: &Config) -> Result<(), StartError> {
    match &config.store {
        // What cannot be looked at says why when it is opened.
        StoreConfig::Sqlite(path) if matches!(path.try_exists(), Ok(false)) => Err(StartError::NoStore(path.clone())),
        StoreConfig::Sqlite(_) | StoreConfig::Postgres(_) => Ok(()),
    }
}

fn make_data_dir(config: &Config) -> Result<(), StartError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&config.data_dir).map_err(|source| StartError::DataDir { path: config.data_dir.clone(), source })
}
