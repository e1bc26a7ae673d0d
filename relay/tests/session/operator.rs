//! What the operator sees: `/health`, `/ready`, `/metrics`, `/status`, and who sees it.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use zerok_sync_protocol::{ClientFrame, ErrorCode};

use crate::support::link::{self, get, get_at, http};
use crate::support::openmetrics::Exposition;
use crate::support::{Group, PATIENCE, TestRelay, device, envelope};

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a whole answer").1
}

/// Without `Content-Length` a body would come in chunks, and the parsers see their lengths.
async fn scrape(relay: &TestRelay) -> Exposition {
    let answer = get(&relay.running, "/metrics").await;
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
    Exposition::parse(body(&answer)).unwrap()
}

#[tokio::test]
async fn every_family_is_there_before_anything_happened() {
    let relay = TestRelay::start().await;
    let exposition = scrape(&relay).await;
    for sample in [
        "zerok_relay_connections{transport=\"iroh\"}",
        "zerok_relay_handshakes_total{outcome=\"timed_out\"}",
        "zerok_relay_refusals_total{limit=\"group_bytes_max\"}",
        "zerok_relay_commit_seconds_count",
        "zerok_relay_collected_total{kind=\"idle_groups\"}",
        "zerok_relay_collected_bytes_total",
    ] {
        assert_eq!(exposition.value(sample), 0.0, "{sample}");
    }
    let build = format!("zerok_relay_build_info{{version=\"{}\",store=\"sqlite\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(exposition.value(&build), 1.0);
    for sample in ["process_resident_memory_bytes", "process_open_fds", "process_max_fds", "zerok_relay_uptime_seconds"]
    {
        assert!(exposition.value(sample) > 0.0, "{sample}");
    }
}

/// Scrapes until a gauge that is looked up now and then has this value.
async fn scrape_until(relay: &TestRelay, sample: &str, value: f64) -> Exposition {
    timeout(PATIENCE, async {
        loop {
            let exposition = scrape(relay).await;
            if exposition.value(sample) == value {
                return exposition;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{sample} becomes {value}"))
}

#[tokio::test]
async fn what_clients_do_is_counted_exactly() {
    let relay = TestRelay::start_with(|config| config.limits.gc_interval_ms = 50).await;
    let group = Group::new(1);
    let mut founder = relay.founder(&group, &device(1)).await;
    founder.push(1, &[envelope(1), envelope(2)]).await;
    let mut reader = relay.iroh(&device(2)).await;
    reader.admitted(&group).await;
    assert_eq!(reader.follow().await.len(), 3, "the epoch envelope and two entries");
    founder.push(2, &[envelope(3)]).await;
    reader.entries().await;
    founder.push(3, &[envelope(3)]).await;
    reader.send(ClientFrame::Truncate { below: 1_000 }).await;
    reader.error().await;
    let mut garbage = link::ws(&relay.running).await;
    garbage.send(vec![1; 100]).await;
    garbage.recv().await.expect_err("no handshake");
    garbage.drop_it().await;

    scrape_until(&relay, "zerok_relay_connections{transport=\"websocket\"}", 1.0).await;
    let stored_bytes = (4 * envelope(1).len()) as f64;
    let exposition = scrape_until(&relay, "zerok_relay_stored_bytes", stored_bytes).await;
    for (sample, count) in [
        ("connections{transport=\"websocket\"}", 1.0),
        ("connections{transport=\"iroh\"}", 1.0),
        ("connections{transport=\"http\"}", 1.0),
        ("connections_max", 10_000.0),
        ("sessions{transport=\"websocket\"}", 1.0),
        ("sessions{transport=\"iroh\"}", 1.0),
        ("handshakes_total{outcome=\"done\"}", 2.0),
        ("handshakes_total{outcome=\"invalid\"}", 1.0),
        ("handshakes_total{outcome=\"refused\"}", 0.0),
        ("refusals_total{limit=\"truncate\"}", 1.0),
        ("refusals_total{limit=\"throttled\"}", 0.0),
        ("pushes_total", 3.0),
        ("acks_total", 3.0),
        ("entries_stored_total", 3.0),
        ("entries_delivered_total{from=\"stored\"}", 3.0),
        ("entries_delivered_total{from=\"inline\"}", 1.0),
        ("commit_envelopes_sum", 4.0),
        ("commit_envelopes_count", 3.0),
        ("commit_seconds_count", 3.0),
        ("append_seconds_count", 3.0),
        ("append_queue", 0.0),
        ("commit_failures_total", 0.0),
        ("fanout_bytes", 0.0),
        ("fanout_behind_total", 0.0),
        ("groups", 1.0),
    ] {
        assert_eq!(exposition.value(&format!("zerok_relay_{sample}")), count, "{sample}");
    }
    let pushed = 4.0 * envelope(1).len() as f64;
    assert!(exposition.value("zerok_relay_link_bytes_total{direction=\"in\"}") > pushed);
    assert!(exposition.value("zerok_relay_link_bytes_total{direction=\"out\"}") > pushed);
}

#[tokio::test]
async fn a_store_that_fails_is_counted() {
    let relay = TestRelay::start_with(|config| config.limits.commit_retry_ms = 1).await;
    let mut founder = relay.founder(&Group::new(1), &device(1)).await;
    let database = rusqlite::Connection::open(relay.dir.path().join("relay.db")).unwrap();
    database.execute_batch("ALTER TABLE entries RENAME TO gone").unwrap();
    assert_eq!(founder.push(1, &[envelope(1)]).await, [Err(ErrorCode::StorageUnavailable)]);
    assert!(scrape(&relay).await.value("zerok_relay_commit_failures_total") >= 1.0);
}

#[tokio::test]
async fn a_relay_is_ready_as_long_as_its_store_can_be_written_to() {
    let relay = TestRelay::start().await;
    let answer = get(&relay.running, "/ready").await;
    assert!(answer.starts_with("HTTP/1.1 200") && body(&answer) == "ready\n", "{answer}");
    assert_eq!(body(&get(&relay.running, "/health").await), "ok\n");
}

#[tokio::test]
async fn the_numbers_are_for_this_machine_and_for_the_token() {
    let token = "a token that nobody guesses".replace(' ', "-");
    let with_token = TestRelay::start_with(|config| config.metrics_token = Some(token.clone().into())).await;
    let without = TestRelay::start().await;
    let proxied = "X-Forwarded-For: 192.0.2.1";
    let bearer = format!("Authorization: Bearer {token}");
    for path in ["/metrics", "/status.json"] {
        for (relay, headers, status) in [
            (&without, &[][..], "200"),
            (&without, &[proxied], "404"),
            (&without, &[proxied, bearer.as_str()], "404"),
            (&with_token, &[], "200"),
            (&with_token, &[proxied], "401"),
            (&with_token, &[proxied, "Authorization: Bearer another-token-altogether!"], "401"),
            (&with_token, &[proxied, bearer.as_str()], "200"),
        ] {
            let answer = get_at(relay.running.addr, path, headers).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path} {headers:?}: {answer}");
        }
    }
    // The page holds no numbers and asks for the token itself.
    for (relay, status) in [(&with_token, "200"), (&without, "404")] {
        for path in ["/status", "/status/status.js", "/status/chart.js", "/status/status.css"] {
            let answer = get_at(relay.running.addr, path, &[proxied]).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
            assert!(status == "404" || answer.contains("default-src 'none'"), "{path}: {answer}");
        }
    }
}

#[tokio::test]
async fn metrics_listen_moves_the_numbers_to_an_address_of_their_own() {
    let loopback = "127.0.0.1:0".parse().ok();
    let relay = TestRelay::start_with(|config| config.metrics_listen = loopback).await;
    let own = relay.running.metrics_addr.expect("bound");
    for path in ["/metrics", "/status", "/status.json"] {
        assert!(get(&relay.running, path).await.starts_with("HTTP/1.1 404"), "{path}");
        assert!(get_at(own, path, &[]).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    for path in ["/health", "/ready"] {
        assert!(get(&relay.running, path).await.starts_with("HTTP/1.1 200"), "{path}");
        assert!(get_at(own, path, &[]).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    assert!(get_at(own, "/v1/ws", &[]).await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_relay_that_shuts_down_says_so_where_it_still_answers() {
    let loopback = "127.0.0.1:0".parse().ok();
    let relay = TestRelay::start_with(|config| config.metrics_listen = loopback).await;
    // Hears nothing, so that there is somebody to wait for.
    let _deaf = relay.founder(&Group::new(1), &device(1)).await;
    let TestRelay { running, dir: _dir, .. } = relay;
    let own = running.metrics_addr.expect("bound");
    let stopping = tokio::spawn(running.shutdown());
    timeout(PATIENCE, async {
        while body(&get_at(own, "/ready", &[]).await) != "draining\n" {
            assert!(!stopping.is_finished(), "it says so before it has stopped");
        }
    })
    .await
    .expect("it says so in time");
    stopping.await.unwrap();
}

#[tokio::test]
async fn the_status_has_a_row_for_each_second() {
    let relay = TestRelay::start().await;
    let status = loop {
        let status: Value = serde_json::from_str(body(&get(&relay.running, "/status.json").await)).unwrap();
        if status["next"].as_u64() > Some(0) {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let columns = status["columns"].as_array().unwrap().len();
    for rows in [&status["rows"], &status["times"]] {
        assert_eq!(rows.as_array().unwrap().len() as u64, status["next"].as_u64().unwrap());
    }
    assert_eq!(status["rows"][0].as_array().unwrap().len(), columns);
    assert_eq!((status["readiness"].as_str(), &status["rows"][0][8]), (Some("ready"), &Value::Null));

    let next = status["next"].as_u64().unwrap();
    let newer: Value =
        serde_json::from_str(body(&get(&relay.running, &format!("/status.json?from={next}")).await)).unwrap();
    assert!(newer["rows"].as_array().unwrap().len() <= 1, "nothing is sent twice");
}

#[tokio::test]
async fn whoever_asks_is_told_as_whom_the_relay_sees_it() {
    let relay = TestRelay::start().await;
    assert_eq!(body(&get(&relay.running, "/v1/seen-as").await), "127.0.0.1\n");
    let forwarded = b"GET /v1/seen-as HTTP/1.1\r\nHost: r\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n";
    assert_eq!(body(&http(&relay.running, forwarded).await), "203.0.113.9\n");
}
