//! `CoreRestorer`: a browser that has nothing but the words.

use std::rc::Rc;

use js_sys::Array;
use wasm_bindgen::prelude::*;
use zeroize::Zeroizing;
use zerok_sync_core::io::{Input, RelayAddress};
use zerok_sync_core::{RecoveryWords, Restorer, Restoring, TypedWord, WordsError};

use crate::clock::now;
use crate::convert;
use crate::driver::Driver;
use crate::engine::{noise_key, secrets, storage_fault};
use crate::failure::thrown;
use crate::host::{Host, Rows};

/// Restores one group, driven by JavaScript's event loop. After its event `restored` the storage
/// holds the group: free this and open a `CoreEngine`.
#[wasm_bindgen]
pub struct CoreRestorer {
    driver: Rc<Driver<Restorer>>,
}

#[wasm_bindgen]
impl CoreRestorer {
    /// Starts restoring into the empty storage behind `host`; the first `tick` connects.
    ///
    /// # Errors
    /// `invalid_words`, `invalid_argument`.
    pub fn open(
        host: Host,
        store_key: &[u8],
        seed: &[u8],
        words: String,
        relay: String,
        relay_key: Option<String>,
        device_name: String,
    ) -> Result<CoreRestorer, JsValue> {
        let words = read_words(words)?;
        let relay = RelayAddress { url: relay, key: relay_key.as_deref().map(noise_key).transpose()? };
        let restorer = Restorer::new(now(), secrets(store_key, seed)?, Restoring { words, relay, device_name });
        Ok(Self { driver: Driver::new(restorer, host) })
    }

    /// Gives up.
    pub fn cancel(&self) {
        self.driver.call(|restorer, now| restorer.cancel(now));
    }

    /// The deadline passed.
    pub fn tick(&self) {
        self.driver.input(Input::Tick);
    }

    /// The network may be back, or the page is visible again.
    pub fn wake(&self) {
        self.driver.input(Input::Wake);
    }

    /// A commit is durable.
    pub fn committed(&self, id: f64) {
        self.driver.committed(id, None);
    }

    /// A commit failed; `full` if for want of space.
    #[wasm_bindgen(js_name = commitFailed)]
    pub fn commit_failed(&self, id: f64, full: bool, message: String) {
        self.driver.committed(id, Some(storage_fault(full, message)));
    }

    /// A scan is done.
    pub fn scanned(&self, id: f64, rows: &Rows) {
        self.driver.scanned(id, rows);
    }
}

/// Looks whether a text is somebody's recovery words, before anything is sent.
///
/// # Errors
/// `invalid_words`, which names the word that is wrong where it can.
#[wasm_bindgen(js_name = checkWords)]
pub fn check_words(text: String) -> Result<(), JsValue> {
    read_words(text).map(drop)
}

/// The words of a text that is still being typed: `TypedWord` in `ts/recovery.ts`.
///
/// # Errors
/// `invalid_words` if it is too long to be a sheet.
#[wasm_bindgen(js_name = typedWords)]
pub fn typed_words(text: String) -> Result<Array, JsValue> {
    let words = TypedWord::all_of(&Zeroizing::new(text)).map_err(|error| thrown(&error))?;
    Ok(words.iter().map(convert::typed_word).collect())
}

/// Reads words, and wipes the text: what JavaScript passes by reference would only be freed.
pub(crate) fn read_words(text: String) -> Result<RecoveryWords, JsValue> {
    Zeroizing::new(text).parse().map_err(|error: WordsError| thrown(&error))
}
