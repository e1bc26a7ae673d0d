//! Relays that have moved their floors and lose a part of their logs afterwards: what was given up is not
//! taken for missing, and everybody comes to know that the rest is there.

use zerok_sync_chaos::sim::World;

use crate::snapshots::{assert_sound, compact, push_all};

/// Longer than a relay is left alone between two truncations.
const OVER_AN_HOUR_MS: u64 = 3_700_000;
/// Longer than a gap is left to others to fill.
const GAPS_FILLED_MS: u64 = 600_000;

fn floor(world: &World) -> u64 {
    world.relay.log.as_ref().expect("created").floor
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
