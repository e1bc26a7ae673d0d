//! Comparing the relays with what this device has, and putting right what they lost.

use std::time::Duration;

use zerok_sync_core::{Engine, Hole, IntegrityEvent, Now, RelayStatus};

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

    /// Gives up the entries that are missing between others of their sender ([`Hole`]), for the
    /// whole group: what waits behind them counts from then on. A person decides that, once no device
    /// is left that may still bring them; nothing does it by itself. Returns once it is so here, and
    /// which they are.
    ///
    /// # Errors
    /// [`ClientError::Membership`] before all that the relays have was read, [`ClientError::Relay`],
    /// [`ClientError::TimedOut`].
    pub async fn accept_gaps(&self, timeout: Duration) -> Result<Vec<Hole>, ClientError> {
        let accepted = async {
            let given_up = self.ask(|engine, now| engine.accept_gaps(now)).await??;
            let is_one = |hole: &Hole| given_up.iter().any(|it| (it.device, it.to_seq) == (hole.device, hole.to_seq));
            self.until(|status| !status.holes.iter().any(is_one) && status.outbox_count == 0).await?;
            Ok(given_up)
        };
        match tokio::time::timeout(timeout, accepted).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::TimedOut(self.status().borrow().problem.clone())),
        }
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
