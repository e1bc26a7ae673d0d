//! Targets behind Noise's authentication. Random bytes never get past it, so besides raw messages
//! (mode 0) the input may be the *payload* of a message that is otherwise well made, on the relay
//! channel (mode 1) or the pairing channel (mode 2). Input: mode (1) ‖ bytes.

use super::SeededRng;
use crate::channel::handshake::Pattern;
use crate::channel::kem::{CIPHERTEXT_BYTES, KEY_BYTES};
use crate::channel::resolver::Resolver;
use crate::channel::{AwaitingResponse, ChannelError, Initiator, Responder, Secret32, StaticKey};
use crate::limits::{HANDSHAKE_MESSAGE_BYTES_MAX, SUITE};

const PROLOGUE: &[u8] = b"0k-sync/1 pair fuzz";

fn initiator_key() -> StaticKey {
    StaticKey::from_bytes([1; 32])
}

fn responder_key() -> StaticKey {
    StaticKey::from_bytes([2; 32])
}

fn psk0() -> Secret32 {
    Secret32::new([3; 32])
}

fn pairing() -> Pattern {
    Pattern::Pairing { psk0: psk0(), prologue: PROLOGUE.to_vec() }
}

/// The relay channel's initiator and its first link message, the same each time.
pub(super) fn initiator() -> (AwaitingResponse, Vec<u8>) {
    Initiator::relay(&initiator_key(), &mut SeededRng::new(b"initiator"))
}

#[cfg(test)]
pub(super) fn encapsulation_key() -> Vec<u8> {
    crate::channel::kem::Decapsulator::generate(&mut SeededRng::new(b"kem")).encapsulation_key().to_vec()
}

/// A responder reads a first message: an error, or an answer that nobody but the sender can use.
pub fn handshake_responder(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let mut rng = SeededRng::new(b"responder");
    let relay = Responder::relay(&responder_key());
    match mode % 3 {
        0 => {
            if let Ok((awaiting, _)) = relay.read(bytes, &mut rng) {
                assert!(awaiting.read(bytes).is_err(), "message 1 is not message 3");
            }
        }
        1 => {
            let Some(first) = message_1(&Pattern::Relay, bytes) else { return };
            let result = relay.read(&[&[SUITE], first.as_slice()].concat(), &mut rng);
            check_kem_part(result.err(), bytes, KEY_BYTES, false);
        }
        _ => {
            let Some(first) = message_1(&pairing(), bytes) else { return };
            match Responder::pairing(&responder_key(), psk0(), PROLOGUE).read(&first, &mut rng) {
                Ok(first) => assert_eq!(first.extra(), &bytes[KEY_BYTES..]),
                Err(error) => check_kem_part(Some(error), bytes, KEY_BYTES, true),
            }
        }
    }
}

/// An initiator reads message 2: an error, or a peer that message 3 can be written to.
pub fn handshake_initiator(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    match mode % 3 {
        0 => {
            let (initiator, _) = initiator();
            // The committed seed is the one answer that opens.
            if let Ok(known) = initiator.read(bytes) {
                known.finish(&[]).expect("an empty payload fits");
            }
        }
        1 => {
            let (initiator, first) = initiator();
            let Some(second) = message_2(&Pattern::Relay, &first[1..], bytes) else { return };
            check_kem_part(initiator.read(&second).err(), bytes, CIPHERTEXT_BYTES, false);
        }
        _ => {
            let mut rng = SeededRng::new(b"initiator");
            let (initiator, first) =
                Initiator::pairing(&initiator_key(), psk0(), PROLOGUE, &[], &mut rng).expect("no extra fits");
            let Some(second) = message_2(&pairing(), &first, bytes) else { return };
            match initiator.read(&second) {
                Ok(known) => assert_eq!(known.extra(), &bytes[CIPHERTEXT_BYTES..]),
                Err(error) => check_kem_part(Some(error), bytes, CIPHERTEXT_BYTES, true),
            }
        }
    }
}

/// A payload is refused for its length, for an invalid key in it, or not at all.
fn check_kem_part(error: Option<ChannelError>, payload: &[u8], kem_bytes: usize, extra_allowed: bool) {
    match error {
        Some(ChannelError::HandshakeTruncated { .. }) => assert!(payload.len() < kem_bytes),
        Some(ChannelError::UnexpectedPayload { .. }) => assert!(payload.len() > kem_bytes && !extra_allowed),
        Some(ChannelError::InvalidKemKey) => assert!(payload.len() >= kem_bytes && kem_bytes == KEY_BYTES),
        Some(other) => panic!("a well-made message was refused: {other}"),
        None => assert!(payload.len() == kem_bytes || extra_allowed && payload.len() > kem_bytes),
    }
}

/// Message 1 with any payload; `None` when it would be over the limit for handshake messages.
fn message_1(pattern: &Pattern, payload: &[u8]) -> Option<Vec<u8>> {
    let resolver = Resolver::draw(&mut SeededRng::new(b"initiator"));
    write(&mut pattern.start(&initiator_key(), true, resolver), payload)
}

/// Message 2 with any payload, in answer to `first`.
fn message_2(pattern: &Pattern, first: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let resolver = Resolver::draw(&mut SeededRng::new(b"responder"));
    let mut noise = pattern.start(&responder_key(), false, resolver);
    noise.read_message(first, &mut vec![0; first.len()]).expect("an honest message 1");
    write(&mut noise, payload)
}

fn write(noise: &mut snow::HandshakeState, payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() > HANDSHAKE_MESSAGE_BYTES_MAX {
        return None;
    }
    let mut message = vec![0; payload.len() + 128];
    let len = noise.write_message(payload, &mut message).expect("the buffer is large enough");
    message.truncate(len);
    (len < HANDSHAKE_MESSAGE_BYTES_MAX).then_some(message)
}
