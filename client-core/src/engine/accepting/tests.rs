//! Who becomes a member by its first entry, where no honest relay and no real keys lead.

use super::*;
use crate::certificate::Card;
use crate::content::Content;
use crate::engine::rows::EpochRow;
use crate::engine::{Founding, Secrets};
use crate::fixtures::{content, membership};
use crate::io::{Change, Now, RelayAddress};
use crate::keys::{Membership, StoreKey};

/// A founder's engine in its first epoch.
fn founder() -> Engine {
    let now = Now { mono_ms: 0, wall_ms: 0 };
    let secrets = || Secrets { store_key: StoreKey::from_bytes([1; 32]), rng_seed: [2; 32] };
    let relay = RelayAddress { url: "http://127.0.0.1:8080".into(), key: None };
    let founding = Founding { relay, device_name: "first".into(), token: None };
    let changes = Engine::found(now, &secrets(), founding).changes.into_iter();
    let rows = changes.filter_map(|change| if let Change::Put(row) = change { Some(row) } else { None }).collect();
    let mut engine = Engine::open(now, secrets(), rows).expect("just founded");
    let (me, keys) = (engine.me.device(), engine.me.keys.clone());
    engine.members.insert(me, member(keys));
    engine.epochs.push(EpochRow {
        id: engine.keyring.current().id,
        blob_id: BlobId([1; 32]),
        previous: zerok_sync_protocol::EpochId::ZERO,
        author: me,
        allow: Vec::new(),
        members: vec![me],
        closed: false,
        hands_on_all: true,
    });
    engine
}

fn member(keys: MemberKeys) -> MemberRow {
    MemberRow { keys, name: "member".into(), certificate: None, joined_at_ms: 0, leaving: false, paper: false }
}

/// The first entry of a device that this one has let in.
fn join_of(engine: &Engine, joiner: &Membership) -> Authenticated {
    let (group, epoch) = (engine.keyring.group(), engine.keyring.current());
    let card = Card { keys: joiner.keys.clone(), name: "joiner".parse().expect("a name") };
    let certificate = JoinCertificate::issue(group, &engine.me.signing, card, epoch.id);
    let first = Content { kind: Kind::JOIN, ..content(joiner, 1, BlobId::ZERO, certificate.to_bytes()) };
    let sealed = seal::seal(group, epoch, &joiner.signing, [3; 24], &first).expect("small");
    seal::open(&engine.keyring, &sealed.envelope).expect("just sealed").verify().expect("just signed")
}

#[test]
fn a_join_whose_tag_is_a_members_is_refused() {
    let (mut engine, joiner) = (founder(), membership(7));
    let join = join_of(&engine, &joiner);
    // Eight bytes of it alike, which nobody finds two keys for: it needs no key to be in the list.
    let mut namesake = joiner.keys.clone();
    namesake.device.0[31] ^= 1;
    engine.members.insert(namesake.device, member(namesake.clone()));
    assert!(matches!(engine.admit(&join), Admission::Refused));
    assert!(!engine.members.contains_key(&joiner.device()));
    engine.members.remove(&namesake.device);
    assert!(matches!(engine.admit(&join), Admission::Member), "nothing else kept it out");
}

#[test]
fn a_join_into_a_group_that_is_full_is_refused() {
    let (mut engine, joiner) = (founder(), membership(7));
    let join = join_of(&engine, &joiner);
    let others = (100..).map(|byte| membership(byte).keys).take(ALLOW_LIST_MAX - 1);
    others.for_each(|keys| drop(engine.members.insert(keys.device, member(keys))));
    assert_eq!(engine.members.len(), ALLOW_LIST_MAX);
    assert!(matches!(engine.admit(&join), Admission::Refused));
    let last = *engine.members.keys().find(|device| **device != engine.me.device()).expect("full");
    engine.members.remove(&last);
    assert!(matches!(engine.admit(&join), Admission::Member), "there is room for one");
}
