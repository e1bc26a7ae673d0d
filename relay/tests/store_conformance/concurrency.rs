//! Cursors and removals under contention, from two relay instances where the database allows it.

use std::collections::HashMap;

use bytes::Bytes;
use zerok_sync_protocol::BlobId;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_relay::store::{Append, DynStore, Restricted, StoredEntry};

use crate::subject::{Log, Subject, device, envelope, found};

const WRITERS: u64 = 16;
const ENTRIES_PER_WRITER: u64 = 160;

/// Appends its entries in batches of 1 to 9; answers the cursor each was acknowledged at.
async fn write(store: DynStore, log: Log, writer: u64) -> HashMap<BlobId, u64> {
    let mut entries: Vec<Bytes> =
        (0..ENTRIES_PER_WRITER).map(|n| envelope(1 + writer * ENTRIES_PER_WRITER + n)).collect();
    let mut acked = HashMap::new();
    for batch_len in (1..=9).cycle() {
        let rest = entries.split_off(batch_len.min(entries.len()));
        let cursors = log.stored(&*store, &entries).await;
        assert!(cursors.windows(2).all(|pair| pair[0].cursor < pair[1].cursor));
        acked.extend(entries.iter().zip(cursors).map(|(entry, at)| (blob_id(entry), at.cursor)));
        if rest.is_empty() {
            break;
        }
        entries = rest;
    }
    acked
}

/// Reads every cursor once, as it comes; a cursor that is not there when a later one is, is a skip.
async fn follow(store: DynStore, log: Log, until: u64) -> HashMap<BlobId, u64> {
    let mut seen = HashMap::new();
    let mut next = 1;
    while next <= until {
        for entry in store.read(log.group, next, 64 * 1024, 100).await.expect("the store works") {
            let StoredEntry::Present { cursor, blob_id, .. } = entry else { panic!("skipped: {entry:?}") };
            assert_eq!(cursor, next);
            assert_eq!(seen.insert(blob_id, cursor), None, "an entry stands in the log twice");
            next += 1;
        }
        tokio::task::yield_now().await;
    }
    seen
}

pub async fn a_polling_reader_never_sees_a_cursor_appear_behind_one_it_has_read(subject: Subject) {
    let log = found(&*subject, 1).await;
    let instances = [subject.store(), subject.another_instance().await];
    let until = 1 + WRITERS * ENTRIES_PER_WRITER;

    let reader = tokio::spawn(follow(subject.store(), log.clone(), until));
    let writers: Vec<_> =
        (0..WRITERS).map(|n| tokio::spawn(write(instances[n as usize % 2].clone(), log.clone(), n))).collect();
    let mut acked = HashMap::new();
    for writer in writers {
        acked.extend(writer.await.expect("the writer finishes"));
    }
    let mut seen = reader.await.expect("the reader finishes");

    seen.retain(|_, cursor| *cursor > 1);
    assert_eq!(acked.len() as u64, WRITERS * ENTRIES_PER_WRITER);
    assert_eq!(seen, acked, "every acknowledged entry is there once, where it was said to be");
    assert_eq!(log.head(&*subject).await, until);
}

pub async fn no_append_follows_a_restriction_that_removed_its_device(subject: Subject) {
    let other = subject.another_instance().await;
    let log = found(&*subject, 1).await;
    let removed = log.by(device(9));
    removed.admitted(&*subject).await;

    let pusher = tokio::spawn({
        let (removed, other) = (removed.clone(), other.clone());
        async move {
            let mut last = 0;
            for n in 1..=2_000 {
                match removed.append(&*other, &[envelope(n)]).await {
                    Append::Stored { head, .. } => last = head,
                    refused => {
                        assert_eq!(refused, Append::Revoked);
                        break;
                    }
                }
            }
            last
        }
    });
    while log.head(&*subject).await < 20 {
        tokio::task::yield_now().await;
    }
    let Restricted::Done { head: frozen } = log.restrict(&*subject, &[log.device]).await else {
        panic!("not restricted");
    };

    assert!(pusher.await.expect("the pusher finishes") <= frozen);
    assert_eq!(log.head(&*subject).await, frozen);
}
