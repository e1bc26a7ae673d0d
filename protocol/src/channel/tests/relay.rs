//! The relay channel between honest peers, and between peers that are not who they should be.

use super::*;
use crate::limits::{HANDSHAKE_MESSAGE_BYTES_MAX, SUITE};

#[test]
fn both_sides_agree_on_the_handshake_and_on_each_other() {
    let Handshake { client, relay, .. } = handshake(10);
    assert_eq!(client.handshake_hash(), relay.handshake_hash());
    assert_eq!(client.remote_static(), key(RELAY).public());
    assert_eq!(relay.remote_static(), key(CLIENT).public());
}

#[test]
fn messages_have_the_sizes_that_the_protocol_states() {
    let Handshake { messages: [first, second, third], .. } = handshake(10);
    assert_eq!([first.len(), second.len(), third.len()], [1_233, 1_184, 64]);
    assert_eq!(first[0], SUITE);
}

#[test]
fn the_payload_of_message_3_arrives() {
    let (client, second, relay) = after_message_2(10);
    let (third, _) = client.read(&second).expect("message 2").finish(b"early").expect("it fits");
    assert_eq!(relay.read(&third).expect("message 3").1, b"early");
}

#[test]
fn the_same_randomness_gives_the_same_messages_and_other_randomness_others() {
    let (one, again, other) = (handshake(10), handshake(10), handshake(20));
    assert_eq!(one.messages, again.messages);
    for (message, other) in one.messages.iter().zip(&other.messages) {
        assert_ne!(message, other);
    }
    assert_ne!(one.client.handshake_hash(), other.client.handshake_hash());
}

#[test]
fn a_client_sees_a_changed_relay_key_before_it_says_who_it_is() {
    let (client, first) = Initiator::relay(&key(CLIENT), &mut rng(10));
    let impostor = key(666);
    let (_, second) = Responder::relay(&impostor).read(&first, &mut rng(11)).expect("message 1");
    let known = client.read(&second).expect("the impostor's own key is proven");
    assert_eq!(known.remote_static(), impostor.public());
    assert_ne!(known.remote_static(), key(RELAY).public());
}

#[test]
fn another_suite_is_named_in_the_error() {
    let (_, mut first) = Initiator::relay(&key(CLIENT), &mut rng(10));
    first[0] = 2;
    let refused = Responder::relay(&key(RELAY)).read(&first, &mut rng(11)).expect_err("suite 2");
    assert_eq!(refused, ChannelError::UnsupportedSuite { theirs: 2 });
}

#[test]
fn a_handshake_message_over_the_limit_is_refused_unread() {
    let long = vec![SUITE; HANDSHAKE_MESSAGE_BYTES_MAX + 1];
    let refused = ChannelError::HandshakeTooLong { bytes: long.len() };
    let (client, _, relay) = after_message_2(10);
    assert_eq!(Responder::relay(&key(RELAY)).read(&long, &mut rng(11)).expect_err("too long"), refused);
    assert_eq!(client.read(&long).expect_err("too long"), refused);
    assert_eq!(relay.read(&long).expect_err("too long"), refused);
}

#[test]
fn an_ephemeral_key_of_small_order_is_refused() {
    // The order-1, -2 and -8 points of RFC 7748 §6.1's advice, in the place of the relay's e.
    let order_8 = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
    let points = [
        [0; 32],
        {
            let mut one = [0; 32];
            one[0] = 1;
            one
        },
        order_8.parse::<crate::NoisePublicKey>().expect("hex").0,
    ];
    for point in points {
        let (client, mut second, _) = after_message_2(10);
        second[..32].copy_from_slice(&point);
        assert_eq!(client.read(&second).expect_err("small order"), ChannelError::WeakKey);
    }
}

#[test]
fn a_kem_key_that_fails_fips_203s_check_is_refused() {
    // Message 1's payload is readable with what is in clear before it, so anybody can write one:
    // here by a client whose ek has a coefficient that is not reduced modulo q.
    let mut noise = raw_initiator();
    let mut first = vec![SUITE; 1];
    first.resize(1 + 32 + 1_184 + 16, 0);
    let len = noise.write_message(&[0xff; 1_184], &mut first[1..]).expect("it fits");
    assert_eq!(len, 1_232);
    let refused = Responder::relay(&key(RELAY)).read(&first, &mut rng(11)).expect_err("not reduced");
    assert_eq!((refused, refused.fault()), (ChannelError::InvalidKemKey, Fault::Peer));
}

#[test]
fn message_1_holds_exactly_its_kem_key() {
    for (bytes, expected) in [
        (1_183, ChannelError::HandshakeTruncated { message: 1 }),
        (1_185, ChannelError::UnexpectedPayload { message: 1 }),
    ] {
        let mut noise = raw_initiator();
        let mut first = vec![0; 1 + 32 + bytes + 16];
        first[0] = SUITE;
        noise.write_message(&vec![0; bytes], &mut first[1..]).expect("it fits");
        assert_eq!(Responder::relay(&key(RELAY)).read(&first, &mut rng(11)).expect_err("wrong length"), expected);
    }
}

#[test]
fn neither_x25519_nor_the_kem_secret_alone_gives_the_session() {
    // Whoever knows every X25519 secret of the client but not its ML-KEM key: the same Noise
    // messages, a psk from any other KEM secret, and message 3 is not accepted.
    let (_, second, relay) = after_message_2(10);
    let mut noise = raw_initiator();
    let mut scratch = vec![0; 4_096];
    let ek = kem_key_of(10);
    noise.write_message(&ek, &mut scratch).expect("message 1 as the client wrote it");
    noise.read_message(&second, &mut scratch).expect("message 2 opens with X25519 alone");
    let h2: [u8; 32] = noise.get_handshake_hash().try_into().expect("32 bytes");
    noise.set_psk(3, super::kem::psk(&h2, &Secret32::new([0; 32])).expose()).expect("position 3");
    let len = noise.write_message(&[], &mut scratch).expect("message 3");
    assert_eq!(
        relay.read(&scratch[..len]).expect_err("wrong KEM secret"),
        ChannelError::HandshakeRejected { message: 3 }
    );

    // Whoever knows the KEM key but no X25519 secret cannot even read message 2: with the right
    // ML-KEM key and another ephemeral key, e·e differs.
    let (stranger, _) = Initiator::relay(&key(CLIENT), &mut rng(99));
    let (_, second, _) = after_message_2(10);
    assert_eq!(stranger.read(&second).expect_err("wrong ephemeral"), ChannelError::HandshakeRejected { message: 2 });
}

#[test]
fn secrets_do_not_print() {
    let secret = StaticKey::from_bytes([0xab; 32]);
    let (client, _) = Initiator::relay(&secret, &mut rng(10));
    let shown = format!("{secret:?} {:?} {client:?} {:?}", Secret32::new([0xab; 32]), Responder::relay(&secret));
    assert!(!shown.contains("171") && !shown.contains("abab"), "{shown}");
}

/// Bare Noise with the keys and randomness of the client of `handshake(10)`: one that misbehaves.
fn raw_initiator() -> snow::HandshakeState {
    use super::handshake::Pattern;
    Pattern::Relay.start(&key(CLIENT), true, super::resolver::Resolver::draw(&mut rng(10)))
}

fn kem_key_of(seed: u64) -> [u8; 1_184] {
    use rand_core::Rng;
    let mut rng = rng(seed);
    rng.fill_bytes(&mut [0; 32]);
    super::kem::Decapsulator::generate(&mut rng).encapsulation_key()
}
