//! How a pairing between honest devices can end.

use zerok_sync_protocol::limits::ALLOW_LIST_MAX;

use super::*;
use crate::certificate::NAME_CHARS_MAX;
use crate::error::JoinError;
use crate::id::SenderTag;
use crate::pairing::grant::{GRANT_FRONTIER_MAX, GRANT_RELAYS_MAX};

#[test]
fn a_device_is_let_in_with_everything_it_needs() {
    let (mut joiner, m1) = start_joiner();
    let mut inviter = start_inviter();
    let m2 = send(inviter.receive(&m1, &mut rng(1)));
    let (m3, shown) = introduce(joiner.receive(&m2, &mut rng(2)));
    let card = ask(inviter.receive(&m3, &mut rng(1)));
    assert!(inviter.check_digits(shown).is_ok());
    assert_eq!(card, Card { keys: super::joiner().keys, name: name("phone") });

    let m4 = inviter.accept(&material()).expect("it fits");
    let granted = granted(joiner.receive(&m4, &mut rng(2)));
    let wanted = material();
    assert_eq!(granted.genesis, wanted.genesis);
    assert_eq!(granted.keyring.secrets().collect::<Vec<_>>(), wanted.keyring.secrets().collect::<Vec<_>>());
    assert_eq!(granted.keyring.current().id, wanted.keyring.current().id);
    assert_eq!(granted.inviter, super::inviter().keys);
    assert_eq!(granted.frontier, wanted.frontier);
    assert_eq!(granted.members, wanted.members);
    assert_eq!(granted.relays[0].url, RELAY_URL);

    let m5 = joiner.stored().expect("there is a grant");
    assert!(inviter.awaits_confirmation());
    let certificate = accepted(inviter.receive(&m5, &mut rng(1)));
    assert_eq!(certificate, granted.certificate);
    assert_eq!(certificate.verify(&granted.genesis.group()), Ok(()));
    assert_eq!(certificate.epoch(), granted.keyring.current().id);
}

#[test]
fn a_member_that_was_itself_let_in_can_let_others_in() {
    let founder = membership(9);
    let genesis = Genesis::new(GenesisRandom([7; 32]), founder.keys.clone());
    let keyring = Keyring::new(genesis.group(), EpochSecret::from_bytes([8; 32]));
    let card = Card { keys: inviter().keys, name: name("tablet") };
    let own = JoinCertificate::issue(&genesis.group(), &founder.signing, card, keyring.current().id);
    let material = GrantMaterial { genesis, keyring, inviter_certificate: Some(own), ..material() };

    let mut pair = Pair::before(3);
    ask(pair.inviter.receive(&pair.messages[2], &mut rng(1)));
    let m4 = pair.inviter.accept(&material).expect("it fits");
    assert_eq!(granted(pair.joiner.receive(&m4, &mut rng(2))).inviter, inviter().keys);
}

#[test]
fn a_declined_device_is_told_and_gets_nothing() {
    let mut pair = Pair::before(3);
    ask(pair.inviter.receive(&pair.messages[2], &mut rng(1)));
    let answer = pair.inviter.decline().expect("somebody waits");
    assert!(answer.len() < 32, "a word, not a grant");
    assert!(matches!(pair.joiner.receive(&answer, &mut rng(2)), Err(JoinError::Declined)));
    assert_eq!(pair.joiner.stored(), None);
    assert!(pair.inviter.accept(&material()).is_err(), "a no is final");
}

#[test]
fn wrong_digits_hand_over_nothing_and_tell_the_joiner() {
    let (mut joiner, m1) = start_joiner();
    let mut inviter = start_inviter();
    let m2 = send(inviter.receive(&m1, &mut rng(1)));
    let (m3, shown) = introduce(joiner.receive(&m2, &mut rng(2)));
    ask(inviter.receive(&m3, &mut rng(1)));
    let others = (0..100).map(|digits| format!("{digits:02}").parse::<Digits>().expect("two digits"));
    let typed = others.clone().find(|digits| *digits != shown).expect("there are 99");
    let Err((JoinError::WrongDigits, Some(message))) = inviter.check_digits(typed) else { panic!("{typed} passed") };
    assert!(matches!(joiner.receive(&message, &mut rng(2)), Err(JoinError::WrongDigits)));
    assert!(inviter.accept(&material()).is_err(), "the right ones come too late now");
}

#[test]
fn a_joiner_whose_person_says_no_tells_the_inviter_what_that_means() {
    let mut pair = Pair::before(4);
    let m4 = pair.messages[3].clone();
    granted(pair.joiner.receive(&m4, &mut rng(2)));
    let refusal = pair.joiner.refuse().expect("there is a grant");
    assert!(matches!(pair.inviter.receive(&refusal, &mut rng(1)), Err(JoinError::Refused)));
    assert_eq!(pair.joiner.stored(), None, "a no is final");
}

#[test]
fn nothing_about_the_group_is_sent_before_the_answer() {
    // Message 2 is the only one the inviter sends before: e, s and its tag, the ciphertext, r_i,
    // and a tag, whatever the group is.
    assert_eq!(Pair::before(2).deliver_and_count(), 32 + 48 + 1_088 + 32 + 16);
    let mut pair = Pair::before(3);
    assert!(pair.inviter.accept(&material()).is_err(), "nobody was asked for yet");
}

impl Pair {
    fn deliver_and_count(&mut self) -> usize {
        self.messages.last().map_or(0, Vec::len)
    }
}

#[test]
fn another_secret_or_mailbox_fails_message_1_and_both_sides_learn_it() {
    let other_mailbox = MailboxId::from_slice(&[0xac; 16]).expect("16 bytes");
    let cases = [(mailbox(), [0x52; 32]), (other_mailbox, SECRET)];
    for (mailbox, secret) in cases {
        let (joiner, m1) =
            JoinerPairing::by_link(&mailbox, pairing_psk(&secret), super::joiner(), name("phone"), &mut rng(2));
        let mut inviter = start_inviter();
        assert!(matches!(inviter.receive(&m1, &mut rng(1)), Err(JoinError::WrongSecret)));
        assert_eq!(joiner.closed(), JoinError::WrongSecret);
    }
}

#[test]
fn a_second_joiner_finds_the_invitation_used() {
    let mut pair = Pair::before(2);
    let psk0 = pairing_psk(&SECRET);
    let (_, other) = JoinerPairing::by_link(&mailbox(), psk0, membership(3), name("other"), &mut rng(3));
    assert!(pair.inviter.receive(&other, &mut rng(1)).is_err());

    let mut pair = Pair::before(5);
    let m5 = pair.messages[4].clone();
    accepted(pair.inviter.receive(&m5, &mut rng(1)));
    assert!(pair.inviter.receive(&other, &mut rng(1)).is_err());
}

#[test]
fn a_mailbox_that_closes_early_leaves_no_half_member() {
    let at = |next| {
        let mut pair = Pair::before(next);
        let stored = if next < 5 { pair.joiner.stored() } else { None };
        assert_eq!(stored, None, "nothing to store before message 4 was read");
        (pair.inviter.closed(), pair.joiner.closed())
    };
    assert_eq!(at(1), (JoinError::Expired, JoinError::WrongSecret));
    assert_eq!(at(2), (JoinError::PeerLeft, JoinError::WrongSecret));
    assert_eq!(at(3), (JoinError::PeerLeft, JoinError::InviteGone));
    assert_eq!(at(4).0, JoinError::Unconfirmed, "the keys are out");
    assert_eq!(at(5).0, JoinError::Unconfirmed);
}

#[test]
fn the_largest_group_fits_one_message() {
    let founder = membership(3);
    let genesis = Genesis::new(GenesisRandom([7; 32]), founder.keys.clone());
    let group = genesis.group();
    let mut keyring = Keyring::new(group, EpochSecret::from_bytes([8; 32]));
    for number in 1..GRANT_TOO_MANY {
        let mut secret = [0xff; 32];
        secret[..8].copy_from_slice(&number.to_le_bytes());
        let id = keyring.insert(EpochSecret::from_bytes(secret));
        assert!(keyring.set_current(&id));
    }
    let longest = name(&"n".repeat(NAME_CHARS_MAX));
    let card = Card { keys: inviter().keys, name: longest.clone() };
    let certificate = JoinCertificate::issue(&group, &founder.signing, card, keyring.current().id);
    let item = SeenItem { tag: SenderTag([0xff; 8]), seq: u64::MAX, hash: SeenHash([0xff; 16]) };
    let url = format!("https://{}.{}.example", "a".repeat(60), "b".repeat(60));
    let material = GrantMaterial {
        genesis,
        keyring,
        inviter_certificate: Some(certificate),
        relays: vec![RelayAddress { url, key: Some(NoisePublicKey([6; 32])) }; GRANT_RELAYS_MAX],
        frontier: vec![item; GRANT_FRONTIER_MAX + 1],
        members: vec![GrantedMember { device: inviter().device(), name: longest }; ALLOW_LIST_MAX],
        ..material()
    };
    let mut pair = Pair::before(3);
    ask(pair.inviter.receive(&pair.messages[2], &mut rng(1)));
    pair.inviter.accept(&material).expect("it fits");
}

#[test]
fn a_group_too_large_for_one_message_is_refused_before_anything_is_sent() {
    let mut material = material();
    for number in 0..GRANT_TOO_MANY {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&number.to_le_bytes());
        material.keyring.insert(EpochSecret::from_bytes(secret));
    }
    let mut pair = Pair::before(3);
    ask(pair.inviter.receive(&pair.messages[2], &mut rng(1)));
    assert!(matches!(pair.inviter.accept(&material), Err(JoinError::Invalid(_))));
}

const GRANT_TOO_MANY: u64 = crate::pairing::grant::GRANT_EPOCHS_MAX as u64;
