//! The database under test, and a log in it.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, NoisePublicKey, Timeline};
use zerok_sync_relay::store::{
    Admission, Admitted, Append, AppendRequest, Appended, Batch, DeviceNote, DynStore, GroupKey, NewLog, Postgres,
    RestrictRequest, Restricted, RotateRequest, Rotated, Sqlite, Store, StoreError, StoredEntry,
};
use zerok_sync_testkit::postgres;

pub const NOW: u64 = 1_700_000_000_000;
pub const PLENTY: u64 = 1 << 40;

/// A store on a database of its own.
pub struct Subject {
    store: Option<DynStore>,
    pub backend: Backend,
}

pub enum Backend {
    Sqlite(TempDir),
    Postgres { url: String },
}

impl Subject {
    pub async fn sqlite() -> Self {
        Self::on(Backend::Sqlite(tempfile::tempdir().expect("a temporary folder"))).await
    }

    pub async fn postgres() -> Self {
        let url = tokio::task::spawn_blocking(|| postgres::shared().database()).await.expect("a database");
        Self::on(Backend::Postgres { url }).await
    }

    async fn on(backend: Backend) -> Self {
        let store = backend.open().await.expect("a fresh database opens");
        Self { store: Some(store), backend }
    }

    pub fn store(&self) -> DynStore {
        Arc::clone(self.store.as_ref().expect("open"))
    }

    /// Another relay on the same database, where the database allows one.
    pub async fn another_instance(&self) -> DynStore {
        match self.backend {
            Backend::Sqlite(_) => self.store(),
            Backend::Postgres { .. } => self.backend.open().await.expect("a second instance connects"),
        }
    }

    pub fn close(&mut self) {
        self.store = None;
    }

    pub async fn open(&mut self) -> Result<(), StoreError> {
        self.store = Some(self.backend.open().await?);
        Ok(())
    }

    /// Does to the tables what an operator, a disk or an attacker might.
    pub async fn sql(&self, statement: &str) -> u64 {
        match &self.backend {
            Backend::Sqlite(dir) => {
                let db = rusqlite::Connection::open(dir.path().join("relay.db")).expect("the file opens");
                db.execute(statement, []).expect("the statement runs") as u64
            }
            Backend::Postgres { url } => client(url).await.execute(statement, &[]).await.expect("the statement runs"),
        }
    }

    /// First column of each row of a query for text.
    pub async fn texts(&self, query: &str) -> Vec<String> {
        match &self.backend {
            Backend::Sqlite(dir) => {
                let db = rusqlite::Connection::open(dir.path().join("relay.db")).expect("the file opens");
                let mut statement = db.prepare(query).expect("the query parses");
                let rows = statement.query_map([], |row| row.get(0)).expect("the query runs");
                rows.map(|text| text.expect("a text")).collect()
            }
            Backend::Postgres { url } => {
                let rows = client(url).await.query(query, &[]).await.expect("the query runs");
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }
}

impl Deref for Subject {
    type Target = dyn Store;
    fn deref(&self) -> &Self::Target {
        self.store.as_deref().expect("open")
    }
}

impl Backend {
    async fn open(&self) -> Result<DynStore, StoreError> {
        Ok(match self {
            Self::Sqlite(dir) => Arc::new(Sqlite::open(dir.path().join("relay.db"))?),
            Self::Postgres { url } => Arc::new(Postgres::connect(url).await?),
        })
    }
}

pub async fn client(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("the cluster runs");
    tokio::spawn(connection);
    client
}

/// A log as one device's session knows it.
#[derive(Debug, Clone)]
pub struct Log {
    pub group: GroupKey,
    pub auth: AuthPublicKey,
    pub auth_gen: u64,
    pub device: NoisePublicKey,
}

pub fn auth(n: u8) -> AuthPublicKey {
    AuthPublicKey([n; 32])
}

pub fn device(n: u8) -> NoisePublicKey {
    NoisePublicKey([n; 32])
}

/// An envelope like no other: `n` tells which.
pub fn envelope(n: u64) -> Bytes {
    sized_envelope(n, 400)
}

pub fn sized_envelope(n: u64, bytes: usize) -> Bytes {
    n.to_le_bytes().into_iter().cycle().take(bytes).collect::<Vec<_>>().into()
}

pub fn epoch_envelope(n: u64) -> Bytes {
    sized_envelope(u64::MAX - n, 500)
}

pub fn new_log(n: u8, allow: &[NoisePublicKey]) -> NewLog {
    NewLog {
        auth_public: auth(n),
        timeline: Timeline([n; 8]),
        allow: allow.to_vec(),
        epoch_envelope: epoch_envelope(n.into()),
        envelopes: Vec::new(),
    }
}

/// A log with nothing but its epoch envelope, seen by its only device.
pub async fn found(store: &dyn Store, n: u8) -> Log {
    let group = store.create(new_log(n, &[device(n)]), NOW).await.expect("stored").expect("the name is free");
    assert_eq!(group.0, LogName::of(&auth(n)).0);
    Log { group, auth: auth(n), auth_gen: 0, device: device(n) }
}

impl Log {
    pub fn by(&self, device: NoisePublicKey) -> Self {
        Self { device, ..self.clone() }
    }

    /// As a session does: the device is noted as seen.
    pub async fn admit(&self, store: &dyn Store) -> Admission {
        let admission = store.admit(self.group, &self.auth, &self.device, NOW).await.expect("the store works");
        if let Admission::Admitted(_) = admission {
            note(store, DeviceNote { seen_ms: NOW, ..note_of(self) }).await;
        }
        admission
    }

    pub async fn admitted(&self, store: &dyn Store) -> Admitted {
        match self.admit(store).await {
            Admission::Admitted(admitted) => admitted,
            other => panic!("not admitted: {other:?}"),
        }
    }

    pub fn request(&self, envelopes: &[Bytes]) -> AppendRequest {
        AppendRequest {
            group: self.group,
            auth_gen: self.auth_gen,
            device: self.device,
            envelopes: envelopes.iter().map(|envelope| (blob_id(envelope), envelope.clone())).collect(),
            group_bytes_max: PLENTY,
            now_ms: NOW,
        }
    }

    pub async fn append_within(&self, store: &dyn Store, envelopes: &[Bytes], group_bytes_max: u64) -> Append {
        one(commit(store, vec![AppendRequest { group_bytes_max, ..self.request(envelopes) }]).await)
    }

    pub async fn append(&self, store: &dyn Store, envelopes: &[Bytes]) -> Append {
        self.append_within(store, envelopes, PLENTY).await
    }

    /// Cursors of an append that must succeed.
    pub async fn stored(&self, store: &dyn Store, envelopes: &[Bytes]) -> Vec<Appended> {
        match self.append(store, envelopes).await {
            Append::Stored { cursors, .. } => cursors,
            other => panic!("not stored: {other:?}"),
        }
    }

    pub fn rotation(&self, next: u8, allow: &[NoisePublicKey]) -> RotateRequest {
        RotateRequest {
            group: self.group,
            device: self.device,
            expect_gen: self.auth_gen,
            next_auth_public: auth(next),
            allow: allow.to_vec(),
            epoch_envelope: epoch_envelope(next.into()),
            group_bytes_max: PLENTY,
            now_ms: NOW,
        }
    }

    /// The log after a rotation that must succeed.
    pub async fn rotated(&self, store: &dyn Store, next: u8, allow: &[NoisePublicKey]) -> Self {
        match store.rotate(self.rotation(next, allow)).await.expect("the store works") {
            Rotated::Done { auth_gen, .. } | Rotated::Again { auth_gen, .. } => {
                Self { auth: auth(next), auth_gen, ..self.clone() }
            }
            other => panic!("not rotated: {other:?}"),
        }
    }

    pub async fn restrict(&self, store: &dyn Store, allow: &[NoisePublicKey]) -> Restricted {
        let (group, auth_gen, device) = (self.group, self.auth_gen, self.device);
        let request = RestrictRequest { group, auth_gen, device, allow: allow.to_vec() };
        store.restrict(request).await.expect("the store works")
    }

    /// Everything in the log from cursor 1.
    pub async fn everything(&self, store: &dyn Store) -> Vec<StoredEntry> {
        store.read(self.group, 1, usize::MAX, 10_000).await.expect("the store works")
    }

    pub async fn head(&self, store: &dyn Store) -> u64 {
        store.state(self.group).await.expect("the store works").expect("the log exists").head
    }
}

/// Commits appends together.
pub async fn commit(store: &dyn Store, appends: Vec<AppendRequest>) -> Vec<Append> {
    store.commit(Arc::new(Batch { appends, notes: Vec::new() })).await.expect("the store works")
}

pub fn one<T>(items: Vec<T>) -> T {
    let [item] = items.try_into().ok().expect("exactly one");
    item
}

/// A note that changes nothing yet.
pub fn note_of(log: &Log) -> DeviceNote {
    DeviceNote { group: log.group, device: log.device, acked: None, slot: None, seen_ms: 0, durable: true }
}

pub async fn note(store: &dyn Store, note: DeviceNote) {
    store.commit(Arc::new(Batch { appends: Vec::new(), notes: vec![note] })).await.expect("the store works");
}

pub async fn slot_put(store: &dyn Store, log: &Log, slot: &'static [u8]) {
    note(store, DeviceNote { slot: Some(Bytes::from_static(slot)), ..note_of(log) }).await;
}

pub fn present(cursor: u64, envelope: &Bytes) -> StoredEntry {
    StoredEntry::Present { cursor, blob_id: blob_id(envelope), envelope: envelope.clone() }
}

pub fn new(cursor: u64) -> Appended {
    Appended { cursor, new: true }
}

pub fn known(cursor: u64) -> Appended {
    Appended { cursor, new: false }
}

pub fn ids(envelopes: &[Bytes]) -> Vec<BlobId> {
    envelopes.iter().map(|envelope| blob_id(envelope)).collect()
}
