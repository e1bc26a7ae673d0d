//! Epoch 0, and a rotation that removes a device.

use serde_json::{Value, json};
use zerok_sync_protocol::vectors::RecordedRng;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, wire};

use crate::epoch::{
    EpochBody, MemberDigest, Predecessor, Removed, open_epoch, seal_epoch, seal_genesis, unwrap_secret,
};
use crate::fixtures::{Group, membership};
use crate::keys::EpochSecret;
use crate::seal::Sealed;

/// A nonce and at most 8 wraps of 128 bytes each.
const RANDOM_BYTES: usize = 24 + 8 * 128;

pub(super) fn vectors() -> Value {
    let mut group = Group::new(0x67);
    let random: Vec<u8> = (0..RANDOM_BYTES).map(|n| (n % 251) as u8).collect();
    let founder = group.founder.clone();
    let founding =
        seal_genesis(&group.genesis, &group.keyring, &founder, 1_700_000_000_000, &mut RecordedRng::new(&random));

    let (kept, removed) = (membership(2), membership(3));
    let next = EpochSecret::from_bytes([0xe1; 32]);
    let body = EpochBody {
        sender: founder.device(),
        seq: 1,
        prev: founding.blob_id,
        seen: List::empty(),
        previous_epoch: group.keyring.current().id,
        previous_blob_id: founding.blob_id,
        removed: vec![Removed { device: removed.device(), last_seq: 4, last_blob_id: BlobId([0xb4; 32]) }]
            .try_into()
            .expect("one fits"),
        member_digest: MemberDigest::of([founder.device(), kept.device()]),
        allow: vec![founder.keys.noise, kept.keys.noise].try_into().expect("two fit"),
        keyring: vec![group.keyring.current_secret().clone()].try_into().expect("one fits"),
        lamport: 9,
        sent_at_ms: 1_700_000_100_000,
        genesis: bytes::Bytes::new(),
    };
    let id = *group.keyring.group();
    let members = [founder.keys.clone(), kept.keys.clone()];
    let rotation = seal_epoch(&id, &next, &founder.signing, &members, &body, &mut RecordedRng::new(&random))
        .expect("two members fit");

    let opened_founding = open_epoch(&id, group.keyring.current(), &founding.envelope).expect("just sealed");
    let signed_founding = opened_founding.clone().verify().expect("just signed");
    signed_founding.check_succession(Predecessor::None).expect("this group's genesis");
    let before = Predecessor::Epoch {
        id: body.previous_epoch,
        blob_id: founding.blob_id,
        members: &[founder.keys.clone(), kept.keys.clone(), removed.keys.clone()],
    };
    let unwrapped = unwrap_secret(&id, &kept, &rotation.envelope).expect("wrapped to it");
    let next_id = group.keyring.insert(unwrapped);
    let keys = group.keyring.get(&next_id).expect("just inserted");
    let signed = open_epoch(&id, keys, &rotation.envelope).expect("just sealed").verify().expect("just signed");
    signed.check_succession(before).expect("a member may remove another");
    assert!(unwrap_secret(&id, &removed, &rotation.envelope).is_err(), "a removed device stays out");

    let epoch = |sealed: &Sealed, body: &EpochBody, secret: &[u8; 32]| {
        json!({
            "secret": hex::encode(secret),
            "array": hex::encode(wire::encode(body)),
            "envelope": hex::encode(&sealed.envelope),
            "blob_id": sealed.blob_id.to_string(),
        })
    };
    json!({
        "about": "Group and founder of keys.json; members 2 and 3 have seeds 0x02 and 0x03 repeated. Member 3 is removed.",
        "random": hex::encode(&random),
        "random_order": "nonce 24; for each member ML-KEM m 32 ‖ X25519 ephemeral 32; for each dummy: its seed 32, its secret 32, then as for a member",
        "founding": epoch(&founding, opened_founding.claims(), &[0xe0; 32]),
        "rotation": epoch(&rotation, &body, &[0xe1; 32]),
    })
}
