//! The two digits that people carry from one screen to the other, and the commitment that makes
//! them mean something.

use std::fmt;
use std::str::FromStr;

use crate::{kdf, label};

/// What the joining device shows and the inviting person types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digits(u8);

/// A text that is not two digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("type the two digits that the joining device shows, such as 07")]
pub struct NotDigits;

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

impl FromStr for Digits {
    type Err = NotDigits;

    /// Two decimal digits; white space around and between them is skipped. Anything else is not an
    /// answer, so it costs nothing.
    fn from_str(text: &str) -> Result<Self, NotDigits> {
        let mut digits = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(10));
        match (digits.next().flatten(), digits.next().flatten(), digits.next()) {
            (Some(tens), Some(ones), None) => Ok(Self((tens * 10 + ones) as u8)),
            _ => Err(NotDigits),
        }
    }
}

/// Length of the nonces both sides contribute.
pub(super) const NONCE_BYTES: usize = 32;

/// `r_i` or `r_j`.
pub(super) type Nonce = [u8; NONCE_BYTES];

/// `c = BLAKE3("0k-sync/1 sas" ‖ r_j)`: message 1 carries it, message 3 opens it.
pub(super) fn commitment(joiner: &Nonce) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    hash.update(label::PAIRING_COMMITMENT).update(joiner);
    *hash.finalize().as_bytes()
}

/// `HKDF(salt = r_i ‖ r_j, ikm = h2, "0k-sync/1 digits")` as 8 bytes, read as a little-endian u64,
/// mod 100. (2^64 is not a multiple of 100: the first 16 values are likelier than the rest by less
/// than 1 in 10^17.)
pub(super) fn digits(hash_after_message_2: &[u8; 32], inviter: &Nonce, joiner: &Nonce) -> Digits {
    let salt = [*inviter, *joiner].concat();
    let bytes = kdf::derive::<8>(&salt, hash_after_message_2, &[label::PAIRING_DIGITS]);
    Digits((u64::from_le_bytes(*bytes) % 100) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_nonces_and_the_handshake_decide_the_digits() {
        let spread = |digits_of: &dyn Fn(u8) -> Digits| {
            let mut seen: Vec<u8> = (0..50).map(|byte| digits_of(byte).0).collect();
            seen.sort_unstable();
            seen.dedup();
            seen.len()
        };
        assert!(spread(&|byte| digits(&[byte; 32], &[1; 32], &[2; 32])) > 20);
        assert!(spread(&|byte| digits(&[0; 32], &[byte; 32], &[2; 32])) > 20);
        assert!(spread(&|byte| digits(&[0; 32], &[1; 32], &[byte; 32])) > 20);
    }

    #[test]
    fn digits_are_two() {
        assert!((0..=255).all(|byte| digits(&[byte; 32], &[1; 32], &[2; 32]).0 < 100));
    }

    #[test]
    fn digits_are_read_as_they_are_shown() {
        for digits in (0..100).map(Digits) {
            assert_eq!(digits.to_string().parse(), Ok(digits));
        }
        assert_eq!(" 4 2\n".parse(), Ok(Digits(42)));
        for text in ["", "7", "007", "ab", "4-2", "-4", "+42", "\u{664}\u{662}"] {
            assert_eq!(text.parse::<Digits>(), Err(NotDigits), "{text}");
        }
    }
}
