//! The disk of the database server is full: pushes are refused, nothing acknowledged is lost, and they
//! go on when there is room.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use zerok_sync_protocol::ErrorCode;
use zerok_sync_testkit::postgres::{Cluster, Durability};

use crate::client::{Group, device, envelope_of, push_frame, stored};
use crate::faults::skipped;
use crate::support::Running;

const ENVELOPE_BYTES: usize = 64 * 1024;

#[tokio::test]
async fn a_database_whose_disk_is_full_refuses_pushes_until_there_is_room_and_loses_none() {
    let cluster = Cluster::start(Durability::Full).unwrap();
    let url = cluster.database();
    let disk = match SmallDisk::under(&cluster, 24 << 20) {
        Ok(disk) => disk,
        Err(why) => return skipped("a full disk under Postgres", &why),
    };
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(dir.path(), &["--no-iroh", "--store", &url, "--commit-retry-ms", "200 ms"]);
    let group = Group::new(1);
    let mut client = relay.founder(&group, &device(1)).await;
    let mut last = 0;
    let refused = loop {
        match client.push(last, &[envelope_of(last, ENVELOPE_BYTES)]).await[..] {
            [Ok(cursor)] => assert_eq!(cursor, last + 2),
            [Err(code)] => break code,
            ref other => panic!("expected one answer, not {other:?}"),
        }
        last += 1;
        assert!(last < 1_000, "the disk is never full");
    };
    assert_eq!(refused, ErrorCode::StorageUnavailable);
    assert!(last > 2, "there was some room");

    disk.make_room();

    let cursor = loop {
        client.send(push_frame(last, &[envelope_of(last, ENVELOPE_BYTES)], true)).await;
        match client.push_ack(last).await[..] {
            [Ok(cursor)] => break cursor,
            [Err(ErrorCode::StorageUnavailable)] => tokio::time::sleep(Duration::from_millis(50)).await,
            ref other => panic!("expected storage trouble or a cursor, not {other:?}"),
        }
    };
    assert_eq!(cursor, last + 2);
    let expected = (0..=last).map(|seed| stored(seed + 2, &envelope_of(seed, ENVELOPE_BYTES)));
    assert!(relay.entries(&group, &device(1)).await[1..].iter().cloned().eq(expected), "all that was acknowledged");
    relay.stop("-TERM");
}

/// A cluster's files on a file system of their own, in memory, and the server that runs on them. It is
/// seen by those inside alone; the server ends with the holder.
struct SmallDisk<'a> {
    cluster: &'a Cluster,
    holder: Child,
}

impl<'a> SmallDisk<'a> {
    /// Moves a cluster to a disk with so many bytes beside what it holds. Why there is none: only the
    /// superuser mounts what another user is to write to.
    fn under(cluster: &'a Cluster, free_bytes: u64) -> Result<Self, String> {
        const HOLD: &str = r#"
            mount -t tmpfs -o "size=$(($(du -sk "$0/data" | cut -f1) * 1024 + $1)),mode=0700,uid=$2,gid=$3" tmpfs "$0/disk" &&
            cp -a "$0/data/." "$0/disk/" && echo there && read -r _
            setpriv --reuid "$2" --regid "$3" --clear-groups "$4" -s -D "$0/disk" -m immediate -w stop
        "#;
        if Command::new("id").arg("-u").output().map_err(|error| error.to_string())?.stdout != b"0\n" {
            return Err("only the superuser mounts what another user is to write to".into());
        }
        cluster.down().unwrap();
        std::fs::create_dir(cluster.dir().join("disk")).unwrap();
        let owner = cluster.dir().metadata().unwrap();
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", HOLD])
            .arg(cluster.dir())
            .args([free_bytes.to_string(), owner.uid().to_string(), owner.gid().to_string()])
            .arg(cluster.client("pg_ctl").get_program())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said != "there\n" {
            return Err(String::from_utf8_lossy(&holder.wait_with_output().unwrap().stderr).trim().to_owned());
        }
        let disk = Self { cluster, holder };
        assert!(disk.start_server(), "the server starts on the small disk");
        Ok(disk)
    }

    /// A command, run where the disk is seen.
    fn inside(&self, program: &str) -> Command {
        let mut entered = Command::new("nsenter");
        entered.args(["--target", &self.holder.id().to_string(), "--mount", program]);
        entered.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        entered
    }

    fn start_server(&self) -> bool {
        let owner = self.cluster.dir().metadata().unwrap();
        let mut start = self.inside("setpriv");
        start.args(["--reuid", &owner.uid().to_string(), "--regid", &owner.gid().to_string(), "--clear-groups"]);
        start.arg(self.cluster.client("pg_ctl").get_program());
        start.arg("-s").arg("-D").arg(self.cluster.dir().join("disk"));
        let options =
            format!("-c port={} -c unix_socket_directories={}", self.cluster.port(), self.cluster.dir().display());
        start.args(["-w", "-o", &options, "-l"]).arg(self.cluster.dir().join("log")).arg("start");
        start.status().unwrap().success()
    }

    /// What an operator does.
    fn make_room(&self) {
        let mut larger = self.inside("mount");
        larger.args(["-o", "remount,size=1g"]).arg(self.cluster.dir().join("disk"));
        assert!(larger.status().unwrap().success());
        // It may have ended for want of room, or come up again by itself.
        self.start_server();
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
