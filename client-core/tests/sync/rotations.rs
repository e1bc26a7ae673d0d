//! Rotations that the engine starts: removing, leaving, changing the keys; what survives crashes,
//! lost answers and another device that was first.

use zerok_sync_chaos::sim::World;
use zerok_sync_chaos::sim::relay::Log;
use zerok_sync_core::{Connection, Event, MembershipError, Problem};
use zerok_sync_protocol::EnvelopeHeader;
use zerok_sync_protocol::limits::ALLOW_LIST_MAX;

use crate::outsiders::join;

pub fn revoke(world: &mut World, by: usize, device: usize) {
    let (now, id) = (world.now_at(by), world.id(device));
    world.engine(by).revoke(now, id).expect("a member");
    world.drain(by);
}

pub fn rotate(world: &mut World, by: usize) {
    let now = world.now_at(by);
    world.engine(by).rotate(now).expect("a member");
    world.drain(by);
}

pub fn members(world: &mut World, device: usize) -> Vec<String> {
    world.engine(device).status().members.into_iter().map(|member| member.name).collect()
}

pub fn epoch(world: &World, device: usize) -> zerok_sync_protocol::EpochId {
    world.keys(device).1.current().id
}

/// The epochs that the entries of the log behind a cursor are sealed under.
fn epochs_behind(world: &World, cursor: usize) -> Vec<zerok_sync_protocol::EpochId> {
    let entries = world.relay.entries()[cursor..].iter();
    let envelopes = entries.map(|stored| stored.envelope.as_ref().expect("whole"));
    envelopes.map(|envelope| EnvelopeHeader::parse(envelope).expect("an envelope").0.epoch).collect()
}

pub fn assert_in_step(world: &mut World, devices: &[usize]) {
    let (first, expected) = (devices[0], members(world, devices[0]));
    assert_eq!(expected.len(), devices.len(), "{expected:?}");
    for &device in devices {
        let status = world.engine(device).status();
        assert_eq!((status.connection, status.problem.clone()), (Connection::Live, None), "device {device}");
        assert_eq!((status.outbox_count, status.rotating), (0, false), "device {device}");
        assert_eq!(members(world, device), expected, "device {device}");
        assert_eq!(epoch(world, device), epoch(world, first), "device {device}");
        assert_eq!(world.findings(device), [], "device {device}");
    }
}

#[test]
fn d_rev_01_a_revoked_device_that_is_connected_neither_reads_nor_writes_any_more() {
    let mut world = World::with_group(3);
    world.push(2, "before");
    world.settle();
    revoke(&mut world, 0, 2);
    world.settle();
    world.push(2, "too late");
    world.push(0, "after");
    world.settle();
    assert_in_step(&mut world, &[0, 1]);
    assert_eq!(world.texts(1), ["before", "after"]);
    assert_eq!(world.engine(2).status().problem, Some(Problem::Revoked));
    assert_eq!(world.texts(2), ["before"], "what it had it keeps");
    world.crash(2);
    world.start(2);
    world.settle();
    assert_eq!(world.engine(2).status().problem, Some(Problem::Revoked));
    assert_eq!(world.texts(2), ["before"]);
}

#[test]
fn d_rev_01_a_device_that_is_revoked_while_offline_is_not_let_in() {
    let mut world = World::with_group(3);
    let gone = world.id(2);
    world.crash(2);
    let now = world.now_at(0);
    world.engine(0).revoke(now, gone).expect("a member");
    world.settle();
    world.push(1, "after");
    world.start(2);
    world.push(2, "from outside");
    world.settle();
    assert_in_step(&mut world, &[0, 1]);
    assert_eq!(world.texts(0), ["after"]);
    assert_eq!(world.texts(2), [""; 0]);
    assert_eq!(world.engine(2).status().problem, Some(Problem::Revoked));
}

#[test]
fn a_rotation_goes_on_while_everybody_pushes_and_nothing_is_sealed_under_the_old_keys_behind_it() {
    let mut world = World::with_group(3);
    for n in 0..5 {
        world.push(n % 3, &format!("before {n}"));
    }
    rotate(&mut world, 0);
    for n in 0..5 {
        world.push(n % 3, &format!("meanwhile {n}"));
    }
    world.settle();
    assert_in_step(&mut world, &[0, 1, 2]);
    for device in 0..3 {
        assert_eq!(world.texts(device).len(), 10);
    }
    let head = world.relay.entries().len();
    world.push(2, "under the new keys");
    world.settle();
    assert_eq!(epochs_behind(&world, head), [epoch(&world, 0)]);
    assert!(world.devices[1].events.iter().any(|event| matches!(event, Event::KeysChanged { .. })));
}

#[test]
fn d_rev_03_what_was_attempted_is_pushed_first_and_what_was_not_is_sealed_under_the_new_keys() {
    let mut world = World::with_group(2);
    // Attempted and not acknowledged …
    world.relay.swallow_acks = true;
    world.push(0, "attempted");
    world.settle();
    world.crash(0);
    world.relay.swallow_acks = false;
    world.open(0);
    // … and not attempted.
    world.push(0, "waiting");
    rotate(&mut world, 0);
    let (old, now) = (epoch(&world, 0), world.now_at(0));
    world.engine(0).start(now);
    world.drain(0);
    world.settle();
    assert_in_step(&mut world, &[0, 1]);
    assert_eq!(world.texts(1), ["attempted", "waiting"]);
    let new = epoch(&world, 0);
    assert_ne!(old, new);
    let epochs = epochs_behind(&world, 0);
    assert_eq!(epochs[epochs.len() - 3..], [old, new, new], "attempted, the envelope, waiting");
}

#[test]
fn d_rev_02_two_that_rotate_at_once_reach_the_same_keys() {
    let mut world = World::with_group(3);
    rotate(&mut world, 0);
    rotate(&mut world, 1);
    world.settle();
    world.advance(30_000);
    world.push(0, "a");
    world.push(1, "b");
    world.settle();
    assert_in_step(&mut world, &[0, 1, 2]);
    assert_eq!(world.engine(2).status().rotations, 1, "the loser's wish was met by the winner");
}

#[test]
fn d_rev_02_of_two_devices_that_revoke_each_other_one_stays() {
    let mut world = World::with_group(3);
    revoke(&mut world, 0, 1);
    revoke(&mut world, 1, 0);
    world.settle();
    world.advance(30_000);
    world.push(2, "after");
    world.settle();
    assert_in_step(&mut world, &[0, 2]);
    assert_eq!(world.engine(1).status().problem, Some(Problem::Revoked));
}

#[test]
fn two_that_remove_different_devices_at_once_remove_both() {
    let mut world = World::with_group(4);
    revoke(&mut world, 0, 2);
    revoke(&mut world, 1, 3);
    world.settle();
    world.advance(30_000);
    assert_in_step(&mut world, &[0, 1]);
    assert_eq!(world.engine(0).status().rotations, 2);
}

#[test]
fn a_wish_outlives_a_crash_at_every_point_and_is_carried_out_once() {
    let mut carried_out = 0;
    for outputs in 1..60 {
        let mut world = World::with_group(3);
        world.push(0, "before");
        world.devices[0].crash_after = Some(outputs);
        revoke(&mut world, 0, 2);
        world.settle();
        let crashed = world.devices[0].engine().is_none();
        if crashed {
            world.start(0);
            world.settle();
            world.advance(30_000);
        }
        world.devices[0].crash_after = None;
        // A crash before the wish was durable has forgotten it, and nobody was told that it was.
        if world.engine(1).status().members.len() == 3 {
            assert!(outputs < 5, "forgotten after {outputs} outputs");
            continue;
        }
        carried_out += u32::from(crashed);
        assert_in_step(&mut world, &[0, 1]);
        assert_eq!(world.engine(1).status().rotations, 1, "after {outputs} outputs");
    }
    assert!(carried_out > 5, "only {carried_out} crashes came in between");
}

#[test]
fn a_lost_answer_to_a_rotation_does_not_rotate_twice() {
    let mut world = World::with_group(2);
    world.relay.lose_acks = 1;
    rotate(&mut world, 0);
    world.settle();
    world.advance(30_000);
    assert_in_step(&mut world, &[0, 1]);
    assert_eq!(world.engine(1).status().rotations, 1);
}

#[test]
fn a_device_that_leaves_says_so_and_another_one_changes_the_keys() {
    let mut world = World::with_group(3);
    world.push(1, "last words");
    let now = world.now_at(1);
    world.engine(1).leave(now).expect("two others are there");
    world.drain(1);
    world.settle();
    world.advance(30_000);
    assert_in_step(&mut world, &[0, 2]);
    assert_eq!(world.texts(2), ["last words"]);
    assert_eq!(world.engine(0).status().rotations, 1);
    assert!(world.devices[1].events.contains(&Event::Left));
    assert_eq!(world.engine(1).status().problem, Some(Problem::Left));
    world.crash(1);
    world.start(1);
    world.settle();
    assert_eq!(world.engine(1).status().connection, Connection::Offline, "it stays outside");
}

#[test]
fn nobody_revokes_itself_or_a_stranger_and_the_last_device_does_not_leave() {
    let mut world = World::with_group(1);
    let (now, own) = (world.now_at(0), world.id(0));
    let stranger = zerok_sync_core::id::DeviceId([7; 32]);
    assert_eq!(world.engine(0).revoke(now, own), Err(MembershipError::OwnDevice));
    assert_eq!(world.engine(0).revoke(now, stranger), Err(MembershipError::NoSuchDevice(stranger.to_string())));
    assert_eq!(world.engine(0).leave(now), Err(MembershipError::LastDevice));
    assert_eq!(world.engine(0).rename(now, " \n"), Err(MembershipError::NotAName));
}

#[test]
fn a_device_is_named_by_its_name_or_the_beginning_of_its_identity_and_never_guessed() {
    let mut world = World::with_group(3);
    let (id, status) = (world.id(1), world.engine(0).status());
    assert_eq!(status.find_device("device 1"), Ok(id));
    assert_eq!(status.find_device(&id.to_string()[..12].to_uppercase()), Ok(id));
    let three_digits = &id.to_string()[..3];
    assert_eq!(status.find_device(three_digits), Err(MembershipError::NoSuchDevice(three_digits.into())));
    assert_eq!(status.find_device("device 9"), Err(MembershipError::NoSuchDevice("device 9".into())));
    let now = world.now_at(2);
    world.engine(2).rename(now, "device 1").expect("names need not differ");
    world.drain(2);
    world.settle();
    let status = world.engine(0).status();
    assert!(
        matches!(status.find_device("device 1"), Err(MembershipError::Ambiguous { candidates, .. }) if candidates.len() == 2)
    );
    assert!(status.find_device("").is_err());
}

#[test]
fn a_device_let_in_and_not_arrived_is_listed_until_it_arrives_or_the_keys_change() {
    let mut world = World::with_group(2);
    let joiner = world.begin_joining(0, "late");
    world.settle();
    let now = world.now_at(0);
    world.engine(0).accept_joiner_unchecked(now);
    world.settle();
    let granted = |world: &mut World| world.engine(0).status().granted.len();
    assert_eq!(granted(&mut world), 1, "it has stored its keys and never came");
    rotate(&mut world, 0);
    world.settle();
    assert_eq!(granted(&mut world), 0);
    world.start(joiner);
    world.settle();
    assert_eq!(world.engine(joiner).status().problem, Some(Problem::Revoked), "what it was handed is void");
    assert_in_step(&mut world, &[0, 1]);
}

/// The relay forgets every rotation, and keeps the entries.
fn forget_rotations(world: &mut World, before: &Log, genesis: Option<bytes::Bytes>) {
    let entries = world.relay.entries().to_vec();
    world.relay.log = Some(Log { entries, ..before.clone() });
    world.relay.epoch_envelope = genesis;
}

#[test]
fn b_roll_03_a_relay_that_missed_rotations_is_told_all_of_them_before_anything_is_pushed() {
    let mut world = World::with_group(3);
    let (before, genesis) = (world.relay.log.clone().expect("created"), world.relay.epoch_envelope.clone());
    revoke(&mut world, 0, 2);
    world.settle();
    rotate(&mut world, 0);
    world.settle();
    let now = world.relay.log.clone().expect("created");
    (0..3).for_each(|device| world.crash(device));
    forget_rotations(&mut world, &before, genesis);
    let head = world.relay.entries().len();
    world.start(1);
    world.push(1, "behind both rotations");
    world.settle();
    world.start(0);
    world.start(2);
    world.push(2, "from outside");
    world.settle();
    assert_in_step(&mut world, &[0, 1]);
    let after = world.relay.log.clone().expect("created");
    assert_eq!((after.auth, after.auth_gen, &after.allow), (now.auth, now.auth_gen, &now.allow));
    assert_eq!(epochs_behind(&world, head), [epoch(&world, 0)], "nothing under older keys, no envelope twice");
    assert_eq!(world.texts(0), ["behind both rotations"]);
    assert_eq!(world.engine(2).status().problem, Some(Problem::Revoked), "the removed device stays out");
}

#[test]
fn d_rev_04_a_device_that_was_away_during_two_rotations_gets_back_in_and_reads_everything() {
    let mut world = World::with_group(4);
    world.push(2, "mine");
    world.settle();
    world.crash(2);
    world.push(0, "first epoch");
    world.settle();
    rotate(&mut world, 0);
    world.settle();
    world.push(1, "second epoch");
    world.settle();
    revoke(&mut world, 1, 3);
    world.settle();
    world.push(0, "third epoch");
    world.settle();
    world.start(2);
    world.push(2, "back");
    world.settle();
    assert_in_step(&mut world, &[0, 1, 2]);
    let expected = ["mine", "first epoch", "second epoch", "third epoch", "back"];
    for device in [0, 1, 2] {
        assert_eq!(world.texts(device), expected, "device {device}");
    }
}

#[test]
fn a_group_grows_no_larger_than_a_relays_list() {
    let mut world = World::with_group(1);
    let (founder, keyring) = world.keys(0);
    world.pair(0, "device 1");
    world.crash(1);
    for seed in 0..ALLOW_LIST_MAX {
        join(&mut world, u8::try_from(seed).expect("few") + 100, &founder, keyring.current().id);
    }
    world.start(1);
    world.settle();
    assert_eq!(members(&mut world, 1).len(), ALLOW_LIST_MAX);
}
