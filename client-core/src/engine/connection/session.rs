//! The connection to one relay, as far as it has come: what stands, in which phase, and what is known
//! of the relay in this session only. All of it is gone with the link.

use zerok_sync_protocol::frame::{Limits, LogState};
use zerok_sync_protocol::hello::HandshakeHash;
use zerok_sync_protocol::{ClientFrame, EpochId, NoisePublicKey};

use crate::engine::backoff::Backoff;
use crate::engine::presence::Presence;
use crate::engine::receipts::Said;
use crate::engine::resending::Resending;
use crate::engine::status::Connection;
use crate::io::{LinkId, Now};
use crate::relay_link::RelayLink;

/// A log of which nothing has come for so long is not waited for. On the slowest link a message of it
/// takes ten seconds …
const STALLED_AFTER_MS: u64 = 30_000;
/// … and a frame, which may be in many messages, three minutes.
const STALLED_AFTER_FRAME_MS: u64 = 300_000;

/// The connection to one relay.
#[derive(Debug, Default)]
pub(in crate::engine) struct Session {
    pub(super) state: State,
    pub(super) backoff: Backoff,
}

#[derive(Debug, Default)]
pub(super) enum State {
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
pub(in crate::engine) struct Open {
    pub(super) link: LinkId,
    pub(super) relay: RelayLink,
    pub(super) phase: Phase,
    pub(super) since_ms: u64,
    pub(super) heard_ms: u64,
    /// When the last part of a frame came that is no mere sign of life …
    pub(super) moved_ms: u64,
    /// … and when the last whole one of those that bring the reading further.
    pub(super) shown_ms: u64,
    /// That is too long ago for a session that has not caught up.
    pub(super) stalled: bool,
    /// A `Ping` is out: the link is dead at this time unless something comes.
    pub(super) dead_at_ms: Option<u64>,
    pub(in crate::engine) handshake: HandshakeHash,
    /// How many names this device has tried that the relay does not know.
    pub(super) hello_attempt: usize,
    /// How often the relay has answered with another epoch.
    pub(in crate::engine) redirects: u32,
    /// The epoch by whose name this device asked last, or was let in.
    pub(in crate::engine) hello_by: EpochId,
    /// The session is the paper's, not this device's ([`super::recovering`]) …
    pub(super) as_paper: bool,
    /// … and its slot was written.
    pub(in crate::engine) slot_put: bool,
    /// The keys moved on while the session was live: pushes wait for the next `Welcome`.
    pub(in crate::engine) superseded: bool,
    /// Noise keys the relay admits, until they have been looked at.
    pub(in crate::engine) allow: Vec<NoisePublicKey>,
    /// `Rotate` was sent so often and not answered yet.
    pub(in crate::engine) rotates_unanswered: u32,
    /// Rotations that the relay has missed and is being told.
    pub(in crate::engine) resending: Option<Resending>,
    pub(super) relay_key: NoisePublicKey,
    pub(in crate::engine) log: Option<LogState>,
    pub(in crate::engine) limits: Option<Limits>,
    /// Highest cursor the relay told of.
    pub(in crate::engine) head: u64,
    pub(in crate::engine) caught_up: bool,
    /// Its log was compared with what this device had read.
    pub(in crate::engine) compared: bool,
    /// Credit used up and not yet given back.
    pub(in crate::engine) credit_used: u64,
    /// Mailboxes that were asked for and are no longer wanted, whose answer is still to come.
    pub(in crate::engine) mailboxes_given_up: usize,
    /// The relay refused a push: the earliest time for the next.
    pub(in crate::engine) push_again_ms: u64,
    /// The last receipt of this session.
    pub(in crate::engine) receipt: Option<Said>,
    /// Who else is there.
    pub(in crate::engine) presence: Presence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Handshake,
    Hello,
    Creating,
    Live,
}

impl Session {
    /// The session, once the relay has welcomed this device to a log.
    pub(in crate::engine) fn live(&mut self) -> Option<&mut Open> {
        match &mut self.state {
            State::Open(open) if open.phase == Phase::Live => Some(open),
            _ => None,
        }
    }

    /// Like [`Self::live`], to look at.
    pub(in crate::engine) fn live_ref(&self) -> Option<&Open> {
        match &self.state {
            State::Open(open) if open.phase == Phase::Live => Some(open),
            _ => None,
        }
    }

    /// The link that is wanted or stands.
    pub(in crate::engine) fn link(&self) -> Option<LinkId> {
        match &self.state {
            State::Offline | State::Waiting { .. } => None,
            State::Connecting { link, .. } => Some(*link),
            State::Open(open) => Some(open.link),
        }
    }

    /// Whether it is on its way to a live session, or reading what came while away. One that says
    /// nothing more of the log keeps nobody waiting.
    pub(in crate::engine) fn is_under_way(&self) -> bool {
        match &self.state {
            State::Offline | State::Waiting { .. } => false,
            State::Connecting { .. } => true,
            State::Open(open) => open.phase != Phase::Live || !(open.caught_up || open.stalled),
        }
    }

    /// The link that stands, in whatever phase.
    pub(in crate::engine) fn open(&mut self) -> Option<&mut Open> {
        match &mut self.state {
            State::Open(open) => Some(open),
            _ => None,
        }
    }

    /// The epoch by whose name the relay has let this device in.
    pub(in crate::engine) fn admitted_by(&self) -> Option<EpochId> {
        self.live_ref().filter(|open| !open.superseded).map(|open| open.hello_by)
    }

    /// For `status`.
    pub(in crate::engine) fn connection(&self) -> Connection {
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

    pub(super) fn open_as(&mut self, link: LinkId) -> Option<&mut Open> {
        match &mut self.state {
            State::Open(open) if open.link == link => Some(open),
            _ => None,
        }
    }
}

impl Open {
    /// When it will have stalled.
    pub(super) fn stalls_ms(&self) -> Option<u64> {
        let reads = self.phase == Phase::Live && !self.caught_up && !self.stalled;
        reads.then_some((self.moved_ms + STALLED_AFTER_MS).min(self.shown_ms + STALLED_AFTER_FRAME_MS))
    }

    /// Whether the relay has let this device in.
    pub(in crate::engine) fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Which link this is.
    pub(in crate::engine) const fn link(&self) -> LinkId {
        self.link
    }

    /// The relay's key.
    pub(in crate::engine) const fn relay_key(&self) -> NoisePublicKey {
        self.relay_key
    }

    /// Queues a frame; it is sealed at the end of the step.
    pub(in crate::engine) fn send(&mut self, frame: &ClientFrame) {
        self.relay.send(frame);
    }

    /// Asks for a sign of life by then.
    pub(super) fn ping(&mut self, now: Now, dead_after_ms: u64) {
        self.send(&ClientFrame::Ping {});
        let dead_at_ms = now.mono_ms + dead_after_ms;
        self.dead_at_ms = Some(self.dead_at_ms.map_or(dead_at_ms, |earlier| earlier.min(dead_at_ms)));
    }
}
