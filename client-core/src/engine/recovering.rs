//! Recovery words: making the paper that they are written on a device of the group.
//!
//! ```text
//! Enrolling ─session as the paper: its entry 1→ a member ─rotation→ it has a wrap, anchor sealed →
//! Anchored ─at each relay, session as the paper: its slot, shown by a second Welcome→ told to the group
//! ```
//!
//! An anchor never changes, so whoever has the paper's Noise static and the sealed bytes can put it
//! back where it is not known to stand: at a relay that is new, or begins another history.
//!
//! A session *as the paper* takes the place of this device's own for a moment: the relay lets only
//! the paper's Noise static write the paper's slot. Nothing is read in it.
//!
//! Invariants: what a session needs is durable before it begins, so a crash anywhere resumes; the
//! paper's entry 1 has one form in an epoch, and another only once an epoch was read in which it is
//! no member, for then no honest relay takes the first any more; the words are forgotten as soon as
//! the anchor is sealed; words that take the place of others remove those with the same rotation.

use std::ops::RangeInclusive;

use bytes::Bytes;
use rand_core::Rng;
use zerok_sync_protocol::channel::StaticKey;
use zerok_sync_protocol::limits::{ALLOW_LIST_MAX, READS_NOTHING, RETRY_AFTER_MAX_MS, SLOT_BYTES_MAX};
use zerok_sync_protocol::wire::{self, List};
use zerok_sync_protocol::{BlobId, ClientFrame, EpochId, RelayFrame, Timeline};

use super::Engine;
use super::connection::random;
use super::relay::{Relay, RelayAt};
use super::rows::{AnchorBody, AnchorStands, PaperRow, hot, hot_key};
use crate::certificate::{Card, JoinCertificate};
use crate::content::{Content, Kind, SeenHash, SeenItem};
use crate::epoch::MemberDigest;
use crate::error::{MembershipError, Problem};
use crate::event::Event;
use crate::id::DeviceId;
use crate::io::Now;
use crate::keys::PaperNoiseKey;
use crate::recovery::anchor::Anchor;
use crate::recovery::sheet::RecoverySheet;
use crate::recovery::words::{RecoveryDraft, RecoveryWords};
use crate::recovery::{Recovery, paper_name};
use crate::seal::{self, Authenticated};
use crate::store_seal;

/// Relays that an `ANCHOR` entry may name: more than a group has.
const STANDS_MAX: usize = 64;
/// How long this device stays itself after a session as the paper that came to nothing.
const PAPER_RETRY_MS: u64 = 30_000;
/// A slot that a relay lost is put back after a random time between these, so that the devices do
/// not all do it at once.
const PUT_BACK_MS: RangeInclusive<u64> = 500..=3_000;

/// The group's recovery words, as far as this device has to do with them.
#[derive(Debug)]
pub(super) struct Paper {
    row: PaperRow,
    /// No session as the paper before this time; 0: whenever it is due.
    again_ms: u64,
    /// The random time before a slot is put back has been drawn.
    delayed: bool,
}

impl Paper {
    pub(super) fn stored(row: PaperRow) -> Self {
        Self { row, again_ms: 0, delayed: false }
    }

    fn device(&self) -> DeviceId {
        match &self.row {
            PaperRow::Enrolling { words, .. } => words.membership().device(),
            PaperRow::Anchored { anchor, .. } => anchor.device,
        }
    }

    /// Opens the sessions as the paper.
    fn noise(&self) -> StaticKey {
        match &self.row {
            PaperRow::Enrolling { words, .. } => words.membership().noise,
            PaperRow::Anchored { anchor, .. } => StaticKey::from_bytes(*anchor.noise.expose()),
        }
    }
}

impl Engine {
    /// New recovery words, to be shown to the person, who is then asked for three of them. Nothing
    /// is stored and nothing has happened: [`Self::enrol_recovery`] makes them good.
    pub fn draft_recovery(&mut self) -> RecoveryDraft {
        RecoveryDraft::generate(&mut self.rng)
    }

    /// Makes words a device of the group, in the place of any that were before. Carried out as soon
    /// as the relay is there, also after a restart: [`Status::recovery`](super::Status::recovery)
    /// tells. Until then the words lie sealed in this device's storage, afterwards nowhere.
    ///
    /// # Errors
    /// [`MembershipError`]; nothing changed.
    pub fn enrol_recovery(&mut self, now: Now, words: RecoveryWords) -> Result<(), MembershipError> {
        self.check_acts()?;
        if self.is_enrolling() {
            return Err(MembershipError::WordsUnderWay);
        }
        let device = words.membership().device();
        if self.members.contains_key(&device) || self.removed.contains_key(&device) {
            return Err(MembershipError::WordsUsed);
        }
        if self.members.len() >= ALLOW_LIST_MAX {
            return Err(MembershipError::GroupFull);
        }
        let row = PaperRow::Enrolling { words, epoch: EpochId::ZERO, envelope: Bytes::new() };
        self.paper = Some(Paper::stored(row));
        self.put_paper();
        self.event(Event::StatusChanged);
        self.step(now);
        Ok(())
    }

    /// The sheet of these words: where the group is found with them.
    #[must_use]
    pub fn recovery_sheet(&self, words: RecoveryWords) -> RecoverySheet {
        let relays = self.relays.iter().map(Relay::address).collect();
        RecoverySheet { words, relays, device_name: self.group.device_name.clone() }
    }

    /// Whether there are words, as far as this device and the log can tell.
    pub(super) fn recovery(&self) -> Recovery {
        if self.is_enrolling() {
            return Recovery::UnderWay;
        }
        let Some(member) = self.members.values().find(|member| member.paper) else { return Recovery::None };
        let home = &self.relays[self.relays.home()];
        match &self.paper {
            Some(Paper { row: PaperRow::Anchored { anchor, announced: true }, .. })
                if anchor.device == member.keys.device && stands(anchor, home) =>
            {
                let maker = member.certificate.as_ref().map(JoinCertificate::inviter);
                let made_by = maker.filter(|device| self.members.contains_key(device));
                Recovery::Ready { made_at_ms: member.joined_at_ms, made_by }
            }
            _ => Recovery::UnderWay,
        }
    }

    /// Whether this device came by recovery words, and the log was not read so far that the words
    /// vouch for what is here. Nothing was written in its name until then; a driver that finds this at
    /// opening drops what is stored, for whoever restored was told that nothing is.
    #[must_use]
    pub fn is_restoring(&self) -> bool {
        // An inviter names no epoch; an anchor always does.
        self.joining.as_ref().is_some_and(|joining| !joining.epoch_blob_id.is_zero())
    }

    fn is_enrolling(&self) -> bool {
        matches!(&self.paper, Some(Paper { row: PaperRow::Enrolling { .. }, .. }))
    }

    fn put_paper(&mut self) {
        let Some(paper) = &self.paper else { return };
        let key = hot_key(hot::PAPER, &[]);
        let plaintext = zeroize::Zeroizing::new(wire::encode(&paper.row));
        let value = store_seal::seal_row(&self.store_key, random(&mut self.rng), &key, &plaintext);
        self.effects.put(key, value);
    }

    fn forget_paper(&mut self) {
        self.paper = None;
        self.effects.delete(hot_key(hot::PAPER, &[]));
        self.event(Event::StatusChanged);
    }

    /// When [`Self::pump_recovery`] has something to do again.
    pub(super) fn recovery_deadline_ms(&self) -> Option<u64> {
        self.paper.as_ref().map(|paper| paper.again_ms).filter(|again_ms| *again_ms > 0)
    }

    /// Does whatever the words, the session and the log allow now.
    pub(super) fn pump_recovery(&mut self, now: Now) {
        let Some(paper) = &mut self.paper else { return };
        if now.mono_ms >= paper.again_ms {
            // The pause is over, also for `recovery_deadline_ms`.
            paper.again_ms = 0;
        }
        let device = paper.device();
        if self.removed.contains_key(&device) {
            // Another device did not want these words in the group.
            return self.forget_paper();
        }
        // An invitation's mailbox lives and dies with this device's own session.
        let busy = self.is_rotating() || self.invitation.is_some();
        if busy || self.check_acts().is_err() || !self.is_live() {
            return;
        }
        match self.paper.as_ref().map(|paper| &paper.row) {
            Some(PaperRow::Enrolling { .. }) => self.pump_enrolling(now, device),
            Some(PaperRow::Anchored { .. }) => self.pump_anchored(now),
            None => {}
        }
    }

    fn pump_enrolling(&mut self, now: Now, device: DeviceId) {
        let current = self.keyring.current().id;
        let Some(member) = self.members.get(&device) else { return self.introduce_paper(now) };
        let wrapped = member.certificate.as_ref().is_some_and(|certificate| certificate.epoch() != current);
        let replaced: Vec<DeviceId> =
            self.members.values().filter(|it| it.paper && it.keys.device != device).map(|it| it.keys.device).collect();
        if wrapped && replaced.is_empty() {
            self.seal_anchor();
            self.pump_anchored(now);
        } else {
            self.want_rotation(replaced);
        }
    }

    /// Fixes the paper's entry 1 and goes to push it.
    fn introduce_paper(&mut self, now: Now) {
        let current = self.keyring.current().id;
        let (group, lamport) = (*self.keyring.group(), self.next_lamport());
        let Some(Paper { row: PaperRow::Enrolling { words, epoch, envelope }, .. }) = &mut self.paper else { return };
        if *epoch != current {
            let paper = words.membership();
            let card = Card { keys: paper.keys.clone(), name: paper_name() };
            let certificate = JoinCertificate::issue(&group, &self.me.signing, card, current);
            let content = Content {
                sender: paper.device(),
                seq: 1,
                prev: BlobId::ZERO,
                seen: List::empty(),
                observed: None,
                lamport,
                kind: Kind::PAPER,
                sent_at_ms: now.wall_ms,
                body: certificate.to_bytes(),
            };
            let nonce = random(&mut self.rng);
            let sealed = seal::seal(&group, self.keyring.current(), &paper.signing, nonce, &content)
                .expect("a certificate is far below every limit");
            (*epoch, *envelope) = (current, sealed.envelope);
            self.put_paper();
        }
        self.become_paper(now, self.relays.home());
    }

    /// Fixes what a restore will trust, and forgets the words.
    fn seal_anchor(&mut self) {
        let Some(genesis) = self.epochs.first().filter(|epoch| epoch.previous.is_zero()) else { return };
        let heads = self.chains.iter().filter(|(device, _)| self.members.contains_key(device));
        let frontier: Vec<SeenItem> = heads
            .map(|(device, chain)| SeenItem { tag: device.tag(), seq: chain.seq, hash: SeenHash::of(&chain.blob_id) })
            .collect();
        let anchor = Anchor {
            group: *self.keyring.group(),
            genesis_blob_id: genesis.blob_id,
            epoch: self.keyring.current().id,
            epoch_blob_id: self.progress.epoch_blob_id,
            member_digest: MemberDigest::of(self.members.keys().copied()),
            frontier: List::try_from(frontier).expect("a group has no more members than that"),
        };
        let Some(Paper { row, again_ms, .. }) = &mut self.paper else { return };
        let PaperRow::Enrolling { words, .. } = &*row else { return };
        *again_ms = 0;
        let paper = words.membership();
        let anchor = AnchorBody {
            device: paper.device(),
            noise: PaperNoiseKey::from_bytes(*paper.noise.expose()),
            slot: anchor.seal(words, &mut self.rng).into(),
            stands: Vec::new(),
        };
        *row = PaperRow::Anchored { anchor, announced: false };
        self.put_paper();
        self.event(Event::StatusChanged);
    }

    /// Goes to the next relay where the anchor is not known to stand, and tells the group once the
    /// home relay has it.
    fn pump_anchored(&mut self, now: Now) {
        let Some(Paper { row: PaperRow::Anchored { anchor, announced }, delayed, .. }) = &self.paper else { return };
        let (announced, delayed) = (*announced, *delayed);
        if !announced && stands(anchor, &self.relays[self.relays.home()]) {
            let body = zeroize::Zeroizing::new(wire::encode(anchor));
            self.queue(Kind::ANCHOR, Bytes::copy_from_slice(&body));
            self.change_anchor(|_, announced| *announced = true);
            self.event(Event::StatusChanged);
            return;
        }
        let current = Some(self.keyring.current().id);
        let ready = |relay: &Relay| relay.caught_up() && relay.session.admitted_by() == current;
        let lacking = |relay: &Relay| !stands(anchor, relay) && ready(relay);
        let Some(at) = self.relays.all().find(|at| lacking(&self.relays[*at])) else { return };
        // Nobody else is there to do it at the same time.
        let alone = self.members.values().filter(|member| !member.paper).count() == 1;
        if announced && !delayed && !alone {
            let span = PUT_BACK_MS.end() - PUT_BACK_MS.start();
            let wait_ms = PUT_BACK_MS.start() + self.rng.next_u64() % span;
            if let Some(paper) = &mut self.paper {
                (paper.again_ms, paper.delayed) = (now.mono_ms + wait_ms, true);
            }
            return;
        }
        self.become_paper(now, at);
    }

    fn change_anchor(&mut self, change: impl FnOnce(&mut AnchorBody, &mut bool)) {
        if let Some(Paper { row: PaperRow::Anchored { anchor, announced }, .. }) = &mut self.paper {
            change(anchor, announced);
            self.put_paper();
        }
    }

    /// Who made the words tells what their slot takes.
    pub(super) fn on_anchor(&mut self, entry: &Authenticated) {
        let Ok(anchor) = wire::decode::<AnchorBody>(&entry.body) else { return };
        if self.paper.as_ref().is_some_and(|paper| self.removed.contains_key(&paper.device())) {
            // Read just before this: they took the place of the words made here.
            self.forget_paper();
        }
        let Some(member) = self.members.get(&anchor.device).filter(|member| member.paper) else { return };
        let made_them = member.certificate.as_ref().is_some_and(|certificate| certificate.inviter() == entry.sender);
        let its_key = StaticKey::from_bytes(*anchor.noise.expose()).public() == member.keys.noise;
        let fits = anchor.slot.len() <= SLOT_BYTES_MAX && anchor.stands.len() <= STANDS_MAX;
        let known = self.paper.as_ref().is_some_and(|paper| paper.device() == anchor.device);
        // Words that are on their way here take the place of these.
        if made_them && its_key && fits && !known && !self.is_enrolling() {
            self.paper = Some(Paper::stored(PaperRow::Anchored { anchor, announced: true }));
            self.put_paper();
            self.event(Event::StatusChanged);
        }
    }

    /// Ends this device's session; the next link's is the paper's.
    fn become_paper(&mut self, now: Now, at: RelayAt) {
        if self.paper.as_ref().is_none_or(|paper| paper.again_ms > 0) {
            return;
        }
        self.relays[at].paper_next = true;
        self.reconnect(now, at);
    }

    /// By which key this device opens its next session, and whether it is the paper's.
    pub(super) fn next_static(&mut self, at: RelayAt) -> (StaticKey, bool) {
        match &self.paper {
            Some(paper) if std::mem::take(&mut self.relays[at].paper_next) => (paper.noise(), true),
            _ => (self.me.noise.clone(), false),
        }
    }

    /// What the relay says in a session as the paper.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`].
    pub(super) fn on_paper_frame(&mut self, now: Now, at: RelayAt, frame: RelayFrame) -> Result<(), Problem> {
        match frame {
            // Who is there, and has what, this device hears as itself.
            RelayFrame::Pong {} | RelayFrame::Acked { .. } | RelayFrame::Whispered { .. } => {}
            RelayFrame::Welcome { log: Some(log), slot, .. } => self.on_paper_welcome(now, at, log.timeline, &slot),
            // Whether it is stored the log shows; if not, the next attempt waits its time.
            RelayFrame::PushAck { .. } => self.end_paper_session(now, at, false),
            RelayFrame::Bye { retry_after_ms } => self.lose(now, at, None, retry_after_ms.min(RETRY_AFTER_MAX_MS)),
            // The keys moved on, or the relay has no room: as itself this device learns more.
            RelayFrame::Superseded { .. } | RelayFrame::Error { .. } => self.end_paper_session(now, at, false),
            _ => return Err(Problem::ProtocolViolation("a message that does not belong here")),
        }
        Ok(())
    }

    fn on_paper_welcome(&mut self, now: Now, at: RelayAt, timeline: Timeline, slot: &[u8]) {
        let current = self.keyring.current().id;
        let Some(Paper { row, .. }) = &mut self.paper else { return self.end_paper_session(now, at, true) };
        let Some(open) = self.relays[at].session.open() else { return };
        match row {
            PaperRow::Enrolling { envelope, .. } => {
                let envelopes = List::try_from(vec![envelope.clone()]).expect("one fits");
                open.send(&ClientFrame::Push { push: 1, envelopes, resume: false });
            }
            PaperRow::Anchored { anchor, .. } if slot == anchor.slot => {
                let relay = open.relay_key();
                anchor.stands.retain(|stands| stands.relay != relay);
                anchor.stands.push(AnchorStands { relay, timeline });
                if let Some(paper) = &mut self.paper {
                    paper.delayed = false;
                }
                self.put_paper();
                self.event(Event::StatusChanged);
                self.end_paper_session(now, at, true);
            }
            PaperRow::Anchored { anchor, .. } if !open.slot_put => {
                open.slot_put = true;
                // Before the slot, so that it is stored once the slot is.
                open.send(&ClientFrame::Ack { cursor: READS_NOTHING, receipt: None });
                open.send(&ClientFrame::SlotPut { data: anchor.slot.clone() });
                // Its answer shows what the slot holds.
                self.hello_as_member(at, current, false);
            }
            PaperRow::Anchored { .. } => self.end_paper_session(now, at, false),
        }
    }

    /// This device is itself again; the paper's turn comes later if it came to nothing.
    fn end_paper_session(&mut self, now: Now, at: RelayAt, done: bool) {
        if !done {
            self.postpone_paper(now);
        }
        self.reconnect(now, at);
    }

    /// A session as the paper broke, or came to nothing.
    pub(super) fn postpone_paper(&mut self, now: Now) {
        if let Some(paper) = &mut self.paper {
            paper.again_ms = now.mono_ms + PAPER_RETRY_MS;
        }
    }
}

/// Whether a relay is known to have the anchor in the history it is in now.
fn stands(anchor: &AnchorBody, relay: &Relay) -> bool {
    let here = |stands: &AnchorStands| Some(stands.relay) == relay.row.key && stands.timeline == relay.row.timeline;
    anchor.stands.iter().any(here)
}
