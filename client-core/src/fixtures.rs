//! Small, repeatable memberships, groups and entries: for tests, vectors and fuzzing only.

use bytes::Bytes;
use zerok_sync_protocol::BlobId;
use zerok_sync_protocol::wire::List;

use crate::content::{Content, Kind};
use crate::genesis::{Genesis, GenesisRandom};
use crate::keyring::Keyring;
use crate::keys::{EpochSecret, Membership, MembershipSeed};

/// The membership whose seed repeats `byte`.
pub(crate) fn membership(byte: u8) -> Membership {
    Membership::from_seed(&MembershipSeed::from_bytes([byte; 32]))
}

/// A group founded by membership 1, with its first epoch.
pub(crate) struct Group {
    pub(crate) genesis: Genesis,
    pub(crate) keyring: Keyring,
    pub(crate) founder: Membership,
}

impl Group {
    /// Different bytes make different groups of the same founder and epoch secret.
    pub(crate) fn new(byte: u8) -> Self {
        let founder = membership(1);
        let genesis = Genesis::new(GenesisRandom([byte; 32]), founder.keys.clone());
        let keyring = Keyring::new(genesis.group(), EpochSecret::from_bytes([0xe0; 32]));
        Self { genesis, keyring, founder }
    }
}

/// An app entry with an empty view of others.
pub(crate) fn content(author: &Membership, seq: u64, prev: BlobId, body: impl Into<Bytes>) -> Content {
    Content {
        sender: author.device(),
        seq,
        prev,
        seen: List::empty(),
        observed: None,
        lamport: seq,
        kind: Kind::APP,
        sent_at_ms: 1_700_000_000_000,
        body: body.into(),
    }
}
