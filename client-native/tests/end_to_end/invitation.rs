//! Who is let in, and who is not.

use crate::support::{Homes, RelaySetup};

#[test]
fn the_person_sees_name_and_digits_and_says_yes() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);

    let mut inviting = a.invite(&[]);
    inviting.answer("y");
    let joined = b.run(&["join", &inviting.link, "--name", "laptop"]);
    let invited = inviting.end();

    assert_eq!((joined.code, invited.code), (0, 0), "{} {}", joined.stderr, invited.stderr);
    assert!(invited.stderr.contains("\"laptop\""), "{}", invited.stderr);
    let digits = joined.stderr.split("shows ").nth(1).unwrap()[..2].to_owned();
    assert!(invited.stderr.contains(&format!("It shows {digits}.")), "{} {}", joined.stderr, invited.stderr);
}

#[test]
fn who_is_declined_gets_nothing() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);

    let mut inviting = a.invite(&[]);
    inviting.answer("n");
    let said = b.fail(5, &["join", &inviting.link]);
    assert!(said.contains("declined"), "{said}");
    assert_ne!(inviting.end().code, 0);
    assert!(!b.home.exists());
    assert_eq!(a.json(&["devices"]).len(), 1);
}

#[test]
fn a_link_lets_one_device_in() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b, c) = (homes.device("a"), homes.device("b"), homes.device("c"));
    a.init(&relay);
    let inviting = a.invite(&["--yes"]);
    let link = inviting.link.clone();
    b.succeed(&["join", &link]);
    assert_eq!(inviting.end().code, 0);

    let said = c.fail(5, &["join", &link]);
    assert!(said.contains("used, cancelled or has expired"), "{said}");
    assert!(!c.home.exists());
}

#[test]
fn an_invitation_expires_for_both_sides() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);
    let inviting = a.invite(&["--yes", "--ttl", "1s"]);
    let link = inviting.link.clone();
    let ended = inviting.end();
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("new invitation"), "{}", ended.stderr);
    b.fail(5, &["join", &link]);
    assert!(!b.home.exists());
}

#[test]
fn an_inviter_that_dies_leaves_no_open_door() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);
    let inviting = a.invite(&["--yes"]);
    let link = inviting.link.clone();
    inviting.kill();
    b.fail(5, &["join", &link]);
    assert!(!b.home.exists());
    assert_eq!(a.json(&["devices"]).len(), 1);
}

#[cfg(unix)]
#[test]
fn an_interrupted_invitation_is_taken_back_at_once() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);
    let inviting = a.invite(&["--yes"]);
    let link = inviting.link.clone();
    inviting.interrupt();
    let ended = inviting.end();
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("cancelled"), "{}", ended.stderr);
    b.fail(5, &["join", &link]);
}

#[test]
fn a_member_cannot_join_again_in_the_same_home() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let a = homes.device("a");
    a.init(&relay);
    let b = homes.device("b");
    b.init(&relay);
    let inviting = a.invite(&["--yes"]);
    let said = b.fail(1, &["join", &inviting.link]);
    assert!(said.contains("already holds a group"), "{said}");
    b.succeed(&["status"]);
    inviting.kill();
}
