//! Epochs that come before what they follow: they wait, leave room for one another, and do not wait
//! for ever.

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerok_sync_chaos::sim::World;
use zerok_sync_chaos::sim::relay::Stored;
use zerok_sync_core::epoch::{EpochBody, MemberDigest, seal_epoch};
use zerok_sync_core::keys::{EpochSecret, Membership, MembershipSeed};
use zerok_sync_core::seal::Sealed;
use zerok_sync_core::{Connection, IntegrityEvent};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, EnvelopeHeader, EpochId};

use crate::epochs::everybody;

/// Longer than what is in doubt is waited for.
const IN_DOUBT_MS: u64 = 60_000;

/// A change of keys that follows an epoch of this id in this envelope.
fn epoch_behind(world: &World, author: &Membership, number: u8, id: EpochId, blob_id: BlobId) -> Sealed {
    let (_, keyring) = world.keys(0);
    let members = everybody(world, 2);
    let body = EpochBody {
        sender: author.device(),
        seq: 1,
        prev: BlobId::ZERO,
        seen: List::empty(),
        previous_epoch: id,
        previous_blob_id: blob_id,
        removed: List::empty(),
        member_digest: MemberDigest::of(members.iter().map(|member| member.device)),
        allow: members.iter().map(|member| member.noise).collect::<Vec<_>>().try_into().expect("few"),
        keyring: List::empty(),
        lamport: 9,
        sent_at_ms: 0,
        genesis: Bytes::new(),
    };
    let secret = EpochSecret::from_bytes([number; 32]);
    let mut rng = ChaCha20Rng::from_seed([number; 32]);
    seal_epoch(keyring.group(), &secret, &author.signing, &members, &body, &mut rng).expect("few members")
}

/// One by nobody's device that rests on an epoch that never was.
fn epoch_on_nothing(world: &World, number: u8) -> (Sealed, Membership) {
    let nobody = Membership::from_seed(&MembershipSeed::from_bytes([number; 32]));
    (epoch_behind(world, &nobody, number, EpochId([number; 8]), BlobId([number; 32])), nobody)
}

/// It stands in the log at this index.
fn insert(world: &mut World, index: usize, sealed: Sealed) {
    let stored = Stored { blob_id: sealed.blob_id, envelope: Some(sealed.envelope) };
    world.relay.entries_mut().insert(index, stored);
}

fn rotate(world: &mut World) {
    let now = world.now_at(0);
    world.engine(0).rotate(now).expect("a member");
    world.drain(0);
    world.settle();
}

/// How many wait on a device's disk.
fn waiting(world: &World, device: usize) -> usize {
    world.devices[device].storage.keys().filter(|key| key.starts_with(b"\x01y")).count()
}

fn restart(world: &mut World, device: usize) {
    world.crash(device);
    world.start(device);
    world.settle();
}

#[test]
fn epochs_that_rest_on_nothing_leave_room_for_one_that_came_before_what_it_follows() {
    let mut world = World::with_group(2);
    world.crash(1);
    for _ in 0..2 {
        rotate(&mut world);
    }
    let epoch = world.engine(0).status().epoch;
    world.crash(0);
    let head = world.relay.entries().len();
    world.relay.entries_mut().swap(head - 2, head - 1);
    for number in 1..=40 {
        let (sealed, _) = epoch_on_nothing(&world, number);
        insert(&mut world, head - 2, sealed);
    }
    restart(&mut world, 1);
    assert_eq!(world.engine(1).status().epoch, epoch);
    assert_eq!(world.engine(1).status().connection, Connection::Live);
    assert!(waiting(&world, 1) <= 32, "and they are no more than that");
}

#[test]
fn an_epoch_on_nothing_takes_no_place_of_another_and_is_looked_at_again_when_it_is_shown_again() {
    let mut world = World::with_group(2);
    world.crash(1);
    let mut told = Vec::new();
    for number in 1..=33 {
        let (sealed, nobody) = epoch_on_nothing(&world, number);
        let head = world.relay.entries().len();
        insert(&mut world, head, sealed);
        told = vec![IntegrityEvent::NotAMember { cursor: head as u64 + 1, sender: nobody.device() }];
    }
    restart(&mut world, 1);
    assert_eq!((waiting(&world, 1), world.findings(1)), (32, told), "the last one, for want of room");

    // A member's takes the place of one of them, and leaves when what it follows has come.
    world.crash(1);
    rotate(&mut world);
    rotate(&mut world);
    world.crash(0);
    let head = world.relay.entries().len();
    world.relay.entries_mut().swap(head - 2, head - 1);
    restart(&mut world, 1);
    assert_eq!(waiting(&world, 1), 31);
    let gone = world.findings(1).pop();
    let Some(IntegrityEvent::NotAMember { cursor, .. }) = gone else { panic!("{gone:?}") };
    let again = world.relay.entries()[usize::try_from(cursor).expect("short") - 1].clone();
    world.relay.entries_mut().push(again);
    restart(&mut world, 1);
    assert_eq!(waiting(&world, 1), 32, "{:?}", world.findings(1));
}

#[test]
fn an_epoch_that_follows_another_envelope_than_the_one_that_came_is_told_and_waits_no_more() {
    let mut world = World::with_group(2);
    world.crash(1);
    rotate(&mut world);
    let next = world.relay.entries().last().cloned().expect("a change of keys");
    let (header, _) = EnvelopeHeader::parse(next.envelope.as_ref().expect("whole")).expect("an envelope");
    let author = world.keys(0).0;
    let sealed = epoch_behind(&world, &author, 7, header.epoch, BlobId([7; 32]));
    let head = world.relay.entries().len();
    insert(&mut world, head - 1, sealed);
    world.crash(0);
    restart(&mut world, 1);
    let told = [IntegrityEvent::NotAMember { cursor: head as u64, sender: author.device() }];
    assert_eq!(world.engine(1).status().epoch, header.epoch, "what it was to follow is accepted");
    assert_eq!(world.findings(1), told);
    assert_eq!(waiting(&world, 1), 0);
    restart(&mut world, 1);
    world.advance(IN_DOUBT_MS);
    assert_eq!(world.findings(1), told);
}

#[test]
fn a_chain_of_epochs_that_waits_for_its_first_is_followed_to_its_end_however_late_that_comes() {
    let mut world = World::with_group(2);
    world.crash(1);
    let first = world.relay.entries().len();
    for _ in 0..12 {
        rotate(&mut world);
    }
    let epoch = world.engine(0).status().epoch;
    world.crash(0);
    let withheld = world.relay.entries_mut().remove(first);
    restart(&mut world, 1);
    world.advance(IN_DOUBT_MS);
    assert_eq!((waiting(&world, 1), world.findings(1).len()), (11, 11), "they wait, and were told of");

    world.relay.entries_mut().push(withheld);
    world.cut(1);
    world.advance(IN_DOUBT_MS);

    assert_eq!((world.engine(1).status().epoch, waiting(&world, 1)), (epoch, 0));
}

#[test]
fn an_epoch_for_which_nobody_brings_what_it_rests_on_is_given_up_once_the_keys_were_changed_often() {
    let mut world = World::with_group(2);
    let (sealed, nobody) = epoch_on_nothing(&world, 7);
    let cursor = world.relay.entries().len() + 1;
    insert(&mut world, cursor - 1, sealed);
    world.cut(0);
    world.cut(1);
    world.advance(5_000);
    for _ in 0..8 {
        rotate(&mut world);
    }
    assert_eq!((waiting(&world, 1), world.findings(1)), (1, vec![]), "it may still be cured");
    world.advance(IN_DOUBT_MS);
    let told = IntegrityEvent::NotAMember { cursor: cursor as u64, sender: nobody.device() };
    assert_eq!((waiting(&world, 1), world.findings(1)), (1, vec![told.clone()]));
    // Device 0 stayed: what is counted is on the other one's disk.
    restart(&mut world, 1);
    world.advance(IN_DOUBT_MS);
    rotate(&mut world);
    assert_eq!((waiting(&world, 1), world.findings(1)), (0, vec![told]));
}

#[test]
fn an_epoch_that_was_told_of_waits_on_while_the_keys_are_changed_seldom() {
    let mut world = World::with_group(2);
    let (sealed, _) = epoch_on_nothing(&world, 7);
    let head = world.relay.entries().len();
    insert(&mut world, head, sealed);
    world.cut(0);
    world.cut(1);
    world.advance(IN_DOUBT_MS);
    for _ in 0..7 {
        rotate(&mut world);
    }
    assert_eq!(waiting(&world, 1), 1);
    rotate(&mut world);
    assert_eq!(waiting(&world, 1), 0);
}
