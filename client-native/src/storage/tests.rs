//! Storage keeps what it confirmed, and never puts something new over something damaged.

use std::path::Path;

use tempfile::TempDir;

use super::*;

fn put(key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::default();
    batch.put(key.to_vec(), value.to_vec());
    batch
}

async fn apply(storage: &Storage, batch: Batch) {
    storage.apply(batch).await.await.expect("thread runs").expect("applies");
}

async fn scan(storage: &Storage, from: &[u8], to: &[u8], bytes_max: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let rows = storage.scan(from.to_vec(), to.to_vec(), bytes_max).await.await.expect("thread runs").expect("scans");
    rows.into_iter().map(|row| (row.key, row.value)).collect()
}

/// A home with one row in it, closed.
async fn used_home() -> TempDir {
    let home = TempDir::new().expect("temp dir");
    let storage = Storage::create(home.path(), None).await.expect("creates").storage;
    apply(&storage, put(b"k", b"v")).await;
    storage.close().await;
    home
}

async fn refusal(home: &Path) -> StorageError {
    match Storage::open(home, None).await {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn rows_survive_closing() {
    let home = used_home().await;
    let storage = Storage::open(home.path(), None).await.expect("opens").storage;
    assert_eq!(scan(&storage, b"", b"z", 100).await, [(b"k".to_vec(), b"v".to_vec())]);
}

#[tokio::test]
async fn the_store_key_stays_the_same() {
    let home = TempDir::new().expect("temp dir");
    let first = Storage::create(home.path(), None).await.expect("creates");
    first.storage.close().await;
    let second = Storage::open(home.path(), None).await.expect("opens");
    assert_eq!(first.store_key, second.store_key);
    assert_ne!(first.store_key, StoreKey::from_bytes([0; 32]));
}

#[tokio::test]
async fn for_one_key_the_last_change_of_a_batch_counts() {
    let home = used_home().await;
    let storage = Storage::open(home.path(), None).await.expect("opens").storage;
    let mut batch = Batch::default();
    batch.delete(b"k".to_vec());
    batch.put(b"l".to_vec(), b"1".to_vec());
    batch.put(b"l".to_vec(), b"2".to_vec());
    batch.put(b"m".to_vec(), b"3".to_vec());
    batch.delete(b"m".to_vec());
    apply(&storage, batch).await;
    assert_eq!(scan(&storage, b"", b"z", 100).await, [(b"l".to_vec(), b"2".to_vec())]);
}

#[tokio::test]
async fn a_scan_is_ordered_bounded_and_half_open() {
    let home = TempDir::new().expect("temp dir");
    let storage = Storage::create(home.path(), None).await.expect("creates").storage;
    for key in [b"b", b"a", b"d", b"c"] {
        apply(&storage, put(key, &[7; 10])).await;
    }
    let keys = |rows: Vec<(Vec<u8>, Vec<u8>)>| rows.into_iter().map(|(key, _)| key[0] as char).collect::<String>();
    assert_eq!(keys(scan(&storage, b"a", b"d", 1000).await), "abc");
    assert_eq!(keys(scan(&storage, b"b", b"z", 15).await), "bc");
    assert_eq!(keys(scan(&storage, b"b", b"z", 0).await), "b", "at least one row comes if there is one");
    assert_eq!(keys(scan(&storage, b"x", b"z", 0).await), "");
}

#[tokio::test]
async fn a_read_sees_what_was_confirmed_and_does_not_wait_for_what_comes() {
    let home = used_home().await;
    let storage = Storage::open(home.path(), None).await.expect("opens").storage;
    for n in 0..20_u32 {
        apply(&storage, put(&n.to_be_bytes(), b"v")).await;
        let confirmed = storage.read(n.to_be_bytes().to_vec(), b"z".to_vec(), 1).await;
        assert_eq!(confirmed.await.expect("thread runs").expect("reads").len(), 1, "{n}");
    }
    let lock = rusqlite::Connection::open(home.path().join("state.db")).expect("opens");
    lock.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let waiting = storage.apply(put(b"later", b"v")).await;
    let read = storage.read(b"k".to_vec(), b"z".to_vec(), 1).await;
    assert_eq!(read.await.expect("thread runs").expect("reads").len(), 1);
    lock.execute_batch("ROLLBACK").expect("unlocks");
    waiting.await.expect("thread runs").expect("applies");
}

#[tokio::test]
async fn a_closed_home_is_one_file_with_everything_in_it() {
    let home = used_home().await;
    let storage = Storage::open(home.path(), None).await.expect("opens").storage;
    storage.read(Vec::new(), b"z".to_vec(), 1).await.await.expect("thread runs").expect("reads");
    storage.close().await;
    assert!(!home.path().join("state.db-wal").exists());
}

#[tokio::test]
async fn an_absent_home_is_missing_and_is_not_created_by_asking() {
    let parent = TempDir::new().expect("temp dir");
    let home = parent.path().join("none");
    assert!(matches!(refusal(&home).await, StorageError::Missing { .. }));
    assert!(!home.exists());

    assert!(matches!(refusal(parent.path()).await, StorageError::Missing { .. }));
    assert_eq!(std::fs::read_dir(parent.path()).expect("lists").count(), 0, "not even a lock file");
}

#[tokio::test]
async fn a_home_that_is_in_use_for_a_group_takes_no_second_one() {
    let home = used_home().await;
    assert!(matches!(Storage::create(home.path(), None).await.err(), Some(StorageError::Occupied { .. })));
}

#[tokio::test]
async fn a_damaged_database_is_reported_and_left_as_it_is() {
    let garbage: [&[u8]; 3] =
        [b"", b"not a database at all, but long enough to be mistaken for one".as_slice(), &[0; 8192]];
    for bytes in garbage {
        let home = used_home().await;
        let path = home.path().join("state.db");
        std::fs::write(&path, bytes).expect("writes");
        assert!(matches!(refusal(home.path()).await, StorageError::Damaged { .. }));
        assert!(Storage::create(home.path(), None).await.is_err(), "nor is it taken for a new home");
        assert_eq!(std::fs::read(&path).expect("reads"), bytes);
    }
}

#[tokio::test]
async fn an_emptied_database_is_called_empty() {
    let home = used_home().await;
    std::fs::write(home.path().join("state.db"), b"").expect("writes");
    let said = refusal(home.path()).await.to_string();
    assert!(said.contains("the file is empty"), "{said}");
}

#[tokio::test]
async fn a_flipped_page_is_found_when_opening() {
    let home = TempDir::new().expect("temp dir");
    let storage = Storage::create(home.path(), None).await.expect("creates").storage;
    for n in 0..200_u32 {
        apply(&storage, put(&n.to_be_bytes(), &[1; 200])).await;
    }
    storage.close().await;
    let path = home.path().join("state.db");
    let mut bytes = std::fs::read(&path).expect("reads");
    // The header of the third page: type, cell count, offsets.
    bytes[2 * 8192..][..12].fill(0xff);
    std::fs::write(&path, &bytes).expect("writes");
    assert!(matches!(refusal(home.path()).await, StorageError::Damaged { .. }));
    assert_eq!(std::fs::read(&path).expect("reads"), bytes);
}

#[tokio::test]
async fn a_database_that_vanished_beside_its_log_is_not_replaced() {
    let home = used_home().await;
    std::fs::rename(home.path().join("state.db"), home.path().join("state.db-wal")).expect("renames");
    assert!(matches!(Storage::create(home.path(), None).await.err(), Some(StorageError::Damaged { .. })));
}

#[tokio::test]
async fn another_programs_database_is_refused() {
    let home = used_home().await;
    let path = home.path().join("state.db");
    std::fs::remove_file(&path).expect("removes");
    let other = rusqlite::Connection::open(&path).expect("opens");
    other.execute_batch("CREATE TABLE t (x)").expect("creates");
    drop(other);
    assert!(matches!(refusal(home.path()).await, StorageError::Damaged { .. }));
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let home = used_home().await;
    let other = rusqlite::Connection::open(home.path().join("state.db")).expect("opens");
    other.execute_batch("PRAGMA user_version = 2").expect("sets");
    drop(other);
    assert!(matches!(refusal(home.path()).await, StorageError::Newer { found: 2, known: 1, .. }));
}

#[tokio::test]
async fn a_missing_or_damaged_store_key_is_said_and_not_replaced() {
    let home = used_home().await;
    let key = home.path().join("store.key");
    std::fs::write(&key, [1; 31]).expect("writes");
    assert!(matches!(refusal(home.path()).await, StorageError::KeyDamaged { length: 31, .. }));
    std::fs::remove_file(&key).expect("removes");
    assert!(matches!(refusal(home.path()).await, StorageError::KeyMissing { .. }));
    assert!(matches!(Storage::create(home.path(), None).await.err(), Some(StorageError::Occupied { .. })));
    assert!(!key.exists());
}

fn passphrase(text: &str) -> Option<Passphrase> {
    Some(Passphrase::given(text.into()))
}

#[tokio::test]
async fn a_home_locked_when_it_is_made_opens_under_its_passphrase_only() {
    let home = TempDir::new().expect("temp dir");
    let made = Storage::create(home.path(), passphrase("open sesame")).await.expect("creates");
    made.storage.close().await;
    let stored = std::fs::read(home.path().join("store.key")).expect("reads");
    assert!(!stored.windows(32).any(|window| window == made.store_key.expose()));
    assert!(matches!(refusal(home.path()).await, StorageError::PassphraseNeeded { .. }));
    let wrong = Storage::open(home.path(), passphrase("open sesamE")).await.err();
    assert!(matches!(wrong, Some(StorageError::WrongPassphrase { .. })), "{wrong:?}");
    let opened = Storage::open(home.path(), passphrase("open sesame")).await.expect("opens");
    assert_eq!(opened.store_key, made.store_key);
}

#[tokio::test]
async fn what_was_cut_off_without_a_lock_does_not_leave_the_next_home_without_one() {
    for before_its_database in [false, true] {
        let home = TempDir::new().expect("temp dir");
        Storage::create(home.path(), None).await.expect("creates").storage.close().await;
        if before_its_database {
            std::fs::remove_file(home.path().join("state.db")).expect("removes");
        }
        Storage::create(home.path(), passphrase("open sesame")).await.expect("creates").storage.close().await;
        assert!(matches!(refusal(home.path()).await, StorageError::PassphraseNeeded { .. }));
    }
}

#[tokio::test]
async fn what_was_cut_off_under_a_lock_does_not_keep_the_next_home_locked() {
    let home = TempDir::new().expect("temp dir");
    Storage::create(home.path(), passphrase("open sesame")).await.expect("creates").storage.close().await;
    Storage::create(home.path(), None).await.expect("creates").storage.close().await;
    assert!(Storage::open(home.path(), None).await.is_ok());
}

#[tokio::test]
async fn a_locked_key_whose_cost_was_lowered_is_refused_before_it_is_tried() {
    let home = TempDir::new().expect("temp dir");
    Storage::create(home.path(), passphrase("open sesame")).await.expect("creates").storage.close().await;
    let path = home.path().join("store.key");
    let mut stored = std::fs::read(&path).expect("reads");
    // The memory in KiB, behind the line that names the format.
    stored[21..25].copy_from_slice(&8_u32.to_le_bytes());
    std::fs::write(&path, &stored).expect("writes");
    let refused = Storage::open(home.path(), passphrase("open sesame")).await.err();
    assert!(matches!(refused, Some(StorageError::KeyRefused { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_second_opener_waits_and_is_told_who_holds_the_home() {
    let home = used_home().await;
    let first = Storage::open(home.path(), None).await.expect("opens").storage;
    let StorageError::InUse { pid, .. } = refusal(home.path()).await else { panic!("another refusal") };
    assert_eq!(pid, Some(std::process::id()));

    let (second, ()) = tokio::join!(Storage::open(home.path(), None), first.close());
    assert!(second.is_ok(), "opens as soon as the first has closed");
}

#[tokio::test]
async fn an_abandoned_home_leaves_nothing() {
    let parent = TempDir::new().expect("temp dir");
    let home = parent.path().join("new");
    let storage = Storage::create(&home, None).await.expect("creates").storage;
    storage.abandon().await;
    assert!(!home.exists());
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_a_home() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).expect("exists").permissions().mode() & 0o777;

    let parent = TempDir::new().expect("temp dir");
    let home = parent.path().join("new");
    let storage = Storage::create(&home, None).await.expect("creates").storage;
    apply(&storage, put(b"k", b"v")).await;
    assert_eq!(mode(&home), 0o700);
    let files: Vec<_> = std::fs::read_dir(&home).expect("lists").map(|entry| entry.expect("entry").path()).collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    storage.close().await;

    let database = home.join("state.db");
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o644)).expect("sets");
    let _storage = Storage::open(&home, None).await.expect("opens");
    assert_eq!(mode(&database), 0o600);
}

#[test]
fn a_full_disk_is_told_apart_and_the_batch_is_not_there() {
    let directory = TempDir::new().expect("temp dir");
    let mut database = Database::create(&directory.path().join("state.db")).expect("creates");
    database.apply(&put(b"a", b"1")).expect("applies");
    database.limit_pages(3);
    let mut batch = put(b"b", b"2");
    batch.put(b"c".to_vec(), vec![0; 100_000]);
    assert!(matches!(database.apply(&batch), Err(StorageFault::Full(_))));
    let rows = database.scan(b"", b"z", 1000).expect("scans");
    assert_eq!(rows.len(), 1, "none of the batch");
}
