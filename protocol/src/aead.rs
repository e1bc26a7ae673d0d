//! Sealing with ChaCha20-Poly1305 (RFC 8439) and XChaCha20-Poly1305, the tag apart.
//!
//! Two functions that are not generic, for both: the library's are, so they would be compiled into
//! whatever crate calls them, and for the browser those are built for size. Every byte of a catch-up
//! goes through here three times, so this crate is built for speed.

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Nonce, Tag, XChaCha20Poly1305, XNonce};

/// Length of a tag.
pub const TAG_BYTES: usize = 16;

/// A nonce, which says by its length which of the two it is for.
#[derive(Debug, Clone, Copy)]
pub enum AeadNonce {
    /// ChaCha20-Poly1305: never twice with one key.
    Short([u8; 12]),
    /// XChaCha20-Poly1305: may be random.
    Long([u8; 24]),
}

/// The bytes were changed, or sealed under another key, nonce or associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes were changed, or sealed under another key")]
pub struct NotAuthentic;

/// Encrypts; returns the tag.
///
/// # Panics
/// Beyond 256 GiB.
#[must_use]
pub fn encrypt(key: &[u8; 32], nonce: AeadNonce, aad: &[u8], buffer: InOutBuf<'_, '_, u8>) -> [u8; TAG_BYTES] {
    let tag = match nonce {
        AeadNonce::Short(nonce) => {
            ChaCha20Poly1305::new(&(*key).into()).encrypt_inout_detached(&Nonce::from(nonce), aad, buffer)
        }
        AeadNonce::Long(nonce) => {
            XChaCha20Poly1305::new(&(*key).into()).encrypt_inout_detached(&XNonce::from(nonce), aad, buffer)
        }
    };
    tag.expect("256 GiB are more than any memory here").into()
}

/// Decrypts, if the tag fits; nothing is written otherwise.
///
/// # Errors
/// [`NotAuthentic`].
pub fn decrypt(
    key: &[u8; 32],
    nonce: AeadNonce,
    aad: &[u8],
    buffer: InOutBuf<'_, '_, u8>,
    tag: [u8; TAG_BYTES],
) -> Result<(), NotAuthentic> {
    let tag = Tag::from(tag);
    match nonce {
        AeadNonce::Short(nonce) => {
            ChaCha20Poly1305::new(&(*key).into()).decrypt_inout_detached(&Nonce::from(nonce), aad, buffer, &tag)
        }
        AeadNonce::Long(nonce) => {
            XChaCha20Poly1305::new(&(*key).into()).decrypt_inout_detached(&XNonce::from(nonce), aad, buffer, &tag)
        }
    }
    .map_err(|_| NotAuthentic)
}
