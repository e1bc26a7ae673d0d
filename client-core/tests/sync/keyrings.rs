//! Secrets of older epochs that an epoch carries: made up by whoever started it, or left out.

use zerok_sync_core::epoch::KEYRING_MAX;
use zerok_sync_core::keys::EpochSecret;

use zerok_sync_chaos::sim::World;

use crate::epochs::{everybody, new_epoch, rotate, rotation, rotation_with};

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
