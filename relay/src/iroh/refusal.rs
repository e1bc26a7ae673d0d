//! Telling a QUIC client when to come back. QUIC's own refusal carries no words, and a close that
//! does costs the very handshake that there is no place for. So it is done for a few a second, and
//! only for addresses that are proven; the others are refused without a word and wait by their own
//! backoff. Who is told may open no stream: it cannot take the answer for a link.

use std::sync::{Arc, Mutex, PoisonError};

use iroh::Endpoint;
use iroh::endpoint::{Incoming, QuicTransportConfig, ServerConfig, VarInt};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zerok_sync_protocol::label::IROH_ALPN;

use super::LINGER;
use crate::admission::{Bucket, Rate};
use crate::limits::{REFUSALS_EXPLAINED_PER_SECOND, REFUSED_LINGERING_MAX};
use crate::link::Close;

/// See the module's documentation.
pub(super) struct Refusals {
    config: Arc<ServerConfig>,
    places: Arc<Semaphore>,
    rate: Rate,
    left: Mutex<Bucket>,
}

impl Refusals {
    pub(super) fn new(endpoint: &Endpoint, now_ms: u64) -> Self {
        let no_streams = QuicTransportConfig::builder()
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .build();
        let config = endpoint.create_server_config_builder(vec![IROH_ALPN.to_vec()]);
        let rate = Rate::per(REFUSALS_EXPLAINED_PER_SECOND, 1_000);
        Self {
            config: Arc::new(config.set_transport_config(no_streams).build()),
            places: Arc::new(Semaphore::new(REFUSED_LINGERING_MAX)),
            left: Mutex::new(Bucket::new(&rate, now_ms)),
            rate,
        }
    }

    /// Sends a client away.
    pub(super) fn answer(&self, incoming: Incoming, retry_after_ms: u64, now_ms: u64) {
        let place = self.places.clone().try_acquire_owned().ok().filter(|_| incoming.remote_addr_validated());
        let Some(place) = place.filter(|_| self.has_time(now_ms)) else { return incoming.refuse() };
        // Errors are those of a client that is gone.
        let Ok(accepting) = incoming.accept_with(self.config.clone()) else { return };
        tokio::spawn(async move {
            if let Ok(Ok(connection)) = timeout(LINGER, accepting).await {
                let Close { code, reason } = Close::try_later(retry_after_ms);
                connection.close(VarInt::from_u32(u32::from(code)), reason.as_bytes());
                // What was said has arrived, or never will.
                let _ = timeout(LINGER, connection.closed()).await;
            }
            drop(place);
        });
    }

    fn has_time(&self, now_ms: u64) -> bool {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).take(&self.rate, now_ms).is_ok()
    }
}
