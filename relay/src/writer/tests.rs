//! What a writer does with a store and a hub that are slow, refuse, or panic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc as std_mpsc;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use zerok_sync_protocol::BlobId;

use super::*;
use crate::doorbell::{Doorbell, News, Silent};
use crate::hub::Found;
use crate::store::{Appended, Batch, GroupCommit};

/// Numbers what it is given; one commit for each permit of its gate.
struct Memory {
    gate: Arc<Semaphore>,
    heads: Mutex<BTreeMap<GroupKey, u64>>,
    /// Logs over which it panics.
    poisoned: BTreeSet<GroupKey>,
    /// Logs that somebody else holds.
    held: BTreeSet<GroupKey>,
    /// It has everything already, as after a commit whose answer was lost.
    knows_all: bool,
    loops: usize,
}

impl Memory {
    fn new() -> Self {
        Self {
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            heads: Mutex::default(),
            poisoned: BTreeSet::new(),
            held: BTreeSet::new(),
            knows_all: false,
            loops: 1,
        }
    }
}

#[async_trait]
impl GroupCommit for Memory {
    fn writers(&self) -> usize {
        self.loops
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<Append>> {
        self.gate.acquire().await.expect("never closed").forget();
        let groups: BTreeSet<GroupKey> = batch.appends.iter().map(|append| append.group).collect();
        assert!(groups.is_disjoint(&self.poisoned), "planted");
        if !groups.is_disjoint(&self.held) {
            return Err(StoreError::Busy("held".into()));
        }
        let mut heads = self.heads.lock().expect("no panic holds it");
        let stored = batch.appends.iter().map(|append| {
            let head = heads.entry(append.group).or_default();
            let cursors = append.envelopes.iter().map(|_| {
                *head += 1;
                Appended { cursor: *head, new: !self.knows_all }
            });
            Append::Stored { cursors: cursors.collect(), head: *head }
        });
        Ok(stored.collect())
    }
}

const DEVICE: NoisePublicKey = NoisePublicKey([1; 32]);

fn group(seed: u8) -> GroupKey {
    GroupKey([seed; 32])
}

fn request(group: GroupKey) -> AppendRequest {
    AppendRequest {
        group,
        auth_gen: 0,
        device: DEVICE,
        envelopes: vec![(BlobId([1; 32]), Bytes::from_static(&[0; 1_000]))],
        group_bytes_max: u64::MAX,
        now_ms: 1,
    }
}

fn note() -> DeviceNote {
    DeviceNote { group: group(1), device: DEVICE, acked: None, slot: None, seen_ms: 1, durable: false }
}

fn writer(store: Memory, doorbell: impl Doorbell, limits: &RelayLimits) -> Writer {
    let metrics = Metrics::new();
    Writer::start(Arc::new(store), Hub::new(limits, &metrics, Arc::new(doorbell)), limits, metrics)
}

fn cursor(answer: &Result<Append>) -> Option<u64> {
    match answer {
        Ok(Append::Stored { cursors, .. }) => cursors.first().map(|appended| appended.cursor),
        _ => None,
    }
}

/// A writer whose store lets nothing through, and the permits that open it.
fn stalled(limits: &RelayLimits) -> (Arc<Writer>, Arc<Semaphore>) {
    let store = Memory { gate: Arc::new(Semaphore::new(0)), ..Memory::new() };
    let gate = store.gate.clone();
    let mut writer = writer(store, Silent, limits);
    writer.wait_max = Duration::from_millis(50);
    (Arc::new(writer), gate)
}

#[tokio::test]
async fn appends_of_a_log_are_numbered_and_answered_in_the_order_in_which_they_came() {
    let writer = writer(Memory::new(), Silent, &RelayLimits::default());
    let answers = join_all((0..30).map(|index| writer.append(request(group(index % 3))))).await;
    let expected = (0..30_u64).map(|index| Some(index / 3 + 1));
    assert!(answers.iter().map(cursor).eq(expected), "{answers:?}");
}

#[tokio::test]
async fn a_log_belongs_to_one_loop_and_logs_are_spread_over_all() {
    let writer = writer(Memory { loops: 3, ..Memory::new() }, Silent, &RelayLimits::default());
    let of =
        |seed: u8| (0..3).filter(|&index| writer.inboxes[index].same_channel(writer.inbox(&group(seed)))).collect();
    let loops: Vec<Vec<usize>> = (0..9).map(of).collect();
    assert_eq!(loops, (0..9).map(of).collect::<Vec<_>>());
    assert_eq!(loops.concat().into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([0, 1, 2]));
}

#[tokio::test]
async fn what_was_stored_before_is_not_delivered_as_if_it_were_new() {
    let (limits, metrics) = (RelayLimits::default(), Metrics::new());
    let hub = Hub::new(&limits, &metrics, Arc::new(Silent));
    let store = Arc::new(Memory { knows_all: true, ..Memory::new() });
    let writer = Writer::start(store, hub.clone(), &limits, metrics);
    let follower = hub.enter(NoisePublicKey([2; 32]), 0).expect("the hub is open");
    let seat = follower.sit(group(1));
    assert!(matches!(seat.take(1, i64::MAX), Found::AtHead), "it is live");

    assert_eq!(cursor(&writer.append(request(group(1))).await), Some(1));

    assert!(matches!(seat.take(1, i64::MAX), Found::Behind(1)), "the store has it, under its own cursor");
}

#[tokio::test]
async fn a_log_that_is_held_refuses_its_own_sessions_alone() {
    let store = Memory { held: [group(2)].into(), ..Memory::new() };
    let writer = writer(store, Silent, &RelayLimits::default());
    let answers = join_all([1, 2, 1, 3, 2].map(|seed| writer.append(request(group(seed))))).await;
    assert_eq!(answers.iter().map(cursor).collect::<Vec<_>>(), [Some(1), None, Some(2), Some(1), None]);
}

#[tokio::test]
async fn bytes_that_wait_are_bounded_and_beyond_it_the_next_waits_and_is_then_refused() {
    let limits = RelayLimits { append_queue_bytes_max: 3_000, ..RelayLimits::default() };
    let (writer, gate) = stalled(&limits);
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn({
                let writer = writer.clone();
                async move { writer.append(request(group(1))).await }
            })
        })
        .collect();
    while writer.room.available_permits() > 0 {
        tokio::task::yield_now().await;
    }

    let refused = writer.append(request(group(1))).await;

    assert!(matches!(&refused, Err(StoreError::Unavailable(text)) if text.contains("keep up")), "{refused:?}");
    gate.add_permits(10);
    let answers = join_all(waiting).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| cursor(answer).is_some())));
    assert_eq!(cursor(&writer.append(request(group(1))).await), Some(4), "the room is given back");
    assert_eq!(writer.room.available_permits(), 3_000);
}

#[tokio::test]
async fn jobs_that_wait_are_bounded_in_number_too() {
    let (writer, gate) = stalled(&RelayLimits::default());
    // The first batch is under way; the inbox fills behind it.
    writer.note(note()).await;
    while writer.inboxes[0].capacity() < WRITER_INBOX_MAX {
        tokio::task::yield_now().await;
    }
    let filled = (0..).take_while(|_| writer.inboxes[0].try_send(Job::Note(note(), None)).is_ok()).count();
    assert_eq!(filled, WRITER_INBOX_MAX);
    assert!(writer.note(note()).now_or_never().is_none(), "a note waits for a place");
    let refused = AppendRequest { envelopes: Vec::new(), ..request(group(1)) };
    let refused = writer.append(refused).await;

    assert!(matches!(&refused, Err(StoreError::Unavailable(text)) if text.contains("keep up")), "{refused:?}");
    assert!(writer.slot_put(group(1), DEVICE, Bytes::new()).await.is_err());
    gate.add_permits(WRITER_INBOX_MAX);
    assert_eq!(cursor(&writer.append(request(group(1))).await), Some(1));
}

#[tokio::test]
async fn closing_commits_what_waits_and_refuses_what_comes_then() {
    let (writer, gate) = stalled(&RelayLimits::default());
    let mut before: Vec<_> = (0..10).map(|_| Box::pin(writer.append(request(group(1))))).collect();
    for append in &mut before {
        assert!(append.now_or_never().is_none());
    }
    let mut closed = Box::pin(writer.close());
    assert!((&mut closed).now_or_never().is_none(), "the store is slow");

    gate.add_permits(10);

    let (answers, ()) = tokio::join!(join_all(before), closed);
    assert_eq!(answers.iter().filter_map(cursor).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert!(matches!(writer.append(request(group(1))).await, Err(StoreError::Unavailable(_))));
}

/// Stays in the middle of a loop, behind the commit, until it is told to go on.
struct Slow {
    rung: Mutex<std_mpsc::Sender<()>>,
    go_on: Mutex<std_mpsc::Receiver<()>>,
}

impl Doorbell for Slow {
    fn ring(&self, _news: News) {
        self.rung.lock().expect("no panic holds it").send(()).expect("the test listens");
        self.go_on.lock().expect("no panic holds it").recv().expect("the test tells");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_hear_of_an_entry_before_whoever_pushed_it_is_answered() {
    let ((rung, was_rung), (tell, go_on)) = (std_mpsc::channel(), std_mpsc::channel());
    let doorbell = Slow { rung: Mutex::new(rung), go_on: Mutex::new(go_on) };
    let writer = Arc::new(writer(Memory::new(), doorbell, &RelayLimits::default()));
    let append = tokio::spawn({
        let writer = writer.clone();
        async move { writer.append(request(group(1))).await }
    });
    tokio::task::spawn_blocking(move || was_rung.recv()).await.expect("no panic").expect("it rings");

    // What is never to come can only be waited for.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!append.is_finished());

    tell.send(()).expect("it waits");
    assert_eq!(cursor(&append.await.expect("no panic")), Some(1));
}

#[tokio::test]
async fn a_commit_that_panics_refuses_the_logs_that_make_it_panic_and_no_other() {
    let store = Memory { poisoned: [group(2)].into(), ..Memory::new() };
    let writer = writer(store, Silent, &RelayLimits::default());

    let answers = join_all([1, 2, 3].map(|seed| writer.append(request(group(seed))))).await;

    assert_eq!(answers.iter().map(cursor).collect::<Vec<_>>(), [Some(1), None, Some(1)]);
    assert_eq!(answers[1], Err(StoreError::Defect));
    assert_eq!(cursor(&writer.append(request(group(1))).await), Some(2), "the loop goes on");
}

/// Panics in the middle of a loop, behind the commit.
struct Broken;

impl Doorbell for Broken {
    fn ring(&self, _news: News) {
        panic!("planted");
    }
}

#[tokio::test]
async fn a_loop_that_panics_is_told_and_keeps_nobody_waiting() {
    let writer = writer(Memory::new(), Broken, &RelayLimits::default());
    assert!(writer.failed().now_or_never().is_none());

    let answer = writer.append(request(group(1))).await;

    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    assert_eq!(writer.failed().await, Defect { task: "writer" });
    assert!(matches!(writer.append(request(group(1))).await, Err(StoreError::Unavailable(_))));
    writer.note(note()).await;
    writer.close().await;
}

#[tokio::test]
async fn a_commit_that_the_store_never_answers_is_refused_in_time() {
    let store = Memory { gate: Arc::new(Semaphore::new(0)), ..Memory::new() };
    let limits = RelayLimits { commit_retry_ms: 1, ..RelayLimits::default() };
    let metrics = Metrics::new();
    let hub = Hub::new(&limits, &metrics, Arc::new(Silent));
    let writer = Writer::start_waiting(Arc::new(store), hub, &limits, metrics, Duration::from_millis(50));

    let answer = timeout(Duration::from_secs(10), writer.append(request(group(1)))).await.expect("in time");

    assert!(matches!(&answer, Err(StoreError::Unavailable(text)) if text.contains("hangs")), "{answer:?}");
}
