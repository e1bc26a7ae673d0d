//! The machine gives out: disk, rights, file descriptors. What is refused is said, what was
//! acknowledged is there.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;
use zerok_sync_protocol::ErrorCode;

use crate::client::{Client, Group, device, envelope, envelope_of, push_frame, stored};
use crate::support::{RELAY, Running, after, relay, run};

#[tokio::test]
async fn a_full_disk_refuses_pushes_until_there_is_room_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let disk = match SmallDisk::at(&dir.path().join("data"), "3m") {
        Ok(disk) => disk,
        Err(why) => return skipped("a full disk", &why),
    };
    let start = || Running::spawn(&mut disk.inside(relay(dir.path()).args(["--listen", "127.0.0.1:0", "--no-iroh"])));
    let relay = start();
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
    let last = acknowledged.len() as u64;
    let stored_up_to = |last: u64| (0..last).map(|seed| stored(seed + 2, &envelope_of(seed, 64 * 1024)));
    let mut reader = relay.client(&device(1)).await;
    reader.admitted(&group).await;
    assert!(reader.follow().await[1..].iter().cloned().eq(stored_up_to(last)), "nothing half written is read");

    disk.resize("64m");

    assert_eq!(push_until_stored(&mut client, last, 64 * 1024).await, last + 2);
    let log = String::from_utf8(relay.stop("-KILL").stderr).unwrap();
    assert!(log.contains("the disk is full: free some space") && log.contains("the store works again"), "{log}");
    let relay = start();
    let entries = relay.entries(&group, &device(1)).await;
    assert!(entries[1..].iter().cloned().eq(stored_up_to(last + 1)), "all that was acknowledged is there");
    relay.stop("-TERM");
}

/// A file system of its own, in memory, as small as it is told: what is full there is really full.
/// It is seen by those inside alone, and goes with the last of them.
struct SmallDisk {
    dir: PathBuf,
    /// Keeps it while no relay runs.
    holder: Child,
}

impl SmallDisk {
    /// Why there is none: some systems let nobody make one.
    fn at(dir: &Path, size: &str) -> Result<Self, String> {
        std::fs::create_dir(dir).unwrap();
        let mount = format!("mount -t tmpfs -o size={size},mode=0700 tmpfs \"$0\" && echo there && read -r _");
        let mut holder = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", &mount])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said == "there\n" {
            return Ok(Self { dir: dir.to_owned(), holder });
        }
        Err(String::from_utf8_lossy(&holder.wait_with_output().unwrap().stderr).trim().to_owned())
    }

    /// The command, run where the disk is seen.
    fn inside(&self, command: &Command) -> Command {
        let mut entered = Command::new("nsenter");
        entered.args(["--target", &self.holder.id().to_string(), "--user", "--mount", "--preserve-credentials"]);
        entered.arg(command.get_program()).args(command.get_args()).env_clear();
        entered.env("PATH", std::env::var_os("PATH").unwrap());
        entered.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        entered
    }

    fn resize(&self, size: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]).arg(&self.dir);
        let output = self.inside(&mount).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Said past the test harness, which keeps what passing tests print to itself.
pub fn skipped(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what} was not tried: {why}");
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
