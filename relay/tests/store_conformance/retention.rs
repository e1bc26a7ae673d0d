//! Floors, deletion, eviction and the collector. Time is a number here: graces pass at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::limits::READS_NOTHING;
use zerok_sync_protocol::{BlobId, LogName, MailboxId};
use zerok_sync_relay::gc::{self, Census, Collected, Policy};
use zerok_sync_relay::limits::DEVICE_SEEN_MS;
use zerok_sync_relay::metrics::Metrics;
use zerok_sync_relay::store::{
    Account, Append, Budget, DeleteRequest, Deleted, DeviceNote, Lookup, Removal, Restricted, Step, Store, StoreError,
    StoredEntry, Then, TruncateRequest, Truncated,
};

use crate::subject::{
    Log, NOW, Subject, auth, device, envelope, epoch_envelope, found, ids, known, new, new_log, note, note_of, present,
};

const GRACE: u64 = 24 * 3_600_000;
const INTERVAL: u64 = 3_600_000;

impl Log {
    async fn truncate_at(&self, store: &dyn Store, below: u64, now_ms: u64) -> Truncated {
        let (group, auth_gen, device) = (self.group, self.auth_gen, self.device);
        let request =
            TruncateRequest { group, auth_gen, device, below, grace_ms: GRACE, interval_ms: INTERVAL, now_ms };
        store.truncate(request).await.expect("the store works")
    }

    async fn truncate(&self, store: &dyn Store, below: u64) -> Truncated {
        self.truncate_at(store, below, NOW).await
    }

    async fn ack(&self, store: &dyn Store, cursor: u64) {
        note(store, DeviceNote { acked: Some(cursor), seen_ms: NOW, ..note_of(self) }).await;
    }

    async fn delete(&self, store: &dyn Store) -> Deleted {
        let (group, auth_gen, device) = (self.group, self.auth_gen, self.device);
        let request = DeleteRequest { group, auth_gen, device, grace_ms: GRACE, now_ms: NOW };
        store.delete_group(request).await.expect("the store works")
    }

    async fn floor(&self, store: &dyn Store) -> u64 {
        store.state(self.group).await.expect("the store works").expect("the log exists").floor
    }

    async fn blob_ids(&self, store: &dyn Store, cursors: &[u64]) -> Vec<Option<BlobId>> {
        store.blob_ids(self.group, cursors).await.expect("the store works")
    }
}

fn done(floor: u64) -> Truncated {
    Truncated::Done { floor }
}

/// A log of its epoch envelope and `entries` others, all acknowledged by its only device.
async fn log_of(store: &dyn Store, n: u8, entries: u64) -> Log {
    let log = found(store, n).await;
    let entries: Vec<Bytes> = (1..=entries).map(envelope).collect();
    log.admitted(store).await;
    log.stored(store, &entries).await;
    log.ack(store, 1 + entries.len() as u64).await;
    log
}

fn policy() -> Policy {
    Policy {
        budget: Budget { entries_max: 2, bytes_max: u64::MAX },
        truncate_grace_ms: GRACE,
        idle_ms_max: None,
        pause_factor: 0,
    }
}

async fn collect_with(store: &dyn Store, policy: &Policy, now_ms: u64) -> Collected {
    let round = gc::collect(store, policy, now_ms, &Metrics::new()).await.expect("the store works");
    round.collected.expect("nobody else collects")
}

async fn collect(store: &dyn Store, now_ms: u64) -> Collected {
    collect_with(store, &policy(), now_ms).await
}

async fn account(store: &dyn Store, log: &Log) -> Account {
    let accounts = store.survey(None, 100).await.expect("the store works");
    accounts.into_iter().find(|account| account.group == log.group).expect("the log is there")
}

pub async fn a_floor_moves_at_once_and_nothing_below_it_is_read(store: Subject) {
    let log = log_of(&*store, 1, 4).await;

    assert_eq!(log.truncate(&*store, 4).await, done(4));

    assert_eq!(log.floor(&*store).await, 4);
    assert_eq!(log.everything(&*store).await, [present(4, &envelope(3)), present(5, &envelope(4))]);
    assert_eq!(log.truncate(&*store, 4).await, done(4), "asked again");
}

pub async fn a_floor_is_raised_no_further_than_every_device_seen_lately_has_acknowledged(store: Subject) {
    let log = log_of(&*store, 1, 4).await;
    let slow = log.by(device(9));
    slow.admitted(&*store).await;

    assert_eq!(log.truncate(&*store, 2).await, Truncated::NotReached { below_max: 1 });
    slow.ack(&*store, 3).await;
    assert_eq!(log.truncate(&*store, 5).await, Truncated::NotReached { below_max: 4 });
    assert_eq!(log.floor(&*store).await, 1);
    assert_eq!(log.truncate(&*store, 4).await, done(4));

    slow.ack(&*store, 5).await;
    let past_the_head = log.truncate_at(&*store, 7, NOW + INTERVAL).await;
    assert_eq!(past_the_head, Truncated::NotReached { below_max: 6 });
}

pub async fn a_device_not_seen_for_thirty_days_keeps_no_floor_down(store: Subject) {
    let log = log_of(&*store, 1, 4).await;
    log.by(device(9)).admitted(&*store).await;

    let last_day = log.truncate_at(&*store, 5, NOW + DEVICE_SEEN_MS).await;
    assert_eq!(last_day, Truncated::NotReached { below_max: 1 });

    assert_eq!(log.truncate_at(&*store, 5, NOW + DEVICE_SEEN_MS + 1).await, done(5));
    let who_asks = log.by(device(9)).truncate_at(&*store, 6, NOW + DEVICE_SEEN_MS + 1 + INTERVAL).await;
    assert_eq!(who_asks, Truncated::NotReached { below_max: 1 }, "its own acknowledgement counts");
}

pub async fn a_device_that_never_reads_keeps_no_floor_down(store: Subject) {
    let log = log_of(&*store, 1, 4).await;
    let paper = log.by(device(9));
    paper.admitted(&*store).await;
    paper.ack(&*store, READS_NOTHING).await;
    log.stored(&*store, &[envelope(9)]).await;
    log.ack(&*store, 6).await;

    assert_eq!(log.truncate(&*store, 7).await, done(7), "what came after its word as well");
}

pub async fn a_floor_is_raised_once_in_an_interval(store: Subject) {
    let log = log_of(&*store, 1, 4).await;
    assert_eq!(log.truncate(&*store, 3).await, done(3));

    let soon = log.truncate_at(&*store, 4, NOW + INTERVAL - 7).await;
    assert_eq!(soon, Truncated::TooSoon { retry_after_ms: 7 });
    assert_eq!(log.truncate_at(&*store, 2, NOW + 1).await, done(2), "lowering is no raise");
    assert_eq!(log.truncate_at(&*store, 4, NOW + INTERVAL).await, done(4));

    assert_eq!(log.truncate_at(&*store, 3, NOW + INTERVAL).await, done(3));
    let put_back = NOW - 1_000 * INTERVAL;
    assert_eq!(log.truncate_at(&*store, 4, put_back).await, done(4), "nobody waits until the clock is there again");
}

pub async fn a_floor_is_lowered_down_to_what_still_has_its_bytes(store: Subject) {
    let log = log_of(&*store, 1, 6).await;
    log.truncate(&*store, 4).await;
    collect(&*store, NOW + GRACE).await;
    assert_eq!(log.truncate_at(&*store, 7, NOW + GRACE).await, done(7));

    assert_eq!(log.truncate(&*store, 5).await, done(5));
    assert_eq!(log.everything(&*store).await[0], present(5, &envelope(4)));
    for too_low in [0, 1, 3, 4] {
        assert_eq!(log.truncate(&*store, too_low).await, done(4));
    }

    assert_eq!(log.everything(&*store).await[0], present(4, &envelope(3)));
    let around = log.blob_ids(&*store, &[2, 3, 4]).await;
    assert_eq!(around, [None, Some(blob_id(&envelope(2))), Some(blob_id(&envelope(3)))]);
}

pub async fn bytes_below_a_floor_go_after_their_grace_and_not_before(store: Subject) {
    let log = log_of(&*store, 1, 4).await;
    log.truncate(&*store, 4).await;

    assert_eq!(collect(&*store, NOW + GRACE - 1).await, Collected::default());
    let collected = collect(&*store, NOW + GRACE).await;

    assert_eq!(collected, Collected { entries: 3, bytes: 500 + 2 * 400, ..Collected::default() });
    assert_eq!(store.texts("SELECT CAST(cursor AS text) FROM entries ORDER BY cursor").await, ["4", "5"]);
    assert_eq!(collect(&*store, NOW + 10 * GRACE).await, Collected::default());
    assert_eq!(log.everything(&*store).await, [present(4, &envelope(3)), present(5, &envelope(4))]);
}

pub async fn a_floor_raised_while_another_waits_has_a_grace_of_its_own(store: Subject) {
    let log = log_of(&*store, 1, 4).await;
    log.truncate(&*store, 3).await;
    log.truncate_at(&*store, 5, NOW + GRACE - 1).await;

    assert_eq!(collect(&*store, NOW + GRACE).await.entries, 2);
    assert_eq!(log.truncate_at(&*store, 3, NOW + GRACE).await, done(3), "the second step can be taken back");

    log.truncate_at(&*store, 5, NOW + GRACE + INTERVAL).await;
    assert_eq!(collect(&*store, NOW + 2 * GRACE + INTERVAL - 1).await.entries, 0);
    assert_eq!(collect(&*store, NOW + 2 * GRACE + INTERVAL).await.entries, 2);
}

pub async fn a_lowered_floor_keeps_what_is_above_it(store: Subject) {
    let log = log_of(&*store, 1, 4).await;
    log.truncate(&*store, 5).await;
    log.truncate_at(&*store, 3, NOW + GRACE - 1).await;

    assert_eq!(collect(&*store, NOW + GRACE).await.entries, 2);

    assert_eq!(log.everything(&*store).await.len(), 3);
    assert_eq!(collect(&*store, NOW + 9 * GRACE).await.entries, 0);
    assert_eq!(log.truncate(&*store, 1).await, done(3));
}

pub async fn the_blob_id_below_a_floor_is_exact_before_and_after_the_bytes_went(store: Subject) {
    let log = log_of(&*store, 1, 4).await;
    log.truncate(&*store, 4).await;
    let expected = [None, Some(blob_id(&envelope(2))), Some(blob_id(&envelope(3)))];

    assert_eq!(log.blob_ids(&*store, &[2, 3, 4]).await, expected);
    collect(&*store, NOW + GRACE).await;
    assert_eq!(log.blob_ids(&*store, &[2, 3, 4]).await, expected);
}

pub async fn a_floor_never_stands_on_a_lost_row(store: Subject) {
    let log = log_of(&*store, 1, 6).await;
    store.sql("DELETE FROM entries WHERE cursor IN (4, 5)").await;

    assert_eq!(log.truncate(&*store, 6).await, done(4), "the next lower one with a known neighbour");
    assert_eq!(log.blob_ids(&*store, &[3]).await, ids(&[envelope(2)]).into_iter().map(Some).collect::<Vec<_>>());

    assert_eq!(log.truncate_at(&*store, 6, NOW + INTERVAL).await, done(4), "no further, and not back");
    store.sql("DELETE FROM entries WHERE cursor = 3").await;
    assert_eq!(log.truncate_at(&*store, 6, NOW + 2 * INTERVAL).await, done(4), "nor below what was lost since");
}

pub async fn the_whole_log_can_be_truncated_and_goes_on(store: Subject) {
    let log = log_of(&*store, 1, 3).await;
    assert_eq!(log.truncate(&*store, 5).await, done(5));
    collect(&*store, NOW + GRACE).await;

    assert_eq!(log.everything(&*store).await, []);
    assert_eq!(log.blob_ids(&*store, &[4]).await, [Some(blob_id(&envelope(3)))]);
    assert_eq!(log.admitted(&*store).await.group_bytes, 0);

    assert_eq!(log.stored(&*store, &[envelope(9)]).await, [new(5)]);
    assert_eq!(log.everything(&*store).await, [present(5, &envelope(9))]);
}

pub async fn what_lies_below_the_floor_counts_until_it_is_removed(store: Subject) {
    let log = log_of(&*store, 1, 4).await;
    let quota = 500 + 4 * 400;
    log.truncate(&*store, 4).await;

    assert_eq!(log.admitted(&*store).await.group_bytes, quota);
    let full = log.append_within(&*store, &[envelope(9)], quota).await;
    assert_eq!(full, Append::QuotaExceeded { cursors: vec![], head: 5 });

    collect(&*store, NOW + GRACE).await;
    assert_eq!(log.admitted(&*store).await.group_bytes, 2 * 400);
    let fits = log.append_within(&*store, &[envelope(9)], quota).await;
    assert_eq!(fits, Append::Stored { cursors: vec![new(6)], head: 6 });
}

pub async fn a_purged_blob_is_appended_anew(store: Subject) {
    let log = log_of(&*store, 1, 4).await;
    log.truncate(&*store, 4).await;
    assert_eq!(log.stored(&*store, &[envelope(1)]).await, [known(2)], "it still has its bytes");

    collect(&*store, NOW + GRACE).await;

    assert_eq!(store.missing(log.group, &ids(&[envelope(1), envelope(3)])).await.unwrap().flags, [true, false]);
    assert_eq!(log.stored(&*store, &[envelope(1)]).await, [new(6)]);
}

pub async fn a_session_of_an_old_generation_neither_truncates_nor_deletes(store: Subject) {
    let log = log_of(&*store, 1, 4).await;
    log.rotated(&*store, 2, &[log.device]).await;

    let superseded = Truncated::Superseded { epoch_envelope: epoch_envelope(2) };
    assert_eq!(log.truncate(&*store, 3).await, superseded);
    assert_eq!(log.delete(&*store).await, Deleted::Superseded { epoch_envelope: epoch_envelope(2) });

    assert_eq!(log.floor(&*store).await, 1);
}

pub async fn a_removed_device_neither_truncates_nor_deletes(store: Subject) {
    let log = log_of(&*store, 1, 4).await;
    let removed = log.by(device(9));
    removed.admitted(&*store).await;
    removed.ack(&*store, 5).await;
    assert_eq!(log.restrict(&*store, &[log.device]).await, Restricted::Done { head: 5 });

    assert_eq!(removed.truncate(&*store, 3).await, Truncated::Revoked);
    assert_eq!(removed.delete(&*store).await, Deleted::Revoked);

    assert_eq!(log.floor(&*store).await, 1);
}

pub async fn a_purge_takes_small_steps(store: Subject) {
    let log = log_of(&*store, 1, 6).await;
    log.truncate(&*store, 8).await;
    let mut collector = store.collector().await.unwrap().expect("nobody else collects");
    let mut purge = async |entries_max, bytes_max| {
        let budget = Budget { entries_max, bytes_max };
        collector.purge(log.group, budget, NOW + GRACE, GRACE).await.unwrap()
    };

    assert_eq!(purge(2, u64::MAX).await, Step { entries: 2, bytes: 900, then: Then::Continue });
    assert_eq!(purge(100, 401).await, Step { entries: 2, bytes: 800, then: Then::Continue });
    assert_eq!(purge(0, 0).await, Step { entries: 1, bytes: 400, then: Then::Continue }, "never stands still");
    assert_eq!(purge(2, u64::MAX).await, Step { entries: 2, bytes: 800, then: Then::Finished });
    assert_eq!(purge(2, u64::MAX).await, Step::default());
}

pub async fn a_deleted_log_is_not_served(store: Subject) {
    let log = log_of(&*store, 1, 2).await;

    assert_eq!(log.delete(&*store).await, Deleted::Done);

    let gone = |outcome: Result<(), StoreError>| assert!(matches!(outcome, Err(StoreError::Gone)), "{outcome:?}");
    assert_eq!(store.state(log.group).await.unwrap(), None);
    gone(store.read(log.group, 1, 1_000, 10).await.map(|_| ()));
    gone(store.blob_ids(log.group, &[1]).await.map(|_| ()));
    gone(store.missing(log.group, &ids(&[envelope(1)])).await.map(|_| ()));
    assert_eq!(log.append(&*store, &[envelope(9)]).await, Append::Gone);
    gone(store.rotate(log.rotation(2, &[log.device])).await.map(|_| ()));
    assert_eq!(store.create(new_log(1, &[device(8)]), NOW).await.unwrap(), None, "its name is still taken");
}

pub async fn a_members_hello_brings_a_deleted_log_back(store: Subject) {
    let log = log_of(&*store, 1, 2).await;
    let before = store.state(log.group).await.unwrap();
    log.delete(&*store).await;
    collect(&*store, NOW + GRACE - 1).await;

    assert_eq!(store.lookup(&LogName::of(&auth(1))).await.unwrap(), Lookup::Current(log.group));
    log.admitted(&*store).await;

    assert_eq!(store.state(log.group).await.unwrap(), before);
    assert_eq!(collect(&*store, NOW + 2 * GRACE).await, Collected::default());
    assert_eq!(log.everything(&*store).await.len(), 3);
}

pub async fn a_hello_with_an_old_key_does_not_bring_it_back(store: Subject) {
    let old = log_of(&*store, 1, 2).await;
    let log = old.rotated(&*store, 2, &[old.device]).await;
    log.delete(&*store).await;

    let refused = store.admit(old.group, &old.auth, &old.device, NOW).await;

    assert!(matches!(refused, Err(StoreError::Gone)), "{refused:?}");
    assert_eq!(store.state(log.group).await.unwrap(), None);
}

pub async fn a_deleted_log_is_removed_after_its_grace_with_all_its_names(store: Subject) {
    let stays = log_of(&*store, 9, 2).await;
    let mut log = log_of(&*store, 1, 5).await;
    for next in 2..=6 {
        log = log.rotated(&*store, next, &[log.device]).await;
    }
    log.delete(&*store).await;

    let collected = collect(&*store, NOW + GRACE).await;

    assert_eq!((collected.deleted_groups, collected.entries), (1, 11));
    assert_eq!(store.lookup(&LogName::of(&auth(1))).await.unwrap(), Lookup::Unknown);
    assert!(store.logs_of(&log.device).await.unwrap().is_empty());
    for (table, rows) in [("groups", 1), ("names", 1), ("devices", 1), ("entries", 3)] {
        let left = store.texts(&format!("SELECT 'row' FROM {table}")).await;
        assert_eq!(left.len(), rows, "{table} keeps the other log's rows and no more");
    }
    assert_eq!(stays.everything(&*store).await.len(), 3);
    found(&*store, 1).await;
}

pub async fn a_log_that_a_member_brought_back_is_not_removed(store: Subject) {
    let log = log_of(&*store, 1, 2).await;
    log.delete(&*store).await;
    log.admitted(&*store).await;
    let mut collector = store.collector().await.unwrap().expect("nobody else collects");
    let budget = Budget { entries_max: 2, bytes_max: u64::MAX };

    let surveyed_before = collector.remove(log.group, Removal::Deleted, budget, NOW + GRACE).await.unwrap();

    assert_eq!(surveyed_before, Step::default());
    assert_eq!(log.everything(&*store).await.len(), 3);
    collector.finish().await.unwrap();
}

pub async fn a_log_of_many_names_is_removed_in_small_steps(store: Subject) {
    let mut log = log_of(&*store, 1, 0).await;
    for next in 2..=6 {
        log = log.rotated(&*store, next, &[log.device]).await;
    }
    log.delete(&*store).await;
    let mut collector = store.collector().await.unwrap().expect("nobody else collects");
    let budget = Budget { entries_max: 2, bytes_max: u64::MAX };
    let mut left = vec![6];

    while collector.remove(log.group, Removal::Deleted, budget, NOW + GRACE).await.unwrap().then == Then::Continue {
        left.push(store.texts("SELECT 'row' FROM names").await.len());
    }

    left.dedup();
    assert_eq!(left, [6, 4, 2], "two with each step, and the last with the log");
    assert!(store.texts("SELECT 'row' FROM names").await.is_empty());
    collector.finish().await.unwrap();
}

pub async fn a_removal_that_has_begun_is_not_undone(store: Subject) {
    let log = log_of(&*store, 1, 5).await;
    log.delete(&*store).await;
    let mut collector = store.collector().await.unwrap().expect("nobody else collects");
    let budget = Budget { entries_max: 2, bytes_max: u64::MAX };
    let early = collector.remove(log.group, Removal::Deleted, budget, NOW + GRACE - 1).await.unwrap();
    assert_eq!(early, Step::default());

    let first = collector.remove(log.group, Removal::Deleted, budget, NOW + GRACE).await.unwrap();

    assert_eq!(first.then, Then::Continue);
    assert_eq!(store.lookup(&LogName::of(&auth(1))).await.unwrap(), Lookup::Unknown);
    assert!(matches!(store.admit(log.group, &log.auth, &log.device, NOW).await, Err(StoreError::Gone)));
    assert_eq!(store.create(new_log(1, &[device(8)]), NOW).await.unwrap(), None, "not before the last row is gone");
    collector.finish().await.unwrap();
    assert_eq!(collect(&*store, NOW + GRACE).await.entries, 4);
    found(&*store, 1).await;
}

pub async fn an_idle_log_is_evicted_and_one_in_use_is_not(store: Subject) {
    const IDLE: u64 = 90 * 24 * 3_600_000;
    let (idle, used) = (log_of(&*store, 1, 2).await, log_of(&*store, 2, 2).await);
    let policy = Policy { idle_ms_max: Some(IDLE), ..policy() };
    note(&*store, DeviceNote { seen_ms: NOW + IDLE, ..note_of(&used) }).await;

    assert_eq!(collect_with(&*store, &policy, NOW + IDLE).await.idle_groups, 0);
    assert_eq!(collect_with(&*store, &self::policy(), NOW + 9 * IDLE).await.idle_groups, 0, "by policy only");
    assert_eq!(collect_with(&*store, &policy, NOW + IDLE + 1).await.idle_groups, 1);

    assert_eq!(store.lookup(&LogName::of(&idle.auth)).await.unwrap(), Lookup::Unknown);
    assert_eq!(used.everything(&*store).await.len(), 3);
    assert_eq!(account(&*store, &used).await.active_at_ms, NOW + IDLE, "looked at once, and noted");
}

pub async fn a_log_noted_as_in_use_is_not_idle(store: Subject) {
    const IDLE: u64 = 90 * 24 * 3_600_000;
    let log = log_of(&*store, 1, 2).await;
    let policy = Policy { idle_ms_max: Some(IDLE), ..policy() };

    store.mark_active(&[log.group], NOW + IDLE, NOW + IDLE).await.unwrap();
    store.mark_active(&[log.group], NOW + IDLE, NOW + 2 * IDLE).await.unwrap();

    assert_eq!(account(&*store, &log).await.active_at_ms, NOW + IDLE, "a fresh note is left as it is");
    assert_eq!(collect_with(&*store, &policy, NOW + 2 * IDLE).await.idle_groups, 0);
    assert_eq!(collect_with(&*store, &policy, NOW + 2 * IDLE + 1).await.idle_groups, 1);
}

pub async fn a_collector_is_alone(store: Subject) {
    let log = log_of(&*store, 1, 4).await;
    log.truncate(&*store, 4).await;
    let other = store.another_instance().await;
    let collector = store.collector().await.unwrap().expect("nobody else collects");

    let round = gc::collect(&*other, &policy(), NOW + GRACE, &Metrics::new()).await.unwrap();

    assert_eq!(round.collected, None);
    assert_eq!(round.census.entries, 5, "it counts all the same");
    collector.finish().await.unwrap();
    drop(other.collector().await.unwrap().expect("it is its turn at once"));
    // Of one that is merely gone Postgres notices a moment later.
    while store.collector().await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
}

pub async fn a_round_sweeps_mailboxes(store: Subject) {
    let mailbox = |n| [MailboxId::from_slice(&[0, n]).expect("two bytes")];
    store.mailbox_open(crate::mailbox::request(&mailbox(1), NOW)).await.unwrap();
    store.mailbox_open(crate::mailbox::request(&mailbox(2), NOW + 1)).await.unwrap();

    let metrics = Metrics::new();
    let round = gc::collect(&*store, &policy(), NOW, &metrics).await.unwrap();

    assert_eq!(round.collected.expect("nobody else collects").mailboxes, 1);
    assert_eq!(gc::stats(&*store).await.unwrap().storage.mailboxes, 1);
}

pub async fn the_census_counts_what_is_there(store: Subject) {
    let (one, two) = (log_of(&*store, 1, 4).await, log_of(&*store, 2, 1).await);
    one.by(device(9)).admitted(&*store).await;
    two.delete(&*store).await;
    store.mark_active(&[one.group], NOW + 1, NOW + 5).await.unwrap();

    let stats = gc::stats(&*store).await.unwrap();

    let expected = Census {
        groups: 1,
        deleted_groups: 1,
        entries: 5 + 2,
        bytes: 2 * 500 + 5 * 400,
        oldest_created_at_ms: Some(NOW),
        newest_active_at_ms: Some(NOW + 5),
    };
    assert_eq!(stats.census, expected);
    assert_eq!(stats.storage.devices, 3);
    assert!(stats.storage.database_bytes > 0);
    let round = gc::collect(&*store, &policy(), NOW, &Metrics::new()).await.unwrap();
    assert_eq!(round.census, expected);
}

pub async fn a_declared_restore_gives_every_log_another_timeline(store: Subject) {
    let logs = [log_of(&*store, 1, 1).await, log_of(&*store, 2, 1).await];
    let timelines = async || {
        let mut timelines = Vec::new();
        for log in &logs {
            timelines.push(store.state(log.group).await.unwrap().unwrap().timeline);
        }
        timelines
    };
    let before = timelines().await;

    assert_eq!(store.declare_restore().await.unwrap(), 2);

    let after = timelines().await;
    assert!(after[0] != after[1] && after.iter().all(|timeline| !before.contains(timeline) && !timeline.is_zero()));
    assert_eq!(logs[0].everything(&*store).await.len(), 2);
}

/// C-COLL-02: floors move and rows go while entries are pushed and read.
pub async fn truncation_collection_reads_and_pushes_lose_nothing_together(subject: Subject) {
    const ENTRIES: u64 = 600;
    let log = found(&*subject, 1).await;
    log.admitted(&*subject).await;
    let pushed = Arc::new(AtomicU64::new(1));
    let over = Arc::new(AtomicBool::new(false));

    let pusher = tokio::spawn({
        let (store, log, pushed) = (subject.store(), log.clone(), pushed.clone());
        async move {
            for n in 1..=ENTRIES {
                assert_eq!(log.stored(&*store, &[envelope(n)]).await, [new(n + 1)]);
                pushed.store(n + 1, Ordering::Release);
            }
        }
    });
    // Reads from below the floor to the head, again and again: what it gets is whole.
    let reader = tokio::spawn({
        let (store, log, over) = (subject.another_instance().await, log.clone(), over.clone());
        async move {
            let mut overtaken = 0;
            while !over.load(Ordering::Acquire) {
                let page = store.read(log.group, 1, usize::MAX, 10_000).await.expect("the store works");
                overtaken += u64::from(!matches!(page.first(), Some(StoredEntry::Present { cursor: 1, .. })));
                for pair in page.windows(2) {
                    let [one, other] = pair else { unreachable!() };
                    assert_eq!(cursor(one) + 1, cursor(other));
                }
                for entry in &page {
                    let StoredEntry::Present { cursor, blob_id: id, .. } = entry else { panic!("lost: {entry:?}") };
                    assert!(*cursor == 1 || *id == blob_id(&envelope(cursor - 1)));
                }
            }
            overtaken
        }
    });
    let store = subject.store();
    let mut kept = 1;
    while kept <= ENTRIES / 2 {
        let head = pushed.load(Ordering::Acquire);
        log.ack(&*store, head).await;
        let (group, auth_gen, device) = (log.group, log.auth_gen, log.device);
        let request =
            TruncateRequest { group, auth_gen, device, below: head, grace_ms: 0, interval_ms: 0, now_ms: NOW };
        let Truncated::Done { floor } = store.truncate(request).await.unwrap() else { panic!("not truncated") };
        kept = floor;
        let policy = Policy { truncate_grace_ms: 0, ..policy() };
        gc::collect(&*store, &policy, NOW, &Metrics::new()).await.unwrap();
    }
    pusher.await.expect("every push is acknowledged in order");
    over.store(true, Ordering::Release);
    assert!(reader.await.expect("nothing read is lost") > 0, "the floor overtook the reader");

    let entries = log.everything(&*store).await;
    let expected = (kept..=ENTRIES + 1).map(|cursor| present(cursor, &envelope(cursor - 1)));
    assert!(entries.into_iter().eq(expected), "everything from the floor on is there");
    assert_eq!(account(&*store, &log).await.bytes, (ENTRIES + 2 - kept) * 400, "and is what is counted");
}

fn cursor(entry: &StoredEntry) -> u64 {
    match entry {
        StoredEntry::Present { cursor, .. } | StoredEntry::Absent { cursor, .. } => *cursor,
    }
}
