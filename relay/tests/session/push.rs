//! Appending: prefix rule, limits, idempotency, what happens when the keys move on.

use bytes::Bytes;
use zerok_sync_protocol::limits::ENVELOPE_BYTES_MAX_DEFAULT;
use zerok_sync_protocol::{ErrorCode, RelayFrame};

use crate::support::{
    Client, Group, TestRelay, device, envelope, envelope_of, epoch_envelope, push_frame, rotate_frame, stored,
};

#[tokio::test]
async fn after_a_refusal_everything_behind_it_waits_for_resume() {
    let relay = TestRelay::start().await;
    let mut client = relay.founder(&Group::new(1), &device(1)).await;
    let too_large = envelope_of(1, ENVELOPE_BYTES_MAX_DEFAULT as usize + 1);

    client.queue(push_frame(1, &[envelope(1), too_large, envelope(2)], false));
    client.queue(push_frame(2, &[envelope(3)], false));
    client.flush().await;

    let out_of_order = Err(ErrorCode::OutOfOrder);
    assert_eq!(client.push_ack(1).await, [Ok(2), Err(ErrorCode::EnvelopeTooLarge), out_of_order]);
    assert_eq!(client.push_ack(2).await, [out_of_order]);
    assert_eq!(client.push(3, &[envelope(4)]).await, [out_of_order]);

    client.send(push_frame(4, &[envelope(2), envelope(3)], true)).await;
    assert_eq!(client.push_ack(4).await, [Ok(3), Ok(4)]);
    assert_eq!(client.push(5, &[envelope(4)]).await, [Ok(5)]);
}

#[tokio::test]
async fn bytes_too_short_for_an_envelope_are_refused_alone() {
    let relay = TestRelay::start().await;
    let mut client = relay.founder(&Group::new(1), &device(1)).await;
    assert_eq!(client.push(1, &[Bytes::from_static(b"short")]).await, [Err(ErrorCode::InvalidMessage)]);
    client.send(push_frame(2, &[envelope(1)], true)).await;
    assert_eq!(client.push_ack(2).await, [Ok(2)]);
}

#[tokio::test]
async fn the_largest_envelope_passes() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut a = relay.founder(&group, &device(1)).await;
    let mut b = relay.member(&group, &device(2)).await;
    let largest = envelope_of(1, ENVELOPE_BYTES_MAX_DEFAULT as usize);
    assert_eq!(a.push(1, std::slice::from_ref(&largest)).await, [Ok(2)]);
    assert_eq!(b.follow().await, [stored(1, &epoch_envelope(0)), stored(2, &largest)]);
}

#[tokio::test]
async fn the_same_envelope_keeps_its_cursor() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut a = relay.founder(&group, &device(1)).await;
    assert_eq!(a.push(1, &[envelope(1), envelope(1)]).await, [Ok(2), Ok(2)]);
    let mut b = relay.member(&group, &device(2)).await;
    assert_eq!(b.push(1, &[envelope(1), envelope(2)]).await, [Ok(2), Ok(3)]);
}

#[tokio::test]
async fn a_full_log_refuses_with_2002_and_keeps_what_fits() {
    let relay = TestRelay::start_with(|config| config.limits.group_bytes_max = 1_200).await;
    let mut client = relay.founder(&Group::new(1), &device(1)).await;
    // The epoch envelope and each of these has 340 bytes.
    let results = client.push(1, &[envelope(1), envelope(2), envelope(3), envelope(4)]).await;
    assert_eq!(results, [Ok(2), Ok(3), Err(ErrorCode::GroupQuotaExceeded), Err(ErrorCode::OutOfOrder)]);
}

#[tokio::test]
async fn pipelined_pushes_are_answered_in_order_and_stored_in_order() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut a = relay.founder(&group, &device(1)).await;
    for number in 0..2_500 {
        a.queue(push_frame(number, &[envelope(number)], false));
    }
    a.flush().await;
    for number in 0..2_500 {
        assert_eq!(a.push_ack(number).await, [Ok(number + 2)]);
    }
    let mut b = relay.member(&group, &device(2)).await;
    let entries = b.follow().await;
    assert_eq!(entries.len(), 2_501);
    assert_eq!(entries[1..], (0..2_500).map(|number| stored(number + 2, &envelope(number))).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut client = relay.founder(&group, &device(1)).await;
    assert_eq!(client.push(1, &[envelope(1)]).await, [Ok(2)]);
    let relay = relay.restart().await;
    let mut client = relay.member(&group, &device(2)).await;
    assert_eq!(client.follow().await, [stored(1, &epoch_envelope(0)), stored(2, &envelope(1))]);
}

#[tokio::test]
async fn a_push_under_a_superseded_key_waits_for_hello_and_resume() {
    let relay = TestRelay::start().await;
    let (old, new) = (Group::new(1), Group::new(2));
    let mut a = relay.founder(&old, &device(1)).await;
    let mut b = relay.member(&old, &device(2)).await;
    a.send(rotate_frame(&a, &old, &new, 0, &[device(1).public(), device(2).public()], 1)).await;
    assert!(matches!(a.next().await, RelayFrame::Rotated { auth_gen: 1, cursor: 2 }));

    expect_superseded(&mut b, 1).await;
    let out_of_order = [Err(ErrorCode::OutOfOrder)];
    assert_eq!(b.push(1, &[envelope(1)]).await, out_of_order);
    b.send(push_frame(2, &[envelope(1)], true)).await;
    assert_eq!(b.push_ack(2).await, out_of_order, "resume alone does not help");
    b.admitted(&new).await;
    assert_eq!(b.push(3, &[envelope(1)]).await, out_of_order, "nor does Hello alone");
    b.send(push_frame(4, &[envelope(1)], true)).await;
    assert_eq!(b.push_ack(4).await, [Ok(3)]);
    assert_eq!(a.push(1, &[envelope(2)]).await, [Ok(4)], "who rotated goes on without a Hello");
}

async fn expect_superseded(client: &mut Client, seed: u64) {
    let superseded = RelayFrame::Superseded { epoch_envelope: epoch_envelope(seed), slot: Bytes::new(), more: 0 };
    assert_eq!(client.next().await, superseded);
}

/// A log that holds its epoch envelope and `count` more.
async fn nearly_full(count: u64) -> (TestRelay, Client) {
    let bytes = (1 + count) * envelope(0).len() as u64;
    let relay = TestRelay::start_with(|config| config.limits.group_bytes_max = bytes).await;
    let client = relay.founder(&Group::new(1), &device(1)).await;
    (relay, client)
}

#[tokio::test]
async fn behind_what_the_store_refused_nothing_is_taken_until_resume() {
    let (_relay, mut client) = nearly_full(1).await;
    let answers = client.push(1, &[envelope(1), envelope(2)]).await;
    assert_eq!(answers, [Ok(2), Err(ErrorCode::GroupQuotaExceeded)]);

    assert_eq!(client.push(2, &[envelope(1)]).await, [Err(ErrorCode::OutOfOrder)], "though it is there already");
    client.send(push_frame(3, &[envelope(1)], true)).await;
    assert_eq!(client.push_ack(3).await, [Ok(2)]);
}

#[tokio::test]
async fn a_resume_that_came_before_the_store_refused_resumes_nothing() {
    let (_relay, mut client) = nearly_full(0).await;
    client.queue(push_frame(1, &[envelope(1), envelope_of(2, 16)], false));
    client.queue(push_frame(2, &[epoch_envelope(0)], true));
    client.flush().await;
    assert_eq!(client.push_ack(1).await, [Err(ErrorCode::GroupQuotaExceeded), Err(ErrorCode::OutOfOrder)]);
    assert_eq!(client.push_ack(2).await, [Err(ErrorCode::OutOfOrder)]);
}
