//! The command line, one file per command. All commands take the same settings from the same
//! sources. What was asked for goes to stdout, everything else to stderr.
//!
//! Exit codes: 0 done, 1 it could not be done, 2 what was asked for makes no sense.

mod backup;
mod check_config;
mod declare_restore;
mod doctor;
mod gc;
mod health;
mod keys;
mod migrate;
mod restore;
mod serve;
mod stats;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{FromArgMatches, Subcommand};
use zerok_sync_relay::clock::{Clock, SystemClock};
use zerok_sync_relay::config::{self, Settings};

/// Exit code of a usage error.
const USAGE: u8 = 2;

#[derive(Subcommand)]
enum Command {
    /// Run the relay; what happens without a command
    #[command(after_help = serve::EXAMPLE)]
    Serve,
    /// Show every setting that holds and where it was set, or what is wrong with one
    #[command(after_help = check_config::EXAMPLE)]
    CheckConfig(check_config::Arguments),
    /// Ask a running relay whether it is ready
    #[command(after_help = health::EXAMPLE)]
    Health,
    /// Look at everything that has to be right: database, disk, keys, ports, and the way in from outside
    #[command(after_help = doctor::EXAMPLE)]
    Doctor(doctor::Arguments),
    /// Count what is in the database
    #[command(after_help = stats::EXAMPLE)]
    Stats(stats::Arguments),
    /// Remove what floors, deletions and expiry have given up, now
    #[command(after_help = gc::EXAMPLE)]
    Gc(gc::Arguments),
    /// Write everything to one file
    #[command(after_help = backup::EXAMPLE)]
    Backup(backup::Arguments),
    /// Read a backup into an empty database
    #[command(after_help = restore::EXAMPLE)]
    Restore(restore::Arguments),
    /// Tell clients that the database was brought back to an earlier state
    #[command(after_help = declare_restore::EXAMPLE)]
    DeclareRestore(declare_restore::Arguments),
    /// Bring the database's tables to this version, as `serve` does by itself
    #[command(after_help = migrate::EXAMPLE)]
    Migrate,
    /// The relay's identity
    #[command(subcommand, after_help = keys::EXAMPLE)]
    Keys(keys::Command),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let (command, settings) = match understand(std::env::args_os()) {
        Ok(understood) => understood,
        Err(code) => return code,
    };
    let done = match command {
        Command::Serve => serve::run(settings),
        Command::CheckConfig(arguments) => check_config::run(&arguments, &settings),
        Command::Health => health::run(&settings),
        Command::Doctor(arguments) => doctor::run(&arguments, &settings),
        Command::Stats(arguments) => stats::run(&arguments, &settings),
        Command::Gc(arguments) => gc::run(&arguments, &settings),
        Command::Backup(arguments) => backup::run(&arguments, &settings),
        Command::Restore(arguments) => restore::run(&arguments, &settings),
        Command::DeclareRestore(arguments) => declare_restore::run(&arguments, &settings),
        Command::Migrate => migrate::run(&settings),
        Command::Keys(command) => keys::run(&command, &settings),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn understand(args: impl IntoIterator<Item = OsString>) -> Result<(Command, Settings), ExitCode> {
    let parsed = program().try_get_matches_from(args).and_then(|matches| {
        let command = match matches.subcommand() {
            Some(_) => Command::from_arg_matches(&matches)?,
            None => Command::Serve,
        };
        Ok((command, matches))
    });
    let (command, matches) = parsed.map_err(|error| {
        // Where help cannot be printed there is nobody to tell.
        let _ = error.print();
        ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
    })?;
    let env = std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    let settings = config::settings(&matches, env).map_err(|error| {
        complain(&error);
        ExitCode::from(USAGE)
    })?;
    Ok((command, settings))
}

fn program() -> clap::Command {
    let program = clap::Command::new("zerok-relay")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The 0k-Sync relay: stores and forwards what it cannot read.")
        .after_help(
            "Without a command the relay runs. Every setting can also be an environment variable \
             (ZEROK_RELAY_DATA_DIR) or a line in the configuration file (data_dir = \"…\"): flags win over the \
             environment, the environment over the file.",
        )
        .disable_help_subcommand(true)
        .args(config::flags());
    Command::augment_subcommands(program).subcommand_required(false).arg_required_else_help(false)
}

fn complain(error: &dyn std::fmt::Display) {
    eprintln!("zerok-relay: {error}");
}

/// Writes what was asked for. A reader that went away (`| head`) wanted no more.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// One JSON value on a line of its own.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string(value)?))
}

/// Said after timelines have changed.
const WHAT_CLIENTS_SEE: &str = "\
Clients compare at their next connection, put back what they have and the database lacks, and
report no rollback. What was acknowledged and no device has any more is gone.
";

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Runtime::new()?.block_on(work)
}

fn unix_ms() -> u64 {
    SystemClock::new().now().unix_ms
}

/// `12.3 MiB`.
fn size(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "a digit behind the point is shown")]
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB"].iter();
    let mut unit = units.next();
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        value /= 1024.0;
        unit = Some(next);
    }
    format!("{value:.1} {}", unit.expect("there are units"))
}
