//! Pages, probes and missing blobs: what is lost or rotten is reported, never skipped.

use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::AbsentReason;
use zerok_sync_protocol::{BlobId, Timeline};
use zerok_sync_relay::store::StoredEntry;

use crate::subject::{Log, Subject, envelope, epoch_envelope, found, ids, present, sized_envelope};

/// Cursors 2 to 5 hold envelopes 1 to 4.
async fn log_of_five(store: &Subject) -> Log {
    let log = found(&**store, 1).await;
    log.stored(&**store, &(1..=4).map(envelope).collect::<Vec<_>>()).await;
    log
}

fn lost(cursor: u64) -> StoredEntry {
    StoredEntry::Absent { cursor, blob_id: None, reason: AbsentReason::Lost {} }
}

pub async fn a_page_is_consecutive_and_ends_at_its_limits(store: Subject) {
    let log = log_of_five(&store).await;

    let by_count = store.read(log.group, 2, usize::MAX, 2).await.unwrap();
    let by_bytes = store.read(log.group, 2, 800, 100).await.unwrap();
    let overdrawn = store.read(log.group, 2, 801, 100).await.unwrap();
    let rest = store.read(log.group, 4, usize::MAX, 100).await.unwrap();

    assert_eq!(by_count, [present(2, &envelope(1)), present(3, &envelope(2))]);
    assert_eq!(by_bytes, by_count);
    assert_eq!(overdrawn.len(), 3);
    assert_eq!(rest, [present(4, &envelope(3)), present(5, &envelope(4))]);
    assert_eq!(store.read(log.group, 6, usize::MAX, 100).await.unwrap(), []);
    assert_eq!(store.read(log.group, u64::MAX, usize::MAX, 100).await.unwrap(), []);
}

pub async fn a_page_has_at_least_one_entry_however_large(store: Subject) {
    let log = found(&*store, 1).await;
    let large = sized_envelope(1, 1 << 20);
    log.stored(&*store, &[large.clone(), envelope(2)]).await;

    assert_eq!(store.read(log.group, 2, 0, 0).await.unwrap(), [present(2, &large)]);
}

pub async fn a_rotten_entry_is_reported_not_skipped(store: Subject) {
    let log = log_of_five(&store).await;
    store.sql("UPDATE entries SET envelope = blob_id WHERE cursor = 3").await;

    let page = store.read(log.group, 2, usize::MAX, 3).await.unwrap();

    let rotten =
        StoredEntry::Absent { cursor: 3, blob_id: Some(blob_id(&envelope(2))), reason: AbsentReason::Rotten {} };
    assert_eq!(page, [present(2, &envelope(1)), rotten, present(4, &envelope(3))]);
}

pub async fn a_lost_entry_is_reported_not_skipped(store: Subject) {
    let log = log_of_five(&store).await;
    store.sql("DELETE FROM entries WHERE cursor IN (1, 3)").await;

    let page = store.read(log.group, 1, usize::MAX, 4).await.unwrap();
    let cut = store.read(log.group, 1, 400, 4).await.unwrap();

    assert_eq!(page, [lost(1), present(2, &envelope(1)), lost(3), present(4, &envelope(3))]);
    assert_eq!(cut, [lost(1), present(2, &envelope(1))]);
}

pub async fn lost_entries_at_the_head_are_reported_not_skipped(store: Subject) {
    let log = log_of_five(&store).await;
    store.sql("DELETE FROM entries WHERE cursor >= 4").await;

    let page = store.read(log.group, 3, usize::MAX, 100).await.unwrap();

    assert_eq!(page, [present(3, &envelope(2)), lost(4), lost(5)]);
    assert_eq!(store.read(log.group, 4, usize::MAX, 1).await.unwrap(), [lost(4)]);
}

/// As a truncation leaves it: cursors 1 and 2 are gone.
async fn truncated_log(store: &Subject) -> Log {
    let log = log_of_five(store).await;
    store.sql("UPDATE groups SET floor = 3, floor_blob_id = (SELECT blob_id FROM entries WHERE cursor = 2)").await;
    store.sql("DELETE FROM entries WHERE cursor = 1").await;
    log
}

pub async fn nothing_is_read_below_the_floor(store: Subject) {
    let log = truncated_log(&store).await;

    let page = store.read(log.group, 1, usize::MAX, 2).await.unwrap();

    assert_eq!(page, [present(3, &envelope(2)), present(4, &envelope(3))]);
    assert_eq!(store.state(log.group).await.unwrap().unwrap().floor, 3);
}

pub async fn blob_ids_answer_for_cursors_of_the_log_only(store: Subject) {
    let log = log_of_five(&store).await;
    store.sql("DELETE FROM entries WHERE cursor = 3").await;

    let found = store.blob_ids(log.group, &[5, 0, 1, 3, 6, u64::MAX]).await.unwrap();

    let (head, first) = (blob_id(&envelope(4)), blob_id(&epoch_envelope(1)));
    assert_eq!(found, [Some(head), Some(BlobId::ZERO), Some(first), None, None, None]);
}

pub async fn the_blob_id_below_the_floor_is_kept(store: Subject) {
    let log = truncated_log(&store).await;
    store.sql("DELETE FROM entries WHERE cursor = 2").await;

    let found = store.blob_ids(log.group, &[0, 1, 2, 3]).await.unwrap();

    assert_eq!(found, [None, None, Some(blob_id(&envelope(1))), Some(blob_id(&envelope(2)))]);
}

pub async fn the_blob_id_at_a_lost_head_is_kept(store: Subject) {
    let log = log_of_five(&store).await;
    store.sql("DELETE FROM entries WHERE cursor >= 4").await;

    assert_eq!(store.blob_ids(log.group, &[4, 5]).await.unwrap(), [None, Some(blob_id(&envelope(4)))]);
}

pub async fn a_rotten_or_lost_blob_counts_as_missing(store: Subject) {
    let log = log_of_five(&store).await;
    store.sql("UPDATE entries SET envelope = blob_id WHERE cursor = 3").await;
    store.sql("DELETE FROM entries WHERE cursor = 4").await;

    let asked = ids(&[envelope(99), envelope(1), envelope(2), envelope(3), envelope(1)]);

    assert_eq!(store.missing(log.group, &asked).await.unwrap().flags, [true, false, true, true, false]);
    let other = found(&*store, 2).await;
    assert_eq!(store.missing(other.group, &ids(&[envelope(1)])).await.unwrap().flags, [true]);
}

pub async fn a_timeline_is_swapped_once(store: Subject) {
    let log = found(&*store, 1).await;
    let (old, a, b) = (Timeline([1; 8]), Timeline([0xa; 8]), Timeline([0xb; 8]));

    assert_eq!(store.new_timeline(log.group, old, a).await.unwrap(), a);
    assert_eq!(store.new_timeline(log.group, old, b).await.unwrap(), a);

    assert_eq!(store.state(log.group).await.unwrap().unwrap().timeline, a);
}
