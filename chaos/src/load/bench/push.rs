//! Durable pushes a second, beside what the same database does without a relay.

use anyhow::Result;
use serde_json::json;

use super::super::baseline::{self, Pgbench};
use super::super::flow::{Flow, Flowed, flow};
use super::super::population::{Transport, found};
use super::super::record::median;
use super::super::rig::Rig;
use super::super::target::StoreKind;
use super::report::{Figure, Goal, Point, number};
use super::{Bench, FSYNC, STORES, tag};

/// Unanswered pushes of a device that pipelines. Real clients have up to 4 MiB unanswered.
const PIPELINED: usize = 16;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    for kind in STORES {
        if bench.wants(&format!("push.{}", tag(kind))) {
            many_groups(bench, kind).await?;
        }
    }
    if bench.wants("push.hot") {
        one_hot_group(bench).await?;
    }
    if bench.wants("plot") {
        for kind in STORES {
            plots(bench, kind).await?;
        }
    }
    Ok(())
}

async fn many_groups(bench: &mut Bench, kind: StoreKind) -> Result<()> {
    let rig = bench.rig(kind).await?;
    let scale = bench.scale;
    bench.results.conditions.insert(tag(kind).into(), json!(rig.conditions()));
    let dialer = rig.dialer(Transport::Ws, scale.devices).await?;
    let groups = found(&dialer, scale.devices, 1).await?;
    let (mut bare, mut single, mut pipelined, mut last) = (Vec::new(), Vec::new(), Vec::new(), None);
    for _ in 0..scale.rounds {
        bare.push(match rig.store.cluster() {
            Some(cluster) => Pgbench::new(cluster, 1024)?.many_rows(scale.baseline)?,
            None => baseline::sqlite(rig.store.directory(), 1024, scale.baseline)?,
        });
        let one = Flow { verify: scale.verifies(), ..scale.pushing(1) };
        single.push(flow(Some(&rig), &dialer, &groups, &one).await?.acked_per_second);
        let flowed = flow(Some(&rig), &dialer, &groups, &scale.pushing(PIPELINED)).await?;
        pipelined.push(flowed.acked_per_second);
        last = Some(flowed);
    }
    let fsync = baseline::fsync(rig.store.directory(), FSYNC)?;
    let cores = last.map(|flowed| flowed.cores.to_string()).unwrap_or_default();
    let (bare, single, pipelined) = (median(&bare), median(&single), median(&pipelined));
    let (devices, store) = (scale.devices, kind.name());
    let details = match kind {
        StoreKind::Postgres => format!("pgbench {}/s", number(bare)),
        StoreKind::Sqlite => format!("one-row transactions {}/s", number(bare)),
    };
    let details = format!("{details}, disk {} fsyncs/s", number(fsync.per_second));
    let goal = if kind == StoreKind::Sqlite { Goal::AtLeast(10_000.0) } else { Goal::None };
    bench.figure(
        Figure::new(
            format!("push.{}", tag(kind)),
            format!("{store}: durable pushes of {devices} devices in as many groups, 16 unanswered each"),
            pipelined,
            "/s",
            goal,
        )
        .with(format!("{details}; cores: {cores}")),
    );
    bench.figure(
        Figure::new(
            format!("push.{}.single", tag(kind)),
            format!("{store}: the same, 1 unanswered each"),
            single,
            "/s",
            Goal::None,
        )
        .with(details.clone()),
    );
    if kind == StoreKind::Postgres {
        for (id, what, rate) in
            [("ratio", "16 unanswered each", pipelined), ("single.ratio", "1 unanswered each", single)]
        {
            bench.figure(
                Figure::new(
                    format!("push.postgres.{id}"),
                    format!("{store}: {what}, against pgbench with 64 clients"),
                    rate / bare,
                    "×",
                    Goal::AtLeast(1.0),
                )
                .with(format!("{} to {}/s", number(rate), number(bare))),
            );
        }
    }
    Ok(())
}

async fn one_hot_group(bench: &mut Bench) -> Result<()> {
    let rig = bench.rig(StoreKind::Postgres).await?;
    let scale = bench.scale;
    let dialer = rig.dialer(Transport::Ws, scale.hot_devices).await?;
    let groups = found(&dialer, 1, scale.hot_devices).await?;
    let (mut bare, mut single, mut pipelined) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        let Some(cluster) = rig.store.cluster() else { continue };
        bare.push(Pgbench::new(cluster, 1024)?.one_hot_row(scale.baseline)?);
        let one = Flow { verify: scale.verifies(), ..scale.pushing(1) };
        single.push(flow(Some(&rig), &dialer, &groups, &one).await?.acked_per_second);
        pipelined.push(flow(Some(&rig), &dialer, &groups, &scale.pushing(PIPELINED)).await?.acked_per_second);
    }
    let (bare, single, pipelined) = (median(&bare), median(&single), median(&pipelined));
    let devices = scale.hot_devices;
    for (id, what, rate) in
        [("push.hot.ratio", "16 unanswered", pipelined), ("push.hot.single.ratio", "1 unanswered", single)]
    {
        bench.figure(
            Figure::new(
                id,
                format!("PostgreSQL: one hot group of {devices} devices, {what} each, against pgbench on one hot row"),
                rate / bare,
                "×",
                Goal::AtLeast(5.0),
            )
            .with(format!("{} to {}/s", number(rate), number(bare))),
        );
    }
    Ok(())
}

/// Throughput against clients, and against payload.
async fn plots(bench: &mut Bench, kind: StoreKind) -> Result<()> {
    let scale = bench.scale;
    let short = |in_flight| Flow { duration: scale.point, ..scale.pushing(in_flight) };
    let mut by_clients = Vec::new();
    let rig = bench.rig(kind).await?;
    for &clients in scale.clients {
        let flowed = push_with(&rig, clients, &short(PIPELINED)).await?;
        by_clients.push(Point { x: clients as f64, y: flowed.acked_per_second });
    }
    let mut by_payload = Vec::new();
    for &payload_bytes in scale.payloads {
        // As a real client: no more unanswered than its share of the relay's 4 MiB.
        let in_flight = (1_048_576_usize / payload_bytes.max(1)).clamp(1, PIPELINED);
        let flowed = push_with(&rig, scale.devices, &Flow { payload_bytes, ..short(in_flight) }).await?;
        by_payload.push(Point { x: payload_bytes as f64, y: flowed.acked_per_second });
    }
    for (plot, points) in [("clients", by_clients), ("payload", by_payload)] {
        println!("plot {plot:10} {:10} {points:?}", kind.name());
        bench.results.plots.entry(plot.into()).or_default().insert(kind.name().into(), points);
    }
    Ok(())
}

async fn push_with(rig: &Rig, clients: usize, plan: &Flow) -> Result<Flowed> {
    let dialer = rig.dialer(Transport::Ws, clients).await?;
    let groups = found(&dialer, clients, 1).await?;
    flow(Some(rig), &dialer, &groups, plan).await
}
