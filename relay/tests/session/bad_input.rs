//! Bytes that no client sends, at every level: each gets a typed error or a close, and the relay
//! goes on serving.

use futures_util::SinkExt;
use rand_core::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use zerok_sync_protocol::channel::Initiator;
use zerok_sync_protocol::{ClientFrame, ErrorCode};
use zerok_sync_relay::link::Close;

use crate::support::link::{self, TestLink, get, http};
use crate::support::{Client, Group, PATIENCE, TestRelay, device, rng};

const PROTOCOL: Option<u64> = Some(Close::PROTOCOL as u64);
const TIMEOUT: Option<u64> = Some(Close::TIMEOUT as u64);

#[tokio::test]
async fn garbage_at_http_is_answered_400_or_cut() {
    let relay = TestRelay::start_with(|config| config.limits.http_header_deadline_ms = 500).await;
    let long_line = [b"GET /", vec![b'a'; 100_000].as_slice(), b" HTTP/1.1\r\n\r\n"].concat();
    let many_headers = ["GET / HTTP/1.1\r\n".to_owned(), "a: b\r\n".repeat(1_000), "\r\n".to_owned()].concat();
    let mut noise = vec![0; 4_096];
    rng(1).fill_bytes(&mut noise);
    for request in [b"\x16\x03\x01\x02\x00\r\n\r\n".as_slice(), &noise, &long_line, many_headers.as_bytes()] {
        let answer = http(&relay.running, request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    relay.assert_serves().await;
}

#[tokio::test]
async fn paths_that_are_not_there_are_404_and_lead_nowhere_else() {
    let relay = TestRelay::start().await;
    for path in ["/nothing", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v1/ws/more"] {
        assert!(get(&relay.running, path).await.starts_with("HTTP/1.1 404"), "{path}");
    }
    assert!(get(&relay.running, "/v1/ws").await.starts_with("HTTP/1.1 4"), "not a WebSocket request");
}

#[tokio::test]
async fn a_request_whose_headers_do_not_come_is_cut_at_the_deadline() {
    let relay = TestRelay::start_with(|config| config.limits.http_header_deadline_ms = 100).await;
    let mut stream = TcpStream::connect(relay.running.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("cut in time").ok();
    relay.assert_serves().await;
}

#[tokio::test]
async fn connections_over_the_cap_are_told_to_come_back() {
    let relay = TestRelay::start_with(|config| config.limits.connections_max = 2).await;
    let first = relay.ws(&device(1)).await;
    let _second = relay.ws(&device(2)).await;
    assert!(get(&relay.running, "/health").await.starts_with("HTTP/1.1 503"));
    first.link.drop_it().await;
    timeout(PATIENCE, async {
        while !get(&relay.running, "/health").await.starts_with("HTTP/1.1 200") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the place is free again");
}

#[tokio::test]
async fn a_text_message_is_not_a_link_message() {
    let relay = TestRelay::start().await;
    let mut link = link::ws(&relay.running).await;
    let TestLink::Ws(socket) = &mut link else { unreachable!() };
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(link.recv().await.unwrap_err().code, PROTOCOL);
    relay.assert_serves().await;
}

#[tokio::test]
async fn bytes_that_are_no_websocket_frames_end_the_connection() {
    let relay = TestRelay::start().await;
    // A reserved opcode; an unmasked frame; a length of 2^63.
    for raw in
        [&[0x83, 0x80, 0, 0, 0, 0][..], &[0x82, 0x01, 0x00], &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
    {
        let mut link = link::ws(&relay.running).await;
        link.send_raw(raw).await;
        link.recv().await.unwrap_err();
    }
    relay.assert_serves().await;
}

#[tokio::test]
async fn a_link_message_longer_than_any_is_closed() {
    let relay = TestRelay::start().await;
    for len in [65_536, 1_000_000] {
        let mut link = link::ws(&relay.running).await;
        link.send(vec![1; len]).await;
        link.recv().await.unwrap_err();
    }
    relay.assert_serves().await;
}

#[tokio::test]
async fn a_handshake_message_over_4_kib_is_refused_on_both_transports() {
    let relay = TestRelay::start().await;
    for mut link in both(&relay).await {
        link.send([&[1_u8], vec![0; 4_096].as_slice()].concat()).await;
        assert_eq!(link.recv().await.unwrap_err().code, PROTOCOL);
    }
    relay.assert_serves().await;
}

#[tokio::test]
async fn an_empty_message_is_no_handshake() {
    let relay = TestRelay::start().await;
    for mut link in both(&relay).await {
        link.send(Vec::new()).await;
        assert_eq!(link.recv().await.unwrap_err().code, PROTOCOL);
    }
    relay.assert_serves().await;
}

#[tokio::test]
async fn a_damaged_or_truncated_first_message_is_refused() {
    let relay = TestRelay::start().await;
    let (_, first) = Initiator::relay(&device(1), &mut rng(1));
    let mut random = first.clone();
    rng(2).fill_bytes(&mut random[1..]);
    // Past the ephemeral key lies the ML-KEM key, where 0xfff is not a valid coefficient.
    let mut invalid_kem_key = first.clone();
    invalid_kem_key[33..100].fill(0xff);
    for message in [&first[..1], &first[..100], &first[..first.len() - 1], &random, &invalid_kem_key] {
        for mut link in both(&relay).await {
            link.send(message.to_vec()).await;
            match link.recv().await {
                Err(ended) => assert_eq!(ended.code, PROTOCOL),
                // Random bytes may be keys; message 3 then proves that nobody has their secrets.
                Ok(_) => {
                    link.send(vec![7; 64]).await;
                    assert_eq!(link.recv().await.unwrap_err().code, PROTOCOL);
                }
            }
        }
    }
    relay.assert_serves().await;
}

#[tokio::test]
async fn a_wrong_or_early_third_message_is_refused() {
    let relay = TestRelay::start().await;
    let (_, first) = Initiator::relay(&device(1), &mut rng(1));
    for third in [vec![7; 64], Vec::new(), first.clone()] {
        for mut link in both(&relay).await {
            link.send(first.clone()).await;
            link.recv().await.unwrap();
            link.send(third.clone()).await;
            assert_eq!(link.recv().await.unwrap_err().code, PROTOCOL);
        }
    }
    relay.assert_serves().await;
}

#[tokio::test]
async fn a_damaged_repeated_or_reordered_message_ends_the_channel() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    relay.founder(&group, &device(1)).await;
    for fault in ["damaged", "repeated", "reordered", "cut"] {
        let mut client = relay.member(&group, &device(1)).await;
        let mut messages: Vec<Vec<u8>> = (0..2)
            .map(|_| {
                client.queue(ClientFrame::Ping {});
                client.stream.poll_transmit().unwrap()
            })
            .collect();
        match fault {
            "damaged" => messages[0][3] ^= 1,
            "repeated" => messages.insert(0, messages[0].clone()),
            "reordered" => messages.swap(0, 1),
            _ => drop(messages[0].pop()),
        }
        for message in messages {
            client.link.send(message).await;
        }
        let ended = loop {
            if let Err(ended) = client.next_or_end().await {
                break ended;
            }
        };
        assert_eq!(ended.code, PROTOCOL, "{fault}");
    }
    relay.assert_serves().await;
}

#[tokio::test]
async fn bytes_that_are_no_frame_are_1000() {
    let relay = TestRelay::start().await;
    let mut random = vec![0; 200];
    rng(3).fill_bytes(&mut random);
    let unknown_tag = [0x91, 99];
    let trailing = [ClientFrame::Ping {}.encode(), vec![0]].concat();
    for bytes in [&[][..], &[0xc1], &random, &unknown_tag, &trailing, &[0x92, 6, 0xdd, 0xff, 0xff, 0xff, 0xff]] {
        let mut client = relay.ws(&device(1)).await;
        client.queue_bytes(bytes);
        client.flush().await;
        client.ends_with(ErrorCode::InvalidMessage).await;
    }
    relay.assert_serves().await;
}

#[tokio::test]
async fn a_members_frame_over_the_limit_is_refused_by_its_length_alone() {
    let relay = TestRelay::start().await;
    let mut client = relay.founder(&Group::new(1), &device(1)).await;
    client.queue_bytes(&vec![0; 1_179_648 + 64 * 1024 + 1]);
    let first = client.stream.poll_transmit().unwrap();
    client.link.send(first).await;
    client.ends_with(ErrorCode::InvalidMessage).await;
    relay.assert_serves().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_cut_at_the_deadline() {
    let relay = TestRelay::start_with(|config| config.limits.handshake_deadline_ms = 500).await;
    let (_, first) = Initiator::relay(&device(1), &mut rng(1));
    for mut link in both(&relay).await {
        if let TestLink::Iroh(_) = &link {
            // A stream is there for the relay once it carries something.
            link.send_raw(&[4]).await;
        }
        assert_eq!(link.recv().await.unwrap_err().code, TIMEOUT, "nothing was said");
    }
    for mut link in both(&relay).await {
        link.send(first.clone()).await;
        link.recv().await.unwrap();
        assert_eq!(link.recv().await.unwrap_err().code, TIMEOUT, "message 3 did not come");
    }
    let mut silent = relay.ws(&device(1)).await;
    assert_eq!(silent.ended().await.code, TIMEOUT, "Hello did not come");
    relay.assert_serves().await;
}

#[tokio::test]
async fn pings_do_not_put_the_hello_deadline_off() {
    let relay = TestRelay::start_with(|config| config.limits.handshake_deadline_ms = 200).await;
    let mut client = relay.ws(&device(1)).await;
    let ended = timeout(PATIENCE, async {
        loop {
            client.send(ClientFrame::Ping {}).await;
            if let Err(ended) = client.next_or_end().await {
                return ended;
            }
        }
    });
    assert_eq!(ended.await.expect("cut in time").code, TIMEOUT);
}

#[tokio::test]
async fn a_link_on_which_nothing_comes_is_dead_after_a_while() {
    let relay = TestRelay::start_with(|config| config.limits.dead_after_ms = 300).await;
    let mut client = relay.founder(&Group::new(1), &device(1)).await;
    assert_eq!(client.ended().await.code, TIMEOUT);
}

#[tokio::test]
async fn random_frames_of_a_member_never_bring_the_relay_down() {
    let relay = TestRelay::start().await;
    let group = Group::new(1);
    relay.founder(&group, &device(1)).await;
    let samples = [
        ClientFrame::Probe { cursors: Default::default() }.encode(),
        ClientFrame::Credit { bytes: u64::MAX }.encode(),
        crate::support::push_frame(1, &[crate::support::envelope(1)], true).encode(),
        crate::support::create_frame(&[], 1, &[]).encode(),
    ];
    let mut random = rng(4);
    for round in 0..60 {
        let mut client: Client = relay.member(&group, &device(1)).await;
        for _ in 0..20 {
            let mut bytes = samples[round % samples.len()].clone();
            let at = random.next_u32() as usize % bytes.len().min(12);
            bytes[at] = random.next_u32() as u8;
            client.queue_bytes(&bytes);
        }
        client.queue(ClientFrame::Bye {});
        client.flush().await;
        while client.next_or_end().await.is_ok() {}
    }
    relay.assert_serves().await;
}

async fn both(relay: &TestRelay) -> [TestLink; 2] {
    [link::ws(&relay.running).await, link::iroh(&relay.running).await]
}
