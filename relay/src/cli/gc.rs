//! `gc`: removes what is due, as a running relay does by itself.

use std::process::ExitCode;

use serde_json::json;
use zerok_sync_relay::config::{Settings, StoreConfig};
use zerok_sync_relay::gc::{self, Collected, Policy};
use zerok_sync_relay::metrics::Metrics;
use zerok_sync_relay::opening::open_existing;

use super::size;

pub const EXAMPLE: &str = "\
A running relay does this by itself, in small steps. By hand it serves to get space back at once:
on SQLite with the relay stopped, on Postgres beside it.

Example: zerok-relay gc --config /etc/zerok-relay/relay.toml";

#[derive(clap::Args)]
pub struct Arguments {
    /// Evict logs that have been idle for longer than idle_days_max too: also such whose devices
    /// could not come because the relay was down
    #[arg(long)]
    idle: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Removes and tells.
pub fn run(arguments: &Arguments, settings: &Settings) -> anyhow::Result<ExitCode> {
    let config = &settings.config;
    let mut policy = Policy::of(&config.limits);
    if arguments.idle && policy.idle_ms_max.is_none() {
        anyhow::bail!(
            "no log is ever idle, because idle_days_max is 0: say how many days, for example --idle-days-max 365"
        );
    }
    if !arguments.idle {
        policy.idle_ms_max = None;
    }
    if matches!(config.store, StoreConfig::Sqlite(_)) {
        // Nobody else is there to be kept waiting.
        policy.pause_factor = 0;
    }
    let round = super::block_on(async {
        let store = open_existing(config).await?;
        Ok(gc::collect(&*store, &policy, super::unix_ms(), &Metrics::new()).await?)
    })?;
    let Some(collected) = round.collected else {
        anyhow::bail!("another relay on this database is removing things just now: leave it to that one");
    };
    let Collected { entries, bytes, deleted_groups, idle_groups, mailboxes } = collected;
    if arguments.json {
        super::print_json(&json!({
            "entries": entries,
            "bytes": bytes,
            "deleted_groups": deleted_groups,
            "idle_groups": idle_groups,
            "mailboxes": mailboxes,
        }))?;
    } else {
        super::print(&format!(
            "removed {entries} entries ({}), {deleted_groups} deleted and {idle_groups} idle logs, \
             {mailboxes} mailboxes\n",
            size(bytes)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
