//! What a member gives up over the wire: floors and whole logs.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use zerok_sync_protocol::diverged::Diverged;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, ClientFrame, ErrorCode, RelayFrame, Timeline};
use zerok_sync_relay::store::{Sqlite, Timelines};
use zerok_sync_relay::{StoreConfig, archive};

use crate::support::{
    Client, Group, PATIENCE, PLENTY, TestRelay, device, envelope, epoch_envelope, rotate_frame, stored, stores,
    subscribe_frame,
};

/// A log of five entries, acknowledged by both devices.
async fn acknowledged() -> (TestRelay, Client, Client) {
    let relay = TestRelay::start().await;
    let (a, b) = pair_at(&relay).await;
    (relay, a, b)
}

async fn pair_at(relay: &TestRelay) -> (Client, Client) {
    let group = Group::new(1);
    let mut a = relay.founder(&group, &device(1)).await;
    let mut b = relay.member(&group, &device(2)).await;
    let entries: Vec<_> = (1..=4).map(envelope).collect();
    assert_eq!(a.push(1, &entries).await, [Ok(2), Ok(3), Ok(4), Ok(5)]);
    for client in [&mut a, &mut b] {
        client.send(ClientFrame::Ack { cursor: 5, receipt: None }).await;
    }
    for client in [&mut a, &mut b] {
        assert!(matches!(client.next().await, RelayFrame::Acked { .. }), "of the other's");
        // A slot is on disk when what follows is answered, and an acknowledgement before it.
        client.send(ClientFrame::SlotPut { data: Bytes::new() }).await;
        assert!(client.is_quiet().await);
    }
    (a, b)
}

async fn truncate(client: &mut Client, below: u64) -> RelayFrame {
    client.send(ClientFrame::Truncate { below }).await;
    client.next().await
}

/// Waits for the collector to have removed something.
async fn until_collected(relay: &TestRelay) {
    let collected = async {
        while relay.instances().all(|instance| instance.metrics().collected_bytes.get() == 0) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, collected).await.expect("a round in time");
}

fn truncated(floor: u64) -> RelayFrame {
    RelayFrame::Truncated { floor }
}

#[tokio::test]
async fn truncate_answers_the_floor_that_holds_and_welcome_tells_it() {
    let (relay, mut a, _b) = acknowledged().await;
    assert_eq!(truncate(&mut a, 4).await, truncated(4));
    let state = relay.ws(&device(2)).await.admitted(&Group::new(1)).await;
    assert_eq!((state.floor, state.head), (4, 5));
    assert_eq!(truncate(&mut a, 2).await, truncated(2), "taken back");
}

#[tokio::test]
async fn reading_below_the_floor_is_1011_and_right_above_it_works() {
    let (_relay, mut a, mut b) = acknowledged().await;
    assert_eq!(truncate(&mut a, 4).await, truncated(4));
    b.send(subscribe_frame(Timeline::ZERO, 0, BlobId::ZERO, PLENTY, false)).await;
    let RelayFrame::Error { code, detail, .. } = b.next().await else { panic!("expected 1011") };
    assert_eq!(code, ErrorCode::BelowFloor.number());
    let Diverged { timeline, head, floor } = detail.parse().unwrap();
    assert_eq!((head, floor), (5, 4));

    b.send(subscribe_frame(timeline, 3, blob_id(&envelope(2)), PLENTY, false)).await;
    assert_eq!(b.until_caught_up().await, (vec![stored(4, &envelope(3)), stored(5, &envelope(4))], 5));
    b.send(subscribe_frame(timeline, 3, blob_id(&envelope(1)), PLENTY, false)).await;
    assert_eq!(b.error().await, ErrorCode::Diverged, "another blob stands below the floor");
}

#[tokio::test]
async fn probe_knows_the_blob_below_the_floor_before_and_after_the_bytes_went() {
    let relay = TestRelay::start_with(|config| {
        config.limits.truncate_grace_ms = 1;
        config.limits.gc_interval_ms = 20;
    })
    .await;
    let (mut a, _b) = pair_at(&relay).await;
    assert_eq!(truncate(&mut a, 4).await, truncated(4));
    let probe = ClientFrame::Probe { cursors: List::try_from(vec![2, 3, 4]).unwrap() };
    let expected = vec![None, Some(blob_id(&envelope(2))), Some(blob_id(&envelope(3)))];
    let expected = RelayFrame::Probed { blob_ids: List::try_from(expected).unwrap() };
    a.send(probe.clone()).await;
    assert_eq!(a.next().await, expected);

    until_collected(&relay).await;
    a.send(probe).await;
    assert_eq!(a.next().await, expected);
    assert_eq!(truncate(&mut a, 1).await, truncated(4), "its bytes are gone");
}

#[tokio::test]
async fn a_floor_that_a_device_has_not_reached_is_refused_and_says_how_far_it_may_go() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut a = relay.founder(&group, &device(1)).await;
    let _b = relay.member(&group, &device(2)).await;
    a.push(1, &[envelope(1)]).await;
    a.send(ClientFrame::Ack { cursor: 2, receipt: None }).await;
    let RelayFrame::Error { code, detail, .. } = truncate(&mut a, 2).await else { panic!("expected a refusal") };
    assert_eq!(code, ErrorCode::RateLimited.number());
    assert!(detail.contains("has not acknowledged") && detail.ends_with("raised to 1"), "{detail}");
    assert!(a.is_quiet().await);
}

#[tokio::test]
async fn a_second_raise_within_the_interval_is_2000_with_the_time_to_wait() {
    let (_relay, mut a, mut b) = acknowledged().await;
    assert_eq!(truncate(&mut a, 3).await, truncated(3));
    let RelayFrame::Error { code, retry_after_ms, .. } = truncate(&mut b, 4).await else { panic!("not refused") };
    assert_eq!(code, ErrorCode::RateLimited.number());
    assert!((3_000_000..=3_600_000).contains(&retry_after_ms), "{retry_after_ms}");
    assert!(b.is_quiet().await);
}

#[tokio::test]
async fn a_session_of_before_a_rotation_neither_truncates_nor_deletes() {
    let (_relay, mut a, mut b) = acknowledged().await;
    let both = [device(1).public(), device(2).public()];
    a.send(rotate_frame(&a, &Group::new(1), &Group::new(2), 0, &both, 1)).await;
    assert!(matches!(a.next().await, RelayFrame::Rotated { .. }));
    for frame in [ClientFrame::Truncate { below: 3 }, ClientFrame::DeleteGroup {}] {
        b.send(frame).await;
        let code = loop {
            match b.next().await {
                RelayFrame::Superseded { .. } => {}
                RelayFrame::Error { code, .. } => break code,
                other => panic!("expected a refusal, not {other:?}"),
            }
        };
        assert_eq!(code, ErrorCode::RotationConflict.number());
    }
    assert_eq!(truncate(&mut a, 3).await, truncated(3));
}

#[tokio::test]
async fn delete_group_ends_every_session_of_the_group_and_no_other() {
    let (relay, mut a, mut b) = acknowledged().await;
    let mut stranger = relay.founder(&Group::new(2), &device(3)).await;
    a.send(ClientFrame::DeleteGroup {}).await;
    assert_eq!(a.next().await, RelayFrame::Deleted {});
    assert_eq!(a.ended().await.code, Some(1000));
    b.ends_with(ErrorCode::UnknownLog).await;
    assert!(stranger.is_quiet().await);
}

#[tokio::test]
async fn a_deleted_group_is_told_of_to_its_other_sessions_on_other_instances() {
    let store = stores::fresh_postgres().await;
    let one = TestRelay::start_on(&store, |_| {}).await;
    let other = TestRelay::start_on(&store, |_| {}).await;
    let mut a = one.founder(&Group::new(1), &device(1)).await;
    let mut b = other.member(&Group::new(1), &device(2)).await;
    a.send(ClientFrame::DeleteGroup {}).await;
    assert_eq!(a.next().await, RelayFrame::Deleted {});
    b.ends_with(ErrorCode::UnknownLog).await;
}

#[tokio::test]
async fn a_members_hello_brings_the_group_back_as_it_was() {
    let (relay, mut a, _b) = acknowledged().await;
    a.send(ClientFrame::DeleteGroup {}).await;
    assert_eq!(a.next().await, RelayFrame::Deleted {});

    let mut back = relay.member(&Group::new(1), &device(2)).await;
    assert_eq!(back.follow().await.len(), 5);
    assert_eq!(back.push(1, &[envelope(9)]).await, [Ok(6)]);
}

#[tokio::test]
async fn a_deleted_group_is_gone_after_its_grace_and_its_name_is_free() {
    let relay = TestRelay::start_with(|config| {
        config.limits.delete_grace_ms = 1;
        config.limits.gc_interval_ms = 20;
    })
    .await;
    let (mut a, _b) = pair_at(&relay).await;
    a.send(ClientFrame::DeleteGroup {}).await;
    assert_eq!(a.next().await, RelayFrame::Deleted {});
    until_collected(&relay).await;

    let mut outsider = relay.ws(&device(2)).await;
    assert!(matches!(outsider.hello(&Group::new(1)).await, RelayFrame::Error { code: 1001, .. }));
    let mut founder = relay.founder(&Group::new(1), &device(2)).await;
    assert_eq!(founder.follow().await, [stored(1, &epoch_envelope(0))]);
}

#[tokio::test]
async fn after_a_restore_the_old_timeline_is_1009_with_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let [before, after, archive] = ["before.db", "after.db", "relay.0k"].map(|name| dir.path().join(name));
    let relay = TestRelay::start_on(&StoreConfig::Sqlite(before.clone()), |_| {}).await;
    let group = Group::new(1);
    let mut a = relay.ws(&device(1)).await;
    let old = a.found(&group).await.timeline;
    a.push(1, &[envelope(1)]).await;
    let live = Sqlite::inspect(&before).unwrap();
    archive::backup(&live, &archive, None, 1).await.unwrap();
    a.push(2, &[envelope(2), envelope(3)]).await;

    let store = Sqlite::open(&after).unwrap();
    archive::restore(&store, &archive, false, Timelines::Fresh).await.unwrap();
    drop(store);
    let restored = TestRelay::start_on(&StoreConfig::Sqlite(after), |_| {}).await;

    let mut a = restored.member(&group, &device(1)).await;
    a.send(subscribe_frame(old, 4, blob_id(&envelope(3)), PLENTY, true)).await;
    let RelayFrame::Error { code, detail, .. } = a.next().await else { panic!("expected 1009") };
    assert_eq!(code, ErrorCode::Diverged.number());
    let Diverged { timeline, head, floor } = detail.parse().unwrap();
    assert!(timeline != old && !timeline.is_zero());
    assert_eq!((head, floor), (2, 1));

    a.send(subscribe_frame(timeline, 2, blob_id(&envelope(1)), PLENTY, true)).await;
    assert_eq!(a.until_caught_up().await, (vec![], 2), "the last cursor both have");
    assert_eq!(a.push(1, &[envelope(2), envelope(3)]).await, [Ok(3), Ok(4)], "and what is missing comes back");
}
