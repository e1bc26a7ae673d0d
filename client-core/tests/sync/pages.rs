//! A page of the log with something in the middle that changes or stops the reading: nothing behind
//! it is lost.

use bytes::Bytes;
use zerok_sync_chaos::sim::World;
use zerok_sync_chaos::sim::relay::Stored;
use zerok_sync_core::content::Kind;
use zerok_sync_core::{Engine, IntegrityEvent, Problem, seal};

use crate::epochs::{everybody, rotate, rotation};
use crate::hostile_members::{append, entry_of, write};
use crate::relays::{SETTLE_MS, world};

#[test]
fn what_stands_behind_a_rotation_on_the_same_page_opens_with_its_keys() {
    let mut world = World::with_group(2);
    world.crash(1);
    world.push(0, "before");
    world.settle();
    let sealed = rotation(&world, 0, &everybody(&world, 2), &[]);
    rotate(&mut world, sealed);
    world.crash(0);
    world.start(0);
    world.settle();
    world.push(0, "after");
    world.settle();
    world.start(1);
    world.settle();
    assert_eq!(world.findings(1), []);
    assert_eq!(world.texts(1), ["before", "after"]);

    let (from, to) = Engine::mirror_range();
    let mut audit = world.engine(1).audit();
    world.rows(1, &from, &to).into_iter().for_each(|row| audit.row(row));
    assert_eq!(audit.finish().findings, [], "a later epoch has no place in its author's chain");
}

#[test]
fn an_entry_that_needs_a_newer_version_stops_the_reading_in_front_of_it() {
    let mut world = World::with_group(2);
    world.crash(1);
    world.push(0, "known");
    world.settle();
    world.crash(0);
    let newer = entry_of(&world, 0, 4, Kind(50), b"from the future");
    append(&mut world, newer);
    world.start(1);
    world.settle();
    let cursor = world.relay.entries().len() as u64;
    for _ in 0..2 {
        assert_eq!(world.texts(1), ["known"]);
        assert_eq!(world.engine(1).status().problem, Some(Problem::UpdateNeeded), "cursor {cursor} is not passed");
        assert_eq!(world.findings(1), []);
        world.advance(120_000);
        world.crash(1);
        world.start(1);
        world.settle();
    }
}

#[test]
fn an_own_entry_that_the_relay_lost_is_named_and_does_not_stop_this_device() {
    let mut world = World::with_group(1);
    world.push(0, "mine");
    let before_it_was_read_back = world.devices[0].storage.clone();
    world.settle();
    world.crash(0);
    world.devices[0].storage = before_it_was_read_back;
    let lost = world.relay.entries_mut().last_mut().expect("pushed");
    lost.envelope = None;
    let blob_id = Some(lost.blob_id);
    let cursor = world.relay.entries().len() as u64;
    world.start(0);
    world.settle();
    world.push(0, "next");
    world.settle();
    assert_eq!(world.findings(0), [IntegrityEvent::Lost { cursor, blob_id }]);
    assert_eq!(world.texts(0), ["mine", "next"]);
}

#[test]
fn findings_on_disk_are_bounded() {
    let mut world = World::with_group(2);
    world.crash(1);
    for number in 0..1_100_u32 {
        let envelope = Bytes::copy_from_slice(&[&number.to_le_bytes()[..], &[0xff; 400]].concat());
        let blob_id = zerok_sync_protocol::envelope::blob_id(&envelope);
        world.relay.entries_mut().push(Stored { blob_id, envelope: Some(envelope) });
    }
    world.start(1);
    world.settle();
    assert_eq!(world.rows(1, b"\x01x", b"\x01y").len(), 1_024);
}

#[test]
fn what_was_pushed_behind_an_entry_that_needs_a_newer_version_is_no_replay_after_the_update() {
    let mut world = world(2);
    world.crash(0);
    let newer = world.relay.entries().len();
    append_to_chain(&mut world, 0, Kind(50));
    // The other relay has shown what was pushed by the time that this one does.
    world.relay_slower_ms = 1_000;
    world.push(1, "pushed");
    world.advance(SETTLE_MS);
    let problems = |world: &mut World| {
        let relays = world.engine(1).status().relays;
        relays.into_iter().map(|relay| relay.problem).collect::<Vec<_>>()
    };
    assert_eq!(problems(&mut world), [Some(Problem::UpdateNeeded), None]);
    assert_eq!(world.texts(1), ["before", "pushed"]);

    // A version that knows the kind: what stands there is a blob to it.
    let behind = world.relay.entries_mut().split_off(newer + 1);
    world.relay.entries_mut().pop();
    append_to_chain(&mut world, 0, Kind::APP);
    world.relay.entries_mut().extend(behind);
    world.crash(1);
    world.start(1);
    world.advance(SETTLE_MS);
    assert_eq!(problems(&mut world), [None, None]);
    assert_eq!(world.texts(1), ["before", "pushed", "from the future"]);
    assert_eq!(world.findings(1), []);
}

/// The next entry of a device's chain, behind the first relay's last one.
fn append_to_chain(world: &mut World, device: usize, kind: Kind) {
    let (me, keyring) = world.keys(device);
    let of_device = |stored: &Stored| {
        let entry = seal::open(&keyring, stored.envelope.as_ref()?).ok()?;
        (entry.claims().sender == me.device()).then_some((entry.claims().seq, stored.blob_id))
    };
    let last = world.relay.entries().iter().rev().find_map(of_device).expect("it has written");
    write(world, &me, last, [(kind, b"from the future")]);
}
