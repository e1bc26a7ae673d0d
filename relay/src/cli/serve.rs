//! `serve`: the relay itself.

use std::process::ExitCode;

use zerok_sync_relay::config::Settings;

pub const EXAMPLE: &str = "Example: zerok-relay serve --listen 127.0.0.1:8080 --data-dir /var/lib/zerok-relay";

/// Runs the relay until a signal ends it.
pub fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    tokio::runtime::Runtime::new()?.block_on(zerok_sync_relay::serve(settings))?;
    Ok(ExitCode::SUCCESS)
}
