//! Pushing: durable here when the call returns, durable at the relay and on the other devices when
//! the receipt says so.

use bytes::Bytes;

use super::{Client, Watched};
use crate::error::ClientError;

/// A blob that is queued and will reach the relay, whatever happens to this process.
#[derive(Clone)]
pub struct PushReceipt {
    pub(super) number: u64,
    pub(super) watched: Watched,
}

impl Client {
    /// Queues a blob for the group's other devices. When this returns it is on this device's disk
    /// and will be sent as soon as the relay can be reached, in order.
    ///
    /// # Errors
    /// [`ClientError::Push`] if the blob is too large, [`ClientError::StorageFailed`],
    /// [`ClientError::Closed`].
    pub async fn push(&self, blob: impl Into<Bytes>) -> Result<PushReceipt, ClientError> {
        let blob = blob.into();
        let number = self.ask(move |engine, now| engine.push(now, blob)).await??;
        self.watched.progress(|progress| (progress.stored >= number).then_some(())).await?;
        Ok(PushReceipt { number, watched: self.watched.clone() })
    }
}

impl PushReceipt {
    /// Rises from push to push, with gaps; compare it with `acked_push` in the status.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Waits until every other device of the group has this blob on its disk, as each has said in its
    /// own signed words: as long as it takes, so bound it. With no other device, as
    /// [`PushReceipt::at_relay`]. Dropping the future takes nothing back.
    ///
    /// # Errors
    /// As [`PushReceipt::at_relay`].
    pub async fn at_all_devices(&self) -> Result<(), ClientError> {
        self.at_relay().await?;
        self.watched.progress(|progress| (progress.everywhere >= self.number).then_some(())).await
    }

    /// Waits until the relay has this blob on its disk: as long as it takes. Dropping the future
    /// takes nothing back.
    ///
    /// # Errors
    /// [`ClientError::PushRefused`] if the relay will not take it as things are,
    /// [`ClientError::StorageFailed`], [`ClientError::Closed`]. The blob stays queued.
    pub async fn at_relay(&self) -> Result<(), ClientError> {
        self.watched
            .progress(|progress| {
                if progress.acked >= self.number {
                    return Some(Ok(()));
                }
                // What stands behind a refused push waits for it.
                match &progress.refused {
                    Some((push, problem)) if (progress.acked + 1..=self.number).contains(push) => {
                        Some(Err(ClientError::PushRefused(problem.clone())))
                    }
                    _ => None,
                }
            })
            .await?
    }
}
