//! The relay is gone: T-CONN-01, T-CONN-03.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use zerok_sync::Connection;

use super::{judge, patiently, stage, until};
use crate::processes::Store;

/// Pushes under way when the relay dies.
const ACKED_BEFORE: u64 = 60;
/// Nothing came on an iroh link for three heartbeats, and the machine may be busy.
const NOTICED_WITHIN: Duration = Duration::from_secs(25);

pub(super) async fn killed_in_push_stream(dir: &Path) -> Result<String> {
    let mut stage = stage(dir, Store::Sqlite, false, 2).await?;
    stage.push_flat_out();
    until("a push stream", || stage.counts()[1] > ACKED_BEFORE).await?;
    stage.deployment.relays[0].kill().await?;
    let [pushed, acked, _] = stage.counts();
    stage.deployment.relays[0].up().await?;
    stage.look_up().await?;
    patiently("everybody gets through", stage.everybody_gets_through()).await?;
    judge(&mut stage, &format!("killed with {} pushes unanswered", pushed - acked)).await
}

pub(super) async fn relay_away(dir: &Path) -> Result<String> {
    let mut stage = stage(dir, Store::Sqlite, false, 3).await?;
    stage.push_at(30.0);
    patiently("everybody gets through", stage.everybody_gets_through()).await?;
    stage.deployment.relays[0].kill().await?;
    // Each by itself: nobody looks at a device.
    let killed = Instant::now();
    let noticed = |status: zerok_sync::Status| status.connection != Connection::Live && status.problem.is_some();
    until("everybody notices", || stage.devices().all(|device| device.status().is_some_and(noticed))).await?;
    let noticed = killed.elapsed();
    ensure!(noticed < NOTICED_WITHIN, "it took {noticed:?} until everybody noticed");
    let before = stage.counts();
    until("pushes are taken meanwhile", || stage.counts()[0] >= before[0] + 10).await?;
    let during = stage.counts();
    ensure!(during[1..] == before[1..], "nothing is acknowledged or delivered by nobody: {during:?}");
    stage.deployment.relays[0].up().await?;
    stage.look_up().await?;
    patiently("everybody gets through", stage.everybody_gets_through()).await?;
    judge(&mut stage, &format!("everybody noticed within {:.1} s", noticed.as_secs_f64())).await
}
