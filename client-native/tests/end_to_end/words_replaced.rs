//! Words that another device replaced: whoever has that paper is told that it is worthless.

use std::process::Stdio;

use serde_json::Value;

use crate::gate::Gate;
use crate::recovery::{lose, restore, words_of};
use crate::support::{Homes, RelaySetup, pair, signal};

#[test]
fn d_rec_01_the_status_says_whose_words_are_good_and_the_older_ones_restore_nothing() {
    let setup = RelaySetup::sqlite();
    let (relay, homes, a, b) = pair(&setup);
    let older = words_of(&a);
    let maker = |said: &[Value]| said[0]["made_by"].clone();
    assert_eq!(maker(&b.json(&["recovery", "status"])), a.json(&["status"])[0]["device"]);

    let newer = words_of(&b);

    let said = a.run(&["pull"]);
    assert!(said.stderr.contains("new recovery words") && !said.stderr.contains("joined"), "{}", said.stderr);
    for device in [&a, &b] {
        let said = device.succeed(&["recovery", "status"]);
        assert!(said.contains("by b; all others are void"), "{said}");
        assert_eq!(maker(&device.json(&["recovery", "status"])), b.json(&["status"])[0]["device"]);
    }
    [&a, &b].into_iter().for_each(lose);
    let new = homes.device("new");
    let refused = restore(&new, &relay.url, &older);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.contains("replaced by newer ones"), "{}", refused.stderr);
    assert_eq!(restore(&new, &relay.url, &newer).code, 0);
}

#[cfg(unix)]
#[test]
fn words_that_another_device_replaces_before_they_are_good_are_said_to_be_void() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let gate = Gate::before(&relay);
    let homes = Homes::new();
    let (a, b) = (homes.device("a").over("ws"), homes.device("b").over("ws"));
    a.succeed(&["init", "--relay", &gate.url, "--name", "a"]);
    a.let_in(&b);
    let sheet = a.home.with_file_name("sheet.txt");

    // The first connection is the device's own, the second the paper's; the third would go on.
    gate.admit(2);
    let mut command = a.command(&["--json", "recovery", "create", "--yes", "--sheet"]);
    let command = command.arg(&sheet).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let making = command.spawn().expect("starts");
    let third = gate.held();
    signal(&making, "STOP");
    gate.admit(usize::MAX);
    drop(third);
    words_of(&b);
    signal(&making, "CONT");

    let ended = making.wait_with_output().expect("ends");
    let said = String::from_utf8(ended.stderr).expect("prints UTF-8");
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("the words are not good") && said.contains("void; make new ones"), "{said}");
    assert!(!sheet.exists(), "a sheet that would restore nothing");
    assert!(a.succeed(&["recovery", "status"]).contains("by b; all others are void"));
    let shown = String::from_utf8(ended.stdout).expect("prints UTF-8");
    let first: Value = serde_json::from_str(shown.lines().next().expect("the words")).expect("JSON");
    let refused = restore(&homes.device("new"), &relay.url, first["words"].as_str().expect("words"));
    assert_eq!(refused.code, 5, "{}", refused.stderr);
}
