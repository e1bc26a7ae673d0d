//! `kill -9` of the relay in the middle of a stream of pushes.

use futures_util::{StreamExt, TryStreamExt, stream};
use zerok_sync::{Client, ClientError, EntriesOptions, OpenOptions};

use crate::support::{RelaySetup, pair};

const PUSHES: usize = 10_000;
/// The relay dies once it has acknowledged this many.
const KILL_AT: u64 = 3_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_minus_nine_every_push_is_there_once_and_in_order() {
    let setup = RelaySetup::sqlite();
    let (mut relay, _homes, a, b) = tokio::task::block_in_place(|| pair(&setup));
    let pusher = Client::open(OpenOptions::new(&a.home)).await.unwrap();
    let first = pusher.status().borrow().acked_push;

    let pushes = stream::iter(0..PUSHES)
        .map(|n| {
            let push = pusher.push(n.to_string());
            async move { Ok::<_, ClientError>((push.await?, n.to_string())) }
        })
        .buffer_unordered(64)
        .try_collect::<Vec<_>>();
    let crash = async {
        let mut status = pusher.status();
        let at_kill = status.wait_for(|status| status.acked_push >= first + KILL_AT).await.unwrap().acked_push;
        relay.kill();
        assert!(at_kill < first + PUSHES as u64, "killed in the middle");
        setup.restart(&relay)
    };
    let (pushed, relay) = tokio::join!(pushes, crash);
    let mut pushed = pushed.unwrap();
    pushed.sort_by_key(|(receipt, _)| receipt.number());
    for (receipt, _) in &pushed {
        receipt.at_relay().await.unwrap();
    }
    assert_eq!(pusher.status().borrow().integrity, []);
    pusher.close().await;

    let reader = Client::open(OpenOptions::new(&b.home)).await.unwrap();
    let expected: Vec<String> = pushed.into_iter().map(|(_, text)| text).collect();
    let read: Vec<String> = reader
        .entries()
        .take(PUSHES)
        .map_ok(|entry| String::from_utf8(entry.data.to_vec()).unwrap())
        .try_collect()
        .await
        .unwrap();
    assert!(read == expected, "each exactly once, in the pusher's order");

    // Nothing comes behind them.
    let mut status = reader.status();
    status.wait_for(|status| status.caught_up).await.unwrap();
    let all = EntriesOptions { after: Some(0), own: true, stored_only: true };
    assert_eq!(reader.entries_with(all).count().await, PUSHES);
    assert_eq!(reader.status().borrow().integrity, []);
    reader.close().await;
    drop(relay);
}
