//! What an empty relay costs, and what a full store changes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::catch_up::fill;
use super::super::flow::{Flow, flow};
use super::super::population::{Transport, found};
use super::super::process;
use super::super::record::median;
use super::super::rig::Rig;
use super::super::target::StoreKind;
use super::report::{Figure, Goal, number};
use super::{Bench, STORES, tag};

/// Entries of each group of the large store.
const ENTRIES_PER_GROUP: u64 = 100;
/// Entries a second while latency is compared: every one is alone.
const RATE: f64 = 100.0;
/// Rounds of it.
const ROUNDS: usize = 3;
/// What may change.
const UNCHANGED: f64 = 1.2;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    if bench.wants("empty") {
        empty(bench).await?;
    }
    for kind in STORES {
        if bench.wants(&format!("large.{}", tag(kind))) {
            large(bench, kind).await?;
        }
    }
    Ok(())
}

async fn empty(bench: &mut Bench) -> Result<()> {
    let rig = bench.rig(StoreKind::Sqlite).await?;
    let rss = rig.relay.pid().and_then(process::rss_bytes).unwrap_or_default();
    let (_rig, starts) = restarts(rig, bench.scale.starts).await?;
    let mib = rss as f64 / f64::from(1 << 20);
    bench.figure(Figure::new("empty.memory", "memory of an empty relay", mib, "MiB", Goal::AtMost(20.0)));
    bench.figure(Figure::new(
        "empty.start",
        "from the start of the process to ready, SQLite",
        starts,
        "ms",
        Goal::AtMost(200.0),
    ));
    Ok(())
}

/// The median of some starts, in milliseconds.
async fn restarts(mut rig: Rig, count: usize) -> Result<(Rig, f64)> {
    let mut starts = Vec::new();
    for _ in 0..count {
        rig.restart(Duration::ZERO).await?;
        starts.push(rig.relay.ready_after().as_secs_f64() * 1000.0);
    }
    Ok((rig, median(&starts)))
}

/// The same relay on an empty and on a large store, by turns.
async fn large(bench: &mut Bench, kind: StoreKind) -> Result<()> {
    let scale = bench.scale;
    let full = bench.rig(kind).await?;
    let dialer = full.dialer(Transport::Ws, 1).await?;
    let groups = found(&dialer, 1, 1).await?;
    fill(&dialer, groups.first().context("a group was founded")?, ENTRIES_PER_GROUP, 1024).await?;
    let filling = Instant::now();
    let mut rigs = [bench.rig(kind).await?, full.with_clones(scale.large_groups).await?];
    let filled_in = filling.elapsed().as_secs_f64();
    let mut plan = scale.pushing(1);
    plan = Flow { rate: Some(RATE), duration: plan.duration / 2, ..plan };
    let (mut latencies, mut starts) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..if scale.verifies() { 1 } else { ROUNDS } {
        let mut restarted = Vec::new();
        for (index, rig) in rigs.into_iter().enumerate() {
            let (rig, start) = restarts(rig, scale.starts.div_ceil(2)).await?;
            starts[index].push(start);
            let dialer = rig.dialer(Transport::Ws, 1).await?;
            let groups = found(&dialer, 4, 1).await?;
            latencies[index].push(flow(Some(&rig), &dialer, &groups, &plan).await?.push_to_ack.p50_ms);
            restarted.push(rig);
        }
        rigs = restarted.try_into().ok().context("two rigs stay two")?;
    }
    let entries = number(scale.large_groups as f64 * ENTRIES_PER_GROUP as f64);
    let store = kind.name();
    for (id, what, unit, values) in [
        ("push", "push latency (p50)", "ms", latencies.map(|values| median(&values))),
        ("start", "start to ready", "ms", starts.map(|values| median(&values))),
    ] {
        let [empty, full] = values;
        bench.figure(
            Figure::new(
                format!("large.{}.{id}", tag(kind)),
                format!("{store}: {what} with {entries} entries stored, against an empty store"),
                full / empty,
                "×",
                Goal::AtMost(UNCHANGED),
            )
            .with(format!("{full:.2} to {empty:.2} {unit}; filled in {filled_in:.0} s")),
        );
    }
    Ok(())
}
