//! The JavaScript side of the bridge, as this side sees it: `Host` in `ts/bridge.ts`, which the
//! generated types import.

use js_sys::{Array, Object, Uint8Array};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"import type { CoreAuditReport, CoreStatus, Host, KeyRange, Rows } from "./bridge.js";
import type { RecoveryDraft } from "./recovery.js";
import type { Hole } from "./status.js";"#;

#[wasm_bindgen]
extern "C" {
    /// Carries out what a machine cannot do on this side. Its methods never call back into wasm
    /// before they return, and never throw.
    #[wasm_bindgen(typescript_type = "Host")]
    pub type Host;

    #[wasm_bindgen(method)]
    pub(crate) fn commit(this: &Host, id: f64, keys: Array, values: Array);

    #[wasm_bindgen(method)]
    pub(crate) fn scan(this: &Host, id: f64, from: Uint8Array, to: Uint8Array, bytes_max: f64);

    #[wasm_bindgen(method)]
    pub(crate) fn deadline(this: &Host, delay_ms: Option<f64>);

    #[wasm_bindgen(method)]
    pub(crate) fn event(this: &Host, event: Object);

    /// Rows of storage: equally long lists of keys and values.
    #[wasm_bindgen(typescript_type = "Rows")]
    pub type Rows;

    #[wasm_bindgen(method, getter)]
    pub(crate) fn keys(this: &Rows) -> Array;

    #[wasm_bindgen(method, getter)]
    pub(crate) fn values(this: &Rows) -> Array;

    /// A range of storage keys.
    #[wasm_bindgen(typescript_type = "KeyRange")]
    pub type KeyRange;

    /// `Status` of the engine.
    #[wasm_bindgen(typescript_type = "CoreStatus")]
    pub type CoreStatus;

    /// What an audit found.
    #[wasm_bindgen(typescript_type = "CoreAuditReport")]
    pub type CoreAuditReport;

    /// Entries that are missing, each with who wrote them.
    #[wasm_bindgen(typescript_type = "readonly Hole[]")]
    pub type CoreHoles;

    /// Words that were just made.
    #[wasm_bindgen(typescript_type = "RecoveryDraft")]
    pub type CoreRecoveryDraft;

    /// Authenticated entries, packed, or what puts one together.
    #[wasm_bindgen(typescript_type = "(Uint8Array | CoreInParts)[]")]
    pub type StoredEntries;
}
