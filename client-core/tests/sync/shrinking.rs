//! Mirrors that shrink: what a snapshot stands for goes from the devices, too, and from there on
//! they are like devices that began with it.

use zerok_sync_chaos::sim::World;
use zerok_sync_core::{Engine, Event, IntegrityEvent, MirrorPolicy};

use crate::snapshots::{assert_sound, compact, push_all, state};

/// Long enough that the others take a device for gone, and truncate without it.
const AWAY_MS: u64 = 180_000;

/// The app has processed all it was given.
fn process(world: &mut World, device: usize) {
    let (now, position) = (world.now_at(device), world.engine(device).status().position);
    world.engine(device).mark_processed(now, position);
    world.drain(device);
    world.settle();
}

/// Envelopes that a device keeps.
fn mirrored(world: &mut World, device: usize) -> u64 {
    let mut audit = world.engine(device).audit();
    let (from, to) = Engine::mirror_range();
    world.rows(device, &from, &to).into_iter().for_each(|row| audit.row(row));
    audit.finish().entries
}

/// Rows of the index.
fn indexed(world: &World, device: usize) -> usize {
    world.rows(device, &[4], &[5]).len()
}

/// The floor moves, and everybody hears of it, as each does who connects.
pub fn move_floor(world: &mut World) {
    world.advance(60_000);
    for device in 0..world.devices.len() {
        if world.devices[device].is_running() {
            world.cut(device);
        }
    }
    world.advance(60_000);
}

/// Two devices with twenty entries, processed; both have shrunk to the snapshot of the first.
fn shrunk() -> World {
    let mut world = written_and_compacted();
    move_floor(&mut world);
    world
}

/// The same before anything has shrunk.
pub fn written_and_compacted() -> World {
    let mut world = World::with_group(2);
    write_and_compact(&mut world);
    world
}

fn write_and_compact(world: &mut World) {
    for n in 0..10 {
        push_all(world, 0, &[&format!("a{n}")]);
        push_all(world, 1, &[&format!("b{n}")]);
    }
    process(world, 0);
    process(world, 1);
    world.advance(10_000);
    let all = state(world, 0).join(" ");
    compact(world, 0, all.as_bytes());
}

fn written() -> Vec<String> {
    (0..10).flat_map(|n| [format!("a{n}"), format!("b{n}")]).collect()
}

pub fn first_position(world: &mut World, device: usize) -> u64 {
    world.engine(device).status().first_position
}

#[test]
fn once_the_floor_has_moved_every_mirror_shrinks_to_the_snapshot_and_the_tail() {
    let mut world = World::with_group(2);
    for n in 0..10 {
        push_all(&mut world, 0, &[&format!("a{n}")]);
        push_all(&mut world, 1, &[&format!("b{n}")]);
    }
    let (before, indexed_before) = (mirrored(&mut world, 1), indexed(&world, 1));
    process(&mut world, 0);
    process(&mut world, 1);
    world.advance(10_000);
    compact(&mut world, 0, written().join(" ").as_bytes());
    assert_eq!(first_position(&mut world, 0), 1, "it has not heard yet that the floor has moved");
    move_floor(&mut world);
    push_all(&mut world, 1, &["c"]);
    push_all(&mut world, 0, &["d"]);
    for device in [0, 1] {
        assert_eq!(first_position(&mut world, device), 20);
        let kept = mirrored(&mut world, device);
        assert!(before > 20 && kept < 10, "device {device}: {kept} of {before}");
        assert!(indexed(&world, device) + 15 < indexed_before, "{} of {indexed_before}", indexed(&world, device));
        let entries = world.entries(device);
        let read: Vec<_> = entries.iter().map(|entry| (entry.position, entry.snapshot)).collect();
        assert_eq!(read, [(20, true), (21, false), (22, false)]);
        assert_eq!(state(&mut world, device), [written(), vec!["c".into(), "d".into()]].concat());
        assert_sound(&mut world, device);
    }
    for device in [0, 1] {
        world.crash(device);
        world.start(device);
    }
    push_all(&mut world, 0, &["e"]);
    let later = world.pair(1, "later");
    for device in [0, 1, later] {
        assert_eq!(state(&mut world, device), [written(), ["c", "d", "e"].map(str::to_owned).to_vec()].concat());
        assert_sound(&mut world, device);
    }
}

#[test]
fn what_the_app_has_not_processed_stays() {
    let mut world = World::with_group(2);
    for n in 0..20 {
        push_all(&mut world, 0, &[&format!("a{n}")]);
    }
    world.advance(10_000);
    compact(&mut world, 0, b"all");
    move_floor(&mut world);
    assert_eq!(first_position(&mut world, 0), 20, "it wrote all of it");
    assert_eq!(first_position(&mut world, 1), 1);
    assert_eq!(world.entries(1).len(), 20);
    let now = world.now_at(1);
    world.engine(1).mark_processed(now, 19);
    world.drain(1);
    world.settle();
    assert_eq!(first_position(&mut world, 1), 1, "not yet the last one");
    process(&mut world, 1);
    assert_eq!(first_position(&mut world, 1), 20);
    assert_sound(&mut world, 1);
}

#[test]
fn a_device_that_wrote_everything_is_not_given_the_snapshot_for_news() {
    let mut world = World::with_group(2);
    push_all(&mut world, 1, &["first"]);
    for n in 0..20 {
        push_all(&mut world, 0, &[&format!("a{n}")]);
    }
    let now = world.now_at(0);
    world.engine(0).mark_processed(now, 1);
    process(&mut world, 1);
    world.advance(10_000);
    compact(&mut world, 1, b"all");
    move_floor(&mut world);
    assert_eq!(world.engine(0).status().processed, 1);
    assert_eq!(first_position(&mut world, 0), 21);
    push_all(&mut world, 0, &["b"]);
    let news = |world: &mut World, after| {
        let (from, to) = Engine::entry_range(20);
        let reader = world.engine(0).entry_reader();
        let rows = world.rows(0, &from, &to).into_iter();
        let stored: Vec<_> = rows.flat_map(|row| reader.entries(row, after)).collect();
        stored.into_iter().filter(|stored| stored.as_ref().expect("sound").is_news()).count()
    };
    assert_eq!(news(&mut world, 1), 0, "its app has all the others' and wrote the rest");
    assert_eq!(news(&mut world, 0), 1, "whoever reads again is given it");
}

#[test]
fn a_device_alone_keeps_everything_whatever_its_policy() {
    let mut world = World::with_group(1);
    world.engine(0).set_mirror_policy(MirrorPolicy::Own);
    push_all(&mut world, 0, &["a", "b", "c", "d", "e", "f"]);
    compact(&mut world, 0, b"all");
    world.advance(60_000);
    assert_eq!(first_position(&mut world, 0), 1);
}

#[test]
fn a_mirror_of_what_is_its_own_does_not_wait_for_the_relays() {
    let mut world = World::with_group(2);
    let second = world.add_relay();
    world.list_relay(0, second);
    world.advance(20_000);
    world.engine(1).set_mirror_policy(MirrorPolicy::Own);
    write_and_compact(&mut world);
    world.advance(60_000);
    assert_eq!(first_position(&mut world, 0), 1, "floors stay where they are");
    assert_eq!(first_position(&mut world, 1), 20);
    for device in [0, 1] {
        assert_eq!(state(&mut world, device), written());
        assert_sound(&mut world, device);
    }
    assert!(world.engine(1).status().relays.iter().all(|relay| relay.settled));
}

#[test]
fn s_sm_04_a_device_that_dies_while_its_mirror_shrinks_goes_on_with_it() {
    for outputs in 1..=40 {
        let mut world = World::with_group(2);
        write_and_compact(&mut world);
        world.crash(1);
        world.advance(60_000);
        world.devices[1].crash_after = Some(outputs);
        world.start(1);
        world.advance(10_000);
        if world.devices[1].is_running() {
            world.crash(1);
        }
        world.devices[1].crash_after = None;
        world.start(1);
        assert_eq!(state(&mut world, 1), written(), "after {outputs} outputs");
        world.advance(60_000);
        push_all(&mut world, 0, &["c"]);
        assert_eq!(first_position(&mut world, 1), 20, "after {outputs} outputs");
        assert!(mirrored(&mut world, 1) < 10, "after {outputs} outputs");
        assert_eq!(state(&mut world, 1), [written(), vec!["c".into()]].concat(), "after {outputs} outputs");
        assert_sound(&mut world, 1);
    }
}

#[test]
fn a_mirror_shrinks_again_to_the_next_snapshot() {
    let mut world = shrunk();
    for n in 0..10 {
        push_all(&mut world, 1, &[&format!("c{n}")]);
    }
    process(&mut world, 0);
    process(&mut world, 1);
    world.advance(10_000);
    let all = state(&mut world, 1);
    compact(&mut world, 1, all.join(" ").as_bytes());
    world.advance(7_200_000);
    move_floor(&mut world);
    for device in [0, 1] {
        assert_eq!(first_position(&mut world, device), 30);
        assert!(mirrored(&mut world, device) < 10);
        assert_eq!(state(&mut world, device), all);
        assert_sound(&mut world, device);
    }
}

#[test]
fn a_mirror_in_which_something_comes_before_what_goes_waits_for_the_next_snapshot() {
    let mut world = World::with_group(3);
    push_all(&mut world, 2, &["kept"]);
    world.cut(2);
    world.crash(2);
    // Of what the first device has not read only the second knows, and is away.
    world.crash(0);
    world.start(2);
    push_all(&mut world, 2, &["early"]);
    world.crash(2);
    world.crash(1);
    world.roll_back_relay(1, true);
    world.start(0);
    for n in 0..10 {
        push_all(&mut world, 0, &[&format!("a{n}")]);
    }
    process(&mut world, 0);
    compact(&mut world, 0, b"kept and a0 to a9");
    world.start(1);
    world.engine(1).set_mirror_policy(MirrorPolicy::Own);
    world.start(2);
    world.advance(60_000);
    process(&mut world, 1);
    world.advance(60_000);
    assert_eq!(first_position(&mut world, 1), 1);
    process(&mut world, 0);
    let all = state(&mut world, 0).join(" ");
    compact(&mut world, 0, all.as_bytes());
    world.advance(60_000);
    assert!(first_position(&mut world, 1) > 10);
}

#[test]
fn a_wiped_relay_gets_the_snapshot_and_the_tail_from_mirrors_that_have_shrunk() {
    let mut world = shrunk();
    push_all(&mut world, 1, &["c"]);
    world.wipe_relay();
    world.advance(300_000);
    push_all(&mut world, 0, &["d"]);
    let later = world.pair(1, "later");
    for device in [0, 1, later] {
        assert_eq!(state(&mut world, device), [written(), vec!["c".into(), "d".into()]].concat(), "device {device}");
        let relay = world.engine(device).status().relays.remove(0);
        assert!(relay.settled, "device {device}: {relay:?}");
        assert_sound(&mut world, device);
    }
}

/// Device 2 was away while the relay gave up what it lacks, the others' mirrors shrank, and the relay
/// then lost everything, or went back to where it was long before.
fn away_too_long(lost: impl FnOnce(&mut World)) -> World {
    let mut world = World::with_group(3);
    world.relay.forgets_who_is_away = true;
    push_all(&mut world, 2, &["first"]);
    world.advance(10_000);
    world.crash(2);
    world.advance(AWAY_MS);
    write_and_compact(&mut world);
    move_floor(&mut world);
    assert!(first_position(&mut world, 0) > 1 && first_position(&mut world, 1) > 1);
    push_all(&mut world, 1, &["tail"]);
    lost(&mut world);
    world.advance(300_000);
    world.start(2);
    world.push(2, "last");
    world.advance(300_000);
    world
}

fn assert_all_have_everything(world: &mut World) {
    for device in [0, 1, 2] {
        let mut read = state(world, device);
        read.sort();
        let mut all = [written(), ["first", "tail", "last"].map(str::to_owned).to_vec()].concat();
        all.sort();
        assert_eq!(read, all, "device {device}");
        assert!(world.engine(device).status().relays[0].settled, "device {device}");
        let told = |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::RolledBack { .. });
        assert!(world.findings(device).iter().all(told), "device {device}: {:?}", world.findings(device));
    }
    let resets = world.devices[2].events.iter().filter(|event| matches!(event, Event::Reset { .. })).count();
    assert_eq!(resets, 1);
}

#[test]
fn who_lacks_what_only_a_snapshot_still_stands_for_goes_on_from_it_at_a_relay_that_was_wiped() {
    let mut world = away_too_long(World::wipe_relay);
    assert_all_have_everything(&mut world);
}

#[test]
fn who_lacks_what_only_a_snapshot_still_stands_for_goes_on_from_it_at_a_relay_that_went_back() {
    for declared in [true, false] {
        let mut world = away_too_long(|world| world.roll_back_relay(15, declared));
        assert_all_have_everything(&mut world);
    }
}
