//! Deadlines of a session in virtual time, driven by hand as a simulation does.

use std::sync::Mutex;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerok_sync_protocol::channel::{Initiator, StaticKey};
use zerok_sync_protocol::envelope::ENVELOPE_BYTES_MIN;
use zerok_sync_protocol::frame::{PushResult, Who};
use zerok_sync_protocol::record::SecureStream;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{AuthPublicKey, ClientFrame, ErrorCode, LogName, RelayFrame, hello};

use super::*;
use crate::admission::Admission;
use crate::clock::{Clock, Now, SystemEntropy};
use crate::core::CreatePolicy;
use crate::doorbell::{News, Silent};
use crate::hub::Hub;
use crate::limits::RelayLimits;
use crate::metrics::Metrics;
use crate::store::{DynStore, Sqlite};
use crate::writer::Writer;

const START_UNIX_MS: u64 = 1_700_000_000_000;
const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1_000;

#[derive(Clone)]
struct ManualClock(Arc<Mutex<Now>>);

impl Default for ManualClock {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Now { monotonic_ms: 0, unix_ms: START_UNIX_MS })))
    }
}

impl ManualClock {
    fn advance(&self, ms: u64) {
        let mut now = self.0.lock().expect("no test panics while it holds the lock");
        *now = Now { monotonic_ms: now.monotonic_ms + ms, unix_ms: now.unix_ms + ms };
    }

    /// What NTP, an operator or a virtual machine that was asleep does to the wall clock.
    fn set_wall(&self, unix_ms: u64) {
        self.0.lock().expect("no test panics while it holds the lock").unix_ms = unix_ms;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.0.lock().expect("no test panics while it holds the lock")
    }
}

struct Rig {
    clock: ManualClock,
    session: Session,
    client: Option<SecureStream>,
    dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        Self::with(RelayLimits::default())
    }

    fn with(limits: RelayLimits) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let clock = ManualClock::default();
        let store: DynStore = Arc::new(Sqlite::open(dir.path().join("relay.db")).expect("a fresh database"));
        let metrics = Metrics::new();
        let hub = Hub::new(&limits, &metrics, Arc::new(Silent));
        let core = Core {
            writer: Writer::start(store.clone(), hub.clone(), &limits, metrics.clone()),
            store,
            hub,
            admission: Admission::new(&limits),
            limits,
            metrics,
            create: CreatePolicy::Open,
            noise_key: StaticKey::from_bytes([1; 32]),
            clock: Box::new(clock.clone()),
            entropy: Box::new(SystemEntropy),
        };
        let peer = Peer {
            origin: core.admission.origin(std::net::IpAddr::from([192, 0, 2, 1])),
            transport: Transport::WebSocket,
            arrived_ms: 0,
            handshake: None,
        };
        Self { clock, session: Session::new(Arc::new(core), peer), client: None, dir }
    }

    async fn handshake(&mut self) {
        let (state, first) = Initiator::relay(&StaticKey::from_bytes([2; 32]), &mut ChaCha20Rng::from_seed([3; 32]));
        self.session.receive(&first).await;
        let second = self.session.poll_transmit().expect("message 2");
        let (third, channel) = state.read(&second).expect("valid").finish(&[]).expect("fits");
        self.session.receive(&third).await;
        self.client = Some(SecureStream::new(channel, 1 << 20));
    }

    async fn say(&mut self, frame: ClientFrame) {
        self.send(frame).await;
        self.session.work().await;
    }

    /// The frame arrives, and the session's other work has not had its turn.
    async fn send(&mut self, frame: ClientFrame) {
        let client = self.client.as_mut().expect("the handshake is done");
        client.send(&frame.encode()).expect("short");
        while let Some(message) = client.poll_transmit() {
            self.session.receive(&message).await;
        }
    }

    /// The session of a member that made a log of one entry.
    async fn found(&mut self) -> LogName {
        self.handshake().await;
        let name = self.ask_to_found(7).await;
        self.create(envelope(0)).await;
        assert_eq!(self.hear().len(), 2, "welcome to create, welcome");
        name
    }

    async fn ask_to_found(&mut self, seed: u8) -> LogName {
        let group = SigningKey::from_bytes(&[seed; 32]);
        let auth_public = AuthPublicKey(group.verifying_key().to_bytes());
        let hash = self.client.as_ref().expect("the handshake is done").handshake_hash();
        let who = Who::Member { auth_public, signature: hello::sign(&group, &hash, true) };
        self.say(ClientFrame::Hello { minor_min: 0, minor_max: 0, who, create: true, token: None }).await;
        LogName::of(&auth_public)
    }

    async fn create(&mut self, epoch_envelope: Bytes) {
        let allow = List::try_from(vec![StaticKey::from_bytes([2; 32]).public()]).expect("one device");
        self.say(ClientFrame::Create { allow, epoch_envelope, envelopes: List::default() }).await;
    }

    fn hear(&mut self) -> Vec<RelayFrame> {
        let client = self.client.as_mut().expect("the handshake is done");
        while let Some(message) = self.session.poll_transmit() {
            client.receive(&message).expect("in order");
        }
        std::iter::from_fn(|| client.next_frame().expect("short frames"))
            .map(|frame: Bytes| RelayFrame::decode(&frame).expect("a frame"))
            .collect()
    }

    fn pass(&mut self, ms: u64) -> Option<u16> {
        self.clock.advance(ms);
        self.session.handle_timeout();
        self.session.closing().map(|close| close.code)
    }
}

const HELLO: ClientFrame =
    ClientFrame::Hello { minor_min: 0, minor_max: 0, who: Who::Guest {}, create: false, token: None };

#[tokio::test]
async fn a_link_without_a_handshake_ends_after_ten_seconds() {
    let mut rig = Rig::new();
    assert_eq!(rig.session.deadline_ms(), 10_000);
    assert_eq!(rig.pass(9_999), None);
    assert_eq!(rig.pass(1), Some(Close::TIMEOUT));
}

#[tokio::test]
async fn the_handshake_does_not_put_the_deadline_of_hello_off() {
    let mut rig = Rig::new();
    assert_eq!(rig.pass(6_000), None);
    rig.handshake().await;
    assert_eq!(rig.pass(3_999), None);
    assert_eq!(rig.pass(1), Some(Close::TIMEOUT));
}

#[tokio::test]
async fn a_founder_who_is_refused_late_has_as_long_for_another_hello_as_for_the_first() {
    let limits = RelayLimits { groups_per_address_per_day: 1, ..RelayLimits::default() };
    let mut rig = Rig::with(limits);
    rig.handshake().await;
    rig.ask_to_found(7).await;
    let core = rig.session.core.clone();
    let peer = std::net::IpAddr::from([192, 0, 2, 1]);
    core.admission.make_group(core.admission.origin(peer), 0).expect("another session of the address is first");
    assert_eq!(rig.pass(30_000), None, "a founder has no deadline");

    rig.create(envelope(0)).await;

    let code = ErrorCode::CreationRefused.number();
    let heard = rig.hear();
    assert!(matches!(heard.last(), Some(RelayFrame::Error { code: told, .. }) if *told == code), "{heard:?}");
    assert_eq!(rig.pass(9_999), None);
    assert_eq!(rig.pass(1), Some(Close::TIMEOUT));
}

#[tokio::test]
async fn a_session_is_dead_sixty_seconds_after_its_last_message() {
    let mut rig = Rig::new();
    rig.handshake().await;
    rig.say(HELLO).await;
    assert_eq!(rig.session.deadline_ms(), 60_000);
    assert_eq!(rig.pass(59_000), None);
    rig.say(ClientFrame::Ping {}).await;
    assert_eq!(rig.hear().last(), Some(&RelayFrame::Pong {}));
    assert_eq!(rig.pass(59_999), None);
    assert_eq!(rig.pass(1), Some(Close::TIMEOUT));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_not_read_from_and_is_alive_as_long_as_it_takes_something() {
    let mut rig = Rig::with(RelayLimits { frames_per_second: 1_000_000, ..RelayLimits::default() });
    rig.handshake().await;
    rig.say(HELLO).await;
    rig.hear();
    let mut pings = 0;
    while rig.session.wants_input() {
        rig.say(ClientFrame::Ping {}).await;
        pings += 1;
        assert!(pings < 100_000, "the queue has a bound");
    }
    assert_eq!(rig.pass(50_000), None);
    assert!(rig.session.poll_transmit().is_some());
    assert_eq!(rig.pass(50_000), None, "it took a message meanwhile");
    assert!(rig.session.has_output());
    assert_eq!(rig.pass(10_000), Some(Close::TIMEOUT));
    assert!(!rig.session.has_output(), "what nobody takes does not keep the session");
}

#[tokio::test]
async fn a_device_over_its_frames_is_not_read_from_until_the_second_that_pays_for_them() {
    let mut rig = Rig::with(RelayLimits { frames_per_second: 10, ..RelayLimits::default() });
    rig.handshake().await;
    rig.say(HELLO).await;
    for _ in 0..19 {
        rig.say(ClientFrame::Ping {}).await;
    }
    assert!(rig.session.wants_input(), "twice the rate at once");
    for _ in 0..5 {
        rig.say(ClientFrame::Ping {}).await;
    }

    assert!(!rig.session.wants_input());
    assert_eq!(rig.session.deadline_ms(), 500);
    assert_eq!(rig.pass(499), None);
    assert!(!rig.session.wants_input());
    assert_eq!(rig.pass(1), None);
    assert!(rig.session.wants_input());
}

#[tokio::test]
async fn a_device_over_its_bytes_is_not_read_from_and_not_taken_for_dead_meanwhile() {
    let mut rig = Rig::with(RelayLimits { bytes_per_second: 10, ..RelayLimits::default() });
    rig.handshake().await;
    rig.say(HELLO).await;
    rig.say(ClientFrame::MailboxSend { data: Bytes::from(vec![0; 2_000]) }).await;

    assert!(!rig.session.wants_input());
    assert_eq!(rig.pass(190_000), None, "the debt is 200 seconds long");
    assert_eq!(rig.pass(20_000), None);
    assert!(rig.session.wants_input());
    assert_eq!(rig.pass(60_000), Some(Close::TIMEOUT), "now silence counts again");
}

#[tokio::test]
async fn a_wall_clock_that_jumps_ends_no_session_and_disorders_no_log() {
    let mut rig = Rig::new();
    rig.found().await;

    for (push, wall_ms) in [(1, START_UNIX_MS + YEAR_MS), (2, START_UNIX_MS - YEAR_MS), (3, 0), (4, START_UNIX_MS)] {
        rig.clock.set_wall(wall_ms);
        assert_eq!(rig.pass(1_000), None, "deadlines are of the monotonic clock");
        rig.say(push_of(push)).await;
        assert_eq!(rig.hear(), [stored(push)]);
    }
    assert_eq!(rig.pass(59_999), None);
    assert_eq!(rig.pass(1), Some(Close::TIMEOUT), "and they hold");
}

#[tokio::test]
async fn what_was_pushed_before_the_relay_stops_is_answered_before_its_goodbye() {
    let mut rig = Rig::new();
    rig.found().await;
    rig.send(push_of(1)).await;

    rig.session.core.hub.close(|| 42);
    rig.session.work().await;

    assert_eq!(rig.hear(), [stored(1), RelayFrame::Bye { retry_after_ms: 42 }]);
}

#[tokio::test]
async fn a_session_whose_device_may_have_been_removed_ends_if_the_store_cannot_tell() {
    let mut rig = Rig::new();
    let group = rig.found().await;
    let database = rusqlite::Connection::open(rig.dir.path().join("relay.db")).expect("there");
    database.execute_batch("ALTER TABLE groups RENAME TO gone").expect("broken");

    rig.session.core.hub.hear(News::Members { group });
    rig.session.work().await;

    let frames = rig.hear();
    let code = ErrorCode::StorageUnavailable.number();
    assert!(matches!(frames[..], [RelayFrame::Error { code: told, .. }] if told == code), "{frames:?}");
    assert_eq!(rig.session.closing().map(|close| close.code), Some(Close::REFUSED));
}

/// One envelope, the same for the same number.
fn push_of(push: u8) -> ClientFrame {
    let envelopes = List::try_from(vec![envelope(push)]).expect("one envelope");
    ClientFrame::Push { push: u64::from(push), envelopes, resume: false }
}

/// The answer to a push that was the log's next entry.
fn stored(push: u8) -> RelayFrame {
    let results = List::try_from(vec![PushResult::Stored { cursor: u64::from(push) + 1 }]).expect("one result");
    RelayFrame::PushAck { push: u64::from(push), results }
}

/// Bytes that a relay takes for an envelope.
fn envelope(seed: u8) -> Bytes {
    vec![seed; ENVELOPE_BYTES_MIN].into()
}
