//! An audit of what a device has stored, while that device goes on.

use zerok_sync_chaos::sim::World;
use zerok_sync_core::{Audit, AuditReport, Engine};

use crate::shrinking::{first_position, move_floor, written_and_compacted};
use crate::snapshots::push_all;

/// Reads the rows behind a key, as an app does page by page, and of them at most so many.
fn read_on(world: &mut World, audit: &mut Audit, from: &mut Vec<u8>, rows_max: usize) {
    let (_, to) = Engine::mirror_range();
    let rows = world.rows(0, from, &to);
    world.engine(0).renew_audit(audit);
    for row in rows.into_iter().take(rows_max) {
        *from = [row.key.as_slice(), &[0]].concat();
        audit.row(row);
    }
}

/// Audits device 0, in the middle of which something happens.
fn audit_around(world: &mut World, happening: impl FnOnce(&mut World)) -> AuditReport {
    let mut audit = world.engine(0).audit();
    let (mut from, _) = Engine::mirror_range();
    read_on(world, &mut audit, &mut from, 3);
    happening(world);
    read_on(world, &mut audit, &mut from, usize::MAX);
    audit.finish()
}

#[test]
fn what_comes_under_keys_that_are_newer_than_an_audit_is_no_finding_of_it() {
    let mut world = World::with_group(2);
    push_all(&mut world, 1, &["a", "b", "c", "d"]);
    let report = audit_around(&mut world, |world| {
        let now = world.now_at(1);
        world.engine(1).rotate(now).expect("a member");
        world.settle();
        push_all(world, 1, &["e"]);
    });
    assert_eq!(report.findings, []);
    assert!(report.senders.iter().any(|sender| sender.device == world.id(1) && sender.last_seq >= 6), "{report:?}");
}

#[test]
fn what_a_snapshot_stands_for_since_an_audit_began_is_no_gap_to_it() {
    let mut world = written_and_compacted();
    let report = audit_around(&mut world, |world| {
        move_floor(world);
        push_all(world, 1, &["after"]);
        assert!(first_position(world, 0) > 1, "the mirror has shrunk");
    });
    assert_eq!(report.findings, []);
}
