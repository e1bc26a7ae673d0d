//! Presence: who is there now, and what is said to whoever is, stored nowhere.
//!
//! Each connection to a relay has a random name and a counter. A device says `Here` once it has
//! caught up; whoever is there answers with a whisper that *echoes* that name; from then on each
//! repeats itself now and then while it has heard of anybody, and says `Bye` when it goes.
//!
//! Invariants: a device counts as online only by a whisper that it signed, that echoes this
//! connection's name, and whose counter is higher than any heard of that connection before; so what
//! a relay recorded earlier, also of this very connection, makes nobody appear. What has echoed this
//! connection is remembered for as long as it lasts; what has not is forgotten first.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand_core::CryptoRng;
use zerok_sync_protocol::ClientFrame;
use zerok_sync_protocol::limits::{ALLOW_LIST_MAX, SESSIONS_PER_DEVICE_MAX, WHISPER_BYTES_MAX};
use zerok_sync_protocol::wire::List;

use super::Engine;
use super::connection::random;
use super::relay::RelayAt;
use crate::error::WhisperError;
use crate::event::Event;
use crate::id::DeviceId;
use crate::io::Now;
use crate::statement::{self, ECHO_MAX, SessionId, WHISPER_BODY_BYTES_MAX, Whisper, WhisperBody};

/// Whoever is there says so again after this long: about as often as a ping.
const HERE_EVERY_MS: u64 = 30_000;
/// Who was not heard for this long is not there: two of its words were lost.
const GONE_AFTER_MS: u64 = 75_000;
/// Answers to newcomers are gathered for this long, so that a relay that repeats old words, or a
/// whole group that comes back at once, costs one whisper a second.
const ANSWER_EVERY_MS: u64 = 1_000;
/// Whispers sent in a second, the app's among them: half of what a relay takes by default.
const SENT_PER_SECOND: u32 = 10;
/// Whispers looked at in a second: each costs a signature's verification.
const HEARD_PER_SECOND: u32 = 200;
/// Connections that have not echoed this one and are remembered: a whole group's.
const UNPROVEN_MAX: usize = ALLOW_LIST_MAX * SESSIONS_PER_DEVICE_MAX;
/// Connections that have echoed this one. Beyond it this one takes another name, which ends what
/// could be replayed under the old.
const PROVEN_MAX: usize = 4 * UNPROVEN_MAX;

/// Who is there, seen from one connection.
#[derive(Debug)]
pub(super) struct Presence {
    session: SessionId,
    counter: u64,
    peers: BTreeMap<(DeviceId, SessionId), Peer>,
    /// When this device last said that it is here.
    said_ms: Option<u64>,
    /// Somebody is to be answered.
    owes: bool,
    /// The relay wants no whispers before.
    not_before_ms: u64,
    sent: Allowance,
    heard: Allowance,
}

/// A connection of another device.
#[derive(Debug)]
struct Peer {
    counter: u64,
    heard_ms: u64,
    standing: Standing,
    /// This connection has echoed it.
    answered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has not echoed this connection: perhaps it is a recording.
    Unproven,
    Here,
    /// It was here.
    Gone,
}

/// So many in a second.
#[derive(Debug)]
struct Allowance {
    per_second: u32,
    left: u32,
    since_ms: u64,
}

impl Allowance {
    fn new(per_second: u32) -> Self {
        Self { per_second, left: per_second, since_ms: 0 }
    }

    fn take(&mut self, now: Now) -> bool {
        if now.mono_ms >= self.since_ms + 1_000 {
            (self.left, self.since_ms) = (self.per_second, now.mono_ms);
        }
        let taken = self.left.checked_sub(1);
        self.left = taken.unwrap_or(0);
        taken.is_some()
    }
}

impl Presence {
    pub(super) fn new(rng: &mut impl CryptoRng) -> Self {
        Self {
            session: SessionId(random(rng)),
            counter: 0,
            peers: BTreeMap::new(),
            said_ms: None,
            owes: false,
            not_before_ms: 0,
            sent: Allowance::new(SENT_PER_SECOND),
            heard: Allowance::new(HEARD_PER_SECOND),
        }
    }

    /// Whether a device is there.
    pub(super) fn has(&self, device: &DeviceId) -> bool {
        let mut sessions = self.peers.range((*device, SessionId::ZERO)..=(*device, SessionId([0xff; 16])));
        sessions.any(|(_, peer)| peer.standing == Standing::Here)
    }

    fn anybody_here(&self) -> bool {
        self.peers.values().any(|peer| peer.standing == Standing::Here)
    }

    /// When this device is to say that it is here.
    fn due_ms(&self) -> u64 {
        let due_ms = match self.said_ms {
            None => 0,
            Some(said_ms) if self.owes => said_ms + ANSWER_EVERY_MS,
            // Also where nobody has answered yet: that may have been lost.
            Some(said_ms) if self.peers.values().any(|peer| peer.standing != Standing::Gone) => said_ms + HERE_EVERY_MS,
            Some(_) => u64::MAX,
        };
        due_ms.max(self.not_before_ms)
    }

    /// When the next one is to be taken for gone.
    fn gone_ms(&self) -> u64 {
        let there = self.peers.values().filter(|peer| peer.standing != Standing::Gone);
        there.map(|peer| peer.heard_ms + GONE_AFTER_MS).min().unwrap_or(u64::MAX)
    }

    /// Takes for gone whoever was not heard; whether there was somebody.
    fn expire(&mut self, now: Now) -> bool {
        let mut changed = false;
        self.peers.retain(|_, peer| {
            let silent = now.mono_ms >= peer.heard_ms + GONE_AFTER_MS;
            if silent && peer.standing == Standing::Here {
                peer.standing = Standing::Gone;
                changed = true;
            }
            !(silent && peer.standing == Standing::Unproven)
        });
        changed
    }

    /// Whom to echo: who waits for it first, then who is here.
    fn echo(&mut self) -> List<SessionId, ECHO_MAX> {
        let mut echo = Vec::new();
        for unanswered in [true, false] {
            for ((_, session), peer) in &mut self.peers {
                let wanted = peer.answered != unanswered && peer.standing != Standing::Gone;
                if wanted && echo.len() < ECHO_MAX && !echo.contains(session) {
                    echo.push(*session);
                }
            }
        }
        for ((_, session), peer) in &mut self.peers {
            peer.answered |= echo.contains(session);
        }
        self.owes = self.peers.values().any(|peer| !peer.answered && peer.standing != Standing::Gone);
        List::try_from(echo).expect("cut to the limit")
    }

    /// Takes a whisper in: `None` if it is a repetition, else whether it was said to this connection,
    /// and whether who is here has changed.
    fn hear(&mut self, now: Now, whisper: &Whisper) -> Option<(bool, bool)> {
        let key = (whisper.sender, whisper.session);
        let proven = whisper.echo.contains(&self.session);
        let bye = matches!(whisper.body, WhisperBody::Bye {});
        let Some(peer) = self.peers.get_mut(&key) else {
            if bye {
                return None;
            }
            let standing = if proven { Standing::Here } else { Standing::Unproven };
            let peer = Peer { counter: whisper.counter, heard_ms: now.mono_ms, standing, answered: false };
            self.peers.insert(key, peer);
            self.owes = true;
            self.forget_the_unproven();
            return Some((proven, proven));
        };
        if whisper.counter <= peer.counter {
            return None;
        }
        peer.counter = whisper.counter;
        let before = peer.standing;
        if bye {
            if before == Standing::Here {
                peer.standing = Standing::Gone;
            }
        } else if proven {
            (peer.standing, peer.heard_ms) = (Standing::Here, now.mono_ms);
        }
        let changed = (before == Standing::Here) != (peer.standing == Standing::Here);
        Some((proven, changed))
    }

    fn forget_the_unproven(&mut self) {
        let unproven = self.peers.iter().filter(|(_, peer)| peer.standing == Standing::Unproven);
        let oldest = unproven.clone().min_by_key(|(_, peer)| peer.heard_ms).map(|(key, _)| *key);
        if unproven.count() > UNPROVEN_MAX
            && let Some(oldest) = oldest
        {
            self.peers.remove(&oldest);
        }
    }

    fn is_worn_out(&self) -> bool {
        self.peers.values().filter(|peer| peer.standing != Standing::Unproven).count() > PROVEN_MAX
    }
}

impl Engine {
    /// Says something to the group's devices that are there: sealed, and stored nowhere, so whoever
    /// is not there never hears it, and a relay that is busy may drop it. At most
    /// [`WHISPER_BODY_BYTES_MAX`]. [`Event::Whispered`] tells of others'.
    ///
    /// # Errors
    /// [`WhisperError`]; nothing was said.
    pub fn whisper(&mut self, now: Now, data: Bytes) -> Result<(), WhisperError> {
        if data.len() > WHISPER_BODY_BYTES_MAX {
            return Err(WhisperError::TooLarge { bytes: data.len(), bytes_max: WHISPER_BODY_BYTES_MAX });
        }
        let speaks: Vec<RelayAt> = self.relays.all().filter(|at| self.may_whisper(*at)).collect();
        if speaks.is_empty() {
            return Err(WhisperError::NotConnected);
        }
        let mut said = false;
        for at in speaks {
            said |= self.say(now, at, WhisperBody::App { data: data.clone() });
        }
        self.step(now);
        if said { Ok(()) } else { Err(WhisperError::TooOften) }
    }

    /// Whether a device is there now, as far as any relay lets it be known.
    pub(super) fn is_online(&self, device: &DeviceId) -> bool {
        self.relays.iter().any(|relay| relay.session.live_ref().is_some_and(|open| open.presence.has(device)))
    }

    /// Says what is due, and takes for gone whoever was not heard.
    pub(super) fn pump_presence(&mut self, now: Now) {
        for at in self.relays.all() {
            let Some(open) = self.relays[at].session.live() else { continue };
            if open.presence.is_worn_out() {
                open.presence = Presence::new(&mut self.rng);
            }
            let changed = open.presence.expire(now);
            let due = now.mono_ms >= open.presence.due_ms();
            if changed {
                self.event(Event::StatusChanged);
            }
            if due && self.may_whisper(at) {
                self.say(now, at, WhisperBody::Here {});
            }
        }
    }

    /// Somebody may hear now who could not before: a new member, or whoever reads this device's newest
    /// keys. What either said meanwhile was not understood.
    pub(super) fn greet_again(&mut self) {
        for relay in self.relays.iter_mut() {
            if let Some(open) = relay.session.live() {
                open.presence.said_ms = None;
            }
        }
    }

    /// When [`Self::pump_presence`] has something to do.
    pub(super) fn presence_due_ms(&self, at: RelayAt) -> Option<u64> {
        let open = self.relays[at].session.live_ref()?;
        let due_ms = if self.may_whisper(at) { open.presence.due_ms() } else { u64::MAX };
        Some(due_ms.min(open.presence.gone_ms())).filter(|&due_ms| due_ms < u64::MAX)
    }

    /// Whether there is a relay to whisper at and anybody who could hear it.
    fn may_whisper(&self, at: RelayAt) -> bool {
        self.relays[at].caught_up()
            && self.is_at_newest_epoch(at)
            && self.members.values().filter(|member| !member.paper).count() > 1
            && self.members.contains_key(&self.me.device())
    }

    /// Whispers at a relay, if that is not too often.
    fn say(&mut self, now: Now, at: RelayAt, body: WhisperBody) -> bool {
        let Some(open) = self.relays[at].session.live() else { return false };
        let presence = &mut open.presence;
        if now.mono_ms < presence.not_before_ms {
            return false;
        }
        if !presence.sent.take(now) {
            presence.not_before_ms = now.mono_ms + ANSWER_EVERY_MS;
            return false;
        }
        presence.said_ms = Some(now.mono_ms);
        self.send_whisper(at, body);
        true
    }

    fn send_whisper(&mut self, at: RelayAt, body: WhisperBody) {
        let nonce = random(&mut self.rng);
        let Some(open) = self.relays[at].session.live() else { return };
        let presence = &mut open.presence;
        presence.counter += 1;
        let (session, counter, echo) = (presence.session, presence.counter, presence.echo());
        let whisper = Whisper { sender: self.me.device(), session, counter, echo, body };
        let data = statement::seal(self.keyring.group(), self.keyring.current(), &self.me.signing, nonce, &whisper);
        open.send(&ClientFrame::Whisper { data });
    }

    /// Tells who is there that this device goes.
    pub(super) fn say_bye(&mut self, at: RelayAt) {
        let heard = self.relays[at].session.live_ref().is_some_and(|open| open.presence.anybody_here());
        if heard && self.may_whisper(at) {
            self.send_whisper(at, WhisperBody::Bye {});
        }
    }

    /// A relay passes on what somebody says.
    pub(super) fn on_whispered(&mut self, now: Now, at: RelayAt, data: &[u8]) {
        let Some(open) = self.relays[at].session.live() else { return };
        if data.len() > WHISPER_BYTES_MAX || !open.presence.heard.take(now) {
            return;
        }
        let Ok(whisper) = statement::open::<Whisper>(&self.keyring, data) else { return };
        if whisper.sender == self.me.device() || !self.members.contains_key(&whisper.sender) {
            return;
        }
        let Some(open) = self.relays[at].session.live() else { return };
        let Some((to_me, changed)) = open.presence.hear(now, &whisper) else { return };
        if changed {
            self.event(Event::StatusChanged);
        }
        if let WhisperBody::App { data } = whisper.body
            && to_me
            && data.len() <= WHISPER_BODY_BYTES_MAX
        {
            self.event(Event::Whispered { device: whisper.sender, data });
        }
    }

    /// The relay refused something for its rate: a whisper, if one was sent of late. They are of no
    /// consequence, so it is left in peace for a while and the session goes on.
    pub(super) fn whispers_refused(&mut self, now: Now, at: RelayAt, retry_after_ms: u64) -> bool {
        let Some(open) = self.relays[at].session.live() else { return false };
        let presence = &mut open.presence;
        let of_late = presence.said_ms.is_some_and(|said_ms| now.mono_ms < said_ms + GONE_AFTER_MS);
        if of_late {
            presence.not_before_ms = now.mono_ms + retry_after_ms.clamp(ANSWER_EVERY_MS, HERE_EVERY_MS);
        }
        of_late
    }
}
