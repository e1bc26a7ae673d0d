//! Who is no member and acts as one: a removed device with the keys it had, a stolen one that changed
//! them first, a relay that colludes. Nothing of it counts, and nobody is kept out.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerok_sync_chaos::sim::World;
use zerok_sync_chaos::sim::relay::Stored;
use zerok_sync_core::certificate::{Card, JoinCertificate};
use zerok_sync_core::content::{Content, Kind, SeenHash, SeenItem};
use zerok_sync_core::epoch::{EpochBody, MemberDigest, Removed, seal_epoch};
use zerok_sync_core::keyring::Keyring;
use zerok_sync_core::keys::{EpochSecret, MemberKeys, Membership, MembershipSeed};
use zerok_sync_core::seal::{Sealed, seal};
use zerok_sync_core::{Connection, Event, IntegrityEvent, MembershipError, Problem};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, EpochId};

use crate::hostile_members::{append, content};
use crate::rotations::{assert_in_step, epoch, members, revoke, rotate};

/// How long what looks wrong may be cured by others, and a little.
const VOUCHED_MS: u64 = 31_000;

/// Puts an envelope into the log, as a relay that colludes would.
fn collude(world: &mut World, sealed: Sealed) -> u64 {
    let stored = Stored { blob_id: sealed.blob_id, envelope: Some(sealed.envelope) };
    world.relay.entries_mut().push(stored);
    world.relay.entries().len() as u64
}

/// What a removed device seals under the keys that it still has.
fn behind_the_end((gone, old): &(Membership, Keyring), seq: u64, prev: BlobId) -> Sealed {
    let late = Content {
        sender: gone.device(),
        seq,
        prev,
        seen: List::empty(),
        observed: None,
        lamport: 50,
        kind: Kind::APP,
        sent_at_ms: 0,
        body: "behind the end".into(),
    };
    seal(old.group(), old.current(), &gone.signing, [1; 24], &late).expect("small")
}

#[test]
fn d_rev_05_what_a_colluding_relay_shows_a_joining_device_in_front_of_the_removal_is_held_back() {
    let mut world = World::with_group(3);
    world.push(2, "before");
    world.settle();
    let removed = world.keys(2);
    let (prev, seq) = (world.relay.entries().last().expect("pushed").blob_id, 3);
    let in_front = world.relay.entries().len();
    revoke(&mut world, 0, 2);
    world.settle();
    let joining = world.begin_joining(0, "late");
    world.settle();
    let now = world.now_at(0);
    world.engine(0).accept_joiner_unchecked(now);
    world.settle();
    world.crash(0);
    world.crash(1);

    let late = behind_the_end(&removed, seq, prev);
    let shown = Stored { blob_id: late.blob_id, envelope: Some(late.envelope) };
    world.relay.entries_mut().insert(in_front, shown);
    world.start(joining);
    world.settle();
    assert_eq!(world.texts(joining), ["before"]);
    world.push(joining, "after");
    world.advance(VOUCHED_MS);
    let quarantined = IntegrityEvent::Quarantined { cursor: in_front as u64 + 1, sender: removed.0.device(), seq };
    assert!(world.findings(joining).contains(&quarantined), "{:?}", world.findings(joining));
    assert_eq!(world.texts(joining), ["before", "after"]);
}

#[test]
fn d_rev_05_what_a_removed_device_wrote_behind_its_end_is_held_back_until_a_member_has_seen_it() {
    let mut world = World::with_group(3);
    world.push(2, "before");
    world.settle();
    let (gone, old) = world.keys(2);
    let (prev, seq) = (world.relay.entries().last().expect("pushed").blob_id, 2);
    revoke(&mut world, 0, 2);
    world.settle();
    world.crash(0);
    let late = behind_the_end(&(gone.clone(), old), seq + 1, prev);
    let late_id = late.blob_id;
    let cursor = collude(&mut world, late);
    world.push(1, "wakes the relay");
    world.settle();
    assert_eq!(world.texts(1), ["before", "wakes the relay"]);
    assert_eq!(world.findings(1), [], "somebody may vouch for it");
    world.advance(VOUCHED_MS);
    let quarantined = IntegrityEvent::Quarantined { cursor, sender: gone.device(), seq: seq + 1 };
    assert_eq!(world.findings(1), std::slice::from_ref(&quarantined));

    let (member, keyring) = world.keys(0);
    let own = world.relay.entries().iter().rev().find_map(|stored| {
        let opened = zerok_sync_core::seal::open(&keyring, stored.envelope.as_ref()?).ok()?;
        (opened.claims().sender == member.device()).then(|| (opened.claims().seq, stored.blob_id))
    });
    let (last_seq, last_id) = own.expect("it said its name");
    let item = SeenItem { tag: gone.device().tag(), seq: seq + 1, hash: SeenHash::of(&late_id) };
    let vouching = Content {
        sender: member.device(),
        seq: last_seq + 1,
        prev: last_id,
        seen: vec![item].try_into().expect("one"),
        observed: None,
        lamport: 60,
        kind: Kind::APP,
        sent_at_ms: 0,
        body: "I had seen that".into(),
    };
    let vouching = seal(keyring.group(), keyring.current(), &member.signing, [2; 24], &vouching).expect("small");
    collude(&mut world, vouching);
    world.push(1, "wakes the relay again");
    world.settle();
    world.crash(1);
    world.start(1);
    world.settle();
    let texts = world.texts(1);
    assert!(texts.contains(&"behind the end".into()) && texts.contains(&"I had seen that".into()), "{texts:?}");
}

#[test]
fn d_rev_05_other_entries_in_the_place_of_a_removed_devices_last_ones_count_nothing() {
    // In the place of its last entry; of the one before, with the last one as it was.
    for forged in [2, 1] {
        let mut world = World::with_group(3);
        let joined = world.relay.entries().last().expect("it joined").blob_id;
        world.crash(1);
        world.push(2, "first");
        world.push(2, "second");
        world.settle();
        let (gone, old) = world.keys(2);
        revoke(&mut world, 0, 2);
        world.settle();
        let end = world.relay.entries().iter().rposition(|stored| stored.blob_id == joined).expect("there") + 1;
        let written: Vec<Stored> = world.relay.entries_mut().drain(end..end + 2).collect();
        let (prev, seq) = if forged == 2 { (written[0].blob_id, 3) } else { (joined, 2) };
        let other = content(&gone, seq, prev, Kind::APP, "other");
        let other = seal(old.group(), old.current(), &gone.signing, [1; 24], &other).expect("small");
        let other = Stored { blob_id: other.blob_id, envelope: Some(other.envelope) };
        let shown = if forged == 2 { [written[0].clone(), other] } else { [other, written[1].clone()] };
        world.relay.entries_mut().extend(shown);
        world.start(1);
        world.settle();
        assert_eq!(world.texts(1), [""; 0], "{forged}");
    }
}

/// Somebody's first entry, with a certificate that `inviter` signed for this epoch.
pub fn join(world: &mut World, seed: u8, inviter: &Membership, epoch: EpochId) {
    let (_, keyring) = world.keys(1);
    let joiner = Membership::from_seed(&MembershipSeed::from_bytes([seed; 32]));
    let card = Card { keys: joiner.keys.clone(), name: format!("joiner {seed}").parse().expect("a name") };
    let certificate = JoinCertificate::issue(keyring.group(), &inviter.signing, card, epoch);
    let joined = content(&joiner, 1, BlobId::ZERO, Kind::JOIN, certificate.to_bytes());
    let keys = keyring.get(&epoch).expect("an epoch of the group");
    append(world, seal(keyring.group(), keys, &joiner.signing, [seed; 24], &joined).expect("small"));
}

#[test]
fn d_rev_05_nobody_is_let_in_by_a_removed_device_nor_by_keys_that_were_changed_since() {
    let mut world = World::with_group(3);
    let epochs_before = world.keys(1).1.current().id;
    let (gone, member) = (world.keys(2).0, world.keys(0).0);
    revoke(&mut world, 0, 2);
    world.settle();
    world.crash(1);
    join(&mut world, 0x51, &gone, epochs_before);
    join(&mut world, 0x52, &member, epochs_before);
    world.start(1);
    world.advance(VOUCHED_MS);
    assert_eq!(members(&mut world, 1), ["device 0", "device 1"]);
    let now_open = world.keys(1).1.current().id;
    world.crash(1);
    join(&mut world, 0x53, &member, now_open);
    world.start(1);
    world.settle();
    assert!(members(&mut world, 1).contains(&"joiner 83".into()), "the certificate itself is good");
}

#[test]
fn what_was_in_doubt_and_was_cured_is_in_doubt_in_no_later_run() {
    let mut world = World::with_group(2);
    (0..2).for_each(|device| world.crash(device));
    let (member, keyring) = world.keys(0);
    let epoch = keyring.current().id;
    let inviter = Membership::from_seed(&MembershipSeed::from_bytes([0x62; 32]));
    let doubts = |world: &World| world.rows(1, b"\x01D", b"\x01E").len();
    join(&mut world, 0x61, &inviter, epoch);
    world.start(1);
    world.settle();
    assert_eq!(doubts(&world), 1, "nobody knows who let it in");
    world.crash(1);
    join(&mut world, 0x62, &member, epoch);
    world.start(1);
    world.settle();
    assert_eq!(doubts(&world), 0);
    assert_eq!(members(&mut world, 1).len(), 4);
    world.advance(VOUCHED_MS);
    assert_eq!(world.findings(1), []);
}

/// A rotation by whoever has the keys, from the first epoch on.
fn forged_rotation(
    world: &World,
    by: &Membership,
    members: &[MemberKeys],
    removed: &[Removed],
) -> zerok_sync_core::seal::Sealed {
    let genesis = world.relay.entries()[0].blob_id;
    let (_, keyring) = world.keys(1);
    let first = keyring.iter().next().expect("never empty").id;
    let body = EpochBody {
        sender: by.device(),
        seq: 1,
        prev: BlobId::ZERO,
        seen: List::empty(),
        previous_epoch: first,
        previous_blob_id: genesis,
        removed: removed.to_vec().try_into().expect("few"),
        member_digest: MemberDigest::of(members.iter().map(|member| member.device)),
        allow: List::empty(),
        keyring: List::empty(),
        lamport: 1,
        sent_at_ms: 0,
        genesis: bytes::Bytes::new(),
    };
    let mut rng = ChaCha20Rng::from_seed([9; 32]);
    let secret = EpochSecret::from_bytes([77; 32]);
    seal_epoch(keyring.group(), &secret, &by.signing, members, &body, &mut rng).expect("few")
}

#[test]
fn d_rev_05_a_rotation_that_a_removed_device_backdates_is_void() {
    let mut world = World::with_group(3);
    let (gone, remover, member) = (world.keys(2).0, world.keys(0).0, world.keys(1).0);
    revoke(&mut world, 0, 2);
    world.settle();
    let removed = Removed { device: remover.device(), last_seq: 2, last_blob_id: BlobId::ZERO };
    let sealed = forged_rotation(&world, &gone, &[gone.keys.clone(), member.keys], &[removed]);
    let cursor = collude(&mut world, sealed);
    world.push(0, "goes on");
    world.settle();
    let void = IntegrityEvent::NotAMember { cursor, sender: gone.device() };
    assert_eq!(world.findings(1), [void]);
    assert_eq!(members(&mut world, 1), ["device 0", "device 1"]);
    assert_eq!(world.texts(1), ["goes on"]);
    assert_eq!(epoch(&world, 0), epoch(&world, 1));
}

/// What is needed for delays, backoff and a round of repair.
const HEAL_MS: u64 = 90_000;

#[test]
fn d_rev_05_a_removed_device_that_makes_the_log_of_a_wiped_relay_again_is_out_when_a_member_comes() {
    let mut world = World::with_group(3);
    let gone = world.id(2);
    world.push(0, "before");
    world.settle();
    world.crash(2);
    let now = world.now_at(0);
    world.engine(0).revoke(now, gone).expect("a member");
    world.drain(0);
    world.settle();
    world.push(1, "after");
    world.settle();
    world.crash(0);
    world.crash(1);
    world.wipe_relay();
    world.start(2);
    world.push(2, "mine now");
    world.advance(HEAL_MS);
    assert_eq!(world.engine(2).status().connection, Connection::Live, "the relay has nobody to ask");
    world.start(0);
    world.start(1);
    world.advance(HEAL_MS);
    world.push(0, "goes on");
    world.settle();
    assert_eq!(world.engine(2).status().problem, Some(Problem::Revoked));
    for device in 0..2 {
        assert_eq!(world.texts(device), ["before", "after", "goes on"], "device {device}");
        assert_eq!(members(&mut world, device), ["device 0", "device 1"]);
        assert_eq!(epoch(&world, device), epoch(&world, 0));
        let quarantined =
            |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::Quarantined { sender, .. } if *sender == gone);
        assert!(world.findings(device).iter().all(quarantined), "{:?}", world.findings(device));
    }
}

#[test]
fn d_rev_05_a_removed_device_that_squats_the_older_name_on_a_wiped_relay_keeps_nobody_out() {
    let mut world = World::with_group(3);
    world.push(0, "before");
    world.settle();
    let older = world.keys(2).1.current().auth_public();
    revoke(&mut world, 0, 2);
    world.settle();
    world.push(1, "after");
    world.settle();
    world.wipe_relay();
    world.relay.squatted.insert(older);
    world.advance(HEAL_MS);
    world.push(0, "goes on");
    world.advance(HEAL_MS);
    assert_in_step(&mut world, &[0, 1]);
    for device in 0..2 {
        assert_eq!(world.texts(device), ["before", "after", "goes on"], "device {device}");
    }
    assert_eq!(world.engine(2).status().problem, Some(Problem::Revoked));
    let later = world.pair(1, "later");
    world.advance(HEAL_MS);
    assert_eq!(world.texts(later), ["before", "after", "goes on"]);
}

#[test]
fn d_rev_05_a_removed_device_that_squats_a_wiped_relay_with_a_log_that_lists_the_members_keeps_nobody_out() {
    let mut world = World::with_group(3);
    world.push(0, "before");
    world.settle();
    let gone = world.keys(2).0;
    revoke(&mut world, 0, 2);
    world.settle();
    let foreign = forged_rotation(&world, &gone, std::slice::from_ref(&gone.keys), &[]);
    world.wipe_relay();
    world.relay.foreign_epoch = Some(foreign.envelope);
    world.advance(HEAL_MS);
    world.push(1, "goes on");
    world.advance(HEAL_MS);
    assert_in_step(&mut world, &[0, 1]);
    assert_eq!(world.texts(0), ["before", "goes on"]);
    for device in 0..2 {
        assert_eq!(world.findings(device), [], "device {device}");
    }
}

#[test]
fn a_group_whose_keys_a_stolen_device_changed_first_is_founded_anew_by_a_person() {
    let mut world = World::with_group(3);
    world.push(0, "before");
    world.settle();
    let stolen = world.id(2);
    world.crash(2);
    let name = world.keys(0).1.current().auth_public();
    world.wipe_relay();
    world.relay.squatted.insert(name);
    world.advance(HEAL_MS);
    assert_eq!(world.engine(0).status().problem, Some(Problem::Revoked), "nothing happens by itself");
    let now = world.now_at(0);
    let (own, stranger) = (world.id(0), Membership::from_seed(&MembershipSeed::from_bytes([5; 32])).device());
    assert_eq!(world.engine(0).refound(now, &[own]), Err(MembershipError::OwnDevice));
    let no_such = MembershipError::NoSuchDevice(stranger.to_string());
    assert_eq!(world.engine(0).refound(now, &[stranger]), Err(no_such));
    world.engine(0).refound(now, &[stolen]).expect("no relay lets it in");
    world.drain(0);
    world.advance(HEAL_MS);
    world.push(1, "after");
    world.advance(HEAL_MS);
    assert_in_step(&mut world, &[0, 1]);
    assert_eq!(world.texts(0), ["before", "after"]);
    assert_eq!(members(&mut world, 1), ["device 0", "device 1"]);
    let later = world.pair(1, "later");
    world.advance(HEAL_MS);
    assert_eq!(world.texts(later), ["before", "after"]);
}

#[test]
fn a_group_is_not_founded_anew_while_a_relay_lets_this_device_in() {
    let mut world = World::with_group(2);
    let (now, other) = (world.now_at(0), world.id(1));
    assert_eq!(world.engine(0).refound(now, &[other]), Err(MembershipError::NotNeeded));
    // Nor while none is reached: perhaps one would let it in.
    world.set_up(0, false);
    world.advance(HEAL_MS);
    let now = world.now_at(0);
    assert_eq!(world.engine(0).refound(now, &[other]), Err(MembershipError::NotNeeded));
}

#[test]
fn b_member_an_epoch_of_the_relays_own_making_is_ignored_and_reported() {
    let mut world = World::with_group(2);
    let relay = Membership::from_seed(&MembershipSeed::from_bytes([5; 32]));
    let sealed = forged_rotation(&world, &relay, std::slice::from_ref(&relay.keys), &[]);
    let blob_id = sealed.blob_id;
    let cursor = collude(&mut world, sealed);
    world.push(0, "goes on");
    world.settle();
    for device in 0..2 {
        assert_eq!(world.findings(device), [IntegrityEvent::Corrupt { cursor, blob_id }], "device {device}");
        assert_eq!(world.texts(device), ["goes on"]);
    }
    assert_eq!(world.engine(1).status().rotations, 0);
}

#[test]
fn b_member_a_device_that_the_relay_admits_is_named_and_shut_out_by_the_next_rotation() {
    let mut world = World::with_group(2);
    let noise_key = Membership::from_seed(&MembershipSeed::from_bytes([5; 32])).keys.noise;
    world.relay.log.as_mut().expect("created").allow.insert(noise_key);
    world.crash(1);
    world.start(1);
    world.settle();
    let relay = world.engine(1).status().relay.url;
    assert!(world.devices[1].events.contains(&Event::UnknownDeviceAtRelay { relay, noise_key }));
    assert_eq!(world.engine(1).status().unknown_at_relay, 1);
    assert_eq!(world.findings(1), [], "one that is being let in would look the same");
    rotate(&mut world, 1);
    world.settle();
    assert!(!world.relay.log.as_ref().expect("created").allow.contains(&noise_key));
    world.crash(1);
    world.start(1);
    world.settle();
    assert_eq!(world.engine(1).status().unknown_at_relay, 0);
}

#[test]
fn b_member_what_one_relay_admits_is_not_made_good_by_another_that_does_not() {
    let mut world = World::with_group(2);
    let second = world.add_relay();
    world.list_relay(0, second);
    world.settle();
    let noise_key = Membership::from_seed(&MembershipSeed::from_bytes([5; 32])).keys.noise;
    for relay in [0, second] {
        world.relay_at_mut(relay).log.as_mut().expect("created").allow.insert(noise_key);
        world.crash(1);
        world.start(1);
        world.settle();
        let url = world.engine(1).status().relays[relay].address.url.clone();
        let event = Event::UnknownDeviceAtRelay { relay: url, noise_key };
        assert!(world.devices[1].events.contains(&event), "at relay {relay}");
        assert_eq!(world.engine(1).status().unknown_at_relay, 1, "at relay {relay}");
    }
    world.relay_at_mut(0).log.as_mut().expect("created").allow.remove(&noise_key);
    world.relay_at_mut(second).log.as_mut().expect("created").allow.remove(&noise_key);
    world.crash(1);
    world.start(1);
    world.settle();
    assert_eq!(world.engine(1).status().unknown_at_relay, 0);
}

/// Device 2 writes these, is removed, and the relay loses everything: what device 0 puts back stands
/// behind the removal. Device 1 was away all the time.
fn written_and_put_back(texts: &[String]) -> World {
    let mut world = World::with_group(3);
    world.crash(1);
    for text in texts {
        world.push(2, text);
    }
    world.settle();
    revoke(&mut world, 0, 2);
    world.settle();
    world.crash(2);
    world.crash(0);
    world.wipe_relay();
    world.start(0);
    world.advance(VOUCHED_MS);
    world
}

#[test]
fn b_wipe_a_removed_devices_chain_that_is_too_long_to_be_held_counts_for_whoever_comes_later() {
    let many: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
    let large: Vec<String> = (0..40).map(|number| number.to_string().repeat(900_000)).collect();
    for texts in [many, large] {
        let mut world = written_and_put_back(&texts);
        let later = world.pair(0, "later");
        world.start(1);
        world.settle();
        for device in [1, later] {
            let read = world.texts(device);
            assert!(read == texts, "device {device} has {} of {}", read.len(), texts.len());
            assert_eq!(world.findings(device), [], "device {device}");
        }
        assert!(!world.engine(later).status().joining);
    }
}

#[test]
fn b_wipe_a_removed_devices_long_chain_is_read_on_where_a_crash_left_it() {
    let texts: Vec<String> = (0..40).map(|number| number.to_string().repeat(900_000)).collect();
    let mut world = written_and_put_back(&texts);
    // It is stopped again and again, while some is held and some was left, too.
    for steps in (40..700).step_by(60) {
        world.start(1);
        for _ in 0..steps {
            world.step(world.now_ms() + 60_000);
        }
        world.crash(1);
    }
    world.start(1);
    world.settle();
    assert!(world.texts(1) == texts, "{}", world.texts(1).len());
}

#[test]
fn d_rev_05_what_a_removed_device_writes_behind_its_end_takes_nobodys_place() {
    let mut world = World::with_group(3);
    let (gone, old) = world.keys(2);
    let (prev, seq) = (world.relay.entries().last().expect("it joined").blob_id, 2);
    revoke(&mut world, 0, 2);
    world.settle();
    world.crash(1);
    for text in ["a", "b", "c"] {
        world.push(0, text);
        world.settle();
    }
    world.crash(0);
    let member = world.relay.entries().len() - 3;
    let behind = (0..4_200).scan((seq, prev), |(seq, prev), _| {
        let late = behind_the_end(&(gone.clone(), old.clone()), *seq, *prev);
        (*seq, *prev) = (*seq + 1, late.blob_id);
        Some(Stored { blob_id: late.blob_id, envelope: Some(late.envelope) })
    });
    let behind: Vec<Stored> = behind.collect();
    let entries = world.relay.entries_mut();
    let first = entries.remove(member);
    entries.splice(member..member, behind);
    entries.push(first);
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1), ["a", "b", "c"]);
}

#[test]
fn what_a_removed_device_wrote_counts_once_also_where_what_names_it_waits_for_it() {
    let mut world = World::with_group(3);
    let prev = world.relay.entries().last().expect("it joined").blob_id;
    let (founder, (gone, old)) = (world.keys(0).0, world.keys(2));
    revoke(&mut world, 0, 2);
    world.settle();
    world.crash(1);
    let keyring = world.keys(0).1;
    let second = content(&gone, 2, prev, Kind::JOIN, "not its first");
    let second = seal(old.group(), old.current(), &gone.signing, [1; 24], &second).expect("small");
    let third = content(&gone, 3, second.blob_id, Kind::APP, "behind the end");
    let third = seal(old.group(), old.current(), &gone.signing, [2; 24], &third).expect("small");
    let named = SeenItem { tag: gone.device().tag(), seq: 3, hash: SeenHash::of(&third.blob_id) };
    collude(&mut world, second);
    collude(&mut world, third);
    // Two that were let in by one whose own first entry comes last; both have seen what came behind the end.
    let member = |seed: u8| Membership::from_seed(&MembershipSeed::from_bytes([seed; 32]));
    let joined = |joiner: &Membership, by: &Membership, seed: u8, seen: Vec<SeenItem>| {
        let card = Card { keys: joiner.keys.clone(), name: format!("joiner {seed}").parse().expect("a name") };
        let certificate = JoinCertificate::issue(keyring.group(), &by.signing, card, keyring.current().id);
        let body = certificate.to_bytes();
        let joined =
            Content { seen: seen.try_into().expect("one"), ..content(joiner, 1, BlobId::ZERO, Kind::JOIN, body) };
        seal(keyring.group(), keyring.current(), &joiner.signing, [seed; 24], &joined).expect("small")
    };
    let inviter = member(0x61);
    for seed in [0x62, 0x63] {
        let sealed = joined(&member(seed), &inviter, seed, vec![named.clone()]);
        collude(&mut world, sealed);
    }
    let sealed = joined(&inviter, &founder, 0x61, Vec::new());
    collude(&mut world, sealed);
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1), ["behind the end"]);
}
