//! `keys show`: what clients know this relay by. Public halves only.

use std::process::ExitCode;

use zerok_sync_relay::config::Settings;
use zerok_sync_relay::identity;

pub const EXAMPLE: &str = "Example: zerok-relay keys show --data-dir /var/lib/zerok-relay";

#[derive(clap::Subcommand)]
pub enum Command {
    /// Show the public key that clients pin, and the iroh endpoint id
    #[command(after_help = "Makes no key: `serve` does, at its first start.\n\nExample: zerok-relay keys show --json")]
    Show {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Shows them.
pub fn run(command: &Command, settings: &Settings) -> anyhow::Result<ExitCode> {
    let Command::Show { json } = command;
    let identity = tokio::runtime::Runtime::new()?.block_on(identity::read(&settings.config))?;
    if *json {
        super::print_json(&identity)?;
    } else {
        let iroh = identity.iroh_endpoint_id.as_deref().unwrap_or("none");
        super::print(&format!(
            "noise key:        {}\nfingerprint:      {}\nkept in:          {}\niroh endpoint id: {iroh}\n",
            identity.noise_key, identity.fingerprint, identity.kept_in,
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
