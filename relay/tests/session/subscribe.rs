//! Reading: catch-up, live, credit, own stubs, and saying so when the log is not what it was.

use zerok_sync_protocol::diverged::Diverged;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::{AbsentReason, EntryItem, LogState};
use zerok_sync_protocol::limits::ENVELOPE_BYTES_MAX_DEFAULT;
use zerok_sync_protocol::{BlobId, ClientFrame, ErrorCode, RelayFrame, Timeline};

use crate::support::{
    Client, Group, PLENTY, TestRelay, device, envelope, envelope_of, epoch_envelope, own, stored, subscribe_frame,
};

#[tokio::test]
async fn a_subscription_continues_behind_the_cursor_it_names() {
    let (relay, group, state) = log_of(3).await;
    let mut client = relay.member(&group, &device(2)).await;
    client.send(subscribe_frame(state.timeline, 3, blob_id(&envelope(2)), PLENTY, true)).await;
    assert_eq!(client.until_caught_up().await, (vec![stored(4, &envelope(3))], 4));
}

#[tokio::test]
async fn at_the_head_there_is_only_caught_up() {
    let (relay, group, state) = log_of(1).await;
    let mut client = relay.member(&group, &device(2)).await;
    client.send(subscribe_frame(state.timeline, 2, blob_id(&envelope(1)), 0, true)).await;
    assert_eq!(client.until_caught_up().await, (vec![], 2));
}

#[tokio::test]
async fn without_follow_the_subscription_ends_at_the_head() {
    let (relay, group, _) = log_of(1).await;
    let mut reader = relay.member(&group, &device(2)).await;
    reader.send(subscribe_frame(Timeline::ZERO, 0, BlobId::ZERO, PLENTY, false)).await;
    assert_eq!(reader.until_caught_up().await.1, 2);

    let mut writer = relay.member(&group, &device(3)).await;
    writer.push(1, &[envelope(2)]).await;
    assert!(reader.is_quiet().await);
}

#[tokio::test]
async fn a_second_subscription_replaces_the_first() {
    let (relay, group, state) = log_of(2).await;
    let mut client = relay.member(&group, &device(2)).await;
    client.queue(subscribe_frame(Timeline::ZERO, 0, BlobId::ZERO, 0, true));
    client.queue(subscribe_frame(state.timeline, 2, blob_id(&envelope(1)), PLENTY, true));
    client.flush().await;
    assert_eq!(client.until_caught_up().await, (vec![stored(3, &envelope(2))], 3));
}

#[tokio::test]
async fn the_sessions_own_pushes_come_back_as_stubs_and_others_whole() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut a = relay.founder(&group, &device(1)).await;
    let mut a_again = relay.member(&group, &device(1)).await;
    a.follow().await;
    a_again.follow().await;
    a.push(1, &[envelope(1)]).await;
    assert_eq!(a.entries().await, [own(2, &envelope(1))]);
    assert_eq!(a_again.entries().await, [stored(2, &envelope(1))], "another session has not the bytes");
}

#[tokio::test]
async fn stubs_are_for_what_was_pushed_before_subscribing_too() {
    let relay = TestRelay::start().await;
    let mut client = relay.founder(&Group::new(1), &device(1)).await;
    client.push(1, &[envelope(1), envelope(2)]).await;
    let entries = client.follow().await;
    assert_eq!(entries, [stored(1, &epoch_envelope(0)), own(2, &envelope(1)), own(3, &envelope(2))]);
}

#[tokio::test]
async fn no_more_is_in_flight_than_was_granted() {
    let (relay, group, _) = log_of(20).await;
    let mut client = relay.member(&group, &device(2)).await;
    client.send(subscribe_frame(Timeline::ZERO, 0, BlobId::ZERO, 1_000, true)).await;
    let (mut seen, mut granted, mut taken) = (0, 1_000, 0);
    loop {
        client.send(ClientFrame::Ping {}).await;
        match next_taken(&mut client, &mut seen, &mut taken, granted).await {
            RelayFrame::Pong {} => {
                granted += 1_000;
                client.send(ClientFrame::Credit { bytes: 1_000 }).await;
            }
            RelayFrame::CaughtUp { head } => {
                assert_eq!((head, seen), (21, 21));
                break;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(granted > 5_000, "it took several grants");
}

/// The next frame that is not `Entries`; those are checked against the credit.
async fn next_taken(client: &mut Client, seen: &mut usize, taken: &mut u64, granted: u64) -> RelayFrame {
    loop {
        let frame = client.next().await;
        let RelayFrame::Entries { items } = &frame else { return frame };
        assert!(*taken < granted, "sent without credit");
        *taken += frame.encode().len() as u64;
        assert!(*taken < granted + 400, "one entry may overdraw, not two");
        *seen += items.len();
    }
}

#[tokio::test]
async fn one_entry_may_overdraw_the_credit() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut writer = relay.founder(&group, &device(1)).await;
    let large = envelope_of(1, ENVELOPE_BYTES_MAX_DEFAULT as usize);
    writer.push(1, std::slice::from_ref(&large)).await;
    let mut reader = relay.member(&group, &device(2)).await;
    reader.send(subscribe_frame(Timeline::ZERO, 0, BlobId::ZERO, 1_000, true)).await;
    assert_eq!(reader.entries().await, [stored(1, &epoch_envelope(0))]);
    assert_eq!(reader.entries().await, [stored(2, &large)]);
}

#[tokio::test]
async fn whoever_fell_behind_is_told_when_it_has_caught_up_again() {
    // On one instance: from another the news would come at a moment of its own.
    let relay = TestRelay::start_alone().await;
    let group = Group::new(1);
    relay.founder(&group, &device(1)).await;
    let mut reader = relay.member(&group, &device(2)).await;
    reader.send(subscribe_frame(Timeline::ZERO, 0, BlobId::ZERO, 380, true)).await;
    assert_eq!(reader.until_caught_up().await.1, 1);

    let mut writer = relay.member(&group, &device(3)).await;
    writer.push(1, &[envelope(1), envelope(2), envelope(3)]).await;
    reader.send(ClientFrame::Credit { bytes: PLENTY }).await;
    let (entries, head) = reader.until_caught_up().await;
    assert_eq!((entries.len(), head), (3, 4));
}

#[tokio::test]
async fn a_reader_that_takes_nothing_holds_up_nobody() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut writer = relay.founder(&group, &device(1)).await;
    let mut stuck = relay.member(&group, &device(2)).await;
    stuck.send(subscribe_frame(Timeline::ZERO, 0, BlobId::ZERO, PLENTY, true)).await;
    let mut reader = relay.member(&group, &device(3)).await;
    reader.follow().await;
    for number in 0..40 {
        let envelopes = [envelope_of(number, 512 * 1024)];
        assert_eq!(writer.push(number, &envelopes).await, [Ok(number + 2)]);
        assert_eq!(reader.entries().await, [stored(number + 2, &envelopes[0])]);
    }
    let mut received = 0;
    while received < 41 {
        match stuck.next().await {
            RelayFrame::Entries { items } => received += items.len(),
            other => assert!(matches!(other, RelayFrame::CaughtUp { .. }), "{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_does_not_match_what_the_client_read_is_1009_and_says_where_the_log_stands() {
    let (relay, group, state) = log_of(3).await;
    let other = Timeline([7; 8]);
    let cases = [
        (state.timeline, 3, blob_id(&envelope(9)), "another blob there"),
        (state.timeline, 9, blob_id(&envelope(9)), "beyond the head"),
        (state.timeline, u64::MAX, blob_id(&envelope(9)), "far beyond the head"),
        (other, 3, blob_id(&envelope(2)), "another timeline"),
        (other, 0, BlobId::ZERO, "another timeline, nothing read"),
        (Timeline::ZERO, 3, blob_id(&envelope(2)), "no timeline"),
        (state.timeline, 0, blob_id(&envelope(9)), "a blob below the first"),
    ];
    let mut client = relay.member(&group, &device(2)).await;
    for (timeline, after, blob_id, why) in cases {
        client.send(subscribe_frame(timeline, after, blob_id, PLENTY, true)).await;
        let (code, diverged) = refusal(&mut client).await;
        assert_eq!(code, ErrorCode::Diverged, "{why}");
        assert_eq!(diverged, Diverged { timeline: state.timeline, head: 4, floor: 1 }, "{why}");
    }
    assert_eq!(client.follow().await.len(), 4, "the session goes on");
}

#[tokio::test]
async fn below_the_floor_is_1011_and_right_at_it_is_compared() {
    let (relay, group, state) = log_of(5).await;
    relay.tamper("UPDATE groups SET floor = 4, floor_blob_id = (SELECT blob_id FROM entries WHERE cursor = 3)").await;
    relay.tamper("DELETE FROM entries WHERE cursor < 4").await;
    let mut client = relay.member(&group, &device(2)).await;

    for after in [0, 2] {
        client.send(subscribe_frame(state.timeline, after, BlobId::ZERO, PLENTY, true)).await;
        let (code, diverged) = refusal(&mut client).await;
        assert_eq!((code, diverged.floor), (ErrorCode::BelowFloor, 4));
    }
    client.send(subscribe_frame(state.timeline, 3, blob_id(&envelope(9)), PLENTY, true)).await;
    assert_eq!(refusal(&mut client).await.0, ErrorCode::Diverged);
    client.send(subscribe_frame(state.timeline, 3, blob_id(&envelope(2)), PLENTY, true)).await;
    assert_eq!(client.until_caught_up().await.0.len(), 3);
}

#[tokio::test]
async fn a_row_that_is_gone_or_rotten_is_said_to_be_absent_and_heals_by_another_push() {
    let (relay, group, _) = log_of(4).await;
    relay.tamper("DELETE FROM entries WHERE cursor = 3").await;
    relay.tamper("UPDATE entries SET envelope = epoch_envelope FROM groups WHERE cursor = 4").await;
    let mut client = relay.member(&group, &device(2)).await;
    let entries = client.follow().await;
    assert_eq!(entries[1], stored(2, &envelope(1)));
    assert_eq!(entries[2], EntryItem::Absent { cursor: 3, blob_id: None, reason: AbsentReason::Lost {} });
    let rotten = EntryItem::Absent { cursor: 4, blob_id: Some(blob_id(&envelope(3))), reason: AbsentReason::Rotten {} };
    assert_eq!(entries[3], rotten);
    assert_eq!(entries[4], stored(5, &envelope(4)));

    let mut healer = relay.member(&group, &device(3)).await;
    assert_eq!(healer.push(1, &[envelope(3)]).await, [Ok(4)]);
    let mut again = relay.member(&group, &device(4)).await;
    assert_eq!(again.follow().await[3], stored(4, &envelope(3)));
}

#[tokio::test]
async fn a_log_that_shrinks_under_a_slow_reader_is_1009() {
    let (relay, group, _) = log_of(3).await;
    let mut reader = relay.member(&group, &device(2)).await;
    reader.send(subscribe_frame(Timeline::ZERO, 0, BlobId::ZERO, 380, true)).await;
    assert_eq!(reader.entries().await, [stored(1, &epoch_envelope(0))]);
    relay.tamper("DELETE FROM entries WHERE cursor > 1").await;
    relay.tamper("UPDATE groups SET head = 1").await;

    reader.send(ClientFrame::Credit { bytes: PLENTY }).await;
    let (code, diverged) = refusal(&mut reader).await;
    assert_eq!((code, diverged.head), (ErrorCode::Diverged, 1));
}

/// A log of the epoch envelope and `envelope(1..=count)`.
async fn log_of(count: u64) -> (TestRelay, Group, LogState) {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut founder = relay.ws(&device(1)).await;
    let state = founder.found(&group).await;
    let envelopes: Vec<_> = (1..=count).map(envelope).collect();
    founder.push(1, &envelopes).await;
    (relay, group, state)
}

async fn refusal(client: &mut Client) -> (ErrorCode, Diverged) {
    match client.next().await {
        RelayFrame::Error { code, detail, .. } => (ErrorCode::from_number(code).unwrap(), detail.parse().unwrap()),
        other => panic!("expected an error, not {other:?}"),
    }
}
