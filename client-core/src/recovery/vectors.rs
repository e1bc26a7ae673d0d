//! Words, the device they are, and an anchor.

use serde_json::{Value, json};
use zerok_sync_protocol::vectors::RecordedRng;
use zerok_sync_protocol::wire;

use super::anchor;
use super::words::RecoveryWords;

pub(crate) fn vectors() -> Value {
    let words = |byte: u8| {
        let words = RecoveryWords::from_entropy([byte; 32]);
        let paper = words.membership();
        json!({
            "entropy": hex::encode(words.expose()),
            "words": *words.phrase(),
            "device_id": paper.device().to_string(),
            "noise_public": paper.keys.noise.to_string(),
        })
    };
    let anchor = anchor::fixture();
    json!({
        "about": "Words of an entropy, the device they are, and an anchor sealed with the first. The nonce is in its slot.",
        "words": [words(0x00), words(0x7f), words(0xff)],
        "anchor": {
            "array": hex::encode(wire::encode(&anchor)),
            "slot": hex::encode(anchor.seal(&RecoveryWords::from_entropy([0; 32]), &mut RecordedRng::new(&[7; 24]))),
        },
    })
}
