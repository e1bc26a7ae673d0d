//! ML-KEM-768 (FIPS 203) as the channel uses it, and the psk made of its secret.

use hkdf::Hkdf;
use ml_kem::ml_kem_768::{Ciphertext, DecapsulationKey, EncapsulationKey};
use ml_kem::{Decapsulate, Encapsulate, Generate, Key, KeyExport};
use rand_core::CryptoRng;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::error::ChannelError;
use super::key::Secret32;
use crate::label;

/// Length of an encapsulation key.
pub(crate) const KEY_BYTES: usize = 1_184;
/// Length of a ciphertext.
pub(crate) const CIPHERTEXT_BYTES: usize = 1_088;

/// The initiator's half: lives for one handshake, so a recorded session stays closed afterwards.
pub(crate) struct Decapsulator(DecapsulationKey);

impl Decapsulator {
    /// A fresh key pair from 64 bytes of `rng`.
    pub(crate) fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(DecapsulationKey::generate_from_rng(rng))
    }

    /// What the responder encapsulates to.
    pub(crate) fn encapsulation_key(&self) -> [u8; KEY_BYTES] {
        self.0.encapsulation_key().to_bytes().into()
    }

    /// The secret inside `ciphertext`. A wrong ciphertext gives a wrong secret, not an error
    /// (FIPS 203's implicit rejection): message 3 then fails.
    pub(crate) fn decapsulate(self, ciphertext: &[u8; CIPHERTEXT_BYTES]) -> Secret32 {
        let mut shared = self.0.decapsulate(&Ciphertext::from(*ciphertext));
        take(&mut shared)
    }
}

/// Encapsulates a fresh secret, from 32 bytes of `rng`, to the initiator's key.
pub(crate) fn encapsulate(
    key: &[u8; KEY_BYTES],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<([u8; CIPHERTEXT_BYTES], Secret32), ChannelError> {
    let key = EncapsulationKey::new(&Key::<EncapsulationKey>::from(*key)).map_err(|_| ChannelError::InvalidKemKey)?;
    let (ciphertext, mut shared) = key.encapsulate_with_rng(rng);
    Ok((ciphertext.into(), take(&mut shared)))
}

/// `psk3 = HKDF-SHA256(salt = handshake hash after message 2, ikm = KEM secret, "0k-sync/1 pq")`.
/// The salt binds the secret to everything both sides have said so far.
pub(crate) fn psk(hash_after_message_2: &[u8; 32], secret: &Secret32) -> Secret32 {
    let mut psk = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(hash_after_message_2), secret.expose())
        .expand(label::CHANNEL_PSK, &mut *psk)
        .expect("32 bytes are less than HKDF's limit of 255 hashes");
    Secret32::new(*psk)
}

fn take(shared: &mut ml_kem::B32) -> Secret32 {
    let secret = Secret32::new((*shared).into());
    shared.as_mut_slice().zeroize();
    secret
}
