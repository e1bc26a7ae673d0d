//! `/health`: the process answers. `/ready`: it can do its job, or the one word that says why not.
//!
//! The store is asked at most once in [`READINESS_BELIEVED_MS`], however many ask the relay.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use super::App;
use crate::core::Core;
use crate::limits::{READINESS_BELIEVED_MS, READINESS_DEADLINE_MS};

/// Whether the relay can do its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It can.
    Ready,
    /// The store cannot be written to.
    Store,
    /// It is being shut down: go elsewhere.
    Draining,
}

impl Readiness {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Store => "store",
            Self::Draining => "draining",
        }
    }
}

/// Finds out, and remembers for a moment.
pub(crate) struct ReadinessProbe {
    core: Arc<Core>,
    stopped: watch::Receiver<bool>,
    /// Held while the store is asked: who comes meanwhile waits for that answer.
    last: Mutex<Option<Answer>>,
}

#[derive(Clone, Copy)]
struct Answer {
    at_monotonic_ms: u64,
    store_ready: bool,
}

impl ReadinessProbe {
    pub(crate) fn new(core: Arc<Core>, stopped: watch::Receiver<bool>) -> Self {
        Self { core, stopped, last: Mutex::new(None) }
    }

    pub(crate) async fn ask(&self) -> Readiness {
        if *self.stopped.borrow() {
            return Readiness::Draining;
        }
        if self.store_ready().await { Readiness::Ready } else { Readiness::Store }
    }

    async fn store_ready(&self) -> bool {
        let mut last = self.last.lock().await;
        let now_ms = self.core.now().monotonic_ms;
        if let Some(answer) = *last
            && now_ms < answer.at_monotonic_ms + READINESS_BELIEVED_MS
        {
            return answer.store_ready;
        }
        let deadline = Duration::from_millis(READINESS_DEADLINE_MS);
        let store_ready = match timeout(deadline, self.core.store.ready()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "not ready");
                false
            }
            Err(_) => {
                tracing::warn!("not ready: the store does not answer");
                false
            }
        };
        *last = Some(Answer { at_monotonic_ms: self.core.now().monotonic_ms, store_ready });
        store_ready
    }
}

/// Answers `/health`.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// Answers `/ready`.
pub(super) async fn ready(State(app): State<App>) -> Response {
    let readiness = app.readiness.ask().await;
    let status = match readiness {
        Readiness::Ready => StatusCode::OK,
        Readiness::Store | Readiness::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", readiness.as_str())).into_response()
}
