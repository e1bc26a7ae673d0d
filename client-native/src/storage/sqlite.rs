//! The key-value table in SQLite: one file, one table, one transaction for each batch.
//!
//! A file at the final path is always complete: a new database is built under another name and
//! renamed. So whatever is found there and does not open is damage, and is reported, never
//! replaced. Every commit is on disk when it returns (`synchronous=FULL`, checked at open).

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};
use zerok_sync_core::io::{Batch, Change, Row, StorageFault};

use super::error::StorageError;
use crate::home::{create_private_file, restrict_to_owner, sync_directory};

/// `0kSy`: tells our files from other SQLite databases.
const APPLICATION_ID: i32 = 0x306b_5379;
/// Format of the table below, raised when it changes.
const FORMAT: i32 = 1;
/// Twice SQLite's default: an entry of a kilobyte fits into a page, and the large rows of a catch-up
/// are fewer pages to copy, to checksum and to write.
const PAGE_BYTES: u32 = 8 * 1024;
/// Free pages from which on they are given back to the file system (256 KiB) …
const FREE_PAGES_MAX: i64 = 32;
/// … and how many at a time (4 MiB): each is a page written elsewhere, and the next batch waits.
const GIVE_BACK_PAGES: u32 = 512;
/// How long to wait for another program that reads the file (a backup, a shell).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// `PRAGMA synchronous` as a number: FULL.
const SYNCHRONOUS_FULL: i64 = 2;

/// An open database.
pub(super) struct Database {
    connection: Connection,
}

/// The table that holds the group's rows.
const TABLE: &str = "kv";
/// The table with the rows of the group that this device was in before.
const FORMER: &str = "former";

/// A second connection to an open database, which sees every batch that was applied before it reads
/// and waits for none.
pub(super) struct Reader {
    connection: Connection,
    table: &'static str,
}

impl Reader {
    /// Reads beside the [`Database`] that has opened and checked what is at `path`; to be dropped
    /// before it, so that the last one to close leaves a single file.
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        let sql_error = |error| StorageError::from_sqlite(path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(sql_error)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(sql_error)?;
        Ok(Self { connection, table: TABLE })
    }

    /// As [`Database::scan`].
    pub(super) fn scan(&self, from: &[u8], to: &[u8], bytes_max: usize) -> Result<Vec<Row>, StorageFault> {
        scan(&self.connection, self.table, from, to, bytes_max).map_err(fault)
    }
}

/// One state of a database, that stays while others write.
pub(crate) struct Snapshot {
    reader: Reader,
}

impl Snapshot {
    /// Of the open database at `path`.
    pub(crate) fn take(path: &Path) -> Result<Self, StorageError> {
        let reader = Reader::open(path)?;
        // It stands from the first read on.
        reader.connection.execute_batch("BEGIN").map_err(|error| StorageError::from_sqlite(path, error))?;
        Ok(Self { reader })
    }

    /// Of the rows of the group that this device was in before, in the open database at `path`.
    pub(crate) fn of_former(path: &Path) -> Result<Self, StorageError> {
        let mut snapshot = Self::take(path)?;
        snapshot.reader.table = FORMER;
        Ok(snapshot)
    }

    /// As [`Database::scan`].
    pub(crate) fn scan(&self, from: &[u8], to: &[u8], bytes_max: usize) -> Result<Vec<Row>, StorageFault> {
        self.reader.scan(from, to, bytes_max)
    }
}

impl Database {
    /// Builds an empty database beside `path` and moves it there.
    pub(super) fn create(path: &Path) -> Result<Self, StorageError> {
        if write_ahead_log(path).exists() {
            return Err(StorageError::Damaged {
                path: path.to_owned(),
                detail: "the database file is gone, but its -wal file is still there".into(),
            });
        }
        let unfinished = path.with_extension("db.new");
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StorageError::io(&unfinished, error));
            }
            _ => {}
        }
        create_private_file(&unfinished, &[]).map_err(|error| StorageError::io(&unfinished, error))?;
        let sql_error = |error| StorageError::from_sqlite(&unfinished, error);
        let connection = Connection::open(&unfinished).map_err(sql_error)?;
        connection
            .execute_batch(&format!(
                "PRAGMA page_size = {PAGE_BYTES};
                 PRAGMA auto_vacuum = INCREMENTAL;
                 PRAGMA synchronous = FULL;
                 BEGIN;
                 PRAGMA application_id = {APPLICATION_ID};
                 PRAGMA user_version = {FORMAT};
                 CREATE TABLE kv (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
                 COMMIT;"
            ))
            .map_err(sql_error)?;
        connection.close().map_err(|(_, error)| sql_error(error))?;
        std::fs::rename(&unfinished, path).map_err(|error| StorageError::io(path, error))?;
        sync_directory(path).map_err(|error| StorageError::io(path, error))?;
        Self::open(path)
    }

    /// Opens and checks what is at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        let damaged = |detail: String| StorageError::Damaged { path: path.to_owned(), detail };
        let sql_error = |error| StorageError::from_sqlite(path, error);
        let length = std::fs::metadata(path).map_err(|error| StorageError::io(path, error))?.len();
        if length == 0 {
            return Err(damaged("the file is empty".into()));
        }
        restrict_to_owner(path).map_err(|error| StorageError::io(path, error))?;

        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(sql_error)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(sql_error)?;

        let application_id: i32 = pragma(&connection, "application_id").map_err(sql_error)?;
        if application_id != APPLICATION_ID {
            return Err(damaged("it is a database of another program".into()));
        }
        let format: i32 = pragma(&connection, "user_version").map_err(sql_error)?;
        if format > FORMAT {
            return Err(StorageError::Newer { path: path.to_owned(), found: format, known: FORMAT });
        }
        let verdict: String = pragma(&connection, "quick_check(1)").map_err(sql_error)?;
        if verdict != "ok" {
            return Err(damaged(verdict));
        }

        let journal: String = pragma(&connection, "journal_mode = WAL").map_err(sql_error)?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON;").map_err(sql_error)?;
        let synchronous: i64 = pragma(&connection, "synchronous").map_err(sql_error)?;
        if journal != "wal" || synchronous != SYNCHRONOUS_FULL {
            return Err(StorageError::NotDurable { path: path.to_owned() });
        }
        Ok(Self { connection })
    }

    /// Applies a batch whole or not at all; on disk when it returns.
    pub(super) fn apply(&mut self, batch: &Batch) -> Result<(), StorageFault> {
        self.try_apply(batch).map_err(fault)
    }

    fn try_apply(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        put_all(&transaction, batch)?;
        transaction.commit()?;
        if batch.changes.iter().any(|change| matches!(change, Change::Delete { .. })) {
            // The batch is stored: what cannot be given back now is with the next one.
            let _ = self.give_back();
        }
        Ok(())
    }

    /// Makes the file smaller by what is free in it, in steps; it shrinks with the next checkpoint.
    fn give_back(&self) -> rusqlite::Result<()> {
        let mut count = self.connection.prepare_cached("PRAGMA freelist_count")?;
        let free: i64 = count.query_row([], |row| row.get(0))?;
        if free > FREE_PAGES_MAX {
            let mut vacuum = self.connection.prepare(&format!("PRAGMA incremental_vacuum({GIVE_BACK_PAGES})"))?;
            // One page for each step of the statement.
            let mut pages = vacuum.query([])?;
            while pages.next()?.is_some() {}
        }
        Ok(())
    }

    /// Puts this batch in the place of everything, which is kept beside it. What was kept so before is
    /// gone. All of that or nothing.
    pub(super) fn replace(&mut self, batch: &Batch) -> Result<(), StorageFault> {
        self.try_replace(batch).map_err(fault)
    }

    fn try_replace(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(&format!(
            "DROP TABLE IF EXISTS {FORMER};
             ALTER TABLE {TABLE} RENAME TO {FORMER};
             CREATE TABLE {TABLE} (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
        ))?;
        put_all(&transaction, batch)?;
        transaction.commit()
    }

    /// Rows with `from <= key < to` in key order, up to and including the first one with which the
    /// values reach `bytes_max`.
    pub(super) fn scan(&self, from: &[u8], to: &[u8], bytes_max: usize) -> Result<Vec<Row>, StorageFault> {
        scan(&self.connection, TABLE, from, to, bytes_max).map_err(fault)
    }

    /// Whether nothing was ever stored.
    pub(super) fn is_empty(&self) -> Result<bool, StorageFault> {
        self.connection
            .query_row("SELECT 1 FROM kv LIMIT 1", [], |_| Ok(()))
            .optional()
            .map(|row| row.is_none())
            .map_err(fault)
    }

    /// Leaves room for so many pages only: how a test fills the disk.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        let limit: i64 = pragma(&self.connection, &format!("max_page_count = {pages}")).expect("a pragma of SQLite");
        assert!(limit > 0);
    }
}

fn put_all(transaction: &rusqlite::Transaction<'_>, batch: &Batch) -> rusqlite::Result<()> {
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO kv (key, value) VALUES (?1, ?2)")?;
    let mut delete = transaction.prepare_cached("DELETE FROM kv WHERE key = ?1")?;
    for change in &batch.changes {
        match change {
            Change::Put(row) => put.execute(params![row.key, row.value])?,
            Change::Delete { key } => delete.execute(params![key])?,
        };
    }
    Ok(())
}

fn scan(connection: &Connection, table: &str, from: &[u8], to: &[u8], bytes_max: usize) -> rusqlite::Result<Vec<Row>> {
    let query = format!("SELECT key, value FROM {table} WHERE key >= ?1 AND key < ?2 ORDER BY key");
    let mut statement = connection.prepare_cached(&query)?;
    let mut found = statement.query(params![from, to])?;
    let mut rows = Vec::new();
    let mut bytes = 0_usize;
    while let Some(row) = found.next()? {
        let row = Row { key: row.get(0)?, value: row.get(1)? };
        bytes = bytes.saturating_add(row.value.len());
        rows.push(row);
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(rows)
}

fn write_ahead_log(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

fn fault(error: rusqlite::Error) -> StorageFault {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StorageFault::Full(error.to_string()),
        _ => StorageFault::Failed(error.to_string()),
    }
}
