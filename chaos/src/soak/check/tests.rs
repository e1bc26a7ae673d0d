//! Each violation, planted into a sound trace, is found.

use super::*;
use crate::processes::Vitals;
use crate::soak::trace::{Acknowledged, End, Held, StoredRow};

/// A change to a sound trace, and what must be said of it.
type Plant<T> = (fn(&mut T), &'static str);

const DEVICES: u8 = 2;
/// Pushes of each device.
const PUSHES: u64 = 3;
/// What stands in front of the pushes: the founding and a device's joining.
const CONTROL: u64 = 2;

fn id(device: usize) -> DeviceId {
    DeviceId([device as u8 + 1; 32])
}

fn blob_id(cursor: u64) -> BlobId {
    BlobId([cursor as u8; 32])
}

fn blob(device: usize, seq: u64) -> Fingerprint {
    Fingerprint::of(format!("{device} {seq}").as_bytes())
}

/// The entry at a position: device 0 and 1 by turns.
fn delivery(position: u64) -> Delivery {
    let (device, seq) = (((position - 1) % 2) as usize, (position - 1) / 2 + 2);
    let cursor = position + CONTROL;
    Delivery { position, cursor, blob_id: blob_id(cursor), sender: id(device), seq, blob: blob(device, seq) }
}

/// Two devices that pushed and read everything, closed once in the middle.
fn sound() -> Trace {
    let total = PUSHES * u64::from(DEVICES);
    let order: Vec<_> = (1..=total).map(delivery).map(|d| (d.position, d.sender, d.seq, d.blob_id)).collect();
    let device = |device: usize| {
        let mut seen = vec![Seen::Opened { processed: 0 }];
        seen.extend((2..2 + PUSHES).map(|seq| Seen::Pushed { seq, blob: blob(device, seq) }));
        seen.push(Seen::Acked { up_to: PUSHES + 1 });
        seen.extend((1..=3).map(|position| Seen::Delivered(delivery(position))));
        seen.push(Seen::Processed { position: 2 });
        seen.push(Seen::Opened { processed: 2 });
        seen.extend((3..=total).map(|position| Seen::Delivered(delivery(position))));
        seen.push(Seen::Processed { position: total });
        let end = End {
            members: vec![id(1), id(0)],
            relay_head: Some(total + CONTROL),
            position: total,
            processed: total,
            verified: total + CONTROL,
            order: order.clone(),
            ..End::default()
        };
        DeviceTrace { id: id(device), seen, end }
    };
    let row = |cursor| StoredRow { cursor, blob_id: blob_id(cursor), intact: true };
    let log = StoredLog { head: total + CONTROL, rows: (1..=total + CONTROL).map(row).collect() };
    let scribed = |cursor| StoredRow { cursor, blob_id: blob_id(100 + cursor), intact: true };
    let scribes_log = StoredLog { head: 3, rows: (1..=3).map(scribed).collect() };
    // The last one was asked for again.
    let told = [2, 3, 2].map(|cursor| Acknowledged { blob_id: blob_id(100 + cursor), cursor });
    let vitals = Vitals { rss_bytes: 20 << 20, threads: 5, fds: 20 };
    let held = vec![Held { before: vitals, after: vitals }];
    let groups = vec![(0..usize::from(DEVICES)).map(device).collect()];
    Trace { groups, logs: vec![scribes_log, log], scribes: vec![told.to_vec()], leaks: Vec::new(), held }
}

const AT: Seat = Seat { group: 0, device: 1 };

fn planted(plant: impl FnOnce(&mut Trace)) -> Vec<Violation> {
    let mut trace = sound();
    plant(&mut trace);
    check(&trace)
}

fn seen(trace: &mut Trace) -> &mut Vec<Seen> {
    &mut trace.groups[0][1].seen
}

/// Where device 1 was given this position for the last time.
fn at(trace: &mut Trace, position: u64) -> usize {
    let is_it = |seen: &Seen| matches!(seen, Seen::Delivered(delivery) if delivery.position == position);
    seen(trace).iter().rposition(is_it).expect("it was delivered")
}

fn delivery_mut(trace: &mut Trace, position: u64) -> &mut Delivery {
    let at = at(trace, position);
    match &mut seen(trace)[at] {
        Seen::Delivered(delivery) => delivery,
        _ => unreachable!("found as a delivery"),
    }
}

#[test]
fn a_sound_trace_has_no_violation() {
    assert_eq!(check(&sound()), []);
}

#[test]
fn an_acknowledged_push_that_a_device_never_got() {
    let found = planted(|trace| {
        let last = at(trace, 6);
        seen(trace).remove(last);
    });
    assert_eq!(found, [Violation::AckedLost { of: AT, seq: 4, missing: Place::At(AT) }]);
}

#[test]
fn a_push_that_was_never_acknowledged_is_missed_too() {
    let found = planted(|trace| {
        seen(trace).insert(1, Seen::Pushed { seq: 5, blob: blob(1, 5) });
    });
    let everywhere = [Place::At(Seat { group: 0, device: 0 }), Place::At(AT), Place::Log];
    assert_eq!(found, everywhere.map(|missing| Violation::PushLost { of: AT, seq: 5, missing }));
}

#[test]
fn an_acknowledged_push_that_is_not_in_the_database() {
    let found = planted(|trace| {
        trace.logs[1].head = 7;
        trace.logs[1].rows.truncate(7);
    });
    assert!(found.contains(&Violation::AckedLost { of: AT, seq: 4, missing: Place::Log }), "{found:?}");
}

#[test]
fn an_entry_given_again_once_processed() {
    let found = planted(|trace| {
        let before = at(trace, 6);
        seen(trace).insert(before, Seen::Delivered(delivery(2)));
    });
    assert!(found.contains(&Violation::DeliveredAgain { at: AT, position: 2 }), "{found:?}");
}

#[test]
fn an_entry_given_twice_in_one_run() {
    let found = planted(|trace| {
        let behind = at(trace, 5) + 1;
        seen(trace).insert(behind, Seen::Delivered(delivery(5)));
    });
    assert!(found.contains(&Violation::DeliveredAgain { at: AT, position: 5 }), "{found:?}");
}

#[test]
fn a_position_left_out() {
    let found = planted(|trace| {
        let left_out = at(trace, 5);
        seen(trace).remove(left_out);
    });
    assert!(found.contains(&Violation::Skipped { at: AT, position: 6, expected: 5 }), "{found:?}");
}

#[test]
fn an_entry_under_another_number_than_before() {
    let found = planted(|trace| {
        let total = PUSHES * u64::from(DEVICES);
        let again = Delivery { position: total + 1, ..delivery(1) };
        seen(trace).push(Seen::Delivered(again));
    });
    let of = Seat { group: 0, device: 0 };
    assert_eq!(found, [Violation::Renumbered { at: AT, of, seq: 2, position: 7, before: 1 }]);
}

#[test]
fn a_home_that_forgot_what_was_processed() {
    let found = planted(|trace| {
        seen(trace).push(Seen::Opened { processed: 1 });
    });
    assert_eq!(found, [Violation::PositionLost { at: AT, processed: 6, opened: 1 }]);
}

#[test]
fn entries_of_one_sender_out_of_order() {
    let found = planted(|trace| {
        let (earlier, later) = (delivery(4), delivery(6));
        *delivery_mut(trace, 4) = Delivery { position: 4, ..later };
        *delivery_mut(trace, 6) = Delivery { position: 6, ..earlier };
    });
    assert_eq!(found, [Violation::OutOfOrder { at: AT, of: AT, seq: 3, after: 4 }]);
}

#[test]
fn bytes_that_nobody_pushed() {
    let found = planted(|trace| delivery_mut(trace, 4).blob = Fingerprint::of(b"something else"));
    assert!(found.contains(&Violation::Altered { at: AT, position: 4 }), "{found:?}");
    let found = planted(|trace| delivery_mut(trace, 4).sender = id(7));
    assert!(found.contains(&Violation::Altered { at: AT, position: 4 }), "{found:?}");
}

#[test]
fn a_cursor_where_the_database_has_something_else() {
    let found = planted(|trace| delivery_mut(trace, 4).cursor = 7);
    assert_eq!(found, [Violation::WrongCursor { at: AT, position: 4, cursor: 7 }]);
}

#[test]
fn a_group_without_a_log() {
    let found = planted(|trace| drop(trace.logs.pop()));
    assert_eq!(found, [Violation::NoLog { group: 0 }]);
}

#[test]
fn a_log_with_a_hole_a_repetition_a_wrong_head_or_rot() {
    let log = |plant: fn(&mut StoredLog)| planted(|trace| plant(&mut trace.logs[1]));
    let plants: [Plant<StoredLog>; 4] = [
        (|log| log.rows.iter_mut().skip(1).for_each(|row| row.cursor += 1), "cursor 3 stands where 2 belongs"),
        (|log| log.rows[1].blob_id = blob_id(1), "cursor 2 holds an entry that is there already"),
        (|log| log.head += 1, "the head is 9, and there are 8 rows"),
        (|log| log.rows[1].intact = false, "the bytes at cursor 2 are not those of their id"),
    ];
    for (plant, what) in plants {
        let found = log(plant);
        assert!(found.contains(&Violation::Log { log: 1, what: what.into() }), "{found:?}");
    }
}

#[test]
fn an_acknowledgement_that_was_not_so() {
    let found = planted(|trace| trace.scribes[0][2].cursor = 3);
    assert_eq!(found, [Violation::AckWrong { scribe: 0, told: 3, stored: Some(2) }]);
    let found = planted(|trace| {
        trace.logs[0].rows.truncate(2);
        trace.logs[0].head = 2;
    });
    let lost = Violation::AckWrong { scribe: 0, told: 3, stored: None };
    assert_eq!(found, [lost, Violation::Miscounted { scribe: 0, acknowledged: 2, stored: 1 }]);
}

#[test]
fn an_entry_that_was_stored_and_never_acknowledged() {
    let found = planted(|trace| {
        trace.logs[0].rows.push(StoredRow { cursor: 4, blob_id: blob_id(104), intact: true });
        trace.logs[0].head = 4;
    });
    assert_eq!(found, [Violation::Miscounted { scribe: 0, acknowledged: 2, stored: 3 }]);
}

#[test]
fn a_device_that_does_not_come_to_rest() {
    let end = |plant: fn(&mut End)| planted(|trace| plant(&mut trace.groups[0][1].end));
    let plants: [Plant<End>; 3] = [
        (|end| end.trouble = Some("it is offline".into()), "it is offline"),
        (|end| end.outbox = 3, "3 pushes wait"),
        (|end| end.processed = 5, "it has processed 5 of 6 entries"),
    ];
    for (plant, what) in plants {
        assert_eq!(end(plant), [Violation::Unsettled { at: AT, what: what.into() }]);
    }
}

#[test]
fn devices_that_hold_different_things() {
    let end = |plant: fn(&mut End)| planted(|trace| plant(&mut trace.groups[0][1].end));
    let plants: [Plant<End>; 5] = [
        (|end| end.members.push(id(9)), "members"),
        (|end| end.relay_head = Some(7), "the relay's head"),
        (|end| end.verified -= 1, "the entries of the log"),
        (|end| end.order.truncate(5), "entries"),
        (|end| end.order[0].3 = blob_id(99), "entries"),
    ];
    for (plant, what) in plants {
        assert_eq!(end(plant), [Violation::Diverged { at: AT, what }]);
    }
}

#[test]
fn an_accusation_at_any_time() {
    let accused = [Violation::Accused { at: AT, finding: "RolledBack".into() }];
    assert_eq!(planted(|trace| seen(trace).push(Seen::Accused { finding: "RolledBack".into() })), accused);
    assert_eq!(planted(|trace| trace.groups[0][1].end.findings.push("RolledBack".into())), accused);
}

#[test]
fn something_readable_on_the_disk() {
    let found = planted(|trace| trace.leaks.push(Leak { file: "relay.db-wal".into(), what: "a blob".into() }));
    assert_eq!(found, [Violation::Leaked { file: "relay.db-wal".into(), what: "a blob".into() }]);
}

#[test]
fn memory_threads_and_files_that_were_not_given_back() {
    let plants: [Plant<Vitals>; 3] = [
        (|after| after.rss_bytes += RSS_GROWTH_BYTES_MAX + 1, "bytes of memory"),
        (|after| after.threads += HANDLES_GROWTH_MAX + 1, "threads"),
        (|after| after.fds += HANDLES_GROWTH_MAX + 1, "file descriptors"),
    ];
    for (plant, expected) in plants {
        let found = planted(|trace| plant(&mut trace.held[0].after));
        assert!(matches!(found[..], [Violation::NotGivenBack { relay: 0, what, .. }] if what == expected), "{found:?}");
    }
}

#[test]
fn a_soak_in_which_nothing_was_acknowledged() {
    let found = planted(|trace| {
        for device in &mut trace.groups[0] {
            // As after joining: a device's own certificate is no push.
            device.seen.iter_mut().filter(|seen| matches!(seen, Seen::Acked { .. })).for_each(|seen| {
                *seen = Seen::Acked { up_to: 1 };
            });
        }
    });
    assert_eq!(found, [Violation::Idle]);
}
