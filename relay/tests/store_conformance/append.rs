//! What an append stores, numbers, heals and refuses.

use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_relay::store::Append;

use crate::subject::{
    NOW, Subject, device, envelope, epoch_envelope, found, known, new, new_log, present, sized_envelope,
};

pub async fn a_new_log_starts_with_its_epoch_envelope_at_cursor_1(store: Subject) {
    let mut log = new_log(1, &[device(1)]);
    log.envelopes = vec![envelope(1), envelope(2)];

    let group = store.create(log, NOW).await.unwrap().unwrap();

    let state = store.state(group).await.unwrap().unwrap();
    assert_eq!((state.auth_gen, state.head, state.floor), (0, 3, 1));
    assert_eq!(state.timeline.0, [1; 8]);
    assert_eq!(state.head_blob_id, blob_id(&envelope(2)));
    let entries = store.read(group, 1, usize::MAX, 10).await.unwrap();
    assert_eq!(entries, [present(1, &epoch_envelope(1)), present(2, &envelope(1)), present(3, &envelope(2))]);
}

pub async fn envelopes_are_numbered_in_order_without_gaps(store: Subject) {
    let log = found(&*store, 1).await;

    let first = log.append(&*store, &[envelope(1), envelope(2)]).await;
    let second = log.append(&*store, &[envelope(3)]).await;

    assert_eq!(first, Append::Stored { cursors: vec![new(2), new(3)], head: 3 });
    assert_eq!(second, Append::Stored { cursors: vec![new(4)], head: 4 });
    let state = store.state(log.group).await.unwrap().unwrap();
    assert_eq!((state.head, state.head_blob_id), (4, blob_id(&envelope(3))));
    assert_eq!(log.admitted(&*store).await.group_bytes, 500 + 3 * 400);
}

pub async fn the_same_envelope_gets_the_same_cursor(store: Subject) {
    let log = found(&*store, 1).await;
    log.stored(&*store, &[envelope(1), envelope(2)]).await;

    let again = log.append(&*store, &[envelope(3), envelope(1)]).await;

    assert_eq!(again, Append::Stored { cursors: vec![new(4), known(2)], head: 4 });
    assert_eq!(log.everything(&*store).await.len(), 4);
    assert_eq!(log.admitted(&*store).await.group_bytes, 500 + 3 * 400);
}

pub async fn a_duplicate_within_one_batch_gets_the_same_cursor(store: Subject) {
    let log = found(&*store, 1).await;

    let stored = log.append(&*store, &[envelope(1), envelope(1), envelope(2)]).await;

    assert_eq!(stored, Append::Stored { cursors: vec![new(2), known(2), new(3)], head: 3 });
}

pub async fn two_logs_number_their_entries_apart(store: Subject) {
    let (one, two) = (found(&*store, 1).await, found(&*store, 2).await);

    assert_eq!(one.stored(&*store, &[envelope(1)]).await, [new(2)]);
    assert_eq!(two.stored(&*store, &[envelope(1)]).await, [new(2)]);

    assert_eq!(one.everything(&*store).await, [present(1, &epoch_envelope(1)), present(2, &envelope(1))]);
    assert_eq!(two.everything(&*store).await, [present(1, &epoch_envelope(2)), present(2, &envelope(1))]);
}

pub async fn a_rotten_row_is_replaced_in_place(store: Subject) {
    let log = found(&*store, 1).await;
    log.stored(&*store, &[envelope(1), envelope(2)]).await;
    assert_eq!(store.sql("UPDATE entries SET envelope = blob_id WHERE cursor = 2").await, 1);

    let healed = log.append(&*store, &[envelope(1), envelope(1)]).await;

    assert_eq!(healed, Append::Stored { cursors: vec![known(2), known(2)], head: 3 });
    let expected = [present(1, &epoch_envelope(1)), present(2, &envelope(1)), present(3, &envelope(2))];
    assert_eq!(log.everything(&*store).await, expected);
}

pub async fn an_emptied_row_is_replaced_in_place(store: Subject) {
    let log = found(&*store, 1).await;
    log.stored(&*store, &[envelope(1)]).await;
    assert_eq!(store.sql("UPDATE entries SET envelope = substr(envelope, 1, 0) WHERE cursor = 2").await, 1);

    assert_eq!(log.stored(&*store, &[envelope(1)]).await, [known(2)]);

    assert_eq!(log.everything(&*store).await[1], present(2, &envelope(1)));
}

pub async fn a_lost_row_is_appended_anew(store: Subject) {
    let log = found(&*store, 1).await;
    log.stored(&*store, &[envelope(1), envelope(2)]).await;
    assert_eq!(store.sql("DELETE FROM entries WHERE cursor = 2").await, 1);

    assert_eq!(log.stored(&*store, &[envelope(1)]).await, [new(4)]);
}

pub async fn the_quota_cuts_an_append_to_a_prefix(store: Subject) {
    let log = found(&*store, 1).await;
    let quota = 500 + 2 * 400;
    let batch = [envelope(1), envelope(2), envelope(3), sized_envelope(4, 1)];

    let cut = log.append_within(&*store, &batch, quota).await;

    assert_eq!(cut, Append::QuotaExceeded { cursors: vec![new(2), new(3)], head: 3 });
    assert_eq!(log.everything(&*store).await.len(), 3);
}

pub async fn the_quota_does_not_refuse_what_is_stored_already(store: Subject) {
    let log = found(&*store, 1).await;
    log.stored(&*store, &[envelope(1)]).await;

    let again = log.append_within(&*store, &[envelope(1)], 1).await;

    assert_eq!(again, Append::Stored { cursors: vec![known(2)], head: 2 });
}

pub async fn an_append_under_an_old_generation_stores_nothing(store: Subject) {
    let log = found(&*store, 1).await;
    log.rotated(&*store, 2, &[log.device]).await;

    let refused = log.append(&*store, &[envelope(1)]).await;

    assert_eq!(refused, Append::Superseded { epoch_envelope: epoch_envelope(2) });
    assert_eq!(log.head(&*store).await, 2);
}

pub async fn an_append_by_a_revoked_device_stores_nothing(store: Subject) {
    let log = found(&*store, 1).await;
    let revoked = log.by(device(9));
    revoked.admitted(&*store).await;
    revoked.stored(&*store, &[envelope(1)]).await;
    log.restrict(&*store, &[log.device]).await;

    assert_eq!(revoked.append(&*store, &[envelope(2)]).await, Append::Revoked);

    let rotated = log.rotated(&*store, 2, &[log.device]).await;
    assert_eq!(revoked.append(&*store, &[envelope(2)]).await, Append::Revoked);
    assert_eq!(rotated.by(device(9)).append(&*store, &[envelope(2)]).await, Append::Revoked);
    assert_eq!(log.head(&*store).await, 3);
}

pub async fn an_append_to_a_deleted_log_says_that_it_is_gone(store: Subject) {
    let log = found(&*store, 1).await;
    store.sql("DELETE FROM groups").await;

    assert_eq!(log.append(&*store, &[envelope(1)]).await, Append::Gone);
    assert_eq!(store.state(log.group).await.unwrap(), None);
}
