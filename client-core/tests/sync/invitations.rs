//! Invitations that cross each other on the way to the relay.

use zerok_sync_chaos::sim::World;
use zerok_sync_core::{Connection, Event, Invite, InviteKind, JoinError};

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
