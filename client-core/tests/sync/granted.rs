//! What a joining device takes from its inviter and from no relay: the order of the log, what has to
//! be in it before this device writes, who is there.

use zerok_sync_chaos::sim::World;
use zerok_sync_core::content::Kind;
use zerok_sync_core::{Event, IntegrityEvent};

use crate::hostile_members::{append, entry_of};

/// Rows of a device's mirror begin so, …
const MIRROR: u8 = 0x03;
/// … and this is what is remembered of a grant.
const JOINING: &[u8] = b"\x01j";

/// A group in which each device pushed once.
fn group(devices: usize) -> World {
    let mut world = World::with_group(devices);
    for device in 0..devices {
        world.push(device, &format!("from {device}"));
        world.settle();
    }
    world
}

/// A device hands its grant to a new one, which has read nothing yet; then nobody is there.
pub fn let_in(world: &mut World, inviter: usize) -> usize {
    let devices = world.devices.len();
    let joiner = world.begin_joining(inviter, "later");
    world.settle();
    let now = world.now_at(inviter);
    world.engine(inviter).accept_joiner_unchecked(now);
    world.settle();
    assert!(world.devices[joiner].events.contains(&Event::Joined), "{:?}", world.devices[joiner].events);
    for device in (0..devices).filter(|device| world.devices[*device].is_running()).collect::<Vec<_>>() {
        world.crash(device);
    }
    joiner
}

fn names(world: &mut World, device: usize) -> Vec<String> {
    let mut names: Vec<_> = world.engine(device).status().members.into_iter().map(|member| member.name).collect();
    names.sort();
    names
}

/// It reads what there is and writes nothing.
fn assert_writes_nothing(world: &mut World, joiner: usize) {
    let entries = world.relay.entries().len();
    world.start(joiner);
    world.push(joiner, "into a log that is not the inviter's");
    world.settle();
    let status = world.engine(joiner).status();
    assert!(status.joining && status.caught_up, "{status:?}");
    assert_eq!(world.relay.entries().len(), entries);
}

/// The relay shows a joiner the last two entries in another order than its inviter had them.
pub fn assert_forked_by_a_swap(world: &mut World, joiner: usize) {
    let observer = world.keys(0).0.device();
    let last = world.relay.entries().len() - 1;
    world.relay.entries_mut().swap(last - 1, last);
    world.start(joiner);
    world.settle();
    let forked = IntegrityEvent::Forked { observer, cursor: last as u64 + 1 };
    assert!(world.findings(joiner).contains(&forked), "{:?}", world.findings(joiner));
}

#[test]
fn b_fork_a_new_device_that_is_shown_another_order_than_its_inviter_says_so() {
    let mut world = group(2);
    let joiner = let_in(&mut world, 0);
    assert_forked_by_a_swap(&mut world, joiner);
}

#[test]
fn a_new_device_writes_nothing_into_a_log_that_lacks_what_its_inviter_had() {
    let mut world = group(2);
    let joiner = let_in(&mut world, 0);
    world.relay.entries_mut().pop();
    assert_writes_nothing(&mut world, joiner);
}

#[test]
fn a_new_device_writes_nothing_into_a_log_with_another_entry_where_its_inviter_had_one() {
    let mut world = group(1);
    let joiner = let_in(&mut world, 0);
    world.relay.entries_mut().pop();
    let other = entry_of(&world, 0, 3, Kind::APP, b"another branch of its chain");
    append(&mut world, other);
    assert_writes_nothing(&mut world, joiner);
}

#[test]
fn who_is_there_is_known_before_the_log_was_read() {
    let mut world = group(2);
    let joiner = let_in(&mut world, 0);
    let asked = world.devices[joiner].events.iter().find_map(|event| match event {
        Event::ConfirmJoin { inviter, members, .. } => Some((inviter.clone(), members.clone())),
        _ => None,
    });
    let (inviter, mut members) = asked.expect("its person is asked");
    members.sort();
    assert_eq!((inviter.as_str(), members), ("device 0", vec!["device 0".to_owned(), "device 1".into()]));
    world.open(joiner);
    assert_eq!(names(&mut world, joiner), ["device 0", "device 1"]);
}

/// Where in a device's mirror an envelope stands.
fn place_in_mirror(world: &World, device: usize, envelope: &[u8]) -> usize {
    let segments = world.rows(device, &[MIRROR], &[MIRROR + 1]);
    let bytes: Vec<u8> = segments.into_iter().flat_map(|row| row.value).collect();
    bytes.windows(envelope.len()).position(|window| window == envelope).expect("it is there")
}

/// The inviter says nothing of a member.
fn leave_out_of_grant(world: &mut World, joiner: usize, device: usize) {
    let id = world.keys(device).0.device();
    let row = world.devices[joiner].storage.get_mut(JOINING).expect("it is joining");
    let tags: Vec<usize> = (0..row.len() - 8).filter(|at| row[*at..*at + 8] == id.0[..8]).collect();
    assert_eq!(tags.len(), 2, "a member, and the end of its chain");
    tags.into_iter().for_each(|at| row[at..at + 8].copy_from_slice(&[0xee; 8]));
}

#[test]
fn what_waits_for_the_epoch_that_a_device_was_let_in_in_comes_behind_that() {
    let mut world = group(2);
    let entry = world.relay.entries().last().and_then(|stored| stored.envelope.clone()).expect("whole");
    let now = world.now_at(0);
    world.engine(0).rotate(now).expect("a member");
    world.settle();
    let epoch = world.relay.epoch_envelope.clone().expect("rotated");
    let joiner = let_in(&mut world, 0);
    leave_out_of_grant(&mut world, joiner, 1);
    world.start(joiner);
    world.settle();
    assert_eq!(world.texts(joiner), ["from 0", "from 1"], "whoever is a member then is one");
    assert!(place_in_mirror(&world, joiner, &epoch) < place_in_mirror(&world, joiner, &entry));
}
