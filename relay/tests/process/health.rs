//! `zerok-relay health`, as a container's health check runs it.

use std::io::Write;
use std::net::TcpListener;

use crate::support::{Running, relay};

fn health(dir: &std::path::Path, listen: &str) -> (Option<i32>, String, String) {
    let output = relay(dir).args(["health", "--listen", listen]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_relay_that_is_ready_is_healthy_and_one_that_is_gone_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(dir.path(), &["--no-iroh"]);
    let addr = relay.addr().to_owned();
    assert_eq!(health(dir.path(), &addr), (Some(0), "ready\n".into(), String::new()));
    let everywhere = addr.replace("127.0.0.1", "0.0.0.0");
    assert_eq!(health(dir.path(), &everywhere).0, Some(0), "what it listens on is not what one connects to");

    relay.stop("-TERM");
    let (code, _, complaint) = health(dir.path(), &addr);
    assert_eq!(code, Some(1));
    assert!(complaint.contains("no relay answers"), "{complaint}");
}

#[test]
fn a_relay_whose_database_is_broken_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(dir.path(), &["--no-iroh"]);
    let database = rusqlite::Connection::open(dir.path().join("data/relay.db")).unwrap();
    // A write that never ends: nobody else can write meanwhile.
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (code, _, complaint) = health(dir.path(), relay.addr());
    assert_eq!((code, complaint.trim_end()), (Some(1), "zerok-relay: not ready: store"));
    assert!(relay.get("/health").starts_with("HTTP/1.1 200"), "it lives");

    database.execute_batch("ROLLBACK").unwrap();
    let mut again = health(dir.path(), relay.addr());
    // For a second the last answer is believed.
    while again.0 == Some(1) {
        again = health(dir.path(), relay.addr());
    }
    assert_eq!(again.1, "ready\n");
    relay.stop("-TERM");
}

#[test]
fn something_else_on_the_port_is_not_a_healthy_relay() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
    });
    let (code, _, complaint) = health(dir.path(), &addr);
    other.join().unwrap();
    assert_eq!(code, Some(1));
    assert!(complaint.contains("is not a relay") || complaint.contains("no relay answers"), "{complaint}");
}
