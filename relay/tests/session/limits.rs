//! What one device, one address and one log may do, and what it is told beyond.

use std::time::{Duration, Instant};

use bytes::Bytes;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::limits::ALLOW_LIST_MAX;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{ClientFrame, ErrorCode, MailboxId, RelayFrame};
use zerok_sync_relay::RelayLimits;
use zerok_sync_relay::limits::HELLOS_MAX;
use zerok_sync_relay::metrics::Refusal;

use crate::support::{Client, Group, TestRelay, create_frame, device, envelope, envelope_of, push_frame};

#[tokio::test]
async fn a_device_that_sends_too_many_frames_is_read_more_slowly_and_not_cut_off() {
    let relay = TestRelay::start_with(|config| config.limits.frames_per_second = 1_000).await;
    let mut client = relay.founder(&Group::new(1), &device(1)).await;
    let begin = Instant::now();
    let pings = 2_500;
    for _ in 0..pings {
        client.queue(ClientFrame::Ping {});
    }
    client.flush().await;
    // Read after what came before: the pongs of a burst fit nowhere else.
    for _ in 0..pings {
        assert_eq!(client.next().await, RelayFrame::Pong {});
    }
    client.send(ClientFrame::Ping {}).await;
    assert_eq!(client.next().await, RelayFrame::Pong {});
    assert!(
        begin.elapsed() >= Duration::from_millis(400),
        "2,501 frames, 2,000 of them at once: {:?}",
        begin.elapsed()
    );
    assert!(refused_for(&relay, Refusal::Throttled) > 0);
}

#[tokio::test]
async fn a_device_that_acknowledges_too_often_is_read_more_slowly_and_its_last_word_counts() {
    let relay = TestRelay::start_with(|config| config.limits.acks_per_second = 20).await;
    let group = Group::new(1);
    let mut eager = relay.founder(&group, &device(1)).await;
    let mut other = relay.member(&group, &device(2)).await;
    let begin = Instant::now();
    for cursor in 1..=50 {
        eager.send(ClientFrame::Ack { cursor, receipt: None }).await;
    }
    while !matches!(other.next().await, RelayFrame::Acked { cursor: 50, .. }) {}
    assert!(begin.elapsed() >= Duration::from_millis(400), "50, 40 of them at once: {:?}", begin.elapsed());
    assert!(refused_for(&relay, Refusal::Throttled) > 0);
}

#[tokio::test]
async fn what_a_question_makes_the_relay_read_counts_as_if_it_had_been_sent() {
    let relay = TestRelay::start_with(|config| config.limits.bytes_per_second = 1_000_000).await;
    let mut client = relay.founder(&Group::new(1), &device(1)).await;
    let envelopes: Vec<Bytes> = (0..3).map(|seed| envelope_of(seed, 100_000)).collect();
    client.push(1, &envelopes).await;
    let blob_ids: Vec<_> = envelopes.iter().map(|envelope| blob_id(envelope)).collect();
    let question = ClientFrame::Missing { blob_ids: List::try_from(blob_ids).unwrap() };
    assert_eq!(refused_for(&relay, Refusal::Throttled), 0);

    for _ in 0..8 {
        client.send(question.clone()).await;
        assert_eq!(client.next().await, RelayFrame::MissingBlobs { bitmap: Bytes::from_static(&[0]) });
    }

    assert!(client.is_quiet().await);
    assert!(refused_for(&relay, Refusal::Throttled) > 0, "2.4 MB were read, 2 MB of them at once");
}

#[tokio::test]
async fn an_address_that_made_its_logs_of_the_day_is_told_when_to_come_back() {
    let relay = TestRelay::start_with(|config| config.limits.groups_per_address_per_day = 2).await;
    relay.founder(&Group::new(1), &device(1)).await;
    let mut second = relay.ws(&device(2)).await;
    let mut third = relay.ws(&device(3)).await;
    for (client, seed) in [(&mut second, 2), (&mut third, 3)] {
        client.send(client.member_hello(&Group::new(seed), true)).await;
        assert!(matches!(client.next().await, RelayFrame::Welcome { log: Some(_), .. }), "there is room for one");
    }
    let allow = [second.device];
    second.send(create_frame(&allow, 2, &[])).await;
    assert!(matches!(second.next().await, RelayFrame::Welcome { log: Some(log), .. } if log.head == 1));

    let allow = [third.device];
    third.send(create_frame(&allow, 3, &[])).await;
    assert_tells_the_day(&mut third).await;
    third.send(third.member_hello(&Group::new(3), true)).await;
    assert_tells_the_day(&mut third).await;

    assert_eq!(refused_for(&relay, Refusal::GroupsPerAddress), 2);
    relay.member(&Group::new(1), &device(1)).await;
}

async fn assert_tells_the_day(client: &mut Client) {
    match client.next().await {
        RelayFrame::Error { code, retry_after_ms, .. } => {
            assert_eq!(ErrorCode::from_number(code), Some(ErrorCode::CreationRefused));
            assert!((40_000_000..=43_200_000).contains(&retry_after_ms), "half a day: {retry_after_ms}");
        }
        other => panic!("expected 1007, not {other:?}"),
    }
}

#[tokio::test]
async fn an_address_that_tries_too_many_mailboxes_is_told_to_wait() {
    let relay = TestRelay::start_with(|config| config.limits.mailbox_joins_per_minute_per_address = 2).await;
    for seed in 0..2 {
        let mut guest = guest(&relay, seed).await;
        guest.send(guess()).await;
        guest.ends_with(ErrorCode::MailboxGone).await;
    }
    let mut third = guest(&relay, 2).await;
    third.send(guess()).await;
    match third.next().await {
        RelayFrame::Error { code, retry_after_ms, .. } => {
            assert_eq!(ErrorCode::from_number(code), Some(ErrorCode::RateLimited));
            assert!((20_000..=30_000).contains(&retry_after_ms), "{retry_after_ms}");
        }
        other => panic!("expected 2000, not {other:?}"),
    }
    assert_eq!(refused_for(&relay, Refusal::MailboxJoins), 1);
}

#[tokio::test]
async fn a_log_and_a_relay_with_as_many_mailboxes_as_they_may_have_say_so() {
    let relay = TestRelay::start_with(|config| {
        config.limits.mailboxes_per_group_max = 1;
        config.limits.mailboxes_max = 2;
    })
    .await;
    let mut one = relay.founder(&Group::new(1), &device(1)).await;
    let mut two = relay.founder(&Group::new(2), &device(2)).await;
    let mut three = relay.founder(&Group::new(3), &device(3)).await;
    let mut another_of_one = relay.member(&Group::new(1), &device(1)).await;
    let open = ClientFrame::MailboxOpen { short: true, ttl_ms: 60_000 };
    for inviter in [&mut one, &mut two] {
        inviter.send(open.clone()).await;
        assert!(matches!(inviter.next().await, RelayFrame::MailboxOpened { .. }));
    }

    three.send(open.clone()).await;
    assert_eq!(three.error().await, ErrorCode::Overloaded);
    another_of_one.send(open).await;
    assert_eq!(another_of_one.error().await, ErrorCode::RateLimited);
    assert_eq!(refused_for(&relay, Refusal::Mailboxes), 2);
}

#[tokio::test]
async fn a_full_log_refuses_what_is_over_and_tells_what_is_used() {
    let bytes = 3 * envelope(0).len() as u64;
    let relay = TestRelay::start_with(|config| config.limits.group_bytes_max = bytes).await;
    let mut client = relay.founder(&Group::new(1), &device(1)).await;

    let answers = client.push(1, &[envelope(1), envelope(2), envelope(3)]).await;

    assert_eq!(answers, [Ok(2), Ok(3), Err(ErrorCode::GroupQuotaExceeded)]);
    assert_eq!(refused_for(&relay, Refusal::GroupBytes), 1);
    match client.hello(&Group::new(1)).await {
        RelayFrame::Welcome { limits, usage, .. } => {
            assert_eq!((limits.group_bytes_max, usage.group_bytes), (bytes, bytes));
        }
        other => panic!("expected a Welcome, not {other:?}"),
    }
}

#[tokio::test]
async fn pushes_over_what_may_be_unanswered_or_in_one_push_are_refused_with_2000() {
    let relay = TestRelay::start_with(|config| {
        config.limits.push_bytes_in_flight_max = 2 * envelope(0).len() as u64;
        config.limits.push_envelopes_max = 2;
    })
    .await;
    let mut client = relay.founder(&Group::new(1), &device(1)).await;
    // In one link message: none is answered before the last is there.
    for push in 1..=3 {
        client.queue(push_frame(push, &[envelope(push)], false));
    }
    client.flush().await;
    assert_eq!(client.push_ack(1).await, [Ok(2)]);
    assert_eq!(client.push_ack(2).await, [Ok(3)]);
    assert_eq!(client.push_ack(3).await, [Err(ErrorCode::RateLimited)]);

    client.send(push_frame(4, &[envelope(3), envelope(4), envelope(5)], true)).await;
    assert_eq!(client.push_ack(4).await, [Ok(4), Ok(5), Err(ErrorCode::RateLimited)]);
    assert_eq!(refused_for(&relay, Refusal::PushBytes), 1);
    assert_eq!(refused_for(&relay, Refusal::PushEnvelopes), 1);
}

#[tokio::test]
async fn frames_that_never_become_whole_are_bounded_for_all_sessions_together() {
    const LONG: usize = 1024 * 1024;
    let relay = TestRelay::start_with(|config| config.limits.partial_frames_bytes_max = LONG as u64).await;
    let group = Group::new(1);
    let mut first = relay.founder(&group, &device(1)).await;
    let mut second = relay.member(&group, &device(2)).await;
    let mut third = relay.member(&group, &device(3)).await;
    send_most_of(&mut first, push_frame(1, &[envelope_of(1, LONG - 100_000)], false)).await;

    send_most_of(&mut second, push_frame(1, &[envelope_of(2, LONG - 100_000)], false)).await;

    // Whose bytes the relay reads last is anybody's guess.
    let (refused, mut refused_one, other) = tokio::select! {
        frame = first.next() => (frame, first, second),
        frame = second.next() => (frame, second, first),
    };
    match refused {
        RelayFrame::Error { code, retry_after_ms, .. } => {
            assert_eq!((ErrorCode::from_number(code), retry_after_ms), (Some(ErrorCode::Overloaded), 5_000));
        }
        other => panic!("expected 3000, not {other:?}"),
    }
    refused_one.ended().await;
    assert_eq!(refused_for(&relay, Refusal::PartialFrames), 1);
    assert_eq!(third.push(1, &[envelope(3)]).await, [Ok(2)], "short ones pass");
    other.link.drop_it().await;
    // Given back once the relay has seen that the link is gone.
    loop {
        let mut again = relay.member(&group, &device(2)).await;
        again.send(push_frame(1, &[envelope_of(4, LONG - 100_000)], false)).await;
        if matches!(again.next_or_end().await, Ok(RelayFrame::PushAck { .. })) {
            break;
        }
    }
}

/// All link messages of a frame but the last.
async fn send_most_of(client: &mut Client, frame: ClientFrame) {
    client.queue(frame);
    let mut messages: Vec<_> = std::iter::from_fn(|| client.stream.poll_transmit()).collect();
    messages.pop();
    for message in messages {
        client.link.send(message).await;
    }
}

#[tokio::test]
async fn an_envelope_over_the_limit_and_a_fifth_session_are_counted() {
    let relay = TestRelay::start_with(|config| config.limits.envelope_bytes_max = 4_096).await;
    let mut first = relay.founder(&Group::new(1), &device(1)).await;
    assert_eq!(first.push(1, &[envelope_of(1, 4_097)]).await, [Err(ErrorCode::EnvelopeTooLarge)]);
    assert_eq!(refused_for(&relay, Refusal::EnvelopeBytes), 1);
    let _others = [
        relay.member(&Group::new(1), &device(1)).await,
        relay.member(&Group::new(1), &device(1)).await,
        relay.member(&Group::new(1), &device(1)).await,
        relay.member(&Group::new(1), &device(1)).await,
    ];
    first.ends_with(ErrorCode::TooManyConnections).await;
    assert_eq!(refused_for(&relay, Refusal::SessionsPerDevice), 1);
}

#[tokio::test]
async fn a_session_that_says_hello_again_and_again_is_ended() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    relay.founder(&group, &device(1)).await;
    let mut client = relay.ws(&device(1)).await;
    for _ in 0..HELLOS_MAX {
        client.admitted(&group).await;
    }
    client.send(client.member_hello(&group, false)).await;
    client.ends_with(ErrorCode::RateLimited).await;
    assert_eq!(refused_for(&relay, Refusal::Hellos), 1);
}

#[tokio::test]
async fn a_device_for_which_the_allow_list_has_no_room_is_counted() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut founder = relay.ws(&device(0)).await;
    founder.send(founder.member_hello(&group, true)).await;
    founder.next().await;
    let allow: Vec<_> = (0..ALLOW_LIST_MAX).map(|seed| device(seed as u8).public()).collect();
    founder.send(create_frame(&allow, 0, &[])).await;
    founder.next().await;

    let mut one_too_many = relay.ws(&device(200)).await;
    one_too_many.send(one_too_many.member_hello(&group, false)).await;

    one_too_many.ends_with(ErrorCode::TooManyConnections).await;
    assert_eq!(refused_for(&relay, Refusal::Devices), 1);
    relay.member(&group, &device(3)).await;
}

#[tokio::test]
async fn what_the_store_cannot_do_is_3002_and_counted_whoever_asked_for_it() {
    let relay = TestRelay::start_with(|config| config.limits.commit_retry_ms = 1).await;
    let group = Group::new(1);
    let mut client = relay.founder(&group, &device(1)).await;
    let database = rusqlite::Connection::open(relay.dir.path().join("relay.db")).unwrap();
    database.execute_batch("ALTER TABLE entries RENAME TO gone").unwrap();

    assert_eq!(client.push(1, &[envelope(1)]).await, [Err(ErrorCode::StorageUnavailable)]);
    client.send(ClientFrame::Probe { cursors: vec![1].try_into().unwrap() }).await;
    assert_eq!(client.error().await, ErrorCode::StorageUnavailable);
    assert_eq!(refused_for(&relay, Refusal::Storage), 2);

    database.execute_batch("ALTER TABLE gone RENAME TO entries").unwrap();
    client.send(push_frame(2, &[envelope(1)], true)).await;
    assert_eq!(client.push_ack(2).await, [Ok(2)]);
}

#[tokio::test]
async fn a_device_that_whispers_too_often_is_told_to_wait_and_the_others_hear_no_more_of_it() {
    const WHISPERS: u64 = 10;
    let relay = TestRelay::start_with(|config| config.limits.whispers_per_second = 1).await;
    let group = Group::new(1);
    let mut a = relay.founder(&group, &device(1)).await;
    let mut a_again = relay.member(&group, &device(1)).await;
    let mut b = relay.member(&group, &device(2)).await;
    for client in [&mut a, &mut a_again] {
        for _ in 0..WHISPERS / 2 {
            client.queue(ClientFrame::Whisper { data: Bytes::from_static(b"sealed") });
        }
        client.flush().await;
    }

    let mut refused = 0;
    for client in [&mut a, &mut a_again] {
        client.send(ClientFrame::Ping {}).await;
        loop {
            match client.next().await {
                RelayFrame::Pong {} => break,
                RelayFrame::Whispered { .. } => {}
                RelayFrame::Error { code, retry_after_ms, .. } => {
                    assert_eq!(ErrorCode::from_number(code), Some(ErrorCode::RateLimited));
                    assert!((1..=1_000).contains(&retry_after_ms), "{retry_after_ms}");
                    refused += 1;
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    assert!(refused > 0, "two at once are allowed to a device, not ten");
    assert_eq!(refused_for(&relay, Refusal::Whispers), refused);
    for _ in 0..WHISPERS - refused {
        assert!(matches!(b.next().await, RelayFrame::Whispered { .. }));
    }
    assert!(b.is_quiet().await);
}

#[tokio::test]
async fn a_subscriber_that_never_reads_costs_no_more_than_one_rooms_share_whatever_is_pushed() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let mut writer = relay.founder(&group, &device(1)).await;
    let mut stuck = relay.member(&group, &device(2)).await;
    stuck.follow().await;
    let metrics = relay.running.metrics();
    let share = i64::try_from(RelayLimits::default().fanout_bytes_per_session_max).unwrap();
    let envelopes: Vec<_> = (0..32).map(|seed| envelope_of(seed, 32 * 1024)).collect();
    for number in 0..100 {
        // 100 MB in all, different each time.
        let envelopes: Vec<_> = envelopes.iter().map(|envelope| renumbered(envelope, number)).collect();
        assert!(writer.push(number, &envelopes).await.iter().all(Result::is_ok));
        assert!(metrics.fanout_bytes.get() <= share, "{} bytes wait", metrics.fanout_bytes.get());
    }
    assert!(metrics.fanout_behind.get() > 0, "it was found to be behind");
    assert_eq!(metrics.fanout_bytes.get(), 0, "and nothing is kept for it any more");
}

fn renumbered(envelope: &Bytes, number: u64) -> Bytes {
    let mut envelope = envelope.to_vec();
    envelope[..8].copy_from_slice(&number.to_le_bytes());
    envelope.into()
}

fn guess() -> ClientFrame {
    ClientFrame::MailboxJoin { mailbox: MailboxId::from_slice(&[0, 1]).unwrap() }
}

async fn guest(relay: &TestRelay, seed: u8) -> Client {
    let mut client = relay.ws(&device(100 + seed)).await;
    client.guest().await;
    client
}

fn refused_for(relay: &TestRelay, limit: Refusal) -> u64 {
    relay.running.metrics().refusals.get_or_create(&limit.into()).get()
}
