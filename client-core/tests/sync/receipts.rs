//! What devices say they have: the tier "all devices", who was heard from, and what is not believed.

use bytes::Bytes;
use zerok_sync_chaos::sim::World;
use zerok_sync_core::content::{Observed, SeenHash, SeenItem};
use zerok_sync_core::keyring::Keyring;
use zerok_sync_core::keys::Membership;
use zerok_sync_core::observed::ObservedHash;
use zerok_sync_core::statement::{self, Receipt};
use zerok_sync_core::{Event, IntegrityEvent, Member, STALE_AFTER_MS};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{NoisePublicKey, RelayFrame};

/// Longer than two receipts are apart.
const A_WHILE_MS: u64 = 7_000;

fn everywhere(world: &mut World, device: usize) -> u64 {
    world.engine(device).status().everywhere_push
}

/// What one device's status says of another.
fn member(world: &mut World, at: usize, of: usize) -> Member {
    let id = world.keys(of).0.device();
    let members = world.engine(at).status().members;
    members.into_iter().find(|member| member.device == id).expect("a member")
}

/// The device's newest receipt, as its slot has it.
fn slot(world: &World, device: usize) -> Bytes {
    let noise = world.keys(device).0.keys.noise;
    world.relay.log.as_ref().expect("created").receipts[&noise].1.clone()
}

fn put_slot(world: &mut World, device: usize, receipt: Bytes) {
    let noise = world.keys(device).0.keys.noise;
    world.relay.log.as_mut().expect("created").receipts.insert(noise, (1, receipt));
}

/// A receipt that claims to have seen this much of device 0, signed by whoever `signer` is.
fn receipt_of(world: &World, sender: &Membership, signer: &Membership, seq: u64) -> Bytes {
    let (first, keyring) = world.keys(0);
    let blob_id = world.relay.entries().last().expect("not empty").blob_id;
    let item = SeenItem { tag: first.device().tag(), seq, hash: SeenHash::of(&blob_id) };
    let receipt = Receipt {
        sender: sender.device(),
        seq: 1,
        seen: List::try_from(vec![item]).expect("one fits"),
        observed: None,
        position: 0,
        sent_at_ms: u64::MAX,
        vouches: List::empty(),
    };
    sealed(&keyring, signer, &receipt)
}

fn sealed(keyring: &Keyring, signer: &Membership, receipt: &Receipt) -> Bytes {
    statement::seal(keyring.group(), keyring.current(), &signer.signing, [42; 24], receipt)
}

fn say(world: &mut World, device: NoisePublicKey, receipt: Option<Bytes>) {
    world.relay_says(&RelayFrame::Acked { device, cursor: 1_000, receipt });
    world.settle();
}

#[test]
fn a_push_is_everywhere_once_the_last_device_says_that_it_has_it() {
    let mut world = World::with_group(3);
    world.crash(2);
    let push = world.push(0, "for all");
    world.advance(A_WHILE_MS);
    assert!(everywhere(&mut world, 0) < push, "one device is away");
    assert_eq!(member(&mut world, 0, 1).has_push, push);

    world.start(2);
    world.advance(A_WHILE_MS);
    assert_eq!(everywhere(&mut world, 0), push);
    assert!(world.devices[0].events.contains(&Event::PushesEverywhere { push }));
}

#[test]
fn who_was_away_hears_from_the_slots_what_the_others_have() {
    let mut world = World::with_group(2);
    world.crash(1);
    let push = world.push(0, "while you were out");
    world.advance(A_WHILE_MS);
    world.crash(0);
    world.start(1);
    world.advance(A_WHILE_MS);
    world.crash(1);
    world.start(0);
    world.settle();
    assert_eq!(everywhere(&mut world, 0), push, "the two never met");

    // It is known here from then on, also without the relay.
    world.crash(0);
    world.open(0);
    assert_eq!(everywhere(&mut world, 0), push);
}

#[test]
fn an_entry_that_names_a_push_counts_like_a_receipt() {
    let mut world = World::with_group(2);
    world.relay.drops_receipts = true;
    let push = world.push(0, "question");
    world.settle();
    world.push(1, "answer");
    world.settle();
    assert_eq!(everywhere(&mut world, 0), push);
}

#[test]
fn a_sole_devices_push_is_everywhere_when_the_relay_has_it() {
    let mut world = World::with_group(1);
    let push = world.push(0, "alone");
    world.settle();
    assert_eq!(everywhere(&mut world, 0), push);
}

#[test]
fn a_device_that_has_read_everything_has_said_so_for_every_chain() {
    let mut world = World::with_group(3);
    world.push(2, "of the third");
    world.advance(A_WHILE_MS);
    let (second, third) = (world.id(1), world.id(2));
    world.crash(2);
    world.push(1, "of the second");
    world.advance(A_WHILE_MS);
    let heads = world.engine(0).heads();
    assert!(world.engine(0).has_all_of(&second, &heads));
    assert!(!world.engine(0).has_all_of(&third, &heads), "it is away");
    assert!(!world.engine(0).has_all_of(&stranger().device(), &heads));
}

#[test]
fn receipts_are_seldom_sent_and_not_without_news() {
    let mut world = World::with_group(2);
    world.advance(60_000);
    world.relay.receipts_taken = 0;
    world.advance(60_000);
    assert_eq!(world.relay.receipts_taken, 0, "nothing has changed");
    for n in 0..200 {
        world.push(0, &n.to_string());
        world.advance(100);
    }
    world.advance(A_WHILE_MS);
    // Twenty seconds of pushes, two devices, one in three seconds.
    assert!((12..=18).contains(&world.relay.receipts_taken), "{}", world.relay.receipts_taken);
}

#[test]
fn the_relays_bare_word_counts_for_nothing() {
    let mut world = World::with_group(2);
    let (first, second) = (world.keys(0).0, world.keys(1).0);
    world.crash(1);
    let push = world.push(0, "not there yet");
    world.advance(A_WHILE_MS);
    let before = everywhere(&mut world, 0);
    say(&mut world, second.keys.noise, None);
    for forged in [
        // Signed by another than it names; by somebody who is no member; not a receipt at all.
        receipt_of(&world, &second, &first, push),
        receipt_of(&world, &stranger(), &stranger(), push),
        Bytes::from_static(&[0x55; 600]),
        Bytes::from(vec![3; 5_000]),
    ] {
        say(&mut world, second.keys.noise, Some(forged.clone()));
        put_slot(&mut world, 1, forged);
        world.cut(0);
        world.advance(60_000);
    }
    assert_eq!(everywhere(&mut world, 0), before, "nobody has said that it has it");
    assert_eq!(world.findings(0), []);

    // The very same words, signed by whom they name, count.
    let signed = receipt_of(&world, &second, &second, push);
    say(&mut world, first.keys.noise, Some(signed));
    assert_eq!(everywhere(&mut world, 0), push, "whoever passed it on");
}

fn stranger() -> Membership {
    Membership::from_seed(&zerok_sync_core::keys::MembershipSeed::from_bytes([0xaa; 32]))
}

#[test]
fn a_receipt_played_again_makes_nothing_newer() {
    let mut world = World::with_group(2);
    let noise = world.keys(1).0.keys.noise;
    let old = slot(&world, 1);
    world.advance(3_600_000);
    world.push(0, "for all");
    world.push(1, "news");
    world.advance(A_WHILE_MS);
    let heard = member(&mut world, 0, 1).last_heard_at_ms;
    let had = member(&mut world, 0, 1).has_push;
    world.crash(1);
    for _ in 0..3 {
        say(&mut world, noise, Some(old.clone()));
        world.advance(3_600_000);
    }
    put_slot(&mut world, 1, old);
    world.cut(0);
    world.advance(60_000);
    let after = member(&mut world, 0, 1);
    assert_eq!((after.last_heard_at_ms, after.has_push), (heard, had));
}

#[test]
fn a_device_that_is_not_heard_of_for_a_day_is_stale_until_it_says_something() {
    let mut world = World::with_group(2);
    world.advance(A_WHILE_MS);
    world.crash(1);
    world.advance(STALE_AFTER_MS + 120_000);
    let now_ms = world.now_at(0).wall_ms;
    assert!(member(&mut world, 0, 1).is_stale(now_ms));
    // The relay can say what it likes; what that device signed does not become newer.
    let noise = world.keys(1).0.keys.noise;
    let old = slot(&world, 1);
    say(&mut world, noise, Some(old));
    assert!(member(&mut world, 0, 1).is_stale(now_ms));

    world.start(1);
    world.advance(A_WHILE_MS);
    let now_ms = world.now_at(0).wall_ms;
    assert!(!member(&mut world, 0, 1).is_stale(now_ms), "it has read, and wrote nothing");
    world.crash(1);
    world.advance(STALE_AFTER_MS / 2);
    let now_ms = world.now_at(0).wall_ms;
    assert!(!member(&mut world, 0, 1).is_stale(now_ms));
}

#[test]
fn b_fork_a_receipt_from_another_history_convicts_the_relay() {
    let mut world = World::with_group(2);
    let second = world.keys(1).0;
    world.push(0, "read by both");
    world.advance(A_WHILE_MS);
    let genuine: Receipt = statement::open(&world.keys(0).1, &slot(&world, 1)).expect("its own");
    let pair = genuine.observed.clone().expect("it read something");
    let other = Observed { hash: ObservedHash([9; 16]), ..pair };
    let elsewhere = Receipt { observed: Some(other.clone()), sent_at_ms: u64::MAX, ..genuine };
    let receipt = sealed(&world.keys(0).1, &second, &elsewhere);
    world.crash(1);
    say(&mut world, second.keys.noise, Some(receipt));
    world.advance(60_000);
    let forked = IntegrityEvent::Forked { observer: second.device(), cursor: other.cursor };
    assert_eq!(world.findings(0), [forked]);
}

#[test]
fn a_receipt_of_a_removed_device_accuses_nobody() {
    let mut world = World::with_group(3);
    world.push(0, "read by all");
    world.advance(A_WHILE_MS);
    let (gone, old) = world.keys(2);
    let genuine: Receipt = statement::open(&old, &slot(&world, 2)).expect("its own");
    let pair = genuine.observed.clone().expect("it read something");
    let now = world.now_at(0);
    world.engine(0).revoke(now, gone.device()).expect("a member");
    world.drain(0);
    world.advance(A_WHILE_MS);
    let made_up = Observed { hash: ObservedHash([9; 16]), ..pair };
    let receipt = sealed(&old, &gone, &Receipt { observed: Some(made_up), sent_at_ms: u64::MAX, ..genuine });
    say(&mut world, gone.keys.noise, Some(receipt));
    world.advance(60_000);
    assert_eq!(world.findings(0), []);
}

#[test]
fn who_has_another_branch_of_a_chain_has_nothing_of_this_one() {
    let mut world = World::with_group(2);
    let (first, second) = (world.keys(0).0, world.keys(1).0);
    world.crash(1);
    let push = world.push(0, "on this branch");
    world.advance(A_WHILE_MS);
    let genuine: Receipt = statement::open(&world.keys(0).1, &slot(&world, 0)).expect("its own");
    let item = SeenItem { tag: first.device().tag(), seq: genuine.seq, hash: SeenHash([9; 16]) };
    let seen = List::try_from(vec![item]).expect("one fits");
    let receipt = Receipt { sender: second.device(), seen, observed: None, sent_at_ms: u64::MAX, ..genuine };
    let receipt = sealed(&world.keys(0).1, &second, &receipt);
    say(&mut world, second.keys.noise, Some(receipt));
    assert!(everywhere(&mut world, 0) < push);
    assert_eq!(member(&mut world, 0, 1).has_push, 0);
    let own = world.engine(0).heads().remove(0);
    assert!(!world.engine(0).has_all_of(&second.device(), &[own]));
}

#[test]
fn who_joins_hears_from_the_slots_of_whom_it_reads_of_only_then() {
    let mut world = World::with_group(2);
    world.advance(3_600_000);
    world.push(0, "so that there is something to say about");
    world.advance(A_WHILE_MS);
    world.crash(1);
    let heard = member(&mut world, 0, 1);
    assert!(heard.last_heard_at_ms > heard.last_wrote_at_ms);
    let later = world.pair(0, "later");
    assert_eq!(member(&mut world, later, 1).last_heard_at_ms, heard.last_heard_at_ms);
}

#[test]
fn a_receipt_of_the_newest_epoch_waits_until_that_was_read() {
    let mut world = World::with_group(3);
    world.advance(A_WHILE_MS);
    world.crash(1);
    let push = world.push(0, "before the keys change");
    world.advance(A_WHILE_MS);
    world.crash(0);
    // Whoever changes the keys says in doing so what it has: so that is another one.
    let now = world.now_at(2);
    world.engine(2).rotate(now).expect("a member");
    world.drain(2);
    world.settle();
    world.start(1);
    world.advance(A_WHILE_MS);
    world.crash(1);
    world.start(0);
    world.settle();
    assert_eq!(everywhere(&mut world, 0), push);
}

#[test]
fn nobody_waits_for_a_device_that_was_removed() {
    let mut world = World::with_group(3);
    world.crash(2);
    let push = world.push(0, "for who stays");
    world.advance(A_WHILE_MS);
    assert!(everywhere(&mut world, 0) < push);
    let (gone, now) = (world.keys(2).0.device(), world.now_at(0));
    world.engine(0).revoke(now, gone).expect("a member");
    world.drain(0);
    world.advance(A_WHILE_MS);
    assert!(everywhere(&mut world, 0) >= push);
}

#[test]
fn what_is_waited_for_to_be_judged_is_not_caught_up() {
    let mut world = World::with_group(2);
    world.crash(1);
    let again = world.relay.entries().last().expect("not empty").clone();
    world.relay.entries_mut().push(again);
    world.push(0, "behind it");
    world.settle();
    // Its question to storage is answered late.
    world.conditions.slow_disk_per_mille = 1_000;
    world.conditions.disk_ms = 1_000..=1_000;
    world.start(1);
    while world.engine(1).status().integrity.is_empty() {
        assert!(!world.engine(1).status().caught_up, "it is not known yet what that entry is");
        world.step(u64::MAX);
    }
    assert!(matches!(world.engine(1).status().integrity[..], [IntegrityEvent::Replayed { .. }]));
    world.advance(10_000);
    assert!(world.engine(1).status().caught_up);
}
