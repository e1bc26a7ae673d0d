//! S-CUR-03, the same device twice: a restored backup, a cloned disk. It reads and never writes,
//! whatever restarts come between, until another device pairs it anew or, where there is none, its
//! person says that it is the only copy.

use bytes::Bytes;
use zerok_sync_chaos::sim::World;
use zerok_sync_core::content::{Kind, SeenHash, SeenItem};
use zerok_sync_core::statement::{self, Receipt};
use zerok_sync_core::{IntegrityEvent, MembershipError, Problem, seal};
use zerok_sync_protocol::RelayFrame;
use zerok_sync_protocol::wire::List;

use crate::hostile_members::{append, content, entry_of};

#[test]
fn an_older_copy_stays_silent_after_a_lost_link_and_after_a_restart() {
    let mut world = World::with_group(2);
    let old = world.devices[0].storage.clone();
    world.push(0, "new");
    world.settle();
    world.crash(0);
    world.devices[0].storage = old;
    world.start(0);
    world.settle();
    let written = world.relay.entries().len();
    world.cut(0);
    world.advance(120_000);
    world.push(0, "after a lost link");
    world.settle();
    assert_eq!(world.engine(0).status().problem, Some(Problem::NeedsApproval));
    world.crash(0);
    world.start(0);
    world.push(0, "after a restart");
    world.settle();
    assert_eq!(world.engine(0).status().problem, Some(Problem::NeedsApproval));
    assert_eq!(world.relay.entries().len(), written);
    assert_eq!(world.findings(1), []);
}

#[test]
fn two_copies_that_write_at_once_find_out_and_lose_nothing_of_their_own() {
    let mut world = World::with_group(1);
    let sender = world.id(0);
    let elsewhere = entry_of(&world, 0, 3, Kind::APP, b"by the other copy");
    let second = elsewhere.blob_id;
    world.push(0, "by this copy");
    append(&mut world, elsewhere);
    world.settle();
    let first = world.relay.entries().last().expect("pushed").blob_id;
    assert!(world.findings(0).contains(&IntegrityEvent::ForkedDevice { sender, seq: 3, first, second }));
    assert_eq!(world.texts(0), ["by this copy"]);

    let written = world.relay.entries().len();
    world.crash(0);
    world.start(0);
    world.push(0, "would go on with one of two branches");
    world.settle();
    assert_eq!(world.relay.entries().len(), written);
    assert_eq!(world.engine(0).status().problem, Some(Problem::NeedsApproval));
}

#[test]
fn a_proto_03_a_cloned_device_that_writes_twice_in_one_place_is_told_of_by_the_others() {
    let mut world = World::with_group(2);
    world.crash(0);
    let sender = world.keys(0).0.device();
    let (me, keyring) = world.keys(0);
    let name = world.relay.entries()[1].blob_id;
    let sealed = |seq, prev, text: &'static str| {
        let entry = content(&me, seq, prev, Kind::APP, text);
        let nonce = [text.len().to_le_bytes()[0]; 24];
        seal::seal(keyring.group(), keyring.current(), &me.signing, nonce, &entry).expect("small")
    };
    let (first, second) = (sealed(3, name, "one"), sealed(3, name, "the other"));
    let behind = sealed(4, second.blob_id, "behind the other");
    let (one, other) = (first.blob_id, second.blob_id);
    for entry in [first, second, behind] {
        append(&mut world, entry);
    }
    world.cut(1);
    world.advance(60_000);
    assert_eq!(world.texts(1), ["one"], "the branch that came first");
    let forked = IntegrityEvent::ForkedDevice { sender, seq: 3, first: one, second: other };
    assert_eq!(world.findings(1), [forked.clone(), forked]);
}

/// A device that wrote more, and was then put back to an older copy of its disk. The relay lost what
/// it wrote since, so only its receipt is left to tell.
fn restored_unseen() -> World {
    let mut world = World::with_group(2);
    let old = world.devices[0].storage.clone();
    world.push(0, "new");
    world.advance(7_000);
    world.crash(0);
    world.crash(1);
    world.devices[0].storage = old;
    world.relay.entries_mut().pop();
    world
}

#[test]
fn s_cur_03_a_receipt_ahead_of_its_device_is_found_at_welcome() {
    let mut world = restored_unseen();
    let written = world.relay.entries().len();
    world.start(0);
    world.push(0, "would fork its chain");
    world.advance(60_000);
    assert_eq!(world.engine(0).status().problem, Some(Problem::NeedsApproval));
    assert_eq!(world.relay.entries().len(), written, "nothing was pushed");

    // It reads, and goes on saying nothing for itself: its receipt stays the one that tells.
    world.cut(0);
    world.advance(60_000);
    assert_eq!(world.engine(0).status().problem, Some(Problem::NeedsApproval));
    let noise = world.keys(0).0.keys.noise;
    let slot = world.relay.log.as_ref().expect("created").receipts[&noise].1.clone();
    let receipt: Receipt = statement::open(&world.keys(0).1, &slot).expect("its own");
    assert!(receipt.seq > world.engine(0).status().acked_push);
}

#[test]
fn s_cur_03_a_receipt_that_another_signed_stops_nobody() {
    let mut world = World::with_group(2);
    world.advance(7_000);
    world.crash(0);
    let (me, keyring) = world.keys(0);
    let slot = world.relay.log.as_ref().expect("created").receipts[&me.keys.noise].1.clone();
    let honest: Receipt = statement::open(&keyring, &slot).expect("its own");
    let ahead = Receipt { seq: honest.seq + 1, ..honest };
    let forged = statement::seal(keyring.group(), keyring.current(), &world.keys(1).0.signing, [3; 24], &ahead);
    world.relay.log.as_mut().expect("created").receipts.insert(me.keys.noise, (1, forged));
    world.start(0);
    world.push(0, "goes on");
    world.settle();
    assert_eq!(world.engine(0).status().problem, None);
    assert_eq!(world.texts(1), ["goes on"]);
}

#[test]
fn s_cur_03_another_devices_receipt_in_this_ones_slot_stops_nobody() {
    let mut world = World::with_group(2);
    world.advance(7_000);
    world.crash(0);
    let (me, keyring) = world.keys(0);
    let other = world.keys(1).0;
    let slot = world.relay.log.as_ref().expect("created").receipts[&other.keys.noise].1.clone();
    let honest: Receipt = statement::open(&keyring, &slot).expect("its own");
    let ahead = Receipt { seq: 1_000, ..honest };
    let receipt = statement::seal(keyring.group(), keyring.current(), &other.signing, [3; 24], &ahead);
    world.relay.log.as_mut().expect("created").receipts.insert(me.keys.noise, (1, receipt));
    world.start(0);
    world.push(0, "goes on");
    world.settle();
    assert_eq!(world.engine(0).status().problem, None);
    assert_eq!(world.texts(1), ["goes on"]);
}

#[test]
fn s_cur_03_two_copies_at_once_find_out_by_the_receipts_they_overhear() {
    // The other copy wrote more, or something else in the same place.
    for further in [1, 0] {
        let mut world = World::with_group(2);
        world.advance(7_000);
        let (me, keyring) = world.keys(0);
        let slot = world.relay.log.as_ref().expect("created").receipts[&me.keys.noise].1.clone();
        let honest: Receipt = statement::open(&keyring, &slot).expect("its own");
        let own = SeenItem { tag: me.device().tag(), seq: honest.seq + further, hash: SeenHash([9; 16]) };
        let seen = List::try_from(vec![own]).expect("one fits");
        let other = Receipt { seq: honest.seq + further, seen, ..honest };
        let receipt = statement::seal(keyring.group(), keyring.current(), &me.signing, [3; 24], &other);
        world.relay_says(&RelayFrame::Acked { device: me.keys.noise, cursor: 1, receipt: Some(receipt) });
        world.settle();
        assert_eq!(world.engine(0).status().problem, Some(Problem::NeedsApproval), "{further} further");
    }
}

#[test]
fn s_cur_03_a_sole_device_approves_itself_and_goes_on_behind_what_it_wrote() {
    let mut world = World::with_group(1);
    world.push(0, "one");
    world.settle();
    let old = world.devices[0].storage.clone();
    world.push(0, "two");
    world.push(0, "three");
    world.advance(7_000);
    world.crash(0);
    world.devices[0].storage = old;
    world.start(0);
    world.push(0, "queued by the copy");
    world.advance(7_000);
    assert_eq!(world.engine(0).status().problem, Some(Problem::NeedsApproval));

    let now = world.now_at(0);
    world.engine(0).approve(now).expect("it is alone");
    world.drain(0);
    world.push(0, "after");
    world.advance(7_000);
    assert_eq!(world.engine(0).status().problem, None);
    let everything = ["one", "two", "three", "queued by the copy", "after"];
    assert_eq!(world.texts(0), everything);
    let second = world.pair(0, "device 1");
    world.settle();
    assert_eq!(world.texts(second), everything, "one chain, without a hole");
    assert_eq!((world.findings(0), world.findings(second)), (vec![], vec![]));
    assert_eq!(world.engine(0).approve(now), Err(MembershipError::NothingToApprove));
}

#[test]
fn s_cur_03_a_sole_device_can_approve_itself_without_a_relay_that_is_gone_for_good() {
    let mut world = World::with_group(1);
    let second = world.add_relay();
    world.list_relay(0, second);
    world.push(0, "one");
    world.advance(60_000);
    let old = world.devices[0].storage.clone();
    world.push(0, "two");
    world.advance(7_000);
    world.crash(0);
    world.devices[0].storage = old;
    world.set_up(second, false);
    world.start(0);
    world.advance(60_000);
    let (now, url) = (world.now_at(0), World::url(second));
    assert_eq!(world.engine(0).approve(now), Err(MembershipError::RelayUnread { relay: url.clone() }));
    world.engine(0).remove_relay(now, &url).expect("a person gives it up");
    world.engine(0).approve(now).expect("all others were read");
    world.drain(0);
    world.push(0, "after");
    world.advance(7_000);
    assert_eq!(world.engine(0).status().problem, None);
    let second = world.pair(0, "device 1");
    world.settle();
    assert_eq!(world.texts(second), ["one", "two", "after"]);
    assert_eq!(world.engine(second).status().relays.len(), 1, "the list says so as well");
}

#[test]
fn s_cur_03_a_batch_that_was_on_its_way_stays_whole_in_a_copy_that_goes_on() {
    let large: Bytes = (0..1_300_000_u32).map(|n| (n / 7) as u8).collect();
    // Of six parts and their commit: how many were at the relay when the copy was made, and when it
    // took its original's place.
    for (copied_at, lost_at) in [(0, 2), (0, 7), (2, 3), (2, 5), (4, 6), (3, 7)] {
        let mut world = World::with_group(1);
        let before = world.relay.entries().len();
        let until_stored = |world: &mut World, parts| {
            while world.relay.entries().len() < before + parts {
                assert!(world.step(world.now_ms() + 60_000), "something is on its way");
            }
        };
        world.relay_up = copied_at > 0;
        world.cut(0);
        let now = world.now_at(0);
        let number = world.engine(0).push(now, large.clone()).expect("within the limit");
        world.drain(0);
        world.advance(1);
        until_stored(&mut world, copied_at);
        let old = world.devices[0].storage.clone();
        world.relay_up = true;
        until_stored(&mut world, lost_at);
        world.crash(0);
        world.devices[0].storage = old;
        world.start(0);
        assert_eq!(world.engine(0).status().stored_push, number, "the copy has all of it");
        world.advance(7_000);
        let now = world.now_at(0);
        if world.engine(0).status().problem == Some(Problem::NeedsApproval) {
            world.engine(0).approve(now).expect("it is alone");
            world.drain(0);
        }
        world.advance(7_000);
        world.push(0, "behind");
        world.advance(7_000);
        let later = world.pair(0, "device 1");
        for device in [0, later] {
            let blobs: Vec<_> = world.entries(device).into_iter().map(|entry| entry.data).collect();
            let (behind, batch) = blobs.split_last().expect("entries");
            assert_eq!(&behind[..], b"behind");
            // Of what its original sent after the copy was made it cannot tell that it is the same.
            assert!((1..=2).contains(&batch.len()), "device {device} after {copied_at} and {lost_at}: {}", batch.len());
            assert!(batch.iter().all(|blob| *blob == large));
            assert_eq!(world.findings(device), []);
        }
    }
}

#[test]
fn s_cur_03_in_a_group_of_more_than_one_another_device_has_to_let_it_in_again() {
    let mut world = restored_unseen();
    world.start(0);
    world.start(1);
    world.advance(60_000);
    let now = world.now_at(0);
    assert_eq!(world.engine(0).approve(now), Err(MembershipError::NotAlone));
    let again = world.pair(1, "device 0 again");
    world.push(again, "written once more");
    world.settle();
    assert_eq!(world.texts(1).last().map(String::as_str), Some("written once more"));
}
