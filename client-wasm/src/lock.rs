//! The store key under a passphrase. Stretching a passphrase takes tens of milliseconds to a second
//! of the calling thread, and 19 MiB.

use wasm_bindgen::prelude::*;
use zerok_sync_core::keys::StoreKey;
use zerok_sync_core::passphrase::{Cost, Passphrase};
use zerok_sync_core::store_lock::{LOCK_RANDOM_BYTES, LockedKey, StoredKey};

use crate::failure::{InvalidArgument, PassphraseNeeded, thrown};

/// The store key as it is stored under a new passphrase; `random` is fresh.
///
/// # Errors
/// `invalid_argument`.
#[wasm_bindgen(js_name = lockStoreKey)]
pub fn lock_store_key(store_key: &[u8], passphrase: String, random: &[u8]) -> Result<Vec<u8>, JsValue> {
    let wrong = |_| thrown(&InvalidArgument("a store key has 32 bytes, and locking it takes 40 random ones"));
    let random: &[u8; LOCK_RANDOM_BYTES] = random.try_into().map_err(wrong)?;
    let key = StoreKey::from_bytes(store_key.try_into().map_err(wrong)?);
    let passphrase = Passphrase::chosen(passphrase).map_err(|error| thrown(&error))?;
    Ok(LockedKey::lock(&key, &passphrase, Cost::Browser, random).to_bytes())
}

/// The store key out of what is stored, with the passphrase if it is locked.
///
/// # Errors
/// `passphrase_needed`, `wrong_passphrase`, `corrupt`, `newer_database`.
#[wasm_bindgen(js_name = unlockStoreKey)]
pub fn unlock_store_key(stored: &[u8], passphrase: Option<String>) -> Result<Vec<u8>, JsValue> {
    let key = match StoredKey::parse(stored, Cost::Browser).map_err(|error| thrown(&error))? {
        StoredKey::Bare(key) => key,
        StoredKey::Locked(locked) => {
            let passphrase = passphrase.ok_or_else(|| thrown(&PassphraseNeeded))?;
            locked.unlock(&Passphrase::given(passphrase)).map_err(|error| thrown(&error))?
        }
    };
    Ok(key.expose().to_vec())
}

/// How many random bytes `lockStoreKey` takes.
#[wasm_bindgen(js_name = lockRandomBytes)]
#[must_use]
pub fn lock_random_bytes() -> usize {
    LOCK_RANDOM_BYTES
}
