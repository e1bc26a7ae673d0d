//! A device that holds an invitation, until it is a member: from link or code to the stored state.
//!
//! A [`Machine`] like the engine: it connects to the relay as a guest, meets the inviter in the
//! mailbox, runs [`JoinerPairing`], asks the person ([`Event::ConfirmJoin`]), and commits the new
//! membership to a storage that must be empty. [`Event::Joined`] or [`Event::JoinFailed`] (or [`Event::StorageFailed`]) comes exactly
//! once and last; after `Joined`, drop it and open an [`crate::Engine`] on the storage.
//!
//! Before the commit every failure leaves nothing behind. From the commit on the device is a member
//! and can finish alone, so whatever happens to the link then changes nothing. A link that is lost
//! on the way is not taken up again: a mailbox admits one guest, once.

use std::collections::VecDeque;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zerok_sync_protocol::channel::StaticKey;
use zerok_sync_protocol::frame::Who;
use zerok_sync_protocol::limits::{
    DEAD_AFTER_PING_MS, DEAD_AFTER_WAKE_PING_MS, FRAME_BYTES_MAX_GUEST, MAILBOX_TTL_MS, MINOR_MAX, MINOR_MIN,
    PING_AFTER_IDLE_MS,
};
use zerok_sync_protocol::{BlobId, ClientFrame, ErrorCode, MailboxId, RelayFrame, wire};

use super::joiner_pairing::{JoinerPairing, JoinerStep};
use super::{Granted, GrantedRelay, pairing_psk};
use crate::certificate::DeviceName;
use crate::engine::Secrets;
use crate::engine::bringing::BringingRow;
use crate::engine::rows::{InitialState, JoiningRow, hot, hot_key, initial_rows};
use crate::error::{JoinError, Problem};
use crate::event::Event;
use crate::id::DeviceId;
use crate::invite::Invite;
use crate::io::{CommitId, Input, LinkDownReason, LinkId, Machine, Now, Output, RELAY_BUSY, RelayAddress};
use crate::keys::{Membership, MembershipSeed, StoreKey};
use crate::relay_link::{RelayLink, RelayLinkEvent, check_first_contact, unsupported_version};

/// How long a link may take to stand: name look-up, TCP and TLS on a slow mobile network.
const CONNECT_DEADLINE_MS: u64 = 20_000;
/// How long the relay may take to answer a request.
const ANSWER_DEADLINE_MS: u64 = 10_000;
/// How long the inviter may take to close the mailbox after `Stored`. It changes nothing for this
/// device; waiting gives the message time to arrive before the link is taken down.
const FAREWELL_DEADLINE_MS: u64 = 5_000;
/// A mailbox that closes this shortly before its time, by this side's clock, has expired.
const EXPIRY_SLACK_MS: u64 = 2_000;

const LINK: LinkId = LinkId(1);
const COMMIT: CommitId = CommitId(1);

/// What a person gave to join with.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The invitation.
    pub invite: Invite,
    /// Where it is: [`Invite::relay`]. Without a key, which no code carries, the one that is met
    /// has to be the one that the inviting device names.
    pub relay: RelayAddress,
    /// What this device is called; cleaned by [`DeviceName::cleaned`].
    pub device_name: String,
    /// Whether it brings along what it had written in a group before: the driver keeps that group's
    /// rows beside the storage, which is empty all the same.
    pub bring_data: bool,
}

/// A device on its way into a group. See the module's documentation.
#[derive(Debug)]
pub struct Joiner {
    store_key: StoreKey,
    rng: ChaCha20Rng,
    seed: MembershipSeed,
    name: DeviceName,
    relay: RelayAddress,
    invite: Invite,
    bring_data: bool,
    phase: Phase,
    /// Gone before the end only where that does not matter any more.
    link: Option<RelayLink>,
    liveness: Liveness,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum Phase {
    /// The driver was asked for a link.
    Connecting {
        deadline_ms: u64,
    },
    /// [`RelayLink`] has its own deadline.
    Handshaking,
    /// `Hello` is out.
    Greeting {
        deadline_ms: u64,
    },
    /// `MailboxJoin` is out.
    Entering {
        deadline_ms: u64,
    },
    /// In the mailbox, until it expires.
    Pairing {
        pairing: Box<JoinerPairing>,
        deadline_ms: u64,
    },
    /// The grant is here and the person is asked, until the mailbox expires.
    Confirming {
        pairing: Box<JoinerPairing>,
        granted: Box<Granted>,
        deadline_ms: u64,
    },
    /// The grant is being stored.
    Committing {
        pairing: Box<JoinerPairing>,
    },
    /// `Stored` is out.
    Leaving {
        deadline_ms: u64,
    },
    Done,
}

/// When to ping a silent relay, and when to give it up.
#[derive(Debug, Clone, Copy, Default)]
struct Liveness {
    ping_at_ms: u64,
    dead_at_ms: Option<u64>,
}

impl Joiner {
    /// Starts to join. The storage must be empty, and stays so until [`Output::Commit`].
    #[must_use]
    pub fn new(now: Now, secrets: Secrets, joining: Joining) -> Self {
        let mut rng = ChaCha20Rng::from_seed(secrets.rng_seed);
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let mut joiner = Self {
            store_key: secrets.store_key,
            rng,
            seed: MembershipSeed::from_bytes(seed),
            name: DeviceName::cleaned(&joining.device_name),
            relay: joining.relay,
            invite: joining.invite,
            bring_data: joining.bring_data,
            phase: Phase::Connecting { deadline_ms: now.mono_ms.saturating_add(CONNECT_DEADLINE_MS) },
            link: None,
            liveness: Liveness::default(),
            outputs: VecDeque::new(),
        };
        match check_first_contact(&joiner.relay) {
            Ok(()) => joiner.outputs.push_back(Output::Connect(LINK, joiner.relay.clone())),
            Err(problem) => joiner.finish(Event::JoinFailed(problem.into())),
        }
        joiner
    }

    /// The person's yes to [`Event::ConfirmJoin`].
    pub fn confirm(&mut self, _now: Now) {
        if let Phase::Confirming { .. } = self.phase
            && let Phase::Confirming { pairing, granted, .. } = std::mem::replace(&mut self.phase, Phase::Done)
        {
            self.store(pairing, *granted);
        }
    }

    /// Gives up, or says no to [`Event::ConfirmJoin`]; the inviting device is told. Comes too late
    /// once that was confirmed: then the outcome is [`Event::Joined`].
    pub fn cancel(&mut self, _now: Now) {
        match &mut self.phase {
            Phase::Confirming { pairing, .. } => {
                if let Some(message) = pairing.refuse() {
                    self.send(&ClientFrame::MailboxSend { data: message.into() });
                }
                self.fail(JoinError::Cancelled);
            }
            Phase::Committing { .. } | Phase::Leaving { .. } | Phase::Done => {}
            _ => self.fail(JoinError::Cancelled),
        }
    }

    fn on_link_up(&mut self, now: Now) {
        if !matches!(self.phase, Phase::Connecting { .. }) {
            return;
        }
        // The guest is nobody: its key is thrown away with the link.
        let guest = StaticKey::generate(&mut self.rng);
        match RelayLink::connect(now, &guest, &self.relay, FRAME_BYTES_MAX_GUEST, &mut self.rng) {
            Ok(link) => {
                self.link = Some(link);
                self.phase = Phase::Handshaking;
            }
            Err(problem) => self.fail(problem.into()),
        }
    }

    fn on_link_message(&mut self, now: Now, message: &[u8]) {
        let Some(link) = &mut self.link else { return };
        self.liveness = Liveness::heard(now);
        if let Err(problem) = link.receive(message) {
            return self.lose_link(problem);
        }
        while let Some(link) = &mut self.link {
            match link.poll_event() {
                Ok(None) => break,
                Ok(Some(RelayLinkEvent::Ready { relay_key, .. })) => {
                    // From here on it is this relay or none.
                    self.relay.key = Some(relay_key);
                    self.greet(now);
                }
                Ok(Some(RelayLinkEvent::Frame(frame))) => self.on_frame(now, frame),
                Err(problem) => return self.lose_link(problem),
            }
        }
    }

    fn greet(&mut self, now: Now) {
        self.send(&ClientFrame::Hello {
            minor_min: MINOR_MIN,
            minor_max: MINOR_MAX,
            who: Who::Guest {},
            create: false,
            token: None,
        });
        self.phase = Phase::Greeting { deadline_ms: now.mono_ms.saturating_add(ANSWER_DEADLINE_MS) };
    }

    fn on_frame(&mut self, now: Now, frame: RelayFrame) {
        match (&mut self.phase, frame) {
            // Whatever the relay says now, the grant is here.
            (Phase::Committing { .. } | Phase::Done, _) | (_, RelayFrame::Pong {}) => {}
            (
                Phase::Leaving { .. },
                RelayFrame::MailboxClosed {} | RelayFrame::Error { .. } | RelayFrame::Bye { .. },
            ) => {
                self.leave();
            }
            (Phase::Leaving { .. }, _) => {}
            (Phase::Greeting { .. }, RelayFrame::Welcome { .. }) => {
                self.send(&ClientFrame::MailboxJoin { mailbox: self.mailbox().clone() });
                self.phase = Phase::Entering { deadline_ms: now.mono_ms.saturating_add(ANSWER_DEADLINE_MS) };
            }
            (Phase::Entering { .. }, RelayFrame::MailboxOpened { mailbox, salt, expires_in_ms }) => {
                if mailbox == *self.mailbox() {
                    self.start_pairing(now, &salt, expires_in_ms);
                } else {
                    self.fail(Problem::ProtocolViolation("another mailbox than the one asked for").into());
                }
            }
            (Phase::Pairing { pairing, .. }, RelayFrame::MailboxMessage { data }) => {
                match pairing.receive(&data, &mut self.rng) {
                    Ok(JoinerStep::Send(message)) => self.send(&ClientFrame::MailboxSend { data: message.into() }),
                    Ok(JoinerStep::Introduce { message, digits }) => {
                        self.send(&ClientFrame::MailboxSend { data: message.into() });
                        self.transmit();
                        self.outputs.push_back(Output::Event(Event::ShowDigits { digits }));
                    }
                    Ok(JoinerStep::Granted(granted)) => self.ask_person(granted),
                    Err(error) => self.fail(error),
                }
            }
            (
                Phase::Pairing { pairing, deadline_ms } | Phase::Confirming { pairing, deadline_ms, .. },
                RelayFrame::MailboxClosed {},
            ) => {
                let expired = now.mono_ms.saturating_add(EXPIRY_SLACK_MS) >= *deadline_ms;
                let error = if expired { JoinError::Expired } else { pairing.closed() };
                self.fail(error);
            }
            (Phase::Entering { .. }, RelayFrame::Error { code, .. })
                if code == ErrorCode::MailboxGone.number() && matches!(self.invite, Invite::Code(_)) =>
            {
                self.fail(JoinError::NoSuchCode { relay: self.relay.url.clone() });
            }
            (_, RelayFrame::Error { code, detail, .. }) => self.fail(refusal(code, detail)),
            (_, RelayFrame::Bye { .. }) => self.fail(lost("the relay is restarting")),
            (_, _) => self.fail(Problem::ProtocolViolation("a frame that does not belong here").into()),
        }
    }

    fn mailbox(&self) -> &MailboxId {
        match &self.invite {
            Invite::Link(link) => link.mailbox(),
            Invite::Code(code) => code.mailbox(),
        }
    }

    fn start_pairing(&mut self, now: Now, salt: &[u8], expires_in_ms: u64) {
        let (membership, name) = (Membership::from_seed(&self.seed), self.name.clone());
        let (pairing, message) = match &self.invite {
            Invite::Link(link) => {
                let psk0 = pairing_psk(link.secret().expose());
                JoinerPairing::by_link(link.mailbox(), psk0, membership, name, &mut self.rng)
            }
            Invite::Code(code) => JoinerPairing::by_code(code, salt, membership, name, &mut self.rng),
        };
        self.send(&ClientFrame::MailboxSend { data: message.into() });
        let deadline_ms = now.mono_ms.saturating_add(expires_in_ms.min(MAILBOX_TTL_MS));
        self.phase = Phase::Pairing { pairing: Box::new(pairing), deadline_ms };
    }

    /// The inviting person let this device in; this one's has a word in it, too.
    fn ask_person(&mut self, granted: Box<Granted>) {
        // The inviter says which key this relay has: whoever sits between the joiner and the relay
        // would have shown another.
        if !granted.relays.iter().any(|relay| Some(relay.key) == self.relay.key) {
            return self.fail(Problem::RelayKeyChanged { url: self.relay.url.clone() }.into());
        }
        let Phase::Pairing { pairing, deadline_ms } = std::mem::replace(&mut self.phase, Phase::Done) else {
            unreachable!("a grant comes out of the pairing that is going on");
        };
        let name_of = |device: DeviceId| granted.members.iter().find(|member| member.device == device);
        let question = Event::ConfirmJoin {
            inviter: name_of(granted.inviter.device)
                .map_or_else(|| "a device".into(), |member| member.name.to_string()),
            relay: self.relay.url.clone(),
            members: granted.members.iter().map(|member| member.name.to_string()).collect(),
        };
        self.phase = Phase::Confirming { pairing, granted, deadline_ms };
        self.outputs.push_back(Output::Event(question));
    }

    /// The grant becomes this device's first state.
    fn store(&mut self, pairing: Box<JoinerPairing>, granted: Granted) {
        let inviter = granted.inviter.device;
        let joining = JoiningRow {
            frontier: granted.frontier,
            inviter,
            observed: granted.observed,
            members: granted.members,
            epoch_blob_id: BlobId::ZERO,
            epoch: granted.keyring.current().id,
        };
        // The one it is at goes by the address that led there.
        let address = |relay: &GrantedRelay| match Some(relay.key) == self.relay.key {
            true => self.relay.clone(),
            false => RelayAddress { url: relay.url.clone(), key: Some(relay.key) },
        };
        let here = self.relay.url.clone();
        let state = InitialState {
            seed: &self.seed,
            genesis: granted.genesis.bytes().clone(),
            keyring: &granted.keyring,
            relays: granted.relays.iter().map(address).collect(),
            device_name: self.name.to_string(),
            founding: None,
            joining: Some((granted.certificate, joining)),
            history_start: granted.history_start.map(|start| (start, here)),
        };
        let mut batch = initial_rows(state, &self.store_key, &mut self.rng);
        if self.bring_data {
            batch.put(hot_key(hot::BRINGING, &[]), wire::encode(&BringingRow { brought_seq: 0 }));
        }
        self.outputs.push_back(Output::Commit(COMMIT, batch));
        self.phase = Phase::Committing { pairing };
    }

    fn on_committed(&mut self, now: Now) {
        let Phase::Committing { pairing } = &mut self.phase else { return };
        let message = pairing.stored();
        self.phase = Phase::Leaving { deadline_ms: now.mono_ms.saturating_add(FAREWELL_DEADLINE_MS) };
        match message {
            Some(message) if self.link.is_some() => self.send(&ClientFrame::MailboxSend { data: message.into() }),
            _ => self.leave(),
        }
    }

    fn on_tick(&mut self, now: Now) {
        let now_ms = now.mono_ms;
        let overdue = |deadline_ms: u64| now_ms >= deadline_ms;
        match self.phase {
            Phase::Connecting { deadline_ms } if overdue(deadline_ms) => {
                return self.fail(lost("no connection came about"));
            }
            Phase::Greeting { deadline_ms } | Phase::Entering { deadline_ms } if overdue(deadline_ms) => {
                return self.fail(lost("the relay does not answer"));
            }
            Phase::Pairing { deadline_ms, .. } | Phase::Confirming { deadline_ms, .. } if overdue(deadline_ms) => {
                return self.fail(JoinError::Expired);
            }
            Phase::Leaving { deadline_ms } if overdue(deadline_ms) => return self.leave(),
            _ => {}
        }
        if let Some(link) = &mut self.link
            && let Err(problem) = link.check_deadline(now)
        {
            return self.fail(problem.into());
        }
        if self.in_mailbox() {
            match self.liveness.dead_at_ms {
                Some(dead_at_ms) if overdue(dead_at_ms) => self.fail(lost("the relay has gone silent")),
                None if overdue(self.liveness.ping_at_ms) => self.ping(now, DEAD_AFTER_PING_MS),
                _ => {}
            }
        }
    }

    /// Whether the two devices are talking: the link is kept alive, and its end told.
    fn in_mailbox(&self) -> bool {
        matches!(self.phase, Phase::Pairing { .. } | Phase::Confirming { .. })
    }

    fn ping(&mut self, now: Now, patience_ms: u64) {
        self.send(&ClientFrame::Ping {});
        self.liveness.dead_at_ms = Some(now.mono_ms.saturating_add(patience_ms));
    }

    fn send(&mut self, frame: &ClientFrame) {
        if let Some(link) = &mut self.link {
            link.send(frame);
        }
    }

    fn transmit(&mut self) {
        if let Some(link) = &mut self.link {
            while let Some(message) = link.poll_transmit() {
                self.outputs.push_back(Output::Transmit(LINK, message));
            }
        }
    }

    /// The link is of no further use; the driver has not said so.
    fn lose_link(&mut self, problem: Problem) {
        match self.phase {
            Phase::Committing { .. } => {
                self.link = None;
                self.outputs.push_back(Output::Disconnect(LINK));
            }
            Phase::Leaving { .. } => self.leave(),
            _ => self.fail(problem.into()),
        }
    }

    fn on_link_down(&mut self, reason: LinkDownReason) {
        // The driver took it down: there is nobody to say goodbye to.
        self.link = None;
        match self.phase {
            Phase::Committing { .. } => {}
            Phase::Leaving { .. } => self.leave(),
            _ => {
                let error = match reason {
                    LinkDownReason::Unreachable(sentence) => Problem::Unreachable(sentence).into(),
                    LinkDownReason::Closed => lost("the connection broke"),
                    LinkDownReason::UnsupportedVersion(offer) => unsupported_version(&offer).into(),
                    LinkDownReason::TryLater { .. } => Problem::Unreachable(RELAY_BUSY.into()).into(),
                    LinkDownReason::Invalid(sentence) => Problem::NotARelay(sentence).into(),
                };
                self.finish(Event::JoinFailed(error));
            }
        }
    }

    fn fail(&mut self, error: JoinError) {
        if matches!(self.phase, Phase::Entering { .. }) || self.in_mailbox() {
            // So that the other side learns of it now and not when the mailbox expires.
            self.send(&ClientFrame::MailboxClose {});
        }
        self.disconnect();
        self.finish(Event::JoinFailed(error));
    }

    fn leave(&mut self) {
        self.disconnect();
        self.finish(Event::Joined);
    }

    fn disconnect(&mut self) {
        if self.link.is_some() {
            self.send(&ClientFrame::Bye {});
            self.transmit();
        }
        if self.link.take().is_some() || matches!(self.phase, Phase::Connecting { .. }) {
            self.outputs.push_back(Output::Disconnect(LINK));
        }
    }

    fn finish(&mut self, outcome: Event) {
        self.phase = Phase::Done;
        self.link = None;
        self.outputs.push_back(Output::Event(outcome));
    }
}

impl Machine for Joiner {
    fn handle(&mut self, now: Now, input: Input) {
        if matches!(self.phase, Phase::Done) {
            return;
        }
        match input {
            Input::Tick => self.on_tick(now),
            Input::Wake if self.in_mailbox() => self.ping(now, DEAD_AFTER_WAKE_PING_MS),
            Input::LinkUp(LINK) => self.on_link_up(now),
            Input::LinkMessage(LINK, message) => self.on_link_message(now, &message),
            Input::LinkDown(LINK, reason) => self.on_link_down(reason),
            Input::Committed(COMMIT) => self.on_committed(now),
            Input::CommitFailed(COMMIT, fault) => {
                self.disconnect();
                self.finish(Event::StorageFailed(fault));
            }
            Input::Wake
            | Input::LinkUp(_)
            | Input::LinkMessage(..)
            | Input::LinkDown(..)
            | Input::Committed(_)
            | Input::CommitFailed(..)
            | Input::Scanned(..) => {}
        }
        self.transmit();
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn next_deadline_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Handshaking => self.link.as_ref().and_then(RelayLink::next_deadline_ms),
            Phase::Pairing { deadline_ms, .. } | Phase::Confirming { deadline_ms, .. } => {
                Some(deadline_ms.min(self.liveness.dead_at_ms.unwrap_or(self.liveness.ping_at_ms)))
            }
            Phase::Connecting { deadline_ms }
            | Phase::Greeting { deadline_ms }
            | Phase::Entering { deadline_ms }
            | Phase::Leaving { deadline_ms } => Some(deadline_ms),
            Phase::Committing { .. } | Phase::Done => None,
        }
    }
}

impl Liveness {
    fn heard(now: Now) -> Self {
        Self { ping_at_ms: now.mono_ms.saturating_add(PING_AFTER_IDLE_MS), dead_at_ms: None }
    }
}

fn lost(what: &str) -> JoinError {
    Problem::Unreachable(format!("{what}; nothing was stored here: make a new invitation")).into()
}

fn refusal(number: u16, detail: String) -> JoinError {
    match ErrorCode::from_number(number) {
        Some(ErrorCode::MailboxGone) => JoinError::InviteGone,
        code => Problem::Refused { code, number, detail }.into(),
    }
}
