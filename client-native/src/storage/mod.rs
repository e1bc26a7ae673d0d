//! Local storage: SQLite on two threads of its own, behind short queues.
//!
//! One carries out the machine's requests in the order in which they were made; the other reads for
//! the app, which so never waits for a commit, and sees every one that was confirmed before it asked.
//! The queues are bounded: who writes faster than the disk waits. The home stays locked until the
//! last handle is gone and both threads have closed the database.

mod error;
mod restoring;
mod sqlite;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use zerok_sync_core::io::{Batch, Row, StorageFault};
use zerok_sync_core::keys::StoreKey;
use zerok_sync_core::passphrase::Passphrase;

pub use error::StorageError;
pub(crate) use restoring::HomeInTheMaking;
pub(crate) use sqlite::Snapshot;
use sqlite::{Database, Reader};

use crate::home::Home;

/// Requests that may wait for the disk before the next asker waits too.
const QUEUE_REQUESTS_MAX: usize = 32;

enum Request {
    Apply(Batch, oneshot::Sender<Result<(), StorageFault>>),
    Scan(Scan),
    /// The next batch takes the place of everything there is.
    ReplaceNext,
    /// Take the home away: nothing came to be in it.
    Abandon,
}

/// Rows to be read.
struct Scan {
    from: Vec<u8>,
    to: Vec<u8>,
    bytes_max: usize,
    answer: oneshot::Sender<Result<Vec<Row>, StorageFault>>,
}

/// What an open home gives.
pub(crate) struct Opened {
    /// Access to the rows.
    pub(crate) storage: Storage,
    /// Seals what is secret in them.
    pub(crate) store_key: StoreKey,
}

/// Access to an open database.
pub(crate) struct Storage {
    requests: mpsc::Sender<Request>,
    reads: mpsc::Sender<Scan>,
    closed: oneshot::Receiver<()>,
    /// The database's file.
    pub(crate) path: PathBuf,
}

impl Storage {
    /// Opens the database that is in `directory`; `passphrase` is for a locked one.
    pub(crate) async fn open(directory: &Path, passphrase: Option<Passphrase>) -> Result<Opened, StorageError> {
        let directory = directory.to_owned();
        Self::start(Home::database_path(&directory), move || {
            // Looked for before locking as well: a question must not leave a lock file behind.
            if !Home::database_path(&directory).exists() {
                return Err(StorageError::Missing { path: directory });
            }
            let home = Home::lock(&directory)?;
            let path = Home::database_path(&directory);
            if !path.exists() {
                return Err(StorageError::Missing { path: directory });
            }
            let store_key = home.store_key(false, passphrase.as_ref())?;
            let database = Database::open(&path)?;
            Ok(Open { home, reader: Reader::open(&path)?, database, store_key })
        })
        .await
    }

    /// Opens the database that is in `directory`, whose rows the first batch applied replaces: they are
    /// kept beside it ([`Snapshot::of_former`]). Until then it is as it was.
    pub(crate) async fn open_to_replace(
        directory: &Path,
        passphrase: Option<Passphrase>,
    ) -> Result<Opened, StorageError> {
        let opened = Self::open(directory, passphrase).await?;
        let _ = opened.storage.requests.send(Request::ReplaceNext).await;
        Ok(opened)
    }

    /// Makes a new, empty database in `directory`, locked if there is a passphrase. What is left there of
    /// one in which nothing was ever stored goes, with the lock that it may have had.
    pub(crate) async fn create(directory: &Path, passphrase: Option<Passphrase>) -> Result<Opened, StorageError> {
        let directory = directory.to_owned();
        Self::start(Home::database_path(&directory), move || {
            let home = Home::lock(&directory)?;
            let path = Home::database_path(&directory);
            if path.exists() {
                if !Database::open(&path)?.is_empty()? {
                    return Err(StorageError::Occupied { path: directory });
                }
                home.empty().map_err(|error| StorageError::io(&directory, error))?;
            }
            let store_key = home.store_key(true, passphrase.as_ref())?;
            let database = Database::create(&path)?;
            Ok(Open { home, reader: Reader::open(&path)?, database, store_key })
        })
        .await
    }

    /// Runs `open` on a new thread, which then serves requests.
    async fn start(
        path: PathBuf,
        open: impl FnOnce() -> Result<Open, StorageError> + Send + 'static,
    ) -> Result<Opened, StorageError> {
        let (requests, queue) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let (reads, reads_queue) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let (opened_tx, opened) = oneshot::channel();
        let (closed_tx, closed) = oneshot::channel();
        spawn("zerok-storage", move || {
            let outcome = open().and_then(|Open { home, database, reader, store_key }| {
                let reading = spawn("zerok-reading", move || serve_reads(reads_queue, &reader))?;
                Ok((home, database, reading, store_key))
            });
            match outcome {
                Ok((home, database, reading, store_key)) => {
                    // Without anybody to tell, both queues are closed already.
                    let _ = opened_tx.send(Ok(store_key));
                    serve(queue, home, database, reading);
                }
                // Nobody left to tell is no failure.
                Err(error) => drop(opened_tx.send(Err(error))),
            }
            drop(closed_tx);
        })?;
        let store_key = opened.await.unwrap_or_else(|_| Err(StorageError::Fault(thread_gone())))?;
        Ok(Opened { storage: Self { requests, reads, closed, path }, store_key })
    }

    /// Asks for a batch to be applied; the answer comes when it is on disk.
    pub(crate) async fn apply(&self, batch: Batch) -> oneshot::Receiver<Result<(), StorageFault>> {
        let (answer, receiver) = oneshot::channel();
        // A stopped thread drops `answer`, which the receiver sees.
        let _ = self.requests.send(Request::Apply(batch, answer)).await;
        receiver
    }

    /// Asks for the rows with `from <= key < to`, ending with the first that reaches `bytes_max`.
    pub(crate) async fn scan(
        &self,
        from: Vec<u8>,
        to: Vec<u8>,
        bytes_max: usize,
    ) -> oneshot::Receiver<Result<Vec<Row>, StorageFault>> {
        let (answer, receiver) = oneshot::channel();
        let _ = self.requests.send(Request::Scan(Scan { from, to, bytes_max, answer })).await;
        receiver
    }

    /// Like [`Self::scan`], beside the other requests: sees every batch that was confirmed before,
    /// and waits for none.
    pub(crate) async fn read(
        &self,
        from: Vec<u8>,
        to: Vec<u8>,
        bytes_max: usize,
    ) -> oneshot::Receiver<Result<Vec<Row>, StorageFault>> {
        let (answer, receiver) = oneshot::channel();
        let _ = self.reads.send(Scan { from, to, bytes_max, answer }).await;
        receiver
    }

    /// Closes the database and unlocks the home; returns when that is done.
    pub(crate) async fn close(self) {
        drop((self.requests, self.reads));
        let _ = self.closed.await;
    }

    /// Like [`Self::close`], and removes the home. For a home in which no group came to be.
    pub(crate) async fn abandon(self) {
        let _ = self.requests.send(Request::Abandon).await;
        self.close().await;
    }
}

/// The fault that a dropped answer means.
pub(crate) fn thread_gone() -> StorageFault {
    StorageFault::Failed("its thread has stopped".into())
}

/// What was found in a home.
struct Open {
    home: Home,
    database: Database,
    reader: Reader,
    store_key: StoreKey,
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StorageError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|error| StorageError::Fault(StorageFault::Failed(error.to_string())))
}

fn serve(mut queue: mpsc::Receiver<Request>, home: Home, mut database: Database, reading: JoinHandle<()>) {
    let (mut abandoned, mut replace) = (false, false);
    while let Some(request) = queue.blocking_recv() {
        match request {
            Request::ReplaceNext => replace = true,
            Request::Apply(batch, answer) if replace => {
                let replaced = database.replace(&batch);
                replace = replaced.is_err();
                drop(answer.send(replaced));
            }
            // An asker that has gone away does not take its batch back.
            Request::Apply(batch, answer) => drop(answer.send(database.apply(&batch))),
            Request::Scan(Scan { from, to, bytes_max, answer }) => {
                drop(answer.send(database.scan(&from, &to, bytes_max)));
            }
            Request::Abandon => abandoned = true,
        }
    }
    // Its queue was closed with this one. After a panic there it has closed its connection, too.
    let _ = reading.join();
    drop(database);
    if abandoned && let Err(error) = home.abandon() {
        tracing::warn!(%error, "could not remove the unused home");
    }
}

fn serve_reads(mut queue: mpsc::Receiver<Scan>, reader: &Reader) {
    while let Some(Scan { from, to, bytes_max, answer }) = queue.blocking_recv() {
        drop(answer.send(reader.scan(&from, &to, bytes_max)));
    }
}
