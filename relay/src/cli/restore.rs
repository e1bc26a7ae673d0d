//! `restore`: a backup into an empty database, of either kind.

use std::path::PathBuf;
use std::process::ExitCode;

use zerok_sync_relay::archive;
use zerok_sync_relay::config::Settings;
use zerok_sync_relay::identity::{self, KeyRestored};
use zerok_sync_relay::opening::open_store;

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
    /// Only read the file to its end and say whether it is whole
    #[arg(long, conflicts_with_all = ["replace", "keep_timelines"])]
    dry_run: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Restores and tells.
pub fn run(arguments: &Arguments, settings: &Settings) -> anyhow::Result<ExitCode> {
    let config = &settings.config;
    let (contents, key) = super::block_on(async {
        if arguments.dry_run {
            return Ok((archive::verify(&arguments.file).await?, None));
        }
        // Before a database is made for it.
        archive::recognise(&arguments.file).await?;
        let store = open_store(config).await?;
        let contents = archive::restore(&*store, &arguments.file, arguments.replace).await?;
        if !arguments.keep_timelines {
            store.declare_restore().await?;
        }
        let key = match &contents.noise_secret {
            Some(secret) => Some(identity::restore(config, &*store, secret).await?),
            None => None,
        };
        Ok((contents, key))
    })?;
    if arguments.json {
        super::print_json(&as_json(&contents))?;
    } else if arguments.dry_run {
        super::print(&format!("whole: {}\n", in_words(&contents)))?;
    } else {
        let clients = if arguments.keep_timelines { "" } else { super::WHAT_CLIENTS_SEE };
        super::print(&format!("restored {}\n{clients}", in_words(&contents)))?;
    }
    if let Some(KeyRestored::AnotherIsThere { kept_in }) = key {
        eprintln!(
            "zerok-relay: {kept_in} holds another key, which stays: clients of the relay in the backup will refuse \
             this one; move that key away and restore again with --replace to be that relay"
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
