//! The iroh listener: one bidirectional stream of a QUIC connection is a link, each link message
//! behind its length as `u16be`.
//!
//! No external relay, no discovery: clients learn endpoint id and addresses from
//! `/.well-known/0k-sync`. What QUIC proves about the client's endpoint is not used: the session's
//! own channel says who it is, as on every link.

mod refusal;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use iroh::endpoint::{
    Connection as QuicConnection, Incoming, IncomingAddr, QuicTransportConfig, RecvStream, SendStream, VarInt, presets,
};
use iroh::{Endpoint, RelayMode, SecretKey};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use zerok_sync_protocol::label::IROH_ALPN;
use zerok_sync_protocol::limits::NOISE_MESSAGE_BYTES_MAX;

use self::refusal::Refusals;
use crate::admission::{Connection, Full, Origin, Peer, Place, Refused};
use crate::core::Core;
use crate::cut_off::CutOff;
use crate::keys::Secret;
use crate::limits::BUSY_RETRY_AFTER_MS;
use crate::link::{Close, Link, LinkError, LinkReader, LinkWriter};
use crate::metrics::{HandshakeOutcome, Refusal, Transport};
use crate::relay::StartError;
use crate::session::run_session;
use crate::supervision::Supervisor;

/// Bytes of length in front of each link message.
const PREFIX_BYTES: usize = 2;
/// What a client may send ahead of the session's reading: a link message of the largest kind and
/// some. The session's own queues are behind it.
const RECEIVE_WINDOW_BYTES: u32 = 256 * 1024;
/// What a slow client leaves in the endpoint's memory, unacknowledged. The library's default is
/// megabytes.
const SEND_WINDOW_BYTES: u64 = 1024 * 1024;
/// What is read from a stream at a time.
const READ_BYTES_MAX: usize = 64 * 1024;
/// How long a closed link is given to take what was sent.
const LINGER: Duration = Duration::from_secs(1);

/// Where this instance's endpoint is reached.
#[derive(Debug, Clone)]
pub(crate) struct IrohAddress {
    endpoint: Endpoint,
    /// What the operator said, if he did.
    configured: Vec<SocketAddr>,
}

impl IrohAddress {
    /// What clients dial.
    pub(crate) fn endpoint_id(&self) -> String {
        self.endpoint.id().to_string()
    }

    /// At what addresses, now: a machine moves between networks while the relay runs.
    pub(crate) fn addrs(&self) -> Vec<String> {
        let addrs = if self.configured.is_empty() { own_addrs(&self.endpoint) } else { self.configured.clone() };
        addrs.iter().map(ToString::to_string).collect()
    }
}

/// A bound endpoint and the task that accepts on it.
pub(crate) struct IrohListener {
    endpoint: Endpoint,
    address: IrohAddress,
    task: JoinHandle<()>,
}

impl IrohListener {
    /// Opens the endpoint and starts to accept.
    pub(crate) async fn bind(
        secret: &Secret,
        addr: SocketAddr,
        configured: Vec<SocketAddr>,
        core: Arc<Core>,
        supervisor: &Supervisor,
        cut_off: CutOff,
    ) -> Result<Self, StartError> {
        let transport = QuicTransportConfig::builder()
            .max_concurrent_bidi_streams(VarInt::from_u32(1))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
            .send_window(SEND_WINDOW_BYTES)
            // Nothing here reads datagrams: they would lie in the endpoint's memory, a megabyte for each stranger.
            .datagram_receive_buffer_size(None)
            .build();
        let endpoint = Endpoint::builder(presets::Minimal)
            .secret_key(SecretKey::from_bytes(secret))
            .alpns(vec![IROH_ALPN.to_vec()])
            .relay_mode(RelayMode::Disabled)
            .transport_config(transport)
            .clear_ip_transports()
            .bind_addr(addr)
            .map_err(|error| StartError::Iroh { addr, reason: error.to_string() })?
            .bind()
            .await
            .map_err(|error| StartError::Iroh { addr, reason: error.to_string() })?;
        let address = IrohAddress { endpoint: endpoint.clone(), configured };
        let task = supervisor.vital("iroh listener", accept(endpoint.clone(), core, cut_off));
        Ok(Self { endpoint, address, task })
    }

    /// Where clients reach the endpoint.
    pub(crate) fn address(&self) -> IrohAddress {
        self.address.clone()
    }

    /// Closes every connection.
    pub(crate) async fn close(mut self) {
        self.task.abort();
        // It was cancelled, or had panicked; either way it holds the store no more.
        let _ = (&mut self.task).await;
        self.endpoint.close().await;
    }
}

impl Drop for IrohListener {
    /// A relay that is dropped cuts everybody off.
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The sockets' addresses; for one that is bound to all interfaces, loopback and what the endpoint
/// found out about the others.
fn own_addrs(endpoint: &Endpoint) -> Vec<SocketAddr> {
    let mut addrs = Vec::new();
    for socket in endpoint.bound_sockets() {
        match socket.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => addrs.push(SocketAddr::from((Ipv4Addr::LOCALHOST, socket.port()))),
            IpAddr::V6(ip) if ip.is_unspecified() => addrs.push(SocketAddr::from((Ipv6Addr::LOCALHOST, socket.port()))),
            _ => addrs.push(socket),
        }
    }
    if endpoint.bound_sockets().iter().any(|socket| socket.ip().is_unspecified()) {
        addrs.extend(endpoint.addr().ip_addrs());
    }
    addrs.sort();
    addrs.dedup();
    addrs
}

async fn accept(endpoint: Endpoint, core: Arc<Core>, cut_off: CutOff) {
    let refusals = Refusals::new(&endpoint, core.now().monotonic_ms);
    while let Some(incoming) = endpoint.accept().await {
        let now_ms = core.now().monotonic_ms;
        // Neither of iroh's other ways to us is open.
        let IncomingAddr::Ip(address) = incoming.remote_addr() else { continue };
        let origin = core.admission.origin(address.ip());
        if !incoming.remote_addr_validated() && core.admission.must_prove_address(origin, now_ms) {
            // Fails for addresses that are proven already.
            let _ = incoming.retry();
            continue;
        }
        match admit(&core, origin, now_ms) {
            Ok((connection, handshake)) => {
                let peer = Peer { origin, transport: Transport::Iroh, arrived_ms: now_ms, handshake: Some(handshake) };
                cut_off.spawn(serve(incoming, core.clone(), peer, connection));
            }
            Err((limit, retry_after_ms)) => {
                core.metrics.refused(limit);
                core.metrics.handshake(HandshakeOutcome::Refused);
                refusals.answer(incoming, retry_after_ms, now_ms);
            }
        }
    }
    // Whoever closes the endpoint ends this task first.
    panic!("the iroh endpoint closed by itself");
}

/// The places of a connection, before anything is computed for it: QUIC's handshake is one, too. Or
/// which limit has none, and when to come back.
fn admit(core: &Core, origin: Origin, now_ms: u64) -> Result<(Connection, Place), (Refusal, u64)> {
    let place = core.admission.connections.enter(Some(origin)).map_err(|full| match full {
        Full::Total => (Refusal::Connections, BUSY_RETRY_AFTER_MS),
        Full::Address => (Refusal::ConnectionsPerAddress, BUSY_RETRY_AFTER_MS),
    })?;
    let handshake = core.admission.begin_handshake(origin, now_ms).map_err(|refused| match refused {
        Refused::Pending => (Refusal::HandshakesPending, BUSY_RETRY_AFTER_MS),
        Refused::Rate { retry_after_ms } => (Refusal::HandshakeRate, retry_after_ms),
    })?;
    Ok((Connection::new(place, core.metrics.clone(), Transport::Iroh), handshake))
}

/// One client, from its first packet on.
async fn serve(incoming: Incoming, core: Arc<Core>, peer: Peer, held: Connection) {
    let deadline = Instant::now() + Duration::from_millis(core.limits.handshake_deadline_ms);
    match open(incoming, deadline).await {
        Ok((connection, send, recv)) => {
            let link = Link {
                reader: Box::new(Reader { recv, buffer: BytesMut::new() }),
                writer: Box::new(Writer { connection: connection.clone(), send }),
            };
            run_session(core, link, peer).await;
            connection.close(VarInt::from_u32(u32::from(Close::NORMAL)), b"");
        }
        Err(outcome) => {
            tracing::debug!(?outcome, "an iroh connection became no link");
            core.metrics.handshake(outcome);
            drop(core);
        }
    }
    // Given back last: who waits for the places finds everything else let go of.
    drop(held);
}

/// QUIC's handshake, and the stream that is the link.
async fn open(
    incoming: Incoming,
    deadline: Instant,
) -> Result<(QuicConnection, SendStream, RecvStream), HandshakeOutcome> {
    let connection = match timeout_at(deadline, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => return Err(HandshakeOutcome::Invalid),
        Err(_) => return Err(HandshakeOutcome::TimedOut),
    };
    match timeout_at(deadline, connection.accept_bi()).await {
        Ok(Ok((send, recv))) => Ok((connection, send, recv)),
        Ok(Err(_)) => Err(HandshakeOutcome::Abandoned),
        Err(_) => {
            connection
                .close(VarInt::from_u32(u32::from(Close::TIMEOUT)), b"no stream was opened in time: connect again");
            Err(HandshakeOutcome::TimedOut)
        }
    }
}

struct Reader {
    recv: RecvStream,
    buffer: BytesMut,
}

impl Reader {
    /// A message, if the buffer holds a whole one.
    fn take(&mut self, bytes_max: usize) -> Result<Option<Bytes>, LinkError> {
        let Some(&[high, low]) = self.buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let bytes = usize::from(u16::from_be_bytes([high, low]));
        if bytes == 0 {
            return Err(LinkError::NotAMessage);
        }
        if bytes > bytes_max {
            return Err(LinkError::TooLong { bytes, max: bytes_max });
        }
        if self.buffer.len() < PREFIX_BYTES + bytes {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        Ok(Some(self.buffer.split_to(bytes).freeze()))
    }
}

#[async_trait]
impl LinkReader for Reader {
    async fn recv(&mut self, bytes_max: usize) -> Result<Option<Bytes>, LinkError> {
        loop {
            if let Some(message) = self.take(bytes_max)? {
                return Ok(Some(message));
            }
            // A read that is dropped takes nothing, and what it took is in the buffer.
            match self.recv.read_chunk(READ_BYTES_MAX).await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => return Ok(None),
                Err(error) => return Err(LinkError::Broken(error.to_string())),
            }
        }
    }
}

struct Writer {
    connection: QuicConnection,
    send: SendStream,
}

#[async_trait]
impl LinkWriter for Writer {
    async fn send(&mut self, message: Bytes) -> Result<(), LinkError> {
        debug_assert!(message.len() <= NOISE_MESSAGE_BYTES_MAX, "Noise messages fit the prefix");
        let len = u16::try_from(message.len()).map_err(|_| LinkError::NotAMessage)?;
        let mut parts = [Bytes::copy_from_slice(&len.to_be_bytes()), message];
        self.send.write_all_chunks(&mut parts).await.map_err(|error| LinkError::Broken(error.to_string()))
    }

    async fn close(&mut self, close: Close) {
        // A QUIC close overtakes stream data: what was sent before it must have arrived first.
        if self.send.finish().is_ok() {
            let _ = timeout(LINGER, self.send.stopped()).await;
        }
        self.connection.close(VarInt::from_u32(u32::from(close.code)), close.reason.as_bytes());
    }
}
