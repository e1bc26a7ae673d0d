//! Group commit: sessions hand their appends to a few loops, and each loop commits in one
//! transaction whatever came while its previous commit was under way.
//!
//! A log belongs to one loop (by its key), so that its appends are committed, published and
//! answered in the order in which they came. An append is answered after its commit, never before.
//! Once it waits in a loop it is committed even if the session that asked is gone. What waits is
//! bounded in number and in bytes; beyond that sessions wait, and read their links no further.
//!
//! | file | role |
//! |---|---|
//! | `mod.rs` | what sessions call |
//! | `gather.rs` | from what waits to a batch |
//! | `run.rs` | the loop: commit, try again, publish, answer |

mod gather;
mod run;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use zerok_sync_protocol::NoisePublicKey;

use crate::hub::Hub;
use crate::limits::{COMMIT_PACE, COMMIT_WAIT_MAX, RelayLimits, WRITER_INBOX_MAX, WRITER_WAIT_MAX};
use crate::metrics::Metrics;
use crate::store::{Append, AppendRequest, DeviceNote, GroupCommit, GroupKey, Result, StoreError};
use crate::store_log::StoreLog;
use crate::supervision::{Defect, Supervisor};

/// The way into the log. See the module's documentation.
pub struct Writer {
    inboxes: Vec<mpsc::Sender<Job>>,
    /// Bytes that may still wait.
    room: Arc<Semaphore>,
    room_bytes: u32,
    loops: Mutex<Vec<JoinHandle<()>>>,
    supervisor: Supervisor,
    store_log: Arc<StoreLog>,
    /// [`WRITER_WAIT_MAX`].
    wait_max: Duration,
    metrics: Metrics,
}

enum Job {
    Append(PendingAppend),
    Note(DeviceNote, Option<oneshot::Sender<Result<()>>>),
    /// Finish what came before this, and end.
    End,
}

struct PendingAppend {
    request: AppendRequest,
    answer: AppendAnswer,
}

struct AppendAnswer {
    sender: oneshot::Sender<Result<Append>>,
    /// Given back when the append is answered.
    _room: OwnedSemaphorePermit,
}

impl AppendAnswer {
    fn send(self, outcome: Result<Append>) {
        // The session may be gone; what it pushed is stored all the same.
        let _ = self.sender.send(outcome);
    }
}

impl Writer {
    /// Starts the loops in the current tokio runtime.
    #[must_use]
    pub fn start(store: Arc<dyn GroupCommit>, hub: Hub, limits: &RelayLimits, metrics: Metrics) -> Self {
        Self::start_waiting(store, hub, limits, metrics, COMMIT_WAIT_MAX)
    }

    /// The same with another time for a commit to be answered in.
    fn start_waiting(
        store: Arc<dyn GroupCommit>,
        hub: Hub,
        limits: &RelayLimits,
        metrics: Metrics,
        commit_wait_max: Duration,
    ) -> Self {
        let room_bytes = u32::try_from(limits.append_queue_bytes_max).unwrap_or(u32::MAX).max(1);
        let retry_for = Duration::from_millis(limits.commit_retry_ms);
        let groups_max = usize::try_from(limits.commit_groups_max).unwrap_or(usize::MAX).max(1);
        let (supervisor, store_log) = (Supervisor::new(), Arc::new(StoreLog::default()));
        let (inboxes, loops) = (0..store.writers().max(1))
            .map(|_| {
                let (inbox, jobs) = mpsc::channel(WRITER_INBOX_MAX);
                let gather = gather::Gather::new(jobs, groups_max, COMMIT_PACE, metrics.clone());
                let run = run::Loop {
                    store: store.clone(),
                    hub: hub.clone(),
                    retry_for,
                    wait_max: commit_wait_max,
                    metrics: metrics.clone(),
                    store_log: store_log.clone(),
                };
                (inbox, supervisor.vital("writer", run.run(gather)))
            })
            .unzip();
        let room = Arc::new(Semaphore::new(RelayLimits::permits(u64::from(room_bytes))));
        Self {
            inboxes,
            room,
            room_bytes,
            loops: Mutex::new(loops),
            supervisor,
            store_log,
            wait_max: WRITER_WAIT_MAX,
            metrics,
        }
    }

    /// Appends; answers once it is on disk, or after a bounded time that it is not.
    ///
    /// # Errors
    /// [`StoreError`] if the store could not be reached, or does not keep up; the append may have
    /// been stored nevertheless, which repeating it finds out.
    pub async fn append(&self, request: AppendRequest) -> Result<Append> {
        let started = Instant::now();
        let is_question = request.envelopes.is_empty();
        let bytes: usize = request.envelopes.iter().map(|(_, envelope)| envelope.len()).sum();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.room_bytes);
        let inbox = self.inbox(&request.group);
        let (sender, answered) = oneshot::channel();
        let hand_over = async {
            let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| stopping())?;
            let place = inbox.reserve().await.map_err(|_| stopping())?;
            self.metrics.append_queue.inc();
            place.send(Job::Append(PendingAppend { request, answer: AppendAnswer { sender, _room: room } }));
            Ok::<_, StoreError>(())
        };
        timeout(self.wait_max, hand_over).await.map_err(|_| overloaded())??;
        let outcome = answered.await.map_err(|_| stopping())?;
        if !is_question {
            self.metrics.append_seconds.0.observe(started.elapsed().as_secs_f64());
        }
        outcome
    }

    /// Has something remembered of a device, soon. Nobody is promised it: what is noted may be
    /// lost if the store fails, and the device says it again.
    pub async fn note(&self, note: DeviceNote) {
        // Full for so long that the store does not work: a note is the least that is lost.
        let _ = timeout(self.wait_max, self.inbox(&note.group).send(Job::Note(note, None))).await;
    }

    /// Replaces a device's slot, behind whatever was noted of it before.
    ///
    /// # Errors
    /// [`StoreError`] if it is not on disk.
    pub async fn slot_put(&self, group: GroupKey, device: NoisePublicKey, slot: Bytes) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        let note = DeviceNote { group, device, acked: None, slot: Some(slot), seen_ms: 0, durable: true };
        let hand_over = self.inbox(&group).send(Job::Note(note, Some(answer)));
        timeout(self.wait_max, hand_over).await.map_err(|_| overloaded())?.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }

    /// What the operator is told of the store, by whoever finds out.
    pub(crate) fn store_log(&self) -> &Arc<StoreLog> {
        &self.store_log
    }

    /// Waits until a loop has panicked: what waited in it is answered with an error, and what comes
    /// for it from now on. Cancel-safe.
    pub async fn failed(&self) -> Defect {
        self.supervisor.failed().await
    }

    /// Commits what waits, and ends; afterwards the writer holds the store no more.
    pub async fn close(&self) {
        let loops = std::mem::take(&mut *self.loops.lock().unwrap_or_else(PoisonError::into_inner));
        for inbox in &self.inboxes {
            // A loop that ended has nothing to finish.
            let _ = inbox.send(Job::End).await;
        }
        for ended in loops {
            ended.await.expect("nobody cancels a loop, and its panic stays inside its task");
        }
    }

    fn inbox(&self, group: &GroupKey) -> &mpsc::Sender<Job> {
        // Keys are hashes, so any part of them spreads evenly.
        let hash = u64::from_le_bytes(*group.0.first_chunk().expect("a key has 32 bytes"));
        let index = hash % self.inboxes.len() as u64;
        &self.inboxes[usize::try_from(index).expect("less than the number of loops")]
    }
}

fn overloaded() -> StoreError {
    StoreError::Unavailable("the database does not keep up: try again later".into())
}

/// It may be committed yet: blob ids make repeating it harmless.
fn unanswered() -> StoreError {
    StoreError::Unavailable("the database hangs: it does not answer a commit".into())
}

fn stopping() -> StoreError {
    StoreError::Unavailable("the relay is stopping: connect again".into())
}

#[cfg(test)]
mod tests;
