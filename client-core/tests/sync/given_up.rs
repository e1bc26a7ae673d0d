//! Entries that nobody has any more, given up on a person's word: what stands behind them counts
//! again, on every device that lacks them, and nobody is made to skip what is there.

use zerok_sync_chaos::sim::World;
use zerok_sync_core::content::Kind;
use zerok_sync_core::id::DeviceId;
use zerok_sync_core::seal::{open, seal};
use zerok_sync_core::{CompactError, Event, Hole, IntegrityEvent, MembershipError};
use zerok_sync_protocol::{BlobId, wire, wire_struct};

use crate::hostile_members::{append, content, write};
use crate::relays::{self, SETTLE_MS};
use crate::snapshots::{compact, push_all, try_compact};

/// Where a storage keeps what members give up.
const GAP: u8 = b'G';

wire_struct! {
    /// Body of an entry that gives entries up.
    pub struct AcceptGap {
        /// Whose.
        sender: DeviceId,
        /// First.
        from_seq: u64,
        /// Last.
        to_seq: u64,
        /// What the last one was.
        hash_after: BlobId,
    }
}

/// Device 0 wrote "a", "b" and "c" (entries 3 to 5) and is gone; the relay has lost "b", and devices 1
/// and 2 were away meanwhile. The last one of `devices` has read all of it and is switched off.
fn with_hole(devices: usize) -> World {
    let mut world = World::with_group(devices);
    (1..devices).filter(|device| *device < 3).for_each(|device| world.crash(device));
    push_all(&mut world, 0, &["a", "b", "c"]);
    (0..devices).filter(|device| *device == 0 || *device >= 3).for_each(|device| world.crash(device));
    let lost = world.relay.entries().len() - 2;
    world.relay.forget_row(lost);
    world
}

fn give_up(world: &mut World, device: usize) -> Vec<Hole> {
    let now = world.now_at(device);
    let given_up = world.engine(device).accept_gaps(now).expect("a member that has read everything");
    world.drain(device);
    world.settle();
    given_up
}

/// Whether something is on record that a row which is gone does not account for.
fn is_missing(world: &mut World, device: usize) -> bool {
    let found = world.engine(device).status().integrity;
    found.iter().any(|finding| !matches!(finding, IntegrityEvent::Lost { .. }))
}

fn was_told(world: &World, device: usize) -> bool {
    world.devices[device].events.iter().any(|event| matches!(event, Event::EntriesGivenUp { .. }))
}

#[test]
fn what_waits_behind_entries_that_nobody_has_comes_once_they_are_given_up() {
    let mut world = with_hole(3);
    let device = world.keys(0).0.device();
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1), ["a"]);
    assert!(is_missing(&mut world, 1));
    let hole = Hole { device, from_seq: 4, to_seq: 4, waiting: 1 };
    assert_eq!(world.engine(1).status().holes, [hole]);
    world.advance(60_000);
    assert_eq!(try_compact(&mut world, 1, b"a"), Err(CompactError::NotCaughtUp));
    world.crash(1);
    world.start(1);
    let now = world.now_at(1);
    assert_eq!(world.engine(1).accept_gaps(now), Err(MembershipError::NotYet), "before it has looked again");
    world.settle();
    assert_eq!(give_up(&mut world, 1), [hole]);
    assert_eq!(world.texts(1), ["a", "c"]);
    assert!(!is_missing(&mut world, 1) && was_told(&world, 1));
    assert_eq!(world.engine(1).status().holes, []);
    world.start(2);
    world.settle();
    assert_eq!(world.texts(2), ["a", "c"]);
    assert!(!is_missing(&mut world, 2) && was_told(&world, 2), "{:?}", world.findings(2));
    for device in [1, 2] {
        world.crash(device);
        world.start(device);
    }
    world.settle();
    push_all(&mut world, 2, &["d"]);
    assert_eq!(world.texts(1), ["a", "c", "d"]);
    let reader = world.pair(1, "later");
    world.advance(60_000);
    assert_eq!(world.texts(reader), ["a", "d", "c"], "it waits until all there is was shown");
    assert!(!is_missing(&mut world, reader));
    compact(&mut world, 1, b"a c d");
    world.advance(60_000);
    assert!(world.engine(2).status().snapshot.is_some(), "it is as device 2 has the log");
    for device in [1, 2, reader] {
        let of_members = |finding: &IntegrityEvent| !matches!(finding, IntegrityEvent::Lost { .. });
        assert!(!is_missing(&mut world, device), "{device}: {:?}", world.findings(device));
        let mut audit = world.engine(device).audit();
        let (from, to) = zerok_sync_core::Engine::mirror_range();
        world.rows(device, &from, &to).into_iter().for_each(|row| audit.row(row));
        assert!(!audit.finish().findings.iter().any(of_members), "{device}");
    }
}

#[test]
fn several_holes_are_given_up_at_once_also_of_a_device_that_was_removed() {
    for removed in [false, true] {
        let mut world = World::with_group(4);
        let gone = world.id(3);
        (1..3).for_each(|device| world.crash(device));
        push_all(&mut world, 3, &["a", "b", "c", "d", "e"]);
        if removed {
            let now = world.now_at(0);
            world.engine(0).revoke(now, gone).expect("a member");
            world.settle();
        }
        (0..4).filter(|device| matches!(device, 0 | 3)).for_each(|device| world.crash(device));
        let e = world.relay.entries().iter().rposition(|stored| {
            let opened =
                stored.envelope.as_ref().map(|envelope| zerok_sync_core::seal::open(&world.keys(0).1, envelope));
            opened.is_some_and(|opened| opened.is_ok_and(|entry| &entry.claims().body[..] == b"e"))
        });
        let e = e.expect("pushed");
        for lost in [e - 3, e - 1] {
            world.relay.forget_row(lost);
        }
        world.start(1);
        world.settle();
        assert_eq!(world.texts(1).len(), 1, "removed: {removed}");
        assert_eq!(give_up(&mut world, 1).len(), 2, "removed: {removed}");
        assert_eq!(world.texts(1), ["a", "c", "e"], "removed: {removed}");
        assert_eq!(world.engine(1).status().holes, []);
        world.start(2);
        world.advance(60_000);
        assert_eq!(world.texts(2), ["a", "c", "e"], "removed: {removed}");
    }
}

#[test]
fn a_device_that_has_what_was_given_up_keeps_it_and_accuses_nobody() {
    let mut world = with_hole(4);
    world.start(1);
    world.settle();
    give_up(&mut world, 1);
    assert_eq!(world.texts(1), ["a", "c"]);
    world.start(3);
    world.advance(120_000);
    push_all(&mut world, 3, &["d"]);
    world.advance(120_000);
    assert_eq!(world.texts(3), ["a", "b", "c", "d"]);
    assert!(!was_told(&world, 3));
    assert_eq!(world.texts(1), ["a", "c", "d"], "given up is given up");
    for device in [1, 3] {
        assert!(!is_missing(&mut world, device), "{device}: {:?}", world.findings(device));
    }
}

/// Device 0's word that entries of device 1 up to its third are given up.
fn word(world: &World, sender: DeviceId, from_seq: u64, hash_after: BlobId) -> zerok_sync_core::seal::Sealed {
    let (me, keyring) = world.keys(0);
    let second = world.relay.entries()[1].blob_id;
    let body = wire::encode(&AcceptGap { sender, from_seq, to_seq: 3, hash_after });
    let said = content(&me, 3, second, Kind::ACCEPT_GAP, body);
    seal(keyring.group(), keyring.current(), &me.signing, [5; 24], &said).expect("small")
}

#[test]
fn a_members_word_makes_nobody_skip_what_a_relay_still_has() {
    let mut world = World::with_group(3);
    world.crash(2);
    // Each in a message of its own.
    let large = ["x", "y", "z"].map(|text| text.repeat(70_000));
    push_all(&mut world, 1, &large.each_ref().map(String::as_str));
    let sender = world.id(1);
    (0..2).for_each(|device| world.crash(device));
    let head = world.relay.entries().len();
    let said = word(&world, sender, 2, world.relay.entries()[head - 2].blob_id);
    append(&mut world, said);
    // The word first, then what stands behind, then what was given up.
    world.relay.entries_mut()[head - 3..].rotate_right(2);
    world.start(2);
    world.settle();
    assert_eq!(world.texts(2), large);
    assert!(!was_told(&world, 2));
}

#[test]
fn a_word_that_does_not_join_the_chain_on_both_sides_is_void() {
    for joins_behind in [false, true] {
        let mut world = World::with_group(3);
        world.crash(2);
        push_all(&mut world, 1, &["x", "y", "z"]);
        let sender = world.id(1);
        (0..2).for_each(|device| world.crash(device));
        let head = world.relay.entries().len();
        let y = world.relay.entries()[head - 2].blob_id;
        world.relay.entries_mut().drain(head - 3..head - 1);
        let (from_seq, hash_after) = if joins_behind { (3, y) } else { (2, BlobId([9; 32])) };
        let void = word(&world, sender, from_seq, hash_after);
        append(&mut world, void);
        world.start(2);
        world.settle();
        assert_eq!(world.texts(2), [""; 0]);
        assert!(is_missing(&mut world, 2));
        give_up(&mut world, 2);
        assert_eq!(world.texts(2), ["z"]);
    }
}

#[test]
fn what_a_removed_device_wrote_behind_its_end_makes_no_hole() {
    let mut world = World::with_group(3);
    push_all(&mut world, 2, &["a"]);
    let (gone, old) = world.keys(2);
    let now = world.now();
    world.engine(0).revoke(now, gone.device()).expect("a member");
    world.settle();
    let late = content(&gone, 5, BlobId([9; 32]), Kind::APP, "behind the end");
    append(&mut world, seal(old.group(), old.current(), &gone.signing, [5; 24], &late).expect("small"));
    world.push(0, "wakes the relay");
    world.settle();
    assert_eq!(world.engine(1).status().holes, []);
    assert_eq!(give_up(&mut world, 1), []);
}

#[test]
fn one_member_gives_up_so_many_times_and_no_more() {
    let mut world = World::with_group(2);
    world.crash(0);
    let (me, _) = world.keys(0);
    let sender = world.id(1);
    let bodies = (0..300).map(|number| {
        let gap = AcceptGap { sender, from_seq: 1_000, to_seq: 1_000 + number, hash_after: BlobId([9; 32]) };
        (Kind::ACCEPT_GAP, wire::encode(&gap))
    });
    let second = world.relay.entries()[1].blob_id;
    write(&mut world, &me, (2, second), bodies);
    world.push(1, "wakes the relay");
    world.settle();
    let gap = [1, GAP];
    assert_eq!(world.rows(1, &gap, &[1, GAP + 1]).len(), 256);
}

/// Where a text stands on a relay.
fn place_of(world: &World, relay: usize, text: &str) -> usize {
    let (_, keyring) = world.keys(0);
    let is_it = |envelope: &bytes::Bytes| open(&keyring, envelope).is_ok_and(|entry| entry.claims().body == text);
    let mut entries = world.relay_at(relay).entries().iter();
    entries.position(|stored| stored.envelope.as_ref().is_some_and(is_it)).expect("pushed")
}

/// Two relays carry the group. The first has lost "b", which `of` wrote between "a" and "c"; `by`,
/// which could not reach the second one, has given it up. Nothing runs, and the second relay takes its
/// time.
fn given_up_on_one_of_two(world: &mut World, of: usize, by: usize) {
    push_all(world, of, &["a", "b", "c"]);
    if of != 0 {
        let (now, gone) = (world.now_at(0), world.id(of));
        world.engine(0).revoke(now, gone).expect("a member");
    }
    world.advance(SETTLE_MS);
    let running: Vec<usize> = (0..world.devices.len()).filter(|device| world.devices[*device].is_running()).collect();
    running.into_iter().for_each(|device| world.crash(device));
    let lost = place_of(world, 0, "b");
    world.relay.forget_row(lost);
    world.set_up(1, false);
    world.start(by);
    world.advance(20_000);
    assert_eq!(give_up(world, by).len(), 1);
    assert!(world.texts(by).ends_with(&["a".into(), "c".into()]), "{:?}", world.texts(by));
    world.crash(by);
    world.set_up(1, true);
    world.others[0].slower_ms = 2_500;
}

/// Until the first relay has shown all it has, and the second one nothing yet.
const FIRST_RELAY_MS: u64 = 2_000;

#[test]
fn what_another_relay_may_still_bring_is_waited_for_whatever_a_member_has_given_up() {
    let mut world = relays::world(3);
    (1..3).for_each(|device| world.crash(device));
    given_up_on_one_of_two(&mut world, 0, 1);
    world.start(2);
    world.advance(FIRST_RELAY_MS);
    assert_eq!(world.texts(2), ["before", "a"], "the word is here, and so is what stands behind");
    world.advance(SETTLE_MS);
    assert_eq!(world.texts(2), ["before", "a", "b", "c"]);
    assert!(!was_told(&world, 2));
    assert!(!is_missing(&mut world, 2), "{:?}", world.findings(2));
}

#[test]
fn d_rev_05_a_word_lets_nothing_else_of_a_removed_device_count_while_a_relay_may_still_have_the_entry() {
    let mut world = relays::world(4);
    [1, 3].into_iter().for_each(|device| world.crash(device));
    let (gone, old) = world.keys(2);
    given_up_on_one_of_two(&mut world, 2, 3);
    // The relay and the removed device put another entry in front of the hole, and all of it behind the
    // removal.
    let a = place_of(&world, 0, "a");
    let joined = open(&old, world.relay.entries()[a].envelope.as_ref().expect("there")).expect("sound").claims().prev;
    let other = content(&gone, 2, joined, Kind::APP, "other");
    let other = seal(old.group(), old.current(), &gone.signing, [1; 24], &other).expect("small");
    let c = place_of(&world, 0, "c");
    let end = world.relay.entries_mut().remove(c);
    world.relay.entries_mut().remove(a);
    append(&mut world, other);
    world.relay.entries_mut().push(end);
    world.start(1);
    world.advance(FIRST_RELAY_MS);
    assert_eq!(world.texts(1), ["before"]);
    world.advance(SETTLE_MS);
    assert_eq!(world.texts(1), ["before"], "it is not what leads to the end");
}

#[test]
fn what_waits_behind_the_hole_says_what_was_there_only_with_its_own_senders_signature() {
    let mut world = World::with_group(3);
    world.crash(2);
    push_all(&mut world, 1, &["x"]);
    (0..2).for_each(|device| world.crash(device));
    let (group, device) = (world.keys(0).1, world.keys(1).0);
    let forger = world.keys(0).0;
    let sealed = |seq, prev, text, signing| {
        seal(group.group(), group.current(), signing, [4; 24], &content(&device, seq, prev, Kind::APP, text))
            .expect("small")
    };
    let nowhere = BlobId([9; 32]);
    // Of its two entries 5 the first is kept; the other one vouches for what was never signed.
    let kept = sealed(5, nowhere, "kept", &device.signing);
    let forged = sealed(4, nowhere, "forged", &forger.signing);
    let vouches = sealed(5, forged.blob_id, "vouches", &device.signing);
    for entry in [kept, forged, vouches] {
        append(&mut world, entry);
    }
    let said = word(&world, device.device(), 3, nowhere);
    append(&mut world, said);
    world.start(2);
    world.settle();
    assert_eq!(world.texts(2), ["x"]);
    assert!(!was_told(&world, 2));
    assert_eq!(give_up(&mut world, 2), [], "nor by its own person");
}

#[test]
fn a_device_gives_up_nothing_of_its_own() {
    let mut world = World::with_group(2);
    let device = world.id(0);
    let older = world.devices[0].storage.clone();
    world.crash(1);
    push_all(&mut world, 0, &["a", "b", "c"]);
    world.crash(0);
    let lost = place_of(&world, 0, "b");
    world.relay.forget_row(lost);
    world.start(1);
    world.settle();
    assert_eq!(give_up(&mut world, 1), [Hole { device, from_seq: 4, to_seq: 4, waiting: 1 }]);
    // Its disk is put back to an older copy: somebody may have the newer one.
    world.devices[0].storage = older;
    world.start(0);
    world.advance(60_000);
    assert_eq!(world.texts(0), ["a"]);
    assert_eq!(world.engine(0).status().holes, []);
    assert!(!was_told(&world, 0));
}

#[test]
fn what_a_removed_device_wrote_on_both_sides_of_a_hole_counts_where_it_was_put_back_behind_the_removal() {
    let mut world = World::with_group(4);
    (1..3).for_each(|device| world.crash(device));
    push_all(&mut world, 3, &["a", "b", "c"]);
    let (now, gone) = (world.now_at(0), world.id(3));
    world.engine(0).revoke(now, gone).expect("a member");
    world.settle();
    [0, 3].into_iter().for_each(|device| world.crash(device));
    let a = place_of(&world, 0, "a");
    let mut written: Vec<_> = world.relay.entries_mut().drain(a..a + 3).collect();
    written.remove(1);
    world.relay.entries_mut().extend(written);
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1), [""; 0]);
    assert_eq!(give_up(&mut world, 1), [Hole { device: gone, from_seq: 3, to_seq: 3, waiting: 1 }]);
    world.start(2);
    world.advance(60_000);
    for device in [1, 2] {
        assert_eq!(world.texts(device), ["a", "c"], "{device}");
    }
}
