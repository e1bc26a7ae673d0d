//! What sessions cost that do nothing, and how they come back when the relay does.

use std::time::Duration;

use anyhow::Result;

use super::super::idle::{Idle, idle};
use super::super::population::{Transport, found};
use super::super::storm::{Waits, storm};
use super::super::target::StoreKind;
use super::Bench;
use super::report::{Figure, Goal};

/// Devices of each group.
const GROUP: usize = 4;
/// How long the relay is away beside its own start.
const OUTAGE: Duration = Duration::from_millis(1_500);

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    if bench.wants("idle.ws") {
        let idle = rest(bench, Transport::Ws, bench.scale.idle_ws_groups).await?;
        let what = format!("memory of the relay for each of {} idle WebSocket sessions", idle.sessions);
        put(bench, "idle.ws", what, &idle, Goal::AtMost(12.0));
    }
    if bench.wants("idle.iroh") {
        let idle = rest(bench, Transport::Iroh, bench.scale.idle_iroh_groups).await?;
        let what = format!("memory of the relay for each of {} idle iroh sessions", idle.sessions);
        put(bench, "idle.iroh", what, &idle, Goal::None);
    }
    if bench.wants("storm") {
        come_back(bench).await?;
    }
    Ok(())
}

async fn rest(bench: &Bench, transport: Transport, groups: usize) -> Result<Idle> {
    let rig = bench.rig(StoreKind::Sqlite).await?;
    let dialer = rig.dialer(transport, groups * GROUP).await?;
    // Founded over WebSocket, so that each iroh session that counts is one that rests.
    let groups = found(&rig.dialer(Transport::Ws, 1).await?, groups, GROUP).await?;
    idle(&dialer, &groups, 1, bench.scale.rest, rig.relay.pid()).await
}

fn put(bench: &mut Bench, id: &str, what: String, idle: &Idle, goal: Goal) {
    let kib = idle.bytes_per_session.unwrap_or_default() / 1024.0;
    let mib = |bytes: Option<u64>| bytes.unwrap_or_default() >> 20;
    bench.figure(Figure::new(id, what, kib, "KiB", goal).with(format!(
        "{} MiB → {} MiB; all live after {:.1} s; {:.1} ms of processor time a second for all",
        mib(idle.relay_rss_before_bytes),
        mib(idle.relay_rss_after_bytes),
        idle.connect_seconds,
        idle.relay_cpu_ms_per_second.unwrap_or_default()
    )));
}

async fn come_back(bench: &mut Bench) -> Result<()> {
    let mut rig = bench.rig(StoreKind::Sqlite).await?;
    let dialer = rig.dialer(Transport::Ws, bench.scale.storm_groups * GROUP).await?;
    let groups = found(&dialer, bench.scale.storm_groups, GROUP).await?;
    let storm = storm(&dialer, &groups, 1, &mut rig, OUTAGE, Waits::Jittered).await?;
    let (sessions, outage, back) = (storm.sessions, storm.outage_seconds, storm.back_after);
    bench.figure(
        Figure::new(
            "storm",
            format!("all of {sessions} clients live again after a kill -9 of the relay"),
            back.max_ms / 1000.0,
            "s",
            Goal::AtMost(10.0),
        )
        .with(format!(
            "outage {outage:.2} s; back after {back}; {} attempts failed, {} lost",
            storm.failed_attempts, storm.lost
        )),
    );
    bench.figure(Figure::new(
        "storm.refused",
        "of them refused for good",
        (storm.refused_for_good + storm.lost) as f64,
        "",
        Goal::AtMost(0.0),
    ));
    Ok(())
}
