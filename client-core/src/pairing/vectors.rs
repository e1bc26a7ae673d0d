//! A whole pairing by link, and one by code, from fixed randomness: every message and every value on the way that
//! two implementations could disagree on.

use serde_json::{Value, json};
use zerok_sync_protocol::channel::{Channel, Initiator, Secret32};
use zerok_sync_protocol::vectors::RecordedRng;
use zerok_sync_protocol::{BlobId, MailboxId, NoisePublicKey, wire};

use super::cpace::{Context, Exchange};
use super::digits::{Digits, NONCE_BYTES, commitment, digits};
use super::message::{Answer, Confirmation, Introduction};
use super::{
    GrantMaterial, GrantedMember, HistoryStart, InviterPairing, InviterStep, JoinerPairing, JoinerStep, PairingMode,
    SnapshotRef, pairing_psk, pake_channel, prologue,
};
use crate::code::PairingCode;
use crate::content::{Observed, SeenHash, SeenItem};
use crate::fixtures::{Group, membership};
use crate::io::RelayAddress;
use crate::keys::{EpochSecret, Membership};
use crate::link::{InviteLink, PairingSecret};
use crate::observed::FoldHash;

const SECRET: [u8; 32] = [0x51; 32];

/// Recognisable, and no two alike: `first`, `first + 1`, …
fn random<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|index| first.wrapping_add(index as u8))
}

fn relay() -> RelayAddress {
    RelayAddress { url: "https://relay.example".into(), key: Some(NoisePublicKey([0x77; 32])) }
}

fn mailbox() -> MailboxId {
    MailboxId::from_slice(&random::<16>(0xa0)).expect("16 bytes")
}

fn material(group: Group) -> GrantMaterial {
    let inviter = group.founder.device();
    let mut keyring = group.keyring;
    let second = keyring.insert(EpochSecret::from_bytes([0xe1; 32]));
    assert!(keyring.set_current(&second), "just inserted");
    let (timeline, fold) = (zerok_sync_protocol::Timeline([0x71; 8]), FoldHash([0x0b; 32]));
    let tag = zerok_sync_protocol::id::RelayTag::of(&NoisePublicKey([0x77; 32]));
    let snapshot = SnapshotRef { sender: inviter, seq: 6, blob_id: BlobId([0xb2; 32]), parts: 2, bytes: 300_000 };
    GrantMaterial {
        genesis: group.genesis,
        keyring,
        inviter_certificate: None,
        relays: vec![relay()],
        frontier: vec![SeenItem { tag: inviter.tag(), seq: 7, hash: SeenHash([0x5e; 16]) }],
        observed: Some(Observed { relay: tag, timeline, cursor: 9, hash: fold.short() }),
        history_start: Some(HistoryStart { timeline, cursor: 4, blob_id: BlobId([0xb1; 32]), hash: fold, snapshot }),
        members: vec![GrantedMember { device: inviter, name: "laptop".parse().expect("a name") }],
    }
}

/// `docs/vectors/pairing.json`.
pub(crate) fn vectors() -> Value {
    json!({
        "about": "joiner_random = r_j 32 ‖ X25519 ephemeral 32 ‖ ML-KEM d 32 ‖ ML-KEM z 32; \
                  inviter_random = X25519 ephemeral 32 ‖ ML-KEM m 32 ‖ r_i 32; with a code 64 bytes \
                  in front of each, which mod the group's order are the scalar of the share. All hex.",
        "link": link(),
        "code": code_texts(),
        "pairing": pairing(Ways::Link),
        "pairing_by_code": pairing(Ways::Code),
    })
}

fn link() -> Value {
    let texts = [None, Some("https://app.example/pair"), Some("zerok://pair")].map(|base| {
        let link = InviteLink::new(base, &relay(), mailbox(), PairingSecret::from_bytes(SECRET)).expect("valid");
        json!({ "base": base, "link": link.to_string() })
    });
    json!({
        "relay_url": relay().url,
        "relay_key": relay().key.map(|key| key.to_string()),
        "mailbox": hex::encode(mailbox().as_bytes()),
        "secret": hex::encode(SECRET),
        "links": texts,
    })
}

/// How the two devices came to share a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ways {
    Link,
    Code,
}

/// A code from recorded randomness, and how its texts are read.
fn code() -> PairingCode {
    let mailbox = MailboxId::from_slice(&[0x4a, 0x7e]).expect("2 bytes");
    PairingCode::generate(mailbox, &mut RecordedRng::new(&random::<4>(0x3c))).expect("15 bits")
}

fn salt() -> [u8; 16] {
    random(0x60)
}

fn code_texts() -> Value {
    json!({
        "mailbox": hex::encode(code().mailbox().as_bytes()),
        "password_random": hex::encode(random::<4>(0x3c)),
        "password": String::from_utf8_lossy(code().password().expose()),
        "code": code().to_string(),
        "salt": hex::encode(salt()),
    })
}

fn pairing(way: Ways) -> Value {
    let (group, joiner) = (Group::new(0x67), membership(2));
    let inviter = group.founder.clone();
    let (joiner_scalar, inviter_scalar) = (random::<64>(0x21), random::<64>(0x42));
    let (joiner_random, inviter_random) = (random::<128>(0x10), random::<96>(0x90));
    let scalars = way == Ways::Code;
    let drawn = |scalar: &[u8], rest: &[u8]| [if scalars { scalar } else { &[] }, rest].concat();
    let randoms = [drawn(&joiner_scalar, &joiner_random), drawn(&inviter_scalar, &inviter_random)];
    let [joiner_rng, inviter_rng] = &mut randoms.each_ref().map(|bytes| RecordedRng::new(bytes));
    let name: crate::certificate::DeviceName = "phone".parse().expect("a name");

    let (mut invitation, mut joining, mut shares, m1, shared);
    match way {
        Ways::Link => {
            shared = Shared { mode: PairingMode::Link, mailbox: mailbox(), psk0: pairing_psk(&SECRET) };
            invitation = InviterPairing::by_link(&mailbox(), shared.psk0.clone(), inviter);
            (joining, m1) = JoinerPairing::by_link(&mailbox(), shared.psk0.clone(), joiner.clone(), name, joiner_rng);
            shares = json!(null);
        }
        Ways::Code => {
            invitation = InviterPairing::by_code(code(), &salt(), inviter);
            let share;
            (joining, share) = JoinerPairing::by_code(&code(), &salt(), joiner.clone(), name, joiner_rng);
            let Ok(InviterStep::Send(answer)) = invitation.receive(&share, inviter_rng) else { panic!("share") };
            let Ok(JoinerStep::Send(first)) = joining.receive(&answer, joiner_rng) else { panic!("share") };
            m1 = first;
            let channel = pake_channel(code().mailbox());
            let (password, salt) = (code().password().clone(), salt());
            let context = Context { password: password.expose(), channel: &channel, session: &salt };
            let exchange = Exchange::start(context, &mut RecordedRng::new(&joiner_scalar));
            assert_eq!(exchange.share()[..], share);
            let isk = exchange.finish_first(&salt, &answer).expect("an honest share");
            shared = Shared {
                mode: PairingMode::Code,
                mailbox: code().mailbox().clone(),
                psk0: pairing_psk(isk.as_slice()),
            };
            shares = json!({
                "ci": hex::encode(&channel),
                "ya": hex::encode(&share),
                "yb": hex::encode(&answer),
                "isk": hex::encode(*isk),
            });
        }
    }
    let Ok(InviterStep::Send(m2)) = invitation.receive(&m1, inviter_rng) else { panic!("message 1") };
    let Ok(JoinerStep::Introduce { message: m3, digits: shown }) = joining.receive(&m2, joiner_rng) else {
        panic!("message 2")
    };
    let Ok(InviterStep::Ask { .. }) = invitation.receive(&m3, inviter_rng) else { panic!("message 3") };
    assert!(invitation.check_digits(shown).is_ok());
    let m4 = invitation.accept(&material(group)).expect("it fits");
    let Ok(JoinerStep::Granted(_)) = joining.receive(&m4, joiner_rng) else { panic!("message 4") };
    let m5 = joining.stored().expect("there is a grant");
    let Ok(InviterStep::Accepted { .. }) = invitation.receive(&m5, inviter_rng) else { panic!("message 5") };
    assert_eq!([joiner_rng.remaining(), inviter_rng.remaining()], [0, 0], "all randomness is used");

    let seen = Beside::run(&shared, &joiner, &joiner_random, [&m1, &m2, &m3, &m4]);
    assert_eq!(shown, seen.digits);
    let mut value = json!({
        "mode": shared.mode as u8,
        "prologue": hex::encode(prologue(shared.mode, &shared.mailbox)),
        "psk0": hex::encode(shared.psk0.expose()),
        "inviter_seed": hex::encode([1; 32]),
        "joiner_seed": hex::encode([2; 32]),
        "joiner_random": hex::encode(&randoms[0]),
        "inviter_random": hex::encode(&randoms[1]),
        "commitment": hex::encode(commitment(joiner_random[..NONCE_BYTES].try_into().expect("32 bytes"))),
        "hash_after_message_2": hex::encode(seen.h2),
        "digits": shown.to_string(),
        "introduction": hex::encode(&seen.introduction),
        "card": hex::encode(&seen.introduced.card),
        "card_signature": seen.introduced.signature.to_string(),
        "handshake_hash": hex::encode(seen.h3),
        "answer": hex::encode(wire::encode(&seen.answer)),
        "declined": hex::encode(wire::encode(&Answer::Declined {})),
        "wrong_digits": hex::encode(wire::encode(&Answer::WrongDigits {})),
        "stored": hex::encode(wire::encode(&Confirmation::Stored {})),
        "refused": hex::encode(wire::encode(&Confirmation::Refused {})),
        "message_1": hex::encode(m1),
        "message_2": hex::encode(m2),
        "message_3": hex::encode(m3),
        "message_4": hex::encode(m4),
        "message_5": hex::encode(m5),
    });
    if !shares.is_null() {
        value["shares"] = shares.take();
    }
    value
}

/// What both sides have before message 1.
struct Shared {
    mode: PairingMode,
    mailbox: MailboxId,
    psk0: Secret32,
}

/// What the machines keep to themselves, recomputed from the same randomness and messages.
struct Beside {
    h2: [u8; 32],
    h3: [u8; 32],
    digits: Digits,
    introduction: Vec<u8>,
    introduced: Introduction,
    answer: Answer,
}

impl Beside {
    fn run(shared: &Shared, joiner: &Membership, joiner_random: &[u8; 128], [m1, m2, m3, m4]: [&Vec<u8>; 4]) -> Self {
        let (r_j, rest) = joiner_random.split_first_chunk::<NONCE_BYTES>().expect("128 bytes");
        let (state, first) = Initiator::pairing(
            &joiner.noise,
            shared.psk0.clone(),
            &prologue(shared.mode, &shared.mailbox),
            &commitment(r_j),
            &mut RecordedRng::new(rest),
        )
        .expect("it fits");
        assert_eq!(first, *m1);
        let state = state.read(m2).expect("message 2");
        let (h2, r_i) = (state.hash_after_message_2(), state.extra().try_into().expect("32 bytes"));
        let card = wire::encode(&crate::certificate::Card {
            keys: joiner.keys.clone(),
            name: "phone".parse().expect("a name"),
        });
        let signature = super::message::sign_card(&joiner.signing, &h2, &card);
        let introduced = Introduction { nonce: super::message::JoinerNonce(*r_j), card: card.into(), signature };
        let introduction = wire::encode(&introduced);
        let (third, mut channel): (_, Channel) = state.finish(&introduction).expect("it fits");
        assert_eq!(third, *m3);
        let answer = wire::decode(&channel.open(m4).expect("message 4")).expect("an answer");
        Self { h2, h3: channel.handshake_hash(), digits: digits(&h2, &r_i, r_j), introduction, introduced, answer }
    }
}
