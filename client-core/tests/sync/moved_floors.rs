//! Relays that have moved their floors, of several or losing a part of their logs afterwards: what was
//! given up is not taken for missing nor for withheld, and everybody comes to know that the rest is
//! there.

use zerok_sync_chaos::sim::World;
use zerok_sync_core::IntegrityEvent;

use crate::granted::let_in;
use crate::snapshots::{assert_sound, compact, push_all, state};

/// Longer than a relay is left alone between two truncations.
const OVER_AN_HOUR_MS: u64 = 3_700_000;
/// Longer than a gap is left to others to fill.
const GAPS_FILLED_MS: u64 = 600_000;

fn floor(world: &World) -> u64 {
    floor_at(world, 0)
}

fn floor_at(world: &World, relay: usize) -> u64 {
    world.relay_at(relay).log.as_ref().expect("created").floor
}

fn assert_settled(world: &mut World, device: usize) {
    let relays = world.engine(device).status().relays;
    assert!(relays.iter().all(|relay| relay.settled), "device {device}: {relays:?}");
    assert_sound(world, device);
}

/// A device has read the log as it is now, and has not begun to put anything back.
fn until_caught_up(world: &mut World, device: usize) {
    let head = world.relay.entries().len() as u64;
    loop {
        let status = world.engine(device).status();
        if status.caught_up && status.relay_head == Some(head) {
            break;
        }
        world.advance(10);
    }
}

/// Everybody is connected anew, and hears where the floor is.
fn hear_of_floor(world: &mut World) {
    (0..world.devices.len()).for_each(|device| world.cut(device));
    world.advance(60_000);
}

#[test]
fn what_a_newer_snapshot_stands_for_is_not_missing_where_an_older_one_had_the_floor_moved() {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a", "b"]);
    world.advance(10_000);
    compact(&mut world, 0, b"a b");
    world.advance(60_000);
    assert!(floor(&world) > 1);
    push_all(&mut world, 0, &["c", "d"]);
    world.roll_back_relay(1, true);
    until_caught_up(&mut world, 1);
    world.crash(1);
    world.advance(30_000);
    compact(&mut world, 0, b"a b c d");
    world.start(1);
    world.advance(60_000);
    for device in [0, 1] {
        assert_settled(&mut world, device);
    }
}

#[test]
fn what_stands_behind_a_gap_that_nobody_fills_counts_once_the_gap_does() {
    let mut world = World::with_group(3);
    for name in ["before", "between"] {
        let now = world.now_at(0);
        world.engine(0).rename(now, name).expect("a name");
        for device in 0..3 {
            push_all(&mut world, device, &["x", "y"]);
        }
        for device in 0..3 {
            let (now, position) = (world.now_at(device), world.engine(device).status().position);
            world.engine(device).mark_processed(now, position);
            world.drain(device);
        }
        world.advance(10_000);
        compact(&mut world, 0, b"all of it");
        world.advance(OVER_AN_HOUR_MS);
        hear_of_floor(&mut world);
        world.relay.purge();
    }
    let end = floor(&world);
    world.crash(1);
    // An older copy, in which the floor is where the first snapshot had it moved.
    let lost = world.relay.entries().len() - usize::try_from(end).expect("short") + 3;
    world.roll_back_relay(lost, true);
    assert!(floor(&world) > 1 && floor(&world) < end);
    world.advance(60_000);
    world.start(1);
    world.advance(GAPS_FILLED_MS);
    for device in 0..3 {
        assert_settled(&mut world, device);
    }
}

#[test]
fn what_a_relay_gave_up_between_two_sessions_is_not_missing_in_the_next() {
    let mut world = World::with_group(3);
    // Nobody says what it has, so that nothing is given up yet.
    world.relay.drops_receipts = true;
    push_all(&mut world, 0, &["a", "b"]);
    push_all(&mut world, 1, &["c"]);
    world.advance(10_000);
    compact(&mut world, 0, b"a b c");
    world.advance(60_000);
    assert_eq!(floor(&world), 1);
    // The snapshot is gone, and nothing was put back yet.
    world.roll_back_relay(2, true);
    until_caught_up(&mut world, 1);
    world.crash(1);
    world.relay.drops_receipts = false;
    world.relay.forgets_who_is_away = true;
    world.cut(0);
    world.cut(2);
    world.advance(120_000);
    assert!(floor(&world) > 1);
    world.start(1);
    world.advance(60_000);
    for device in 0..3 {
        assert_settled(&mut world, device);
    }
}

/// Three devices on two relays, which have both given up what a snapshot stands for. Device 2 has been
/// away for longer than their logs reach back.
fn shrunk_on_two_relays() -> World {
    let mut world = World::with_group(3);
    let second = world.add_relay();
    world.list_relay(0, second);
    world.advance(60_000);
    for relay in [0, second] {
        world.relay_at_mut(relay).forgets_who_is_away = true;
    }
    world.crash(2);
    push_all(&mut world, 0, &["a", "b"]);
    push_all(&mut world, 1, &["c"]);
    world.advance(10_000);
    compact(&mut world, 0, b"a b c");
    world.advance(180_000);
    for relay in [0, second] {
        assert!(floor_at(&world, relay) > 1, "relay {relay}");
        world.relay_at_mut(relay).purge();
    }
    world
}

#[test]
fn of_several_relays_each_gives_up_what_the_snapshot_stands_for() {
    let mut world = shrunk_on_two_relays();
    push_all(&mut world, 1, &["d"]);
    world.start(2);
    let later = world.pair(1, "later");
    world.advance(60_000);
    for device in [0, 1, 2, later] {
        assert_eq!(state(&mut world, device), ["a", "b", "c", "d"], "device {device}");
        assert_settled(&mut world, device);
    }
}

#[test]
fn a_new_device_that_meets_another_relay_than_its_inviter_named_accuses_neither() {
    let mut world = shrunk_on_two_relays();
    world.set_up(0, false);
    world.advance(5_000);
    let later = let_in(&mut world, 1);
    world.set_up(0, true);
    world.start(0);
    world.start(later);
    world.advance(120_000);
    for device in [0, later] {
        assert_eq!(state(&mut world, device), ["a", "b", "c"], "device {device}");
        assert_settled(&mut world, device);
    }
}

#[test]
fn a_relay_that_lacks_the_snapshot_withholds_nothing_while_another_device_may_bring_it() {
    let mut world = shrunk_on_two_relays();
    // What the second relay's floor rests on is by a device that is removed, and the next one it lacks.
    world.set_up(1, false);
    let (now, gone) = (world.now_at(1), world.id(0));
    world.engine(1).revoke(now, gone).expect("a member");
    world.drain(1);
    world.advance(10_000);
    push_all(&mut world, 1, &["d"]);
    compact(&mut world, 1, b"a b c d");
    let later = let_in(&mut world, 1);
    world.set_up(0, false);
    world.set_up(1, true);
    world.start(later);
    world.advance(20_000);
    world.start(1);
    world.advance(GAPS_FILLED_MS);
    assert_eq!(world.findings(later), []);
    assert_eq!(state(&mut world, later), ["a", "b", "c", "d"]);
}

#[test]
fn a_relay_that_lost_the_snapshots_row_withholds_nothing_from_who_has_it_from_another() {
    let mut world = shrunk_on_two_relays();
    world.set_up(1, false);
    world.start(2);
    world.advance(60_000);
    world.crash(0);
    world.crash(1);
    let manifest = world.relay_at(1).entries().len();
    world.relay_at_mut(1).forget_row(manifest - 1);
    world.set_up(1, true);
    world.advance(GAPS_FILLED_MS);
    assert_eq!(world.findings(2), [IntegrityEvent::Lost { cursor: manifest as u64, blob_id: None }]);
    assert_eq!(state(&mut world, 2), ["a", "b", "c"]);
}
