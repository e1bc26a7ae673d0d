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
use crate::store::{DynStore, StoreError};
use crate::store_log::StoreLog;

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

/// Finds out.
pub(crate) struct ReadinessProbe {
    core: Arc<Core>,
    stopped: watch::Receiver<bool>,
    store: StoreProbe,
}

impl ReadinessProbe {
    pub(crate) fn new(core: Arc<Core>, stopped: watch::Receiver<bool>) -> Self {
        Self { core, stopped, store: StoreProbe::default() }
    }

    pub(crate) async fn ask(&self) -> Readiness {
        if *self.stopped.borrow() {
            return Readiness::Draining;
        }
        let now_ms = self.core.now().monotonic_ms;
        if self.store.ask(&self.core.store, self.core.writer.store_log(), now_ms).await {
            Readiness::Ready
        } else {
            Readiness::Store
        }
    }
}

/// Asks the store, and remembers the answer for a moment.
#[derive(Default)]
struct StoreProbe {
    /// Held while the store is asked: who comes meanwhile waits for that answer.
    last: Mutex<Option<Answer>>,
}

#[derive(Clone, Copy)]
struct Answer {
    at_ms: u64,
    is_ready: bool,
}

impl StoreProbe {
    async fn ask(&self, store: &DynStore, log: &StoreLog, now_ms: u64) -> bool {
        let mut last = self.last.lock().await;
        if let Some(answer) = *last
            && now_ms < answer.at_ms + READINESS_BELIEVED_MS
        {
            return answer.is_ready;
        }
        let late = |_| Err(StoreError::Unavailable("it does not answer in time: look at the database".into()));
        let asked = timeout(Duration::from_millis(READINESS_DEADLINE_MS), store.ready()).await.unwrap_or_else(late);
        let is_ready = asked.is_ok();
        match asked {
            Ok(()) => log.works(),
            Err(error) => log.failed(&error),
        }
        *last = Some(Answer { at_ms: now_ms, is_ready });
        is_ready
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Sqlite;

    #[tokio::test]
    async fn the_store_is_asked_once_in_a_while_however_many_ask() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("relay.db");
        let store: DynStore = Arc::new(Sqlite::open(&path).expect("a fresh database"));
        let (probe, log) = (StoreProbe::default(), StoreLog::default());
        assert!(probe.ask(&store, &log, 0).await);

        let database = rusqlite::Connection::open(&path).expect("there");
        database.execute_batch("ALTER TABLE meta RENAME TO gone").expect("broken");
        assert!(probe.ask(&store, &log, READINESS_BELIEVED_MS - 1).await, "it is not asked again yet");
        assert!(!probe.ask(&store, &log, READINESS_BELIEVED_MS).await);

        database.execute_batch("ALTER TABLE gone RENAME TO meta").expect("mended");
        assert!(!probe.ask(&store, &log, 2 * READINESS_BELIEVED_MS - 1).await, "nor when it said no");
        assert!(probe.ask(&store, &log, 2 * READINESS_BELIEVED_MS).await);
    }
}
