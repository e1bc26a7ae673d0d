//! Without a relay nothing is lost, and it is said what is missing.

use crate::support::{Homes, RelaySetup, pair};

#[test]
fn what_is_pushed_while_the_relay_is_down_arrives_later_once() {
    let setup = RelaySetup::sqlite();
    let (mut relay, _homes, a, b) = pair(&setup);
    relay.kill();

    let said = a.fail(3, &["push", "one", "--wait", "relay", "--timeout", "1s"]);
    assert!(said.contains("tried for 1s") && said.contains("safely queued"), "{said}");
    a.succeed(&["push", "two", "--wait", "local"]);
    assert_eq!(a.json(&["status"])[0]["outbox"], 2);

    let _relay = setup.restart(&relay);
    a.succeed(&["push", "three"]);
    assert_eq!(a.json(&["status"])[0]["outbox"], 0);
    assert_eq!(b.succeed(&["pull"]), "one\ntwo\nthree\n");
    assert_eq!(b.succeed(&["pull"]), "");
}

#[test]
fn pull_without_a_relay_prints_what_is_stored_and_says_so() {
    let setup = RelaySetup::sqlite();
    let (mut relay, _homes, a, b) = pair(&setup);
    a.succeed(&["push", "hello"]);
    b.succeed(&["pull", "--after", "0"]);
    relay.kill();

    let ended = b.run(&["pull"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (3, "hello\n"));
    assert!(ended.stderr.contains("no relay reachable"), "{}", ended.stderr);

    let ended = b.run(&["pull"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (3, ""), "what was printed was processed");
}

#[test]
fn reports_work_without_a_relay() {
    let setup = RelaySetup::sqlite();
    let (mut relay, _homes, a, _b) = pair(&setup);
    assert_eq!(a.json(&["devices"]).len(), 2);
    relay.kill();
    let status = &a.json(&["status"])[0];
    assert_eq!(status["caught_up"], false);
    assert!(status["problem"].as_str().unwrap().contains("no relay reachable"));
    assert_eq!(a.json(&["devices"]).len(), 2);
    a.succeed(&["verify"]);
}

#[test]
fn a_group_that_cannot_be_founded_leaves_no_home_behind() {
    let mut relay = RelaySetup::sqlite().start();
    relay.kill();
    let homes = Homes::new();
    let a = homes.device("a");
    a.fail(3, &["init", "--relay", &relay.url]);
    assert!(!a.home.exists());
}

#[test]
fn a_name_given_without_a_relay_is_shown_at_once_and_what_the_others_know_beside_it() {
    let setup = RelaySetup::sqlite();
    let (mut relay, _homes, a, b) = pair(&setup);
    relay.kill();
    a.succeed(&["rename", "desk"]);
    let said = a.succeed(&["devices"]);
    assert!(said.contains("desk (this device; the others know it as a until it reaches a relay)"), "{said}");
    let own = a.json(&["devices"]).into_iter().find(|device| device["own"] == true).expect("this device");
    assert_eq!((&own["name"], &own["known_as"]), (&"desk".into(), &"a".into()));

    let _relay = setup.restart(&relay);
    a.succeed(&["push", "renamed"]);
    for device in [&a, &b] {
        let said = device.succeed(&["devices"]);
        assert!(said.contains("  desk") && !said.contains("know it as"), "{said}");
    }
}
