//! `zerok-relay doctor`: finds what is wrong, and nothing where nothing is.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::database::{sql, stoppable};
use crate::support::{Running, relay};

/// Exit code, and verdict and message by name.
type Diagnosis = (Option<i32>, BTreeMap<String, (String, String)>);

fn diagnose(command: &mut Command) -> Diagnosis {
    let output = command.arg("--json").output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |check: &Value, field: &str| check[field].as_str().unwrap().to_owned();
    let checks = found["checks"].as_array().unwrap().iter();
    let by_name = checks.map(|check| (text(check, "name"), (text(check, "verdict"), text(check, "message")))).collect();
    assert_eq!(found["healthy"], output.status.success());
    (output.status.code(), by_name)
}

fn doctor(dir: &Path, args: &[&str]) -> Diagnosis {
    diagnose(relay(dir).arg("doctor").args(args))
}

fn failures((_, checks): &Diagnosis) -> Vec<&str> {
    checks.iter().filter(|(_, (verdict, _))| verdict == "fail").map(|(name, _)| name.as_str()).collect()
}

#[test]
fn before_the_first_start_it_finds_nothing_wrong_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let found = doctor(dir.path(), &["--listen", "127.0.0.1:0"]);
    assert_eq!((found.0, failures(&found)), (Some(0), vec![]), "{found:?}");
    assert_eq!(found.1["keys"].1, "there is no key yet: the relay makes one at its first start");
    assert!(found.1["database"].1.ends_with("is made at the first start"), "{found:?}");
    assert!(found.1["flush to disk"].1.contains(" ms at the median"), "{found:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_running_relay_is_recognised_inside_and_outside() {
    let dir = tempfile::tempdir().unwrap();
    Running::start(dir.path(), &[]).stop("-TERM");
    let files = || {
        let names = std::fs::read_dir(dir.path().join("data")).unwrap().map(|file| file.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let before = files();
    let found = doctor(dir.path(), &["--listen", "127.0.0.1:0"]);
    assert!(found.1["database"].1.ends_with("no relay runs on it"), "{found:?}");
    assert_eq!(found.1["durability"].0, "ok", "{found:?}");
    assert_eq!(files(), before, "no side file that belongs to whoever looked");

    let running = Running::start(dir.path(), &[]);
    let url = format!("http://{}", running.addr());
    let found = doctor(dir.path(), &["--listen", running.addr(), "--url", &url]);
    assert_eq!((found.0, failures(&found)), (Some(0), vec![]), "{found:?}");
    assert_eq!(found.1["port"].1, format!("this relay runs on TCP {}", running.addr()));
    assert!(found.1["database"].1.ends_with("a relay runs on it"), "{found:?}");
    assert_eq!(found.1["relay key"].1, "the one of this configuration");
    assert_eq!(found.1["WebSocket"].1, "passes, and the relay proves its key");
    running.stop("-TERM");
}

#[test]
fn what_is_in_the_way_fails_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    Running::start(dir.path(), &[]).stop("-TERM");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    std::fs::set_permissions(dir.path().join("data/relay.key"), PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(dir.path().join("data/relay.db"), "something else altogether, long enough to be a page").unwrap();

    let found = doctor(dir.path(), &["--listen", &taken]);

    assert_eq!((found.0, failures(&found)), (Some(1), vec!["database", "keys", "port"]), "{found:?}");
    assert!(found.1["keys"].1.contains("chmod 600"), "{found:?}");
    assert!(found.1["database"].1.contains("not a SQLite database: name another one"), "{found:?}");
    assert!(found.1["port"].1.contains("choose another --listen"), "{found:?}");
    let lines = relay(dir.path()).args(["doctor", "--listen", &taken]).output().unwrap();
    let lines = String::from_utf8(lines.stdout).unwrap();
    assert!(lines.lines().any(|line| line.starts_with("FAIL keys ")), "{lines}");
}

#[test]
fn another_relay_at_the_public_address_is_noticed() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Running::start(ours.path(), &["--no-iroh"]).stop("-TERM");
    let other = Running::start(theirs.path(), &["--no-iroh"]);
    let public_url = format!("http://{}", other.addr());
    let found = doctor(ours.path(), &["--listen", "127.0.0.1:0", "--public-url", &public_url]);
    assert_eq!((found.0, failures(&found)), (Some(1), vec!["relay key"]), "{found:?}");
    assert!(found.1["relay key"].1.contains("another relay answers at this URL"), "{found:?}");
    other.stop("-TERM");

    let found = doctor(ours.path(), &["--listen", "127.0.0.1:0", "--public-url", &public_url]);
    assert_eq!(failures(&found), ["outside"], "{found:?}");
}

#[tokio::test]
async fn through_tls_the_certificate_is_checked_and_the_handshake_done() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &["--no-iroh"]);
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let trusted = dir.path().join("roots.pem");
    let body = STANDARD.encode(certified.cert.der());
    std::fs::write(&trusted, format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")).unwrap();
    let port = tls_proxy(&certified, running.addr().to_owned()).await;
    let url = format!("https://localhost:{port}");
    let examine = async |trusted: Option<&Path>| {
        let mut command = relay(dir.path());
        command.args(["doctor", "--no-iroh", "--listen", running.addr(), "--url", &url]);
        command.envs(trusted.map(|path| ("SSL_CERT_FILE", path)));
        tokio::task::spawn_blocking(move || diagnose(&mut command)).await.unwrap()
    };

    let found = examine(Some(&trusted)).await;
    assert_eq!((found.0, failures(&found)), (Some(0), vec![]), "{found:?}");
    assert_eq!(found.1["TLS"].1, "the certificate is accepted");
    assert_eq!(found.1["WebSocket"].1, "passes, and the relay proves its key");

    let found = examine(None).await;
    assert_eq!(failures(&found), ["outside"], "{found:?}");
    assert!(found.1["outside"].1.contains("certificate"), "{found:?}");
    running.stop("-TERM");
}

/// Takes TLS off and passes everything on; its port.
async fn tls_proxy(certified: &rcgen::CertifiedKey<rcgen::KeyPair>, relay: String) -> u16 {
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, relay) = (acceptor.clone(), relay.clone());
            tokio::spawn(async move {
                if let Ok(mut client) = acceptor.accept(client).await {
                    let mut relay = TcpStream::connect(relay).await.unwrap();
                    // Who hangs up first is no matter here.
                    let _ = copy_bidirectional(&mut client, &mut relay).await;
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_postgres_that_does_not_flush_fails_and_one_that_does_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = stoppable().await;
    let url = cluster.database();
    Running::start(dir.path(), &["--no-iroh", "--store", &url]).stop("-TERM");
    let args = ["--no-iroh", "--listen", "127.0.0.1:0", "--store", &url];

    let found = doctor(dir.path(), &args);
    assert_eq!((found.0, failures(&found)), (Some(1), vec!["durability"]), "{found:?}");
    assert!(found.1["durability"].1.starts_with("fsync and full_page_writes is off: acknowledged pushes are lost"));

    sql(&url, "ALTER SYSTEM SET fsync = on").await;
    sql(&url, "ALTER SYSTEM SET full_page_writes = on").await;
    sql(&url, "SELECT pg_reload_conf()").await;
    let found = (0..50).map(|_| doctor(dir.path(), &args)).find(|found| found.0 == Some(0));
    sql(&url, "ALTER SYSTEM SET fsync = off").await;
    let found = found.expect("in the end the server has read its settings");
    assert!(found.1["commit"].1.contains(" ms at the median"), "{found:?}");
    assert!(found.1["database"].1.starts_with("PostgreSQL 1"), "{found:?}");
    assert_eq!(found.1["clocks"].1, "the database's clock agrees");

    let gone = url.replace("/test_", "/no_such_");
    assert_eq!(
        failures(&doctor(dir.path(), &["--no-iroh", "--listen", "127.0.0.1:0", "--store", &gone])),
        ["database", "keys"]
    );
}
