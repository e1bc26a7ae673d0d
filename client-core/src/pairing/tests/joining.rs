//! The joiner's machine: from the link to the stored membership, through a relay.

use bytes::Bytes;
use zerok_sync_protocol::channel::{AwaitingFinal, Responder, StaticKey};
use zerok_sync_protocol::frame::{Limits, Usage, Who};
use zerok_sync_protocol::limits::{FRAME_BYTES_MAX_GUEST, MAILBOX_TTL_MS};
use zerok_sync_protocol::record::SecureStream;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{ClientFrame, ErrorCode, RelayFrame};

use super::*;
use crate::engine::{Engine, Secrets};
use crate::error::{JoinError, Problem};
use crate::event::Event;
use crate::invite::Invite;
use crate::io::{Batch, Change, Input, LinkDownReason, LinkId, Machine, Now, Output, Row, StorageFault};
use crate::keys::StoreKey;
use crate::link::{InviteLink, PairingSecret};

/// A relay with one mailbox, in which the inviter sits.
struct Relay {
    key: StaticKey,
    handshake: Option<AwaitingFinal>,
    stream: Option<SecureStream>,
    inviter: InviterPairing,
    /// The inviting person's word.
    accepts: bool,
    /// What answers `MailboxJoin` instead of the mailbox.
    refusal: Option<RelayFrame>,
    /// The inviting person takes their time, and the relay answers no ping.
    silent: bool,
    /// The joining person takes their time.
    joiner_thinks: bool,
    /// Nobody reads what the joiner sends.
    drops_mail: bool,
    heard: Vec<&'static str>,
    to_joiner: Vec<Vec<u8>>,
}

impl Relay {
    fn new() -> Self {
        Self {
            key: StaticKey::from_bytes([0x77; 32]),
            handshake: None,
            stream: None,
            inviter: start_inviter(),
            accepts: true,
            refusal: None,
            silent: false,
            joiner_thinks: false,
            drops_mail: false,
            heard: Vec::new(),
            to_joiner: Vec::new(),
        }
    }

    fn address(&self) -> RelayAddress {
        RelayAddress { url: RELAY_URL.into(), key: Some(self.key.public()) }
    }

    fn receive(&mut self, message: &[u8]) {
        if let Some(handshake) = self.handshake.take() {
            let (channel, _) = handshake.read(message).expect("message 3");
            self.stream = Some(SecureStream::new(channel, FRAME_BYTES_MAX_GUEST));
        } else if self.stream.is_none() {
            let (handshake, answer) = Responder::relay(&self.key).read(message, &mut rng(7)).expect("message 1");
            self.handshake = Some(handshake);
            self.to_joiner.push(answer);
        } else {
            let stream = self.stream.as_mut().expect("it stands");
            stream.receive(message).expect("in order");
            while let Some(frame) = self.stream.as_mut().expect("it stands").next_frame().expect("short") {
                let frame = ClientFrame::decode(&frame).expect("a client frame");
                self.heard.push(frame.name());
                self.answer(frame);
            }
        }
    }

    fn answer(&mut self, frame: ClientFrame) {
        match frame {
            ClientFrame::Hello { who: Who::Guest {}, .. } => self.send(&welcome()),
            ClientFrame::MailboxJoin { mailbox } if mailbox == super::mailbox() => {
                let opened = RelayFrame::MailboxOpened {
                    mailbox,
                    salt: Bytes::from_static(&[0; 16]),
                    expires_in_ms: MAILBOX_TTL_MS,
                };
                let answer = self.refusal.take().unwrap_or(opened);
                self.send(&answer);
            }
            ClientFrame::MailboxSend { .. } if self.drops_mail => {}
            ClientFrame::MailboxSend { data } => self.pass_on(&data),
            ClientFrame::Ping {} if !self.silent => self.send(&RelayFrame::Pong {}),
            ClientFrame::Ping {} | ClientFrame::MailboxClose {} | ClientFrame::Bye {} => {}
            other => panic!("a guest must not say {}", other.name()),
        }
    }

    fn pass_on(&mut self, data: &[u8]) {
        match self.inviter.receive(data, &mut rng(1)) {
            Ok(InviterStep::Send(message)) => self.send_mail(message),
            Ok(InviterStep::Ask { .. }) if self.silent => {}
            Ok(InviterStep::Ask { .. }) if self.accepts => {
                let relays = vec![self.address()];
                let message = self.inviter.accept(&GrantMaterial { relays, ..material() }).expect("it fits");
                self.send_mail(message);
            }
            Ok(InviterStep::Ask { .. }) => {
                let message = self.inviter.decline().expect("somebody waits");
                self.send_mail(message);
                self.send(&RelayFrame::MailboxClosed {});
            }
            Ok(InviterStep::Accepted { .. }) | Err(_) => self.send(&RelayFrame::MailboxClosed {}),
        }
    }

    fn send_mail(&mut self, message: Vec<u8>) {
        self.send(&RelayFrame::MailboxMessage { data: message.into() });
    }

    fn send(&mut self, frame: &RelayFrame) {
        let stream = self.stream.as_mut().expect("it stands");
        stream.send(&frame.encode()).expect("short");
        while let Some(message) = stream.poll_transmit() {
            self.to_joiner.push(message);
        }
    }
}

fn welcome() -> RelayFrame {
    RelayFrame::Welcome {
        minor: 0,
        log: None,
        limits: Limits { envelope_bytes_max: 0, group_bytes_max: 0, push_bytes_in_flight_max: 0, idle_days_max: 0 },
        usage: Usage { group_bytes: 0 },
        slot: Bytes::new(),
        allow: List::empty(),
    }
}

const START: Now = Now { mono_ms: 5_000, wall_ms: 0 };
const LINK: LinkId = LinkId(1);

/// The machine, its relay, and what came out.
struct World {
    now: Now,
    joiner: Joiner,
    relay: Relay,
    /// After this many link messages in both directions together, the link breaks.
    messages_left: usize,
    link_up: bool,
    storage_fails: bool,
    committed: Vec<Batch>,
    events: Vec<Event>,
}

impl World {
    fn new(relay: Relay) -> Self {
        Self::with_link(relay, |relay| {
            InviteLink::new(None, &relay.address(), mailbox(), PairingSecret::from_bytes(SECRET)).expect("valid")
        })
    }

    fn with_link(relay: Relay, link: impl FnOnce(&Relay) -> InviteLink) -> Self {
        let joiner = Joiner::new(START, secrets(), joining(link(&relay)));
        Self {
            now: START,
            joiner,
            relay,
            messages_left: usize::MAX,
            link_up: false,
            storage_fails: false,
            committed: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Runs until nothing moves any more without time passing.
    fn settle(&mut self) {
        loop {
            while let Some(output) = self.joiner.poll_output() {
                self.carry_out(output);
            }
            if self.relay.to_joiner.is_empty() || !self.link_up {
                return;
            }
            let message = self.relay.to_joiner.remove(0);
            if self.spend_message() {
                self.joiner.handle(self.now, Input::LinkMessage(LINK, message.into()));
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Connect(link, address) => {
                assert_eq!((link, address), (LINK, self.relay.address()));
                self.link_up = true;
                self.joiner.handle(self.now, Input::LinkUp(link));
            }
            Output::Transmit(_, message) => {
                if self.link_up && self.spend_message() {
                    self.relay.receive(&message);
                }
            }
            Output::Disconnect(_) => self.link_up = false,
            Output::Commit(id, batch) => {
                let input = if self.storage_fails {
                    Input::CommitFailed(id, StorageFault::Full("test".into()))
                } else {
                    self.committed.push(batch);
                    Input::Committed(id)
                };
                self.joiner.handle(self.now, input);
            }
            Output::Event(event) => {
                let confirms = matches!(event, Event::ConfirmJoin { .. }) && !self.relay.joiner_thinks;
                self.events.push(event);
                if confirms {
                    self.joiner.confirm(self.now);
                }
            }
            Output::Scan { .. } => panic!("there is nothing to read yet"),
        }
    }

    fn spend_message(&mut self) -> bool {
        if self.messages_left == 0 {
            self.link_up = false;
            self.joiner.handle(self.now, Input::LinkDown(LINK, LinkDownReason::Closed));
            return false;
        }
        self.messages_left -= 1;
        true
    }

    /// Lets time pass up to the machine's next deadline.
    fn wait(&mut self) {
        let deadline = self.joiner.next_deadline_ms().expect("something is waited for");
        self.now.mono_ms = self.now.mono_ms.max(deadline);
        self.joiner.handle(self.now, Input::Tick);
        self.settle();
    }

    fn outcome(&self) -> Option<&Event> {
        self.events.last()
    }

    fn failure(&self) -> JoinError {
        match self.outcome() {
            Some(Event::JoinFailed(error)) => error.clone(),
            other => panic!("expected a failure, got {other:?}"),
        }
    }
}

fn joining(link: InviteLink) -> Joining {
    let relay = link.relay();
    Joining { invite: Invite::Link(link), relay, device_name: "phone".into(), bring_data: false }
}

fn secrets() -> Secrets {
    Secrets { store_key: StoreKey::from_bytes([4; 32]), rng_seed: [5; 32] }
}

#[test]
fn joining_ends_with_a_state_that_an_engine_opens() {
    let mut world = World::new(Relay::new());
    world.settle();
    assert!(
        matches!(world.events[..], [Event::ShowDigits { .. }, Event::ConfirmJoin { .. }, Event::Joined]),
        "{:?}",
        world.events
    );
    assert_eq!(
        world.relay.heard,
        ["Hello", "MailboxJoin", "MailboxSend", "MailboxSend", "MailboxSend", "Bye"],
        "messages 1, 3 and 5, and goodbye once the inviter confirmed"
    );
    assert!(!world.link_up);

    let [batch] = &world.committed[..] else { panic!("one batch, got {}", world.committed.len()) };
    let mut rows: Vec<Row> = batch
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::Put(row) if row.key.as_slice() >= Engine::HOT_FROM && row.key.as_slice() < Engine::HOT_TO => {
                Some(row.clone())
            }
            _ => None,
        })
        .collect();
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let engine = Engine::open(world.now, secrets(), rows).expect("a member's state");
    let status = engine.status();
    assert_eq!(status.device_name, "phone");
    assert_eq!(status.relay, world.relay.address());
}

#[test]
fn a_declined_joiner_is_told_and_stores_nothing() {
    let mut world = World::new(Relay { accepts: false, ..Relay::new() });
    world.settle();
    assert_eq!(world.failure(), JoinError::Declined);
    assert!(world.committed.is_empty() && !world.link_up);
}

#[test]
fn a_link_with_another_secret_is_told_from_one_that_expired() {
    let mut world = World::with_link(Relay::new(), |relay| {
        InviteLink::new(None, &relay.address(), mailbox(), PairingSecret::from_bytes([0; 32])).expect("valid")
    });
    world.settle();
    assert_eq!(world.failure(), JoinError::WrongSecret);

    let gone = RelayFrame::Error { code: ErrorCode::MailboxGone.number(), retry_after_ms: 0, detail: String::new() };
    let mut world = World::new(Relay { refusal: Some(gone), ..Relay::new() });
    world.settle();
    assert_eq!(world.failure(), JoinError::InviteGone);
}

#[test]
fn a_relay_with_another_key_than_the_links_hears_nothing_from_the_joiner() {
    let address = RelayAddress { url: RELAY_URL.into(), key: Some(NoisePublicKey([6; 32])) };
    let link = InviteLink::new(None, &address, mailbox(), PairingSecret::from_bytes(SECRET)).expect("valid");
    let mut joiner = Joiner::new(START, secrets(), joining(link));
    assert!(matches!(joiner.poll_output(), Some(Output::Connect(..))));
    joiner.handle(START, Input::LinkUp(LINK));
    let Some(Output::Transmit(_, first)) = joiner.poll_output() else { panic!("message 1 comes first") };
    let mut relay = Relay::new();
    relay.receive(&first);
    joiner.handle(START, Input::LinkMessage(LINK, relay.to_joiner.remove(0).into()));
    assert!(matches!(joiner.poll_output(), Some(Output::Disconnect(LINK))));
    let changed = JoinError::Relay(Problem::RelayKeyChanged { url: RELAY_URL.into() });
    assert!(matches!(joiner.poll_output(), Some(Output::Event(Event::JoinFailed(error))) if error == changed));
    assert!(joiner.poll_output().is_none());
}

#[test]
fn a_grant_that_names_another_key_for_this_relay_is_refused() {
    let mut relay = Relay::new();
    relay.silent = true;
    let mut world = World::new(relay);
    world.settle();
    // The inviter's own view of the relay: another key than the one the joiner met.
    let message = world.relay.inviter.accept(&material()).expect("it fits");
    world.relay.send_mail(message);
    world.settle();
    assert_eq!(world.failure(), JoinError::Relay(Problem::RelayKeyChanged { url: RELAY_URL.into() }));
    assert!(world.committed.is_empty());
    // The inviter, too: the mailbox is closed on it, and what it handed over was never confirmed.
    assert_eq!(
        world.relay.heard.iter().filter(|heard| **heard == "MailboxClose").count(),
        1,
        "{:?}",
        world.relay.heard
    );
    assert_eq!(world.relay.inviter.closed(), JoinError::Unconfirmed);
}

#[test]
fn a_link_lost_at_any_moment_leaves_a_member_or_nothing() {
    let mut joined = 0;
    for messages in 0.. {
        let mut world = World::new(Relay::new());
        world.messages_left = messages;
        world.settle();
        if world.outcome().is_none() || matches!(world.outcome(), Some(Event::ShowDigits { .. })) {
            panic!("no outcome after {messages} messages");
        }
        match world.outcome() {
            Some(Event::Joined) => {
                joined += 1;
                assert_eq!(world.committed.len(), 1, "after {messages} messages");
            }
            _ => {
                assert!(matches!(world.failure(), JoinError::Relay(Problem::Unreachable(_))));
                assert!(world.committed.is_empty(), "after {messages} messages");
            }
        }
        assert!(world.joiner.next_deadline_ms().is_none());
        if world.messages_left > 0 {
            break;
        }
    }
    assert!(joined >= 3, "cut before message 5, after it, and not at all");
}

#[test]
fn a_mailbox_closed_while_the_person_thinks_ends_in_a_sentence() {
    let mut world = World::new(Relay { silent: true, ..Relay::new() });
    world.settle();
    world.relay.send(&RelayFrame::MailboxClosed {});
    world.settle();
    assert_eq!(world.failure(), JoinError::InviteGone);
    assert!(world.committed.is_empty());
}

#[test]
fn cancelling_tells_the_other_side() {
    let mut world = World::new(Relay { silent: true, ..Relay::new() });
    world.settle();
    world.joiner.cancel(world.now);
    world.settle();
    assert_eq!(world.failure(), JoinError::Cancelled);
    assert!(world.relay.heard.ends_with(&["MailboxClose", "Bye"]), "{:?}", world.relay.heard);
    assert!(!world.link_up);
}

#[test]
fn a_grant_that_cannot_be_stored_makes_no_member() {
    let mut world = World::new(Relay::new());
    world.storage_fails = true;
    world.settle();
    assert_eq!(world.outcome(), Some(&Event::StorageFailed(StorageFault::Full("test".into()))));
    assert!(world.relay.inviter.awaits_confirmation(), "message 5 was not sent");
    assert!(!world.link_up);
}

#[test]
fn cancelling_between_confirmation_and_commit_comes_too_late() {
    let mut world = World::new(Relay { silent: true, ..Relay::new() });
    world.settle();
    let relays = vec![world.relay.address()];
    let message = world.relay.inviter.accept(&GrantMaterial { relays, ..material() }).expect("it fits");
    world.relay.send_mail(message);
    let message = world.relay.to_joiner.remove(0);
    world.joiner.handle(world.now, Input::LinkMessage(LINK, message.into()));
    world.joiner.confirm(world.now);
    world.joiner.cancel(world.now);
    world.settle();
    assert_eq!(world.outcome(), Some(&Event::Joined));
}

/// A joiner whose person was just asked.
fn asked() -> World {
    let mut world = World::new(Relay { joiner_thinks: true, ..Relay::new() });
    world.settle();
    let question =
        Event::ConfirmJoin { inviter: "laptop".into(), relay: RELAY_URL.into(), members: vec!["laptop".into()] };
    assert_eq!(world.outcome(), Some(&question));
    assert!(world.committed.is_empty(), "nothing is stored before the answer");
    world
}

#[test]
fn the_joining_person_says_yes() {
    let mut world = asked();
    world.joiner.confirm(world.now);
    world.settle();
    assert_eq!(world.outcome(), Some(&Event::Joined));
}

#[test]
fn the_joining_person_says_no_and_the_inviter_hears_of_it() {
    let mut world = asked();
    world.joiner.cancel(world.now);
    world.settle();
    assert_eq!(world.failure(), JoinError::Cancelled);
    assert!(world.committed.is_empty() && !world.link_up);
    assert!(world.relay.heard.ends_with(&["MailboxSend", "MailboxClose", "Bye"]), "{:?}", world.relay.heard);
    assert!(!world.relay.inviter.awaits_confirmation(), "the word came through the channel");
}

#[test]
fn a_joining_person_who_never_answers_stores_nothing() {
    let mut world = asked();
    while !matches!(world.outcome(), Some(Event::JoinFailed(_))) {
        world.wait();
    }
    assert_eq!(world.failure(), JoinError::Expired);
    assert!(world.committed.is_empty());
}

#[test]
fn an_invitation_taken_back_while_the_joining_person_thinks_stores_nothing() {
    let mut world = asked();
    world.relay.send(&RelayFrame::MailboxClosed {});
    world.settle();
    world.joiner.confirm(world.now);
    world.settle();
    assert_eq!(world.failure(), JoinError::InviteGone);
    assert!(world.committed.is_empty());
}

#[test]
fn a_silent_inviter_is_waited_for_until_the_mailbox_expires() {
    let mut world = World::new(Relay { silent: true, ..Relay::new() });
    world.settle();
    world.relay.silent = false;
    while !matches!(world.outcome(), Some(Event::JoinFailed(_))) {
        world.wait();
    }
    assert_eq!(world.failure(), JoinError::Expired);
    assert_eq!(world.now.mono_ms, START.mono_ms + MAILBOX_TTL_MS);
    let pings = world.relay.heard.iter().filter(|&&frame| frame == "Ping").count();
    assert!((20..=24).contains(&pings), "the link is kept alive meanwhile: {pings}");
}

#[test]
fn a_silent_relay_is_given_up() {
    let mut world = World::new(Relay { silent: true, ..Relay::new() });
    world.settle();
    world.wait();
    assert_eq!(world.relay.heard.last(), Some(&"Ping"));
    world.wait();
    assert!(matches!(world.failure(), JoinError::Relay(Problem::Unreachable(_))));
}

#[test]
fn a_driver_that_never_connects_is_not_waited_for() {
    let world = World::new(Relay::new());
    let mut joiner = world.joiner;
    while joiner.poll_output().is_some() {}
    let deadline = joiner.next_deadline_ms().expect("one");
    joiner.handle(Now { mono_ms: deadline, wall_ms: 0 }, Input::Tick);
    assert!(matches!(joiner.poll_output(), Some(Output::Disconnect(LINK))));
    assert!(matches!(joiner.poll_output(), Some(Output::Event(Event::JoinFailed(_)))));
    assert_eq!(joiner.next_deadline_ms(), None);
}

#[test]
fn an_inviter_that_vanishes_after_the_grant_does_not_keep_the_joiner() {
    let mut world = World::new(Relay { silent: true, ..Relay::new() });
    world.settle();
    let relays = vec![world.relay.address()];
    let message = world.relay.inviter.accept(&GrantMaterial { relays, ..material() }).expect("it fits");
    world.relay.send_mail(message);
    world.relay.drops_mail = true;
    world.settle();
    assert!(!world.events.contains(&Event::Joined), "message 5 is given time to arrive");
    world.wait();
    assert_eq!(world.outcome(), Some(&Event::Joined));
    assert_eq!(world.now.mono_ms, START.mono_ms + 5_000);
}

#[test]
fn a_frame_that_no_relay_sends_a_guest_ends_it() {
    let mut world = World::new(Relay { silent: true, ..Relay::new() });
    world.settle();
    world.relay.send(&RelayFrame::CaughtUp { head: 3 });
    world.settle();
    assert!(matches!(world.failure(), JoinError::Relay(Problem::ProtocolViolation(_))));
    assert!(world.committed.is_empty());
}
