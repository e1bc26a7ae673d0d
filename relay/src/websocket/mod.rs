//! The WebSocket listener: `GET /v1/ws`, one binary message per link message.
//!
//! The framing is our own: a library's keeps its buffers for as long as the connection lives, as
//! large as the largest message was, while an idle connection here keeps none.
//!
//! | file | role |
//! |---|---|
//! | `handshake.rs` | the HTTP request that becomes a WebSocket |
//! | `frames.rs` | bytes to messages, without I/O |
//! | `socket.rs` | the two halves of a link, on a TCP stream |

mod frames;
mod handshake;
mod socket;

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::response::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use zerok_sync_protocol::limits::SUITE;

use self::handshake::Opening;
use crate::admission::Peer;
use crate::core::Core;
use crate::http::App;
use crate::link::Close;
use crate::metrics::Transport;
use crate::server::Client;
use crate::session::run_session;

/// Answers `GET /v1/ws`.
pub(crate) async fn upgrade(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    mut request: Request,
) -> Response {
    let upgrading = hyper::upgrade::on(&mut request);
    match Opening::of(request.method(), request.headers()) {
        Ok(opening) => {
            client.cut_off.clone().spawn(serve(upgrading, app.core, client, opening.speaks));
            opening.accept()
        }
        Err(refused) => *refused,
    }
}

/// A client's session, from the answer on.
async fn serve(upgrading: OnUpgrade, core: Arc<Core>, client: Client, speaks: bool) {
    // Fails if the client has left already.
    let Ok(upgraded) = upgrading.await else { return };
    let Some(mut link) = link_over(upgraded) else { return };
    client.connection.upgraded();
    if speaks {
        let arrived_ms = core.now().monotonic_ms;
        let peer = Peer { origin: client.origin, transport: Transport::WebSocket, arrived_ms, handshake: None };
        run_session(core, link, peer).await;
    } else {
        let range = format!(r#"{{"min":{SUITE},"max":{SUITE}}}"#);
        link.writer.close(Close::new(Close::UNSUPPORTED_VERSION, range)).await;
    }
    drop(client);
}

/// Takes the TCP stream back from the HTTP server, with what it had read of the first message.
fn link_over(upgraded: Upgraded) -> Option<crate::link::Link> {
    let parts = upgraded.downcast::<TokioIo<TcpStream>>();
    debug_assert!(parts.is_ok(), "the server serves nothing but TCP");
    let parts = parts.ok()?;
    Some(socket::link(parts.io.into_inner(), &parts.read_buf))
}
