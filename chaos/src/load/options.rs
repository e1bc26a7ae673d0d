//! The command line of `zerok-chaos load`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::flow::Flow;
use super::population::Transport;
use super::target::StoreKind;

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Every session pushes; nobody follows. Measures durable appends.
    Push,
    /// Every session follows its group and some push. Measures delivery and fan-out.
    Live,
    /// Each group's log is filled, then read from its start. Measures reading.
    CatchUp,
    /// Every session follows its group and nobody pushes. Measures memory.
    Idle,
    /// Every session follows its group; the relay is killed and started again. Measures the return.
    ReconnectStorm,
}

/// Who reads in mode catch-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reader {
    /// A session without an engine: measures the relay.
    Raw,
    /// The crate zerok-sync on a home of its own: measures the client.
    Native,
}

/// Puts load on a relay and measures it. By default on a relay that it starts itself: the
/// `zerok-relay` of this workspace, on an empty store in the temporary directory, its limits per
/// address lifted.
///
/// Clients speak the real protocol (Noise handshake, Hello, Create, Push, Subscribe with credit);
/// only the envelopes are random bytes instead of sealed ones, which a relay cannot tell apart.
/// Whatever is acknowledged or delivered is checked: a relay that forgets, repeats or reorders ends
/// the run with an error and exit code 1.
#[derive(Debug, Clone, Args)]
pub struct LoadOptions {
    /// What the clients do.
    #[arg(value_enum)]
    pub mode: Mode,
    /// Groups.
    #[arg(long, default_value_t = 16)]
    pub groups: usize,
    /// Devices of each group (at most 64).
    #[arg(long, default_value_t = 4)]
    pub devices: usize,
    /// Sessions of each device at the same time (at most 4).
    #[arg(long, default_value_t = 1)]
    pub sessions: usize,
    /// Mode live: sessions of each group that push.
    #[arg(long, default_value_t = 1)]
    pub pushers: usize,
    /// Bytes of an envelope (at least 340).
    #[arg(long, default_value_t = 1024, value_name = "BYTES")]
    pub payload: usize,
    /// Entries a second of all sessions together, at fixed times whether or not the relay keeps up;
    /// without it, flat out.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Flat out: pushes of a session that may be unanswered.
    #[arg(long, default_value_t = 16)]
    pub in_flight: usize,
    /// Envelopes in one push.
    #[arg(long, default_value_t = 1)]
    pub batch: u64,
    /// Seconds that are measured, or in mode idle rested.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub duration: f64,
    /// Seconds before them.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub warm_up: f64,
    /// Mode catch-up: entries of each log. Other modes: entries that the logs hold beforehand.
    #[arg(long, default_value_t = 0)]
    pub entries: u64,
    /// Mode catch-up: who reads.
    #[arg(long, value_enum, default_value = "raw")]
    pub client: Reader,
    /// Other groups that the store holds beforehand.
    #[arg(long, default_value_t = 0, value_name = "GROUPS")]
    pub bystanders: usize,
    /// Mode reconnect-storm: seconds between the kill and the new start.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    pub outage: f64,
    /// What sessions go over.
    #[arg(long, value_enum, default_value = "ws")]
    pub transport: Transport,
    /// Store of the relay that is started.
    #[arg(long, value_enum, default_value = "sqlite")]
    pub store: StoreKind,
    /// A relay that runs already, as http://HOST:PORT. It must allow that many connections from
    /// here.
    #[arg(long, conflicts_with_all = ["store", "relay", "relay_option", "baseline"])]
    pub url: Option<String>,
    /// The relay's binary [default: the one of this workspace and build].
    #[arg(long, value_name = "FILE")]
    pub relay: Option<PathBuf>,
    /// An option for the relay that is started, such as --relay-option=--log=debug.
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub relay_option: Vec<String>,
    /// Modes push and live: measure this many times, and print medians.
    #[arg(long, default_value_t = 1)]
    pub rounds: usize,
    /// Mode push: before each round, measure the database without a relay: pgbench on the same
    /// cluster (64 clients on rows of their own, or 16 on one row if there is one group), or one-row
    /// transactions on SQLite.
    #[arg(long)]
    pub baseline: bool,
    /// Read every log back and compare it with what was acknowledged.
    #[arg(long)]
    pub verify: bool,
    /// Write the results here, too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl LoadOptions {
    /// # Errors
    /// For numbers that make no sense, with the reason.
    pub fn check(&self) -> Result<()> {
        ensure!(self.groups > 0 && self.devices > 0 && self.sessions > 0, "nobody is there: see --groups, --devices");
        ensure!(self.devices <= 64, "a group has at most 64 devices");
        ensure!(self.sessions <= 4, "a device has at most 4 sessions");
        ensure!(self.rate.is_none_or(|rate| rate > 0.0), "--rate is above 0");
        ensure!((1..=1000).contains(&self.batch), "--batch is 1 to 1000");
        ensure!(self.in_flight > 0 && self.rounds > 0, "--in-flight and --rounds are at least 1");
        ensure!(self.mode != Mode::CatchUp || self.entries > 0, "catch-up needs --entries");
        ensure!(
            self.mode != Mode::ReconnectStorm || self.url.is_none(),
            "reconnect-storm kills the relay: it does so to its own only"
        );
        ensure!(self.payload <= 1 << 20, "--payload is at most 1 MiB");
        Ok(())
    }

    /// The flow that modes push and live are.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let live = self.mode == Mode::Live;
        Flow {
            sessions: self.sessions,
            pushers: if live { self.pushers } else { usize::MAX },
            follow: live,
            rate: self.rate,
            in_flight: self.in_flight,
            batch: self.batch,
            payload_bytes: self.payload,
            warm_up: Duration::from_secs_f64(self.warm_up),
            duration: Duration::from_secs_f64(self.duration),
            verify: self.verify,
        }
    }
}
