//! Who is let in, and who is not.

use crate::support::{Homes, RelaySetup};

/// Other digits than these.
fn other_than(digits: &str) -> String {
    format!("{:02}", (digits.parse::<u8>().unwrap() + 1) % 100)
}

#[test]
fn a_code_read_out_and_the_digits_typed_let_a_device_in() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);
    a.succeed(&["push", "old"]);

    let mut inviting = a.invite_by_code(&[]);
    assert_eq!((inviting.link.len(), inviting.link.find('-')), (9, Some(4)), "{}", inviting.link);
    let typed = inviting.link.to_lowercase().replace('-', " ");
    let mut joining = b.join(&[&typed, "--relay", &relay.url, "--name", "laptop"]);
    let digits = joining.digits();
    inviting.answer("what?");
    inviting.answer(&digits);
    let (joined, invited) = (joining.end(), inviting.end());

    assert_eq!((joined.code, invited.code), (0, 0), "{} {}", joined.stderr, invited.stderr);
    assert!(invited.stderr.contains("\"laptop\" wants to join the group (a)"), "{}", invited.stderr);
    assert!(invited.stderr.contains("1 entry to begin with"), "{}", invited.stderr);
    assert!(invited.stderr.contains("type the two digits"), "no answer costs nothing: {}", invited.stderr);
    assert!(!invited.stderr.contains(&format!("shows {digits}")), "the digits are read off the other device only");
    assert!(joined.stderr.contains("\"a\" lets this device into its group"), "{}", joined.stderr);
    assert_eq!(b.succeed(&["pull"]), "old\n");
    assert_eq!(a.json(&["devices"]).len(), 2);
}

#[test]
fn d_pair_01_wrong_digits_end_it_for_both_with_a_sentence() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);
    let mut inviting = a.invite_by_code(&[]);
    let code = inviting.link.clone();
    let mut joining = b.join(&[&code, "--relay", &relay.url]);
    inviting.answer(&other_than(&joining.digits()));
    for ended in [joining.end(), inviting.end()] {
        assert_eq!(ended.code, 5, "{}", ended.stderr);
        assert!(ended.stderr.contains("not the ones that the joining device shows"), "{}", ended.stderr);
        assert!(ended.stderr.contains("new invitation"), "{}", ended.stderr);
    }
    assert!(!b.home.exists());
    assert_eq!(a.json(&["devices"]).len(), 1);
    b.fail(5, &["join", &code, "--relay", &relay.url]);
}

#[test]
fn a_typo_in_a_code_does_not_cost_the_try() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);
    let inviting = a.invite_by_code(&["--yes"]);
    let code = inviting.link.clone();
    let last = if code.ends_with('7') { "8" } else { "7" };
    let said = b.fail(2, &["join", &format!("{}{last}", &code[..8]), "--relay", &relay.url]);
    assert!(said.contains("typo"), "{said}");
    let said = b.fail(2, &["join", &code]);
    assert!(said.contains("--relay"), "{said}");
    b.succeed(&["join", &code, "--relay", &relay.url]);
    assert_eq!(inviting.end().code, 0);
}

#[test]
fn a_code_is_for_one_relay_only() {
    let (setup, other) = (RelaySetup::sqlite(), RelaySetup::sqlite());
    let (relay, other) = (setup.start(), other.start());
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);
    let inviting = a.invite_by_code(&["--yes"]);
    let said = b.fail(2, &["join", &inviting.link]);
    assert!(said.contains("with --relay URL or in ZEROK_RELAY"), "{said}");
    let said = b.fail(5, &["join", &inviting.link, "--relay", &other.url]);
    assert!(said.contains("another relay"), "{said}");
    assert!(!b.home.exists());
    b.succeed(&["join", &inviting.link, "--relay", &relay.url]);
    assert_eq!(inviting.end().code, 0);
}

#[cfg(unix)]
#[test]
fn d_pair_02_a_joiner_interrupted_before_the_answer_tells_the_inviter_and_can_start_again() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);
    let inviting = a.invite_by_code(&[]);
    let mut joining = b.join(&[&inviting.link, "--relay", &relay.url]);
    joining.digits();
    joining.interrupt();
    let joined = joining.end();
    assert_eq!(joined.code, 1, "{}", joined.stderr);
    assert!(joined.stderr.contains("cancelled"), "{}", joined.stderr);
    let invited = inviting.wait();
    assert_eq!(invited.code, 1, "{}", invited.stderr);
    assert!(invited.stderr.contains("gave up before it was let in"), "{}", invited.stderr);
    assert!(!b.home.exists());
    a.let_in(&b);
}

#[test]
fn the_link_is_on_the_first_line_and_the_qr_code_beside_it() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);
    let inviting = a.invite(&["--yes", "--qr", "--base-url", "https://app.example/pair"]);
    assert!(inviting.link.starts_with("https://app.example/pair#0k1."), "{}", inviting.link);
    b.succeed(&["join", &inviting.link]);
    let ended = inviting.end();
    assert_eq!(ended.stdout, "", "nothing else goes to stdout");
    assert!(ended.stderr.lines().filter(|line| line.contains('█')).count() > 15, "{}", ended.stderr);
}

#[test]
fn who_is_declined_gets_nothing() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);

    let mut inviting = a.invite(&[]);
    inviting.answer("");
    let said = b.fail(5, &["join", &inviting.link]);
    assert!(said.contains("turned the other one away"), "{said}");
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
fn d_key_01_a_device_of_another_group_joins_nothing_over_it_and_pushes_nothing() {
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

#[test]
fn d_key_01_a_second_device_with_another_group_secret_or_key_writes_nothing_into_the_log() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, other, stranger) = (homes.device("a"), homes.device("other"), homes.device("stranger"));
    a.init(&relay);
    a.succeed(&["push", "--wait", "relay", "mine"]);
    let database = rusqlite::Connection::open(setup.directory().join("relay.db")).unwrap();
    let log: Vec<u8> = database.query_row("SELECT group_id FROM groups", [], |row| row.get(0)).unwrap();
    let entries = || -> i64 {
        database.query_row("SELECT count(*) FROM entries WHERE group_id = ?1", [&log], |row| row.get(0)).unwrap()
    };
    let before = entries();

    // Another group at the same relay: what it pushes goes into a log of its own.
    other.init(&relay);
    other.succeed(&["push", "--wait", "relay", "not theirs"]);
    let inviting = a.invite(&["--yes"]);
    other.fail(1, &["join", &inviting.link]);
    // Another secret: the invitation leads nowhere, and no home comes of it.
    let last = inviting.link.chars().last().unwrap();
    let forged = inviting.link.strip_suffix(last).unwrap().to_owned() + if last == 'A' { "Q" } else { "A" };
    let refused = stranger.run(&["join", &forged]);
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    inviting.kill();
    // Another key of the relay: refused before anything is said.
    stranger.fail(4, &["init", "--relay", &relay.url, "--relay-key", &"11".repeat(32)]);
    let unfounded = stranger.run(&["push", "from nowhere"]);
    assert_ne!(unfounded.code, 0, "{}", unfounded.stdout);

    assert_eq!(entries(), before);
    assert_eq!(a.succeed(&["pull"]), "");
    assert_eq!(a.json(&["status"])[0]["devices"], 1);
    a.succeed(&["verify"]);
}
