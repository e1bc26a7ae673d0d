//! Garbage in arguments, links, addresses and local files: a sentence and a stable exit code, and
//! nothing overwritten.

use std::process::Stdio;

use crate::support::{Homes, RelaySetup, pair};

#[test]
fn arguments_that_make_no_sense_are_usage_errors() {
    let homes = Homes::new();
    let a = homes.device("a");
    for arguments in [
        &["frobnicate"][..],
        &["push"],
        &["push", "text", "--file", "x"],
        &["push", "text", "--wait", "forever"],
        &["push", "text", "--timeout", "soon"],
        &["pull", "--after", "-1"],
        &["pull", "--limit", "many"],
        &["invite", "--ttl", "1d"],
        &["invite", "--ttl", "0s"],
        &["init"],
        &["init", "--relay", "http://127.0.0.1:1", "--relay-key", "abc"],
        &["--transport", "pigeon", "status"],
        &["join"],
    ] {
        a.fail(2, arguments);
    }
    assert!(!a.home.exists());
}

#[test]
fn what_is_no_relay_address_is_a_usage_error() {
    let homes = Homes::new();
    let a = homes.device("a");
    for url in ["", "relay.example", "ftp://relay.example", "http://", "https://relay.example/path", "http://[::1"] {
        a.fail(2, &["init", "--relay", url]);
    }
    assert!(!a.home.exists());
}

#[test]
fn a_full_group_and_a_relay_that_makes_no_more_are_told_apart_by_exit_code() {
    let setup = RelaySetup::sqlite().with(&["--group-bytes-max", "64 KiB", "--groups-per-address-per-day", "1"]);
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);
    let large = homes.device("large").home;
    std::fs::write(&large, vec![7; 100_000]).unwrap();
    let large = large.to_str().unwrap();

    a.fail(6, &["push", "--file", large]);
    // What is over the quota stays in the outbox, in its order: a smaller one does not overtake it.
    a.fail(6, &["push", "small"]);
    b.fail(5, &["init", "--relay", &relay.url]);
}

#[test]
fn what_is_no_link_is_refused_with_the_reason() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);
    let inviting = a.invite(&["--yes"]);
    let link = inviting.link.clone();

    let cut_off = &link[..link.len() - 3];
    let said = b.fail(2, &["join", cut_off]);
    assert!(said.contains("cut off"), "{said}");
    for garbage in ["", "hello", "https://relay.example", "zerok://pair#0k1.", &"x".repeat(5000)] {
        b.fail(2, &["join", garbage]);
    }
    assert!(!b.home.exists());

    b.succeed(&["join", &link]);
    assert_eq!(inviting.end().code, 0, "garbage did not use the invitation up");
}

#[test]
fn a_wrong_relay_key_is_refused_before_anything_is_sent() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let a = homes.device("a");
    let said = a.fail(4, &["init", "--relay", &relay.url, "--relay-key", &"11".repeat(32)]);
    assert!(said.contains("another key"), "{said}");
    assert!(!a.home.exists());
    a.succeed(&["init", "--relay", &relay.url, "--relay-key", &relay.key]);
}

#[test]
fn a_joiner_that_knows_another_relay_key_does_not_go_in() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);
    let inviting = a.invite(&["--yes"]);
    b.fail(4, &["join", &inviting.link, "--relay-key", &"11".repeat(32)]);
    assert!(!b.home.exists());
    inviting.kill();
}

#[test]
fn plain_http_to_another_machine_needs_its_key() {
    let homes = Homes::new();
    let a = homes.device("a");
    let said = a.fail(2, &["init", "--relay", "http://relay.invalid:8080"]);
    assert!(said.contains("--relay-key"), "{said}");
    assert!(!a.home.exists());
}

#[test]
fn an_http_server_that_is_no_relay_is_said_to_be_none() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let _ = std::io::Read::read(&mut socket, &mut [0; 4096]);
            let _ = std::io::Write::write_all(&mut socket, b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let homes = Homes::new();
    let said = homes.device("a").fail(3, &["init", "--relay", &url]);
    assert!(said.contains("does not speak this protocol"), "{said}");
}

#[test]
fn a_home_without_a_group_says_what_to_do() {
    let homes = Homes::new();
    let a = homes.device("a");
    for command in [&["status"][..], &["push", "x"], &["pull"], &["invite"], &["devices"], &["verify"]] {
        let said = a.fail(1, command);
        assert!(said.contains("`init`"), "{said}");
    }
    assert!(!a.home.exists());
}

#[test]
fn a_second_group_does_not_fit_into_a_home() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let a = homes.device("a");
    a.init(&relay);
    let device = a.json(&["status"])[0]["device"].clone();
    a.fail(1, &["init", "--relay", &relay.url]);
    assert_eq!(a.json(&["status"])[0]["device"], device);
}

#[test]
fn a_damaged_local_database_is_said_and_not_overwritten() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, _b) = pair(&setup);
    let path = a.home.join("state.db");
    let sound = std::fs::read(&path).unwrap();
    let mut truncated = sound.clone();
    truncated.truncate(sound.len() / 2);
    for damaged in [truncated, b"garbage".repeat(1000), Vec::new()] {
        std::fs::write(&path, &damaged).unwrap();
        for command in [&["pull"][..], &["push", "x"], &["init", "--relay", "http://127.0.0.1:1"]] {
            let said = a.fail(1, command);
            assert!(said.contains("not overwritten"), "{said}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
    std::fs::write(&path, sound).unwrap();
    a.succeed(&["pull"]);
}

#[test]
fn a_store_key_of_another_home_opens_nothing() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, b) = pair(&setup);
    let before = std::fs::read(a.home.join("state.db")).unwrap();
    std::fs::copy(b.home.join("store.key"), a.home.join("store.key")).unwrap();
    let said = a.fail(1, &["push", "x"]);
    assert!(said.contains("another key"), "{said}");
    assert_eq!(std::fs::read(a.home.join("state.db")).unwrap(), before);
}

#[test]
fn a_home_in_use_names_the_process_that_holds_it() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, b) = pair(&setup);
    a.succeed(&["push", "hello"]);
    let mut following = b.command(&["pull", "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    // A line printed shows that it has the home open.
    let mut first = [0; 6];
    std::io::Read::read_exact(following.stdout.as_mut().unwrap(), &mut first).unwrap();
    let said = b.fail(1, &["push", "x"]);
    assert!(said.contains(&format!("process {}", following.id())), "{said}");
    following.kill().unwrap();
    following.wait().unwrap();
    b.succeed(&["push", "x"]);
}

#[test]
fn a_blob_over_the_limit_is_refused_and_not_queued() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, b) = pair(&setup);
    let file = a.home.join("blob");
    std::fs::write(&file, vec![b'x'; zerok_sync::PUSH_BYTES_MAX + 1]).unwrap();
    a.fail(6, &["push", "--file", file.to_str().unwrap()]);
    assert_eq!(a.json(&["status"])[0]["outbox"], 0);

    std::fs::write(&file, b"small").unwrap();
    a.succeed(&["push", "--file", file.to_str().unwrap()]);
    assert_eq!(b.succeed(&["pull"]), "small\n");
}

#[test]
fn a_relay_that_takes_no_new_groups_is_said_so() {
    let setup = RelaySetup::sqlite().with(&["--create", "closed"]);
    let relay = setup.start();
    let homes = Homes::new();
    let a = homes.device("a");
    let said = a.fail(5, &["init", "--relay", &relay.url]);
    assert!(said.contains("does not take new groups"), "{said}");
    assert!(!a.home.exists());
}

#[test]
fn where_a_token_is_needed_the_right_one_founds_a_group() {
    let setup = RelaySetup::sqlite().with(&["--create", "token:open-sesame"]);
    let relay = setup.start();
    let homes = Homes::new();
    let a = homes.device("a");
    a.fail(5, &["init", "--relay", &relay.url]);
    a.fail(5, &["init", "--relay", &relay.url, "--token", "sesame"]);
    a.succeed(&["init", "--relay", &relay.url, "--token", "open-sesame"]);
}
