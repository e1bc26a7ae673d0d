//! A real relay on free ports and a small raw client: frames in, frames out, no cleverness.

pub mod link;
pub mod openmetrics;
pub mod stores;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use tempfile::TempDir;
use tokio::time::timeout;
use zerok_sync_protocol::channel::{Initiator, StaticKey};
use zerok_sync_protocol::envelope::{ENVELOPE_BYTES_MIN, blob_id};
use zerok_sync_protocol::frame::{EntryItem, LogState, PushResult, Who};
use zerok_sync_protocol::limits::ENVELOPE_BYTES_MAX_DEFAULT;
use zerok_sync_protocol::record::SecureStream;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{
    AuthPublicKey, BlobId, ClientFrame, ErrorCode, LogName, NoisePublicKey, RelayFrame, Timeline, hello,
};
use zerok_sync_relay::{Config, Relay, RunningRelay, StoreConfig};

use self::link::{Ended, TestLink};
use self::stores::Backend;

/// A test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Credit that no test uses up.
pub const PLENTY: u64 = 1 << 40;

/// One relay, or two instances of it that share a database.
pub struct TestRelay {
    pub running: RunningRelay,
    other: Option<(RunningRelay, TempDir)>,
    arrivals: AtomicUsize,
    config: Config,
    pub dir: TempDir,
}

impl TestRelay {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// On what the suite runs on this time.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let backend = Backend::of_this_run();
        let (dir, config) = config_on(backend, change).await;
        Self::start_as(dir, config, backend == Backend::Instances).await
    }

    /// For what is about the sessions of one process.
    pub async fn start_alone() -> Self {
        let (dir, config) = config_on(Backend::of_this_run(), |_| {}).await;
        Self::start_as(dir, config, false).await
    }

    /// One instance on a store of the caller's.
    pub async fn start_on(store: &StoreConfig, change: impl FnOnce(&mut Config)) -> Self {
        let (dir, mut config) = config_on(Backend::Sqlite, change).await;
        config.store = store.clone();
        Self::start_as(dir, config, false).await
    }

    async fn start_as(dir: TempDir, config: Config, two: bool) -> Self {
        let running = Relay::start(config.clone()).await.unwrap();
        let other = if two {
            let dir = tempfile::tempdir().unwrap();
            let config = Config { data_dir: dir.path().to_owned(), ..config.clone() };
            Some((Relay::start(config).await.unwrap(), dir))
        } else {
            None
        };
        Self { running, other, arrivals: AtomicUsize::new(0), config, dir }
    }

    /// Stops it and starts another one in the same directory.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    pub async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self { running, other, mut config, dir, .. } = self;
        running.shutdown().await;
        let two = other.is_some();
        if let Some((other, _dir)) = other {
            other.shutdown().await;
        }
        change(&mut config);
        Self::start_as(dir, config, two).await
    }

    pub async fn shutdown(self) {
        self.running.shutdown().await;
        if let Some((other, _dir)) = self.other {
            other.shutdown().await;
        }
    }

    /// Does to the database what a relay never does.
    pub async fn tamper(&self, statement: &str) {
        let touched = match &self.config.store {
            StoreConfig::Sqlite(path) => {
                let database = rusqlite::Connection::open(path).unwrap();
                database.busy_timeout(PATIENCE).unwrap();
                database.execute(statement, []).unwrap() as u64
            }
            StoreConfig::Postgres(url) => stores::sql(url, statement).await,
        };
        assert!(touched > 0, "changes something: {statement}");
    }

    pub fn instances(&self) -> impl Iterator<Item = &RunningRelay> {
        std::iter::once(&self.running).chain(self.other.as_ref().map(|(other, _)| other))
    }

    /// The instance at which the next client arrives.
    fn next(&self) -> &RunningRelay {
        match &self.other {
            Some((other, _)) if self.arrivals.fetch_add(1, Ordering::Relaxed) % 2 == 1 => other,
            _ => &self.running,
        }
    }

    pub async fn ws(&self, device: &StaticKey) -> Client {
        Client::open(link::ws(self.next()).await, device, &self.running.noise_key).await
    }

    pub async fn iroh(&self, device: &StaticKey) -> Client {
        Client::open(link::iroh(self.next()).await, device, &self.running.noise_key).await
    }

    /// A member's session over WebSocket.
    pub async fn member(&self, group: &Group, device: &StaticKey) -> Client {
        let mut client = self.ws(device).await;
        client.admitted(group).await;
        client
    }

    /// A founder's session over WebSocket, after `Create`.
    pub async fn founder(&self, group: &Group, device: &StaticKey) -> Client {
        let mut client = self.ws(device).await;
        client.found(group).await;
        client
    }

    /// Whether it still does its job, for somebody new.
    pub async fn assert_serves(&self) {
        let mut client = self.founder(&Group::new(250), &device(250)).await;
        let cursors = client.push(1, &[envelope(9)]).await;
        assert_eq!(cursors, [Ok(2)]);
    }
}

async fn config_on(backend: Backend, change: impl FnOnce(&mut Config)) -> (TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::in_dir(dir.path());
    if backend != Backend::Sqlite {
        config.store = stores::fresh_postgres().await;
    }
    change(&mut config);
    (dir, config)
}

/// A group as a relay sees it: an auth key.
pub struct Group(pub SigningKey);

impl Group {
    pub fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    pub fn public(&self) -> AuthPublicKey {
        AuthPublicKey(self.0.verifying_key().to_bytes())
    }

    pub fn name(&self) -> LogName {
        LogName::of(&self.public())
    }
}

pub fn device(seed: u8) -> StaticKey {
    StaticKey::from_bytes([seed; 32])
}

pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Bytes that a relay takes for an envelope, different for each seed.
pub fn envelope(seed: u64) -> Bytes {
    envelope_of(seed, ENVELOPE_BYTES_MIN)
}

pub fn envelope_of(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    rng(seed).fill_bytes(&mut bytes);
    bytes.into()
}

pub struct Client {
    pub link: TestLink,
    pub stream: SecureStream,
    pub device: NoisePublicKey,
}

impl Client {
    /// Does the handshake.
    pub async fn open(mut link: TestLink, device: &StaticKey, relay: &NoisePublicKey) -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let (state, first) = Initiator::relay(device, &mut ChaCha20Rng::from_seed(seed));
        link.send(first).await;
        let second = link.recv().await.expect("message 2");
        let peer = state.read(&second).unwrap();
        assert_eq!(peer.remote_static(), *relay);
        let (third, channel) = peer.finish(&[]).unwrap();
        link.send(third).await;
        let stream = SecureStream::new(channel, 2 * ENVELOPE_BYTES_MAX_DEFAULT as usize);
        Self { link, stream, device: device.public() }
    }

    pub async fn send(&mut self, frame: ClientFrame) {
        self.queue(frame);
        self.flush().await;
    }

    pub fn queue(&mut self, frame: ClientFrame) {
        self.queue_bytes(&frame.encode());
    }

    pub fn queue_bytes(&mut self, frame: &[u8]) {
        self.stream.send(frame).unwrap();
    }

    pub async fn flush(&mut self) {
        while let Some(message) = self.stream.poll_transmit() {
            self.link.send(message).await;
        }
    }

    /// The next frame, or how the link ended.
    pub async fn next_or_end(&mut self) -> Result<RelayFrame, Ended> {
        timeout(PATIENCE, async {
            loop {
                if let Some(frame) = self.stream.next_frame().unwrap() {
                    return Ok(RelayFrame::decode(&frame).unwrap());
                }
                let message = self.link.recv().await?;
                self.stream.receive(&message).unwrap();
            }
        })
        .await
        .expect("a frame in time")
    }

    pub async fn next(&mut self) -> RelayFrame {
        self.next_or_end().await.expect("the session stands")
    }

    /// Whether nothing came although the relay has answered a later `Ping`.
    pub async fn is_quiet(&mut self) -> bool {
        self.send(ClientFrame::Ping {}).await;
        self.next().await == RelayFrame::Pong {}
    }

    pub async fn error(&mut self) -> ErrorCode {
        match self.next().await {
            RelayFrame::Error { code, .. } => ErrorCode::from_number(code).unwrap(),
            other => panic!("expected an error, not {other:?}"),
        }
    }

    /// Expects an error frame and then the end of the link.
    pub async fn ends_with(&mut self, code: ErrorCode) {
        assert_eq!(self.error().await, code);
        self.ended().await;
    }

    pub async fn ended(&mut self) -> Ended {
        match self.next_or_end().await {
            Err(ended) => ended,
            Ok(frame) => panic!("expected the end, not {frame:?}"),
        }
    }

    pub fn member_hello(&self, group: &Group, create: bool) -> ClientFrame {
        let signature = hello::sign(&group.0, &self.stream.handshake_hash(), create);
        hello_frame(Who::Member { auth_public: group.public(), signature }, create)
    }

    /// Says a Member `Hello`, without creating; the answer.
    pub async fn hello(&mut self, group: &Group) -> RelayFrame {
        self.send(self.member_hello(group, false)).await;
        self.next().await
    }

    pub async fn admitted(&mut self, group: &Group) -> LogState {
        match self.hello(group).await {
            RelayFrame::Welcome { log: Some(log), .. } => log,
            other => panic!("expected a Welcome, not {other:?}"),
        }
    }

    pub async fn guest(&mut self) {
        self.send(hello_frame(Who::Guest {}, false)).await;
        assert!(matches!(self.next().await, RelayFrame::Welcome { log: None, .. }));
    }

    /// Makes a log with one entry, the epoch envelope.
    pub async fn found(&mut self, group: &Group) -> LogState {
        self.send(self.member_hello(group, true)).await;
        match self.next().await {
            RelayFrame::Welcome { log: Some(log), .. } => assert!(log.timeline.is_zero() && log.head == 0),
            other => panic!("expected a Welcome to create, not {other:?}"),
        }
        self.send(create_frame(&[self.device], 0, &[])).await;
        match self.next().await {
            RelayFrame::Welcome { log: Some(log), .. } => log,
            other => panic!("expected a Welcome, not {other:?}"),
        }
    }

    pub async fn push(&mut self, number: u64, envelopes: &[Bytes]) -> Vec<Result<u64, ErrorCode>> {
        self.send(push_frame(number, envelopes, false)).await;
        self.push_ack(number).await
    }

    pub async fn push_ack(&mut self, number: u64) -> Vec<Result<u64, ErrorCode>> {
        match self.next().await {
            RelayFrame::PushAck { push, results } if push == number => results.iter().map(outcome).collect(),
            other => panic!("expected the answer to push {number}, not {other:?}"),
        }
    }

    /// Reads `Entries` up to and with the next `CaughtUp`; its head.
    pub async fn until_caught_up(&mut self) -> (Vec<EntryItem>, u64) {
        let mut entries = Vec::new();
        loop {
            match self.next().await {
                RelayFrame::Entries { items } => entries.extend(items.into_vec()),
                RelayFrame::CaughtUp { head } => return (entries, head),
                other => panic!("expected entries, not {other:?}"),
            }
        }
    }

    /// Subscribes from the start and follows; what there is already.
    pub async fn follow(&mut self) -> Vec<EntryItem> {
        self.send(subscribe_frame(Timeline::ZERO, 0, BlobId::ZERO, PLENTY, true)).await;
        self.until_caught_up().await.0
    }

    /// The items of the next frame, which must be `Entries`.
    pub async fn entries(&mut self) -> Vec<EntryItem> {
        match self.next().await {
            RelayFrame::Entries { items } => items.into_vec(),
            other => panic!("expected entries, not {other:?}"),
        }
    }
}

pub fn hello_frame(who: Who, create: bool) -> ClientFrame {
    ClientFrame::Hello { minor_min: 0, minor_max: 0, who, create, token: None }
}

pub fn create_frame(allow: &[NoisePublicKey], seed: u64, envelopes: &[Bytes]) -> ClientFrame {
    ClientFrame::Create {
        allow: List::try_from(allow.to_vec()).unwrap(),
        epoch_envelope: epoch_envelope(seed),
        envelopes: List::try_from(envelopes.to_vec()).unwrap(),
    }
}

pub fn epoch_envelope(seed: u64) -> Bytes {
    envelope(1_000_000 + seed)
}

pub fn push_frame(push: u64, envelopes: &[Bytes], resume: bool) -> ClientFrame {
    ClientFrame::Push { push, envelopes: List::try_from(envelopes.to_vec()).unwrap(), resume }
}

pub fn subscribe_frame(
    timeline: Timeline,
    after: u64,
    blob_id_at_after: BlobId,
    credit: u64,
    follow: bool,
) -> ClientFrame {
    ClientFrame::Subscribe { timeline, after, blob_id_at_after, credit, follow }
}

pub fn rotate_frame(
    client: &Client,
    current: &Group,
    next: &Group,
    expect_gen: u64,
    allow: &[NoisePublicKey],
    seed: u64,
) -> ClientFrame {
    ClientFrame::Rotate {
        expect_gen,
        next_auth_public: next.public(),
        proof: hello::sign_rotate(&next.0, &client.stream.handshake_hash(), &current.name()),
        allow: List::try_from(allow.to_vec()).unwrap(),
        epoch_envelope: epoch_envelope(seed),
    }
}

pub fn stored(cursor: u64, envelope: &Bytes) -> EntryItem {
    EntryItem::Stored { cursor, blob_id: blob_id(envelope), envelope: envelope.clone() }
}

pub fn own(cursor: u64, envelope: &Bytes) -> EntryItem {
    EntryItem::Own { cursor, blob_id: blob_id(envelope) }
}

fn outcome(result: &PushResult) -> Result<u64, ErrorCode> {
    match result {
        PushResult::Stored { cursor } => Ok(*cursor),
        PushResult::Refused { code } => Err(ErrorCode::from_number(*code).unwrap()),
    }
}
