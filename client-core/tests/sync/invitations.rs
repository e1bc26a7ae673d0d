//! Invitations that cross each other on the way to the relay.

use zerok_sync_chaos::sim::World;
use zerok_sync_core::keys::{Membership, MembershipSeed};
use zerok_sync_core::{Connection, Event, Invite, InviteKind, JoinError};

use crate::outsiders::join;

#[test]
fn an_invitation_made_right_after_another_shows_its_own_mailbox() {
    let mut world = World::with_group(1);
    let now = world.now();
    world.engine(0).invite(now, InviteKind::Link { base: None }, 600_000);
    world.engine(0).invite(now, InviteKind::Link { base: None }, 600_000);
    world.settle();
    let invites: Vec<Invite> = world.devices[0]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::InviteReady { invite, .. } => Some(invite.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(invites.len(), 1);
    assert_eq!(world.engine(0).status().connection, Connection::Live);

    let joiner = world.add_device();
    world.join(joiner, invites[0].clone(), "second");
    world.settle();
    world.engine(0).accept_joiner_unchecked(now);
    // A second touch of the same button.
    world.engine(0).accept_joiner_unchecked(now);
    world.settle();
    assert!(world.devices[joiner].events.contains(&Event::Joined), "{:?}", world.devices[joiner].events);
}

#[test]
fn a_group_that_has_had_more_devices_than_it_can_have_at_once_lets_another_in() {
    let mut world = World::with_group(2);
    for seed in 100..164 {
        let (founder, keyring) = world.keys(0);
        (0..2).for_each(|device| world.crash(device));
        join(&mut world, seed, &founder, keyring.current().id);
        (0..2).for_each(|device| world.start(device));
        world.settle();
        let joined = Membership::from_seed(&MembershipSeed::from_bytes([seed; 32])).device();
        let now = world.now_at(0);
        world.engine(0).revoke(now, joined).expect("a member");
        world.settle();
    }
    assert_eq!(world.engine(0).status().members.len(), 2);
    world.push(0, "for whoever comes");
    world.settle();
    let later = world.pair(0, "later");
    world.settle();
    assert_eq!(world.texts(later), ["for whoever comes"]);
    assert!(!world.engine(later).status().joining);
}

#[test]
fn going_offline_ends_an_invitation_without_claiming_that_keys_were_handed_over() {
    let mut world = World::with_group(1);
    world.begin_joining(0, "second");
    world.settle();
    let now = world.now();
    world.engine(0).close(now);
    world.settle();
    let failed: Vec<_> =
        world.devices[0].events.iter().filter(|event| matches!(event, Event::InviteFailed(_))).collect();
    assert_eq!(failed, [&Event::InviteFailed(JoinError::PeerLeft)]);
}
