//! Opens the store, waiting for a database server that is not there yet.
//!
//! After a power cut, or in a compose file, relay and database start together and the relay is
//! faster. What waiting cannot cure (a wrong password, another program's tables) ends the start at
//! once, and so does everything about a file.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::config::{Config, StoreConfig};
use crate::relay::StartError;
use crate::store::{DynStore, Postgres, Sqlite, StoreError};

/// Pauses between attempts double from the first to the last of these.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Opens the store that `config` names and brings it up to date.
///
/// # Errors
/// [`StartError::Store`] at once for what stays wrong, [`StartError::StoreWait`] when the wait is over.
pub async fn open_store(config: &Config) -> Result<DynStore, StartError> {
    let url = match &config.store {
        StoreConfig::Sqlite(path) => return Ok(Arc::new(Sqlite::open(path)?)),
        StoreConfig::Postgres(url) => url,
    };
    let began = Instant::now();
    let patience = Duration::from_millis(config.limits.store_wait_ms);
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match Postgres::connect(url).await {
            Ok(store) => return Ok(Arc::new(store)),
            Err(error @ StoreError::Unavailable(_)) => error,
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
