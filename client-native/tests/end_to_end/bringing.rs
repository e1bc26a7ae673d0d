//! A device that has written something alone joins a group and brings it along: once, in its order,
//! and nothing is lost if joining fails.

use crate::support::{Device, Homes, RelayProcess, RelaySetup};

/// A group of `a`, and `b` that has written two entries in a group of its own; one was never sent.
fn apart() -> (RelaySetup, RelayProcess, Homes, Device, Device) {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);
    b.init(&relay);
    b.succeed(&["push", "sent"]);
    b.succeed(&["push", "not sent", "--wait", "local"]);
    (setup, relay, homes, a, b)
}

#[test]
fn what_a_device_wrote_alone_comes_along_once_and_in_its_order() {
    let (_setup, _relay, _homes, a, b) = apart();
    a.succeed(&["push", "by a"]);
    let alone = b.json(&["status"])[0]["device"].clone();
    let inviting = a.invite(&["--yes"]);
    b.fail(1, &["join", &inviting.link]);
    b.succeed(&["join", &inviting.link, "--name", "b", "--bring-data"]);
    assert_eq!(inviting.end().code, 0);

    assert_ne!(b.json(&["status"])[0]["device"], alone, "a membership of its own");
    b.succeed(&["push", "since"]);
    assert_eq!(a.succeed(&["pull"]), "sent\nnot sent\nsince\n");
    assert_eq!(b.succeed(&["pull"]), "by a\n");
    for device in [&a, &b] {
        assert_eq!(device.json(&["devices"]).len(), 2);
        device.succeed(&["verify"]);
    }
    let again = a.invite(&["--yes"]);
    let said = b.fail(1, &["join", &again.link, "--bring-data"]);
    assert!(said.contains("leave"), "{said}");
    again.kill();
}

#[test]
fn a_join_that_comes_to_nothing_leaves_the_group_before_as_it_was() {
    let (_setup, relay, homes, a, b) = apart();
    let inviting = a.invite(&["--yes"]);
    let used = inviting.link.clone();
    homes.device("c").succeed(&["join", &used]);
    assert_eq!(inviting.end().code, 0);
    let alone = b.json(&["status"])[0]["device"].clone();
    b.fail(5, &["join", &used, "--bring-data"]);
    assert_eq!(b.json(&["status"])[0]["device"], alone);
    assert_eq!(b.json(&["pull", "--own"]).len(), 2);
    drop(relay);
}

#[test]
fn a_locked_home_is_joined_from_with_its_passphrase_and_stays_locked() {
    let (_setup, _relay, _homes, a, b) = apart();
    b.clone().with("ZEROK_NEW_PASSPHRASE", "correct horse").succeed(&["passphrase", "set"]);
    let inviting = a.invite(&["--yes"]);
    b.fail(5, &["join", &inviting.link, "--bring-data"]);
    let opened = b.clone().with("ZEROK_PASSPHRASE", "correct horse");
    opened.succeed(&["join", &inviting.link, "--bring-data"]);
    b.fail(5, &["status"]);
    assert_eq!(a.succeed(&["pull"]), "sent\nnot sent\n");
}
