//! `stats`: what is in the store.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use zerok_sync_relay::config::Settings;
use zerok_sync_relay::gc::{self, Census};
use zerok_sync_relay::opening::open_beside;
use zerok_sync_relay::store::Storage;

use super::size;

pub const EXAMPLE: &str = "\
Works beside a running relay. Reads one row for each log and counts the devices; entries are not
looked at.

Example: zerok-relay stats --config /etc/zerok-relay/relay.toml --json";

#[derive(clap::Args)]
pub struct Arguments {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Counts and tells.
pub fn run(arguments: &Arguments, settings: &Settings) -> anyhow::Result<ExitCode> {
    let stats = super::block_on(async {
        let store = open_beside(&settings.config).await?;
        Ok(gc::stats(&*store).await?)
    })?;
    let (census, storage) = (&stats.census, &stats.storage);
    if arguments.json {
        super::print_json(&as_json(census, storage))
    } else {
        super::print(&as_text(census, storage))
    }?;
    Ok(ExitCode::SUCCESS)
}

fn as_json(census: &Census, storage: &Storage) -> serde_json::Value {
    let table = |table: &zerok_sync_relay::store::TableSize| json!({ "name": table.name, "bytes": table.bytes, "rows": table.rows, "dead_rows": table.dead_rows });
    json!({
        "groups": census.groups,
        "deleted_groups": census.deleted_groups,
        "entries": census.entries,
        "bytes": census.bytes,
        "oldest_created_at_ms": census.oldest_created_at_ms,
        "newest_active_at_ms": census.newest_active_at_ms,
        "devices": storage.devices,
        "mailboxes": storage.mailboxes,
        "database_bytes": storage.database_bytes,
        "wal_bytes": storage.wal_bytes,
        "free_bytes": storage.free_bytes,
        "tables": storage.tables.iter().map(table).collect::<Vec<_>>(),
    })
}

fn as_text(census: &Census, storage: &Storage) -> String {
    let mut lines = vec![
        format!("logs        {} ({} deleted and not removed yet)", census.groups, census.deleted_groups),
        format!("entries     {}, {}", census.entries, size(census.bytes)),
        format!("devices     {}", storage.devices),
        format!("mailboxes   {}", storage.mailboxes),
        format!("oldest log  {}", ago(census.oldest_created_at_ms)),
        format!("last use    {}", ago(census.newest_active_at_ms)),
        format!("database    {}", size(storage.database_bytes)),
    ];
    lines.extend(storage.free_bytes.map(|bytes| format!("  free      {}", size(bytes))));
    lines.extend(storage.wal_bytes.map(|bytes| format!("  WAL       {}", size(bytes))));
    for table in &storage.tables {
        let (bytes, rows, dead) = (size(table.bytes), table.rows, table.dead_rows);
        lines.push(format!("  {:<18} {bytes}, about {rows} rows, {dead} dead", table.name));
    }
    lines.join("\n") + "\n"
}

fn ago(unix_ms: Option<u64>) -> String {
    let Some(unix_ms) = unix_ms else { return "never".to_owned() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let minutes = now.saturating_sub(Duration::from_millis(unix_ms)).as_secs() / 60;
    match minutes {
        0 => "less than a minute ago".to_owned(),
        1..=119 => format!("{minutes} min ago"),
        120..=2879 => format!("{} h ago", minutes / 60),
        _ => format!("{} days ago", minutes / 60 / 24),
    }
}
