//! `migrate`: the tables of this version, before the relay that wants them.

use std::process::ExitCode;

use zerok_sync_relay::config::{Settings, StoreConfig};
use zerok_sync_relay::store::{Postgres, Sqlite};

pub const EXAMPLE: &str = "\
`serve` does this by itself. Alone it serves to try an upgrade on a copy of the database, or to make
the tables as another database user than the relay's.

Example: zerok-relay migrate --store postgres://zerok_relay@db.example/zerok_relay";

/// Opens the store, which brings it up to date.
pub fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    match &settings.config.store {
        StoreConfig::Sqlite(path) => drop(Sqlite::open(path)?),
        StoreConfig::Postgres(url) => {
            tokio::runtime::Runtime::new()?.block_on(Postgres::connect(url))?;
        }
    }
    super::print("the database has this version's tables\n")?;
    Ok(ExitCode::SUCCESS)
}
