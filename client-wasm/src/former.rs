//! The group that a device was in before it joined another, while its entries are brought along.

use js_sys::Array;
use wasm_bindgen::prelude::*;
use zerok_sync_core::FormerGroup;
use zerok_sync_core::keys::StoreKey;

use crate::driver::read_rows;
use crate::engine::{CoreEngine, key_range};
use crate::failure::{InvalidArgument, thrown};
use crate::host::Rows;

/// What its rows hold.
#[wasm_bindgen]
pub struct CoreFormer {
    group: FormerGroup,
}

#[wasm_bindgen]
impl CoreFormer {
    /// Of its rows in `CoreEngine.hotRange`.
    ///
    /// # Errors
    /// `corrupt`, `invalid_argument`.
    pub fn open(store_key: &[u8], hot_rows: &Rows) -> Result<CoreFormer, JsValue> {
        let wrong = |_| thrown(&InvalidArgument("a store key has 32 bytes"));
        let store_key = StoreKey::from_bytes(store_key.try_into().map_err(wrong)?);
        let group = FormerGroup::open(store_key, read_rows(hot_rows)).map_err(|error| thrown(&error))?;
        Ok(Self { group })
    }

    /// Throws unless this device is alone in it, or has left it.
    ///
    /// # Errors
    /// `already_in_group`.
    #[wasm_bindgen(js_name = checkFree)]
    pub fn check_free(&self) -> Result<(), JsValue> {
        self.group.check_free().map_err(|error| thrown(&error))
    }

    /// The `KeyRange`s of the rows to hand to `bring`, in this order.
    #[must_use]
    pub fn ranges() -> Array {
        FormerGroup::ranges().into_iter().map(|(from, to)| JsValue::from(key_range(&from, &to))).collect()
    }

    /// Queues its own entries in these rows, as far as they are not; the push number that is then
    /// durable with all of them.
    ///
    /// # Errors
    /// `corrupt`, `stopped`, `too_large`.
    pub fn bring(&mut self, engine: &CoreEngine, rows: &Rows) -> Result<f64, JsValue> {
        let mut number = 0;
        for row in read_rows(rows) {
            for entry in self.group.own_entries(row, 0).map_err(|error| thrown(&error))? {
                number = engine.bring(entry)?;
            }
        }
        Ok(number as f64)
    }
}
