use bytes::Bytes;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use x_wing::{Decapsulate, Encapsulate};
use zerok_sync_protocol::vectors::RecordedRng;
use zerok_sync_protocol::wire;

use super::*;
use crate::fixtures::{Group, membership};

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let mut bytes = [0; N];
    hex::decode_to_slice(hex, &mut bytes).expect("N bytes in hex");
    bytes
}

/// The three vectors of draft-connolly-cfrg-xwing-kem-06, appendix C: seed, eseed, shared secret, and
/// SHA-256 of public key and ciphertext (which are too long to print).
#[test]
fn the_vectors_of_the_x_wing_draft_hold() {
    for [seed, eseed, shared, public, ciphertext] in [
        [
            "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
            "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e235b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2",
            "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384",
            "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb",
            "17cd532d657e44c897ca6583e548a5424fc70bf54f99515a4d2bcf99e3469f33",
        ],
        [
            "badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea",
            "17cda7cfad765f5623474d368ccca8af0007cd9f5e4c849f167a580b14aabdefaee7eef47cb0fca9767be1fda69419dfb927e9df07348b196691abaeb580b32d",
            "f2e86241c64d60f6649fbc6c5b7d17180b780a3f34355e64a85749949c45f150",
            "c42ba5f8430d7d2c83739338203819f090e8303ce9c8b02107c272bfa5376916",
            "1661ea86d608a1924ba30840cb0a65f13ae051e3aec9cf0f064efc0bc92f2154",
        ],
        [
            "ef58538b8d23f87732ea63b02b4fa0f4873360e2841928cd60dd4cee8cc0d4c9",
            "22a96188d032675c8ac850933c7aff1533b94c834adbb69c6115bad4692d8619f90b0cdf8a7b9c264029ac185b70b83f2801f2f4b3f70c593ea3aeeb613a7f1b",
            "953f7f4e8c5b5049bdc771d1dffada0dd961477d1a2ae0988baa7ea6898d893f",
            "6b080d6b84f095342092fa7a22423e58bd681397ad0ef00eac92bd254db4fa95",
            "d3ca5578500344b5896cffc4fd740c9311946b82951df155e6fd86a7966b43c6",
        ],
    ] {
        let secret = x_wing::DecapsulationKey::from(bytes::<32>(seed));
        let key = KemPublicKey::of(secret.encapsulation_key());
        let rng = &mut RecordedRng::new(&bytes::<64>(eseed));
        let (sent, shared_by_sender) = key.encapsulation_key().encapsulate_with_rng(rng);
        assert_eq!(hex::encode(Sha256::digest(key.as_bytes())), public);
        assert_eq!(hex::encode(Sha256::digest(sent)), ciphertext);
        assert_eq!(hex::encode(shared_by_sender), shared);
        assert_eq!(hex::encode(secret.decapsulate(&sent)), shared);
    }
}

#[test]
fn every_role_has_a_key_of_its_own() {
    let group = Group::new(1);
    let (epoch, me) = (group.keyring.current(), &group.founder);
    let keys = [
        *group.keyring.current_secret().expose(),
        *epoch.data.expose(),
        *epoch.whisper.expose(),
        *epoch.receipt.expose(),
        epoch.auth.to_bytes(),
        me.signing.to_bytes(),
        *me.noise.expose(),
        *me.kem.as_bytes(),
        [1; 32],
    ];
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
}

#[test]
fn the_same_secret_means_other_keys_in_another_group() {
    let secret = EpochSecret::from_bytes([1; 32]);
    let [one, two] = [1, 2].map(|byte| EpochKeys::derive(&GroupId([byte; 32]), &secret));
    assert_ne!(one.id, two.id);
    assert_ne!(one.data, two.data);
    assert_ne!(one.log_name(), two.log_name());
}

#[test]
fn a_membership_is_its_seed() {
    assert_eq!(membership(1).keys, membership(1).keys);
    assert_ne!(membership(1).device(), membership(2).device());
}

#[test]
fn a_kem_key_that_is_none_is_refused_when_it_is_parsed() {
    let keys = membership(1).keys;
    // A coefficient of 4,095, beyond ML-KEM's modulus of 3,329.
    let mut invalid = keys.kem.as_bytes().to_vec();
    invalid[..2].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(KemPublicKey::from_slice(&invalid), None);
    assert_eq!(KemPublicKey::from_slice(&invalid[1..]), None);
    assert!(wire::decode::<KemPublicKey>(&wire::encode(&Bytes::copy_from_slice(&invalid))).is_err());
    assert_eq!(wire::decode::<MemberKeys>(&wire::encode(&keys)), Ok(keys));
}

proptest! {
    #[test]
    fn secrets_are_equal_iff_their_bytes_are(a: [u8; 32], b: [u8; 32]) {
        prop_assert_eq!(StoreKey::from_bytes(a) == StoreKey::from_bytes(b), a == b);
        prop_assert_eq!(StoreKey::from_bytes(a), StoreKey::from_bytes(a));
    }
}
