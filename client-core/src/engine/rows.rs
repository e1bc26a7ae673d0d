//! The local database, row by row: keys, formats, and what a step writes.
//!
//! One ordered key-value space, first byte = table:
//!
//! | table | key behind the byte | value | loaded at start |
//! |---|---|---|---|
//! | `0x01` hot | one byte, then sub-key | small state | yes |
//! | `0x02` outbox | seq u64be | [`OutboxRow`] | on demand, in windows |
//! | `0x03` mirror | position ‖ ordinal u64be of its last record | a segment of [`super::mirror`] | never; read by the app, kept for repair |
//! | `0x04` index | DeviceId ‖ last seq u64be | a run of [`super::mirror`] | only to judge an anomaly |
//! | `0x05` epoch envelopes | number u64be | the envelope | to repeat a rotation at a relay that missed it, and for a snapshot |
//! | `0x06` control | [`ControlKey`] | the envelope | for a snapshot |
//!
//! Values that hold secrets or blobs not yet sealed are sealed under the store key, with their row
//! key as associated data.

use bytes::Bytes;
use rand_core::CryptoRng;
use zerok_sync_protocol::id::RelayTag;
use zerok_sync_protocol::wire::{self, Wire};
use zerok_sync_protocol::{BlobId, EpochId, NoisePublicKey, Timeline, wire_enum, wire_struct};

use super::connection::random;
use super::mirror::Place;
use crate::certificate::JoinCertificate;
use crate::content::{Kind, Observed, SeenHash, SeenItem};
use crate::error::OpenError;
use crate::event::IntegrityEvent;
use crate::id::DeviceId;
use crate::io::{Batch, RelayAddress};
use crate::keyring::Keyring;
use crate::keys::{EpochSecret, MemberKeys, MembershipSeed, PaperNoiseKey, StoreKey};
use crate::observed::FoldHash;
use crate::pairing::{GrantedMember, HistoryStart};
use crate::recovery::words::RecoveryWords;
use crate::store_seal;

/// Format of this file; a newer one is refused, never guessed at.
pub(crate) const FORMAT: u32 = 1;

const HOT: u8 = 0x01;
const OUTBOX: u8 = 0x02;
pub(super) const MIRROR: u8 = 0x03;
const INDEX: u8 = 0x04;
const EPOCH_ENVELOPES: u8 = 0x05;
pub(super) const CONTROL: u8 = 0x06;

/// First key of all.
pub(crate) const ALL_FROM: &[u8] = &[HOT];
/// Key behind the last of all.
pub(crate) const ALL_TO: &[u8] = &[0xff];

/// First hot key.
pub(crate) const HOT_FROM: &[u8] = &[HOT];
/// Key behind the last hot one.
pub(crate) const HOT_TO: &[u8] = &[HOT + 1];

/// Kinds of hot rows (second key byte).
pub(crate) mod hot {
    macro_rules! kinds {
        ($($(#[$doc:meta])* $name:ident = $byte:literal;)*) => {
            $($(#[$doc])* pub(crate) const $name: u8 = $byte;)*
            /// All of them.
            #[cfg(test)]
            pub(super) const ALL: &[u8] = &[$($name),*];
        };
    }

    kinds! {
        /// [`super::FormatRow`].
        FORMAT = b'f';
        /// [`super::IdentityRow`], sealed.
        IDENTITY = b'i';
        /// [`super::GroupRow`].
        GROUP = b'g';
        /// [`super::ProgressRow`].
        PROGRESS = b'p';
        /// [`super::RelayRow`] by URL.
        RELAY = b'u';
        /// [`super::JoiningRow`], until a new member has caught up with its inviter.
        JOINING = b'j';
        /// [`super::super::bringing::BringingRow`], while entries of a former group are to be queued.
        BRINGING = b'b';
        /// [`super::MemberRow`] by `DeviceId`.
        MEMBER = b'm';
        /// [`super::ChainRow`] by `DeviceId`.
        CHAIN = b'c';
        /// [`super::PartsRow`] by `DeviceId`, until the entry behind the parts.
        PARTS = b'q';
        /// [`super::SnapshotRow`], the newest that is as this device has it.
        SNAPSHOT = b's';
        /// [`super::SnapshotRow`] by `DeviceId` ‖ seq, until it was compared.
        CANDIDATE = b'v';
        /// [`crate::pairing::SnapshotRef`], until the snapshot was found that this device begins with.
        START = b'a';
        /// [`super::SnapshotRow`] that this device began with.
        BASE = b'z';
        /// [`super::HeldRow`] by `DeviceId` ‖ seq.
        HELD = b'h';
        /// [`super::HeldRow`] by `DeviceId` ‖ seq ‖ `BlobId`: without a good signature of its own.
        UNSIGNED = b't';
        /// [`super::EpochRow`] by number, from genesis on.
        EPOCH = b'e';
        /// [`super::RotationRow`], sealed, while a change of keys is wanted.
        ROTATION = b'r';
        /// [`super::RemovedRow`] by `DeviceId`.
        REMOVED = b'd';
        /// [`super::LeavingRow`], from when this device wants to leave.
        LEAVING = b'l';
        /// [`super::EarlyEpochRow`] by BlobId: an epoch that came before what it follows.
        EARLY_EPOCH = b'y';
        /// [`super::GrantedRow`] by `DeviceId`, until the device arrives or the keys change.
        GRANTED = b'n';
        /// [`super::PaperRow`], sealed: recovery words on their way, or what their slot takes.
        PAPER = b'w';
        /// [`super::super::receipts::KnownRow`] by `DeviceId`.
        KNOWN = b'k';
        /// [`crate::event::IntegrityEvent`] by number.
        FINDING = b'x';
    }
}

wire_struct! {
    /// What wrote this database.
    pub struct FormatRow {
        /// [`FORMAT`].
        format: u32,
    }
}

wire_struct! {
    /// The membership's secrets; sealed under the store key.
    pub struct IdentityRow {
        /// [`crate::keys::MembershipSeed`].
        seed: Bytes,
        /// Exact bytes of the genesis body.
        genesis: Bytes,
        /// Epoch secrets, oldest first; the last is the current one.
        epoch_secrets: Vec<EpochSecret>,
        /// The one new entries are sealed under.
        current_epoch: EpochId,
    }
}

wire_struct! {
    /// The group as this device knows it without reading the log.
    pub struct GroupRow {
        /// This device's name.
        device_name: String,
        /// Which entry's list of relays is in force; none: the one this device began with.
        relays_by: Option<RelaysBy>,
        /// A list that was read by a new member, who knows the newest from its inviter until it has
        /// read as far.
        relays_read: Option<Bytes>,
    }
}

wire_struct! {
    /// An entry's place in the total order.
    pub struct RelaysBy {
        /// Lamport time.
        lamport: u64,
        /// Who wrote it.
        sender: DeviceId,
        /// Its place in that device's chain.
        seq: u64,
    }
}

wire_struct! {
    /// An epoch that waits for what it rests on.
    pub struct EarlyEpochRow {
        /// Where it stood.
        held: HeldRow,
        /// Its secret was in an accepted keyring before: somebody has united it already.
        united: bool,
    }
}

wire_struct! {
    /// One of the group's relays. Cursor-like fields mean nothing outside its `timeline`.
    pub struct RelayRow {
        /// Its place among them; the home relay's is 0.
        rank: u32,
        /// Origin.
        url: String,
        /// Noise key, once met.
        key: Option<NoisePublicKey>,
        /// Whether the key came with a link or from a person, rather than at first contact.
        key_given: bool,
        /// The log has never stood there, and this device may make it.
        creation: Option<CreationRow>,
        /// History being read.
        timeline: Timeline,
        /// Highest cursor stored.
        cursor: u64,
        /// Blob id there.
        blob_id_at_cursor: BlobId,
        /// Fold of everything up to `cursor`.
        observed: FoldHash,
        /// Cursor of the last pair put into an own entry.
        observed_said: u64,
        /// Highest own seq that it acknowledged, with all before it.
        acked_seq: u64,
        /// Earlier timelines there, as far as this one goes on from them.
        past: Vec<PastRow>,
        /// Timelines in which what looks wrong is history: an incident entry tells of it.
        incidents: Vec<Timeline>,
        /// Timelines it left by its own account, and how far they had been read.
        left: Vec<PastRow>,
        /// What others told of it: timelines it broke off, and how far they are still in common.
        heard: Vec<PastRow>,
        /// It was caught in the timeline being read, and the group is still to be told.
        caught: Option<CaughtRow>,
        /// Timelines of which this device has told that the relay went back in them.
        told: Vec<Timeline>,
        /// What of each chain was read there in this timeline.
        read: Vec<ReadRun>,
        /// It holds everything of the mirror up to this position …
        whole_position: u64,
        /// … and ordinal.
        whole_ordinal: u64,
        /// It lost what it had: nothing new is pushed until the rest is back.
        rebuilding: bool,
        /// Epochs read there.
        epochs_read: Vec<EpochRead>,
        /// Epochs whose envelope is known to stand there in this timeline, read or not.
        epochs_there: Vec<BlobId>,
        /// The group was not told of it yet: it is met first.
        unlisted: bool,
        /// What it asks for before it makes a log.
        token: Option<Bytes>,
        /// Entries with a lower cursor are not served there, by its last word.
        floor: u64,
        /// One that no snapshot stands for: that was told, and what it withheld put back.
        told_floor: u64,
        /// What snapshots that are as this device has it stand for there.
        covered: Option<CoveredRow>,
    }
}

wire_struct! {
    /// How far snapshots stand for one relay's log.
    pub struct CoveredRow {
        /// Everything up to this cursor …
        cursor: u64,
        /// … at which this stands …
        blob_id: BlobId,
        /// … and up to which the log folds to this.
        hash: FoldHash,
        /// Where each chain stands there.
        heads: Vec<SeenItem>,
        /// The epochs up to there.
        epochs: Vec<BlobId>,
        /// Who made the snapshot: …
        sender: DeviceId,
        /// … of that device's entries from this one …
        first_seq: u64,
        /// … to this one, …
        seq: u64,
        /// … the manifest.
        manifest: BlobId,
    }
}

wire_struct! {
    /// What making a log takes.
    pub struct CreationRow {
        /// Stands at cursor 1.
        epoch_envelope: Bytes,
        /// What a relay with restricted creation asks for.
        token: Option<Bytes>,
    }
}

wire_struct! {
    /// An epoch's envelope, and the timeline in which it was read last.
    pub struct EpochRead {
        /// Of the envelope.
        blob_id: BlobId,
        /// Of the relay.
        timeline: Timeline,
    }
}

wire_struct! {
    /// A part of an earlier timeline.
    pub struct PastRow {
        /// Which.
        timeline: Timeline,
        /// Up to this cursor.
        to_cursor: u64,
    }
}

wire_struct! {
    /// A relay went back in time without saying so.
    pub struct CaughtRow {
        /// The history it broke off.
        old: Timeline,
        /// Highest cursor this device had read of it.
        from_cursor: u64,
        /// Highest cursor still in common.
        to_cursor: u64,
    }
}

wire_struct! {
    /// One device's chain at a relay.
    pub struct ReadRun {
        /// Whose.
        device: DeviceId,
        /// First seq read in this timeline; 0 before the first.
        from_seq: u64,
        /// Last seq read, with all in between.
        to_seq: u64,
        /// Everything up to this seq is known to stand there, read or not.
        there_seq: u64,
        /// Highest seq that was shown as a stub for what this device had pushed: of that it has not seen
        /// the bytes there.
        stub_seq: u64,
    }
}

wire_struct! {
    /// How far this device has come, whatever the relays.
    pub struct ProgressRow {
        /// Highest position given to an app entry.
        position: u64,
        /// Highest position the app has processed.
        processed: u64,
        /// Envelopes in the mirror.
        ordinal: u64,
        /// Highest Lamport time stored or used.
        lamport: u64,
        /// Highest own seq queued (durable here).
        queued_seq: u64,
        /// Highest own seq sealed (and attempted).
        sealed_seq: u64,
        /// Its blob id: the next entry's `prev`.
        sealed_blob_id: BlobId,
        /// Highest own seq that one relay at least acknowledged.
        acked_seq: u64,
        /// Bytes of blobs queued and not acknowledged.
        outbox_bytes: u64,
        /// Number of the last finding.
        findings: u64,
        /// Envelope of the epoch last accepted from the log; zero before genesis was read.
        epoch_blob_id: BlobId,
        /// The log holds own entries that this device did not write: it writes no more.
        copied: bool,
        /// Position of the newest app entry that another device wrote.
        others_position: u64,
        /// Bytes of envelopes accepted since the newest snapshot.
        log_bytes: u64,
        /// What a control archive would take now.
        control_bytes: u64,
        /// Position of the snapshot that took the place of what was here before; 0 for none.
        reset_position: u64,
        /// Own entries up to this one that come behind it are news to the app.
        reset_seq: u64,
    }
}

wire_struct! {
    /// What a new member must find in the log before it pushes.
    pub struct JoiningRow {
        /// Heads the inviter granted.
        frontier: Vec<SeenItem>,
        /// Who let it in.
        inviter: DeviceId,
        /// What the inviter was shown of the log, to be compared with what this device is shown.
        observed: Option<Observed>,
        /// Who is there by the inviter's word: shown until the log says it.
        members: Vec<GrantedMember>,
        /// An epoch that must be among the log's: the anchor's, after a restore. Zero for none.
        epoch_blob_id: BlobId,
    }
}

wire_struct! {
    /// A device of the group, as established by sealed data.
    pub struct MemberRow {
        /// Its public keys.
        keys: MemberKeys,
        /// Its name.
        name: String,
        /// What made it a member; nothing for the founder.
        certificate: Option<JoinCertificate>,
        /// Its clock when it joined, Unix milliseconds; information only.
        joined_at_ms: u64,
        /// It has said that it leaves: the next change of keys removes it.
        leaving: bool,
        /// It is no device but recovery words.
        paper: bool,
    }
}

wire_struct! {
    /// A device that is no member any more, and the end of its chain.
    pub struct RemovedRow {
        /// What it was called.
        name: String,
        /// Highest seq of it that counts: what the remover had read, or what a remaining member has
        /// named in `seen` since.
        last_seq: u64,
        /// That entry.
        last_hash: SeenHash,
        /// The epoch whose certificate made it a member; zero for the founder, and where it never
        /// was one here.
        joined_in: EpochId,
    }
}

wire_struct! {
    /// A device that was handed the group's keys here and has not been heard of in the log.
    pub struct GrantedRow {
        /// What it calls itself.
        name: String,
    }
}

wire_struct! {
    /// This device leaves, or has left.
    pub struct LeavingRow {
        /// Seq of the entry that says so, its last.
        seq: u64,
    }
}

wire_struct! {
    /// An epoch that was accepted. Its envelope lies in a table of its own.
    pub struct EpochRow {
        /// Which.
        id: EpochId,
        /// Its envelope.
        blob_id: BlobId,
        /// The one before; zero for genesis.
        previous: EpochId,
        /// Who started it.
        author: DeviceId,
        /// The Noise keys that its envelope tells relays to admit.
        allow: Vec<NoisePublicKey>,
        /// The members it begins with.
        members: Vec<DeviceId>,
        /// Another one has begun since: nobody joins in it any more.
        closed: bool,
    }
}

wire_struct! {
    /// A change of keys that is wanted, stored before the first word about it to a relay; sealed
    /// under the store key.
    pub struct RotationRow {
        /// Who is removed by it; nobody: only the keys change.
        remove: Vec<DeviceId>,
        /// The epoch it was asked for in: any later one is a change of keys.
        asked_in: EpochId,
        /// What was sent, or is about to be.
        sealed: Option<SealedRotation>,
    }
}

wire_struct! {
    /// A rotation whose bytes are fixed: a relay that has it answers as it did the first time.
    pub struct SealedRotation {
        /// The next epoch's secret.
        secret: EpochSecret,
        /// The epoch it follows.
        previous: EpochId,
        /// Its envelope's id.
        blob_id: BlobId,
        /// Its envelope.
        envelope: Bytes,
        /// Noise keys of the devices that stay.
        allow: Vec<NoisePublicKey>,
    }
}

wire_enum! {
    /// Recovery words on their way to being good; sealed under the store key.
    pub enum PaperRow {
        /// To become a member, and to be wrapped the next epoch.
        0 => Enrolling {
            /// The words.
            words: RecoveryWords,
            /// The epoch its first entry is sealed under; zero before it is sealed.
            epoch: EpochId,
            /// Its first entry: these bytes never change within the epoch.
            envelope: Bytes,
        },
        /// A member with a wrap; its slot is written wherever it is not known to stand. The words are
        /// forgotten.
        1 => Anchored {
            /// What that takes.
            anchor: AnchorBody,
            /// Whether the other devices have been given it.
            announced: bool,
        },
    }
}

wire_struct! {
    /// What any device needs to write a paper's slot, also as the body of an `ANCHOR` entry by who
    /// made the words.
    pub struct AnchorBody {
        /// The paper.
        device: DeviceId,
        /// Its Noise static: opens the sessions that may write its slot, and nothing else.
        noise: PaperNoiseKey,
        /// [`crate::recovery::anchor`], sealed under the words.
        slot: Bytes,
        /// Where it is known to stand.
        stands: Vec<AnchorStands>,
    }
}

wire_struct! {
    /// A relay that has shown the anchor.
    pub struct AnchorStands {
        /// Which.
        relay: NoisePublicKey,
        /// In which of its histories: another one may have lost it.
        timeline: Timeline,
    }
}

wire_struct! {
    /// The verified head of one device's chain.
    pub struct ChainRow {
        /// Highest seq stored without a hole before it.
        seq: u64,
        /// Its blob id.
        blob_id: BlobId,
        /// Highest seq of this device named in an own entry's `seen`.
        said_seq: u64,
        /// Its clock when it wrote that entry, Unix milliseconds; information only.
        sent_at_ms: u64,
    }
}

wire_struct! {
    /// Parts of a batch at the end of a device's chain, and where the first stands in the mirror.
    pub struct PartsRow {
        /// How many.
        parts: u64,
        /// Bytes of their bodies.
        bytes: u64,
        /// Of the first, in the mirror …
        position: u64,
        /// … with this.
        ordinal: u64,
    }
}

wire_struct! {
    /// A snapshot, and where its parts begin in the mirror.
    pub struct SnapshotRow {
        /// Who made it.
        sender: DeviceId,
        /// Its manifest's place in that device's chain.
        seq: u64,
        /// The manifest's envelope.
        blob_id: BlobId,
        /// The manifest, as it came.
        manifest: Bytes,
        /// Highest Lamport time of what it covers.
        lamport: u64,
        /// Bytes of all its parts.
        bytes: u64,
        /// Of the first part, in the mirror …
        position: u64,
        /// … with this.
        ordinal: u64,
    }
}

/// Where an entry that says who is in the group stands in the control archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ControlKey {
    /// Number of the epoch in which it was accepted.
    pub(crate) epoch: u64,
    /// Its place in this device's own order.
    pub(crate) ordinal: u64,
    /// Who wrote it …
    pub(crate) sender: DeviceId,
    /// … as which of its entries.
    pub(crate) seq: u64,
}

wire_struct! {
    /// An authenticated entry that waits for the one before it.
    pub struct HeldRow {
        /// The relay it was read from.
        relay: RelayTag,
        /// The history there.
        timeline: Timeline,
        /// Where that had it.
        cursor: u64,
        /// Fold up to there.
        observed: FoldHash,
        /// Its bytes.
        envelope: Bytes,
    }
}

wire_enum! {
    /// An own entry on its way to the relay.
    pub enum OutboxRow {
        /// Not yet sealed; the plaintext lies under the store key.
        0 => Waiting {
            /// Kind of the entry.
            kind: u16,
            /// [`store_seal`]ed body.
            body: Bytes,
        },
        /// Sealed: these bytes never change again.
        1 => Sealed {
            /// The envelope.
            envelope: Bytes,
        },
    }
}

impl RelayRow {
    /// A relay of which nothing was read yet.
    pub(crate) fn new(rank: u32, relay: RelayAddress, creation: Option<CreationRow>) -> Self {
        Self {
            rank,
            key_given: relay.key.is_some(),
            key: relay.key,
            url: relay.url,
            creation,
            timeline: Timeline::ZERO,
            cursor: 0,
            blob_id_at_cursor: BlobId::ZERO,
            observed: FoldHash::start(),
            observed_said: 0,
            acked_seq: 0,
            past: Vec::new(),
            incidents: Vec::new(),
            left: Vec::new(),
            heard: Vec::new(),
            caught: None,
            told: Vec::new(),
            read: Vec::new(),
            whole_position: 0,
            whole_ordinal: 0,
            rebuilding: false,
            epochs_read: Vec::new(),
            epochs_there: Vec::new(),
            unlisted: false,
            token: None,
            floor: 1,
            told_floor: 0,
            covered: None,
        }
    }

    /// It holds everything of the mirror up to here.
    pub(crate) fn whole_to(&self) -> Place {
        Place { position: self.whole_position, ordinal: self.whole_ordinal }
    }

    pub(crate) fn set_whole_to(&mut self, place: Place) {
        (self.whole_position, self.whole_ordinal) = (place.position, place.ordinal);
    }

    /// Whether what was read at this cursor of this timeline is a part of the current one.
    pub(crate) fn shows(&self, timeline: Timeline, cursor: u64) -> bool {
        if timeline == self.timeline {
            return cursor <= self.cursor;
        }
        self.past.iter().any(|past| past.timeline == timeline && cursor <= past.to_cursor)
    }

    /// Its row's key.
    pub(crate) fn row_key(&self) -> Vec<u8> {
        hot_key(hot::RELAY, self.url.as_bytes())
    }
}

/// Whether it is the key of a row at all.
pub(crate) fn is_row(key: &[u8]) -> bool {
    (ALL_FROM..ALL_TO).contains(&key)
}

/// Whether it is loaded at start.
pub(crate) fn is_hot(key: &[u8]) -> bool {
    (HOT_FROM..HOT_TO).contains(&key)
}

/// Key of a hot row.
pub(crate) fn hot_key(kind: u8, sub: &[u8]) -> Vec<u8> {
    [&[HOT, kind], sub].concat()
}

/// Key of a snapshot that is still to be compared.
pub(crate) fn candidate_key(sender: &DeviceId, seq: u64) -> Vec<u8> {
    [&[HOT, hot::CANDIDATE][..], &sender.0, &seq.to_be_bytes()].concat()
}

/// Key of a hot row about one entry of one device.
pub(crate) fn held_key(sender: &DeviceId, seq: u64) -> Vec<u8> {
    [&[HOT, hot::HELD][..], &sender.0, &seq.to_be_bytes()].concat()
}

/// Key of a hot row about an entry that may be one of several for its place.
pub(crate) fn unsigned_key(sender: &DeviceId, seq: u64, blob_id: &BlobId) -> Vec<u8> {
    [&[HOT, hot::UNSIGNED][..], &sender.0, &seq.to_be_bytes(), &blob_id.0].concat()
}

/// Key of an outbox row.
pub(crate) fn outbox_key(seq: u64) -> Vec<u8> {
    numbered(OUTBOX, seq)
}

/// Key of the index run that ends with this entry.
pub(crate) fn index_key(sender: &DeviceId, seq: u64) -> Vec<u8> {
    [&[INDEX][..], &sender.0, &seq.to_be_bytes()].concat()
}

/// Key of an accepted epoch.
pub(crate) fn epoch_key(number: u64) -> Vec<u8> {
    hot_key(hot::EPOCH, &number.to_be_bytes())
}

/// Key of an epoch that came early.
pub(crate) fn early_epoch_key(blob_id: &BlobId) -> Vec<u8> {
    hot_key(hot::EARLY_EPOCH, &blob_id.0)
}

/// Key of an accepted epoch's envelope.
pub(crate) fn epoch_envelope_key(number: u64) -> Vec<u8> {
    numbered(EPOCH_ENVELOPES, number)
}

/// Keys of all that a control archive is made of: epoch envelopes, then what was said in each.
pub(crate) fn control_range() -> (Vec<u8>, Vec<u8>) {
    (vec![EPOCH_ENVELOPES], vec![CONTROL + 1])
}

/// The seq in the key of an index run of this device's.
pub(crate) fn index_seq_of(key: &[u8], sender: &DeviceId) -> Option<u64> {
    let seq = key.strip_prefix(&[INDEX])?.strip_prefix(&sender.0)?;
    Some(u64::from_be_bytes(seq.try_into().ok()?))
}

/// The seq in an outbox row's key.
pub(crate) fn outbox_seq_of(key: &[u8]) -> Option<u64> {
    match key.split_first() {
        Some((&OUTBOX, number)) => Some(u64::from_be_bytes(number.try_into().ok()?)),
        _ => None,
    }
}

fn numbered(table: u8, number: u64) -> Vec<u8> {
    [&[table][..], &number.to_be_bytes()].concat()
}

/// Decodes a row's value.
pub(crate) fn decode<T: Wire>(value: &[u8], what: &'static str) -> Result<T, OpenError> {
    wire::decode(value).map_err(|_| OpenError::Corrupt(what))
}

/// Everything a storage holds on the first day of a membership.
pub(crate) struct InitialState<'a> {
    pub(crate) seed: &'a MembershipSeed,
    /// Exact bytes of the genesis body.
    pub(crate) genesis: Bytes,
    pub(crate) keyring: &'a Keyring,
    /// The home relay first.
    pub(crate) relays: Vec<RelayAddress>,
    pub(crate) device_name: String,
    /// Founder: what `Create` needs.
    pub(crate) founding: Option<Founding>,
    /// Joiner: its certificate and what it must find before it pushes.
    pub(crate) joining: Option<(JoinCertificate, JoiningRow)>,
    /// Joiner: where the log at one relay starts, if entries are gone.
    pub(crate) history_start: Option<(HistoryStart, String)>,
}

/// What only the founder starts with.
pub(crate) struct Founding {
    pub(crate) token: Option<Bytes>,
    pub(crate) genesis_envelope: Bytes,
    pub(crate) genesis_blob_id: BlobId,
}

/// The batch that turns an empty storage into a member's.
pub(crate) fn initial_rows(state: InitialState<'_>, store_key: &StoreKey, rng: &mut impl CryptoRng) -> Batch {
    let mut batch = Batch::default();
    batch.put(hot_key(hot::FORMAT, &[]), wire::encode(&FormatRow { format: FORMAT }));

    let identity = IdentityRow {
        seed: Bytes::copy_from_slice(state.seed.expose()),
        genesis: state.genesis,
        epoch_secrets: state.keyring.secrets().cloned().collect(),
        current_epoch: state.keyring.current().id,
    };
    put_sealed(&mut batch, hot_key(hot::IDENTITY, &[]), &wire::encode(&identity), store_key, rng);

    let mut progress = ProgressRow { ..ProgressRow::empty() };
    if let Some(founding) = &state.founding {
        // The genesis envelope is the founder's seq 1 and travels in `Create`.
        progress.sealed_seq = 1;
        progress.acked_seq = 1;
        progress.sealed_blob_id = founding.genesis_blob_id;
        progress.lamport = 1;
        // Genesis holds keys only; the founder introduces itself right behind it.
        let name = Bytes::copy_from_slice(state.device_name.as_bytes());
        batch.put(outbox_key(2), waiting(store_key, 2, Kind::RENAME, &name, rng));
        progress.queued_seq = 2;
        progress.outbox_bytes = name.len() as u64;
    }
    if let Some((certificate, joining)) = &state.joining {
        let body = certificate.to_bytes();
        batch.put(outbox_key(1), waiting(store_key, 1, Kind::JOIN, &body, rng));
        progress.queued_seq = 1;
        progress.outbox_bytes = body.len() as u64;
        batch.put(hot_key(hot::JOINING, &[]), wire::encode(joining));
    }
    batch.put(hot_key(hot::PROGRESS, &[]), wire::encode(&progress));

    let creation =
        state.founding.map(|founding| CreationRow { epoch_envelope: founding.genesis_envelope, token: founding.token });
    let acked_seq = progress.acked_seq;
    let mut creation = creation;
    for (rank, address) in (0..).zip(state.relays) {
        let mut relay = RelayRow { acked_seq, ..RelayRow::new(rank, address, creation.take()) };
        if let Some((start, _)) = state.history_start.as_ref().filter(|(_, at)| *at == relay.url) {
            relay.timeline = start.timeline;
            relay.cursor = start.cursor;
            relay.blob_id_at_cursor = start.blob_id;
            relay.observed = start.hash;
            batch.put(hot_key(hot::START, &[]), wire::encode(&start.snapshot));
        }
        batch.put(relay.row_key(), wire::encode(&relay));
    }
    let group = GroupRow { device_name: state.device_name, relays_by: None, relays_read: None };
    batch.put(hot_key(hot::GROUP, &[]), wire::encode(&group));
    batch
}

/// An outbox row of an entry that is not sealed yet.
pub(crate) fn waiting(store_key: &StoreKey, seq: u64, kind: Kind, body: &[u8], rng: &mut impl CryptoRng) -> Vec<u8> {
    let body = store_seal::seal_row(store_key, random(rng), &outbox_key(seq), body).into();
    wire::encode(&OutboxRow::Waiting { kind: kind.0, body })
}

/// Adds a row whose value is sealed under the store key.
pub(crate) fn put_sealed(
    batch: &mut Batch,
    key: Vec<u8>,
    plaintext: &[u8],
    store_key: &StoreKey,
    rng: &mut impl CryptoRng,
) {
    let value = store_seal::seal_row(store_key, random(rng), &key, plaintext);
    batch.put(key, value);
}

impl ProgressRow {
    fn empty() -> Self {
        Self {
            position: 0,
            processed: 0,
            ordinal: 0,
            lamport: 0,
            queued_seq: 0,
            sealed_seq: 0,
            sealed_blob_id: BlobId::ZERO,
            acked_seq: 0,
            outbox_bytes: 0,
            findings: 0,
            epoch_blob_id: BlobId::ZERO,
            copied: false,
            others_position: 0,
            log_bytes: 0,
            control_bytes: 0,
            reset_position: 0,
            reset_seq: 0,
        }
    }
}

/// Key of a finding.
pub(crate) fn finding_key(number: u64) -> Vec<u8> {
    hot_key(hot::FINDING, &number.to_be_bytes())
}

/// A finding's row.
pub(crate) fn finding_row(number: u64, finding: &IntegrityEvent) -> (Vec<u8>, Vec<u8>) {
    (finding_key(number), wire::encode(finding))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_kinds_of_hot_rows_and_no_two_tables_share_a_byte() {
        let kinds: BTreeSet<u8> = hot::ALL.iter().copied().collect();
        assert_eq!(kinds.len(), hot::ALL.len());
        let tables = [HOT, OUTBOX, MIRROR, INDEX, EPOCH_ENVELOPES, CONTROL];
        assert_eq!(BTreeSet::from(tables).len(), tables.len());
    }
}
