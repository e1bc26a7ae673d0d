//! `stats`, `gc`, `backup`, `restore`, `declare-restore`: what an operator does to a database.

use std::path::Path;

use serde_json::Value;
use zerok_sync_protocol::{BlobId, ErrorCode, Timeline};
use zerok_sync_testkit::postgres::shared;

use crate::client::{Group, PLENTY, device, envelope, stored, subscribe_frame};
use crate::support::{Running, command};

fn succeed(dir: &Path, args: &[&str]) -> String {
    let (code, stdout, stderr) = command(dir, args);
    assert_eq!(code, Some(0), "{args:?}: {stderr}");
    stdout
}

fn json(dir: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&succeed(dir, &[args, &["--json"]].concat())).unwrap()
}

/// A relay whose log 1 holds two entries; its data directory stays in `dir`.
async fn with_a_log(dir: &Path, store: &[&str]) -> Running {
    let relay = Running::start(dir, &[&["--no-iroh"], store].concat());
    let mut client = relay.founder(&Group::new(1), &device(1)).await;
    assert_eq!(client.push(1, &[envelope(1)]).await, [Ok(2)]);
    relay
}

#[tokio::test]
async fn stats_count_beside_a_running_relay() {
    let url = shared().database();
    for store in [&[][..], &["--store", &url]] {
        let dir = tempfile::tempdir().unwrap();
        let relay = with_a_log(dir.path(), store).await;
        let counted = json(dir.path(), &[&["stats"], store].concat());
        assert_eq!((&counted["groups"], &counted["entries"], &counted["devices"]), (&1.into(), &2.into(), &1.into()));
        assert!(counted["database_bytes"].as_u64().unwrap() > 0, "{counted}");
        assert!(succeed(dir.path(), &[&["stats"], store].concat()).contains("last use    less than a minute ago"));
        relay.stop("-TERM");
    }
}

#[test]
fn what_is_done_to_a_database_makes_none_where_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = dir.path().join("foreign");
    std::fs::write(&foreign, "something else").unwrap();
    for (args, expected) in [
        (&["stats"][..], "there is no database"),
        (&["gc"], "there is no database"),
        (&["backup", "new.zerok"], "there is no database"),
        (&["declare-restore"], "there is no database"),
        (&["restore", "missing.zerok"], "cannot open missing.zerok"),
        (&["restore", foreign.to_str().unwrap()], "it is not a relay's archive"),
    ] {
        let (code, stdout, stderr) = command(dir.path(), args);
        assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
        assert!(!dir.path().join("data").exists(), "{args:?}");
    }
}

#[tokio::test]
async fn gc_removes_nothing_that_is_in_use_and_leaves_a_running_sqlite_relay_alone() {
    let dir = tempfile::tempdir().unwrap();
    let relay = with_a_log(dir.path(), &[]).await;
    let (code, _, stderr) = command(dir.path(), &["gc"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("in use by another relay"), "{stderr}");
    relay.stop("-TERM");
    let (code, _, stderr) = command(dir.path(), &["gc", "--idle"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--idle-days-max 365"), "{stderr}");
    assert_eq!(json(dir.path(), &["gc"])["entries"], 0);
    assert!(succeed(dir.path(), &["gc"]).starts_with("removed 0 entries"));
    assert_eq!(json(dir.path(), &["stats"])["entries"], 2);
}

#[tokio::test]
async fn a_backup_of_a_running_relay_brings_it_back_elsewhere_in_the_other_kind_of_database() {
    let url = shared().database();
    let postgres = ["--store", url.as_str()];
    for (from, to) in [(&[][..], &postgres[..]), (&postgres, &[])] {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = old.path().join("relay.backup");
        let file = file.to_str().unwrap();
        let relay = match from {
            [] => with_a_log(old.path(), from).await,
            // It was restored there a moment ago.
            _ => Running::start(old.path(), &[&["--no-iroh"], from].concat()),
        };
        let key = relay.field("key").to_owned();

        let written = json(old.path(), &[&["backup", file], from].concat());
        assert_eq!((&written["entries"], &written["noise_key"]), (&2.into(), &key.clone().into()));
        relay.stop("-TERM");
        assert!(succeed(new.path(), &["restore", file, "--dry-run"]).starts_with("whole: 1 logs"));
        succeed(new.path(), &[&["restore", file], to].concat());

        let relay = Running::start(new.path(), &[&["--no-iroh"], to].concat());
        assert_eq!(relay.field("key"), key, "clients know it");
        assert_eq!(relay.entries(&Group::new(1), &device(1)).await[1..], [stored(2, &envelope(1))]);
        relay.stop("-TERM");
    }
}

#[tokio::test]
async fn a_restore_refuses_a_database_that_holds_logs_unless_told_and_a_key_that_is_there_stays() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    with_a_log(dir.path(), &[]).await.stop("-TERM");
    let file = dir.path().join("relay.backup");
    let file = file.to_str().unwrap();
    succeed(dir.path(), &["backup", file]);
    let (code, _, stderr) = command(dir.path(), &["backup", file]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("a backup never overwrites one"), "{stderr}");

    let (code, _, stderr) = command(dir.path(), &["restore", file]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("the database holds logs already") && stderr.contains("--replace"), "{stderr}");
    assert!(succeed(dir.path(), &["restore", file, "--replace"]).starts_with("restored 1 logs"));

    Running::start(other.path(), &["--no-iroh"]).stop("-TERM");
    let (code, stdout, stderr) = command(other.path(), &["restore", file]);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stderr.contains("nothing was restored") && stderr.contains("--keep-key"), "{stderr}");
    assert_eq!(json(other.path(), &["stats"])["entries"], 0);
    succeed(other.path(), &["restore", file, "--keep-key"]);
    assert_eq!(json(other.path(), &["stats"])["entries"], 2);
}

#[tokio::test]
async fn after_a_declared_restore_clients_are_sent_to_compare() {
    let dir = tempfile::tempdir().unwrap();
    let relay = with_a_log(dir.path(), &[]).await;
    let group = Group::new(1);
    let mut client = relay.client(&device(1)).await;
    let timeline: Timeline = client.admitted(&group).await.timeline;
    relay.stop("-TERM");

    assert!(succeed(dir.path(), &["declare-restore"]).starts_with("1 logs have a new timeline"));

    let relay = Running::start(dir.path(), &["--no-iroh"]);
    let mut client = relay.client(&device(1)).await;
    assert_ne!(client.admitted(&group).await.timeline, timeline);
    client.send(subscribe_frame(timeline, 0, BlobId::ZERO, PLENTY, true)).await;
    assert_eq!(client.error().await, ErrorCode::Diverged);
    relay.stop("-TERM");
}
