//! What devices say they have, who is there, and a home that was put back from a backup.

use std::io::BufRead;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use zerok_sync::{Client, OpenOptions};

use crate::support::{Device, Homes, RelaySetup, pair};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Puts a home back to how it was at `backup`.
fn put_back(device: &Device, backup: &Path) {
    std::fs::remove_dir_all(&device.home).unwrap();
    copy(backup, &device.home);
}

fn texts(device: &Device, options: &[&str]) -> Vec<String> {
    device.succeed(&[&["pull"], options].concat()).lines().map(Into::into).collect()
}

#[test]
fn push_waits_for_every_device_and_names_who_is_missing() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, b) = pair(&setup);
    let missing = a.fail(1, &["push", "--wait", "all-devices", "--timeout", "2s", "one"]);
    assert!(missing.contains("the relay has it") && missing.contains("b ("), "{missing}");

    let mut follows = b.command(&["pull", "--follow"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(follows.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    let reached = a.json(&["push", "--wait", "all-devices", "two"]);
    assert_eq!(reached[0]["reached"], "all-devices");
    assert_eq!(lines.next().unwrap().unwrap(), "two");

    let of_b = |device: &Device| device.json(&["devices"]).into_iter().find(|row| row["name"] == "b").unwrap();
    assert_eq!((of_b(&a)["online"].clone(), of_b(&a)["stale"].clone()), (true.into(), false.into()));
    follows.kill().unwrap();
    follows.wait().unwrap();
    let row = of_b(&a);
    assert!(row["last_heard_at"].as_u64() > row["joined_at"].as_u64(), "{row}");
}

#[test]
fn s_cur_03_a_home_copied_back_from_a_backup_reads_and_sends_nothing_until_it_is_let_in_again() {
    let setup = RelaySetup::sqlite();
    let (_relay, homes, a, b) = pair(&setup);
    a.succeed(&["push", "before the backup"]);
    let backup = homes.device("backup").home;
    copy(&a.home, &backup);
    a.succeed(&["push", "after the backup"]);
    put_back(&a, &backup);

    for _ in 0..2 {
        let refused = a.fail(5, &["push", "by the copy"]);
        assert!(refused.contains("restored from an older copy") && refused.contains("Invite it again"), "{refused}");
    }
    b.succeed(&["push", "to whoever reads"]);
    assert_eq!(texts(&a, &[]), ["to whoever reads"], "it reads");
    assert!(a.fail(5, &["approve"]).contains("the group has other devices"));
    let anew = homes.device("anew");
    b.let_in(&anew);
    anew.succeed(&["push", "goes on"]);
    assert_eq!(texts(&b, &[]), ["before the backup", "after the backup", "goes on"]);
    b.succeed(&["verify"]);
}

#[test]
fn s_cur_03_the_groups_only_device_is_approved_and_goes_on() {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let a = homes.device("a");
    a.init(&relay);
    assert!(a.fail(2, &["approve"]).contains("nothing to approve"));
    let backup = homes.device("backup").home;
    copy(&a.home, &backup);
    a.succeed(&["push", "one"]);
    put_back(&a, &backup);
    a.fail(5, &["push", "two"]);
    a.succeed(&["approve"]);
    a.succeed(&["push", "three"]);
    let b = homes.device("b");
    a.let_in(&b);
    assert_eq!(texts(&b, &[]), ["one", "two", "three"]);
    for device in [&a, &b] {
        device.succeed(&["verify"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_sees_who_is_there_and_hears_what_they_whisper() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, b) = tokio::task::block_in_place(|| pair(&setup));
    let open = async |device: &Device| Client::open(OpenOptions::new(&device.home)).await.unwrap();
    let (one, two) = (open(&a).await, open(&b).await);
    let alone = |client: &Client| client.status().borrow().members.iter().any(|member| !member.online);
    for client in [&one, &two] {
        let mut status = client.status();
        let together = status.wait_for(|status| status.members.iter().filter(|member| member.online).count() == 2);
        tokio::time::timeout(Duration::from_secs(20), together).await.expect("both are there").unwrap();
    }
    let mut heard = two.whispers();
    one.whisper("typing").await.unwrap();
    let whisper = tokio::time::timeout(Duration::from_secs(20), heard.next()).await.expect("it is there").unwrap();
    assert_eq!((&whisper.data[..], whisper.device), (&b"typing"[..], one.status().borrow().device));
    one.push("for all").await.unwrap().at_all_devices().await.unwrap();

    two.close().await;
    let mut status = one.status();
    let gone = status.wait_for(|status| status.members.iter().any(|member| !member.online));
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("it said goodbye").unwrap();
    assert!(alone(&one));
    assert_eq!(heard.next().await, None);
}
