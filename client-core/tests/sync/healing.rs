//! A relay that lost something, by accident or on purpose: told where it was not said, put right by
//! whoever has it, and read whole by a device that joins later.

use zerok_sync_core::content::Kind;
use zerok_sync_core::{IntegrityEvent, seal};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::wire;

use zerok_sync_chaos::sim::{Defect, Loss, World};

/// What is needed for delays, backoff and a round of repair.
const SETTLE_MS: u64 = 90_000;

/// A group of two in which device 0 pushed `a`, `b` and `c` and both have everything.
fn world() -> World {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a", "b", "c"]);
    world
}

fn push_all(world: &mut World, device: usize, texts: &[&str]) {
    for text in texts {
        world.push(device, text);
    }
    world.settle();
}

fn head(world: &World) -> u64 {
    world.relay.entries().len() as u64
}

/// Another device, paired now: what it can read is what the relay has.
fn texts_of_a_new_device(world: &mut World) -> Vec<String> {
    let device = world.pair(0, "later");
    world.advance(SETTLE_MS);
    assert_eq!(world.findings(device), [], "history is no alarm");
    world.texts(device)
}

#[test]
fn b_roll_a_log_put_back_to_an_older_copy_is_told_by_everybody_once_and_healed() {
    let mut world = world();
    let from = head(&world);
    world.roll_back_relay(2, false);
    world.advance(SETTLE_MS);
    for device in 0..2 {
        assert_eq!(world.findings(device), [IntegrityEvent::RolledBack { from, to: Some(from - 2) }], "{device}");
    }
    assert_eq!(texts_of_a_new_device(&mut world), ["a", "b", "c"]);
    push_all(&mut world, 1, &["d"]);
    world.advance(SETTLE_MS);
    assert_eq!(world.texts(0), ["a", "b", "c", "d"]);
    assert_eq!(world.findings(0).len(), 1);
}

#[test]
fn b_roll_02_a_log_that_grew_past_its_old_head_is_found_by_the_blob_id() {
    let mut world = World::with_group(3);
    push_all(&mut world, 0, &["a"]);
    world.crash(2);
    push_all(&mut world, 0, &["b", "c"]);
    let from = head(&world);
    world.crash(0);
    world.crash(1);
    world.roll_back_relay(2, false);
    world.start(2);
    world.settle();
    push_all(&mut world, 2, &["x", "y", "z"]);
    assert!(head(&world) > from);
    world.start(1);
    world.advance(SETTLE_MS);
    assert_eq!(world.findings(1), [IntegrityEvent::RolledBack { from, to: Some(from - 2) }]);
    world.start(0);
    world.advance(SETTLE_MS);
    for device in 0..3 {
        let mut texts = world.texts(device);
        texts.sort();
        assert_eq!(texts, ["a", "b", "c", "x", "y", "z"], "device {device}");
    }
    assert_eq!(world.findings(0), [IntegrityEvent::RolledBack { from, to: Some(from - 2) }]);
    assert_eq!(world.findings(2), [], "it had read nothing that was lost");
    let mut later = texts_of_a_new_device(&mut world);
    later.sort();
    assert_eq!(later, ["a", "b", "c", "x", "y", "z"]);
}

#[test]
fn b_wipe_a_wiped_relay_is_made_again_and_filled_in_silence() {
    let mut world = world();
    push_all(&mut world, 1, &["d"]);
    world.wipe_relay();
    world.advance(SETTLE_MS);
    assert_eq!(texts_of_a_new_device(&mut world), ["a", "b", "c", "d"]);
    for device in 0..2 {
        assert_eq!(world.findings(device), [], "device {device}");
    }
    push_all(&mut world, 0, &["e"]);
    world.advance(SETTLE_MS);
    assert_eq!(world.texts(1), ["a", "b", "c", "d", "e"]);
}

#[test]
fn b_wipe_a_relay_that_is_wiped_again_at_any_step_of_its_making_is_made_once_more() {
    let made_first = |steps: usize| {
        let mut world = World::with_group(1);
        push_all(&mut world, 0, &["a"]);
        world.wipe_relay();
        let until_ms = world.now_ms() + SETTLE_MS;
        let all_taken = (0..steps).all(|_| world.step(until_ms));
        (world, all_taken)
    };
    for steps in 0.. {
        let (mut world, all_taken) = made_first(steps);
        world.wipe_relay();
        world.advance(SETTLE_MS);
        assert_eq!(texts_of_a_new_device(&mut world), ["a"], "wiped again after {steps} steps");
        assert_eq!(world.findings(0), [], "wiped again after {steps} steps");
        if !all_taken {
            break;
        }
    }
}

#[test]
fn b_wipe_a_declared_restore_is_healed_in_silence() {
    let mut world = world();
    world.roll_back_relay(2, true);
    world.advance(SETTLE_MS);
    for device in 0..2 {
        assert_eq!(world.findings(device), [], "device {device}");
    }
    assert_eq!(texts_of_a_new_device(&mut world), ["a", "b", "c"]);
}

#[test]
fn any_device_heals_what_another_wrote() {
    let mut world = world();
    world.crash(0);
    world.roll_back_relay(3, false);
    world.advance(SETTLE_MS);
    assert!(world.relay.entries().len() >= 6, "its author is away: {}", world.relay.entries().len());
    world.start(0);
    assert_eq!(texts_of_a_new_device(&mut world), ["a", "b", "c"]);
}

#[test]
fn what_was_acknowledged_and_lost_before_it_was_read_back_is_pushed_again() {
    let mut world = world();
    world.relay.swallow_acks = true;
    world.push(0, "d");
    world.settle();
    world.relay.swallow_acks = false;
    world.roll_back_relay(1, true);
    world.advance(SETTLE_MS);
    assert_eq!(world.texts(1), ["a", "b", "c", "d"]);
}

#[test]
fn s_sm_03_a_repair_cut_at_every_message_is_taken_up_again() {
    for messages in 1..24 {
        let mut world = world();
        world.roll_back_relay(3, false);
        world.devices[0].cut_after = Some((messages, Loss::Everything));
        world.devices[1].cut_after = Some((messages, Loss::Downstream));
        world.advance(2 * SETTLE_MS);
        assert_eq!(texts_of_a_new_device(&mut world), ["a", "b", "c"], "cut at message {messages}");
        assert!(world.findings(0).len() <= 1, "cut at message {messages}: {:?}", world.findings(0));
    }
}

#[test]
fn s_sm_03_a_repair_killed_at_every_output_is_taken_up_again() {
    for outputs in 1..40 {
        let mut world = World::with_group(1);
        push_all(&mut world, 0, &["a", "b", "c"]);
        world.roll_back_relay(3, false);
        world.devices[0].crash_after = Some(outputs);
        world.advance(SETTLE_MS);
        world.devices[0].crash_after = None;
        if !world.devices[0].is_running() {
            world.start(0);
        }
        world.advance(SETTLE_MS);
        assert_eq!(texts_of_a_new_device(&mut world), ["a", "b", "c"], "killed at output {outputs}");
    }
}

/// A group of two with `a`, `b` and `c`, and the index of `b` at the relay.
fn world_with_b() -> (World, usize) {
    let world = world();
    let index = world.relay.entries().len() - 2;
    (world, index)
}

fn rot(world: &mut World, index: usize) {
    let stored = &mut world.relay.entries_mut()[index];
    let mut bytes = stored.envelope.clone().expect("stored").to_vec();
    bytes[100] ^= 1;
    stored.envelope = Some(bytes.into());
}

fn is_sound(world: &World, index: usize) -> bool {
    let stored = &world.relay.entries()[index];
    stored.envelope.as_deref().is_some_and(|envelope| blob_id(envelope) == stored.blob_id)
}

fn repair(world: &mut World, device: usize) {
    let now = world.now_at(device);
    world.engine(device).repair(now);
    world.advance(SETTLE_MS);
    let status = world.engine(device).status();
    assert!(status.relays.iter().all(|relay| relay.settled), "{:?}", status.relays);
    assert_eq!(status.integrity, [], "what was healed is no finding any more");
}

#[test]
fn c_stor_03_bit_rot_is_found_by_a_repair_and_replaced_in_place() {
    let (mut world, index) = world_with_b();
    rot(&mut world, index);
    let blob_id = world.relay.entries()[index].blob_id;
    repair(&mut world, 1);
    assert_eq!(world.findings(1), [IntegrityEvent::Corrupt { cursor: index as u64 + 1, blob_id }]);
    assert!(is_sound(&world, index));
    assert_eq!(texts_of_a_new_device(&mut world), ["a", "b", "c"]);
}

#[test]
fn c_stor_03_a_reader_of_bit_rot_gets_it_from_the_relay_once_another_device_has_healed_it() {
    // Whoever looks first, the reader or who has it.
    for seed in 0..8 {
        let mut world = World::seeded(seed);
        world.form_group(2);
        world.crash(1);
        push_all(&mut world, 0, &["a", "b", "c"]);
        let index = world.relay.entries().len() - 2;
        rot(&mut world, index);
        world.start(1);
        world.advance(SETTLE_MS);
        assert!(matches!(world.findings(1)[0], IntegrityEvent::Corrupt { .. }), "{:?}", world.findings(1));
        assert!(is_sound(&world, index), "its author was told by an incident entry");
        assert_eq!(world.texts(1), ["a", "b", "c"], "seed {seed}");
    }
}

/// A group of two, of which device 1 reads the log one session at a time: `a`, then `b` damaged and
/// `c`. What is damaged stands at this index.
fn world_with_damage() -> (World, usize) {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a"]);
    world.crash(1);
    push_all(&mut world, 0, &["b", "c"]);
    let index = world.relay.entries().len() - 2;
    rot(&mut world, index);
    session(&mut world);
    assert_eq!(world.texts(1), ["a"]);
    (world, index)
}

/// What a program does that catches up and ends; what it finds.
fn session(world: &mut World) -> Vec<IntegrityEvent> {
    let before = world.findings(1).len();
    world.crash(1);
    world.start(1);
    world.advance(3_000);
    let status = world.engine(1).status();
    assert!(status.caught_up, "{:?}", status.relays);
    world.findings(1).split_off(before)
}

#[test]
fn what_was_damaged_when_it_was_read_is_read_again_before_a_device_says_that_it_has_everything() {
    let (mut world, index) = world_with_damage();
    push_all(&mut world, 0, &["d"]);
    repair(&mut world, 0);
    assert!(is_sound(&world, index));
    assert_eq!(session(&mut world), []);
    assert_eq!(world.texts(1), ["a", "b", "c", "d"]);
    // From then on a session reads what is new.
    let shown = world.relay.shown;
    assert_eq!(session(&mut world), []);
    assert_eq!(world.relay.shown, shown);
}

#[test]
fn what_is_still_damaged_is_told_once_in_each_run() {
    let (mut world, index) = world_with_damage();
    let damaged = IntegrityEvent::Corrupt { cursor: index as u64 + 1, blob_id: world.relay.entries()[index].blob_id };
    let count = |findings: &[IntegrityEvent]| findings.iter().filter(|finding| **finding == damaged).count();
    world.crash(0);
    for _ in 0..3 {
        assert_eq!(count(&session(&mut world)), 1);
        let before = world.findings(1).len();
        world.cut(1);
        world.advance(3_000);
        assert_eq!(world.findings(1).len(), before, "in the same run");
    }
    assert_eq!(count(&world.engine(1).status().integrity), 1, "and on record once");
}

#[test]
fn a_damaged_change_of_keys_is_followed_once_it_is_healed() {
    let mut world = World::with_group(2);
    world.crash(1);
    let now = world.now_at(0);
    world.engine(0).rotate(now).expect("a member");
    world.settle();
    let epoch = world.engine(0).status().epoch;
    push_all(&mut world, 0, &["behind it"]);
    let index = world.relay.entries().len() - 2;
    rot(&mut world, index);
    session(&mut world);
    assert_eq!(world.texts(1), [""; 0]);
    repair(&mut world, 0);
    session(&mut world);
    assert_eq!(world.engine(1).status().epoch, epoch);
    assert_eq!(world.texts(1), ["behind it"]);
    push_all(&mut world, 1, &["and goes on"]);
    assert_eq!(world.texts(0), ["behind it", "and goes on"]);
}

#[test]
fn a_place_to_look_from_that_is_gone_is_looked_for_further_back() {
    let (mut world, index) = world_with_damage();
    repair(&mut world, 0);
    world.relay.forget_row(index - 1);
    session(&mut world);
    session(&mut world);
    assert_eq!(world.texts(1), ["a", "b", "c"]);
}

#[test]
fn b_heal_a_row_that_was_deleted_is_put_back_and_is_history_to_who_joins_later() {
    let (mut world, index) = world_with_b();
    world.relay.entries_mut()[index].envelope = None;
    repair(&mut world, 0);
    assert!(matches!(world.findings(0)[..], [IntegrityEvent::Lost { .. }]), "{:?}", world.findings(0));
    assert_eq!(texts_of_a_new_device(&mut world), ["a", "b", "c"]);
}

#[test]
fn b_heal_entries_that_were_swapped_are_told_once_and_are_history_afterwards() {
    let (mut world, index) = world_with_b();
    world.relay.entries_mut().swap(index, index + 1);
    let sender = world.id(0);
    repair(&mut world, 1);
    assert_eq!(world.findings(1), [IntegrityEvent::Reordered { cursor: index as u64 + 2, sender }]);
    assert_eq!(texts_of_a_new_device(&mut world), ["a", "b", "c"]);
}

#[test]
fn orders_that_differed_are_no_matter_any_more_once_a_repair_has_told_of_it() {
    for reader in 0..2 {
        let mut world = World::with_group(3);
        world.crash(1);
        push_all(&mut world, 0, &["a", "b", "c"]);
        let index = world.relay.entries().len() - 2;
        world.relay.entries_mut().swap(index, index + 1);
        // It reads them as they stand now; the other two as they stood.
        world.start(1);
        push_all(&mut world, 1, &["d"]);
        world.advance(SETTLE_MS);
        repair(&mut world, reader);
        world.advance(SETTLE_MS);
        let told: Vec<_> = (0..3).map(|device| world.findings(device).len()).collect();
        for device in 0..3 {
            push_all(&mut world, device, &["e"]);
            world.advance(SETTLE_MS);
        }
        assert_eq!(told, (0..3).map(|device| world.findings(device).len()).collect::<Vec<_>>(), "{reader}");
        let later = world.pair(0, "later");
        world.advance(SETTLE_MS);
        assert_eq!(world.findings(later), [], "{reader}");
        assert_eq!(world.texts(later).len(), 7);
    }
}

#[test]
fn a_relay_that_begins_one_history_after_another_fills_nobodys_row() {
    let mut world = world();
    let size = |world: &World| {
        let rows = &world.devices[1].storage;
        rows.iter().filter(|(key, _)| key.starts_with(b"\x01u")).map(|(_, value)| value.len()).sum::<usize>()
    };
    let before = size(&world);
    for _ in 0..100 {
        world.roll_back_relay(1, true);
        world.advance(10_000);
    }
    assert!(size(&world) < before + 3_000, "{} bytes, {before} before", size(&world));
    assert_eq!(texts_of_a_new_device(&mut world), ["a", "b", "c"]);
}

#[test]
fn b_fork_a_relay_that_was_caught_once_has_no_free_hand_to_fork() {
    let incidents: [fn(&mut World); 2] = [
        |world| {
            let index = world.relay.entries().len() - 1;
            rot(world, index);
            repair(world, 1);
        },
        |world| world.roll_back_relay(2, false),
    ];
    for incident in incidents {
        let mut world = World::with_group(3);
        push_all(&mut world, 0, &["a", "b"]);
        incident(&mut world);
        world.advance(SETTLE_MS);
        world.crash(2);
        push_all(&mut world, 0, &["c"]);
        push_all(&mut world, 1, &["d"]);
        // Both chains are whole in either order; only what the others observed can tell.
        let head = world.relay.entries().len();
        world.relay.entries_mut().swap(head - 1, head - 2);
        push_all(&mut world, 0, &["e"]);
        let observer = world.id(0);
        world.start(2);
        world.advance(SETTLE_MS);
        let forked = |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::Forked { observer: who, .. } if *who == observer);
        assert!(world.findings(2).iter().any(forked), "{:?}", world.findings(2));
    }
}

#[test]
fn a_verification_tells_what_is_wrong_and_changes_nothing() {
    let (mut world, index) = world_with_b();
    rot(&mut world, index);
    let before = world.relay.entries().len();
    let now = world.now_at(1);
    world.engine(1).verify_relays(now);
    world.settle();
    assert!(matches!(world.findings(1)[..], [IntegrityEvent::Corrupt { .. }]), "{:?}", world.findings(1));
    assert!(!is_sound(&world, index));
    assert_eq!(world.relay.entries().len(), before);
}

#[test]
fn a_verification_of_a_sound_relay_finds_nothing() {
    let mut world = world();
    let now = world.now_at(1);
    world.engine(1).verify_relays(now);
    world.advance(SETTLE_MS);
    assert_eq!(world.findings(1), []);
    assert!(world.engine(1).status().relays.iter().all(|relay| relay.settled));
}

#[test]
fn what_another_device_has_healed_is_on_record_until_a_verification_finds_the_relay_whole() {
    let (mut world, index) = world_with_b();
    rot(&mut world, index);
    let verify = |world: &mut World| {
        let now = world.now_at(1);
        world.engine(1).verify_relays(now);
        world.settle();
        world.engine(1).status().integrity
    };
    assert!(matches!(verify(&mut world)[..], [IntegrityEvent::Corrupt { .. }]));
    assert!(matches!(verify(&mut world)[..], [IntegrityEvent::Corrupt { .. }]), "it is still so");
    repair(&mut world, 0);

    assert_eq!(verify(&mut world), []);
    assert_eq!(world.findings(1).len(), 1, "told once");
}

#[test]
fn a_relay_that_keeps_what_has_rotted_is_told_again_and_not_taken_for_healed() {
    let (mut world, index) = world_with_b();
    rot(&mut world, index);
    world.relay.defect = Some(Defect::RelayKeepsRot);
    let corrupt = IntegrityEvent::Corrupt { cursor: index as u64 + 1, blob_id: world.relay.entries()[index].blob_id };
    let now = world.now_at(1);
    world.engine(1).repair(now);
    world.advance(SETTLE_MS);
    assert_eq!(world.findings(1), [corrupt.clone(), corrupt.clone()], "found, and found again behind the repair");
    assert!(world.engine(1).status().integrity.contains(&corrupt), "it stays on record");

    world.relay.defect = None;
    repair(&mut world, 1);
    assert!(is_sound(&world, index));
}

#[test]
fn b_heal_a_row_of_which_nothing_is_known_is_put_back_behind_and_its_hole_is_history() {
    let (mut world, index) = world_with_b();
    let lost = world.relay.forget_row(index);
    repair(&mut world, 1);
    let told = IntegrityEvent::Lost { cursor: index as u64 + 1, blob_id: Some(lost) };
    assert_eq!(world.findings(1), std::slice::from_ref(&told));
    repair(&mut world, 1);
    assert_eq!(world.findings(1), [told], "once");
    assert_eq!(texts_of_a_new_device(&mut world), ["a", "b", "c"]);
}

#[test]
fn a_device_that_finds_all_it_had_read_at_its_place_again_reports_nothing() {
    let mut world = world();
    world.crash(0);
    world.roll_back_relay(2, false);
    world.advance(SETTLE_MS);
    world.start(0);
    world.advance(SETTLE_MS);
    assert_eq!(world.findings(0), []);
    assert_eq!(world.findings(1).len(), 1, "it was there");
}

#[test]
fn a_rollback_is_told_to_the_group_also_by_a_device_that_was_killed_when_it_had_found_it_out() {
    for outputs in 1..30 {
        let mut world = world();
        world.crash(1);
        world.roll_back_relay(2, false);
        world.devices[0].crash_after = Some(outputs);
        world.advance(SETTLE_MS);
        world.devices[0].crash_after = None;
        if !world.devices[0].is_running() {
            world.start(0);
        }
        world.advance(SETTLE_MS);
        let told = world.engine(0).status().integrity;
        assert!(matches!(told[..], [IntegrityEvent::RolledBack { .. }]), "killed at output {outputs}: {told:?}");
        let keyring = world.keys(0).1;
        let opened =
            world.relay.entries().iter().filter_map(|stored| seal::open(&keyring, stored.envelope.as_ref()?).ok());
        let incidents = opened.filter(|entry| entry.claims().kind == Kind::INCIDENT).count();
        assert!(incidents > 0, "killed at output {outputs}: nobody was told");
    }
}

#[test]
fn what_was_acknowledged_and_lost_unread_is_pushed_again() {
    let losses: [fn(&mut World); 3] =
        [|world| world.roll_back_relay(1, false), |world| world.roll_back_relay(1, true), World::wipe_relay];
    for lose in losses {
        let mut world = World::with_group(1);
        while head(&world) < 8 {
            push_all(&mut world, 0, &["earlier"]);
        }
        world.relay.defect = Some(Defect::RelaySkipsEntry);
        push_all(&mut world, 0, &["unread"]);
        assert_eq!((head(&world), world.engine(0).status().outbox_count), (9, 0), "acknowledged, and not shown");
        world.relay.defect = None;
        lose(&mut world);
        world.advance(SETTLE_MS);
        push_all(&mut world, 0, &["later"]);
        let texts = texts_of_a_new_device(&mut world);
        assert_eq!(texts[texts.len() - 2..], ["unread", "later"]);
    }
}

#[test]
fn a_repair_that_is_refused_in_the_middle_is_taken_up_again() {
    for index in 0..3 {
        let mut world = world();
        world.roll_back_relay(3, false);
        (world.relay.refuse_pushes, world.relay.refuse_index) = (2, index);
        world.advance(2 * SETTLE_MS);
        assert!(world.relay.refusals() > 0);
        assert_eq!(texts_of_a_new_device(&mut world), ["a", "b", "c"], "refused at {index}");
    }
}

#[test]
fn who_restarts_after_a_repair_goes_on_pushing_behind_what_was_in_common_all_along() {
    let mut world = world();
    push_all(&mut world, 1, &["d"]);
    world.roll_back_relay(1, false);
    world.advance(SETTLE_MS);
    world.crash(0);
    world.start(0);
    push_all(&mut world, 0, &["e"]);
    assert_eq!(world.texts(1), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_relay_that_was_restored_once_is_told_at_once_of_what_it_drops_later() {
    let mut world = world();
    world.roll_back_relay(2, true);
    world.advance(SETTLE_MS);
    assert_eq!((session(&mut world), session(&mut world)), (Vec::new(), Vec::new()));
    world.crash(1);
    push_all(&mut world, 0, &["d", "e"]);
    let index = world.relay.entries().len() - 2;
    world.relay.entries_mut().remove(index);
    let sender = world.id(0);
    world.crash(0);
    let found = session(&mut world);
    assert!(matches!(found[..], [IntegrityEvent::Gap { sender: of, .. }] if of == sender), "{found:?}");
}

#[test]
fn a_repair_forgets_of_what_was_told_only_what_it_heals() {
    let mut world = world();
    let (one, other) = (world.id(0), world.id(1));
    world.crash(1);
    let of_members = [
        IntegrityEvent::MembershipConflict { cursor: 1, one, other },
        IntegrityEvent::FalseSnapshot { sender: one, seq: 2 },
    ];
    let of_relays = [IntegrityEvent::Withheld { from_cursor: 1, to_cursor: 2 }];
    for (number, finding) in (1_u64..).zip(of_members.iter().chain(&of_relays)) {
        let key = [b"\x01x", &number.to_be_bytes()[..]].concat();
        world.devices[1].storage.insert(key, wire::encode(finding));
    }
    world.start(1);
    world.advance(SETTLE_MS);
    assert_eq!(world.engine(1).status().integrity.len(), 3);
    let now = world.now_at(1);
    world.engine(1).repair(now);
    world.advance(SETTLE_MS);
    assert_eq!(world.engine(1).status().integrity, of_members);
}

#[test]
fn b_fork_a_relay_that_stays_in_a_timeline_that_it_left_for_others_has_no_free_hand_there() {
    let mut world = crate::relays::world(3);
    push_all(&mut world, 0, &["a", "b"]);
    // Device 0 alone is shown a log that went back: it begins another timeline and tells of it.
    [1, 2].into_iter().for_each(|device| world.crash(device));
    let as_it_was = world.relay.log.clone();
    world.roll_back_relay(2, false);
    world.advance(SETTLE_MS);
    assert!(matches!(world.findings(0)[..], [IntegrityEvent::RolledBack { .. }]), "{:?}", world.findings(0));
    world.crash(0);

    // The other two stay in the old one, and hear of the incident through the other relay.
    world.relay.log = as_it_was;
    [1, 2].into_iter().for_each(|device| world.start(device));
    world.advance(SETTLE_MS);
    world.crash(2);
    push_all(&mut world, 1, &["c"]);
    push_all(&mut world, 1, &["d"]);
    // Two entries in another order, which only what the other device observed can tell.
    let head = world.relay.entries().len();
    world.relay.entries_mut().swap(head - 1, head - 2);
    push_all(&mut world, 1, &["e"]);
    let observer = world.id(1);
    world.start(2);
    world.advance(SETTLE_MS);
    let forked =
        |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::Forked { observer: who, .. } if *who == observer);
    assert!(world.findings(2).iter().any(forked), "{:?}", world.findings(2));
}
