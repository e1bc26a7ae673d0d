//! What only the SQLite store promises: one relay per file, private files, refusal of what is not
//! its own, and that an acknowledged entry survives `kill -9`.

#![allow(clippy::unwrap_used, reason = "a test that unwraps has failed, which is what it is for")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{AuthPublicKey, LogName, NoisePublicKey, Timeline};
use zerok_sync_relay::gc::{self, Policy};
use zerok_sync_relay::metrics::Metrics;
use zerok_sync_relay::store::{
    Append, AppendRequest, Batch, Budget, DeleteRequest, Deleted, GroupCommit, GroupKey, NewLog, Retention, Sqlite,
    Store, StoreError, StoredEntry,
};

const DEVICE: NoisePublicKey = NoisePublicKey([1; 32]);
const AUTH: AuthPublicKey = AuthPublicKey([1; 32]);

fn envelope(n: u64) -> Bytes {
    n.to_le_bytes().repeat(50).into()
}

async fn create(store: &Sqlite) {
    let log = NewLog {
        auth_public: AUTH,
        timeline: Timeline([1; 8]),
        allow: vec![DEVICE],
        epoch_envelope: envelope(0),
        envelopes: Vec::new(),
    };
    store.create(log, 1).await.unwrap().unwrap();
}

fn one<T>(items: Vec<T>) -> T {
    let [item] = items.try_into().ok().unwrap();
    item
}

async fn append(store: &Sqlite, n: u64) -> Append {
    let request = AppendRequest {
        group: group(),
        auth_gen: 0,
        device: DEVICE,
        envelopes: vec![(blob_id(&envelope(n)), envelope(n))],
        group_bytes_max: u64::MAX,
        now_ms: 1,
    };
    commit(store, request).await
}

async fn commit(store: &Sqlite, request: AppendRequest) -> Append {
    one(store.commit(Arc::new(Batch { appends: vec![request], notes: Vec::new() })).await.unwrap())
}

fn group() -> GroupKey {
    GroupKey(LogName::of(&AUTH).0)
}

fn refusal(path: &Path) -> String {
    Sqlite::open(path).unwrap_err().to_string()
}

/// Holds a snapshot of the database half of the time.
fn read_now_and_then(path: &Path, stop: &std::sync::atomic::AtomicBool) {
    let reader = rusqlite::Connection::open(path).unwrap();
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        reader.execute_batch("BEGIN; SELECT count(*) FROM entries").unwrap();
        std::thread::sleep(Duration::from_millis(10));
        reader.execute_batch("COMMIT").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_write_ahead_log_does_not_grow_without_bound_under_readers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    let store = Sqlite::open(&path).unwrap();
    create(&store).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (path, stop) = (path.clone(), stop.clone());
            std::thread::spawn(move || read_now_and_then(&path, &stop))
        })
        .collect();

    let mut longest = 0;
    for n in 0..90_u64 {
        let envelope = Bytes::from(n.to_le_bytes().repeat(128 * 1024));
        let request = AppendRequest {
            group: group(),
            auth_gen: 0,
            device: DEVICE,
            envelopes: vec![(blob_id(&envelope), envelope)],
            group_bytes_max: u64::MAX,
            now_ms: 1,
        };
        commit(&store, request).await;
        longest = longest.max(std::fs::metadata(dir.path().join("relay.db-wal")).unwrap().len());
    }

    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert!(longest < 48 * 1024 * 1024, "{longest} bytes");
}

#[test]
fn a_file_that_cannot_give_space_back_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    drop(Sqlite::open(&path).unwrap());
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM")
        .unwrap();

    assert!(refusal(&path).contains("auto_vacuum"));
}

#[test]
fn a_second_relay_on_the_file_is_kept_out_until_the_first_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    let first = Sqlite::open(&path).unwrap();

    let refused = refusal(&path);

    assert!(refused.contains("in use by another relay"), "{refused}");
    drop(first);
    Sqlite::open(&path).unwrap();
}

#[tokio::test]
async fn a_file_is_looked_at_beside_the_relay_that_runs_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    let missing = Sqlite::inspect(&path).unwrap_err();
    assert!(matches!(missing, StoreError::Unavailable(_)) && !path.exists(), "{missing}");
    let running = Sqlite::open(&path).unwrap();
    create(&running).await;

    let looking = Sqlite::inspect(&path).unwrap();

    let archive = dir.path().join("relay.0k");
    let contents = zerok_sync_relay::archive::backup(&looking, &archive, None, 1).await.unwrap();
    assert_eq!((contents.groups, contents.entries), (1, 1));
    let refused = looking.mailbox_sweep(1).await.unwrap_err();
    assert!(refused.to_string().contains("opened to look at it"), "{refused}");
    append(&running, 1).await;
    assert_eq!(looking.state(group()).await.unwrap().unwrap().head, 2);
}

/// A log of `entries` rows, deleted without grace.
async fn deleted_log(store: &Sqlite, entries: u64, bytes: usize) {
    create(store).await;
    let envelopes: Vec<Bytes> = (1..=entries).map(|n| n.to_le_bytes().repeat(bytes / 8).into()).collect();
    for envelopes in envelopes.chunks(500) {
        let envelopes = envelopes.iter().map(|envelope| (blob_id(envelope), envelope.clone())).collect();
        let request = AppendRequest {
            group: group(),
            auth_gen: 0,
            device: DEVICE,
            envelopes,
            group_bytes_max: u64::MAX,
            now_ms: 1,
        };
        assert!(matches!(commit(store, request).await, Append::Stored { .. }));
    }
    let request = DeleteRequest { group: group(), auth_gen: 0, device: DEVICE, grace_ms: 0, now_ms: 1 };
    assert_eq!(store.delete_group(request).await.unwrap(), Deleted::Done);
}

fn policy(entries_max: u64) -> Policy {
    let budget = Budget { entries_max, bytes_max: u64::MAX };
    Policy { budget, truncate_grace_ms: 0, idle_ms_max: None, pause_factor: 4 }
}

#[tokio::test]
async fn what_is_collected_goes_back_to_the_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    let store = Sqlite::open(&path).unwrap();
    deleted_log(&store, 1_000, 8_192).await;
    let full = store.storage().await.unwrap().database_bytes;
    assert!(full > 8_000_000);

    gc::collect(&store, &policy(500), 1, &Metrics::new()).await.unwrap();

    let storage = store.storage().await.unwrap();
    assert!(storage.database_bytes < full / 20, "{storage:?}");
    assert_eq!(storage.free_bytes, Some(0));
    drop(store);
    assert!(path.metadata().unwrap().len() < full / 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_are_served_between_the_steps_of_a_large_collection() {
    const ROWS: u64 = 6_000;
    const ROWS_PER_STEP: u64 = 100;
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(dir.path().join("relay.db")).unwrap());
    deleted_log(&store, ROWS, 1_024).await;
    let pushed = NewLog {
        auth_public: AuthPublicKey([2; 32]),
        timeline: Timeline([2; 8]),
        allow: vec![DEVICE],
        epoch_envelope: envelope(0),
        envelopes: Vec::new(),
    };
    let group = store.create(pushed, 1).await.unwrap().unwrap();
    let push = async |n: u64| {
        let begun = Instant::now();
        let envelopes = vec![(blob_id(&envelope(n)), envelope(n))];
        let request =
            AppendRequest { group, auth_gen: 0, device: DEVICE, envelopes, group_bytes_max: u64::MAX, now_ms: 1 };
        assert!(matches!(commit(&store, request).await, Append::Stored { .. }));
        begun.elapsed()
    };
    let median = |mut took: Vec<Duration>| {
        took.sort();
        took[took.len() / 2]
    };

    let mut alone = Vec::new();
    for n in 1..=100 {
        alone.push(push(n).await);
    }
    let collecting = tokio::spawn({
        let store = store.clone();
        // Without pauses: between two steps there is the writer's queue and nothing else.
        let policy = Policy { pause_factor: 0, ..policy(ROWS_PER_STEP) };
        async move { gc::collect(&*store, &policy, 1, &Metrics::new()).await.unwrap() }
    });
    let mut beside = Vec::new();
    while !collecting.is_finished() {
        beside.push(push(101 + beside.len() as u64).await);
    }

    let collected = collecting.await.unwrap().collected.expect("nobody else collects");
    assert_eq!((collected.deleted_groups, collected.entries), (1, ROWS + 1));
    assert!(beside.len() as u64 > ROWS / ROWS_PER_STEP / 2, "only {} pushes meanwhile", beside.len());
    let (alone, beside) = (median(alone), median(beside));
    assert!(beside < 10 * alone + Duration::from_millis(5), "{alone:?} alone, {beside:?} beside the collection");
}

#[cfg(unix)]
#[tokio::test]
async fn its_files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    std::fs::write(&path, b"").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();

    let store = Sqlite::open(&path).unwrap();
    create(&store).await;

    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap()).collect();
    assert!(files.iter().any(|file| file.file_name() == "relay.db-wal"));
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("thesis.txt");
    let text = "years of work\n".repeat(1000);
    std::fs::write(&path, &text).unwrap();

    let error = Sqlite::open(&path).unwrap_err();

    assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("not a SQLite database")), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();

    let error = Sqlite::open(&path).unwrap_err();

    assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("another program's")), "{error}");
    let tables: i64 = other.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
}

#[test]
fn a_folder_that_is_not_there_is_said_clearly() {
    let dir = tempfile::tempdir().unwrap();

    let refused = refusal(&dir.path().join("missing/relay.db"));

    assert!(refused.contains("missing/relay.db.lock") && refused.contains("unavailable"), "{refused}");
}

#[tokio::test]
async fn a_damaged_page_is_an_error_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    let store = Sqlite::open(&path).unwrap();
    create(&store).await;
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();

    let outcome = match Sqlite::open(&path) {
        Ok(store) => store.lookup(&LogName::of(&AUTH)).await.map(|_| ()),
        Err(error) => Err(error),
    };

    assert!(matches!(outcome, Err(StoreError::Corrupt(_))), "{outcome:?}");
}

/// Not a rule but the victim of the one below, which runs it in a process of its own.
#[tokio::test]
#[ignore = "runs until it is killed"]
async fn victim() {
    let store = Sqlite::open(std::env::var_os("VICTIM_DATABASE").expect("set by the test that starts it")).unwrap();
    create(&store).await;
    for n in 1.. {
        let Append::Stored { head, .. } = append(&store, n).await else { panic!("not stored") };
        println!("acked {head}");
    }
}

#[tokio::test]
async fn every_acknowledged_entry_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.db");
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .env("VICTIM_DATABASE", &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines().map(Result::unwrap);
    let acked = |line: String| line.strip_prefix("acked ").map(|head| head.parse::<u64>().unwrap());

    lines.by_ref().filter_map(acked).find(|head| *head == 200).expect("the victim gets that far");
    victim.kill().unwrap();
    victim.wait().unwrap();
    let last = lines.filter_map(acked).last().unwrap_or(200);

    let store = Sqlite::open(&path).unwrap();
    let head = store.state(group()).await.unwrap().unwrap().head;
    let entries = store.read(group(), 1, usize::MAX, usize::MAX).await.unwrap();
    assert!(head >= last, "acknowledged up to {last}, found up to {head}");
    let expected = (1..=head).map(|cursor| {
        let envelope = envelope(cursor - 1);
        StoredEntry::Present { cursor, blob_id: blob_id(&envelope), envelope }
    });
    assert!(entries.into_iter().eq(expected), "each is there once, in order");
}
