//! What members say they have seen: missing if it is so, their own lie if it is not, and no reason
//! to accuse a relay, or to hold up a snapshot, on the word of one.

use zerok_sync_chaos::sim::World;
use zerok_sync_core::content::{Content, Kind, SeenHash, SeenItem};
use zerok_sync_core::id::DeviceId;
use zerok_sync_core::seal::seal;
use zerok_sync_core::{CompactError, Connection, IntegrityEvent};
use zerok_sync_protocol::wire::List;

use crate::hostile_members::{append, content};
use crate::snapshots::{compact, try_compact};

const PATIENCE_MS: u64 = 31_000;

/// Of no entry.
const NONE: SeenHash = SeenHash([7; 16]);

/// A device's next entries, behind its second, name these entries of another one.
fn names(world: &mut World, author: usize, of: DeviceId, items: impl IntoIterator<Item = (u64, SeenHash)>) {
    let (me, keyring) = world.keys(author);
    let second = world.relay.entries().iter().filter_map(|stored| {
        let opened = zerok_sync_core::seal::open(&keyring, stored.envelope.as_ref()?).ok()?;
        (opened.claims().sender == me.device() && opened.claims().seq < 3)
            .then_some((opened.claims().seq, stored.blob_id))
    });
    let (mut seq, mut prev) = second.max().expect("it has written");
    for (named, hash) in items {
        seq += 1;
        let item = SeenItem { tag: of.tag(), seq: named, hash };
        let said = Content {
            seen: List::try_from(vec![item]).expect("one"),
            lamport: 500,
            ..content(&me, seq, prev, Kind::APP, "says so")
        };
        let nonce = [u8::try_from(named & 0x7f).expect("small"); 24];
        let sealed = seal(keyring.group(), keyring.current(), &me.signing, nonce, &said).expect("small");
        prev = sealed.blob_id;
        append(world, sealed);
    }
}

fn restart(world: &mut World, device: usize) {
    world.crash(device);
    world.start(device);
    world.settle();
}

/// Devices 0 (which is hostile), 1 (which reads) and 2 (which is away), and what 2 has written.
fn group() -> (World, [DeviceId; 3], u64) {
    let mut world = World::with_group(3);
    let ids = [world.id(0), world.id(1), world.id(2)];
    world.crash(0);
    world.crash(2);
    let chain = world.engine(1).heads().into_iter().find(|head| head.tag == ids[2].tag()).expect("it joined");
    (world, ids, chain.seq)
}

#[test]
fn a_name_beyond_anything_a_device_could_have_stored_is_its_authors_lie_and_holds_up_nothing() {
    let (mut world, [by, _, sender], _) = group();
    names(&mut world, 0, sender, [(u64::MAX, NONE)]);
    restart(&mut world, 1);
    assert_eq!(world.findings(1), [IntegrityEvent::FalseSeen { by, sender, seq: u64::MAX }]);
    compact(&mut world, 1, b"state");
}

#[test]
fn a_name_by_one_device_accuses_no_relay_and_holds_up_a_snapshot_no_longer_than_others_may_bring_it() {
    let (mut world, [by, _, sender], have) = group();
    names(&mut world, 0, sender, [(have + 5, NONE)]);
    restart(&mut world, 1);
    let unproven = IntegrityEvent::Unproven { sender, from_seq: have + 1, to_seq: have + 5, by };
    assert_eq!(world.findings(1), std::slice::from_ref(&unproven));
    assert_eq!(try_compact(&mut world, 1, b"state"), Err(CompactError::NotCaughtUp));
    world.advance(PATIENCE_MS);
    compact(&mut world, 1, b"state");
    assert_eq!(world.findings(1), [unproven], "told once");
}

#[test]
fn what_two_devices_name_is_missing_and_what_one_adds_is_its_word() {
    let mut world = World::with_group(4);
    let (sender, by) = (world.id(2), world.id(1));
    (0..4).for_each(|device| world.crash(device));
    // Its certificate.
    let have = 1;
    names(&mut world, 0, sender, [(have + 2, NONE)]);
    names(&mut world, 1, sender, [(have + 3, NONE)]);
    world.start(3);
    world.settle();
    let gap = IntegrityEvent::Gap { sender, from_seq: have + 1, to_seq: have + 2 };
    let unproven = IntegrityEvent::Unproven { sender, from_seq: have + 3, to_seq: have + 3, by };
    assert_eq!(world.findings(3), [gap, unproven]);
}

#[test]
fn a_name_that_the_devices_own_chain_contradicts_is_laid_to_its_author() {
    let (mut world, [by, _, sender], have) = group();
    names(&mut world, 0, sender, [(have + 1, NONE)]);
    restart(&mut world, 1);
    world.start(2);
    world.push(2, "what it wrote there");
    world.settle();
    world.advance(PATIENCE_MS);
    let told = IntegrityEvent::FalseSeen { by, sender, seq: have + 1 };
    assert!(world.findings(1).contains(&told), "{:?}", world.findings(1));
    assert_eq!(world.findings(2), [told], "it knows what it wrote");
    compact(&mut world, 1, b"state");
}

#[test]
fn a_device_that_reads_of_entries_it_never_wrote_says_who_names_them_and_writes_on() {
    let (mut world, [by, me, _], _) = group();
    names(&mut world, 0, me, [(40, NONE)]);
    restart(&mut world, 1);
    world.advance(PATIENCE_MS);
    assert_eq!(world.findings(1), [IntegrityEvent::FalseSeen { by, sender: me, seq: 40 }]);
    compact(&mut world, 1, b"state");
    let push = world.push(1, "goes on");
    world.settle();
    let status = world.engine(1).status();
    assert_eq!((status.connection, status.problem), (Connection::Live, None), "it is no copy");
    assert!(status.acked_push >= push);
}

#[test]
fn however_much_a_device_names_it_is_told_once_and_takes_one_place() {
    let (mut world, [_, _, sender], have) = group();
    names(
        &mut world,
        0,
        sender,
        (1..100).map(|more| have + more).chain((0..20).map(|less| u64::MAX - less)).map(|seq| (seq, NONE)),
    );
    restart(&mut world, 1);
    world.advance(PATIENCE_MS);
    assert_eq!(world.findings(1).len(), 2, "{:?}", world.findings(1));
    compact(&mut world, 1, b"state");
}

#[test]
fn what_a_device_named_counts_no_more_once_it_is_removed() {
    let (mut world, [by, _, sender], have) = group();
    names(&mut world, 0, sender, [(have + 5, NONE)]);
    restart(&mut world, 1);
    assert_eq!(try_compact(&mut world, 1, b"state"), Err(CompactError::NotCaughtUp));
    let now = world.now_at(1);
    world.engine(1).revoke(now, by).expect("a member");
    world.drain(1);
    world.settle();
    assert!(world.engine(1).status().members.iter().all(|member| member.device != by));
    compact(&mut world, 1, b"state");
}

#[test]
fn an_end_of_a_removed_device_that_never_was_keeps_back_nothing_that_another_device_names() {
    let mut world = World::with_group(4);
    let sender = world.id(2);
    [0, 2, 3].into_iter().for_each(|device| world.crash(device));
    let chain = world.engine(1).heads().into_iter().find(|head| head.tag == sender.tag()).expect("it joined");
    let head = world.relay.entries().iter().find(|stored| SeenHash::of(&stored.blob_id) == chain.hash);
    let (me, keyring) = world.keys(2);
    let last = content(&me, chain.seq + 1, head.expect("it is there").blob_id, Kind::APP, "the last word");
    let last = seal(keyring.group(), keyring.current(), &me.signing, [9; 24], &last).expect("small");
    let now = world.now_at(1);
    world.engine(1).revoke(now, sender).expect("a member");
    world.drain(1);
    world.settle();
    names(&mut world, 0, sender, [(chain.seq + 9, NONE)]);
    names(&mut world, 3, sender, [(chain.seq + 1, SeenHash::of(&last.blob_id))]);
    append(&mut world, last);
    restart(&mut world, 1);
    assert!(world.texts(1).contains(&"the last word".to_owned()), "{:?}", world.texts(1));
}

#[test]
fn what_was_named_in_a_session_that_never_came_to_its_end_is_missing_in_the_next_run_and_told_once() {
    let (mut world, [by, _, sender], have) = group();
    names(&mut world, 0, sender, [(have + 5, NONE)]);
    world.relay.withholds_end = true;
    restart(&mut world, 1);
    assert_eq!(world.findings(1), []);
    world.relay.withholds_end = false;
    let unproven = IntegrityEvent::Unproven { sender, from_seq: have + 1, to_seq: have + 5, by };
    for _ in 0..2 {
        restart(&mut world, 1);
        assert_eq!(world.findings(1), std::slice::from_ref(&unproven));
    }
    // It is here, and nobody waits for it any more: neither in this run nor in the next.
    world.start(2);
    for _ in 0..5 {
        world.push(2, "what it wrote");
    }
    world.settle();
    compact(&mut world, 1, b"state");
    restart(&mut world, 1);
    compact(&mut world, 1, b"state");
    assert!(world.rows(1, b"\x01N", b"\x01O").is_empty());
}

#[test]
fn what_a_removed_member_named_waits_in_no_later_run() {
    let (mut world, [hostile, _, sender], have) = group();
    names(&mut world, 0, sender, [(have + 5, NONE)]);
    restart(&mut world, 1);
    assert_eq!(world.rows(1, b"\x01N", b"\x01O").len(), 1);
    let now = world.now_at(1);
    world.engine(1).revoke(now, hostile).expect("both are members");
    world.settle();
    assert!(world.rows(1, b"\x01N", b"\x01O").is_empty());
}

#[test]
fn a_word_in_doubt_is_judged_by_the_next_run() {
    let (mut world, [by, me, _], _) = group();
    names(&mut world, 0, me, [(2, NONE)]);
    restart(&mut world, 1);
    let word = IntegrityEvent::FalseSeen { by, sender: me, seq: 2 };
    assert_eq!(world.findings(1), []);
    restart(&mut world, 1);
    world.advance(PATIENCE_MS);
    assert_eq!(world.findings(1), [word]);
    assert!(world.rows(1, b"\x01D", b"\x01E").is_empty());
}
