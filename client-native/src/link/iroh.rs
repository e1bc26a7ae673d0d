//! A link as one bidirectional stream of an iroh connection, ALPN `0k-sync/1`; every
//! message is prefixed with its length as u16be.
//!
//! The endpoint's key is random for each process and says nothing about the device. No relay or
//! look-up service of iroh's makers is contacted: the addresses come from the relay itself.

use std::io::IoSlice;

use bytes::{Bytes, BytesMut};
use iroh::endpoint::{
    ConnectError, ConnectingError, Connection, ConnectionError, QuicTransportConfig, ReadError, ReadExactError,
    RecvStream, SendStream, VarInt, presets,
};
use iroh::{Endpoint, EndpointAddr, RelayMode};
use zerok_sync_core::io::LinkDownReason;
use zerok_sync_protocol::label::IROH_ALPN;

use super::closed;

/// QUIC close code of a side that is done.
const CLOSE_DONE: VarInt = VarInt::from_u32(0);
/// A relay that was killed sends no reset over QUIC: a link on which nothing came for three of
/// iroh's heartbeats is dead. (QUIC's own default is 30 s, and pushes would wait that long.)
const DEAD_AFTER_MS: VarInt = VarInt::from_u32(15_000);

pub(super) struct Sender {
    stream: SendStream,
    connection: Connection,
}

pub(super) struct Receiver {
    stream: RecvStream,
    connection: Connection,
}

/// This process's endpoint.
pub(super) async fn bind() -> Result<Endpoint, LinkDownReason> {
    let transport = QuicTransportConfig::builder().max_idle_timeout(Some(DEAD_AFTER_MS.into())).build();
    Endpoint::builder(presets::Minimal)
        .transport_config(transport)
        .relay_mode(RelayMode::Disabled)
        .bind()
        .await
        .map_err(|error| LinkDownReason::Unreachable(format!("cannot open a UDP socket: {error}")))
}

/// Connects to a relay's endpoint.
pub(super) async fn connect(endpoint: &Endpoint, relay: EndpointAddr) -> Result<(Sender, Receiver), LinkDownReason> {
    let connection = endpoint.connect(relay, IROH_ALPN).await.map_err(|error| match &error {
        ConnectError::Connection { source, .. }
        | ConnectError::Connecting { source: ConnectingError::ConnectionError { source, .. }, .. } => {
            refusal(source).unwrap_or_else(|| LinkDownReason::Unreachable(format!("iroh: {error}")))
        }
        _ => LinkDownReason::Unreachable(format!("iroh: {error}")),
    })?;
    let (send, receive) = connection.open_bi().await.map_err(|error| loss(&error))?;
    let sender = Sender { stream: send, connection: connection.clone() };
    Ok((sender, Receiver { stream: receive, connection }))
}

impl Sender {
    pub(super) async fn feed(&mut self, message: Bytes) -> Result<(), LinkDownReason> {
        let length = u16::try_from(message.len())
            .map_err(|_| LinkDownReason::Invalid("a message of ours is longer than a link carries".into()))?;
        let prefix = length.to_be_bytes();
        // One call for both, so that a short message is one packet.
        let mut both = [IoSlice::new(&prefix), IoSlice::new(&message)];
        let mut rest = &mut both[..];
        while !rest.is_empty() {
            let written = tokio::io::AsyncWriteExt::write_vectored(&mut self.stream, rest)
                .await
                .map_err(|_| LinkDownReason::Closed)?;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    pub(super) async fn close(&mut self) {
        // Closing the connection discards what is still on its way: wait for the peer to have it.
        if self.stream.finish().is_ok() {
            let _ = self.stream.stopped().await;
        }
        self.connection.close(CLOSE_DONE, b"");
    }
}

impl Receiver {
    pub(super) async fn receive(&mut self) -> Result<Bytes, LinkDownReason> {
        let mut prefix = [0; 2];
        self.read_exact(&mut prefix).await?;
        let mut message = BytesMut::zeroed(usize::from(u16::from_be_bytes(prefix)));
        self.read_exact(&mut message).await?;
        Ok(message.freeze())
    }

    async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), LinkDownReason> {
        match self.stream.read_exact(buffer).await {
            Ok(()) => Ok(()),
            Err(ReadExactError::ReadError(ReadError::ConnectionLost(error))) => Err(loss(&error)),
            // The stream ended; if the connection did too, its close code says why.
            Err(_) => Err(self.connection.close_reason().map_or(LinkDownReason::Closed, |error| loss(&error))),
        }
    }
}

/// Why a connection that stood has ended.
fn loss(error: &ConnectionError) -> LinkDownReason {
    refusal(error).unwrap_or(LinkDownReason::Closed)
}

/// What the relay said when it closed.
fn refusal(error: &ConnectionError) -> Option<LinkDownReason> {
    match error {
        ConnectionError::ApplicationClosed(close) => Some(closed(close.error_code.into_inner(), &close.reason)),
        _ => None,
    }
}
