//! The two kinds of secret a channel starts from.

use std::fmt;

use rand_core::CryptoRng;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::id::NoisePublicKey;

/// Secret half of an X25519 static key: a relay's, a membership's or a guest's.
#[derive(Clone)]
pub struct StaticKey(StaticSecret);

impl StaticKey {
    /// The key with these secret bytes (clamped when used, RFC 7748 §5).
    #[must_use]
    pub fn from_bytes(secret: [u8; 32]) -> Self {
        Self(StaticSecret::from(secret))
    }

    /// A new key from 32 bytes of `rng`.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(StaticSecret::random_from_rng(rng))
    }

    /// The half that peers see and pin.
    #[must_use]
    pub fn public(&self) -> NoisePublicKey {
        NoisePublicKey(PublicKey::from(&self.0).to_bytes())
    }

    /// The secret bytes, for a key file or database.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticKey([redacted])")
    }
}

/// 32 secret bytes: what a pairing channel starts from.
#[derive(Clone)]
pub struct Secret32(Zeroizing<[u8; 32]>);

impl Secret32 {
    /// Takes the bytes over; they are wiped on drop.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret32([redacted])")
    }
}
