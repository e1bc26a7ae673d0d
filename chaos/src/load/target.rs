//! What is under load: a store of our own, or somebody else's relay by its URL.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;
use zerok_sync_protocol::NoisePublicKey;
use zerok_sync_protocol::label::WELL_KNOWN_PATH;
use zerok_sync_testkit::postgres::{Cluster, Durability};

use super::clones;

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

    /// As the relay's `--store` takes it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Brings a new one that has taken some load to where one is that has run for a while. SQLite's
    /// write-ahead log goes round by then. PostgreSQL's does behind a checkpoint: before the first one
    /// it makes a file of 16 MiB for each 16 MiB, and every commit waits for that.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn settle(&self) -> Result<()> {
        if self.kind == StoreKind::Postgres {
            let (database, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await?;
            let connection = tokio::spawn(connection);
            database.batch_execute("CHECKPOINT").await?;
            drop(database);
            connection.await??;
        }
        Ok(())
    }

    /// Removes SQLite's files, while no relay runs.
    pub(super) fn forget(&self) -> Result<()> {
        for file in ["relay.db", "relay.db-wal", "relay.db-shm"] {
            let path = self.directory().join(file);
            if path.exists() {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
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
