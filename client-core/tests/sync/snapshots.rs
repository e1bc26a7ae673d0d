//! Snapshots: made of everything a device has, compared by the others, and begun with by devices
//! that join; nothing is lost between a snapshot and what it does not cover.

use bytes::Bytes;
use zerok_sync_chaos::sim::relay::Stored;
use zerok_sync_chaos::sim::{Loss, World};
use zerok_sync_core::content::{Content, Kind};
use zerok_sync_core::seal;
use zerok_sync_core::snapshot::{Head, Manifest};
use zerok_sync_core::{CompactError, Connection, Engine, Event, IntegrityEvent};
use zerok_sync_protocol::wire;
use zerok_sync_protocol::{BlobId, EpochId};

use crate::hostile_members::{append, write};

/// The app has processed all it was given, and hands its state over.
pub fn try_compact(world: &mut World, device: usize, state: &[u8]) -> Result<(), CompactError> {
    let now = world.now_at(device);
    let position = world.engine(device).status().position;
    world.engine(device).mark_processed(now, position);
    let compacted = world.engine(device).compact(now, Bytes::copy_from_slice(state));
    world.drain(device);
    compacted
}

pub fn compact(world: &mut World, device: usize, state: &[u8]) {
    try_compact(world, device, state).expect("complete");
    world.settle();
}

pub fn push_all(world: &mut World, device: usize, texts: &[&str]) {
    for text in texts {
        world.push(device, text);
    }
    world.settle();
}

/// What an app has after it was given this: a snapshot replaces all before it.
pub fn state(world: &mut World, device: usize) -> Vec<String> {
    let mut state = Vec::new();
    for entry in world.entries(device) {
        let text = String::from_utf8(entry.data.to_vec()).expect("text");
        if entry.snapshot {
            state = text.split_terminator(' ').map(str::to_owned).collect();
        } else {
            state.push(text);
        }
    }
    state
}

pub fn names(world: &mut World, device: usize) -> Vec<String> {
    let mut names: Vec<_> = world.engine(device).status().members.into_iter().map(|member| member.name).collect();
    names.sort();
    names
}

pub fn assert_sound(world: &mut World, device: usize) {
    assert_eq!(world.findings(device), [], "device {device}");
    let status = world.engine(device).status();
    assert_eq!((status.connection, status.problem), (Connection::Live, None), "device {device}");
    let mut audit = world.engine(device).audit();
    let (from, to) = Engine::mirror_range();
    world.rows(device, &from, &to).into_iter().for_each(|row| audit.row(row));
    assert_eq!(audit.finish().findings, [], "device {device}");
}

#[test]
fn a_new_device_begins_with_the_snapshot_and_goes_on_with_what_it_does_not_cover() {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a", "b"]);
    push_all(&mut world, 1, &["c"]);
    compact(&mut world, 0, b"a b c");
    push_all(&mut world, 1, &["d"]);
    let later = world.pair(1, "later");
    let entries = world.entries(later);
    let read: Vec<_> = entries.iter().map(|entry| (entry.position, entry.snapshot, &entry.data[..])).collect();
    assert_eq!(read, [(1, true, &b"a b c"[..]), (2, false, b"d")]);
    assert_eq!(names(&mut world, later), ["device 0", "device 1", "later"]);
    push_all(&mut world, later, &["e"]);
    push_all(&mut world, 0, &["f"]);
    for device in [0, 1, later] {
        assert_eq!(state(&mut world, device), ["a", "b", "c", "d", "e", "f"], "device {device}");
        assert_sound(&mut world, device);
    }
    assert!(world.entries(0).iter().all(|entry| !entry.snapshot), "who has the entries needs no snapshot");
    world.crash(later);
    world.start(later);
    push_all(&mut world, 1, &["g"]);
    assert_eq!(state(&mut world, later), ["a", "b", "c", "d", "e", "f", "g"]);
    assert_sound(&mut world, later);
}

#[test]
fn who_is_in_the_group_survives_in_the_control_archive() {
    let mut world = World::with_group(4);
    let (now, gone) = (world.now_at(0), world.id(2));
    world.engine(1).rename(now, "renamed").expect("a name");
    push_all(&mut world, 2, &["a"]);
    world.engine(0).revoke(now, gone).expect("a member");
    world.settle();
    world.engine(3).rotate(now).expect("a member");
    world.settle();
    let fourth = world.pair(3, "fourth");
    compact(&mut world, 0, b"a");
    let later = world.pair(1, "later");
    assert_eq!(names(&mut world, later), ["device 0", "device 3", "fourth", "later", "renamed"]);
    assert_eq!(world.engine(later).status().rotations, 2);
    world.engine(later).rotate(now).expect("a member");
    world.settle();
    push_all(&mut world, fourth, &["b"]);
    for device in [0, 1, 3, fourth, later] {
        assert_eq!(world.engine(device).status().rotations, 3);
        assert_eq!(state(&mut world, device), ["a", "b"], "device {device}");
        assert_sound(&mut world, device);
    }
}

#[test]
fn a_removed_device_that_was_read_behind_its_removal_spoils_no_archive() {
    let mut world = World::with_group(4);
    push_all(&mut world, 3, &["a"]);
    world.crash(2);
    let (now, gone) = (world.now_at(0), world.id(3));
    world.engine(0).revoke(now, gone).expect("a member");
    world.settle();
    world.crash(3);
    // Made again it begins with the newest keys, behind which all comes that was said before them.
    world.wipe_relay();
    push_all(&mut world, 1, &["b"]);
    world.advance(120_000);
    let reader = world.pair(0, "reader");
    assert_eq!(world.texts(reader).len(), 2, "it has read the log from its first entry");
    compact(&mut world, reader, b"a b");
    let later = world.pair(reader, "later");
    assert_eq!(state(&mut world, later), ["a", "b"]);
    assert!(world.entries(later)[0].snapshot);
    let expected = ["device 0", "device 1", "device 2", "later", "reader"];
    for device in [0, 1, reader, later] {
        assert_eq!(names(&mut world, device), expected, "device {device}");
        assert_sound(&mut world, device);
    }
    compact(&mut world, later, b"a b");
    let floor = newest(&world).1.floors[0].cursor + 1;
    world.relay.log.as_mut().expect("created").move_floor(floor);
    world.start(2);
    world.advance(60_000);
    assert_eq!(
        (state(&mut world, 2), names(&mut world, 2)),
        (vec!["a".to_owned(), "b".to_owned()], expected.map(str::to_owned).to_vec())
    );
    assert_sound(&mut world, 2);
}

#[test]
fn a_snapshot_larger_than_an_entry_arrives_whole() {
    let mut world = World::with_group(2);
    let large: String = (0..300_000).map(|n| format!("{n:06} ")).collect();
    compact(&mut world, 1, large.as_bytes());
    let later = world.pair(0, "later");
    assert!(world.entries(later)[0].data == large.as_bytes());
    assert_sound(&mut world, later);
}

#[test]
fn when_the_author_of_a_chain_that_a_snapshot_stands_for_was_heard_from_only_its_receipt_tells() {
    let mut world = World::with_group(2);
    push_all(&mut world, 1, &["a"]);
    compact(&mut world, 0, b"a");
    world.advance(7_000);
    let author = world.id(1);
    world.crash(1);
    let slots = std::mem::take(&mut world.relay.log.as_mut().expect("created").receipts);
    let later = world.pair(0, "later");
    let seen_by = |world: &mut World, device: usize| {
        let members = world.engine(device).status().members;
        members.into_iter().find(|member| member.device == author).expect("a member")
    };
    let unheard = seen_by(&mut world, later);
    assert_eq!((unheard.last_wrote_at_ms, unheard.last_heard_at_ms), (None, None));
    assert!(!unheard.is_stale(u64::MAX), "nothing is known of it");

    world.relay.log.as_mut().expect("created").receipts.extend(slots);
    world.cut(later);
    world.advance(7_000);
    let heard = seen_by(&mut world, later);
    assert_eq!(heard.last_wrote_at_ms, None);
    assert!(heard.last_heard_at_ms > Some(0));
    assert_eq!(heard.last_heard_at_ms, seen_by(&mut world, 0).last_heard_at_ms);
}

#[test]
fn a_device_that_began_with_a_snapshot_has_what_that_stands_for() {
    let mut world = World::with_group(2);
    push_all(&mut world, 1, &["a", "b"]);
    compact(&mut world, 0, b"a b");
    let later = world.pair(0, "later");
    world.advance(7_000);
    let (heads, id) = (world.engine(1).heads(), world.id(later));
    assert!(world.engine(1).has_all_of(&id, &heads), "its receipt names the chains up to there");
    let number = world.push(1, "c");
    world.advance(7_000);
    assert_eq!(world.engine(1).status().everywhere_push, number);
    let number = world.push(later, "d");
    world.advance(7_000);
    assert_eq!(world.engine(later).status().everywhere_push, number);
    for device in [0, 1, later] {
        assert_sound(&mut world, device);
    }
}

#[test]
fn what_comes_while_a_snapshot_is_made_is_read_behind_it() {
    let mut world = World::with_group(2);
    push_all(&mut world, 1, &["a"]);
    world.cut_losing(0, Loss::Silence);
    try_compact(&mut world, 0, b"a").expect("complete as far as it knows");
    world.push(0, "b");
    push_all(&mut world, 1, &["c", "d"]);
    world.advance(120_000);
    let later = world.pair(1, "later");
    let mut read = state(&mut world, later);
    read.sort();
    assert_eq!(read, ["a", "b", "c", "d"]);
    assert!(world.entries(later)[0].snapshot);
    assert_sound(&mut world, later);
}

#[test]
fn a_snapshot_that_would_leave_something_out_is_not_made() {
    let mut world = World::with_group(2);
    push_all(&mut world, 1, &["a", "b"]);
    let now = world.now_at(0);
    world.engine(0).mark_processed(now, 1);
    assert_eq!(world.engine(0).compact(now, Bytes::new()), Err(CompactError::NotProcessed { position: 2 }));
    world.relay_up = false;
    world.restart_relay();
    world.push(0, "not at the relay");
    assert_eq!(try_compact(&mut world, 0, b""), Err(CompactError::NotCaughtUp));
    world.relay_up = true;
    world.advance(120_000);
    let now = world.now_at(0);
    assert_eq!(world.engine(0).compact(now, Bytes::new()), Ok(()), "complete again");
    assert_eq!(world.engine(0).compact(now, Bytes::new()), Err(CompactError::UnderWay));
    world.settle();
    let large = vec![0; 33 * 1024 * 1024];
    assert!(matches!(try_compact(&mut world, 0, &large), Err(CompactError::TooLarge { .. })));
}

#[test]
fn s_sm_03_a_device_that_dies_while_it_makes_a_snapshot_leaves_a_whole_one_or_none() {
    for outputs in 1..=14 {
        let mut world = World::with_group(2);
        push_all(&mut world, 1, &["a", "b"]);
        let position = world.engine(0).status().position;
        let now = world.now_at(0);
        world.engine(0).mark_processed(now, position);
        world.settle();
        world.devices[0].crash_after = Some(outputs);
        let state_bytes = "a b".as_bytes();
        world.engine(0).compact(now, Bytes::copy_from_slice(state_bytes)).expect("complete");
        world.settle();
        if world.devices[0].is_running() {
            world.crash(0);
        }
        world.devices[0].crash_after = None;
        world.start(0);
        world.advance(60_000);
        push_all(&mut world, 0, &["c"]);
        let later = world.pair(0, "later");
        for device in [0, 1, later] {
            assert_eq!(state(&mut world, device), ["a", "b", "c"], "device {device}, after {outputs} outputs");
            assert_sound(&mut world, device);
        }
    }
}

#[test]
fn s_sm_03_a_device_that_dies_while_it_begins_with_a_snapshot_begins_again() {
    for outputs in 1..=20 {
        let mut world = World::with_group(2);
        push_all(&mut world, 1, &["a", "b"]);
        compact(&mut world, 0, b"a b");
        push_all(&mut world, 1, &["c"]);
        let later = world.begin_joining(0, "later");
        world.settle();
        let now = world.now_at(0);
        world.engine(0).accept_joiner_unchecked(now);
        world.settle();
        world.devices[later].crash_after = Some(outputs);
        world.start(later);
        world.settle();
        if world.devices[later].is_running() {
            world.crash(later);
        }
        world.devices[later].crash_after = None;
        world.start(later);
        world.advance(60_000);
        assert_eq!(state(&mut world, later), ["a", "b", "c"], "after {outputs} outputs");
        assert_sound(&mut world, later);
    }
}

#[test]
fn a_snapshot_that_is_not_in_the_log_is_not_made_up_for() {
    // Lost, and another in its place: the log is there from its first entry, so that is read.
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a", "b"]);
    compact(&mut world, 0, b"a b");
    let later = world.begin_joining(1, "later");
    world.settle();
    let now = world.now_at(1);
    world.engine(1).accept_joiner_unchecked(now);
    world.settle();
    let manifest = world.relay.entries().len() - 1;
    let other = world.relay.entries()[0].clone();
    world.relay.entries_mut()[manifest] = other;
    world.start(later);
    world.settle();
    assert_eq!(world.texts(later), ["a", "b"], "read from the first entry on");
    assert!(world.findings(later).iter().any(|finding| matches!(finding, IntegrityEvent::Replayed { .. })));
}

#[test]
fn a_log_rolled_back_to_before_the_snapshot_is_healed_also_for_who_began_with_it() {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a", "b"]);
    compact(&mut world, 0, b"a b");
    push_all(&mut world, 1, &["c"]);
    let later = world.pair(0, "later");
    push_all(&mut world, later, &["d"]);
    let entries = world.relay.entries().len();
    world.roll_back_relay(entries - 4, true);
    world.advance(120_000);
    push_all(&mut world, 1, &["e"]);
    world.advance(120_000);
    for device in [0, 1, later] {
        assert_eq!(state(&mut world, device), ["a", "b", "c", "d", "e"], "device {device}");
        assert_sound(&mut world, device);
    }
    let last = world.pair(later, "last");
    world.advance(120_000);
    assert_eq!(state(&mut world, last), ["a", "b", "c", "d", "e"]);
    assert_sound(&mut world, last);
}

#[test]
fn a_wiped_relay_is_made_again_by_a_device_that_began_with_a_snapshot() {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a", "b"]);
    compact(&mut world, 0, b"a b");
    push_all(&mut world, 1, &["c"]);
    let later = world.pair(0, "later");
    world.crash(0);
    world.crash(1);
    world.wipe_relay();
    world.advance(180_000);
    let last = world.pair(later, "last");
    world.advance(60_000);
    push_all(&mut world, last, &["d"]);
    for device in [later, last] {
        assert_eq!(state(&mut world, device), ["a", "b", "c", "d"], "device {device}");
        assert_sound(&mut world, device);
    }
    world.start(0);
    world.start(1);
    world.advance(180_000);
    for device in [0, 1, later, last] {
        assert_eq!(state(&mut world, device), ["a", "b", "c", "d"], "device {device}");
        assert_sound(&mut world, device);
    }
}

/// The parts and the manifest of the newest snapshot in the log.
pub fn newest(world: &World) -> (Vec<Bytes>, Manifest) {
    let (_, keyring) = world.keys(0);
    let open = |stored: &Stored| seal::open(&keyring, stored.envelope.as_ref()?).ok();
    let entries: Vec<Content> =
        world.relay.entries().iter().filter_map(open).map(|entry| entry.claims().clone()).collect();
    let commit = entries.iter().rev().find(|entry| entry.kind == Kind::SNAPSHOT).expect("there is one");
    let manifest = Manifest::parse(&commit.body).expect("sound");
    let parts = commit.seq - manifest.parts..commit.seq;
    let parts = entries.iter().filter(|entry| entry.sender == commit.sender && parts.contains(&entry.seq));
    (parts.map(|part| part.body.clone()).collect(), manifest)
}

#[test]
fn a_snapshot_that_contradicts_the_log_is_refused_and_reported() {
    type Forge = fn(&mut Manifest, &mut Vec<u8>);
    let forgeries: [(&str, Forge); 9] = [
        ("another entry at a head", |manifest, _| head(manifest, |head| head.blob_id = BlobId([9; 32]))),
        ("another entry behind a head", |manifest, _| head(manifest, |head| head.seq -= 1)),
        ("another epoch", |manifest, _| manifest.epoch = EpochId([9; 8])),
        ("another epoch's envelope", |manifest, _| manifest.epoch_blob_id = BlobId([9; 32])),
        ("an archive that is cut off", |manifest, _| manifest.archive_bytes -= 100),
        ("an archive that leaves a device out", |manifest, bytes| {
            let first = 4 + u32::from_le_bytes(bytes[..4].try_into().expect("four")) as usize;
            bytes.drain(first..manifest.archive_bytes as usize);
            manifest.archive_bytes = first as u64;
            manifest.bytes = bytes.len() as u64;
        }),
        ("an archive without its beginning", |manifest, bytes| {
            let first = 4 + u32::from_le_bytes(bytes[..4].try_into().expect("four")) as usize;
            bytes.drain(..first);
            manifest.archive_bytes -= first as u64;
            manifest.bytes = bytes.len() as u64;
        }),
        ("an archive with something else in it", |manifest, bytes| {
            let more = [&3_u32.to_le_bytes()[..], b"abc"].concat();
            bytes.splice(0..0, more.iter().copied());
            manifest.archive_bytes += more.len() as u64;
            manifest.bytes += more.len() as u64;
        }),
        ("parts that are not there", |manifest, _| manifest.bytes += 1),
    ];
    fn head(manifest: &mut Manifest, change: impl FnOnce(&mut Head)) {
        let mut heads = manifest.heads.clone().into_vec();
        // The device that is not the forger, which has written a name and two blobs.
        let at = heads.iter().position(|head| head.seq == 4).expect("the founder");
        change(&mut heads[at]);
        manifest.heads = heads.try_into().expect("as many");
    }
    for (what, forge) in forgeries {
        let mut world = World::with_group(2);
        push_all(&mut world, 0, &["a", "b"]);
        compact(&mut world, 1, b"a b");
        world.crash(1);
        let (parts, mut manifest) = newest(&world);
        let mut bytes = parts.concat();
        forge(&mut manifest, &mut bytes);
        let (me, _) = world.keys(1);
        let last = world.relay.entries().last().expect("the manifest").blob_id;
        let seq = {
            let (_, keyring) = world.keys(0);
            let envelope = world.relay.entries().last().and_then(|stored| stored.envelope.clone()).expect("whole");
            seal::open(&keyring, &envelope).expect("an entry").claims().seq
        };
        let bodies = [(Kind::PART, bytes), (Kind::SNAPSHOT, wire::encode(&manifest))];
        write(&mut world, &me, (seq, last), bodies);
        // It stands at the very heads then that the snapshot names.
        world.cut(0);
        world.advance(10_000);
        push_all(&mut world, 0, &["c"]);
        // An epoch that is none here might still come.
        world.advance(60_000);
        let (sender, seq) = (me.device(), seq + 2);
        assert_eq!(world.findings(0), [IntegrityEvent::FalseSnapshot { sender, seq }], "{what}");
        let later = world.pair(0, "later");
        assert_eq!(state(&mut world, later), ["a", "b", "c"], "{what}");
        assert_eq!(world.entries(later)[0].data, "a b", "the one before counts: {what}");
    }
}

#[test]
fn a_batch_that_is_on_its_way_is_in_the_snapshot_or_behind_it() {
    let mut world = World::with_group(2);
    let large: String = (0..200_000).map(|n| format!("{n:06} ")).collect();
    let before = world.relay.entries().len();
    world.push(1, &large);
    while world.relay.entries().len() < before + 2 {
        assert!(world.step(world.now_ms() + 60_000), "something is on its way");
    }
    world.crash(1);
    world.settle();
    assert_eq!(try_compact(&mut world, 0, b""), Err(CompactError::NotCaughtUp));
    world.start(1);
    world.settle();
    compact(&mut world, 0, large.as_bytes());
    let later = world.pair(0, "later");
    assert!(world.entries(later)[0].data == large.as_bytes());
}

#[test]
fn a_part_that_another_member_forged_keeps_nobody_from_beginning() {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a"]);
    let (author, _) = world.keys(0);
    let (forger, keyring) = world.keys(1);
    let opened = |stored: &Stored| seal::open(&keyring, stored.envelope.as_ref()?).ok();
    let written = world.relay.entries().iter().filter_map(opened).map(|entry| entry.claims().clone());
    let last = written.filter(|entry| entry.sender == author.device()).last().expect("a");
    try_compact(&mut world, 0, b"a").expect("complete");
    let forged = Content { seq: last.seq + 1, kind: Kind::PART, body: Bytes::from_static(b"forged"), ..last };
    let sealed = seal::seal(keyring.group(), keyring.current(), &forger.signing, [1; 24], &forged).expect("small");
    append(&mut world, sealed);
    world.settle();
    let later = world.pair(0, "later");
    push_all(&mut world, later, &["b"]);
    assert_eq!(state(&mut world, 0), ["a", "b"]);
    assert_eq!(state(&mut world, later), ["a", "b"]);
    assert!(world.entries(later)[0].snapshot);
}

#[test]
fn a_snapshot_is_compared_once_everything_that_it_covers_is_here() {
    let mut world = World::with_group(3);
    push_all(&mut world, 0, &["a"]);
    world.crash(2);
    push_all(&mut world, 0, &["b"]);
    compact(&mut world, 1, b"a b");
    world.start(2);
    world.settle();
    assert_sound(&mut world, 2);
    let later = world.pair(2, "later");
    assert!(world.entries(later)[0].snapshot, "device 2 has found it sound");
    assert_sound(&mut world, later);
}

#[test]
fn of_two_snapshots_every_device_ends_with_the_same() {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a"]);
    try_compact(&mut world, 0, b"a").expect("complete");
    try_compact(&mut world, 1, b"a").expect("complete");
    world.settle();
    push_all(&mut world, 1, &["b"]);
    let (one, other) = (world.pair(0, "one"), world.pair(1, "other"));
    assert_eq!(world.entries(one)[0].blob_id, world.entries(other)[0].blob_id);
    for device in [0, 1, one, other] {
        assert_eq!(state(&mut world, device), ["a", "b"]);
        assert_sound(&mut world, device);
    }
}

#[test]
fn a_log_that_has_outgrown_its_snapshot_is_said_once_to_one_device() {
    let mut world = World::with_group(2);
    let advised = |world: &World, device: usize| {
        world.devices[device].events.iter().filter(|event| matches!(event, Event::CompactionAdvised { .. })).count()
    };
    let blob = "x".repeat(60_000);
    let fill = |world: &mut World, count: usize| {
        for _ in 0..count {
            world.push(0, &blob);
        }
        world.settle();
    };
    fill(&mut world, 60);
    assert_eq!((advised(&world, 0), advised(&world, 1)), (0, 0), "below the least that counts");
    fill(&mut world, 8);
    assert_eq!(advised(&world, 0) + advised(&world, 1), 1, "the other's turn comes later");
    let first = usize::from(advised(&world, 1) == 1);
    compact(&mut world, first, &vec![b'x'; 2_000_000]);
    fill(&mut world, 80);
    assert_eq!(advised(&world, 0) + advised(&world, 1), 1, "four times the snapshot is more than that");
    fill(&mut world, 60);
    assert_eq!(advised(&world, first), 2);
}
