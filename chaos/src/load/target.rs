//! The relay under load: the real binary in a process of its own, on a store of its own, or
//! somebody else's by its URL.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use zerok_sync_protocol::NoisePublicKey;
use zerok_sync_protocol::label::WELL_KNOWN_PATH;
use zerok_sync_testkit::postgres::{Cluster, Durability};

use super::clones;

/// Limits that would end a load from one address. Everything else is as delivered.
const LIFTED: &[(&str, &str)] = &[
    ("connections-max", "100000"),
    ("connections-per-address-max", "100000"),
    ("handshakes-pending-max", "100000"),
    ("handshakes-pending-per-address-max", "100000"),
    ("handshakes-per-minute-per-address", "10000000"),
    ("groups-per-address-per-day", "10000000"),
    ("frames-per-second", "10000000"),
    ("bytes-per-second", "100000000000"),
    ("group-bytes-max", "1000000000000"),
];

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StoreKind {
    /// A file, `synchronous=FULL`.
    Sqlite,
    /// A throw-away cluster with `fsync=on`; PostgreSQL must be installed.
    Postgres,
}

impl StoreKind {
    /// As in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// A database that outlives the relays on it.
pub struct Store {
    /// Which.
    pub kind: StoreKind,
    directory: TempDir,
    cluster: Option<Cluster>,
    url: String,
}

impl Store {
    /// An empty one, on the disk that holds the system's temporary files.
    ///
    /// # Errors
    /// When there is no PostgreSQL to run, or no room.
    pub fn create(kind: StoreKind) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("zerok-load-").tempdir()?;
        let (cluster, url) = match kind {
            StoreKind::Sqlite => (None, format!("sqlite:{}", directory.path().join("relay.db").display())),
            StoreKind::Postgres => {
                let cluster = Cluster::start(Durability::Full)?;
                let url = cluster.database();
                (Some(cluster), url)
            }
        };
        Ok(Self { kind, directory, cluster, url })
    }

    /// Its cluster, if it is Postgres.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// Where the relay keeps its keys, and SQLite its file.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Copies the only group with all its rows, `count` times, while no relay runs.
    pub(super) async fn clone_group(&self, count: usize) -> Result<()> {
        match self.kind {
            StoreKind::Sqlite => clones::in_sqlite(&self.directory.path().join("relay.db"), count),
            StoreKind::Postgres => clones::in_postgres(&self.url, count).await,
        }
    }

    /// Processor time of the database's own processes.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        let pid = std::fs::read_to_string(self.cluster.as_ref()?.dir().join("data/postmaster.pid")).ok()?;
        super::process::cpu_of_family(pid.lines().next()?.trim().parse().ok()?)
    }
}

/// A relay in a process of its own. Killed when dropped.
pub struct RelayProcess {
    child: Child,
    /// From the start of the process to its `ready` line.
    pub ready_after: Duration,
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it proves to be.
    pub noise_key: NoisePublicKey,
}

impl RelayProcess {
    /// Starts the relay `binary` on `store`, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start; what it said is in the error.
    pub fn start(binary: &Path, store: &Store, listen: &str, options: &[String]) -> Result<Self> {
        let log_path = store.directory().join("relay-log");
        let log = File::options().create(true).append(true).open(&log_path)?;
        let started = Instant::now();
        let mut child = Command::new(binary)
            .args(["--listen", listen, "--store", &store.url, "--data-dir"])
            .arg(store.directory())
            .args(LIFTED.iter().map(|(name, value)| format!("--{name}={value}")))
            .args(options)
            .current_dir(store.directory())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line)?;
        let ready_after = started.elapsed();
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(addr), Some(key)) = (
            words.get(1).and_then(|url| url.strip_prefix("http://")?.parse().ok()),
            words.get(2).and_then(|key| key.strip_prefix("key=")?.parse().ok()),
        ) else {
            let _ = child.kill();
            let _ = child.wait();
            let said = std::fs::read_to_string(log_path).unwrap_or_default();
            bail!("{} did not start: {line:?} {}", binary.display(), said.trim());
        };
        Ok(Self { child, ready_after, addr, noise_key: key })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a relay describes itself.
pub struct Described {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it says it is.
    pub noise_key: NoisePublicKey,
    /// Its iroh endpoint, if it has one.
    pub iroh: Option<iroh::EndpointAddr>,
}

/// Asks a relay for its description.
///
/// # Errors
/// When it does not answer as a relay does.
pub fn describe(addr: SocketAddr) -> Result<Described> {
    let mut stream = TcpStream::connect(addr).with_context(|| format!("nobody listens on {addr}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {WELL_KNOWN_PATH} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let description: Value = serde_json::from_str(body).with_context(|| format!("{addr} is no relay: {answer}"))?;
    let noise_key = description["noise_key"].as_str().context("a relay has a noise_key")?;
    let noise_key = noise_key.parse().map_err(|_| anyhow::anyhow!("{noise_key} is no key"))?;
    let iroh = description["iroh"].get(0).map(endpoint).transpose()?;
    Ok(Described { addr, noise_key, iroh })
}

fn endpoint(described: &Value) -> Result<iroh::EndpointAddr> {
    let id = described["endpoint_id"].as_str().context("an iroh endpoint has an id")?;
    let addrs = described["addrs"].as_array().context("an iroh endpoint has addresses")?;
    let addrs = addrs.iter().filter_map(|addr| Some(iroh::TransportAddr::Ip(addr.as_str()?.parse().ok()?)));
    Ok(iroh::EndpointAddr::from_parts(id.parse()?, addrs))
}

/// The address in `http://HOST:PORT`.
///
/// # Errors
/// For anything else: TLS is for the proxy in front, which is not what is measured here.
pub fn address_of(url: &str) -> Result<SocketAddr> {
    let authority = url.strip_prefix("http://").context("--url is http://HOST:PORT")?.trim_end_matches('/');
    authority.to_socket_addrs()?.next().with_context(|| format!("{authority} has no address"))
}
