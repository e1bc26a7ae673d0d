//! `zerok serve`: a relay for whoever has only this program.

use zerok_sync_relay::config::{self, ConfigError, Settings};

use crate::args::Serve;
use crate::exit::Failure;

/// Runs a relay until a signal ends it.
pub async fn run(options: &Serve, verbose: u8) -> Result<(), Failure> {
    let settings = settings(options, verbose).map_err(|error| Failure::usage(error.to_string()))?;
    zerok_sync_relay::serve(settings).await.map_err(|error| Failure::other(error.to_string()))
}

/// As `zerok-relay` would understand the same flags, with the environment and the file behind them.
fn settings(options: &Serve, verbose: u8) -> Result<Settings, ConfigError> {
    let level = match verbose {
        0 => None,
        1 => Some("debug"),
        _ => Some("trace"),
    };
    let flags =
        [("--listen", options.listen.as_deref()), ("--data-dir", options.data_dir.as_deref()), ("--log", level)];
    let given = flags.into_iter().filter_map(|(flag, value)| Some(format!("{flag}={}", value?)));
    let matches = clap::Command::new("zerok serve")
        .args(config::flags())
        .try_get_matches_from(std::iter::once("zerok serve".to_owned()).chain(given))
        .expect("these flags are the relay's own");
    let env = std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    config::settings(&matches, env)
}
