//! The outbox: durable before it is sent, sealed once, never twice in the log, never with a hole.

use bytes::Bytes;
use zerok_sync_core::Event;

use zerok_sync_chaos::sim::World;

#[test]
fn a_push_is_stored_when_it_is_on_disk_and_acked_when_the_relay_has_it() {
    let mut world = World::with_group(1);
    world.devices[0].slow_disk = true;
    world.devices[0].events.clear();
    let push = world.push(0, "a");
    assert_eq!(world.devices[0].events, []);
    world.devices[0].slow_disk = false;
    world.confirm_commits(0);
    assert!(world.devices[0].events.contains(&Event::PushesStored { push }));
    assert!(!world.devices[0].events.contains(&Event::PushesAcked { push }));
    world.settle();
    assert!(world.devices[0].events.contains(&Event::PushesAcked { push }));
    assert_eq!(world.engine(0).status().outbox_count, 0);
}

#[test]
fn what_is_pushed_offline_is_kept_and_arrives_once() {
    let mut world = World::with_group(2);
    world.crash(0);
    world.open(0);
    world.push(0, "offline");
    world.settle();
    world.crash(0);
    assert_eq!(world.texts(1), [""; 0]);
    world.start(0);
    world.settle();
    assert_eq!(world.texts(1), ["offline"]);
    assert_eq!(world.texts(0), ["offline"]);
}

#[test]
fn a_lost_acknowledgement_makes_no_second_entry() {
    let mut world = World::with_group(2);
    world.relay.swallow_acks = true;
    world.relay.no_stubs = true;
    world.push(0, "a");
    world.settle();
    world.crash(0);
    world.relay.swallow_acks = false;
    world.start(0);
    world.settle();
    assert_eq!(world.texts(1), ["a"]);
    assert_eq!(world.texts(0), ["a"]);
    assert_eq!(world.engine(0).status().outbox_count, 0);
}

#[test]
fn sealed_bytes_never_change_however_often_they_are_sent() {
    let mut world = World::with_group(2);
    // Sealed and durable, but the link goes before the relay hears of it.
    world.push(0, "a");
    world.cut(0);
    let entries = world.relay.entries().len();
    for _ in 0..3 {
        world.advance(40_000);
    }
    assert_eq!(world.relay.entries().len(), entries + 1);
    assert_eq!(world.texts(1), ["a"]);
}

#[test]
fn after_a_refusal_the_rest_follows_in_order_without_a_hole() {
    let mut world = World::with_group(2);
    world.crash(0);
    world.open(0);
    (0..200).for_each(|number| {
        world.push(0, &format!("{number}"));
    });
    world.crash(0);
    world.relay.refuse_pushes = 3;
    world.start(0);
    world.advance(60_000);
    assert_eq!(world.texts(1), (0..200).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(world.findings(1), []);
}

#[test]
fn an_outbox_larger_than_the_window_is_sent_from_disk_in_order() {
    let mut world = World::with_group(2);
    world.crash(0);
    world.open(0);
    let now = world.now();
    for number in 0..40_u8 {
        world.engine(0).push(now, Bytes::from(vec![number; 300_000])).expect("small enough");
    }
    world.settle();
    world.crash(0);
    world.start(0);
    world.settle();
    let firsts: Vec<u8> = world.entries(1).iter().map(|entry| entry.data[0]).collect();
    assert_eq!(firsts, (0..40).collect::<Vec<_>>());
}

#[test]
fn an_empty_blob_is_delivered_as_such() {
    let mut world = World::with_group(2);
    world.push(0, "");
    world.settle();
    assert_eq!(world.texts(1), [""]);
}

#[test]
fn a_restored_old_copy_reads_and_does_not_write() {
    let mut world = World::with_group(2);
    let old = world.devices[0].storage.clone();
    world.push(0, "new");
    world.settle();
    world.crash(0);
    world.devices[0].storage = old;
    world.start(0);
    let before = world.relay.entries().len();
    world.push(0, "would fork the chain");
    world.settle();
    assert_eq!(world.relay.entries().len(), before);
    assert_eq!(world.engine(0).status().problem, Some(zerok_sync_core::Problem::NeedsApproval));
    assert_eq!(world.findings(1), []);
}
