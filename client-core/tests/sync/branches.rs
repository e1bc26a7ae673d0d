//! A relay that forgets a change of keys that some devices have read: another one may follow the same
//! epoch. Whoever knows both comes to the same members and keys.

use zerok_sync_chaos::sim::World;
use zerok_sync_chaos::sim::relay::{Log, Stored};
use zerok_sync_core::keys::{EpochKeys, EpochSecret, MemberKeys};
use zerok_sync_core::{IntegrityEvent, Problem, epoch, seal};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{BlobId, EnvelopeHeader, EnvelopeType, ErrorCode, Timeline};

use crate::epochs::{Change, everybody};
use crate::granted::let_in;

/// What is needed for delays, backoff, a round of repair and a third epoch.
const SETTLE_MS: u64 = 180_000;

/// A group of four; device 3 away since everybody was there.
fn world() -> World {
    let mut world = World::with_group(4);
    world.push(0, "before");
    world.settle();
    world.crash(3);
    world
}

fn revoke(world: &mut World, by: usize, device: usize) {
    let (now, id) = (world.now_at(by), world.keys(device).0.device());
    world.engine(by).revoke(now, id).expect("both are members");
    world.drain(by);
}

fn rotate(world: &mut World, by: usize) {
    let now = world.now_at(by);
    world.engine(by).rotate(now).expect("a member");
    world.drain(by);
}

/// The relay's database as it was once.
struct Copy {
    log: Log,
    epoch_envelope: Option<bytes::Bytes>,
}

impl Copy {
    fn of(world: &World) -> Self {
        let log = world.relay.log.clone().expect("created");
        Self { log, epoch_envelope: world.relay.epoch_envelope.clone() }
    }

    /// It is put back, and the relay says so; only `there` is running then.
    fn put_back(self, world: &mut World, there: usize) {
        for device in 0..3 {
            world.crash(device);
        }
        world.relay.log = Some(Log { timeline: Timeline([9; 8]), ..self.log });
        world.relay.epoch_envelope = self.epoch_envelope;
        world.start(there);
        world.advance(10_000);
    }
}

fn is_epoch(envelope: &[u8]) -> bool {
    EnvelopeHeader::parse(envelope).is_ok_and(|(header, _)| header.kind == EnvelopeType::Epoch)
}

fn unknown_log() -> Problem {
    let code = ErrorCode::UnknownLog;
    Problem::Refused { code: Some(code), number: code.number(), detail: String::new() }
}

fn in_step(world: &mut World, devices: &[usize], names: &[&str]) {
    let epoch = world.engine(devices[0]).status().epoch;
    for &device in devices {
        let status = world.engine(device).status();
        let mut members: Vec<String> = status.members.into_iter().map(|member| member.name).collect();
        members.sort();
        assert_eq!(members, names, "device {device}");
        assert_eq!((status.epoch, status.problem, status.rotating), (epoch, None, false), "device {device}");
        assert_eq!(world.findings(device), [], "device {device}");
    }
    let mut texts: Vec<Vec<String>> = devices.iter().map(|&device| world.texts(device)).collect();
    texts.iter_mut().for_each(|texts| texts.sort());
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
}

#[test]
fn d_rev_02_two_changes_of_keys_after_one_epoch_are_united_by_a_third() {
    let mut world = world();
    let copy = Copy::of(&world);
    rotate(&mut world, 0);
    world.settle();
    copy.put_back(&mut world, 3);
    rotate(&mut world, 3);
    world.advance(10_000);
    (0..3).for_each(|device| world.start(device));
    world.advance(SETTLE_MS);
    world.push(1, "after");
    world.advance(SETTLE_MS);
    in_step(&mut world, &[0, 1, 2, 3], &["device 0", "device 1", "device 2", "device 3"]);
    assert!(world.engine(0).status().rotations >= 3);
}

#[test]
fn d_rev_02_what_either_of_two_branches_removed_is_removed_and_what_was_written_in_both_is_read() {
    let mut world = world();
    world.push(2, "last words");
    world.settle();
    let copy = Copy::of(&world);
    revoke(&mut world, 0, 1);
    world.settle();
    world.push(0, "in the one");
    world.settle();
    copy.put_back(&mut world, 3);
    revoke(&mut world, 3, 2);
    world.advance(10_000);
    world.push(3, "in the other");
    world.advance(10_000);
    (0..3).for_each(|device| world.start(device));
    world.advance(SETTLE_MS);
    in_step(&mut world, &[0, 3], &["device 0", "device 3"]);
    assert_eq!(world.engine(1).status().problem, Some(Problem::Revoked));
    // Its newest name is one that the relay forgot: to it, somebody else may have made this log.
    let out = [Some(Problem::Revoked), Some(unknown_log())];
    assert!(out.contains(&world.engine(2).status().problem), "{:?}", world.engine(2).status().problem);
    assert!(!world.texts(2).contains(&"in the other".into()));
    let texts = world.texts(3);
    assert!(["before", "last words", "in the one", "in the other"].iter().all(|text| texts.contains(&(*text).into())));
}

#[test]
fn d_rev_02_two_that_removed_each_other_and_were_read_in_two_orders_are_a_matter_for_people() {
    let mut world = world();
    let (first, second) = (world.keys(0).0.device(), world.keys(3).0.device());
    let copy = Copy::of(&world);
    revoke(&mut world, 0, 3);
    world.settle();
    copy.put_back(&mut world, 3);
    revoke(&mut world, 3, 0);
    world.advance(10_000);
    world.start(1);
    world.advance(SETTLE_MS);
    let conflict = |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::MembershipConflict { one, other, .. } if (*one, *other) == (first, second));
    assert!(world.findings(1).iter().any(conflict), "{:?}", world.findings(1));
    world.push(1, "not sent by either's keys");
    world.advance(SETTLE_MS);
    assert_eq!(world.engine(1).status().outbox_count, 1, "nobody decides that but a person");
}

#[test]
fn d_rev_02_nothing_is_sealed_under_keys_of_a_branch_that_did_not_know_of_a_removal() {
    // Which of two branches is the group's depends on chance.
    for seed in 0..6 {
        let mut world = World::seeded(seed);
        world.form_group(4);
        world.crash(3);
        let copy = Copy::of(&world);
        revoke(&mut world, 0, 1);
        world.settle();
        copy.put_back(&mut world, 3);
        for _ in 0..2 {
            rotate(&mut world, 3);
            world.advance(10_000);
        }
        world.crash(3);
        world.start(2);
        // Whoever was removed in the one branch was handed these in the other.
        let (_, theirs) = world.keys(3);
        world.start(0);
        world.push(0, "for those who stay");
        world.advance(SETTLE_MS);
        let status = world.engine(0).status();
        assert_eq!((status.outbox_count, status.problem), (0, None), "seed {seed}");
        let envelopes = world.relay.entries().iter().filter_map(|stored| stored.envelope.as_deref());
        let newest = envelopes.filter(|envelope| !is_epoch(envelope)).last().expect("pushed");
        assert!(seal::open(&theirs, newest).is_err(), "seed {seed}");
        world.start(3);
        world.advance(SETTLE_MS);
        in_step(&mut world, &[0, 2, 3], &["device 0", "device 2", "device 3"]);
    }
}

#[test]
fn b_wipe_a_log_made_again_after_a_change_of_keys_is_read_whole_by_who_joins_later() {
    let mut world = World::with_group(3);
    world.push(0, "first");
    world.settle();
    rotate(&mut world, 1);
    world.settle();
    world.push(2, "second");
    world.settle();
    rotate(&mut world, 0);
    world.settle();
    world.wipe_relay();
    world.advance(SETTLE_MS);
    let later = world.pair(0, "device 3");
    world.advance(SETTLE_MS);
    in_step(&mut world, &[0, 1, 2, later], &["device 0", "device 1", "device 2", "device 3"]);
    assert_eq!(world.texts(later), ["first", "second"]);
}

#[test]
fn b_wipe_a_device_that_was_away_during_a_change_of_keys_gets_back_into_the_log_that_was_made_again() {
    let mut world = world();
    rotate(&mut world, 1);
    world.settle();
    world.push(2, "second");
    world.settle();
    world.wipe_relay();
    world.advance(SETTLE_MS);
    world.start(3);
    world.push(3, "back");
    world.advance(SETTLE_MS);
    in_step(&mut world, &[0, 1, 2, 3], &["device 0", "device 1", "device 2", "device 3"]);
    assert_eq!(world.texts(0), ["before", "second", "back"]);
}

/// A member's changes of keys in a group of two, as many as there are secrets, beginning behind its first
/// epoch.
fn branch(world: &World, author: usize, also_to: &[MemberKeys], secrets: &[[u8; 32]]) -> Vec<Stored> {
    let members = everybody(world, 2);
    let keyring = world.keys(0).1;
    let first = keyring.iter().next().expect("the group's first epoch").id;
    let mut previous = (first, world.relay.entries()[0].blob_id);
    let mut stored = Vec::new();
    for &secret in secrets {
        let secrets = Vec::new();
        let change = Change { author, secret, previous, members: &members, also_to, removed: &[], secrets };
        let sealed = change.seal(world);
        previous = (EpochKeys::derive(keyring.group(), &EpochSecret::from_bytes(secret)).id, sealed.blob_id);
        stored.push(Stored { blob_id: sealed.blob_id, envelope: Some(sealed.envelope) });
    }
    stored
}

#[test]
fn a_device_that_was_let_in_in_the_branch_that_gives_way_has_joined_once_it_has_read_that() {
    let mut world = World::with_group(2);
    let common = world.relay.entries().len();
    rotate(&mut world, 0);
    world.settle();
    let joiner = let_in(&mut world, 0);
    let also_to = [world.keys(joiner).0.keys];
    let longer = branch(&world, 1, &also_to, &[[42; 32], [43; 32]]);
    world.relay.entries_mut().splice(common..common, longer);
    world.start(joiner);
    world.settle();
    let status = world.engine(joiner).status();
    assert_eq!((status.rotations, status.joining), (3, false), "nothing is missing, and nobody writes any more");
}

#[test]
fn a_branch_that_its_inviter_did_not_know_keeps_no_device_out_and_is_followed_once_somebody_hands_on_its_keys() {
    // Which of the two branches is the group's depends on their BlobIds.
    for number in 1..=4 {
        let mut world = World::with_group(2);
        let common = world.relay.entries().len();
        rotate(&mut world, 0);
        world.settle();
        let joiner = let_in(&mut world, 0);
        let mut other = branch(&world, 1, &[], &[[number; 32]]);
        world.relay.entries_mut().splice(common..common, other.drain(..));
        world.start(joiner);
        world.push(joiner, "here");
        world.settle();
        let status = world.engine(joiner).status();
        assert_eq!((status.problem, status.joining, status.outbox_count), (None, false, 0));
        world.advance(31_000);
        let told = |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::Corrupt { cursor, .. } if *cursor == common as u64 + 1);
        assert!(world.findings(joiner).iter().any(told), "{:?}", world.findings(joiner));

        (0..2).for_each(|device| world.start(device));
        world.advance(SETTLE_MS);
        world.crash(joiner);
        world.start(joiner);
        world.advance(SETTLE_MS);
        let epoch = world.engine(0).status().epoch;
        let status = world.engine(joiner).status();
        assert_eq!((status.epoch, status.members.len()), (epoch, 3), "{number}: {status:?}");
        assert_eq!(world.texts(0), ["here"]);
    }
}

/// Each change of keys in the log: its envelope, and the one that it follows.
fn changes(world: &World) -> Vec<(BlobId, BlobId)> {
    let (_, keyring) = world.keys(0);
    let opened = world.relay.entries().iter().filter_map(|stored| {
        let envelope = stored.envelope.as_ref()?;
        let (header, _) = EnvelopeHeader::parse(envelope).ok()?;
        let epoch = epoch::open_epoch(keyring.group(), keyring.get(&header.epoch)?, envelope).ok()?;
        Some((stored.blob_id, epoch.claims().previous_blob_id))
    });
    opened.filter(|(_, previous)| !previous.is_zero()).collect()
}

#[test]
fn d_rev_02_of_two_branches_the_longer_one_goes_on_and_of_equals_the_one_with_the_smaller_blob_id() {
    for longer in [false, true] {
        for seed in 0..3 {
            let mut world = World::seeded(seed);
            world.form_group(4);
            world.crash(3);
            let copy = Copy::of(&world);
            rotate(&mut world, 0);
            world.settle();
            if longer {
                rotate(&mut world, 1);
                world.settle();
            }
            let one = world.relay.epoch_envelope.as_deref().map(blob_id).expect("rotated");
            copy.put_back(&mut world, 3);
            rotate(&mut world, 3);
            world.advance(10_000);
            let other = world.relay.epoch_envelope.as_deref().map(blob_id).expect("rotated");
            (0..3).for_each(|device| world.start(device));
            world.advance(SETTLE_MS);
            let goes_on = if longer { one } else { one.min(other) };
            let followed = changes(&world).into_iter().map(|(_, previous)| previous);
            let followed: Vec<BlobId> = followed.filter(|previous| [one, other].contains(previous)).collect();
            assert!(!followed.is_empty() && followed.iter().all(|previous| *previous == goes_on), "seed {seed}");
        }
    }
}
