//! `/metrics` for Prometheus, `/status` for eyes: one page, its style, its script, its numbers.
//! Everything is in the binary and nothing is loaded from elsewhere.

use axum::extract::{RawQuery, State};
use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tower_http::set_header::SetResponseHeaderLayer;

use super::{App, access, set};
use crate::history::{COLUMNS, Page};
use crate::limits::{HISTORY_INTERVAL_MS, HISTORY_SAMPLES_MAX};
use crate::metrics::process::Process;
use crate::metrics::{HandshakeOutcome, Refusal, exposition};

/// The page runs its own script and asks its own relay, and that is all.
const STATUS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PAGE: &str = include_str!("status/index.html");
const STYLE: &str = include_str!("status/status.css");
const SCRIPT: &str = include_str!("status/status.js");
const CHART: &str = include_str!("status/chart.js");

/// The routes, each behind its guard.
pub(super) fn routes(app: &App) -> Router<App> {
    let numbers = Router::new()
        .route("/metrics", get(metrics))
        .route("/status.json", get(status))
        .layer(from_fn_with_state(app.clone(), access::numbers));
    let page = Router::new()
        .route("/status", get(file(PAGE, "text/html; charset=utf-8")))
        .route("/status/status.css", get(file(STYLE, "text/css; charset=utf-8")))
        .route("/status/status.js", get(file(SCRIPT, "text/javascript; charset=utf-8")))
        .route("/status/chart.js", get(file(CHART, "text/javascript; charset=utf-8")))
        .layer(from_fn_with_state(app.clone(), access::page));
    numbers
        .merge(page)
        .layer(set(CONTENT_SECURITY_POLICY, STATUS_POLICY))
        .layer(set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin"))
        .layer(no_store())
}

/// Numbers and what was behind a token are not for any cache.
fn no_store() -> SetResponseHeaderLayer<HeaderValue> {
    set(CACHE_CONTROL, "no-store")
}

fn file(text: &'static str, kind: &'static str) -> impl Fn() -> std::future::Ready<Response> + Clone {
    move || std::future::ready(([(CONTENT_TYPE, kind)], text).into_response())
}

async fn metrics(State(app): State<App>) -> Response {
    ([(CONTENT_TYPE, OPENMETRICS)], exposition(&app.registry)).into_response()
}

/// What the page shows.
#[derive(Serialize)]
struct Status {
    version: &'static str,
    readiness: &'static str,
    uptime_seconds: u64,
    interval_ms: u64,
    samples_max: usize,
    connections_max: u64,
    store_connections_max: i64,
    process: Process,
    handshakes: Vec<(&'static str, u64)>,
    refusals: Vec<(&'static str, u64)>,
    columns: &'static [&'static str],
    #[serde(flatten)]
    history: Page,
}

/// `?from=N`: the samples from that number on; all without it.
async fn status(State(app): State<App>, RawQuery(query): RawQuery) -> Json<Status> {
    let from = query.as_deref().and_then(|query| query.strip_prefix("from=")?.parse().ok()).unwrap_or(0);
    let metrics = &app.core.metrics;
    let handshakes = HandshakeOutcome::ALL.iter();
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        readiness: app.readiness.ask().await.as_str(),
        uptime_seconds: app.core.now().monotonic_ms / 1000,
        interval_ms: HISTORY_INTERVAL_MS,
        samples_max: HISTORY_SAMPLES_MAX,
        connections_max: app.core.limits.connections_max,
        store_connections_max: metrics.store_connections_max.get(),
        process: Process::look(),
        handshakes: handshakes
            .map(|&outcome| (outcome.as_str(), metrics.handshakes.get_or_create(&outcome.into()).get()))
            .collect(),
        refusals: Refusal::ALL
            .iter()
            .map(|&limit| (limit.as_str(), metrics.refusals.get_or_create(&limit.into()).get()))
            .collect(),
        columns: COLUMNS,
        history: app.history.from(from),
    })
}
