//! What an entry says: the MessagePack array inside an envelope.
//!
//! A [`Content`] that was parsed is a claim. It becomes a fact only as part of an
//! [`crate::seal::Authenticated`], whose signature was checked.

use bytes::Bytes;
use zerok_sync_protocol::id::RelayTag;
use zerok_sync_protocol::limits::ALLOW_LIST_MAX;
use zerok_sync_protocol::wire::{List, Reader, Wire, WireError, Writer};
use zerok_sync_protocol::{BlobId, Timeline, byte_id, wire_struct};

use crate::id::{DeviceId, SenderTag};
use crate::observed::ObservedHash;

/// Items in one entry's `seen`: one for each device a group can have. A sender with more to say
/// (devices long removed) leaves the rest for its next entry.
pub const SEEN_ITEMS_MAX: usize = ALLOW_LIST_MAX;

wire_struct! {
    /// One entry of a sender's chain.
    pub struct Content {
        /// Who wrote it.
        sender: DeviceId,
        /// Position in the sender's chain, from 1 without gaps.
        seq: u64,
        /// The sender's entry `seq - 1`; zero for the first.
        prev: BlobId,
        /// Heads of other senders' chains stored by the author and new since its last entry.
        seen: List<SeenItem, SEEN_ITEMS_MAX>,
        /// The order the author was shown by the relay it reads.
        observed: Option<Observed>,
        /// `1 + max stored` when it was sealed.
        lamport: u64,
        /// What the body is.
        kind: Kind,
        /// The author's wall clock, Unix milliseconds. Information only.
        sent_at_ms: u64,
        /// The app's blob, or a control message.
        body: Bytes,
    }
}

wire_struct! {
    /// The head of one sender's chain, as far as the author had it.
    pub struct SeenItem {
        /// Whose.
        tag: SenderTag,
        /// Its sequence number.
        seq: u64,
        /// Its blob id, shortened.
        hash: SeenHash,
    }
}

wire_struct! {
    /// What the author was shown by a relay.
    pub struct Observed {
        /// Which relay.
        relay: RelayTag,
        /// Which history there.
        timeline: Timeline,
        /// Read up to here.
        cursor: u64,
        /// Fold over everything up to there.
        hash: ObservedHash,
    }
}

byte_id!(
    /// `BlobId[..16]`: names an entry inside `seen`.
    SeenHash,
    16
);

impl SeenHash {
    /// The short form of a blob id.
    #[must_use]
    pub fn of(blob_id: &BlobId) -> Self {
        let mut hash = [0; 16];
        hash.copy_from_slice(&blob_id.0[..16]);
        Self(hash)
    }
}

/// What an entry's body is. Numbers never change meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

impl Kind {
    /// A blob of the app.
    pub const APP: Self = Self(1);
    /// A device's first entry: its join certificate.
    pub const JOIN: Self = Self(2);
    /// The sender's new name.
    pub const RENAME: Self = Self(3);
    /// What a relay did and how it was healed.
    pub const INCIDENT: Self = Self(4);
    /// The group gives up on entries nobody has.
    pub const ACCEPT_GAP: Self = Self(5);
    /// Manifest of a snapshot.
    pub const SNAPSHOT: Self = Self(6);
    /// A part of an atomic batch; invisible until its commit.
    pub const PART: Self = Self(7);
    /// Makes an atomic batch visible.
    pub const COMMIT: Self = Self(8);
    /// The group's relays, the home relay first.
    pub const RELAYS: Self = Self(9);

    /// The sender leaves the group: its last entry.
    pub const LEAVE: Self = Self(10);
    /// Says by its `seen`, and nothing else, what the sender has of devices that were removed.
    pub const WITNESS: Self = Self(13);

    /// As [`Self::JOIN`], of a paper device: recovery words.
    pub const PAPER: Self = Self(11);
    /// What any device needs to put a paper's slot back where a relay lost it.
    pub const ANCHOR: Self = Self(12);

    /// Whether it says who is in the group, by which keys and where: a snapshot's control archive has
    /// it verbatim, and mirrors keep it.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(
            self,
            Self::JOIN
                | Self::PAPER
                | Self::ANCHOR
                | Self::RENAME
                | Self::LEAVE
                | Self::INCIDENT
                | Self::ACCEPT_GAP
                | Self::RELAYS
        )
    }

    /// From here on a device that does not know a kind may skip the entry.
    pub const SKIPPABLE_FROM: u16 = 128;

    /// What a device does with an *authenticated* entry of this kind. An unauthenticated claim
    /// decides nothing: otherwise whoever can reach the log could stop the group.
    #[must_use]
    pub const fn support(self) -> KindSupport {
        match self.0 {
            1..=13 => KindSupport::Known,
            0 | 14..Self::SKIPPABLE_FROM => KindSupport::UpdateNeeded,
            Self::SKIPPABLE_FROM.. => KindSupport::Skip,
        }
    }
}

/// Whether this version can handle a [`Kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindSupport {
    /// Defined in this version.
    Known,
    /// From a newer version, and of no consequence to those that do not know it.
    Skip,
    /// From a newer version that this device cannot follow: it stops with "update this device".
    UpdateNeeded,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::APP => f.write_str("App"),
            Self::JOIN => f.write_str("Join"),
            Self::RENAME => f.write_str("Rename"),
            Self::INCIDENT => f.write_str("Incident"),
            Self::ACCEPT_GAP => f.write_str("AcceptGap"),
            Self::SNAPSHOT => f.write_str("Snapshot"),
            Self::PART => f.write_str("Part"),
            Self::COMMIT => f.write_str("Commit"),
            Self::RELAYS => f.write_str("Relays"),
            Self::LEAVE => f.write_str("Leave"),
            Self::PAPER => f.write_str("Paper"),
            Self::ANCHOR => f.write_str("Anchor"),
            Self::WITNESS => f.write_str("Witness"),
            Self(other) => write!(f, "Kind({other})"),
        }
    }
}

impl Wire for Kind {
    fn write(&self, out: &mut Writer<'_>) {
        self.0.write(out);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
        u16::read(bytes).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use zerok_sync_protocol::wire;

    use super::*;
    use crate::fixtures::{content, membership};

    #[test]
    fn an_unknown_kind_can_be_skipped_from_128_on_and_stops_the_device_below() {
        let support: Vec<_> = [0, 1, 13, 14, 127, 128, u16::MAX].map(|kind| Kind(kind).support()).to_vec();
        use KindSupport::{Known, Skip, UpdateNeeded};
        assert_eq!(support, [UpdateNeeded, Known, Known, UpdateNeeded, UpdateNeeded, Skip, Skip]);
    }

    #[test]
    fn more_seen_items_than_a_group_has_devices_are_refused() {
        let entry = content(&membership(1), 1, BlobId::ZERO, "");
        let mut bytes = wire::encode(&entry);
        let seen_at = 1 + 34 + 1 + 34;
        assert_eq!(bytes[seen_at], 0x90);
        bytes.splice(seen_at..=seen_at, [0xdc, 0, 66]);
        let error = wire::decode::<Content>(&bytes).expect_err("66 items");
        assert!(error.to_string().contains("at most 65"), "{error}");
    }
}
