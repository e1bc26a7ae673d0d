//! Who gets in, who gets back in, who does not.

use bytes::Bytes;
use zeroize::Zeroizing;
use zerok_sync_protocol::frame::Who;
use zerok_sync_protocol::limits::{ALLOW_LIST_MAX, FRAME_BYTES_MAX_HELLO};
use zerok_sync_protocol::{ClientFrame, ErrorCode, NoisePublicKey, RelayFrame, hello};
use zerok_sync_relay::CreatePolicy;

use crate::support::{
    Client, Group, TestRelay, create_frame, device, envelope, envelope_of, epoch_envelope, hello_frame, link,
    push_frame, rotate_frame,
};

#[tokio::test]
async fn a_member_is_welcomed_with_where_the_log_stands() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let founded = relay.ws(&device(1)).await.found(&group).await;
    assert_eq!((founded.head, founded.floor, founded.auth_gen), (1, 1, 0));
    assert!(!founded.timeline.is_zero());

    let mut client = relay.ws(&device(2)).await;
    let RelayFrame::Welcome { log, limits, allow, slot, usage, .. } = client.hello(&group).await else {
        panic!("expected a Welcome");
    };
    assert_eq!(log, Some(founded));
    assert_eq!(limits.envelope_bytes_max, 1_179_648);
    assert_eq!(allow[..], [device(1).public(), device(2).public()]);
    assert!(slot.is_empty());
    assert!(usage.group_bytes > 0);
}

#[tokio::test]
async fn nothing_is_stored_before_create() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut founder = relay.ws(&device(1)).await;
    founder.send(founder.member_hello(&group, true)).await;
    assert!(matches!(founder.next().await, RelayFrame::Welcome { .. }));

    let mut other = relay.ws(&device(2)).await;
    other.send(other.member_hello(&group, false)).await;
    assert_eq!(other.error().await, ErrorCode::UnknownLog);
}

#[tokio::test]
async fn of_two_founders_one_loses_with_1008_and_gets_in_by_another_hello() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let (mut first, mut second) = (relay.ws(&device(1)).await, relay.ws(&device(2)).await);
    for founder in [&mut first, &mut second] {
        founder.send(founder.member_hello(&group, true)).await;
        assert!(matches!(founder.next().await, RelayFrame::Welcome { .. }));
    }
    first.send(create_frame(&[first.device], 0, &[envelope(1)])).await;
    assert!(matches!(first.next().await, RelayFrame::Welcome { .. }));
    second.send(create_frame(&[second.device], 0, &[envelope(1)])).await;
    assert_eq!(second.error().await, ErrorCode::RotationConflict);
    assert_eq!(second.admitted(&group).await.head, 2);
}

#[tokio::test]
async fn a_signature_of_another_session_is_refused() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let founder = relay.founder(&group, &device(1)).await;

    let replayed = founder.member_hello(&group, false);
    let mut thief = relay.ws(&device(2)).await;
    thief.send(replayed).await;
    thief.ends_with(ErrorCode::Unauthorized).await;
}

#[tokio::test]
async fn a_signature_to_join_does_not_create() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut client = relay.ws(&device(1)).await;
    let signature = hello::sign(&group.0, &client.stream.handshake_hash(), false);
    client.send(hello_frame(Who::Member { auth_public: group.public(), signature }, true)).await;
    client.ends_with(ErrorCode::Unauthorized).await;
}

#[tokio::test]
async fn whoever_knows_only_a_logs_key_but_not_its_secret_learns_nothing() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    relay.founder(&group, &device(1)).await;
    let mut client = relay.ws(&device(2)).await;
    let signature = hello::sign(&Group::new(2).0, &client.stream.handshake_hash(), false);
    client.send(hello_frame(Who::Member { auth_public: group.public(), signature }, false)).await;
    client.ends_with(ErrorCode::Unauthorized).await;
}

#[tokio::test]
async fn an_unknown_name_is_1001_and_another_hello_may_follow() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    relay.founder(&group, &device(1)).await;
    let mut client = relay.ws(&device(2)).await;
    client.send(client.member_hello(&Group::new(2), false)).await;
    assert_eq!(client.error().await, ErrorCode::UnknownLog);
    client.admitted(&group).await;
}

#[tokio::test]
async fn a_closed_relay_refuses_creation_with_1007_and_nothing_else() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    relay.founder(&group, &device(1)).await;
    let relay = relay.restart_with(|config| config.create = CreatePolicy::Closed).await;

    let mut client = relay.ws(&device(2)).await;
    client.send(client.member_hello(&Group::new(2), true)).await;
    assert_eq!(client.error().await, ErrorCode::CreationRefused);
    client.admitted(&group).await;
}

#[tokio::test]
async fn a_token_opens_creation_to_whoever_has_it() {
    let policy = CreatePolicy::Token(Zeroizing::new(b"sesame".to_vec()));
    let relay = TestRelay::start_with(|config| config.create = policy).await;
    let group = Group::new(1);
    for (token, welcome) in [(None, false), (Some("open"), false), (Some("sesame"), true)] {
        let mut client = relay.ws(&device(1)).await;
        let ClientFrame::Hello { minor_min, minor_max, who, create, .. } = client.member_hello(&group, true) else {
            unreachable!();
        };
        let token = token.map(|token: &str| Bytes::copy_from_slice(token.as_bytes()));
        client.send(ClientFrame::Hello { minor_min, minor_max, who, create, token }).await;
        let answer = client.next().await;
        assert_eq!(matches!(answer, RelayFrame::Welcome { .. }), welcome, "{answer:?}");
    }
}

#[tokio::test]
async fn a_known_device_alone_gets_the_epoch_envelope_and_nothing_more() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut founder = relay.founder(&group, &device(1)).await;
    founder.send(ClientFrame::SlotPut { data: Bytes::from_static(b"anchor") }).await;
    assert!(founder.is_quiet().await);

    let mut client = relay.ws(&device(1)).await;
    client.send(hello_frame(Who::Device {}, false)).await;
    assert_eq!(
        client.next().await,
        RelayFrame::Superseded { epoch_envelope: epoch_envelope(0), slot: Bytes::from_static(b"anchor"), more: 0 }
    );
    client.send(push_frame(1, &[envelope(1)], false)).await;
    client.ends_with(ErrorCode::Unauthorized).await;
}

#[tokio::test]
async fn an_unknown_device_is_1001() {
    let relay = TestRelay::start().await;
    let mut client = relay.ws(&device(1)).await;
    client.send(hello_frame(Who::Device {}, false)).await;
    assert_eq!(client.error().await, ErrorCode::UnknownLog);
}

#[tokio::test]
async fn a_device_of_several_logs_gets_four_and_more_counts_down() {
    let relay = TestRelay::start().await;
    for seed in 1..=5 {
        let mut founder = relay.ws(&device(seed)).await;
        founder.send(founder.member_hello(&Group::new(seed), true)).await;
        founder.next().await;
        founder.send(create_frame(&[founder.device, device(9).public()], u64::from(seed), &[])).await;
        founder.next().await;
    }
    let mut client = relay.ws(&device(9)).await;
    client.send(hello_frame(Who::Device {}, false)).await;
    for expected in [3, 2, 1, 0] {
        let RelayFrame::Superseded { more, .. } = client.next().await else { panic!("expected Superseded") };
        assert_eq!(more, expected);
    }
    assert!(client.is_quiet().await);
}

#[tokio::test]
async fn after_a_rotation_an_old_key_of_a_device_that_stays_is_answered_with_the_new_envelope() {
    let relay = TestRelay::start().await;
    let (old, new) = (Group::new(1), Group::new(2));
    let mut founder = relay.founder(&old, &device(1)).await;
    rotate(&mut founder, &old, &new, &[device(1).public(), device(2).public()]).await;

    let mut client = relay.ws(&device(2)).await;
    let superseded = RelayFrame::Superseded { epoch_envelope: epoch_envelope(1), slot: Bytes::new(), more: 0 };
    assert_eq!(client.hello(&old).await, superseded);
    assert_eq!(client.admitted(&new).await.auth_gen, 1);
}

#[tokio::test]
async fn after_a_rotation_an_old_key_of_a_device_that_does_not_stay_is_1003() {
    let relay = TestRelay::start().await;
    let (old, new) = (Group::new(1), Group::new(2));
    let mut founder = relay.founder(&old, &device(1)).await;
    rotate(&mut founder, &old, &new, &[device(1).public()]).await;

    let mut client = relay.ws(&device(2)).await;
    client.send(client.member_hello(&old, false)).await;
    client.ends_with(ErrorCode::DeviceRevoked).await;

    let mut squatter = relay.ws(&device(2)).await;
    squatter.send(squatter.member_hello(&old, true)).await;
    squatter.ends_with(ErrorCode::DeviceRevoked).await;
}

#[tokio::test]
async fn a_full_allow_list_is_2003() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut founder = relay.ws(&device(1)).await;
    founder.send(founder.member_hello(&group, true)).await;
    founder.next().await;
    let allow: Vec<NoisePublicKey> = (0..ALLOW_LIST_MAX).map(|seed| device(seed as u8).public()).collect();
    founder.send(create_frame(&allow, 0, &[])).await;
    assert!(matches!(founder.next().await, RelayFrame::Welcome { .. }));

    let mut client = relay.ws(&device(200)).await;
    client.send(client.member_hello(&group, false)).await;
    client.ends_with(ErrorCode::TooManyConnections).await;
}

#[tokio::test]
async fn a_fifth_session_of_a_device_closes_the_one_idle_longest() {
    let relay = TestRelay::start_alone().await;
    let group = Group::new(1);
    let mut sessions = vec![relay.founder(&group, &device(1)).await];
    for _ in 0..3 {
        sessions.push(relay.member(&group, &device(1)).await);
    }
    // Time in whole milliseconds decides who was idle longest.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    for index in [0, 1, 3] {
        assert!(sessions[index].is_quiet().await);
    }
    let mut fifth = relay.member(&group, &device(1)).await;

    sessions[2].ends_with(ErrorCode::TooManyConnections).await;
    for index in [0, 1, 3] {
        assert!(sessions[index].is_quiet().await);
    }
    assert!(fifth.is_quiet().await);
}

#[tokio::test]
async fn a_guest_has_mailboxes_only() {
    let relay = TestRelay::start().await;
    let mut guest = relay.ws(&device(1)).await;
    guest.guest().await;
    guest.send(push_frame(1, &[], false)).await;
    guest.ends_with(ErrorCode::Unauthorized).await;
}

#[tokio::test]
async fn a_guest_stays_a_guest() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    relay.founder(&group, &device(1)).await;
    let mut guest = relay.ws(&device(2)).await;
    guest.guest().await;
    guest.send(guest.member_hello(&group, false)).await;
    guest.ends_with(ErrorCode::InvalidMessage).await;
}

#[tokio::test]
async fn what_was_pushed_before_another_hello_is_answered_before_it() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut client = relay.founder(&group, &device(1)).await;
    client.queue(push_frame(1, &[envelope(1)], false));
    client.queue(client.member_hello(&group, false));
    client.flush().await;
    assert_eq!(client.push_ack(1).await, [Ok(2)]);
    let RelayFrame::Welcome { log: Some(log), .. } = client.next().await else { panic!("expected a Welcome") };
    assert_eq!(log.head, 2);
}

#[tokio::test]
async fn what_no_push_may_hold_no_create_may() {
    let relay = TestRelay::start().await;
    for (len, expected) in [(1_179_649, ErrorCode::EnvelopeTooLarge), (16, ErrorCode::InvalidMessage)] {
        let mut founder = relay.ws(&device(1)).await;
        founder.send(founder.member_hello(&Group::new(1), true)).await;
        assert!(matches!(founder.next().await, RelayFrame::Welcome { .. }));
        founder.send(create_frame(&[founder.device], 0, &[envelope_of(1, len)])).await;
        founder.ends_with(expected).await;
    }
}

#[tokio::test]
async fn before_hello_nothing_else_counts() {
    let relay = TestRelay::start().await;
    for frame in [
        push_frame(1, &[], false),
        create_frame(&[], 0, &[]),
        ClientFrame::Whisper { data: Bytes::new() },
        ClientFrame::MailboxOpen { short: false, ttl_ms: 1 },
    ] {
        let mut client = relay.ws(&device(1)).await;
        client.send(frame).await;
        client.ends_with(ErrorCode::Unauthorized).await;
    }
}

#[tokio::test]
async fn before_hello_frames_are_short() {
    let relay = TestRelay::start().await;
    let mut client = relay.ws(&device(1)).await;
    let token = Some(Bytes::from(vec![0; FRAME_BYTES_MAX_HELLO]));
    client.send(ClientFrame::Hello { minor_min: 0, minor_max: 0, who: Who::Guest {}, create: false, token }).await;
    client.ends_with(ErrorCode::InvalidMessage).await;
}

#[tokio::test]
async fn a_minor_version_the_relay_does_not_speak_is_1004() {
    let relay = TestRelay::start().await;
    let mut client = relay.ws(&device(1)).await;
    let hello = ClientFrame::Hello { minor_min: 200, minor_max: 255, who: Who::Guest {}, create: false, token: None };
    client.send(hello).await;
    client.ends_with(ErrorCode::UnsupportedVersion).await;
}

#[tokio::test]
async fn a_range_of_minor_versions_that_includes_the_relays_is_welcome() {
    let relay = TestRelay::start().await;
    let mut client = relay.ws(&device(1)).await;
    let hello = ClientFrame::Hello { minor_min: 0, minor_max: 255, who: Who::Guest {}, create: false, token: None };
    client.send(hello).await;
    assert!(matches!(client.next().await, RelayFrame::Welcome { minor: 0, .. }));
}

#[tokio::test]
async fn an_unknown_suite_or_subprotocol_is_closed_with_4004_and_the_range() {
    let relay = TestRelay::start().await;
    let mut suites = [link::ws(&relay.running).await, link::iroh(&relay.running).await];
    for (suite, link) in [9_u8, 0].into_iter().zip(&mut suites) {
        link.send([&[suite], &[0; 1_232][..]].concat()).await;
        let ended = link.recv().await.unwrap_err();
        assert_eq!((ended.code, ended.reason.as_str()), (Some(4004), r#"{"min":1,"max":1}"#));
    }
    for subprotocol in [None, Some("0k-sync.v9")] {
        if let Some(mut link) = link::try_ws(&relay.running, subprotocol).await {
            assert_eq!(link.recv().await.unwrap_err().code, Some(4004));
        }
    }
}

async fn rotate(client: &mut Client, old: &Group, new: &Group, allow: &[NoisePublicKey]) {
    client.send(rotate_frame(client, old, new, 0, allow, 1)).await;
    assert!(matches!(client.next().await, RelayFrame::Rotated { auth_gen: 1, .. }));
}
