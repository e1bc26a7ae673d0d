//! The pairing channel: the same module with psk0, a prologue, and payloads in each message.

use super::*;

const JOINER: u64 = 3;
const INVITER: u64 = 4;
const PROLOGUE: &[u8] = b"0k-sync/1 pair\0mailbox";

fn secret(byte: u8) -> Secret32 {
    Secret32::new([byte; 32])
}

fn first(psk0: u8, prologue: &[u8]) -> (AwaitingResponse, Vec<u8>) {
    Initiator::pairing(&key(JOINER), secret(psk0), prologue, b"commitment", &mut rng(10)).expect("it fits")
}

#[test]
fn payloads_and_h2_reach_the_other_side_at_their_moment() {
    let (joiner, m1) = first(7, PROLOGUE);
    let inviter = Responder::pairing(&key(INVITER), secret(7), PROLOGUE).read(&m1, &mut rng(11)).expect("message 1");
    assert_eq!(inviter.extra(), b"commitment");
    let (inviter, m2) = inviter.respond(b"nonce").expect("it fits");
    let joiner = joiner.read(&m2).expect("message 2");
    assert_eq!(joiner.extra(), b"nonce");
    assert_eq!(joiner.remote_static(), key(INVITER).public());
    let h2 = joiner.hash_after_message_2();
    assert_eq!(h2, inviter.hash_after_message_2());
    let (m3, joiner) = joiner.finish(b"card").expect("it fits");
    let (inviter, card) = inviter.read(&m3).expect("message 3");
    assert_eq!(card, b"card");
    assert_eq!(inviter.remote_static(), key(JOINER).public());
    assert_eq!(joiner.handshake_hash(), inviter.handshake_hash());
    assert_ne!(joiner.handshake_hash(), h2);
}

#[test]
fn a_wrong_link_secret_fails_message_1() {
    let (_, m1) = first(7, PROLOGUE);
    let refused = Responder::pairing(&key(INVITER), secret(8), PROLOGUE).read(&m1, &mut rng(11)).expect_err("psk0");
    assert_eq!(refused, ChannelError::HandshakeRejected { message: 1 });
}

#[test]
fn another_mailbox_fails_message_1() {
    let (_, m1) = first(7, b"0k-sync/1 pair\0other");
    let refused = Responder::pairing(&key(INVITER), secret(7), PROLOGUE).read(&m1, &mut rng(11)).expect_err("prologue");
    assert_eq!(refused, ChannelError::HandshakeRejected { message: 1 });
}

#[test]
fn a_relay_that_does_not_know_the_secret_cannot_read_message_1() {
    let (_, m1) = first(7, PROLOGUE);
    assert!(!m1.windows(10).any(|window| window == b"commitment"));
}

#[test]
fn a_relay_handshake_is_not_a_pairing() {
    let (_, relay_first) = Initiator::relay(&key(JOINER), &mut rng(10));
    let inviter = Responder::pairing(&key(INVITER), secret(7), PROLOGUE);
    assert!(inviter.read(&relay_first[1..], &mut rng(11)).is_err());
}

#[test]
fn a_payload_that_does_not_fit_is_refused_by_its_writer() {
    let long = vec![0; crate::limits::HANDSHAKE_MESSAGE_BYTES_MAX];
    let refused = Initiator::pairing(&key(JOINER), secret(7), PROLOGUE, &long, &mut rng(10)).expect_err("too long");
    assert!(matches!(refused, ChannelError::PayloadTooLong { .. }));
    assert_eq!(refused.fault(), Fault::Local);
}

#[test]
fn the_longest_payloads_that_may_be_written_can_be_read() {
    let (probe, _) = first(7, PROLOGUE);
    drop(probe);
    let fits = |kem: usize| vec![5; crate::limits::HANDSHAKE_MESSAGE_BYTES_MAX - 1 - 96 - kem];
    let (joiner, m1) = Initiator::pairing(&key(JOINER), secret(7), PROLOGUE, &fits(1_184), &mut rng(10)).expect("fits");
    let inviter = Responder::pairing(&key(INVITER), secret(7), PROLOGUE).read(&m1, &mut rng(11)).expect("message 1");
    let (inviter, m2) = inviter.respond(&fits(1_088)).expect("fits");
    let (m3, _) = joiner.read(&m2).expect("message 2").finish(&fits(0)).expect("fits");
    assert_eq!(inviter.read(&m3).expect("message 3").1, fits(0));
}
