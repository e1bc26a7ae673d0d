//! Rows about the log as this device has it, and about what it adds to it.

use bytes::Bytes;
use zerok_sync_protocol::id::RelayTag;
use zerok_sync_protocol::{BlobId, Timeline, wire_enum, wire_struct};

use crate::content::SeenHash;
use crate::id::DeviceId;
use crate::observed::FoldHash;

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
        /// Position of the snapshot that stands for everything before it: lower ones are read no more; 0
        /// for none.
        base_position: u64,
        /// Whose app has got as far as this has what that snapshot says.
        base_news: u64,
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
    /// The highest entry of a chain that a member says it has, and this device has not.
    pub struct NamedRow {
        /// Its place in the chain.
        seq: u64,
        /// Its hash, by that word.
        hash: SeenHash,
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

wire_struct! {
    /// Entries that a member has given up for the group.
    pub struct GapRow {
        /// Who.
        by: DeviceId,
        /// First of them; once they are given up here, the first that this device lacks.
        from_seq: u64,
        /// This device lacks them, and the chain goes on behind them.
        given_up: bool,
    }
}

wire_enum! {
    /// An own entry on its way to the relay.
    pub enum OutboxRow {
        /// Not yet sealed; the plaintext lies under the store key.
        0 => Waiting {
            /// Kind of the entry.
            kind: u16,
            /// Body, sealed as in [`crate::store_seal`].
            body: Bytes,
        },
        /// Sealed: these bytes never change again.
        1 => Sealed {
            /// The envelope.
            envelope: Bytes,
        },
    }
}

impl ProgressRow {
    pub(super) fn empty() -> Self {
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
            base_position: 0,
            base_news: 0,
        }
    }
}
