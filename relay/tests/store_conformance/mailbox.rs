//! Life of a pairing mailbox.

use bytes::Bytes;
use zerok_sync_protocol::MailboxId;
use zerok_sync_protocol::limits::MAILBOX_MESSAGES_MAX;
use zerok_sync_relay::store::{GroupKey, Mailbox, MailboxInbox, MailboxOpening, MailboxRequest, MailboxSide, Store};

use crate::subject::{NOW, Subject};

const END: u64 = NOW + 600_000;
const SALT: [u8; 16] = [7; 16];

fn id(n: u8) -> MailboxId {
    MailboxId::from_slice(&[n, n]).unwrap()
}

async fn opened(store: &dyn Store, n: u8) -> Mailbox {
    opened_by(store, request(&[id(n)], END)).await
}

pub async fn opened_by(store: &dyn Store, request: MailboxRequest) -> Mailbox {
    let (ids, salt, expires_at_ms) = (request.candidates.clone(), request.salt, request.expires_at_ms);
    let expected = Mailbox { id: ids[0].clone(), salt, expires_at_ms };
    assert_eq!(store.mailbox_open(request).await.unwrap(), MailboxOpening::Opened(expected.clone()));
    expected
}

pub fn request(candidates: &[MailboxId], expires_at_ms: u64) -> MailboxRequest {
    MailboxRequest {
        group: GroupKey([1; 32]),
        candidates: candidates.to_vec(),
        salt: SALT,
        now_ms: NOW,
        expires_at_ms,
        total_max: 100,
        per_group_max: 100,
    }
}

async fn send(store: &dyn Store, mailbox: &Mailbox, from: MailboxSide, text: &str) -> bool {
    store.mailbox_send(mailbox, from, Bytes::copy_from_slice(text.as_bytes()), NOW).await.unwrap()
}

fn open(texts: &[&str]) -> MailboxInbox {
    MailboxInbox::Open(texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect())
}

fn closed(texts: &[&str]) -> MailboxInbox {
    MailboxInbox::Closed(texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect())
}

pub async fn a_mailbox_takes_one_joiner(store: Subject) {
    let other = store.another_instance().await;
    let mailbox = opened(&*store, 1).await;

    let id = id(1);
    let (one, two) = tokio::join!(store.mailbox_join(&id, NOW), other.mailbox_join(&id, NOW));

    let joined: Vec<_> = [one.unwrap(), two.unwrap()].into_iter().flatten().collect();
    assert_eq!(joined, [mailbox]);
    assert_eq!(store.mailbox_join(&self::id(2), NOW).await.unwrap(), None);
}

pub async fn a_mailbox_is_opened_under_the_first_free_id(store: Subject) {
    opened(&*store, 1).await;
    let long = MailboxId::from_slice(&[3; 16]).unwrap();

    let second = store.mailbox_open(request(&[id(1), long.clone(), id(4)], END)).await.unwrap();

    assert!(matches!(second, MailboxOpening::Opened(mailbox) if mailbox.id == long));
    assert_eq!(store.mailbox_open(request(&[id(1)], END)).await.unwrap(), MailboxOpening::Full);
}

pub async fn an_expired_id_is_free_again_with_nothing_left_in_it(store: Subject) {
    let old = opened(&*store, 1).await;
    assert!(store.mailbox_join(&id(1), NOW).await.unwrap().is_some());
    send(&*store, &old, MailboxSide::Joiner, "old").await;

    let fresh = opened_by(&*store, MailboxRequest { now_ms: END, ..request(&[id(1)], END + 1_000) }).await;

    assert_eq!(store.mailbox_read(&fresh, MailboxSide::Inviter, 0, END).await.unwrap(), open(&[]));
    assert!(store.mailbox_join(&id(1), END).await.unwrap().is_some(), "a joiner of its own");
}

pub async fn who_waited_at_an_id_that_is_another_mailboxs_now_is_at_none(store: Subject) {
    let old = opened(&*store, 1).await;
    let later = MailboxRequest { now_ms: END, salt: [8; 16], ..request(&[id(1)], END + 1_000) };
    let fresh = opened_by(&*store, later).await;
    let secret = Bytes::from_static(b"for the fresh one's inviter");
    assert!(store.mailbox_send(&fresh, MailboxSide::Joiner, secret, END).await.unwrap());

    assert_eq!(store.mailbox_read(&old, MailboxSide::Inviter, 0, END).await.unwrap(), closed(&[]));
    assert!(!store.mailbox_send(&old, MailboxSide::Joiner, Bytes::from_static(b"made up"), END).await.unwrap());
    store.mailbox_close(&old, END).await.unwrap();

    let inbox = store.mailbox_read(&fresh, MailboxSide::Inviter, 0, END).await.unwrap();
    assert_eq!(inbox, open(&["for the fresh one's inviter"]));
}

pub async fn mailboxes_are_limited_in_total_and_for_each_log(store: Subject) {
    let limited = |group: u8, n: u8, now_ms| MailboxRequest {
        group: GroupKey([group; 32]),
        now_ms,
        total_max: 3,
        per_group_max: 2,
        ..request(&[id(n)], END)
    };
    let first = opened_by(&*store, limited(1, 1, NOW)).await;
    opened_by(&*store, limited(1, 2, NOW)).await;
    assert_eq!(store.mailbox_open(limited(1, 3, NOW)).await.unwrap(), MailboxOpening::GroupFull);
    assert!(matches!(store.mailbox_open(limited(2, 3, NOW)).await.unwrap(), MailboxOpening::Opened(_)));
    assert_eq!(store.mailbox_open(limited(2, 4, NOW)).await.unwrap(), MailboxOpening::Full);

    store.mailbox_close(&first, NOW + 10).await.unwrap();
    assert_eq!(store.mailbox_open(limited(2, 4, NOW + 9)).await.unwrap(), MailboxOpening::Full, "its last words");
    assert!(matches!(store.mailbox_open(limited(2, 4, NOW + 10)).await.unwrap(), MailboxOpening::Opened(_)));
}

pub async fn messages_reach_the_other_side_in_order_once_skipped_never_again(store: Subject) {
    let mailbox = opened(&*store, 1).await;
    for (from, text) in [(MailboxSide::Joiner, "m1"), (MailboxSide::Inviter, "m2"), (MailboxSide::Joiner, "m3")] {
        assert!(send(&*store, &mailbox, from, text).await);
    }

    let inbox = async |side, skip| store.mailbox_read(&mailbox, side, skip, NOW).await.unwrap();

    assert_eq!(inbox(MailboxSide::Inviter, 0).await, open(&["m1", "m3"]));
    assert_eq!(inbox(MailboxSide::Inviter, 1).await, open(&["m3"]));
    assert_eq!(inbox(MailboxSide::Inviter, 2).await, open(&[]));
    assert_eq!(inbox(MailboxSide::Joiner, 0).await, open(&["m2"]));
}

pub async fn a_mailbox_takes_sixteen_messages(store: Subject) {
    let mailbox = opened(&*store, 1).await;
    for n in 0..MAILBOX_MESSAGES_MAX {
        let from = if n % 2 == 0 { MailboxSide::Joiner } else { MailboxSide::Inviter };
        assert!(send(&*store, &mailbox, from, "x").await);
    }

    assert!(!send(&*store, &mailbox, MailboxSide::Joiner, "one too many").await);

    let eight = ["x"; MAILBOX_MESSAGES_MAX / 2];
    assert_eq!(store.mailbox_read(&mailbox, MailboxSide::Inviter, 0, NOW).await.unwrap(), open(&eight));
}

pub async fn concurrent_messages_are_all_kept(store: Subject) {
    let other = store.another_instance().await;
    let mailbox = opened(&*store, 1).await;

    let sends = (0..MAILBOX_MESSAGES_MAX).map(|n| {
        let (store, from, text) = if n % 2 == 0 {
            (store.store(), MailboxSide::Joiner, "j")
        } else {
            (other.clone(), MailboxSide::Inviter, "i")
        };
        let mailbox = mailbox.clone();
        tokio::spawn(async move { send(&*store, &mailbox, from, text).await })
    });
    for sent in sends.collect::<Vec<_>>() {
        assert!(sent.await.unwrap());
    }

    assert_eq!(
        store.mailbox_read(&mailbox, MailboxSide::Inviter, 0, NOW).await.unwrap(),
        open(&["j"; MAILBOX_MESSAGES_MAX / 2])
    );
    assert_eq!(
        store.mailbox_read(&mailbox, MailboxSide::Joiner, 0, NOW).await.unwrap(),
        open(&["i"; MAILBOX_MESSAGES_MAX / 2])
    );
}

pub async fn a_closed_mailbox_still_gives_its_last_messages(store: Subject) {
    let mailbox = opened(&*store, 1).await;
    send(&*store, &mailbox, MailboxSide::Joiner, "last words").await;

    store.mailbox_close(&mailbox, END).await.unwrap();
    store.mailbox_close(&mailbox, END).await.unwrap();

    assert_eq!(store.mailbox_read(&mailbox, MailboxSide::Inviter, 0, NOW).await.unwrap(), closed(&["last words"]));
    assert_eq!(store.mailbox_read(&mailbox, MailboxSide::Inviter, 1, NOW).await.unwrap(), closed(&[]));
    assert_eq!(store.mailbox_join(&id(1), NOW).await.unwrap(), None);
    assert!(!send(&*store, &mailbox, MailboxSide::Inviter, "too late").await);
}

pub async fn closing_lets_no_mailbox_last_longer(store: Subject) {
    let mailbox = opened(&*store, 1).await;

    store.mailbox_close(&mailbox, END + 60_000).await.unwrap();

    assert_eq!(store.mailbox_sweep(END - 1).await.unwrap(), 0);
    assert_eq!(store.mailbox_sweep(END).await.unwrap(), 1);
}

pub async fn an_expired_mailbox_is_over(store: Subject) {
    let mailbox = opened(&*store, 1).await;

    assert_eq!(store.mailbox_join(&id(1), END).await.unwrap(), None);
    assert!(!store.mailbox_send(&mailbox, MailboxSide::Inviter, Bytes::from_static(b"late"), END).await.unwrap());
    assert_eq!(store.mailbox_read(&mailbox, MailboxSide::Joiner, 0, END).await.unwrap(), closed(&[]));

    assert!(store.mailbox_join(&id(1), END - 1).await.unwrap().is_some());
}

pub async fn a_sweep_forgets_only_what_expired(store: Subject) {
    let old = opened(&*store, 1).await;
    send(&*store, &old, MailboxSide::Joiner, "old").await;
    let young = opened_by(&*store, request(&[id(2)], END + 1)).await;
    send(&*store, &young, MailboxSide::Joiner, "young").await;

    store.mailbox_sweep(END).await.unwrap();

    assert_eq!(store.mailbox_read(&old, MailboxSide::Inviter, 0, NOW).await.unwrap(), closed(&[]));
    assert_eq!(store.mailbox_read(&young, MailboxSide::Inviter, 0, NOW).await.unwrap(), open(&["young"]));
    let again = opened(&*store, 1).await;
    assert_eq!(store.mailbox_read(&again, MailboxSide::Inviter, 0, NOW).await.unwrap(), open(&[]));
}
