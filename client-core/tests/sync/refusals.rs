//! The outbox when the relay refuses and then says nothing.

use zerok_sync_chaos::sim::World;
use zerok_sync_core::{Input, Machine, Now};

#[test]
fn a_pause_the_relay_asked_for_ends_with_one_attempt_not_with_a_busy_loop() {
    let mut world = World::with_group(1);
    world.relay.refuse_pushes = 1;
    world.relay.refuse_index = 0;
    world.push(0, "refused once");
    world.settle();
    world.relay.swallow_acks = true;
    let deadline_ms = world.engine(0).next_deadline_ms().expect("the pause ends");
    let then = Now { mono_ms: deadline_ms, wall_ms: 0 };
    world.engine(0).handle(then, Input::Tick);
    assert!(world.engine(0).next_deadline_ms().expect("liveness") > deadline_ms);
}
