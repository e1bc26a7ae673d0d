//! A relay and what it runs on, ready to be measured; and what a measurement cost whom.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::conditions::{Conditions, load_average};
use super::population::{Dialer, Transport};
use super::process;
use super::target::{self, RelayProcess, Store, StoreKind};

/// A relay of our own.
pub struct Rig {
    /// What it stores in.
    pub store: Store,
    /// Its process.
    pub relay: RelayProcess,
    binary: PathBuf,
    options: Vec<String>,
}

impl Rig {
    /// Starts `binary` on an empty store.
    ///
    /// # Errors
    /// When the store or the relay does not start.
    pub fn start(kind: StoreKind, binary: PathBuf, options: Vec<String>) -> Result<Self> {
        // It is run in the store's directory, where a relative path leads elsewhere.
        let binary = binary.canonicalize().with_context(|| format!("there is no relay at {}", binary.display()))?;
        let store = Store::create(kind)?;
        let relay = RelayProcess::start(&binary, &store, "127.0.0.1:0", &options)?;
        Ok(Self { store, relay, binary, options })
    }

    /// Kills the relay and starts it again at the same address after `outage`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(self, outage: Duration) -> Result<Self> {
        let Self { store, relay, binary, options } = self;
        let addr = relay.addr.to_string();
        relay.kill()?;
        std::thread::sleep(outage);
        let relay = RelayProcess::start(&binary, &store, &addr, &options)?;
        Ok(Self { store, relay, binary, options })
    }

    /// Stops the relay, copies the store's only group and its entries `count` times under other ids,
    /// and starts the relay again: what takes minutes over the protocol takes seconds, and the rows
    /// are the relay's own.
    ///
    /// # Errors
    /// When the relay does not start, or the database takes no copies.
    pub async fn with_clones(self, count: usize) -> Result<Self> {
        let Self { store, relay, binary, options } = self;
        let addr = relay.addr.to_string();
        relay.kill()?;
        store.clone_group(count).await?;
        let relay = RelayProcess::start(&binary, &store, &addr, &options)?;
        Ok(Self { store, relay, binary, options })
    }

    /// Dials it.
    ///
    /// # Errors
    /// When it does not describe itself.
    pub async fn dialer(&self, transport: Transport, sessions: usize) -> Result<Dialer> {
        let addr = self.relay.addr;
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
        rig.and_then(|rig| process::cpu(rig.relay.pid())),
        rig.and_then(|rig| rig.store.cpu()),
        process::cpu(std::process::id()),
        process::cpu_of_machine(),
    ]
    .map(Option::unwrap_or_default)
}

impl std::fmt::Display for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { relay, database, generator, others, load_average } = self;
        write!(
            f,
            "relay {relay:.2}  database {database:.2}  generator {generator:.2}  others {others:.2}  \
             (load average {load_average:.1})"
        )
    }
}
