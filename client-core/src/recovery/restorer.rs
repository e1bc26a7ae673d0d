//! A machine that has nothing but the words, until it is a device of their group: from words to the
//! stored state.
//!
//! ```text
//! → Hello{Device} as the paper        ← Superseded{epoch envelope, slot}: the slot opens under the words,
//!                                       the envelope with the paper's wrap; the epoch is the anchor's or later
//! → Hello{Member}, Subscribe{after 0} ← the log's first envelope: the anchor's genesis
//! a new seed, a certificate by the paper → stored
//! ```
//!
//! A [`Machine`] like the joiner. [`Event::Restored`] or [`Event::RestoreFailed`] (or
//! [`Event::StorageFailed`]) comes exactly once and last. What an engine that is opened then reads
//! is checked from genesis on like any new member's, and it writes nothing before the log has shown
//! the anchor's epoch and frontier.
//!
//! Invariants: nothing of the relay's is used before the anchor opened; no session is opened under
//! another group's keys; every failure before the commit leaves nothing behind, and the words good.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::{EntryItem, LogState, Who};
use zerok_sync_protocol::hello::{self, HandshakeHash};
use zerok_sync_protocol::limits::{
    ENVELOPE_BYTES_MAX_CEILING, ENVELOPE_BYTES_MAX_DEFAULT, EPOCH_ENVELOPE_BYTES_MAX, FRAME_OVERHEAD_BYTES_MAX,
    MINOR_MAX, MINOR_MIN,
};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, ClientFrame, EpochId, ErrorCode, RelayFrame};

use super::anchor::Anchor;
use super::words::RecoveryWords;
use crate::certificate::{Card, DeviceName, JoinCertificate};
use crate::content::{Content, Kind};
use crate::engine::Secrets;
use crate::engine::rows::{InitialState, JoiningRow, initial_rows};
use crate::epoch::{self, Predecessor, SignedEpoch, UnwrapError};
use crate::error::Problem;
use crate::event::Event;
use crate::genesis::Genesis;
use crate::id::DeviceId;
use crate::io::{CommitId, Input, LinkDownReason, LinkId, Machine, Now, Output, RELAY_BUSY, RelayAddress};
use crate::keyring::Keyring;
use crate::keys::{EpochKeys, EpochSecret, Membership, MembershipSeed, StoreKey};
use crate::relay_link::{RelayLink, RelayLinkEvent, check_first_contact, unsupported_version};
use crate::seal;
use crate::snapshot::Archived;

/// How long a link may take to stand.
const CONNECT_DEADLINE_MS: u64 = 20_000;
/// How long the relay may take to answer a request.
const ANSWER_DEADLINE_MS: u64 = 20_000;
/// One page of the log, of which the first entry is looked at.
const PAGE_CREDIT_BYTES: u64 = 1;

const LINK: LinkId = LinkId(1);
const COMMIT: CommitId = CommitId(1);

/// What a person gave to restore with.
#[derive(Debug, Clone)]
pub struct Restoring {
    /// The words.
    pub words: RecoveryWords,
    /// A relay that the sheet names; with its key, if the person typed that, too.
    pub relay: RelayAddress,
    /// What the new device is called; cleaned by [`DeviceName::cleaned`].
    pub device_name: String,
}

/// Why a restore ended without a group. Nothing was stored, and the words are as good as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// No log there lists the paper.
    #[error(
        "{relay} knows no group of these words: look at the relay's address on the sheet; or the words were replaced by newer ones, and this is an old sheet"
    )]
    UnknownWords {
        /// Where it was looked for.
        relay: String,
    },
    /// The log lists the paper and its slot is empty.
    #[error(
        "the relay knows these words and has lost what a restore is checked against, so nothing it shows can be trusted: use another relay of the sheet, or a device that is still in the group"
    )]
    AnchorLost,
    /// The slot does not open under the words, or what comes with it is another group's.
    #[error(
        "what the relay offers for these words was not made with them: it is not your group, and nothing of it was taken. Use another relay of the sheet"
    )]
    NotYourGroup,
    /// The epoch is older than the anchor's.
    #[error(
        "the relay offers keys of the group from before these words were made: it was rolled back, or hides what came later. Nothing of it was taken; use another relay of the sheet, or try again when it is healed"
    )]
    OlderState,
    /// The log does not begin with the anchor's genesis.
    #[error(
        "the relay's log does not begin as your group's does: it is empty, cut off, or another's. Nothing of it was taken; use another relay of the sheet"
    )]
    NotTheLog,
    /// The log began rightly and lacks what the anchor says was there.
    #[error(
        "the relay's log lacks entries that were in it when these words were made: it was rolled back, or hides them. Nothing was kept; use another relay of the sheet, or try again when it is healed"
    )]
    LogIncomplete,
    /// Another device changed the group's keys, or removed the words, in the middle of it.
    #[error("the group's keys were changed in the middle of the restore: run it again")]
    KeysChanged,
    /// The relay.
    #[error("{0}")]
    Relay(#[from] Problem),
    /// Cancelled on this device.
    #[error("cancelled")]
    Cancelled,
}

/// A fresh machine on its way back into a group. See the module's documentation.
#[derive(Debug)]
pub struct Restorer {
    store_key: StoreKey,
    rng: ChaCha20Rng,
    words: RecoveryWords,
    paper: Membership,
    name: DeviceName,
    relay: RelayAddress,
    phase: Phase,
    deadline_ms: u64,
    link: Option<RelayLink>,
    handshake: HandshakeHash,
    /// Answers to the first question that are still to come.
    more: u8,
    /// Why a log that lists the paper is not its group's; told if no other is.
    refused: Option<RestoreError>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum Phase {
    Connecting,
    /// [`RelayLink`] has its own deadline.
    Handshaking,
    /// `Hello{Device}` is out.
    Asking,
    /// `Hello{Member}` is out.
    Entering(Box<Trusted>),
    /// `Subscribe` is out.
    Reading(Box<Trusted>),
    /// The log does not begin with genesis any more: what stands below its floor is asked for …
    Probing(Box<Trusted>, Box<LogState>),
    /// … and a snapshot looked for, whose archive does; of each sender the parts so far.
    Searching(Box<Trusted>, BTreeMap<DeviceId, Vec<u8>>),
    Committing,
    Done,
}

/// What the words themselves vouch for, and the epoch that goes with it.
#[derive(Debug)]
struct Trusted {
    anchor: Anchor,
    keyring: Keyring,
}

impl Restorer {
    /// Starts to restore. The storage must be empty, and stays so until [`Output::Commit`].
    #[must_use]
    pub fn new(now: Now, secrets: Secrets, restoring: Restoring) -> Self {
        let mut restorer = Self {
            store_key: secrets.store_key,
            rng: ChaCha20Rng::from_seed(secrets.rng_seed),
            paper: restoring.words.membership(),
            words: restoring.words,
            name: DeviceName::cleaned(&restoring.device_name),
            relay: restoring.relay,
            phase: Phase::Connecting,
            deadline_ms: now.mono_ms.saturating_add(CONNECT_DEADLINE_MS),
            link: None,
            handshake: [0; 32],
            more: 0,
            refused: None,
            outputs: VecDeque::new(),
        };
        match check_first_contact(&restorer.relay) {
            Ok(()) => restorer.outputs.push_back(Output::Connect(LINK, restorer.relay.clone())),
            Err(problem) => restorer.finish(Event::RestoreFailed(problem.into())),
        }
        restorer
    }

    /// Gives up. Comes too late once the group is being stored.
    pub fn cancel(&mut self, _now: Now) {
        if !matches!(self.phase, Phase::Committing | Phase::Done) {
            self.fail(RestoreError::Cancelled);
        }
    }

    fn on_link_up(&mut self, now: Now) {
        if !matches!(self.phase, Phase::Connecting) {
            return;
        }
        let frame_bytes_max = ENVELOPE_BYTES_MAX_DEFAULT as usize + FRAME_OVERHEAD_BYTES_MAX;
        match RelayLink::connect(now, &self.paper.noise, &self.relay, frame_bytes_max, &mut self.rng) {
            Ok(link) => {
                self.link = Some(link);
                self.phase = Phase::Handshaking;
            }
            Err(problem) => self.fail(problem.into()),
        }
    }

    fn on_link_message(&mut self, now: Now, message: &[u8]) {
        let Some(link) = &mut self.link else { return };
        if let Err(problem) = link.receive(message) {
            return self.fail(problem.into());
        }
        while let Some(link) = &mut self.link {
            match link.poll_event() {
                Ok(None) => break,
                Ok(Some(RelayLinkEvent::Ready { relay_key, handshake_hash })) => {
                    // From here on it is this relay or none.
                    self.relay.key = Some(relay_key);
                    self.handshake = handshake_hash;
                    self.hello(now, Who::Device {});
                    self.phase = Phase::Asking;
                }
                Ok(Some(RelayLinkEvent::Frame(frame))) => self.on_frame(now, frame),
                Err(problem) => return self.fail(problem.into()),
            }
        }
    }

    fn hello(&mut self, now: Now, who: Who) {
        self.send(&ClientFrame::Hello { minor_min: MINOR_MIN, minor_max: MINOR_MAX, who, create: false, token: None });
        self.deadline_ms = now.mono_ms.saturating_add(ANSWER_DEADLINE_MS);
    }

    fn on_frame(&mut self, now: Now, frame: RelayFrame) {
        match (std::mem::replace(&mut self.phase, Phase::Done), frame) {
            // Whatever the relay says now, the group is here.
            (phase @ (Phase::Committing | Phase::Done), _) => self.phase = phase,
            // What others have left for each other comes unasked.
            (phase, RelayFrame::Pong {} | RelayFrame::Acked { .. } | RelayFrame::Whispered { .. }) => {
                self.phase = phase
            }
            (phase, RelayFrame::Bye { .. }) => self.fail_in(phase, lost("the relay is restarting")),
            (Phase::Asking, RelayFrame::Superseded { epoch_envelope, slot, more }) => {
                self.phase = Phase::Asking;
                self.more = more;
                match self.trust(&epoch_envelope, &slot) {
                    Ok(trusted) => self.enter(now, trusted),
                    Err(error) => {
                        let error = self.refused.take().unwrap_or(error);
                        if more == 0 {
                            return self.fail(error);
                        }
                        self.refused = Some(error);
                    }
                }
            }
            // More logs list the paper than its own: the one that opened counts.
            (phase @ Phase::Entering(_), RelayFrame::Superseded { .. }) if self.more > 0 => {
                self.more -= 1;
                self.phase = phase;
            }
            (
                phase @ (Phase::Entering(_) | Phase::Reading(_) | Phase::Probing(..) | Phase::Searching(..)),
                RelayFrame::Superseded { .. },
            ) => {
                self.fail_in(phase, RestoreError::KeysChanged);
            }
            (Phase::Entering(trusted), RelayFrame::Welcome { log: Some(log), limits, .. }) => {
                let envelope_bytes_max = limits.envelope_bytes_max.min(ENVELOPE_BYTES_MAX_CEILING);
                if let Some(link) = &mut self.link {
                    link.set_frame_bytes_max(envelope_bytes_max as usize + FRAME_OVERHEAD_BYTES_MAX);
                }
                if log.floor > 1 {
                    let cursors = List::try_from(vec![log.floor - 1]).expect("one fits");
                    self.send(&ClientFrame::Probe { cursors });
                    self.deadline_ms = now.mono_ms.saturating_add(ANSWER_DEADLINE_MS);
                    self.phase = Phase::Probing(trusted, Box::new(log));
                    return;
                }
                self.read(now, trusted, &log, BlobId::ZERO);
            }
            (Phase::Reading(trusted), RelayFrame::Entries { items }) => match items.into_vec().into_iter().next() {
                Some(EntryItem::Stored { cursor: 1, envelope, .. }) => match trusted.genesis(&envelope) {
                    Ok(genesis) => self.store(*trusted, genesis),
                    Err(error) => self.fail(error),
                },
                _ => self.fail(RestoreError::NotTheLog),
            },
            (Phase::Probing(trusted, log), RelayFrame::Probed { blob_ids }) => match blob_ids[..] {
                [Some(below)] => self.read(now, trusted, &log, below),
                _ => self.fail(RestoreError::NotTheLog),
            },
            (Phase::Searching(trusted, parts), RelayFrame::Entries { items }) => {
                self.search(now, trusted, parts, items.into_vec());
            }
            (Phase::Reading(_) | Phase::Searching(..), RelayFrame::CaughtUp { .. }) => {
                self.fail(RestoreError::NotTheLog);
            }
            (phase, RelayFrame::Error { code, detail, .. }) => {
                let error = self.refusal(&phase, code, detail);
                self.fail_in(phase, error);
            }
            (phase, _) => {
                let problem = Problem::ProtocolViolation("a frame that does not belong here");
                self.fail_in(phase, problem.into());
            }
        }
    }

    /// What the relay has for the paper, checked with the words.
    fn trust(&self, epoch_envelope: &[u8], slot: &[u8]) -> Result<Trusted, RestoreError> {
        if slot.is_empty() {
            return Err(RestoreError::AnchorLost);
        }
        let anchor = Anchor::open(&self.words, slot).map_err(|_| RestoreError::NotYourGroup)?;
        let secret = match epoch::unwrap_secret(&anchor.group, &self.paper, epoch_envelope) {
            Ok(secret) => secret,
            // Before it was enrolled nothing was wrapped to the paper.
            Err(UnwrapError::NotForMe(_)) => return Err(RestoreError::OlderState),
            // A secret that is not this group's gives another epoch than the envelope names.
            Err(UnwrapError::NotAnEpoch(_) | UnwrapError::WrappedWrong(_)) => return Err(RestoreError::NotYourGroup),
        };
        let keys = EpochKeys::derive(&anchor.group, &secret);
        let signed = signed_epoch(&anchor, &keys, epoch_envelope).ok_or(RestoreError::NotYourGroup)?;
        if keys.id == anchor.epoch
            && (signed.blob_id() != anchor.epoch_blob_id || signed.member_digest != anchor.member_digest)
        {
            return Err(RestoreError::NotYourGroup);
        }
        let older: Vec<EpochSecret> = signed.keyring.to_vec();
        let keyring = Keyring::restore(anchor.group, older.into_iter().chain([secret]), &keys.id)
            .ok_or(RestoreError::NotYourGroup)?;
        // Each epoch carries the secrets of those before it: one without the anchor's is older.
        if keyring.get(&anchor.epoch).is_none() {
            return Err(RestoreError::OlderState);
        }
        Ok(Trusted { anchor, keyring })
    }

    fn enter(&mut self, now: Now, trusted: Trusted) {
        let keys = trusted.keyring.current();
        let signature = hello::sign(&keys.auth, &self.handshake, false);
        let who = Who::Member { auth_public: keys.auth_public(), signature };
        self.hello(now, who);
        self.phase = Phase::Entering(Box::new(trusted));
    }

    /// Reads the log from where it begins.
    fn read(&mut self, now: Now, trusted: Box<Trusted>, log: &LogState, blob_id_at_after: BlobId) {
        let after = log.floor.saturating_sub(1);
        let credit = if after == 0 { PAGE_CREDIT_BYTES } else { u64::MAX };
        self.send(&ClientFrame::Subscribe { timeline: log.timeline, after, blob_id_at_after, credit, follow: false });
        self.deadline_ms = now.mono_ms.saturating_add(ANSWER_DEADLINE_MS);
        self.phase = if after == 0 { Phase::Reading(trusted) } else { Phase::Searching(trusted, BTreeMap::new()) };
    }

    /// Looks for the envelope of genesis, which the words name: the control archive of every snapshot
    /// begins with it, in the first of its parts.
    fn search(
        &mut self,
        now: Now,
        trusted: Box<Trusted>,
        mut parts: BTreeMap<DeviceId, Vec<u8>>,
        items: Vec<EntryItem>,
    ) {
        self.deadline_ms = now.mono_ms.saturating_add(ANSWER_DEADLINE_MS);
        for item in items {
            let EntryItem::Stored { envelope, .. } = item else { continue };
            let Ok(entry) = seal::open(&trusted.keyring, &envelope) else { continue };
            let Content { sender, kind, body, .. } = entry.into_claims();
            if kind != Kind::PART {
                parts.remove(&sender);
                continue;
            }
            let begun = parts.entry(sender).or_default();
            if begun.len() <= EPOCH_ENVELOPE_BYTES_MAX {
                begun.extend_from_slice(&body);
            }
            let first = Archived(Bytes::copy_from_slice(begun)).next().and_then(Result::ok);
            if let Some(Ok(genesis)) = first.map(|envelope| trusted.genesis(&envelope)) {
                return self.store(*trusted, genesis);
            }
        }
        self.phase = Phase::Searching(trusted, parts);
    }

    /// The group becomes this device's first state: with a seed of its own, let in by the paper.
    fn store(&mut self, trusted: Trusted, genesis: Genesis) {
        let Trusted { anchor, keyring } = trusted;
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        self.rng.fill_bytes(&mut *seed);
        let seed = MembershipSeed::from_bytes(*seed);
        let card = Card { keys: Membership::from_seed(&seed).keys, name: self.name.clone() };
        let epoch = keyring.current().id;
        let certificate = JoinCertificate::issue(keyring.group(), &self.paper.signing, card, epoch);
        let joining = JoiningRow {
            frontier: anchor.frontier.into_vec(),
            inviter: self.paper.device(),
            observed: None,
            members: Vec::new(),
            epoch_blob_id: anchor.epoch_blob_id,
            epoch: EpochId::ZERO,
        };
        let state = InitialState {
            seed: &seed,
            genesis: genesis.bytes().clone(),
            keyring: &keyring,
            relays: vec![self.relay.clone()],
            device_name: self.name.to_string(),
            founding: None,
            joining: Some((certificate, joining)),
            history_start: None,
        };
        let batch = initial_rows(state, &self.store_key, &mut self.rng);
        self.disconnect();
        self.outputs.push_back(Output::Commit(COMMIT, batch));
        self.phase = Phase::Committing;
    }

    fn refusal(&self, phase: &Phase, number: u16, detail: String) -> RestoreError {
        let code = ErrorCode::from_number(number);
        let unknown = matches!(code, Some(ErrorCode::UnknownLog | ErrorCode::DeviceRevoked));
        match phase {
            Phase::Asking if unknown => RestoreError::UnknownWords { relay: self.relay.url.clone() },
            // It was current a moment ago.
            Phase::Entering(_) if unknown => RestoreError::KeysChanged,
            Phase::Reading(_) | Phase::Probing(..) | Phase::Searching(..)
                if matches!(code, Some(ErrorCode::BelowFloor | ErrorCode::Diverged)) =>
            {
                RestoreError::NotTheLog
            }
            _ => Problem::Refused { code, number, detail }.into(),
        }
    }

    fn on_tick(&mut self, now: Now) {
        if let Some(link) = &mut self.link
            && let Err(problem) = link.check_deadline(now)
        {
            return self.fail(problem.into());
        }
        let overdue = now.mono_ms >= self.deadline_ms;
        match self.phase {
            Phase::Connecting if overdue => self.fail(lost("no connection came about")),
            Phase::Asking | Phase::Entering(_) | Phase::Reading(_) | Phase::Probing(..) | Phase::Searching(..)
                if overdue =>
            {
                self.fail(lost("the relay does not answer"));
            }
            _ => {}
        }
    }

    fn on_link_down(&mut self, reason: LinkDownReason) {
        self.link = None;
        if matches!(self.phase, Phase::Committing) {
            return;
        }
        let problem = match reason {
            LinkDownReason::Unreachable(sentence) => Problem::Unreachable(sentence),
            LinkDownReason::Closed => Problem::Unreachable("the connection broke".into()),
            LinkDownReason::UnsupportedVersion(offer) => unsupported_version(&offer),
            LinkDownReason::TryLater { .. } => Problem::Unreachable(RELAY_BUSY.into()),
            LinkDownReason::Invalid(sentence) => Problem::NotARelay(sentence),
        };
        self.finish(Event::RestoreFailed(problem.into()));
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

    /// Fails out of a phase that was taken.
    fn fail_in(&mut self, phase: Phase, error: RestoreError) {
        self.phase = phase;
        self.fail(error);
    }

    fn fail(&mut self, error: RestoreError) {
        self.disconnect();
        self.finish(Event::RestoreFailed(error));
    }

    fn disconnect(&mut self) {
        if self.link.is_some() {
            self.send(&ClientFrame::Bye {});
            self.transmit();
        }
        if self.link.take().is_some() || matches!(self.phase, Phase::Connecting) {
            self.outputs.push_back(Output::Disconnect(LINK));
        }
    }

    fn finish(&mut self, outcome: Event) {
        self.phase = Phase::Done;
        self.link = None;
        self.outputs.push_back(Output::Event(outcome));
    }
}

impl Trusted {
    /// The genesis body in the log's first envelope.
    fn genesis(&self, envelope: &Bytes) -> Result<Genesis, RestoreError> {
        if blob_id(envelope) != self.anchor.genesis_blob_id {
            return Err(RestoreError::NotTheLog);
        }
        let genesis = self.keyring.iter().find_map(|keys| {
            let signed = signed_epoch(&self.anchor, keys, envelope)?;
            let accepted = signed.check_succession(Predecessor::None).ok()?;
            Genesis::parse(accepted.genesis.clone()).ok()
        });
        genesis.ok_or(RestoreError::NotTheLog)
    }
}

/// The epoch in an envelope, if these are its keys and its author signed it.
fn signed_epoch(anchor: &Anchor, keys: &EpochKeys, envelope: &[u8]) -> Option<SignedEpoch> {
    epoch::open_epoch(&anchor.group, keys, envelope).ok()?.verify().ok()
}

impl Machine for Restorer {
    fn handle(&mut self, now: Now, input: Input) {
        if matches!(self.phase, Phase::Done) {
            return;
        }
        match input {
            Input::Tick => self.on_tick(now),
            Input::LinkUp(LINK) => self.on_link_up(now),
            Input::LinkMessage(LINK, message) => self.on_link_message(now, &message),
            Input::LinkDown(LINK, reason) => self.on_link_down(reason),
            Input::Committed(COMMIT) => self.finish(Event::Restored),
            Input::CommitFailed(COMMIT, fault) => self.finish(Event::StorageFailed(fault)),
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
            Phase::Connecting
            | Phase::Asking
            | Phase::Entering(_)
            | Phase::Reading(_)
            | Phase::Probing(..)
            | Phase::Searching(..) => Some(self.deadline_ms),
            Phase::Committing | Phase::Done => None,
        }
    }
}

fn lost(what: &str) -> RestoreError {
    Problem::Unreachable(format!("{what}; nothing was stored here")).into()
}
