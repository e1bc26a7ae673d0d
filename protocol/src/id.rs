//! Typed identifiers and public keys. Each is a fixed number of bytes with a type of its own, so
//! that a log name cannot be passed where a blob id is wanted.
//!
//! `Display` is lower-case hex. None of these is secret towards a relay; ids that a relay must
//! never see (`GroupId`, `DeviceId`) live in `zerok-sync-core`.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::label;
use crate::wire::{Reader, Wire, WireError, Writer};

/// Defines a newtype over `[u8; N]` that travels as MessagePack `bin` of exactly `N` bytes.
#[macro_export]
macro_rules! byte_id {
    ($(#[$meta:meta])* $name:ident, $len:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;
            /// All bytes zero: the protocol's "none" where a field cannot be absent.
            pub const ZERO: Self = Self([0; $len]);

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Whether this is [`Self::ZERO`].
            #[must_use]
            pub fn is_zero(&self) -> bool {
                self.0 == [0; $len]
            }

            /// Parses a slice of exactly [`Self::LEN`] bytes.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Some(Self(bytes.try_into().ok()?))
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl ::std::convert::AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl ::std::convert::From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::id::NotAnId;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; $len];
                ::hex::decode_to_slice(text, &mut bytes).map_err(|_| $crate::id::NotAnId { want: $len * 2 })?;
                Ok(Self(bytes))
            }
        }

        impl $crate::wire::Wire for $name {
            fn write(&self, out: &mut $crate::wire::Writer<'_>) {
                out.bytes(&self.0);
            }

            fn read(bytes: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::wire::WireError> {
                bytes.array().map(Self)
            }
        }
    };
}

/// A text that should have been an id in hex.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected {want} hexadecimal digits")]
pub struct NotAnId {
    /// How many digits were expected.
    pub want: usize,
}

byte_id!(
    /// `BLAKE3(header ‖ BLAKE3(rest))` of an envelope: what identifies it on every relay and the
    /// idempotency key of a push. See [`crate::envelope::blob_id`].
    BlobId,
    32
);
byte_id!(
    /// The name under which a relay finds a log: `SHA-256(label ‖ auth public key)`. Changes with
    /// every rotation, and knowing it opens nothing.
    LogName,
    32
);
byte_id!(
    /// Ed25519 public key of a group's current epoch. Whoever signs with its secret is a member.
    AuthPublicKey,
    32
);
byte_id!(
    /// X25519 static public key: of a relay, of a membership, or of a guest.
    NoisePublicKey,
    32
);
byte_id!(
    /// Ed25519 signature.
    Signature,
    64
);
byte_id!(
    /// First 8 bytes of a value derived from the epoch secret; names an epoch.
    EpochId,
    8
);
byte_id!(
    /// Random id of one history of one log on one relay; zero means "not stored yet".
    Timeline,
    8
);
byte_id!(
    /// First 8 bytes of a hash of a relay's Noise key; names the relay inside envelopes.
    RelayTag,
    8
);

impl LogName {
    /// The name of the log whose auth key is `auth`.
    #[must_use]
    pub fn of(auth: &AuthPublicKey) -> Self {
        let mut hash = Sha256::new();
        hash.update(label::LOG_NAME);
        hash.update(auth.0);
        Self(hash.finalize().into())
    }
}

impl RelayTag {
    /// The tag of the relay whose Noise key is `key`.
    #[must_use]
    pub fn of(key: &NoisePublicKey) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(label::RELAY_TAG).update(&key.0);
        let mut tag = [0; 8];
        tag.copy_from_slice(&hash.finalize().as_bytes()[..8]);
        Self(tag)
    }
}

/// Id of a pairing mailbox, assigned by the relay: 2 bytes (15 bits used) where a person will type
/// it as part of a code, 16 random bytes where it travels in a link.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxId(Vec<u8>);

impl MailboxId {
    /// Length in bytes of an id that is typed.
    pub const SHORT_LEN: usize = 2;
    /// Length in bytes of an id that travels in a link.
    pub const LONG_LEN: usize = 16;

    /// Parses an id of one of the two lengths.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        matches!(bytes.len(), Self::SHORT_LEN | Self::LONG_LEN).then(|| Self(bytes.to_vec()))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for MailboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Half of a short code: not for logs.
        f.write_str("MailboxId(…)")
    }
}

impl Wire for MailboxId {
    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(&self.0);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
        Self::from_slice(bytes.bytes()?).ok_or_else(|| WireError::new("a mailbox's id has 2 or 16 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::wire;

    proptest! {
        #[test]
        fn an_id_survives_as_text_and_on_the_wire(bytes: [u8; 32]) {
            let id = BlobId(bytes);
            prop_assert_eq!(id.to_string().parse::<BlobId>(), Ok(id));
            prop_assert_eq!(wire::decode::<BlobId>(&wire::encode(&id)), Ok(id));
        }

        #[test]
        fn text_that_is_not_exactly_an_id_is_refused(text in "[0-9a-fA-F]{0,20}|.{0,20}") {
            match text.parse::<EpochId>() {
                Ok(id) => prop_assert_eq!(id.to_string(), text.to_lowercase()),
                Err(error) => prop_assert_eq!(error, NotAnId { want: 16 }),
            }
        }
    }

    #[test]
    fn a_mailbox_id_has_one_of_two_lengths() {
        for len in 0..40 {
            let bytes = Bytes::from(vec![7; len]);
            let allowed = [MailboxId::SHORT_LEN, MailboxId::LONG_LEN].contains(&len);
            assert_eq!(MailboxId::from_slice(&bytes).is_some(), allowed, "{len} bytes");
            assert_eq!(wire::decode::<MailboxId>(&wire::encode(&bytes)).is_ok(), allowed, "{len} bytes on the wire");
        }
    }

    #[test]
    fn a_mailbox_id_does_not_print() {
        let id = MailboxId::from_slice(&[0x4d; 2]).expect("short");
        assert_eq!(format!("{id:?}"), "MailboxId(…)");
    }
}
