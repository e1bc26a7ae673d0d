//! The relays that carry the group's log: one at least, several against the loss of one.

use std::time::Duration;

use zerok_sync_core::io::RelayAddress;
use zerok_sync_core::{RelayStatus, Status};
use zerok_sync_protocol::NoisePublicKey;

use super::Client;
use crate::error::ClientError;

/// A relay that is to carry the group's log.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// `https://host` or `http://host:port`.
    pub url: String,
    /// Its key, if it is known from elsewhere; needed over plain http to another machine.
    pub key: Option<NoisePublicKey>,
    /// What a relay with restricted creation asks for.
    pub token: Option<Vec<u8>>,
    /// Whether it is to be the home relay, which orders changes of keys.
    pub home: bool,
    /// How long it may take.
    pub timeout: Duration,
}

impl Client {
    /// Has another relay carry the group's log as well, or makes one that does the home relay.
    /// Returns once this device has met it and the group is told; it is then filled from this
    /// device's mirror, see [`RelayStatus::settled`]. One that was not met in time is forgotten.
    ///
    /// # Errors
    /// [`ClientError::Relays`]; [`ClientError::Relay`] or [`ClientError::TimedOut`] when it could not be met.
    pub async fn add_relay(&self, options: RelayOptions) -> Result<(), ClientError> {
        let RelayOptions { url, key, token, home, timeout } = options;
        let address = RelayAddress { url, key };
        let url = self.ask(move |engine, now| engine.add_relay(now, address, token, home)).await??;
        let mut status = self.status();
        // What was asked for a moment ago may not stand in the status yet.
        let listed = status.wait_for(|status| relay(status, &url).is_some_and(|relay| relay.listed));
        match tokio::time::timeout(timeout, listed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(self.watched.end()),
            Err(_) => {
                let problem = relay(&self.status().borrow(), &url).and_then(|relay| relay.problem.clone());
                self.remove_relay(url).await?;
                Err(problem.map_or(ClientError::TimedOut(None), ClientError::Relay))
            }
        }
    }

    /// Takes a relay off the group's list. What it holds stays there.
    ///
    /// # Errors
    /// [`ClientError::Relays`] if it is none of them, or the only one.
    pub async fn remove_relay(&self, url: impl Into<String>) -> Result<(), ClientError> {
        let url = url.into();
        Ok(self.ask(move |engine, now| engine.remove_relay(now, &url)).await??)
    }

    /// The group's relays, the home relay first.
    #[must_use]
    pub fn relays(&self) -> Vec<RelayStatus> {
        self.watched.status.borrow().relays.clone()
    }

    /// Waits until every relay with which nothing is wrong has all that this device has.
    ///
    /// # Errors
    /// [`ClientError::TimedOut`].
    pub async fn until_relays_settle(&self, timeout: Duration) -> Result<(), ClientError> {
        let mut status = self.status();
        let away = |relay: &RelayStatus| relay.problem.is_some();
        // There is nobody to settle with.
        let alone = |status: &Status| status.relays.len() < 2;
        let settled =
            status.wait_for(|status| alone(status) || status.relays.iter().all(|relay| relay.settled || away(relay)));
        match tokio::time::timeout(timeout, settled).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(self.watched.end()),
            Err(_) => Err(ClientError::TimedOut(self.status().borrow().problem.clone())),
        }
    }
}

fn relay<'a>(status: &'a Status, url: &str) -> Option<&'a RelayStatus> {
    status.relays.iter().find(|relay| relay.address.url == url)
}
