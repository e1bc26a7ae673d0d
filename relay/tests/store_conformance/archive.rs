//! Backups: of one moment, whole or refused, and good for either database.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::mpsc;
use zeroize::Zeroizing;
use zerok_sync_protocol::wire;
use zerok_sync_relay::archive::{self, ArchiveError, Contents};
use zerok_sync_relay::store::{
    Budget, DeleteRequest, Deleted, DeviceNote, Record, Removal, Store, StoreError, StoredEntry, Then, Timelines,
    TruncateRequest, Truncated,
};

use crate::subject::{Log, NOW, Subject, device, envelope, found, new, note, note_of, sized_envelope};

/// A folder with a place for an archive.
fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("relay.0k");
    (dir, path)
}

async fn backup(store: &dyn Store, path: &Path) -> Contents {
    archive::backup(store, path, None, NOW).await.expect("a backup")
}

/// Every row of every table, in an order of its own.
async fn rows(store: &dyn Store) -> Vec<Vec<u8>> {
    let (records, mut waiting) = mpsc::channel(1);
    let collect = async {
        let mut rows = Vec::new();
        while let Some(record) = waiting.recv().await {
            rows.push(wire::encode(&record));
        }
        rows
    };
    let (exported, mut rows) = tokio::join!(store.export(records), collect);
    exported.expect("the store works");
    rows.sort();
    rows
}

/// Logs in every state that there is.
async fn populate(store: &dyn Store) -> Log {
    let log = found(store, 1).await;
    log.admitted(store).await;
    log.stored(store, &[envelope(1), envelope(2), sized_envelope(3, 300_000)]).await;
    let receipt = Some(Bytes::from_static(b"receipt"));
    note(store, DeviceNote { acked: Some(4), slot: receipt, ..note_of(&log) }).await;
    let log = log.rotated(store, 2, &[device(1), device(9)]).await;
    let (group, auth_gen, device) = (log.group, log.auth_gen, log.device);
    let truncate = TruncateRequest { group, auth_gen, device, below: 3, grace_ms: 9, interval_ms: 9, now_ms: NOW };
    assert_eq!(store.truncate(truncate).await.unwrap(), Truncated::Done { floor: 3 });
    let deleted = found(store, 5).await;
    delete(store, &deleted).await;
    found(store, 6).await;
    log
}

async fn delete(store: &dyn Store, log: &Log) {
    let (group, auth_gen, device) = (log.group, log.auth_gen, log.device);
    let request = DeleteRequest { group, auth_gen, device, grace_ms: 0, now_ms: NOW };
    assert_eq!(store.delete_group(request).await.unwrap(), Deleted::Done);
}

pub async fn an_archive_restores_every_row_into_either_database(store: Subject) {
    let log = populate(&*store).await;
    store.sql("UPDATE entries SET envelope = blob_id WHERE cursor = 3").await;
    let (_dir, path) = place();

    let contents = archive::backup(&*store, &path, Some(Zeroizing::new([7; 32])), NOW).await.unwrap();

    let expected = Contents {
        created_at_ms: NOW,
        groups: 3,
        devices: 4,
        entries: 7,
        bytes: 4 * 500 + 400 + 32 + 300_000,
        noise_secret: Some(Zeroizing::new([7; 32])),
    };
    assert_eq!(contents, expected);
    assert_eq!(archive::verify(&path).await.unwrap(), expected);
    for restored in [Subject::sqlite().await, Subject::postgres().await] {
        assert_eq!(archive::restore(&*restored, &path, false, Timelines::Kept).await.unwrap(), expected);
        assert_eq!(rows(&*restored).await, rows(&*store).await);
        assert_eq!(log.everything(&*restored).await, log.everything(&*store).await);
        assert_eq!(log.stored(&*restored, &[envelope(9)]).await, [new(6)]);
    }
}

pub async fn a_restore_gives_every_log_another_timeline_and_changes_nothing_else(store: Subject) {
    let (_dir, path) = place();
    let source = Subject::sqlite().await;
    populate(&*source).await;
    backup(&*source, &path).await;

    archive::restore(&*store, &path, false, Timelines::Fresh).await.unwrap();

    let records = |rows: Vec<Vec<u8>>| -> Vec<Record> { rows.iter().map(|row| wire::decode(row).unwrap()).collect() };
    let (before, after) = (records(rows(&*source).await), records(rows(&*store).await));
    assert_eq!(before.len(), after.len());
    let mut fresh = 0;
    for (before, after) in before.into_iter().zip(after) {
        match (before, after) {
            (Record::Group { timeline: before, group, .. }, Record::Group { timeline: after, group: same, .. }) => {
                assert_eq!(group, same);
                assert!(before != after && !after.is_zero());
                fresh += 1;
            }
            (before, after) => assert_eq!(before, after),
        }
    }
    assert_eq!(fresh, 3);
}

pub async fn an_archive_is_of_one_moment_while_others_push(store: Subject) {
    let logs = [found(&*store, 1).await, found(&*store, 2).await, found(&*store, 3).await];
    let over = Arc::new(AtomicBool::new(false));
    let pushers: Vec<_> = logs
        .iter()
        .map(|log| {
            let (store, log, over) = (store.store(), log.clone(), over.clone());
            tokio::spawn(async move {
                let mut n = 0;
                while !over.load(Ordering::Acquire) {
                    n += 1;
                    log.stored(&*store, &[envelope(n)]).await;
                }
            })
        })
        .collect();
    while logs[2].head(&*store).await < 20 {
        tokio::task::yield_now().await;
    }
    let (_dir, path) = place();
    backup(&*store, &path).await;
    over.store(true, Ordering::Release);
    for pusher in pushers {
        pusher.await.expect("the pusher finishes");
    }

    let restored = Subject::sqlite().await;
    archive::restore(&*restored, &path, false, Timelines::Kept).await.unwrap();

    for log in &logs {
        let state = restored.state(log.group).await.unwrap().expect("the log is there");
        assert!(state.head <= log.head(&*store).await);
        let entries = log.everything(&*restored).await;
        assert_eq!(entries.len() as u64, state.head, "head and rows are of the same moment");
        assert!(entries.iter().all(|entry| matches!(entry, StoredEntry::Present { .. })));
    }
}

pub async fn a_log_whose_removal_has_begun_is_not_in_the_archive(store: Subject) {
    let (stays, goes) = (found(&*store, 1).await, found(&*store, 2).await);
    goes.stored(&*store, &[envelope(1), envelope(2)]).await;
    delete(&*store, &goes).await;
    let mut collector = store.collector().await.unwrap().expect("nobody else collects");
    let budget = Budget { entries_max: 1, bytes_max: u64::MAX };
    let step = collector.remove(goes.group, Removal::Deleted, budget, NOW).await.unwrap();
    assert_eq!(step.then, Then::Continue);
    let (_dir, path) = place();

    let contents = backup(&*store, &path).await;

    assert_eq!((contents.groups, contents.devices, contents.entries), (1, 1, 1));
    let restored = Subject::sqlite().await;
    archive::restore(&*restored, &path, false, Timelines::Kept).await.unwrap();
    assert_eq!(stays.everything(&*restored).await.len(), 1);
    found(&*restored, 2).await;
}

pub async fn a_restore_over_logs_is_refused_unless_they_are_to_go(store: Subject) {
    let (_dir, path) = place();
    let source = Subject::sqlite().await;
    populate(&*source).await;
    backup(&*source, &path).await;
    found(&*store, 42).await;
    let before = rows(&*store).await;

    let refused = archive::restore(&*store, &path, false, Timelines::Kept).await;

    assert!(matches!(refused, Err(ArchiveError::NotEmpty)), "{refused:?}");
    assert_eq!(rows(&*store).await, before);
    archive::restore(&*store, &path, true, Timelines::Kept).await.unwrap();
    assert_eq!(rows(&*store).await, rows(&*source).await);
}

pub async fn a_damaged_archive_changes_nothing(store: Subject) {
    let (_dir, path) = place();
    let source = Subject::sqlite().await;
    populate(&*source).await;
    backup(&*source, &path).await;
    let whole = std::fs::read(&path).unwrap();
    let kept = found(&*store, 42).await;
    let before = rows(&*store).await;

    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for damaged in
        [&whole[..whole.len() - 1], &whole[..whole.len() / 2], &changed, b"", b"not an archive at all, but long"]
    {
        std::fs::write(&path, damaged).unwrap();
        let refused = archive::restore(&*store, &path, true, Timelines::Kept).await;
        assert!(matches!(refused, Err(ArchiveError::Format { .. })), "{refused:?}");
        assert_eq!(rows(&*store).await, before);
    }
    assert_eq!(kept.stored(&*store, &[envelope(1)]).await, [new(2)]);
}

pub async fn a_backup_overwrites_nothing_and_leaves_nothing_half_done(store: Subject) {
    let (dir, path) = place();
    found(&*store, 1).await;
    std::fs::write(&path, "precious").unwrap();
    let refused = archive::backup(&*store, &path, None, NOW).await;
    assert!(matches!(refused, Err(ArchiveError::Exists(_))), "{refused:?}");

    let nowhere = archive::backup(&*store, &dir.path().join("missing/relay.0k"), None, NOW).await;
    assert!(matches!(nowhere, Err(ArchiveError::Io { .. })), "{nowhere:?}");

    store.sql("UPDATE groups SET timeline = group_id").await;
    let failed = archive::backup(&*store, &dir.path().join("other.0k"), None, NOW).await;
    assert!(matches!(failed, Err(ArchiveError::Store(StoreError::Corrupt(_)))), "{failed:?}");

    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let left = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["relay.0k"]);
}

pub async fn an_archive_is_for_its_owner_only(store: Subject) {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, path) = place();
    // What a backup that was killed left, or somebody else laid there to be written into.
    let partial = path.with_extension("0k.partial");
    std::fs::write(&partial, "half").unwrap();
    std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(0o666)).unwrap();
    backup(&*store, &path).await;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}
