//! Who is let in: connections and handshakes, in total and for each address, on every transport.
//! The addresses `127.0.0.x` are different clients.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use zerok_sync_protocol::channel::Initiator;
use zerok_sync_protocol::close;
use zerok_sync_relay::Config;
use zerok_sync_relay::admission::TrustedProxies;
use zerok_sync_relay::limits::REFUSALS_EXPLAINED_PER_SECOND;
use zerok_sync_relay::link::Close;
use zerok_sync_relay::metrics::{HandshakeOutcome, Refusal, Transport};

use crate::support::link::{self, Ended, TestLink, get_from, try_iroh_from, try_ws_from, ws_from};
use crate::support::{Client, PATIENCE, TestRelay, device, rng};

const ONE: [u8; 4] = [127, 0, 0, 2];
const OTHER: [u8; 4] = [127, 0, 0, 3];

#[tokio::test]
async fn an_address_over_its_connections_is_told_429_and_others_come_in() {
    let relay = direct(|config| config.limits.connections_per_address_max = 2).await;
    let held = [ws_from(&relay.running, ONE).await, try_iroh_from(&relay.running, ONE).await.expect("a place")];

    let refused = get_from(&relay.running, ONE, "").await;
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("Retry-After: 5"), "{refused}");
    assert_eq!(try_ws_from(&relay.running, ONE, None).await.err(), Some(429));
    assert_eq!(told_to_wait_ms(try_iroh_from(&relay.running, ONE).await), 5_000);

    assert!(get_from(&relay.running, OTHER, "").await.starts_with("HTTP/1.1 200"));
    assert!(try_iroh_from(&relay.running, OTHER).await.is_ok());
    assert_eq!(refused_for(&relay, Refusal::ConnectionsPerAddress), 3);
    for link in held {
        link.drop_it().await;
    }
    eventually(async || get_from(&relay.running, ONE, "").await.starts_with("HTTP/1.1 200")).await;
}

#[tokio::test]
async fn connections_over_the_cap_are_told_503_on_all_transports() {
    let relay = direct(|config| config.limits.connections_max = 2).await;
    let _held = [ws_from(&relay.running, ONE).await, try_iroh_from(&relay.running, OTHER).await.expect("a place")];

    let refused = get_from(&relay.running, ONE, "").await;

    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("Retry-After: 5"), "{refused}");
    assert_eq!(told_to_wait_ms(try_iroh_from(&relay.running, [127, 0, 0, 4]).await), 5_000);
    assert_eq!(refused_for(&relay, Refusal::Connections), 2);
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_counts_for_itself() {
    let relay = TestRelay::start_with(|config| config.limits.connections_per_address_max = 1).await;
    let from = async |client| try_ws_from(&relay.running, ONE, Some(client)).await;
    let _first = from("203.0.113.1").await.expect("the first");
    assert_eq!(from("203.0.113.1").await.err(), Some(429));
    assert_eq!(from("10.1.1.1, 203.0.113.1").await.err(), Some(429), "what the client itself wrote does not count");
    let _second = from("203.0.113.2").await.expect("another client");
    let _network = from("2001:db8:1:2::1").await.expect("another client");
    assert_eq!(from("2001:db8:1:2:3::9").await.err(), Some(429), "a /64 is one address");
    assert!(get_from(&relay.running, ONE, "X-Forwarded-For: 203.0.113.2\r\n").await.contains("retry-after: 5"));
}

#[tokio::test]
async fn nobody_elses_word_about_an_address_is_taken() {
    let relay = direct(|config| config.limits.connections_per_address_max = 1).await;
    let _first = try_ws_from(&relay.running, ONE, Some("203.0.113.1")).await.expect("the first");
    assert_eq!(try_ws_from(&relay.running, ONE, Some("203.0.113.2")).await.err(), Some(429));
}

#[tokio::test]
async fn handshakes_over_an_addresss_share_are_sent_away_and_others_are_not() {
    let relay = direct(|config| config.limits.handshakes_pending_per_address_max = 2).await;
    let half_open = [half_open(&relay, ONE).await, half_open(&relay, ONE).await];

    let ended = sent_away(&relay, ONE).await;

    assert_eq!(ended.code, Some(u64::from(Close::TRY_LATER)));
    assert_eq!(close::retry_after_ms(&ended.reason), 5_000);
    assert_eq!(told_to_wait_ms(try_iroh_from(&relay.running, ONE).await), 5_000, "QUIC's handshake is one, too");
    complete(&relay, OTHER).await;
    assert_eq!(refused_for(&relay, Refusal::HandshakesPending), 2);
    assert_eq!(handshakes(&relay, HandshakeOutcome::Refused), 2);
    for link in half_open {
        link.drop_it().await;
    }
    eventually(async || handshakes(&relay, HandshakeOutcome::Abandoned) == 2).await;
    complete(&relay, ONE).await;
}

#[tokio::test]
async fn a_handshake_that_is_done_gives_its_place_back_though_the_session_stays() {
    let relay = direct(|config| config.limits.handshakes_pending_per_address_max = 1).await;
    let mut sessions = Vec::new();
    for seed in 1..=4 {
        let link = match seed % 2 {
            0 => ws_from(&relay.running, ONE).await,
            _ => try_iroh_from(&relay.running, ONE).await.expect("a place"),
        };
        let mut client = Client::open(link, &device(seed), &relay.running.noise_key).await;
        client.guest().await;
        sessions.push(client);
    }
    for client in &mut sessions {
        assert!(client.is_quiet().await);
    }
}

#[tokio::test]
async fn handshakes_over_the_cap_are_sent_away() {
    let relay = direct(|config| config.limits.handshakes_pending_max = 2).await;
    let _half_open = [half_open(&relay, ONE).await, half_open(&relay, OTHER).await];
    assert_eq!(sent_away(&relay, [127, 0, 0, 4]).await.code, Some(u64::from(Close::TRY_LATER)));
}

#[tokio::test]
async fn an_address_that_begins_too_many_handshakes_is_told_when_to_come_back() {
    let relay = direct(|config| config.limits.handshakes_per_minute_per_address = 2).await;
    complete(&relay, ONE).await;
    complete(&relay, ONE).await;

    let ended = sent_away(&relay, ONE).await;

    assert_eq!(ended.code, Some(u64::from(Close::TRY_LATER)));
    let retry_after_ms = close::retry_after_ms(&ended.reason);
    assert!((20_000..=30_000).contains(&retry_after_ms), "{retry_after_ms}");
    let retry_after_ms = told_to_wait_ms(try_iroh_from(&relay.running, ONE).await);
    assert!((20_000..=30_000).contains(&retry_after_ms), "{retry_after_ms}");
    complete(&relay, OTHER).await;
    assert_eq!(refused_for(&relay, Refusal::HandshakeRate), 2);
    assert_eq!(handshakes(&relay, HandshakeOutcome::Done), 3);
}

#[tokio::test]
async fn a_thousand_half_open_handshakes_of_another_address_keep_nobody_out() {
    let relay = direct(|_| {}).await;
    let (_, first) = Initiator::relay(&device(1), &mut rng(1));
    let mut held = Vec::new();
    for _ in 0..1_000 {
        if let Ok(mut link) = try_ws_from(&relay.running, ONE, None).await {
            link.send(first.clone()).await;
            held.push(link);
        }
    }
    let open = relay.running.metrics().connections.get_or_create(&Transport::WebSocket.into()).get();
    assert!(open <= 100, "what one address may hold: {open}");
    assert!(refused_for(&relay, Refusal::ConnectionsPerAddress) > 0);

    let served = timeout(Duration::from_secs(5), async {
        complete(&relay, OTHER).await;
        try_iroh_from(&relay.running, OTHER).await.expect("a place").drop_it().await;
    });
    served.await.expect("as quickly as ever");
    eventually(async || refused_for(&relay, Refusal::HandshakesPending) >= 50).await;
}

#[tokio::test]
async fn an_address_must_be_proven_once_half_of_its_share_is_used() {
    let relay = direct(|config| config.limits.connections_per_address_max = 4).await;
    let mut held = Vec::new();
    // From the third on, QUIC's Retry goes there and back first.
    for _ in 0..4 {
        held.push(try_iroh_from(&relay.running, ONE).await.expect("a place"));
    }
    assert!(try_iroh_from(&relay.running, ONE).await.is_err());
    assert_eq!(refused_for(&relay, Refusal::ConnectionsPerAddress), 1);
}

#[tokio::test]
async fn only_so_many_a_second_are_told_by_quic_why_and_the_others_are_refused_all_the_same() {
    let relay = direct(|config| config.limits.connections_per_address_max = 1).await;
    let _held = try_iroh_from(&relay.running, ONE).await.expect("a place");
    let attempts = 3 * REFUSALS_EXPLAINED_PER_SECOND;
    let begin = std::time::Instant::now();

    let refused = join_all((0..attempts).map(|_| try_iroh_from(&relay.running, ONE))).await;

    let seconds = begin.elapsed().as_secs();
    let told = refused.into_iter().filter(|refused| refused.as_ref().is_err_and(|ended| ended.code.is_some())).count();
    assert_eq!(refused_for(&relay, Refusal::ConnectionsPerAddress), attempts);
    assert!(told > 0 && told as u64 <= (seconds + 2) * REFUSALS_EXPLAINED_PER_SECOND, "{told} in {seconds} s");
}

#[tokio::test]
async fn connections_and_sessions_are_counted_while_they_live() {
    let relay = TestRelay::start().await;
    let metrics = relay.running.metrics();
    let open = |transport: Transport| metrics.connections.get_or_create(&transport.into()).get();
    let sessions = |transport: Transport| metrics.sessions.get_or_create(&transport.into()).get();
    let clients = [relay.ws(&device(1)).await, relay.iroh(&device(2)).await];

    eventually(async || sessions(Transport::WebSocket) == 1 && sessions(Transport::Iroh) == 1).await;
    assert_eq!((open(Transport::WebSocket), open(Transport::Iroh), open(Transport::Http)), (1, 1, 0));
    for client in clients {
        client.link.drop_it().await;
    }
    eventually(async || open(Transport::WebSocket) + open(Transport::Iroh) == 0).await;
    assert_eq!(sessions(Transport::WebSocket) + sessions(Transport::Iroh), 0);
}

/// A relay without a proxy in front of it.
async fn direct(change: impl FnOnce(&mut Config)) -> TestRelay {
    TestRelay::start_with(|config| {
        config.trusted_proxies = TrustedProxies::none();
        change(config);
    })
    .await
}

/// A handshake of which message 3 does not come.
async fn half_open(relay: &TestRelay, ip: [u8; 4]) -> TestLink {
    let mut link = ws_from(&relay.running, ip).await;
    let (_, first) = Initiator::relay(&device(1), &mut rng(1));
    link.send(first).await;
    link.recv().await.expect("message 2");
    link
}

/// When an iroh client that was refused is told to come back.
fn told_to_wait_ms(link: Result<TestLink, Ended>) -> u64 {
    let ended = link.err().expect("no place");
    assert_eq!(ended.code, Some(u64::from(Close::TRY_LATER)), "{}", ended.reason);
    close::retry_after_ms(&ended.reason)
}

/// How a handshake is refused.
async fn sent_away(relay: &TestRelay, ip: [u8; 4]) -> Ended {
    let mut link = ws_from(&relay.running, ip).await;
    let (_, first) = Initiator::relay(&device(1), &mut rng(1));
    link.send(first).await;
    link.recv().await.expect_err("no place")
}

async fn complete(relay: &TestRelay, ip: [u8; 4]) {
    let link: TestLink = link::ws_from(&relay.running, ip).await;
    let mut client = Client::open(link, &device(9), &relay.running.noise_key).await;
    client.guest().await;
    client.link.drop_it().await;
}

fn refused_for(relay: &TestRelay, limit: Refusal) -> u64 {
    relay.running.metrics().refusals.get_or_create(&limit.into()).get()
}

fn handshakes(relay: &TestRelay, outcome: HandshakeOutcome) -> u64 {
    relay.running.metrics().handshakes.get_or_create(&outcome.into()).get()
}

async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    timeout(PATIENCE, async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it came true in time");
}
