//! The core and the protocol do no I/O: nothing that opens sockets or files, reads a clock or asks
//! the operating system for randomness is among what they are built from, so both run in a browser
//! worker and in a simulation alike.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Crates that do I/O, or that bring a runtime, a clock or the system's random numbers.
const FORBIDDEN: [&str; 26] = [
    "async-std",
    "chrono",
    "curl",
    "getrandom",
    "gloo",
    "hyper",
    "instant",
    "iroh",
    "js-sys",
    "libc",
    "mio",
    "rand",
    "reqwest",
    "ring",
    "rusqlite",
    "rustix",
    "smol",
    "socket2",
    "time",
    "tokio",
    "tokio-postgres",
    "tokio-tungstenite",
    "wasm-bindgen",
    "web-sys",
    "web-time",
    "windows-sys",
];

/// Names of the crates that `package` is built from as a library (no tests, no build scripts) for the
/// browser's target, which no driver of another platform hides behind.
fn built_from(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"])
        .args(["--target", "wasm32-unknown-unknown", "--package", package])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("names are UTF-8");
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn forbidden_in(crates: &BTreeSet<String>) -> Vec<&str> {
    FORBIDDEN.into_iter().filter(|name| crates.contains(*name)).collect()
}

#[test]
fn the_core_and_the_protocol_are_built_from_nothing_that_does_io() {
    for (package, witness) in [("zerok-sync-core", "x-wing"), ("zerok-sync-protocol", "snow")] {
        let crates = built_from(package);
        assert!(crates.contains(package) && crates.contains(witness), "an empty tree shows nothing: {crates:?}");
        assert_eq!(forbidden_in(&crates), Vec::<&str>::new(), "in {package}");
    }
}

#[test]
fn the_relay_as_a_counterexample_is_found_to_do_io() {
    assert!(forbidden_in(&built_from("zerok-sync-relay")).contains(&"tokio"));
}
