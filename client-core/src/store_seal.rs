//! Rows of the local store that hold secrets or unsent blobs, sealed under the store key.
//!
//! A row is bound to its key, so rows cannot be swapped. It is not bound to a time: whoever can
//! write the database can put back an older row (the relay's log tells, at the next connection).

use chacha20poly1305::aead::inout::InOutBuf;
use zeroize::Zeroizing;
use zerok_sync_protocol::aead::{self, AeadNonce};

use crate::keys::StoreKey;
use crate::label;

/// First byte of a sealed row.
const ROW_VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// The row was changed, stands under another key, or was sealed under another store key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored row is damaged or was sealed under another store key")]
pub struct RowDamaged;

/// `version ‖ nonce ‖ XChaCha20-Poly1305(plaintext)`; `nonce` must be fresh random bytes.
#[must_use]
pub fn seal_row(key: &StoreKey, nonce: [u8; NONCE_BYTES], row_key: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + NONCE_BYTES + plaintext.len() + TAG_BYTES);
    row.push(ROW_VERSION);
    row.extend_from_slice(&nonce);
    let start = row.len();
    row.extend_from_slice(plaintext);
    let tag = aead::encrypt(key.expose(), AeadNonce::Long(nonce), &aad(row_key), InOutBuf::from(&mut row[start..]));
    row.extend_from_slice(&tag);
    row
}

/// Opens what [`seal_row`] made for the same row key.
///
/// # Errors
/// [`RowDamaged`] for anything else.
pub fn open_row(key: &StoreKey, row_key: &[u8], row: &[u8]) -> Result<Zeroizing<Vec<u8>>, RowDamaged> {
    let (&version, rest) = row.split_first().ok_or(RowDamaged)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(RowDamaged)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(RowDamaged)?;
    if version != ROW_VERSION {
        return Err(RowDamaged);
    }
    let mut plaintext = Zeroizing::new(ciphertext.to_vec());
    let buffer = InOutBuf::from(plaintext.as_mut_slice());
    aead::decrypt(key.expose(), AeadNonce::Long(*nonce), &aad(row_key), buffer, *tag).map_err(|_| RowDamaged)?;
    Ok(plaintext)
}

fn aad(row_key: &[u8]) -> Vec<u8> {
    [label::STORE_ROW, &[ROW_VERSION], row_key].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> StoreKey {
        StoreKey::from_bytes([7; 32])
    }

    #[test]
    fn a_row_opens_only_under_its_own_row_key() {
        let row = seal_row(&key(), [1; 24], b"outbox/1", b"blob");
        assert_eq!(open_row(&key(), b"outbox/1", &row).as_deref().map(Vec::as_slice), Ok(&b"blob"[..]));
        assert_eq!(open_row(&key(), b"outbox/2", &row), Err(RowDamaged));
    }

    #[test]
    fn a_row_opens_only_under_its_store_key() {
        let row = seal_row(&key(), [1; 24], b"k", b"blob");
        assert_eq!(open_row(&StoreKey::from_bytes([8; 32]), b"k", &row), Err(RowDamaged));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let row = seal_row(&key(), [1; 24], b"k", b"blob");
        for at in 0..row.len() {
            let mut changed = row.clone();
            changed[at] ^= 1;
            assert_eq!(open_row(&key(), b"k", &changed), Err(RowDamaged), "byte {at}");
            assert_eq!(open_row(&key(), b"k", &row[..at]), Err(RowDamaged), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn rows_come_back(row_key: Vec<u8>, plaintext: Vec<u8>, nonce: [u8; 24]) {
            let row = seal_row(&key(), nonce, &row_key, &plaintext);
            prop_assert_eq!(&*open_row(&key(), &row_key, &row).expect("just sealed"), &plaintext);
        }
    }
}
