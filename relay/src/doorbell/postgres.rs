//! The doorbell over Postgres: `LISTEN` on one connection, `NOTIFY` on another, neither from the
//! pool, so that no commit ever waits for a doorbell.
//!
//! Each connects again by itself. After the listening one has, everything that is followed is
//! looked up once: what was said meanwhile is lost. The server keeps nothing for an instance that
//! does not listen.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use rand_core::Rng;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket};
use zerok_sync_protocol::limits::ENTRIES_ITEMS_MAX;

use super::Doorbell;
use super::news::{self, Letter, News};
use super::pending::Pending;
use crate::clock::{Clock, Entropy, SystemClock, rng};
use crate::core::Core;
use crate::hub::Fresh;
use crate::limits::DOORBELL_READS_MAX;
use crate::store::{GroupKey, PostgresTarget, StoredEntry, postgres_target};
use crate::supervision::Supervisor;

/// Pauses between attempts to connect double from the first to the last of these.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long the server may take for anything that is asked of it here.
const PATIENCE: Duration = Duration::from_secs(10);
/// Nothing of a notification needs to outlive a crash: who lost it has lost its connection, too.
const NOTIFY_SETTINGS: &str = "SET synchronous_commit = off; SET statement_timeout = '5s'";

/// See the module's documentation.
pub struct PostgresDoorbell {
    url: zeroize::Zeroizing<String>,
    /// Tells this instance's own news from the others'.
    instance: u64,
    pending: Pending,
    clock: SystemClock,
}

impl Doorbell for PostgresDoorbell {
    fn ring(&self, news: News) {
        self.pending.add(news, self.clock.now().unix_ms);
    }
}

impl PostgresDoorbell {
    /// A doorbell for the database at `url`. It says nothing before [`Self::run`].
    #[must_use]
    pub fn new(url: &str, entropy: &dyn Entropy) -> Arc<Self> {
        Arc::new(Self {
            url: url.to_owned().into(),
            instance: rng(entropy).next_u64(),
            pending: Pending::default(),
            clock: SystemClock::new(),
        })
    }

    /// Starts to speak and to listen. `look_up` is notified when everything must be looked up.
    pub(crate) fn run(self: &Arc<Self>, core: &Arc<Core>, look_up: Arc<Notify>) -> [JoinHandle<()>; 2] {
        let (speaker, listener) = (self.clone(), self.clone());
        let coalesce = Duration::from_millis(core.limits.doorbell_coalesce_ms);
        let core = core.clone();
        [
            Supervisor::chore("doorbell's speaker", move || {
                let speaker = speaker.clone();
                async move { match again(|| speaker.speak(coalesce)).await {} }
            }),
            Supervisor::chore("doorbell's listener", move || {
                let (listener, core, look_up) = (listener.clone(), core.clone(), look_up.clone());
                async move { match again(|| listener.listen(&core, &look_up)).await {} }
            }),
        ]
    }

    /// Sends what is pending, until the connection fails.
    async fn speak(&self, coalesce: Duration) -> Result<Infallible, Failed> {
        let (client, mut messages) = self.connect().await?;
        let speak = async {
            client.batch_execute(NOTIFY_SETTINGS).await?;
            let notify = client.prepare("SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload").await?;
            let channel = channel(&client).await?;
            loop {
                self.pending.some().await;
                sleep(coalesce).await;
                let (since_ms, news) = self.pending.take();
                let payloads = news::payloads(self.instance, since_ms, news.iter().cloned());
                let sent = timeout(PATIENCE, client.execute(&notify, &[&channel, &payloads])).await;
                if !matches!(sent, Ok(Ok(_))) {
                    // Said again on the next connection. Notices are not: they may have arrived.
                    let again = news.into_iter().filter(|news| !matches!(news, News::Notice { .. }));
                    again.for_each(|news| self.pending.add(news, since_ms));
                    return Err(Failed);
                }
            }
        };
        tokio::select! {
            spoken = speak => spoken,
            // Nobody listens on this connection, but it must be driven.
            () = async { while let Some(Ok(_)) = messages.next().await {} } => Err(Failed),
        }
    }

    /// Listens until the connection fails.
    async fn listen(&self, core: &Arc<Core>, look_up: &Notify) -> Result<Infallible, Failed> {
        let (client, mut messages) = self.connect().await?;
        let reads = Arc::new(Semaphore::new(DOORBELL_READS_MAX));
        let mut listening = false;
        let mut listen = pin!(timeout(PATIENCE, async {
            let channel = channel(&client).await?;
            client.batch_execute(&format!("LISTEN \"{}\"", channel.replace('"', "\"\""))).await
        }));
        loop {
            tokio::select! {
                listened = &mut listen, if !listening => {
                    listened.map_err(|_| Failed)??;
                    listening = true;
                    look_up.notify_one();
                }
                message = messages.next() => {
                    if let AsyncMessage::Notification(notification) = message.ok_or(Failed)??
                        && let Some(letter) = news::open(notification.payload())
                    {
                        self.read(core, &reads, letter);
                    }
                }
            }
        }
    }

    fn read(&self, core: &Arc<Core>, reads: &Arc<Semaphore>, letter: Letter) {
        if letter.instance == self.instance {
            return;
        }
        let late_ms = self.clock.now().unix_ms.saturating_sub(letter.since_ms);
        core.metrics.doorbell_seconds.0.observe(Duration::from_millis(late_ms).as_secs_f64());
        for news in letter.news {
            let several = match &news {
                News::Log { group, head, .. } => core.hub.several_wait_for(GroupKey(group.0), *head),
                _ => None,
            };
            match (several, reads.clone().try_acquire_owned()) {
                (Some(from), Ok(permit)) => {
                    let core = core.clone();
                    tokio::spawn(async move {
                        read_for_all(&core, from, news).await;
                        drop(permit);
                    });
                }
                _ => core.hub.hear(news),
            }
        }
    }

    async fn connect(&self) -> Result<(Client, Messages), Failed> {
        let PostgresTarget { mut config, tls } = postgres_target(&self.url).map_err(|_| Failed)?;
        config.connect_timeout(PATIENCE).keepalives_idle(PATIENCE).application_name("zerok-relay-doorbell");
        let connected = async {
            Ok(match tls {
                None => config.connect(NoTls).await.map(|(client, connection)| (client, messages(connection)))?,
                Some(tls) => config.connect(tls).await.map(|(client, connection)| (client, messages(connection)))?,
            })
        };
        timeout(PATIENCE, connected).await.map_err(|_| Failed)?
    }
}

/// What the server says. The connection does nothing unless this is polled.
type Messages = BoxStream<'static, Result<AsyncMessage, tokio_postgres::Error>>;

fn messages<T: TlsStream + Unpin + Send + 'static>(mut connection: Connection<Socket, T>) -> Messages {
    stream::poll_fn(move |context| connection.poll_message(context)).boxed()
}

/// Where several sessions wait for the same entries, one reads them for all.
async fn read_for_all(core: &Core, from: u64, news: News) {
    let News::Log { group, auth_gen, .. } = &news else { return core.hub.hear(news) };
    let (group, auth_gen) = (GroupKey(group.0), *auth_gen);
    let bytes_max = usize::try_from(core.limits.fanout_bytes_per_session_max).unwrap_or(usize::MAX);
    // A page may be as long as a room keeps, less what the last entry overdraws it by.
    match core.store.read(group, from, bytes_max / 2, ENTRIES_ITEMS_MAX).await {
        Ok(page) => {
            let entries = (from..)
                .zip(page)
                .map_while(|(next, entry)| match entry {
                    StoredEntry::Present { cursor, blob_id, envelope } if cursor == next => Some((blob_id, envelope)),
                    _ => None,
                })
                .collect();
            core.hub.share(group, auth_gen, &Fresh { first_cursor: from, entries });
        }
        // Every session finds out by itself.
        Err(error) => tracing::debug!(%error, "cannot read what another instance committed"),
    }
    core.hub.hear(news);
}

/// One channel for each schema: relays whose tables lie side by side in one database are apart.
async fn channel(client: &Client) -> Result<String, tokio_postgres::Error> {
    let row = client.query_one("SELECT 'zerok_relay_' || current_schema()", &[]).await?;
    let mut channel: String = row.get(0);
    channel.truncate(channel.floor_char_boundary(CHANNEL_BYTES_MAX));
    Ok(channel)
}

/// Longest identifier in Postgres.
const CHANNEL_BYTES_MAX: usize = 63;

/// The carrier is gone; the database's own words could quote a password.
#[derive(Debug, Clone, Copy)]
struct Failed;

impl From<tokio_postgres::Error> for Failed {
    fn from(_: tokio_postgres::Error) -> Self {
        Self
    }
}

/// Does it again whenever it fails, after a pause.
async fn again<F: Future<Output = Result<Infallible, Failed>>>(mut work: impl FnMut() -> F) -> Infallible {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = tokio::time::Instant::now();
        match work().await {
            Ok(never) => return never,
            Err(Failed) => tracing::debug!("a doorbell connection failed and is made again"),
        }
        pause = if began.elapsed() > LAST_PAUSE { FIRST_PAUSE } else { (2 * pause).min(LAST_PAUSE) };
        sleep(pause).await;
    }
}
