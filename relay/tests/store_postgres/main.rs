//! What only the Postgres store promises: several instances, a database that goes away and comes
//! back, durable commits whatever the server's defaults, and errors that give nothing away.

#![allow(clippy::unwrap_used, reason = "a test that unwraps has failed, which is what it is for")]

mod as_left;
mod commits;
mod old_server;
mod statements;
mod tls;
mod tls_cluster;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{AuthPublicKey, LogName, NoisePublicKey, Timeline};
use zerok_sync_relay::opening::open_store;
use zerok_sync_relay::store::{
    Append, AppendRequest, Batch, GroupCommit, GroupKey, NewLog, Postgres, Store, StoreError, StoredEntry,
};
use zerok_sync_relay::{Config, StoreConfig};
use zerok_sync_testkit::postgres::{Cluster, Durability, PASSWORD, shared};

const DEVICE: NoisePublicKey = NoisePublicKey([1; 32]);
const AUTH: AuthPublicKey = AuthPublicKey([1; 32]);

fn envelope(n: u64) -> Bytes {
    n.to_le_bytes().repeat(50).into()
}

fn group() -> GroupKey {
    GroupKey(LogName::of(&AUTH).0)
}

async fn create(store: &Postgres) {
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

async fn append(store: &Postgres, n: u64) -> Result<Append, StoreError> {
    let request = AppendRequest {
        group: group(),
        auth_gen: 0,
        device: DEVICE,
        envelopes: vec![(blob_id(&envelope(n)), envelope(n))],
        group_bytes_max: u64::MAX,
        now_ms: 1,
    };
    store.commit(Arc::new(Batch { appends: vec![request], notes: Vec::new() })).await.map(one)
}

async fn database() -> String {
    tokio::task::spawn_blocking(|| shared().database()).await.unwrap()
}

async fn sql(url: &str, statement: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(statement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_start_at_once_make_the_tables_once_and_share_one_key() {
    let url = database().await;
    let starting = (0..8u8).map(|n| {
        let url = url.clone();
        tokio::spawn(async move {
            let store = Postgres::connect(&url).await.unwrap();
            store.shared_noise_secret(&[n; 32]).await.unwrap().unwrap()
        })
    });

    let mut secrets = Vec::new();
    for instance in starting.collect::<Vec<_>>() {
        secrets.push(instance.await.unwrap());
    }

    assert!(secrets.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_as_long_as_another_instance_migrates() {
    let url = database().await;
    let (migrating, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // '0k-sync' in ASCII, as the migration takes it.
    migrating.execute("SELECT pg_advisory_lock(x'306b2d73796e63'::bigint)", &[]).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = Config { store: StoreConfig::Postgres(url.into()), ..Config::in_dir(dir.path()) };
    let start = tokio::spawn(async move { open_store(&config).await.map(drop) });

    // One attempt after the other waits for its turn, each on a connection of its own.
    let waiting = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let mut attempts = std::collections::BTreeSet::new();
    while attempts.len() < 2 && !start.is_finished() {
        attempts.extend(migrating.query(waiting, &[]).await.unwrap().iter().map(|row| row.get::<_, i32>(0)));
    }
    drop(migrating);

    start.await.unwrap().expect("it starts when the other one is done");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_entry_survives_a_crash_of_the_database_and_the_relay_goes_on() {
    let cluster = tokio::task::spawn_blocking(|| Cluster::start(Durability::Full).unwrap()).await.unwrap();
    let store = Arc::new(Postgres::connect(&cluster.database()).await.unwrap());
    create(&store).await;
    let (progress, mut acked) = tokio::sync::watch::channel(0);
    let (recover, mut recovered) = tokio::sync::watch::channel(false);

    let pusher = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let (mut last, mut interrupted, mut behind) = (0, 0, 0);
            // Until the crash is over, however long it takes to come, and some behind it.
            while behind < 20 {
                match append(&store, last + 1).await {
                    Ok(Append::Stored { cursors, .. }) => {
                        last += 1;
                        assert_eq!(cursors[0].cursor, last + 1);
                        progress.send_replace(last);
                        behind += u64::from(*recovered.borrow());
                    }
                    Err(StoreError::Unavailable(_)) => {
                        interrupted += 1;
                        recovered.wait_for(|is_over| *is_over).await.unwrap();
                    }
                    other => panic!("not stored: {other:?}"),
                }
            }
            (last, interrupted)
        }
    });
    acked.wait_for(|n| *n >= 100).await.unwrap();
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.crash().unwrap();
        cluster.up().unwrap();
        cluster
    });
    let cluster = cluster.await.unwrap();
    recover.send_replace(true);
    let (last, interrupted) = pusher.await.unwrap();

    assert!(interrupted > 0, "it was pushed to while the database was away");
    let entries = store.read(group(), 1, usize::MAX, usize::MAX).await.unwrap();
    let expected = (0..=last).map(|n| {
        let envelope = envelope(n);
        StoredEntry::Present { cursor: n + 1, blob_id: blob_id(&envelope), envelope }
    });
    assert!(entries.into_iter().eq(expected), "each is there once, in order");
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_durable_whatever_the_database_defaults_to() {
    let url = database().await;
    let name = url.rsplit('/').next().unwrap();
    sql(&url, &format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
    sql(&url, &format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")).await;
    let store = Postgres::connect(&url).await.unwrap();
    // A trigger sees what the store's own connection runs under.
    sql(
        &url,
        "CREATE TABLE seen (setting text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO seen VALUES (current_setting('synchronous_commit')), (current_setting('transaction_isolation'));
             RETURN NEW;
         END $$;
         CREATE TRIGGER note AFTER INSERT ON entries FOR EACH ROW EXECUTE FUNCTION note()",
    )
    .await;

    create(&store).await;

    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = client.query("SELECT setting FROM seen", &[]).await.unwrap();
    let seen: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(seen, ["on", "read committed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_locked_by_a_stuck_instance_is_unavailable_not_a_hang() {
    let url = database().await;
    let store = Postgres::connect(&url).await.unwrap();
    create(&store).await;
    let (mut stuck, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = stuck.transaction().await.unwrap();
    lock.execute("SELECT 1 FROM groups FOR UPDATE", &[]).await.unwrap();

    let refused = tokio::time::timeout(Duration::from_secs(20), append(&store, 1)).await.expect("no hang");

    assert!(matches!(&refused, Err(StoreError::Busy(_))), "{refused:?}");
    assert!(matches!(store.read(group(), 1, 1000, 10).await.as_deref(), Ok([_])), "readers do not wait");
    drop(lock);
    drop(stuck);
    assert!(append(&store, 1).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_wait_for_the_database_keep_no_commit_waiting() {
    let url = database().await;
    let store = Arc::new(Postgres::connect(&url).await.unwrap());
    create(&store).await;
    let (mut stuck, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = stuck.transaction().await.unwrap();
    // Commits look at other tables.
    lock.batch_execute("LOCK TABLE names IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.lookup(&LogName::of(&AUTH)).await })
        })
        .collect();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'names'::regclass";
    while lock.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) < 8 {
        tokio::task::yield_now().await;
    }

    let begin = std::time::Instant::now();
    for n in 1..=10 {
        append(&store, n).await.unwrap();
    }

    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    drop(lock);
    drop(stuck);
    for reader in readers {
        // Those that waited for too long were told so.
        let _ = reader.await.unwrap();
    }
    assert!(store.lookup(&LogName::of(&AUTH)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_error_gives_away_the_password() {
    let url = database().await;
    let wrong_database = url.replace("/test_", "/no_such_");
    let wrong_server = format!("postgres://zerok:{PASSWORD}@127.0.0.1:1/relay");
    let wrong_option = format!("postgres://zerok@127.0.0.1/relay?{PASSWORD}");
    let wrong_port = format!("postgres://zerok:{PASSWORD}@127.0.0.1:{PASSWORD}/relay");
    let wrong_mode = format!("postgres://zerok:{PASSWORD}@127.0.0.1/relay?sslmode=verify-everything");

    for url in [wrong_database, wrong_server, wrong_option, wrong_port, wrong_mode] {
        let error = Postgres::connect(&url).await.unwrap_err();

        assert!(matches!(error, StoreError::Unavailable(_) | StoreError::Unusable(_)), "{error}");
        assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error}");
    }
    let store = Postgres::connect(&url).await.unwrap();
    assert!(!format!("{store:?}").contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_refused() {
    let url = database().await;
    Postgres::connect(&url).await.unwrap();
    sql(&url, "UPDATE meta SET value = '999' WHERE key = 'schema_version'").await;

    let error = Postgres::connect(&url).await.unwrap_err();

    assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("schema version 999")), "{error}");
}

#[tokio::test]
async fn autovacuum_does_not_wait_for_a_fifth_of_a_table() {
    let url = database().await;
    Postgres::connect(&url).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let options = "SELECT tables.relname::text, tables.reloptions, toast.reloptions
                   FROM pg_class AS tables LEFT JOIN pg_class AS toast ON toast.oid = tables.reltoastrelid
                   WHERE tables.relname IN ('entries', 'groups', 'devices') ORDER BY 1";
    let has =
        |options: Option<Vec<String>>, wanted: &str| options.unwrap_or_default().iter().any(|found| found == wanted);
    let rows = client.query(options, &[]).await.unwrap();
    let scales = ["0.05", "0.02", "0.02"].map(|scale| format!("autovacuum_vacuum_scale_factor={scale}"));
    for (row, scale) in rows.iter().zip(&scales) {
        assert!(has(row.get(1), scale), "{}", row.get::<_, String>(0));
    }
    assert_eq!(rows.len(), 3);
    assert!(has(rows[1].get(2), &scales[1]), "large envelopes lie in the toast table");
}
