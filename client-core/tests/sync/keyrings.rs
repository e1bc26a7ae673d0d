//! Secrets of older epochs that an epoch carries: made up by whoever started it, or left out.

use zerok_sync_core::epoch::KEYRING_MAX;
use zerok_sync_core::keys::EpochSecret;

use zerok_sync_chaos::sim::World;
use zerok_sync_core::{Connection, Event};

use crate::epochs::{Change, everybody, new_epoch, rotate, rotation, rotation_with};
use crate::hostile_members::append;
use crate::rotations;

/// As many as an epoch carries beside its group's first, none of them a key of this group.
fn made_up() -> Vec<EpochSecret> {
    let bytes = |number: usize| std::array::from_fn(|at| number.to_le_bytes()[at % 2] ^ 0xa5);
    (1..KEYRING_MAX).map(|number| EpochSecret::from_bytes(bytes(number))).collect()
}

/// How many secrets a device would hand on.
fn secrets(world: &World, device: usize) -> usize {
    world.keys(device).1.secrets().len()
}

#[test]
fn made_up_secrets_of_a_member_are_handed_to_nobody_and_keep_nobody_out() {
    let mut world = World::with_group(2);
    let carried = world.keys(1).1.secrets().cloned().chain(made_up()).collect();
    let sealed = rotation_with(&world, 1, &everybody(&world, 2), &[], carried);
    rotate(&mut world, sealed);
    world.push(0, "before");
    world.settle();
    assert_eq!((world.engine(0).status().epoch, secrets(&world, 0)), (new_epoch(&world), 2));
    let (now, thief) = (world.now(), world.id(1));
    world.engine(0).revoke(now, thief).expect("a member");
    world.settle();
    assert_eq!(world.engine(0).status().members.len(), 1);
    let joined = world.pair(0, "third");
    world.settle();
    assert_eq!(world.texts(joined), ["before"]);
    assert_eq!(secrets(&world, joined), secrets(&world, 0));
}

#[test]
fn keys_that_leave_out_older_ones_are_changed_by_whoever_sees_it() {
    let mut world = World::with_group(2);
    let complete = rotation(&world, 1, &everybody(&world, 2), &[]);
    rotate(&mut world, complete);
    world.settle();
    world.advance(60_000);
    assert_eq!(world.engine(0).status().epoch, new_epoch(&world), "nothing is amiss");

    let mut world = World::with_group(2);
    let sealed = rotation_with(&world, 1, &everybody(&world, 2), &[], Vec::new());
    rotate(&mut world, sealed);
    world.settle();
    world.advance(60_000);
    assert_ne!(world.engine(0).status().epoch, new_epoch(&world));
    assert_eq!(world.engine(0).status().epoch, world.engine(1).status().epoch);
    assert_eq!((world.findings(0), secrets(&world, 0)), (vec![], 3));
}

#[test]
fn secrets_in_an_envelope_that_a_relay_hands_out_are_nobodys_before_it_is_accepted() {
    let mut world = World::with_group(3);
    world.crash(1);
    let forged = rotation_with(&world, 2, &everybody(&world, 3), &[], made_up());
    let (now, gone) = (world.now(), world.id(2));
    world.engine(0).revoke(now, gone).expect("a member");
    world.settle();
    let before = secrets(&world, 1);
    let honest = world.relay.epoch_envelope.replace(forged.envelope);
    world.start(1);
    world.advance(5_000);
    world.crash(1);
    assert_eq!(secrets(&world, 1), before);
    world.relay.epoch_envelope = honest;
    world.start(1);
    world.settle();
    assert_eq!((world.engine(1).status().epoch, secrets(&world, 1)), (world.engine(0).status().epoch, before + 1));
}

#[test]
fn side_branches_of_a_member_push_no_key_of_the_group_out_of_what_is_handed_on() {
    let mut world = World::with_group(2);
    world.push(0, "first");
    world.settle();
    let first = world.keys(0).1.current().id;
    let words = world.make_words(0);
    world.settle();
    world.push(0, "second");
    world.settle();
    rotations::rotate(&mut world, 0);
    world.settle();
    world.push(0, "third");
    world.settle();
    (0..2).for_each(|device| world.crash(device));
    let members: Vec<_> = everybody(&world, 2).into_iter().chain([words.membership().keys]).collect();
    let previous = (first, world.relay.entries()[0].blob_id);
    for number in 1..=KEYRING_MAX as u64 {
        let secret = std::array::from_fn(|at| number.to_le_bytes()[at % 2] ^ 0x5a);
        let (members, secrets) = (&members[..], Vec::new());
        let change = Change { author: 1, secret, previous, members, also_to: &[], removed: &[], secrets };
        let sealed = change.seal(&world);
        append(&mut world, sealed);
    }
    let before = world.devices[0].events.len();
    world.start(0);
    world.advance(300_000);
    let changes = world.devices[0].events[before..].iter().filter(|event| matches!(event, Event::KeysChanged { .. }));
    assert_eq!(changes.count(), 1, "the keys are changed once, after all branches");
    let expected = ["first", "second", "third"];
    let joined = world.pair(0, "later");
    world.settle();
    assert_eq!(
        (world.engine(joined).status().connection, world.texts(joined)),
        (Connection::Live, expected.map(String::from).to_vec())
    );
    world.crash(joined);
    world.crash(0);
    let restored = world.restore(words, "restored");
    world.settle();
    assert_eq!(world.texts(restored), expected);
}
