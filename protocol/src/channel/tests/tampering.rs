//! Somebody on the path: every byte, every length, and every order of the handshake.

use super::*;
use crate::limits::SUITE;

fn relay_reads(first: &[u8]) -> Result<(AwaitingFinal, Vec<u8>), ChannelError> {
    Responder::relay(&key(RELAY)).read(first, &mut rng(11))
}

/// A flipped bit in message 1 is either seen by the relay at once (its payload is authenticated
/// under a key anybody can compute) or, where it was repaired by an active attacker, at message 2.
#[test]
fn a_bit_flipped_anywhere_in_message_1_is_rejected() {
    let (_, first) = Initiator::relay(&key(CLIENT), &mut rng(10));
    for position in 0..first.len() {
        let mut flipped = first.clone();
        flipped[position] ^= 1 << (position % 8);
        assert!(relay_reads(&flipped).is_err(), "byte {position}");
    }
}

#[test]
fn a_bit_flipped_anywhere_in_message_2_is_rejected() {
    for position in 0..1_184 {
        let (client, mut second, _) = after_message_2(10);
        second[position] ^= 1 << (position % 8);
        assert!(client.read(&second).is_err(), "byte {position}");
    }
}

#[test]
fn a_bit_flipped_anywhere_in_message_3_is_rejected() {
    let Handshake { messages: [.., third], .. } = handshake(10);
    for position in 0..third.len() {
        let (_, _, relay) = after_message_2(10);
        let mut flipped = third.clone();
        flipped[position] ^= 1 << (position % 8);
        assert!(relay.read(&flipped).is_err(), "byte {position}");
    }
}

#[test]
fn a_handshake_message_cut_at_any_length_is_rejected() {
    let Handshake { messages: [first, second, third], .. } = handshake(10);
    for len in 0..first.len() {
        assert!(relay_reads(&first[..len]).is_err(), "message 1 cut to {len}");
    }
    for len in (0..second.len()).step_by(7).chain(1_150..second.len()) {
        assert!(after_message_2(10).0.read(&second[..len]).is_err(), "message 2 cut to {len}");
    }
    for len in 0..third.len() {
        assert!(after_message_2(10).2.read(&third[..len]).is_err(), "message 3 cut to {len}");
    }
}

#[test]
fn a_handshake_message_with_bytes_appended_is_rejected() {
    let Handshake { messages, .. } = handshake(10);
    let [first, second, third] = messages.map(|mut message| {
        message.push(0);
        message
    });
    assert!(relay_reads(&first).is_err());
    assert!(after_message_2(10).0.read(&second).is_err());
    assert!(after_message_2(10).2.read(&third).is_err());
}

#[test]
fn a_message_in_the_wrong_place_is_rejected() {
    let Handshake { messages, .. } = handshake(10);
    for (number, message) in messages.iter().enumerate() {
        let with_suite = [&[SUITE], message.as_slice()].concat();
        assert!(relay_reads(&with_suite).is_err(), "message {} as message 1", number + 1);
        if number != 1 {
            assert!(after_message_2(10).0.read(message).is_err(), "message {} as message 2", number + 1);
        }
        if number != 2 {
            assert!(after_message_2(10).2.read(message).is_err(), "message {} as message 3", number + 1);
        }
    }
}

#[test]
fn messages_of_another_handshake_are_rejected() {
    let old = handshake(20);
    let (client, _, relay) = after_message_2(10);
    assert_eq!(client.read(&old.messages[1]).expect_err("replayed"), ChannelError::HandshakeRejected { message: 2 });
    assert_eq!(relay.read(&old.messages[2]).expect_err("replayed"), ChannelError::HandshakeRejected { message: 3 });
}

#[test]
fn a_replayed_message_1_gets_no_further_than_message_2() {
    let old = handshake(10);
    let (relay, _) =
        Responder::relay(&key(RELAY)).read(&old.messages[0], &mut rng(12)).expect("message 1 is replayable");
    assert_eq!(relay.read(&old.messages[2]).expect_err("fresh e"), ChannelError::HandshakeRejected { message: 3 });
}

#[test]
fn a_reflected_message_1_is_rejected() {
    let (client, first) = Initiator::relay(&key(CLIENT), &mut rng(10));
    assert!(client.read(&first[1..]).is_err());
}
