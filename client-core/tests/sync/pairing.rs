//! Letting a device in, through the engine: nothing is handed over before a person said so, and
//! both sides learn how it ended.

use zerok_sync_core::{Connection, Event, JoinError};

use zerok_sync_chaos::sim::World;

fn waiting_digits(world: &World, device: usize) -> Option<u8> {
    world.devices[device].events.iter().rev().find_map(|event| match event {
        Event::JoinerWaiting { digits, .. } | Event::ShowDigits { digits } => Some(*digits),
        _ => None,
    })
}

#[test]
fn both_people_see_the_same_two_digits() {
    let mut world = World::with_group(1);
    let joiner = world.begin_joining(0, "phone");
    world.settle();
    assert!(waiting_digits(&world, 0).is_some());
    assert_eq!(waiting_digits(&world, 0), waiting_digits(&world, joiner));
}

#[test]
fn a_new_device_reads_what_was_there_before_it() {
    let mut world = World::with_group(1);
    world.push(0, "old");
    world.settle();
    let joiner = world.pair(0, "phone");
    assert_eq!(world.texts(joiner), ["old"]);
    assert_eq!(world.engine(joiner).status().connection, Connection::Live);
}

#[test]
fn a_device_that_joined_can_let_in_the_next() {
    let mut world = World::with_group(2);
    let third = world.pair(1, "third");
    world.push(third, "hello");
    world.settle();
    assert_eq!(world.texts(0), ["hello"]);
    assert_eq!(world.engine(0).status().members.len(), 3);
    assert!((0..3).all(|device| world.findings(device).is_empty()));
}

#[test]
fn a_no_hands_over_nothing_and_tells_both() {
    let mut world = World::with_group(1);
    let joiner = world.begin_joining(0, "phone");
    world.settle();
    let now = world.now();
    world.engine(0).answer_joiner(now, false);
    world.settle();
    assert!(world.devices[0].events.contains(&Event::InviteFailed(JoinError::Declined)));
    assert!(world.devices[joiner].events.contains(&Event::JoinFailed(JoinError::Declined)));
    assert!(world.devices[joiner].storage.is_empty());
}

#[test]
fn a_cancelled_invitation_is_gone_for_the_joiner() {
    let mut world = World::with_group(1);
    let joiner = world.begin_joining(0, "phone");
    let now = world.now();
    world.engine(0).cancel_invite(now);
    world.settle();
    assert!(world.devices[0].events.contains(&Event::InviteFailed(JoinError::Cancelled)));
    assert!(world.devices[joiner].events.iter().any(|event| matches!(event, Event::JoinFailed(_))));
    assert!(world.devices[joiner].storage.is_empty());
}

#[test]
fn an_inviter_whose_link_breaks_before_the_answer_hands_over_nothing() {
    let mut world = World::with_group(1);
    let joiner = world.begin_joining(0, "phone");
    world.settle();
    world.cut(0);
    world.advance(60_000);
    assert!(world.devices[0].events.iter().any(|event| matches!(event, Event::InviteFailed(_))));
    assert!(world.devices[joiner].events.iter().any(|event| matches!(event, Event::JoinFailed(_))));
    assert!(world.devices[joiner].storage.is_empty());
    assert_eq!(world.engine(0).status().members.len(), 1);
}

#[test]
fn a_joiner_that_crashes_after_the_grant_is_stored_finishes_alone() {
    let mut world = World::with_group(1);
    world.push(0, "old");
    let joiner = world.begin_joining(0, "phone");
    world.settle();
    world.devices[joiner].slow_disk = true;
    let now = world.now();
    world.engine(0).answer_joiner(now, true);
    world.settle();
    assert!(!world.devices[joiner].storage.is_empty(), "the commit was carried out, only not confirmed");
    world.crash(joiner);
    world.devices[joiner].slow_disk = false;
    world.start(joiner);
    world.settle();
    assert_eq!(world.texts(joiner), ["old"]);
    assert_eq!(world.engine(0).status().members.len(), 2);
}

#[test]
fn a_new_device_pushes_only_what_follows_its_join_entry() {
    let mut world = World::with_group(1);
    let joiner = world.pair(0, "phone");
    world.push(joiner, "mine");
    world.settle();
    let entry = world.entries(0).pop().expect("delivered");
    assert_eq!((entry.seq, entry.sender), (2, world.id(joiner)));
}
