//! From what waits in a loop's inbox to a batch, bounded in envelopes, bytes and logs.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::{mpsc, oneshot};
use zerok_sync_protocol::NoisePublicKey;

use super::{Job, PendingAppend};
use crate::limits::{COMMIT_BYTES_MAX, COMMIT_ENVELOPES_MAX, COMMIT_NOTES_MAX};
use crate::metrics::Metrics;
use crate::store::{DeviceNote, GroupKey, Result};

/// A loop's inbox, and what was taken out of it too early.
pub(super) struct Gather {
    jobs: mpsc::Receiver<Job>,
    /// Did not fit into the batch before.
    left_over: Option<Job>,
    ended: bool,
    groups_max: usize,
    metrics: Metrics,
}

/// What is committed at once.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) appends: Vec<PendingAppend>,
    /// The latest of each device; those of a device whose slot was put are answered together.
    pub(super) notes: BTreeMap<(GroupKey, NoisePublicKey), PendingNote>,
    groups: BTreeSet<GroupKey>,
    envelopes: usize,
    bytes: usize,
}

pub(super) struct PendingNote {
    pub(super) note: DeviceNote,
    pub(super) answers: Vec<oneshot::Sender<Result<()>>>,
}

impl Gather {
    pub(super) fn new(jobs: mpsc::Receiver<Job>, groups_max: usize, metrics: Metrics) -> Self {
        Self { jobs, left_over: None, ended: false, groups_max, metrics }
    }

    /// Waits for something to do and takes all that is there; `None` once the writer is closed and
    /// everything was taken.
    pub(super) async fn next(&mut self) -> Option<Gathered> {
        let mut gathered = Gathered::default();
        let mut next = match self.left_over.take() {
            Some(job) => Some(job),
            None if self.ended => None,
            None => self.jobs.recv().await,
        };
        while let Some(job) = next {
            if let Job::End = job {
                self.ended = true;
                break;
            }
            if !gathered.has_room_for(&job, self.groups_max) {
                self.left_over = Some(job);
                break;
            }
            if let Job::Append(_) = job {
                self.metrics.append_queue.dec();
            }
            gathered.add(job);
            next = self.jobs.try_recv().ok();
        }
        (!gathered.is_empty()).then_some(gathered)
    }
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.notes.is_empty()
    }

    /// Whatever comes first fits.
    fn has_room_for(&self, job: &Job, groups_max: usize) -> bool {
        let group = match job {
            Job::Append(append) => append.request.group,
            Job::Note(note, _) => note.group,
            Job::End => return true,
        };
        self.is_empty()
            || (self.envelopes < COMMIT_ENVELOPES_MAX
                && self.appends.len() < COMMIT_ENVELOPES_MAX
                && self.bytes < COMMIT_BYTES_MAX
                && self.notes.len() < COMMIT_NOTES_MAX
                && (self.groups.len() < groups_max || self.groups.contains(&group)))
    }

    fn add(&mut self, job: Job) {
        match job {
            Job::Append(append) => {
                self.groups.insert(append.request.group);
                self.envelopes += append.request.envelopes.len();
                self.bytes += append.request.envelopes.iter().map(|(_, envelope)| envelope.len()).sum::<usize>();
                self.appends.push(append);
            }
            Job::Note(note, answer) => {
                self.groups.insert(note.group);
                match self.notes.get_mut(&(note.group, note.device)) {
                    Some(pending) => {
                        merge(&mut pending.note, note);
                        pending.answers.extend(answer);
                    }
                    None => {
                        let pending = PendingNote { note, answers: answer.into_iter().collect() };
                        self.notes.insert((pending.note.group, pending.note.device), pending);
                    }
                }
            }
            Job::End => {}
        }
    }
}

/// What two notes of one device come to.
fn merge(note: &mut DeviceNote, later: DeviceNote) {
    note.acked = note.acked.max(later.acked);
    note.slot = later.slot.or(note.slot.take());
    note.seen_ms = note.seen_ms.max(later.seen_ms);
    note.durable |= later.durable;
}
