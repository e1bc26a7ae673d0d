//! The load generator: what a relay can take, measured with the protocol that real devices speak.
//!
//! ```text
//! cargo build --release -p zerok-sync-relay -p zerok-sync-chaos
//! target/release/zerok-chaos load push --groups 64 --devices 1 --store postgres --baseline --rounds 3
//! target/release/zerok-chaos load live --groups 1 --devices 64 --sessions 4 --rate 100
//! ```
//!
//! From the outside in: [`options`] is the command line; [`rig`] starts [`target`]s, a real relay on
//! a real store, which [`clones`] fills; [`population`] connects [`client`]s over [`link`]s; [`flow`], [`catch_up`],
//! [`idle`] and [`storm`] are the modes, [`session`] what one device does in a flow and checks,
//! [`pace`] when, [`record`] how long it took. [`baseline`] is what the same database does without a
//! relay, [`conditions`] what must be said beside every figure. [`bench`] measures all that is
//! promised.

pub mod baseline;
pub mod bench;
pub mod catch_up;
pub mod client;
mod clones;
pub mod conditions;
pub mod flow;
pub mod idle;
pub mod link;
pub mod native;
pub mod options;
pub mod pace;
pub mod population;
pub mod process;
pub mod record;
pub mod rig;
pub mod session;
pub mod storm;
pub mod target;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use self::baseline::Pgbench;
use self::client::Group;
use self::options::{LoadOptions, Mode, Reader};
use self::population::Dialer;
use self::record::median;
use self::rig::{CoresSince, Rig};
use self::target::StoreKind;
use crate::processes::binary::relay_binary;

/// Seconds of each baseline.
const BASELINE: Duration = Duration::from_secs(5);
/// Seconds of the fsync measurement.
const FSYNC: Duration = Duration::from_secs(1);

/// Runs what was asked for and prints it.
///
/// # Errors
/// When something could not be measured, or a relay did not do as it should.
pub async fn run(options: &LoadOptions) -> Result<()> {
    options.check()?;
    let rig = match &options.url {
        Some(_) => None,
        None => {
            let binary = match &options.relay {
                Some(named) => named,
                None => relay_binary()?,
            };
            Some(Rig::start(options.store, binary, &options.relay_option).await?)
        }
    };
    let mut report = json!({ "mode": options.mode });
    if let Some(rig) = &rig {
        let conditions = rig.conditions();
        let fsync = baseline::fsync(rig.store.directory(), FSYNC)?;
        println!("{conditions}");
        println!("disk          {:.0} fsyncs/s, {}", fsync.per_second, fsync.latency);
        report["conditions"] = json!(conditions);
        report["fsync"] = json!(fsync);
    }
    let sessions = options.groups * options.devices * options.sessions;
    let dialer = match (&rig, &options.url) {
        (Some(rig), _) => rig.dialer(options.transport, sessions).await?,
        (None, url) => {
            let addr = target::address_of(url.as_deref().unwrap_or_default())?;
            let described = tokio::task::spawn_blocking(move || target::describe(addr)).await??;
            Dialer::new(&described, options.transport, sessions).await?
        }
    };
    population::found(&dialer, options.bystanders, 1).await?;
    if options.mode == Mode::CatchUp && options.client == Reader::Native {
        report["results"] = native(options, rig.as_ref(), &dialer).await?;
        return write(options, &report);
    }
    let groups = population::found(&dialer, options.groups, options.devices).await?;
    for group in &groups {
        if options.entries > 0 {
            catch_up::fill(&dialer, group, options.entries, options.payload).await?;
        }
    }
    report["results"] = match options.mode {
        Mode::Push | Mode::Live => flows(options, rig.as_ref(), &dialer, &groups).await?,
        Mode::CatchUp => readers(rig.as_ref(), &dialer, &groups).await?,
        Mode::Idle => {
            let relay = rig.as_ref().and_then(|rig| rig.relay.pid());
            let rest = Duration::from_secs_f64(options.duration);
            let idle = idle::idle(&dialer, &groups, options.sessions, rest, relay).await?;
            println!("{} sessions live after {:.1} s", idle.sessions, idle.connect_seconds);
            if let Some(bytes) = idle.bytes_per_session {
                println!("{:.1} KiB of the relay's memory for each", bytes / 1024.0);
            }
            json!(idle)
        }
        Mode::ReconnectStorm => {
            let mut rig = rig.context("a relay of our own")?;
            let outage = Duration::from_secs_f64(options.outage);
            let storm =
                storm::storm(&dialer, &groups, options.sessions, &mut rig, outage, storm::Waits::Jittered).await?;
            println!("{} sessions, outage {:.2} s", storm.sessions, storm.outage_seconds);
            println!("back after    {}", storm.back_after);
            println!(
                "{} attempts failed; {} refused for good, {} lost",
                storm.failed_attempts, storm.refused_for_good, storm.lost
            );
            json!(storm)
        }
    };
    write(options, &report)
}

fn write(options: &LoadOptions, report: &Value) -> Result<()> {
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(report)?)?;
    }
    Ok(())
}

async fn native(options: &LoadOptions, rig: Option<&Rig>, dialer: &Dialer) -> Result<Value> {
    let homes = tempfile::tempdir()?;
    let url = options.url.clone().unwrap_or_else(|| format!("http://{}", dialer.addr()));
    let since = CoresSince::now(rig);
    let read = native::native_catch_up(&url, homes.path(), options.entries, options.payload).await?;
    println!("{} entries pushed at {:.0}/s", read.entries, read.pushed_per_second);
    println!("read in {:.2} s: {:.0}/s", read.seconds, read.entries_per_second);
    println!("  {:.1} µs of processor time for an entry", read.cpu_us_per_entry.unwrap_or_default());
    for (thread, us) in &read.cpu_us_per_entry_by_thread {
        println!("    {us:5.1} {thread}");
    }
    println!("  cores   {} (of filling and reading)", since.cores());
    if let (Some(before), Some(max)) = (read.rss_before_bytes, read.rss_max_bytes) {
        println!("  client  {:.1} MiB before, {:.1} MiB at most", mib(before), mib(max));
    }
    Ok(json!(read))
}

/// Rounds of baseline and flow by turns, so that both see the same weather.
async fn flows(options: &LoadOptions, rig: Option<&Rig>, dialer: &Dialer, groups: &[Arc<Group>]) -> Result<Value> {
    let (mut rounds, mut baselines, mut rates, mut delivered) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let baseline = match rig.filter(|_| options.baseline) {
            Some(rig) => Some(measure_baseline(rig, options)?),
            None => None,
        };
        if let Some(baseline) = baseline {
            println!("round {round}: without a relay {baseline:.0} rows/s");
            baselines.push(baseline);
        }
        let flowed = flow::flow(rig, dialer, groups, &options.flow()).await?;
        println!(
            "round {round}: {:.0} acks/s, {:.0} deliveries/s",
            flowed.acked_per_second, flowed.delivered_per_second
        );
        println!("  sent late        {}", flowed.sent_late);
        println!("  push → ack       {}", flowed.push_to_ack);
        if flowed.push_to_delivery.count > 0 {
            println!("  push → delivery  {}", flowed.push_to_delivery);
        }
        println!("  cores            {}", flowed.cores);
        rates.push(flowed.acked_per_second);
        delivered.push(flowed.delivered_per_second);
        rounds.push(json!({ "flow": flowed, "baseline_rows_per_second": baseline }));
    }
    let (rate, baseline) = (median(&rates), median(&baselines));
    println!("median        {rate:.0} acks/s, {:.0} deliveries/s", median(&delivered));
    let ratio = (baseline > 0.0).then(|| rate / baseline);
    if let Some(ratio) = ratio {
        println!("              {ratio:.2} × the database without a relay");
    }
    Ok(json!({
        "rounds": rounds,
        "acked_per_second": rate,
        "delivered_per_second": median(&delivered),
        "baseline_rows_per_second": baseline,
        "ratio": ratio,
    }))
}

fn measure_baseline(rig: &Rig, options: &LoadOptions) -> Result<f64> {
    match (rig.store.kind, rig.store.cluster()) {
        (StoreKind::Postgres, Some(cluster)) => {
            let pgbench = Pgbench::new(cluster, options.payload)?;
            if options.groups == 1 { pgbench.one_hot_row(BASELINE) } else { pgbench.many_rows(BASELINE) }
        }
        _ => baseline::sqlite(rig.store.directory(), options.payload, BASELINE),
    }
}

/// Each log is read by one client, one after another.
async fn readers(rig: Option<&Rig>, dialer: &Dialer, groups: &[Arc<Group>]) -> Result<Value> {
    let mut results = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let since = CoresSince::now(rig);
        let read = catch_up::catch_up(dialer, index, group, rig.and_then(|rig| rig.relay.pid())).await?;
        let cores = since.cores();
        println!("{} entries in {:.2} s: {:.0}/s", read.entries, read.seconds, read.entries_per_second);
        println!("  cores  {cores}");
        if let (Some(before), Some(max)) = (read.relay_rss_before_bytes, read.relay_rss_max_bytes) {
            println!("  relay  {:.1} MiB before, {:.1} MiB at most", mib(before), mib(max));
        }
        results.push(json!({ "read": read, "cores": cores }));
    }
    Ok(json!(results))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
