//! Serves HTTP/1.1 on a TCP listener, with what `axum::serve` leaves open: a cap on connections in
//! total and for each address, deadlines for headers, idle connections and slow readers, no request
//! bodies, small buffers. Whoever is refused is told to come back, before any work.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::admission::{Connection, Full, Origin, Places, Share, TrustedProxies};
use crate::core::Core;
use crate::cut_off::CutOff;
use crate::limits::{BUSY_RETRY_AFTER_MS, REFUSED_LINGERING_MAX};
use crate::metrics::{Refusal, Transport};
use crate::redacted::Redacted;

/// Request line and headers, and hyper's write buffer.
const HTTP_BUFFER_BYTES_MAX: usize = 16 * 1024;
const HTTP_HEADERS_MAX: usize = 64;
/// After an error of `accept` (out of file descriptors, usually) others must get a chance to close.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// How long a refused client is given to read why.
const LINGER: Duration = Duration::from_secs(1);
/// Same as [`BUSY_RETRY_AFTER_MS`], in HTTP's seconds.
const RETRY_AFTER_SECONDS: &str = "5";
const _: () = assert!(BUSY_RETRY_AFTER_MS == 5_000);

/// Who is at the other end of the connection itself: the client, or a proxy in front of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// What is taken for the client's address: the peer's, or what a trusted proxy says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeenAs(pub(crate) IpAddr);

/// From whom a request comes, for the routes. Holds the connection's place as long as it lives: an
/// upgraded connection takes it along.
#[derive(Clone)]
pub(crate) struct Client {
    /// Whose limits the request counts against.
    pub(crate) origin: Origin,
    pub(crate) connection: Arc<Connection>,
    /// What ends it if it does not end by itself.
    pub(crate) cut_off: CutOff,
    /// Behind a proxy the connection is the proxy's, and the client is counted by this.
    _share: Option<Arc<Share>>,
}

/// Serves until `stop` turns true. Sessions end by their own goodbye.
pub(crate) async fn serve(listener: TcpListener, door: Door, mut stop: watch::Receiver<bool>) {
    let lingering = Arc::new(Semaphore::new(REFUSED_LINGERING_MAX));
    let door = Arc::new(door);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => door.clone().answer(stream, Peer(peer), &lingering, &stop),
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// What all connections of the listener share.
pub(crate) struct Door {
    pub(crate) core: Arc<Core>,
    /// The places it fills.
    pub(crate) connections: Places,
    /// Whose word about a client's address is taken.
    pub(crate) proxies: TrustedProxies,
    /// What ends those that do not end by themselves.
    pub(crate) cut_off: CutOff,
    pub(crate) routes: Router,
}

impl Door {
    /// Lets a connection in or sends it away.
    fn answer(
        self: Arc<Self>,
        stream: TcpStream,
        peer: Peer,
        lingering: &Arc<Semaphore>,
        stop: &watch::Receiver<bool>,
    ) {
        let address = peer.0.ip();
        // For whom a proxy's connection is, only its requests tell.
        let origin = (!self.proxies.trust(address)).then(|| self.core.admission.origin(address));
        match self.connections.enter(origin) {
            Ok(place) => {
                let connection = Connection::new(place, self.core.metrics.clone(), Transport::Http);
                let (connection, stop) = (Arc::new(connection), stop.clone());
                self.cut_off.clone().spawn(async move {
                    self.serve_connection(stream, peer, connection.clone(), stop).await;
                    // Given back last: who waits for the places finds everything else let go of.
                    drop(connection);
                });
            }
            Err(full) => {
                self.core.metrics.refused(refusal(full));
                // Over this number nobody is told: the socket is dropped, and thereby reset.
                if let Ok(permit) = lingering.clone().try_acquire_owned() {
                    tokio::spawn(async move {
                        // A client that does not read has the end of its connection to go by.
                        let _ = timeout(LINGER, send_away(stream, full)).await;
                        drop(permit);
                    });
                }
            }
        }
    }

    async fn serve_connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: Peer,
        connection: Arc<Connection>,
        mut stop: watch::Receiver<bool>,
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let limits = &self.core.limits;
        let header_deadline = Duration::from_millis(limits.http_header_deadline_ms);
        let connection_max = Duration::from_millis(limits.http_connection_ms_max);
        let routes = TowerToHyperService::new(self.routes.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let admitted = self.admit(request, peer, &connection);
            let routes = routes.clone();
            async move {
                match admitted {
                    Ok(request) => routes.call(request).await,
                    Err(refused) => Ok(*refused),
                }
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_deadline)
            .max_buf_size(HTTP_BUFFER_BYTES_MAX)
            .max_headers(HTTP_HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut served = pin!(served);
        // Ends when the connection is upgraded, too: a WebSocket has deadlines of its own.
        let ended = timeout(connection_max, async {
            tokio::select! {
                ended = served.as_mut() => ended,
                () = stopped(&mut stop) => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            }
        });
        match ended.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = %Redacted(&error), "an HTTP connection ended badly"),
            Err(_) => tracing::debug!("an HTTP connection was open for too long"),
        }
    }

    /// The request with its [`Client`], or the answer that refuses it.
    fn admit(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        connection: &Arc<Connection>,
    ) -> Result<Request, Box<Response>> {
        // No route takes one: what is not read cannot be slow or long.
        if !request.body().is_end_stream() {
            let why = (StatusCode::PAYLOAD_TOO_LARGE, [(CONNECTION, "close")], "no request has a body here\n");
            return Err(Box::new(why.into_response()));
        }
        let address = peer.0.ip();
        let client = self.proxies.client(address, request.headers());
        let origin = self.core.admission.origin(client);
        let share = match self.proxies.trust(address).then(|| self.connections.share(origin)) {
            Some(Err(full)) => {
                self.core.metrics.refused(refusal(full));
                let (status, why) = busy(full);
                return Err(Box::new((status, [(RETRY_AFTER, RETRY_AFTER_SECONDS)], why).into_response()));
            }
            Some(Ok(share)) => Some(Arc::new(share)),
            None => None,
        };
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(SeenAs(client));
        let cut_off = self.cut_off.clone();
        request.extensions_mut().insert(Client { origin, connection: connection.clone(), cut_off, _share: share });
        Ok(request)
    }
}

fn refusal(full: Full) -> Refusal {
    match full {
        Full::Total => Refusal::Connections,
        Full::Address => Refusal::ConnectionsPerAddress,
    }
}

fn busy(full: Full) -> (StatusCode, &'static str) {
    match full {
        Full::Total => (StatusCode::SERVICE_UNAVAILABLE, "this relay has no place free: come back shortly\n"),
        Full::Address => (StatusCode::TOO_MANY_REQUESTS, "too many connections from this address: close some\n"),
    }
}

/// Says why, and waits until that was read: a socket closed over unread bytes is reset, and what
/// it was sent is lost.
async fn send_away(mut stream: TcpStream, full: Full) -> std::io::Result<()> {
    let (status, why) = busy(full);
    let answer = format!(
        "HTTP/1.1 {status}\r\nRetry-After: {RETRY_AFTER_SECONDS}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{why}",
        why.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// Waits until the relay stops, or is gone.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender was dropped with the relay.
    let _ = stop.wait_for(|&stop| stop).await;
}
