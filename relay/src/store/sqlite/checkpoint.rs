//! Checkpoints beside the writer: what is in the write-ahead log is copied into the database by a
//! thread of its own, so that no commit waits for that.
//!
//! SQLite begins the log anew only where all of it was copied and a commit comes next, a moment that
//! a checkpoint beside a busy writer never sees. So once the log is long the writer copies what
//! little is left between two commits.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use super::schema;
use crate::store::{Result, StoreError};

/// Pages (of 4 KiB) in the log that are not in the database, from which on they are copied. Few, so
/// that little is left when the writer does the rest.
const COPY_PAGES: u64 = 500;
/// Pages in the log from which on it is begun anew: 16 MiB.
const BEGIN_ANEW_PAGES: u64 = 4_000;

/// The thread. Ends when dropped.
pub(super) struct Checkpointer {
    /// `None` while it ends.
    bell: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Held during a checkpoint. SQLite runs one at a time and refuses another at once, whatever
    /// time it was given to wait.
    under_way: Arc<Mutex<()>>,
    /// Pages at which the writer copies the rest.
    begin_anew_pages: u64,
}

/// How far a log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) pages: u64,
    /// Of them those that are in the database.
    pub(super) copied: u64,
}

impl Checkpointer {
    /// Checkpoints over a connection of its own.
    pub(super) fn start(connection: Connection) -> Result<Self> {
        // One ring is enough to come and look.
        let (bell, rung) = sync_channel(1);
        let under_way = Arc::new(Mutex::new(()));
        let thread = std::thread::Builder::new()
            .name("sqlite-checkpoint".into())
            .spawn({
                let under_way = under_way.clone();
                move || run(&connection, &rung, &under_way)
            })
            .map_err(|error| StoreError::Unavailable(format!("no thread for checkpoints: {error}")))?;
        Ok(Self { bell: Some(bell), thread: Some(thread), under_way, begin_anew_pages: BEGIN_ANEW_PAGES })
    }

    /// Looks at the log after a commit, on the writer's connection.
    pub(super) fn committed(&mut self, writer: &Connection) -> Result<()> {
        let log = schema::log(writer)?;
        if log.pages < BEGIN_ANEW_PAGES {
            self.begin_anew_pages = BEGIN_ANEW_PAGES;
        }
        if log.pages.saturating_sub(log.copied) >= COPY_PAGES {
            // Full: it is on its way already.
            let _ = self.bell.as_ref().map(|bell| bell.try_send(()));
        } else if log.pages >= self.begin_anew_pages
            && let Ok(_begun) = self.under_way.try_lock()
        {
            schema::copy_log(writer)?;
            // While somebody reads from it the log goes on, and each attempt costs a flush.
            self.begin_anew_pages = log.pages + COPY_PAGES;
        }
        Ok(())
    }

    /// Empties the log, on the writer's connection, unless readers need it for longer than `wait`;
    /// whether it did. A checkpoint that is under way is waited for, however long it takes.
    pub(super) fn start_over(&self, writer: &Connection, wait: Duration) -> Result<bool> {
        let _begun = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        schema::start_wal_over(writer, wait)
    }
}

fn run(connection: &Connection, rung: &Receiver<()>, under_way: &Mutex<()>) {
    while let Ok(()) = rung.recv() {
        let _begun = under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = schema::copy_log(connection) {
            // The log grows until the writer starts it over by itself.
            tracing::warn!(%error, "a checkpoint failed");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.bell.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_started_over_when_the_checkpoint_under_way_is_done() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("relay.db");
        let mut writer = Connection::open(&path).expect("a database");
        schema::prepare(&mut writer).expect("tables");
        schema::configure_writer(&writer).expect("settings");
        let beside_writer = Connection::open(&path).expect("a second connection");
        let checkpointer = Checkpointer::start(beside_writer).expect("a thread");
        writer.execute("INSERT INTO meta (key, value) VALUES ('planted', x'00')", []).expect("a commit");
        let under_way = checkpointer.under_way.lock().expect("nobody panicked");
        let (tell, told) = sync_channel(1);

        std::thread::scope(|scope| {
            let checkpointer = &checkpointer;
            let starting = scope.spawn(move || {
                let started_over = checkpointer.start_over(&writer, Duration::ZERO);
                tell.send(()).expect("the test listens");
                started_over
            });
            told.recv_timeout(Duration::from_millis(50)).expect_err("it waits");
            drop(under_way);
            assert_eq!(starting.join().expect("no panic"), Ok(true));
        });
    }
}
