//! `check-config`: reads every source of settings and touches nothing else.

use std::process::ExitCode;

use zerok_sync_relay::config::{self, Settings};

pub const EXAMPLE: &str = "\
Exit code 2 and one sentence if something is wrong.

Example: zerok-relay check-config --config /etc/zerok-relay/relay.toml";

#[derive(clap::Args)]
pub struct Arguments {
    /// One JSON object with name, value and source of each setting
    #[arg(long)]
    json: bool,
    /// Print a configuration file with every setting and its default instead
    #[arg(long)]
    example: bool,
}

/// Prints what holds.
pub fn run(arguments: &Arguments, settings: &Settings) -> anyhow::Result<ExitCode> {
    if arguments.example {
        super::print(&config::example())?;
    } else if arguments.json {
        super::print_json(&serde_json::json!({ "settings": settings.effective }))?;
    } else {
        let width = settings.effective.iter().map(|setting| setting.name.len()).max().unwrap_or_default();
        let lines: String = settings
            .effective
            .iter()
            .map(|setting| format!("{:width$} = {}  ({})\n", setting.name, setting.value, setting.source))
            .collect();
        super::print(&lines)?;
    }
    Ok(ExitCode::SUCCESS)
}
