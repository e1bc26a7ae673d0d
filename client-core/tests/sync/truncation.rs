//! Truncation: a relay gives up what a snapshot stands for, and who was away goes on from that.

use bytes::Bytes;
use zerok_sync_chaos::sim::{Loss, World};
use zerok_sync_core::{Connection, Engine, Event, IntegrityEvent};

use crate::snapshots::{assert_sound, compact, names, newest, push_all, state, try_compact};

/// Long enough that the others take a device for gone, and truncate without it.
const AWAY_MS: u64 = 180_000;

fn floor(world: &World) -> u64 {
    world.relay.log.as_ref().expect("created").floor
}

fn resets(world: &World, device: usize) -> usize {
    world.devices[device].events.iter().filter(|event| matches!(event, Event::Reset { .. })).count()
}

/// A log whose beginning is gone: device 2 was away meanwhile.
fn truncated() -> World {
    let mut world = World::with_group(3);
    world.relay.forgets_who_is_away = true;
    push_all(&mut world, 2, &["a"]);
    push_all(&mut world, 0, &["b"]);
    world.advance(10_000);
    world.crash(2);
    push_all(&mut world, 1, &["c"]);
    world.advance(10_000);
    compact(&mut world, 0, b"a b c");
    world.advance(AWAY_MS);
    assert!(floor(&world) > 1);
    world.relay.purge();
    world
}

#[test]
fn once_another_device_has_all_of_a_snapshot_the_relay_gives_up_what_it_stands_for() {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a", "b"]);
    push_all(&mut world, 1, &["c"]);
    let head = world.relay.entries().len() as u64;
    world.advance(10_000);
    compact(&mut world, 0, b"a b c");
    world.advance(60_000);
    assert_eq!(floor(&world), head + 1);
    assert_eq!(world.relay.truncations, 1);
    world.relay.purge();
    push_all(&mut world, 1, &["d"]);
    let later = world.pair(1, "later");
    push_all(&mut world, later, &["e"]);
    for device in [0, 1, later] {
        assert_eq!(state(&mut world, device), ["a", "b", "c", "d", "e"], "device {device}");
        assert_sound(&mut world, device);
    }
}

#[test]
fn a_device_alone_gives_nothing_up() {
    let mut world = World::with_group(1);
    push_all(&mut world, 0, &["a", "b"]);
    compact(&mut world, 0, b"a b");
    world.cut(0);
    world.advance(7_200_000);
    assert_eq!(floor(&world), 1);
}

#[test]
fn d_rev_04_a_device_that_was_away_for_longer_than_the_log_goes_on_from_the_snapshot() {
    let mut world = truncated();
    assert!(floor(&world) > 1);
    push_all(&mut world, 1, &["d"]);
    world.start(2);
    world.push(2, "e");
    world.advance(60_000);
    assert_eq!(resets(&world, 2), 1);
    for device in [0, 1, 2] {
        assert_sound(&mut world, device);
    }
    let mut read = state(&mut world, 2);
    read.sort();
    assert_eq!(read, ["a", "b", "c", "d", "e"]);
    assert_eq!(names(&mut world, 2), ["device 0", "device 1", "device 2"]);
    world.crash(2);
    world.start(2);
    push_all(&mut world, 2, &["f"]);
    push_all(&mut world, 0, &["g"]);
    for device in [0, 1, 2] {
        let mut read = state(&mut world, device);
        read.sort();
        assert_eq!(read, ["a", "b", "c", "d", "e", "f", "g"], "device {device}");
        assert_sound(&mut world, device);
    }
}

#[test]
fn d_rev_04_a_device_that_was_away_for_two_rotations_and_a_truncation_gets_back_in() {
    let mut world = World::with_group(4);
    world.relay.forgets_who_is_away = true;
    push_all(&mut world, 2, &["a"]);
    world.advance(10_000);
    world.crash(2);
    let now = world.now_at(0);
    let gone = world.id(3);
    world.engine(0).revoke(now, gone).expect("a member");
    world.settle();
    let new = world.pair(0, "new");
    world.engine(new).rotate(now).expect("a member");
    world.settle();
    world.crash(0);
    push_all(&mut world, 1, &["b"]);
    world.advance(10_000);
    compact(&mut world, 1, b"a b");
    world.advance(AWAY_MS);
    world.relay.purge();
    assert!(floor(&world) > 1);
    push_all(&mut world, new, &["c"]);
    world.start(2);
    world.push(2, "d");
    world.advance(60_000);
    assert_eq!(world.engine(2).status().rotations, 2);
    world.start(0);
    world.advance(60_000);
    for device in [0, 1, 2, new] {
        assert_eq!(state(&mut world, device), ["a", "b", "c", "d"], "device {device}");
        assert_eq!(names(&mut world, device), ["device 0", "device 1", "device 2", "new"]);
        assert_sound(&mut world, device);
    }
}

#[test]
fn own_entries_that_the_snapshot_does_not_hold_come_behind_it() {
    let mut world = truncated();
    world.relay_up = false;
    world.restart_relay();
    world.start(2);
    world.push(2, "offline");
    world.relay_up = true;
    world.advance(120_000);
    let entries = world.entries(2);
    let snapshot = entries.iter().position(|entry| entry.snapshot).expect("it began anew");
    let own = entries.iter().position(|entry| entry.data == "offline").expect("it was pushed");
    assert!(own > snapshot && entries[own].own);
    assert!(entries[own].news, "the app's state does not hold it any more");
    assert!(!entries[0].news || !entries[0].own);
    assert_sound(&mut world, 2);
}

#[test]
fn s_sm_03_a_device_that_dies_while_it_takes_a_snapshot_over_takes_it_over_again() {
    for outputs in 1..=24 {
        let mut world = truncated();
        push_all(&mut world, 1, &["d"]);
        world.devices[2].crash_after = Some(outputs);
        world.start(2);
        world.settle();
        if world.devices[2].is_running() {
            world.crash(2);
        }
        world.devices[2].crash_after = None;
        world.start(2);
        world.advance(60_000);
        push_all(&mut world, 2, &["e"]);
        for device in [0, 1, 2] {
            assert_eq!(
                state(&mut world, device),
                ["a", "b", "c", "d", "e"],
                "device {device}, after {outputs} outputs"
            );
            assert_sound(&mut world, device);
        }
    }
}

#[test]
fn c_coll_02_a_reader_that_the_floor_overtakes_goes_on_from_the_snapshot() {
    let mut world = truncated();
    let floor = floor(&world);
    // It reads what is still there, and the floor is moved meanwhile.
    world.relay.log.as_mut().expect("created").move_floor(1);
    world.relay.log.as_mut().expect("created").kept_from = 1;
    world.relay.page_items = 1;
    world.start(2);
    while world.engine(2).status().relay_head.is_none() {
        let now_ms = world.now_ms();
        world.step(now_ms + 1);
    }
    world.relay.log.as_mut().expect("created").move_floor(floor);
    world.relay.purge();
    world.advance(60_000);
    push_all(&mut world, 2, &["d"]);
    for device in [0, 1, 2] {
        assert_eq!(state(&mut world, device), ["a", "b", "c", "d"], "device {device}");
        assert_sound(&mut world, device);
    }
}

#[test]
fn b_expire_a_floor_that_no_snapshot_stands_for_is_told_and_taken_back() {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a", "b", "c"]);
    world.relay.log.as_mut().expect("created").move_floor(4);
    world.cut(0);
    world.advance(60_000);
    assert_eq!(world.findings(0), [IntegrityEvent::Withheld { from_cursor: 1, to_cursor: 3 }]);
    assert_eq!(floor(&world), 1, "within the grace it goes back");
    let later = world.pair(0, "later");
    assert_eq!(world.texts(later), ["a", "b", "c"]);
    assert_eq!(world.findings(later), []);
}

#[test]
fn b_expire_what_a_relay_has_given_up_is_put_back_from_the_mirror() {
    let mut world = World::with_group(3);
    world.crash(2);
    push_all(&mut world, 0, &["a"]);
    push_all(&mut world, 1, &["b"]);
    world.advance(10_000);
    push_all(&mut world, 1, &["c"]);
    let head = world.relay.entries().len() as u64;
    world.relay.log.as_mut().expect("created").move_floor(head);
    world.relay.purge();
    world.cut(0);
    world.cut(1);
    world.advance(60_000);
    assert_eq!(world.findings(0), [IntegrityEvent::Withheld { from_cursor: 1, to_cursor: head - 1 }]);
    world.start(2);
    world.advance(120_000);
    push_all(&mut world, 2, &["d"]);
    for device in [0, 1, 2] {
        let mut texts = world.texts(device);
        texts.sort();
        assert_eq!(texts, ["a", "b", "c", "d"], "device {device}");
        let status = world.engine(device).status();
        assert_eq!((status.connection, status.problem), (Connection::Live, None), "device {device}");
        assert!(status.relays.iter().all(|relay| relay.settled), "device {device}");
        let told = |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::Withheld { .. });
        let findings = world.findings(device);
        assert!(!findings.is_empty() && findings.iter().all(told), "device {device}: {findings:?}");
    }
}

#[test]
fn a_truncated_relay_is_verified_and_repaired_from_its_floor_on() {
    let mut world = truncated();
    push_all(&mut world, 1, &["d"]);
    let last = world.relay.entries().len() - 1;
    let mut damaged = world.relay.entries()[last].envelope.clone().expect("whole").to_vec();
    damaged[100] ^= 1;
    world.relay.entries_mut()[last].envelope = Some(Bytes::from(damaged));
    let now = world.now_at(1);
    world.engine(1).verify_relays(now);
    world.drain(1);
    world.advance(30_000);
    assert!(matches!(world.findings(1)[..], [IntegrityEvent::Corrupt { .. }]), "{:?}", world.findings(1));
    let now = world.now_at(1);
    world.engine(1).repair(now);
    world.drain(1);
    world.advance(60_000);
    assert!(world.engine(1).status().relays[0].settled && !world.engine(1).status().relays[0].unhealed);
    let later = world.pair(0, "later");
    assert_eq!(state(&mut world, later), ["a", "b", "c", "d"]);
    assert_sound(&mut world, later);
}

#[test]
fn a_truncated_relay_that_goes_back_in_time_is_healed() {
    for declared in [true, false] {
        let mut world = truncated();
        push_all(&mut world, 1, &["d", "e"]);
        world.roll_back_relay(2, declared);
        world.advance(180_000);
        world.start(2);
        world.advance(60_000);
        push_all(&mut world, 0, &["f"]);
        for device in [0, 1, 2] {
            assert_eq!(state(&mut world, device), ["a", "b", "c", "d", "e", "f"], "device {device}, {declared}");
            let (from, to) = Engine::mirror_range();
            let mut audit = world.engine(device).audit();
            world.rows(device, &from, &to).into_iter().for_each(|row| audit.row(row));
            let told = |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::RolledBack { .. });
            assert!(audit.finish().findings.iter().all(|finding| !declared && told(finding)), "device {device}");
        }
    }
}

#[test]
fn d_rec_01_the_words_bring_back_a_group_whose_log_does_not_begin_with_its_first_entry() {
    let mut world = World::with_group(2);
    // The paper was there once, to write its slot.
    world.relay.forgets_who_is_away = true;
    let words = world.make_words(0);
    world.advance(60_000);
    push_all(&mut world, 0, &["a"]);
    push_all(&mut world, 1, &["b"]);
    world.advance(10_000);
    let now = world.now_at(0);
    world.engine(0).rotate(now).expect("a member");
    world.advance(60_000);
    compact(&mut world, 0, b"a b");
    world.advance(AWAY_MS);
    world.relay.purge();
    assert!(floor(&world) > 1);
    push_all(&mut world, 1, &["c"]);
    world.crash(0);
    world.crash(1);
    let restored = world.restore(words, "restored");
    world.advance(60_000);
    assert_eq!(state(&mut world, restored), ["a", "b", "c"]);
    assert_eq!(names(&mut world, restored), ["device 0", "device 1", "recovery words", "restored"]);
    assert_sound(&mut world, restored);
}

#[test]
fn a_batch_that_is_still_coming_is_not_cut_in_two_by_a_snapshot() {
    let mut world = World::with_group(2);
    let large = "x".repeat(2_000_000);
    let now = world.now_at(1);
    world.engine(1).push(now, Bytes::from(large.clone())).expect("in parts");
    world.drain(1);
    for _ in 0..10_000 {
        let now_ms = world.now_ms();
        world.step(now_ms + 1);
        let position = world.engine(0).status().position;
        let now = world.now_at(0);
        world.engine(0).mark_processed(now, position);
        let state = if position > 0 { "with it" } else { "without" };
        let compacted = world.engine(0).compact(now, Bytes::from(state));
        world.drain(0);
        if compacted.is_ok() && world.relay.entries().len() > 5 {
            break;
        }
    }
    world.settle();
    let later = world.pair(0, "later");
    let read = world.entries(later);
    let has = |entry: &zerok_sync_core::Entry| entry.data.len() == large.len() || entry.data == "with it";
    assert!(read.iter().any(has), "the batch is there, or in the snapshot");
    assert_sound(&mut world, later);
}

#[test]
fn who_was_away_goes_on_from_the_snapshot_that_covers_most_whichever_was_pushed_last() {
    let mut world = truncated();
    // Made, and not sent before the next one was.
    try_compact(&mut world, 1, b"a b c").expect("complete");
    world.devices[1].cut_off = true;
    world.cut_losing(1, Loss::Everything);
    world.advance(1_000);
    push_all(&mut world, 0, &["d"]);
    compact(&mut world, 0, b"a b c d");
    world.devices[1].cut_off = false;
    world.advance(20_000);
    assert!(newest(&world).0.concat().ends_with(b"a b c"), "it came last");
    let counts = world.engine(0).status().snapshot.map(|snapshot| snapshot.device);
    assert_eq!(counts, Some(world.id(0)));
    let later = world.pair(0, "later");
    world.start(2);
    world.advance(60_000);
    for device in [2, later] {
        let snapshot = world.entries(device).into_iter().rfind(|entry| entry.snapshot).expect("it goes on from one");
        assert_eq!(snapshot.data, "a b c d", "device {device}");
        assert_sound(&mut world, device);
    }
}
