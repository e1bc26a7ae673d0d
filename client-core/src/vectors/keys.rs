//! Everything that comes from a seed, a genesis body or an epoch's secret.

use serde_json::{Value, json};
use zerok_sync_protocol::BlobId;

use crate::epoch::MemberDigest;
use crate::fixtures::{Group, membership};
use crate::observed::FoldHash;

pub(super) fn vectors() -> Value {
    let group = Group::new(0x67);
    let epoch = group.keyring.current();
    let me = &group.founder;
    let other = membership(2);
    let first = FoldHash::start().fold(1, &BlobId([0xb1; 32]));
    json!({
        "about": "HKDF-SHA256 with the labels of client-core/src/label.rs; all hex.",
        "membership": {
            "seed": hex::encode([1; 32]),
            "signing_key": hex::encode(me.signing.to_bytes()),
            "device_id": me.device().to_string(),
            "noise_key": hex::encode(me.noise.expose()),
            "noise_public": me.keys.noise.to_string(),
            "kem_key": hex::encode(me.kem.as_bytes()),
            "kem_public": hex::encode(me.keys.kem.as_bytes()),
            "sender_tag": me.device().tag().to_string(),
        },
        "genesis": {
            "random": hex::encode([0x67; 32]),
            "body": hex::encode(group.genesis.bytes()),
            "group_id": group.genesis.group().to_string(),
        },
        "epoch": {
            "secret": hex::encode(group.keyring.current_secret().expose()),
            "epoch_id": epoch.id.to_string(),
            "data_key": hex::encode(epoch.data.expose()),
            "whisper_key": hex::encode(epoch.whisper.expose()),
            "receipt_key": hex::encode(epoch.receipt.expose()),
            "auth_key": hex::encode(epoch.auth.to_bytes()),
            "auth_public": epoch.auth_public().to_string(),
            "log_name": epoch.log_name().to_string(),
        },
        "member_digest": {
            "devices": [me.device().to_string(), other.device().to_string()],
            "digest": MemberDigest::of([me.device(), other.device()]).to_string(),
        },
        "observed": {
            "h_0": FoldHash::start().to_string(),
            "blob_id_1": BlobId([0xb1; 32]).to_string(),
            "h_1": first.to_string(),
            "short": first.short().to_string(),
        },
    })
}
