//! Reaching a relay and staying there: one link at a time to each, backoff, liveness; how it lets a
//! device in is in [`hello`].
//!
//! ```text
//! Offline ─start→ Connecting ─LinkUp→ Open{Handshake → Hello (→ Creating) → Live} ─loss→ Waiting ─time→ Connecting
//! ```

mod hello;

use rand_core::CryptoRng;
use zerok_sync_protocol::frame::{Limits, LogState};
use zerok_sync_protocol::hello::HandshakeHash;
use zerok_sync_protocol::limits::{
    DEAD_AFTER_PING_MS, DEAD_AFTER_WAKE_PING_MS, ENVELOPE_BYTES_MAX_DEFAULT, ERROR_DETAIL_BYTES_MAX,
    FRAME_OVERHEAD_BYTES_MAX, PING_AFTER_IDLE_MS, RETRY_AFTER_MAX_MS, RETRY_AFTER_MAX_UNAUTHENTICATED_MS,
};
use zerok_sync_protocol::{ClientFrame, EpochId, ErrorCode, NoisePublicKey, RelayFrame};

use super::Engine;
use super::backoff::Backoff;
use super::presence::Presence;
use super::receipts::Said;
use super::relay::{Relay, RelayAt};
use super::repairing::SUSPICION_MS;
use super::resending::Resending;
use super::status::Connection;
use crate::error::Problem;
use crate::event::Event;
use crate::io::{LinkDownReason, LinkId, Now, Output, RELAY_BUSY};
use crate::relay_link::{RelayLink, RelayLinkEvent, check_first_contact};

/// A link that does not stand after this long is given up.
const CONNECT_DEADLINE_MS: u64 = 20_000;
/// A relay that has not let this device in after this long is given up, however alive it is.
const WELCOME_DEADLINE_MS: u64 = 30_000;
/// How long to wait after a refusal that trying again will hardly cure.
const REFUSED_RETRY_MS: u64 = 60_000;
/// Bytes of `Entries` on their way at most: memory for one page, and a bandwidth-delay product of
/// 4 MiB.
pub(super) const CREDIT_BYTES: u64 = 4 * 1024 * 1024;

/// The connection to one relay.
#[derive(Debug, Default)]
pub(super) struct Session {
    state: State,
    backoff: Backoff,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Offline,
    Waiting {
        until_ms: u64,
    },
    Connecting {
        link: LinkId,
        until_ms: u64,
    },
    Open(Box<Open>),
}

/// A link that stands.
#[derive(Debug)]
pub(super) struct Open {
    link: LinkId,
    relay: RelayLink,
    phase: Phase,
    since_ms: u64,
    heard_ms: u64,
    /// A `Ping` is out: the link is dead at this time unless something comes.
    dead_at_ms: Option<u64>,
    pub(super) handshake: HandshakeHash,
    /// How many names this device has tried that the relay does not know.
    hello_attempt: usize,
    /// How often the relay has answered with another epoch.
    pub(super) redirects: u32,
    /// The epoch by whose name this device asked last, or was let in.
    pub(super) hello_by: EpochId,
    /// The session is the paper's, not this device's ([`super::recovering`]) …
    as_paper: bool,
    /// … and its slot was written.
    pub(super) slot_put: bool,
    /// The keys moved on while the session was live: pushes wait for the next `Welcome`.
    pub(super) superseded: bool,
    /// Noise keys the relay admits, until they have been looked at.
    pub(super) allow: Vec<NoisePublicKey>,
    /// `Rotate` was sent so often and not answered yet.
    pub(super) rotates_unanswered: u32,
    /// Rotations that the relay has missed and is being told.
    pub(super) resending: Option<Resending>,
    relay_key: NoisePublicKey,
    pub(super) log: Option<LogState>,
    pub(super) limits: Option<Limits>,
    /// Highest cursor the relay told of.
    pub(super) head: u64,
    pub(super) caught_up: bool,
    /// Its log was compared with what this device had read.
    pub(super) compared: bool,
    /// Credit used up and not yet given back.
    pub(super) credit_used: u64,
    /// Mailboxes that were asked for and are no longer wanted, whose answer is still to come.
    pub(super) mailboxes_given_up: usize,
    /// The relay refused a push: the earliest time for the next.
    pub(super) push_again_ms: u64,
    /// The last receipt of this session.
    pub(super) receipt: Option<Said>,
    /// Who else is there.
    pub(super) presence: Presence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshake,
    Hello,
    Creating,
    Live,
}

impl Session {
    /// The session, once the relay has welcomed this device to a log.
    pub(super) fn live(&mut self) -> Option<&mut Open> {
        match &mut self.state {
            State::Open(open) if open.phase == Phase::Live => Some(open),
            _ => None,
        }
    }

    /// Like [`Self::live`], to look at.
    pub(super) fn live_ref(&self) -> Option<&Open> {
        match &self.state {
            State::Open(open) if open.phase == Phase::Live => Some(open),
            _ => None,
        }
    }

    /// The link that is wanted or stands.
    pub(super) fn link(&self) -> Option<LinkId> {
        match &self.state {
            State::Offline | State::Waiting { .. } => None,
            State::Connecting { link, .. } => Some(*link),
            State::Open(open) => Some(open.link),
        }
    }

    /// Whether it is on its way to a live session, or reading what came while away.
    pub(super) fn is_under_way(&self) -> bool {
        match &self.state {
            State::Offline | State::Waiting { .. } => false,
            State::Connecting { .. } => true,
            State::Open(open) => open.phase != Phase::Live || !open.caught_up,
        }
    }

    /// The link that stands, in whatever phase.
    pub(super) fn open(&mut self) -> Option<&mut Open> {
        match &mut self.state {
            State::Open(open) => Some(open),
            _ => None,
        }
    }

    /// The epoch by whose name the relay has let this device in.
    pub(super) fn admitted_by(&self) -> Option<EpochId> {
        self.live_ref().filter(|open| !open.superseded).map(|open| open.hello_by)
    }

    /// For `status`.
    pub(super) fn connection(&self) -> Connection {
        match &self.state {
            State::Offline => Connection::Offline,
            State::Waiting { .. } => Connection::WaitingToRetry,
            State::Connecting { .. } => Connection::Connecting,
            State::Open(open) => match open.phase {
                Phase::Handshake | Phase::Hello | Phase::Creating => Connection::Handshaking,
                Phase::Live if open.caught_up => Connection::Live,
                Phase::Live => Connection::CatchingUp,
            },
        }
    }

    fn open_as(&mut self, link: LinkId) -> Option<&mut Open> {
        match &mut self.state {
            State::Open(open) if open.link == link => Some(open),
            _ => None,
        }
    }
}

impl Open {
    /// Whether the relay has let this device in.
    pub(super) fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Which link this is.
    pub(super) const fn link(&self) -> LinkId {
        self.link
    }

    /// The relay's key.
    pub(super) const fn relay_key(&self) -> NoisePublicKey {
        self.relay_key
    }

    /// Queues a frame; it is sealed at the end of the step.
    pub(super) fn send(&mut self, frame: &ClientFrame) {
        self.relay.send(frame);
    }
}

impl Engine {
    /// Goes online, and stays it: links that break are tried again.
    pub fn start(&mut self, now: Now) {
        if self.stopped {
            return;
        }
        if self.has_left() {
            self.say_left();
            return self.step(now);
        }
        self.online = true;
        self.step(now);
    }

    /// Connects to relays that are not tried yet.
    pub(super) fn connect_new_relays(&mut self, now: Now) {
        if !self.online {
            return;
        }
        for at in self.relays.all() {
            if matches!(self.relays[at].session.state, State::Offline) {
                self.connect(now, at);
            }
        }
    }

    /// Says goodbye and goes offline. What was pushed stays in the outbox.
    pub fn close(&mut self, now: Now) {
        self.send_last_receipts(now);
        self.hang_up();
        self.event(Event::StatusChanged);
        self.step(now);
    }

    /// Says goodbye everywhere and plans no other link.
    pub(super) fn hang_up(&mut self) {
        self.online = false;
        for at in self.relays.all() {
            self.hang_up_at(at);
        }
    }

    pub(super) fn hang_up_at(&mut self, at: RelayAt) {
        self.say_bye(at);
        if let Some(open) = self.relays[at].session.live() {
            open.send(&ClientFrame::Bye {});
        }
        self.transmit();
        self.drop_link(at);
        self.relays[at].session.state = State::Offline;
        self.search_lost(at);
        self.invitation_lost(at, None);
    }

    fn connect(&mut self, now: Now, at: RelayAt) {
        let relay = self.relays[at].address();
        if let Err(problem) = check_first_contact(&relay) {
            self.relays[at].session.state = State::Waiting { until_ms: now.mono_ms + REFUSED_RETRY_MS };
            return self.set_problem(at, Some(problem));
        }
        self.links += 1;
        let link = LinkId(self.links);
        self.relays[at].session.state = State::Connecting { link, until_ms: now.mono_ms + CONNECT_DEADLINE_MS };
        // Behind the end of the link before it, so that a driver never holds two.
        self.effects.emit(Output::Connect(link, relay));
        self.event(Event::StatusChanged);
    }

    pub(super) fn sessions_deadline_ms(&self) -> Option<u64> {
        let pause_ms = |relay: &Relay| relay.session.live_ref().map_or(0, |open| open.push_again_ms);
        let repairing = self.relays.all().filter(|at| self.may_repair(*at)).map(|at| &self.relays[at]);
        let repairs = repairing.filter_map(|relay| relay.repair.as_ref()?.deadline_ms(pause_ms(relay)));
        let rechecks = self.relays.iter().filter_map(|relay| relay.recheck_at_ms);
        let suspicions = self.relays.iter().filter_map(|relay| Some(relay.suspected_ms? + SUSPICION_MS));
        let sessions = self.relays.all().filter_map(|at| self.session_deadline_ms(at));
        let receipts = self.relays.all().filter_map(|at| self.receipt_due_ms(at));
        let presence = self.relays.all().filter_map(|at| self.presence_due_ms(at));
        let truncations = self.relays.all().filter_map(|at| self.truncation_due_ms(at));
        sessions
            .chain(receipts)
            .chain(presence)
            .chain(truncations)
            .chain(repairs)
            .chain(rechecks)
            .chain(suspicions)
            .min()
    }

    fn session_deadline_ms(&self, at: RelayAt) -> Option<u64> {
        match &self.relays[at].session.state {
            State::Offline => None,
            State::Waiting { until_ms } | State::Connecting { until_ms, .. } => Some(*until_ms),
            State::Open(open) => {
                let liveness = open.dead_at_ms.unwrap_or(open.heard_ms + PING_AFTER_IDLE_MS);
                let mut deadline = open.relay.next_deadline_ms().map_or(liveness, |handshake| handshake.min(liveness));
                if open.phase != Phase::Live {
                    deadline = deadline.min(open.since_ms + WELCOME_DEADLINE_MS);
                }
                // A pause asked for by the relay ends with an attempt, if there is something to push.
                let paused = open.phase == Phase::Live && self.pushes_wait_until(at, open);
                Some(if paused { deadline.min(open.push_again_ms) } else { deadline })
            }
        }
    }

    fn pushes_wait_until(&self, at: RelayAt, open: &Open) -> bool {
        open.push_again_ms > open.since_ms && self.relays[at].row.acked_seq < self.progress.queued_seq
    }

    pub(super) fn on_tick(&mut self, now: Now) {
        for at in self.relays.all() {
            self.tick(now, at);
        }
    }

    fn tick(&mut self, now: Now, at: RelayAt) {
        match &mut self.relays[at].session.state {
            State::Offline => {}
            State::Waiting { until_ms } if now.mono_ms >= *until_ms => self.connect(now, at),
            State::Connecting { until_ms, .. } if now.mono_ms >= *until_ms => {
                self.lose(now, at, Some(Problem::Unreachable("it does not answer".into())), 0);
            }
            State::Waiting { .. } | State::Connecting { .. } => {}
            State::Open(open) => {
                if let Err(problem) = open.relay.check_deadline(now) {
                    return self.lose(now, at, Some(problem), 0);
                }
                if open.phase != Phase::Live && now.mono_ms >= open.since_ms + WELCOME_DEADLINE_MS {
                    let problem = Problem::Unreachable("it does not let this device in".into());
                    return self.lose(now, at, Some(problem), 0);
                }
                match open.dead_at_ms {
                    Some(dead_at_ms) if now.mono_ms >= dead_at_ms => {
                        self.lose(now, at, Some(Problem::Unreachable("the connection went silent".into())), 0);
                    }
                    None if now.mono_ms >= open.heard_ms + PING_AFTER_IDLE_MS => {
                        open.ping(now, DEAD_AFTER_PING_MS);
                    }
                    _ => {}
                }
            }
        }
    }

    /// The machine woke up or the network changed: a dead link is noticed within seconds, a waiting
    /// one tried at once.
    pub(super) fn on_wake(&mut self, now: Now) {
        for at in self.relays.all() {
            let session = &mut self.relays[at].session;
            session.backoff.reset();
            match &mut session.state {
                State::Waiting { .. } => self.connect(now, at),
                State::Open(open) if open.phase != Phase::Handshake => open.ping(now, DEAD_AFTER_WAKE_PING_MS),
                _ => {}
            }
        }
    }

    pub(super) fn on_link_up(&mut self, now: Now, link: LinkId) {
        let Some(at) = self.relays.by_link(link) else { return };
        if !matches!(self.relays[at].session.state, State::Connecting { .. }) {
            return;
        }
        let frame_bytes_max = ENVELOPE_BYTES_MAX_DEFAULT as usize + FRAME_OVERHEAD_BYTES_MAX;
        let address = self.relays[at].address();
        let (noise, as_paper) = self.next_static(at);
        match RelayLink::connect(now, &noise, &address, frame_bytes_max, &mut self.rng) {
            Ok(relay) => {
                self.relays[at].session.state = State::Open(Box::new(Open {
                    link,
                    relay,
                    phase: Phase::Handshake,
                    since_ms: now.mono_ms,
                    heard_ms: now.mono_ms,
                    dead_at_ms: None,
                    handshake: [0; 32],
                    hello_attempt: 0,
                    redirects: 0,
                    hello_by: EpochId::ZERO,
                    as_paper,
                    slot_put: false,
                    superseded: false,
                    allow: Vec::new(),
                    rotates_unanswered: 0,
                    resending: None,
                    relay_key: NoisePublicKey::ZERO,
                    log: None,
                    limits: None,
                    head: 0,
                    caught_up: false,
                    compared: false,
                    credit_used: 0,
                    mailboxes_given_up: 0,
                    push_again_ms: 0,
                    receipt: None,
                    presence: Presence::new(&mut self.rng),
                }));
                self.event(Event::StatusChanged);
            }
            Err(problem) => self.lose(now, at, Some(problem), REFUSED_RETRY_MS),
        }
    }

    pub(super) fn on_link_down(&mut self, now: Now, link: LinkId, reason: LinkDownReason) {
        let Some(at) = self.relays.by_link(link) else { return };
        let (problem, at_least_ms) = match reason {
            LinkDownReason::Unreachable(why) => (Problem::Unreachable(why), 0),
            LinkDownReason::Closed => (Problem::Unreachable("the connection was closed".into()), 0),
            LinkDownReason::UnsupportedVersion(why) => (Problem::UnsupportedVersion(why), REFUSED_RETRY_MS),
            LinkDownReason::TryLater { retry_after_ms } => {
                (Problem::Unreachable(RELAY_BUSY.into()), retry_after_ms.min(RETRY_AFTER_MAX_UNAUTHENTICATED_MS))
            }
            LinkDownReason::Invalid(why) => (Problem::NotARelay(why), REFUSED_RETRY_MS),
        };
        self.link_gone(now, at, Some(problem), at_least_ms);
    }

    /// Gives the link up and plans the next attempt.
    pub(super) fn lose(&mut self, now: Now, at: RelayAt, problem: Option<Problem>, at_least_ms: u64) {
        self.drop_link(at);
        self.link_gone(now, at, problem, at_least_ms);
    }

    /// Begins again with a new link, at once.
    pub(super) fn reconnect(&mut self, now: Now, at: RelayAt) {
        self.drop_link(at);
        self.invitation_lost(at, None);
        self.relays[at].forget_questions();
        self.connect(now, at);
    }

    fn drop_link(&mut self, at: RelayAt) {
        self.taking_lost(at);
        self.relays[at].forget_questions();
        // Behind what was already said on it, so that a last frame arrives, and behind its `Connect`.
        match &self.relays[at].session.state {
            State::Connecting { link, .. } => self.effects.emit(Output::Disconnect(*link)),
            State::Open(open) => self.effects.emit(Output::Disconnect(open.link)),
            State::Offline | State::Waiting { .. } => {}
        }
    }

    fn link_gone(&mut self, now: Now, at: RelayAt, problem: Option<Problem>, at_least_ms: u64) {
        let lived_ms = match &self.relays[at].session.state {
            State::Open(open) if open.phase == Phase::Live => now.mono_ms - open.since_ms,
            _ => 0,
        };
        let was_paper = matches!(&self.relays[at].session.state, State::Open(open) if open.as_paper);
        if std::mem::take(&mut self.relays[at].paper_next) || was_paper {
            self.postpone_paper(now);
        }
        // All of it begins again in the next session, from what is stored.
        self.relays[at].forget_questions();
        let delay_ms = self.relays[at].session.backoff.next_delay_ms(lived_ms, at_least_ms, &mut self.rng);
        self.relays[at].session.state = State::Waiting { until_ms: now.mono_ms + delay_ms };
        self.invitation_lost(at, problem.as_ref());
        self.set_problem(at, problem);
        self.search_lost(at);
        self.event(Event::StatusChanged);
    }

    pub(super) fn on_link_message(&mut self, now: Now, link: LinkId, message: &[u8]) {
        let Some(at) = self.relays.by_link(link) else { return };
        let Some(open) = self.relays[at].session.open_as(link) else { return };
        open.heard_ms = now.mono_ms;
        open.dead_at_ms = None;
        if let Err(problem) = open.relay.receive(message) {
            return self.refused(now, at, problem);
        }
        // A frame may end the session, so the link is looked up again for each.
        while let Some(open) = self.relays[at].session.open_as(link) {
            match open.relay.poll_event() {
                Ok(None) => return,
                Ok(Some(RelayLinkEvent::Ready { relay_key, handshake_hash })) => {
                    open.relay_key = relay_key;
                    open.handshake = handshake_hash;
                    self.say_hello(at);
                }
                Ok(Some(RelayLinkEvent::Frame(frame))) => {
                    if let Err(problem) = self.on_frame(now, at, frame) {
                        return self.refused(now, at, problem);
                    }
                }
                Err(problem) => return self.refused(now, at, problem),
            }
        }
    }

    /// The relay did what trying again will hardly cure.
    pub(super) fn refused(&mut self, now: Now, at: RelayAt, problem: Problem) {
        self.lose(now, at, Some(problem), REFUSED_RETRY_MS);
    }

    fn on_frame(&mut self, now: Now, at: RelayAt, frame: RelayFrame) -> Result<(), Problem> {
        let State::Open(open) = &mut self.relays[at].session.state else { return Ok(()) };
        if open.as_paper {
            return self.on_paper_frame(now, at, frame);
        }
        match (open.phase, frame) {
            (_, RelayFrame::Pong {}) => Ok(()),
            (_, RelayFrame::Bye { retry_after_ms }) => {
                self.lose(now, at, None, retry_after_ms.min(RETRY_AFTER_MAX_MS));
                Ok(())
            }
            (_, RelayFrame::Error { code, retry_after_ms, detail }) => {
                self.on_error(now, at, code, retry_after_ms, detail);
                Ok(())
            }
            (_, RelayFrame::Superseded { epoch_envelope, more, .. }) => self.on_superseded(at, &epoch_envelope, more),
            (Phase::Live, RelayFrame::Welcome { log: Some(log), .. }) if open.superseded => {
                self.on_readmitted(now, at, log);
                Ok(())
            }
            (Phase::Live, RelayFrame::Restricted { head }) => self.on_restricted(at, head),
            (Phase::Live, RelayFrame::Rotated { auth_gen, .. }) => self.on_rotated(at, auth_gen),
            (Phase::Hello | Phase::Creating, RelayFrame::Welcome { log: Some(log), limits, allow, slot, .. }) => {
                open.allow = allow.into_vec();
                self.check_own_slot(&slot);
                self.on_welcome(now, at, log, limits);
                Ok(())
            }
            (Phase::Live, RelayFrame::Entries { items }) => {
                let bytes = open.relay.last_frame_bytes() as u64;
                if self.searches_snapshot(at) {
                    self.reset_page(at, items.into_vec())?;
                } else if !self.searches(at) {
                    self.on_entries(at, items.into_vec())?;
                    if std::mem::take(&mut self.relays[at].read_on) {
                        // What was damaged was looked at; now the rest.
                        self.reconnect(now, at);
                    }
                } else if self.search_page(at, items.into_vec())? {
                    // Once more, for good.
                    self.reconnect(now, at);
                }
                self.give_credit(at, bytes);
                Ok(())
            }
            (Phase::Live, RelayFrame::CaughtUp { .. }) if self.searches_snapshot(at) => {
                self.reset_searched(now, at);
                Ok(())
            }
            (Phase::Live, RelayFrame::CaughtUp { .. }) if self.searches(at) => {
                if self.search_ended(at)? {
                    self.reconnect(now, at);
                }
                Ok(())
            }
            (Phase::Live, RelayFrame::CaughtUp { head }) => self.on_caught_up(at, head),
            (Phase::Live, RelayFrame::PushAck { push, results }) => self.on_push_ack(now, at, push, &results),
            (Phase::Live, RelayFrame::Truncated { floor }) => self.on_truncated(at, floor),
            (Phase::Live, RelayFrame::Probed { blob_ids }) if self.reset_probed(now, at, &blob_ids) => Ok(()),
            (Phase::Live, RelayFrame::Probed { blob_ids }) => self.on_probed(now, at, &blob_ids),
            (Phase::Live, RelayFrame::TimelineChanged { timeline }) => self.on_timeline_changed(at, timeline),
            (Phase::Live, RelayFrame::MissingBlobs { bitmap }) => self.on_missing_blobs(now, at, &bitmap),
            (Phase::Live, RelayFrame::MailboxOpened { mailbox, salt, expires_in_ms }) => {
                self.on_mailbox_opened(at, mailbox, &salt, expires_in_ms)
            }
            (Phase::Live, RelayFrame::MailboxMessage { data }) => {
                self.on_mailbox_message(at, &data);
                Ok(())
            }
            (Phase::Live, RelayFrame::MailboxClosed {}) => {
                self.on_mailbox_closed(at);
                Ok(())
            }
            (Phase::Live, RelayFrame::Acked { device, receipt, .. }) => {
                self.on_acked(at, device, receipt.as_deref());
                Ok(())
            }
            (Phase::Live, RelayFrame::Whispered { data }) => {
                self.on_whispered(now, at, &data);
                Ok(())
            }
            _ => Err(Problem::ProtocolViolation("a message that does not belong here")),
        }
    }

    /// Reads on from where this device stands, or all of it again if that is wanted.
    pub(super) fn subscribe(&mut self, at: RelayAt) {
        if self.bootstrap.is_some() && !self.begin_search(at) {
            return;
        }
        if self.is_below_floor(at) || (self.relays[at].gap_wanted && self.bootstrap.is_none()) {
            // The snapshot that was named is not the one that the log goes on from.
            self.search_overtaken(at);
            return self.begin_reset(at);
        }
        let again = if self.searches(at) { None } else { self.begin_recheck(at) };
        let relay = &mut self.relays[at];
        let from = again.unwrap_or_else(|| relay.position());
        let subscribe = ClientFrame::Subscribe {
            timeline: relay.row.timeline,
            after: from.cursor,
            blob_id_at_after: from.blob_id,
            credit: CREDIT_BYTES,
            follow: true,
        };
        if let Some(open) = relay.session.live() {
            open.send(&subscribe);
        }
    }

    /// The relay's history is not the one this device read. One that was restored, or healed by another
    /// device, in the middle of a session says what it is now in the next.
    fn diverged(&mut self, now: Now, at: RelayAt) {
        if self.look_refused(at) {
            return self.reconnect(now, at);
        }
        let relay = &mut self.relays[at];
        let reading = relay.session.live_ref().is_some_and(|open| open.credit_used > 0 || open.caught_up);
        let compared = relay.session.live_ref().is_some_and(|open| open.compared);
        if reading || !std::mem::replace(&mut relay.doubted, true) {
            self.reconnect(now, at);
        } else if !compared {
            self.compare(at);
        } else {
            // It changed again in between.
            self.lose(now, at, None, 0);
        }
    }

    fn on_error(&mut self, now: Now, at: RelayAt, number: u16, retry_after_ms: u64, detail: String) {
        let code = ErrorCode::from_number(number);
        match code {
            Some(ErrorCode::MailboxGone) => return self.on_mailbox_refused(at),
            Some(ErrorCode::RotationConflict) if self.relays[at].session.live_ref().is_some() => {
                return self.rotation_lost(at);
            }
            Some(ErrorCode::DeviceRevoked) if self.is_squatted(at) => {
                self.relays[at].squatted = true;
                return self.reconnect(now, at);
            }
            Some(ErrorCode::DeviceRevoked) => {
                return self.lose(now, at, Some(Problem::Revoked), REFUSED_RETRY_MS);
            }
            Some(code) if self.truncation_refused(now, at, code, retry_after_ms) => return,
            // The floor has overtaken it: the next session says where it stands.
            Some(ErrorCode::BelowFloor) if self.relays[at].session.live_ref().is_some() => {
                return self.lose(now, at, None, 0);
            }
            Some(ErrorCode::RateLimited) if self.whispers_refused(now, at, retry_after_ms) => return,
            Some(ErrorCode::Diverged) if self.relays[at].session.live_ref().is_some() => {
                return self.diverged(now, at);
            }
            Some(ErrorCode::UnknownLog) if self.try_next_hello(at) => return,
            // The relay lost a log that this device had read from: it is made again.
            Some(ErrorCode::UnknownLog) if self.recreate(at) => return,
            // Nor may it be made under the newest name.
            Some(ErrorCode::UnknownLog) if self.relays[at].row.cursor > 0 => {
                self.relays[at].row.creation = None;
                self.relays[at].changed = true;
            }
            // Another member was faster.
            Some(ErrorCode::RotationConflict) if self.relays[at].row.creation.take().is_some() => {
                self.relays[at].changed = true;
                return self.reconnect(now, at);
            }
            _ => {}
        }
        let detail = printable(&detail);
        let wait_ms = if retry_after_ms > 0 { retry_after_ms.min(RETRY_AFTER_MAX_MS) } else { REFUSED_RETRY_MS };
        self.lose(now, at, Some(Problem::Refused { code, number, detail }), wait_ms);
    }

    /// Why there is no live session with a relay, or that there is one.
    pub(super) fn set_problem(&mut self, at: RelayAt, problem: Option<Problem>) {
        if self.relays[at].problem != problem {
            self.relays[at].problem = problem;
            self.event(Event::StatusChanged);
        }
    }

    /// Seals what was queued; the messages leave once everything before them is durable.
    pub(super) fn transmit(&mut self) {
        for relay in self.relays.iter_mut() {
            let State::Open(open) = &mut relay.session.state else { continue };
            while let Some(message) = open.relay.poll_transmit() {
                self.effects.emit(Output::Transmit(open.link, message));
            }
        }
    }
}

impl Open {
    fn ping(&mut self, now: Now, dead_after_ms: u64) {
        self.send(&ClientFrame::Ping {});
        let dead_at_ms = now.mono_ms + dead_after_ms;
        self.dead_at_ms = Some(self.dead_at_ms.map_or(dead_at_ms, |earlier| earlier.min(dead_at_ms)));
    }
}

/// A relay's words, fit to be shown in a terminal or a page.
fn printable(detail: &str) -> String {
    detail.chars().filter(|c| !c.is_control()).take(ERROR_DETAIL_BYTES_MAX).collect()
}

/// Draws an array.
pub(super) fn random<const N: usize>(rng: &mut impl CryptoRng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}
