//! The same device twice: a restored backup, a cloned disk. It reads and never writes, whatever
//! restarts come between.

use zerok_sync_chaos::sim::World;
use zerok_sync_core::content::Kind;
use zerok_sync_core::{IntegrityEvent, Problem};

use crate::hostile_members::{append, entry_of};

#[test]
fn an_older_copy_stays_silent_after_a_lost_link_and_after_a_restart() {
    let mut world = World::with_group(2);
    let old = world.devices[0].storage.clone();
    world.push(0, "new");
    world.settle();
    world.crash(0);
    world.devices[0].storage = old;
    world.start(0);
    world.settle();
    let written = world.relay.entries().len();
    world.cut(0);
    world.advance(120_000);
    world.push(0, "after a lost link");
    world.settle();
    assert_eq!(world.engine(0).status().problem, Some(Problem::OlderCopy));
    world.crash(0);
    world.start(0);
    world.push(0, "after a restart");
    world.settle();
    assert_eq!(world.engine(0).status().problem, Some(Problem::OlderCopy));
    assert_eq!(world.relay.entries().len(), written);
    assert_eq!(world.findings(1), []);
}

#[test]
fn two_copies_that_write_at_once_find_out_and_lose_nothing_of_their_own() {
    let mut world = World::with_group(1);
    let sender = world.id(0);
    let elsewhere = entry_of(&world, 0, 3, Kind::APP, b"by the other copy");
    let second = elsewhere.blob_id;
    world.push(0, "by this copy");
    append(&mut world, elsewhere);
    world.settle();
    let first = world.relay.entries().last().expect("pushed").blob_id;
    assert!(world.findings(0).contains(&IntegrityEvent::ForkedDevice { sender, seq: 3, first, second }));
    assert_eq!(world.texts(0), ["by this copy"]);

    let written = world.relay.entries().len();
    world.crash(0);
    world.start(0);
    world.push(0, "would go on with one of two branches");
    world.settle();
    assert_eq!(world.relay.entries().len(), written);
    assert_eq!(world.engine(0).status().problem, Some(Problem::OlderCopy));
}
