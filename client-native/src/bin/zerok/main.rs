//! `zerok`: keep this machine's data in step with a group's other devices from a terminal.
//!
//! [`args`] is what can be asked, `commands/` one file for each answer, [`exit`] how it ends, [`finding`] what an accusation reads like,
//! [`output`] what it looks like, [`qr`], [`terminal`] and [`secret`] what a person sees and types. Data goes to stdout, everything said to people to stderr.

mod args;
mod commands;
mod exit;
mod finding;
mod output;
mod qr;
mod secret;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command, Recovery};
use exit::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // A relay logs for itself, and has use for every core.
    if !arguments.is_relay() {
        start_logging(arguments.verbose);
        runtime.worker_threads(2);
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::other(format!("cannot start: {error}")).report(),
    };
    let outcome = runtime.block_on(run(&arguments));
    // Somebody may still be asked a question whose answer no longer matters.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let global = arguments.global()?;
    match &arguments.command {
        Command::Init(options) => commands::init::run(&global, options).await,
        Command::Invite(options) => commands::invite::run(&global, options).await,
        Command::Join(options) => commands::join::run(&global, options).await,
        Command::Push(options) => commands::push::run(&global, options).await,
        Command::Pull(options) => commands::pull::run(&global, options).await,
        Command::Status => commands::status::run(&global).await,
        Command::Devices => commands::devices::run(&global).await,
        Command::Rename(options) => commands::membership::rename(&global, options).await,
        Command::Revoke(options) => commands::membership::revoke(&global, options).await,
        Command::Rotate(options) => commands::membership::rotate(&global, options).await,
        Command::Refound(options) => commands::membership::refound(&global, options).await,
        Command::Leave(options) => commands::membership::leave(&global, options).await,
        Command::Approve => commands::approve::run(&global).await,
        Command::Repair(options) => commands::repair::run(&global, options).await,
        Command::Recovery(Recovery::Create(options)) => commands::recovery::create(&global, options).await,
        Command::Recovery(Recovery::Status) => commands::recovery::status(&global).await,
        Command::Recovery(Recovery::Restore(options)) => commands::recovery::restore(&global, options).await,
        Command::Compact(options) => commands::compact::run(&global, options).await,
        Command::Relays(what) => commands::relays::run(&global, what).await,
        Command::Verify => commands::verify::run(&global).await,
        Command::Export(options) => commands::export::export(&global, options).await,
        Command::Import(options) => commands::export::import(&global, options).await,
        Command::Passphrase(change) => commands::passphrase::run(&global, change).await,
        #[cfg(all(unix, feature = "serve"))]
        Command::Serve(options) => commands::serve::run(options, arguments.verbose).await,
    }
}

fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => "zerok=info,zerok_sync=debug,zerok_sync_core=debug",
        _ => "zerok=trace,zerok_sync=trace,zerok_sync_core=trace,iroh=info",
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(level).init();
}
