//! A link as binary WebSocket messages: `GET /v1/ws`, subprotocol `0k-sync.v1`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use reqwest::Url;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};
use zerok_sync_core::io::LinkDownReason;
use zerok_sync_protocol::label::{WS_PATH, WS_SUBPROTOCOL};
use zerok_sync_protocol::limits::NOISE_MESSAGE_BYTES_MAX;

use super::closed;

/// Half of the library's default: one Noise message and its framing fit.
const READ_BUFFER_BYTES: usize = 68 * 1024;
/// What may wait for the socket beside the message that is being written.
const WRITE_BUFFER_BYTES_MAX: usize = 512 * 1024;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(super) struct Sender(SplitSink<Socket, Message>);
pub(super) struct Receiver(SplitStream<Socket>);

/// Connects to the relay whose origin is `relay`.
pub(super) async fn connect(
    relay: &Url,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<(Sender, Receiver), LinkDownReason> {
    let invalid = |error: Error| LinkDownReason::Invalid(error.to_string());
    let scheme = if relay.scheme() == "https" { "wss" } else { "ws" };
    let host = relay.host_str().unwrap_or_default();
    let port = relay.port().map(|port| format!(":{port}")).unwrap_or_default();
    let mut request = format!("{scheme}://{host}{port}{WS_PATH}").into_client_request().map_err(invalid)?;
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(WS_SUBPROTOCOL));

    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(NOISE_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(NOISE_MESSAGE_BYTES_MAX));
    let connector = Connector::Rustls(tls.clone());
    let (socket, _response) = connect_async_tls_with_config(request, Some(config), true, Some(connector))
        .await
        .map_err(|error| refusal(relay, error))?;
    let (sink, stream) = socket.split();
    Ok((Sender(sink), Receiver(stream)))
}

impl Sender {
    pub(super) async fn feed(&mut self, message: Bytes) -> Result<(), LinkDownReason> {
        self.0.feed(Message::Binary(message)).await.map_err(loss)
    }

    pub(super) async fn flush(&mut self) -> Result<(), LinkDownReason> {
        self.0.flush().await.map_err(loss)
    }

    pub(super) async fn close(&mut self) {
        // The link is over either way.
        let _ = self.0.close().await;
    }
}

impl Receiver {
    pub(super) async fn receive(&mut self) -> Result<Bytes, LinkDownReason> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(message))) => return Ok(message),
                // The library answers pings itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    return Err(LinkDownReason::Invalid("it sent text instead of binary messages".into()));
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map_or(LinkDownReason::Closed, |frame| {
                        closed(u16::from(frame.code).into(), frame.reason.as_bytes())
                    }));
                }
                Some(Err(error)) => return Err(loss(error)),
                None => return Err(LinkDownReason::Closed),
            }
        }
    }
}

/// Why a connection that stood has ended.
fn loss(error: Error) -> LinkDownReason {
    match error {
        Error::Capacity(_) | Error::Utf8(_) | Error::AttackAttempt => LinkDownReason::Invalid(error.to_string()),
        Error::Protocol(ref violation)
            if !matches!(violation, ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) =>
        {
            LinkDownReason::Invalid(error.to_string())
        }
        _ => LinkDownReason::Closed,
    }
}

/// What a relay or proxy without a free place asks for, in HTTP's seconds.
fn retry_after_ms(response: &Response<Option<Vec<u8>>>) -> Option<u64> {
    let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&response.status());
    let seconds: u64 = response.headers().get(header::RETRY_AFTER).filter(|_| busy)?.to_str().ok()?.parse().ok()?;
    Some(seconds.saturating_mul(1_000))
}

/// Why no connection came about.
fn refusal(relay: &Url, error: Error) -> LinkDownReason {
    let relay = relay.as_str().trim_end_matches('/');
    match error {
        Error::Http(response) if retry_after_ms(&response).is_some() => {
            LinkDownReason::TryLater { retry_after_ms: retry_after_ms(&response).unwrap_or(0) }
        }
        // A proxy answers these for a relay that is down or busy: worth another try.
        Error::Http(response)
            if response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS =>
        {
            LinkDownReason::Unreachable(format!("{relay} answered HTTP {}", response.status().as_u16()))
        }
        Error::Http(response) => {
            LinkDownReason::Invalid(format!("{relay} answered HTTP {} to {WS_PATH}", response.status().as_u16()))
        }
        Error::Io(error) => LinkDownReason::Unreachable(format!("{relay}: {error}")),
        Error::Tls(error) => LinkDownReason::Unreachable(format!("{relay}: {error}")),
        Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            LinkDownReason::Unreachable(format!("{relay} hung up without an answer"))
        }
        Error::Protocol(_) | Error::HttpFormat(_) | Error::Capacity(_) => {
            LinkDownReason::Invalid(format!("{relay} answered, but not as a relay does ({error})"))
        }
        other => LinkDownReason::Unreachable(format!("{relay}: {other}")),
    }
}
