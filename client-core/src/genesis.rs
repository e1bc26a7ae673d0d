//! How a group begins: the genesis body, whose hash is the `GroupId`.
//!
//! The hash covers the bytes as they were made, so those are kept and passed on verbatim; a body
//! that was parsed and encoded again might have lost fields of a newer version.

use bytes::Bytes;
use zerok_sync_protocol::wire::{self, WireError};
use zerok_sync_protocol::{byte_id, wire_struct};

use crate::id::GroupId;
use crate::keys::MemberKeys;
use crate::label;

/// The format this code writes.
pub const GENESIS_FORMAT: u16 = 1;

/// Longest genesis body that is parsed; today's takes about 1,400 bytes.
pub const GENESIS_BYTES_MAX: usize = 8 * 1024;

byte_id!(
    /// Makes every group another one, even with the same founder.
    GenesisRandom,
    32
);

wire_struct! {
    /// What the founder fixed.
    pub struct GenesisBody {
        /// [`GENESIS_FORMAT`].
        format: u16,
        /// Fresh for each group.
        random: GenesisRandom,
        /// The first member.
        founder: MemberKeys,
    }
}

/// A genesis body with the exact bytes that name the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    bytes: Bytes,
    body: GenesisBody,
}

impl Genesis {
    /// Founds a group.
    #[must_use]
    pub fn new(random: GenesisRandom, founder: MemberKeys) -> Self {
        let body = GenesisBody { format: GENESIS_FORMAT, random, founder };
        Self { bytes: wire::encode(&body).into(), body }
    }

    /// Parses received bytes and keeps them.
    ///
    /// # Errors
    /// When they are not a genesis body, too long, or of a format this code does not know.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, WireError> {
        let bytes = bytes.into();
        if bytes.len() > GENESIS_BYTES_MAX {
            return Err(WireError::new(format!("a genesis body has at most {GENESIS_BYTES_MAX} bytes")));
        }
        let body: GenesisBody = wire::decode(&bytes)?;
        if body.format != GENESIS_FORMAT {
            return Err(WireError::new(format!("genesis format {} is not known: update this device", body.format)));
        }
        Ok(Self { bytes, body })
    }

    /// The group these bytes name.
    #[must_use]
    pub fn group(&self) -> GroupId {
        GroupId::of(&self.bytes)
    }

    /// The bytes to pass on.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What they say.
    #[must_use]
    pub const fn body(&self) -> &GenesisBody {
        &self.body
    }
}

impl GroupId {
    /// The group that a genesis body names.
    #[must_use]
    pub fn of(genesis: &[u8]) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(label::GROUP).update(genesis);
        Self(*hash.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::membership;

    fn genesis() -> Genesis {
        Genesis::new(GenesisRandom([1; 32]), membership(1).keys)
    }

    #[test]
    fn a_genesis_body_names_the_same_group_on_every_device() {
        let received = Genesis::parse(genesis().bytes().clone()).expect("a genesis body");
        assert_eq!(received, genesis());
        assert_eq!(received.group(), genesis().group());
    }

    #[test]
    fn every_byte_of_a_genesis_body_is_part_of_the_groups_name() {
        let bytes = genesis().bytes().to_vec();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_ne!(GroupId::of(&changed), genesis().group(), "byte {at}");
        }
    }

    #[test]
    fn fields_a_newer_founder_added_are_kept_and_hashed() {
        let mut bytes = genesis().bytes().to_vec();
        bytes[0] += 1;
        bytes.push(0xc3);
        let newer = Genesis::parse(bytes.clone()).expect("a genesis body");
        assert_eq!(newer.bytes(), &bytes);
        assert_eq!(newer.group(), GroupId::of(&bytes));
        assert_eq!(newer.body(), genesis().body());
    }

    #[test]
    fn another_format_and_an_overlong_body_are_refused() {
        let newer = GenesisBody { format: 2, ..genesis().body().clone() };
        let error = Genesis::parse(wire::encode(&newer)).expect_err("format 2");
        assert!(error.to_string().contains("update this device"), "{error}");
        assert!(Genesis::parse(vec![0; GENESIS_BYTES_MAX + 1]).is_err());
    }
}
