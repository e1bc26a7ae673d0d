//! Reaching a relay and staying there: one link at a time to each, backoff, liveness. What stands is in
//! [`session`], how a relay lets a device in in [`hello`], what it says from then on in [`frames`].
//!
//! ```text
//! Offline ─start→ Connecting ─LinkUp→ Open{Handshake → Hello (→ Creating) → Live} ─loss→ Waiting ─time→ Connecting
//! ```

mod frames;
mod hello;
mod session;

use rand_core::CryptoRng;
use zerok_sync_protocol::limits::{
    DEAD_AFTER_PING_MS, DEAD_AFTER_WAKE_PING_MS, ENVELOPE_BYTES_MAX_DEFAULT, FRAME_OVERHEAD_BYTES_MAX,
    PING_AFTER_IDLE_MS, RETRY_AFTER_MAX_UNAUTHENTICATED_MS,
};
use zerok_sync_protocol::{ClientFrame, EpochId, NoisePublicKey, RelayFrame};

use super::Engine;
use super::presence::Presence;
use super::relay::{Relay, RelayAt};
use super::repairing::SUSPICION_MS;
use crate::error::Problem;
use crate::event::Event;
use crate::io::{LinkDownReason, LinkId, Now, Output, RELAY_BUSY};
use crate::relay_link::{RelayLink, RelayLinkEvent, check_first_contact, unsupported_version};

pub(super) use session::{Open, Session};
use session::{Phase, State};

/// A link that does not stand after this long is given up.
const CONNECT_DEADLINE_MS: u64 = 20_000;
/// A relay that has not let this device in after this long is given up, however alive it is.
const WELCOME_DEADLINE_MS: u64 = 30_000;
/// How long to wait after a refusal that trying again will hardly cure.
const REFUSED_RETRY_MS: u64 = 60_000;
/// Bytes of `Entries` on their way at most: memory for one page, and a bandwidth-delay product of
/// 4 MiB.
pub(super) const CREDIT_BYTES: u64 = 4 * 1024 * 1024;

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
                deadline = open.stalls_ms().map_or(deadline, |stalls_ms| deadline.min(stalls_ms));
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
                if open.stalls_ms().is_some_and(|stalls_ms| now.mono_ms >= stalls_ms) {
                    open.stalled = true;
                    // The others have waited for it.
                    if self.relays.iter().any(Relay::caught_up) {
                        self.report_gaps();
                        self.report_unsigned();
                    }
                }
                let Some(open) = self.relays[at].session.open() else { return };
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
                    moved_ms: now.mono_ms,
                    shown_ms: now.mono_ms,
                    stalled: false,
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
            LinkDownReason::UnsupportedVersion(offer) => (unsupported_version(&offer), REFUSED_RETRY_MS),
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
        // Of several frames in a message one is enough. A part of one counts, signs of life do not.
        let mut moved = None;
        if let Err(problem) = open.relay.receive(message) {
            return self.refused(now, at, problem);
        }
        // A frame may end the session, so the link is looked up again for each.
        while let Some(open) = self.relays[at].session.open_as(link) {
            match open.relay.poll_event() {
                Ok(None) => {
                    if moved.is_none_or(|moved| moved) {
                        open.moved_ms = now.mono_ms;
                    }
                    return;
                }
                Ok(Some(RelayLinkEvent::Ready { relay_key, handshake_hash })) => {
                    open.relay_key = relay_key;
                    open.handshake = handshake_hash;
                    self.say_hello(at);
                }
                Ok(Some(RelayLinkEvent::Frame(frame))) => {
                    if is_of_log(&frame) {
                        (open.shown_ms, open.stalled) = (now.mono_ms, false);
                        moved = Some(true);
                    } else {
                        moved.get_or_insert(false);
                    }
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

/// Whether a frame brings the reading of a log a step further.
fn is_of_log(frame: &RelayFrame) -> bool {
    match frame {
        RelayFrame::Entries { items } => !items.is_empty(),
        RelayFrame::Welcome { .. }
        | RelayFrame::Probed { .. }
        | RelayFrame::TimelineChanged { .. }
        | RelayFrame::MissingBlobs { .. } => true,
        _ => false,
    }
}

/// Draws an array.
pub(super) fn random<const N: usize>(rng: &mut impl CryptoRng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}
