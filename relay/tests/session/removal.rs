//! Restrict and Rotate: who is out is out at once, and only one rotation wins.

use bytes::Bytes;
use zerok_sync_protocol::frame::PushResult;
use zerok_sync_protocol::limits::EPOCH_ENVELOPE_BYTES_MAX;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{ClientFrame, ErrorCode, RelayFrame, hello};

use crate::support::{
    Client, Group, TestRelay, create_frame, device, envelope, envelope_of, epoch_envelope, own, push_frame,
    rotate_frame, stored,
};

#[tokio::test]
async fn restrict_ends_the_sessions_of_who_is_not_listed_and_freezes_the_head() {
    let (relay, group, mut stays, mut goes) = group_of_two().await;
    goes.push(1, &[envelope(1)]).await;
    restrict(&mut stays, &[1]).await;
    assert_eq!(stays.next().await, RelayFrame::Restricted { head: 2 });
    goes.ends_with(ErrorCode::DeviceRevoked).await;

    let mut back = relay.ws(&device(2)).await;
    back.send(back.member_hello(&group, false)).await;
    back.ends_with(ErrorCode::DeviceRevoked).await;
    let mut fresh = relay.ws(&device(3)).await;
    fresh.send(fresh.member_hello(&group, false)).await;
    fresh.ends_with(ErrorCode::DeviceRevoked).await;
    assert_eq!(stays.push(1, &[envelope(2)]).await, [Ok(3)]);
}

#[tokio::test]
async fn after_a_rotation_new_devices_come_in_under_the_new_key_only() {
    let (relay, old, mut a, _b) = group_of_two().await;
    let new = Group::new(2);
    restrict(&mut a, &[1]).await;
    assert!(matches!(a.next().await, RelayFrame::Restricted { .. }));
    a.send(rotate_frame(&a, &old, &new, 0, &[device(1).public()], 1)).await;
    assert_eq!(a.next().await, RelayFrame::Rotated { auth_gen: 1, cursor: 2 });

    let mut fresh = relay.member(&new, &device(3)).await;
    assert_eq!(fresh.follow().await, [stored(1, &epoch_envelope(0)), stored(2, &epoch_envelope(1))]);
    let mut removed = relay.ws(&device(2)).await;
    removed.send(removed.member_hello(&old, false)).await;
    removed.ends_with(ErrorCode::DeviceRevoked).await;
}

#[tokio::test]
async fn a_rotation_ends_the_sessions_of_who_is_not_listed() {
    let (_relay, old, mut stays, mut goes) = group_of_two().await;
    stays.send(rotate_frame(&stays, &old, &Group::new(2), 0, &[device(1).public()], 1)).await;
    assert!(matches!(stays.next().await, RelayFrame::Rotated { .. }));
    goes.ends_with(ErrorCode::DeviceRevoked).await;
}

#[tokio::test]
async fn a_rotation_that_is_sent_again_ends_nobody_who_came_in_since() {
    let (relay, old, mut a, _b) = group_of_two().await;
    let new = Group::new(2);
    a.send(rotate_frame(&a, &old, &new, 0, &[device(1).public()], 1)).await;
    assert_eq!(a.next().await, RelayFrame::Rotated { auth_gen: 1, cursor: 2 });
    let mut came_since = relay.member(&new, &device(3)).await;

    // Its answer was lost, for all the relay knows.
    let mut a = relay.member(&new, &device(1)).await;
    a.send(rotate_frame(&a, &new, &new, 0, &[device(1).public()], 1)).await;
    assert_eq!(a.next().await, RelayFrame::Rotated { auth_gen: 1, cursor: 2 });

    assert_eq!(came_since.push(1, &[envelope(1)]).await, [Ok(3)]);
    assert_eq!(a.push(1, &[envelope(2)]).await, [Ok(4)]);
}

#[tokio::test]
async fn a_rotation_comes_to_the_followers_as_an_entry_and_the_new_envelope() {
    let (_relay, old, mut a, mut b) = group_of_two().await;
    a.follow().await;
    b.follow().await;
    a.send(rotate_frame(&a, &old, &Group::new(2), 0, &[device(1).public(), device(2).public()], 1)).await;
    assert!(matches!(a.next().await, RelayFrame::Rotated { .. }));
    assert_eq!(a.entries().await, [own(2, &epoch_envelope(1))]);
    let superseded = RelayFrame::Superseded { epoch_envelope: epoch_envelope(1), slot: Bytes::new(), more: 0 };
    assert_eq!(b.next().await, superseded);
    assert_eq!(b.entries().await, [stored(2, &epoch_envelope(1))]);
}

#[tokio::test]
async fn what_was_pushed_before_a_rotation_stands_before_it() {
    let (_relay, old, mut a, _b) = group_of_two().await;
    a.queue(push_frame(1, &[envelope(1)], false));
    a.queue(rotate_frame(&a, &old, &Group::new(2), 0, &[device(1).public()], 1));
    a.flush().await;
    assert_eq!(a.push_ack(1).await, [Ok(2)]);
    assert_eq!(a.next().await, RelayFrame::Rotated { auth_gen: 1, cursor: 3 });
}

#[tokio::test]
async fn whoever_has_missed_a_rotation_changes_no_timeline() {
    let (_relay, old, mut a, mut b) = group_of_two().await;
    let timeline = b.admitted(&old).await.timeline;
    a.send(rotate_frame(&a, &old, &Group::new(2), 0, &[device(1).public(), device(2).public()], 1)).await;
    assert!(matches!(a.next().await, RelayFrame::Rotated { .. }));
    assert!(matches!(b.next().await, RelayFrame::Superseded { .. }));
    b.send(ClientFrame::NewTimeline { old: timeline }).await;
    assert!(matches!(b.next().await, RelayFrame::Superseded { .. }));
}

#[tokio::test]
async fn the_second_of_two_rotations_is_1008() {
    let (_relay, old, mut a, mut b) = group_of_two().await;
    let both = [device(1).public(), device(2).public()];
    a.send(rotate_frame(&a, &old, &Group::new(2), 0, &both, 1)).await;
    assert!(matches!(a.next().await, RelayFrame::Rotated { .. }));

    b.send(rotate_frame(&b, &old, &Group::new(3), 0, &both, 2)).await;
    loop {
        match b.next().await {
            RelayFrame::Superseded { .. } => {}
            RelayFrame::Error { code, detail, .. } => {
                assert_eq!((code, detail.as_str()), (ErrorCode::RotationConflict.number(), "auth_gen=1"));
                break;
            }
            other => panic!("expected the conflict, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_rotation_sent_again_is_answered_as_before() {
    let (_relay, old, mut a, _b) = group_of_two().await;
    let frame = rotate_frame(&a, &old, &Group::new(2), 0, &[device(1).public()], 1);
    a.send(frame).await;
    let first = a.next().await;
    let again = rotate_frame(&a, &Group::new(2), &Group::new(2), 0, &[device(1).public()], 1);
    a.send(again).await;
    assert_eq!(a.next().await, first);
}

#[tokio::test]
async fn a_rotation_sent_again_after_another_one_opens_nothing_to_the_older_key() {
    let (_relay, old, mut a, mut b) = group_of_two().await;
    let (second, third) = (Group::new(2), Group::new(3));
    let both = [device(1).public(), device(2).public()];
    a.send(rotate_frame(&a, &old, &second, 0, &both, 1)).await;
    assert_eq!(a.next().await, RelayFrame::Rotated { auth_gen: 1, cursor: 2 });
    b.send(b.member_hello(&second, false)).await;
    b.send(rotate_frame(&b, &second, &third, 1, &both, 2)).await;
    while b.next().await != (RelayFrame::Rotated { auth_gen: 2, cursor: 3 }) {}

    a.send(rotate_frame(&a, &second, &second, 0, &both, 1)).await;
    while a.next().await != (RelayFrame::Rotated { auth_gen: 2, cursor: 2 }) {}
    a.send(push_frame(1, &[envelope(1)], true)).await;
    let results = loop {
        match a.next().await {
            RelayFrame::PushAck { results, .. } => break results.into_vec(),
            RelayFrame::Superseded { .. } => {}
            other => panic!("expected the answer to the push, not {other:?}"),
        }
    };
    assert_eq!(results, [PushResult::Refused { code: ErrorCode::OutOfOrder.number() }]);
}

#[tokio::test]
async fn whoever_rotates_must_hold_the_next_key() {
    let (_relay, old, mut a, _b) = group_of_two().await;
    let (next, other) = (Group::new(2), Group::new(3));
    a.send(ClientFrame::Rotate {
        expect_gen: 0,
        next_auth_public: next.public(),
        proof: hello::sign_rotate(&other.0, &a.stream.handshake_hash(), &old.name()),
        allow: List::try_from(vec![device(1).public()]).unwrap(),
        epoch_envelope: epoch_envelope(1),
    })
    .await;
    a.ends_with(ErrorCode::Unauthorized).await;
}

#[tokio::test]
async fn a_session_of_before_a_rotation_restricts_nobody() {
    let (relay, old, mut a, mut b) = group_of_two().await;
    let new = Group::new(2);
    a.send(rotate_frame(&a, &old, &new, 0, &[device(1).public(), device(2).public()], 1)).await;
    assert!(matches!(a.next().await, RelayFrame::Rotated { .. }));

    restrict(&mut b, &[2]).await;
    loop {
        match b.next().await {
            RelayFrame::Superseded { .. } => {}
            RelayFrame::Error { code, .. } => {
                assert_eq!(code, ErrorCode::RotationConflict.number());
                break;
            }
            other => panic!("expected the conflict, not {other:?}"),
        }
    }
    assert!(a.is_quiet().await);
    relay.member(&new, &device(3)).await;
}

#[tokio::test]
async fn an_epoch_envelope_over_the_limit_is_refused() {
    let (_relay, old, mut a, _b) = group_of_two().await;
    let ClientFrame::Rotate { expect_gen, next_auth_public, proof, allow, .. } =
        rotate_frame(&a, &old, &Group::new(2), 0, &[device(1).public()], 1)
    else {
        unreachable!();
    };
    let epoch_envelope = envelope_of(1, 1_179_649);
    a.send(ClientFrame::Rotate { expect_gen, next_auth_public, proof, allow, epoch_envelope }).await;
    assert_eq!(a.error().await, ErrorCode::EnvelopeTooLarge);
}

#[tokio::test]
async fn an_epoch_envelope_is_no_larger_than_one_can_need_to_be() {
    let relay = TestRelay::start().await;
    let (old, new) = (Group::new(1), Group::new(2));
    for (len, outcome) in [(EPOCH_ENVELOPE_BYTES_MAX + 1, Err(())), (EPOCH_ENVELOPE_BYTES_MAX, Ok(()))] {
        let mut a = relay.ws(&device(1)).await;
        a.send(a.member_hello(&old, true)).await;
        a.next().await;
        let mut create = create_frame(&[a.device], 0, &[]);
        if let ClientFrame::Create { epoch_envelope, .. } = &mut create {
            *epoch_envelope = envelope_of(1, len);
        }
        a.send(create).await;
        if outcome.is_err() {
            a.ends_with(ErrorCode::EnvelopeTooLarge).await;
            continue;
        }
        assert!(matches!(a.next().await, RelayFrame::Welcome { .. }));
        for (len, outcome) in [(len + 1, Err(())), (len, Ok(()))] {
            let mut rotate = rotate_frame(&a, &old, &new, 0, &[device(1).public()], 1);
            if let ClientFrame::Rotate { epoch_envelope, .. } = &mut rotate {
                *epoch_envelope = envelope_of(2, len);
            }
            a.send(rotate).await;
            match outcome {
                Err(()) => assert_eq!(a.error().await, ErrorCode::EnvelopeTooLarge),
                Ok(()) => assert!(matches!(a.next().await, RelayFrame::Rotated { .. })),
            }
        }
    }
}

#[tokio::test]
async fn rotations_do_not_fill_the_disk_beyond_the_quota_and_their_reserve() {
    let relay = TestRelay::start_with(|config| config.limits.group_bytes_max = 1).await;
    let mut group = Group::new(1);
    let mut a = relay.founder(&group, &device(1)).await;
    let reserve = zerok_sync_relay::limits::ROTATION_RESERVE_BYTES / EPOCH_ENVELOPE_BYTES_MAX as u64;
    for generation in 0..=reserve {
        let next = Group::new(2 + generation as u8);
        let ClientFrame::Rotate { expect_gen, next_auth_public, proof, allow, .. } =
            rotate_frame(&a, &group, &next, generation, &[device(1).public()], 0)
        else {
            unreachable!();
        };
        let epoch_envelope = envelope_of(generation, EPOCH_ENVELOPE_BYTES_MAX);
        a.send(ClientFrame::Rotate { expect_gen, next_auth_public, proof, allow, epoch_envelope }).await;
        match a.next().await {
            RelayFrame::Rotated { .. } if generation < reserve => group = next,
            RelayFrame::Error { code, .. } if generation == reserve => {
                assert_eq!(code, ErrorCode::GroupQuotaExceeded.number());
            }
            other => panic!("rotation {generation}: {other:?}"),
        }
    }
    assert!(a.is_quiet().await, "the session goes on");
}

async fn restrict(client: &mut Client, stay: &[u8]) {
    let allow: Vec<_> = stay.iter().map(|&seed| device(seed).public()).collect();
    client.send(ClientFrame::Restrict { allow: List::try_from(allow).unwrap() }).await;
}

async fn group_of_two() -> (TestRelay, Group, Client, Client) {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let a = relay.founder(&group, &device(1)).await;
    let b = relay.member(&group, &device(2)).await;
    (relay, group, a, b)
}
