//! A relay that was stopped or dropped has let go of its database, whoever was connected.

use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use zerok_sync_relay::store::{Sqlite, StoreError};
use zerok_sync_relay::{Config, Relay, RunningRelay, StoreConfig};

use crate::support::PATIENCE;
use crate::support::link::{self, TestLink};

/// A relay with connections that do not end by themselves: one that says nothing at all, and on each
/// transport one that begins no handshake.
struct Beset {
    relay: RunningRelay,
    store: StoreConfig,
    _clients: (TcpStream, TestLink, TestLink),
    _dir: TempDir,
}

impl Beset {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::in_dir(dir.path());
        config.limits.handshake_deadline_ms = 600_000;
        config.limits.http_header_deadline_ms = 600_000;
        config.limits.http_connection_ms_max = 600_000;
        config.limits.shutdown_grace_ms = 100;
        let store = config.store.clone();
        let relay = Relay::start(config).await.unwrap();
        let silent = TcpStream::connect(relay.addr).await.unwrap();
        let clients = (silent, link::ws(&relay).await, link::iroh(&relay).await);
        Self { relay, store, _clients: clients, _dir: dir }
    }
}

fn open(store: &StoreConfig) -> Result<Sqlite, StoreError> {
    let StoreConfig::Sqlite(path) = store else { panic!("the default is a file") };
    Sqlite::open(path)
}

#[tokio::test]
async fn a_shutdown_ends_with_the_database_free_whoever_is_still_connected() {
    let beset = Beset::start().await;
    beset.relay.shutdown().await;
    open(&beset.store).unwrap();
}

#[tokio::test]
async fn a_relay_that_is_dropped_cuts_everybody_off_and_frees_the_database() {
    let beset = Beset::start().await;
    drop(beset.relay);
    let until = Instant::now() + PATIENCE;
    while let Err(taken) = open(&beset.store) {
        assert!(Instant::now() < until, "{taken}");
        sleep(Duration::from_millis(10)).await;
    }
}
