//! A relay that does to its own database what its operator could: each attack is named, nothing of
//! it reaches the app, and the rest goes on.

use bytes::Bytes;
use zerok_sync_core::{Connection, IntegrityEvent};
use zerok_sync_protocol::envelope::blob_id;

use zerok_sync_chaos::sim::{Defect, World};

/// A group of two in which device 0 pushed `a`, `b` and `c` while device 1 was away.
fn world() -> World {
    let mut world = World::with_group(2);
    world.crash(1);
    ["a", "b", "c"].iter().for_each(|text| {
        world.push(0, text);
    });
    world.settle();
    world
}

/// Index of the entry pushed as number `n` from the end.
fn from_end(world: &World, n: usize) -> usize {
    world.relay.entries().len() - n
}

#[test]
fn an_edited_entry_is_corrupt_and_the_stream_goes_on() {
    let mut world = World::with_group(3);
    world.crash(1);
    for (device, text) in [(0, "a"), (0, "b"), (2, "of another"), (0, "c")] {
        world.push(device, text);
        world.settle();
    }
    [0, 2].into_iter().for_each(|device| world.crash(device));
    let index = from_end(&world, 3);
    let stored = &mut world.relay.entries_mut()[index];
    let whole = stored.envelope.clone();
    let mut bytes = whole.clone().expect("stored").to_vec();
    bytes[100] ^= 1;
    stored.envelope = Some(bytes.into());
    let blob_id = stored.blob_id;
    world.start(1);
    world.settle();
    let cursor = index as u64 + 1;
    assert_eq!(world.texts(1), ["a", "of another"], "another sender's entries wait for nothing");
    assert_eq!(world.findings(1)[0], IntegrityEvent::Corrupt { cursor, blob_id }, "by the name that it bears");

    world.start(0);
    world.advance(120_000);
    assert_eq!(world.relay.entries()[index].envelope, whole, "its author has put it back in place");
    assert_eq!(world.texts(1), ["a", "of another", "b", "c"]);
}

#[test]
fn an_edited_entry_under_a_matching_id_is_corrupt_too() {
    let mut world = world();
    let index = from_end(&world, 3);
    let stored = &mut world.relay.entries_mut()[index];
    let mut bytes = stored.envelope.clone().expect("stored").to_vec();
    bytes[100] ^= 1;
    stored.blob_id = blob_id(&bytes);
    stored.envelope = Some(bytes.into());
    let blob_id = stored.blob_id;
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1), [""; 0]);
    assert_eq!(world.findings(1)[0], IntegrityEvent::Corrupt { cursor: index as u64 + 1, blob_id });
}

#[test]
fn a_dropped_entry_is_a_gap() {
    let mut world = world();
    let index = from_end(&world, 2);
    world.relay.entries_mut().remove(index);
    let sender = world.id(0);
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1), ["a"]);
    assert_eq!(world.findings(1), [IntegrityEvent::Gap { sender, from_seq: 4, to_seq: 4 }]);
}

#[test]
fn b_drop_what_another_devices_entry_names_and_never_comes_is_a_gap() {
    let mut world = World::with_group(3);
    world.crash(2);
    world.push(0, "withheld");
    // Its own receipt says that it wrote so much.
    world.advance(5_000);
    world.push(1, "in answer to that");
    world.settle();
    let index = from_end(&world, 2);
    world.relay.entries_mut().remove(index);
    let sender = world.id(0);
    world.start(2);
    world.settle();
    assert_eq!(world.texts(2), ["in answer to that"], "nobody waits for another sender");
    assert!(world.entries(2)[0].missing_deps);
    let gap = IntegrityEvent::Gap { sender, from_seq: 3, to_seq: 3 };
    assert!(world.findings(2).contains(&gap), "{:?}", world.findings(2));
}

#[test]
fn a_lost_row_is_named_not_skipped() {
    let mut world = world();
    let index = from_end(&world, 1);
    world.relay.entries_mut()[index].envelope = None;
    let blob_id = world.relay.entries()[index].blob_id;
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1), ["a", "b"]);
    assert_eq!(world.findings(1), [IntegrityEvent::Lost { cursor: index as u64 + 1, blob_id: Some(blob_id) }]);
}

#[test]
fn swapped_entries_are_reordered_and_still_delivered_in_the_senders_order() {
    let mut world = world();
    let index = from_end(&world, 2);
    world.relay.entries_mut().swap(index, index + 1);
    let sender = world.id(0);
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1), ["a", "b", "c"]);
    assert_eq!(world.findings(1), [IntegrityEvent::Reordered { cursor: index as u64 + 1, sender }]);
}

#[test]
fn what_was_shown_in_a_session_that_never_came_to_its_end_is_told_by_the_next_run() {
    let mut world = world();
    let index = from_end(&world, 2);
    world.relay.entries_mut().swap(index, index + 1);
    let sender = world.id(0);
    world.relay.withholds_end = true;
    world.start(1);
    world.settle();
    assert_eq!((world.texts(1).len(), world.findings(1)), (3, Vec::new()));
    world.crash(1);
    world.relay.withholds_end = false;
    world.start(1);
    world.settle();
    assert_eq!(world.findings(1), [IntegrityEvent::Reordered { cursor: index as u64 + 1, sender }]);
}

#[test]
fn a_repeated_entry_is_replayed_and_delivered_once() {
    let mut world = world();
    let again = world.relay.entries()[from_end(&world, 2)].clone();
    world.relay.entries_mut().push(again.clone());
    let cursor = world.relay.entries().len() as u64;
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1), ["a", "b", "c"]);
    assert_eq!(world.findings(1), [IntegrityEvent::Replayed { cursor, blob_id: again.blob_id }]);
}

#[test]
fn another_groups_entry_is_not_opened() {
    // Another seed, or it would be the same group.
    let mut other = World::seeded(1);
    other.form_group(1);
    other.push(0, "theirs");
    other.settle();
    let foreign = other.relay.entries().last().expect("pushed").clone();
    let mut world = world();
    world.relay.entries_mut().push(foreign.clone());
    let cursor = world.relay.entries().len() as u64;
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1), ["a", "b", "c"]);
    assert_eq!(world.findings(1), [IntegrityEvent::Corrupt { cursor, blob_id: foreign.blob_id }]);
}

#[test]
fn garbage_in_the_log_occupies_its_cursor_and_no_more() {
    let mut world = world();
    let garbage = Bytes::from(vec![0x55; 500]);
    let blob_id = blob_id(&garbage);
    let index = from_end(&world, 1);
    let stored = zerok_sync_chaos::sim::relay::Stored { blob_id, envelope: Some(garbage) };
    world.relay.entries_mut().insert(index, stored);
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1), ["a", "b", "c"]);
    assert!(matches!(world.findings(1)[0], IntegrityEvent::Corrupt { .. }));
}

#[test]
fn two_devices_that_were_shown_different_orders_find_out() {
    let mut world = World::with_group(3);
    world.crash(2);
    world.push(0, "a");
    world.settle();
    world.push(1, "b");
    world.settle();
    // Devices 0 and 1 have read the true order; device 2 is shown another. Both senders' own
    // chains are whole, so only what the others observed can tell.
    let head = world.relay.entries().len();
    world.relay.entries_mut().swap(head - 1, head - 2);
    world.push(0, "c");
    world.settle();
    let observer = world.id(0);
    world.start(2);
    world.settle();
    assert!(
        world
            .findings(2)
            .iter()
            .any(|finding| matches!(finding, IntegrityEvent::Forked { observer: who, .. } if *who == observer)),
        "{:?}",
        world.findings(2)
    );
}

#[test]
fn a_cursor_that_is_left_out_ends_the_session_in_front_of_it() {
    let mut world = world_read_from(Defect::RelaySkipsEntry);
    assert_eq!(world.findings(1)[0], IntegrityEvent::CursorJump { expected: 9, got: 10 });
    assert_eq!(world.engine(1).status().connection, Connection::WaitingToRetry);
    world.relay.defect = None;
    world.advance(120_000);
    assert_eq!(world.texts(1), numbered(), "nothing behind the jump was taken for read");
}

#[test]
fn a_cursor_that_comes_twice_ends_the_session_behind_its_first_time() {
    let mut world = world_read_from(Defect::RelayDeliversTwice);
    assert_eq!(world.findings(1)[0], IntegrityEvent::CursorJump { expected: 10, got: 9 });
    world.relay.defect = None;
    world.advance(120_000);
    assert_eq!(world.texts(1), numbered(), "delivered once");
}

/// Device 1 comes back to a log of more than ten cursors at a relay with this defect.
fn world_read_from(defect: Defect) -> World {
    let mut world = World::with_group(2);
    world.crash(1);
    for text in numbered() {
        world.push(0, &text);
    }
    world.settle();
    world.relay.defect = Some(defect);
    world.start(1);
    world.settle();
    world
}

fn numbered() -> Vec<String> {
    (0..12).map(|number| number.to_string()).collect()
}
