//! `backup`: one file with everything, taken while the relay runs.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use zerok_sync_relay::archive::{self, Contents};
use zerok_sync_relay::config::Settings;
use zerok_sync_relay::identity;
use zerok_sync_relay::opening::open_beside;

use super::size;

pub const EXAMPLE: &str = "\
One consistent moment, on SQLite as on Postgres, beside a running relay. The file appears whole or
not at all, readable by you alone. It holds the relay's Noise key, so that a restore brings back
the relay that clients know: keep it like one.

Example: zerok-relay backup /var/backups/relay-$(date +%F).zerok --config /etc/zerok-relay/relay.toml";

#[derive(clap::Args)]
pub struct Arguments {
    /// A file that does not exist yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Leave the relay's Noise key out
    #[arg(long)]
    without_key: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Writes and tells.
pub fn run(arguments: &Arguments, settings: &Settings) -> anyhow::Result<ExitCode> {
    let contents = super::block_on(async {
        let store = open_beside(&settings.config).await?;
        let secret = if arguments.without_key { None } else { Some(identity::noise_secret(&settings.config).await?.0) };
        Ok(archive::backup(&*store, &arguments.file, secret, super::unix_ms()).await?)
    })?;
    if arguments.json {
        super::print_json(&as_json(&contents))?;
    } else {
        let shown = arguments.file.display();
        super::print(&format!("{shown} holds {}\n", in_words(&contents)))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn as_json(contents: &Contents) -> serde_json::Value {
    json!({
        "created_at_ms": contents.created_at_ms,
        "groups": contents.groups,
        "devices": contents.devices,
        "entries": contents.entries,
        "bytes": contents.bytes,
        "noise_key": contents.noise_secret.as_ref().map(identity::public_half),
    })
}

pub fn in_words(contents: &Contents) -> String {
    let key = if contents.noise_secret.is_some() { "and the relay's key" } else { "and no key" };
    let (groups, devices, entries) = (contents.groups, contents.devices, contents.entries);
    format!("{groups} logs, {devices} devices, {entries} entries ({}) {key}", size(contents.bytes))
}
