//! Grants that an honest inviter does not write: each check of [`Granted::check`] on its own.

use zerok_sync_protocol::wire::{self, List};

use super::grant::Grant;
use super::message::{Answer, sign_grant};
use super::*;
use crate::error::JoinError;
use crate::id::GroupId;

const H3: [u8; 32] = [0x33; 32];

fn card() -> Card {
    Card { keys: joiner().keys, name: name("phone") }
}

pub(in crate::pairing) fn honest_answer() -> Answer {
    material().grant(&inviter(), &H3, card()).expect("it fits").0
}

fn honest() -> Grant {
    let answer = honest_answer();
    let Answer::Granted { grant, .. } = answer else { panic!("a grant was asked for") };
    wire::decode(&grant).expect("just encoded")
}

/// What a joiner says to this grant, signed by the inviter as it should be.
fn check(grant: &Grant) -> Result<Granted, JoinError> {
    let bytes = wire::encode(grant);
    let signature = sign_grant(&inviter().signing, &H3, &bytes);
    Granted::check(&bytes, &signature, &H3, &inviter().keys.noise, &card())
}

#[test]
fn the_honest_grant_passes() {
    assert!(check(&honest()).is_ok());
}

#[test]
fn a_grant_that_contradicts_itself_is_refused() {
    let group = material().genesis.group();
    let stranger = membership(66);
    let epoch = material().keyring.current().id;
    let issue = |by: &Membership, card: Card| JoinCertificate::issue(&group, &by.signing, card, epoch);
    let other_card = Card { keys: stranger.keys.clone(), name: name("phone") };

    type Spoil<'a> = Box<dyn Fn(&mut Grant) + 'a>;
    let cases: Vec<(&str, Spoil)> = vec![
        ("a group id that is not the genesis's", Box::new(|grant| grant.group = GroupId([1; 32]))),
        ("no genesis", Box::new(|grant| grant.genesis = b"nothing".as_slice().into())),
        (
            "another group's genesis",
            Box::new(|grant| {
                let genesis = Genesis::new(GenesisRandom([1; 32]), stranger.keys.clone());
                grant.group = genesis.group();
                grant.genesis = genesis.bytes().clone();
            }),
        ),
        (
            "an inviter's certificate of another device",
            Box::new(|grant| grant.inviter_certificate = Some(issue(&inviter(), other_card.clone()))),
        ),
        (
            "a certificate for another device",
            Box::new(|grant| grant.certificate = issue(&inviter(), other_card.clone())),
        ),
        ("a certificate by another device", Box::new(|grant| grant.certificate = issue(&stranger, card()))),
        (
            "a certificate for another group",
            Box::new(|grant| {
                grant.certificate = JoinCertificate::issue(&GroupId([1; 32]), &inviter().signing, card(), epoch);
            }),
        ),
        ("a certificate for another epoch", Box::new(|grant| grant.epoch = epoch_zero())),
        ("no keys", Box::new(|grant| grant.epoch_secrets = List::empty())),
        (
            "keys without the current one",
            Box::new(|grant| {
                grant.epoch_secrets = vec![EpochSecret::from_bytes([8; 32])].try_into().expect("one");
            }),
        ),
        ("no relay", Box::new(|grant| grant.relays = List::empty())),
        (
            "a relay address that is none",
            Box::new(|grant| {
                let relay = GrantedRelay { url: "javascript:alert(1)".into(), key: NoisePublicKey([6; 32]) };
                grant.relays = vec![relay].try_into().expect("one");
            }),
        ),
    ];
    for (what, spoil) in cases {
        let mut grant = honest();
        spoil(&mut grant);
        assert!(matches!(check(&grant), Err(JoinError::Invalid(_))), "{what}");
    }
}

fn epoch_zero() -> zerok_sync_protocol::EpochId {
    material().keyring.iter().next().expect("two epochs").id
}

#[test]
fn a_grant_must_be_signed_by_the_inviter_for_this_channel() {
    let bytes = wire::encode(&honest());
    let noise = inviter().keys.noise;
    let by = |signer: &Membership, hash: &[u8; 32]| sign_grant(&signer.signing, hash, &bytes);
    let check = |signature, noise| Granted::check(&bytes, &signature, &H3, noise, &card()).is_ok();
    assert!(check(by(&inviter(), &H3), &noise));
    assert!(!check(by(&membership(66), &H3), &noise), "another signer");
    assert!(!check(by(&inviter(), &[0; 32]), &noise), "another channel");
    assert!(!check(by(&inviter(), &H3), &membership(66).keys.noise), "another Noise key answered in message 2");
}

#[test]
fn bytes_that_are_no_grant_are_refused() {
    let bytes = wire::encode(&honest());
    let signature = sign_grant(&inviter().signing, &H3, &bytes);
    for len in 0..bytes.len() {
        assert!(Granted::check(&bytes[..len], &signature, &H3, &inviter().keys.noise, &card()).is_err(), "{len}");
    }
}
