//! What a relay keeps from one device: the newest of a log, or parts of what is one push. Nothing
//! shorter comes of it, and it shows as soon as anything can show it.

use bytes::Bytes;
use zerok_sync_chaos::sim::World;
use zerok_sync_core::IntegrityEvent;
use zerok_sync_core::id::DeviceId;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

fn is_stale(world: &mut World, device: usize, other: DeviceId) -> bool {
    let now = world.now_at(device);
    let members = world.engine(device).status().members;
    members.iter().find(|member| member.device == other).expect("a member").is_stale(now.wall_ms)
}

#[test]
fn b_drop_a_withheld_tail_is_stale_and_becomes_a_gap_when_a_later_entry_names_it() {
    let mut world = World::with_group(3);
    world.push(0, "read by everybody");
    world.settle();
    let sender = world.id(0);
    world.crash(1);
    world.push(0, "the tail");
    world.settle();
    let tail = world.relay.entries_mut().pop().expect("pushed");
    [0, 2].into_iter().for_each(|device| world.crash(device));

    // Device 1 is shown a log that ends before the tail, and nobody else.
    world.start(1);
    world.settle();
    assert!(!is_stale(&mut world, 1, sender));
    world.advance(DAY_MS + 60_000);
    assert_eq!((world.texts(1), world.findings(1)), (vec!["read by everybody".to_owned()], Vec::new()));
    assert!(is_stale(&mut world, 1, sender), "nothing else can show it");

    // The one that has read the tail goes on.
    world.crash(1);
    world.relay.entries_mut().push(tail);
    world.start(2);
    world.settle();
    world.push(2, "in answer to the tail");
    world.settle();
    world.crash(2);
    let index = world.relay.entries().len() - 2;
    world.relay.entries_mut().remove(index);
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1), ["read by everybody", "in answer to the tail"]);
    let told =
        |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::Unproven { sender: of, .. } if *of == sender);
    assert!(world.findings(1).iter().any(told), "{:?}", world.findings(1));
}

/// More than one entry can be, and no two parts of it alike.
fn large() -> Bytes {
    (0..1_300_000_u32).map(|n| (n / 7).to_le_bytes()[(n % 4) as usize]).collect()
}

/// Device 0 has pushed a large blob and another one while device 1 was away; the cursor index of the
/// large one's second part.
fn with_parts() -> (World, usize) {
    let mut world = World::with_group(2);
    world.crash(1);
    let (first, now) = (world.relay.entries().len(), world.now_at(0));
    world.engine(0).push(now, large()).expect("within the limit");
    world.push(0, "behind");
    world.settle();
    (world, first + 1)
}

#[test]
fn parts_that_the_relay_swaps_are_told_and_come_to_the_app_as_the_blob_that_they_were() {
    let (mut world, second) = with_parts();
    world.relay.entries_mut().swap(second, second + 1);
    let (sender, cursor) = (world.id(0), second as u64 + 1);
    world.start(1);
    world.settle();
    let read: Vec<Bytes> = world.entries(1).into_iter().map(|entry| entry.data).collect();
    assert!(read == [large(), "behind".into()], "whole and in order");
    assert_eq!(world.findings(1), [IntegrityEvent::Reordered { cursor, sender }]);
}

#[test]
fn a_part_that_the_relay_leaves_out_keeps_the_blob_and_what_follows_it_from_the_app() {
    let (mut world, second) = with_parts();
    world.relay.entries_mut().remove(second);
    let sender = world.id(0);
    world.start(1);
    world.settle();
    assert!(world.entries(1).is_empty(), "nothing shorter comes of it");
    assert!(matches!(world.findings(1)[..], [IntegrityEvent::Gap { sender: of, .. }] if of == sender));
}
