//! Several relays on one Postgres: any of them serves any group, with no word between them but
//! the database's. Where a test is about the doorbell, the poll is put off, and the other way round.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Runtime;
use zerok_sync_protocol::diverged::Diverged;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::limits::MAILBOX_TTL_MS;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, ClientFrame, ErrorCode, RelayFrame, Timeline};
use zerok_sync_relay::{Config, StoreConfig};

use crate::support::{
    Client, Group, PLENTY, TestRelay, device, envelope, epoch_envelope, own, push_frame, rotate_frame, stored, stores,
    subscribe_frame,
};

const HOUR_MS: u64 = 3_600_000;

#[tokio::test]
async fn instances_share_one_identity_towards_clients() {
    let (one, other, _) = two_instances(|_| {}).await;
    assert_eq!(one.running.noise_key, other.running.noise_key);
    assert_ne!(one.running.iroh_endpoint_id, other.running.iroh_endpoint_id);
}

#[tokio::test]
async fn what_is_pushed_at_one_reaches_the_followers_at_the_other_by_the_doorbell() {
    let (one, other, _) = two_instances(doorbell_alone).await;
    let group = Group::new(1);
    let mut writer = one.founder(&group, &device(1)).await;
    let mut readers = [other.member(&group, &device(2)).await, other.member(&group, &device(3)).await];
    for reader in &mut readers {
        assert_eq!(reader.follow().await, [stored(1, &epoch_envelope(0))]);
    }
    let mut took = Vec::new();
    for number in 1..=20 {
        let pushed = Instant::now();
        assert_eq!(writer.push(number, &[envelope(number)]).await, [Ok(number + 1)]);
        for reader in &mut readers {
            assert_eq!(reader.entries().await, [stored(number + 1, &envelope(number))]);
        }
        took.push(pushed.elapsed());
    }
    took.sort();
    assert!(took[5] < Duration::from_millis(100), "typically within 100 ms, on a busy machine too: {took:?}");
}

#[tokio::test]
async fn without_the_doorbell_the_poll_delivers_within_two_seconds() {
    let (one, other, _) = two_instances(poll_alone).await;
    let group = Group::new(1);
    let mut writer = one.founder(&group, &device(1)).await;
    let mut reader = other.member(&group, &device(2)).await;
    reader.follow().await;
    for number in 1..=2 {
        let pushed = Instant::now();
        assert_eq!(writer.push(number, &[envelope(number)]).await, [Ok(number + 1)]);
        assert_eq!(reader.entries().await, [stored(number + 1, &envelope(number))]);
        assert!(pushed.elapsed() < Duration::from_secs(2));
    }
    let missed = crate::support::link::get(&other.running, "/metrics").await;
    assert!(missed.contains("doorbell_missed_total "), "{missed}");
}

#[tokio::test]
async fn a_doorbell_whose_connections_are_cut_heals_and_nothing_is_missed() {
    let (one, other, StoreConfig::Postgres(url)) = two_instances(doorbell_alone).await else { unreachable!() };
    let group = Group::new(1);
    let mut writer = one.founder(&group, &device(1)).await;
    let mut reader = other.member(&group, &device(2)).await;
    reader.follow().await;
    for number in 1..=3 {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE application_name = 'zerok-relay-doorbell' AND datname = current_database()";
        stores::sql(&url, cut).await;
        assert_eq!(writer.push(number, &[envelope(number)]).await, [Ok(number + 1)]);
        assert_eq!(reader.entries().await, [stored(number + 1, &envelope(number))]);
    }
}

#[tokio::test]
async fn whispers_and_acks_cross_instances() {
    let (one, other, _) = two_instances(doorbell_alone).await;
    let group = Group::new(1);
    let mut a = one.founder(&group, &device(1)).await;
    let mut b = other.member(&group, &device(2)).await;
    let data = Bytes::from_static(b"sealed");
    a.send(ClientFrame::Whisper { data: data.clone() }).await;
    assert_eq!(b.next().await, RelayFrame::Whispered { data });
    b.send(ClientFrame::Ack { cursor: 1, receipt: Some(Bytes::from_static(b"receipt")) }).await;
    let receipt = Some(Bytes::from_static(b"receipt"));
    assert_eq!(a.next().await, RelayFrame::Acked { device: device(2).public(), cursor: 1, receipt });
    assert!(b.is_quiet().await, "nobody hears itself");
}

#[tokio::test]
async fn a_removal_at_one_ends_the_removed_devices_session_at_the_other_before_the_rotation() {
    for settings in [doorbell_alone, poll_alone] {
        let (one, other, _) = two_instances(settings).await;
        let group = Group::new(1);
        let mut stays = one.founder(&group, &device(1)).await;
        let mut stays_too = other.member(&group, &device(3)).await;
        let mut goes = other.member(&group, &device(2)).await;
        restrict(&mut stays, &[1, 3]).await;
        goes.ends_with(ErrorCode::DeviceRevoked).await;
        assert_eq!(stays_too.push(1, &[envelope(1)]).await, [Ok(2)]);
    }
}

#[tokio::test]
async fn a_second_removal_before_the_rotation_is_noticed_without_a_doorbell_too() {
    let (one, other, _) = two_instances(poll_alone).await;
    let group = Group::new(1);
    let mut stays = one.founder(&group, &device(1)).await;
    let mut goes_first = other.member(&group, &device(2)).await;
    let mut goes_second = other.member(&group, &device(3)).await;
    restrict(&mut stays, &[1, 3]).await;
    goes_first.ends_with(ErrorCode::DeviceRevoked).await;

    restrict(&mut stays, &[1]).await;

    goes_second.ends_with(ErrorCode::DeviceRevoked).await;
}

#[tokio::test]
async fn a_rotation_at_one_ends_the_removed_devices_session_at_the_other() {
    let (one, other, _) = two_instances(doorbell_alone).await;
    let group = Group::new(1);
    let mut stays = one.founder(&group, &device(1)).await;
    let mut goes = other.member(&group, &device(2)).await;
    stays.send(rotate_frame(&stays, &group, &Group::new(2), 0, &[device(1).public()], 1)).await;
    assert!(matches!(stays.next().await, RelayFrame::Rotated { auth_gen: 1, .. }));
    goes.ends_with(ErrorCode::DeviceRevoked).await;
}

#[tokio::test]
async fn nothing_of_a_device_removed_at_one_comes_behind_the_frozen_head_by_the_other() {
    let (one, other, _) = two_instances(|_| {}).await;
    let group = Group::new(1);
    let mut stays = one.founder(&group, &device(1)).await;
    let mut goes = other.member(&group, &device(2)).await;
    for number in 1..=50 {
        goes.queue(push_frame(number, &[envelope(number)], false));
        goes.flush().await;
    }
    let head = restrict(&mut stays, &[1]).await;

    let mut stored = 0;
    while let Ok(frame) = goes.next_or_end().await {
        match frame {
            RelayFrame::PushAck { results, .. } => {
                for result in results.iter() {
                    if let zerok_sync_protocol::frame::PushResult::Stored { cursor } = result {
                        assert!(*cursor <= head, "stored behind the frozen head");
                        stored += 1;
                    }
                }
            }
            other => assert!(matches!(other, RelayFrame::Error { .. }), "{other:?}"),
        }
    }
    let kept = stays.follow().await.len() as u64;
    assert_eq!(kept, head, "the head did not move");
    assert!(stored < head, "no more was acknowledged than is there");
}

#[tokio::test]
async fn inviter_and_joiner_meet_on_different_instances() {
    let (one, other, _) = two_instances(doorbell_alone).await;
    let mut inviter = one.founder(&Group::new(1), &device(1)).await;
    inviter.send(ClientFrame::MailboxOpen { short: true, ttl_ms: MAILBOX_TTL_MS }).await;
    let RelayFrame::MailboxOpened { mailbox, .. } = inviter.next().await else { panic!("expected a mailbox") };
    let mut joiner = other.ws(&device(2)).await;
    joiner.guest().await;
    joiner.send(ClientFrame::MailboxJoin { mailbox }).await;
    assert!(matches!(joiner.next().await, RelayFrame::MailboxOpened { .. }));

    let data = Bytes::from_static(b"hello");
    joiner.send(ClientFrame::MailboxSend { data: data.clone() }).await;
    assert_eq!(inviter.next().await, RelayFrame::MailboxMessage { data: data.clone() });
    inviter.send(ClientFrame::MailboxSend { data: data.clone() }).await;
    assert_eq!(joiner.next().await, RelayFrame::MailboxMessage { data });
    joiner.send(ClientFrame::MailboxClose {}).await;
    assert_eq!(inviter.next().await, RelayFrame::MailboxClosed {});
}

#[tokio::test]
async fn when_one_of_two_instances_dies_nothing_is_lost_and_its_clients_go_on_at_the_other() {
    let store = stores::fresh_postgres().await;
    let survivor = TestRelay::start_on(&store, |_| {}).await;
    // On a runtime of its own, which ends without a word to anybody.
    let doomed = Runtime::new().unwrap();
    let on = store.clone();
    let dies = doomed.spawn(async move { TestRelay::start_on(&on, |_| {}).await }).await.unwrap();
    let group = Group::new(1);
    let mut reader = survivor.founder(&group, &device(1)).await;
    reader.follow().await;
    let mut writer = dies.member(&group, &device(2)).await;
    let mut acked = Vec::new();
    for number in 1..=10 {
        acked.extend(writer.push(number, &[envelope(number)]).await);
    }
    writer.queue(push_frame(11, &[envelope(11)], false));
    writer.flush().await;
    doomed.shutdown_background();

    let mut writer = survivor.member(&group, &device(2)).await;
    let again: Vec<_> = (1..=12).map(envelope).collect();
    let cursors = writer.push(1, &again).await;
    assert_eq!(cursors[..10], acked, "what was acknowledged is where it was");
    let mut read = 1;
    while read < 13 {
        for entry in reader.entries().await {
            read += 1;
            assert_eq!(entry, stored(read, &envelope(read - 1)));
        }
    }
    drop(dies);
}

#[tokio::test]
async fn a_database_restored_under_the_relay_ends_what_was_read_of_it() {
    let (one, _other, _) = two_instances(poll_alone).await;
    let group = Group::new(1);
    let mut writer = one.founder(&group, &device(1)).await;
    let envelopes: Vec<_> = (1..=5).map(envelope).collect();
    writer.push(1, &envelopes).await;
    let mut ahead = one.member(&group, &device(2)).await;
    ahead.follow().await;
    let mut behind = one.member(&group, &device(3)).await;
    let credit = 500;
    behind.send(subscribe_frame(Timeline::ZERO, 0, BlobId::ZERO, credit, true)).await;
    assert_eq!(behind.entries().await, [stored(1, &epoch_envelope(0))]);
    assert_eq!(behind.entries().await, [stored(2, &envelope(1))]);

    one.tamper("DELETE FROM entries WHERE cursor > 3").await;
    let restored = format!("UPDATE groups SET head = 3, head_blob_id = '\\x{}'", blob_id(&envelope(2)));
    one.tamper(&restored).await;

    assert_eq!(diverged(&mut ahead).await.head, 3);
    behind.send(ClientFrame::Credit { bytes: PLENTY }).await;
    assert_eq!(behind.until_caught_up().await, (vec![stored(3, &envelope(2))], 3), "it had read nothing else");
    assert_eq!(writer.push(2, &[envelope(9)]).await, [Ok(4)]);
    assert_eq!(behind.entries().await, [stored(4, &envelope(9))]);
    assert_eq!(ahead.follow().await.len(), 4, "its session goes on");
    assert_eq!(ahead.push(1, &[envelope(10)]).await, [Ok(5)]);
    assert_eq!(ahead.entries().await, [own(5, &envelope(10))]);
}

#[tokio::test]
async fn another_timeline_ends_what_was_read_of_the_old_one() {
    let (one, other, _) = two_instances(doorbell_alone).await;
    let group = Group::new(1);
    let mut founder = one.ws(&device(1)).await;
    let old = founder.found(&group).await.timeline;
    let mut reader = other.member(&group, &device(2)).await;
    reader.follow().await;
    founder.send(ClientFrame::NewTimeline { old }).await;
    let RelayFrame::TimelineChanged { timeline } = founder.next().await else { panic!("expected a timeline") };
    assert_eq!(diverged(&mut reader).await.timeline, timeline);
}

#[tokio::test]
async fn the_server_keeps_nothing_for_instances_that_do_not_listen() {
    let (one, _other, StoreConfig::Postgres(url)) = two_instances(doorbell_alone).await else { unreachable!() };
    let group = Group::new(1);
    let mut writer = one.founder(&group, &device(1)).await;
    for number in 1..=20 {
        writer.push(number, &[envelope(number)]).await;
    }
    let client = stores::connect(&url).await;
    let row = client.query_one("SELECT pg_notification_queue_usage()", &[]).await.unwrap();
    assert!(row.get::<_, f64>(0) < 0.001);
}

pub fn doorbell_alone(config: &mut Config) {
    config.limits.backstop_poll_ms = HOUR_MS;
}

fn poll_alone(config: &mut Config) {
    config.limits.doorbell_coalesce_ms = HOUR_MS;
}

async fn two_instances(settings: fn(&mut Config)) -> (TestRelay, TestRelay, StoreConfig) {
    let store = stores::fresh_postgres().await;
    let one = TestRelay::start_on(&store, settings).await;
    let other = TestRelay::start_on(&store, settings).await;
    (one, other, store)
}

/// Restricts the group to these devices; the frozen head.
async fn restrict(client: &mut Client, devices: &[u8]) -> u64 {
    let allow: Vec<_> = devices.iter().map(|&id| device(id).public()).collect();
    client.send(ClientFrame::Restrict { allow: List::try_from(allow).unwrap() }).await;
    match client.next().await {
        RelayFrame::Restricted { head } => head,
        other => panic!("expected Restricted, not {other:?}"),
    }
}

async fn diverged(client: &mut Client) -> Diverged {
    match client.next().await {
        RelayFrame::Error { code, detail, .. } if code == ErrorCode::Diverged.number() => detail.parse().unwrap(),
        other => panic!("expected 1009, not {other:?}"),
    }
}
