//! `migrate`: the tables of this version, before the relay that wants them.

use std::process::ExitCode;

use zerok_sync_relay::config::Settings;
use zerok_sync_relay::opening::open_store;

pub const EXAMPLE: &str = "\
`serve` does this by itself. Alone it serves to try an upgrade on a copy of the database, or to make
the tables as another database user than the relay's.

Example: zerok-relay migrate --store postgres://zerok_relay@db.example/zerok_relay";

/// Opens the store, which brings it up to date.
pub fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    tokio::runtime::Runtime::new()?.block_on(open_store(&settings.config))?;
    super::print("the database has this version's tables\n")?;
    Ok(ExitCode::SUCCESS)
}
