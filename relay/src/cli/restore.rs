//! `restore`: a backup into an empty database, of either kind.

use std::path::PathBuf;
use std::process::ExitCode;

use zerok_sync_relay::archive;
use zerok_sync_relay::config::Settings;
use zerok_sync_relay::identity::{self, KeyRestored};
use zerok_sync_relay::opening::open_store;
use zerok_sync_relay::store::Timelines;

use super::backup::{as_json, in_words};

pub const EXAMPLE: &str = "\
With the relay stopped. A backup of SQLite can be restored into Postgres and the other way round.
Every log gets a new timeline, so that clients put back what was pushed since the backup and report
no rollback.

Example: zerok-relay restore /var/backups/relay-2026-01-31.zerok --config /etc/zerok-relay/relay.toml";

#[derive(clap::Args)]
pub struct Arguments {
    /// What `backup` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Throw away the logs that the database holds now
    #[arg(long)]
    replace: bool,
    /// Keep the timelines: only where nothing was pushed since the backup, as when a stopped relay
    /// moves to another database
    #[arg(long)]
    keep_timelines: bool,
    /// Restore the logs into a relay with a key of its own: every client has to be told that key
    #[arg(long)]
    keep_key: bool,
    /// Only read the file to its end and say whether it is whole
    #[arg(long, conflicts_with_all = ["replace", "keep_timelines", "keep_key"])]
    dry_run: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Restores and tells.
pub fn run(arguments: &Arguments, settings: &Settings) -> anyhow::Result<ExitCode> {
    let config = &settings.config;
    let timelines = if arguments.keep_timelines { Timelines::Kept } else { Timelines::Fresh };
    let contents = super::block_on(async {
        // To its end before anything is made or changed: the key is put in place ahead of the logs,
        // so that whoever is interrupted in between has an empty relay, not another one.
        let contents = archive::verify(&arguments.file).await?;
        if arguments.dry_run {
            return Ok(contents);
        }
        let store = open_store(config).await?;
        if let Some(secret) = contents.noise_secret.as_ref().filter(|_| !arguments.keep_key)
            && let KeyRestored::AnotherIsThere { kept_in } = identity::restore(config, &*store, secret).await?
        {
            anyhow::bail!(
                "nothing was restored: {kept_in} holds another key than the backup, and clients of the relay in the \
                 backup would refuse this one; move that key away to be that relay, or keep it with --keep-key"
            );
        }
        Ok(archive::restore(&*store, &arguments.file, arguments.replace, timelines).await?)
    })?;
    if arguments.json {
        super::print_json(&as_json(&contents))?;
    } else if arguments.dry_run {
        super::print(&format!("whole: {}\n", in_words(&contents)))?;
    } else {
        let clients = if arguments.keep_timelines { "" } else { super::WHAT_CLIENTS_SEE };
        super::print(&format!("restored {}\n{clients}", in_words(&contents)))?;
    }
    Ok(ExitCode::SUCCESS)
}
