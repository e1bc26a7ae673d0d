//! Where a snapshot ends in a relay's log, by a member that means harm: it is compared before
//! anything rests on it, and where it cannot be, nothing does.

use bytes::Bytes;
use zerok_sync_chaos::sim::World;
use zerok_sync_core::IntegrityEvent;
use zerok_sync_core::content::{Kind, SeenHash};
use zerok_sync_core::observed::FoldHash;
use zerok_sync_core::seal;
use zerok_sync_core::snapshot::{Floor, Head, Manifest};
use zerok_sync_core::statement::{self, Receipt};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{EpochId, wire};

use crate::hostile_members::write;
use crate::snapshots::{assert_sound, compact, newest, push_all, state};

/// Longer than a relay is left alone between two truncations.
const OVER_AN_HOUR_MS: u64 = 3_700_000;

/// What a relay's log folds to at a cursor, and what stands there.
fn end_at(world: &World, floor: &Floor, cursor: u64) -> Floor {
    let entries = &world.relay.entries()[..usize::try_from(cursor).expect("short")];
    let fold = entries.iter().zip(1..).fold(FoldHash::start(), |fold, (stored, at)| fold.fold(at, &stored.blob_id));
    let blob_id = entries.last().expect("not the beginning").blob_id;
    Floor { cursor, blob_id, hash: fold, ..floor.clone() }
}

/// Device 1, which is away, writes its snapshot again behind its last entry; the seq of the manifest.
fn write_again(world: &mut World, change: impl FnOnce(&World, &mut Manifest)) -> (Manifest, u64) {
    let (parts, mut manifest) = newest(world);
    change(world, &mut manifest);
    manifest.parts = 1;
    let (me, keyring) = world.keys(1);
    let opened =
        |envelope: &Bytes| seal::open(&keyring, envelope).ok().map(|entry| (entry.claims().clone(), envelope.clone()));
    let entries = world.relay.entries().iter().filter_map(|stored| opened(stored.envelope.as_ref()?));
    let (last, envelope) = entries.filter(|(entry, _)| entry.sender == me.device()).last().expect("it has written");
    let bodies = [(Kind::PART, parts.concat()), (Kind::SNAPSHOT, wire::encode(&manifest))];
    write(world, &me, (last.seq, blob_id(&envelope)), bodies);
    (manifest, last.seq + 2)
}

fn with_floor(manifest: &mut Manifest, floor: Floor) {
    manifest.floors = vec![floor].try_into().expect("one");
}

/// Two devices, a snapshot by device 1, and an entry behind it that both have.
fn covered() -> World {
    let mut world = World::with_group(2);
    world.relay.forgets_who_is_away = true;
    push_all(&mut world, 0, &["a", "b"]);
    compact(&mut world, 1, b"a b");
    push_all(&mut world, 0, &["c"]);
    world.advance(10_000);
    world
}

#[test]
fn a_members_snapshot_that_ends_behind_an_entry_it_does_not_have_is_false() {
    let mut world = covered();
    world.crash(1);
    let head = world.relay.entries().len() as u64;
    let (_, seq) = write_again(&mut world, |world, manifest| {
        let end = end_at(world, &manifest.floors[0], head);
        with_floor(manifest, end);
    });
    world.cut(0);
    world.advance(OVER_AN_HOUR_MS);
    let sender = world.keys(1).0.device();
    assert_eq!(world.findings(0), [IntegrityEvent::FalseSnapshot { sender, seq }]);
    assert!(world.relay.log.as_ref().expect("created").floor < head, "nothing was given up for it");
    let later = world.pair(0, "later");
    assert_eq!(state(&mut world, later), ["a", "b", "c"], "nobody begins behind it");
}

/// A device's last entry in the log.
fn head_of(world: &World, device: usize) -> Head {
    let (me, keyring) = world.keys(device);
    let device = me.device();
    let opened = world.relay.entries().iter().filter_map(|stored| {
        let opened = seal::open(&keyring, stored.envelope.as_ref()?).ok()?;
        (opened.claims().sender == device).then(|| Head { device, seq: opened.claims().seq, blob_id: stored.blob_id })
    });
    opened.last().expect("it has written")
}

#[test]
fn nothing_is_given_up_for_a_snapshot_that_ends_behind_a_change_of_keys_that_it_does_not_have() {
    for stopped_in_between in [false, true] {
        let mut world = covered();
        let now = world.now_at(0);
        world.engine(0).rotate(now).expect("a member");
        world.drain(0);
        world.advance(10_000);
        world.crash(1);
        if stopped_in_between {
            world.crash(0);
            world.start(0);
            world.settle();
        }
        let head = world.relay.entries().len() as u64;
        write_again(&mut world, |world, manifest| {
            // Every entry up to there, and the keys of before.
            manifest.heads = vec![head_of(world, 0), head_of(world, 1)].try_into().expect("two");
            let end = end_at(world, &manifest.floors[0], head);
            with_floor(manifest, end);
        });
        world.cut(0);
        world.advance(2 * OVER_AN_HOUR_MS);
        assert_eq!(world.findings(0), [], "stopped in between: {stopped_in_between}");
        let floor = world.relay.log.as_ref().expect("created").floor;
        assert!(floor <= head, "who joins would lack the keys, stopped in between: {stopped_in_between}");
    }
}

#[test]
fn what_a_device_cannot_compare_any_more_it_does_not_vouch_for() {
    for stopped_in_between in [false, true] {
        let mut world = covered();
        let before = newest(&world).1.floors[0].cursor;
        world.crash(1);
        // It goes as far as the manifest of the one before, and says so.
        let end = world.relay.entries().len() as u64 - 1;
        if stopped_in_between {
            world.crash(0);
            world.start(0);
            world.settle();
        }
        let author = world.keys(1).0.device();
        let (manifest, _) = write_again(&mut world, |world, manifest| {
            let mut heads = manifest.heads.clone().into_vec();
            heads.retain(|head| head.device != author);
            let last = world.relay.entries()[usize::try_from(end).expect("short") - 1].blob_id;
            heads.push(Head { device: author, seq: 3, blob_id: last });
            let end = end_at(world, &manifest.floors[0], end);
            manifest.heads = heads.try_into().expect("as many");
            with_floor(manifest, end);
        });
        assert_eq!(manifest.floors[0].cursor, end);
        let written = world.relay.entries().last().expect("the manifest").blob_id;
        world.cut(0);
        world.advance(2 * OVER_AN_HOUR_MS);
        assert_eq!(world.findings(0), [], "nobody is accused");
        let floor = world.relay.log.as_ref().expect("created").floor;
        let expected = if stopped_in_between { before } else { end };
        assert_eq!(floor, expected + 1, "stopped in between: {stopped_in_between}");
        let (me, keyring) = world.keys(0);
        let receipts = &world.relay.log.as_ref().expect("created").receipts;
        let (_, receipt) = receipts.get(&me.keys.noise).expect("it has said what it has");
        let receipt: Receipt = statement::open(&keyring, receipt).expect("its own");
        let vouches = receipt.vouches.iter().any(|vouch| vouch.manifest == SeenHash::of(&written));
        assert_eq!(vouches, !stopped_in_between);
        let has = receipt.seen.iter().any(|item| item.hash == SeenHash::of(&written));
        assert!(has, "that it has stored it is another matter");
    }
}

#[test]
fn a_snapshot_that_waits_for_an_epoch_holds_up_none_behind_it() {
    let mut world = World::with_group(3);
    push_all(&mut world, 0, &["a", "b"]);
    compact(&mut world, 1, b"a b");
    world.crash(1);
    let (_, seq) = write_again(&mut world, |_, manifest| manifest.epoch = EpochId([9; 8]));
    world.cut(0);
    world.cut(2);
    world.advance(10_000);
    push_all(&mut world, 2, &["c"]);
    compact(&mut world, 2, b"a b c");
    let later = world.pair(0, "later");
    assert_eq!(world.entries(later)[0].data, "a b c", "the one behind it was compared");
    assert_sound(&mut world, later);
    world.advance(60_000);
    let sender = world.keys(1).0.device();
    assert_eq!(world.findings(0), [IntegrityEvent::FalseSnapshot { sender, seq }]);
}

#[test]
fn what_was_compared_outlives_a_restart() {
    let mut world = covered();
    world.crash(0);
    world.start(0);
    world.advance(OVER_AN_HOUR_MS);
    let end = newest(&world).1.floors[0].cursor;
    assert_eq!(world.relay.log.as_ref().expect("created").floor, end + 1);
    assert_sound(&mut world, 0);
}

#[test]
fn a_members_snapshot_that_ends_where_no_log_does_takes_nobodys_eyes_off_the_floor() {
    for cursor in [u64::MAX, u64::MAX - 1, 1 << 40] {
        let mut world = covered();
        world.crash(1);
        let (_, seq) = write_again(&mut world, |_, manifest| {
            let floor = Floor { cursor, ..manifest.floors[0].clone() };
            with_floor(manifest, floor);
        });
        world.cut(0);
        world.advance(10_000);
        let sender = world.keys(1).0.device();
        let told = IntegrityEvent::FalseSnapshot { sender, seq };
        assert_eq!(world.findings(0), [told], "{cursor}");
        let floor_max = world.engine(0).status().relays[0].floor_max;
        let head = world.relay.entries().len() as u64;
        assert!(floor_max <= head, "{cursor}: {floor_max}");
        world.relay.log.as_mut().expect("created").move_floor(head + 1);
        world.cut(0);
        world.advance(60_000);
        let withheld = IntegrityEvent::Withheld { from_cursor: floor_max, to_cursor: head };
        assert!(world.findings(0).contains(&withheld), "{cursor}: {:?}", world.findings(0));
    }
}

#[test]
fn what_a_snapshot_says_of_a_relay_counts_once_that_was_read_as_far() {
    for honest in [true, false] {
        let mut world = World::with_group(2);
        let second = world.add_relay();
        world.list_relay(0, second);
        world.settle();
        world.advance(120_000);
        push_all(&mut world, 0, &["a", "b"]);
        world.advance(60_000);
        let before = world.engine(0).status().relays[1].floor_max;
        if honest {
            world.crash(0);
        }
        push_all(&mut world, 1, &["c"]);
        world.advance(60_000);
        compact(&mut world, 1, b"a b c");
        world.crash(1);
        world.set_up(second, false);
        if honest {
            world.start(0);
        } else {
            write_again(&mut world, |_, manifest| {
                let mut floors = manifest.floors.clone().into_vec();
                assert_eq!(floors.len(), 2);
                floors[1].cursor = u64::MAX - 1;
                manifest.floors = floors.try_into().expect("as many");
            });
            world.cut(0);
        }
        world.advance(10_000);
        world.set_up(second, true);
        world.advance(120_000);
        let (after, head) =
            (world.engine(0).status().relays[1].floor_max, world.relay_at(second).entries().len() as u64);
        assert!(before < after && after <= head, "honest: {honest}, from {before} to {after} of {head}");
        assert_eq!(world.findings(0), [], "honest: {honest}");
    }
}
