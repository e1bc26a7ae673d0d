//! One loop: commit, try again within bounds, publish, answer.
//!
//! A commit that failed is repeated on another connection: blob ids make it idempotent, so it does
//! not matter whether it had happened. If a log's rows are held by somebody else, or are damaged,
//! the logs of the batch are committed one by one, so that only that log's sessions are refused; and
//! so if a commit panics: a defect that one log's data bring about is that log's alone.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};
use zerok_sync_protocol::BlobId;

use super::gather::{Gather, Gathered};
use super::{PendingAppend, stopping, unanswered};
use crate::hub::{Fresh, Hub};
use crate::limits::{COMMIT_BACKOFF_MAX, COMMIT_BACKOFF_MIN};
use crate::metrics::Metrics;
use crate::store::{Append, AppendRequest, Appended, Batch, GroupCommit, GroupKey, Result, StoreError};
use crate::store_log::StoreLog;

pub(super) struct Loop {
    pub(super) store: Arc<dyn GroupCommit>,
    pub(super) hub: Hub,
    pub(super) retry_for: Duration,
    /// [`crate::limits::COMMIT_WAIT_MAX`].
    pub(super) wait_max: Duration,
    pub(super) metrics: Metrics,
    pub(super) store_log: Arc<StoreLog>,
}

impl Loop {
    pub(super) async fn run(self, mut gather: Gather) {
        while let Some(gathered) = gather.next().await {
            self.serve(gathered).await;
        }
    }

    async fn serve(&self, gathered: Gathered) {
        let Gathered { appends, notes, .. } = gathered;
        let (requests, answers): (Vec<_>, Vec<_>) =
            appends.into_iter().map(|PendingAppend { request, answer }| (request, answer)).unzip();
        let (notes, note_answers): (Vec<_>, Vec<_>) =
            notes.into_values().map(|pending| (pending.note, pending.answers)).unzip();
        let batch = Arc::new(Batch { appends: requests, notes });
        let committed = match self.commit(&batch).await {
            Err(StoreError::Busy(_) | StoreError::Corrupt(_) | StoreError::Defect) if of_several_logs(&batch) => {
                self.apart(&batch).await
            }
            outcome => Committed::of(&batch, outcome),
        };
        self.publish(&batch.appends, &committed.appends);
        for (answer, outcome) in answers.into_iter().zip(committed.appends) {
            answer.send(outcome);
        }
        for (answers, outcome) in note_answers.into_iter().zip(committed.notes) {
            for answer in answers {
                // The session is gone; what it asked for is done.
                let _ = answer.send(outcome.clone());
            }
        }
    }

    /// Commits, again and again for as long as the store is away and there is time.
    async fn commit(&self, batch: &Arc<Batch>) -> Result<Vec<Append>> {
        let give_up = Instant::now() + self.retry_for;
        let mut backoff = COMMIT_BACKOFF_MIN;
        loop {
            match self.commit_once(Arc::clone(batch)).await {
                Err(error @ StoreError::Unavailable(_)) if Instant::now() + backoff < give_up => {
                    self.store_log.failed(&error);
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(COMMIT_BACKOFF_MAX);
                }
                Err(error) => {
                    self.store_log.failed(&error);
                    return Err(error);
                }
                answers => return answers,
            }
        }
    }

    async fn commit_once(&self, batch: Arc<Batch>) -> Result<Vec<Append>> {
        let started = Instant::now();
        let envelopes: usize = batch.appends.iter().map(|append| append.envelopes.len()).sum();
        // Whatever a store holds, a transaction ends with the future that carries it.
        let committing = AssertUnwindSafe(timeout(self.wait_max, self.store.commit(Arc::clone(&batch))));
        let outcome = match committing.catch_unwind().await {
            Ok(answered) => answered.unwrap_or_else(|_| Err(unanswered())),
            Err(_) => Err(StoreError::Defect),
        };
        match &outcome {
            // Questions and notes only: no figure of how fast entries are stored.
            Ok(_) if envelopes == 0 => {}
            Ok(answers) => {
                self.store_log.works();
                self.metrics.commit_seconds.0.observe(started.elapsed().as_secs_f64());
                self.metrics.commit_envelopes.0.observe(envelopes as f64);
                let new = answers.iter().flat_map(appended).filter(|appended| appended.new).count();
                self.metrics.entries_stored.inc_by(new as u64);
            }
            Err(_) => {
                self.metrics.commit_failures.inc();
            }
        }
        outcome
    }

    /// Commits each log of a batch by itself, so that one that cannot be written to refuses only
    /// its own sessions.
    async fn apart(&self, batch: &Batch) -> Committed {
        let mut committed = Committed::of(batch, Err(stopping()));
        for group in groups(batch) {
            let appends = indices(&batch.appends, |append| append.group == group);
            let notes = indices(&batch.notes, |note| note.group == group);
            let part = Arc::new(Batch {
                appends: appends.iter().map(|&index| batch.appends[index].clone()).collect(),
                notes: notes.iter().map(|&index| batch.notes[index].clone()).collect(),
            });
            let outcome = Committed::of(&part, self.commit_once(Arc::clone(&part)).await);
            for (index, outcome) in appends.into_iter().zip(outcome.appends) {
                committed.appends[index] = outcome;
            }
            for (index, outcome) in notes.into_iter().zip(outcome.notes) {
                committed.notes[index] = outcome;
            }
        }
        committed
    }

    /// Hands what is new to whoever follows the logs, before the sessions that pushed are answered.
    fn publish(&self, appends: &[AppendRequest], outcomes: &[Result<Append>]) {
        let mut news: BTreeMap<GroupKey, News> = BTreeMap::new();
        for (append, outcome) in appends.iter().zip(outcomes) {
            let Ok(Append::Stored { cursors, head } | Append::QuotaExceeded { cursors, head }) = outcome else {
                continue;
            };
            let news = news.entry(append.group).or_default();
            news.auth_gen = append.auth_gen;
            news.head = *head;
            let new = append.envelopes.iter().zip(cursors).filter(|(_, appended)| appended.new);
            news.entries.extend(new.map(|(entry, _)| entry.clone()));
        }
        for (group, News { auth_gen, head, entries }) in news {
            // One commit numbers what is new in a log one behind the other, up to its head. After
            // a repeated commit nothing is new: then the head alone is told.
            let first_cursor = head + 1 - entries.len() as u64;
            self.hub.publish(group, auth_gen, &Fresh { first_cursor, entries });
        }
    }
}

/// New entries of one log under collection.
#[derive(Default)]
struct News {
    auth_gen: u64,
    head: u64,
    entries: Vec<(BlobId, Bytes)>,
}

/// What became of each append and each note of a batch.
struct Committed {
    appends: Vec<Result<Append>>,
    notes: Vec<Result<()>>,
}

impl Committed {
    fn of(batch: &Batch, outcome: Result<Vec<Append>>) -> Self {
        match outcome {
            Ok(answers) => {
                assert_eq!(answers.len(), batch.appends.len(), "a store answers each append");
                Self { appends: answers.into_iter().map(Ok).collect(), notes: vec![Ok(()); batch.notes.len()] }
            }
            Err(error) => Self {
                appends: vec![Err(error.clone()); batch.appends.len()],
                notes: vec![Err(error); batch.notes.len()],
            },
        }
    }
}

fn appended(answer: &Append) -> &[Appended] {
    match answer {
        Append::Stored { cursors, .. } | Append::QuotaExceeded { cursors, .. } => cursors,
        Append::Superseded { .. } | Append::Revoked | Append::Gone => &[],
    }
}

fn groups(batch: &Batch) -> BTreeSet<GroupKey> {
    let appending = batch.appends.iter().map(|append| append.group);
    appending.chain(batch.notes.iter().map(|note| note.group)).collect()
}

fn of_several_logs(batch: &Batch) -> bool {
    groups(batch).len() > 1
}

fn indices<T>(items: &[T], wanted: impl Fn(&T) -> bool) -> Vec<usize> {
    items.iter().enumerate().filter(|(_, item)| wanted(item)).map(|(index, _)| index).collect()
}
