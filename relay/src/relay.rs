//! A running relay: opens the store, loads the keys, binds, serves, and stops in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use zerok_sync_protocol::NoisePublicKey;
use zerok_sync_protocol::channel::StaticKey;

use crate::admission::{Admission, Places, TrustedProxies};
use crate::clock::{Entropy, SystemClock, SystemEntropy};
use crate::config::{Config, StoreConfig};
use crate::core::Core;
use crate::cut_off::CutOff;
use crate::doorbell::{PostgresDoorbell, Silent, poll_followed};
use crate::gc;
use crate::history::History;
use crate::http::{self, App, OperatorToken, ReadinessProbe};
use crate::hub::Hub;
use crate::iroh::IrohListener;
use crate::keys::{self, KeyError, Secret};
use crate::limits::{HISTORY_INTERVAL_MS, METRICS_CONNECTIONS_MAX};
use crate::metrics::Metrics;
use crate::opening::open_counted;
use crate::server::{self, Door};
use crate::store::{DynStore, StoreError};
use crate::supervision::{Defect, Supervisor};
use crate::writer::Writer;

/// Why a relay does not start. Each message is a sentence for its operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be made.
    #[error("cannot make the data directory {path}: {source}; choose another with --data-dir", path = path.display())]
    DataDir {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The identity.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No relay has run here.
    #[error("there is no database {0}: name the one that the relay runs on with --data-dir or --store")]
    NoStore(std::path::PathBuf),
    /// The database did not come.
    #[error(
        "{source}; waited {} s for it: start the database, check --store, or let the relay wait for ever with \
         --wait-for-store",
        waited.as_secs_f32().round()
    )]
    StoreWait {
        /// What it said last.
        source: StoreError,
        /// For how long it was tried.
        waited: Duration,
    },
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {addr}: {source}; choose another with --listen")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The iroh endpoint.
    #[error("cannot open the iroh endpoint on UDP {addr}: {reason}; choose another --iroh-port, or --no-iroh")]
    Iroh {
        /// The address.
        addr: SocketAddr,
        /// Why.
        reason: String,
    },
}

/// The relay as a library: `Relay::start(Config::in_dir(dir)).await?`.
#[derive(Debug)]
pub struct Relay;

/// A relay that serves until [`RunningRelay::shutdown`]. Dropping it cuts everybody off, and its store
/// is closed a moment later.
pub struct RunningRelay {
    /// Where HTTP and WebSocket are served.
    pub addr: SocketAddr,
    /// Where `/metrics` and `/status` are served, if not there too.
    pub metrics_addr: Option<SocketAddr>,
    /// What clients pin.
    pub noise_key: NoisePublicKey,
    /// What iroh clients dial, if there is an endpoint.
    pub iroh_endpoint_id: Option<String>,
    core: Arc<Core>,
    iroh: Option<IrohListener>,
    stop: watch::Sender<bool>,
    supervisor: Supervisor,
    cut_off: CutOff,
    tasks: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Starts a relay in the current tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(config: Config) -> Result<RunningRelay, StartError> {
        let entropy = SystemEntropy;
        let metrics = Metrics::new();
        let store = open_counted(&config, &metrics).await?;
        let noise_key = noise_key(&config, &store, &entropy).await?;
        metrics.connections_max.set(i64::try_from(config.limits.connections_max).unwrap_or(i64::MAX));
        let doorbell = match &config.store {
            StoreConfig::Postgres(url) => Some(PostgresDoorbell::new(url, &entropy)),
            StoreConfig::Sqlite(_) => None,
        };
        let hub = match &doorbell {
            Some(doorbell) => Hub::new(&config.limits, &metrics, doorbell.clone()),
            None => Hub::new(&config.limits, &metrics, Arc::new(Silent)),
        };
        let writer = Writer::start(store.clone(), hub.clone(), &config.limits, metrics.clone());
        let core = Arc::new(Core {
            store,
            writer,
            hub,
            limits: config.limits.clone(),
            admission: Admission::new(&config.limits),
            create: config.create.clone(),
            metrics,
            noise_key: StaticKey::from_bytes(*noise_key),
            clock: Box::new(SystemClock::new()),
            entropy: Box::new(entropy),
        });
        let (listener, addr) = listen(config.listen).await?;
        let metrics_listener = match config.metrics_listen {
            Some(addr) => Some(listen(addr).await?),
            None => None,
        };
        let supervisor = Supervisor::new();
        let cut_off = CutOff::new();
        let iroh = match config.iroh_port {
            Some(port) => {
                let secret = keys::load_or_create(&config.data_dir.join(keys::IROH_KEY_FILE), core.entropy.as_ref())?;
                let bind = SocketAddr::new(addr.ip(), port);
                let (addrs, cut_off) = (config.iroh_addrs.clone(), cut_off.clone());
                Some(IrohListener::bind(&secret, bind, addrs, core.clone(), &supervisor, cut_off).await?)
            }
            None => None,
        };
        let (stop, stopped) = watch::channel(false);
        let history = Arc::new(History::new(core.metrics.clone(), core.now()));
        let app = App {
            core: core.clone(),
            iroh: iroh.as_ref().map(IrohListener::address),
            readiness: Arc::new(ReadinessProbe::new(core.clone(), stopped.clone())),
            registry: Arc::new(core.metrics.registry(&build_info(&config.store))),
            history: history.clone(),
            token: OperatorToken(config.metrics_token.clone()),
        };
        let mut tasks = vec![Supervisor::chore("history", {
            let core = core.clone();
            move || keep_history(core.clone(), history.clone())
        })];
        let metrics_addr = metrics_listener.as_ref().map(|(_, addr)| *addr);
        let web_root = config.web_root.as_deref();
        let routes = match metrics_listener {
            Some((listener, _)) => {
                let operator = http::with_headers(http::operator(&app));
                let door = Door {
                    core: core.clone(),
                    connections: Places::new(METRICS_CONNECTIONS_MAX, METRICS_CONNECTIONS_MAX),
                    proxies: TrustedProxies::none(),
                    cut_off: cut_off.clone(),
                    routes: operator,
                };
                tasks.push(supervisor.vital("listener for metrics", async move {
                    // Never stopped: it answers until the end, so that a shutdown can be watched.
                    let (_open, never) = watch::channel(false);
                    server::serve(listener, door, never).await;
                }));
                http::public(&app, web_root)
            }
            None => http::all(&app, web_root),
        };
        let door = Door {
            core: core.clone(),
            connections: core.admission.connections.clone(),
            proxies: config.trusted_proxies.clone(),
            cut_off: cut_off.clone(),
            routes: http::with_headers(routes),
        };
        tasks.push(supervisor.vital("listener", server::serve(listener, door, stopped.clone())));
        tasks.push(Supervisor::chore("collector", {
            let (core, stopped) = (core.clone(), stopped.clone());
            move || gc::run(core.clone(), stopped.clone())
        }));
        if let Some(doorbell) = doorbell {
            let look_up = Arc::new(Notify::new());
            tasks.extend(doorbell.run(&core, look_up.clone()));
            tasks.push(Supervisor::chore("backstop", {
                let core = core.clone();
                move || poll_followed(core.clone(), look_up.clone(), stopped.clone())
            }));
        }
        #[cfg(debug_assertions)]
        supervisor.panic_as_planted();
        tracing::info!(version = env!("CARGO_PKG_VERSION"), store = kind_of(&config.store), "started");
        Ok(RunningRelay {
            addr,
            metrics_addr,
            noise_key: core.noise_key.public(),
            iroh_endpoint_id: iroh.as_ref().map(|iroh| iroh.address().endpoint_id()),
            core,
            iroh,
            stop,
            supervisor,
            cut_off,
            tasks,
        })
    }
}

impl RunningRelay {
    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.core.metrics
    }

    /// Where the iroh endpoint is reached, as `ip:port`; empty without one.
    #[must_use]
    pub fn iroh_addrs(&self) -> Vec<String> {
        self.iroh.as_ref().map(|iroh| iroh.address().addrs()).unwrap_or_default()
    }

    /// Waits until something that the relay cannot do without has panicked. It serves no more as it
    /// should: [`Self::shutdown`] it and end the process with an error, so that it is started again.
    /// Cancel-safe.
    pub async fn failed(&self) -> Defect {
        tokio::select! {
            defect = self.supervisor.failed() => defect,
            defect = self.core.writer.failed() => defect,
        }
    }

    /// Says goodbye to every session with a `retry_after` of its own, waits until they are gone
    /// (a few seconds at most), finishes the commits under way, and stops.
    pub async fn shutdown(mut self) {
        tracing::info!("shutting down");
        let mut rng = self.core.rng();
        let spread_ms = self.core.limits.shutdown_spread_ms.max(1);
        self.core.hub.close(|| u64::from(rng.next_u32()) % spread_ms);
        self.stop.send_replace(true);
        let grace = Duration::from_millis(self.core.limits.shutdown_grace_ms);
        if timeout(grace, self.core.admission.connections.emptied()).await.is_err() {
            tracing::info!("some connections did not end in time and are cut off");
        }
        self.cut_off.cut();
        if let Some(iroh) = self.iroh.take() {
            iroh.close().await;
        }
        self.core.writer.close().await;
        // Each holds the store, which another relay may open once they have ended.
        self.cut_off.gone().await;
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            // It was cancelled, or had ended.
            let _ = task.await;
        }
    }
}

impl Drop for RunningRelay {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.cut_off.cut();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn listen(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// What `build_info` says.
fn build_info(store: &StoreConfig) -> [(&'static str, String); 2] {
    [("version", env!("CARGO_PKG_VERSION").to_owned()), ("store", kind_of(store).to_owned())]
}

const fn kind_of(store: &StoreConfig) -> &'static str {
    match store {
        StoreConfig::Sqlite(_) => "sqlite",
        StoreConfig::Postgres(_) => "postgres",
    }
}

async fn keep_history(core: Arc<Core>, history: Arc<History>) {
    let mut ticks = interval(Duration::from_millis(HISTORY_INTERVAL_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // The first comes at once, and nothing has happened yet.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        history.tick(core.now());
    }
}

/// `--key-file`, else the database's (shared by all instances), else the data directory's.
async fn noise_key(config: &Config, store: &DynStore, entropy: &dyn Entropy) -> Result<Secret, StartError> {
    if let Some(path) = &config.key_file {
        return Ok(keys::load(path)?);
    }
    let fresh = Secret::new(entropy.seed());
    match store.shared_noise_secret(&fresh).await? {
        Some(shared) => Ok(shared),
        None => Ok(keys::load_or_create(&config.data_dir.join(keys::NOISE_KEY_FILE), entropy)?),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_relay_whose_listener_panicked_says_so_and_can_still_be_stopped() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = Config { listen: ([127, 0, 0, 1], 0).into(), iroh_port: None, ..Config::in_dir(dir.path()) };
        let relay = Relay::start(config).await.expect("started");
        assert!(relay.failed().now_or_never().is_none());

        relay.supervisor.vital("listener", async { panic!("planted") });

        assert_eq!(relay.failed().await, Defect { task: "listener" });
        relay.shutdown().await;
    }
}
