//! Keys from a person's passphrase: Argon2id (RFC 9106), at costs that the format fixes.
//!
//! What is locked says how: a [`PassphraseHeader`] names the cost, the salt and a commitment to the
//! key. A cost is one of two ([`Cost`]), never adapted to the machine and never taken from anybody
//! else: a header that names another is refused before anything is computed, so nobody can have a
//! passphrase stretched less, or a device stretch it for ever. The commitment tells a wrong
//! passphrase from damage, and makes a file open under one passphrase only.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::kdf;

/// Characters of a passphrase that is chosen, at least (NIST SP 800-63B's floor). Length is what a
/// person can add most easily.
pub const PASSPHRASE_CHARS_MIN: usize = 8;
/// Bytes of a passphrase that is chosen, at most.
pub const PASSPHRASE_BYTES_MAX: usize = 1024;

const SALT_BYTES: usize = 16;
const COMMITMENT_BYTES: usize = 32;
/// One lane: a browser has one thread, and a file must open everywhere.
const LANES: u32 = 1;

/// What a person typed: the bytes exactly as they came, in UTF-8.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<String>);

/// A passphrase that is not good enough to be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// Guessed in no time.
    #[error("a passphrase has at least {PASSPHRASE_CHARS_MIN} characters; a few words are better still")]
    TooShort,
    /// Not typed by anybody.
    #[error("a passphrase has at most {PASSPHRASE_BYTES_MAX} bytes")]
    TooLong,
}

impl Passphrase {
    /// One to try: whatever was typed.
    #[must_use]
    pub fn given(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// One to lock something under.
    ///
    /// # Errors
    /// [`PassphraseError`].
    pub fn chosen(text: String) -> Result<Self, PassphraseError> {
        let passphrase = Self::given(text);
        if passphrase.0.chars().count() < PASSPHRASE_CHARS_MIN {
            Err(PassphraseError::TooShort)
        } else if passphrase.0.len() > PASSPHRASE_BYTES_MAX {
            Err(PassphraseError::TooLong)
        } else {
            Ok(passphrase)
        }
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase([redacted])")
    }
}

/// How much work one guess is. The numbers are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// 19 MiB, two passes: what a phone's browser can spare (OWASP's first choice).
    Browser,
    /// 64 MiB, three passes: RFC 9106's second recommendation.
    Native,
}

impl Cost {
    /// KiB of memory, and passes over it.
    const fn numbers(self) -> (u32, u32) {
        match self {
            Self::Browser => (19 * 1024, 2),
            Self::Native => (64 * 1024, 3),
        }
    }
}

/// The header names a cost that this version does not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it asks for another work factor than this version ever uses: it was tampered with, or written by a newer version"
)]
pub struct ForeignCost;

/// The passphrase is not the one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("wrong passphrase")]
pub struct WrongPassphrase;

/// How a key comes from a passphrase. To be authenticated with what the key seals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassphraseHeader {
    cost: Cost,
    salt: [u8; SALT_BYTES],
    commitment: [u8; COMMITMENT_BYTES],
}

impl PassphraseHeader {
    /// memory in KiB 4 ‖ passes 4 ‖ lanes 4 ‖ salt 16 ‖ commitment 32, little-endian.
    pub const LEN: usize = 12 + SALT_BYTES + COMMITMENT_BYTES;

    /// A fresh key for a passphrase; `label` says what for. `salt` must be fresh random bytes.
    #[must_use]
    pub fn create(
        passphrase: &Passphrase,
        cost: Cost,
        salt: [u8; SALT_BYTES],
        label: &[u8],
    ) -> (Self, Zeroizing<[u8; 32]>) {
        let (key, commitment) = stretch(passphrase, cost, &salt, label);
        (Self { cost, salt, commitment }, key)
    }

    /// The key again. Takes the time and the memory that its cost says.
    ///
    /// # Errors
    /// [`WrongPassphrase`].
    pub fn key(&self, passphrase: &Passphrase, label: &[u8]) -> Result<Zeroizing<[u8; 32]>, WrongPassphrase> {
        let (key, commitment) = stretch(passphrase, self.cost, &self.salt, label);
        if bool::from(commitment.ct_eq(&self.commitment)) { Ok(key) } else { Err(WrongPassphrase) }
    }

    /// How much work it asks for.
    #[must_use]
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// The bytes to store.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let (memory_kib, passes) = self.cost.numbers();
        let mut bytes = [0; Self::LEN];
        for (at, number) in [memory_kib, passes, LANES].into_iter().enumerate() {
            bytes[4 * at..4 * (at + 1)].copy_from_slice(&number.to_le_bytes());
        }
        bytes[12..12 + SALT_BYTES].copy_from_slice(&self.salt);
        bytes[12 + SALT_BYTES..].copy_from_slice(&self.commitment);
        bytes
    }

    /// Parses stored bytes.
    ///
    /// # Errors
    /// [`ForeignCost`] unless the numbers are those of a [`Cost`].
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, ForeignCost> {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let named = (number(0), number(4));
        let cost = [Cost::Browser, Cost::Native].into_iter().find(|cost| cost.numbers() == named);
        let cost = cost.filter(|_| number(8) == LANES).ok_or(ForeignCost)?;
        let mut header = Self { cost, salt: [0; SALT_BYTES], commitment: [0; COMMITMENT_BYTES] };
        header.salt.copy_from_slice(&bytes[12..12 + SALT_BYTES]);
        header.commitment.copy_from_slice(&bytes[12 + SALT_BYTES..]);
        Ok(header)
    }
}

/// `key ‖ commitment = HKDF(Argon2id(passphrase, salt), label)`.
fn stretch(
    passphrase: &Passphrase,
    cost: Cost,
    salt: &[u8; SALT_BYTES],
    label: &[u8],
) -> (Zeroizing<[u8; 32]>, [u8; COMMITMENT_BYTES]) {
    let (memory_kib, passes) = cost.numbers();
    let params = Params::new(memory_kib, passes, LANES, Some(32)).expect("within the bounds of RFC 9106");
    // Ours, so that it is wiped.
    let mut memory = Zeroizing::new(vec![Block::default(); params.block_count()]);
    let mut stretched = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase.0.as_bytes(), salt, stretched.as_mut(), memory.as_mut_slice())
        .expect("a salt of 16 bytes, a tag of 32 and a passphrase below 4 GiB");
    let both = kdf::derive::<64>(&[], &*stretched, &[label]);
    let (mut key, mut commitment) = (Zeroizing::new([0; 32]), [0; COMMITMENT_BYTES]);
    key.copy_from_slice(&both[..32]);
    commitment.copy_from_slice(&both[32..]);
    (key, commitment)
}

#[cfg(test)]
mod tests {
    use argon2::{AssociatedData, ParamsBuilder};
    use proptest::prelude::*;

    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::given(text.to_owned())
    }

    /// RFC 9106, section 5.3.
    #[test]
    fn the_vector_of_rfc_9106_for_argon2id_holds() {
        let mut params = ParamsBuilder::new();
        params.m_cost(32).t_cost(3).p_cost(4).output_len(32);
        params.data(AssociatedData::new(&[4; 12]).expect("short"));
        let params = params.build().expect("the RFC's parameters");
        let argon2 = Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).expect("short");
        let mut tag = [0; 32];
        argon2.hash_password_into(&[1; 32], &[2; 16], &mut tag).expect("the RFC's lengths");
        assert_eq!(hex::encode(tag), "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659");
    }

    #[test]
    fn the_same_passphrase_gives_the_same_key_and_another_is_told() {
        let (header, key) = PassphraseHeader::create(&passphrase("open sesame"), Cost::Browser, [7; 16], b"label");
        assert_eq!(header.key(&passphrase("open sesame"), b"label"), Ok(key.clone()));
        assert_eq!(header.key(&passphrase("open sesamy"), b"label"), Err(WrongPassphrase));
        let (_, other) = PassphraseHeader::create(&passphrase("open sesame"), Cost::Browser, [7; 16], b"other");
        assert_ne!(key, other, "one label, one key");
        let (_, other) = PassphraseHeader::create(&passphrase("open sesame"), Cost::Browser, [8; 16], b"label");
        assert_ne!(key, other, "one salt, one key: nobody tries a passphrase at all files at once");
    }

    #[test]
    fn no_other_cost_is_taken_be_it_less_or_more() {
        let (header, _) = PassphraseHeader::create(&passphrase("open sesame"), Cost::Browser, [7; 16], b"label");
        let bytes = header.to_bytes();
        assert_eq!(PassphraseHeader::parse(&bytes), Ok(header));
        for numbers in [[8, 1, 1], [19 * 1024, 1, 1], [19 * 1024, 2, 2], [64 * 1024, 2, 1], [u32::MAX; 3]] {
            let mut changed = bytes;
            for (at, number) in numbers.into_iter().enumerate() {
                changed[4 * at..4 * (at + 1)].copy_from_slice(&u32::to_le_bytes(number));
            }
            assert_eq!(PassphraseHeader::parse(&changed), Err(ForeignCost), "{numbers:?}");
        }
    }

    #[test]
    fn a_chosen_passphrase_has_a_length_and_is_never_printed() {
        assert_eq!(Passphrase::chosen("sevench".into()), Err(PassphraseError::TooShort));
        assert_eq!(Passphrase::chosen("x".repeat(1025)), Err(PassphraseError::TooLong));
        let chosen = Passphrase::chosen("ÄÖÜäöüß!".into()).expect("eight characters");
        assert_eq!(format!("{chosen:?}"), "Passphrase([redacted])");
    }

    proptest! {
        #[test]
        fn a_header_that_parses_is_stored_as_it_came(bytes: [u8; 32], salt: [u8; 16]) {
            for cost in [Cost::Browser, Cost::Native] {
                let header = PassphraseHeader { cost, salt, commitment: bytes };
                prop_assert_eq!(PassphraseHeader::parse(&header.to_bytes()), Ok(header));
            }
        }
    }
}
