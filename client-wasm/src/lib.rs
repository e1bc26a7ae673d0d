//! 0k-Sync in the browser.

use wasm_bindgen::prelude::*;

/// Says hi
#[wasm_bindgen]
pub fn hi() -> String {
    zerok_sync_protocol::NoisePublicKey([7; 32]).to_string()
}
