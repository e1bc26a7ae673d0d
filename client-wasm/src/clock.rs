//! The two clocks the core is given: `performance.now()` and `Date.now()`.

use wasm_bindgen::prelude::*;
use zerok_sync_core::io::Now;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
}

/// Reads both clocks. Milliseconds fit an `f64` exactly for longer than anybody waits; a clock set
/// before 1970 reads as 1970.
pub(crate) fn now() -> Now {
    Now { mono_ms: performance_now() as u64, wall_ms: js_sys::Date::now() as u64 }
}
