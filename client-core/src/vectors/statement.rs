//! A receipt and a whisper.

use serde_json::{Value, json};
use zerok_sync_protocol::id::RelayTag;
use zerok_sync_protocol::{BlobId, NoisePublicKey, Timeline, wire};

use crate::content::{Observed, SeenHash, SeenItem};
use crate::fixtures::{Group, membership};
use crate::observed::FoldHash;
use crate::statement::{self, Receipt, SessionId, Statement, Vouch, Whisper, WhisperBody};

pub(super) fn vectors() -> Value {
    let group = Group::new(0x67);
    let item = |device: crate::id::DeviceId, seq, id| SeenItem {
        tag: device.tag(),
        seq,
        hash: SeenHash::of(&BlobId([id; 32])),
    };
    let seen = vec![item(group.founder.device(), 3, 0xb3), item(membership(2).device(), 1, 0xb2)];
    let observed = Observed {
        relay: RelayTag::of(&NoisePublicKey([0x0a; 32])),
        timeline: Timeline([0x71; 8]),
        cursor: 2,
        hash: FoldHash::start().fold(1, &BlobId([0xb1; 32])).fold(2, &BlobId([0xb2; 32])).short(),
    };
    let receipt = Receipt {
        sender: group.founder.device(),
        seq: 3,
        seen: seen.try_into().expect("two fit"),
        observed: Some(observed),
        position: 1,
        sent_at_ms: 1_700_000_000_000,
        vouches: vec![Vouch {
            relay: RelayTag::of(&NoisePublicKey([0x0a; 32])),
            manifest: SeenHash::of(&BlobId([0xb4; 32])),
        }]
        .try_into()
        .expect("one fits"),
    };
    let whisper = |counter, body| Whisper {
        sender: group.founder.device(),
        session: SessionId([0x5e; 16]),
        counter,
        echo: vec![SessionId([0xec; 16])].try_into().expect("one fits"),
        body,
    };
    json!({
        "about": "Group, epoch and members as in envelope.json. Nonces repeat one byte.",
        "receipt": sealed(&group, 1, &receipt),
        "whispers": [
            sealed(&group, 2, &whisper(1, WhisperBody::Here {})),
            sealed(&group, 3, &whisper(2, WhisperBody::App { data: "typing".into() })),
            sealed(&group, 4, &whisper(3, WhisperBody::Bye {})),
        ],
    })
}

fn sealed<S: Statement + PartialEq + std::fmt::Debug>(group: &Group, nonce: u8, statement: &S) -> Value {
    let keyring = &group.keyring;
    let envelope = statement::seal(keyring.group(), keyring.current(), &group.founder.signing, [nonce; 24], statement);
    assert_eq!(statement::open::<S>(keyring, &envelope).as_ref(), Ok(statement), "a statement survives");
    json!({
        "nonce": hex::encode([nonce; 24]),
        "array": hex::encode(wire::encode(statement)),
        "envelope": hex::encode(&envelope),
    })
}
