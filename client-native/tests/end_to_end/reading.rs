//! What `pull` prints, and what it moves.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{RelaySetup, pair};

#[test]
fn pull_moves_the_position_and_after_does_not() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, b) = pair(&setup);
    for text in ["one", "two", "three"] {
        a.succeed(&["push", text]);
    }
    assert_eq!(b.succeed(&["pull", "--limit", "1"]), "one\n");
    let position = b.json(&["status"])[0]["processed"].as_u64().unwrap();
    assert_eq!(b.succeed(&["pull", "--after", "0"]), "one\ntwo\nthree\n");
    assert_eq!(b.succeed(&["pull", "--after", &position.to_string()]), "two\nthree\n");
    assert_eq!(b.succeed(&["pull"]), "two\nthree\n");
    assert_eq!(b.succeed(&["pull"]), "");
}

#[test]
fn own_entries_come_only_when_asked_for() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, _b) = pair(&setup);
    a.succeed(&["push", "mine"]);
    assert_eq!(a.succeed(&["pull"]), "");
    assert_eq!(a.succeed(&["pull", "--own", "--after", "0"]), "mine\n");
}

#[test]
fn json_entries_say_everything() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, b) = pair(&setup);
    a.succeed(&["push", "grüße\n"]);
    let file = a.home.join("blob");
    std::fs::write(&file, [0xff, 0x00, 0x01]).unwrap();
    a.succeed(&["push", "--file", file.to_str().unwrap()]);

    let entries = b.json(&["pull"]);
    let [text, binary] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(text["text"], "grüße\n");
    assert_eq!(text["data"], serde_json::Value::Null);
    assert_eq!(binary["data"], "/wAB");
    assert_eq!(text["sender"], a.json(&["status"])[0]["device"]);
    assert_eq!(text["own"], false);
    assert_eq!(text["blob_id"].as_str().unwrap().len(), 64);
    assert!(text["position"].as_u64().unwrap() < binary["position"].as_u64().unwrap());
    assert!(text["cursor"].as_u64().unwrap() < binary["cursor"].as_u64().unwrap());
    assert!(text["sent_at"].as_u64().unwrap() > 1_600_000_000_000);
}

#[test]
fn standard_input_is_pushed_as_one_blob() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, b) = pair(&setup);
    let mut push = a.command(&["push", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(push.stdin.as_mut().unwrap(), b"two\nlines").unwrap();
    drop(push.stdin.take());
    assert!(push.wait().unwrap().success());
    assert_eq!(b.succeed(&["pull"]), "two\\nlines\n");
}

#[test]
fn follow_prints_what_comes_and_survives_the_relay() {
    let setup = RelaySetup::sqlite();
    let (mut relay, _homes, a, b) = pair(&setup);
    a.succeed(&["push", "before"]);
    let mut following = b.command(&["pull", "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "before");
    a.succeed(&["push", "live"]);
    assert_eq!(next(), "live");

    relay.kill();
    let _relay = setup.restart(&relay);
    a.succeed(&["push", "after the restart"]);
    assert_eq!(next(), "after the restart");
    following.kill().unwrap();
    following.wait().unwrap();
}

#[cfg(unix)]
#[test]
fn an_interrupted_follow_ends_in_order() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, b) = pair(&setup);
    a.succeed(&["push", "hello"]);
    let mut following = b.command(&["pull", "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 6];
    std::io::Read::read_exact(following.stdout.as_mut().unwrap(), &mut line).unwrap();
    let interrupted = std::process::Command::new("kill").args(["-INT", &following.id().to_string()]).status();
    assert!(interrupted.unwrap().success());
    assert_eq!(following.wait().unwrap().code(), Some(0));
    assert_eq!(b.succeed(&["pull"]), "", "what was printed is marked, though it was interrupted right after");
}

#[test]
fn a_reader_that_goes_away_loses_nothing() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, b) = pair(&setup);
    a.succeed(&["push", "hello"]);
    let mut pull = b.command(&["pull"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(pull.stdout.take());
    assert!(!pull.wait().unwrap().success());
    assert_eq!(b.succeed(&["pull"]), "hello\n");
}
