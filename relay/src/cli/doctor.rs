//! `doctor`: one line for each thing that was looked at.

use std::process::ExitCode;

use zerok_sync_relay::config::Settings;
use zerok_sync_relay::doctor::{self, Verdict};

pub const EXAMPLE: &str = "\
One line for each check: ok, warn or FAIL, and what to do. Nothing is changed. Exit code 1 if
anything fails.

Example: zerok-relay doctor --config /etc/zerok-relay/relay.toml --url https://relay.example";

#[derive(clap::Args)]
pub struct Arguments {
    /// Where clients reach the relay, tried as a client would [default: public_url]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Looks and tells.
pub fn run(arguments: &Arguments, settings: &Settings) -> anyhow::Result<ExitCode> {
    let examined = doctor::examine(&settings.config, arguments.url.as_deref());
    let checks = tokio::runtime::Runtime::new()?.block_on(examined);
    let healthy = checks.iter().all(|check| check.verdict != Verdict::Fail);
    if arguments.json {
        super::print_json(&serde_json::json!({ "healthy": healthy, "checks": checks }))?;
    } else {
        let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
        let lines: String = checks
            .iter()
            .map(|check| {
                let verdict = match check.verdict {
                    Verdict::Ok => "ok  ",
                    Verdict::Warn => "warn",
                    Verdict::Fail => "FAIL",
                };
                format!("{verdict} {:width$}  {}\n", check.name, check.message)
            })
            .collect();
        super::print(&lines)?;
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
