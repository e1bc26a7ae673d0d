//! Several relays on one Postgres: any of them serves any group, with no word between them but
//! the database's.

use bytes::Bytes;
use zerok_sync_protocol::limits::MAILBOX_TTL_MS;
use zerok_sync_protocol::{ClientFrame, ErrorCode, RelayFrame};
use zerok_sync_relay::StoreConfig;
use zerok_sync_testkit::postgres::shared;

use crate::support::{Group, TestRelay, device, envelope, epoch_envelope, rotate_frame, stored};

#[tokio::test]
async fn instances_share_one_identity_towards_clients() {
    let (one, other) = two_instances().await;
    assert_eq!(one.running.noise_key, other.running.noise_key);
    assert_ne!(one.running.iroh_endpoint_id, other.running.iroh_endpoint_id);
}

#[tokio::test]
async fn what_is_pushed_at_one_reaches_a_follower_at_the_other() {
    let (one, other) = two_instances().await;
    let group = Group::new(1);
    let mut writer = one.founder(&group, &device(1)).await;
    let mut reader = other.member(&group, &device(2)).await;
    assert_eq!(reader.follow().await, [stored(1, &epoch_envelope(0))]);
    assert_eq!(writer.push(1, &[envelope(1)]).await, [Ok(2)]);
    assert_eq!(reader.entries().await, [stored(2, &envelope(1))]);
}

#[tokio::test]
async fn a_rotation_at_one_ends_the_removed_devices_session_at_the_other() {
    let (one, other) = two_instances().await;
    let group = Group::new(1);
    let mut stays = one.founder(&group, &device(1)).await;
    let mut goes = other.member(&group, &device(2)).await;
    stays.send(rotate_frame(&stays, &group, &Group::new(2), 0, &[device(1).public()], 1)).await;
    assert!(matches!(stays.next().await, RelayFrame::Rotated { auth_gen: 1, .. }));
    goes.ends_with(ErrorCode::DeviceRevoked).await;
}

#[tokio::test]
async fn inviter_and_joiner_meet_on_different_instances() {
    let (one, other) = two_instances().await;
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

async fn two_instances() -> (TestRelay, TestRelay) {
    let url = tokio::task::spawn_blocking(|| shared().database()).await.unwrap();
    let on = |url: &String| StoreConfig::Postgres(url.clone().into());
    let one = TestRelay::start_with(|config| config.store = on(&url)).await;
    let other = TestRelay::start_with(|config| config.store = on(&url)).await;
    (one, other)
}
