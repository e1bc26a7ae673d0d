//! The suite again, on Postgres and on two instances on one Postgres: this very program, told to.
//!
//! What is about one process alone (its HTTP, its connections, its operator) runs once.

use std::process::Command;

use zerok_sync_testkit::postgres::shared;

use crate::support::stores::{DATABASE_VARIABLE, STORE_VARIABLE};

/// About one process and its own limits, whatever its store, or about instances by name.
const ONCE: &[&str] = &["everywhere::", "instances::", "bad_input::", "operator::", "limits::", "limits_connections::"];

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
    for test in ONCE {
        suite.args(["--skip", test]);
    }
    let output = suite.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "on {store}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("running 0 tests"), "there is a suite to run");
}
