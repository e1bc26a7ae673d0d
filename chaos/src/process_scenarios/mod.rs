//! Scenarios of the catalogue with real processes: the relay's binary, a real Postgres, real
//! clients. Found by their ids as `zerok-chaos run ID --processes`.
//!
//! Each sets a [`Stage`](crate::soak::Stage), does what its row of the catalogue says, makes sure
//! that it really happened, and ends with the judgement that a soak ends with; or speaks the
//! protocol itself where a real client would not do such a thing.

mod connection;
mod cursors;
mod instances;
mod resources;
mod storage;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::future::BoxFuture;

use self::resources::StormDefect;
use crate::processes::{Deployment, Store};
use crate::sim::Dice;
use crate::soak::{Cast, Stage, check};

/// How long everybody may take to have everything, with everybody looking at their devices.
const SETTLE: Duration = Duration::from_secs(60);
/// How long to wait for what must happen; a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// One row of the catalogue.
pub struct ProcessScenario {
    /// Its name everywhere.
    pub id: &'static str,
    /// What goes wrong, and what must hold.
    pub what: &'static str,
    run: for<'a> fn(&'a Path, Extent) -> BoxFuture<'a, Result<String>>,
    /// What was done wrong on purpose to see that it fails. The others' checks are the soak's, which
    /// has its own.
    pub planted: &'static [Planted],
}

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// As the catalogue says.
    Full,
    /// So that `cargo test` is soon done.
    Small,
}

/// A defect that a scenario must find.
#[derive(Clone, Copy)]
pub struct Planted {
    /// What is wrong.
    pub what: &'static str,
    /// Words of what is found.
    pub found: &'static str,
    run: fn() -> BoxFuture<'static, Result<String>>,
}

impl Planted {
    /// Runs the small form of the scenario with the defect; what was found.
    ///
    /// # Errors
    /// When nothing was.
    pub async fn find(&self) -> Result<String> {
        match (self.run)().await {
            Ok(what) => bail!("{}: nothing was found wrong: {what}", self.what),
            Err(found) => Ok(format!("{found:#}")),
        }
    }
}

impl std::fmt::Debug for Planted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planted").field("what", &self.what).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ProcessScenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessScenario").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Everything there is.
pub const ALL: &[ProcessScenario] = &[
    ProcessScenario {
        id: "T-CONN-01",
        what: "the relay killed (-9) during a push stream: noticed, tried again, each blob once",
        run: |dir, _| Box::pin(connection::killed_in_push_stream(dir)),
        planted: &[],
    },
    ProcessScenario {
        id: "T-CONN-03",
        what: "nobody reaches the relay for a while: everybody notices, nobody diverges, all resume",
        run: |dir, _| Box::pin(connection::relay_away(dir)),
        planted: &[],
    },
    ProcessScenario {
        id: "C-STOR-04",
        what: "kill -9 again and again: whatever was acknowledged is in the file each time",
        run: |dir, _| Box::pin(storage::every_acknowledged_entry_is_there(dir)),
        planted: &[],
    },
    ProcessScenario {
        id: "C-STOR-05",
        what: "Postgres stopped, locked, its connections ended in mid-commit: a pause, not a loss",
        run: |dir, _| Box::pin(storage::postgres_in_trouble(dir)),
        planted: &[],
    },
    ProcessScenario {
        id: "C-STOR-05-FAILOVER",
        what: "Postgres' primary killed for good, its synchronous standby promoted: a pause, not a loss",
        run: |dir, _| Box::pin(storage::failed_over(dir)),
        planted: &[],
    },
    ProcessScenario {
        id: "C-COLL-01",
        what: "a burst cut after some of ten: known to be incomplete, resumed behind the last",
        run: |dir, _| Box::pin(storage::burst_cut(dir)),
        planted: &[],
    },
    ProcessScenario {
        id: "S-CUR-01",
        what: "many writers on one group, on two instances: no reader ever skips an entry",
        run: |dir, _| Box::pin(cursors::many_writers(dir)),
        planted: &[],
    },
    ProcessScenario {
        id: "S-CUR-02",
        what: "the acknowledgement lost after the commit: sent again, the same cursor, one entry",
        run: |dir, _| Box::pin(cursors::acknowledgement_lost(dir)),
        planted: &[],
    },
    ProcessScenario {
        id: "A-RES-05",
        what: "2,000 clients back at once after a restart: spread by jitter, all live again, none refused for good",
        run: |_, extent| Box::pin(resources::reconnect_storm(extent, None)),
        planted: &[
            Planted {
                what: "the relay comes back without its database",
                found: "refused for good",
                run: || Box::pin(resources::reconnect_storm(Extent::Small, Some(StormDefect::DatabaseLost))),
            },
            Planted {
                what: "clients that all wait for the same time",
                found: "first attempts came within a tenth of a second",
                run: || Box::pin(resources::reconnect_storm(Extent::Small, Some(StormDefect::WithoutJitter))),
            },
        ],
    },
    ProcessScenario {
        id: "A-RES-06",
        what: "subscribers that never read: the relay's memory does not grow with what is pushed past them",
        run: |_, extent| Box::pin(resources::never_reads(extent, false)),
        planted: &[Planted {
            what: "a relay that keeps for a subscriber whatever it does not take",
            found: "the relay's memory grew by",
            run: || Box::pin(resources::never_reads(Extent::Small, true)),
        }],
    },
    ProcessScenario {
        id: "MR-06",
        what: "one of two instances on one Postgres killed: its clients go on at the other",
        run: |dir, _| Box::pin(instances::one_of_two_killed(dir)),
        planted: &[],
    },
    ProcessScenario {
        id: "MR-07",
        what: "a device removed on one instance while it pushes on the other: refused there, too",
        run: |dir, _| Box::pin(instances::removed_while_pushing(dir)),
        planted: &[],
    },
];

/// The scenario of an id, in any case.
#[must_use]
pub fn find(id: &str) -> Option<&'static ProcessScenario> {
    ALL.iter().find(|scenario| scenario.id.eq_ignore_ascii_case(id))
}

impl ProcessScenario {
    /// Runs it; what happened.
    ///
    /// # Errors
    /// What was wrong, or what kept it from happening.
    pub async fn check(&self, extent: Extent) -> Result<String> {
        let dir = tempfile::Builder::new().prefix("zerok-chaos-").tempdir()?;
        (self.run)(dir.path(), extent).await.with_context(|| self.id)
    }
}

/// A stage with one group.
async fn stage(dir: &Path, store: Store, proxied: bool, devices: usize) -> Result<Stage> {
    let deployment = Deployment::start(store, &dir.join("relays"), proxied, &[]).await?;
    let cast = Cast { groups: 1, devices, scribes: 1, blob_bytes_max: 1_024 };
    Stage::set(deployment, dir, cast, &mut Dice::new(0, b'p')).await
}

/// The judgement, and what happened, in a sentence.
async fn judge(stage: &mut Stage, what: &str) -> Result<String> {
    stage.look_up().await?;
    let judged = stage.judge(SETTLE).await?;
    let violations = check::check(&judged.trace);
    if let Some(first) = violations.first() {
        bail!("{} violations; the first: {first}", violations.len());
    }
    let [pushed, _, delivered] = stage.counts();
    Ok(format!("{what}; {pushed} pushed, {delivered} delivered, each once"))
}

/// Waits for something that must happen.
async fn patiently<T>(what: &str, happens: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, happens).await.with_context(|| format!("{what}: not in {} s", PATIENCE.as_secs()))
}

/// Looks again and again until it is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) -> Result<()> {
    let looking = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    patiently(what, looking).await
}
