//! From one device to the others: latency at half load and at rest, and fan-out.

use anyhow::Result;

use super::super::baseline;
use super::super::flow::{Flow, flow};
use super::super::population::{Dialer, Transport, found};
use super::super::record::median;
use super::super::rig::Rig;
use super::super::target::StoreKind;
use super::report::{Figure, Goal, number};
use super::{Bench, FSYNC, STORES, tag};

/// Devices of the groups whose latency is measured.
const GROUP: usize = 4;
/// Entries a second at rest: none meets another.
const AT_REST: f64 = 20.0;
/// Unanswered pushes of the one device that everybody else of the fan-out group hears.
const FANOUT_IN_FLIGHT: usize = 8;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    for kind in STORES {
        if bench.wants(&format!("delivery.{}", tag(kind))) {
            latency(bench, kind).await?;
        }
    }
    if bench.wants("fanout") {
        fan_out(bench).await?;
    }
    Ok(())
}

async fn latency(bench: &mut Bench, kind: StoreKind) -> Result<()> {
    let rig = bench.rig(kind).await?;
    let scale = bench.scale;
    let dialer = rig.dialer(Transport::Ws, scale.devices).await?;
    let groups = found(&dialer, scale.devices.div_ceil(GROUP), GROUP).await?;
    let live = Flow { follow: true, verify: scale.verifies(), ..scale.pushing(GROUP) };
    let full = flow(Some(&rig), &dialer, &groups, &live).await?.acked_per_second;
    rig.store.settle().await?;
    let (mut half, mut rest) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        let at = |rate| Flow { rate: Some(rate), ..live.clone() };
        half.push(flow(Some(&rig), &dialer, &groups, &at(full / 2.0)).await?);
        let fsync = baseline::fsync(rig.store.directory(), FSYNC)?;
        rest.push((flow(Some(&rig), &dialer, &groups, &at(AT_REST)).await?, fsync.latency.p50_ms));
    }
    let store = kind.name();
    let p99 = median(&half.iter().map(|flowed| flowed.push_to_delivery.p99_ms).collect::<Vec<_>>());
    let last = half.last().map(|flowed| of_rounds(half.len(), &flowed.push_to_delivery)).unwrap_or_default();
    bench.figure(
        Figure::new(
            format!("delivery.{}.half", tag(kind)),
            format!("{store}: push → delivery at half load, p99"),
            p99,
            "ms",
            Goal::AtMost(15.0),
        )
        .with(format!(
            "{} of {} pushes/s in groups of {GROUP}; {last}; cores: {}",
            number(full / 2.0),
            number(full),
            half.last().map(|flowed| flowed.cores).unwrap_or_default()
        )),
    );
    let p50 = median(&rest.iter().map(|(flowed, _)| flowed.push_to_delivery.p50_ms).collect::<Vec<_>>());
    let fsync = median(&rest.iter().map(|(_, fsync)| *fsync).collect::<Vec<_>>());
    bench.figure(
        Figure::new(
            format!("delivery.{}.rest", tag(kind)),
            format!("{store}: push → delivery at rest, p50"),
            p50,
            "ms",
            Goal::AtMost(2.0 * fsync + 1.0),
        )
        .with(format!(
            "an fsync takes {fsync:.2} ms; the goal is two and 1 ms; the generator itself comes {:.2} ms late",
            median(&rest.iter().map(|(flowed, _)| flowed.sent_late.p50_ms).collect::<Vec<_>>())
        )),
    );
    Ok(())
}

/// Says that a figure is the median of its rounds, before the distribution of one of them.
fn of_rounds(rounds: usize, last: &impl std::fmt::Display) -> String {
    match rounds {
        1 => last.to_string(),
        _ => format!("the median of {rounds} rounds, of which the last: {last}"),
    }
}

/// One device is heard by 255 sessions; then again with many other groups in the store.
async fn fan_out(bench: &mut Bench) -> Result<()> {
    let scale = bench.scale;
    let (alone, crowded) = (bench.rig(StoreKind::Sqlite).await?, bench.rig(StoreKind::Sqlite).await?);
    let dialer = crowded.dialer(Transport::Ws, 1).await?;
    found(&dialer, 1, 1).await?;
    let crowded = crowded.with_clones(scale.other_groups).await?;
    let (mut rates, mut crowded_rates, mut details) = (Vec::new(), Vec::new(), String::new());
    for _ in 0..scale.rounds {
        for (rig, rates) in [(&alone, &mut rates), (&crowded, &mut crowded_rates)] {
            let dialer = rig.dialer(Transport::Ws, scale.fanout_devices * 4).await?;
            let (rate, seen) = fan_out_of(rig, &dialer, bench).await?;
            rates.push(rate);
            details = seen;
        }
    }
    let (rate, crowded_rate) = (median(&rates), median(&crowded_rates));
    let sessions = scale.fanout_devices * 4;
    let goal = Goal::AtLeast(50_000.0);
    bench.figure(
        Figure::new("fanout", format!("deliveries of 1 KiB in one group of {sessions} sessions"), rate, "/s", goal)
            .with(of_rounds(scale.rounds, &details)),
    );
    let others = number(scale.other_groups as f64);
    bench.figure(
        Figure::new(
            "fanout.crowded.ratio",
            format!("the same with {others} other groups in the store, against without"),
            crowded_rate / rate,
            "×",
            Goal::AtLeast(0.9),
        )
        .with(format!("{} to {}/s", number(crowded_rate), number(rate))),
    );
    Ok(())
}

async fn fan_out_of(rig: &Rig, dialer: &Dialer, bench: &Bench) -> Result<(f64, String)> {
    let scale = bench.scale;
    let groups = found(dialer, 1, scale.fanout_devices).await?;
    let plan = Flow { sessions: 4, pushers: 1, follow: true, ..scale.pushing(FANOUT_IN_FLIGHT) };
    let flowed = flow(Some(rig), dialer, &groups, &plan).await?;
    let details = format!("push → delivery {}; cores: {}", flowed.push_to_delivery, flowed.cores);
    Ok((flowed.delivered_per_second, details))
}
