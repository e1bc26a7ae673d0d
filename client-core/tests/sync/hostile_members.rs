//! A member that signs what no honest device does: it hurts its own chain and nothing else.

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerok_sync_chaos::sim::World;
use zerok_sync_chaos::sim::relay::Stored;
use zerok_sync_core::certificate::{Card, JoinCertificate};
use zerok_sync_core::content::{Content, Kind};
use zerok_sync_core::epoch::{EpochBody, MemberDigest, Removed, seal_epoch};
use zerok_sync_core::keys::{Membership, MembershipSeed};
use zerok_sync_core::seal::{Sealed, seal};
use zerok_sync_core::{Connection, Engine, Event, IntegrityEvent};
use zerok_sync_protocol::id::RelayTag;
use zerok_sync_protocol::wire::{self, List};
use zerok_sync_protocol::{BlobId, EpochId, NoisePublicKey, Timeline, wire_struct};

use crate::epochs::{rotate, rotation};
use crate::snapshots::{assert_sound, compact, names, state};

/// What an entry of a device says at a place of its chain; nothing about others.
pub fn content(sender: &Membership, seq: u64, prev: BlobId, kind: Kind, body: impl AsRef<[u8]>) -> Content {
    Content {
        sender: sender.device(),
        seq,
        prev,
        seen: List::empty(),
        observed: None,
        lamport: 1_000 + seq,
        kind,
        sent_at_ms: 0,
        body: Bytes::copy_from_slice(body.as_ref()),
    }
}

/// Entries that a member's device adds to its chain, behind the one there.
pub fn write(
    world: &mut World,
    me: &Membership,
    after: (u64, BlobId),
    bodies: impl IntoIterator<Item = (Kind, impl AsRef<[u8]>)>,
) {
    let (_, keyring) = world.keys(0);
    let (mut seq, mut prev) = after;
    for (kind, body) in bodies {
        seq += 1;
        let content = content(me, seq, prev, kind, body);
        let nonce = [seq.to_le_bytes()[0]; 24];
        let sealed = seal(keyring.group(), keyring.current(), &me.signing, nonce, &content).expect("small");
        prev = sealed.blob_id;
        append(world, sealed);
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
    assert!(lamports.contains(&u64::MAX), "it is what its author signed");
    let [.., before, last] = lamports[..] else { panic!("{lamports:?}") };
    assert!(before < last && last < 1_000, "nobody follows it, and there is a time behind the latest: {lamports:?}");
}

wire_struct! {
    /// Body of an entry with the group's relays.
    pub struct RelayList {
        /// Address and key of each.
        relays: Vec<Listed>,
    }
}

wire_struct! {
    /// One of them.
    pub struct Listed {
        /// Its origin.
        url: String,
        /// Its Noise key.
        key: NoisePublicKey,
    }
}

#[test]
fn a_list_of_relays_from_the_end_of_all_time_is_void_and_any_other_is_replaced_by_the_next() {
    for (lamport, counts) in [(u64::MAX, false), (1 << 33, false), (1 << 32, true)] {
        let mut world = World::with_group(2);
        let (second, third) = (world.add_relay(), world.add_relay());
        world.crash(0);
        let mine = Listed { url: World::url(third), key: world.relay_at(third).public_key() };
        let theirs = Listed { url: World::url(0), key: world.relay.public_key() };
        let (me, keyring) = world.keys(0);
        let body = wire::encode(&RelayList { relays: vec![theirs, mine] });
        let list = Content { lamport, ..content(&me, 3, world.relay.entries()[1].blob_id, Kind::RELAYS, body) };
        append(&mut world, seal(keyring.group(), keyring.current(), &me.signing, [5; 24], &list).expect("small"));
        restart(&mut world, 1);
        assert_eq!(world.engine(1).status().relays.len(), if counts { 2 } else { 1 }, "{lamport}");
        // Whoever reads both lists goes by the one that was written later.
        world.list_relay(1, second);
        world.settle();
        world.advance(120_000);
        let later = world.pair(1, "later");
        world.advance(120_000);
        let urls = |world: &mut World, device: usize| {
            let relays = world.engine(device).status().relays;
            relays.into_iter().map(|relay| relay.address.url).collect::<Vec<_>>()
        };
        let listed = urls(&mut world, 1);
        assert!(listed.contains(&World::url(second)), "{lamport}: {listed:?}");
        assert_eq!(urls(&mut world, later), listed, "{lamport}");
    }
}

wire_struct! {
    /// Body of an entry about what a relay did.
    pub struct Told {
        /// Which.
        relay: RelayTag,
        /// What it broke off, ...
        old: Timeline,
        /// ... and began.
        timeline: Timeline,
        /// What was read of it ...
        from_cursor: u64,
        /// ... and is still in common.
        to_cursor: u64,
    }
}

#[test]
fn what_a_member_tells_of_a_relay_fills_nobodys_row() {
    let mut world = World::with_group(2);
    world.crash(0);
    let (me, relay) = (world.keys(0).0, RelayTag::of(&world.relay.public_key()));
    let size = |world: &World| {
        let rows = &world.devices[1].storage;
        rows.iter().filter(|(key, _)| key.starts_with(b"\x01u")).map(|(_, value)| value.len()).sum::<usize>()
    };
    let before = size(&world);
    let invented = |number: u64| {
        let timeline = |half: u64| Timeline((number << 1 | half | 1 << 40).to_le_bytes());
        Told { relay, old: timeline(0), timeline: timeline(1), from_cursor: 9, to_cursor: 1 }
    };
    let bodies: Vec<_> = (0..500).map(|number| (Kind::INCIDENT, wire::encode(&invented(number)))).collect();
    let second = world.relay.entries()[1].blob_id;
    write(&mut world, &me, (2, second), bodies);
    restart(&mut world, 1);
    assert!(size(&world) < before + 4_000, "{} bytes, {before} before", size(&world));
    assert_goes_on(&mut world, 1);
}

#[test]
fn what_a_member_writes_as_the_beginning_of_the_group_fills_nobodys_row() {
    let mut world = World::with_group(2);
    world.crash(0);
    let (me, keyring) = world.keys(0);
    let size = |world: &World| {
        let rows = &world.devices[1].storage;
        rows.iter().filter(|(key, _)| key.starts_with(b"\x01u")).map(|(_, value)| value.len()).sum::<usize>()
    };
    let before = size(&world);
    let body = EpochBody {
        sender: me.device(),
        seq: 1,
        prev: BlobId::ZERO,
        seen: List::empty(),
        previous_epoch: EpochId::ZERO,
        previous_blob_id: BlobId::ZERO,
        removed: List::empty(),
        member_digest: MemberDigest::of([me.device()]),
        allow: List::empty(),
        keyring: List::empty(),
        lamport: 1,
        sent_at_ms: 0,
        genesis: Bytes::new(),
    };
    let secret = keyring.secret(&keyring.current().id).expect("its own").clone();
    for number in 0..200 {
        let mut rng = ChaCha20Rng::from_seed([number; 32]);
        let sealed = seal_epoch(keyring.group(), &secret, &me.signing, std::slice::from_ref(&me.keys), &body, &mut rng);
        append(&mut world, sealed.expect("one member"));
    }
    restart(&mut world, 1);
    assert!(size(&world) < before + 2_000, "{} bytes, {before} before", size(&world));
    assert_goes_on(&mut world, 1);
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

/// Entries 3, 4 and 5 of device 0, of which 4 bears another device's signature. They say what they are.
fn badly_signed(world: &World) -> [Sealed; 3] {
    badly_signed_of(world, Kind::APP)
}

/// The same, with an entry 4 of this kind.
fn badly_signed_of(world: &World, kind: Kind) -> [Sealed; 3] {
    let (me, keyring) = world.keys(0);
    let (other, _) = world.keys(1);
    let mut prev = world.relay.entries()[1].blob_id;
    let entries = [(&me, 3, Kind::APP, &b"3"[..]), (&other, 4, kind, b"4"), (&me, 5, Kind::APP, b"5")];
    entries.map(|(signer, seq, kind, body)| {
        let content = content(&me, seq, prev, kind, body);
        let nonce = [seq.to_le_bytes()[0]; 24];
        let sealed = seal(keyring.group(), keyring.current(), &signer.signing, nonce, &content).expect("small");
        prev = sealed.blob_id;
        sealed
    })
}

fn restart(world: &mut World, device: usize) {
    world.crash(device);
    world.start(device);
    world.settle();
}

#[test]
fn a_badly_signed_entry_counts_by_its_successor_wherever_pages_end() {
    for ends in 0..4 {
        let mut world = World::with_group(2);
        world.crash(0);
        for (number, sealed) in badly_signed(&world).into_iter().enumerate() {
            append(&mut world, sealed);
            if ends & (1 << number) != 0 {
                restart(&mut world, 1);
            }
        }
        restart(&mut world, 1);
        assert_eq!(world.texts(1), ["3", "4", "5"], "pages end as in {ends:b}");
        assert_goes_on(&mut world, 1);
        restart(&mut world, 1);
        assert_goes_on(&mut world, 1);
    }
}

#[test]
fn a_badly_signed_entry_says_nothing_of_the_group_and_spoils_no_snapshot() {
    for kind in [Kind::APP, Kind::RENAME] {
        let mut world = World::with_group(2);
        world.crash(0);
        badly_signed_of(&world, kind).into_iter().for_each(|sealed| append(&mut world, sealed));
        restart(&mut world, 1);
        let read = if kind == Kind::APP { &["3", "4", "5"][..] } else { &["3", "5"] };
        assert_eq!(world.texts(1), read, "{kind:?}");
        assert_eq!(names(&mut world, 1), ["device 0", "device 1"], "{kind:?}");
        assert_sound(&mut world, 1);
        compact(&mut world, 1, read.join(" ").as_bytes());
        let later = world.pair(1, "later");
        assert_eq!(state(&mut world, later), read, "{kind:?}");
        assert!(world.entries(later)[0].snapshot);
        assert_eq!(names(&mut world, later), ["device 0", "device 1", "later"], "{kind:?}");
        assert_sound(&mut world, later);
        assert_sound(&mut world, 1);
    }
}

#[test]
fn a_badly_signed_entry_counts_by_its_successor_in_whatever_order_they_come() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut world = World::with_group(2);
        world.crash(0);
        let sealed = badly_signed(&world);
        for number in order {
            append(&mut world, sealed[number].clone());
            restart(&mut world, 1);
        }
        assert_eq!(world.texts(1), ["3", "4", "5"], "in the order {order:?}");
        assert_goes_on(&mut world, 1);
    }
}

#[test]
fn an_entry_that_its_sender_neither_signed_nor_vouches_for_is_told_and_never_read() {
    let mut world = World::with_group(2);
    world.crash(0);
    let sender = world.keys(0).0.device();
    let [third, fourth, _] = badly_signed(&world);
    append(&mut world, third);
    append(&mut world, fourth);
    let cursor = world.relay.entries().len() as u64;
    restart(&mut world, 1);
    assert_eq!(world.texts(1), ["3"]);
    assert_eq!(world.findings(1), [IntegrityEvent::ForgedByMember { cursor, sender }]);
    restart(&mut world, 1);
    assert_eq!(world.findings(1).len(), 1, "told once");
}

#[test]
fn b_frame_entries_forged_in_anothers_name_hurt_neither_it_nor_its_readers() {
    for seq in [2, 3, 4] {
        let mut world = World::with_group(2);
        world.push(0, "before");
        world.settle();
        let (me, keyring) = world.keys(0);
        let (forger, _) = world.keys(1);
        let prev = world.relay.entries()[1].blob_id;
        let forged = content(&me, seq, prev, Kind::APP, "forged");
        append(&mut world, seal(keyring.group(), keyring.current(), &forger.signing, [8; 24], &forged).expect("small"));
        let cursor = world.relay.entries().len() as u64;
        restart(&mut world, 1);
        world.push(0, "behind it");
        world.settle();
        assert_eq!(world.texts(1), ["before", "behind it"], "number {seq}");
        assert_eq!(world.findings(1), [IntegrityEvent::ForgedByMember { cursor, sender: me.device() }], "number {seq}");
        let waiting = [Engine::HOT_FROM, b"t"].concat();
        assert!(!world.devices[1].storage.keys().any(|key| key.starts_with(&waiting)), "its place is taken");
        assert_goes_on(&mut world, 1);
    }
}

#[test]
fn a_first_entry_counts_by_its_own_signature_only() {
    let mut world = World::with_group(2);
    world.crash(0);
    let (member, keyring) = world.keys(0);
    let joiner = Membership::from_seed(&MembershipSeed::from_bytes([0x51; 32]));
    let card = Card { keys: joiner.keys.clone(), name: "joiner".parse().expect("a name") };
    let epoch = keyring.current();
    let certificate = JoinCertificate::issue(keyring.group(), &member.signing, card, epoch.id);
    let sealed = |signer: &Membership, seq, prev, kind, body: Bytes| {
        let content = content(&joiner, seq, prev, kind, body);
        let nonce = [u8::try_from(seq).expect("small"); 24];
        seal(keyring.group(), epoch, &signer.signing, nonce, &content).expect("small")
    };
    let first = sealed(&member, 1, BlobId::ZERO, Kind::JOIN, certificate.to_bytes());
    let second = sealed(&joiner, 2, first.blob_id, Kind::APP, "vouches for it".into());
    append(&mut world, first);
    append(&mut world, second);
    restart(&mut world, 1);
    assert_eq!(world.engine(1).status().members.len(), 2);
    assert_eq!(world.texts(1), [""; 0]);
}

#[test]
fn what_waits_for_a_signature_is_bounded() {
    let mut world = World::with_group(2);
    world.crash(0);
    let (me, keyring) = world.keys(0);
    let (forger, _) = world.keys(1);
    let rows = world.devices[1].storage.len();
    for seq in 10..410 {
        let forged = content(&me, seq, BlobId::ZERO, Kind::APP, "forged");
        append(&mut world, seal(keyring.group(), keyring.current(), &forger.signing, [9; 24], &forged).expect("small"));
    }
    restart(&mut world, 1);
    let more = world.devices[1].storage.len() - rows;
    // As many wait as may, and each of them all was told once.
    assert!((300..700).contains(&more), "{more} rows");
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

#[test]
fn of_devices_that_one_member_makes_up_and_that_come_too_late_few_are_remembered() {
    let mut world = World::with_group(3);
    let keys = [world.keys(0), world.keys(2)];
    let now = world.now_at(1);
    world.engine(1).rotate(now).expect("a member");
    world.drain(1);
    world.settle();
    (0..3).for_each(|device| world.crash(device));
    let let_in = |world: &mut World, number: u8, by: usize| {
        let (inviter, keyring) = &keys[by];
        let joiner = Membership::from_seed(&MembershipSeed::from_bytes([number; 32]));
        let card = Card { keys: joiner.keys.clone(), name: "made up".parse().expect("a name") };
        let epoch = keyring.current();
        let certificate = JoinCertificate::issue(keyring.group(), &inviter.signing, card, epoch.id);
        let first = content(&joiner, 1, BlobId::ZERO, Kind::JOIN, certificate.to_bytes());
        append(world, seal(keyring.group(), epoch, &joiner.signing, [number; 24], &first).expect("small"));
    };
    (0x40..0x70).for_each(|number| let_in(&mut world, number, 0));
    let made_up = world.relay.entries().len() as u64;
    let_in(&mut world, 0x80, 1);
    world.start(1);
    world.settle();
    let remembered = world.devices[1].storage.keys().filter(|key| key.starts_with(b"\x01d")).count();
    assert_eq!(remembered, 32 + 1, "and whom another member had let in");
    let told = world.findings(1);
    assert_eq!(told.len(), 0x30 - 32);
    let of_others =
        |it: &IntegrityEvent| !matches!(it, IntegrityEvent::NotAMember { cursor, .. } if *cursor <= made_up);
    assert!(!told.iter().any(of_others), "{told:?}");
}

#[test]
fn a_badly_signed_entry_from_the_end_of_its_chain_stops_nobody() {
    for seq in [u64::MAX - 1, u64::MAX] {
        let mut world = World::with_group(2);
        world.crash(0);
        let (me, keyring) = world.keys(0);
        let (other, _) = world.keys(1);
        let late = content(&me, 1, world.relay.entries()[1].blob_id, Kind::APP, b"late");
        let late = Content { seq, lamport: 1, ..late };
        append(&mut world, seal(keyring.group(), keyring.current(), &other.signing, [1; 24], &late).expect("small"));
        let cursor = world.relay.entries().len() as u64;
        for _ in 0..2 {
            restart(&mut world, 1);
            assert_goes_on(&mut world, 1);
        }
        let forged = IntegrityEvent::ForgedByMember { cursor, sender: me.device() };
        assert!(world.findings(1).contains(&forged), "{:?}", world.findings(1));
    }
}
