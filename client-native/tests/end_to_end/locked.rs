//! A home under a passphrase: nothing works without it, and everything with it.

use std::process::{Command, Stdio};

use crate::support::{Homes, RelaySetup, pair};

#[test]
fn a_locked_home_opens_with_its_passphrase_only_and_the_refusal_has_an_exit_code() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, b) = pair(&setup);
    let bare = std::fs::read(a.home.join("store.key")).unwrap();
    a.clone().with("ZEROK_NEW_PASSPHRASE", "correct horse").succeed(&["passphrase", "set"]);
    assert_ne!(std::fs::read(a.home.join("store.key")).unwrap(), bare);

    for command in [&["status"][..], &["push", "x"], &["pull"], &["passphrase", "remove"]] {
        let said = a.fail(5, command);
        assert!(said.contains("passphrase is needed"), "{said}");
        let said = a.clone().with("ZEROK_PASSPHRASE", "battery staple").fail(5, command);
        assert!(said.contains("wrong passphrase"), "{said}");
    }
    a.clone().with("ZEROK_PASSPHRASE", "correct horse").succeed(&["push", "hello"]);
    assert_eq!(b.succeed(&["pull"]), "hello\n");
}

#[test]
fn a_passphrase_is_changed_and_removed_by_who_knows_it() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let a = homes.device("a");
    let with = |passphrase: &str| a.clone().with("ZEROK_PASSPHRASE", passphrase);
    with("first passphrase").succeed(&["init", "--relay", &relay.url, "--passphrase"]);
    let key = a.home.join("store.key");
    let locked = std::fs::read(&key).unwrap();

    with("first passphrase").fail(2, &["passphrase", "set"]);
    let changing = |current: &str, new: &str| with(current).with("ZEROK_NEW_PASSPHRASE", new);
    changing("no passphrase", "second passphrase").fail(5, &["passphrase", "change"]);
    changing("first passphrase", "short").fail(2, &["passphrase", "change"]);
    assert_eq!(std::fs::read(&key).unwrap(), locked, "refusals change nothing");
    changing("first passphrase", "second passphrase").succeed(&["passphrase", "change"]);
    with("first passphrase").fail(5, &["status"]);
    with("second passphrase").succeed(&["status"]);

    with("second passphrase").succeed(&["passphrase", "remove"]);
    a.succeed(&["status"]);
    a.fail(2, &["passphrase", "remove"]);
}

/// `script` gives the command a terminal of its own, and types what it is given.
#[cfg(target_os = "linux")]
#[test]
fn at_a_terminal_the_passphrase_is_asked_for() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let a = homes.device("a");
    a.clone().with("ZEROK_PASSPHRASE", "correct horse").succeed(&["init", "--relay", &relay.url, "--passphrase"]);

    let typing = |typed: &str| {
        let command = format!("'{}' --home '{}' status", env!("CARGO_BIN_EXE_zerok"), a.home.display());
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--echo", "never", "--command", &command, "/dev/null"])
            .env_remove("ZEROK_PASSPHRASE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), format!("{typed}\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, shown) = typing("correct horse");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("Passphrase of") && shown.contains("position"), "{shown}");
    let (code, shown) = typing("battery staple");
    assert_eq!(code, Some(5), "{shown}");
    assert!(shown.contains("wrong passphrase"), "{shown}");
}
