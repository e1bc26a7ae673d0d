//! What a relay's loss makes possible besides the loss: entries that nobody may build upon any more,
//! and entries of devices that did not know yet that they are out.

use std::collections::BTreeMap;

use zerok_sync_chaos::sim::World;
use zerok_sync_core::id::DeviceId;
use zerok_sync_core::{Connection, IntegrityEvent, Problem, seal};

use crate::epochs::{everybody, rotate, rotation};

/// What is needed for delays, backoff and a round of repair.
const SETTLE_MS: u64 = 90_000;

/// The entries of the relay's log, each by its sender and number.
fn chains(world: &World, member: usize) -> Vec<(DeviceId, u64)> {
    let keyring = world.keys(member).1;
    let envelopes = world.relay.entries().iter().filter_map(|stored| stored.envelope.as_ref());
    let opened = envelopes.filter_map(|envelope| seal::open(&keyring, envelope).ok());
    opened.map(|entry| (entry.claims().sender, entry.claims().seq)).collect()
}

fn assert_in_their_order(chains: &[(DeviceId, u64)]) {
    let mut last: BTreeMap<DeviceId, u64> = BTreeMap::new();
    for (sender, seq) in chains {
        let before = last.insert(*sender, *seq).unwrap_or(seq - 1);
        assert_eq!(before + 1, *seq, "{sender} in {chains:?}");
    }
}

#[test]
fn nothing_is_pushed_behind_what_a_relay_acknowledged_in_an_earlier_session_and_has_lost() {
    let mut world = World::with_group(3);
    world.crash(2);
    world.push(0, "a");
    world.push(0, "b");
    world.settle();
    (world.relay.refuse_pushes, world.relay.refuse_index) = (u32::MAX, 0);
    world.push(0, "sealed, and not taken");
    world.settle();
    world.crash(0);
    world.crash(1);
    world.relay.refuse_pushes = 0;
    world.roll_back_relay(2, false);
    world.start(2);
    for _ in 0..4 {
        world.push(2, "grows past the old head");
    }
    world.settle();
    world.start(0);
    world.advance(SETTLE_MS);
    let chains = chains(&world, 0);
    let own = world.id(0);
    assert_eq!(chains.iter().filter(|(sender, _)| *sender == own).map(|(_, seq)| *seq).max(), Some(6), "{chains:?}");
    assert_in_their_order(&chains);
}

#[test]
fn what_a_removed_device_wrote_comes_before_the_entry_that_vouches_for_it_and_is_not_missing_there() {
    let mut world = World::with_group(3);
    let gone = world.id(1);
    world.crash(1);
    world.devices[2].cut_off = true;
    world.cut(2);
    world.advance(10);
    world.push(2, "I have seen that");
    let now = world.now_at(0);
    world.engine(0).revoke(now, gone).expect("a member");
    world.drain(0);
    world.settle();
    world.crash(0);
    world.wipe_relay();
    world.start(1);
    world.push(1, "by who knows of no removal");
    world.advance(SETTLE_MS);
    world.crash(1);
    world.start(0);
    world.advance(SETTLE_MS);
    world.devices[2].cut_off = false;
    world.advance(SETTLE_MS);
    let read: Vec<_> = world.entries(0).into_iter().map(|entry| (entry.data, entry.missing_deps)).collect();
    assert_eq!(read, [("by who knows of no removal".into(), false), ("I have seen that".into(), false)]);
}

#[test]
fn a_relay_that_lost_a_removal_and_goes_by_keys_of_the_removed_device_is_told_of_it_again() {
    let mut world = World::with_group(3);
    let gone = world.id(2);
    world.crash(2);
    let now = world.now_at(0);
    world.engine(0).revoke(now, gone).expect("a member");
    world.drain(0);
    world.settle();
    world.crash(0);
    world.crash(1);
    world.wipe_relay();
    world.start(2);
    world.advance(SETTLE_MS);
    let now = world.now_at(2);
    world.engine(2).rotate(now).expect("it knows of no removal");
    world.drain(2);
    world.push(2, "under keys of its own");
    world.settle();
    world.start(0);
    world.start(1);
    world.advance(SETTLE_MS);
    for device in 0..2 {
        let only_held_back = |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::Quarantined { .. });
        assert!(world.findings(device).iter().all(only_held_back), "{device}: {:?}", world.findings(device));
        let status = world.engine(device).status();
        assert_eq!((status.connection, status.members.len()), (Connection::Live, 2), "device {device}");
        assert!(status.relays.iter().all(|relay| relay.settled), "device {device}: {:?}", status.relays);
    }
    assert_eq!(world.engine(2).status().problem, Some(Problem::Revoked));
    world.push(1, "after all");
    world.settle();
    assert_eq!(world.texts(0), ["after all"]);
}

#[test]
fn a_relay_that_had_shown_a_removal_answers_for_keys_of_the_removed_device_that_it_goes_by() {
    // Whether its log was broken off once, whether it goes by those keys; whether that is told.
    for (broken_off, goes_by_it, told) in [(true, true, true), (true, false, false), (false, false, true)] {
        let mut world = World::with_group(3);
        world.push(0, "before");
        world.settle();
        let gone = world.keys(2).0.device();
        world.crash(2);
        // It may know of no removal.
        let sealed = rotation(&world, 2, &everybody(&world, 3), &[]);
        if broken_off {
            world.roll_back_relay(3, true);
            world.advance(SETTLE_MS);
        }
        let now = world.now_at(0);
        world.engine(0).revoke(now, gone).expect("a member");
        world.drain(0);
        world.advance(SETTLE_MS);
        let (auth, epoch) = (world.relay.log.as_ref().expect("created").auth, world.relay.epoch_envelope.clone());
        rotate(&mut world, sealed);
        let cursor = world.relay.entries().len() as u64;
        if !goes_by_it {
            world.relay.log.as_mut().expect("created").auth = auth;
            world.relay.epoch_envelope = epoch;
        }
        world.crash(0);
        world.cut(1);
        world.advance(5_000);
        let finding = IntegrityEvent::NotAMember { cursor, sender: gone };
        let expected = if told { vec![finding] } else { vec![] };
        assert_eq!(world.findings(1), expected, "broken off: {broken_off}, goes by it: {goes_by_it}");
        assert_eq!(world.engine(1).status().members.len(), 2);
    }
}
