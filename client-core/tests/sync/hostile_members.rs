//! A member that signs what no honest device does: it hurts its own chain and nothing else.

use zerok_sync_chaos::sim::World;
use zerok_sync_chaos::sim::relay::Stored;
use zerok_sync_core::content::{Content, Kind};
use zerok_sync_core::epoch::Removed;
use zerok_sync_core::keys::{Membership, MembershipSeed};
use zerok_sync_core::seal::{Sealed, seal};
use zerok_sync_core::{Connection, Event, IntegrityEvent};
use zerok_sync_protocol::BlobId;
use zerok_sync_protocol::wire::List;

use crate::epochs::{rotate, rotation};

/// An entry's content that says nothing about others.
pub fn content(sender: &Membership, seq: u64, prev: BlobId, kind: Kind, body: &'static [u8]) -> Content {
    Content {
        sender: sender.device(),
        seq,
        prev,
        seen: List::empty(),
        observed: None,
        lamport: 1_000 + seq,
        kind,
        sent_at_ms: 0,
        body: body.into(),
    }
}

/// An entry with the device's keys, behind the log's last one.
pub fn entry_of(world: &World, device: usize, seq: u64, kind: Kind, body: &'static [u8]) -> Sealed {
    let prev = world.relay.entries().last().expect("not empty").blob_id;
    let (me, keyring) = world.keys(device);
    let content = content(&me, seq, prev, kind, body);
    seal(keyring.group(), keyring.current(), &me.signing, [7; 24], &content).expect("small")
}

pub fn append(world: &mut World, sealed: Sealed) {
    world.relay.entries_mut().push(Stored { blob_id: sealed.blob_id, envelope: Some(sealed.envelope) });
}

fn assert_goes_on(world: &mut World, device: usize) {
    world.push(device, "goes on");
    world.settle();
    let stopped = world.devices[device].events.iter().any(|event| matches!(event, Event::StorageFailed(_)));
    assert!(!stopped, "{:?}", world.devices[device].events);
    assert_eq!(world.engine(device).status().connection, Connection::Live);
    assert_eq!(world.texts(device).last().map(String::as_str), Some("goes on"));
}

#[test]
fn an_entry_numbered_zero_has_no_place_and_stops_nobody() {
    let mut world = World::with_group(2);
    world.crash(0);
    let zero = entry_of(&world, 0, 0, Kind::APP, b"zero");
    let blob_id = zero.blob_id;
    append(&mut world, zero);
    let cursor = world.relay.entries().len() as u64;
    assert_goes_on(&mut world, 1);
    assert_eq!(world.findings(1), [IntegrityEvent::Corrupt { cursor, blob_id }]);
}

#[test]
fn an_entry_from_the_end_of_its_chain_or_of_all_time_stops_nobody() {
    let mut world = World::with_group(2);
    world.crash(0);
    let (me, keyring) = world.keys(0);
    let prev = world.relay.entries()[1].blob_id;
    let late = Content { lamport: u64::MAX, ..content(&me, 3, prev, Kind::APP, b"late") };
    let late = seal(keyring.group(), keyring.current(), &me.signing, [1; 24], &late).expect("small");
    append(&mut world, late.clone());
    let last = Content { lamport: 1, ..content(&me, 1, late.blob_id, Kind::APP, b"last") };
    let last = Content { seq: u64::MAX, ..last };
    let last = seal(keyring.group(), keyring.current(), &me.signing, [2; 24], &last).expect("small");
    let corrupt = IntegrityEvent::Corrupt { cursor: world.relay.entries().len() as u64 + 1, blob_id: last.blob_id };
    append(&mut world, last);
    assert_goes_on(&mut world, 1);
    assert_eq!(world.findings(1), [corrupt]);
    assert_goes_on(&mut world, 1);
    let lamports: Vec<u64> = world.entries(1).iter().map(|entry| entry.lamport).collect();
    assert_eq!(lamports.last(), Some(&u64::MAX), "nobody's time begins again: {lamports:?}");
}

#[test]
fn what_is_written_in_the_name_of_nobody_takes_no_place_of_what_a_member_wrote() {
    let mut world = World::with_group(2);
    world.crash(1);
    let (_, keyring) = world.keys(0);
    let nobody = Membership::from_seed(&MembershipSeed::from_bytes([9; 32]));
    // As many as can be held.
    for seq in 2..4_098 {
        let mut nonce = [9; 24];
        nonce[..8].copy_from_slice(&u64::to_le_bytes(seq));
        let written = content(&nobody, seq, BlobId::ZERO, Kind::APP, b"");
        let sealed = seal(keyring.group(), keyring.current(), &nobody.signing, nonce, &written);
        append(&mut world, sealed.expect("small"));
    }
    world.push(0, "a");
    world.settle();
    world.push(0, "b");
    world.settle();
    let head = world.relay.entries().len();
    world.relay.entries_mut().swap(head - 2, head - 1);
    world.start(1);
    world.settle();
    assert_eq!(world.texts(1), ["a", "b"]);
}

#[test]
fn a_held_entry_that_only_its_successor_vouched_for_stops_nobody() {
    let mut world = World::with_group(2);
    world.crash(1);
    world.crash(0);
    let (me, keyring) = world.keys(0);
    let (other, _) = world.keys(1);
    let head = world.relay.entries()[1].blob_id;
    let sealed = |signer: &Membership, seq, prev, nonce| {
        let content = content(&me, seq, prev, Kind::APP, b"x");
        seal(keyring.group(), keyring.current(), &signer.signing, [nonce; 24], &content).expect("small")
    };
    let third = sealed(&me, 3, head, 1);
    let unsigned = sealed(&other, 4, third.blob_id, 2);
    let fifth = sealed(&me, 5, unsigned.blob_id, 3);
    append(&mut world, unsigned);
    append(&mut world, fifth);
    let cursor = world.relay.entries().len() as u64 - 1;
    world.start(1);
    world.settle();
    append(&mut world, third);
    assert_goes_on(&mut world, 1);
    assert!(world.findings(1).contains(&IntegrityEvent::ForgedByMember { cursor, sender: me.device() }));
    world.crash(1);
    world.start(1);
    world.settle();
    assert_goes_on(&mut world, 1);
}

#[test]
fn a_removed_device_does_not_come_back_by_its_first_entry() {
    let mut world = World::with_group(3);
    let left = [world.keys(0).0.keys, world.keys(1).0.keys];
    let gone = world.keys(2).0.device();
    world.crash(2);
    let joined = world.relay.entries().iter().find(|stored| {
        let (_, keyring) = world.keys(0);
        let opened = zerok_sync_core::seal::open(&keyring, stored.envelope.as_ref().expect("stored"));
        opened.is_ok_and(|entry| entry.claims().sender == gone && entry.claims().seq == 1)
    });
    let joined = joined.expect("it joined").clone();
    let blob_id = joined.blob_id;
    let removed = Removed { device: gone, last_seq: 1, last_blob_id: joined.blob_id };
    let sealed = rotation(&world, 0, &left, &[removed]);
    rotate(&mut world, sealed);
    world.relay.entries_mut().push(joined);
    let cursor = world.relay.entries().len() as u64;
    world.crash(1);
    world.start(1);
    world.settle();
    let members = world.engine(1).status().members;
    assert!(members.iter().all(|member| member.device != gone), "{members:?}");
    assert!(world.findings(1).contains(&IntegrityEvent::Replayed { cursor, blob_id }));
}
