//! SIGTERM and SIGINT: everybody is told when to come back, what was pushed before is finished and
//! acknowledged, nobody new is let in. A second signal ends it at once.

use tokio::net::{TcpStream, UnixDatagram};
use zerok_sync_protocol::RelayFrame;
use zerok_sync_protocol::frame::{EntryItem, PushResult};

use crate::client::{Client, Group, device, envelope, push_frame};
use crate::support::{Running, relay};

/// Cursors that were acknowledged until the goodbye, and its `retry_after_ms`.
async fn until_goodbye(client: &mut Client) -> (Vec<u64>, u64) {
    let mut acknowledged = Vec::new();
    loop {
        match client.next().await {
            RelayFrame::PushAck { results, .. } => acknowledged.extend(results.iter().map(|result| match result {
                PushResult::Stored { cursor } => *cursor,
                PushResult::Refused { code } => panic!("refused with {code} while stopping"),
            })),
            RelayFrame::Bye { retry_after_ms } => return (acknowledged, retry_after_ms),
            other => panic!("expected an answer or the goodbye, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_before_the_end_is_there_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(dir.path(), &["--no-iroh"]);
    let group = Group::new(1);
    let mut client = relay.founder(&group, &device(1)).await;
    for number in 0..500 {
        client.queue(push_frame(number, &[envelope(number)], false));
    }
    client.flush().await;
    client.push_ack(0).await;

    relay.signal("-TERM");
    let (acknowledged, _) = until_goodbye(&mut client).await;

    assert_eq!(client.ended().await.code, Some(1001));
    assert_eq!(relay.stop("-0").status.code(), Some(0));
    let relay = Running::start(dir.path(), &["--no-iroh"]);
    let cursors: Vec<u64> = relay.entries(&group, &device(1)).await.iter().map(cursor_of).collect();
    assert!(acknowledged.iter().all(|cursor| cursors.contains(cursor)), "{acknowledged:?} in {cursors:?}");
    assert_eq!(acknowledged, (3..3 + acknowledged.len() as u64).collect::<Vec<_>>(), "no answer is left out");
    relay.stop("-TERM");
}

fn cursor_of(item: &EntryItem) -> u64 {
    match item {
        EntryItem::Stored { cursor, .. } | EntryItem::Own { cursor, .. } | EntryItem::Absent { cursor, .. } => *cursor,
    }
}

#[tokio::test]
async fn clients_are_told_to_come_back_at_different_times() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(dir.path(), &["--no-iroh", "--shutdown-spread-ms", "5 s"]);
    let mut clients = Vec::new();
    for seed in 0..8 {
        clients.push(relay.founder(&Group::new(seed), &device(seed)).await);
    }

    relay.signal("-INT");

    let mut told = Vec::new();
    for client in &mut clients {
        told.push(until_goodbye(client).await.1);
    }
    told.sort_unstable();
    assert!(told[7] < 5_000 && told[7] - told[0] > 500, "{told:?}");
    assert_eq!(relay.stop("-0").status.code(), Some(0));
}

#[tokio::test]
async fn a_stopping_relay_lets_nobody_in_and_a_second_signal_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(dir.path(), &["--no-iroh", "--shutdown-grace-ms", "1 h"]);
    // It holds a connection and never says goodbye.
    let _silent = crate::client::link::ws_at(relay.addr().parse().unwrap()).await;

    relay.signal("-TERM");
    while TcpStream::connect(relay.addr()).await.is_ok() {
        tokio::task::yield_now().await;
    }

    let output = relay.stop("-TERM");
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stderr).unwrap().contains("stopping at once"));
}

#[tokio::test]
async fn systemd_is_told_that_it_is_ready_and_that_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let relay =
        Running::spawn(relay(dir.path()).args(["--listen", "127.0.0.1:0", "--no-iroh"]).env("NOTIFY_SOCKET", &path));
    let mut told = [0; 64];
    let length = socket.recv(&mut told).await.unwrap();
    assert_eq!(&told[..length], b"READY=1");
    relay.stop("-TERM");
    let length = socket.recv(&mut told).await.unwrap();
    assert_eq!(&told[..length], b"STOPPING=1");
}

/// Planted by the environment, which a release does not ask.
#[cfg(debug_assertions)]
#[test]
fn a_loop_that_panics_ends_the_process_with_an_error_so_that_it_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--listen", "127.0.0.1:0", "--no-iroh"];
    let relay = Running::spawn(relay(dir.path()).args(args).env("ZEROK_PLANTED_PANIC", "listener"));

    let output = relay.child.wait_with_output().unwrap();

    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the relay's listener panicked: a defect, please report it"), "{said}");
    Running::start(dir.path(), &["--no-iroh"]).stop("-TERM");
}
