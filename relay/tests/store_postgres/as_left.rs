//! Appends to a log that stands as the instance left it take one statement; whatever happened to
//! the log meanwhile, by whomever, counts all the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{AuthPublicKey, NoisePublicKey, Timeline};
use zerok_sync_relay::store::{
    Append, AppendRequest, Batch, DeleteRequest, GroupCommit, Postgres, RestrictRequest, Restricted, Retention,
    RotateRequest, Rotated, Store, StoredEntry,
};

use crate::commits::Cutter;
use crate::{AUTH, DEVICE, append, create, database, envelope, group, sql};

const OTHER: NoisePublicKey = NoisePublicKey([2; 32]);

/// Appends enough for the instance to know how the log stands: the head is `SETTLED + 1`.
const SETTLED: u64 = 3;

async fn settled(url: &str) -> Postgres {
    let store = Postgres::connect(url).await.unwrap();
    create(&store).await;
    for n in 1..=SETTLED {
        assert_eq!(stored(&store, n).await, n + 1);
    }
    store
}

async fn stored(store: &Postgres, n: u64) -> u64 {
    match append(store, n).await.unwrap() {
        Append::Stored { cursors, .. } => cursors[0].cursor,
        other => panic!("not stored: {other:?}"),
    }
}

async fn envelopes(store: &Postgres) -> Vec<u64> {
    let entries = store.read(group(), 1, usize::MAX, usize::MAX).await.unwrap();
    entries
        .iter()
        .map(|entry| match entry {
            StoredEntry::Present { envelope, .. } => u64::from_le_bytes(*envelope.first_chunk().unwrap()),
            absent @ StoredEntry::Absent { .. } => panic!("{absent:?}"),
        })
        .collect()
}

async fn bytes_counted(url: &str) -> i64 {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.query_one("SELECT bytes FROM groups", &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_to_a_log_as_it_was_left_is_one_request() {
    let cutter = Cutter::to(&database().await).await;
    let store = settled(&cutter.url).await;
    let before = cutter.requests.load(Ordering::SeqCst);

    assert_eq!(stored(&store, SETTLED + 1).await, SETTLED + 2);

    assert_eq!(cutter.requests.load(Ordering::SeqCst) - before, 1);
    assert_eq!(envelopes(&store).await, [0, 1, 2, 3, 4]);
    assert_eq!(bytes_counted(&cutter.url).await, 5 * 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_instance_appended_is_not_written_over() {
    let url = database().await;
    let (here, there) = (settled(&url).await, Postgres::connect(&url).await.unwrap());
    for n in SETTLED + 1..SETTLED + 20 {
        // By turns, and now and then several in a row.
        let store = if n % 5 < 3 { &there } else { &here };
        assert_eq!(stored(store, n).await, n + 1);
    }
    assert_eq!(envelopes(&here).await, (0..SETTLED + 20).collect::<Vec<_>>());
    assert_eq!(bytes_counted(&url).await, (SETTLED as i64 + 20) * 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_that_append_at_once_leave_no_gap_and_nothing_twice() {
    let url = database().await;
    let (here, there) = (Arc::new(settled(&url).await), Arc::new(Postgres::connect(&url).await.unwrap()));
    let appending = [(here.clone(), 1000), (there, 2000)].map(|(store, first)| {
        tokio::spawn(async move {
            for n in first..first + 50 {
                stored(&store, n).await;
            }
        })
    });
    for task in appending {
        task.await.unwrap();
    }
    let mut found = envelopes(&here).await;
    assert!(found.iter().filter(|n| (1000..2000).contains(*n)).is_sorted(), "each in its order");
    found.sort_unstable();
    assert_eq!(found, (0..=SETTLED).chain(1000..1050).chain(2000..2050).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_already_keeps_its_cursor_and_is_put_back_if_it_rotted() {
    let url = database().await;
    let store = settled(&url).await;
    sql(&url, "UPDATE entries SET envelope = 'rotten' WHERE cursor = 3").await;

    assert_eq!(stored(&store, 2).await, 3);

    assert_eq!(envelopes(&store).await, [0, 1, 2, 3]);
    assert_eq!(stored(&store, 4).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_on_another_instance_holds_against_the_next_append() {
    let url = database().await;
    let (here, there) = (settled(&url).await, Postgres::connect(&url).await.unwrap());
    let allow = vec![OTHER];
    there.admit(group(), &AUTH, &OTHER, 1).await.unwrap();
    let restrict = RestrictRequest { group: group(), auth_gen: 0, device: OTHER, allow: allow.clone() };
    assert!(matches!(there.restrict(restrict).await.unwrap(), Restricted::Done { .. }));

    assert_eq!(append(&here, 9).await.unwrap(), Append::Revoked);

    let rotate = RotateRequest {
        group: group(),
        device: OTHER,
        expect_gen: 0,
        next_auth_public: AuthPublicKey([2; 32]),
        allow,
        epoch_envelope: envelope(7),
        group_bytes_max: u64::MAX,
        now_ms: 1,
    };
    assert!(matches!(there.rotate(rotate).await.unwrap(), Rotated::Done { .. }));
    assert_eq!(append(&here, 9).await.unwrap(), Append::Revoked);
    assert_eq!(envelopes(&here).await, [0, 1, 2, 3, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_deleted_on_another_instance_takes_nothing() {
    let url = database().await;
    let (here, there) = (settled(&url).await, Postgres::connect(&url).await.unwrap());
    let delete = DeleteRequest { group: group(), auth_gen: 0, device: DEVICE, now_ms: 1, grace_ms: 1 };
    there.delete_group(delete).await.unwrap();

    assert_eq!(append(&here, 9).await.unwrap(), Append::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_another_now_is_looked_at_anew() {
    let url = database().await;
    let store = settled(&url).await;
    let (old, fresh) = (Timeline([1; 8]), Timeline([2; 8]));
    assert_eq!(store.new_timeline(group(), old, fresh).await.unwrap(), fresh);
    // As a restored backup has it: shorter, and with another entry at the head.
    sql(&url, "DELETE FROM entries WHERE cursor > 2; UPDATE groups SET head = 2, bytes = 800").await;

    assert_eq!(stored(&store, 9).await, 3);

    assert_eq!(envelopes(&store).await, [0, 1, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_stored_though_one_of_its_logs_must_be_looked_at() {
    let url = database().await;
    let store = settled(&url).await;
    store.admit(group(), &AUTH, &OTHER, 1).await.unwrap();
    let request = |n: u64, device: NoisePublicKey, auth_gen: u64| AppendRequest {
        group: group(),
        auth_gen,
        device,
        envelopes: vec![(blob_id(&envelope(n)), envelope(n))],
        group_bytes_max: u64::MAX,
        now_ms: 1,
    };
    let stranger = NoisePublicKey([3; 32]);
    let appends = vec![request(4, DEVICE, 0), request(5, stranger, 0), request(6, OTHER, 0), request(7, OTHER, 9)];

    let answers = store.commit(Arc::new(Batch { appends, notes: Vec::new() })).await.unwrap();

    let [Append::Stored { .. }, Append::Revoked, Append::Stored { head, .. }, Append::Superseded { .. }] = &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert_eq!(*head, 6);
    assert_eq!(envelopes(&store).await, [0, 1, 2, 3, 4, 6]);
}
