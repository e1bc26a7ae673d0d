//! What the relay says over plain HTTP: health, a description of itself, and the web demo.

use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;
use zerok_sync_protocol::label::{WELL_KNOWN_PATH, WS_PATH};
use zerok_sync_protocol::limits::{MINOR_MAX, MINOR_MIN, SUITE};

use crate::core::Core;
use crate::iroh::IrohAddress;
use crate::websocket;

/// The page's own scripts, its wasm, and connections to any relay; nothing else from anywhere.
/// Inline styles are what QR codes and frameworks use and cannot run anything.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; \
     style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; worker-src 'self' blob:; \
     connect-src 'self' ws: wss: http: https:; object-src 'none'; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'";

/// Shown at `/` where there is no demo.
const PLAIN_PAGE: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>0k-Sync relay</title>\
     <h1>0k-Sync relay</h1><p>This relay is running. The web demo is not built here: \
     run <code>npm start</code> in the project's folder, or start the relay with \
     <code>--web-root DIR</code>.</p>";

/// What the routes share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) core: Arc<Core>,
    pub(crate) iroh: Option<IrohAddress>,
}

/// All routes. `web_root` is served at `/`.
pub(crate) fn routes(app: App, web_root: Option<&Path>) -> Router {
    let router = Router::new()
        .route("/health", get(async || "ok\n"))
        .route(WELL_KNOWN_PATH, get(well_known))
        .route(WS_PATH, get(websocket::upgrade))
        .with_state(app);
    let router = match web_root {
        Some(root) => router.merge(demo(root)),
        None => router.route("/", get(async || Html(PLAIN_PAGE))),
    };
    router
        .layer(set(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        // Links carry secrets in their fragment; this keeps even their path from other sites.
        .layer(set(header::REFERRER_POLICY, "no-referrer"))
        .layer(set(HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"))
        .layer(if_unset(header::CACHE_CONTROL, "no-cache"))
}

/// Files under `assets/` carry a hash in their name and never change; everything else is asked for
/// again each time (and answered 304).
fn demo(root: &Path) -> Router {
    let assets = Router::new()
        .fallback_service(ServeDir::new(root.join("assets")))
        .layer(if_unset(header::CACHE_CONTROL, "public, max-age=31536000, immutable"));
    Router::new().nest_service("/assets", assets).fallback_service(ServeDir::new(root))
}

async fn well_known(State(app): State<App>) -> impl IntoResponse {
    ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(description(&app)))
}

fn description(app: &App) -> Value {
    let iroh: Vec<Value> =
        app.iroh.iter().map(|iroh| json!({ "endpoint_id": iroh.endpoint_id(), "addrs": iroh.addrs() })).collect();
    json!({
        "protocol": { "suite": SUITE, "minor_min": MINOR_MIN, "minor_max": MINOR_MAX },
        "noise_key": app.core.noise_key.public().to_string(),
        "iroh": iroh,
        "limits": {
            "envelope_bytes_max": app.core.limits.envelope_bytes_max,
            "group_bytes_max": app.core.limits.group_bytes_max,
        },
        "software": { "name": "zerok-relay", "version": env!("CARGO_PKG_VERSION") },
    })
}

fn set(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
}

fn if_unset(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}
