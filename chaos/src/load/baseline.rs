//! The obvious way of using the same database on the same disk: what the relay is compared with.
//!
//! *fsync*: a 4 KiB block written and synced, over and over. *pgbench, many rows*: 64 clients, each
//! inserting one row of the same size per transaction, prepared. *pgbench, one hot row*: 16 clients,
//! each taking the next number from the same row and inserting under it, one statement per
//! transaction. *SQLite*: one row per transaction, WAL, `synchronous=FULL`, one thread.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use zerok_sync_testkit::postgres::Cluster;

use super::record::Latency;

/// Clients of `pgbench` that insert rows of their own.
pub const PGBENCH_CLIENTS: usize = 64;
/// Clients of `pgbench` that all want the same row.
pub const PGBENCH_HOT_CLIENTS: usize = 16;
/// A block of most file systems and of Postgres' log.
const BLOCK_BYTES: usize = 4096;

/// How fast a disk makes things durable.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Fsync {
    /// Writes with fsync, one after another, in a second.
    pub per_second: f64,
    /// How long one takes.
    pub latency: Latency,
}

/// Measures `directory`'s disk for `duration`.
///
/// # Errors
/// When it cannot be written.
pub fn fsync(directory: &Path, duration: Duration) -> Result<Fsync> {
    let mut file: File = tempfile::tempfile_in(directory)?;
    let block = [0x5A; BLOCK_BYTES];
    // Allocated before: a growing file costs a second write.
    file.write_all(&block.repeat(64))?;
    file.sync_all()?;
    let (start, mut latencies) = (Instant::now(), Vec::new());
    while start.elapsed() < duration {
        file.seek(SeekFrom::Start((latencies.len() % 64 * BLOCK_BYTES) as u64))?;
        let before = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        latencies.push(before.elapsed());
    }
    let per_second = latencies.len() as f64 / start.elapsed().as_secs_f64();
    Ok(Fsync { per_second, latency: Latency::of_all(latencies) })
}

/// One-row transactions a second on SQLite, for `duration`.
///
/// # Errors
/// When the directory cannot be written.
pub fn sqlite(directory: &Path, row_bytes: usize, duration: Duration) -> Result<f64> {
    let directory = tempfile::tempdir_in(directory)?;
    let mut database = rusqlite::Connection::open(directory.path().join("baseline.db"))?;
    database.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE entries (id INTEGER PRIMARY KEY, envelope BLOB NOT NULL) STRICT;",
    )?;
    let row = vec![0x5A_u8; row_bytes];
    let (start, mut rows) = (Instant::now(), 0_u64);
    while start.elapsed() < duration {
        let transaction = database.transaction()?;
        transaction.prepare_cached("INSERT INTO entries (envelope) VALUES (?1)")?.execute([&row])?;
        transaction.commit()?;
        rows += 1;
    }
    Ok(rows as f64 / start.elapsed().as_secs_f64())
}

/// `pgbench` on a database of its own in the relay's cluster.
pub struct Pgbench<'a> {
    cluster: &'a Cluster,
    url: String,
    payload: String,
}

impl<'a> Pgbench<'a> {
    /// Makes its tables; rows carry `row_bytes`.
    ///
    /// # Errors
    /// What Postgres said.
    pub fn new(cluster: &'a Cluster, row_bytes: usize) -> Result<Self> {
        let url = cluster.database();
        let pgbench = Self { cluster, url, payload: "Z".repeat(row_bytes) };
        // Like the relay's table: binary, never compressed, a key that grows.
        pgbench.psql(
            "CREATE TABLE rows (id bigserial PRIMARY KEY, envelope bytea NOT NULL);
             ALTER TABLE rows ALTER envelope SET STORAGE EXTERNAL;
             CREATE TABLE logs (id int PRIMARY KEY, head bigint NOT NULL);
             INSERT INTO logs VALUES (1, 0);
             CREATE TABLE numbered (log int, number bigint, envelope bytea NOT NULL, PRIMARY KEY (log, number));
             ALTER TABLE numbered ALTER envelope SET STORAGE EXTERNAL;",
        )?;
        Ok(pgbench)
    }

    /// Transactions a second, each inserting a row of its own.
    ///
    /// # Errors
    /// What `pgbench` said.
    pub fn many_rows(&self, duration: Duration) -> Result<f64> {
        self.run(PGBENCH_CLIENTS, "INSERT INTO rows (envelope) VALUES (:payload::bytea);", duration)
    }

    /// Transactions a second, each counting the same row up and inserting under its number.
    ///
    /// # Errors
    /// What `pgbench` said.
    pub fn one_hot_row(&self, duration: Duration) -> Result<f64> {
        let script = "WITH taken AS (UPDATE logs SET head = head + 1 WHERE id = 1 RETURNING head) \
                      INSERT INTO numbered SELECT 1, head, :payload::bytea FROM taken;";
        self.run(PGBENCH_HOT_CLIENTS, script, duration)
    }

    fn run(&self, clients: usize, script: &str, duration: Duration) -> Result<f64> {
        let file = self.cluster.dir().join(format!("script-{clients}.sql"));
        std::fs::write(&file, script)?;
        let output = self
            .cluster
            .client("pgbench")
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
            .args([format!("--client={clients}"), format!("--time={}", duration.as_secs().max(1))])
            .arg(format!("--define=payload={}", self.payload))
            .arg(format!("--file={}", file.display()))
            .arg(&self.url)
            .output()
            .context("pgbench does not run: install PostgreSQL's client programs")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let tps = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok());
        match tps {
            Some(tps) if output.status.success() => Ok(tps),
            _ => bail!("pgbench failed: {said} {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    fn psql(&self, sql: &str) -> Result<()> {
        let output =
            self.cluster.client("psql").args(["-q", "-v", "ON_ERROR_STOP=1", "-c", sql, &self.url]).output()?;
        if !output.status.success() {
            bail!("psql failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}
