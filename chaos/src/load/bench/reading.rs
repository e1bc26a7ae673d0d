//! Catching up: how fast a log is read, by a bare session and by the real client.

use anyhow::Result;

use super::super::catch_up::{catch_up, fill};
use super::super::native::native_catch_up;
use super::super::population::{Transport, found};
use super::super::record::median;
use super::super::rig::CoresSince;
use super::super::target::StoreKind;
use super::report::{Figure, Goal, number};
use super::{Bench, STORES, tag};

/// What a side's memory may grow by while 100 MB go through it.
const FLAT_MIB: f64 = 16.0;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    for kind in STORES {
        if bench.wants(&format!("catch-up.{}", tag(kind))) {
            raw(bench, kind).await?;
        }
    }
    if bench.wants("catch-up.native") {
        native(bench).await?;
    }
    Ok(())
}

async fn raw(bench: &mut Bench, kind: StoreKind) -> Result<()> {
    let rig = bench.rig(kind).await?;
    let scale = bench.scale;
    let dialer = rig.dialer(Transport::Ws, 1).await?;
    let groups = found(&dialer, 1, 1).await?;
    fill(&dialer, &groups[0], scale.catch_up, 1024).await?;
    let (mut rates, mut grown, mut cores) = (Vec::new(), Vec::new(), String::new());
    for round in 0..scale.rounds {
        let since = CoresSince::now(Some(&rig));
        let read = catch_up(&dialer, round, &groups[0], rig.relay.pid()).await?;
        cores = since.cores().to_string();
        rates.push(read.entries_per_second);
        grown.push(grown_mib(read.relay_rss_before_bytes, read.relay_rss_max_bytes));
    }
    let store = kind.name();
    let entries = number(scale.catch_up as f64);
    bench.figure(
        Figure::new(
            format!("catch-up.{}", tag(kind)),
            format!("{store}: the relay's side of a catch-up of {entries} × 1 KiB"),
            median(&rates),
            "entries/s",
            Goal::AtLeast(60_000.0),
        )
        .with(format!("cores: {cores}")),
    );
    bench.figure(Figure::new(
        format!("catch-up.{}.memory", tag(kind)),
        format!("{store}: what the relay's memory grows by meanwhile"),
        median(&grown),
        "MiB",
        Goal::AtMost(FLAT_MIB),
    ));
    Ok(())
}

async fn native(bench: &mut Bench) -> Result<()> {
    let rig = bench.rig(StoreKind::Sqlite).await?;
    let scale = bench.scale;
    let homes = tempfile::tempdir()?;
    let url = format!("http://{}", rig.relay.addr());
    let read = native_catch_up(&url, homes.path(), scale.catch_up, 1024).await?;
    bench.figure(
        Figure::new(
            "catch-up.native",
            "the native client's catch-up, from opening its home to the app",
            read.entries_per_second,
            "entries/s",
            Goal::AtLeast(40_000.0),
        )
        .with(format!(
            "{:.1} µs of processor time for an entry; filled at {} pushes/s by one client",
            read.cpu_us_per_entry.unwrap_or_default(),
            number(read.pushed_per_second)
        )),
    );
    bench.figure(Figure::new(
        "catch-up.native.memory",
        "what the client's memory grows by meanwhile",
        grown_mib(read.rss_before_bytes, read.rss_max_bytes),
        "MiB",
        Goal::AtMost(FLAT_MIB),
    ));
    Ok(())
}

fn grown_mib(before: Option<u64>, max: Option<u64>) -> f64 {
    max.zip(before).map_or(0.0, |(max, before)| max.saturating_sub(before) as f64 / f64::from(1 << 20))
}
