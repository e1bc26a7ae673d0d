//! What an epoch envelope promises, and each way a relay or a member could cheat with one.

use zerok_sync_protocol::fuzzing::SeededRng;

use super::wrap::{WRAP_BYTES, WRAPS_STEP};
use super::*;
use crate::content::SeenHash;
use crate::fixtures::{Group, membership};
use crate::id::SenderTag;
use crate::keys::MembershipSeed;

/// The group's first epoch, accepted, and three members; member 1 is the founder.
struct Scene {
    group: Group,
    genesis: Sealed,
    members: Vec<Membership>,
}

impl Scene {
    fn new() -> Self {
        let group = Group::new(1);
        let rng = &mut SeededRng::new(b"genesis");
        let genesis = seal_genesis(&group.genesis, &group.keyring, &group.founder, 1, rng);
        Self { genesis, members: [1, 2, 3].map(membership).to_vec(), group }
    }

    fn id(&self) -> &GroupId {
        self.group.keyring.group()
    }

    fn next_secret() -> EpochSecret {
        EpochSecret::from_bytes([0xe1; 32])
    }

    fn next_keys(&self) -> EpochKeys {
        EpochKeys::derive(self.id(), &Self::next_secret())
    }

    fn member_keys(&self, which: &[usize]) -> Vec<MemberKeys> {
        which.iter().map(|&index| self.members[index - 1].keys.clone()).collect()
    }

    /// Member 1 removes member 3, as an honest device would say it.
    fn removal(&self) -> EpochBody {
        let removed = Removed { device: self.members[2].device(), last_seq: 4, last_blob_id: BlobId([4; 32]) };
        EpochBody {
            sender: self.members[0].device(),
            seq: 1,
            prev: self.genesis.blob_id,
            seen: List::empty(),
            previous_epoch: self.group.keyring.current().id,
            previous_blob_id: self.genesis.blob_id,
            removed: vec![removed].try_into().expect("one fits"),
            member_digest: MemberDigest::of([self.members[0].device(), self.members[1].device()]),
            allow: List::empty(),
            keyring: vec![self.group.keyring.current_secret().clone()].try_into().expect("one fits"),
            lamport: 9,
            sent_at_ms: 2,
            genesis: Bytes::new(),
        }
    }

    /// `signer` seals `body`, wrapped to the members with these numbers.
    fn sealed(&self, signer: usize, to: &[usize], body: &EpochBody) -> Sealed {
        let rng = &mut SeededRng::new(b"rotation");
        let signing = &self.members[signer - 1].signing;
        seal_epoch(self.id(), &Self::next_secret(), signing, &self.member_keys(to), body, rng).expect("fits")
    }

    fn opened(&self, sealed: &Sealed) -> DecryptedEpoch {
        open_epoch(self.id(), &self.next_keys(), &sealed.envelope).expect("opens")
    }

    /// What a receiver that accepted epoch 0 and knows all three members says to it.
    fn judged(&self, sealed: &Sealed) -> Result<AcceptedEpoch, EpochRefusal> {
        self.opened(sealed).verify().expect("signed").check_succession(Predecessor::Epoch {
            id: self.group.keyring.current().id,
            blob_id: self.genesis.blob_id,
            members: &self.member_keys(&[1, 2, 3]),
        })
    }

    fn judged_body(&self, body: &EpochBody) -> Option<EpochRefusal> {
        self.judged(&self.sealed(1, &[1, 2], body)).err()
    }
}

fn genesis_verdict(group: &Group, body: &EpochBody, signer: &Membership) -> Option<EpochRefusal> {
    let (keyring, rng) = (&group.keyring, &mut SeededRng::new(b"genesis"));
    let members = std::slice::from_ref(&group.founder.keys);
    let sealed = seal_epoch(keyring.group(), keyring.current_secret(), &signer.signing, members, body, rng);
    let opened = open_epoch(keyring.group(), keyring.current(), &sealed.expect("fits").envelope).expect("opens");
    opened.verify().expect("signed").check_succession(Predecessor::None).err()
}

#[test]
fn the_genesis_epoch_is_accepted_and_makes_its_founder_the_one_member() {
    let Scene { group, genesis, .. } = Scene::new();
    let opened = open_epoch(group.keyring.group(), group.keyring.current(), &genesis.envelope).expect("opens");
    let accepted = opened.verify().expect("signed").check_succession(Predecessor::None).expect("this group's");
    assert_eq!(accepted.members(), std::slice::from_ref(&group.founder.keys));
    assert_eq!((accepted.seq, accepted.id()), (1, group.keyring.current().id));
    assert_eq!(accepted.blob_id(), genesis.blob_id);
    let secret = unwrap_secret(group.keyring.group(), &group.founder, &genesis.envelope);
    assert_eq!(secret.as_ref(), Ok(group.keyring.current_secret()));
}

#[test]
fn only_the_founder_named_by_the_group_id_can_begin_the_group() {
    let Scene { group, genesis, members, .. } = Scene::new();
    let opened = open_epoch(group.keyring.group(), group.keyring.current(), &genesis.envelope).expect("opens");
    let honest = opened.claims();
    let founder = &group.founder;
    assert_eq!(genesis_verdict(&group, honest, founder), None);
    let another = Group::new(2).genesis.bytes().clone();
    let keyring = vec![EpochSecret::from_bytes([1; 32])].try_into().expect("one fits");
    for (body, signer) in [
        (EpochBody { sender: members[1].device(), ..honest.clone() }, &members[1]),
        (EpochBody { genesis: another, ..honest.clone() }, founder),
        (EpochBody { genesis: Bytes::new(), ..honest.clone() }, founder),
        (EpochBody { seq: 2, ..honest.clone() }, founder),
        (EpochBody { prev: BlobId([1; 32]), ..honest.clone() }, founder),
        (EpochBody { previous_epoch: EpochId([1; 8]), ..honest.clone() }, founder),
        (EpochBody { previous_blob_id: BlobId([1; 32]), ..honest.clone() }, founder),
        (EpochBody { keyring, ..honest.clone() }, founder),
    ] {
        let verdict = genesis_verdict(&group, &body, signer);
        assert!(matches!(verdict, Some(EpochRefusal::NotTheGenesis(_))), "{verdict:?} for {body:?}");
    }
    let digest = EpochBody { member_digest: MemberDigest::ZERO, ..honest.clone() };
    assert_eq!(genesis_verdict(&group, &digest, founder), Some(EpochRefusal::OtherMembers));
}

#[test]
fn a_rotation_reaches_the_remaining_members_and_not_the_removed_one() {
    let scene = Scene::new();
    let sealed = scene.sealed(1, &[1, 2], &scene.removal());
    for member in &scene.members[..2] {
        assert_eq!(unwrap_secret(scene.id(), member, &sealed.envelope), Ok(Scene::next_secret()));
    }
    let removed = unwrap_secret(scene.id(), &scene.members[2], &sealed.envelope);
    assert_eq!(removed, Err(UnwrapError::NotForMe(scene.next_keys().id)));
    let accepted = scene.judged(&sealed).expect("a member may remove another");
    assert_eq!(accepted.members(), scene.member_keys(&[1, 2]));
    assert_eq!(accepted.keyring.to_vec(), [scene.group.keyring.current_secret().clone()]);
}

#[test]
fn an_epoch_by_somebody_who_is_no_member_is_void() {
    let mut scene = Scene::new();
    scene.members.push(membership(9));
    let body = EpochBody { sender: scene.members[3].device(), ..scene.removal() };
    let sealed = scene.sealed(4, &[1, 2], &body);
    assert_eq!(scene.judged(&sealed).err(), Some(EpochRefusal::NotAMember));
}

#[test]
fn who_removes_itself_does_not_choose_the_next_keys() {
    let scene = Scene::new();
    let body = EpochBody { sender: scene.members[2].device(), ..scene.removal() };
    let sealed = scene.sealed(3, &[1, 2], &body);
    assert_eq!(scene.judged(&sealed).err(), Some(EpochRefusal::RemovesItself));
}

#[test]
fn an_epoch_that_follows_another_one_is_refused() {
    let scene = Scene::new();
    let honest = scene.removal();
    let other_id = EpochBody { previous_epoch: EpochId([7; 8]), ..honest.clone() };
    assert_eq!(scene.judged_body(&other_id), Some(EpochRefusal::WrongPredecessor));
    let other_branch = EpochBody { previous_blob_id: BlobId([7; 32]), ..honest };
    assert_eq!(scene.judged_body(&other_branch), Some(EpochRefusal::WrongPredecessor));
}

#[test]
fn a_rotation_that_leaves_a_remaining_member_out_is_refused() {
    let scene = Scene::new();
    let sealed = scene.sealed(1, &[1], &scene.removal());
    let left_out = scene.members[1].device();
    assert_eq!(scene.judged(&sealed).err(), Some(EpochRefusal::NotWrappedTo(left_out)));
}

#[test]
fn a_rotation_that_names_a_member_twice_is_refused() {
    let scene = Scene::new();
    let sealed = scene.sealed(1, &[1, 2, 2], &scene.removal());
    assert_eq!(scene.judged(&sealed).err(), Some(EpochRefusal::WrappedTwice(scene.members[1].device())));
}

#[test]
fn a_rotation_that_hands_the_new_secret_to_the_removed_device_is_refused() {
    let scene = Scene::new();
    let sealed = scene.sealed(1, &[1, 2, 3], &scene.removal());
    assert_eq!(scene.judged(&sealed).err(), Some(EpochRefusal::WrappedToRemoved(scene.members[2].device())));
}

#[test]
fn a_rotation_with_more_strangers_than_dummies_are_needed_is_refused() {
    let mut scene = Scene::new();
    scene.members.extend((10..18).map(membership));
    let to: Vec<usize> = (1..=2).chain(4..=10).collect();
    assert_eq!(to.len(), 9);
    let sealed = scene.sealed(1, &to, &scene.removal());
    assert_eq!(scene.judged(&sealed).err(), Some(EpochRefusal::TooManyStrangers(14)));
}

#[test]
fn a_rotation_by_somebody_who_counts_other_members_is_refused() {
    let scene = Scene::new();
    let all = MemberDigest::of(scene.members.iter().map(Membership::device));
    let body = EpochBody { member_digest: all, ..scene.removal() };
    assert_eq!(scene.judged_body(&body), Some(EpochRefusal::OtherMembers));
}

#[test]
fn the_member_digest_does_not_depend_on_the_order() {
    let [a, b] = [DeviceId([1; 32]), DeviceId([2; 32])];
    assert_eq!(MemberDigest::of([a, b]), MemberDigest::of([b, a]));
    assert_ne!(MemberDigest::of([a, b]), MemberDigest::of([a]));
}

/// Without the wraps under the signature, any member could lock a device out in another's name.
#[test]
fn a_member_cannot_swap_the_wraps_under_anothers_signature() {
    let scene = Scene::new();
    let honest = scene.opened(&scene.sealed(1, &[1, 2], &scene.removal()));
    let array = wire::encode(honest.claims());
    let (epoch, id) = (scene.next_keys(), scene.id());
    let nonce = honest.header().nonce;
    let keys = EnvelopeKeys::derive(epoch.data.expose(), EnvelopeType::Epoch, &epoch.id, id, &nonce);
    let header = keys.header(EnvelopeType::Epoch, epoch.id, nonce);
    let reseal = |wraps: &Wraps| {
        let mut bytes = [&header, wraps.as_bytes()].concat();
        let aad: [&[u8]; 3] = [&header, &id.0, &wraps.hash()];
        keys.encrypt_onto(&mut bytes, &nonce, &aad, &[&array, &honest.0.signature.0]).expect("fits");
        open_epoch(id, &epoch, &bytes).expect("sealed with the epoch's key")
    };
    assert!(reseal(&honest.0.wraps).verify().is_ok());
    let rng = &mut SeededRng::new(b"other");
    let others = Wraps::to_all(&epoch.id, &Scene::next_secret(), &scene.member_keys(&[1]), rng).expect("one fits");
    assert!(reseal(&others).verify().is_err());
}

#[test]
fn a_member_cannot_rotate_in_anothers_name() {
    let scene = Scene::new();
    let forged = scene.sealed(2, &[1, 2], &scene.removal());
    assert!(scene.opened(&forged).verify().is_err());
}

#[test]
fn every_flipped_byte_of_an_epoch_envelope_is_refused() {
    let scene = Scene::new();
    let (id, keys) = (scene.group.keyring.group(), scene.group.keyring.current());
    for at in 0..scene.genesis.envelope.len() {
        let mut changed = scene.genesis.envelope.to_vec();
        changed[at] ^= 1;
        assert!(open_epoch(id, keys, &changed).is_err(), "byte {at}");
    }
}

#[test]
fn every_truncation_of_an_epoch_envelope_is_refused() {
    let scene = Scene::new();
    let (id, keys) = (scene.group.keyring.group(), scene.group.keyring.current());
    for length in 0..scene.genesis.envelope.len() {
        let cut = &scene.genesis.envelope[..length];
        assert!(matches!(open_epoch(id, keys, cut), Err(OpenFailure::Corrupt(_))), "cut at {length}");
    }
}

#[test]
fn an_epoch_opens_only_under_its_own_keys_and_group() {
    let scene = Scene::new();
    let sealed = scene.sealed(1, &[1, 2], &scene.removal());
    let older = open_epoch(scene.id(), scene.group.keyring.current(), &sealed.envelope);
    assert_eq!(older.err(), Some(OpenFailure::UnknownEpoch(scene.next_keys().id)));
    let elsewhere = open_epoch(&GroupId([9; 32]), &scene.next_keys(), &sealed.envelope);
    assert_eq!(elsewhere.err(), Some(OpenFailure::Corrupt("another key")));
}

#[test]
fn a_wrap_that_does_not_open_is_told_from_one_that_is_not_there() {
    let scene = Scene::new();
    let sealed = scene.sealed(1, &[1, 2], &scene.removal());
    let me = &scene.members[1];
    let tag = super::wrap::tag_of(&scene.next_keys().id, &me.keys.kem);
    let wraps = &sealed.envelope[HEADER_BYTES + 2..];
    let mine = (0..WRAPS_STEP).map(|index| index * WRAP_BYTES).find(|&at| wraps[at..at + 8] == tag);
    let start = HEADER_BYTES + 2 + mine.expect("wrapped to it");
    let wrong = Err(UnwrapError::WrappedWrong(scene.next_keys().id));
    // The ML-KEM part, the X25519 part, the sealed secret, its tag.
    for at in [8, 8 + 1_088, 8 + 1_120, WRAP_BYTES - 1] {
        let mut damaged = sealed.envelope.to_vec();
        damaged[start + at] ^= 1;
        assert_eq!(unwrap_secret(scene.id(), me, &damaged), wrong, "byte {at}");
        assert!(unwrap_secret(scene.id(), &scene.members[0], &damaged).is_ok());
    }
}

#[test]
fn another_secret_than_the_header_names_is_not_taken() {
    let scene = Scene::new();
    let rng = &mut SeededRng::new(b"evil");
    let epoch = scene.next_keys().id;
    let other = EpochSecret::from_bytes([0xee; 32]);
    let wraps = Wraps::to_all(&epoch, &other, &scene.member_keys(&[1]), rng).expect("one fits");
    let honest = scene.sealed(1, &[1], &scene.removal()).envelope;
    let forged = [&honest[..HEADER_BYTES], wraps.as_bytes(), &honest[HEADER_BYTES + wraps.as_bytes().len()..]].concat();
    let unwrapped = unwrap_secret(scene.id(), &scene.members[0], &forged);
    assert_eq!(unwrapped, Err(UnwrapError::WrappedWrong(epoch)));
}

#[test]
fn a_wrap_moved_to_another_epoch_does_not_open() {
    let scene = Scene::new();
    let mut moved = scene.genesis.envelope.to_vec();
    moved[4..12].copy_from_slice(&scene.next_keys().id.0);
    assert!(matches!(unwrap_secret(scene.id(), &scene.group.founder, &moved), Err(UnwrapError::NotForMe(_))));
}

#[test]
fn an_entry_is_not_an_epoch() {
    let scene = Scene::new();
    let mut entry = scene.genesis.envelope.to_vec();
    entry[0] = 1;
    entry[1] = 0;
    let unwrapped = unwrap_secret(scene.id(), &scene.group.founder, &entry);
    assert_eq!(unwrapped, Err(UnwrapError::NotAnEpoch(OpenFailure::WrongType(EnvelopeType::Entry))));
}

#[test]
fn the_number_of_wraps_is_a_multiple_of_eight_and_bounded() {
    let genesis = Scene::new().genesis.envelope;
    for count in [0u16, 1, 7, 9, 80, u16::MAX] {
        let mut changed = genesis.to_vec();
        changed[HEADER_BYTES..HEADER_BYTES + 2].copy_from_slice(&count.to_le_bytes());
        changed.resize(100_000, 0);
        assert!(Wraps::split_off(&changed[HEADER_BYTES..]).is_none(), "{count}");
    }
    assert_eq!(WRAPS_MAX, 72);
}

#[test]
fn a_full_group_is_wrapped_to_and_one_device_more_is_refused() {
    let rng = &mut SeededRng::new(b"many");
    let (epoch, secret) = (EpochId([1; 8]), Scene::next_secret());
    let mut many = vec![membership(1).keys; ALLOW_LIST_MAX];
    let wraps = Wraps::to_all(&epoch, &secret, &many, rng).expect("a full group");
    assert_eq!(wraps.tags().count(), WRAPS_MAX);
    many.push(membership(2).keys);
    let refused = Wraps::to_all(&epoch, &secret, &many, rng).err();
    assert_eq!(refused, Some(SealError::TooMany { what: "devices", max: 65 }));
}

/// What the limit was reasoned from: a full group that has changed its keys a thousand times.
#[test]
fn the_largest_epoch_there_can_be_fits_and_a_larger_one_is_neither_made_nor_opened() {
    let rng = &mut SeededRng::new(b"largest");
    let scene = Scene::new();
    let (secret, me) = (Scene::next_secret(), &scene.members[0]);
    let seen = SeenItem { tag: SenderTag([255; 8]), seq: u64::MAX, hash: SeenHash([255; 16]) };
    let removed = Removed { device: me.device(), last_seq: u64::MAX, last_blob_id: BlobId([255; 32]) };
    let largest = EpochBody {
        seq: u64::MAX,
        seen: vec![seen; SEEN_ITEMS_MAX].try_into().expect("as many as fit"),
        removed: vec![removed; REMOVED_MAX].try_into().expect("as many as fit"),
        allow: vec![NoisePublicKey([255; 32]); ALLOW_LIST_MAX].try_into().expect("as many as fit"),
        keyring: vec![Scene::next_secret(); KEYRING_MAX].try_into().expect("as many as fit"),
        lamport: u64::MAX,
        sent_at_ms: u64::MAX,
        ..scene.removal()
    };
    let members = vec![me.keys.clone(); ALLOW_LIST_MAX];
    let sealed = seal_epoch(scene.id(), &secret, &me.signing, &members, &largest, rng).expect("it fits");
    open_epoch(scene.id(), &scene.next_keys(), &sealed.envelope).expect("it opens");

    let too_large = EpochBody { genesis: vec![0; 100_000].into(), ..largest };
    let refused = seal_epoch(scene.id(), &secret, &me.signing, &members, &too_large, rng);
    assert!(matches!(refused, Err(SealError::TooLarge { bytes_max: EPOCH_ENVELOPE_BYTES_MAX, .. })));
    let longer = [&sealed.envelope[..], &[0; 100_000]].concat();
    let refused = OpenFailure::Corrupt("longer than an epoch can be");
    assert_eq!(open_epoch(scene.id(), &scene.next_keys(), &longer).err(), Some(refused.clone()));
    assert_eq!(unwrap_secret(scene.id(), me, &longer).err(), Some(UnwrapError::NotAnEpoch(refused)));
}

#[test]
fn the_size_of_an_epoch_does_not_tell_one_device_from_two() {
    let scene = Scene::new();
    let body = scene.removal();
    let (one, two) = (scene.sealed(1, &[1], &body), scene.sealed(1, &[1, 2], &body));
    assert_eq!(one.envelope.len(), two.envelope.len());
}

#[test]
fn dummies_do_not_stand_behind_the_real_wraps() {
    let scene = Scene::new();
    let tags = |seed: &[u8]| -> Vec<_> {
        let rng = &mut SeededRng::new(seed);
        let wraps = Wraps::to_all(&EpochId([1; 8]), &Scene::next_secret(), &scene.member_keys(&[1, 2]), rng);
        wraps.expect("two fit").tags().collect()
    };
    let tags = tags(b"order");
    assert!(tags.is_sorted());
}

#[test]
fn nothing_secret_is_printed() {
    let scene = Scene::new();
    let body = scene.removal();
    let opened = scene.opened(&scene.sealed(1, &[1, 2], &body));
    let printed = format!("{body:?} {opened:?} {:?} {:?}", scene.members[0], scene.group.keyring);
    let seed = MembershipSeed::from_bytes([1; 32]);
    assert!(printed.contains("[redacted]") && format!("{seed:?}").contains("[redacted]"));
    for secret in [[0xe0; 32], [1; 32]] {
        assert!(!printed.contains(&hex::encode(secret)) && !printed.contains(&format!("{secret:?}")));
    }
}

#[test]
fn removing_one_of_fifty_devices_is_one_entry_of_at_most_80_kb() {
    let scene = Scene::new();
    let members: Vec<Membership> = (1..=50).map(membership).collect();
    let staying: Vec<MemberKeys> = members[..49].iter().map(|member| member.keys.clone()).collect();
    let removed = Removed { device: members[49].device(), last_seq: 1 << 40, last_blob_id: BlobId([4; 32]) };
    let item = |member: &Membership| SeenItem {
        tag: member.device().tag(),
        seq: 1 << 40,
        hash: crate::content::SeenHash([255; 16]),
    };
    // The hundredth rotation of a busy group, by somebody who has heard from everybody.
    let body = EpochBody {
        seen: members.iter().map(item).collect::<Vec<_>>().try_into().expect("fits"),
        removed: vec![removed].try_into().expect("one fits"),
        member_digest: MemberDigest::of(staying.iter().map(|member| member.device)),
        allow: staying.iter().map(|member| member.noise).collect::<Vec<_>>().try_into().expect("fits"),
        keyring: (0..100).map(|n| EpochSecret::from_bytes([n; 32])).collect::<Vec<_>>().try_into().expect("fits"),
        ..scene.removal()
    };
    let begun = std::time::Instant::now();
    let rng = &mut SeededRng::new(b"rotation");
    let secret = Scene::next_secret();
    let sealed = seal_epoch(scene.id(), &secret, &members[0].signing, &staying, &body, rng).expect("fits");
    let sealing = begun.elapsed();
    let everybody: Vec<MemberKeys> = members.iter().map(|member| member.keys.clone()).collect();
    assert_eq!(unwrap_secret(scene.id(), &members[30], &sealed.envelope), Ok(secret));
    let predecessor = Predecessor::Epoch {
        id: scene.group.keyring.current().id,
        blob_id: scene.genesis.blob_id,
        members: &everybody,
    };
    let accepted = scene.opened(&sealed).verify().expect("signed").check_succession(predecessor);
    assert_eq!(accepted.expect("a member may remove another").members().len(), 49);
    println!("{} bytes; sealed in {sealing:?}, followed in {:?}", sealed.envelope.len(), begun.elapsed() - sealing);
    assert!(sealed.envelope.len() <= 80_000, "{} bytes", sealed.envelope.len());
}
