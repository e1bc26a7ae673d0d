//! A session: everything between a link's first byte and its last, without sockets.
//!
//! [`Session`] takes link messages ([`Session::receive`]) and yields link messages
//! ([`Session::poll_transmit`]); it is async only where it asks the store. After every input call
//! [`Session::work`] and drain [`Session::poll_transmit`]; wait for [`Session::woken`] and
//! [`Session::deadline_ms`]. [`run_session`] does exactly that over a [`crate::link::Link`]; a
//! simulation does it by hand.
//!
//! Phases are types: what may be said in one has code there and nowhere else. Handshake (two
//! states of the Noise responder) → [`Role::Stranger`] until a `Hello` counts → guest, founder
//! (may `Create`) or member.
//!
//! | file | role |
//! |---|---|
//! | `drive.rs` | moves messages between a link and a session |
//! | `open.rs` | the session behind the handshake: frames to roles |
//! | `hello.rs` | who gets in, who gets back in, who does not |
//! | `member.rs` | a member's requests that are one question to the store |
//! | `push.rs` | appending: prefix rule, coalescing, results |
//! | `retention.rs` | moving the floor, deleting the log |
//! | `subscribe.rs` | reading: `Subscribe`, and the store's pages |
//! | `subscription.rs` | where a reader stands: catch-up and live, credit, own stubs |
//! | `own.rs` | which cursors this session pushed |
//! | `mailbox.rs` | the pairing rendezvous |
//! | `wire.rs` | frames over the secure channel |

#[cfg(test)]
mod delivery_model;
mod drive;
mod hello;
mod mailbox;
mod member;
mod open;
mod own;
mod push;
mod retention;
mod subscribe;
mod subscription;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use zerok_sync_protocol::channel::{AwaitingFinal, Channel, ChannelError, Responder};
use zerok_sync_protocol::close;
use zerok_sync_protocol::limits::{HANDSHAKE_MESSAGE_BYTES_MAX, NOISE_MESSAGE_BYTES_MAX, SUITE};

pub use drive::run_session;

use self::open::Open;
use self::wire::Wire;
use crate::admission::{Budget, Origin, Peer, Place, Refused, Spent};
use crate::core::Core;
use crate::limits::BUSY_RETRY_AFTER_MS;
use crate::link::Close;
use crate::metrics::{Counted, Direction, HandshakeOutcome, Refusal, Transport};

/// One client, from the first byte to the last. See the module's documentation.
pub struct Session {
    core: Arc<Core>,
    origin: Origin,
    transport: Transport,
    phase: Phase,
    /// Its place among the handshakes, while it is one.
    handshake: Option<Place>,
    /// What the device may still send, and its part in the metrics, once it is known.
    device: Option<(Arc<Budget>, Counted)>,
    /// The device sent more than it may: nothing is read until then.
    throttled_until_ms: Option<u64>,
    /// The handshake's answer, until it is sent.
    reply: Option<Vec<u8>>,
    /// Set when the session ended before the channel stood.
    early_close: Option<Close>,
    /// By when the handshake and `Hello` must be done.
    hello_deadline_ms: u64,
    /// When the client last showed life: a message came, or the link took one while none could.
    alive_ms: u64,
    bytes_in: Counter,
    bytes_out: Counter,
}

enum Phase {
    AwaitFirst(Responder),
    AwaitFinal(Box<AwaitingFinal>),
    Open(Box<Open>),
    Ended,
}

impl Session {
    /// A session on a link that was just made.
    #[must_use]
    pub fn new(core: Arc<Core>, peer: Peer) -> Self {
        let Peer { origin, transport, arrived_ms, handshake } = peer;
        Self {
            origin,
            transport,
            phase: Phase::AwaitFirst(Responder::relay(&core.noise_key)),
            handshake,
            device: None,
            throttled_until_ms: None,
            reply: None,
            early_close: None,
            hello_deadline_ms: arrived_ms + core.limits.handshake_deadline_ms,
            alive_ms: core.now().monotonic_ms,
            bytes_in: core.metrics.link_bytes.get_or_create_owned(&Direction::In.into()),
            bytes_out: core.metrics.link_bytes.get_or_create_owned(&Direction::Out.into()),
            core,
        }
    }

    /// Longest link message acceptable now.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        match self.phase {
            Phase::AwaitFirst(_) | Phase::AwaitFinal(_) => HANDSHAKE_MESSAGE_BYTES_MAX,
            Phase::Open(_) | Phase::Ended => NOISE_MESSAGE_BYTES_MAX,
        }
    }

    /// Whether the session takes a link message now. When not, leave it in the socket: that is
    /// the back-pressure.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        match &self.phase {
            Phase::AwaitFirst(_) | Phase::AwaitFinal(_) => true,
            Phase::Open(open) => self.throttled_until_ms.is_none() && open.wants_input(),
            Phase::Ended => false,
        }
    }

    /// Takes a link message in. Not cancel-safe.
    pub async fn receive(&mut self, message: &[u8]) {
        self.alive_ms = self.core.now().monotonic_ms;
        self.bytes_in.inc_by(message.len() as u64);
        self.phase = match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::AwaitFirst(responder) => self.begin(responder, message),
            Phase::AwaitFinal(awaiting) => match awaiting.read(message) {
                // Message 3's payload is reserved: a newer client may say something there.
                Ok((channel, _payload)) => self.open(channel),
                Err(error) => self.end_early(&error),
            },
            Phase::Open(mut open) => {
                let was_admitted = open.is_admitted();
                open.receive(&self.core, message).await;
                self.renew_hello_deadline(was_admitted && !open.is_admitted());
                let spent = open.wire.spent();
                self.spend(Spent { bytes: spent.bytes + message.len() as u64, ..spent });
                Phase::Open(open)
            }
            Phase::Ended => Phase::Ended,
        };
    }

    /// Answers the first message, if there is a place for a handshake: nothing is computed before.
    fn begin(&mut self, responder: Responder, message: &[u8]) -> Phase {
        if self.handshake.is_none() {
            match self.core.admission.begin_handshake(self.origin, self.alive_ms) {
                Ok(place) => self.handshake = Some(place),
                Err(refused) => {
                    let (limit, retry_after_ms) = match refused {
                        Refused::Pending => (Refusal::HandshakesPending, BUSY_RETRY_AFTER_MS),
                        Refused::Rate { retry_after_ms } => (Refusal::HandshakeRate, retry_after_ms),
                    };
                    self.core.metrics.refused(limit);
                    return self.handshake_failed(HandshakeOutcome::Refused, Close::try_later(retry_after_ms));
                }
            }
        }
        match responder.read(message, &mut self.core.rng()) {
            Ok((next, reply)) => {
                self.reply = Some(reply);
                Phase::AwaitFinal(Box::new(next))
            }
            Err(error) => self.end_early(&error),
        }
    }

    /// The channel stands.
    fn open(&mut self, channel: Channel) -> Phase {
        let device = channel.remote_static();
        self.handshake = None;
        self.core.metrics.handshake(HandshakeOutcome::Done);
        let Some(presence) = self.core.hub.enter(device, self.alive_ms) else {
            self.early_close = Some(Close::new(Close::GOING_AWAY, "the relay is shutting down"));
            return Phase::Ended;
        };
        let budget = self.core.admission.budget(device, self.alive_ms);
        self.device = Some((budget, self.core.metrics.session(self.transport)));
        Phase::Open(Box::new(Open::new(
            Wire::new(channel, &self.core),
            presence,
            self.origin,
            self.core.admission.partial_frames.none(),
        )))
    }

    /// Takes what was received, and what it made the store read, off the device's budget. What was
    /// received is dealt with; what comes next is left in the socket until the budget allows it.
    fn spend(&mut self, spent: Spent) {
        let Some((budget, _)) = &self.device else { return };
        let wait_ms = budget.spend(spent, self.alive_ms);
        if wait_ms > 0 {
            self.core.metrics.refused(Refusal::Throttled);
            let until_ms = self.alive_ms.saturating_add(wait_ms);
            self.throttled_until_ms = Some(until_ms);
            // Nothing is heard from a client that is not listened to.
            self.alive_ms = until_ms;
        }
    }

    /// Does what is due: appends what was pushed, reads what may be sent. Not cancel-safe.
    pub async fn work(&mut self) {
        if let Phase::Open(open) = &mut self.phase {
            let was_admitted = open.is_admitted();
            open.work(&self.core).await;
            let founds_nothing = was_admitted && !open.is_admitted();
            self.renew_hello_deadline(founds_nothing);
        }
    }

    /// A founder whose `Create` was refused may say another `Hello`, and has as long for it as for
    /// the first one.
    fn renew_hello_deadline(&mut self, founds_nothing: bool) {
        if founds_nothing {
            self.hello_deadline_ms = self.core.now().monotonic_ms + self.core.limits.handshake_deadline_ms;
        }
    }

    /// Whether [`Self::poll_transmit`] has something.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.reply.is_some() || matches!(&self.phase, Phase::Open(open) if open.wire.queued_bytes() > 0)
    }

    /// The next link message to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        let message = self.next_message()?;
        self.bytes_out.inc_by(message.len() as u64);
        Some(message)
    }

    fn next_message(&mut self) -> Option<Bytes> {
        if let Some(reply) = self.reply.take() {
            return Some(reply.into());
        }
        let wants_input = self.wants_input();
        let Phase::Open(open) = &mut self.phase else { return None };
        let message = open.wire.poll_transmit();
        if message.is_some() && !wants_input {
            // Nothing is read from a client that takes what it is sent slowly: taking is its life.
            self.alive_ms = self.alive_ms.max(self.core.now().monotonic_ms);
        }
        message
    }

    /// How the link is to be closed, once there is no more output.
    #[must_use]
    pub fn closing(&self) -> Option<&Close> {
        match &self.phase {
            Phase::Open(open) => open.wire.closing(),
            _ => self.early_close.as_ref(),
        }
    }

    /// Waits until something outside the session concerns it: a doorbell, a notice, a kick.
    /// Cancel-safe.
    pub async fn woken(&mut self) {
        match &mut self.phase {
            Phase::Open(open) => open.woken().await,
            _ => std::future::pending().await,
        }
    }

    /// When [`Self::handle_timeout`] wants to be called, on the core's monotonic clock.
    #[must_use]
    pub fn deadline_ms(&self) -> u64 {
        let dead = self.alive_ms.saturating_add(self.core.limits.dead_after_ms);
        let throttled = self.throttled_until_ms.unwrap_or(u64::MAX);
        match &self.phase {
            Phase::Open(open) if open.is_admitted() => open.poll_at_ms().unwrap_or(dead).min(dead).min(throttled),
            Phase::Open(_) => self.hello_deadline_ms.min(throttled),
            _ => self.hello_deadline_ms,
        }
    }

    /// Looks at the clock.
    pub fn handle_timeout(&mut self) {
        let now_ms = self.core.now().monotonic_ms;
        if self.throttled_until_ms.is_some_and(|until_ms| now_ms >= until_ms) {
            self.throttled_until_ms = None;
        }
        let admitted = match &mut self.phase {
            Phase::Open(open) => {
                open.handle_timeout(now_ms);
                open.is_admitted()
            }
            _ => false,
        };
        if !admitted && now_ms >= self.hello_deadline_ms {
            self.end(Close::new(Close::TIMEOUT, "no handshake and Hello in time: connect again"));
        } else if now_ms >= self.alive_ms.saturating_add(self.core.limits.dead_after_ms) {
            self.end(Close::new(Close::TIMEOUT, "nothing was heard for too long: connect again"));
        }
    }

    /// The link ended: leaves the mailbox, so that its other party is told.
    pub async fn leave(mut self) {
        match &mut self.phase {
            Phase::AwaitFirst(_) | Phase::AwaitFinal(_) => self.core.metrics.handshake(HandshakeOutcome::Abandoned),
            Phase::Open(open) => open.leave(&self.core).await,
            Phase::Ended => {}
        }
    }

    fn end(&mut self, close: Close) {
        match &mut self.phase {
            Phase::Open(open) => open.wire.abandon(close),
            Phase::AwaitFirst(_) | Phase::AwaitFinal(_) => {
                let timed_out = close.code == Close::TIMEOUT;
                let outcome = if timed_out { HandshakeOutcome::TimedOut } else { HandshakeOutcome::Invalid };
                self.phase = self.handshake_failed(outcome, close);
            }
            Phase::Ended => {}
        }
    }

    fn end_early(&mut self, error: &ChannelError) -> Phase {
        match error {
            ChannelError::UnsupportedSuite { .. } => {
                let close = Close::new(Close::UNSUPPORTED_VERSION, close::unsupported_version_reason(SUITE, SUITE));
                self.handshake_failed(HandshakeOutcome::UnsupportedSuite, close)
            }
            _ => self.handshake_failed(HandshakeOutcome::Invalid, Close::new(Close::PROTOCOL, error.to_string())),
        }
    }

    /// There will be no channel.
    fn handshake_failed(&mut self, outcome: HandshakeOutcome, close: Close) -> Phase {
        self.handshake = None;
        self.core.metrics.handshake(outcome);
        self.early_close = Some(close);
        Phase::Ended
    }
}
