//! What an operator runs: a store, one relay or two on it, and one address that clients know.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::{Database, Proxy, RelayProcess};

/// Which store, and how many relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// One relay on a file.
    Sqlite,
    /// One relay on a Postgres.
    Postgres,
    /// Two relays on one Postgres, behind a load balancer.
    Two,
    /// One relay on a Postgres with a standby that each commit waits for.
    Replicated,
}

impl FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sqlite" => Ok(Self::Sqlite),
            "postgres" => Ok(Self::Postgres),
            "two" => Ok(Self::Two),
            _ => Err("expected sqlite, postgres or two (two relays on one Postgres)".into()),
        }
    }
}

/// A store and its relays.
#[derive(Debug)]
pub struct Deployment {
    store: Store,
    dir: PathBuf,
    /// The relays, in no order of rank.
    pub relays: Vec<RelayProcess>,
    database: Option<Arc<Database>>,
    proxy: Option<Proxy>,
}

impl Deployment {
    /// Starts everything, with its files in `dir` (a Postgres keeps its own). Two relays stand
    /// behind a proxy; one does if `proxied` says so.
    ///
    /// # Errors
    /// What did not start, and why.
    pub async fn start(store: Store, dir: &Path, proxied: bool, more: &[&str]) -> Result<Self> {
        let database = match store {
            Store::Sqlite => None,
            Store::Postgres | Store::Two => Some(Arc::new(blocking(Database::start).await?)),
            Store::Replicated => Some(Arc::new(blocking(Database::with_a_standby).await?)),
        };
        let url = database.as_ref().map(|database| database.url());
        let mut relays = Vec::new();
        for number in 0..if store == Store::Two { 2 } else { 1 } {
            relays.push(RelayProcess::start(&dir.join(format!("relay-{number}")), url, more).await?);
        }
        let proxy = if proxied || store == Store::Two {
            Some(Proxy::start(relays.iter().map(RelayProcess::addr).collect()).await?)
        } else {
            None
        };
        Ok(Self { store, dir: dir.to_owned(), relays, database, proxy })
    }

    /// Which store this is.
    #[must_use]
    pub fn store(&self) -> Store {
        self.store
    }

    /// The address that clients know; it stays the same.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.proxy.as_ref().map_or_else(|| self.relays[0].addr(), Proxy::addr)
    }

    /// The same as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The cable in front of the relays.
    ///
    /// # Errors
    /// If it was started without one.
    pub fn proxy(&self) -> Result<&Proxy> {
        self.proxy.as_ref().context("this deployment was started without a proxy")
    }

    /// The Postgres, if it is on one.
    #[must_use]
    pub fn database(&self) -> Option<&Arc<Database>> {
        self.database.as_ref()
    }

    /// The database's file, if it is on SQLite.
    #[must_use]
    pub fn sqlite_file(&self) -> Option<PathBuf> {
        (self.store == Store::Sqlite).then(|| self.relays[0].dir().join("relay.db"))
    }

    /// Where everything lies that relays and database have written.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        let clusters = self.database.iter().flat_map(|database| database.clusters());
        std::iter::once(self.dir.clone()).chain(clusters.map(|cluster| cluster.dir().to_owned())).collect()
    }

    /// Says which relay ended without being killed, if one did.
    ///
    /// # Errors
    /// Its name.
    pub fn assert_relays_run(&mut self) -> Result<()> {
        match self.relays.iter_mut().position(RelayProcess::has_ended) {
            Some(number) => bail!("relay {number} ended by itself; see {}", self.relays[number].log_path().display()),
            None => Ok(()),
        }
    }
}

/// Runs something that blocks, off the tasks.
///
/// # Errors
/// Its error.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("the blocking work panicked")?
}
