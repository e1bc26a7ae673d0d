//! Clients that are slow or silent on purpose, at every layer: each is ended by a deadline or
//! refused before anything is kept for it, and a legitimate client beside it is served.

use std::time::Duration;

use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use zerok_sync_protocol::channel::Initiator;
use zerok_sync_protocol::frame::Who;
use zerok_sync_protocol::{ErrorCode, RelayFrame, hello};
use zerok_sync_relay::link::Close;
use zerok_sync_relay::metrics::Transport;

use crate::support::link::{self, TestLink, http};
use crate::support::{Group, PATIENCE, TestRelay, device, hello_frame, rng};

/// Short enough for a test, long enough for a legitimate client on a busy machine.
const DEADLINE_MS: u64 = 400;
const TIMEOUT: Option<u64> = Some(Close::TIMEOUT as u64);
const PROTOCOL: Option<u64> = Some(Close::PROTOCOL as u64);

async fn impatient() -> TestRelay {
    TestRelay::start_with(|config| {
        config.limits.http_header_deadline_ms = DEADLINE_MS;
        config.limits.http_connection_ms_max = 4 * DEADLINE_MS;
        config.limits.handshake_deadline_ms = DEADLINE_MS;
    })
    .await
}

#[tokio::test]
async fn headers_that_trickle_in_are_cut_at_the_deadline() {
    let relay = impatient().await;
    let mut stream = TcpStream::connect(relay.running.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    trickle_until_cut(&mut stream, b"a: b\r\n").await;
}

#[tokio::test]
async fn a_connection_that_is_kept_and_not_used_is_cut_at_the_deadline() {
    let relay = impatient().await;
    let mut stream = TcpStream::connect(relay.running.addr).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: relay\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("cut in time").unwrap();
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 200"), "served, kept, and then cut");
}

#[tokio::test]
async fn requests_one_after_the_other_do_not_keep_a_connection_for_ever() {
    let relay = impatient().await;
    let mut stream = TcpStream::connect(relay.running.addr).await.unwrap();
    trickle_until_cut(&mut stream, b"GET /health HTTP/1.1\r\nHost: relay\r\n\r\n").await;
}

#[tokio::test]
async fn a_request_with_a_body_is_refused_before_the_body_comes() {
    let relay = impatient().await;
    for body in
        ["Content-Length: 4294967296\r\n\r\n", "Content-Length: 10\r\n\r\nslow", "Transfer-Encoding: chunked\r\n\r\n"]
    {
        let answer = http(&relay.running, format!("POST /health HTTP/1.1\r\nHost: relay\r\n{body}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("connection: close"), "{body:?}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_is_cut() {
    let relay = impatient().await;
    let mut stream = TcpStream::connect(relay.running.addr).await.unwrap();
    let request = b"GET /health HTTP/1.1\r\nHost: relay\r\n\r\n".repeat(1_000);
    // The sockets' buffers fill in both directions, and then nobody moves.
    let stuck = timeout(PATIENCE, async { while stream.write_all(&request).await.is_ok() {} });
    stuck.await.expect("cut in time");
}

#[tokio::test]
async fn an_upgraded_connection_that_says_nothing_or_only_pings_is_cut() {
    let relay = impatient().await;
    let mut silent = link::ws(&relay.running).await;
    assert_eq!(silent.recv().await.unwrap_err().code, TIMEOUT);

    let mut pinging = link::ws(&relay.running).await;
    let mut ticks = interval(Duration::from_millis(50));
    let ended = timeout(PATIENCE, async {
        loop {
            let TestLink::Ws(socket) = &mut pinging else { unreachable!() };
            let _ = socket.send(Message::Ping("x".into())).await;
            tokio::select! {
                ended = pinging.recv() => return ended.unwrap_err(),
                _ = ticks.tick() => {}
            }
        }
    });
    assert_eq!(ended.await.expect("cut in time").code, TIMEOUT, "pings are no handshake");
}

#[tokio::test]
async fn a_flood_of_pings_without_a_message_is_cut_at_once() {
    let relay = TestRelay::start().await;
    let mut client = relay.founder(&Group::new(1), &device(1)).await;
    let TestLink::Ws(socket) = &mut client.link else { unreachable!() };
    for _ in 0..65 {
        let _ = socket.feed(Message::Ping("x".into())).await;
    }
    let _ = socket.flush().await;
    assert_eq!(client.ended().await.code, PROTOCOL);
    relay.assert_serves().await;
}

#[tokio::test]
async fn pings_between_messages_are_answered_and_harmless() {
    let relay = TestRelay::start().await;
    let mut client = relay.founder(&Group::new(1), &device(1)).await;
    for _ in 0..4 {
        let TestLink::Ws(socket) = &mut client.link else { unreachable!() };
        for _ in 0..30 {
            socket.feed(Message::Ping("x".into())).await.unwrap();
        }
        assert!(client.is_quiet().await);
    }
}

#[tokio::test]
async fn a_message_in_fragments_is_one_message_and_an_endless_one_is_refused() {
    let relay = impatient().await;
    let (_, first) = Initiator::relay(&device(1), &mut rng(1));
    let mut link = link::ws(&relay.running).await;
    send_fragment(&mut link, &first[..100], OpCode::Data(Data::Binary), false).await;
    send_fragment(&mut link, &first[100..], OpCode::Data(Data::Continue), true).await;
    link.recv().await.expect("message 2");

    let mut endless = link::ws(&relay.running).await;
    send_fragment(&mut endless, &[0; 1_000], OpCode::Data(Data::Binary), false).await;
    for _ in 0..100 {
        send_fragment(&mut endless, &[0; 1_000], OpCode::Data(Data::Continue), false).await;
    }
    endless.recv().await.expect_err("longer than any message");

    let mut unfinished = link::ws(&relay.running).await;
    send_fragment(&mut unfinished, &first[..100], OpCode::Data(Data::Binary), false).await;
    assert_eq!(unfinished.recv().await.unwrap_err().code, TIMEOUT);
}

#[tokio::test]
async fn compression_is_not_agreed_to() {
    let relay = TestRelay::start().await;
    let request = "GET /v1/ws HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: 0k-sync.v1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let mut stream = TcpStream::connect(relay.running.addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101") && !head.contains("sec-websocket-extensions"), "{head}");
    // A frame with the bit of a compressed message is no frame then.
    stream.write_all(&[0xc2, 0x81, 0, 0, 0, 0, 1]).await.unwrap();
    timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("cut in time").ok();
}

#[tokio::test]
async fn a_handshake_that_trickles_in_is_cut_on_both_transports() {
    let relay = impatient().await;
    let (_, first) = Initiator::relay(&device(1), &mut rng(1));
    // The frame's header promises the whole message; its bytes come one by one.
    let mut ws = link::ws(&relay.running).await;
    let [high, low] = u16::try_from(first.len()).unwrap().to_be_bytes();
    ws.send_raw(&[0x82, 0xfe, high, low, 0, 0, 0, 0]).await;
    let mut iroh = link::iroh(&relay.running).await;
    iroh.send_raw(&[high, low]).await;
    for mut link in [ws, iroh] {
        let mut ticks = interval(Duration::from_millis(20));
        let ended = timeout(PATIENCE, async {
            for byte in first.iter().cycle() {
                link.send_raw(&[*byte]).await;
                tokio::select! {
                    ended = link.recv() => return ended.unwrap_err(),
                    _ = ticks.tick() => {}
                }
            }
            unreachable!("a cycle does not end")
        });
        assert_eq!(ended.await.expect("cut in time").code, TIMEOUT);
    }
    assert_serves_quickly(&relay).await;
}

#[tokio::test]
async fn a_quic_connection_without_a_stream_and_a_stream_without_bytes_are_cut() {
    let relay = impatient().await;
    let (_endpoint, no_stream) = link::quic(&relay.running).await;
    let mut no_bytes = link::iroh(&relay.running).await;
    let mut no_payload = link::iroh(&relay.running).await;
    no_payload.send_raw(&1_233_u16.to_be_bytes()).await;
    let closed = timeout(PATIENCE, no_stream.closed()).await.expect("cut in time");
    assert!(closed.to_string().contains("no stream was opened in time"), "{closed}");
    assert_eq!(no_bytes.recv().await.unwrap_err().code, TIMEOUT);
    assert_eq!(no_payload.recv().await.unwrap_err().code, TIMEOUT);
    assert_serves_quickly(&relay).await;
}

#[tokio::test]
async fn lengths_of_four_gib_are_refused_before_and_after_authentication() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    relay.founder(&group, &device(1)).await;
    let before = memory_kib();
    for _ in 0..20 {
        // A WebSocket frame of 4 GiB.
        let mut raw = link::ws(&relay.running).await;
        raw.send_raw(&[0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4]).await;
        raw.recv().await.unwrap_err();
        // A frame of 4 GiB behind the handshake, before Hello.
        assert_eq!(announce_4_gib(&relay, None).await, ErrorCode::InvalidMessage);
        assert_eq!(announce_4_gib(&relay, Some(&group)).await, ErrorCode::InvalidMessage);
    }
    let grown = memory_kib().saturating_sub(before);
    assert!(grown < 200 * 1024, "memory grew by {grown} KiB");
    relay.assert_serves().await;
}

#[tokio::test]
async fn message_pack_that_is_deep_or_claims_to_be_huge_is_refused_by_its_first_bytes() {
    let relay = TestRelay::start().await;
    let before = memory_kib();
    let deep = [0x91; 3_000];
    // A Push whose list has four thousand million envelopes, whose envelope has four gigabytes,
    // and a map, a string, an extension of that size.
    let push = |rest: &[u8]| [&[0x94, 2, 1][..], rest].concat();
    let huge = [
        deep.to_vec(),
        push(&[0xdd, 0xff, 0xff, 0xff, 0xff]),
        push(&[0x91, 0xc6, 0xff, 0xff, 0xff, 0xff, 0]),
        vec![0xdf, 0xff, 0xff, 0xff, 0xff],
        vec![0xdb, 0xff, 0xff, 0xff, 0xff],
        vec![0xc9, 0xff, 0xff, 0xff, 0xff, 0],
    ];
    for bytes in huge {
        for hello in [false, true] {
            let mut client = relay.ws(&device(1)).await;
            if hello {
                client.guest().await;
            }
            client.queue_bytes(&bytes);
            client.flush().await;
            client.ends_with(ErrorCode::InvalidMessage).await;
        }
    }
    let grown = memory_kib().saturating_sub(before);
    assert!(grown < 200 * 1024, "memory grew by {grown} KiB");
    relay.assert_serves().await;
}

#[tokio::test]
async fn slow_clients_at_every_layer_at_once_leave_the_relay_to_the_others() {
    let relay = impatient().await;
    let mut slow = Vec::new();
    for _ in 0..30 {
        let mut http = TcpStream::connect(relay.running.addr).await.unwrap();
        http.write_all(b"GET / HTT").await.unwrap();
        let ws = link::ws(&relay.running).await;
        let iroh = link::iroh(&relay.running).await;
        slow.push((http, ws, iroh));
        if slow.len() % 10 == 0 {
            assert_serves_quickly(&relay).await;
        }
    }
    let metrics = relay.running.metrics();
    let emptied = timeout(PATIENCE, async {
        while metrics.connections.get_or_create(&Transport::Iroh.into()).get() > 0 {
            tokio::task::yield_now().await;
        }
    });
    emptied.await.expect("none is kept past its deadline");
}

async fn assert_serves_quickly(relay: &TestRelay) {
    let served = timeout(Duration::from_secs(5), async {
        for mut client in [relay.ws(&device(9)).await, relay.iroh(&device(9)).await] {
            client.guest().await;
            client.link.drop_it().await;
        }
    });
    served.await.expect("a legitimate client does not wait");
}

/// Sends `bytes` every 50 ms until the relay ends the connection.
async fn trickle_until_cut(stream: &mut TcpStream, bytes: &[u8]) {
    let mut ticks = interval(Duration::from_millis(50));
    let mut answer = [0; 4_096];
    let cut = timeout(PATIENCE, async {
        loop {
            tokio::select! {
                read = stream.read(&mut answer) => if read.unwrap_or(0) == 0 { return },
                _ = ticks.tick() => if stream.write_all(bytes).await.is_err() { return },
            }
        }
    });
    cut.await.expect("cut in time");
}

async fn send_fragment(link: &mut TestLink, bytes: &[u8], opcode: OpCode, last: bool) {
    let TestLink::Ws(socket) = link else { unreachable!() };
    let _ = socket.send(Message::Frame(Frame::message(bytes.to_vec(), opcode, last))).await;
}

/// Announces a frame of 4 GiB on a fresh session, behind `Hello` if there is a group; the error.
async fn announce_4_gib(relay: &TestRelay, group: Option<&Group>) -> ErrorCode {
    let mut link = link::ws(&relay.running).await;
    let (state, first) = Initiator::relay(&device(1), &mut rng(1));
    link.send(first).await;
    let (third, mut channel) = state.read(&link.recv().await.unwrap()).unwrap().finish(&[]).unwrap();
    link.send(third).await;
    let mut stream = Vec::new();
    if let Some(group) = group {
        let signature = hello::sign(&group.0, &channel.handshake_hash(), false);
        let frame = hello_frame(Who::Member { auth_public: group.public(), signature }, false).encode();
        stream.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_be_bytes());
        stream.extend_from_slice(&frame);
    }
    stream.extend_from_slice(&[0xff; 4]);
    link.send(channel.seal(&stream).unwrap()).await;
    let mut received = Vec::new();
    loop {
        received.extend(channel.open(&link.recv().await.unwrap()).unwrap());
        while let Some((length, rest)) = received.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            if rest.len() < length {
                break;
            }
            if let RelayFrame::Error { code, .. } = RelayFrame::decode(&rest[..length]).unwrap() {
                return ErrorCode::from_number(code).unwrap();
            }
            received.drain(..4 + length);
        }
    }
}

/// What this process, relay and clients together, has in memory.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_quic_client_can_leave_no_datagrams_in_memory() {
    let relay = TestRelay::start().await;
    let (_endpoint, connection) = link::quic(&relay.running).await;
    assert_eq!(connection.max_datagram_size(), None, "the relay says in its handshake that it takes none");
}
