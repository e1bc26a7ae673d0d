//! Delivery against a model: whatever is committed here or elsewhere, published late, out of order
//! or never, read in pieces, truncated and subscribed again, a reader gets the log from its cursor
//! on, in order, once, within its credit, and hears that it has caught up only when it has.
//!
//! The hub and the subscription are the real ones; the store is a vector.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use zerok_sync_protocol::frame::{EntryItem, LogState};
use zerok_sync_protocol::{BlobId, NoisePublicKey, RelayFrame, Timeline};

use super::own::OwnCursors;
use super::subscription::{Misplaced, PageRequest, Step, Subscription};
use crate::doorbell::Silent;
use crate::hub::{Fresh, Hub, Presence, Seat};
use crate::limits::RelayLimits;
use crate::metrics::Metrics;
use crate::store::{GroupKey, StoredEntry};

const GROUPS: usize = 2;
const READERS: usize = 4;
const TIMELINE: Timeline = Timeline([1; 8]);

#[derive(Debug, Clone)]
enum Op {
    /// Entries of these sizes, pushed by a session that the reader at this index may be.
    Commit {
        group: usize,
        sizes: Vec<usize>,
        by: usize,
    },
    /// By another instance: nobody publishes it here.
    CommitElsewhere {
        group: usize,
        sizes: Vec<usize>,
    },
    Publish {
        group: usize,
        index: usize,
    },
    LosePublication {
        group: usize,
        index: usize,
    },
    Poll {
        group: usize,
    },
    /// So many steps of a reader; a page it asks for is read now and taken at its next step.
    Work {
        reader: usize,
        steps: usize,
    },
    Credit {
        reader: usize,
        bytes: u64,
    },
    Resubscribe {
        reader: usize,
        back: u64,
        follow: bool,
    },
    Truncate {
        group: usize,
        up: u64,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let sizes = || vec(prop_oneof![4 => 1_usize..400, 1 => 1_000_usize..3_000], 1..5);
    let (group, reader, index) = (0..GROUPS, 0..READERS, 0_usize..4);
    let op = prop_oneof![
        6 => (group.clone(), sizes(), 0..READERS + 1).prop_map(|(group, sizes, by)| Op::Commit { group, sizes, by }),
        1 => (group.clone(), sizes()).prop_map(|(group, sizes)| Op::CommitElsewhere { group, sizes }),
        6 => (group.clone(), prop_oneof![4 => Just(0), 1 => index.clone()])
            .prop_map(|(group, index)| Op::Publish { group, index }),
        1 => (group.clone(), index).prop_map(|(group, index)| Op::LosePublication { group, index }),
        1 => group.clone().prop_map(|group| Op::Poll { group }),
        9 => (reader.clone(), 1_usize..8).prop_map(|(reader, steps)| Op::Work { reader, steps }),
        4 => (reader.clone(), 1_u64..2_000).prop_map(|(reader, bytes)| Op::Credit { reader, bytes }),
        1 => (reader, 0_u64..12, prop::bool::weighted(0.8))
            .prop_map(|(reader, back, follow)| Op::Resubscribe { reader, back, follow }),
        1 => (group, 1_u64..6).prop_map(|(group, up)| Op::Truncate { group, up }),
    ];
    vec(op, 1..120)
}

/// A log, and what its writers have still to publish.
struct Log {
    key: GroupKey,
    entries: Vec<(BlobId, Bytes)>,
    floor: u64,
    unpublished: Vec<Fresh>,
    /// The highest head that the hub was told of.
    told: u64,
}

impl Log {
    fn head(&self) -> u64 {
        self.entries.len() as u64
    }

    fn blob_id(&self, cursor: u64) -> BlobId {
        cursor.checked_sub(1).map_or(BlobId::ZERO, |index| self.entries[index as usize].0)
    }

    fn commit(&mut self, sizes: &[usize]) -> Fresh {
        let first_cursor = self.head() + 1;
        let entries: Vec<(BlobId, Bytes)> = (first_cursor..)
            .zip(sizes)
            .map(|(cursor, &size)| {
                let mut id = [self.key.0[0]; 32];
                id[..8].copy_from_slice(&cursor.to_le_bytes());
                (BlobId(id), vec![cursor as u8; size].into())
            })
            .collect();
        self.entries.extend(entries.iter().cloned());
        Fresh { first_cursor, entries }
    }

    fn read(&self, request: &PageRequest) -> Vec<StoredEntry> {
        let mut bytes = 0;
        let mut page = Vec::new();
        for cursor in request.from.max(self.floor)..=self.head() {
            let (blob_id, envelope) = self.entries[cursor as usize - 1].clone();
            bytes += envelope.len();
            page.push(StoredEntry::Present { cursor, blob_id, envelope });
            if bytes >= request.bytes_max || page.len() == request.count_max {
                break;
            }
        }
        page
    }

    fn state(&self) -> LogState {
        LogState {
            timeline: TIMELINE,
            auth_gen: 0,
            head: self.head(),
            head_blob_id: self.blob_id(self.head()),
            floor: self.floor,
        }
    }
}

/// A session that reads, and what its client has seen of the log.
struct Reader {
    group: usize,
    subscription: Option<Subscription>,
    seat: Seat,
    _presence: Presence,
    own: OwnCursors,
    page: Option<(PageRequest, Vec<StoredEntry>)>,
    /// The next cursor that the client expects.
    next: u64,
    granted: u64,
    taken: u64,
}

impl Reader {
    fn subscribe(&mut self, log: &Log, back: u64, follow: bool) {
        let after = self.next.saturating_sub(1).saturating_sub(back).max(log.floor - 1);
        self.seat.forget_position();
        self.page = None;
        (self.next, self.granted, self.taken) = (after + 1, 500, 0);
        self.own.forget_below(self.next);
        self.subscription = Some(Subscription::new(TIMELINE, after, log.blob_id(after), self.granted, follow));
    }

    /// One step; whether there may be more to do.
    fn work(&mut self, log: &Log) -> bool {
        let Some(mut subscription) = self.subscription.take() else { return false };
        if let Some((request, page)) = self.page.take() {
            let mut frames = Vec::new();
            let taken = subscription.take_page(request, &page, &mut self.own, |frame, _| frames.push(frame));
            frames.iter().for_each(|frame| self.check_entries(log, frame));
            match taken {
                Ok(()) => self.subscription = Some(subscription),
                Err(Misplaced) => {
                    assert!(self.next < log.floor, "the log never shrinks");
                    self.subscribe(log, 0, true);
                }
            }
            return true;
        }
        match subscription.step(&self.seat, &mut self.own) {
            Step::Entries(frame, _) => self.check_entries(log, &frame),
            Step::CaughtUp(head) => {
                assert_eq!(head + 1, self.next, "up to what was sent");
                assert!(head >= log.told, "and nothing more is known of");
            }
            Step::Read(request) => self.page = Some((request, log.read(&request))),
            Step::Wait => {
                self.subscription = Some(subscription);
                return false;
            }
            Step::Done => {
                self.seat.forget_position();
                return false;
            }
        }
        self.subscription = Some(subscription);
        true
    }

    fn check_entries(&mut self, log: &Log, frame: &Bytes) {
        let Ok(RelayFrame::Entries { items }) = RelayFrame::decode(frame) else { panic!("not Entries") };
        assert!(self.taken < self.granted, "nothing is sent without credit");
        self.taken += frame.len() as u64;
        assert!(items.len() == 1 || self.taken <= self.granted, "one entry may overdraw, not two");
        assert!(!items.is_empty());
        for item in items.iter() {
            let (blob_id, envelope) = &log.entries[self.next as usize - 1];
            match item {
                EntryItem::Stored { cursor, blob_id: id, envelope: bytes } => {
                    assert_eq!((cursor, id, bytes), (&self.next, blob_id, envelope));
                }
                EntryItem::Own { cursor, blob_id: id } => assert_eq!((cursor, id), (&self.next, blob_id)),
                EntryItem::Absent { .. } => panic!("nothing is lost"),
            }
            self.next += 1;
        }
    }
}

fn small_hub() -> Hub {
    let limits = RelayLimits { fanout_bytes_per_session_max: 2_000, fanout_bytes_max: 3_000, ..RelayLimits::default() };
    Hub::new(&limits, &Metrics::new(), Arc::new(Silent))
}

fn run(ops: Vec<Op>) {
    let hub = small_hub();
    let mut logs = [1, 2].map(|id| Log {
        key: GroupKey([id; 32]),
        entries: Vec::new(),
        floor: 1,
        unpublished: Vec::new(),
        told: 0,
    });
    let mut readers: Vec<Reader> = (0..READERS)
        .map(|index| {
            let presence = hub.enter(NoisePublicKey([index as u8; 32]), 0).expect("the hub is open");
            let group = index % GROUPS;
            let mut reader = Reader {
                group,
                subscription: None,
                seat: presence.sit(logs[group].key),
                _presence: presence,
                own: OwnCursors::default(),
                page: None,
                next: 1,
                granted: 0,
                taken: 0,
            };
            reader.subscribe(&logs[group], 0, true);
            reader
        })
        .collect();
    for op in ops {
        match op {
            Op::Commit { group, sizes, by } => {
                let fresh = logs[group].commit(&sizes);
                if let Some(reader) = readers.get_mut(by).filter(|reader| reader.group == group) {
                    (fresh.first_cursor..=fresh.last_cursor()).for_each(|cursor| reader.own.insert(cursor));
                }
                logs[group].unpublished.push(fresh);
            }
            Op::CommitElsewhere { group, sizes } => drop(logs[group].commit(&sizes)),
            Op::Publish { group, index } if !logs[group].unpublished.is_empty() => {
                let log = &mut logs[group];
                let fresh = log.unpublished.remove(index % log.unpublished.len());
                hub.publish(log.key, 0, &fresh);
                log.told = log.told.max(fresh.last_cursor());
            }
            Op::LosePublication { group, index } if !logs[group].unpublished.is_empty() => {
                let log = &mut logs[group];
                log.unpublished.remove(index % log.unpublished.len());
            }
            Op::Publish { .. } | Op::LosePublication { .. } => {}
            Op::Poll { group } => poll(&hub, &mut logs[group]),
            Op::Work { reader, steps } => {
                let reader = &mut readers[reader];
                (0..steps).take_while(|_| reader.work(&logs[reader.group])).count();
            }
            Op::Credit { reader, bytes } => {
                let reader = &mut readers[reader];
                if let Some(subscription) = &mut reader.subscription {
                    subscription.add_credit(bytes);
                    reader.granted += bytes;
                }
            }
            Op::Resubscribe { reader, back, follow } => {
                let reader = &mut readers[reader];
                // What subscribing looks up is told to the hub.
                poll(&hub, &mut logs[reader.group]);
                reader.subscribe(&logs[reader.group], back, follow);
            }
            Op::Truncate { group, up } => {
                let log = &mut logs[group];
                log.floor = (log.floor + up).min(log.head() + 1);
            }
        }
    }
    logs.iter_mut().for_each(|log| poll(&hub, log));
    for reader in &mut readers {
        let log = &logs[reader.group];
        if reader.subscription.is_none() {
            reader.subscribe(log, 0, true);
        }
        let plenty = 1 << 40;
        loop {
            if let Some(subscription) = &mut reader.subscription {
                subscription.add_credit(plenty);
                reader.granted += plenty;
            }
            if !reader.work(log) {
                break;
            }
        }
        assert!(reader.subscription.is_none() || reader.next == log.head() + 1, "everything arrived");
    }
    assert_eq!(hub.fanout_bytes(), 0, "nothing waits for anybody");
}

fn poll(hub: &Hub, log: &mut Log) {
    hub.heard(log.key, &log.state());
    log.told = log.head();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_reader_gets_the_log_in_order_once_and_within_its_credit(ops in ops()) {
        run(ops);
    }
}
