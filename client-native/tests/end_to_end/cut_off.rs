//! A restore that was cut off: its home is refused, and the same command begins it again.

use std::io::Write;
use std::process::Stdio;

use crate::gate::Gate;
use crate::recovery::{lose, restore, texts, words_of};
use crate::support::{Device, Homes, RelayProcess, RelaySetup};

/// A relay with a group of which only words are left, and a home in which restoring it was killed.
struct CutOff {
    /// Keeps the relay's files.
    _setup: RelaySetup,
    relay: RelayProcess,
    homes: Homes,
    words: String,
    new: Device,
}

impl CutOff {
    fn with(new: impl FnOnce(Device) -> Device, options: &[&str]) -> Self {
        let setup = RelaySetup::sqlite();
        let relay = setup.start();
        let homes = Homes::new();
        let (a, new) = (homes.device("a"), new(homes.device("new").over("ws")));
        a.init(&relay);
        a.succeed(&["push", "kept"]);
        let words = words_of(&a);
        lose(&a);

        let gate = Gate::before(&relay);
        gate.admit(1);
        let mut command = new.command(&[&["recovery", "restore", "--relay", &gate.url], options].concat());
        let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("starts");
        child.stdin.take().expect("piped").write_all(words.as_bytes()).expect("it reads");
        // The first connection asks with the words, the second one reads the log.
        let _second = gate.held();
        child.kill().expect("runs");
        child.wait().expect("ends");
        Self { _setup: setup, relay, homes, words, new }
    }

    fn restore(&self, device: &Device) {
        let restored = restore(device, &self.relay.url, &self.words);
        assert_eq!(restored.code, 0, "{}", restored.stderr);
        assert_eq!(texts(device), ["kept"]);
    }
}

#[test]
fn a_restore_that_was_cut_off_is_refused_by_every_command_but_the_one_that_begins_it_again() {
    let cut_off = CutOff::with(|new| new, &[]);
    let new = &cut_off.new;
    let init = ["init", "--relay", &cut_off.relay.url];
    for command in [&["status"][..], &["push", "lost for ever"], &["pull"], &["recovery", "status"], &init] {
        let refused = new.fail(1, command);
        assert!(refused.contains("was cut off") && refused.contains("`recovery restore`"), "{refused}");
    }
    cut_off.restore(new);
    new.succeed(&["push", "written"]);
    let again = restore(new, &cut_off.relay.url, &cut_off.words);
    assert_eq!(again.code, 1, "{}", again.stderr);
    assert!(again.stderr.contains("already holds a group"), "one that was not cut off stays: {}", again.stderr);
    assert_eq!(texts(new), ["kept", "written"]);
}

#[test]
fn a_restore_that_was_cut_off_and_fails_when_it_begins_again_leaves_no_group_behind() {
    let cut_off = CutOff::with(|new| new, &[]);
    let nobody = "abandon ".repeat(23) + "art";
    let refused = restore(&cut_off.new, &cut_off.relay.url, &nobody);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    let said = cut_off.new.fail(1, &["status"]);
    assert!(said.contains("there is no group in"), "{said}");
    cut_off.restore(&cut_off.new);
}

#[test]
fn a_restore_that_was_cut_off_under_a_lock_begins_again_under_the_same() {
    let locked = |passphrase: &'static str| move |new: Device| new.with("ZEROK_PASSPHRASE", passphrase);
    let cut_off = CutOff::with(locked("correct horse"), &["--passphrase"]);
    let unlocked = cut_off.homes.device("new").over("ws");
    let refused = restore(&locked("battery staple")(unlocked.clone()), &cut_off.relay.url, &cut_off.words);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.contains("wrong passphrase"), "{}", refused.stderr);
    cut_off.restore(&cut_off.new);
    unlocked.fail(5, &["status"]);
}
