//! The file with a home's store key: bare, or locked under a passphrase (`zerok_sync_core::store_lock`).
//!
//! It is replaced as a whole, so a home is always openable by the passphrase before or by the one
//! after. The key itself never changes: who could read the file while it was bare, in a backup or in
//! what a disk keeps of replaced files, needs no passphrase.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;
use zerok_sync_core::keys::StoreKey;
use zerok_sync_core::passphrase::{Cost, Passphrase};
use zerok_sync_core::store_lock::{
    LOCK_RANDOM_BYTES, LOCKED_KEY_BYTES, LockedKey, StoredKey, StoredKeyError, UnlockError,
};

use crate::home::{restrict_to_owner, write_whole};
use crate::storage::StorageError;

/// Where a home's key is.
pub(crate) struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Whether it takes a passphrase.
    pub(crate) fn is_locked(&self) -> Result<bool, StorageError> {
        Ok(matches!(self.stored()?, StoredKey::Locked(_)))
    }

    /// The key, with the passphrase if it is locked.
    pub(crate) fn read(&self, passphrase: Option<&Passphrase>) -> Result<StoreKey, StorageError> {
        match (self.stored()?, passphrase) {
            (StoredKey::Bare(key), _) => Ok(key),
            (StoredKey::Locked(_), None) => Err(StorageError::PassphraseNeeded { path: self.home() }),
            (StoredKey::Locked(locked), Some(passphrase)) => locked.unlock(passphrase).map_err(|error| match error {
                UnlockError::WrongPassphrase => StorageError::WrongPassphrase { path: self.home() },
                UnlockError::Damaged => self.refused(&error),
            }),
        }
    }

    /// Makes a fresh key.
    pub(crate) fn create(&self, passphrase: Option<&Passphrase>) -> Result<StoreKey, StorageError> {
        let key = StoreKey::from_bytes(*random::<32>()?);
        self.write(&key, passphrase)?;
        Ok(key)
    }

    /// Replaces the file: bare without a passphrase, locked with one.
    pub(crate) fn write(&self, key: &StoreKey, passphrase: Option<&Passphrase>) -> Result<(), StorageError> {
        let written = match passphrase {
            None => write_whole(&self.path, key.expose()),
            Some(passphrase) => {
                let locked = LockedKey::lock(key, passphrase, Cost::Native, &*random::<LOCK_RANDOM_BYTES>()?);
                write_whole(&self.path, &locked.to_bytes())
            }
        };
        written.map_err(|error| StorageError::io(&self.path, error))
    }

    fn stored(&self) -> Result<StoredKey, StorageError> {
        let io_error = |error| StorageError::io(&self.path, error);
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StorageError::KeyMissing { path: self.path.clone() });
            }
            Err(error) => return Err(io_error(error)),
        };
        restrict_to_owner(&self.path).map_err(io_error)?;
        let length = file.metadata().map_err(io_error)?.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(LOCKED_KEY_BYTES + 1));
        file.take(LOCKED_KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(io_error)?;
        StoredKey::parse(&bytes, Cost::Native).map_err(|error| match error {
            StoredKeyError::NotAKey { .. } => StorageError::KeyDamaged { path: self.path.clone(), length },
            other => self.refused(&other),
        })
    }

    fn refused(&self, why: &impl ToString) -> StorageError {
        StorageError::KeyRefused { path: self.path.clone(), why: why.to_string() }
    }

    fn home(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new(".")).to_owned()
    }
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, StorageError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| StorageError::NoRandomness(error.to_string()))?;
    Ok(bytes)
}
