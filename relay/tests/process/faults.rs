//! The machine gives out: disk, rights, file descriptors. What is refused is said, what was
//! acknowledged is there.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tokio::net::TcpStream;
use zerok_sync_protocol::ErrorCode;

use crate::client::{Client, Group, device, envelope, envelope_of, push_frame, stored};
use crate::support::{RELAY, Running, after, relay, run};

#[tokio::test]
async fn a_full_disk_refuses_pushes_until_there_is_room_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    // In blocks of 512 bytes; a file that would grow beyond it is refused like one on a full disk.
    let full = "trap '' XFSZ; ulimit -S -f 2000";
    let relay = Running::spawn(&mut after(full, relay(dir.path()).args(["--listen", "127.0.0.1:0", "--no-iroh"])));
    let group = Group::new(1);
    let mut client = relay.founder(&group, &device(1)).await;
    let mut acknowledged = Vec::new();
    let refused = loop {
        let next = acknowledged.len() as u64;
        match client.push(next, &[envelope_of(next, 64 * 1024)]).await[..] {
            [Ok(cursor)] => acknowledged.push(cursor),
            [Err(code)] => break code,
            ref other => panic!("expected one answer, not {other:?}"),
        }
        assert!(acknowledged.len() < 100, "the disk is never full");
    };
    assert_eq!(refused, ErrorCode::StorageUnavailable);
    assert!(acknowledged.len() > 2, "there was some room");

    let pid = relay.child.id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().unwrap().success());

    let last = acknowledged.len() as u64;
    let cursor = push_until_stored(&mut client, last, 64 * 1024).await;
    assert_eq!(cursor, last + 2);
    relay.stop("-KILL");
    let relay = Running::start(dir.path(), &["--no-iroh"]);
    let expected: Vec<_> = (0..=last).map(|seed| stored(seed + 2, &envelope_of(seed, 64 * 1024))).collect();
    assert!(relay.entries(&group, &device(1)).await[1..] == expected, "all that was acknowledged is there");
    relay.stop("-TERM");
}

async fn push_until_stored(client: &mut Client, seed: u64, len: usize) -> u64 {
    for number in 1000..1200 {
        client.send(push_frame(number, &[envelope_of(seed, len)], true)).await;
        match client.push_ack(number).await[..] {
            [Ok(cursor)] => return cursor,
            [Err(ErrorCode::StorageUnavailable)] => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            ref other => panic!("expected storage trouble or a cursor, not {other:?}"),
        }
    }
    panic!("the relay does not take pushes again");
}

#[tokio::test]
async fn without_file_descriptors_sessions_go_on_and_newcomers_come_in_once_there_are_some() {
    let dir = tempfile::tempdir().unwrap();
    let few = "ulimit -n 64";
    let relay = Running::spawn(&mut after(few, relay(dir.path()).args(["--listen", "127.0.0.1:0", "--no-iroh"])));
    let group = Group::new(1);
    let mut client = relay.founder(&group, &device(1)).await;
    let mut crowd = Vec::new();
    for _ in 0..90 {
        crowd.push(TcpStream::connect(relay.addr()).await.unwrap());
    }
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", relay.child.id())).unwrap().count();
    while descriptors() < 64 {
        tokio::task::yield_now().await;
    }

    assert_eq!(client.push(1, &[envelope(1)]).await, [Ok(2)]);
    drop(crowd);

    assert_eq!(relay.entries(&group, &device(2)).await[1..], [stored(2, &envelope(1))]);
    relay.stop("-TERM");
}

/// A run as a user whom the file system's rights bind.
fn run_bound(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = relay(dir);
    command.args(["--no-iroh", "--listen", "127.0.0.1:0"]).args(args);
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if is_root {
        let mut bound = Command::new("setpriv");
        bound.args(["--bounding-set=-dac_override,-dac_read_search", "--", RELAY]).args(command.get_args());
        bound.current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command = bound;
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_may_not_be_written_or_read_is_named_with_the_cure() {
    let dir = tempfile::tempdir().unwrap();
    Running::start(dir.path(), &[]).stop("-TERM");
    let data = dir.path().join("data");
    for (file, mode, expected) in [
        ("", 0o500, "Permission denied"),
        ("relay.db", 0o400, "Permission denied"),
        ("relay.key", 0o200, "the relay's user must own it"),
    ] {
        let path = data.join(file);
        let before = std::fs::metadata(&path).unwrap().permissions();
        if file.is_empty() {
            std::fs::remove_file(data.join("relay.db.lock")).unwrap();
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let (code, stderr) = run_bound(dir.path(), &[]);
        std::fs::set_permissions(&path, before).unwrap();
        assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{file}: {stderr}");
        assert!(stderr.contains(expected) && stderr.contains(data.to_str().unwrap()), "{file}: {stderr}");
    }
    Running::start(dir.path(), &[]).stop("-TERM");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_said_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data"), "a file in its place").unwrap();
    let (code, stderr) = run(dir.path(), &["--listen", "127.0.0.1:0"]);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("cannot make the data directory") && stderr.contains("--data-dir"), "{stderr}");
}
