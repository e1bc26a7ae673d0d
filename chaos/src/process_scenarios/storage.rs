//! What is on the disk, and a database in trouble: C-STOR-04, C-STOR-05 (and its failover), C-COLL-01.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::{judge, patiently, stage, until};
use crate::processes::deployment::blocking;
use crate::processes::{Database, Store};
use crate::soak::check::{self, Violation};
use crate::soak::stored::stored_logs;
use crate::soak::trace::Trace;

/// How often the relay is killed.
const KILLS: usize = 5;
/// How many connections of the database are ended while commits are under way.
const TERMINATIONS: usize = 20;
/// A blob of which each push carries one.
const LARGE_BYTES: usize = 600 * 1024;
/// What a connection carries before it is cut: some of ten.
const CARRIED_BYTES: usize = 7 * LARGE_BYTES / 2;

pub(super) async fn every_acknowledged_entry_is_there(dir: &Path) -> Result<String> {
    let mut stage = stage(dir, Store::Sqlite, false, 2).await?;
    stage.push_at(100.0);
    let mut looked_up = 0;
    for _ in 0..KILLS {
        let before = stage.written().iter().map(Vec::len).sum::<usize>();
        until("acknowledgements", || stage.written().iter().map(Vec::len).sum::<usize>() > before + 10).await?;
        // Written down before the kill: the relay had acknowledged these.
        let scribes = stage.written();
        stage.deployment.relays[0].kill().await?;
        looked_up += scribes.iter().map(Vec::len).sum::<usize>();
        let trace = Trace { scribes, logs: stored_logs(&stage.deployment).await?, ..Trace::default() };
        let wrong = check::check(&trace).into_iter().find(|wrong| matches!(wrong, Violation::AckWrong { .. }));
        ensure!(wrong.is_none(), "{wrong:?}");
        stage.deployment.relays[0].up().await?;
    }
    judge(&mut stage, &format!("{KILLS} kills, {looked_up} acknowledgements looked up behind them")).await
}

pub(super) async fn postgres_in_trouble(dir: &Path) -> Result<String> {
    let mut stage = stage(dir, Store::Postgres, false, 2).await?;
    let database = stage.deployment.database().context("on Postgres")?.clone();
    stage.push_at(60.0);
    patiently("everybody gets through", stage.everybody_gets_through()).await?;

    // An administrator restarts it.
    let restarting = database.clone();
    blocking(move || {
        restarting.cluster().down()?;
        restarting.up()
    })
    .await?;
    patiently("everybody gets through after a restart", stage.everybody_gets_through()).await?;

    // Slow: somebody holds the table.
    let mut client = connect(&database).await?;
    let lock = client.transaction().await?;
    lock.batch_execute("LOCK TABLE entries IN ACCESS EXCLUSIVE MODE").await?;
    let [pushed, ..] = stage.counts();
    until("pushes wait", || stage.counts()[0] > pushed + 30).await?;
    lock.rollback().await?;
    patiently("everybody gets through after a lock", stage.everybody_gets_through()).await?;

    // Connections ended at any moment of a transaction: some of the commits are ambiguous.
    let mut ended = 0;
    let ending = async {
        while ended < TERMINATIONS {
            ended += end_all_others(&client).await?;
            sleep(Duration::from_millis(30)).await;
        }
        anyhow::Ok(())
    };
    patiently("connections that can be ended", ending).await??;
    patiently("everybody gets through after lost connections", stage.everybody_gets_through()).await?;

    // Out of connections: nobody new gets one, and those there are end.
    client.batch_execute("ALTER ROLE zerok NOLOGIN").await?;
    end_all_others(&client).await?;
    let [pushed, ..] = stage.counts();
    until("pushes wait", || stage.counts()[0] > pushed + 30).await?;
    client.batch_execute("ALTER ROLE zerok LOGIN").await?;
    patiently("everybody gets through with connections again", stage.everybody_gets_through()).await?;
    drop(client);
    judge(&mut stage, &format!("a restart, a lock, {ended} connections ended, none to be had")).await
}

pub(super) async fn failed_over(dir: &Path) -> Result<String> {
    let mut stage = stage(dir, Store::Replicated, false, 2).await?;
    let database = stage.deployment.database().context("on Postgres")?.clone();
    stage.push_at(60.0);
    patiently("everybody gets through", stage.everybody_gets_through()).await?;
    let acknowledged = || stage.written().iter().map(Vec::len).sum::<usize>();
    let before = acknowledged();
    until("acknowledgements", || acknowledged() > before + 10).await?;

    let [_, acked_before, _] = stage.counts();
    blocking(move || database.fail_over()).await?;

    patiently("everybody gets through at the standby", stage.everybody_gets_through()).await?;
    stage.deployment.assert_relays_run()?;
    judge(&mut stage, &format!("the primary killed behind {acked_before} acknowledgements, its standby promoted")).await
}

/// Ends every other connection; how many that were.
async fn end_all_others(client: &tokio_postgres::Client) -> Result<usize> {
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    Ok(client.query(others, &[]).await?.len())
}

async fn connect(database: &Database) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub(super) async fn burst_cut(dir: &Path) -> Result<String> {
    let mut stage = stage(dir, Store::Sqlite, true, 2).await?;
    let cable = stage.deployment.proxy()?;
    // Every connection from now on is cut in mid-burst.
    cable.change(|cable| cable.bytes_up = CARRIED_BYTES);
    cable.cut();
    stage.groups[0][0].burst(10, LARGE_BYTES).await?;
    until("a part of the burst arrives", || stage.counts()[1] >= 1).await?;
    let [pushed, acked, _] = stage.counts();
    let outbox = stage.groups[0][0].status().context("it runs")?.outbox_count;
    ensure!(pushed == 10 && acked < 10 && outbox > 0, "{acked} of {pushed} acknowledged, {outbox} wait");
    let cable = stage.deployment.proxy()?;
    cable.change(|cable| cable.bytes_up = usize::MAX);
    cable.cut();
    judge(&mut stage, &format!("cut with {acked} of 10 acknowledged and {outbox} known to be missing")).await
}
