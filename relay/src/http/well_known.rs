//! `/.well-known/0k-sync`: what a client must know before it connects. The same for everybody.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use zerok_sync_protocol::limits::{MINOR_MAX, MINOR_MIN, SUITE};

use super::App;

/// Answers.
pub(super) async fn describe(State(app): State<App>) -> impl IntoResponse {
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
