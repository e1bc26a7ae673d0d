//! The WebSocket listener: `GET /v1/ws`, one binary message per link message.

use std::future::ready;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use zerok_sync_protocol::close;
use zerok_sync_protocol::label::WS_SUBPROTOCOL;
use zerok_sync_protocol::limits::{NOISE_MESSAGE_BYTES_MAX, SUITE};

use crate::admission::Peer;
use crate::core::Core;
use crate::http::App;
use crate::link::{Close, Link, LinkError, LinkReader, LinkWriter};
use crate::metrics::Transport;
use crate::server::Client;
use crate::session::run_session;

/// Held for as long as a connection lives: 1 KiB instead of the default 128 KiB makes 10 MB instead
/// of 1.3 GB of 10,000 idle clients. A longer message costs another read or two, not more memory.
const READ_BUFFER_BYTES: usize = 1024;
/// A little over a link message, so that one that is just too long is answered with a close code;
/// anything longer breaks the connection.
const MESSAGE_BYTES_MAX: usize = NOISE_MESSAGE_BYTES_MAX + 4 * 1024;
/// Pings and pongs between two messages. A live client sends a message each 25 s, and a proxy that
/// pings each second is still far below.
const CONTROL_FRAMES_MAX: u8 = 64;
/// One link message and its framing: the session keeps the rest.
const WRITE_BUFFER_BYTES_MAX: usize = 2 * NOISE_MESSAGE_BYTES_MAX;

/// Answers `GET /v1/ws`.
pub(crate) async fn upgrade(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    request: WebSocketUpgrade,
) -> Response {
    let request = request
        .protocols([WS_SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX);
    let speaks = request.selected_protocol().is_some();
    let App { core, .. } = app;
    let begun = client.cut_off.begun();
    request.on_upgrade(move |socket| {
        // In a task of its own: that of the upgrade keeps room for all that an upgrade needs.
        tokio::spawn(begun.run(Box::pin(serve(link_over(socket), core, client, speaks))));
        ready(())
    })
}

/// A client's session, from the answer on.
async fn serve(mut link: Link, core: Arc<Core>, client: Client, speaks: bool) {
    client.connection.upgraded();
    if speaks {
        let arrived_ms = core.now().monotonic_ms;
        let peer = Peer { origin: client.origin, transport: Transport::WebSocket, arrived_ms, handshake: None };
        run_session(core, link, peer).await;
    } else {
        let suites = close::unsupported_version_reason(SUITE, SUITE);
        link.writer.close(Close::new(Close::UNSUPPORTED_VERSION, suites)).await;
    }
    drop(client);
}

fn link_over(socket: WebSocket) -> Link {
    let (writer, reader) = socket.split();
    Link { reader: Box::new(Reader { socket: reader, controls: 0 }), writer: Box::new(Writer(writer)) }
}

struct Reader {
    socket: SplitStream<WebSocket>,
    /// Control frames since the last message.
    controls: u8,
}

#[async_trait]
impl LinkReader for Reader {
    async fn recv(&mut self, bytes_max: usize) -> Result<Option<Bytes>, LinkError> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(message))) if message.len() > bytes_max => {
                    return Err(LinkError::TooLong { bytes: message.len(), max: bytes_max });
                }
                Some(Ok(Message::Binary(message))) => {
                    self.controls = 0;
                    return Ok(Some(message));
                }
                // Answered by the WebSocket library, which nothing else paces.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                    self.controls += 1;
                    if self.controls > CONTROL_FRAMES_MAX {
                        return Err(LinkError::OnlyControlFrames);
                    }
                }
                Some(Ok(Message::Text(_))) => return Err(LinkError::NotAMessage),
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Err(error)) => return Err(LinkError::Broken(error.to_string())),
            }
        }
    }
}

struct Writer(SplitSink<WebSocket, Message>);

#[async_trait]
impl LinkWriter for Writer {
    async fn send(&mut self, message: Bytes) -> Result<(), LinkError> {
        self.0.send(Message::Binary(message)).await.map_err(|error| LinkError::Broken(error.to_string()))
    }

    async fn close(&mut self, close: Close) {
        let mut reason = close.reason;
        // A control frame has 125 bytes, two of which are the code.
        reason.truncate(reason.floor_char_boundary(123));
        let frame = CloseFrame { code: close.code, reason: reason.into() };
        // The link may be gone already; then there is nobody to tell.
        let _ = self.0.send(Message::Close(Some(frame))).await;
    }
}
