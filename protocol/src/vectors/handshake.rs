//! Both channels from fixed randomness: every message, every intermediate value that two
//! implementations could disagree on, the transport behind it with its rekeying, and the proofs
//! that are bound to the handshake.

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use super::RecordedRng;
use crate::channel::kem::{self, Decapsulator};
use crate::channel::{Channel, Initiator, Responder, Secret32, StaticKey};
use crate::hello;
use crate::id::{AuthPublicKey, LogName};
use crate::limits::REKEY_AFTER_MESSAGES;

const INITIATOR_STATIC: [u8; 32] = [0x11; 32];
const RESPONDER_STATIC: [u8; 32] = [0x22; 32];
const PSK0: [u8; 32] = [0x33; 32];
/// What a pairing by link puts before its mailbox id: mode 0, a two-byte id.
const PAIRING_PROLOGUE: &[u8] = b"0k-sync/1 pair\0\x02\0MM";

/// Recognisable, and no two alike: `first`, `first + 1`, …
fn random<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|index| first.wrapping_add(index as u8))
}

pub(super) fn vectors() -> Value {
    json!({
        "about": "initiator_random = X25519 ephemeral 32 ‖ ML-KEM d 32 ‖ ML-KEM z 32; \
                  responder_random = X25519 ephemeral 32 ‖ ML-KEM m 32. Statics are X25519 secrets.",
        "relay": relay(),
        "pairing": pairing(),
    })
}

fn relay() -> Value {
    let (initiator, responder) = (StaticKey::from_bytes(INITIATOR_STATIC), StaticKey::from_bytes(RESPONDER_STATIC));
    let (initiator_random, responder_random) = (random::<96>(0x40), random::<64>(0xc0));
    let mut rngs = [RecordedRng::new(&initiator_random), RecordedRng::new(&responder_random)];

    let (client, first) = Initiator::relay(&initiator, &mut rngs[0]);
    let (relay, second) = Responder::relay(&responder).read(&first, &mut rngs[1]).expect("message 1");
    let client = client.read(&second).expect("message 2");
    let h2 = client.hash_after_message_2();
    let (third, mut client) = client.finish(&[]).expect("message 3");
    let (mut relay, _) = relay.read(&third).expect("message 3");
    assert_eq!(rngs.map(|rng| rng.remaining()), [0, 0], "all randomness is used");

    let hash = client.handshake_hash();
    json!({
        "name": "Noise_XXpsk3_25519_ChaChaPoly_SHA256",
        "prologue": hex::encode([crate::label::CHANNEL_PROLOGUE, &[crate::limits::SUITE]].concat()),
        "initiator_static": hex::encode(INITIATOR_STATIC),
        "initiator_static_public": initiator.public().to_string(),
        "initiator_random": hex::encode(initiator_random),
        "responder_static": hex::encode(RESPONDER_STATIC),
        "responder_static_public": responder.public().to_string(),
        "responder_random": hex::encode(responder_random),
        "first_link_message": hex::encode(first),
        "message_2": hex::encode(second),
        "post_quantum": post_quantum(&initiator_random, &responder_random, &h2),
        "message_3": hex::encode(third),
        "handshake_hash": hex::encode(hash),
        "transport": transport(&mut client, &mut relay),
        "hello": proofs(&hash),
    })
}

fn pairing() -> Value {
    let (joiner, inviter) = (StaticKey::from_bytes(INITIATOR_STATIC), StaticKey::from_bytes(RESPONDER_STATIC));
    let (joiner_random, inviter_random) = (random::<96>(0x50), random::<64>(0xd0));
    let mut rngs = [RecordedRng::new(&joiner_random), RecordedRng::new(&inviter_random)];
    let extras: [&[u8]; 3] = [b"extra of message 1", b"extra of message 2", b"payload of message 3"];

    let psk0 = Secret32::new(PSK0);
    let (j, first) =
        Initiator::pairing(&joiner, psk0.clone(), PAIRING_PROLOGUE, extras[0], &mut rngs[0]).expect("it fits");
    let i = Responder::pairing(&inviter, psk0, PAIRING_PROLOGUE).read(&first, &mut rngs[1]).expect("message 1");
    assert_eq!(i.extra(), extras[0]);
    let (i, second) = i.respond(extras[1]).expect("it fits");
    let j = j.read(&second).expect("message 2");
    assert_eq!(j.extra(), extras[1]);
    let h2 = j.hash_after_message_2();
    let (third, mut j) = j.finish(extras[2]).expect("it fits");
    let (mut i, payload) = i.read(&third).expect("message 3");
    assert_eq!(payload, extras[2]);
    assert_eq!(rngs.map(|rng| rng.remaining()), [0, 0], "all randomness is used");

    json!({
        "name": "Noise_XXpsk0+psk3_25519_ChaChaPoly_SHA256",
        "prologue": hex::encode(PAIRING_PROLOGUE),
        "psk0": hex::encode(PSK0),
        "initiator_static": hex::encode(INITIATOR_STATIC),
        "initiator_random": hex::encode(joiner_random),
        "responder_static": hex::encode(RESPONDER_STATIC),
        "responder_random": hex::encode(inviter_random),
        "extras": extras.map(hex::encode),
        "message_1": hex::encode(first),
        "message_2": hex::encode(second),
        "post_quantum": post_quantum(&joiner_random, &inviter_random, &h2),
        "message_3": hex::encode(third),
        "handshake_hash": hex::encode(j.handshake_hash()),
        "transport": transport(&mut j, &mut i),
    })
}

/// The KEM's values, computed beside the handshake from the same randomness.
fn post_quantum(initiator_random: &[u8; 96], responder_random: &[u8; 64], h2: &[u8; 32]) -> Value {
    let key = Decapsulator::generate(&mut RecordedRng::new(&initiator_random[32..])).encapsulation_key();
    let (ciphertext, secret) =
        kem::encapsulate(&key, &mut RecordedRng::new(&responder_random[32..])).expect("an honest key");
    json!({
        "encapsulation_key": hex::encode(key),
        "ciphertext": hex::encode(ciphertext),
        "kem_secret": hex::encode(secret.expose()),
        "hash_after_message_2": hex::encode(h2),
        "psk3": hex::encode(kem::psk(h2, &secret).expose()),
    })
}

/// First messages both ways, and the initiator's first under its second key.
fn transport(initiator: &mut Channel, responder: &mut Channel) -> Value {
    let seal = |from: &mut Channel, to: &mut Channel, plaintext: &str| {
        let message = from.seal(plaintext.as_bytes()).expect("short");
        assert_eq!(to.open(&message).as_deref(), Ok(plaintext.as_bytes()));
        json!({ "plaintext": plaintext, "message": hex::encode(message) })
    };
    let up = ["up 0", "up 1"].map(|plaintext| seal(initiator, responder, plaintext));
    let down = ["down 0"].map(|plaintext| seal(responder, initiator, plaintext));
    for _ in up.len() as u64..REKEY_AFTER_MESSAGES {
        initiator.seal(&[]).and_then(|message| responder.open(&message)).expect("in order");
    }
    let rekeyed = seal(initiator, responder, "up 65536");
    json!({
        "initiator_to_responder": up,
        "responder_to_initiator": down,
        "initiator_to_responder_after_rekey": { "after_messages": REKEY_AFTER_MESSAGES, "next": rekeyed },
    })
}

fn proofs(handshake: &[u8; 32]) -> Value {
    let (auth, next) = (SigningKey::from_bytes(&[0x44; 32]), SigningKey::from_bytes(&[0x55; 32]));
    let public = AuthPublicKey(auth.verifying_key().to_bytes());
    let next_public = AuthPublicKey(next.verifying_key().to_bytes());
    let name = LogName::of(&public);
    let [join, create] = [false, true].map(|create| hello::sign(&auth, handshake, create));
    let rotate = hello::sign_rotate(&next, handshake, &name);
    assert!(hello::verify(&public, handshake, false, &join) && hello::verify(&public, handshake, true, &create));
    assert!(hello::verify_rotate(&next_public, handshake, &name, &rotate));
    json!({
        "auth_seed": hex::encode(auth.to_bytes()),
        "auth_public": public.to_string(),
        "log_name": name.to_string(),
        "signature": join.to_string(),
        "signature_to_create": create.to_string(),
        "next_auth_seed": hex::encode(next.to_bytes()),
        "next_auth_public": next_public.to_string(),
        "rotate_proof": rotate.to_string(),
    })
}
