//! The database server away, read-only, full of others, or not ours: said in one sentence, waited for
//! where waiting helps, and nothing acknowledged is lost.

use std::io::{BufRead, BufReader};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::NoTls;
use zerok_sync_protocol::ErrorCode;
use zerok_sync_testkit::postgres::{Cluster, Durability, shared};

use crate::client::{Client, Group, device, envelope, own, push_frame, stored};
use crate::support::{Running, relay, run};

/// A cluster that a test may stop, one test at a time.
pub async fn stoppable() -> MutexGuard<'static, Cluster> {
    static CLUSTER: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| Mutex::new(Cluster::start(Durability::None).unwrap()));
    let cluster = cluster.lock().await;
    // A test that failed may have left it down.
    cluster.up().ok();
    cluster
}

pub async fn sql(url: &str, statements: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(statements).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

/// Pushes until the relay takes it, as a client does.
async fn push_until_stored(client: &mut Client, number: u64, seed: u64) -> u64 {
    for attempt in 0..200 {
        client.send(push_frame(number * 1000 + attempt, &[envelope(seed)], true)).await;
        match client.push_ack(number * 1000 + attempt).await[..] {
            [Ok(cursor)] => return cursor,
            [Err(ErrorCode::StorageUnavailable)] => tokio::time::sleep(Duration::from_millis(50)).await,
            ref other => panic!("expected storage trouble or a cursor, not {other:?}"),
        }
    }
    panic!("the relay does not take pushes again");
}

#[tokio::test]
async fn a_database_that_comes_late_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = stoppable().await;
    let url = cluster.database();
    cluster.down().unwrap();
    let mut child = relay(dir.path()).args(["--listen", "127.0.0.1:0", "--no-iroh", "--store", &url]).spawn().unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("waiting for the database") && line.contains("check that it runs"), "{line}");

    cluster.up().unwrap();

    Running::until_ready(child).stop("-TERM");
}

#[test]
fn a_database_that_never_comes_ends_the_start_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--store", "postgres://u:hunter2@127.0.0.1:1/d", "--store-wait-ms", "300 ms", "--log", "error"];
    let (code, stderr) = run(dir.path(), &args);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("check that it runs") && stderr.contains("--wait-for-store"), "{stderr}");
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[test]
fn a_relay_that_waits_for_its_database_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--store", "postgres://127.0.0.1:1/d", "--wait-for-store", "--store-wait-ms", "1 ms"];
    let mut child = relay(dir.path()).args(args).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let waits = stderr.by_ref().take(2).filter(|line| line.as_ref().unwrap().contains("waiting")).count();
    assert_eq!(waits, 2, "it waits longer than store_wait_ms");

    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());

    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn what_waiting_cannot_cure_ends_the_start_at_once() {
    let cluster = shared();
    let newer = cluster.database();
    sql(&newer, "CREATE TABLE meta (key text PRIMARY KEY, value bytea NOT NULL)").await;
    sql(&newer, "INSERT INTO meta VALUES ('schema_version', '999')").await;
    let foreign = cluster.database();
    sql(&foreign, "CREATE TABLE groups (id int)").await;
    for (url, expected) in [
        (cluster.url("no_such_database"), "create it"),
        (newer, "schema version 999"),
        (foreign.clone(), "look for what else writes there"),
        ("postgres://".to_owned() + "127.0.0.1:port/d", "write postgres://USER:PASSWORD@HOST:PORT/DATABASE"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (code, stderr) = run(dir.path(), &["--no-iroh", "--listen", "127.0.0.1:0", "--store", &url]);
        assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
    sql(&foreign, "SELECT id FROM groups; DO $$ BEGIN ASSERT to_regclass('entries') IS NULL; END $$").await;
}

#[tokio::test]
async fn a_database_without_a_free_connection_is_named_as_such() {
    let cluster = shared();
    let url = cluster.database();
    let name = url.rsplit_once('/').unwrap().1;
    sql(&url, &format!("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0; ALTER DATABASE {name} OWNER TO crowded")).await;
    let crowded = url.replace("//zerok:", "//crowded:");
    let dir = tempfile::tempdir().unwrap();
    let args = ["--store", &crowded, "--store-wait-ms", "300 ms", "--log", "error"];
    let (code, stderr) = run(dir.path(), &args);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("the database is out of connections"), "{stderr}");
}

#[tokio::test]
async fn pushes_go_on_when_the_database_is_back_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = stoppable().await;
    let url = cluster.database();
    let relay = Running::start(dir.path(), &["--no-iroh", "--store", &url]);
    let group = Group::new(1);
    let mut client = relay.founder(&group, &device(1)).await;
    assert_eq!(client.push(1, &[envelope(1)]).await, [Ok(2)]);

    cluster.crash().unwrap();
    assert_eq!(client.push(2, &[envelope(2)]).await, [Err(ErrorCode::StorageUnavailable)]);
    cluster.up().unwrap();

    assert_eq!(push_until_stored(&mut client, 3, 2).await, 3);
    let entries = relay.entries(&group, &device(2)).await;
    assert_eq!(entries[1..], [stored(2, &envelope(1)), stored(3, &envelope(2))]);
    let log = String::from_utf8(relay.stop("-TERM").stderr).unwrap();
    for line in ["the store is away", "the store works again"] {
        assert_eq!(log.matches(line).count(), 1, "one {line:?}, however much failed meanwhile:\n{log}");
    }
    assert_eq!(log.matches("ERROR").count(), 1, "{log}");
}

#[tokio::test]
async fn a_standby_is_refused_at_the_start_and_answered_with_3002_while_running() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = stoppable().await;
    let url = cluster.database();
    let relay = Running::start(dir.path(), &["--no-iroh", "--store", &url]);
    let mut client = relay.founder(&Group::new(1), &device(1)).await;
    assert_eq!(client.follow().await.len(), 1);
    let standby = cluster.dir().join("data/standby.signal");

    cluster.down().unwrap();
    std::fs::write(&standby, "").unwrap();
    cluster.up().unwrap();

    assert_eq!(client.push(1, &[envelope(1)]).await, [Err(ErrorCode::StorageUnavailable)]);
    let other = tempfile::tempdir().unwrap();
    let (code, stderr) = run(other.path(), &["--store", &url, "--store-wait-ms", "300 ms", "--log", "error"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("the database is read-only: connect to the primary server"), "{stderr}");

    cluster.down().unwrap();
    std::fs::remove_file(&standby).unwrap();
    cluster.up().unwrap();

    assert_eq!(push_until_stored(&mut client, 2, 1).await, 2);
    assert_eq!(client.entries().await, [own(2, &envelope(1))]);
    relay.stop("-TERM");
}
