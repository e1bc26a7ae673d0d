//! The group's list of relays: which of several counts, and who follows it when.

use zerok_sync_chaos::sim::World;
use zerok_sync_chaos::sim::relay::Stored;
use zerok_sync_core::content::{Content, Kind};
use zerok_sync_core::io::RelayAddress;
use zerok_sync_core::seal::{Sealed, open, seal};
use zerok_sync_core::{Connection, RelaysError};
use zerok_sync_protocol::{NoisePublicKey, wire};

use crate::granted::let_in;
use crate::hostile_members::{append, content};
use crate::relays::{SETTLE_MS, urls, world};

/// A device's next entry behind another: a list of relays.
fn list(world: &World, device: usize, behind: usize, lamport: u64, relays: &[(String, NoisePublicKey)]) -> Sealed {
    let (me, keyring) = world.keys(device);
    let behind = &world.relay.entries()[behind];
    let opened = open(&keyring, behind.envelope.as_ref().expect("whole")).expect("an entry");
    let body = wire::encode(&vec![relays.to_vec()]);
    let content = Content { lamport, ..content(&me, opened.claims().seq + 1, behind.blob_id, Kind::RELAYS, body) };
    seal(keyring.group(), keyring.current(), &me.signing, [11; 24], &content).expect("small")
}

fn listed(world: &World, relays: &[usize]) -> Vec<(String, NoisePublicKey)> {
    relays.iter().map(|relay| (World::url(*relay), world.relay_at(*relay).public_key())).collect()
}

#[test]
fn of_two_lists_the_later_one_counts_whichever_is_read_first() {
    for order in [[0, 1], [1, 0]] {
        let mut world = World::with_group(3);
        world.add_relay();
        world.crash(0);
        world.crash(1);
        let (both, one) = (listed(&world, &[0, 1]), listed(&world, &[0]));
        // The name of the founder, and the second device's first entry.
        let lists = [list(&world, 0, 1, 2_000, &both), list(&world, 1, 2, 1_500, &one)];
        order.into_iter().for_each(|which: usize| append(&mut world, lists[which].clone()));
        world.cut(2);
        world.advance(SETTLE_MS);
        assert_eq!(urls(&mut world, 2), [World::url(0), World::url(1)], "in the order {order:?}");
    }
}

#[test]
fn a_list_that_leads_nowhere_is_not_followed() {
    let mut world = World::with_group(2);
    let second = world.add_relay();
    world.crash(0);
    let elsewhere = vec![("no address".to_owned(), world.relay_at(second).public_key())];
    for (number, relays) in [Vec::new(), elsewhere].into_iter().enumerate() {
        let behind = if number == 0 { 1 } else { world.relay.entries().len() - 1 };
        let list = list(&world, 0, behind, 2_000, &relays);
        append(&mut world, list);
        world.cut(1);
        world.advance(SETTLE_MS);
        assert_eq!(urls(&mut world, 1), [World::url(0)]);
        assert_eq!(world.engine(1).status().connection, Connection::Live);
    }
}

#[test]
fn a_relay_that_is_being_added_stays_when_somebody_else_tells_a_list_without_it() {
    let mut world = World::with_group(2);
    let second = world.add_relay();
    world.set_up(second, false);
    world.crash(1);
    world.list_relay(0, second);
    let list = list(&world, 1, 2, 2_000, &listed(&world, &[0]));
    append(&mut world, list);
    world.cut(0);
    world.advance(SETTLE_MS);
    assert_eq!(urls(&mut world, 0), [World::url(0), World::url(1)]);
    world.set_up(second, true);
    world.advance(SETTLE_MS);
    world.start(1);
    world.advance(SETTLE_MS);
    assert_eq!(urls(&mut world, 1), [World::url(0), World::url(1)], "and the group is told of it");
}

#[test]
fn a_device_that_joins_goes_to_the_newest_list_and_to_no_older_one() {
    let mut world = world(2);
    let now = world.now_at(0);
    world.engine(0).remove_relay(now, &World::url(1)).expect("the other one stays");
    world.drain(0);
    world.advance(SETTLE_MS);
    let later = world.pair(0, "later");
    world.advance(SETTLE_MS);
    assert_eq!(urls(&mut world, later), [World::url(0)]);
    let there = &world.relay_at(1).log.as_ref().expect("kept").allow;
    assert!(!there.contains(&world.keys(later).0.keys.noise), "it never went there");
}

#[test]
fn a_device_that_joins_follows_no_older_list_either_while_it_has_read_no_further() {
    let mut world = world(2);
    // No two of them in one message.
    for _ in 0..4 {
        world.push(0, &"between the lists".repeat(6_000));
    }
    world.settle();
    let now = world.now_at(0);
    world.engine(0).remove_relay(now, &World::url(1)).expect("the other one stays");
    world.drain(0);
    world.advance(SETTLE_MS);
    world.relay.page_items = 1;
    let later = let_in(&mut world, 0);
    world.start(later);
    let until_ms = world.now_ms() + SETTLE_MS;
    while world.texts(later).len() < 2 {
        assert!(world.step(until_ms), "it reads");
    }
    // It has read the list with both relays, and not the one behind it.
    world.set_up(0, false);
    world.advance(SETTLE_MS);
    assert_eq!(urls(&mut world, later), [World::url(0)]);
    let there = &world.relay_at(1).log.as_ref().expect("kept").allow;
    assert!(!there.contains(&world.keys(later).0.keys.noise), "it never went there");
    world.set_up(0, true);
    world.advance(SETTLE_MS);
    assert_eq!(urls(&mut world, later), [World::url(0)]);
    assert_eq!(world.texts(later).len(), 5);
}

#[test]
fn a_list_that_is_newer_than_its_grant_is_followed_by_a_device_once_it_has_joined() {
    let mut world = world(2);
    world.push(0, "the inviter's last");
    world.settle();
    let later = let_in(&mut world, 0);
    world.set_up(1, false);
    let list = list(&world, 1, 2, 5_000, &listed(&world, &[0]));
    let stored = Stored { blob_id: list.blob_id, envelope: Some(list.envelope) };
    let last = world.relay.entries().len() - 1;
    world.relay.entries_mut().insert(last, stored);
    world.start(later);
    world.advance(SETTLE_MS);
    assert!(!world.engine(later).status().joining);
    assert_eq!(urls(&mut world, later), [World::url(0)]);
}

#[test]
fn a_relay_is_listed_once_and_only_by_an_address() {
    let mut world = world(1);
    let now = world.now_at(0);
    let add = |world: &mut World, url: &str| {
        world.engine(0).add_relay(now, RelayAddress { url: url.into(), key: None }, None, false)
    };
    assert_eq!(add(&mut world, &World::url(1)), Err(RelaysError::Listed(World::url(1))));
    assert_eq!(add(&mut world, "not an address"), Err(RelaysError::NotAnAddress("not an address".into())));
    assert_eq!(add(&mut world, "http://192.0.2.1"), Err(RelaysError::KeyNeeded("http://192.0.2.1".into())));
    assert_eq!(
        world.engine(0).remove_relay(now, "http://127.0.0.1:1"),
        Err(RelaysError::NotListed("http://127.0.0.1:1".into()))
    );
}

#[test]
fn a_listed_relay_is_known_by_its_origin_however_a_member_wrote_it() {
    let mut world = World::with_group(2);
    let second = world.add_relay();
    world.crash(0);
    let unlike = World::url(second).replace("http", "HTTP") + "/";
    let key = world.engine(1).status().relays[0].address.key.expect("met");
    let relays = vec![(World::url(0), key), (unlike, NoisePublicKey([9; 32]))];
    let (me, keyring) = world.keys(0);
    let prev = world.relay.entries()[1].blob_id;
    // An array of one: the list.
    let body = [&[0x91][..], &wire::encode(&relays)].concat().into();
    let list = Content { body, ..content(&me, 3, prev, Kind::RELAYS, b"") };
    let sealed = seal(keyring.group(), keyring.current(), &me.signing, [7; 24], &list);
    append(&mut world, sealed.expect("small"));
    world.push(1, "goes on");
    world.settle();
    assert_eq!(urls(&mut world, 1), [World::url(0), World::url(second)]);
}
