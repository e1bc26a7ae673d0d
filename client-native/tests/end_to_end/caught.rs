//! What a person and a program are told, at a terminal, of a relay that is caught, away, or not the
//! one it was.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use zerok_sync::{Client, OpenOptions};

use crate::relays;
use crate::support::{Device, Homes, RelaySetup, signal};
use crate::tampering::{Group, change, second_newest};

/// What a relay that does not answer may hold a command up.
const AWAY_MAX: Duration = Duration::from_secs(30);

fn damage(group: &mut Group) -> i64 {
    let mut damaged = 0;
    group.tamper_with_rows(|database| {
        damaged = second_newest(database);
        change(
            database,
            "UPDATE entries SET envelope = CAST(substr(envelope, 1, 100) || x'00' || substr(envelope, 102) AS BLOB) WHERE cursor = ?1",
            [damaged],
        );
    });
    damaged
}

fn lines(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
}

#[test]
fn b_key_verify_ends_with_4_when_somebody_else_answers_in_the_relays_place() {
    let mut group = Group::new();
    let key = group.setup.directory().join("relay.key");
    group.tamper(|_| std::fs::remove_file(&key).unwrap());
    let said = group.b.fail(4, &["verify"]);
    assert!(said.contains("another key") && said.contains(&group.relay.url), "{said}");
    let status = group.b.succeed(&["status"]);
    assert!(status.contains("another key"), "{status}");
    group.relay.kill();
    // One that is away is part of the report.
    let ended = group.b.run(&["verify"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("not compared") && ended.stderr.contains(&group.relay.url), "{}", ended.stderr);
    let report = group.b.json(&["verify"]);
    assert_eq!(report[0]["relays"][0]["compared"], false, "{report:?}");
}

#[test]
fn d_rev_01_a_revoked_device_is_told_so_by_verify_and_status() {
    let group = Group::new();
    group.a.succeed(&["revoke", "b"]);
    let said = group.b.fail(5, &["verify"]);
    assert!(said.contains("removed from the group"), "{said}");
    let status = group.b.succeed(&["status"]);
    assert!(status.contains("removed from the group"), "{status}");
}

#[test]
fn mr_01_with_one_of_two_relays_away_verify_and_repair_end_and_name_it() {
    let mut group = relays::Group::new();
    group.relays[1].kill();
    let (there, away) = (group.relays[0].url.clone(), group.relays[1].url.clone());
    let begun = Instant::now();
    let ended = group.a.run(&["--json", "verify"]);
    assert!(begun.elapsed() < AWAY_MAX, "verify took {:?}", begun.elapsed());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("{away} was not compared")), "{}", ended.stderr);
    assert!(!ended.stderr.contains(&format!("{there} was not compared")), "{}", ended.stderr);
    let report = &lines(&ended.stdout)[0];
    let compared: Vec<&Value> = report["relays"].as_array().unwrap().iter().map(|relay| &relay["compared"]).collect();
    assert_eq!(compared, [true, false]);
    assert_eq!(report["relays_compared"], false, "not all of them");

    let begun = Instant::now();
    let ended = group.a.run(&["repair"]);
    assert!(begun.elapsed() < AWAY_MAX, "repair took {:?}", begun.elapsed());
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stdout.contains(&there) && !ended.stdout.contains(&away), "{}", ended.stdout);
    assert!(ended.stderr.contains(&format!("{away} was not repaired")), "{}", ended.stderr);
}

#[test]
fn what_no_relay_takes_holds_up_neither_verify_nor_repair() {
    let setup = RelaySetup::sqlite().with(&["--group-bytes-max", "64 KiB"]);
    let relay = setup.start();
    let homes = Homes::new();
    let a = homes.device("a");
    a.init(&relay);
    let large = homes.device("large").home;
    std::fs::write(&large, vec![7; 100_000]).unwrap();
    a.fail(6, &["push", "--file", large.to_str().unwrap()]);
    let begun = Instant::now();
    let ended = a.run(&["verify"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("the relays have what this device has read there"), "{}", ended.stdout);
    a.fail(6, &["repair"]);
    assert!(begun.elapsed() < AWAY_MAX, "{:?}", begun.elapsed());
}

#[test]
fn b_roll_a_finding_takes_nothing_from_what_else_a_command_has_to_say() {
    let mut group = Group::new();
    let older = group.copy();
    group.a.succeed(&["push", "four"]);
    group.b.succeed(&["pull"]);
    group.put_back(&older);
    // The relay does not have what was read there, and another device not what is pushed now.
    let ended = group.b.run(&["push", "five", "--wait", "all-devices", "--timeout", "5s"]);
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    let told = ended.stderr.find("not every device has said").expect(&ended.stderr);
    let found = ended.stderr.find("no longer has what it had").expect(&ended.stderr);
    assert!(told < found, "{}", ended.stderr);
}

#[test]
fn b_key_another_key_at_one_of_two_relays_is_told_by_pull_and_verify_and_in_status() {
    let mut group = relays::Group::new();
    group.relays[1].kill();
    std::fs::remove_file(group.setups[1].directory().join("relay.key")).unwrap();
    group.relays[1] = group.setups[1].restart(&group.relays[1]);
    let url = group.relays[1].url.clone();
    group.a.succeed(&["push", "still"]);
    for command in ["pull", "verify"] {
        let ended = group.b.run(&[command]);
        assert_eq!(ended.code, 4, "{command}: {}", ended.stderr);
        assert!(ended.stderr.contains(&format!("{url} has another key")), "{command}: {}", ended.stderr);
        assert_eq!(command == "pull", ended.stdout == "still\n", "{}", ended.stdout);
    }
    let status = group.b.succeed(&["status"]);
    assert!(status.contains(&format!("{url} has another key")), "{status}");
    let status = &group.b.json(&["status"])[0];
    let problem = status["relays"][1]["problem"].as_str().expect("named");
    assert!(problem.contains("another key") && status["relays"][0]["problem"].is_null(), "{status}");
}

/// A `pull --follow` of which the end and the words count.
fn follow(device: &Device, options: &[&str]) -> Child {
    let mut command = device.command(&[options, &["pull", "--follow"]].concat());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[cfg(unix)]
#[test]
fn b_roll_a_pull_that_follows_tells_of_a_violation_while_it_runs_and_ends_with_4() {
    for (options, end_by) in [(&[][..], "TERM"), (&["--json"], "INT")] {
        let mut group = Group::new();
        let older = group.copy();
        group.a.succeed(&["push", "four"]);
        group.b.succeed(&["pull"]);
        let mut following = follow(&group.b, options);
        group.put_back(&older);
        let mut told = BufReader::new(following.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("no longer has what it had") {
            line.clear();
            assert!(told.read_line(&mut line).unwrap() > 0, "it ended without a word of it");
        }
        assert!(following.try_wait().unwrap().is_none(), "it goes on");
        signal(&following, end_by);
        let mut said = String::new();
        told.read_to_string(&mut said).unwrap();
        assert_eq!(following.wait().unwrap().code(), Some(4), "{said}");
        let mut printed = String::new();
        following.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        if options.is_empty() {
            assert_eq!(printed, "");
        } else {
            let printed = lines(&printed);
            let found: Vec<&Value> = printed.iter().filter(|line| line["event"] == "integrity").collect();
            assert_eq!(found.len(), 1, "{printed:?}");
            assert_eq!(found[0]["kind"], "rolled_back");
            assert!(found[0]["from"].as_u64() > found[0]["to"].as_u64(), "{found:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_pull_that_follows_and_is_ended_by_its_supervisor_has_done_its_work() {
    let group = Group::new();
    group.a.succeed(&["push", "four"]);
    let mut following = follow(&group.b, &[]);
    let mut printed = BufReader::new(following.stdout.take().unwrap());
    let mut line = String::new();
    printed.read_line(&mut line).unwrap();
    assert_eq!(line, "four\n");
    signal(&following, "TERM");
    assert_eq!(following.wait().unwrap().code(), Some(0));
    assert_eq!(group.b.succeed(&["pull"]), "", "it is marked as processed");
}

#[test]
fn programs_are_given_the_kind_of_a_finding_and_its_evidence() {
    let mut group = Group::new();
    group.a.succeed(&["push", "four"]);
    group.b.succeed(&["pull"]);
    let cursor = damage(&mut group);
    let ended = group.b.run(&["--json", "verify"]);
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    let report = &lines(&ended.stdout)[0];
    let status = &group.b.json(&["status"])[0];
    for found in [&report["findings"][0], &status["integrity"][0]] {
        assert_eq!(found["kind"], "lost", "{found}");
        assert_eq!(found["cursor"], cursor);
        let blob_id = found["blob_id"].as_str().expect("hex");
        assert_eq!(blob_id.len(), 64);
        assert!(found["text"].as_str().unwrap().contains(blob_id), "{found}");
    }
}

#[test]
fn pull_prints_for_programs_what_it_found() {
    let mut group = Group::new();
    let older = group.copy();
    group.a.succeed(&["push", "four"]);
    group.b.succeed(&["pull"]);
    group.put_back(&older);
    let ended = group.b.run(&["--json", "pull"]);
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    let printed = lines(&ended.stdout);
    let found = printed.iter().find(|line| line["event"] == "integrity").expect("a line of its own");
    assert_eq!(found["kind"], "rolled_back", "{found}");
    let to = found["to"].as_u64().expect("a cursor");
    assert!(ended.stderr.contains(&format!("up to entry {to}")), "{}", ended.stderr);
}

#[tokio::test]
async fn an_app_and_its_user_are_told_that_the_log_has_outgrown_its_snapshot() {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let device = homes.device("a");
    device.init(&relay);
    let status = &device.json(&["status"])[0];
    assert_eq!(status["compaction_advised"], false);
    let client = Client::open(OpenOptions::new(&device.home)).await.unwrap();
    for number in 0..5 {
        client.push(vec![number; 1_000_000]).await.unwrap().at_relay().await.unwrap();
    }
    let mut status = client.status();
    let advised = status.wait_for(|status| status.compaction_advised);
    assert!(tokio::time::timeout(AWAY_MAX, advised).await.is_ok(), "nobody was advised");
    client.close().await;
    let told = device.succeed(&["status"]);
    assert!(told.contains("zerok compact"), "{told}");
}
