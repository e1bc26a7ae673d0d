//! The library, as an application uses it.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use zerok_sync::{
    Client, ClientError, Connection, EntriesOptions, FoundOptions, InviteEvent, InviteKind, InviteOptions, JoinError,
    JoinEvent, JoinOptions, OpenOptions, PushError,
};

use crate::support::{Homes, RelayProcess, RelaySetup};

pub async fn found(homes: &Homes, relay: &RelayProcess) -> Client {
    Client::found(FoundOptions::new(&homes.device("a").home, &relay.url)).await.unwrap()
}

pub async fn let_in(inviter: &Client, homes: &Homes) -> Client {
    let mut invitation = inviter.invite(InviteOptions::default()).await.unwrap();
    let InviteEvent::Ready { invite } = invitation.next().await.unwrap() else { panic!("no link") };
    let (show, shown) = tokio::sync::oneshot::channel();
    let mut show = Some(show);
    let join = JoinOptions::new(&homes.device("b").home, invite);
    let joining = Client::join(join, |digits| show.take().unwrap().send(digits).unwrap());
    let accepting = async {
        assert!(matches!(invitation.next().await.unwrap(), InviteEvent::JoinerWaiting { .. }));
        invitation.answer(shown.await.unwrap()).await.unwrap();
        assert!(matches!(invitation.next().await.unwrap(), InviteEvent::Accepted { .. }));
    };
    tokio::join!(joining, accepting).0.unwrap()
}

#[tokio::test]
async fn a_push_on_one_device_reaches_the_callback_on_the_other() {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let a = found(&homes, &relay).await;
    let b = let_in(&a, &homes).await;

    let mut entries = b.entries();
    for text in ["one", "two"] {
        let receipt = a.push(text).await.unwrap();
        receipt.at_relay().await.unwrap();
        let entry = entries.next().await.unwrap().unwrap();
        assert_eq!((&entry.data[..], entry.own), (text.as_bytes(), false));
        assert_eq!(entry.sender, a.status().borrow().device);
    }
}

#[tokio::test]
async fn what_was_not_marked_processed_comes_again_after_a_restart() {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let a = found(&homes, &relay).await;
    let b = let_in(&a, &homes).await;
    for text in ["one", "two"] {
        a.push(text).await.unwrap();
    }
    let mut entries = b.entries();
    let first = entries.next().await.unwrap().unwrap();
    let second = entries.next().await.unwrap().unwrap();
    b.mark_processed(first.position).await.unwrap();
    b.close().await;
    assert!(entries.next().await.is_none(), "a closed client's stream ends");

    let b = Client::open(OpenOptions::new(&homes.device("b").home)).await.unwrap();
    let again = b.entries().next().await.unwrap().unwrap();
    assert_eq!(again, second);
}

#[tokio::test]
async fn a_client_that_stays_offline_still_reads_and_queues() {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    found(&homes, &relay).await.close().await;

    let offline = OpenOptions { online: false, ..OpenOptions::new(&homes.device("a").home) };
    let client = Client::open(offline).await.unwrap();
    let receipt = client.push("hello").await.unwrap();
    assert_eq!(client.status().borrow().connection, Connection::Offline);
    assert!(tokio::time::timeout(Duration::from_millis(50), receipt.at_relay()).await.is_err());
    client.close().await;
    assert!(matches!(receipt.at_relay().await, Err(ClientError::Closed)));

    let client = Client::open(OpenOptions::new(&homes.device("a").home)).await.unwrap();
    let mut status = client.status();
    status.wait_for(|status| status.acked_push >= receipt.number()).await.unwrap();
    let own = EntriesOptions { own: true, ..EntriesOptions::default() };
    let entry = client.entries_with(own).next().await.unwrap().unwrap();
    assert_eq!(&entry.data[..], b"hello");
}

#[tokio::test]
async fn who_reads_anew_begins_behind_what_was_processed() {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let client = found(&homes, &relay).await;
    client.push("hello").await.unwrap();
    let own = EntriesOptions { own: true, ..EntriesOptions::default() };
    let entry = client.entries_with(own).next().await.unwrap().unwrap();
    client.mark_processed(entry.position).await.unwrap();

    let mut status = client.status();
    let told = status.wait_for(|status| status.processed == entry.position);
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("told without anything else happening").unwrap();
    let again = client.entries_with(EntriesOptions { stored_only: true, ..own });
    assert_eq!(again.count().await, 0);
}

#[tokio::test]
async fn a_mark_returns_when_it_is_on_disk_and_fails_with_the_disk() {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let client = found(&homes, &relay).await;
    for text in ["one", "two"] {
        client.push(text).await.unwrap();
    }
    let own = EntriesOptions { own: true, ..EntriesOptions::default() };
    let entries: Vec<_> = client.entries_with(own).take(2).try_collect().await.unwrap();

    let other = rusqlite::Connection::open(homes.device("a").home.join("state.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut mark = Box::pin(client.mark_processed(entries[0].position));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut mark).await.is_err(), "nothing can be written");
    other.execute_batch("ROLLBACK").unwrap();
    mark.await.unwrap();

    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let marked = client.mark_processed(entries[1].position).await;
    assert!(matches!(marked, Err(ClientError::StorageFailed(_))), "{marked:?}");
    other.execute_batch("ROLLBACK").unwrap();
    let client = Client::open(OpenOptions::new(&homes.device("a").home)).await.unwrap();
    assert_eq!(client.status().borrow().processed, entries[0].position);
}

#[tokio::test]
async fn what_is_marked_as_processed_while_closing_is_stored_or_refused() {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let client = found(&homes, &relay).await;
    client.push("hello").await.unwrap();
    let own = EntriesOptions { own: true, ..EntriesOptions::default() };
    let entry = client.entries_with(own).next().await.unwrap().unwrap();

    // The mark lies behind the end in the client's queue.
    let ((), marked) = tokio::join!(client.clone().close(), client.mark_processed(entry.position));
    let client = Client::open(OpenOptions::new(&homes.device("a").home)).await.unwrap();
    assert_eq!(marked.is_ok(), client.status().borrow().processed == entry.position, "{marked:?}");
}

#[tokio::test]
async fn too_large_a_blob_is_refused_by_name() {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let client = found(&homes, &relay).await;
    let refused = client.push(vec![0; zerok_sync::PUSH_BYTES_MAX + 1]).await;
    assert!(matches!(refused, Err(ClientError::Push(PushError::TooLarge { .. }))));
}

#[tokio::test]
async fn a_dropped_invitation_lets_nobody_in() {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let a = found(&homes, &relay).await;
    let mut invitation = a.invite(InviteOptions::default()).await.unwrap();
    let InviteEvent::Ready { invite } = invitation.next().await.unwrap() else { panic!("no link") };
    drop(invitation);
    let home = homes.device("b").home;
    let refused = Client::join(JoinOptions::new(&home, invite), |_| {}).await;
    assert!(matches!(refused, Err(ClientError::Join(_))));
    assert!(!home.exists());
}

#[tokio::test]
async fn the_joining_person_is_asked_and_may_say_no() {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let a = found(&homes, &relay).await;
    let home = homes.device("b").home;
    for (confirms, kind) in [(false, InviteKind::Link { base: None }), (true, InviteKind::Code)] {
        let options = InviteOptions { kind, ..InviteOptions::default() };
        let mut invitation = a.invite(options).await.unwrap();
        let InviteEvent::Ready { invite } = invitation.next().await.unwrap() else { panic!("no link or code") };
        let join = JoinOptions { relay: Some(relay.url.clone()), ..JoinOptions::new(&home, invite) };
        let mut joining = Client::begin_join(join).await.unwrap();
        let JoinEvent::ShowDigits(digits) = joining.next().await.unwrap() else { panic!("no digits") };
        assert!(matches!(invitation.next().await.unwrap(), InviteEvent::JoinerWaiting { .. }));
        invitation.answer(digits).await.unwrap();
        let JoinEvent::Confirm(offered) = joining.next().await.unwrap() else { panic!("no question") };
        assert_eq!((offered.relay, offered.members.len()), (relay.url.clone(), 1));
        if confirms {
            joining.confirm().await.unwrap();
            assert!(matches!(joining.next().await.unwrap(), JoinEvent::Joined(_)));
            assert!(matches!(invitation.next().await.unwrap(), InviteEvent::Accepted { .. }));
        } else {
            joining.cancel().await.unwrap();
            assert!(matches!(joining.next().await, Err(ClientError::Join(JoinError::Cancelled))));
            assert!(matches!(invitation.next().await.unwrap(), InviteEvent::Failed(JoinError::Refused)));
            assert!(!home.exists());
        }
    }
}

#[tokio::test]
async fn many_pushes_at_once_arrive_in_the_order_of_their_numbers() {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let a = found(&homes, &relay).await;
    let b = let_in(&a, &homes).await;
    // At the same time: which comes first is open, but not that all devices agree on it.
    let pushes = (0..500_u32).map(|n| {
        let a = a.clone();
        async move { Ok::<_, ClientError>((a.push(n.to_be_bytes().to_vec()).await?.number(), n)) }
    });
    let mut pushed: Vec<_> = futures_util::stream::iter(pushes).buffer_unordered(100).try_collect().await.unwrap();
    pushed.sort_unstable();
    let expected: Vec<_> = pushed.iter().map(|(_, n)| n.to_be_bytes().to_vec()).collect();
    let read: Vec<_> = b.entries().take(500).map_ok(|entry| entry.data.to_vec()).try_collect().await.unwrap();
    assert!(read == expected);
}
