//! A relay in memory: honest by default, with its log open to the test that wants to tamper.
//!
//! It speaks the real channel and frames; what a real relay does about limits, time and disks is
//! tested with the real one.

mod membership;
mod notices;
mod retention;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zerok_sync_protocol::channel::{AwaitingFinal, Responder, StaticKey};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::{AbsentReason, EntryItem, Limits, LogState, PushResult, Usage, Who};
use zerok_sync_protocol::limits::ENVELOPE_BYTES_MAX_DEFAULT;
use zerok_sync_protocol::record::SecureStream;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{
    AuthPublicKey, BlobId, ClientFrame, ErrorCode, MailboxId, NoisePublicKey, RelayFrame, Timeline, hello,
};

use super::defect::Defect;
use super::trace;
use membership::Rotation;

/// Envelope bytes of one page, unless it holds a single larger one.
const PAGE_BYTES_MAX: usize = 256 * 1024;

/// Names one client's link: the device, and a number no other link has.
pub type Conn = (usize, u64);

/// One cursor of the log.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What the relay calls it; zeros where the whole row is gone.
    pub blob_id: BlobId,
    /// The bytes; `None`: lost.
    pub envelope: Option<Bytes>,
}

/// The one log a simulation needs.
#[derive(Debug, Clone)]
pub struct Log {
    /// Who says `Hello` with this key is a member.
    pub auth: AuthPublicKey,
    /// How often that key was replaced.
    pub auth_gen: u64,
    /// Keys before it.
    pub older: BTreeSet<AuthPublicKey>,
    /// Devices it admits.
    pub allow: BTreeSet<NoisePublicKey>,
    /// A removal is under way: nobody new is admitted.
    pub restricted: bool,
    /// Which history this is.
    pub timeline: Timeline,
    /// Cursor 1 first.
    pub entries: Vec<Stored>,
    /// Each device's newest receipt, which lies in its slot, and up to where it has read.
    pub receipts: BTreeMap<NoisePublicKey, (u64, Bytes)>,
    /// Up to where each device has said that it has read.
    pub acked: BTreeMap<NoisePublicKey, u64>,
    /// Entries with a lower cursor are not served.
    pub floor: u64,
    /// Entries with a lower cursor are gone. They stay in `entries` for who looks at the log from outside.
    pub kept_from: u64,
    /// Each floor before, and how long the log was when it ended.
    pub floors: Vec<(usize, u64)>,
}

/// The relay. See the module's documentation.
#[derive(Debug)]
pub struct Relay {
    /// Its Noise key.
    pub key: StaticKey,
    /// The log, once it was created.
    pub log: Option<Log>,
    /// After a rotation: what a member under the old name is handed.
    pub epoch_envelope: Option<Bytes>,
    /// It no longer knows which older names were this log's.
    pub forgot_names: bool,
    /// Names that belong to a log of somebody else's, which has moved on without any device here.
    pub squatted: BTreeSet<AuthPublicKey>,
    /// What each device keeps in its slot.
    pub slots: BTreeMap<NoisePublicKey, Bytes>,
    /// The epoch of somebody else's log, which lists every device: handed out where it has nothing else.
    pub foreign_epoch: Option<Bytes>,
    /// Answer this many pushes with a refusal …
    pub refuse_pushes: u32,
    /// … of their envelope at this index, by default the second, and thereby of all behind it.
    pub refuse_index: usize,
    /// Store this many pushes and break the link instead of answering.
    pub lose_acks: u32,
    /// Store, but never say so.
    pub swallow_acks: bool,
    /// Return own pushes in full instead of as stubs.
    pub no_stubs: bool,
    /// The largest envelope, as it tells clients; it takes larger ones.
    pub envelope_bytes_max: u32,
    /// Most items of one `Entries`.
    pub page_items: usize,
    /// How many entries it has shown.
    pub shown: u64,
    /// Take receipts, and show them to nobody.
    pub drops_receipts: bool,
    /// How many receipts it was sent.
    pub receipts_taken: u64,
    /// Show nothing of the log, nor that there is nothing more.
    pub hangs: bool,
    /// Never say that all was shown.
    pub withholds_end: bool,
    /// Pass no whispers on.
    pub hush: bool,
    /// Every whisper that was passed on, for whoever replays them.
    pub whispers: Vec<Bytes>,
    /// Keep every envelope that arrives, also of refused pushes, for [`Relay::take_received`].
    pub keeps_received: bool,
    /// Whoever is not connected counts as not seen for a month, and holds no floor down.
    pub forgets_who_is_away: bool,
    /// Every frame that was taken or given, for [`Relay::take_frames`]; `None` keeps none.
    pub frames: Option<Vec<(Conn, String)>>,
    /// What it does wrong on purpose.
    pub defect: Option<Defect>,
    received: Vec<Bytes>,
    hang_ups: Vec<Conn>,
    refusals: u64,
    pub(super) rotations: u64,
    /// How often a member has moved the floor.
    pub truncations: u64,
    rewrites: u64,
    /// Before each rotation: how long the log was, everything else about it, and what was handed out.
    before_rotations: Vec<(usize, Log, Option<Bytes>)>,
    sessions: BTreeMap<Conn, Session>,
    mailboxes: BTreeMap<MailboxId, (Conn, Option<Conn>)>,
    rng: ChaCha20Rng,
}

#[derive(Debug)]
enum Phase {
    First,
    Final(Box<AwaitingFinal>),
    Open(Box<SecureStream>),
}

#[derive(Debug)]
struct Session {
    phase: Option<Phase>,
    member: bool,
    /// The generation it was admitted under.
    auth_gen: u64,
    /// The name under which it may make the log.
    founds: Option<AuthPublicKey>,
    /// It was told of a newer one, and has not said `Hello` with it.
    superseded: bool,
    next: Option<u64>,
    /// It goes on reading once it has read all.
    follow: bool,
    /// The history it reads.
    timeline: Timeline,
    caught_up: bool,
    refused: bool,
    own: BTreeSet<u64>,
    mailbox: Option<MailboxId>,
}

impl Default for Relay {
    fn default() -> Self {
        Self::new()
    }
}

impl Relay {
    /// A relay without a log.
    #[must_use]
    pub fn new() -> Self {
        Self::numbered(0)
    }

    /// One of several, each with a key and chances of its own.
    #[must_use]
    pub fn numbered(number: u8) -> Self {
        Self {
            key: StaticKey::from_bytes([7 + number; 32]),
            log: None,
            epoch_envelope: None,
            forgot_names: false,
            squatted: BTreeSet::new(),
            slots: BTreeMap::new(),
            foreign_epoch: None,
            refuse_pushes: 0,
            refuse_index: 1,
            lose_acks: 0,
            swallow_acks: false,
            no_stubs: false,
            envelope_bytes_max: ENVELOPE_BYTES_MAX_DEFAULT,
            page_items: 50,
            shown: 0,
            drops_receipts: false,
            receipts_taken: 0,
            hangs: false,
            withholds_end: false,
            hush: false,
            whispers: Vec::new(),
            frames: None,
            keeps_received: false,
            forgets_who_is_away: false,
            defect: None,
            received: Vec::new(),
            hang_ups: Vec::new(),
            refusals: 0,
            rotations: 0,
            truncations: 0,
            rewrites: 0,
            before_rotations: Vec::new(),
            sessions: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            rng: ChaCha20Rng::from_seed([99 + number; 32]),
        }
    }

    /// The log; empty before it was created.
    #[must_use]
    pub fn entries(&self) -> &[Stored] {
        self.log.as_ref().map_or(&[], |log| &log.entries)
    }

    /// The log, to tamper with.
    ///
    /// # Panics
    /// Before it was created.
    pub fn entries_mut(&mut self) -> &mut Vec<Stored> {
        &mut self.log.as_mut().expect("the log was created").entries
    }

    /// Its database has lost a row, which leaves a hole; what stood there.
    pub fn forget_row(&mut self, index: usize) -> BlobId {
        let stored = &mut self.entries_mut()[index];
        stored.envelope = None;
        std::mem::replace(&mut stored.blob_id, BlobId::ZERO)
    }

    /// Its Noise key, as clients pin it.
    #[must_use]
    pub fn public_key(&self) -> NoisePublicKey {
        self.key.public()
    }

    /// A link stands.
    pub fn open(&mut self, conn: Conn) {
        let session = Session {
            phase: Some(Phase::First),
            member: false,
            auth_gen: 0,
            founds: None,
            superseded: false,
            next: None,
            follow: false,
            timeline: Timeline::ZERO,
            caught_up: false,
            refused: false,
            own: BTreeSet::new(),
            mailbox: None,
        };
        self.sessions.insert(conn, session);
    }

    /// A link is gone; what others are told about it.
    pub fn close(&mut self, conn: Conn) -> Vec<(Conn, Bytes)> {
        let mailbox = self.sessions.remove(&conn).and_then(|session| session.mailbox);
        if let Some(mailbox) = mailbox {
            self.close_mailbox(&mailbox, conn);
        }
        self.drain()
    }

    /// The process restarts: sessions and mailboxes are gone, the log stays.
    pub fn restart(&mut self) {
        self.sessions.clear();
        self.mailboxes.clear();
        self.hang_ups.clear();
    }

    /// Its database was replaced by an older copy: so many entries are gone, and with them the
    /// rotations among them. One that says so gives its log another timeline.
    pub fn roll_back(&mut self, entries: usize, declared: bool) {
        let fresh = Timeline(self.rng.next_u64().to_le_bytes());
        if let Some(log) = &mut self.log {
            log.entries.truncate(log.entries.len().saturating_sub(entries).max(1));
            let head = log.entries.len();
            let floor = log.floor_at(head);
            let kept = self.before_rotations.partition_point(|(len, ..)| *len < head);
            if let Some((_, before, epoch_envelope)) = self.before_rotations.drain(kept..).next() {
                let (entries, timeline) = (std::mem::take(&mut log.entries), log.timeline);
                *log = Log { entries, timeline, ..before };
                self.epoch_envelope = epoch_envelope;
            }
            // An older copy has older receipts; here none.
            log.receipts.clear();
            log.acked.clear();
            log.set_floor_back(floor);
            if declared {
                log.timeline = fresh;
            }
            self.rewrites += 1;
        }
        self.restart();
    }

    /// Its database is gone.
    pub fn wipe(&mut self) {
        self.log = None;
        self.epoch_envelope = None;
        self.slots.clear();
        self.before_rotations.clear();
        self.rewrites += 1;
        self.restart();
    }

    /// How often it lost a part of its log.
    #[must_use]
    pub fn rewrites(&self) -> u64 {
        self.rewrites
    }

    /// How many pushes it refused.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Links it wants broken since the last time.
    pub fn take_hang_ups(&mut self) -> Vec<Conn> {
        std::mem::take(&mut self.hang_ups)
    }

    /// Every envelope that arrived since the last time.
    pub fn take_received(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.received)
    }

    /// What was said since the last time, where that is kept.
    pub fn take_frames(&mut self) -> Vec<(Conn, String)> {
        self.frames.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes one link message in; what goes out to whom. A message on no link is ignored.
    ///
    /// # Panics
    /// When a client breaks the protocol.
    pub fn receive(&mut self, conn: Conn, message: &[u8]) -> Vec<(Conn, Bytes)> {
        let Some(session) = self.sessions.get_mut(&conn) else { return Vec::new() };
        let mut out = Vec::new();
        match session.phase.take() {
            Some(Phase::First) => {
                let (next, answer) =
                    Responder::relay(&self.key).read(message, &mut self.rng).expect("clients begin properly");
                session.phase = Some(Phase::Final(Box::new(next)));
                out.push((conn, answer.into()));
            }
            Some(Phase::Final(waiting)) => {
                let (channel, _) = waiting.read(message).expect("clients finish properly");
                session.phase = Some(Phase::Open(Box::new(SecureStream::new(channel, 2 * 1024 * 1024))));
            }
            Some(Phase::Open(mut stream)) => {
                stream.receive(message).expect("clients seal properly");
                let mut frames = Vec::new();
                while let Some(frame) = stream.next_frame().expect("clients frame properly") {
                    frames.push(ClientFrame::decode(&frame).expect("clients encode properly"));
                }
                session.phase = Some(Phase::Open(stream));
                for frame in frames {
                    self.on_frame(conn, frame);
                }
            }
            None => {}
        }
        self.deliver();
        out.extend(self.drain());
        out
    }

    fn send(&mut self, conn: Conn, frame: &RelayFrame) {
        if let Some(Session { phase: Some(Phase::Open(stream)), .. }) = self.sessions.get_mut(&conn) {
            if let (Some(frames), Some(told)) = (&mut self.frames, trace::relay_frame(frame)) {
                frames.push((conn, format!("is told {told}")));
            }
            stream.send(&frame.encode()).expect("frames are short");
        }
    }

    fn fail(&mut self, conn: Conn, code: ErrorCode) {
        self.send(conn, &RelayFrame::Error { code: code.number(), retry_after_ms: 0, detail: String::new() });
    }

    fn drain(&mut self) -> Vec<(Conn, Bytes)> {
        let mut out = Vec::new();
        for (conn, session) in &mut self.sessions {
            if let Some(Phase::Open(stream)) = &mut session.phase {
                while let Some(message) = stream.poll_transmit() {
                    out.push((*conn, message.into()));
                }
            }
        }
        out
    }

    fn on_frame(&mut self, conn: Conn, frame: ClientFrame) {
        if let (Some(frames), Some(said)) = (&mut self.frames, trace::client_frame(&frame)) {
            frames.push((conn, format!("says {said}")));
        }
        match frame {
            ClientFrame::Hello { who, create, .. } => self.on_hello(conn, &who, create),
            ClientFrame::Create { allow, epoch_envelope, envelopes } => {
                if self.log.as_ref().is_some_and(|log| !log.timeline.is_zero()) {
                    // Another member was faster.
                    return self.fail(conn, ErrorCode::RotationConflict);
                }
                self.epoch_envelope = Some(epoch_envelope.clone());
                let mut entries = vec![epoch_envelope];
                entries.extend(envelopes.into_vec());
                let entries = entries
                    .into_iter()
                    .map(|envelope| Stored { blob_id: blob_id(&envelope), envelope: Some(envelope) });
                let founds = self.sessions.get_mut(&conn).and_then(|session| session.founds.take());
                if let Some(log) = &mut self.log {
                    // Of several that were told that there is room, the first to come names it.
                    log.auth = founds.unwrap_or(log.auth);
                    log.entries = entries.collect();
                    log.allow.extend(allow.into_vec());
                    log.timeline = Timeline(self.rng.next_u64().to_le_bytes());
                }
                self.welcome(conn);
            }
            ClientFrame::Push { push, envelopes, resume } => self.on_push(conn, push, envelopes.into_vec(), resume),
            ClientFrame::Subscribe { timeline, after, blob_id_at_after, follow, .. } => {
                let log = self.log.as_ref().expect("a member has a log");
                if timeline == log.timeline && after + 1 < log.floor {
                    return self.fail(conn, ErrorCode::BelowFloor);
                }
                let at = after.checked_sub(1).and_then(|index| log.entries.get(index as usize));
                let agrees = timeline == log.timeline
                    && if after == 0 { true } else { at.is_some_and(|stored| stored.blob_id == blob_id_at_after) };
                if !agrees {
                    return self.fail(conn, ErrorCode::Diverged);
                }
                if let Some(session) = self.sessions.get_mut(&conn) {
                    session.next = Some(after + 1);
                    session.follow = follow;
                    session.timeline = timeline;
                    session.caught_up = false;
                }
            }
            ClientFrame::Probe { cursors } => {
                let below = self.log.as_ref().map_or(0, |log| log.floor - 1);
                let known = |cursor: &u64| Some(*cursor).filter(|cursor| *cursor >= below);
                let stored = |cursor: &u64| self.entries().get(known(cursor)?.checked_sub(1)? as usize);
                let blob_id = |stored: &Stored| Some(stored.blob_id).filter(|id| !id.is_zero());
                let blob_ids: Vec<_> = cursors.iter().map(|cursor| stored(cursor).and_then(blob_id)).collect();
                let blob_ids = List::try_from(blob_ids).expect("as many as asked");
                self.send(conn, &RelayFrame::Probed { blob_ids });
            }
            ClientFrame::Missing { blob_ids } => {
                let here: BTreeSet<BlobId> = self.kept().map(|stored| stored.blob_id).collect();
                let mut bitmap = vec![0_u8; blob_ids.len().div_ceil(8)];
                let claims = self.defect == Some(Defect::RelayClaimsToHaveAll);
                let lacks = |blob_id: &BlobId| !claims && !here.contains(blob_id);
                for (index, _) in blob_ids.iter().enumerate().filter(|(_, blob_id)| lacks(blob_id)) {
                    bitmap[index / 8] |= 1 << (index % 8);
                }
                self.send(conn, &RelayFrame::MissingBlobs { bitmap: bitmap.into() });
            }
            ClientFrame::NewTimeline { old } => {
                let fresh = Timeline(self.rng.next_u64().to_le_bytes());
                let log = self.log.as_mut().expect("a member has a log");
                if log.timeline == old {
                    log.timeline = fresh;
                }
                let timeline = log.timeline;
                self.send(conn, &RelayFrame::TimelineChanged { timeline });
                self.end_readers_of(old, timeline);
            }
            ClientFrame::MailboxOpen { short, .. } => {
                let id = self.free_mailbox(if short { MailboxId::SHORT_LEN } else { MailboxId::LONG_LEN });
                self.mailboxes.insert(id.clone(), (conn, None));
                self.enter_mailbox(conn, id);
            }
            ClientFrame::MailboxJoin { mailbox } => match self.mailboxes.get_mut(&mailbox) {
                Some((_, joiner @ None)) => {
                    *joiner = Some(conn);
                    self.enter_mailbox(conn, mailbox);
                }
                _ => self.fail(conn, ErrorCode::MailboxGone),
            },
            ClientFrame::MailboxSend { data } => {
                if let Some(other) = self.other_party(conn) {
                    self.send(other, &RelayFrame::MailboxMessage { data });
                }
            }
            ClientFrame::MailboxClose {} => {
                let mailbox = self.sessions.get_mut(&conn).and_then(|session| session.mailbox.take());
                if let Some(mailbox) = mailbox {
                    self.close_mailbox(&mailbox, conn);
                }
            }
            ClientFrame::Restrict { allow } => self.on_restrict(conn, &allow),
            ClientFrame::Rotate { expect_gen, next_auth_public: next, proof, allow, epoch_envelope } => {
                let allow = allow.into_vec();
                self.on_rotate(conn, Rotation { expect_gen, next, proof, allow, epoch_envelope });
            }
            ClientFrame::SlotPut { data } => {
                if let Some(device) = self.device(conn) {
                    self.slots.insert(device, data);
                }
            }
            ClientFrame::Ack { cursor, receipt } => self.on_ack(conn, cursor, receipt),
            ClientFrame::Truncate { below } => self.on_truncate(conn, below),
            ClientFrame::Whisper { data } => self.on_whisper(conn, data),
            ClientFrame::Ping {} => self.send(conn, &RelayFrame::Pong {}),
            _ => {}
        }
    }

    /// Whoever still reads another history is told.
    fn end_readers_of(&mut self, old: Timeline, current: Timeline) {
        if old == current {
            return;
        }
        let readers = self.sessions.iter_mut().filter(|(_, session)| session.next.is_some());
        let stale: Vec<Conn> = readers
            .filter(|(_, session)| session.timeline != current)
            .map(|(conn, session)| {
                session.next = None;
                *conn
            })
            .collect();
        for conn in stale {
            self.fail(conn, ErrorCode::Diverged);
        }
    }

    fn on_hello(&mut self, conn: Conn, who: &Who, create: bool) {
        let Some(Session { phase: Some(Phase::Open(stream)), .. }) = self.sessions.get(&conn) else { return };
        match who {
            Who::Guest {} => self.send(conn, &welcome(None, Bytes::new(), Vec::new(), self.envelope_bytes_max)),
            Who::Member { auth_public, signature } => {
                assert!(hello::verify(auth_public, &stream.handshake_hash(), create, signature), "members sign");
                if let Some(session) = self.sessions.get_mut(&conn) {
                    session.founds = create.then_some(*auth_public);
                }
                match &self.log {
                    _ if self.squatted.contains(auth_public) => self.supersede(conn, ErrorCode::DeviceRevoked),
                    // Announced by somebody, and not made yet.
                    Some(log) if log.timeline.is_zero() && create => self.welcome(conn),
                    Some(log) if log.timeline.is_zero() => self.fail(conn, ErrorCode::UnknownLog),
                    Some(log) if log.auth == *auth_public => self.admit(conn),
                    None if create => {
                        self.log = Some(Log {
                            auth: *auth_public,
                            auth_gen: 0,
                            older: BTreeSet::new(),
                            allow: BTreeSet::new(),
                            restricted: false,
                            timeline: Timeline::ZERO,
                            entries: Vec::new(),
                            receipts: BTreeMap::new(),
                            acked: BTreeMap::new(),
                            floor: 1,
                            kept_from: 1,
                            floors: Vec::new(),
                        });
                        self.admit(conn);
                    }
                    _ if self.forgot_names => self.fail(conn, ErrorCode::UnknownLog),
                    Some(log) if log.older.contains(auth_public) => self.supersede(conn, ErrorCode::DeviceRevoked),
                    _ => self.supersede(conn, ErrorCode::UnknownLog),
                }
            }
            Who::Device {} => self.supersede(conn, ErrorCode::UnknownLog),
        }
    }

    fn welcome(&mut self, conn: Conn) {
        let state = self.log.as_ref().map(|log| LogState {
            timeline: log.timeline,
            auth_gen: log.auth_gen,
            head: log.entries.len() as u64,
            head_blob_id: log.entries.last().map_or(BlobId::ZERO, |stored| stored.blob_id),
            floor: log.floor,
        });
        if let Some(session) = self.sessions.get_mut(&conn) {
            // Who is to make the log hears nothing of others before it has.
            session.member = state.as_ref().is_some_and(|state| !state.timeline.is_zero());
            session.auth_gen = state.as_ref().map_or(0, |state| state.auth_gen);
            session.superseded = false;
        }
        let again = self.sessions.get(&conn).is_some_and(|session| session.next.is_some());
        let allow = self.log.iter().flat_map(|log| log.allow.iter().copied()).collect();
        let slot = self.slot_of(conn);
        self.send(conn, &welcome(state, slot, allow, self.envelope_bytes_max));
        if !again {
            self.show_receipts(conn);
        }
    }

    fn on_push(&mut self, conn: Conn, push: u64, envelopes: Vec<Bytes>, resume: bool) {
        if !self.sessions.get(&conn).is_some_and(|session| session.member) {
            return;
        }
        let refuse_at = (self.refuse_pushes > 0).then_some(self.refuse_index);
        self.refuse_pushes = self.refuse_pushes.saturating_sub(1);
        if self.keeps_received {
            self.received.extend(envelopes.iter().cloned());
        }
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let current = self.log.as_ref().is_some_and(|log| log.auth_gen == session.auth_gen);
        if !current && !session.superseded && self.defect != Some(Defect::RelayKeepsRemoved) {
            self.tell_superseded(conn);
        }
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.refused &= !resume || session.superseded;
        let log = self.log.as_mut().expect("a member has a log");
        let mut results = Vec::new();
        for (index, envelope) in envelopes.into_iter().enumerate() {
            if refuse_at == Some(index) && !session.refused {
                session.refused = true;
                self.refusals += 1;
                results.push(PushResult::Refused { code: ErrorCode::StorageUnavailable.number() });
                continue;
            }
            if session.refused {
                results.push(PushResult::Refused { code: ErrorCode::OutOfOrder.number() });
                continue;
            }
            let id = blob_id(&envelope);
            let known = log.entries.iter().rposition(|stored| stored.blob_id == id);
            let known = known.filter(|index| *index as u64 + 1 >= log.kept_from);
            let head = log.entries.len();
            if self.defect == Some(Defect::RelayAcksWithoutStoring) && known.is_none() && head % 10 == 9 {
                results.push(PushResult::Stored { cursor: head as u64 + 1 });
                continue;
            }
            let known = known.filter(|_| self.defect != Some(Defect::RelayStoresTwice));
            // Bit rot heals in place.
            let heals = self.defect != Some(Defect::RelayKeepsRot);
            if let Some(stored) = known.filter(|_| heals).and_then(|index| log.entries.get_mut(index)) {
                stored.envelope = Some(envelope.clone());
            }
            let index = known.unwrap_or_else(|| {
                log.entries.push(Stored { blob_id: id, envelope: Some(envelope) });
                head
            });
            let cursor = index as u64 + 1;
            session.own.insert(cursor);
            results.push(PushResult::Stored { cursor });
        }
        if self.lose_acks > 0 {
            self.lose_acks -= 1;
            self.hang_ups.push(conn);
        } else if !self.swallow_acks {
            self.send(conn, &RelayFrame::PushAck { push, results: List::try_from(results).expect("as many as asked") });
        }
    }

    /// Brings every subscriber up to the head.
    fn deliver(&mut self) {
        let Some(log) = self.log.as_ref().filter(|_| !self.hangs) else { return };
        let head = log.entries.len() as u64;
        let behind: Vec<Conn> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.next.is_some_and(|next| next <= head || !session.caught_up))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in behind {
            self.deliver_to(conn, head);
        }
    }

    fn deliver_to(&mut self, conn: Conn, head: u64) {
        let (Some(log), Some(session)) = (&self.log, self.sessions.get_mut(&conn)) else { return };
        let Some(next) = session.next else { return };
        if next < log.floor {
            // The floor has overtaken it.
            session.next = None;
            return self.fail(conn, ErrorCode::BelowFloor);
        }
        let mut items = Vec::new();
        for cursor in next..=head {
            let stored = &log.entries[cursor as usize - 1];
            let blob_id = stored.blob_id;
            let item = match &stored.envelope {
                _ if session.own.contains(&cursor) && !self.no_stubs => EntryItem::Own { cursor, blob_id },
                Some(envelope) => EntryItem::Stored { cursor, blob_id, envelope: envelope.clone() },
                None => {
                    let blob_id = Some(blob_id).filter(|id| !id.is_zero());
                    EntryItem::Absent { cursor, blob_id, reason: AbsentReason::Lost {} }
                }
            };
            match self.defect {
                Some(Defect::RelaySkipsEntry) if cursor % 10 == 9 => {}
                Some(Defect::RelayDeliversTwice) if cursor % 10 == 9 => items.extend([item.clone(), item]),
                _ => items.push(item),
            }
        }
        session.next = Some(head + 1).filter(|_| session.follow);
        self.shown += items.len() as u64;
        let first = !std::mem::replace(&mut session.caught_up, true);
        let bytes_max = PAGE_BYTES_MAX.min(self.envelope_bytes_max as usize);
        for page in pages(items, self.page_items, bytes_max) {
            let items = List::try_from(page).expect("a page is short");
            self.send(conn, &RelayFrame::Entries { items });
        }
        if first && !self.withholds_end {
            self.send(conn, &RelayFrame::CaughtUp { head });
        }
    }

    fn free_mailbox(&mut self, len: usize) -> MailboxId {
        loop {
            let mut id = [0; MailboxId::LONG_LEN];
            self.rng.fill_bytes(&mut id);
            // 15 bits of a short one.
            id[0] &= 0x7f;
            let id = MailboxId::from_slice(&id[..len]).expect("one of the two lengths");
            if !self.mailboxes.contains_key(&id) {
                return id;
            }
        }
    }

    /// Ten minutes are over for every mailbox there is.
    pub fn expire_mailboxes(&mut self) {
        for (mailbox, (inviter, joiner)) in std::mem::take(&mut self.mailboxes) {
            for party in [Some(inviter), joiner].into_iter().flatten() {
                if let Some(session) = self.sessions.get_mut(&party) {
                    session.mailbox.take_if(|open| *open == mailbox);
                }
                self.send(party, &RelayFrame::MailboxClosed {});
            }
        }
    }

    fn enter_mailbox(&mut self, conn: Conn, mailbox: MailboxId) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.mailbox = Some(mailbox.clone());
        }
        let salt = Bytes::from_static(&[1; 16]);
        self.send(conn, &RelayFrame::MailboxOpened { mailbox, salt, expires_in_ms: 600_000 });
    }

    fn other_party(&self, conn: Conn) -> Option<Conn> {
        let mailbox = self.sessions.get(&conn)?.mailbox.as_ref()?;
        let (inviter, joiner) = self.mailboxes.get(mailbox)?;
        if *inviter == conn { *joiner } else { Some(*inviter) }
    }

    fn close_mailbox(&mut self, mailbox: &MailboxId, by: Conn) {
        if let Some((inviter, joiner)) = self.mailboxes.remove(mailbox) {
            for party in [Some(inviter), joiner].into_iter().flatten().filter(|party| *party != by) {
                if let Some(session) = self.sessions.get_mut(&party) {
                    session.mailbox = None;
                }
                self.send(party, &RelayFrame::MailboxClosed {});
            }
        }
    }
}

/// Splits what is to be delivered: by count, and so that no frame becomes longer than one may be.
fn pages(items: Vec<EntryItem>, items_max: usize, bytes_max: usize) -> Vec<Vec<EntryItem>> {
    let mut pages = Vec::new();
    let mut page = Vec::new();
    let mut bytes = 0;
    for item in items {
        let item_bytes = if let EntryItem::Stored { envelope, .. } = &item { envelope.len() } else { 0 };
        if !page.is_empty() && (page.len() == items_max || bytes + item_bytes > bytes_max) {
            pages.push(std::mem::take(&mut page));
            bytes = 0;
        }
        bytes += item_bytes;
        page.push(item);
    }
    if !page.is_empty() {
        pages.push(page);
    }
    pages
}

fn welcome(log: Option<LogState>, slot: Bytes, allow: Vec<NoisePublicKey>, envelope_bytes_max: u32) -> RelayFrame {
    RelayFrame::Welcome {
        minor: 0,
        log,
        limits: Limits {
            envelope_bytes_max,
            group_bytes_max: u64::MAX,
            push_bytes_in_flight_max: 4 * 1024 * 1024,
            idle_days_max: 0,
        },
        usage: Usage { group_bytes: 0 },
        slot,
        allow: List::try_from(allow).expect("a test has few devices"),
    }
}
