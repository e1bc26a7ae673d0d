//! What a relay is told to be, and where that comes from: a flag, else an environment variable
//! `ZEROK_RELAY_…`, else a line in `relay.toml`, else the default.
//!
//! `settings.rs` lists what can be set; `sources.rs` collects the texts, each with its source;
//! `parse.rs` gives them meaning; `effective.rs` shows what holds and why, `example.rs` the file
//! with everything in it. A key that nobody knows is an error with a suggestion, wherever it stands.

mod effective;
mod example;
mod parse;
mod settings;
mod sources;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

pub use self::effective::Effective;
pub use self::example::example;
pub use self::parse::{Settings, settings};
pub use self::sources::{ConfigError, flags};
use crate::admission::TrustedProxies;
use crate::core::CreatePolicy;
use crate::limits::RelayLimits;

/// Where the log is kept.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// In a file.
    Sqlite(PathBuf),
    /// In a Postgres database; the URL may hold a password.
    Postgres(Zeroizing<String>),
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "Sqlite({path:?})"),
            Self::Postgres(_) => f.write_str("Postgres([redacted])"),
        }
    }
}

/// Everything a relay needs to know to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where HTTP and WebSocket are served; port 0 picks a free one.
    pub listen: SocketAddr,
    /// How clients reach the relay from outside, without a slash at the end.
    pub public_url: Option<String>,
    /// Where the log is kept.
    pub store: StoreConfig,
    /// Whether a start waits for the database without end.
    pub wait_for_store: bool,
    /// Keys and the default database; made if it is not there.
    pub data_dir: PathBuf,
    /// The Noise key, if not the store's or the data directory's.
    pub key_file: Option<PathBuf>,
    /// UDP port of the iroh endpoint, on the address of `listen`; 0 picks a free one, `None` is no
    /// endpoint.
    pub iroh_port: Option<u16>,
    /// Where clients outside reach the iroh endpoint; empty: its own addresses.
    pub iroh_addrs: Vec<SocketAddr>,
    /// Directory served at `/`.
    pub web_root: Option<PathBuf>,
    /// Who may make new logs.
    pub create: CreatePolicy,
    /// Opens `/metrics` and `/status` to others than this machine.
    pub metrics_token: Option<Zeroizing<String>>,
    /// Where these are served instead of on `listen`.
    pub metrics_listen: Option<SocketAddr>,
    /// Whose word about a client's address is taken.
    pub trusted_proxies: TrustedProxies,
    /// Limits and deadlines.
    pub limits: RelayLimits,
}

impl Config {
    /// A relay on free ports of the loopback interface that keeps everything in `data_dir`: what
    /// an embedding program or a test starts from.
    #[must_use]
    pub fn in_dir(data_dir: impl AsRef<Path>) -> Self {
        let data_dir = data_dir.as_ref().to_owned();
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            public_url: None,
            store: StoreConfig::Sqlite(data_dir.join("relay.db")),
            wait_for_store: false,
            data_dir,
            key_file: None,
            iroh_port: Some(0),
            iroh_addrs: Vec::new(),
            web_root: None,
            create: CreatePolicy::Open,
            metrics_token: None,
            metrics_listen: None,
            trusted_proxies: TrustedProxies::default(),
            limits: RelayLimits::default(),
        }
    }
}
