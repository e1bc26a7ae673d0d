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

mod initial;
mod log;
mod members;
mod relay;

use bytes::Bytes;
use rand_core::CryptoRng;
use zerok_sync_protocol::wire::{self, Wire};
use zerok_sync_protocol::{BlobId, EpochId, wire_struct};

use super::connection::random;
use crate::error::OpenError;
use crate::event::IntegrityEvent;
use crate::id::DeviceId;
use crate::io::Batch;
use crate::keys::{EpochSecret, StoreKey};
use crate::store_seal;

pub(crate) use initial::{Founding, InitialState, initial_rows, waiting};
pub(crate) use log::{ChainRow, ControlKey, GapRow, HeldRow, NamedRow, OutboxRow, PartsRow, ProgressRow, SnapshotRow};
pub(crate) use members::{
    AnchorBody, AnchorStands, EarlyEpochRow, EpochRow, GrantedRow, JoiningRow, LeavingRow, MemberRow, PaperRow,
    RemovedRow, RotationRow, SealedRotation,
};
pub(crate) use relay::{
    CaughtRow, CoveredRow, CreationRow, DamagedRow, EpochRead, PastRow, ReadRun, RelayRow, remember,
};

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
        /// [`super::SnapshotRow`] that this device began with, or has shrunk to.
        BASE = b'z';
        /// Empty, while the mirror still has what [`BASE`] stands for.
        SHEDDING = b'o';
        /// [`super::HeldRow`] by `DeviceId` ‖ seq.
        HELD = b'h';
        /// [`super::HeldRow`] by `DeviceId` ‖ seq ‖ `BlobId`: without a good signature of its own.
        UNSIGNED = b't';
        /// [`super::GapRow`] by `DeviceId` ‖ last seq ‖ `BlobId` of that.
        GAP = b'G';
        /// [`super::NamedRow`] by `DeviceId` ‖ the `DeviceId` of whoever names it, until it is here.
        NAMED = b'N';
        /// [`crate::event::IntegrityEvent`] by itself: told unless it is cured.
        DOUBT = b'D';
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
        /// Epoch secrets, oldest first.
        epoch_secrets: Vec<EpochSecret>,
        /// The one new entries are sealed under.
        current_epoch: EpochId,
        /// Of epochs that are not accepted, or not yet, the latest last.
        unproven_secrets: Vec<EpochSecret>,
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

/// Key of what a member has given up.
pub(crate) fn gap_key(device: &DeviceId, to_seq: u64, blob_id: &BlobId) -> Vec<u8> {
    [&[HOT, hot::GAP][..], &device.0, &to_seq.to_be_bytes(), &blob_id.0].concat()
}

/// Key of what one device says it has of another's chain.
pub(crate) fn named_key(device: &DeviceId, by: &DeviceId) -> Vec<u8> {
    [&[HOT, hot::NAMED][..], &device.0, &by.0].concat()
}

/// Key of a doubt.
pub(crate) fn doubt_key(finding: &IntegrityEvent) -> Vec<u8> {
    hot_key(hot::DOUBT, &wire::encode(finding))
}

/// Key of an outbox row.
pub(crate) fn outbox_key(seq: u64) -> Vec<u8> {
    numbered(OUTBOX, seq)
}

/// Key of the index run that ends with this entry.
pub(crate) fn index_key(sender: &DeviceId, seq: u64) -> Vec<u8> {
    [&[INDEX][..], &sender.0, &seq.to_be_bytes()].concat()
}

/// Keys of a device's index runs that end with this entry or before it.
pub(crate) fn index_keys_up_to(sender: &DeviceId, seq: u64) -> (Vec<u8>, Vec<u8>) {
    let mut behind = index_key(sender, seq);
    behind.push(0);
    (index_key(sender, 0), behind)
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
