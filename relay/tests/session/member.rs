//! A member's smaller requests.

use bytes::Bytes;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::limits::{SLOT_BYTES_MAX, WHISPER_BYTES_MAX};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{ClientFrame, ErrorCode, RelayFrame, Timeline};

use crate::support::{Client, Group, PATIENCE, TestRelay, device, envelope, epoch_envelope};

#[tokio::test]
async fn probe_answers_what_stands_at_each_cursor_in_its_order() {
    let (_relay, mut a, _) = pair().await;
    a.push(1, &[envelope(1)]).await;
    a.send(ClientFrame::Probe { cursors: List::try_from(vec![2, 9, 1]).unwrap() }).await;
    let expected = vec![Some(blob_id(&envelope(1))), None, Some(blob_id(&epoch_envelope(0)))];
    assert_eq!(a.next().await, RelayFrame::Probed { blob_ids: List::try_from(expected).unwrap() });
}

#[tokio::test]
async fn missing_answers_one_bit_for_each_blob_id() {
    let (_relay, mut a, _) = pair().await;
    a.push(1, &[envelope(1)]).await;
    let blob_ids: Vec<_> = [2, 1, 3, 1, 1, 1, 1, 1, 4].map(|seed| blob_id(&envelope(seed))).to_vec();
    a.send(ClientFrame::Missing { blob_ids: List::try_from(blob_ids).unwrap() }).await;
    assert_eq!(a.next().await, RelayFrame::MissingBlobs { bitmap: Bytes::from_static(&[0b0000_0101, 1]) });
}

#[tokio::test]
async fn a_timeline_is_changed_by_whoever_names_the_current_one_first() {
    let (relay, mut a, mut b) = pair().await;
    let current = relay.member(&Group::new(1), &device(3)).await.admitted(&Group::new(1)).await.timeline;
    a.send(ClientFrame::NewTimeline { old: current }).await;
    let RelayFrame::TimelineChanged { timeline } = a.next().await else { panic!("expected TimelineChanged") };
    assert_ne!(timeline, current);
    for old in [current, Timeline([9; 8])] {
        b.send(ClientFrame::NewTimeline { old }).await;
        assert_eq!(b.next().await, RelayFrame::TimelineChanged { timeline });
    }
}

#[tokio::test]
async fn an_ack_reaches_the_other_sessions_and_its_receipt_the_slot() {
    let (relay, mut a, mut b) = pair().await;
    let receipt = Some(Bytes::from_static(b"receipt"));
    a.send(ClientFrame::Ack { cursor: 1, receipt: receipt.clone() }).await;
    assert_eq!(b.next().await, RelayFrame::Acked { device: a.device, cursor: 1, receipt: receipt.clone() });
    assert!(a.is_quiet().await, "not to who sent it");

    // It is noted with the next commit, which another instance sees a moment later.
    let noted = async {
        loop {
            match relay.ws(&device(1)).await.hello(&Group::new(1)).await {
                RelayFrame::Welcome { slot, .. } if Some(&slot) == receipt.as_ref() => break,
                RelayFrame::Welcome { .. } => {}
                other => panic!("expected a Welcome, not {other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, noted).await.expect("the slot holds the receipt soon");
}

#[tokio::test]
async fn who_comes_later_is_shown_once_what_the_others_have_left_in_their_slots() {
    let (relay, mut a, _b) = pair().await;
    let receipt = Bytes::from_static(b"receipt");
    a.send(ClientFrame::Ack { cursor: 1, receipt: None }).await;
    a.send(ClientFrame::SlotPut { data: receipt.clone() }).await;
    assert!(a.is_quiet().await);
    let mut late = relay.member(&Group::new(1), &device(3)).await;
    assert_eq!(late.next().await, RelayFrame::Acked { device: a.device, cursor: 1, receipt: Some(receipt) });
    assert!(late.is_quiet().await, "the other has left nothing");
    late.admitted(&Group::new(1)).await;
    assert!(late.is_quiet().await, "not again to the same session");
}

#[tokio::test]
async fn a_slot_is_the_devices_own() {
    let (relay, mut a, _) = pair().await;
    a.send(ClientFrame::SlotPut { data: Bytes::from_static(b"mine") }).await;
    assert!(a.is_quiet().await);
    for (seed, expected) in [(1, &b"mine"[..]), (2, b"")] {
        let mut client = relay.ws(&device(seed)).await;
        let RelayFrame::Welcome { slot, .. } = client.hello(&Group::new(1)).await else { panic!("expected a Welcome") };
        assert_eq!(slot, expected);
    }
}

#[tokio::test]
async fn slot_receipt_and_whisper_have_their_limits() {
    let (_relay, mut a, mut b) = pair().await;
    let too_long = Bytes::from(vec![0; SLOT_BYTES_MAX + 1]);
    for frame in [
        ClientFrame::SlotPut { data: too_long.clone() },
        ClientFrame::Ack { cursor: 1, receipt: Some(too_long) },
        ClientFrame::Whisper { data: Bytes::from(vec![0; WHISPER_BYTES_MAX + 1]) },
    ] {
        a.send(frame).await;
        assert_eq!(a.error().await, ErrorCode::EnvelopeTooLarge);
    }
    assert!(b.is_quiet().await);
}

#[tokio::test]
async fn a_whisper_reaches_the_groups_live_sessions_and_no_other() {
    let (relay, mut a, mut b) = pair().await;
    let mut stranger = relay.founder(&Group::new(2), &device(3)).await;
    a.send(ClientFrame::Whisper { data: Bytes::from_static(b"psst") }).await;
    assert_eq!(b.next().await, RelayFrame::Whispered { data: Bytes::from_static(b"psst") });
    assert!(a.is_quiet().await);
    assert!(stranger.is_quiet().await);
}

#[tokio::test]
async fn a_bye_ends_the_session_after_what_was_pushed_before_it() {
    let (relay, mut a, _) = pair().await;
    a.queue(crate::support::push_frame(1, &[envelope(1)], false));
    a.queue(ClientFrame::Bye {});
    a.flush().await;
    assert_eq!(a.push_ack(1).await, [Ok(2)]);
    assert_eq!(a.ended().await.code, Some(1000));
    relay.assert_serves().await;
}

#[tokio::test]
async fn a_shutdown_says_when_to_come_back() {
    let (relay, mut a, mut b) = pair().await;
    let stopping = tokio::spawn(relay.shutdown());
    for client in [&mut a, &mut b] {
        assert!(matches!(client.next().await, RelayFrame::Bye { retry_after_ms } if retry_after_ms <= 3_000));
        assert_eq!(client.ended().await.code, Some(1001));
    }
    stopping.await.unwrap();
}

async fn pair() -> (TestRelay, Client, Client) {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    let a = relay.founder(&group, &device(1)).await;
    let b = relay.member(&group, &device(2)).await;
    (relay, a, b)
}
