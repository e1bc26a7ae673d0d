//! Invitations that cross each other on the way to the relay.

use zerok_sync_chaos::sim::World;
use zerok_sync_core::{Connection, Event, JoinError};

#[test]
fn an_invitation_made_right_after_another_shows_its_own_mailbox() {
    let mut world = World::with_group(1);
    let now = world.now();
    world.engine(0).invite(now, None, 600_000);
    world.engine(0).invite(now, None, 600_000);
    world.settle();
    let links: Vec<String> = world.devices[0]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::InviteReady { link, .. } => Some(link.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(links.len(), 1);
    assert_eq!(world.engine(0).status().connection, Connection::Live);

    let joiner = world.add_device();
    world.join(joiner, &links[0], "second");
    world.settle();
    world.engine(0).answer_joiner(now, true);
    // A second touch of the same button.
    world.engine(0).answer_joiner(now, true);
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
