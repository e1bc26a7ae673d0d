//! Making a snapshot, so that a device that joins need not read the whole log.

use std::time::Duration;

use bytes::Bytes;
use zerok_sync_core::CompactError;

use super::{Client, PushReceipt};
use crate::error::ClientError;

impl Client {
    /// Makes a snapshot of the log: `state` is everything the app has made of all entries it was
    /// given, and of its own. Devices that join from now on are given this as their first entry
    /// ([`zerok_sync_core::Entry::snapshot`]), and behind it what it does not cover. Mark entries
    /// processed first: a snapshot that leaves some out is refused. Waits until this device has
    /// caught up with the group, and the relay with it.
    ///
    /// # Errors
    /// [`ClientError::Compact`] with the reason, [`ClientError::Relay`] when no relay is reachable,
    /// [`ClientError::TimedOut`]. Nothing was queued.
    pub async fn compact(&self, state: impl Into<Bytes>, timeout: Duration) -> Result<PushReceipt, ClientError> {
        let state = state.into();
        match tokio::time::timeout(timeout, self.queue_snapshot(state, timeout)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::TimedOut(self.status().borrow().problem.clone())),
        }
    }

    async fn queue_snapshot(&self, state: Bytes, timeout: Duration) -> Result<PushReceipt, ClientError> {
        self.reach_relay(timeout).await?;
        let mut changes = self.status();
        let before = self.watched.progress.borrow().snapshot;
        loop {
            changes.borrow_and_update();
            let state = state.clone();
            match self.ask(move |engine, now| engine.compact(now, state)).await? {
                Ok(()) => break,
                Err(CompactError::NotCaughtUp) => changes.changed().await.map_err(|_| self.watched.end())?,
                Err(error) => return Err(error.into()),
            }
        }
        let number =
            self.watched.progress(|progress| (progress.snapshot > before).then_some(progress.snapshot)).await?;
        Ok(PushReceipt { number, watched: self.watched.clone() })
    }
}
