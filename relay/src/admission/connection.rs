//! A connection that was let in: its place and its part in the metrics, given back together.

use std::sync::{Mutex, PoisonError};

use super::places::Place;
use crate::metrics::{Counted, Metrics, Transport};

/// See the module's documentation.
#[derive(Debug)]
pub struct Connection {
    _place: Place,
    metrics: Metrics,
    counted: Mutex<Counted>,
}

impl Connection {
    /// Counts a connection.
    #[must_use]
    pub fn new(place: Place, metrics: Metrics, transport: Transport) -> Self {
        let counted = Mutex::new(metrics.connection(transport));
        Self { _place: place, metrics, counted }
    }

    /// An HTTP connection became a WebSocket.
    pub fn upgraded(&self) {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = self.metrics.connection(Transport::WebSocket);
    }
}
