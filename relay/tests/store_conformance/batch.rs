//! What many requests of many logs in one commit do to each other: nothing.

use std::sync::Arc;

use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_relay::store::{Append, AppendRequest, Batch, DeviceNote};

use crate::subject::{Log, Subject, commit, device, envelope, epoch_envelope, found, known, new, note_of, present};

fn stored<const N: usize>(cursors: [zerok_sync_relay::store::Appended; N], head: u64) -> Append {
    Append::Stored { cursors: cursors.to_vec(), head }
}

pub async fn requests_of_one_log_are_numbered_one_behind_the_other(store: Subject) {
    let (one, two) = (found(&*store, 1).await, found(&*store, 2).await);
    let requests = vec![
        one.request(&[envelope(1), envelope(2)]),
        two.request(&[envelope(3)]),
        one.request(&[envelope(4)]),
        one.request(&[]),
    ];

    let answers = commit(&*store, requests).await;

    let expected = [stored([new(2), new(3)], 3), stored([new(2)], 2), stored([new(4)], 4), stored([], 4)];
    assert_eq!(answers, expected);
    let entries =
        [present(1, &epoch_envelope(1)), present(2, &envelope(1)), present(3, &envelope(2)), present(4, &envelope(4))];
    assert_eq!(one.everything(&*store).await, entries);
    assert_eq!(one.admitted(&*store).await.group_bytes, 500 + 3 * 400);
    let state = store.state(one.group).await.unwrap().unwrap();
    assert_eq!((state.head, state.head_blob_id), (4, blob_id(&envelope(4))));
}

pub async fn a_duplicate_across_requests_gets_the_same_cursor(store: Subject) {
    let (one, two) = (found(&*store, 1).await, found(&*store, 2).await);
    let requests =
        vec![one.request(&[envelope(1)]), two.request(&[envelope(1)]), one.request(&[envelope(2), envelope(1)])];

    let answers = commit(&*store, requests).await;

    assert_eq!(answers, [stored([new(2)], 2), stored([new(2)], 2), stored([new(3), known(2)], 3)]);
}

pub async fn a_request_that_cannot_be_served_fails_alone(store: Subject) {
    let deleted = found(&*store, 3).await;
    store.sql("DELETE FROM groups").await;
    let (one, two) = (found(&*store, 1).await, found(&*store, 2).await);
    let two_now = two.rotated(&*store, 4, &[device(2)]).await;
    let requests = vec![
        deleted.request(&[envelope(1)]),
        one.request(&[envelope(2)]),
        one.by(device(77)).request(&[envelope(3)]),
        two.request(&[envelope(4)]),
        two_now.request(&[envelope(5)]),
        one.request(&[envelope(6)]),
    ];

    let answers = commit(&*store, requests).await;

    let superseded = Append::Superseded { epoch_envelope: epoch_envelope(4) };
    let expected =
        [Append::Gone, stored([new(2)], 2), Append::Revoked, superseded, stored([new(3)], 3), stored([new(3)], 3)];
    assert_eq!(answers, expected);
}

pub async fn the_quota_of_one_request_does_not_stop_those_behind_it(store: Subject) {
    let (one, two) = (found(&*store, 1).await, found(&*store, 2).await);
    let within = |log: &Log, n, group_bytes_max| AppendRequest { group_bytes_max, ..log.request(&[envelope(n)]) };
    let requests = vec![within(&one, 1, 900), within(&one, 2, 900), within(&two, 3, 900), within(&one, 4, 1_300)];

    let answers = commit(&*store, requests).await;

    let refused = Append::QuotaExceeded { cursors: Vec::new(), head: 2 };
    assert_eq!(answers, [stored([new(2)], 2), refused, stored([new(2)], 2), stored([new(3)], 3)]);
    assert_eq!(one.admitted(&*store).await.group_bytes, 1_300);
}

pub async fn a_batch_committed_again_stores_nothing_twice(store: Subject) {
    let (one, two) = (found(&*store, 1).await, found(&*store, 2).await);
    let requests = vec![one.request(&[envelope(1), envelope(2)]), two.request(&[envelope(3)])];
    commit(&*store, requests.clone()).await;

    let again = commit(&*store, requests).await;

    assert_eq!(again, [stored([known(2), known(3)], 3), stored([known(2)], 2)]);
    assert_eq!(one.everything(&*store).await.len(), 3);
    assert_eq!(one.admitted(&*store).await.group_bytes, 500 + 2 * 400);
}

pub async fn a_rotten_row_is_replaced_once_however_many_requests_bring_it(store: Subject) {
    let log = found(&*store, 1).await;
    log.stored(&*store, &[envelope(1)]).await;
    store.sql("UPDATE entries SET envelope = blob_id WHERE cursor = 2").await;

    let answers = commit(&*store, vec![log.request(&[envelope(1)]), log.request(&[envelope(1), envelope(2)])]).await;

    assert_eq!(answers, [stored([known(2)], 2), stored([known(2), new(3)], 3)]);
    assert_eq!(log.everything(&*store).await[1..], [present(2, &envelope(1)), present(3, &envelope(2))]);
}

pub async fn notes_and_appends_are_committed_together(store: Subject) {
    let (one, two) = (found(&*store, 1).await, found(&*store, 2).await);
    let notes = vec![
        DeviceNote { acked: Some(9), ..note_of(&one) },
        DeviceNote { slot: Some("slot".into()), ..note_of(&two) },
        DeviceNote { acked: Some(1), ..note_of(&two.by(device(77))) },
    ];

    let batch = Batch { appends: vec![one.request(&[envelope(1)])], notes };
    store.commit(Arc::new(batch)).await.unwrap();

    let acked = store.texts("SELECT CAST(acked AS text) FROM devices ORDER BY acked DESC").await;
    assert_eq!(acked, ["2", "0"], "as far as the head that this commit made");
    assert_eq!(two.admitted(&*store).await.slot, "slot");
}

pub async fn an_empty_batch_has_no_answers(store: Subject) {
    assert_eq!(commit(&*store, Vec::new()).await, []);
}
