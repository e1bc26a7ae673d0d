//! Messages that were damaged, cut, repeated or put out of order on their way.

use super::*;

#[test]
fn a_flipped_bit_in_any_byte_of_any_message_ends_the_pairing() {
    for next in 1..=5 {
        let message = Pair::before(next).messages.remove(next - 1);
        // Every byte of what is short and of the ends, where the parts of a message meet; of the
        // long encrypted middles a sample.
        let ends = message.len().min(20);
        let places = (0..ends).chain((0..message.len()).step_by(11)).chain(message.len() - ends..message.len());
        for at in places {
            let mut damaged = message.clone();
            damaged[at] ^= 1 << (at % 8);
            let mut pair = Pair::before(next);
            assert!(pair.refuses(&damaged), "byte {at} of message {next}");
            assert!(pair.refuses(&message), "over after byte {at} of message {next}");
        }
    }
}

#[test]
fn a_truncated_or_lengthened_message_ends_the_pairing() {
    for next in 1..=5 {
        let message = Pair::before(next).messages.remove(next - 1);
        for len in
            [0, 1, 31, 32, 80, message.len() / 2, message.len() - 1].into_iter().filter(|&len| len < message.len())
        {
            assert!(Pair::before(next).refuses(&message[..len]), "{len} bytes of message {next}");
        }
        assert!(Pair::before(next).refuses(&[&message[..], &[0]].concat()), "a byte behind message {next}");
        assert!(Pair::before(next).refuses(&vec![0; 70_000]), "70,000 bytes as message {next}");
    }
}

#[test]
fn a_repeated_or_reordered_message_ends_the_pairing() {
    let all = {
        let mut pair = Pair::before(5);
        std::mem::take(&mut pair.messages)
    };
    for next in 1..=5 {
        for (number, message) in (1..).zip(&all) {
            if number != next {
                assert!(Pair::before(next).refuses(message), "message {number} where {next} was due");
            }
        }
    }
    let mut done = Pair::before(5);
    accepted(done.inviter.receive(&all[4], &mut rng(1)));
    assert!(done.inviter.receive(&all[4], &mut rng(1)).is_err(), "message 5 twice");
}

#[test]
fn messages_of_another_pairing_under_the_same_link_are_refused() {
    let other = |seed: u8| {
        let psk0 = pairing_psk(&SECRET);
        JoinerPairing::by_link(&mailbox(), psk0, membership(seed), name("phone"), &mut rng(seed))
    };
    let (mut joiner, m1) = other(3);
    let m2 = send(start_inviter().receive(&m1, &mut rng(4)));
    assert!(Pair::before(2).joiner.receive(&m2, &mut rng(2)).is_err(), "an answer to somebody else");
    let (m3, _) = introduce(joiner.receive(&m2, &mut rng(3)));
    assert!(Pair::before(3).inviter.receive(&m3, &mut rng(1)).is_err(), "somebody else's introduction");
}
