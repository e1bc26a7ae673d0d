//! A relay that holds the channel and then says too little or too much.

use zerok_sync_core::io::{Change, LinkId, RelayAddress, Row};
use zerok_sync_core::keys::StoreKey;
use zerok_sync_core::{Connection, Engine, Founding, Input, Machine, Now, Output, Problem, Secrets};
use zerok_sync_protocol::channel::{Responder, StaticKey};
use zerok_sync_protocol::frame::{Limits, LogState, Usage};
use zerok_sync_protocol::record::SecureStream;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, ClientFrame, ErrorCode, RelayFrame, Timeline};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// A founder's engine and the relay's end of its channel.
struct Pair {
    engine: Engine,
    relay: SecureStream,
    link: LinkId,
    now_ms: u64,
}

impl Pair {
    /// Up to the `Hello`, which is not answered.
    fn new() -> Self {
        let secrets = || Secrets { store_key: StoreKey::from_bytes([1; 32]), rng_seed: [2; 32] };
        let now = Now { mono_ms: 0, wall_ms: 0 };
        let relay = RelayAddress { url: "http://127.0.0.1:8080".into(), key: None };
        let founding = Founding { relay, device_name: "first".into(), token: None };
        let puts = Engine::found(now, &secrets(), founding).changes.into_iter().filter_map(|change| match change {
            Change::Put(row) => Some(row),
            Change::Delete { .. } => None,
        });
        let hot = |row: &Row| row.key.as_slice() >= Engine::HOT_FROM && row.key.as_slice() < Engine::HOT_TO;
        let mut engine = Engine::open(now, secrets(), puts.filter(hot).collect()).expect("just founded");
        engine.start(now);
        Self::connected(engine, 0)
    }

    /// The engine's next link, up to its `Hello`.
    fn connected(mut engine: Engine, now_ms: u64) -> Self {
        let now = Now { mono_ms: now_ms, wall_ms: 0 };
        let link = std::iter::from_fn(|| engine.poll_output())
            .find_map(|output| if let Output::Connect(link, _) = output { Some(link) } else { None })
            .expect("it connects");
        engine.handle(now, Input::LinkUp(link));
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let first = transmitted(&mut engine).remove(0);
        let (waiting, second) =
            Responder::relay(&StaticKey::from_bytes([7; 32])).read(&first, &mut rng).expect("sound");
        engine.handle(now, Input::LinkMessage(link, second.into()));
        let mut messages = transmitted(&mut engine);
        let (channel, _) = waiting.read(&messages.remove(0)).expect("sound");
        let mut relay = SecureStream::new(channel, 2 * 1024 * 1024);
        messages.iter().for_each(|message| relay.receive(message).expect("sound"));
        Self { engine, relay, link, now_ms }
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: 0 }
    }

    fn say(&mut self, frame: &RelayFrame) {
        self.relay.send(&frame.encode()).expect("short");
        while let Some(message) = self.relay.poll_transmit() {
            self.engine.handle(self.now(), Input::LinkMessage(self.link, message.into()));
        }
    }

    /// What the engine says, with its commits confirmed.
    fn heard(&mut self) -> Vec<ClientFrame> {
        let now = self.now();
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Transmit(_, message) => self.relay.receive(&message).expect("sound"),
                Output::Commit(id, _) => self.engine.handle(now, Input::Committed(id)),
                _ => {}
            }
        }
        std::iter::from_fn(|| self.relay.next_frame().expect("sound"))
            .map(|frame| ClientFrame::decode(&frame).expect("sound"))
            .collect()
    }
}

fn transmitted(engine: &mut Engine) -> Vec<bytes::Bytes> {
    std::iter::from_fn(|| engine.poll_output())
        .filter_map(|output| if let Output::Transmit(_, message) = output { Some(message) } else { None })
        .collect()
}

#[test]
fn a_relay_that_answers_pings_and_never_the_hello_is_given_up() {
    let mut pair = Pair::new();
    while pair.engine.status().connection == Connection::Handshaking {
        pair.now_ms = pair.engine.next_deadline_ms().expect("something is due");
        assert!(pair.now_ms < 120_000, "it waits for ever");
        pair.engine.handle(pair.now(), Input::Tick);
        if pair.heard().contains(&ClientFrame::Ping {}) {
            pair.say(&RelayFrame::Pong {});
        }
    }
    assert_eq!(pair.engine.status().connection, Connection::WaitingToRetry);
}

fn welcome(head: u64) -> RelayFrame {
    let log = LogState { timeline: Timeline([1; 8]), auth_gen: 0, head, head_blob_id: BlobId([2; 32]), floor: 1 };
    let limits = Limits {
        envelope_bytes_max: 1_179_648,
        group_bytes_max: u64::MAX,
        push_bytes_in_flight_max: 4 * 1024 * 1024,
        idle_days_max: 0,
    };
    let usage = Usage { group_bytes: 0 };
    RelayFrame::Welcome { minor: 0, log: Some(log), limits, usage, slot: bytes::Bytes::new(), allow: List::empty() }
}

#[test]
fn the_end_of_a_log_that_was_not_sent_is_not_believed() {
    let mut pair = Pair::new();
    pair.say(&welcome(2));
    pair.heard();
    pair.say(&RelayFrame::CaughtUp { head: 2 });
    assert!(matches!(pair.engine.status().problem, Some(Problem::ProtocolViolation(_))));
    assert!(!pair.heard().iter().any(|frame| matches!(frame, ClientFrame::Push { .. })));
}

#[test]
fn a_log_without_an_end_that_is_said_to_be_another_one_is_compared_like_any() {
    let mut pair = Pair::new();
    pair.say(&welcome(u64::MAX));
    pair.heard();
    let diverged = RelayFrame::Error { code: ErrorCode::Diverged.number(), retry_after_ms: 0, detail: String::new() };
    pair.say(&diverged);
    let mut pair = Pair::connected(pair.engine, 1_000);
    pair.say(&welcome(u64::MAX));
    pair.say(&diverged);
    assert_ne!(pair.engine.status().problem, Some(Problem::LogGone));
}

#[test]
fn an_answer_about_its_history_that_nobody_asked_for_ends_the_session() {
    let answers = [
        RelayFrame::Probed { blob_ids: List::empty() },
        RelayFrame::TimelineChanged { timeline: Timeline([9; 8]) },
        RelayFrame::MissingBlobs { bitmap: bytes::Bytes::from_static(&[255]) },
    ];
    for answer in answers {
        let mut pair = Pair::new();
        pair.say(&welcome(0));
        pair.heard();
        pair.say(&answer);
        let problem = pair.engine.status().problem;
        assert!(matches!(problem, Some(Problem::ProtocolViolation(_))), "{answer:?}: {problem:?}");
    }
}
