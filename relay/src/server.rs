//! Serves HTTP/1.1 on a TCP listener, with what `axum::serve` leaves open: a deadline for request
//! headers, a cap on connections, small buffers.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::limits::RelayLimits;
use crate::redacted::Redacted;

/// One of the relay's connections; free again when the last clone is dropped. An upgraded
/// connection takes it along.
pub(crate) type ConnectionPermit = Arc<OwnedSemaphorePermit>;

/// Who is at the other end of the connection itself: the client, or a proxy in front of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Request line and headers, and hyper's write buffer.
const HTTP_BUFFER_BYTES_MAX: usize = 16 * 1024;
const HTTP_HEADERS_MAX: usize = 64;
/// After an error of `accept` (out of file descriptors, usually) others must get a chance to close.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// All that is said to a connection over the cap.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Serves until `stop` turns true. Sessions end by their own goodbye.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: RelayLimits,
    connections: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let header_deadline = Duration::from_millis(limits.http_header_deadline_ms);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, Peer(peer)),
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let Ok(permit) = connections.clone().try_acquire_owned() else {
            // The socket's buffer takes these few bytes or nobody reads them.
            let _ = stream.try_write(BUSY);
            continue;
        };
        tokio::spawn(serve_connection(stream, peer, routes.clone(), header_deadline, Arc::new(permit), stop.clone()));
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: Peer,
    routes: Router,
    header_deadline: Duration,
    permit: ConnectionPermit,
    mut stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(permit.clone());
        request.extensions_mut().insert(peer);
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_deadline)
        .max_buf_size(HTTP_BUFFER_BYTES_MAX)
        .max_headers(HTTP_HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error = %Redacted(&error), "an HTTP connection ended badly");
    }
}

/// Waits until the relay stops, or is gone.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender was dropped with the relay.
    let _ = stop.wait_for(|&stop| stop).await;
}
