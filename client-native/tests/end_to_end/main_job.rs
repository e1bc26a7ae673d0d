//! Found a group, let a device in, push on one, pull on the other: on every store and transport.

use zerok_sync_testkit::postgres;

use crate::support::{Homes, RelaySetup, pair};

fn hello_travels(setup: &RelaySetup, transport: &'static str) {
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b").over(transport));
    a.init(&relay);
    a.let_in(&b);
    a.succeed(&["push", "hello"]);
    assert_eq!(b.succeed(&["pull"]), "hello\n");
    b.succeed(&["push", "hello yourself"]);
    assert_eq!(a.succeed(&["pull"]), "hello yourself\n");
    assert_eq!(b.succeed(&["pull"]), "", "each entry once");
    let file = b.home.join("blob");
    // Larger than an entry can be, and no part of it like another.
    let text: String = (0..750_000).map(|n| format!("{n:07}")).collect();
    std::fs::write(&file, &text).unwrap();
    b.succeed(&["push", "--file", file.to_str().unwrap()]);
    assert!(a.succeed(&["pull"]).trim_end() == text, "5 MiB, in one piece");
    a.succeed(&["verify"]);
    b.succeed(&["verify"]);
}

#[test]
fn hello_travels_on_sqlite_over_websocket() {
    hello_travels(&RelaySetup::sqlite(), "ws");
}

#[test]
fn hello_travels_on_postgres() {
    let database = postgres::shared().database();
    hello_travels(&RelaySetup::sqlite().with(&["--store", &database]), "ws");
}

#[test]
fn hello_travels_between_websocket_and_iroh() {
    hello_travels(&RelaySetup::sqlite(), "iroh");
}

#[test]
fn iroh_is_not_replaced_by_something_else_where_it_was_asked_for() {
    let relay = RelaySetup::sqlite().with(&["--no-iroh"]);
    let relay_process = relay.start();
    let homes = Homes::new();
    let said = homes.device("a").over("iroh").fail(3, &["init", "--relay", &relay_process.url]);
    assert!(said.contains("--transport ws"), "{said}");
}

#[test]
fn a_joiner_gets_what_was_there_before_it() {
    let setup = RelaySetup::sqlite();
    let (_relay, homes, a, b) = pair(&setup);
    a.succeed(&["push", "one"]);
    b.succeed(&["push", "two"]);
    let c = homes.device("c");
    b.let_in(&c);
    let mut pulled: Vec<String> = c.succeed(&["pull"]).lines().map(Into::into).collect();
    pulled.sort();
    assert_eq!(pulled, ["one", "two"]);

    let names = |device: &crate::support::Device| -> Vec<String> {
        let mut names: Vec<String> =
            device.json(&["devices"]).iter().map(|device| device["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    for device in [a, b, c] {
        assert_eq!(names(&device), ["a", "b", "c"]);
    }
}
