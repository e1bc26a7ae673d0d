//! Who is there: groups, their devices, and the sessions these open.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use iroh::RelayMode;
use iroh::endpoint::presets;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zerok_sync_protocol::NoisePublicKey;
use zerok_sync_protocol::frame::LogState;

use super::client::{Client, Dial, Group};
use super::target::Described;

/// Handshakes under way at a time: enough to keep both sides busy, too few to time out.
const HANDSHAKES_MAX: usize = 64;
/// iroh sessions that share one UDP socket of the generator.
const SESSIONS_PER_ENDPOINT: usize = 100;
/// A connection that is refused for the moment is tried again after this long, a few times.
const RETRY_AFTER: Duration = Duration::from_millis(200);
const TRIES: usize = 20;

/// What sessions go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// WebSocket.
    Ws,
    /// iroh (QUIC).
    Iroh,
    /// One session this way, the next the other.
    Both,
}

/// Dials a relay.
#[derive(Debug, Clone)]
pub struct Dialer {
    websocket: std::net::SocketAddr,
    iroh: Vec<(iroh::Endpoint, iroh::EndpointAddr)>,
    /// What the relay must prove to be.
    pub noise_key: NoisePublicKey,
    transport: Transport,
}

impl Dialer {
    /// For about `sessions` sessions.
    ///
    /// # Errors
    /// When the relay has no iroh endpoint where one is needed, or there is no UDP socket.
    pub async fn new(relay: &Described, transport: Transport, sessions: usize) -> Result<Self> {
        let mut iroh = Vec::new();
        if transport != Transport::Ws {
            let addr = relay.iroh.clone().context("this relay has no iroh endpoint: use --transport ws")?;
            for _ in 0..sessions.div_ceil(SESSIONS_PER_ENDPOINT) {
                let endpoint = iroh::Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled).bind().await?;
                iroh.push((endpoint, addr.clone()));
            }
        }
        Ok(Self { websocket: relay.addr, iroh, noise_key: relay.noise_key, transport })
    }

    /// Where the relay serves HTTP and WebSocket.
    #[must_use]
    pub fn addr(&self) -> std::net::SocketAddr {
        self.websocket
    }

    /// How session `index` is dialled.
    #[must_use]
    pub fn dial(&self, index: usize) -> Dial {
        let over_iroh = match self.transport {
            Transport::Ws => false,
            Transport::Iroh => true,
            Transport::Both => index % 2 == 1,
        };
        match (over_iroh, self.iroh.get(index % self.iroh.len().max(1))) {
            (true, Some((endpoint, addr))) => Dial::Iroh(endpoint.clone(), addr.clone()),
            _ => Dial::WebSocket(self.websocket),
        }
    }
}

/// Runs `work` for `0..count`, some at a time; results in order.
///
/// # Errors
/// The first error of any; the rest is given up.
pub async fn for_all<T, F>(count: usize, work: impl Fn(usize) -> F) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut tasks = JoinSet::new();
    for index in 0..count {
        let (permits, work) = (permits.clone(), work(index));
        tasks.spawn(async move {
            let _permit = permits.acquire().await?;
            anyhow::Ok((index, work.await?))
        });
    }
    let mut results: Vec<Option<T>> = (0..count).map(|_| None).collect();
    while let Some(done) = tasks.join_next().await {
        let (index, result) = done??;
        results[index] = Some(result);
    }
    Ok(results.into_iter().flatten().collect())
}

/// Makes `count` logs of `devices` devices each; the founding sessions are closed again.
///
/// # Errors
/// When the relay refuses.
pub async fn found(dialer: &Dialer, count: usize, devices: usize) -> Result<Vec<Arc<Group>>> {
    let dialer = dialer.clone();
    for_all(count, move |index| {
        let dialer = dialer.clone();
        async move {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
            let group = Arc::new(Group::random(devices, &mut ChaCha20Rng::from_seed(seed)));
            Client::founder(&dialer.dial(index), &group, Some(dialer.noise_key)).await?;
            Ok(group)
        }
    })
    .await
}

/// A session and whose it is.
pub struct Connected {
    /// Index of its group.
    pub group: usize,
    /// Index of its device there.
    pub device: usize,
    /// The session.
    pub client: Client,
    /// What Welcome said.
    pub log: LogState,
}

/// Opens `sessions` sessions of every device of every group, group by group.
///
/// # Errors
/// When the relay refuses for good, or too often.
pub async fn connect(dialer: &Dialer, groups: &[Arc<Group>], sessions: usize) -> Result<Vec<Connected>> {
    let places: Vec<(usize, usize)> = groups
        .iter()
        .enumerate()
        .flat_map(|(group, of)| (0..of.devices.len()).map(move |device| (group, device)))
        .flat_map(|place| std::iter::repeat_n(place, sessions))
        .collect();
    for_all(places.len(), |index| {
        let (group, device) = places[index];
        let (dialer, of) = (dialer.clone(), groups[group].clone());
        async move {
            let dial = dialer.dial(index);
            let mut tries = 0;
            loop {
                match Client::member(&dial, &of, &of.devices[device], Some(dialer.noise_key)).await {
                    Ok((client, log)) => return Ok(Connected { group, device, client, log }),
                    Err(error) if error.is_for_good() || tries == TRIES => return Err(error.into()),
                    Err(error) => {
                        tries += 1;
                        tokio::time::sleep(error.retry_after().max(RETRY_AFTER)).await;
                    }
                }
            }
        }
    })
    .await
}
