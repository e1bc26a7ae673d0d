//! The channel after its handshake.

use super::*;
use crate::limits::{NOISE_PLAINTEXT_BYTES_MAX, REKEY_AFTER_MESSAGES};

#[test]
fn messages_go_both_ways_in_their_order() {
    let Handshake { mut client, mut relay, .. } = handshake(10);
    for number in 0..5u8 {
        let up = client.seal(&[number; 3]).expect("short");
        let down = relay.seal(&[number; 4]).expect("short");
        assert_eq!(relay.open(&up).expect("sealed next"), [number; 3]);
        assert_eq!(client.open(&down).expect("sealed next"), [number; 4]);
    }
}

#[test]
fn the_longest_plaintext_fits_and_one_byte_more_does_not() {
    let Handshake { mut client, mut relay, .. } = handshake(10);
    let longest = vec![1; NOISE_PLAINTEXT_BYTES_MAX];
    let message = client.seal(&longest).expect("it fits");
    assert_eq!(relay.open(&message).expect("it fits"), longest);
    let refused = client.seal(&vec![1; NOISE_PLAINTEXT_BYTES_MAX + 1]).expect_err("too long");
    assert!(matches!(refused, ChannelError::PayloadTooLong { max: NOISE_PLAINTEXT_BYTES_MAX, .. }));
    client.seal(b"and the channel lives on").expect("a refused plaintext harms nothing");
}

#[test]
fn a_bit_flipped_anywhere_in_a_transport_message_is_rejected() {
    let len = handshake(10).client.seal(b"twenty bytes of text").expect("short").len();
    for position in 0..len {
        let Handshake { mut client, mut relay, .. } = handshake(10);
        let mut message = client.seal(b"twenty bytes of text").expect("short");
        message[position] ^= 1 << (position % 8);
        assert_eq!(relay.open(&message), Err(ChannelError::MessageRejected), "byte {position}");
    }
}

#[test]
fn a_message_that_does_not_open_ends_the_channel_in_both_directions() {
    let Handshake { mut client, mut relay, .. } = handshake(10);
    let good = client.seal(b"good").expect("short");
    assert_eq!(relay.open(&good[1..]), Err(ChannelError::MessageRejected));
    assert_eq!(relay.open(&good), Err(ChannelError::Poisoned));
    assert_eq!(relay.seal(b"answer"), Err(ChannelError::Poisoned));
}

#[test]
fn replayed_reordered_dropped_reflected_and_empty_messages_are_rejected() {
    let pair = || {
        let Handshake { mut client, relay, .. } = handshake(10);
        let messages = [client.seal(b"one").expect("short"), client.seal(b"two").expect("short")];
        (client, relay, messages)
    };
    let (_, mut relay, [one, _]) = pair();
    relay.open(&one).expect("first");
    assert_eq!(relay.open(&one), Err(ChannelError::MessageRejected), "replayed");
    let (_, mut relay, [_, two]) = pair();
    assert_eq!(relay.open(&two), Err(ChannelError::MessageRejected), "the first was dropped");
    let (mut client, _, [one, _]) = pair();
    assert_eq!(client.open(&one), Err(ChannelError::MessageRejected), "reflected");
    let (_, mut relay, _) = pair();
    assert_eq!(relay.open(&[]), Err(ChannelError::MessageRejected), "empty");
}

#[test]
fn each_direction_rekeys_on_its_own_after_its_interval() {
    let Handshake { mut client, mut relay, .. } = handshake(10);
    client.set_rekey_after(3);
    relay.set_rekey_after(3);
    for number in 0..20u8 {
        let up = client.seal(&[number]).expect("short");
        assert_eq!(relay.open(&up).expect("same keys"), [number]);
        if number % 4 == 0 {
            let down = relay.seal(&[number]).expect("short");
            assert_eq!(client.open(&down).expect("same keys"), [number]);
        }
    }
}

#[test]
fn the_interval_is_65536_messages_and_not_rekeying_is_noticed() {
    let Handshake { mut client, mut relay, .. } = handshake(10);
    relay.set_rekey_after(u64::MAX);
    for _ in 0..REKEY_AFTER_MESSAGES {
        let message = client.seal(&[]).expect("short");
        relay.open(&message).expect("under the first key");
    }
    let message = client.seal(&[]).expect("short");
    assert_eq!(relay.open(&message), Err(ChannelError::MessageRejected));
}
