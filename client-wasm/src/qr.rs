//! Links as QR codes.

use qrcodegen::{QrCode, QrCodeEcc};
use wasm_bindgen::prelude::*;

/// The modules of a text's QR code, row by row, 1 is dark; `undefined` for a text that does not fit
/// one. With the least error correction: a screen is near, nothing covers it, and the modules are
/// the larger.
#[wasm_bindgen(js_name = qrModules)]
#[must_use]
pub fn qr_modules(text: &str) -> Option<Vec<u8>> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    let side = 0..code.size();
    Some(
        side.clone()
            .flat_map(|y| side.clone().map(move |x| (x, y)))
            .map(|(x, y)| code.get_module(x, y).into())
            .collect(),
    )
}
