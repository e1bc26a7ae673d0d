//! `declare-restore`: says to every client that the database is not where it was.

use std::process::ExitCode;

use serde_json::json;
use zerok_sync_relay::config::Settings;
use zerok_sync_relay::opening::open_existing;

pub const EXAMPLE: &str = "\
After the database was brought back to an earlier state by other means than `restore` (a disk
image, pg_restore, a promoted standby that lagged), with the relay stopped. Every log gets a new
timeline: at their next connection clients compare what they have with what is there, put back
what is missing, and report no rollback. Without it they heal just the same, and accuse the relay
of having rolled back.

Example: zerok-relay declare-restore --config /etc/zerok-relay/relay.toml";

#[derive(clap::Args)]
pub struct Arguments {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Declares and tells.
pub fn run(arguments: &Arguments, settings: &Settings) -> anyhow::Result<ExitCode> {
    let groups = super::block_on(async {
        let store = open_existing(&settings.config).await?;
        Ok(store.declare_restore().await?)
    })?;
    if arguments.json {
        super::print_json(&json!({ "groups": groups }))?;
    } else {
        super::print(&format!("{groups} logs have a new timeline\n{}", super::WHAT_CLIENTS_SEE))?;
    }
    Ok(ExitCode::SUCCESS)
}
