//! Whoever holds a leaked link and sits in the mailbox's way.

use zerok_sync_protocol::channel::Initiator;
use zerok_sync_protocol::wire;

use super::digits::{Nonce, commitment, digits};
use super::message::{Introduction, JoinerNonce, sign_card};
use super::*;
use crate::error::JoinError;

/// A joiner whose every choice is the test's: what a man in the middle runs towards the inviter.
struct Mallory {
    membership: Membership,
    committed: Nonce,
}

impl Mallory {
    fn new() -> Self {
        Self { membership: membership(66), committed: [1; 32] }
    }

    /// Runs messages 1 and 2 with the inviter, lets `choose` see what decides the digits (`h2` and
    /// `r_i`), and sends message 3 with the nonce and card it chose.
    fn introduce_as(
        &self,
        inviter: &mut InviterPairing,
        choose: impl FnOnce(&[u8; 32], &Nonce) -> Nonce,
        card: &Card,
        sign: impl FnOnce(&[u8; 32], &[u8]) -> zerok_sync_protocol::Signature,
    ) -> Result<InviterStep, JoinError> {
        let prologue = prologue(PairingMode::Link, &mailbox());
        let (state, m1) = Initiator::pairing(
            &self.membership.noise,
            pairing_psk(&SECRET),
            &prologue,
            &commitment(&self.committed),
            &mut rng(66),
        )
        .expect("it fits");
        let m2 = send(inviter.receive(&m1, &mut rng(1)));
        let state = state.read(&m2).expect("the inviter is honest");
        let (h2, nonce) = (state.hash_after_message_2(), state.extra().try_into().expect("32 bytes"));
        let chosen = choose(&h2, &nonce);
        let card = wire::encode(card);
        let signature = sign(&h2, &card);
        let introduction = Introduction { nonce: JoinerNonce(chosen), card: card.into(), signature };
        let (m3, _) = state.finish(&wire::encode(&introduction)).expect("it fits");
        inviter.receive(&m3, &mut rng(1))
    }

    fn card(&self) -> Card {
        Card { keys: self.membership.keys.clone(), name: name("phone") }
    }

    fn honest_signature(&self) -> impl FnOnce(&[u8; 32], &[u8]) -> zerok_sync_protocol::Signature {
        |h2, card| sign_card(&self.membership.signing, h2, card)
    }
}

#[test]
fn d_pair_03_the_digits_shown_behind_a_man_in_the_middle_with_the_leaked_link_are_refused() {
    let rounds = 40;
    let same = (0..rounds).filter(|&round| {
        // Towards the joiner Mallory poses as inviter, towards the inviter as joiner.
        let (mut joiner, m1) =
            JoinerPairing::by_link(&mailbox(), pairing_psk(&SECRET), joiner(), name("phone"), &mut rng(round));
        let mut fake_inviter = InviterPairing::by_link(&mailbox(), pairing_psk(&SECRET), membership(66));
        let (mut fake_joiner, fake_m1) = JoinerPairing::by_link(
            &mailbox(),
            pairing_psk(&SECRET),
            membership(66),
            name("phone"),
            &mut rng(100 + round),
        );
        let mut inviter = start_inviter();
        let m2 = send(inviter.receive(&fake_m1, &mut rng(1)));
        let fake_m2 = send(fake_inviter.receive(&m1, &mut rng(200)));
        let (_, shown) = introduce(joiner.receive(&fake_m2, &mut rng(round)));
        let (fake_m3, _) = introduce(fake_joiner.receive(&m2, &mut rng(round)));
        ask(inviter.receive(&fake_m3, &mut rng(1)));
        inviter.check_digits(shown).is_ok()
    });
    assert!(same.count() <= 3, "one in a hundred may match by chance");
}

/// Without the commitment Mallory would search, as here, for a nonce that shows the
/// inviting person the digits the joining one sees; it takes a hundred tries.
#[test]
fn d_pair_03_a_nonce_chosen_after_message_2_is_refused_even_if_the_digits_match() {
    let shown_at_joiner: Digits = "42".parse().expect("two digits");
    let mallory = Mallory::new();
    let mut inviter = start_inviter();
    let search = |h2: &[u8; 32], r_i: &Nonce| {
        let nonces = (0u64..100_000).map(|number| {
            let mut nonce = [2; 32];
            nonce[..8].copy_from_slice(&number.to_le_bytes());
            nonce
        });
        nonces.into_iter().find(|nonce| digits(h2, r_i, nonce) == shown_at_joiner).expect("one in a hundred fits")
    };
    let step = mallory.introduce_as(&mut inviter, search, &mallory.card(), mallory.honest_signature());
    assert!(matches!(step, Err(JoinError::Invalid(_))), "{step:?}");
    assert!(inviter.accept(&material()).is_err());
}

#[test]
fn the_nonce_that_was_committed_to_is_accepted() {
    let mallory = Mallory::new();
    let mut inviter = start_inviter();
    let step =
        mallory.introduce_as(&mut inviter, |_, _| mallory.committed, &mallory.card(), mallory.honest_signature());
    assert_eq!(ask(step), mallory.card());
}

#[test]
fn a_card_with_another_noise_key_than_the_channels_is_refused() {
    let mallory = Mallory::new();
    let mut card = mallory.card();
    card.keys.noise = joiner().keys.noise;
    let mut inviter = start_inviter();
    let step = mallory.introduce_as(&mut inviter, |_, _| mallory.committed, &card, mallory.honest_signature());
    assert!(matches!(step, Err(JoinError::Invalid(_))), "{step:?}");
}

#[test]
fn a_card_in_the_name_of_another_device_is_refused() {
    let mallory = Mallory::new();
    let mut card = mallory.card();
    card.keys.device = joiner().device();
    let mut inviter = start_inviter();
    let step = mallory.introduce_as(&mut inviter, |_, _| mallory.committed, &card, mallory.honest_signature());
    assert!(matches!(step, Err(JoinError::Invalid(_))), "{step:?}");
}

#[test]
fn a_card_signed_in_another_handshake_is_refused() {
    let mallory = Mallory::new();
    let mut inviter = start_inviter();
    let step = mallory.introduce_as(
        &mut inviter,
        |_, _| mallory.committed,
        &mallory.card(),
        |_, card| sign_card(&mallory.membership.signing, &[0; 32], card),
    );
    assert!(matches!(step, Err(JoinError::Invalid(_))), "{step:?}");
}
