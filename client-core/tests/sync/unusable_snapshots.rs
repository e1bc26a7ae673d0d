//! Snapshots that a device which was away finds behind a log's floor and cannot take: each is tried
//! once, the next best has its turn, and where none is left the floor is told of and asked back. One
//! that does not end where it says is its author's lie and not the relay's.

use zerok_sync_chaos::sim::World;
use zerok_sync_chaos::sim::relay::Stored;
use zerok_sync_core::id::DeviceId;
use zerok_sync_core::keys::{Membership, MembershipSeed};
use zerok_sync_core::pairing::SnapshotRef;
use zerok_sync_core::snapshot::Floor;
use zerok_sync_core::{IntegrityEvent, Problem};
use zerok_sync_protocol::BlobId;
use zerok_sync_protocol::wire::List;

use crate::false_snapshots::{Written, write};
use crate::snapshots::{assert_sound, compact, newest, push_all, state};

/// Longer than a snapshot is waited for that another device may bring.
const WAITED_FOR_MS: u64 = 300_000;

type Lie = fn(&mut Written);

/// Of a kind that only shows once the archive is gone through, …
const TOO_MANY_EPOCHS: Lie = |it| it.manifest.epochs += 1;

/// … and of one that shows at once to who has written something: another entry at one of the heads.
fn contradicts(it: &mut Written, device: DeviceId) {
    let mut heads = it.manifest.heads.clone().into_vec();
    let head = heads.iter_mut().find(|head| head.device == device).expect("it has written");
    head.blob_id = BlobId([9; 32]);
    it.manifest.heads = List::try_from(heads).expect("as many");
}

/// Device 2 is away; device 1 has made a snapshot, behind which the log begins now. Nobody else is there.
fn truncated() -> World {
    let mut world = World::with_group(3);
    world.relay.forgets_who_is_away = true;
    push_all(&mut world, 2, &["a"]);
    world.advance(10_000);
    world.crash(2);
    push_all(&mut world, 0, &["b"]);
    world.advance(10_000);
    compact(&mut world, 1, b"a b");
    world.advance(180_000);
    assert!(floor(&world) > 1);
    world.relay.purge();
    world.crash(0);
    world.crash(1);
    world
}

fn floor(world: &World) -> u64 {
    world.relay.log.as_ref().expect("created").floor
}

fn is_false(finding: &IntegrityEvent) -> bool {
    matches!(finding, IntegrityEvent::FalseSnapshot { .. })
}

fn told(of: &[SnapshotRef]) -> Vec<IntegrityEvent> {
    of.iter().map(|it| IntegrityEvent::FalseSnapshot { sender: it.sender, seq: it.seq }).collect()
}

#[test]
fn an_older_snapshot_is_gone_on_from_where_the_newest_is_false() {
    let mut world = truncated();
    let away = world.keys(2).0.device();
    let by_archive = write(&mut world, TOO_MANY_EPOCHS);
    let by_head = write(&mut world, |it| contradicts(it, away));
    world.start(2);
    world.push(2, "late");
    world.advance(10_000);
    assert_eq!(world.findings(2), told(&[by_head, by_archive]), "each once, the newest first");
    assert_eq!(world.engine(2).status().problem, None);
    assert_eq!(state(&mut world, 2), ["a", "b", "late"]);
}

#[test]
fn of_false_snapshots_by_strangers_or_one_member_however_many_one_is_tried_before_another_members() {
    for strangers in [true, false] {
        let mut world = truncated();
        let epochs = newest(&world).1.epochs;
        for number in 0..66 {
            let stranger = Membership::from_seed(&MembershipSeed::from_bytes([number | 0x80; 32]));
            let author = if strangers { stranger } else { world.keys(0).0 };
            write(&mut world, |it| {
                it.manifest.epochs = epochs + 1;
                it.manifest.lamport += 1;
                (it.part_by, it.author) = (author.clone(), author);
            });
        }
        world.start(2);
        world.advance(20_000);
        assert_eq!(state(&mut world, 2), ["a", "b"], "by strangers: {strangers}");
        assert_eq!(world.findings(2).iter().filter(|it| is_false(it)).count(), 1);
    }
}

#[test]
fn where_no_snapshot_is_left_the_floor_is_told_of_and_asked_back() {
    for false_ones in [1, 66] {
        let mut world = World::with_group(3);
        push_all(&mut world, 2, &["a"]);
        world.advance(10_000);
        world.crash(2);
        push_all(&mut world, 0, &["b"]);
        let head = world.relay.entries().len();
        compact(&mut world, 1, b"a b");
        world.crash(0);
        world.crash(1);
        let (good, away) = (world.relay.entries().len() - 2, world.keys(2).0.device());
        for _ in 0..false_ones {
            write(&mut world, |it| contradicts(it, away));
        }
        // They stand in the place of the good one.
        world.relay.entries_mut().drain(good..good + 2);
        world.relay.log.as_mut().expect("created").move_floor(head as u64 + 1);
        world.start(2);
        world.advance(10_000);
        let findings = world.findings(2);
        assert_eq!(findings.iter().filter(|it| is_false(it)).count(), false_ones.min(64));
        let withheld = findings
            .iter()
            .position(|it| *it == IntegrityEvent::Withheld { from_cursor: head as u64, to_cursor: head as u64 });
        assert!(withheld.is_some(), "{findings:?}");
        assert!(floor(&world) <= head as u64, "it goes back within the grace");
        assert_eq!(state(&mut world, 2), ["a", "b"]);
    }
}

#[test]
fn a_snapshot_whose_parts_are_not_there_gives_way_to_an_older_one() {
    let mut world = truncated();
    write(&mut world, |_| {});
    let part = world.relay.entries().len() - 2;
    world.relay.forget_row(part);
    world.start(2);
    world.advance(10_000);
    assert_eq!(state(&mut world, 2), ["a", "b"]);
    let accuses = |it: &IntegrityEvent| !matches!(it, IntegrityEvent::Lost { .. } | IntegrityEvent::Gap { .. });
    assert!(!world.findings(2).iter().any(accuses), "nothing but what the relay lost: {:?}", world.findings(2));
}

#[test]
fn parts_that_are_not_there_may_come_from_another_device() {
    let mut world = truncated();
    let parts = world.relay.entries().len() - 2;
    let part = world.relay.entries_mut()[parts].envelope.take();
    world.start(2);
    world.advance(60_000);
    assert_eq!((state(&mut world, 2), world.findings(2)), (vec!["a".to_owned()], vec![]), "it waits");
    world.relay.entries_mut()[parts].envelope = part;
    world.advance(30_000);
    assert_eq!(state(&mut world, 2), ["a", "b"]);
    assert_sound(&mut world, 2);
}

#[test]
fn parts_that_nobody_brings_are_not_waited_for_for_ever() {
    let mut world = truncated();
    let (parts, floor) = (world.relay.entries().len() - 2, floor(&world));
    world.relay.entries_mut()[parts].envelope = None;
    world.start(2);
    world.advance(WAITED_FOR_MS);
    let withheld = |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::Withheld { to_cursor, .. } if *to_cursor == floor - 1);
    assert!(world.findings(2).iter().any(withheld), "{:?}", world.findings(2));
    assert_ne!(world.engine(2).status().problem, Some(Problem::SnapshotUnusable));
}

#[test]
fn a_device_that_is_never_on_for_long_is_told_what_it_waits_for_and_tells_of_the_floor_in_the_end() {
    let mut world = truncated();
    let (parts, floor) = (world.relay.entries().len() - 2, floor(&world));
    world.relay.entries_mut()[parts].envelope = None;
    let run = |world: &mut World, pause_ms: u64| {
        world.start(2);
        world.advance(700);
        let problem = world.engine(2).status().problem;
        world.crash(2);
        world.advance(pause_ms);
        problem
    };
    for _ in 0..20 {
        assert_eq!(run(&mut world, 100), Some(Problem::SnapshotAwaited), "runs that follow each other at once");
    }
    let problems: Vec<_> = (0..8).map(|_| run(&mut world, 3_600_000)).collect();
    assert_eq!(problems[0], Some(Problem::SnapshotAwaited));
    assert_ne!(problems[7], Some(Problem::SnapshotAwaited));
    let withheld = |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::Withheld { to_cursor, .. } if *to_cursor == floor - 1);
    world.start(2);
    world.settle();
    assert!(world.engine(2).status().integrity.iter().any(withheld));
}

/// What its author says of where it ends in the relay's log.
fn with_end(it: &mut Written, change: impl FnOnce(&mut Floor)) {
    let mut floors = it.manifest.floors.clone().into_vec();
    change(&mut floors[0]);
    it.manifest.floors = List::try_from(floors).expect("as many");
}

#[test]
fn a_members_lie_about_where_its_snapshot_ends_is_not_the_relays() {
    let lies: [fn(&mut Floor, &[Stored]); 3] = [
        |floor, _| floor.blob_id = BlobId([9; 32]),
        |floor, entries| {
            floor.hash = floor.hash.fold(floor.cursor + 1, &entries[floor.cursor as usize].blob_id);
            (floor.cursor, floor.blob_id) = (floor.cursor + 1, BlobId([9; 32]));
        },
        |floor, entries| floor.cursor = entries.len() as u64 + 100,
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut world = truncated();
        let entries = world.relay.entries().to_vec();
        let false_one = write(&mut world, |it| with_end(it, |floor| lie(floor, &entries)));
        world.start(2);
        world.push(2, "late");
        world.advance(60_000);
        assert_eq!(world.findings(2), told(&[false_one]), "lie {number}");
        assert_eq!(state(&mut world, 2), ["a", "b", "late"], "lie {number}");
    }
}

/// The floor has moved for an older snapshot; the newest ends behind it, and its end is gone or changed.
fn with_another_end(vouched: bool, change: impl FnOnce(&mut World, usize)) -> World {
    let mut world = World::with_group(3);
    push_all(&mut world, 2, &["a"]);
    world.advance(10_000);
    world.crash(2);
    push_all(&mut world, 0, &["b"]);
    let floor = world.relay.entries().len() as u64 + 1;
    push_all(&mut world, 0, &["c"]);
    let end = world.relay.entries().len();
    compact(&mut world, 1, b"a b c");
    world.advance(10_000);
    world.crash(0);
    world.crash(1);
    if !vouched {
        world.relay.log.as_mut().expect("created").receipts.clear();
    }
    world.relay.log.as_mut().expect("created").move_floor(floor);
    change(&mut world, end - 1);
    world.start(2);
    world.advance(60_000);
    world
}

#[test]
fn where_the_relay_has_lost_what_a_snapshot_ends_with_nobody_is_accused_of_more() {
    let mut world = with_another_end(true, |world, end| _ = world.relay.forget_row(end));
    assert_eq!(state(&mut world, 2), ["a", "b", "c"]);
    let accuses = |it: &IntegrityEvent| !matches!(it, IntegrityEvent::Lost { .. });
    assert!(!world.findings(2).iter().any(accuses), "{:?}", world.findings(2));
}

#[test]
fn where_two_members_say_what_a_snapshot_ends_with_the_relay_has_changed_it() {
    for vouched in [true, false] {
        let world = with_another_end(vouched, |world, end| {
            let other = world.relay.entries()[0].clone();
            world.relay.entries_mut()[end] = other;
        });
        let rolled_back = |it: &IntegrityEvent| matches!(it, IntegrityEvent::RolledBack { .. });
        assert_eq!(world.findings(2).iter().any(rolled_back), vouched, "{:?}", world.findings(2));
        assert_eq!(world.findings(2).iter().any(is_false), !vouched, "{:?}", world.findings(2));
    }
}
