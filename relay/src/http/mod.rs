//! What the relay says over plain HTTP.
//!
//! | file | answers |
//! |---|---|
//! | `readiness.rs` | `/health`, `/ready` |
//! | `well_known.rs` | `/.well-known/0k-sync` |
//! | `seen_as.rs` | `/v1/seen-as` |
//! | `operator.rs` | `/metrics`, `/status` and what that page loads |
//! | `access.rs` | who may see these |
//! | `demo.rs` | everything else |
//!
//! The WebSocket of `/v1/ws` is in [`crate::websocket`].

mod access;
mod demo;
mod operator;
mod readiness;
mod seen_as;
mod well_known;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tower_http::set_header::SetResponseHeaderLayer;
use zerok_sync_protocol::label::{WELL_KNOWN_PATH, WS_PATH};

pub(crate) use self::access::OperatorToken;
pub(crate) use self::readiness::ReadinessProbe;
pub(crate) use self::seen_as::SEEN_AS_PATH;
use crate::core::Core;
use crate::history::History;
use crate::iroh::IrohAddress;
use crate::websocket;

/// The page's own scripts, its wasm, and connections to any relay; nothing else from anywhere.
/// Inline styles are what QR codes and frameworks use and cannot run anything.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; \
     style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; worker-src 'self' blob:; \
     connect-src 'self' ws: wss: http: https:; object-src 'none'; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'";

/// What the routes share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) core: Arc<Core>,
    pub(crate) iroh: Option<IrohAddress>,
    pub(crate) readiness: Arc<ReadinessProbe>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) history: Arc<History>,
    pub(crate) token: OperatorToken,
}

/// What clients and their people use. `web_root` is served at `/`.
pub(crate) fn public(app: &App, web_root: Option<&Path>) -> Router {
    Router::new()
        .route(WELL_KNOWN_PATH, get(well_known::describe))
        .route(WS_PATH, get(websocket::upgrade))
        .route(SEEN_AS_PATH, get(seen_as::tell))
        .merge(health())
        .with_state(app.clone())
        .merge(demo::routes(web_root))
}

/// What the operator uses.
pub(crate) fn operator(app: &App) -> Router {
    operator::routes(app).merge(health()).with_state(app.clone())
}

/// Both on one address.
pub(crate) fn all(app: &App, web_root: Option<&Path>) -> Router {
    public(app, web_root).merge(operator::routes(app).with_state(app.clone()))
}

/// With the headers that every answer has.
pub(crate) fn with_headers(router: Router) -> Router {
    router
        .layer(set(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // Links carry secrets in their fragment; this keeps even their path from other sites.
        .layer(set(header::REFERRER_POLICY, "no-referrer"))
        .layer(if_unset(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .layer(if_unset(HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"))
        .layer(if_unset(header::CACHE_CONTROL, "no-cache"))
}

fn health() -> Router<App> {
    Router::new().route("/health", get(readiness::health)).route("/ready", get(readiness::ready))
}

fn set(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
}

fn if_unset(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}
