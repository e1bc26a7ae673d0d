//! The pairing rendezvous.

use bytes::Bytes;
use zerok_sync_protocol::limits::{MAILBOX_MESSAGE_BYTES_MAX, MAILBOX_MESSAGES_MAX, MAILBOX_TTL_MS};
use zerok_sync_protocol::{ClientFrame, ErrorCode, MailboxId, RelayFrame};

use crate::instances::doorbell_alone;
use crate::support::{Client, Group, TestRelay, device};

#[tokio::test]
async fn a_member_and_a_guest_talk_through_a_mailbox_on_different_transports() {
    let relay = TestRelay::start().await;
    let mut inviter = relay.founder(&Group::new(1), &device(1)).await;
    let (id, salt) = open(&mut inviter, false).await;
    let mut joiner = relay.iroh(&device(2)).await;
    joiner.guest().await;
    let joined = join(&mut joiner, &id).await;
    assert_eq!(joined, (id, salt));

    for (number, largest) in [(1, false), (2, true)] {
        let data = Bytes::from(vec![number; if largest { MAILBOX_MESSAGE_BYTES_MAX } else { 10 }]);
        joiner.send(ClientFrame::MailboxSend { data: data.clone() }).await;
        assert_eq!(inviter.next().await, RelayFrame::MailboxMessage { data: data.clone() });
        inviter.send(ClientFrame::MailboxSend { data: data.clone() }).await;
        assert_eq!(joiner.next().await, RelayFrame::MailboxMessage { data });
    }
    inviter.send(ClientFrame::MailboxClose {}).await;
    assert_eq!(joiner.next().await, RelayFrame::MailboxClosed {});
    assert!(inviter.is_quiet().await);
}

#[tokio::test]
async fn what_was_sent_before_the_other_came_waits_for_it() {
    let (relay, mut inviter) = inviter().await;
    let (id, _) = open(&mut inviter, false).await;
    let data = Bytes::from_static(b"early");
    inviter.send(ClientFrame::MailboxSend { data: data.clone() }).await;
    let mut joiner = guest(&relay, 2).await;
    join(&mut joiner, &id).await;
    assert_eq!(joiner.next().await, RelayFrame::MailboxMessage { data });
}

#[tokio::test]
async fn ids_are_short_for_codes_and_long_for_links() {
    let (relay, mut inviter) = inviter().await;
    let (short, _) = open(&mut inviter, true).await;
    assert_eq!(short.as_bytes().len(), MailboxId::SHORT_LEN);
    assert!(short.as_bytes()[0] < 0x80, "15 bits");
    let mut other = relay.member(&Group::new(1), &device(3)).await;
    let (long, salt) = open(&mut other, false).await;
    assert_eq!((long.as_bytes().len(), salt.len()), (MailboxId::LONG_LEN, 16));
}

#[tokio::test]
async fn a_mailbox_is_joined_once() {
    let (relay, mut inviter) = inviter().await;
    let (id, _) = open(&mut inviter, false).await;
    let mut joiner = guest(&relay, 2).await;
    join(&mut joiner, &id).await;
    let mut second = guest(&relay, 3).await;
    second.send(ClientFrame::MailboxJoin { mailbox: id }).await;
    second.ends_with(ErrorCode::MailboxGone).await;
}

#[tokio::test]
async fn a_mailbox_that_never_was_is_1006() {
    let relay = TestRelay::start().await;
    let mut joiner = guest(&relay, 2).await;
    joiner.send(ClientFrame::MailboxJoin { mailbox: MailboxId::from_slice(&[0; 16]).unwrap() }).await;
    joiner.ends_with(ErrorCode::MailboxGone).await;
}

#[tokio::test]
async fn a_mailbox_ends_with_its_time() {
    let relay = TestRelay::start().await;
    let mut inviter = relay.founder(&Group::new(1), &device(1)).await;
    inviter.send(ClientFrame::MailboxOpen { short: false, ttl_ms: 50 }).await;
    assert!(matches!(inviter.next().await, RelayFrame::MailboxOpened { expires_in_ms, .. } if expires_in_ms <= 50));
    assert_eq!(inviter.next().await, RelayFrame::MailboxClosed {});
    open(&mut inviter, false).await;
}

#[tokio::test]
async fn nobody_keeps_a_mailbox_longer_than_ten_minutes() {
    let (_relay, mut inviter) = inviter().await;
    inviter.send(ClientFrame::MailboxOpen { short: false, ttl_ms: u64::MAX }).await;
    let RelayFrame::MailboxOpened { expires_in_ms, .. } = inviter.next().await else { panic!("expected a mailbox") };
    assert!(expires_in_ms <= MAILBOX_TTL_MS);
}

#[tokio::test]
async fn one_mailbox_per_session() {
    let (_relay, mut inviter) = inviter().await;
    open(&mut inviter, false).await;
    inviter.send(ClientFrame::MailboxOpen { short: false, ttl_ms: 1_000 }).await;
    assert_eq!(inviter.error().await, ErrorCode::MailboxGone);
    inviter.send(ClientFrame::MailboxClose {}).await;
    open(&mut inviter, false).await;
}

#[tokio::test]
async fn a_guest_that_has_joined_tries_no_other_mailbox() {
    let (relay, mut inviter) = inviter().await;
    let (id, _) = open(&mut inviter, false).await;
    let mut other = relay.member(&Group::new(1), &device(3)).await;
    let (another, _) = open(&mut other, false).await;
    let mut joiner = guest(&relay, 2).await;
    join(&mut joiner, &id).await;

    joiner.send(ClientFrame::MailboxJoin { mailbox: another }).await;

    assert_eq!(joiner.error().await, ErrorCode::MailboxGone);
    assert_eq!(inviter.next().await, RelayFrame::MailboxClosed {}, "its session ended with the question");
}

#[tokio::test]
async fn a_mailbox_holds_sixteen_messages() {
    let (relay, mut inviter) = inviter().await;
    let (id, _) = open(&mut inviter, false).await;
    let mut joiner = guest(&relay, 2).await;
    join(&mut joiner, &id).await;
    for _ in 0..MAILBOX_MESSAGES_MAX {
        joiner.send(ClientFrame::MailboxSend { data: Bytes::from_static(b"x") }).await;
        assert!(matches!(inviter.next().await, RelayFrame::MailboxMessage { .. }));
    }
    joiner.send(ClientFrame::MailboxSend { data: Bytes::from_static(b"x") }).await;
    assert_eq!(joiner.error().await, ErrorCode::MailboxGone);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let (_relay, mut inviter) = inviter().await;
    open(&mut inviter, false).await;
    inviter.send(ClientFrame::MailboxSend { data: Bytes::from(vec![0; MAILBOX_MESSAGE_BYTES_MAX + 1]) }).await;
    assert_eq!(inviter.error().await, ErrorCode::EnvelopeTooLarge);
}

#[tokio::test]
async fn a_party_whose_link_breaks_leaves_the_mailbox() {
    let (relay, mut inviter) = inviter().await;
    let (id, _) = open(&mut inviter, false).await;
    let mut joiner = guest(&relay, 2).await;
    join(&mut joiner, &id).await;
    joiner.link.drop_it().await;
    assert_eq!(inviter.next().await, RelayFrame::MailboxClosed {});
}

#[tokio::test]
async fn guests_open_no_mailboxes_and_members_join_none() {
    let (relay, mut inviter) = inviter().await;
    let (id, _) = open(&mut inviter, false).await;
    let mut member = relay.member(&Group::new(1), &device(3)).await;
    member.send(ClientFrame::MailboxJoin { mailbox: id }).await;
    member.ends_with(ErrorCode::Unauthorized).await;
    let mut joiner = guest(&relay, 2).await;
    joiner.send(ClientFrame::MailboxOpen { short: false, ttl_ms: 1 }).await;
    joiner.ends_with(ErrorCode::Unauthorized).await;
}

#[tokio::test]
async fn without_a_mailbox_there_is_nothing_to_send_to() {
    let (_relay, mut inviter) = inviter().await;
    inviter.send(ClientFrame::MailboxSend { data: Bytes::new() }).await;
    assert_eq!(inviter.error().await, ErrorCode::MailboxGone);
    assert!(inviter.is_quiet().await);
}

/// At a relay that has the doorbell only: nobody waits for the poll to hear of the other.
async fn inviter() -> (TestRelay, Client) {
    let relay = TestRelay::start_with(doorbell_alone).await;
    let client = relay.founder(&Group::new(1), &device(1)).await;
    (relay, client)
}

async fn guest(relay: &TestRelay, seed: u8) -> Client {
    let mut client = relay.ws(&device(seed)).await;
    client.guest().await;
    client
}

async fn open(client: &mut Client, short: bool) -> (MailboxId, Bytes) {
    client.send(ClientFrame::MailboxOpen { short, ttl_ms: MAILBOX_TTL_MS }).await;
    opened(client).await
}

async fn join(client: &mut Client, id: &MailboxId) -> (MailboxId, Bytes) {
    client.send(ClientFrame::MailboxJoin { mailbox: id.clone() }).await;
    opened(client).await
}

async fn opened(client: &mut Client) -> (MailboxId, Bytes) {
    match client.next().await {
        RelayFrame::MailboxOpened { mailbox, salt, .. } => (mailbox, salt),
        other => panic!("expected a mailbox, not {other:?}"),
    }
}
