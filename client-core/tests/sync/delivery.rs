//! What one device pushes reaches the others: once, in order, authenticated, whatever restarts.

use zerok_sync_core::{Connection, Event};

use zerok_sync_chaos::sim::World;

#[test]
fn a_push_reaches_the_other_device() {
    let mut world = World::with_group(2);
    world.push(0, "hello");
    world.settle();
    assert_eq!(world.texts(1), ["hello"]);
    let entry = world.entries(1).remove(0);
    assert_eq!((entry.position, entry.own, entry.missing_deps), (1, false, false));
    assert_eq!(entry.sender, world.id(0));
}

#[test]
fn both_devices_know_both_members_by_name() {
    let mut world = World::with_group(2);
    for device in 0..2 {
        let mut names: Vec<String> =
            world.engine(device).status().members.into_iter().map(|member| member.name).collect();
        names.sort();
        assert_eq!(names, ["device 0", "device 1"]);
    }
    let id = world.id(1);
    let name = "device 1".to_owned();
    assert!(world.devices[0].events.contains(&Event::MemberJoined { device: id, name }));
}

#[test]
fn own_entries_are_numbered_among_the_others_and_marked() {
    let mut world = World::with_group(2);
    world.push(0, "a");
    world.settle();
    world.push(1, "b");
    world.settle();
    for device in 0..2 {
        let entries = world.entries(device);
        let seen: Vec<(u64, bool)> = entries.iter().map(|entry| (entry.position, entry.own)).collect();
        assert_eq!(seen, [(1, device == 0), (2, device == 1)]);
    }
}

#[test]
fn own_entries_come_back_once_whether_as_stubs_or_in_full() {
    for no_stubs in [false, true] {
        let mut world = World::with_group(2);
        world.relay.no_stubs = no_stubs;
        (0..100).for_each(|number| {
            world.push(0, &format!("{number}"));
        });
        world.settle();
        let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(world.texts(0), expected);
        assert_eq!(world.texts(1), expected);
    }
}

#[test]
fn a_restarted_device_goes_on_where_it_was() {
    let mut world = World::with_group(2);
    world.push(0, "a");
    world.settle();
    let now = world.now();
    world.engine(1).mark_processed(now, 1);
    world.settle();
    world.crash(1);
    world.push(0, "b");
    world.settle();
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1), ["a", "b"]);
    assert_eq!(world.engine(1).status().processed, 1);
    assert_eq!(world.findings(1), []);
}

#[test]
fn that_entries_were_processed_is_told_once_it_is_on_disk() {
    let mut world = World::with_group(2);
    world.push(0, "a");
    world.settle();
    world.devices[1].slow_disk = true;
    world.devices[1].events.clear();
    let now = world.now();
    let told = Event::ProcessedStored { position: 1 };
    assert_eq!(world.engine(1).mark_processed(now, 7), 1, "there is one entry");
    world.settle();
    assert!(!world.devices[1].events.contains(&told));
    world.devices[1].slow_disk = false;
    world.confirm_commits(1);
    world.settle();
    assert!(world.devices[1].events.contains(&told));
    assert!(world.devices[1].events.contains(&Event::StatusChanged));
}

#[test]
fn an_entry_is_told_to_the_app_only_when_it_is_on_disk() {
    let mut world = World::with_group(2);
    world.devices[1].slow_disk = true;
    world.devices[1].events.clear();
    world.push(0, "a");
    world.settle();
    assert!(!world.devices[1].events.contains(&Event::EntriesAvailable { position: 1 }));
    world.devices[1].slow_disk = false;
    world.confirm_commits(1);
    world.settle();
    assert!(world.devices[1].events.contains(&Event::EntriesAvailable { position: 1 }));
}

#[test]
fn a_device_far_behind_catches_up_and_then_is_live() {
    let mut world = World::with_group(2);
    world.crash(1);
    (0..1_000).for_each(|number| {
        world.push(0, &format!("{number}"));
    });
    world.settle();
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1).len(), 1_000);
    assert_eq!(world.engine(1).status().connection, Connection::Live);
}

#[test]
fn three_devices_end_with_the_same_entries_in_the_same_total_order() {
    let mut world = World::with_group(3);
    for round in 0..20 {
        (0..3).for_each(|device| {
            world.push(device, &format!("{device}.{round}"));
        });
        if round % 5 == 0 {
            world.cut(round % 3);
            world.advance(500);
        }
    }
    world.advance(120_000);
    let mut orders: Vec<Vec<String>> = Vec::new();
    for device in 0..3 {
        let mut entries = world.entries(device);
        entries.sort_by_key(|entry| (entry.lamport, entry.sender, entry.seq));
        orders.push(entries.iter().map(|entry| String::from_utf8_lossy(&entry.data).into_owned()).collect());
        assert_eq!(world.findings(device), [], "honest relays raise nothing");
    }
    assert_eq!(orders[0].len(), 60);
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[0], orders[2]);
}
