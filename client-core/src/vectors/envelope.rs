//! Sealed entries, and a certificate in a joiner's first one.

use serde_json::{Value, json};
use zerok_sync_protocol::id::RelayTag;
use zerok_sync_protocol::{BlobId, NoisePublicKey, Timeline, wire};

use crate::certificate::{Card, JoinCertificate};
use crate::content::{Content, Kind, Observed, SeenHash, SeenItem};
use crate::fixtures::{Group, content, membership};
use crate::keys::Membership;
use crate::observed::FoldHash;
use crate::seal;

pub(super) fn vectors() -> Value {
    let group = Group::new(0x67);
    let joiner = membership(2);
    let card = Card { keys: joiner.keys.clone(), name: "phone".parse().expect("a name") };
    let epoch = group.keyring.current().id;
    let certificate = JoinCertificate::issue(group.keyring.group(), &group.founder.signing, card, epoch);
    let join = Content { kind: Kind::JOIN, ..content(&joiner, 1, BlobId::ZERO, certificate.to_bytes()) };
    let seen = SeenItem { tag: joiner.device().tag(), seq: 1, hash: SeenHash::of(&BlobId([0xb2; 32])) };
    let observed = Observed {
        relay: RelayTag::of(&NoisePublicKey([0x0a; 32])),
        timeline: Timeline([0x71; 8]),
        cursor: 2,
        hash: FoldHash::start().fold(1, &BlobId([0xb1; 32])).fold(2, &BlobId([0xb2; 32])).short(),
    };
    let talkative = Content {
        seen: vec![seen].try_into().expect("one fits"),
        observed: Some(observed),
        ..content(&group.founder, 2, BlobId([0xb1; 32]), "hello")
    };
    let limits = [4_096, 65_536, 1_179_648].map(|limit| json!([limit, seal::max_blob_bytes(limit)]));
    let empty = content(&group.founder, 3, BlobId([0xb3; 32]), "");
    json!({
        "about": "Group, epoch and members of keys.json; the joiner's seed is 0x02 repeated. Nonces repeat one byte.",
        "entries": [
            entry(&group, &joiner, 1, &join),
            entry(&group, &group.founder, 2, &talkative),
            entry(&group, &group.founder, 3, &empty),
        ],
        "max_blob_bytes": limits,
    })
}

fn entry(group: &Group, author: &Membership, nonce: u8, content: &Content) -> Value {
    let keyring = &group.keyring;
    let sealed =
        seal::seal(keyring.group(), keyring.current(), &author.signing, [nonce; 24], content).expect("it is short");
    let opened = seal::open(keyring, &sealed.envelope).expect("just sealed").verify().expect("just signed");
    assert_eq!(*opened, *content, "an entry survives");
    json!({
        "kind": content.kind.0,
        "seq": content.seq,
        "nonce": hex::encode([nonce; 24]),
        "array": hex::encode(wire::encode(content)),
        "envelope": hex::encode(&sealed.envelope),
        "blob_id": sealed.blob_id.to_string(),
    })
}
