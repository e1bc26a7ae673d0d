//! A relay's log can be sent to somebody who helps: whatever the level and the form, nothing in it
//! tells who synchronised what with whom.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use iroh::{EndpointAddr, TransportAddr};
use tokio_tungstenite::MaybeTlsStream;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::limits::MAILBOX_TTL_MS;
use zerok_sync_protocol::{BlobId, ClientFrame, ErrorCode, RelayFrame, Timeline};
use zerok_sync_testkit::postgres::shared;

use crate::client::link::{self, TestLink};
use crate::client::{Client, Group, PLENTY, create_frame, device, envelope, envelope_of, push_frame, subscribe_frame};
use crate::database::sql;
use crate::support::{Running, relay};

/// A size that is no other number of a log.
const SIZE: usize = 51_713;

/// What must not be in a log.
#[derive(Default)]
struct Secrets {
    bytes: Vec<Vec<u8>>,
    numbers: Vec<String>,
    words: Vec<String>,
}

impl Secrets {
    fn bytes(&mut self, secret: impl AsRef<[u8]>) {
        self.bytes.push(secret.as_ref().to_owned());
    }

    fn number(&mut self, secret: impl ToString) {
        self.numbers.push(secret.to_string());
    }

    fn word(&mut self, secret: impl ToString) {
        self.words.push(secret.to_string());
    }

    fn address(&mut self, address: SocketAddr) {
        self.word(address.ip());
        self.number(address.port());
    }

    fn link(&mut self, link: &TestLink) {
        match link {
            TestLink::Ws(socket) => match socket.get_ref() {
                MaybeTlsStream::Plain(tcp) => self.address(tcp.local_addr().unwrap()),
                _ => unreachable!("tests use plain TCP"),
            },
            TestLink::Iroh(link) => {
                self.bytes(link.endpoint.id().as_bytes());
                link.endpoint.bound_sockets().iter().for_each(|socket| self.number(socket.port()));
            }
        }
    }

    /// Those that stand in a text, in any form: the first bytes of one suffice.
    fn found_in(&self, text: &[u8]) -> BTreeSet<String> {
        let contains = |needle: &[u8]| text.windows(needle.len()).any(|window| window == needle);
        let bytes = self.bytes.iter().flat_map(|secret| forms(secret)).filter(|form| contains(form.as_bytes()));
        let raw = self.bytes.iter().filter(|secret| contains(secret)).map(|_| "raw bytes".to_owned());
        let words = self.words.iter().filter(|word| contains(word.as_bytes())).cloned();
        let printed = String::from_utf8_lossy(text);
        let numbers: Vec<&str> = printed.split(|character: char| !character.is_ascii_digit()).collect();
        let numbers = self.numbers.iter().filter(|number| numbers.contains(&number.as_str())).cloned();
        bytes.chain(raw).chain(words).chain(numbers).collect()
    }
}

/// The ways to write the beginning of some bytes down.
fn forms(secret: &[u8]) -> Vec<String> {
    let hex = hex::encode(&secret[..5]);
    let mut forms = vec![hex.to_uppercase(), hex];
    // The same numbers after one another in a debugged array, with and without line breaks.
    for between in [", ", ",\n    "] {
        forms.push(secret[..5].iter().map(u8::to_string).collect::<Vec<_>>().join(between));
    }
    // In a longer base64 text it begins at one of three offsets; its neighbours change its ends.
    for offset in 0..3 {
        let shifted = [&vec![0; offset][..], &secret[..8]].concat();
        for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            forms.push(encoded[offset + usize::from(offset > 0)..encoded.len() - 1].to_owned());
        }
    }
    forms
}

/// A relay at trace whose log is in a file: a pipe that nobody reads would stop it.
fn start(dir: &Path, format: &str, store: &str) -> Running {
    let log = File::create(dir.join("log")).unwrap();
    let mut command = relay(dir);
    command.args(["--listen", "127.0.0.1:0", "--log", "trace", "--log-format", format, "--store", store]);
    command.args(["--gc-interval-ms", "200 ms", "--commit-retry-ms", "100 ms"]);
    Running::spawn(command.stderr(log))
}

/// Everything that clients do, well and badly; what of it must not be told.
async fn use_it(relay: &Running) -> Secrets {
    let mut secrets = Secrets::default();
    let group = Group::new(77);
    let relay_key = relay.field("key").parse::<zerok_sync_protocol::NoisePublicKey>().unwrap();
    let addr: SocketAddr = relay.addr().parse().unwrap();
    secrets.address(addr);
    secrets.bytes(relay_key.0);
    secrets.bytes(hex::decode(relay.field("iroh")).unwrap());
    secrets.bytes(group.public().0);
    secrets.bytes(group.name().0);
    secrets.number(SIZE);
    for seed in [71, 72, 73, 74] {
        secrets.bytes(device(seed).public().0);
    }

    let mut founder = relay.client(&device(71)).await;
    secrets.link(&founder.link);
    let timeline = founder.found(&group).await.timeline;
    secrets.bytes(timeline.0);
    let large = envelope_of(71, SIZE);
    secrets.bytes(&large);
    secrets.bytes(blob_id(&large).0);
    assert_eq!(founder.push(1, &[large.clone(), envelope(72)]).await, [Ok(2), Ok(3)]);

    let described: serde_json::Value =
        serde_json::from_str(relay.get("/.well-known/0k-sync").split_once("\r\n\r\n").unwrap().1).unwrap();
    let iroh_addr: SocketAddr = described["iroh"][0]["addrs"][0].as_str().unwrap().parse().unwrap();
    secrets.address(iroh_addr);
    let endpoint = EndpointAddr::from_parts(relay.field("iroh").parse().unwrap(), [TransportAddr::Ip(iroh_addr)]);
    let mut member = Client::open(link::iroh_at(endpoint.clone()).await, &device(72), &relay_key).await;
    secrets.link(&member.link);
    member.admitted(&group).await;
    assert_eq!(member.follow().await.len(), 3);
    founder.push(2, &[envelope(73)]).await;
    member.entries().await;
    let sealed = envelope(74);
    secrets.bytes(&sealed);
    member.send(ClientFrame::Whisper { data: sealed.clone() }).await;
    member.send(ClientFrame::Ack { cursor: 4, receipt: Some(sealed.clone()) }).await;
    member.send(ClientFrame::SlotPut { data: sealed }).await;
    assert!(member.is_quiet().await);

    // Pairing's rendezvous, on both transports.
    let mut inviter = relay.client(&device(71)).await;
    admitted_beside_a_slot(&mut inviter).await;
    inviter.send(ClientFrame::MailboxOpen { short: false, ttl_ms: MAILBOX_TTL_MS }).await;
    let RelayFrame::MailboxOpened { mailbox, salt, .. } = inviter.next().await else { panic!("no mailbox") };
    secrets.bytes(mailbox.as_bytes());
    secrets.bytes(&salt);
    let mut guest = Client::open(link::iroh_at(endpoint).await, &device(73), &relay_key).await;
    secrets.link(&guest.link);
    guest.guest().await;
    guest.send(ClientFrame::MailboxJoin { mailbox }).await;
    guest.next().await;
    let said = Bytes::from_static(b"what is said in a mailbox");
    secrets.bytes(&said);
    guest.send(ClientFrame::MailboxSend { data: said }).await;
    inviter.next().await;
    guest.link.drop_it().await;

    refusals(relay, &mut secrets).await;
    secrets
}

/// Lets a member in, who is shown the slot that another device has written.
async fn admitted_beside_a_slot(client: &mut Client) {
    client.admitted(&Group::new(77)).await;
    let RelayFrame::Acked { .. } = client.next().await else { panic!("no slot") };
}

/// What the relay says no to.
async fn refusals(relay: &Running, secrets: &mut Secrets) {
    let group = Group::new(78);
    secrets.bytes(group.public().0);
    let mut stranger = relay.client(&device(74)).await;
    assert!(matches!(stranger.hello(&group).await, RelayFrame::Error { .. }));
    stranger.send(create_frame(&[], 1, &[])).await;
    stranger.ends_with(ErrorCode::Unauthorized).await;

    let mut member = relay.client(&device(71)).await;
    admitted_beside_a_slot(&mut member).await;
    member.send(subscribe_frame(Timeline([0xab; 8]), 2, BlobId([0xcd; 32]), PLENTY, true)).await;
    assert_eq!(member.error().await, ErrorCode::Diverged);
    member.send(push_frame(1, &[Bytes::from_static(b"too short")], false)).await;
    member.push_ack(1).await;
    member.send(ClientFrame::Truncate { below: 1_000_000 }).await;
    member.error().await;
    member.queue_bytes(&[0xff; 32]);
    member.flush().await;
    member.ends_with(ErrorCode::InvalidMessage).await;

    let addr: SocketAddr = relay.addr().parse().unwrap();
    let mut link = link::ws_at(addr).await;
    link.send(vec![9; 2_000]).await;
    link.recv().await.expect_err("no handshake");
    secrets.word("secret.example");
    secrets.word("198.51.100.23");
    for request in [
        "\x16\x03\x01garbage\r\n\r\n",
        "GET /v1/ws HTTP/1.1\r\nHost: secret.example\r\nConnection: close\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: secret.example\r\nX-Forwarded-For: 198.51.100.23\r\nConnection: close\r\n\r\n",
        "GET /ready HTTP/1.1\r\nHost: secret.example\r\nX-Forwarded-For: 198.51.100.23\r\nConnection: close\r\n\r\n",
    ] {
        link::http_at(addr, request.as_bytes()).await;
    }
}

/// The store fails under a push, under a reader and under the collector.
async fn fail(relay: &Running, break_it: impl AsyncFnOnce()) {
    let mut member = relay.client(&device(71)).await;
    admitted_beside_a_slot(&mut member).await;
    break_it().await;
    assert_eq!(member.push(1, &[envelope_of(75, SIZE)]).await, [Err(ErrorCode::StorageUnavailable)]);
    member.send(ClientFrame::Probe { cursors: vec![1, 2].try_into().unwrap() }).await;
    member.next().await;
    let mut other = relay.client(&device(72)).await;
    other.send(other.member_hello(&Group::new(77), false)).await;
    other.next().await;
}

fn log_of(dir: &Path, relay: Running) -> String {
    assert!(relay.stop("-TERM").status.success());
    std::fs::read_to_string(dir.join("log")).unwrap()
}

fn assert_tells_nothing(log: &str, secrets: &Secrets) {
    assert!(secrets.found_in(log.as_bytes()).is_empty(), "{:?} in {log}", secrets.found_in(log.as_bytes()));
    for said in ["started", "begins", "says goodbye", "ended", "the store ", "shutting down"] {
        assert!(log.contains(said), "it says {said}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_log_tells_nothing_about_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let relay = start(dir.path(), "text", &format!("sqlite:{}", dir.path().join("log.db").display()));
    let secrets = use_it(&relay).await;
    fail(&relay, async || {
        let database = rusqlite::Connection::open(dir.path().join("log.db")).unwrap();
        database.execute_batch("ALTER TABLE entries RENAME TO gone").unwrap();
    })
    .await;
    let (addr, key) = (relay.addr().to_owned(), relay.field("key").to_owned());
    // Where to open the page is said to whoever started it, and is no log line.
    let log: Vec<String> = log_of(dir.path(), relay).lines().map(str::to_owned).collect();
    let log = log.into_iter().filter(|line| !line.starts_with("open http://")).collect::<Vec<_>>().join("\n");
    assert_tells_nothing(&log, &secrets);
    for line in log.lines() {
        assert!(line.contains(" zerok_sync_relay"), "no library logs: {line}");
    }

    let told = format!("ready http://{addr} key={key}");
    assert_eq!(secrets.found_in(told.as_bytes()).len(), 3, "the search finds key, address and port where they are");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_log_has_an_object_a_line_and_tells_nothing_about_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let url = shared().database();
    let relay = start(dir.path(), "json", &url);
    let secrets = use_it(&relay).await;
    fail(&relay, async || sql(&url, "ALTER TABLE entries ADD CONSTRAINT full_up CHECK (cursor < 1) NOT VALID").await)
        .await;
    let log = log_of(dir.path(), relay);
    assert_tells_nothing(&log, &secrets);
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["target"].as_str().unwrap().starts_with("zerok_sync_relay"), "no library logs: {line}");
        assert!(["level", "timestamp", "message"].iter().all(|field| line[*field].is_string()), "{line}");
    }
}

#[test]
fn the_search_recognises_every_form() {
    let mut secrets = Secrets::default();
    let key = device(9).public();
    secrets.bytes(key.0);
    secrets.address("192.0.2.77:40123".parse().unwrap());
    secrets.number(SIZE);
    let address: SocketAddr = "192.0.2.77:40123".parse().unwrap();
    for written in [
        format!("{key}"),
        format!("{key:?}"),
        format!("{:?}", key.0),
        format!("{:#?}", key.0),
        hex::encode_upper(key.0),
        hex::encode(&key.0[..5]),
        STANDARD_NO_PAD.encode(key.0),
        format!("x{}", URL_SAFE_NO_PAD.encode([&[1, 2][..], &key.0[..]].concat())),
        String::from_utf8_lossy(&[0x41; 4]).into_owned() + &address.to_string(),
        format!("{:?}", IpAddr::from([192, 0, 2, 77])),
        format!("port={}", address.port()),
        format!("a message of {SIZE} bytes"),
    ] {
        assert!(!secrets.found_in(written.as_bytes()).is_empty(), "{written}");
    }
    assert!(!secrets.found_in(&key.0).is_empty(), "raw");
    assert!(secrets.found_in(b"2026-11-23T00:43:39.140123Z port=140123 151713").is_empty(), "other numbers are others");
}
