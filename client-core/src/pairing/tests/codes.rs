//! Pairing by code: the same handshake behind a password-authenticated exchange.

use zerok_sync_protocol::channel::Initiator;

use super::digits::commitment;
use super::*;
use crate::code::PairingCode;
use crate::error::JoinError;

const SALT: &[u8] = &[0x5a; 16];

fn code(seed: u8) -> PairingCode {
    let mailbox = MailboxId::from_slice(&[0x12, 0x34]).expect("2 bytes");
    PairingCode::generate(mailbox, &mut rng(seed)).expect("15 bits")
}

fn by_code(code: &PairingCode, salt: &[u8]) -> (JoinerPairing, Vec<u8>) {
    JoinerPairing::by_code(code, salt, joiner(), name("phone"), &mut rng(2))
}

fn sent(step: Result<JoinerStep, JoinError>) -> Vec<u8> {
    match step {
        Ok(JoinerStep::Send(message)) => message,
        other => panic!("expected message 1, got {other:?}"),
    }
}

/// Message 1 of a joiner with this code, at an inviter with code 1.
fn message_1(inviter: &mut InviterPairing, code: &PairingCode, salt: &[u8]) -> (JoinerPairing, Vec<u8>) {
    let (mut joiner, ya) = by_code(code, salt);
    let yb = send(inviter.receive(&ya, &mut rng(1)));
    let m1 = sent(joiner.receive(&yb, &mut rng(3)));
    (joiner, m1)
}

fn start() -> InviterPairing {
    InviterPairing::by_code(code(1), SALT, inviter())
}

#[test]
fn a_device_with_the_code_is_let_in() {
    let mut inviter = start();
    let (mut joiner, m1) = message_1(&mut inviter, &code(1), SALT);
    let m2 = send(inviter.receive(&m1, &mut rng(1)));
    let (m3, shown) = introduce(joiner.receive(&m2, &mut rng(3)));
    ask(inviter.receive(&m3, &mut rng(1)));
    assert!(inviter.check_digits(shown).is_ok());
    let m4 = inviter.accept(&material()).expect("it fits");
    assert_eq!(granted(joiner.receive(&m4, &mut rng(3))).relays[0].url, RELAY_URL);
    accepted(inviter.receive(&joiner.stored().expect("there is a grant"), &mut rng(1)));
}

#[test]
fn d_pair_01_a_wrong_code_costs_the_try_and_both_sides_learn_it() {
    let mut inviter = start();
    let (joiner, m1) = message_1(&mut inviter, &code(9), SALT);
    assert!(matches!(inviter.receive(&m1, &mut rng(1)), Err(JoinError::WrongCode)));
    assert_eq!(joiner.closed(), JoinError::WrongCode);

    let (_, m1) = message_1(&mut start(), &code(1), SALT);
    assert!(inviter.receive(&m1, &mut rng(1)).is_err(), "the right one comes too late");
}

/// A relay that plays each side's other half does not know the password: it has one guess at each.
#[test]
fn d_pair_01_a_relay_between_two_devices_with_a_code_gets_nothing_and_both_are_told() {
    let (mut inviter, (mut joiner, ya)) = (start(), by_code(&code(1), SALT));
    let mut to_joiner = InviterPairing::by_code(code(9), SALT, membership(7));
    let (mut to_inviter, guess) = by_code(&code(9), SALT);

    let m1 = sent(joiner.receive(&send(to_joiner.receive(&ya, &mut rng(5))), &mut rng(3)));
    assert!(
        matches!(to_joiner.receive(&m1, &mut rng(5)), Err(JoinError::WrongCode)),
        "what the joiner says stays shut"
    );
    let own_m1 = sent(to_inviter.receive(&send(inviter.receive(&guess, &mut rng(1))), &mut rng(6)));
    assert!(matches!(inviter.receive(&own_m1, &mut rng(1)), Err(JoinError::WrongCode)), "the inviter is told");
    // Whatever it sends instead of message 2.
    for forged in [m1.clone(), own_m1, vec![0; 1_200]] {
        let (mut joiner, _) = message_1(&mut start(), &code(1), SALT);
        assert!(joiner.receive(&forged, &mut rng(3)).is_err(), "the joiner is told");
    }
    assert_eq!(joiner.closed(), JoinError::WrongCode);
    assert!(inviter.receive(&m1, &mut rng(1)).is_err(), "the code is dead: the joiner's own comes too late");
    assert!(inviter.accept(&material()).is_err(), "there is nobody to hand anything over to");
}

#[test]
fn another_salt_is_another_exchange() {
    let mut inviter = start();
    let (_, m1) = message_1(&mut inviter, &code(1), &[0; 16]);
    assert!(matches!(inviter.receive(&m1, &mut rng(1)), Err(JoinError::WrongCode)));
}

#[test]
fn a_share_that_no_honest_device_sends_ends_it() {
    for share in [&[0; 32][..], &[0xff; 32], &[1; 31], &[]] {
        assert!(matches!(start().receive(share, &mut rng(1)), Err(JoinError::Invalid(_))), "at the inviter");
        let (mut joiner, _) = by_code(&code(1), SALT);
        assert!(matches!(joiner.receive(share, &mut rng(3)), Err(JoinError::Invalid(_))), "at the joiner");
    }
}

/// Whoever knows a code's shared secret cannot pass a code's handshake off as a link's.
#[test]
fn a_handshake_for_a_link_is_none_for_a_code() {
    let secret = pairing_psk(&SECRET);
    let prologue = prologue(PairingMode::Code, &mailbox());
    let (_, m1) =
        Initiator::pairing(&joiner().noise, secret, &prologue, &commitment(&[1; 32]), &mut rng(2)).expect("it fits");
    assert!(matches!(start_inviter().receive(&m1, &mut rng(1)), Err(JoinError::WrongSecret)));
}

#[test]
fn a_mailbox_that_closes_before_the_shares_is_no_wrong_code() {
    let mut inviter = start();
    assert_eq!(by_code(&code(1), SALT).0.closed(), JoinError::InviteGone);
    assert_eq!(inviter.closed(), JoinError::Expired);
    let mut inviter = start();
    message_1(&mut inviter, &code(1), SALT);
    assert_eq!(inviter.closed(), JoinError::PeerLeft);
}
