//! The `zerok-relay` binary. One line on stdout once it is ready, logs on stderr.

use std::io::Write;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use zerok_sync_relay::config::{ConfigError, Invocation, invocation};
use zerok_sync_relay::{Relay, RunningRelay};

/// Exit code of a usage error.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let env = std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    match invocation(std::env::args_os(), env) {
        Ok(invocation) => match run(invocation) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("zerok-relay: {error}");
                ExitCode::FAILURE
            }
        },
        Err(ConfigError::Flags(error)) => {
            // Where help cannot be printed there is nobody to tell.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
        }
        Err(error @ ConfigError::Invalid(_)) => {
            eprintln!("zerok-relay: {error}");
            ExitCode::from(USAGE)
        }
    }
}

fn run(Invocation { config, log }: Invocation) -> anyhow::Result<()> {
    // Only this crate's own logs: those of libraries hold addresses.
    let filter = Targets::new().with_target("zerok_sync_relay", log);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(lines).with(filter).init();
    tokio::runtime::Runtime::new()?.block_on(async {
        // Before anything is announced: a signal right after it must be heard.
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let relay = Relay::start(config).await?;
        announce(&relay)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        relay.shutdown().await;
        Ok(())
    })
}

fn announce(relay: &RunningRelay) -> std::io::Result<()> {
    let RunningRelay { addr, noise_key, iroh_endpoint_id, .. } = relay;
    let iroh = iroh_endpoint_id.as_deref().unwrap_or("none");
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "ready http://{addr} key={noise_key} iroh={iroh}")?;
    stdout.flush()?;
    let host = if addr.ip().is_unspecified() { "127.0.0.1".to_owned() } else { addr.ip().to_string() };
    let host = if addr.is_ipv6() && !addr.ip().is_unspecified() { format!("[{host}]") } else { host };
    eprintln!("open http://{host}:{} in a browser", addr.port());
    Ok(())
}
