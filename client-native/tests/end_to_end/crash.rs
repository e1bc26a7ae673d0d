//! `kill -9` of the relay, and of the client, in the middle of pushing.

use std::process::Stdio;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use zerok_sync::{Client, ClientError, EntriesOptions, OpenOptions, Transport};

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

    // Over the other transport, so that both carry a catch-up of this size.
    let over_iroh = OpenOptions { transport: Transport::Iroh, ..OpenOptions::new(&b.home) };
    let reader = Client::open(over_iroh).await.unwrap();
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

#[test]
fn a_client_that_is_killed_at_any_moment_leaves_a_sound_home() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, b) = pair(&setup);
    let mut finished = Vec::new();
    for n in 0..40 {
        let mut push = a.command(&["push", &n.to_string()]).stderr(Stdio::null()).spawn().unwrap();
        // A push takes some 30 ms: this hits every part of it.
        std::thread::sleep(Duration::from_millis(n));
        push.kill().unwrap();
        if push.wait().unwrap().success() {
            finished.push(n);
        }
    }
    a.succeed(&["push", "40"]);
    finished.push(40);

    let arrived: Vec<u64> = b.succeed(&["pull"]).lines().map(|line| line.parse().unwrap()).collect();
    assert!(arrived.windows(2).all(|pair| pair[0] < pair[1]), "each at most once, in order: {arrived:?}");
    assert!(finished.iter().all(|n| arrived.contains(n)), "{finished:?} were done, {arrived:?} arrived");
    a.succeed(&["verify"]);
    b.succeed(&["verify"]);
}
