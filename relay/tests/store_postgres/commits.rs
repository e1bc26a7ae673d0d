//! Commits whose outcome is not learned: the connection breaks at COMMIT, before or after the
//! server carries it out, or the server ends the session or is gone. The writer finds out by
//! repeating the batch; nothing is stored twice, nothing acknowledged is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_relay::RelayLimits;
use zerok_sync_relay::doorbell::Silent;
use zerok_sync_relay::hub::Hub;
use zerok_sync_relay::metrics::Metrics;
use zerok_sync_relay::store::{Append, AppendRequest, DynStore, Postgres, Store, StoreError, StoredEntry};
use zerok_sync_relay::writer::Writer;
use zerok_sync_testkit::postgres::{Cluster, Durability};

use crate::{DEVICE, create, database, envelope, group, sql};

const BEFORE: u64 = 1;
const AFTER: u64 = 2;
/// With one of them: not at COMMIT, but where the next statement ends, that is a transaction of its own.
const OF_A_STATEMENT: u64 = 4;

/// A way to the server that can cut a connection exactly where a transaction is committed.
pub struct Cutter {
    pub url: String,
    /// Where to cut next; 0: nowhere.
    cut: Arc<AtomicU64>,
    /// What the server was asked to answer so far.
    pub requests: Arc<AtomicU64>,
}

impl Cutter {
    pub async fn to(url: &str) -> Self {
        let (front, back) = url.split_once("127.0.0.1:").unwrap();
        let (port, database) = back.split_once('/').unwrap();
        let server = format!("127.0.0.1:{port}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{front}127.0.0.1:{}/{database}", listener.local_addr().unwrap().port());
        let (cut, requests) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (armed, counted) = (Arc::clone(&cut), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server.clone()).await.unwrap();
                tokio::spawn(forward(client, server, Arc::clone(&armed), Arc::clone(&counted)));
            }
        });
        Self { url, cut, requests }
    }
}

/// Forwards message by message from client to server, and bytes as they come the other way.
async fn forward(client: TcpStream, server: TcpStream, cut: Arc<AtomicU64>, requests: Arc<AtomicU64>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let muted = Arc::new(AtomicBool::new(false));
    let back = tokio::spawn({
        let muted = Arc::clone(&muted);
        async move {
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                if !muted.load(Ordering::SeqCst) && to_client.write_all(&buffer[..count]).await.is_err() {
                    break;
                }
            }
        }
    });
    // The start-up message has no type.
    let mut typed = false;
    loop {
        let mut header = vec![0; if typed { 5 } else { 4 }];
        if from_client.read_exact(&mut header).await.is_err() {
            break;
        }
        let length = u32::from_be_bytes(*header.last_chunk().unwrap()) as usize;
        let mut message = header.clone();
        message.resize(header.len() + length - 4, 0);
        from_client.read_exact(&mut message[header.len()..]).await.unwrap();
        typed = true;
        // A text of statements, or the end (Sync) of a prepared one: each is answered.
        let (is_text, is_end) = (message.starts_with(b"Q"), message.starts_with(b"S"));
        requests.fetch_add(u64::from(is_text || is_end), Ordering::SeqCst);
        let of_a_statement = cut.load(Ordering::SeqCst) & OF_A_STATEMENT != 0;
        let is_commit = if of_a_statement { is_end } else { is_text && message[5..].starts_with(b"COMMIT") };
        let side = if is_commit { cut.swap(0, Ordering::SeqCst) & !OF_A_STATEMENT } else { 0 };
        if side == AFTER {
            // The server works through what it was sent, the goodbye last: when it has ended the
            // session it has committed. Only then does the client see its connection go.
            muted.store(true, Ordering::SeqCst);
            to_server.write_all(&message).await.unwrap();
            to_server.write_all(b"X\0\0\0\x04").await.unwrap();
            back.await.unwrap();
            return;
        }
        if side == BEFORE || to_server.write_all(&message).await.is_err() {
            break;
        }
    }
    back.abort();
}

fn writer(store: &DynStore, metrics: &Metrics) -> Writer {
    let limits = RelayLimits::default();
    Writer::start(store.clone(), Hub::new(&limits, metrics, Arc::new(Silent)), &limits, metrics.clone())
}

fn request(n: u64) -> AppendRequest {
    AppendRequest {
        group: group(),
        auth_gen: 0,
        device: DEVICE,
        envelopes: vec![(blob_id(&envelope(n)), envelope(n))],
        group_bytes_max: u64::MAX,
        now_ms: 1,
    }
}

fn cursor(answer: Result<Append, StoreError>) -> u64 {
    match answer {
        Ok(Append::Stored { cursors, .. }) => cursors[0].cursor,
        other => panic!("not stored: {other:?}"),
    }
}

/// Everything from the first envelope to the `last`, each once.
async fn assert_log(store: &dyn Store, last: u64) {
    let entries = store.read(group(), 1, usize::MAX, usize::MAX).await.unwrap();
    let expected = (0..=last).map(|n| {
        let envelope = envelope(n);
        StoredEntry::Present { cursor: n + 1, blob_id: blob_id(&envelope), envelope }
    });
    assert!(entries.into_iter().eq(expected), "each is there once, in order");
}

/// Cuts at the append behind `before` others.
async fn a_connection_cut(side: u64, before: u64) {
    let cutter = Cutter::to(&database().await).await;
    let postgres = Postgres::connect(&cutter.url).await.unwrap();
    create(&postgres).await;
    let (store, metrics): (DynStore, _) = (Arc::new(postgres), Metrics::new());
    let writer = writer(&store, &metrics);
    for n in 1..=before {
        assert_eq!(cursor(writer.append(request(n)).await), n + 1);
    }

    cutter.cut.store(side, Ordering::SeqCst);
    let answer = writer.append(request(before + 1)).await;

    assert_eq!(cursor(answer), before + 2);
    assert_eq!(cutter.cut.load(Ordering::SeqCst), 0, "the connection was cut");
    assert_eq!(metrics.commit_failures.get(), 1);
    assert_eq!(cursor(writer.append(request(before + 2)).await), before + 3);
    assert_log(&*store, before + 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_before_the_server_commits_loses_nothing() {
    a_connection_cut(BEFORE, 1).await;
    a_connection_cut(BEFORE | OF_A_STATEMENT, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_after_the_server_has_committed_stores_nothing_twice() {
    a_connection_cut(AFTER, 1).await;
    a_connection_cut(AFTER | OF_A_STATEMENT, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_backend_is_not_noticed_by_who_pushes() {
    let url = database().await;
    let postgres = Postgres::connect(&url).await.unwrap();
    create(&postgres).await;
    let (store, metrics): (DynStore, _) = (Arc::new(postgres), Metrics::new());
    let writer = writer(&store, &metrics);

    for n in 1..=20 {
        if n % 5 == 0 {
            let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                          WHERE datname = current_database() AND pid <> pg_backend_pid()";
            sql(&url, others).await;
        }
        assert_eq!(cursor(writer.append(request(n)).await), n + 1);
    }

    assert_log(&*store, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_is_a_pause_not_a_refusal() {
    let cluster = tokio::task::spawn_blocking(|| Cluster::start(Durability::Full).unwrap()).await.unwrap();
    let postgres = Postgres::connect(&cluster.database()).await.unwrap();
    create(&postgres).await;
    let (store, metrics): (DynStore, _) = (Arc::new(postgres), Metrics::new());
    let writer = Arc::new(writer(&store, &metrics));
    assert_eq!(cursor(writer.append(request(1)).await), 2);
    let cluster = tokio::task::spawn_blocking(move || cluster.down().map(|()| cluster).unwrap()).await.unwrap();

    let waiting = tokio::spawn({
        let writer = Arc::clone(&writer);
        async move { writer.append(request(2)).await }
    });
    while metrics.commit_failures.get() == 0 {
        tokio::task::yield_now().await;
    }
    let cluster = tokio::task::spawn_blocking(move || cluster.up().map(|()| cluster).unwrap()).await.unwrap();

    assert_eq!(cursor(waiting.await.unwrap()), 3);
    assert_log(&*store, 2).await;
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_away_is_a_refusal_after_a_bounded_time() {
    let cutter = Cutter::to(&database().await).await;
    let postgres = Postgres::connect(&cutter.url).await.unwrap();
    create(&postgres).await;
    let (store, metrics): (DynStore, _) = (Arc::new(postgres), Metrics::new());
    let limits = RelayLimits { commit_retry_ms: 2_000, ..RelayLimits::default() };
    let writer = Writer::start(store, Hub::new(&limits, &metrics, Arc::new(Silent)), &limits, metrics.clone());
    let (stop, cut) = (Arc::new(AtomicU64::new(0)), Arc::clone(&cutter.cut));
    let always = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            while stop.load(Ordering::SeqCst) == 0 {
                cut.store(BEFORE, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
            cut.store(0, Ordering::SeqCst);
        }
    });
    // Only once it is armed.
    while cutter.cut.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }

    let refused = writer.append(request(1)).await;

    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(metrics.commit_failures.get() > 1, "it was tried again");
    stop.store(1, Ordering::SeqCst);
    always.await.unwrap();
    assert_eq!(cursor(writer.append(request(1)).await), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_is_stored_though_the_session_that_asked_is_gone() {
    let url = database().await;
    let postgres = Postgres::connect(&url).await.unwrap();
    create(&postgres).await;
    let (store, metrics): (DynStore, _) = (Arc::new(postgres), Metrics::new());
    let writer = Arc::new(writer(&store, &metrics));
    let (mut other, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = other.transaction().await.unwrap();
    lock.execute("SELECT 1 FROM groups FOR UPDATE", &[]).await.unwrap();

    let session = tokio::spawn({
        let writer = Arc::clone(&writer);
        async move { writer.append(request(1)).await }
    });
    while !waits_for_lock(&lock).await {
        tokio::task::yield_now().await;
    }
    session.abort();
    assert!(session.await.unwrap_err().is_cancelled());
    lock.rollback().await.unwrap();
    writer.close().await;

    assert_log(&*store, 1).await;
}

/// Whether some connection of the database waits for the lock that is held.
async fn waits_for_lock(db: &tokio_postgres::Transaction<'_>) -> bool {
    let waiting = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
                   AND wait_event_type = 'Lock')";
    db.query_one(waiting, &[]).await.unwrap().get(0)
}
