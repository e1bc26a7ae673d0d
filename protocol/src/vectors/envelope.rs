//! The outside of envelopes: header bytes and blob ids. (The inside is `zerok-sync-core`'s.)

use serde_json::{Value, json};

use crate::envelope::{ENVELOPE_BYTES_MIN, EnvelopeHeader, EnvelopeType, HEADER_BYTES, blob_id};
use crate::id::{AuthPublicKey, EpochId, LogName, NoisePublicKey, RelayTag};

pub(super) fn vectors() -> Value {
    let envelopes: Vec<_> = [EnvelopeType::Entry, EnvelopeType::Epoch, EnvelopeType::Whisper, EnvelopeType::Receipt]
        .into_iter()
        .map(envelope)
        .collect();
    let auth = AuthPublicKey([0xa1; 32]);
    let relay = NoisePublicKey([0x0a; 32]);
    json!({
        "about": "blob_id = BLAKE3(header ‖ BLAKE3(rest)). The body is filler: bytes 0, 1, 2, … modulo 251.",
        "envelopes": envelopes,
        "names": {
            "auth_public": auth.to_string(),
            "log_name": LogName::of(&auth).to_string(),
            "relay_noise_public": relay.to_string(),
            "relay_tag": RelayTag::of(&relay).to_string(),
        },
    })
}

fn envelope(kind: EnvelopeType) -> Value {
    let header =
        EnvelopeHeader { kind, flags: 0, epoch: EpochId([0xe1; 8]), nonce: [0x24; 24], commitment: [0x32; 32] };
    let filler = (0..ENVELOPE_BYTES_MIN - HEADER_BYTES).map(|n| (n % 251) as u8);
    let bytes: Vec<u8> = header.to_bytes().into_iter().chain(filler).collect();
    assert_eq!(EnvelopeHeader::parse(&bytes), Ok((header.clone(), &bytes[HEADER_BYTES..])), "a header survives");
    json!({
        "type": kind as u8,
        "flags": header.flags,
        "epoch_id": header.epoch.to_string(),
        "nonce": hex::encode(header.nonce),
        "commitment": hex::encode(header.commitment),
        "header": hex::encode(header.to_bytes()),
        "body_bytes": bytes.len() - HEADER_BYTES,
        "blob_id": blob_id(&bytes).to_string(),
    })
}
