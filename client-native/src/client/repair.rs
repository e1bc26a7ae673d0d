//! Comparing the relays with what this device has, and putting right what they lost.

use std::time::Duration;

use zerok_sync_core::{Engine, IntegrityEvent, Now, RelayStatus};

use super::Client;
use crate::error::ClientError;

impl Client {
    /// Reads every relay's log again from its first entry and puts back what is missing or damaged
    /// there, as far as this device has it. Returns once all of it stands; progress is in
    /// [`RelayStatus::put_back`], what was wrong in [`Self::findings`].
    ///
    /// # Errors
    /// [`ClientError::Relay`] when no relay is reachable, [`ClientError::TimedOut`] when one did not
    /// get so far in time.
    pub async fn repair(&self, timeout: Duration) -> Result<Vec<RelayStatus>, ClientError> {
        self.until_settled(timeout, Engine::repair).await
    }

    /// Reads every relay's log again from its first entry and compares it with what was read the
    /// first time and with what this device has. What is wrong is in [`Self::findings`].
    ///
    /// # Errors
    /// As [`Self::repair`].
    pub async fn verify_relays(&self, timeout: Duration) -> Result<Vec<RelayStatus>, ClientError> {
        self.until_settled(timeout, Engine::verify_relays).await
    }

    /// What was found out about relays and devices since this client was opened, oldest first;
    /// bounded. Stays when a repair has put it right.
    #[must_use]
    pub fn findings(&self) -> Vec<IntegrityEvent> {
        self.watched.progress.borrow().found.clone()
    }

    async fn until_settled(
        &self,
        timeout: Duration,
        begin: fn(&mut Engine, Now),
    ) -> Result<Vec<RelayStatus>, ClientError> {
        let settled = async {
            self.reach_relay(timeout).await?;
            self.act(begin).await?;
            let mut changes = self.status();
            loop {
                changes.borrow_and_update();
                let status = self.ask(|engine, _now| engine.status()).await?;
                if status.relays.iter().all(|relay| relay.settled) && status.outbox_count == 0 {
                    return Ok(status.relays);
                }
                changes.changed().await.map_err(|_| self.watched.end())?;
            }
        };
        match tokio::time::timeout(timeout, settled).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::TimedOut(self.status().borrow().problem.clone())),
        }
    }
}
