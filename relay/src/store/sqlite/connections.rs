//! The one writing and the few reading connections of a SQLite file, and the lock that keeps a
//! second relay out. What is done on them is in the sibling modules.

use std::fs::{File, OpenOptions, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::checkpoint::Checkpointer;
use super::schema;
use crate::store::{Result, StoreError};

/// Writes that may wait for the writer; whoever comes then waits for a place.
const QUEUE_LEN: usize = 256;
/// Reads at the same time. Reads are short and mostly from the page cache.
const READERS: usize = 4;
/// A call that gets no place in the queue, or no reader, for this long is told to come back later.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The write-ahead log is started over when it is longer than this. It begins anew before, at a
/// commit while nobody reads from it, a moment that a relay with many readers may never have.
const WAL_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// By so much it has to grow before that is tried again: while somebody reads for long, a backup for
/// example, each attempt would only hold up writes.
const WAL_RETRY_BYTES: u64 = 4 * 1024 * 1024;
/// How long that waits for readers. A page is read in less; a backup is not waited for.
const WAL_WAIT: Duration = Duration::from_millis(100);

type Job = Box<dyn FnOnce(&mut Writer) + Send>;

/// When a commit reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flush {
    /// Before it is answered.
    AtCommit,
    /// With the next commit that is flushed: a crash of the relay loses nothing, a power cut may.
    WithTheNext,
}

/// The writing connection, and what it was last told about flushing.
struct Writer {
    connection: Connection,
    checkpointer: Checkpointer,
    /// `None` if it did not confirm it.
    flush: Option<Flush>,
    wal: PathBuf,
    /// Length of the log at which it is started over.
    wal_bytes_max: u64,
}

#[derive(Debug)]
pub(super) struct Connections {
    /// `None` where nothing is written, and while dropping.
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    readers: Arc<Mutex<Vec<Connection>>>,
    reader_permits: Arc<Semaphore>,
}

impl Connections {
    pub fn open(path: &Path) -> Result<Self> {
        let lock = lock(path)?;
        create_private(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        schema::prepare(&mut connection)?;
        schema::configure_writer(&connection)?;
        let readers = readers(path, flags)?;
        let beside_writer = Connection::open_with_flags(path, flags)?;
        schema::configure_checkpointer(&beside_writer)?;
        let checkpointer = Checkpointer::start(beside_writer)?;
        let (jobs, queue) = mpsc::channel(QUEUE_LEN);
        let writer = std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn({
                let wal = beside(path, "-wal");
                let writer = Writer { connection, checkpointer, flush: None, wal, wal_bytes_max: WAL_BYTES_MAX };
                move || write_loop(writer, queue, lock)
            })
            .map_err(|error| StoreError::Unavailable(format!("no thread for the writer: {error}")))?;
        Ok(Self {
            jobs: Some(jobs),
            writer: Some(writer),
            readers: Arc::new(Mutex::new(readers)),
            reader_permits: Arc::new(Semaphore::new(READERS)),
        })
    }

    /// Connections for reading only, beside whoever writes.
    pub fn inspect(path: &Path) -> Result<Self> {
        // Readers of a WAL take their place in its index, which is a write to the side file.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let readers = readers(path, flags)?;
        schema::check(&readers[0])?;
        Ok(Self {
            jobs: None,
            writer: None,
            readers: Arc::new(Mutex::new(readers)),
            reader_permits: Arc::new(Semaphore::new(READERS)),
        })
    }

    /// Runs `work` in a transaction of its own and answers once it is on disk.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.write_with(Flush::AtCommit, work).await
    }

    /// Runs `work` in a transaction of its own and answers once it is committed.
    pub async fn write_with<T: Send + 'static>(
        &self,
        flush: Flush,
        work: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let stopped = || StoreError::Unavailable("the writer has stopped: restart the relay".into());
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |writer| {
            // A panic rolls the transaction back, and is of whoever asked, not of this thread.
            let outcome = catch_unwind(AssertUnwindSafe(|| writer.in_transaction(flush, work)));
            // Nobody listens any more if the session ended; the write is as good without.
            let _ = answer.send(outcome);
        });
        let jobs = self.jobs.as_ref().ok_or_else(read_only)?;
        tokio::time::timeout(WAIT_MAX, jobs.send(job)).await.map_err(|_| overloaded())?.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Runs `work` on one snapshot of the database.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = tokio::time::timeout(WAIT_MAX, Arc::clone(&self.reader_permits).acquire_owned())
            .await
            .map_err(|_| overloaded())?
            .expect("the semaphore is never closed");
        let readers = Arc::clone(&self.readers);
        let outcome = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let reader = Reader::take(readers);
            let snapshot = reader.connection().unchecked_transaction()?;
            work(&snapshot)
        });
        outcome.await.map_err(|_| StoreError::Unavailable("a read was interrupted".into()))?
    }
}

impl Drop for Connections {
    /// Waits for the queue to drain, so that the file can be opened again at once.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            // Jobs do not panic out of their transactions.
            let _ = writer.join();
        }
    }
}

/// A reader that goes back to the pool even if the read panics.
struct Reader {
    connection: Option<Connection>,
    pool: Arc<Mutex<Vec<Connection>>>,
}

impl Reader {
    fn take(pool: Arc<Mutex<Vec<Connection>>>) -> Self {
        let connection = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
        assert!(connection.is_some(), "there are as many readers as permits");
        Self { connection, pool }
    }

    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("a reader keeps its connection until dropped")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).extend(self.connection.take());
    }
}

/// `lock` is held for as long as the connection is open, and then let go of by name: a program that
/// is just being started by another thread has a copy of the file until it runs.
fn write_loop(mut writer: Writer, mut queue: mpsc::Receiver<Job>, lock: File) {
    while let Some(job) = queue.blocking_recv() {
        job(&mut writer);
        writer.bound_wal();
    }
    drop(writer);
    if let Err(error) = lock.unlock() {
        tracing::warn!(%error, "the lock of the database file is held until this process ends");
    }
}

impl Writer {
    fn in_transaction<T>(&mut self, flush: Flush, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        if self.flush != Some(flush) {
            self.flush = None;
            schema::set_flush(&self.connection, flush)?;
            self.flush = Some(flush);
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let outcome = work(&transaction)?;
        transaction.commit()?;
        Ok(outcome)
    }

    /// Has the write-ahead log copied into the database, and starts it over if it has become long
    /// all the same.
    fn bound_wal(&mut self) {
        if let Err(error) = self.checkpointer.committed(&self.connection) {
            tracing::warn!(%error, "the write-ahead log could not be looked at");
        }
        let bytes = std::fs::metadata(&self.wal).map_or(0, |file| file.len());
        if bytes <= self.wal_bytes_max {
            return;
        }
        let started_over = self.checkpointer.start_over(&self.connection, WAL_WAIT).unwrap_or_else(|error| {
            tracing::warn!(%error, "the write-ahead log could not be started over");
            false
        });
        self.wal_bytes_max = if started_over { WAL_BYTES_MAX } else { bytes + WAL_RETRY_BYTES };
    }
}

fn readers(path: &Path, flags: OpenFlags) -> Result<Vec<Connection>> {
    (0..READERS)
        .map(|_| {
            let reader = Connection::open_with_flags(path, flags)?;
            schema::configure_reader(&reader)?;
            Ok(reader)
        })
        .collect()
}

fn read_only() -> StoreError {
    StoreError::Unavailable("the file was opened to look at it: stop the relay that runs on it to change it".into())
}

fn overloaded() -> StoreError {
    StoreError::Unavailable("the database does not keep up: try again later".into())
}

/// Takes `<path>.lock`. A file of its own, because closing any descriptor of the database file
/// would drop SQLite's own locks on it.
fn lock(path: &Path) -> Result<File> {
    let lock_path = lock_path(path);
    let file = private_file()
        .open(&lock_path)
        .map_err(|error| StoreError::Unavailable(format!("cannot write {}: {error}", lock_path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Unavailable(format!(
            "{} is in use by another relay: stop that one, or give this one a database of its own",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => {
            Err(StoreError::Unavailable(format!("cannot lock {}: {error}", lock_path.display())))
        }
    }
}

/// Where the lock of a database file is.
pub(in crate::store) fn lock_path(path: &Path) -> PathBuf {
    beside(path, ".lock")
}

/// The side file of a database file with this ending.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut side_file = path.as_os_str().to_owned();
    side_file.push(ending);
    side_file.into()
}

/// Makes the file, or takes others' rights to it away; SQLite gives its side files the same mode.
fn create_private(path: &Path) -> Result<()> {
    let failed = |error| StoreError::Unavailable(format!("cannot open {}: {error}", path.display()));
    let file = private_file().open(path).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    }
    drop(file);
    Ok(())
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn rows(connection: &Connection) -> Result<i64> {
        Ok(connection.query_row("SELECT count(*) FROM meta", [], |row| row.get(0))?)
    }

    #[tokio::test]
    async fn a_write_that_panics_is_undone_and_the_next_one_is_served() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let connections = Connections::open(&dir.path().join("relay.db")).expect("a fresh database");
        let before = connections.read(rows).await.expect("readable");
        let insert = "INSERT INTO meta (key, value) VALUES ('planted', x'00')";

        let panicked = connections.write(|db| -> Result<()> {
            db.execute(insert, [])?;
            panic!("planted");
        });
        AssertUnwindSafe(panicked).catch_unwind().await.expect_err("whoever asked has the panic");

        assert_eq!(connections.read(rows).await, Ok(before));
        connections.write(move |db| Ok(db.execute(insert, [])?)).await.expect("the writer goes on");
        assert_eq!(connections.read(rows).await, Ok(before + 1));
    }
}
