//! Who is killed next, and who goes down with it.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::processes::deployment::blocking;
use crate::processes::{Deployment, Store};
use crate::sim::Dice;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of a relay.
    Relay(usize),
    /// `kill -9` of every process of the database.
    DatabaseKilled,
    /// The database stops in mid-air and recovers from its log.
    DatabaseCrashed,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Relay(number) => write!(f, "relay {number}, kill -9"),
            Self::DatabaseKilled => f.write_str("database, kill -9"),
            Self::DatabaseCrashed => f.write_str("database, immediate stop"),
        }
    }
}

impl Fault {
    /// The `number`th fault of a soak, from 0: relays and the database by turns.
    #[must_use]
    pub fn nth(store: Store, number: usize) -> Self {
        let relays = if store == Store::Two { 2 } else { 1 };
        match (store, number % 4) {
            (Store::Sqlite, _) => Self::Relay(0),
            (_, 1) => Self::DatabaseKilled,
            (_, 3) => Self::DatabaseCrashed,
            _ => Self::Relay(number / 2 % relays),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// If what is to be killed does not run.
    pub async fn strike(self, deployment: &mut Deployment) -> Result<()> {
        match self {
            Self::Relay(number) => deployment.relays[number].kill().await,
            Self::DatabaseKilled => {
                let database = deployment.database().context("a deployment on Postgres")?.clone();
                blocking(move || database.kill()).await
            }
            Self::DatabaseCrashed => {
                let database = deployment.database().context("a deployment on Postgres")?.clone();
                blocking(move || Ok(database.cluster().crash()?)).await
            }
        }
    }

    /// Starts again what was killed; returns when it is ready.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn repair(self, deployment: &mut Deployment) -> Result<()> {
        match self {
            Self::Relay(number) => deployment.relays[number].up().await,
            Self::DatabaseKilled | Self::DatabaseCrashed => {
                let database = deployment.database().context("a deployment on Postgres")?.clone();
                blocking(move || database.up()).await
            }
        }
    }
}

/// How long the next outage lasts beyond the restart itself: as often as not, no longer.
pub fn outage(dice: &mut Dice, longest: Duration) -> Duration {
    let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
    if dice.chance(500) { Duration::ZERO } else { Duration::from_millis(dice.within(&(0..=longest_ms))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_there_is_gets_killed() {
        let faults = |store| (0..8).map(|number| Fault::nth(store, number)).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(faults(Store::Sqlite).len(), 1);
        assert_eq!(faults(Store::Postgres).len(), 3);
        assert_eq!(faults(Store::Two).len(), 4);
    }
}
