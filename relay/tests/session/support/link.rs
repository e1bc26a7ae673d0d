//! Both kinds of link, from the client's end, as raw as they come.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use iroh::endpoint::{Connection, ConnectionError, RecvStream, SendStream, VarInt, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, connect_async};
use zerok_sync_relay::RunningRelay;

use super::PATIENCE;

/// How a link ended: the close code, if one came, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub code: Option<u64>,
    pub reason: String,
}

pub enum TestLink {
    Ws(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
    Iroh(Box<IrohLink>),
}

pub struct IrohLink {
    pub endpoint: Endpoint,
    pub connection: Connection,
    pub send: SendStream,
    pub recv: RecvStream,
}

impl TestLink {
    /// Sends a link message. A relay that has closed does not take it, which the next `recv` tells.
    pub async fn send(&mut self, message: Vec<u8>) {
        match self {
            Self::Ws(socket) => drop(socket.send(Message::binary(message)).await),
            Self::Iroh(_) => {
                let prefix = u16::try_from(message.len()).unwrap().to_be_bytes();
                self.send_raw(&[&prefix, message.as_slice()].concat()).await;
            }
        }
    }

    /// Sends bytes below the message level.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        match self {
            Self::Ws(socket) => match socket.get_mut() {
                MaybeTlsStream::Plain(tcp) => drop(tcp.write_all(bytes).await),
                _ => unreachable!("tests use plain TCP"),
            },
            Self::Iroh(link) => drop(link.send.write_all(bytes).await),
        }
    }

    pub async fn recv(&mut self) -> Result<Bytes, Ended> {
        timeout(PATIENCE, async {
            match self {
                Self::Ws(socket) => recv_ws(socket).await,
                Self::Iroh(link) => link.recv().await,
            }
        })
        .await
        .expect("a message or the end in time")
    }

    /// Leaves without a word.
    pub async fn drop_it(self) {
        match self {
            Self::Ws(socket) => drop(socket),
            Self::Iroh(link) => {
                link.connection.close(VarInt::from_u32(0), b"");
                link.endpoint.close().await;
            }
        }
    }
}

async fn recv_ws(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Result<Bytes, Ended> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(message))) => return Ok(message),
            Some(Ok(Message::Close(Some(frame)))) => {
                return Err(Ended { code: Some(u16::from(frame.code).into()), reason: frame.reason.to_string() });
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(Ended { code: None, reason: error.to_string() }),
            None => return Err(Ended { code: None, reason: String::new() }),
        }
    }
}

impl IrohLink {
    async fn recv(&mut self) -> Result<Bytes, Ended> {
        let mut prefix = [0; 2];
        if self.recv.read_exact(&mut prefix).await.is_err() {
            return Err(self.ended().await);
        }
        let mut message = vec![0; usize::from(u16::from_be_bytes(prefix))];
        match self.recv.read_exact(&mut message).await {
            Ok(()) => Ok(message.into()),
            Err(_) => Err(self.ended().await),
        }
    }

    async fn ended(&self) -> Ended {
        ended(self.connection.closed().await)
    }
}

fn ended(error: ConnectionError) -> Ended {
    match error {
        ConnectionError::ApplicationClosed(close) => Ended {
            code: Some(close.error_code.into_inner()),
            reason: String::from_utf8_lossy(&close.reason).into_owned(),
        },
        other => Ended { code: None, reason: other.to_string() },
    }
}

pub async fn ws(relay: &RunningRelay) -> TestLink {
    ws_at(relay.addr).await
}

pub async fn ws_at(addr: SocketAddr) -> TestLink {
    try_ws_at(addr, Some("0k-sync.v1")).await.expect("a WebSocket")
}

/// `None` if the client's own library does not accept the relay's answer.
pub async fn try_ws(relay: &RunningRelay, subprotocol: Option<&str>) -> Option<TestLink> {
    try_ws_at(relay.addr, subprotocol).await
}

async fn try_ws_at(addr: SocketAddr, subprotocol: Option<&str>) -> Option<TestLink> {
    let mut request = format!("ws://{addr}/v1/ws").into_client_request().unwrap();
    if let Some(subprotocol) = subprotocol {
        request.headers_mut().insert("sec-websocket-protocol", subprotocol.parse().unwrap());
    }
    Some(TestLink::Ws(Box::new(connect_async(request).await.ok()?.0)))
}

/// A TCP connection from this address of the machine: `127.0.0.x` are different clients.
pub async fn tcp_from(relay: &RunningRelay, ip: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((ip, 0).into()).unwrap();
    socket.connect(relay.addr).await.unwrap()
}

/// A WebSocket from this address, behind a proxy that says it is for `client` if there is one.
/// The HTTP status if it is refused.
pub async fn try_ws_from(relay: &RunningRelay, ip: [u8; 4], client: Option<&str>) -> Result<TestLink, u16> {
    let mut request = format!("ws://{}/v1/ws", relay.addr).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "0k-sync.v1".parse().unwrap());
    if let Some(client) = client {
        request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
    }
    let stream = MaybeTlsStream::Plain(tcp_from(relay, ip).await);
    match client_async(request, stream).await {
        Ok((socket, _)) => Ok(TestLink::Ws(Box::new(socket))),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("neither let in nor refused: {error}"),
    }
}

pub async fn ws_from(relay: &RunningRelay, ip: [u8; 4]) -> TestLink {
    try_ws_from(relay, ip, None).await.expect("a WebSocket")
}

/// One request from this address, and its answer.
pub async fn get_from(relay: &RunningRelay, ip: [u8; 4], headers: &str) -> String {
    let mut stream = tcp_from(relay, ip).await;
    let request = format!("GET /health HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n{headers}\r\n");
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer in time").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A QUIC connection, without a stream.
pub async fn quic(relay: &RunningRelay) -> (Endpoint, Connection) {
    quic_at(iroh_address(relay)).await
}

async fn quic_at(address: EndpointAddr) -> (Endpoint, Connection) {
    let endpoint = Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled).bind().await.unwrap();
    let connection = endpoint.connect(address, b"0k-sync/1").await.unwrap();
    (endpoint, connection)
}

/// A QUIC connection from this address and a stream on it that the relay may never see; how it
/// ended if it was refused.
pub async fn try_iroh_from(relay: &RunningRelay, ip: [u8; 4]) -> Result<TestLink, Ended> {
    let endpoint = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr((std::net::Ipv4Addr::from(ip), 0))
        .unwrap()
        .bind()
        .await
        .unwrap();
    let refused = |error: &dyn std::fmt::Debug| Ended { code: None, reason: format!("{error:?}") };
    let connection = endpoint.connect(iroh_address(relay), b"0k-sync/1").await.map_err(|error| refused(&error))?;
    // Waits until the relay allows one, or says no.
    let (send, recv) = connection.open_bi().await.map_err(ended)?;
    Ok(TestLink::Iroh(Box::new(IrohLink { endpoint, connection, send, recv })))
}

fn iroh_address(relay: &RunningRelay) -> EndpointAddr {
    let id: EndpointId = relay.iroh_endpoint_id.as_ref().unwrap().parse().unwrap();
    let addrs = relay.iroh_addrs().into_iter().map(|addr| iroh::TransportAddr::Ip(addr.parse().unwrap()));
    EndpointAddr::from_parts(id, addrs)
}

pub async fn iroh(relay: &RunningRelay) -> TestLink {
    iroh_at(iroh_address(relay)).await
}

pub async fn iroh_at(address: EndpointAddr) -> TestLink {
    let (endpoint, connection) = quic_at(address).await;
    let (send, recv) = connection.open_bi().await.unwrap();
    TestLink::Iroh(Box::new(IrohLink { endpoint, connection, send, recv }))
}

/// One HTTP/1.1 request as written, and everything that comes back.
pub async fn http(relay: &RunningRelay, request: &[u8]) -> String {
    http_at(relay.addr, request).await
}

pub async fn http_at(addr: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer in time").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

pub async fn get(relay: &RunningRelay, path: &str) -> String {
    get_at(relay.addr, path, &[]).await
}

/// As a program on this machine asks.
pub async fn get_at(addr: SocketAddr, path: &str, headers: &[&str]) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n{headers}Connection: close\r\n\r\n");
    http_at(addr, request.as_bytes()).await
}
