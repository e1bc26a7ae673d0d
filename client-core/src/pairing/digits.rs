//! The two digits that people compare, and the commitment that makes comparing them mean something.

use crate::{kdf, label};

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
pub(super) fn digits(hash_after_message_2: &[u8; 32], inviter: &Nonce, joiner: &Nonce) -> u8 {
    let salt = [*inviter, *joiner].concat();
    let bytes = kdf::derive::<8>(&salt, hash_after_message_2, &[label::PAIRING_DIGITS]);
    (u64::from_le_bytes(*bytes) % 100) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_nonces_and_the_handshake_decide_the_digits() {
        let spread = |digits_of: &dyn Fn(u8) -> u8| {
            let mut seen: Vec<u8> = (0..50).map(digits_of).collect();
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
        assert!((0..=255).all(|byte| digits(&[byte; 32], &[1; 32], &[2; 32]) < 100));
    }
}
