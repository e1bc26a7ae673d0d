//! What a figure is worth nothing without: the machine, the versions, the settings.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use super::target::{Store, StoreKind};

/// Under what conditions was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Conditions {
    /// Model of the processor, and how many cores there are.
    pub cpu: String,
    /// Cores.
    pub cores: usize,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Kernel.
    pub kernel: String,
    /// Relay, and how it was built.
    pub relay: String,
    /// Database, its version and what makes it durable.
    pub store: String,
    /// Load average of the last minute, before the run.
    pub load_average: Option<f64>,
}

impl Conditions {
    /// As they are now.
    #[must_use]
    pub fn now(relay: &Path, store: &Store) -> Self {
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: field("/proc/meminfo", "MemTotal")
                .and_then(|text| Some(text.strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| std::env::consts::OS.into()),
            relay: format!("{} ({})", version(relay), build(relay)),
            store: settings(store),
            load_average: load_average(),
        }
    }
}

/// Load average of the last minute.
#[must_use]
pub fn load_average() -> Option<f64> {
    read("/proc/loadavg")?.split_whitespace().next()?.parse().ok()
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn field(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let (_, value) = text.lines().find(|line| line.starts_with(key))?.split_once(':')?;
    Some(value.trim().to_owned())
}

fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    output.map_or_else(|_| "relay".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn build(relay: &Path) -> &'static str {
    if relay.components().any(|part| part.as_os_str() == "debug") { "development build" } else { "release build" }
}

fn settings(store: &Store) -> String {
    match store.kind {
        StoreKind::Sqlite => format!("SQLite {}, journal_mode=WAL, synchronous=FULL", rusqlite::version()),
        StoreKind::Postgres => {
            let version = store.cluster().and_then(|cluster| cluster.client("postgres").arg("--version").output().ok());
            let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
            format!("{}, fsync=on, synchronous_commit=on, shared_buffers default", version.unwrap_or_default())
        }
    }
}

impl std::fmt::Display for Conditions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cpu, cores, memory_bytes, kernel, relay, store, load_average } = self;
        let memory = memory_bytes.map_or(String::new(), |bytes| format!(", {} GiB", bytes >> 30));
        writeln!(f, "machine       {cores} × {cpu}{memory}, Linux {kernel}")?;
        writeln!(f, "relay         {relay}")?;
        write!(f, "store         {store}")?;
        match load_average {
            Some(load) => write!(f, "\nload average  {load:.2} before"),
            None => Ok(()),
        }
    }
}
