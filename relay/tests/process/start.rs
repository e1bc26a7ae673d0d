//! What can be wrong at the start: each is one sentence that says what to do, with the right exit
//! code, and nothing on disk is changed by it.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Running, run};

#[test]
fn a_key_file_wins_over_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "77".repeat(32)).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let named = Running::start(dir.path(), &["--no-iroh", "--key-file", key.to_str().unwrap()]);
    let public = named.field("key").to_owned();
    named.stop("-TERM");
    let unnamed = Running::start(dir.path(), &["--no-iroh"]);
    assert_ne!(unnamed.field("key"), public);
    unnamed.stop("-TERM");
}

#[test]
fn a_damaged_key_or_database_stops_it_and_is_left_as_it_is() {
    for file in ["relay.key", "iroh.key", "relay.db"] {
        let dir = tempfile::tempdir().unwrap();
        Running::start(dir.path(), &[]).stop("-TERM");
        let path = dir.path().join("data").join(file);
        std::fs::write(&path, "damaged by something else, and long enough to be noticed").unwrap();
        let (code, stderr) = run(dir.path(), &["--listen", "127.0.0.1:0"]);
        assert_eq!(code, Some(1), "{file}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{file}: {stderr}");
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("damaged"), "{file}");
    }
}

#[test]
fn usage_errors_are_one_sentence_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["--listen", "nowhere"][..], &["--store", "mysql://x"], &["--config", "missing.toml"]] {
        let (code, stderr) = run(dir.path(), args);
        assert_eq!((code, stderr.lines().count()), (Some(2), 1), "{args:?}: {stderr}");
    }
    assert_eq!(run(dir.path(), &["--lissten", "x"]).0, Some(2));
    std::fs::write(dir.path().join("relay.toml"), "lissten = \"127.0.0.1:0\"").unwrap();
    let (code, stderr) = run(dir.path(), &[]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("did you mean listen?"), "{stderr}");
}

#[test]
fn an_address_in_use_is_said_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, stderr) = run(dir.path(), &["--no-iroh", "--listen", &other.local_addr().unwrap().to_string()]);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("choose another with --listen"), "{stderr}");
}

#[test]
fn a_udp_port_in_use_is_said_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let (code, stderr) = run(dir.path(), &["--listen", "127.0.0.1:0", "--iroh-port", &port]);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains(&port) && stderr.contains("choose another --iroh-port, or --no-iroh"), "{stderr}");
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    Running::start(dir.path(), &[]).stop("-TERM");
    for file in ["relay.key", "iroh.key"] {
        let path = dir.path().join("data").join(file);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let (code, stderr) = run(dir.path(), &["--listen", "127.0.0.1:0"]);
        assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.contains(&format!("run `chmod 600 {}`", path.display())), "{stderr}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }
    Running::start(dir.path(), &[]).stop("-TERM");
}

#[test]
fn a_key_file_that_is_a_folder_or_missing_is_said_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    for (path, expected) in [("/nonexistent/key", "does not exist"), ("/tmp", "cannot read the key file /tmp")] {
        let (code, stderr) = run(dir.path(), &["--listen", "127.0.0.1:0", "--key-file", path]);
        assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}
