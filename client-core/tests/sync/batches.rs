//! A push larger than one entry: in parts on its way, in one piece to the app, or not at all.

use bytes::Bytes;
use zerok_sync_chaos::sim::World;
use zerok_sync_chaos::sim::relay::Stored;
use zerok_sync_core::content::Kind;
use zerok_sync_core::{Engine, OpenError, PUSH_BYTES_MAX, PushError};
use zerok_sync_protocol::wire;

use crate::hostile_members::write;

/// More than one entry can be, and no two parts of it alike.
fn large() -> Bytes {
    (0..1_300_000_u32).map(|n| (n / 7).to_le_bytes()[(n % 4) as usize]).collect()
}

fn push(world: &mut World, device: usize, blob: Bytes) -> u64 {
    let now = world.now_at(device);
    world.engine(device).push(now, blob).expect("within the limit")
}

/// What the app on a device can read, in order.
fn blobs(world: &mut World, device: usize) -> Vec<Bytes> {
    world.entries(device).into_iter().map(|entry| entry.data).collect()
}

/// Goes on until the relay has so many entries.
fn until_stored(world: &mut World, entries: usize) {
    while world.relay.entries().len() < entries {
        assert!(world.step(world.now_ms() + 60_000), "something is on its way");
    }
}

#[test]
fn a_push_larger_than_an_entry_is_one_entry_everywhere() {
    let mut world = World::with_group(2);
    world.push(0, "before");
    world.settle();
    let number = push(&mut world, 0, large());
    world.settle();
    world.push(1, "behind");
    world.settle();
    for device in 0..2 {
        assert!(blobs(&mut world, device) == ["before".into(), large(), "behind".into()], "device {device}");
        let entries = world.entries(device);
        assert_eq!(entries.iter().map(|entry| entry.position).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(entries[1].seq, number);
        assert_eq!(world.findings(device), []);
    }
    assert_eq!(world.engine(0).status().outbox_bytes, 0);
    let later = world.pair(0, "later");
    world.settle();
    assert!(blobs(&mut world, later)[1] == large());
}

#[test]
fn nothing_of_a_batch_is_seen_before_all_of_it_is_there_whoever_dies_meanwhile() {
    // The sixth leaves together with the commit.
    for parts in 1..=5 {
        let mut world = World::with_group(2);
        let before = world.relay.entries().len();
        push(&mut world, 0, large());
        until_stored(&mut world, before + parts);
        world.crash(0);
        world.settle();
        let stored = world.relay.entries().len() - before;
        assert!((parts..=6).contains(&stored), "{stored}");
        assert_eq!(blobs(&mut world, 1), [""; 0]);
        world.crash(1);
        world.start(1);
        world.settle();
        assert_eq!(blobs(&mut world, 1), [""; 0]);
        world.start(0);
        world.advance(60_000);
        for device in 0..2 {
            assert!(blobs(&mut world, device) == [large()], "device {device} after {parts} parts");
        }
    }
}

#[test]
fn what_others_write_in_between_does_not_tear_a_batch() {
    let mut world = World::with_group(3);
    let before = world.relay.entries().len();
    push(&mut world, 0, large());
    push(&mut world, 1, large());
    until_stored(&mut world, before + 3);
    world.push(2, "in between");
    world.settle();
    for device in 0..3 {
        let read = blobs(&mut world, device);
        assert_eq!(read.iter().filter(|blob| **blob == large()).count(), 2, "device {device}");
        assert!(read.contains(&"in between".into()));
        assert_eq!(read.len(), 3);
    }
}

#[test]
fn a_batch_is_read_again_from_its_own_position() {
    let mut world = World::with_group(2);
    push(&mut world, 0, large());
    world.push(0, "behind");
    world.settle();
    world.crash(1);
    world.start(1);
    let (from, to) = Engine::entry_range(0);
    let row = world.rows(1, &from, &to).remove(0);
    let stored = world.engine(1).entry_reader().entries(row, 0).next().expect("one").expect("sound");
    assert_eq!((stored.position(), stored.is_news()), (1, true));
    let mut pages = 0;
    let one_row = |from: Vec<u8>, to: Vec<u8>| {
        pages += 1;
        world.rows(1, &from, &to).into_iter().take(1).collect()
    };
    assert!(stored.whole(one_row).expect("all parts are there").data == large());
    assert_eq!(pages, 6, "no more than one row at a time is needed");
}

#[test]
fn a_part_that_storage_has_lost_is_said_and_no_shorter_blob_comes_of_it() {
    let mut world = World::with_group(2);
    push(&mut world, 0, large());
    world.settle();
    let (from, to) = Engine::mirror_range();
    let rows = world.rows(1, &from, &to);
    let part = rows.iter().filter(|row| row.value.len() > 200_000).nth(2).expect("a part has a row of its own");
    world.devices[1].storage.remove(&part.key);
    let (from, to) = Engine::entry_range(0);
    let row = world.rows(1, &from, &to).remove(0);
    let stored = world.engine(1).entry_reader().entries(row, 0).next().expect("one").expect("sound");
    let read = stored.whole(|from, to| world.rows(1, &from, &to));
    assert_eq!(read.map(|entry| entry.data), Err(OpenError::Corrupt("batch")));
}

#[test]
fn a_commit_that_does_not_fit_the_parts_before_it_is_nothing_to_the_app() {
    let commits: [&[u64]; 5] = [&[1, 3], &[3, 9], &[2, 7], &[u64::MAX, 6], &[]];
    for commit in commits {
        let mut world = World::with_group(2);
        let (me, _) = world.keys(0);
        world.crash(0);
        let body = if commit.is_empty() { b"no commit".to_vec() } else { wire::encode(&commit.to_vec()) };
        let bodies = [(Kind::PART, b"abc".to_vec()), (Kind::PART, b"def".to_vec()), (Kind::COMMIT, body)];
        let last = world.relay.entries()[1].blob_id;
        write(&mut world, &me, (2, last), bodies);
        world.push(1, "goes on");
        world.settle();
        assert_eq!(world.texts(1), ["goes on"], "{commit:?}");
        let later = world.pair(1, "later");
        world.settle();
        assert_eq!(world.texts(later), ["goes on"]);
    }
}

#[test]
fn an_entry_between_the_parts_ends_the_batch() {
    for (kind, expected) in [(Kind::RENAME, &[][..]), (Kind::PART, &["abcdef"])] {
        let mut world = World::with_group(2);
        let (me, _) = world.keys(0);
        world.crash(0);
        let commit = wire::encode(&(2_u64, 6_u64));
        let between = if kind == Kind::PART { None } else { Some((kind, b"name".to_vec())) };
        let bodies = [Some((Kind::PART, b"abc".to_vec())), between, Some((Kind::PART, b"def".to_vec()))];
        let bodies = bodies.into_iter().flatten().chain([(Kind::COMMIT, commit)]);
        let last = world.relay.entries()[1].blob_id;
        write(&mut world, &me, (2, last), bodies);
        world.push(1, "goes on");
        world.settle();
        let texts = world.texts(1);
        assert_eq!(texts[..texts.len() - 1], *expected);
    }
}

#[test]
fn a_push_over_the_limit_is_refused_and_one_at_the_limit_is_taken() {
    let mut world = World::with_group(1);
    let now = world.now();
    let queued = world.engine(0).status().stored_push;
    let (bytes, bytes_max) = (PUSH_BYTES_MAX + 1, PUSH_BYTES_MAX);
    let refused = world.engine(0).push(now, Bytes::from(vec![0; bytes]));
    assert_eq!(refused, Err(PushError::TooLarge { bytes, bytes_max }));
    assert_eq!(world.engine(0).status().stored_push, queued);
    assert!(world.engine(0).push(now, Bytes::from(vec![0; bytes_max])).is_ok());
}

#[test]
fn a_relay_with_a_low_limit_gets_smaller_parts() {
    let mut world = World::with_group(2);
    world.relay.envelope_bytes_max = 8 * 1024;
    for device in 0..2 {
        world.crash(device);
        world.start(device);
    }
    world.settle();
    let before = world.relay.entries().len();
    let blob: Bytes = (0..50_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    push(&mut world, 0, blob.clone());
    world.settle();
    let sizes: Vec<usize> = world.relay.entries()[before..]
        .iter()
        .map(|Stored { envelope, .. }| envelope.as_ref().expect("there").len())
        .collect();
    assert!(sizes.len() > 10 && sizes.iter().all(|bytes| *bytes <= 8 * 1024), "{sizes:?}");
    assert_eq!(blobs(&mut world, 1), [blob]);
}
