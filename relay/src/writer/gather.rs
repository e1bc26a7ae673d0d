//! From what waits in a loop's inbox to a batch, bounded in envelopes, bytes and logs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use zerok_sync_protocol::NoisePublicKey;

use super::{Job, PendingAppend};
use crate::limits::{COMMIT_BYTES_MAX, COMMIT_ENVELOPES_MAX, COMMIT_NOTES_MAX, COMMIT_RUN, COMMIT_SIBLINGS};
use crate::metrics::Metrics;
use crate::store::{DeviceNote, GroupKey, Result};

/// A loop's inbox, and what was taken out of it too early.
pub(super) struct Gather {
    jobs: mpsc::Receiver<Job>,
    /// Did not fit into the batch before.
    left_over: Option<Job>,
    ended: bool,
    before: Before,
    /// [`crate::limits::COMMIT_PACE`].
    pace: Duration,
    groups_max: usize,
    metrics: Metrics,
}

/// The batches before.
struct Before {
    taken: Option<Instant>,
    /// Appends of the last one.
    appends: usize,
    /// Batches of this run so far.
    batches: usize,
    /// The most appends in a batch of this run.
    most: usize,
    /// The same of the run before.
    most_before: usize,
}

impl Before {
    fn nothing() -> Self {
        Self { taken: None, appends: 0, batches: 0, most: 0, most_before: 0 }
    }

    /// Until when a batch of so many appends waits for more, if it does.
    ///
    /// Devices that wait for their answers before they push again have all come once as many wait as
    /// ever do: nobody is left to wait for. How many that is, is learnt from a batch that waits for a
    /// whole pace, the first of each run.
    fn waits_until(&self, appends: usize, pace: Duration) -> Option<Instant> {
        let until = self.taken? + pace;
        let all_came = self.batches > 0 && appends >= self.most.max(self.most_before);
        (self.appends >= COMMIT_SIBLINGS && !all_came && Instant::now() < until).then_some(until)
    }

    fn add(&mut self, appends: usize) {
        // Notes alone teach nothing of how many push, and hold up none.
        if appends == 0 {
            return;
        }
        (self.taken, self.appends) = (Some(Instant::now()), appends);
        self.most = self.most.max(appends);
        self.batches += 1;
        if self.batches == COMMIT_RUN {
            (self.batches, self.most, self.most_before) = (0, 0, self.most);
        }
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
        Self { jobs, left_over: None, ended: false, before: Before::nothing(), pace, groups_max, metrics }
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
            next = match (self.jobs.try_recv(), self.before.waits_until(gathered.appends.len(), self.pace)) {
                (Ok(job), _) => Some(job),
                (Err(_), Some(until)) => timeout_at(until, self.jobs.recv()).await.ok().flatten(),
                (Err(_), None) => None,
            };
        }
        self.before.add(gathered.appends.len());
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

    const PACE: Duration = Duration::from_millis(2);

    /// How many appends the last batch has, and how long it waited, after batches of `before`
    /// appends each: `waiting` are there when it begins, `later` come while it waits.
    async fn batch_after(before: &[usize], waiting: usize, later: usize) -> (usize, Duration) {
        let (inbox, jobs) = mpsc::channel(WRITER_INBOX_MAX);
        let mut gather = Gather::new(jobs, 1_000, PACE, Metrics::new());
        let send = |count: usize| {
            (0..count as u64).for_each(|number| {
                inbox.try_send(append(number, number, 1, 1)).expect("there is room");
            })
        };
        for &count in before {
            send(count);
            // As if it had come long after the one before: it waits for nobody.
            gather.before.taken = None;
            gather.next().await.expect("there is something");
        }
        send(waiting);
        let begun = Instant::now();
        let (gathered, ()) = tokio::join!(biased; gather.next(), async { send(later) });
        (gathered.expect("there is something").appends.len(), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn where_much_comes_what_comes_within_a_pace_shares_a_commit() {
        assert_eq!(batch_after(&[10, 3], 1, 5).await, (6, PACE));
    }

    #[tokio::test(start_paused = true)]
    async fn where_little_comes_nobody_waits_for_others() {
        assert_eq!(batch_after(&[10, COMMIT_SIBLINGS - 1], 1, 5).await, (1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn once_as_many_have_come_as_ever_do_nobody_waits() {
        assert_eq!(batch_after(&[4, 6, 5], 1, 5).await, (6, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_as_ever_is_what_came_in_this_run_and_in_the_one_before() {
        let mut before = vec![6; COMMIT_RUN];
        before.extend([3; COMMIT_RUN - 1]);
        assert_eq!(batch_after(&before, 1, 2).await, (3, PACE));
        before.extend([3; 2]);
        assert_eq!(batch_after(&before, 1, 2).await, (3, Duration::ZERO), "six came too long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_batch_of_a_run_waits_whoever_has_come() {
        assert_eq!(batch_after(&[3; COMMIT_RUN], 3, 5).await, (8, PACE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_after_the_batch_before_nobody_waits() {
        let (inbox, jobs) = mpsc::channel(WRITER_INBOX_MAX);
        let mut gather = Gather::new(jobs, 1_000, PACE, Metrics::new());
        for number in 0..9 {
            inbox.try_send(append(number, number, 1, 1)).expect("there is room");
        }
        gather.next().await.expect("there is something");
        tokio::time::advance(PACE).await;
        inbox.try_send(append(1, 1, 1, 1)).expect("there is room");
        let begun = Instant::now();
        assert_eq!(gather.next().await.map(|gathered| gathered.appends.len()), Some(1));
        assert_eq!(begun.elapsed(), Duration::ZERO);
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
