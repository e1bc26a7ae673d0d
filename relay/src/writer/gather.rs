//! From what waits in a loop's inbox to a batch, bounded in envelopes, bytes and logs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use zerok_sync_protocol::NoisePublicKey;

use super::{Job, PendingAppend};
use crate::limits::{COMMIT_BYTES_MAX, COMMIT_ENVELOPES_MAX, COMMIT_NOTES_MAX, COMMIT_SIBLINGS};
use crate::metrics::Metrics;
use crate::store::{DeviceNote, GroupKey, Result};

/// A loop's inbox, and what was taken out of it too early.
pub(super) struct Gather {
    jobs: mpsc::Receiver<Job>,
    /// Did not fit into the batch before.
    left_over: Option<Job>,
    ended: bool,
    last: Last,
    /// [`crate::limits::COMMIT_PACE`].
    pace: Duration,
    groups_max: usize,
    metrics: Metrics,
}

/// The batch before.
struct Last {
    taken: Option<Instant>,
    appends: usize,
}

impl Last {
    /// Until when a batch of so many appends waits for more, if it does.
    fn waits_until(&self, appends: usize, pace: Duration) -> Option<Instant> {
        // As many again may have come meanwhile: so the size finds that of what comes in one pace.
        let until = self.taken? + pace;
        (self.appends >= COMMIT_SIBLINGS && appends < 2 * self.appends && Instant::now() < until).then_some(until)
    }
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
    pub(super) fn new(jobs: mpsc::Receiver<Job>, groups_max: usize, pace: Duration, metrics: Metrics) -> Self {
        Self { jobs, left_over: None, ended: false, last: Last { taken: None, appends: 0 }, pace, groups_max, metrics }
    }

    /// Waits for something to do and takes all that is there, and where much comes what comes within
    /// a pace; `None` once the writer is closed and everything was taken.
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
            next = match (self.jobs.try_recv(), self.last.waits_until(gathered.appends.len(), self.pace)) {
                (Ok(job), _) => Some(job),
                (Err(_), Some(until)) => timeout_at(until, self.jobs.recv()).await.ok().flatten(),
                (Err(_), None) => None,
            };
        }
        self.last = Last { taken: Some(Instant::now()), appends: gathered.appends.len() };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::sync::Semaphore;
    use zerok_sync_protocol::BlobId;

    use super::super::AppendAnswer;
    use super::*;
    use crate::limits::WRITER_INBOX_MAX;
    use crate::store::AppendRequest;

    /// An append of so many envelopes, told apart by its time.
    fn append(group: u64, number: u64, envelopes: usize, bytes: usize) -> Job {
        let envelope = (BlobId([0; 32]), Bytes::from(vec![0; bytes]));
        let room = Arc::new(Semaphore::new(1));
        Job::Append(PendingAppend {
            request: AppendRequest {
                group: key(group),
                auth_gen: 0,
                device: NoisePublicKey([0; 32]),
                envelopes: vec![envelope; envelopes],
                group_bytes_max: u64::MAX,
                now_ms: number,
            },
            answer: AppendAnswer {
                sender: oneshot::channel().0,
                _room: room.try_acquire_owned().expect("it was just made"),
            },
        })
    }

    fn key(group: u64) -> GroupKey {
        let mut key = GroupKey([0; 32]);
        key.0[..8].copy_from_slice(&group.to_le_bytes());
        key
    }

    fn note(group: u64, device: u8) -> DeviceNote {
        let device = NoisePublicKey([device; 32]);
        DeviceNote { group: key(group), device, acked: None, slot: None, seen_ms: 0, durable: false }
    }

    /// The batches that these become, each as the numbers of its appends and the count of its notes.
    async fn batches(jobs: impl IntoIterator<Item = Job>, groups_max: usize) -> Vec<(Vec<u64>, usize)> {
        let (inbox, waiting) = mpsc::channel(WRITER_INBOX_MAX);
        for job in jobs {
            inbox.try_send(job).expect("the inbox has room for what a test sends");
        }
        drop(inbox);
        let mut gather = Gather::new(waiting, groups_max, Duration::ZERO, Metrics::new());
        let mut batches = Vec::new();
        while let Some(gathered) = gather.next().await {
            let numbers = gathered.appends.iter().map(|append| append.request.now_ms).collect();
            batches.push((numbers, gathered.notes.len()));
        }
        batches
    }

    fn sizes(batches: &[(Vec<u64>, usize)]) -> Vec<usize> {
        batches.iter().map(|(appends, _)| appends.len()).collect()
    }

    fn in_order(batches: &[(Vec<u64>, usize)]) -> bool {
        batches.iter().flat_map(|(appends, _)| appends).copied().eq(0..sizes(batches).iter().sum::<usize>() as u64)
    }

    #[tokio::test]
    async fn what_waits_is_one_batch() {
        let batches = batches((0..50).map(|number| append(number % 7, number, 1, 100)), 1_000).await;
        assert_eq!((sizes(&batches), in_order(&batches)), (vec![50], true));
    }

    #[tokio::test]
    async fn a_batch_holds_so_many_logs_and_more_of_those_it_holds() {
        // The fourth is of a log that the batch has; the fifth would be its fourth log.
        let logs = [1, 2, 3, 2, 4, 1, 5, 6];
        let batches = batches(logs.iter().zip(0..).map(|(group, number)| append(*group, number, 1, 100)), 3).await;
        assert_eq!((sizes(&batches), in_order(&batches)), (vec![4, 3, 1], true));
        let notes = (1..=5).map(|group| Job::Note(note(group, 1), None));
        assert_eq!(super::tests::batches(notes, 3).await, [(vec![], 3), (vec![], 2)]);
    }

    #[tokio::test]
    async fn a_batch_ends_once_it_has_its_bytes() {
        const MIB: usize = 1024 * 1024;
        let jobs = (0..10).map(|number| append(number, number, 1, MIB));
        let batches = batches(jobs, 1_000).await;
        assert_eq!((sizes(&batches), in_order(&batches)), (vec![COMMIT_BYTES_MAX / MIB, 4, 2], true));
        let one = super::tests::batches([append(1, 0, 1, 2 * COMMIT_BYTES_MAX), append(2, 1, 1, 1)], 1_000).await;
        assert_eq!(sizes(&one), [1, 1], "whatever comes first fits");
    }

    #[tokio::test]
    async fn a_batch_ends_once_it_has_its_envelopes() {
        let jobs = (0..10).map(|number| append(number, number, COMMIT_ENVELOPES_MAX / 4, 1));
        let batches = batches(jobs, 1_000).await;
        assert_eq!((sizes(&batches), in_order(&batches)), (vec![4, 4, 2], true));
    }

    #[tokio::test]
    async fn questions_without_envelopes_count_as_well() {
        let questions = (0..COMMIT_ENVELOPES_MAX as u64 + 1).map(|number| append(number % 9, number, 0, 0));
        let batches = batches(questions, 1_000).await;
        assert_eq!((sizes(&batches), in_order(&batches)), (vec![COMMIT_ENVELOPES_MAX, 1], true));
    }

    #[tokio::test]
    async fn a_batch_ends_once_it_has_its_notes() {
        let notes = (0..COMMIT_NOTES_MAX as u64 + 1)
            .map(|index| Job::Note(note(index / 200, u8::try_from(index % 200).expect("less than 200")), None));
        assert_eq!(batches(notes, 1_000).await, [(vec![], COMMIT_NOTES_MAX), (vec![], 1)]);
    }

    #[tokio::test]
    async fn what_stands_behind_the_end_is_not_taken_and_what_was_left_over_before_it_is() {
        let jobs = [append(1, 0, 1, 1), append(2, 1, 1, 1), Job::End, append(3, 2, 1, 1)];
        assert_eq!(batches(jobs, 1).await, [(vec![0], 0), (vec![1], 0)]);
    }

    /// The size of the batch after one of `before` appends, if one append waits then and five others
    /// come soon after.
    async fn batch_after(before: usize, pace: Duration) -> usize {
        let (inbox, waiting) = mpsc::channel(WRITER_INBOX_MAX);
        let mut gather = Gather::new(waiting, 1_000, pace, Metrics::new());
        let send = |number| inbox.try_send(append(number, number, 1, 1)).expect("there is room");
        (0..before as u64).for_each(send);
        gather.next().await.expect("there is something");
        send(1_000);
        let (gathered, ()) = tokio::join!(biased; gather.next(), async { (1_001..1_006).for_each(send) });
        gathered.expect("there is something").appends.len()
    }

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn where_much_comes_what_comes_within_a_pace_shares_a_commit() {
        assert_eq!(batch_after(COMMIT_SIBLINGS, LONG).await, 2 * COMMIT_SIBLINGS, "and twice as much is enough");
    }

    #[tokio::test]
    async fn where_little_comes_nobody_waits_for_others() {
        assert_eq!(batch_after(COMMIT_SIBLINGS - 1, LONG).await, 1);
    }

    #[tokio::test]
    async fn a_pace_after_the_batch_before_nobody_waits() {
        assert_eq!(batch_after(100, Duration::ZERO).await, 1);
    }

    #[tokio::test]
    async fn the_notes_of_a_device_become_one_that_loses_nothing_and_answers_all() {
        let (inbox, waiting) = mpsc::channel(10);
        let slot = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let (first, mut first_answered) = oneshot::channel();
        let (second, mut second_answered) = oneshot::channel();
        for (changed, answer) in [
            (DeviceNote { acked: Some(7), ..note(1, 1) }, None),
            (DeviceNote { slot: slot("old"), durable: true, ..note(1, 1) }, Some(first)),
            (DeviceNote { acked: Some(5), seen_ms: 9, ..note(1, 1) }, None),
            (DeviceNote { slot: slot("new"), durable: true, ..note(1, 1) }, Some(second)),
            (DeviceNote { seen_ms: 3, ..note(1, 1) }, None),
            (DeviceNote { acked: Some(1), ..note(1, 2) }, None),
            (DeviceNote { acked: Some(2), ..note(2, 1) }, None),
        ] {
            inbox.try_send(Job::Note(changed, answer)).expect("there is room");
        }

        let gathered =
            Gather::new(waiting, 10, Duration::ZERO, Metrics::new()).next().await.expect("there is something");

        assert_eq!(gathered.notes.len(), 3, "another device and another log are their own");
        let PendingNote { note, answers } = &gathered.notes[&(key(1), NoisePublicKey([1; 32]))];
        assert_eq!((note.acked, &note.slot, note.seen_ms, note.durable), (Some(7), &slot("new"), 9, true));
        assert_eq!(answers.len(), 2);
        assert!(first_answered.try_recv().is_err() && second_answered.try_recv().is_err(), "none before the commit");
    }
}
