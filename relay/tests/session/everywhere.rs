//! The suite again, on Postgres and on two instances on one Postgres: this very program, told to.
//!
//! What is about one process alone (its HTTP, its connections, its limits, its operator) runs once.

use std::process::Command;

use zerok_sync_testkit::postgres::shared;

use crate::support::stores::{DATABASE_VARIABLE, STORE_VARIABLE};

/// What every store must hold to.
const SUITE: &[&str] =
    &["hello::", "log::", "mailbox::", "member::", "push::", "removal::", "retention::", "subscribe::"];

#[test]
fn the_suite_passes_on_postgres() {
    run_on("postgres");
}

#[test]
fn the_suite_passes_on_two_instances_on_one_postgres() {
    run_on("instances");
}

fn run_on(store: &str) {
    let mut suite = Command::new(std::env::current_exe().unwrap());
    suite.env(STORE_VARIABLE, store).env(DATABASE_VARIABLE, shared().database());
    let output = suite.args(SUITE).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "on {store}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("running 0 tests"), "there is a suite to run");
}
