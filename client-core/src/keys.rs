//! Every key of the protocol, each a type of its own: one key, one role, one label.
//!
//! A membership (one device in one group) comes from one random seed, an epoch from one random
//! secret; everything else is derived by HKDF with a label of [`crate::label`]. Secrets are wiped
//! on drop, compared in constant time and print as `[redacted]`.

#[cfg(test)]
mod tests;

use std::fmt;

use ed25519_dalek::SigningKey;
use subtle::ConstantTimeEq;
use x_wing::{Decapsulator, KeyExport, TryKeyInit};
use zeroize::{Zeroize, ZeroizeOnDrop};
use zerok_sync_protocol::channel::StaticKey;
use zerok_sync_protocol::wire::{Reader, Wire, WireError, Writer};
use zerok_sync_protocol::{AuthPublicKey, EpochId, LogName, NoisePublicKey, wire_struct};

use crate::id::{DeviceId, GroupId};
use crate::{kdf, label};

/// Defines a secret of 32 bytes.
macro_rules! secret {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes the bytes over; they are wiped on drop.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The secret bytes.
            #[must_use]
            pub const fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "([redacted])"))
            }
        }
    };
}

secret!(
    /// Random origin of all keys of one membership.
    MembershipSeed
);
secret!(
    /// Random origin of all keys of one epoch.
    EpochSecret
);
secret!(
    /// Seals the entries and the epoch envelope of one epoch.
    DataKey
);
secret!(
    /// Seals the whispers of one epoch.
    WhisperKey
);
secret!(
    /// Seals the receipts of one epoch.
    ReceiptKey
);
secret!(
    /// Noise static of a paper device: opens the sessions that write its slot.
    PaperNoiseKey
);
secret!(
    /// Seals rows of the local store; leaves the device only in an export file that holds its identity.
    StoreKey
);

/// Lets a secret travel, inside something sealed.
macro_rules! travels {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        impl Wire for $name {
            fn write(&self, out: &mut Writer<'_>) {
                out.bytes(&self.0);
            }

            fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
                bytes.array().map(Self)
            }
        }
    };
}

travels!(
    /// An epoch's secret travels only inside sealed bodies: keyrings of epoch envelopes and grants.
    EpochSecret
);
travels!(
    /// In export files: opens what is in them.
    DataKey
);
travels!(
    /// In export files that hold a device's identity.
    StoreKey
);
travels!(
    /// In `ANCHOR` entries and one row: any device puts a paper's slot back.
    PaperNoiseKey
);

/// The keys derived from one epoch's secret for one group.
#[derive(Clone)]
pub struct EpochKeys {
    /// Names the epoch; derived, so a secret proves which epoch it opens.
    pub id: EpochId,
    /// Seals entries and epoch envelopes.
    pub data: DataKey,
    /// Seals whispers.
    pub whisper: WhisperKey,
    /// Seals receipts.
    pub receipt: ReceiptKey,
    /// Proves membership to relays.
    pub auth: SigningKey,
}

impl EpochKeys {
    /// `Expand(Extract(salt = GroupId, ikm = secret), label)` for each role.
    #[must_use]
    pub fn derive(group: &GroupId, secret: &EpochSecret) -> Self {
        let key = |label: &[u8]| kdf::derive::<32>(&group.0, &secret.0, &[label]);
        Self {
            id: EpochId(*kdf::derive::<8>(&group.0, &secret.0, &[label::EPOCH_ID])),
            data: DataKey(*key(label::DATA_KEY)),
            whisper: WhisperKey(*key(label::WHISPER_KEY)),
            receipt: ReceiptKey(*key(label::RECEIPT_KEY)),
            auth: SigningKey::from_bytes(&key(label::AUTH_KEY)),
        }
    }

    /// The public half of the auth key: what relays know the group by.
    #[must_use]
    pub fn auth_public(&self) -> AuthPublicKey {
        AuthPublicKey(self.auth.verifying_key().to_bytes())
    }

    /// The log's name on relays during this epoch.
    #[must_use]
    pub fn log_name(&self) -> LogName {
        LogName::of(&self.auth_public())
    }
}

impl fmt::Debug for EpochKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochKeys({}, [redacted])", self.id)
    }
}

/// The keys derived from one membership's seed.
#[derive(Clone)]
pub struct Membership {
    /// Signs entries; its public half is the `DeviceId`.
    pub signing: SigningKey,
    /// X25519 static of the channels to relays and in pairing.
    pub noise: StaticKey,
    /// Opens the wraps of epoch envelopes.
    pub kem: x_wing::DecapsulationKey,
    /// The public halves of the three.
    pub keys: MemberKeys,
}

impl Membership {
    /// `HKDF(seed, label)` for each role.
    #[must_use]
    pub fn from_seed(seed: &MembershipSeed) -> Self {
        let key = |label: &[u8]| kdf::derive::<32>(&[], &seed.0, &[label]);
        let signing = SigningKey::from_bytes(&key(label::SIGNING_KEY));
        let noise = StaticKey::from_bytes(*key(label::NOISE_KEY));
        let kem = x_wing::DecapsulationKey::from(*key(label::KEM_KEY));
        let keys = MemberKeys {
            device: DeviceId(signing.verifying_key().to_bytes()),
            noise: noise.public(),
            kem: KemPublicKey::of(kem.encapsulation_key()),
        };
        Self { signing, noise, kem, keys }
    }

    /// Who this is.
    #[must_use]
    pub const fn device(&self) -> DeviceId {
        self.keys.device
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Membership({}, [redacted])", self.keys.device)
    }
}

wire_struct! {
    /// The public keys of one membership.
    pub struct MemberKeys {
        /// Ed25519: who it is.
        device: DeviceId,
        /// X25519: how relays and the pairing channel know it.
        noise: NoisePublicKey,
        /// X-Wing: where epoch secrets are wrapped to.
        kem: KemPublicKey,
    }
}

/// X-Wing encapsulation key; always a valid one, because parsing checks it.
#[derive(Clone, PartialEq, Eq)]
pub struct KemPublicKey(Box<[u8; Self::LEN]>);

impl KemPublicKey {
    /// Length in bytes.
    pub const LEN: usize = x_wing::ENCAPSULATION_KEY_SIZE;

    fn of(key: &x_wing::EncapsulationKey) -> Self {
        Self(Box::new(key.to_bytes().0))
    }

    /// Parses exactly [`Self::LEN`] bytes that are an encapsulation key (FIPS 203 §7.2 checks the
    /// modulus).
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        x_wing::EncapsulationKey::new_from_slice(bytes).ok().map(|key| Self::of(&key))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The key to encapsulate to.
    #[must_use]
    pub fn encapsulation_key(&self) -> x_wing::EncapsulationKey {
        x_wing::EncapsulationKey::new_from_slice(&*self.0).expect("checked when it was parsed")
    }
}

impl fmt::Debug for KemPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KemPublicKey({}…)", hex::encode(&self.0[..8]))
    }
}

impl Wire for KemPublicKey {
    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(&*self.0);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
        Self::from_slice(bytes.bytes()?).ok_or_else(|| WireError::new("not an X-Wing encapsulation key"))
    }
}
