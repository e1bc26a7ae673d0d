//! Older copies of the relay's database put back, what a removed device makes of one, and another key
//! in the relay's place: told with exit code 4, healed, and nobody gets in who was out.

use std::time::{Duration, Instant};

use crate::support::Device;
use crate::tampering::{Group, remove_database, sorted};

fn everything(device: &Device) -> String {
    device.succeed(&["pull", "--after", "0", "--own"])
}

#[test]
fn b_roll_02_an_older_copy_that_another_device_grew_past_the_old_head_is_told_and_healed() {
    let mut group = Group::empty();
    let c = group.third("c");
    let older = group.copy();
    for text in ["one", "two"] {
        group.a.succeed(&["push", text]);
    }
    group.b.succeed(&["pull"]);
    let head = group.count("SELECT head FROM groups");
    group.put_back(&older);
    for text in ["c1", "c2", "c3"] {
        c.succeed(&["push", text]);
    }
    assert!(group.count("SELECT head FROM groups") > head, "it grew past what b had read");

    let said = group.b.fail(4, &["pull"]);
    assert!(said.contains("no longer has what it had"), "{said}");
    group.b.succeed(&["repair"]);
    let whole = ["c1", "c2", "c3", "one", "two"];
    assert_eq!(sorted(&everything(&group.b)), whole);
    let ended = group.a.run(&["pull"]);
    assert_eq!((ended.code, sorted(&ended.stdout)), (4, vec!["c1", "c2", "c3"]), "{}", ended.stderr);
    assert_eq!(c.succeed(&["pull"]), "one\ntwo\n", "it had read nothing that was lost");
    group.assert_holds(&whole);
}

#[test]
fn b_roll_03_a_copy_from_before_a_removal_is_told_of_it_again_and_the_removed_device_stays_out() {
    let mut group = Group::empty();
    let c = group.third("c");
    let older = group.copy();
    group.a.succeed(&["revoke", "c"]);
    group.a.succeed(&["push", "behind the removal"]);
    assert_eq!(group.b.succeed(&["pull"]), "behind the removal\n");
    group.put_back(&older);
    assert_eq!(group.count("SELECT count(*) FROM devices"), 3, "the copy admits the removed device");

    let said = group.b.fail(4, &["pull"]);
    assert!(said.contains("no longer has what it had"), "{said}");
    group.b.succeed(&["push", "--wait", "relay", "behind the copy"]);
    assert_eq!(group.count("SELECT auth_gen FROM groups"), 1, "the change of keys was sent again");
    for command in [&["pull"][..], &["push", "from outside"]] {
        let said = c.fail(5, command);
        assert!(said.contains("removed from the group"), "{said}");
    }
    assert_eq!(sorted(&everything(&group.a)), ["behind the copy", "behind the removal"]);
    group.assert_holds(&["behind the copy", "behind the removal"]);
}

#[test]
fn d_rev_05_what_a_removed_device_writes_into_a_copy_that_admits_it_again_is_kept_from_who_knows_of_the_removal() {
    let mut group = Group::empty();
    let c = group.third("c");
    let older = group.copy();
    group.a.succeed(&["revoke", "c"]);
    group.b.succeed(&["pull"]);
    group.put_back(&older);
    c.succeed(&["push", "--wait", "relay", "from outside"]);

    let ended = group.b.run(&["pull"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (4, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("no longer has what it had"), "{}", ended.stderr);
    c.fail(5, &["push", "more"]);
    group.b.succeed(&["push", "inside"]);
    let ended = group.a.run(&["pull"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (4, "inside\n"), "{}", ended.stderr);
    for device in [&group.a, &group.b] {
        device.succeed(&["repair"]);
        device.succeed(&["verify"]);
        assert_eq!(everything(device), "inside\n");
    }
}

#[test]
fn d_rev_05_a_removed_device_that_is_first_at_a_wiped_relay_keeps_nobody_out_and_stays_out_itself() {
    let mut group = Group::new();
    let c = group.third("c");
    group.a.succeed(&["revoke", "c"]);
    group.b.succeed(&["pull"]);
    group.tamper(remove_database);
    c.succeed(&["push", "--wait", "relay", "squatted"]);
    assert_eq!(group.count("SELECT count(*) FROM groups"), 1, "it made a log under the name it knows");

    for device in [&group.b, &group.a] {
        let ended = device.run(&["pull"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{}", ended.stderr);
    }
    c.fail(5, &["push", "squatted again"]);
    for device in [&group.a, &group.b] {
        device.succeed(&["repair"]);
        device.succeed(&["verify"]);
        assert_eq!(sorted(&everything(device)), ["one", "three", "two"]);
    }
}

#[test]
fn b_wipe_a_copy_that_the_operator_declares_is_healed_without_a_finding() {
    let mut group = Group::empty();
    let older = group.copy();
    for text in ["one", "two", "three"] {
        group.a.succeed(&["push", text]);
    }
    group.b.succeed(&["pull"]);
    let head = group.count("SELECT head FROM groups");
    group.put_back(&older);
    assert!(group.count("SELECT head FROM groups") < head, "what was pushed is gone");
    group.setup.maintain(&mut group.relay, "declare-restore");
    for device in [&group.b, &group.a] {
        device.succeed(&["pull"]);
        device.succeed(&["repair"]);
        assert_eq!(everything(device), "one\ntwo\nthree\n");
        assert_eq!(device.json(&["status"])[0]["integrity"], serde_json::json!([]));
    }
    group.assert_whole();
}

#[test]
fn b_key_a_relay_that_comes_back_with_another_key_is_told_apart_from_one_that_is_away() {
    let mut group = Group::new();
    let key = group.setup.directory().join("relay.key");
    let kept = std::fs::read(&key).unwrap();
    group.tamper(|_| std::fs::remove_file(&key).unwrap());
    for command in [&["pull"][..], &["push", "kept", "--wait", "relay"], &["rotate"], &["repair"]] {
        let begun = Instant::now();
        let said = group.b.fail(4, &[command, &["--timeout", "60s"]].concat());
        assert!(said.contains("another key") && !said.contains("in time"), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{command:?} waits for nothing");
    }
    group.relay.kill();
    let said = group.b.fail(3, &["pull", "--timeout", "1s"]);
    assert!(!said.contains("another key"), "{said}");

    std::fs::write(&key, kept).unwrap();
    group.relay = group.setup.restart(&group.relay);
    group.b.succeed(&["push", "after"]);
    assert_eq!(group.a.succeed(&["pull"]), "kept\nafter\n", "what waited goes out, behind the change of keys");
    group.b.succeed(&["verify"]);
}
