use bytes::Bytes;
use futures_util::FutureExt;
use zerok_sync_protocol::BlobId;

use super::*;
use crate::doorbell::Silent;
use crate::limits::NOTICES_MAX;

const GROUP: GroupKey = GroupKey([1; 32]);
/// Credit that no test uses up.
const PLENTY: i64 = i64::MAX;

fn hub() -> Hub {
    Hub::new(&RelayLimits::default(), &Metrics::new(), Arc::new(Silent))
}

fn hub_keeping(room_bytes: u64, all_bytes: u64) -> Hub {
    let limits =
        RelayLimits { fanout_bytes_per_session_max: room_bytes, fanout_bytes_max: all_bytes, ..RelayLimits::default() };
    Hub::new(&limits, &Metrics::new(), Arc::new(Silent))
}

fn device(id: u8) -> NoisePublicKey {
    NoisePublicKey([id; 32])
}

fn enter(hub: &Hub, id: u8, now_ms: u64) -> Presence {
    hub.enter(device(id), now_ms).expect("the hub is open")
}

/// Entries of `bytes` each from `first_cursor` on.
fn fresh(first_cursor: u64, count: usize, bytes: usize) -> Fresh {
    let entries = (0..count).map(|_| (BlobId([9; 32]), vec![0; bytes].into())).collect();
    Fresh { first_cursor, entries }
}

fn is_behind(found: &Found) -> bool {
    matches!(found, Found::Behind(_))
}

/// Takes what is there until the head or the store; the next cursor.
fn take_all(seat: &Seat, mut next: u64) -> u64 {
    while let Found::Fresh(slice) = seat.take(next, PLENTY) {
        assert_eq!(slice.first(), next);
        next = slice.end();
    }
    next
}

#[test]
fn a_fifth_session_closes_the_one_idle_longest() {
    let hub = hub();
    let sessions: Vec<Presence> = (0..4).map(|at| enter(&hub, 7, at)).collect();
    sessions[0].touch(100);

    let _fifth = enter(&hub, 7, 101);

    let kicked: Vec<bool> = sessions.iter().map(|session| session.kicked().is_some()).collect();
    assert_eq!(kicked, [false, true, false, false]);
    assert!(sessions[1].rung().now_or_never().is_some(), "it is woken to be told");
}

#[test]
fn sessions_of_other_devices_do_not_count() {
    let hub = hub();
    let sessions: Vec<Presence> = (0..20).map(|id| enter(&hub, id, 0)).collect();
    assert!(sessions.iter().all(|session| session.kicked().is_none()));
}

#[test]
fn everything_is_forgotten_when_sessions_leave() {
    let hub = hub();
    let (one, two) = (enter(&hub, 1, 0), enter(&hub, 2, 0));
    let (seat, other) = (one.sit(GROUP), two.sit(GROUP));
    let mailbox = hub.wait_at_mailbox(&MailboxId::from_slice(&[0, 1]).expect("two bytes"));
    assert!(matches!(seat.take(1, PLENTY), Found::AtHead));
    hub.publish(GROUP, 0, &fresh(1, 3, 100));
    assert!(hub.fanout_bytes() > 0, "it waits for the live session");

    drop((seat, mailbox, one));
    assert_eq!(hub.fanout_bytes(), 0, "nobody else waits for it");
    drop((other, two));
    let state = hub.lock();
    assert!(state.devices.is_empty() && state.rooms.is_empty() && state.mailboxes.is_empty());
}

#[test]
fn a_room_keeps_the_highest_head_it_heard_of() {
    let hub = hub();
    let presence = enter(&hub, 1, 0);
    let seat = presence.sit(GROUP);
    hub.publish(GROUP, 0, &fresh(9, 1, 10));
    hub.publish(GROUP, 1, &fresh(5, 1, 10));
    assert_eq!(seat.bell(), Bell { head: 9, auth_gen: 1, ..Bell::default() });
}

#[test]
fn a_batch_is_encoded_once_for_all_who_are_caught_up() {
    let hub = hub();
    let sessions: Vec<Presence> = (0..3).map(|id| enter(&hub, id, 0)).collect();
    let seats: Vec<Seat> = sessions.iter().map(|session| session.sit(GROUP)).collect();
    assert!(seats.iter().all(|seat| matches!(seat.take(1, PLENTY), Found::AtHead)));

    hub.publish(GROUP, 0, &fresh(1, 3, 100));

    let mut frames = Vec::new();
    for seat in &seats {
        let Found::Fresh(slice) = seat.take(1, PLENTY) else { panic!("it was caught up") };
        assert_eq!((slice.first(), slice.end()), (1, 4));
        frames.push(slice.whole().clone());
        assert!(matches!(seat.take(4, PLENTY), Found::AtHead));
    }
    assert!(frames.windows(2).all(|pair| pair[0].as_ptr() == pair[1].as_ptr()), "the same bytes");
    assert_eq!(hub.fanout_bytes(), 0, "everybody has it");
}

#[test]
fn whoever_is_not_caught_up_reads_the_store() {
    let hub = hub();
    let presence = enter(&hub, 1, 0);
    let seat = presence.sit(GROUP);
    hub.publish(GROUP, 0, &fresh(1, 3, 100));
    assert!(matches!(seat.take(1, PLENTY), Found::Behind(3)));
    assert!(matches!(seat.take(4, PLENTY), Found::AtHead), "it has read the store meanwhile");
    hub.publish(GROUP, 0, &fresh(4, 1, 100));
    assert_eq!(take_all(&seat, 4), 5);
}

#[test]
fn a_gap_or_a_late_batch_sends_to_the_store() {
    let hub = hub();
    let presence = enter(&hub, 1, 0);
    let seat = presence.sit(GROUP);
    assert!(matches!(seat.take(1, PLENTY), Found::AtHead));
    hub.publish(GROUP, 0, &fresh(3, 1, 100));
    hub.publish(GROUP, 0, &fresh(1, 2, 100));
    assert!(is_behind(&seat.take(1, PLENTY)));
    assert_eq!(hub.fanout_bytes(), 0);
}

#[test]
fn credit_is_overdrawn_by_one_entry_at_most() {
    let hub = hub();
    let presence = enter(&hub, 1, 0);
    let seat = presence.sit(GROUP);
    assert!(matches!(seat.take(1, PLENTY), Found::AtHead));
    hub.publish(GROUP, 0, &fresh(1, 1, 1_000));
    hub.publish(GROUP, 0, &fresh(2, 2, 1_000));
    assert!(matches!(seat.take(1, 1), Found::Fresh(_)), "one entry may overdraw");
    assert!(is_behind(&seat.take(2, 1_500)), "two may not");
}

#[test]
fn who_takes_nothing_costs_no_more_than_a_room_keeps_and_then_nothing() {
    let hub = hub_keeping(10_000, 1 << 30);
    let (quick, stuck) = (enter(&hub, 1, 0), enter(&hub, 2, 0));
    let (quick, stuck) = (quick.sit(GROUP), stuck.sit(GROUP));
    assert!([&quick, &stuck].iter().all(|seat| matches!(seat.take(1, PLENTY), Found::AtHead)));
    for cursor in 1..=100 {
        hub.publish(GROUP, 0, &fresh(cursor, 1, 1_000));
        assert!(hub.fanout_bytes() <= 10_000);
        assert_eq!(take_all(&quick, cursor), cursor + 1, "the other one is served from memory");
    }
    assert_eq!(hub.fanout_bytes(), 0, "it was given up");
    assert_eq!(hub.0.budget.metrics.fanout_behind.get(), 1);
    assert!(matches!(stuck.take(1, PLENTY), Found::Behind(100)));
}

#[test]
fn all_rooms_share_one_budget() {
    let hub = hub_keeping(10_000, 3_000);
    let presence = enter(&hub, 1, 0);
    let rooms = [1, 2, 3].map(|id| GroupKey([id; 32]));
    let seats = rooms.map(|group| presence.sit(group));
    for (group, seat) in rooms.into_iter().zip(&seats) {
        assert!(matches!(seat.take(1, PLENTY), Found::AtHead));
        hub.publish(group, 0, &fresh(1, 1, 1_300));
    }
    let behind = seats.each_ref().map(|seat| is_behind(&seat.take(1, PLENTY)));
    assert_eq!(behind, [false, false, true]);
}

#[test]
fn a_batch_that_no_room_may_keep_is_in_the_store() {
    let hub = hub_keeping(1_000, 1 << 30);
    let presence = enter(&hub, 1, 0);
    let seat = presence.sit(GROUP);
    assert!(matches!(seat.take(1, PLENTY), Found::AtHead));
    hub.publish(GROUP, 0, &fresh(1, 1, 5_000));
    assert!(is_behind(&seat.take(1, PLENTY)));
}

#[test]
fn a_notice_reaches_the_others_and_a_full_queue_drops_it() {
    let hub = hub();
    let (one, two) = (enter(&hub, 1, 0), enter(&hub, 2, 0));
    let (seat_one, seat_two) = (one.sit(GROUP), two.sit(GROUP));
    for _ in 0..NOTICES_MAX + 5 {
        hub.notify_others(GROUP, &seat_one, Notice::whispered(Bytes::from_static(b"x")));
    }
    assert!(seat_one.notice().is_none());
    assert_eq!(std::iter::from_fn(|| seat_two.notice()).count(), NOTICES_MAX);
    assert!(two.rung().now_or_never().is_some());
}

#[test]
fn of_what_a_device_has_read_only_the_newest_word_and_the_newest_receipt_wait() {
    let hub = hub();
    let presences = [enter(&hub, 1, 0), enter(&hub, 2, 0), enter(&hub, 3, 0)];
    let [one, two, three] = presences.each_ref().map(|presence| presence.sit(GROUP));
    let receipt = |byte| Some(Bytes::from(vec![byte; 4_096]));
    for cursor in 0..100 {
        hub.notify_others(GROUP, &one, Notice::acked(device(1), cursor, receipt(u8::try_from(cursor).expect("small"))));
        hub.notify_others(GROUP, &one, Notice::acked(device(1), cursor, None));
        hub.notify_others(GROUP, &two, Notice::acked(device(2), cursor, None));
    }
    let waiting: Vec<Bytes> = std::iter::from_fn(|| three.notice()).collect();
    let newest = [(1, receipt(99)), (1, None), (2, None)];
    assert_eq!(waiting, newest.map(|(id, receipt)| Notice::acked(device(id), 99, receipt).frame));
}

#[test]
fn a_restriction_kicks_exactly_the_unlisted() {
    let hub = hub();
    let (stays, goes) = (enter(&hub, 1, 0), enter(&hub, 2, 0));
    let _seats = (stays.sit(GROUP), goes.sit(GROUP));
    hub.kick_unlisted(GROUP, &[device(1)]);
    assert_eq!((stays.kicked(), goes.kicked()), (None, Some(Kick::Revoked)));
}

#[test]
fn a_closed_hub_kicks_everybody_and_lets_nobody_in() {
    let hub = hub();
    let present = enter(&hub, 1, 0);
    hub.close(|| 42);
    assert_eq!(present.kicked(), Some(Kick::ShuttingDown { retry_after_ms: 42 }));
    assert!(hub.enter(device(2), 0).is_none());
}
