//! The recorded vectors, checked inside wasm: the browser's build speaks the bytes that the native
//! one does. Only in a test build; see `test/vectors.test.mjs`.

use wasm_bindgen::prelude::*;

/// Checks every vector of both crates.
///
/// # Errors
/// Names the first place that differs.
#[wasm_bindgen(js_name = checkVectors)]
pub fn check_vectors() -> Result<(), JsValue> {
    zerok_sync_protocol::vectors::check()
        .and_then(|()| zerok_sync_core::vectors::check())
        .map_err(|place| JsValue::from_str(&place))
}
