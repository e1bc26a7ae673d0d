//! The store key at rest: 32 bare bytes, or the same locked under a passphrase.
//!
//! A locked key is one line that names the format, a [`PassphraseHeader`], a nonce, and the key
//! sealed with all of that as associated data. Only the key is locked: what it seals (the group's
//! secrets, blobs not yet sent) opens with it and not without.

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::keys::StoreKey;
use crate::label;
use crate::passphrase::{Cost, ForeignCost, Passphrase, PassphraseHeader, WrongPassphrase};

const MAGIC: &[u8] = b"0k-sync locked key 1\n";
/// What every version's line begins with.
const MAGIC_START: &[u8] = b"0k-sync locked key ";
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// Random bytes that locking takes.
pub const LOCK_RANDOM_BYTES: usize = SALT_BYTES + NONCE_BYTES;
/// Length of a locked key.
pub const LOCKED_KEY_BYTES: usize = MAGIC.len() + PassphraseHeader::LEN + NONCE_BYTES + KEY_BYTES + TAG_BYTES;

/// A store key as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredKey {
    /// As it is.
    Bare(StoreKey),
    /// Under a passphrase.
    Locked(LockedKey),
}

/// A store key under a passphrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedKey {
    header: PassphraseHeader,
    nonce: [u8; NONCE_BYTES],
    sealed: [u8; KEY_BYTES + TAG_BYTES],
}

/// Why stored bytes are no store key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoredKeyError {
    /// Neither form.
    #[error("it is no key ({bytes} bytes)")]
    NotAKey {
        /// How many there are.
        bytes: usize,
    },
    /// Another format.
    #[error("it was locked by a newer version: update")]
    Newer,
    /// The passphrase would be stretched less, or more, than this version does.
    #[error("{0}")]
    Cost(#[from] ForeignCost),
}

/// Why a locked key did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// Not the one it was locked under.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// The right passphrase, and other bytes than were written.
    #[error("it is damaged")]
    Damaged,
}

impl From<WrongPassphrase> for UnlockError {
    fn from(WrongPassphrase: WrongPassphrase) -> Self {
        Self::WrongPassphrase
    }
}

impl StoredKey {
    /// Parses what is stored; `least` is what this platform locks with.
    ///
    /// # Errors
    /// [`StoredKeyError`].
    pub fn parse(bytes: &[u8], least: Cost) -> Result<Self, StoredKeyError> {
        if let Ok(key) = <[u8; KEY_BYTES]>::try_from(bytes) {
            return Ok(Self::Bare(StoreKey::from_bytes(key)));
        }
        let not_a_key = StoredKeyError::NotAKey { bytes: bytes.len() };
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return Err(if bytes.starts_with(MAGIC_START) { StoredKeyError::Newer } else { not_a_key });
        };
        let (header, rest) = rest.split_first_chunk().ok_or(not_a_key)?;
        let (nonce, sealed) = rest.split_first_chunk().ok_or(not_a_key)?;
        let sealed = <[u8; KEY_BYTES + TAG_BYTES]>::try_from(sealed).map_err(|_| not_a_key)?;
        let header = PassphraseHeader::parse(header)?;
        if header.cost() < least {
            return Err(ForeignCost.into());
        }
        Ok(Self::Locked(LockedKey { header, nonce: *nonce, sealed }))
    }
}

impl LockedKey {
    /// Locks a key. `random` must be fresh random bytes. Takes the time that `cost` says.
    #[must_use]
    pub fn lock(key: &StoreKey, passphrase: &Passphrase, cost: Cost, random: &[u8; LOCK_RANDOM_BYTES]) -> Self {
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
        salt.copy_from_slice(&random[..SALT_BYTES]);
        nonce.copy_from_slice(&random[SALT_BYTES..]);
        let (header, wrap) = PassphraseHeader::create(passphrase, cost, salt, label::STORE_LOCK);
        let mut locked = Self { header, nonce, sealed: [0; KEY_BYTES + TAG_BYTES] };
        let aad = locked.bound();
        let (sealed, tag) = locked.sealed.split_at_mut(KEY_BYTES);
        sealed.copy_from_slice(key.expose());
        let made = XChaCha20Poly1305::new(&(*wrap).into())
            .encrypt_inout_detached(&XNonce::from(nonce), &aad, InOutBuf::from(sealed))
            .expect("32 bytes are not too many");
        tag.copy_from_slice(&made);
        locked
    }

    /// Opens it. Takes the time that its cost says.
    ///
    /// # Errors
    /// [`UnlockError`].
    pub fn unlock(&self, passphrase: &Passphrase) -> Result<StoreKey, UnlockError> {
        let wrap = self.header.key(passphrase, label::STORE_LOCK)?;
        let (sealed, tag) = self.sealed.split_last_chunk::<TAG_BYTES>().ok_or(UnlockError::Damaged)?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        key.copy_from_slice(sealed);
        XChaCha20Poly1305::new(&(*wrap).into())
            .decrypt_inout_detached(
                &XNonce::from(self.nonce),
                &self.bound(),
                InOutBuf::from(key.as_mut_slice()),
                &Tag::from(*tag),
            )
            .map_err(|_| UnlockError::Damaged)?;
        Ok(StoreKey::from_bytes(*key))
    }

    /// The bytes to store.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.bound()[..], &self.sealed].concat()
    }

    /// Everything before the sealed key: its associated data.
    fn bound(&self) -> Vec<u8> {
        [MAGIC, &self.header.to_bytes(), &self.nonce].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> StoreKey {
        StoreKey::from_bytes([9; 32])
    }

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::given(text.to_owned())
    }

    fn locked() -> LockedKey {
        LockedKey::lock(&key(), &passphrase("open sesame"), Cost::Browser, &[5; LOCK_RANDOM_BYTES])
    }

    #[test]
    fn a_locked_key_opens_under_its_passphrase_only() {
        let bytes = locked().to_bytes();
        assert_eq!(bytes.len(), LOCKED_KEY_BYTES);
        assert!(!bytes.windows(8).any(|window| window == [9; 8]));
        let Ok(StoredKey::Locked(found)) = StoredKey::parse(&bytes, Cost::Browser) else { panic!("not locked") };
        assert_eq!(found.unlock(&passphrase("open sesame")), Ok(key()));
        assert_eq!(found.unlock(&passphrase("open sesamE")), Err(UnlockError::WrongPassphrase));
    }

    #[test]
    fn a_bare_key_is_taken_as_it_is() {
        assert_eq!(StoredKey::parse(&[9; 32], Cost::Native), Ok(StoredKey::Bare(key())));
    }

    #[test]
    fn a_key_locked_at_less_than_this_platforms_cost_is_refused() {
        let bytes = locked().to_bytes();
        assert_eq!(StoredKey::parse(&bytes, Cost::Native), Err(StoredKeyError::Cost(ForeignCost)));
    }

    #[test]
    fn changed_bytes_never_open() {
        let bytes = locked().to_bytes();
        // One of each part: line, cost, salt, commitment, nonce, key, tag.
        for at in [3, 21, 34, 60, 85, 110, 150] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            match StoredKey::parse(&changed, Cost::Browser) {
                Ok(StoredKey::Locked(changed)) => {
                    assert!(changed.unlock(&passphrase("open sesame")).is_err(), "byte {at}");
                }
                Ok(StoredKey::Bare(_)) => panic!("byte {at} made it a bare key"),
                Err(_) => {}
            }
        }
        for cut in [0, 1, 31, 33, bytes.len() - 1] {
            assert!(matches!(
                StoredKey::parse(&bytes[..cut], Cost::Browser),
                Err(StoredKeyError::NotAKey { .. } | StoredKeyError::Newer)
            ));
        }
    }

    #[test]
    fn the_bytes_of_a_locked_key_are_these() {
        let line = hex::encode(&locked().to_bytes()[..MAGIC.len() + 12 + 16]);
        let numbers = "004c00000200000001000000";
        assert_eq!(line, format!("{}{numbers}{}", hex::encode(MAGIC), "05".repeat(16)));
        // The tag holds what is associated: everything before the sealed key.
        let tag = hex::encode(&locked().to_bytes()[LOCKED_KEY_BYTES - TAG_BYTES..]);
        assert_eq!(tag, "a6391834a801ff14f1d52773aa150ca1");
    }
}
