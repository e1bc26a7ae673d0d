//! Several relays carry one group: all of them have everything, one is enough, and each is found out
//! through the others.

use zerok_sync_chaos::sim::relay::Stored;
use zerok_sync_chaos::sim::{Loss, World};
use zerok_sync_core::io::RelayAddress;
use zerok_sync_core::{Connection, IntegrityEvent, RelaysError};
use zerok_sync_protocol::RelayFrame;

use crate::granted::let_in;
use crate::snapshots::{compact, state};

/// What is needed for delays, backoff and a round of repair.
pub const SETTLE_MS: u64 = 90_000;

/// A group whose log two relays carry.
pub fn world(devices: usize) -> World {
    let mut world = World::with_group(devices);
    world.push(0, "before");
    world.settle();
    let second = world.add_relay();
    world.list_relay(0, second);
    world.advance(SETTLE_MS);
    world
}

fn blob_ids(world: &World, relay: usize) -> Vec<zerok_sync_protocol::BlobId> {
    let mut ids: Vec<_> = world.relay_at(relay).entries().iter().map(|stored| stored.blob_id).collect();
    ids.sort();
    ids
}

pub fn urls(world: &mut World, device: usize) -> Vec<String> {
    world.engine(device).status().relays.into_iter().map(|relay| relay.address.url).collect()
}

fn assert_sound(world: &mut World) {
    assert_eq!(blob_ids(world, 0), blob_ids(world, 1), "each has everything, once");
    for device in 0..world.devices.len() {
        assert_eq!(world.findings(device), [], "device {device}");
        let status = world.engine(device).status();
        assert!(status.relays.iter().all(|relay| relay.settled), "device {device}: {:?}", status.relays);
    }
}

#[test]
fn a_new_relay_is_filled_and_every_device_is_told_of_it() {
    let mut world = world(3);
    assert_sound(&mut world);
    for device in 0..3 {
        assert_eq!(urls(&mut world, device), [World::url(0), World::url(1)], "device {device}");
    }
    world.push(1, "after");
    world.settle();
    assert_sound(&mut world);
    assert_eq!(world.texts(2), ["before", "after"]);
}

#[test]
fn the_list_outlives_a_restart_and_a_device_that_joins_later_has_it() {
    let mut world = world(2);
    world.crash(1);
    world.start(1);
    let joined = world.pair(1, "device 2");
    world.advance(SETTLE_MS);
    for device in [1, joined] {
        assert_eq!(urls(&mut world, device), [World::url(0), World::url(1)], "device {device}");
    }
    assert_eq!(world.texts(joined), ["before"]);
    assert_sound(&mut world);
}

#[test]
fn mr_01_while_one_relay_is_away_the_other_takes_and_brings_everything() {
    for away in 0..2 {
        let mut world = world(2);
        world.set_up(away, false);
        let push = world.push(0, "meanwhile");
        world.settle();
        assert_eq!(world.engine(0).status().acked_push, push, "one relay's word is enough");
        assert_eq!(world.texts(1), ["before", "meanwhile"]);
        world.set_up(away, true);
        world.advance(SETTLE_MS);
        assert_sound(&mut world);
    }
}

#[test]
fn mr_05_a_relay_that_takes_five_seconds_holds_nothing_up() {
    let mut world = world(2);
    world.relay_slower_ms = 2_500;
    let push = world.push(0, "quick");
    world.advance(1_000);
    assert_eq!(world.engine(0).status().acked_push, push);
    assert_eq!(world.texts(1), ["before", "quick"]);
    world.advance(SETTLE_MS);
    assert_sound(&mut world);
}

#[test]
fn a_change_of_keys_reaches_a_relay_that_was_away_before_anything_new_does() {
    let mut world = world(3);
    world.set_up(1, false);
    let (now, gone) = (world.now_at(0), world.id(2));
    world.engine(0).revoke(now, gone).expect("a member");
    world.drain(0);
    world.settle();
    world.push(1, "under new keys");
    world.settle();
    world.set_up(1, true);
    world.crash(2);
    world.advance(SETTLE_MS);
    let epoch = world.engine(0).status().epoch;
    let names: Vec<_> = [0, 1].map(|relay| world.relay_at(relay).log.as_ref().map(|log| log.auth)).into();
    assert_eq!(names[0], names[1], "known by the same name");
    assert_eq!(world.engine(1).status().epoch, epoch);
    assert_eq!(blob_ids(&world, 0), blob_ids(&world, 1));
    world.start(2);
    world.settle();
    let refused = world.engine(2).status().relays.iter().all(|relay| relay.connection != Connection::Live);
    assert!(refused, "it is out at both");
}

#[test]
fn b_fork_a_relay_that_shows_two_devices_two_orders_is_found_through_the_other_relay() {
    let mut world = world(3);
    world.cut_losing(2, Loss::Everything);
    world.devices[2].cut_off = true;
    world.push(0, "a");
    world.push(1, "b");
    world.settle();
    let head = world.relay.entries().len();
    world.relay.entries_mut().swap(head - 2, head - 1);
    world.devices[2].cut_off = false;
    world.advance(SETTLE_MS);
    // Only from the other relay device 2 hears what the others were shown of the first.
    world.set_up(0, false);
    world.push(0, "c");
    world.push(1, "d");
    world.advance(SETTLE_MS);
    let forked = |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::Forked { .. });
    let found: Vec<_> = (0..3).flat_map(|device| world.findings(device)).collect();
    assert!(found.iter().any(forked), "{found:?}");
}

#[test]
fn what_one_relay_lost_for_a_reader_comes_from_the_other_and_is_no_gap() {
    let mut world = world(2);
    world.crash(1);
    world.push(0, "a");
    world.push(0, "b");
    world.settle();
    let index = world.relay.entries().len() - 2;
    let kept: Vec<Stored> =
        world.relay.entries().iter().enumerate().filter(|(at, _)| *at != index).map(|(_, it)| it.clone()).collect();
    *world.relay.entries_mut() = kept;
    world.start(1);
    world.settle();
    let mut texts = world.texts(1);
    texts.sort();
    assert_eq!(texts, ["a", "b", "before"]);
    assert!(!world.findings(1).iter().any(|finding| matches!(finding, IntegrityEvent::Gap { .. })));
}

#[test]
fn a_relay_that_is_taken_off_the_list_is_left_by_everybody_and_keeps_what_it_has() {
    let mut world = world(2);
    let now = world.now_at(1);
    world.engine(1).remove_relay(now, &World::url(0)).expect("the other one stays");
    world.drain(1);
    world.advance(SETTLE_MS);
    let before = world.relay.entries().len();
    world.push(0, "not there any more");
    world.settle();
    for device in 0..2 {
        assert_eq!(urls(&mut world, device), [World::url(1)], "device {device}");
    }
    assert_eq!(world.relay.entries().len(), before);
    assert_eq!(world.texts(1), ["before", "not there any more"]);
    let now = world.now_at(0);
    assert_eq!(world.engine(0).remove_relay(now, &World::url(1)), Err(RelaysError::LastRelay));
}

#[test]
fn another_relay_made_the_home_relay_orders_changes_of_keys_when_the_first_is_gone_for_good() {
    let mut world = world(2);
    world.set_up(0, false);
    let now = world.now_at(0);
    world.engine(0).rotate(now).expect("a member");
    world.drain(0);
    world.advance(SETTLE_MS);
    assert_eq!(world.engine(0).status().rotations, 0, "the home relay orders them");
    let (now, url) = (world.now_at(0), World::url(1));
    world.engine(0).add_relay(now, RelayAddress { url, key: None }, None, true).expect("a person decides");
    world.drain(0);
    world.advance(SETTLE_MS);
    for device in 0..2 {
        assert_eq!(world.engine(device).status().rotations, 1, "device {device}");
        assert_eq!(urls(&mut world, device)[0], World::url(1), "device {device}");
    }
    world.set_up(0, true);
    world.advance(SETTLE_MS);
    world.push(1, "everywhere");
    world.advance(SETTLE_MS);
    assert_sound(&mut world);
}

#[test]
fn another_order_in_a_relay_that_was_filled_again_is_no_fork_to_who_read_most_of_it_elsewhere() {
    let mut world = world(3);
    let now = world.now_at(0);
    world.engine(0).rotate(now).expect("a member");
    world.drain(0);
    world.settle();
    world.set_up(0, false);
    world.push(0, "read from the second relay");
    world.settle();
    world.set_up(0, true);
    world.advance(SETTLE_MS);
    world.crash(1);
    world.wipe_at(1);
    world.advance(SETTLE_MS);
    world.start(1);
    world.advance(SETTLE_MS);
    world.push(1, "what it observed");
    world.push(0, "what the others did");
    world.advance(SETTLE_MS);
    assert_sound(&mut world);
}

#[test]
fn what_one_device_had_read_of_a_removed_one_counts_for_all() {
    let mut world = world(3);
    world.crash(0);
    world.set_up(0, false);
    world.push(2, "late");
    world.settle();
    assert!(world.texts(1).contains(&"late".into()));
    world.crash(1);
    world.crash(2);
    // Who removes it reads the other relay, which never had that.
    world.set_up(0, true);
    world.set_up(1, false);
    world.start(0);
    let (now, gone) = (world.now_at(0), world.keys(2).0.device());
    world.engine(0).revoke(now, gone).expect("a member");
    world.drain(0);
    world.advance(SETTLE_MS);
    assert_eq!(world.engine(0).status().members.len(), 2, "it is removed");
    world.set_up(1, true);
    world.start(1);
    world.advance(2 * SETTLE_MS);
    assert_eq!(world.texts(0), ["before", "late"]);
    assert_eq!(world.texts(1), ["before", "late"]);
    assert_eq!(world.findings(0), []);
}

#[test]
fn who_finds_its_snapshot_at_another_relay_than_was_named_takes_both_to_have_it() {
    let mut world = world(2);
    compact(&mut world, 0, b"before");
    world.advance(SETTLE_MS);
    let joiner = let_in(&mut world, 0);
    world.set_up(0, false);
    world.start(joiner);
    world.advance(20_000);
    assert_eq!(state(&mut world, joiner), ["before"], "out of the other relay");
    world.set_up(0, true);
    world.advance(60_000);
    let relays = world.engine(joiner).status().relays;
    assert!(relays.iter().all(|relay| relay.settled), "{relays:?}");
}

#[test]
fn h_honest_who_meets_a_relay_that_went_back_before_the_others_do_waits_for_what_they_tell() {
    let mut world = world(3);
    world.crash(2);
    for text in ["a", "b", "c", "d"] {
        world.push(0, text);
        world.settle();
        world.push(1, text);
        world.settle();
    }
    for device in [0, 1] {
        world.devices[device].cut_off = true;
        world.cut(device);
    }
    world.roll_back_at(0, 8, false);
    world.start(2);
    // Into the places of what was lost.
    world.push(2, "e");
    world.advance(5_000);
    world.cut_from(2, 0, Loss::Everything);
    world.advance(5_000);
    assert_eq!(world.findings(2), [], "the end of a session is no verdict");
    for device in [0, 1] {
        world.devices[device].cut_off = false;
    }
    world.advance(SETTLE_MS);
    for device in 0..3 {
        let findings = world.findings(device);
        assert!(matches!(findings[..], [IntegrityEvent::RolledBack { .. }]), "device {device}: {findings:?}");
    }
}

#[test]
fn b_drop_a_relay_that_never_says_it_has_shown_all_hides_no_gap_at_another() {
    let mut world = world(2);
    world.crash(1);
    world.push(0, "a");
    world.push(0, "b");
    world.settle();
    let index = world.relay.entries().len() - 2;
    world.relay.entries_mut().remove(index);
    world.others[0].relay.hangs = true;
    let sender = world.id(0);
    world.crash(0);
    world.start(1);
    world.advance(50_000);
    assert_eq!(world.findings(1), [], "it has its time to bring it");
    world.advance(SETTLE_MS);
    assert!(
        matches!(world.findings(1)[..], [IntegrityEvent::Gap { sender: of, .. }] if of == sender),
        "{:?}",
        world.findings(1)
    );
}

#[test]
fn b_drop_nor_does_one_that_never_comes_to_the_end_of_a_message() {
    let mut world = world(2);
    world.crash(1);
    world.push(0, "a");
    world.push(0, "b");
    world.settle();
    let entries = world.others[0].relay.entries_mut();
    entries.remove(entries.len() - 2);
    world.relay.hangs = true;
    let sender = world.id(0);
    world.crash(0);
    world.start(1);
    world.advance(1_000);
    let parts = world.relay.say_to_all(&RelayFrame::Whispered { data: vec![0; 1_200_000].into() });
    let mut told = Vec::new();
    for part in parts {
        world.post_all(vec![part]);
        world.advance(20_000);
        told.push(world.findings(1));
    }
    assert_eq!(told[10], [], "a large message takes its time on a slow link");
    let told = told.pop().expect("in parts");
    assert!(matches!(told[..], [IntegrityEvent::Gap { sender: of, .. }] if of == sender), "{told:?}");
}
