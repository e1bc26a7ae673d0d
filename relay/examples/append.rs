//! How fast the log takes appends, next to what `pgbench` gets on the same server in the same run.
//!
//! `cargo run --release -p zerok-sync-relay --example append -- [seconds] [preloaded entries]`
//! starts a Postgres cluster with full durability and a SQLite file in the temporary directory,
//! and appends 1 KiB envelopes through the writer: 64 appenders in 64 logs, then 16 in one log.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{AuthPublicKey, NoisePublicKey, Timeline};
use zerok_sync_relay::RelayLimits;
use zerok_sync_relay::doorbell::Silent;
use zerok_sync_relay::hub::Hub;
use zerok_sync_relay::metrics::Metrics;
use zerok_sync_relay::store::{Append, AppendRequest, DynStore, GroupKey, NewLog, Postgres, Sqlite};
use zerok_sync_relay::writer::Writer;
use zerok_sync_testkit::postgres::{Cluster, Durability};

const ENVELOPE_BYTES: usize = 1_024;
const DEVICE: NoisePublicKey = NoisePublicKey([1; 32]);

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let preload: u64 = arguments.next().map_or(Ok(0), |text| text.parse())?;

    let dir = tempfile::tempdir()?;
    let sqlite: DynStore = Arc::new(Sqlite::open(dir.path().join("relay.db"))?);
    measure("SQLite", &sqlite, seconds, preload).await?;

    let cluster = tokio::task::spawn_blocking(|| Cluster::start(Durability::Full)).await??;
    let url = cluster.database();
    let postgres: DynStore = Arc::new(Postgres::connect(&url).await?);
    measure("Postgres", &postgres, seconds, preload).await?;
    for (name, clients, setup, script) in
        [("64 clients, a row each", 64, ROWS, ROW), ("16 clients, one hot row", 16, HOT, HOT_ROW)]
    {
        let rate = tokio::task::block_in_place(|| pgbench(dir.path(), &url, seconds, clients, setup, script))?;
        println!("pgbench   {name:<28} {rate:>9.0}/s");
    }
    Ok(())
}

/// Appends as fast as it goes and prints the rate and the latency.
async fn measure(name: &str, store: &DynStore, seconds: u64, preload: u64) -> Result<()> {
    let (limits, metrics) = (RelayLimits::default(), Metrics::new());
    let hub = Hub::new(&limits, &metrics, Arc::new(Silent));
    let writer = Arc::new(Writer::start(store.clone(), hub, &limits, metrics.clone()));
    let mut logs = Vec::new();
    for n in 0..64 {
        logs.push(create(store, n).await?);
    }
    if preload > 0 {
        let started = Instant::now();
        let share = preload / logs.len() as u64;
        append_all(&writer, &logs, move |_, done| done < share, 200).await?;
        println!(
            "{name:<9} {preload} entries stored before, at {:.0}/s",
            preload as f64 / started.elapsed().as_secs_f64()
        );
    }
    for (what, appenders) in [("64 appenders in 64 logs", logs.clone()), ("16 appenders in one log", vec![logs[0]; 16])]
    {
        let until = Instant::now() + Duration::from_secs(seconds);
        let started = Instant::now();
        let mut latencies = append_all(&writer, &appenders, move |now, _| now < until, 1).await?;
        let rate = latencies.len() as f64 / started.elapsed().as_secs_f64();
        latencies.sort_unstable();
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!(
            "{name:<9} {what:<28} {rate:>9.0}/s  p50 {:.2} ms  p99 {:.2} ms  max {:.1} ms",
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    let mut latencies = append_all(&writer, &logs[..1], |_, done| done < 500, 1).await?;
    latencies.sort_unstable();
    println!("{name:<9} one appender                            p50 {:.2} ms", latencies[250].as_secs_f64() * 1e3);
    writer.close().await;
    Ok(())
}

async fn create(store: &DynStore, n: u8) -> Result<GroupKey> {
    let log = NewLog {
        auth_public: AuthPublicKey([n; 32]),
        timeline: Timeline([1; 8]),
        allow: vec![DEVICE],
        epoch_envelope: envelope(),
        envelopes: Vec::new(),
    };
    store.create(log, 1).await?.context("the store is empty")
}

/// One task per element of `logs`, each appending `count` envelopes at a time for as long as
/// `more(now, appends done)` says; the latency of each append.
async fn append_all(
    writer: &Arc<Writer>,
    logs: &[GroupKey],
    more: impl Fn(Instant, u64) -> bool + Clone + Send + 'static,
    count: u64,
) -> Result<Vec<Duration>> {
    let tasks: Vec<_> = logs
        .iter()
        .map(|&group| {
            let (writer, more) = (Arc::clone(writer), more.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                let mut now = Instant::now();
                while more(now, latencies.len() as u64 * count) {
                    let envelopes = (0..count).map(|_| envelope()).map(|bytes| (blob_id(&bytes), bytes)).collect();
                    let request = AppendRequest {
                        group,
                        auth_gen: 0,
                        device: DEVICE,
                        envelopes,
                        group_bytes_max: u64::MAX,
                        now_ms: 1,
                    };
                    match writer.append(request).await? {
                        Append::Stored { .. } => {}
                        other => bail!("not stored: {other:?}"),
                    }
                    let done = Instant::now();
                    latencies.push(done - now);
                    now = done;
                }
                Ok(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(latencies)
}

/// An envelope like no other.
fn envelope() -> Bytes {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = vec![0xa5; ENVELOPE_BYTES];
    bytes[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    bytes.into()
}

const ROWS: &str = "CREATE TABLE bench_rows (id bigserial PRIMARY KEY, data bytea NOT NULL);
                    ALTER TABLE bench_rows ALTER data SET STORAGE EXTERNAL";
const ROW: &str = "INSERT INTO bench_rows (data) VALUES (decode(repeat('a5', 1024), 'hex'));\n";
const HOT: &str = "CREATE TABLE bench_head (id int PRIMARY KEY, head bigint NOT NULL);
                   INSERT INTO bench_head VALUES (1, 0);
                   CREATE TABLE bench_entries (head bigint PRIMARY KEY, data bytea NOT NULL);
                   ALTER TABLE bench_entries ALTER data SET STORAGE EXTERNAL";
const HOT_ROW: &str = "BEGIN;
UPDATE bench_head SET head = head + 1 WHERE id = 1 RETURNING head \\gset
INSERT INTO bench_entries VALUES (:head, decode(repeat('a5', 1024), 'hex'));
COMMIT;
";

/// Transactions per second that `pgbench` gets with two threads.
fn pgbench(dir: &Path, url: &str, seconds: u64, clients: u32, setup: &str, script: &str) -> Result<f64> {
    let bin = PathBuf::from(String::from_utf8(Command::new("pg_config").arg("--bindir").output()?.stdout)?.trim());
    if !Command::new(bin.join("psql")).args([url, "-q", "-c", setup]).status()?.success() {
        bail!("psql failed");
    }
    let file = dir.join("script.sql");
    std::fs::File::create(&file)?.write_all(script.as_bytes())?;
    let output = Command::new(bin.join("pgbench"))
        .args(["-n", "-M", "prepared", "-j", "2", "-c", &clients.to_string(), "-T", &seconds.to_string(), "-f"])
        .args([file.as_os_str(), url.as_ref()])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")).and_then(|rest| rest.split(' ').next());
    rate.with_context(|| format!("pgbench said: {text}{}", String::from_utf8_lossy(&output.stderr)))?
        .parse()
        .map_err(Into::into)
}
