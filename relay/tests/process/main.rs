//! The binary as an operator meets it: flags, the ready line, its files, signals, its logs.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../session/support/mod.rs"]
#[allow(dead_code, reason = "shared with the session tests, which use the rest")]
mod client;
mod commands;
mod database;
mod doctor;
mod faults;
mod full_database;
mod health;
mod logs;
mod start;
mod stop;
mod support;
mod upkeep;

use std::process::Command;

use support::Running;

#[test]
fn one_line_on_stdout_says_that_it_is_ready_and_how_to_reach_it() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(dir.path(), &[]);
    assert_eq!(relay.field("key").len(), 64);
    assert_eq!(relay.field("iroh").len(), 64);
    assert!(relay.get("/health").ends_with("\r\n\r\nok\n"));

    let described = relay.get("/.well-known/0k-sync");
    let (head, body) = described.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["noise_key"], relay.field("key"));
    assert_eq!(body["iroh"][0]["endpoint_id"], relay.field("iroh"));
    assert!(body["iroh"][0]["addrs"][0].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(body["protocol"]["suite"], 1);

    let output = relay.stop("-TERM");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8(output.stderr).unwrap().contains("open http://127.0.0.1:"));
}

#[test]
fn without_iroh_the_ready_line_says_none() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(dir.path(), &["--no-iroh"]);
    assert_eq!(relay.field("iroh"), "none");
    assert!(relay.get("/.well-known/0k-sync").contains("\"iroh\":[]"));
    assert_eq!(relay.stop("-INT").status.code(), Some(0));
}

#[test]
fn a_restart_keeps_both_identities() {
    let dir = tempfile::tempdir().unwrap();
    let first = Running::start(dir.path(), &[]);
    let keys = (first.field("key").to_owned(), first.field("iroh").to_owned());
    first.stop("-KILL");
    let second = Running::start(dir.path(), &[]);
    assert_eq!((second.field("key").to_owned(), second.field("iroh").to_owned()), keys);
    second.stop("-TERM");
}

#[test]
fn the_demo_is_served_with_the_right_types_and_headers() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("web-demo/dist/assets");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("client-1a2b.wasm"), b"\0asm").unwrap();
    std::fs::write(root.join("index-1a2b.js"), b"export {}").unwrap();
    std::fs::write(root.parent().unwrap().join("index.html"), b"<!doctype html>").unwrap();
    let relay = Running::start(dir.path(), &["--no-iroh"]);
    let page = relay.get("/");
    assert!(page.contains("content-type: text/html") && page.contains("cache-control: no-cache"), "{page}");
    assert!(page.contains("'wasm-unsafe-eval'") && page.contains("nosniff"), "{page}");
    let wasm = relay.get("/assets/client-1a2b.wasm");
    assert!(wasm.contains("content-type: application/wasm") && wasm.contains("immutable"), "{wasm}");
    assert!(relay.get("/assets/index-1a2b.js").contains("content-type: text/javascript"));
    assert!(relay.get("/assets/missing.js").starts_with("HTTP/1.1 404"));
    relay.stop("-TERM");
}

#[test]
fn a_file_that_lies_there_compressed_is_sent_compressed_to_whoever_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("web-demo/dist/assets");
    std::fs::create_dir_all(&root).unwrap();
    for (suffix, bytes) in [("", "raw"), (".br", "brotli"), (".gz", "gzip")] {
        std::fs::write(root.join(format!("client-1a2b.wasm{suffix}")), bytes).unwrap();
    }
    let relay = Running::start(dir.path(), &["--no-iroh"]);
    for (accepted, expected) in [("gzip, br", "brotli"), ("gzip", "gzip"), ("identity", "raw")] {
        let answer = relay.get_with("/assets/client-1a2b.wasm", &format!("Accept-Encoding: {accepted}"));
        assert!(answer.contains("content-type: application/wasm") && answer.contains("immutable"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
        assert!(answer.to_lowercase().contains("vary: accept-encoding"), "{answer}");
    }
    relay.stop("-TERM");
}

#[test]
fn without_a_demo_the_page_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(dir.path(), &["--no-iroh"]);
    assert!(relay.get("/").contains("This relay is running"));
    relay.stop("-TERM");
}

#[test]
fn the_code_that_could_open_an_envelope_is_not_in_the_relay() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let name_of = |id: &str| {
        let package = metadata["packages"].as_array().unwrap().iter().find(|package| package["id"] == id).unwrap();
        package["name"].as_str().unwrap().to_owned()
    };
    let mut waiting: Vec<String> = nodes
        .iter()
        .map(|node| node["id"].as_str().unwrap().to_owned())
        .filter(|id| name_of(id) == "zerok-sync-relay")
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    while let Some(id) = waiting.pop() {
        let node = nodes.iter().find(|node| node["id"] == id.as_str()).unwrap();
        for dependency in node["deps"].as_array().unwrap() {
            // Kind null is an ordinary dependency; tests may use what they like.
            let ordinary = dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null());
            let package = dependency["pkg"].as_str().unwrap().to_owned();
            if ordinary && seen.insert(package.clone()) {
                waiting.push(package);
            }
        }
    }
    let names: Vec<String> = seen.iter().map(|id| name_of(id)).collect();
    assert!(names.iter().any(|name| name == "zerok-sync-protocol"), "the walk found something");
    assert!(!names.iter().any(|name| name == "zerok-sync-core"));
}
