//! Recovery words: enrolled, and a group that comes back from them when every device is gone; a
//! relay that offers something else.

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerok_sync_chaos::sim::World;
use zerok_sync_chaos::sim::relay::Stored;
use zerok_sync_core::epoch::{EpochBody, MemberDigest, seal_epoch, seal_genesis};
use zerok_sync_core::genesis::{Genesis, GenesisRandom};
use zerok_sync_core::keyring::Keyring;
use zerok_sync_core::keys::{EpochSecret, MemberKeys, Membership};
use zerok_sync_core::recovery::anchor::Anchor;
use zerok_sync_core::{
    Connection, Event, IntegrityEvent, MembershipError, Recovery, RecoveryWords, RestoreError, Status,
};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, EnvelopeHeader, EnvelopeType};

fn status(world: &mut World, device: usize) -> Status {
    world.engine(device).status()
}

fn is_ready(world: &mut World, device: usize) -> bool {
    matches!(status(world, device).recovery, Recovery::Ready { .. })
}

fn rotate(world: &mut World, by: usize) {
    let now = world.now_at(by);
    world.engine(by).rotate(now).expect("a member");
    world.settle();
}

fn names(world: &mut World, device: usize) -> Vec<String> {
    let mut names: Vec<_> = status(world, device).members.into_iter().map(|member| member.name).collect();
    names.sort();
    names
}

/// A group of this many devices with words, and one entry of each.
fn group_with_words(devices: usize) -> (World, RecoveryWords) {
    group_of_seed(0, devices)
}

fn group_of_seed(seed: u64, devices: usize) -> (World, RecoveryWords) {
    let mut world = World::seeded(seed);
    world.form_group(devices);
    let words = world.make_words(0);
    world.settle();
    for device in 0..devices {
        assert!(is_ready(&mut world, device), "{:?}", status(&mut world, device));
        world.push(device, &format!("from {device}"));
        world.settle();
    }
    (world, words)
}

fn lose_all(world: &mut World) {
    for device in 0..world.devices.len() {
        world.crash(device);
        world.devices[device].storage.clear();
    }
}

fn refused(world: &mut World, words: &RecoveryWords) -> RestoreError {
    let device = world.begin_restoring(words.clone(), "refused");
    world.settle();
    assert!(world.devices[device].storage.is_empty(), "nothing is stored");
    match world.devices[device].events.last() {
        Some(Event::RestoreFailed(error)) => error.clone(),
        other => panic!("{other:?}"),
    }
}

/// An epoch behind the newest that somebody knows, wrapped to somebody's paper as well.
fn epoch_wrapped_to((me, keyring): &(Membership, Keyring), secret: &EpochSecret, paper: &MemberKeys) -> Bytes {
    let members = [me.keys.clone(), paper.clone()];
    let body = EpochBody {
        sender: me.device(),
        seq: 2,
        prev: BlobId::ZERO,
        seen: List::empty(),
        previous_epoch: keyring.current().id,
        previous_blob_id: BlobId::ZERO,
        removed: List::empty(),
        member_digest: MemberDigest::of(members.iter().map(|keys| keys.device)),
        allow: List::empty(),
        keyring: List::try_from(keyring.secrets().cloned().collect::<Vec<_>>()).expect("few"),
        lamport: 9,
        sent_at_ms: 0,
        genesis: Bytes::new(),
    };
    let mut rng = ChaCha20Rng::from_seed([5; 32]);
    seal_epoch(keyring.group(), secret, &me.signing, &members, &body, &mut rng).expect("small").envelope
}

#[test]
fn d_rec_01_the_words_bring_the_whole_group_back_when_every_device_is_lost() {
    let (mut world, words) = group_with_words(2);
    lose_all(&mut world);
    let back = world.restore(words, "new");
    assert_eq!(world.texts(back), ["from 0", "from 1"]);
    assert_eq!(names(&mut world, back), ["device 0", "device 1", "new", "recovery words"]);
    let now = status(&mut world, back);
    assert_eq!((now.connection, now.problem, now.joining, now.outbox_count), (Connection::Live, None, false, 0));
    assert_eq!(world.findings(back), []);
    assert!(is_ready(&mut world, back), "the words stay good");
    world.push(back, "after");
    let lost = status(&mut world, back).find_device("device 1").expect("named");
    let at = world.now_at(back);
    world.engine(back).revoke(at, lost).expect("a member");
    world.settle();
    assert_eq!(names(&mut world, back), ["device 0", "new", "recovery words"]);
    assert_eq!(world.texts(back), ["from 0", "from 1", "after"]);
}

#[test]
fn d_rec_01_the_words_are_as_good_after_rotations_and_a_removal() {
    let (mut world, words) = group_with_words(3);
    rotate(&mut world, 1);
    let gone = world.id(2);
    let now = world.now_at(1);
    world.engine(1).revoke(now, gone).expect("a member");
    world.settle();
    world.push(0, "behind the removal");
    world.settle();
    rotate(&mut world, 0);
    world.push(1, "behind all of it");
    world.settle();
    lose_all(&mut world);
    let back = world.restore(words.clone(), "new");
    assert_eq!(world.texts(back), ["from 0", "from 1", "from 2", "behind the removal", "behind all of it"]);
    assert_eq!(names(&mut world, back), ["device 0", "device 1", "new", "recovery words"]);
    assert_eq!(world.findings(back), []);
    // And once more, from the same words.
    rotate(&mut world, back);
    lose_all(&mut world);
    let again = world.restore(words, "newer");
    assert_eq!(world.texts(again).len(), 5);
    assert_eq!(world.findings(again), []);
}

#[test]
fn a_device_that_is_left_sees_the_restored_one_and_goes_on_with_it() {
    let (mut world, words) = group_with_words(2);
    world.crash(1);
    let back = world.restore(words, "new");
    world.push(back, "hello");
    world.settle();
    assert_eq!(world.texts(0), ["from 0", "from 1", "hello"]);
    assert_eq!(names(&mut world, 0), names(&mut world, back));
    assert_eq!(world.findings(0), []);
}

#[test]
fn enrolling_goes_on_after_a_crash_at_any_point() {
    for outputs in 1..60 {
        let mut world = World::with_group(1);
        world.devices[0].crash_after = Some(outputs);
        let words = world.engine(0).draft_recovery().words;
        let now = world.now_at(0);
        world.engine(0).enrol_recovery(now, words.clone()).expect("a member");
        world.settle();
        world.devices[0].crash_after = None;
        if !world.devices[0].is_running() {
            world.start(0);
        }
        world.settle();
        world.advance(120_000);
        match status(&mut world, 0).recovery {
            Recovery::Ready { .. } => {}
            // It crashed before the wish was on disk.
            Recovery::None => continue,
            Recovery::UnderWay => panic!("stuck after {outputs} outputs"),
        }
        assert_eq!(world.findings(0), [], "after {outputs} outputs");
        lose_all(&mut world);
        let back = world.restore(words, "new");
        assert_eq!(world.findings(back), [], "after {outputs} outputs");
    }
}

#[test]
fn the_words_are_forgotten_once_they_are_enrolled_and_never_stored_in_clear() {
    let mut world = World::with_group(1);
    world.relay_up = false;
    world.cut(0);
    let words = world.make_words(0);
    world.settle();
    let holds = |world: &World, secret: &[u8]| {
        world.devices[0].storage.values().any(|row| row.windows(secret.len()).any(|part| part == secret))
    };
    assert!(!holds(&world, words.expose()));
    assert!(world.devices[0].storage.contains_key(b"\x01w".as_slice()), "the wish is durable");
    world.relay_up = true;
    world.advance(120_000);
    assert!(is_ready(&mut world, 0));
    assert!(!holds(&world, words.expose()));
}

#[test]
fn newer_words_take_the_place_of_older_ones() {
    let (mut world, older) = group_with_words(2);
    let newer = world.make_words(1);
    world.settle();
    assert!(is_ready(&mut world, 0) && is_ready(&mut world, 1));
    assert_eq!(names(&mut world, 0), ["device 0", "device 1", "recovery words"]);
    let now = world.now_at(0);
    assert_eq!(world.engine(0).enrol_recovery(now, older.clone()), Err(MembershipError::WordsUsed));
    lose_all(&mut world);
    assert!(matches!(refused(&mut world, &older), RestoreError::UnknownWords { .. }));
    let back = world.restore(newer, "new");
    assert_eq!(world.texts(back), ["from 0", "from 1"]);
}

#[test]
fn words_that_were_replaced_before_they_were_good_give_way_wherever_their_maker_was_cut_off() {
    for steps in 0..40 {
        let mut world = World::with_group(2);
        world.make_words(0);
        for _ in 0..steps {
            let until = world.now_ms() + 1_000;
            if !world.step(until) {
                break;
            }
        }
        world.crash(0);
        world.make_words(1);
        world.settle();
        world.start(0);
        world.settle();
        world.advance(120_000);
        for device in 0..2 {
            assert!(is_ready(&mut world, device), "after {steps} steps: {:?}", status(&mut world, device));
            assert_eq!(names(&mut world, device), ["device 0", "device 1", "recovery words"]);
        }
    }
}

#[test]
fn words_that_another_device_removes_are_no_words_any_more() {
    let (mut world, words) = group_with_words(2);
    let paper = words.membership().device();
    let now = world.now_at(1);
    world.engine(1).revoke(now, paper).expect("a member");
    world.settle();
    assert_eq!(status(&mut world, 0).recovery, Recovery::None);
    assert!(matches!(refused(&mut world, &words), RestoreError::UnknownWords { .. }));
}

#[test]
fn a_group_of_one_device_needs_words_and_two_or_words_are_enough() {
    let mut world = World::with_group(1);
    assert!(status(&mut world, 0).needs_recovery_words());
    world.make_words(0);
    assert_eq!(status(&mut world, 0).recovery, Recovery::UnderWay);
    world.settle();
    assert!(!status(&mut world, 0).needs_recovery_words());
    let now = world.now_at(0);
    assert_eq!(world.engine(0).leave(now), Err(MembershipError::LastDevice), "paper is no device to leave to");
    let mut two = World::with_group(2);
    assert!(!status(&mut two, 0).needs_recovery_words());
}

#[test]
fn d_rec_01_words_of_nobody_are_told_apart_from_a_relay_that_is_away() {
    let (mut world, _) = group_with_words(1);
    let nobody = RecoveryWords::from_entropy([1; 32]);
    assert!(matches!(refused(&mut world, &nobody), RestoreError::UnknownWords { .. }));
    world.relay_up = false;
    assert!(matches!(refused(&mut world, &nobody), RestoreError::Relay(_)));
}

#[test]
fn d_rec_01_a_group_that_the_relay_made_up_is_refused() {
    // Given another group, which even wraps its keys to this paper …
    let (mut world, words) = group_with_words(1);
    let (other, _) = group_of_seed(1, 1);
    let paper = words.membership().keys;
    let faked = epoch_wrapped_to(&other.keys(0), &EpochSecret::from_bytes([0x5e; 32]), &paper);
    world.relay.log = other.relay.log.clone();
    world.relay.epoch_envelope = Some(faked);
    world.relay.restart();
    lose_all(&mut world);
    world.relay.log.as_mut().expect("a log").allow.insert(paper.noise);
    // … with the anchor as it was, with none, and with one of the other group's words.
    assert_eq!(refused(&mut world, &words), RestoreError::NotYourGroup);
    let right = world.relay.slots.insert(paper.noise, b"\x01 of the relay's own making".to_vec().into());
    assert_eq!(refused(&mut world, &words), RestoreError::NotYourGroup);
    world.relay.slots.remove(&paper.noise);
    assert_eq!(refused(&mut world, &words), RestoreError::AnchorLost);
    let strangers = other.relay.slots.values().next().expect("an anchor").clone();
    world.relay.slots.insert(paper.noise, strangers);
    assert_eq!(refused(&mut world, &words), RestoreError::NotYourGroup);
    assert!(Anchor::open(&words, &right.expect("was there")).is_ok());
}

#[test]
fn d_rec_01_keys_from_before_the_words_and_a_log_that_is_not_the_groups_are_refused() {
    let mut world = World::with_group(2);
    let before = world.relay.epoch_envelope.clone();
    rotate(&mut world, 0);
    let words = world.make_words(0);
    world.settle();
    let now = world.relay.epoch_envelope.clone();
    lose_all(&mut world);
    world.relay.epoch_envelope = before;
    assert_eq!(refused(&mut world, &words), RestoreError::OlderState);
    world.relay.epoch_envelope = now;

    let whole = world.relay.entries().to_vec();
    world.relay.entries_mut().clear();
    assert_eq!(refused(&mut world, &words), RestoreError::NotTheLog);
    *world.relay.entries_mut() = whole[1..].to_vec();
    assert_eq!(refused(&mut world, &words), RestoreError::NotTheLog);
    *world.relay.entries_mut() = whole;
    world.restore(words, "new");
}

#[test]
fn d_rec_01_what_a_removed_device_makes_for_the_relay_is_refused() {
    let mut world = World::with_group(2);
    let removed = world.keys(1);
    let (now, gone) = (world.now_at(0), removed.0.device());
    world.engine(0).revoke(now, gone).expect("a member");
    world.settle();
    let words = world.make_words(0);
    world.settle();
    let paper = words.membership().keys;
    // An epoch behind the ones it knew, wrapped to this very paper.
    let honest = world.relay.epoch_envelope.clone();
    let own = EpochSecret::from_bytes([0x5e; 32]);
    world.relay.epoch_envelope = Some(epoch_wrapped_to(&removed, &own, &paper));
    assert_eq!(refused(&mut world, &words), RestoreError::OlderState);
    world.relay.epoch_envelope = honest;

    // Another beginning of the log, under the keys it had.
    let mut rng = ChaCha20Rng::from_seed([6; 32]);
    let genesis = Genesis::new(GenesisRandom([7; 32]), removed.0.keys.clone());
    let made_up = seal_genesis(&genesis, &removed.1, &removed.0, 0, &mut rng);
    let first = &mut world.relay.entries_mut()[0];
    (first.blob_id, first.envelope) = (made_up.blob_id, Some(made_up.envelope));
    assert_eq!(refused(&mut world, &words), RestoreError::NotTheLog);
}

#[test]
fn d_rec_01_another_envelope_of_the_epoch_that_the_anchor_names_is_refused() {
    let mut world = World::with_group(2);
    let words = world.make_words(0);
    world.settle();
    // A member had its secret, and may have been removed since.
    let member = world.keys(1);
    let secret = member.1.current_secret().clone();
    let paper = words.membership().keys;
    world.relay.epoch_envelope = Some(epoch_wrapped_to(&member, &secret, &paper));
    assert_eq!(refused(&mut world, &words), RestoreError::NotYourGroup);
}

#[test]
fn d_rec_01_a_log_without_the_epoch_that_the_words_are_from_lets_nothing_be_written() {
    let mut world = World::with_group(2);
    world.push(1, "early");
    world.settle();
    let words = world.make_words(0);
    world.settle();
    lose_all(&mut world);
    let is_epoch = |stored: &Stored| {
        let envelope = stored.envelope.as_ref().expect("whole");
        EnvelopeHeader::parse(envelope).is_ok_and(|(header, _)| header.kind == EnvelopeType::Epoch)
    };
    let epoch = world.relay.entries().iter().rposition(is_epoch).expect("they were enrolled by one");
    world.relay.entries_mut().remove(epoch);
    let entries = world.relay.entries().len();
    let device = world.begin_restoring(words, "new");
    world.settle();
    world.start(device);
    world.push(device, "into a log that is not whole");
    world.settle();
    let now = status(&mut world, device);
    assert!(now.joining, "{now:?}");
    assert_eq!(world.relay.entries().len(), entries, "nothing is written");
}

#[test]
fn d_rec_01_a_log_that_lacks_what_was_there_when_the_words_were_made_lets_nothing_be_written() {
    let mut world = World::with_group(2);
    world.push(1, "early");
    world.settle();
    let words = world.make_words(0);
    world.settle();
    lose_all(&mut world);
    // Rolled back to before the entry and the words, but for the epoch that it hands out.
    world.relay.entries_mut().truncate(4);
    let device = world.begin_restoring(words, "new");
    world.settle();
    world.start(device);
    world.push(device, "into a log that is not whole");
    world.settle();
    let now = status(&mut world, device);
    assert!(now.joining && now.caught_up, "{now:?}");
    assert_eq!(world.relay.entries().len(), 4, "nothing is written");
}

#[test]
fn a_relay_that_was_wiped_gets_the_slot_back_from_any_device_without_the_words() {
    for healer in [0, 1] {
        let (mut world, words) = group_with_words(2);
        world.crash(1 - healer);
        let anchor = world.relay.slots.clone();
        world.wipe_relay();
        world.advance(120_000);
        assert!(is_ready(&mut world, healer), "{:?}", status(&mut world, healer));
        assert_eq!(world.relay.slots, anchor, "the very bytes");
        let paper = words.membership().keys.noise;
        assert!(world.relay.log.as_ref().expect("made again").allow.contains(&paper));
    }
}

#[test]
fn a_relay_that_was_rolled_back_to_before_the_words_gets_the_slot_back() {
    let (mut world, words) = group_with_words(2);
    world.relay.slots.clear();
    world.roll_back_relay(1, false);
    world.advance(120_000);
    assert!(is_ready(&mut world, 0) && is_ready(&mut world, 1));
    lose_all(&mut world);
    let back = world.restore(words, "new");
    assert_eq!(world.texts(back), ["from 0", "from 1"]);
}

#[test]
fn a_restored_device_puts_the_slot_back_as_well() {
    let (mut world, words) = group_with_words(1);
    lose_all(&mut world);
    let back = world.restore(words.clone(), "new");
    world.wipe_relay();
    world.advance(120_000);
    assert!(is_ready(&mut world, back), "{:?}", status(&mut world, back));
    assert!(world.relay.slots.contains_key(&words.membership().keys.noise));
}

#[test]
fn a_rotation_by_another_device_in_the_middle_of_enrolling_is_no_fork_and_no_loss() {
    for steps in 0..40 {
        let mut world = World::with_group(2);
        let words = world.make_words(0);
        for _ in 0..steps {
            let until = world.now_ms() + 1_000;
            if !world.step(until) {
                break;
            }
        }
        let now = world.now_at(1);
        world.engine(1).rotate(now).expect("a member");
        world.drain(1);
        world.settle();
        world.advance(120_000);
        assert!(is_ready(&mut world, 0), "after {steps} steps: {:?}", status(&mut world, 0));
        for device in 0..2 {
            let found = world.findings(device);
            assert!(!found.iter().any(|it| matches!(it, IntegrityEvent::ForkedDevice { .. })), "{found:?}");
            assert_eq!(found, [], "after {steps} steps, device {device}");
        }
        lose_all(&mut world);
        let back = world.restore(words, "new");
        assert_eq!(world.findings(back), [], "after {steps} steps");
    }
}
