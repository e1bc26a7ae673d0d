//! Local storage: SQLite on a thread of its own, behind a short queue.
//!
//! Requests are carried out in the order in which they were made, so the answers to one asker come
//! in that order too. The queue is bounded: who writes faster than the disk waits. The home stays
//! locked until the last handle is gone and the thread has closed the database.

mod error;
mod sqlite;
#[cfg(test)]
mod tests;

use std::path::Path;

use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;
use zerok_sync_core::io::{Batch, Row, StorageFault};

pub use error::StorageError;
use sqlite::Database;

use crate::home::Home;

/// Requests that may wait for the disk before the next asker waits too.
const QUEUE_REQUESTS_MAX: usize = 32;

enum Request {
    Apply(Batch, oneshot::Sender<Result<(), StorageFault>>),
    Scan {
        from: Vec<u8>,
        to: Vec<u8>,
        bytes_max: usize,
        answer: oneshot::Sender<Result<Vec<Row>, StorageFault>>,
    },
    /// Take the home away: nothing came to be in it.
    Abandon,
}

/// What an open home gives.
pub(crate) struct Opened {
    /// Access to the rows.
    pub(crate) storage: Storage,
    /// Seals what is secret in them.
    pub(crate) store_key: Zeroizing<[u8; 32]>,
}

/// Access to an open database.
pub(crate) struct Storage {
    requests: mpsc::Sender<Request>,
    closed: oneshot::Receiver<()>,
}

impl Storage {
    /// Opens the database that is in `directory`.
    pub(crate) async fn open(directory: &Path) -> Result<Opened, StorageError> {
        let directory = directory.to_owned();
        Self::start(move || {
            // Looked for before locking as well: a question must not leave a lock file behind.
            if !Home::database_path(&directory).exists() {
                return Err(StorageError::Missing { path: directory });
            }
            let home = Home::lock(&directory)?;
            let path = Home::database_path(&directory);
            if !path.exists() {
                return Err(StorageError::Missing { path: directory });
            }
            let store_key = home.store_key(false)?;
            Ok((home, Database::open(&path)?, store_key))
        })
        .await
    }

    /// Makes a new, empty database in `directory`; an empty one left there is used.
    pub(crate) async fn create(directory: &Path) -> Result<Opened, StorageError> {
        let directory = directory.to_owned();
        Self::start(move || {
            let home = Home::lock(&directory)?;
            let path = Home::database_path(&directory);
            let store_key = home.store_key(true)?;
            let database = if path.exists() { Database::open(&path)? } else { Database::create(&path)? };
            if database.is_empty()? {
                Ok((home, database, store_key))
            } else {
                Err(StorageError::Occupied { path: directory })
            }
        })
        .await
    }

    /// Runs `open` on a new thread, which then serves requests.
    async fn start(
        open: impl FnOnce() -> Result<(Home, Database, Zeroizing<[u8; 32]>), StorageError> + Send + 'static,
    ) -> Result<Opened, StorageError> {
        let (requests, queue) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let (opened_tx, opened) = oneshot::channel();
        let (closed_tx, closed) = oneshot::channel();
        std::thread::Builder::new()
            .name("zerok-storage".into())
            .spawn(move || {
                match open() {
                    Ok((home, database, store_key)) => {
                        if opened_tx.send(Ok(store_key)).is_ok() {
                            serve(queue, home, database);
                        }
                    }
                    // Nobody left to tell is no failure.
                    Err(error) => drop(opened_tx.send(Err(error))),
                }
                drop(closed_tx);
            })
            .map_err(|error| StorageError::Fault(StorageFault::Failed(error.to_string())))?;
        let store_key = opened.await.unwrap_or_else(|_| Err(StorageError::Fault(thread_gone())))?;
        Ok(Opened { storage: Self { requests, closed }, store_key })
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
        let _ = self.requests.send(Request::Scan { from, to, bytes_max, answer }).await;
        receiver
    }

    /// Closes the database and unlocks the home; returns when that is done.
    pub(crate) async fn close(self) {
        drop(self.requests);
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

fn serve(mut queue: mpsc::Receiver<Request>, home: Home, mut database: Database) {
    while let Some(request) = queue.blocking_recv() {
        match request {
            // An asker that has gone away does not take its batch back.
            Request::Apply(batch, answer) => drop(answer.send(database.apply(&batch))),
            Request::Scan { from, to, bytes_max, answer } => {
                drop(answer.send(database.scan(&from, &to, bytes_max)));
            }
            Request::Abandon => {
                drop(database);
                if let Err(error) = home.abandon() {
                    tracing::warn!(%error, "could not remove the unused home");
                }
                return;
            }
        }
    }
}
