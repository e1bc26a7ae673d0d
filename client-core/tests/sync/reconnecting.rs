//! Losing the relay and finding it again.

use zerok_sync_core::io::RelayAddress;
use zerok_sync_core::{Connection, Input, Problem};
use zerok_sync_protocol::{ErrorCode, RelayFrame};

use zerok_sync_chaos::sim::World;

#[test]
fn a_broken_link_is_tried_again_by_itself() {
    let mut world = World::with_group(2);
    world.cut(1);
    world.settle();
    assert_eq!(world.engine(1).status().connection, Connection::WaitingToRetry);
    world.push(0, "meanwhile");
    world.advance(2_000);
    assert_eq!(world.engine(1).status().connection, Connection::Live);
    assert_eq!(world.texts(1), ["meanwhile"]);
}

#[test]
fn while_no_relay_is_there_attempts_become_rare_and_a_wake_up_tries_at_once() {
    let mut world = World::with_group(1);
    world.relay_up = false;
    world.cut(0);
    world.advance(600_000);
    let status = world.engine(0).status();
    assert!(matches!(status.problem, Some(Problem::Unreachable(_))), "{:?}", status.problem);
    world.relay_up = true;
    world.handle(0, Input::Wake);
    world.settle();
    assert_eq!(world.engine(0).status().connection, Connection::Live);
    assert_eq!(world.engine(0).status().problem, None);
}

#[test]
fn a_relay_without_a_place_is_asked_again_when_it_says_but_within_a_minute_or_so() {
    for (asked_ms, quiet_ms, live_ms) in [(20_000, 19_900, 21_100), (3_600_000, 59_900, 61_100)] {
        let mut world = World::with_group(1);
        world.turn_away(0, asked_ms);
        world.advance(quiet_ms);
        let status = world.engine(0).status();
        assert_eq!(status.connection, Connection::WaitingToRetry);
        assert!(matches!(status.problem, Some(Problem::Unreachable(_))), "{:?}", status.problem);
        world.advance(live_ms - quiet_ms);
        assert_eq!(world.engine(0).status().connection, Connection::Live);
    }
}

#[test]
fn a_silent_link_is_found_dead_and_replaced() {
    let mut world = World::with_group(2);
    world.relay_up = true;
    // The relay forgets the session without a word: nothing answers the ping.
    let mut fresh = zerok_sync_chaos::sim::relay::Relay::new();
    fresh.log = world.relay.log.clone();
    world.relay = fresh;
    world.advance(40_000);
    world.push(0, "after the silence");
    world.advance(5_000);
    assert_eq!(world.texts(1), ["after the silence"]);
}

#[test]
fn an_idle_link_is_kept_alive_by_pings() {
    let mut world = World::with_group(1);
    world.devices[0].events.clear();
    world.advance(3_600_000);
    assert_eq!(world.engine(0).status().connection, Connection::Live);
    assert_eq!(world.devices[0].events, []);
}

#[test]
fn a_relay_with_another_key_is_told_apart_from_a_network_failure() {
    let mut world = World::with_group(1);
    world.relay.key = zerok_sync_protocol::channel::StaticKey::from_bytes([8; 32]);
    world.cut(0);
    world.advance(5_000);
    let url = world.engine(0).status().relay.url;
    assert_eq!(world.engine(0).status().problem, Some(Problem::RelayKeyChanged { url }));
}

#[test]
fn the_key_of_the_first_contact_is_pinned() {
    let mut world = World::new();
    let device = world.found("a");
    let RelayAddress { key, .. } = world.engine(device).status().relay;
    assert_eq!(key, Some(world.relay.public_key()));
}

#[test]
fn a_log_that_is_another_one_in_every_session_is_not_asked_for_without_end() {
    let mut world = World::with_group(1);
    let diverged = RelayFrame::Error { code: ErrorCode::Diverged.number(), retry_after_ms: 0, detail: String::new() };
    let mut sessions = 0;
    for _ in 0..600 {
        if world.engine(0).status().connection == Connection::Live {
            sessions += 1;
            world.relay_says(&diverged);
        }
        world.advance(100);
    }
    assert!((3..=12).contains(&sessions), "{sessions} sessions in a minute");
}
