//! The commands around the relay: what they print, what they leave alone, their exit codes.

use std::path::Path;

use serde_json::Value;

use crate::support::{Running, command, relay};

fn succeed(dir: &Path, args: &[&str]) -> String {
    let (code, stdout, stderr) = command(dir, args);
    assert_eq!(code, Some(0), "{args:?}: {stderr}");
    stdout
}

#[test]
fn every_command_has_a_help_with_an_example() {
    let dir = tempfile::tempdir().unwrap();
    let help = succeed(dir.path(), &["--help"]);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"serve") && commands.contains(&"check-config"), "{commands:?}");
    for name in commands {
        let help = succeed(dir.path(), &[name, "--help"]);
        assert!(help.contains("Example: zerok-relay "), "{name}: {help}");
    }
}

#[test]
fn an_unknown_command_or_flag_suggests_the_near_one() {
    let dir = tempfile::tempdir().unwrap();
    for (typed, meant) in [
        ("doctr", "doctor"),
        ("declare-restor", "declare-restore"),
        ("chek-config", "check-config"),
        ("--lissten=x", "--listen"),
    ] {
        let (code, _, stderr) = command(dir.path(), &[typed]);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(meant), "{typed}: {stderr}");
    }
}

#[test]
fn serve_is_what_happens_without_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(dir.path(), &["serve", "--no-iroh"]);
    assert_eq!(relay.stop("-TERM").status.code(), Some(0));
}

#[test]
fn check_config_says_what_holds_and_where_it_was_set_and_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("relay.toml"), "iroh_port = 7\ncreate = \"token:hunter2\"").unwrap();
    let args = ["check-config", "--store", "postgres://u:hunter3@nowhere.invalid/d", "--json"];
    let mut check = relay(dir.path());
    let output = check.args(args).env("ZEROK_RELAY_LOG", "debug").output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !stdout.contains("hunter"), "{stdout}");
    let shown: Value = serde_json::from_str(&stdout).unwrap();
    let setting = |name: &str| {
        let all = shown["settings"].as_array().unwrap();
        let one = all.iter().find(|setting| setting["name"] == name).unwrap();
        (one["value"].as_str().unwrap().to_owned(), one["source"].as_str().unwrap().to_owned())
    };
    let pair = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(setting("iroh_port"), pair("7", "iroh_port in relay.toml"));
    assert_eq!(setting("create"), pair("token:[redacted]", "create in relay.toml"));
    assert_eq!(setting("store"), pair("postgres://u:[redacted]@nowhere.invalid/d", "--store"));
    assert_eq!(setting("log"), pair("debug", "ZEROK_RELAY_LOG"));
    assert_eq!(setting("listen"), pair("127.0.0.1:8080", "default"));
    assert!(!dir.path().join("data").exists(), "nothing was made");

    let (code, stdout, stderr) = command(dir.path(), &["check-config", "--iroh-port", "70000"]);
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(2), "", 1), "{stderr}");
}

#[test]
fn keys_show_tells_what_the_relay_tells_and_makes_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, stderr) = command(dir.path(), &["keys", "show"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("the relay makes one at its first start"), "{stderr}");
    assert!(!dir.path().join("data").exists());

    let relay = Running::start(dir.path(), &[]);
    let (key, iroh) = (relay.field("key").to_owned(), relay.field("iroh").to_owned());
    relay.stop("-TERM");
    let shown: Value = serde_json::from_str(&succeed(dir.path(), &["keys", "show", "--json"])).unwrap();
    assert_eq!((shown["noise_key"].as_str().unwrap(), shown["iroh_endpoint_id"].as_str().unwrap()), (&*key, &*iroh));
    let secret = std::fs::read_to_string(dir.path().join("data/relay.key")).unwrap();
    assert!(!succeed(dir.path(), &["keys", "show"]).contains(secret.trim()));
}

#[test]
fn several_relays_on_one_postgres_show_one_key() {
    let url = zerok_sync_testkit::postgres::shared().database();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(succeed(one.path(), &["migrate", "--store", &url]), "the database has this version's tables\n");
    assert_eq!(command(one.path(), &["keys", "show", "--store", &url]).0, Some(1), "no relay has run");

    let relay = Running::start(one.path(), &["--no-iroh", "--store", &url]);
    let shown = succeed(two.path(), &["keys", "show", "--store", &url]);
    assert!(shown.contains(relay.field("key")) && shown.contains("the database"), "{shown}");
    relay.stop("-TERM");
}
