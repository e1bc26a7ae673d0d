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

async fn opened(store: &dyn Store, n: u8) -> MailboxId {
    let mailbox = store.mailbox_open(request(&[id(n)], END)).await.unwrap();
    assert_eq!(mailbox, MailboxOpening::Opened(Mailbox { id: id(n), salt: SALT, expires_at_ms: END }));
    id(n)
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

async fn send(store: &dyn Store, id: &MailboxId, from: MailboxSide, text: &str) -> bool {
    store.mailbox_send(id, from, Bytes::copy_from_slice(text.as_bytes()), NOW).await.unwrap()
}

fn open(texts: &[&str]) -> MailboxInbox {
    MailboxInbox::Open(texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect())
}

fn closed(texts: &[&str]) -> MailboxInbox {
    MailboxInbox::Closed(texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect())
}

pub async fn a_mailbox_takes_one_joiner(store: Subject) {
    let other = store.another_instance().await;
    let id = opened(&*store, 1).await;

    let (one, two) = tokio::join!(store.mailbox_join(&id, NOW), other.mailbox_join(&id, NOW));

    let joined: Vec<_> = [one.unwrap(), two.unwrap()].into_iter().flatten().collect();
    assert_eq!(joined, [Mailbox { id: id.clone(), salt: SALT, expires_at_ms: END }]);
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
    let id = opened(&*store, 1).await;
    assert!(store.mailbox_join(&id, NOW).await.unwrap().is_some());
    send(&*store, &id, MailboxSide::Joiner, "old").await;

    let later = MailboxRequest { now_ms: END, ..request(std::slice::from_ref(&id), END + 1_000) };
    assert!(matches!(store.mailbox_open(later).await.unwrap(), MailboxOpening::Opened(_)));

    assert_eq!(store.mailbox_read(&id, MailboxSide::Inviter, 0, END).await.unwrap(), open(&[]));
    assert!(store.mailbox_join(&id, END).await.unwrap().is_some(), "a joiner of its own");
}

pub async fn mailboxes_are_limited_in_total_and_for_each_log(store: Subject) {
    let limited = |group: u8, n: u8, now_ms| MailboxRequest {
        group: GroupKey([group; 32]),
        now_ms,
        total_max: 3,
        per_group_max: 2,
        ..request(&[id(n)], END)
    };
    for n in 1..=2 {
        assert!(matches!(store.mailbox_open(limited(1, n, NOW)).await.unwrap(), MailboxOpening::Opened(_)));
    }
    assert_eq!(store.mailbox_open(limited(1, 3, NOW)).await.unwrap(), MailboxOpening::GroupFull);
    assert!(matches!(store.mailbox_open(limited(2, 3, NOW)).await.unwrap(), MailboxOpening::Opened(_)));
    assert_eq!(store.mailbox_open(limited(2, 4, NOW)).await.unwrap(), MailboxOpening::Full);

    store.mailbox_close(&id(1), NOW + 10).await.unwrap();
    assert_eq!(store.mailbox_open(limited(2, 4, NOW + 9)).await.unwrap(), MailboxOpening::Full, "its last words");
    assert!(matches!(store.mailbox_open(limited(2, 4, NOW + 10)).await.unwrap(), MailboxOpening::Opened(_)));
}

pub async fn messages_reach_the_other_side_in_order_once_skipped_never_again(store: Subject) {
    let id = opened(&*store, 1).await;
    for (from, text) in [(MailboxSide::Joiner, "m1"), (MailboxSide::Inviter, "m2"), (MailboxSide::Joiner, "m3")] {
        assert!(send(&*store, &id, from, text).await);
    }

    let inbox = async |side, skip| store.mailbox_read(&id, side, skip, NOW).await.unwrap();

    assert_eq!(inbox(MailboxSide::Inviter, 0).await, open(&["m1", "m3"]));
    assert_eq!(inbox(MailboxSide::Inviter, 1).await, open(&["m3"]));
    assert_eq!(inbox(MailboxSide::Inviter, 2).await, open(&[]));
    assert_eq!(inbox(MailboxSide::Joiner, 0).await, open(&["m2"]));
}

pub async fn a_mailbox_takes_sixteen_messages(store: Subject) {
    let id = opened(&*store, 1).await;
    for n in 0..MAILBOX_MESSAGES_MAX {
        let from = if n % 2 == 0 { MailboxSide::Joiner } else { MailboxSide::Inviter };
        assert!(send(&*store, &id, from, "x").await);
    }

    assert!(!send(&*store, &id, MailboxSide::Joiner, "one too many").await);

    let eight = ["x"; MAILBOX_MESSAGES_MAX / 2];
    assert_eq!(store.mailbox_read(&id, MailboxSide::Inviter, 0, NOW).await.unwrap(), open(&eight));
}

pub async fn concurrent_messages_are_all_kept(store: Subject) {
    let other = store.another_instance().await;
    let id = opened(&*store, 1).await;

    let sends = (0..MAILBOX_MESSAGES_MAX).map(|n| {
        let (store, from, text) = if n % 2 == 0 {
            (store.store(), MailboxSide::Joiner, "j")
        } else {
            (other.clone(), MailboxSide::Inviter, "i")
        };
        let id = id.clone();
        tokio::spawn(async move { send(&*store, &id, from, text).await })
    });
    for sent in sends.collect::<Vec<_>>() {
        assert!(sent.await.unwrap());
    }

    assert_eq!(
        store.mailbox_read(&id, MailboxSide::Inviter, 0, NOW).await.unwrap(),
        open(&["j"; MAILBOX_MESSAGES_MAX / 2])
    );
    assert_eq!(
        store.mailbox_read(&id, MailboxSide::Joiner, 0, NOW).await.unwrap(),
        open(&["i"; MAILBOX_MESSAGES_MAX / 2])
    );
}

pub async fn a_closed_mailbox_still_gives_its_last_messages(store: Subject) {
    let id = opened(&*store, 1).await;
    send(&*store, &id, MailboxSide::Joiner, "last words").await;

    store.mailbox_close(&id, END).await.unwrap();
    store.mailbox_close(&id, END).await.unwrap();

    assert_eq!(store.mailbox_read(&id, MailboxSide::Inviter, 0, NOW).await.unwrap(), closed(&["last words"]));
    assert_eq!(store.mailbox_read(&id, MailboxSide::Inviter, 1, NOW).await.unwrap(), closed(&[]));
    assert_eq!(store.mailbox_join(&id, NOW).await.unwrap(), None);
    assert!(!send(&*store, &id, MailboxSide::Inviter, "too late").await);
}

pub async fn an_expired_mailbox_is_over(store: Subject) {
    let id = opened(&*store, 1).await;

    assert_eq!(store.mailbox_join(&id, END).await.unwrap(), None);
    assert!(!store.mailbox_send(&id, MailboxSide::Inviter, Bytes::from_static(b"late"), END).await.unwrap());
    assert_eq!(store.mailbox_read(&id, MailboxSide::Joiner, 0, END).await.unwrap(), closed(&[]));

    assert!(store.mailbox_join(&id, END - 1).await.unwrap().is_some());
}

pub async fn a_sweep_forgets_only_what_expired(store: Subject) {
    let old = opened(&*store, 1).await;
    send(&*store, &old, MailboxSide::Joiner, "old").await;
    store.mailbox_open(request(&[id(2)], END + 1)).await.unwrap();
    send(&*store, &id(2), MailboxSide::Joiner, "young").await;

    store.mailbox_sweep(END).await.unwrap();

    assert_eq!(store.mailbox_read(&old, MailboxSide::Inviter, 0, NOW).await.unwrap(), closed(&[]));
    assert_eq!(store.mailbox_read(&id(2), MailboxSide::Inviter, 0, NOW).await.unwrap(), open(&["young"]));
    opened(&*store, 1).await;
    assert_eq!(store.mailbox_read(&old, MailboxSide::Inviter, 0, NOW).await.unwrap(), open(&[]));
}
