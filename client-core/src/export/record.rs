//! What an export file holds: records, each behind its length (u32be), a [`Record::Group`] first and
//! an [`Record::End`] last.

use bytes::Bytes;
use zerok_sync_protocol::limits::{ALLOW_LIST_MAX, ENVELOPE_BYTES_MAX_CEILING, FRAME_OVERHEAD_BYTES_MAX};
use zerok_sync_protocol::wire::{self, List};
use zerok_sync_protocol::{EpochId, NoisePublicKey, Timeline, wire_enum, wire_struct};

use super::ExportError;
use crate::id::{DeviceId, GroupId};
use crate::keys::{DataKey, StoreKey};
use crate::observed::FoldHash;

/// The largest envelope there can be, with what is stored beside it.
pub(super) const RECORD_BYTES_MAX: usize = ENVELOPE_BYTES_MAX_CEILING as usize + FRAME_OVERHEAD_BYTES_MAX;
/// Epochs of a group, more than any has.
const EPOCHS_MAX: usize = 100_000;
/// Relays of a group.
const RELAYS_MAX: usize = 64;

const LENGTH_BYTES: usize = 4;

wire_struct! {
    /// What opens the entries of one epoch, and nothing else of it.
    pub struct ExportedEpoch {
        /// Which.
        id: EpochId,
        /// Seals its entries.
        key: DataKey,
    }
}

wire_struct! {
    /// A device of the group.
    pub struct ExportedMember {
        /// Its identity.
        device: DeviceId,
        /// Its name.
        name: String,
    }
}

wire_struct! {
    /// A relay of the group.
    pub struct ExportedRelay {
        /// Its origin.
        url: String,
        /// Its Noise key, once met.
        key: Option<NoisePublicKey>,
    }
}

wire_struct! {
    /// Whose entries these are.
    pub struct ExportedGroup {
        /// Stands in every envelope's associated data.
        group: GroupId,
        /// Exact bytes of the genesis body, whose hash `group` is.
        genesis: Bytes,
        /// Oldest first.
        epochs: List<ExportedEpoch, EPOCHS_MAX>,
        /// The device that wrote the file.
        device: DeviceId,
        /// Its name.
        device_name: String,
        /// Who was a member.
        members: List<ExportedMember, ALLOW_LIST_MAX>,
        /// The home relay first.
        relays: List<ExportedRelay, RELAYS_MAX>,
        /// That device's clock, Unix milliseconds.
        exported_at_ms: u64,
        /// The key of that device's local database, where its identity is in the file.
        identity: Option<StoreKey>,
    }
}

wire_struct! {
    /// An envelope of the log, control entries too, in that device's own order.
    pub struct ExportedEntry {
        /// Its number among the app's entries, or that of the last one before it.
        position: u64,
        /// Its number among all.
        ordinal: u64,
        /// Whether it is the app's.
        for_app: bool,
        /// Of a batch: where the first of its parts stands, its position and ordinal.
        parts_from: Option<(u64, u64)>,
        /// It named entries that the device did not have when it came.
        missing_deps: bool,
        /// The relay's history it was read from.
        timeline: Timeline,
        /// Where it stood there.
        cursor: u64,
        /// Fold of that history up to it.
        observed: FoldHash,
        /// The sealed bytes.
        envelope: Bytes,
    }
}

wire_enum! {
    /// One record.
    pub enum Record {
        /// The first.
        0 => Group {
            /// Whose entries follow.
            group: ExportedGroup,
        },
        /// By rising ordinal.
        1 => Entry {
            /// With its place.
            entry: ExportedEntry,
        },
        /// A row of the device's local database, where its identity is in the file.
        2 => Row {
            /// Its key.
            key: Bytes,
            /// Its value.
            value: Bytes,
        },
        /// The last.
        3 => End {
            /// How many entries came before.
            entries: u64,
            /// How many rows.
            rows: u64,
        },
    }
}

impl Record {
    /// Appends the record behind its length.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        wire::encode_onto(self, out);
        let length = u32::try_from(out.len() - at - LENGTH_BYTES).expect("a record is a row or an envelope");
        out[at..at + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }

    /// The record at the front of `bytes` and its length with everything, if it is there whole.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, ExportError> {
        let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > RECORD_BYTES_MAX {
            return Err(ExportError::Malformed("a record of impossible length"));
        }
        let Some(record) = rest.get(..length) else { return Ok(None) };
        let record = wire::decode(record).map_err(|_| ExportError::Malformed("a record that cannot be read"))?;
        Ok(Some((record, LENGTH_BYTES + length)))
    }
}
