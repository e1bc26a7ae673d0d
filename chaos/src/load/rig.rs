//! A relay and what it runs on, ready to be measured; and what a measurement cost whom.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::conditions::{Conditions, load_average};
use super::population::{Dialer, Transport};
use super::process;
use super::target::{self, Store, StoreKind};
use crate::processes::RelayProcess;

/// Limits that would end a load from one address. Everything else is as delivered.
const LIFTED: &[&str] = &[
    "--connections-max=100000",
    "--connections-per-address-max=100000",
    "--handshakes-pending-max=100000",
    "--handshakes-pending-per-address-max=100000",
    "--handshakes-per-minute-per-address=10000000",
    "--groups-per-address-per-day=10000000",
    "--frames-per-second=10000000",
    "--bytes-per-second=100000000000",
    "--group-bytes-max=1000000000000",
];

/// A relay of our own.
pub struct Rig {
    /// What it stores in.
    pub store: Store,
    /// Its process.
    pub relay: RelayProcess,
    /// Whether it loses its database at the next restart: a defect, for a check to find.
    pub forgets: bool,
    binary: PathBuf,
}

impl Rig {
    /// Starts `binary` on an empty store.
    ///
    /// # Errors
    /// When the store or the relay does not start.
    pub async fn start(kind: StoreKind, binary: &Path, options: &[String]) -> Result<Self> {
        // It is run in the store's directory, where a relative path leads elsewhere.
        let binary = binary.canonicalize().with_context(|| format!("there is no relay at {}", binary.display()))?;
        let store = tokio::task::spawn_blocking(move || Store::create(kind)).await??;
        let arguments: Vec<&str> = LIFTED.iter().copied().chain(options.iter().map(String::as_str)).collect();
        let relay = RelayProcess::start_binary(&binary, store.directory(), Some(store.url()), &arguments).await?;
        Ok(Self { store, relay, forgets: false, binary })
    }

    /// Kills the relay and starts it again where it was after `outage`.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self, outage: Duration) -> Result<()> {
        self.relay.kill().await?;
        if self.forgets {
            self.store.forget()?;
        }
        tokio::time::sleep(outage).await;
        self.relay.up().await
    }

    /// Stops the relay, copies the store's only group and its entries `count` times under other ids,
    /// and starts the relay again: what takes minutes over the protocol takes seconds, and the rows
    /// are the relay's own.
    ///
    /// # Errors
    /// When the relay does not start, or the database takes no copies.
    pub async fn with_clones(mut self, count: usize) -> Result<Self> {
        self.relay.kill().await?;
        self.store.clone_group(count).await?;
        self.relay.up().await?;
        Ok(self)
    }

    /// Dials it.
    ///
    /// # Errors
    /// When it does not describe itself.
    pub async fn dialer(&self, transport: Transport, sessions: usize) -> Result<Dialer> {
        let addr = self.relay.addr();
        let described = tokio::task::spawn_blocking(move || target::describe(addr)).await?;
        Dialer::new(&described.context("the relay does not describe itself")?, transport, sessions).await
    }

    /// Under what conditions it runs.
    #[must_use]
    pub fn conditions(&self) -> Conditions {
        Conditions::now(&self.binary, &self.store)
    }
}

/// Processor time in a measurement, in cores (1.0 is one core all the time).
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Cores {
    /// The relay's.
    pub relay: f64,
    /// The database's own processes.
    pub database: f64,
    /// The generator's.
    pub generator: f64,
    /// Everybody else's on this machine, the kernel's unassigned time included: noise.
    pub others: f64,
    /// Load average at the end.
    pub load_average: f64,
}

/// Processor time from some moment on.
pub struct CoresSince<'a> {
    rig: Option<&'a Rig>,
    at: Instant,
    before: [Duration; 4],
}

impl<'a> CoresSince<'a> {
    /// From now on.
    #[must_use]
    pub fn now(rig: Option<&'a Rig>) -> Self {
        Self { rig, at: Instant::now(), before: times(rig) }
    }

    /// Up to now.
    #[must_use]
    pub fn cores(&self) -> Cores {
        let seconds = self.at.elapsed().as_secs_f64();
        let after = times(self.rig);
        let used = |index: usize| after[index].saturating_sub(self.before[index]).as_secs_f64() / seconds;
        let [relay, database, generator, machine] = [0, 1, 2, 3].map(used);
        let others = (machine - relay - database - generator).max(0.0);
        Cores { relay, database, generator, others, load_average: load_average().unwrap_or_default() }
    }
}

fn times(rig: Option<&Rig>) -> [Duration; 4] {
    [
        rig.and_then(|rig| process::cpu(rig.relay.pid()?)),
        rig.and_then(|rig| rig.store.cpu()),
        process::cpu(std::process::id()),
        process::cpu_of_machine(),
    ]
    .map(Option::unwrap_or_default)
}

impl std::fmt::Display for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { relay, database, generator, others, load_average: _ } = self;
        write!(f, "relay {relay:.2}  database {database:.2}  generator {generator:.2}  others {others:.2}")
    }
}
