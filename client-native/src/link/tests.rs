//! Both transports carry whole messages both ways and end in the same few ways, against real
//! sockets.

use std::net::SocketAddr;

use ::iroh::endpoint::{VarInt, presets};
use ::iroh::{Endpoint, RelayMode};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use zerok_sync_protocol::close;
use zerok_sync_protocol::label::{IROH_ALPN, WS_PATH, WS_SUBPROTOCOL};
use zerok_sync_protocol::limits::NOISE_MESSAGE_BYTES_MAX;

use super::*;

const ID: LinkId = LinkId(7);

type Inputs = mpsc::Receiver<(LinkId, LinkInput)>;

fn open(transport: Transport, address: SocketAddr) -> (Link, Inputs) {
    let (inputs_tx, inputs) = mpsc::channel(4);
    let relay = RelayAddress { url: format!("http://{address}"), key: None };
    (Link::open(ID, relay, Arc::new(Dialer::new(transport)), inputs_tx), inputs)
}

async fn next(inputs: &mut Inputs) -> LinkInput {
    let (id, input) = inputs.recv().await.expect("the link says how it ends");
    assert_eq!(id, ID);
    input
}

async fn expect_up(inputs: &mut Inputs) {
    let input = next(inputs).await;
    assert!(matches!(input, LinkInput::Up), "{input:?}");
}

async fn expect_message(inputs: &mut Inputs) -> Bytes {
    match next(inputs).await {
        LinkInput::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

async fn expect_down(inputs: &mut Inputs) -> LinkDownReason {
    match next(inputs).await {
        LinkInput::Down(reason) => reason,
        other => panic!("{other:?}"),
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

#[allow(clippy::result_large_err, reason = "the library's callback type")]
fn check_request(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    assert_eq!(request.uri().path(), WS_PATH);
    assert_eq!(request.headers()["sec-websocket-protocol"], WS_SUBPROTOCOL);
    response.headers_mut().insert("sec-websocket-protocol", WS_SUBPROTOCOL.parse().expect("a header"));
    Ok(response)
}

async fn accept(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    let (socket, _) = listener.accept().await.expect("accepts");
    tokio_tungstenite::accept_hdr_async(socket, check_request).await.expect("upgrades")
}

/// A link over WebSocket, and the relay's end of it.
async fn websocket_pair() -> (Link, Inputs, WebSocketStream<TcpStream>) {
    let (listener, address) = listen().await;
    let (link, mut inputs) = open(Transport::WebSocket, address);
    let socket = accept(&listener).await;
    expect_up(&mut inputs).await;
    (link, inputs, socket)
}

/// Answers every request with `response` and counts nothing.
async fn serve_http(listener: TcpListener, response: String) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let mut request = [0; 4096];
        let _ = socket.read(&mut request).await;
        let _ = socket.write_all(response.as_bytes()).await;
    }
}

fn http_ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// A link over iroh, the relay's end of it, and the endpoint that keeps it alive.
async fn iroh_pair() -> (Link, Inputs, ::iroh::endpoint::Connection, Endpoint) {
    let endpoint = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .alpns(vec![IROH_ALPN.to_vec()])
        .bind()
        .await
        .expect("binds");
    let port = endpoint.bound_sockets().into_iter().find(SocketAddr::is_ipv4).expect("an IPv4 socket").port();
    let (listener, address) = listen().await;
    let document = format!(r#"{{"iroh":[{{"endpoint_id":"{}","addrs":["127.0.0.1:{port}"]}}]}}"#, endpoint.id());
    tokio::spawn(serve_http(listener, http_ok(&document)));

    let (link, mut inputs) = open(Transport::Iroh, address);
    let connection = endpoint.accept().await.expect("open").await.expect("connects");
    expect_up(&mut inputs).await;
    (link, inputs, connection, endpoint)
}

#[tokio::test]
async fn websocket_carries_messages_up_to_the_noise_limit_both_ways() {
    let (link, mut inputs, mut socket) = websocket_pair().await;
    let longest = Bytes::from(vec![5; NOISE_MESSAGE_BYTES_MAX]);
    for message in [Bytes::from_static(b"hello"), longest, Bytes::new()] {
        assert!(link.send(message.clone()).is_ok());
        assert_eq!(socket.next().await.expect("open").expect("sound"), Message::Binary(message.clone()));
        socket.send(Message::Binary(message.clone())).await.expect("sends");
        assert_eq!(expect_message(&mut inputs).await, message);
    }
}

#[tokio::test]
async fn websocket_close_4004_means_unsupported_version() {
    let (_link, mut inputs, mut socket) = websocket_pair().await;
    let frame = CloseFrame { code: close::UNSUPPORTED_VERSION.into(), reason: "min 2\u{7} max 3".into() };
    socket.close(Some(frame)).await.expect("closes");
    assert_eq!(expect_down(&mut inputs).await, LinkDownReason::UnsupportedVersion("min 2 max 3".into()));
}

#[tokio::test]
async fn websocket_close_1013_means_try_later_as_long_as_it_says() {
    let (_link, mut inputs, mut socket) = websocket_pair().await;
    let frame = CloseFrame { code: close::TRY_LATER.into(), reason: close::try_later_reason(7_000).into() };
    socket.close(Some(frame)).await.expect("closes");
    assert_eq!(expect_down(&mut inputs).await, LinkDownReason::TryLater { retry_after_ms: 7_000 });
}

#[tokio::test]
async fn a_busy_relays_http_answer_means_try_later() {
    for (answer, retry_after_ms) in [
        ("429 Too Many Requests\r\nRetry-After: 5", Some(5_000)),
        ("503 Service Unavailable\r\nRetry-After: 2", Some(2_000)),
        ("503 Service Unavailable\r\nRetry-After: Fri, 31 Dec 2027 23:59:59 GMT", None),
        ("503 Service Unavailable", None),
    ] {
        let (listener, address) = listen().await;
        tokio::spawn(serve_http(listener, format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n")));
        let (_link, mut inputs) = open(Transport::WebSocket, address);
        match (expect_down(&mut inputs).await, retry_after_ms) {
            (LinkDownReason::TryLater { retry_after_ms }, Some(expected)) => assert_eq!(retry_after_ms, expected),
            (LinkDownReason::Unreachable(_), None) => {}
            (reason, _) => panic!("{answer}: {reason:?}"),
        }
    }
}

#[tokio::test]
async fn websocket_other_closes_and_resets_mean_closed() {
    let (_link, mut inputs, mut socket) = websocket_pair().await;
    socket.close(None).await.expect("closes");
    assert_eq!(expect_down(&mut inputs).await, LinkDownReason::Closed);

    let (_link, mut inputs, socket) = websocket_pair().await;
    drop(socket);
    assert_eq!(expect_down(&mut inputs).await, LinkDownReason::Closed);
}

#[tokio::test]
async fn websocket_text_and_oversized_messages_are_invalid() {
    for message in [Message::text("hello"), Message::binary(vec![0; NOISE_MESSAGE_BYTES_MAX + 1])] {
        let (_link, mut inputs, mut socket) = websocket_pair().await;
        socket.send(message).await.expect("sends");
        let reason = expect_down(&mut inputs).await;
        assert!(matches!(reason, LinkDownReason::Invalid(_)), "{reason:?}");
    }
}

#[tokio::test]
async fn a_closed_link_first_sends_what_it_has() {
    let (link, _inputs, mut socket) = websocket_pair().await;
    assert!(link.send(Bytes::from_static(b"bye")).is_ok());
    let closed = link.close();
    assert_eq!(socket.next().await.expect("open").expect("sound"), Message::binary(b"bye".as_slice()));
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
    closed.await.expect("ends");
}

#[tokio::test]
async fn a_peer_that_does_not_read_does_not_hold_up_closing() {
    let (link, _inputs, _socket) = websocket_pair().await;
    let message = Bytes::from(vec![0; NOISE_MESSAGE_BYTES_MAX]);
    // More than the kernel buffers.
    for _ in 0..512 {
        assert!(link.send(message.clone()).is_ok());
    }
    link.close().await.expect("ends by its deadline");
}

#[tokio::test]
async fn a_queue_that_nobody_drains_is_bounded() {
    let (listener, address) = listen().await;
    let (link, _inputs) = open(Transport::WebSocket, address);
    let refused = (0..=OUTGOING_MESSAGES_MAX).any(|_| link.send(Bytes::new()).is_err());
    assert!(refused);
    drop(listener);
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let (listener, address) = listen().await;
    drop(listener);
    for transport in [Transport::WebSocket, Transport::Iroh, Transport::Auto] {
        let (_link, mut inputs) = open(transport, address);
        let reason = expect_down(&mut inputs).await;
        assert!(matches!(reason, LinkDownReason::Unreachable(_)), "{reason:?}");
    }
}

#[tokio::test]
async fn a_web_server_that_is_no_relay_is_told_apart_from_a_relay_that_is_down() {
    for (status, is_relay_down) in [("404 Not Found", false), ("200 OK", false), ("502 Bad Gateway", true)] {
        let (listener, address) = listen().await;
        tokio::spawn(serve_http(listener, format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")));
        let (_link, mut inputs) = open(Transport::WebSocket, address);
        let reason = expect_down(&mut inputs).await;
        assert_eq!(matches!(reason, LinkDownReason::Unreachable(_)), is_relay_down, "{status}: {reason:?}");
        assert_eq!(matches!(reason, LinkDownReason::Invalid(_)), !is_relay_down, "{status}: {reason:?}");
    }
}

#[tokio::test]
async fn a_server_without_the_subprotocol_is_invalid() {
    let (listener, address) = listen().await;
    let (_link, mut inputs) = open(Transport::WebSocket, address);
    let (socket, _) = listener.accept().await.expect("accepts");
    let _socket = tokio_tungstenite::accept_async(socket).await;
    let reason = expect_down(&mut inputs).await;
    assert!(matches!(reason, LinkDownReason::Invalid(_)), "{reason:?}");
}

#[tokio::test]
async fn iroh_carries_messages_up_to_the_noise_limit_both_ways() {
    let (link, mut inputs, connection, _endpoint) = iroh_pair().await;
    let messages = [Bytes::from_static(b"hello"), Bytes::from(vec![5; NOISE_MESSAGE_BYTES_MAX]), Bytes::new()];
    for message in &messages {
        assert!(link.send(message.clone()).is_ok());
    }
    let (mut send, mut receive) = connection.accept_bi().await.expect("opens");
    for message in messages {
        let mut prefix = [0; 2];
        receive.read_exact(&mut prefix).await.expect("reads");
        assert_eq!(usize::from(u16::from_be_bytes(prefix)), message.len());
        let mut received = vec![0; message.len()];
        receive.read_exact(&mut received).await.expect("reads");
        assert_eq!(received, message);
        send.write_all(&prefix).await.expect("writes");
        send.write_all(&message).await.expect("writes");
        assert_eq!(expect_message(&mut inputs).await, message);
    }
}

#[tokio::test]
async fn iroh_closes_are_told_apart_by_their_code() {
    let (_link, mut inputs, connection, _endpoint) = iroh_pair().await;
    connection.close(VarInt::from_u32(close::UNSUPPORTED_VERSION.into()), b"min 2 max 3");
    assert_eq!(expect_down(&mut inputs).await, LinkDownReason::UnsupportedVersion("min 2 max 3".into()));

    let (_link, mut inputs, connection, _endpoint) = iroh_pair().await;
    connection.close(VarInt::from_u32(close::TRY_LATER.into()), close::try_later_reason(7_000).as_bytes());
    assert_eq!(expect_down(&mut inputs).await, LinkDownReason::TryLater { retry_after_ms: 7_000 });

    let (_link, mut inputs, connection, _endpoint) = iroh_pair().await;
    connection.close(VarInt::from_u32(1), b"");
    assert_eq!(expect_down(&mut inputs).await, LinkDownReason::Closed);
}

#[tokio::test]
async fn an_iroh_link_that_is_closed_first_sends_what_it_has() {
    let (link, _inputs, connection, _endpoint) = iroh_pair().await;
    assert!(link.send(Bytes::from_static(b"bye")).is_ok());
    let closed = link.close();
    let (_send, mut receive) = connection.accept_bi().await.expect("opens");
    let received = receive.read_to_end(100).await.expect("reads to the end");
    assert_eq!(received, b"\0\x03bye");
    closed.await.expect("ends");
}

#[tokio::test]
async fn a_relay_without_iroh_is_said_so() {
    for document in ["{}", r#"{"iroh":[]}"#] {
        let (listener, address) = listen().await;
        tokio::spawn(serve_http(listener, http_ok(document)));
        let (_link, mut inputs) = open(Transport::Iroh, address);
        let LinkDownReason::Unreachable(text) = expect_down(&mut inputs).await else { panic!("another reason") };
        assert!(text.contains("--transport ws"), "{text}");
    }
}

#[tokio::test]
async fn an_endless_description_is_not_read_to_its_end() {
    let (listener, address) = listen().await;
    tokio::spawn(serve_http(listener, http_ok(&" ".repeat(1_000_000))));
    let (_link, mut inputs) = open(Transport::Iroh, address);
    let LinkDownReason::Unreachable(text) = expect_down(&mut inputs).await else { panic!("another reason") };
    assert!(text.contains("longer than"), "{text}");
}

/// Serves both: descriptions over plain HTTP, and links.
async fn serve_relay(listener: TcpListener, description: String) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let mut start = [0; 16];
        let length = socket.peek(&mut start).await.unwrap_or_default();
        if start[..length].starts_with(b"GET /.well-known") {
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(description.as_bytes()).await;
        } else if let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(socket, check_request).await {
            tokio::spawn(async move { while socket.next().await.is_some() {} });
        }
    }
}

#[tokio::test]
async fn auto_takes_websocket_where_iroh_does_not_answer_and_remembers_it() {
    // An endpoint that has gone: nothing answers at its address any more.
    let gone = Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled).bind().await.expect("binds");
    let port = gone.bound_sockets().into_iter().find(SocketAddr::is_ipv4).expect("an IPv4 socket").port();
    let document = format!(r#"{{"iroh":[{{"endpoint_id":"{}","addrs":["127.0.0.1:{port}"]}}]}}"#, gone.id());
    gone.close().await;
    let (listener, address) = listen().await;
    tokio::spawn(serve_relay(listener, http_ok(&document)));

    let dialer = Dialer::new(Transport::Auto);
    let relay = dial::parse_origin(&format!("http://{address}")).expect("an origin");
    let link = dialer.dial_auto(&relay).await;
    assert!(matches!(link, Ok((Sender::WebSocket(_), Receiver::WebSocket(_)))));

    let again = tokio::time::timeout(std::time::Duration::from_millis(1500), dialer.dial_auto(&relay)).await;
    assert!(matches!(again, Ok(Ok((Sender::WebSocket(_), _)))), "without waiting for iroh again");
}

#[tokio::test]
async fn auto_takes_iroh_where_it_answers() {
    let endpoint = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .alpns(vec![IROH_ALPN.to_vec()])
        .bind()
        .await
        .expect("binds");
    let port = endpoint.bound_sockets().into_iter().find(SocketAddr::is_ipv4).expect("an IPv4 socket").port();
    let document = format!(r#"{{"iroh":[{{"endpoint_id":"{}","addrs":["127.0.0.1:{port}"]}}]}}"#, endpoint.id());
    let (listener, address) = listen().await;
    tokio::spawn(serve_relay(listener, http_ok(&document)));
    let accepting = tokio::spawn(async move { endpoint.accept().await.expect("open").await.expect("connects") });

    let relay = dial::parse_origin(&format!("http://{address}")).expect("an origin");
    let link = Dialer::new(Transport::Auto).dial_auto(&relay).await;
    assert!(matches!(link, Ok((Sender::Iroh(_), Receiver::Iroh(_)))));
    accepting.await.expect("accepted");
}

/// A TLS server on localhost that serves a relay's description and links, and who to trust for it.
async fn https_relay(description: String) -> (u16, rustls::RootCertStore) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certifies");
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("a sound certificate");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).expect("a sound certificate");

    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (listener, address) = listen().await;
    let (plain_listener, plain_address) = listen().await;
    tokio::spawn(serve_relay(plain_listener, description));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // Who does not trust the certificate hangs up here.
            if let Ok(mut outside) = acceptor.accept(socket).await {
                let mut inside = TcpStream::connect(plain_address).await.expect("connects");
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut outside, &mut inside).await });
            }
        }
    });
    (address.port(), roots)
}

#[tokio::test]
async fn an_https_relay_is_reached_through_tls() {
    let (port, roots) = https_relay(http_ok("{}")).await;
    let relay = format!("https://localhost:{port}");

    let dialer = Dialer::trusting(Transport::WebSocket, roots.clone());
    assert!(matches!(dialer.dial(&relay).await, Ok((Sender::WebSocket(_), _))));

    let refused = Dialer::trusting(Transport::Iroh, roots).dial(&relay).await.err();
    let Some(LinkDownReason::Unreachable(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("lists no iroh endpoint"), "its description was read: {text}");
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_refused() {
    let (port, _roots) = https_relay(http_ok("{}")).await;
    let relay = format!("https://localhost:{port}");
    for transport in [Transport::WebSocket, Transport::Iroh] {
        let refused = Dialer::new(transport).dial(&relay).await.err();
        let Some(LinkDownReason::Unreachable(text)) = refused else { panic!("{refused:?}") };
        assert!(text.contains("certificate"), "{text}");
    }
}
