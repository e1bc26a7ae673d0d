//! The SQLite schema, and the settings that the promises of [`crate::store`] rest on.
//!
//! Every key starts with the group; the exceptions are what is looked up before a group is known:
//! `meta`, `names`, `mailboxes` with their messages, and the index from a device to its logs.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::checkpoint::Log;
use super::connections::Flush;
use crate::store::{Result, StoreError};

/// Only an operator's own tools contend for the file; they get this long.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// On macOS only F_FULLFSYNC reaches the disk; elsewhere these two change nothing.
const FULL_FSYNC: &str = "PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON";
/// Pages that the writer keeps. The default of 2 MiB holds the right edges of a few dozen logs: with
/// more, pages that were just written are read again.
const WRITER_CACHE_KIB: u32 = 8 * 1024;
/// What SQLite calls `auto_vacuum = INCREMENTAL`: pages that became free can be given back.
const INCREMENTAL: i64 = 2;
/// Version of the tables below. Another version's file is refused, never guessed at.
pub(in crate::store) const SCHEMA_VERSION: &str = "1";

const TABLES: &str = "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Every name a log ever had; the one of groups.auth_pub is current.
CREATE TABLE names (
    name     BLOB PRIMARY KEY,
    group_id BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX names_by_group ON names (group_id);

-- floor_blob_id is the blob id at floor - 1, kept so that a device standing there can go on.
CREATE TABLE groups (
    group_id       BLOB PRIMARY KEY,
    auth_pub       BLOB NOT NULL,
    auth_gen       INTEGER NOT NULL,
    timeline       BLOB NOT NULL,
    head           INTEGER NOT NULL,
    head_blob_id   BLOB NOT NULL,
    floor          INTEGER NOT NULL,
    floor_blob_id  BLOB NOT NULL,
    bytes          INTEGER NOT NULL,
    restricted     INTEGER NOT NULL,
    -- How often devices may have been taken off the list.
    removals       INTEGER NOT NULL DEFAULT 0,
    created_at     INTEGER NOT NULL,
    -- Retention. Rows below kept_from were removed, kept_blob_id is the blob id below it; what is
    -- below purge_below goes from purge_at on. A log with a delete_at is not served.
    kept_from      INTEGER NOT NULL DEFAULT 1,
    kept_blob_id   BLOB NOT NULL DEFAULT (zeroblob(32)),
    raised_at      INTEGER NOT NULL DEFAULT 0,
    purge_below    INTEGER NOT NULL DEFAULT 1,
    purge_at       INTEGER NOT NULL DEFAULT 0,
    active_at      INTEGER NOT NULL DEFAULT 0,
    delete_at      INTEGER NOT NULL DEFAULT 0,
    removing       INTEGER NOT NULL DEFAULT 0,
    epoch_envelope BLOB NOT NULL
) STRICT;

CREATE TABLE entries (
    group_id    BLOB NOT NULL,
    cursor      INTEGER NOT NULL,
    blob_id     BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    envelope    BLOB NOT NULL,
    PRIMARY KEY (group_id, cursor)
) STRICT;
CREATE UNIQUE INDEX entries_by_blob_id ON entries (group_id, blob_id);

-- The allow-list.
CREATE TABLE devices (
    group_id  BLOB NOT NULL,
    noise_key BLOB NOT NULL,
    slot      BLOB NOT NULL,
    acked     INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    PRIMARY KEY (group_id, noise_key)
) STRICT;
CREATE INDEX devices_by_noise_key ON devices (noise_key);

CREATE TABLE mailboxes (
    mailbox_id BLOB PRIMARY KEY,
    group_id   BLOB NOT NULL,
    salt       BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    joined     INTEGER NOT NULL,
    closed     INTEGER NOT NULL
) STRICT;
CREATE TABLE mailbox_messages (
    mailbox_id  BLOB NOT NULL,
    number      INTEGER NOT NULL,
    from_joiner INTEGER NOT NULL,
    data        BLOB NOT NULL,
    PRIMARY KEY (mailbox_id, number)
) STRICT;
";

/// Makes the tables in an empty file, or checks that they are of this version.
pub(super) fn prepare(connection: &mut Connection) -> Result<()> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        // Takes effect before the first table only; eviction will want to give space back.
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        let transaction = connection.transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction
            .execute("INSERT INTO meta (key, value) VALUES ('schema_version', CAST(?1 AS BLOB))", [SCHEMA_VERSION])?;
        transaction.commit()?;
    }
    check(connection)
}

/// Whether the tables are of this version.
pub(super) fn check(connection: &Connection) -> Result<()> {
    let has_meta: bool =
        connection.query_row("SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'meta'", [], |row| row.get(0))?;
    if !has_meta {
        return Err(StoreError::Corrupt("the file is another program's database: name another one".into()));
    }
    let version: Option<Vec<u8>> =
        connection.query_row("SELECT value FROM meta WHERE key = 'schema_version'", [], |row| row.get(0)).optional()?;
    match version {
        Some(version) if version == SCHEMA_VERSION.as_bytes() => Ok(()),
        Some(version) => Err(StoreError::Corrupt(format!(
            "the file has schema version {}, this relay knows {SCHEMA_VERSION}: run the relay version that wrote it",
            String::from_utf8_lossy(&version)
        ))),
        None => Err(StoreError::Corrupt("the file has no schema version: name another one or restore a backup".into())),
    }
}

/// Settings of the writing connection. Each is read back: SQLite ignores what it cannot do.
pub(super) fn configure_writer(connection: &Connection) -> Result<()> {
    connection.execute_batch(FULL_FSYNC)?;
    // Done by another connection, so that no commit waits for it.
    connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
    connection.execute_batch(&format!("PRAGMA cache_size = -{WRITER_CACHE_KIB}"))?;
    let journal: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if !journal.eq_ignore_ascii_case("wal") {
        return Err(unsettled("journal_mode", "WAL", "put the file on a local disk"));
    }
    set_flush(connection, Flush::AtCommit)?;
    let auto_vacuum: i64 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0))?;
    if auto_vacuum != INCREMENTAL {
        return Err(unsettled("auto_vacuum", "INCREMENTAL", "back the file up and restore it into a new one"));
    }
    configure(connection)?;
    // What a killed relay had written but not flushed is in the log again. It reaches the disk
    // here, before an entry in it can be called stored to who pushes it once more.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

/// Settings of the connection that copies the write-ahead log into the database.
pub(super) fn configure_checkpointer(connection: &Connection) -> Result<()> {
    connection.execute_batch(FULL_FSYNC)?;
    set_flush(connection, Flush::AtCommit)?;
    configure(connection)
}

/// How far the write-ahead log has come.
pub(super) fn log(connection: &Connection) -> Result<Log> {
    let mut statement = connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
    let count = |row: &rusqlite::Row<'_>, column| row.get(column).map(|pages: i64| u64::try_from(pages).unwrap_or(0));
    Ok(statement.query_row([], |row| Ok(Log { pages: count(row, 1)?, copied: count(row, 2)? }))?)
}

/// Copies of the write-ahead log into the database what no reader needs there. Waits for nobody.
pub(super) fn copy_log(connection: &Connection) -> Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    Ok(())
}

/// Copies the write-ahead log into the database and empties it, unless readers need it for longer
/// than `wait`; whether it did.
pub(super) fn start_wal_over(connection: &Connection, wait: Duration) -> Result<bool> {
    connection.busy_timeout(wait)?;
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    connection.busy_timeout(BUSY_WAIT)?;
    Ok(!busy?)
}

/// Sets when the commits of a writing connection are flushed. In WAL mode a flush takes along all
/// that was committed before it.
pub(super) fn set_flush(connection: &Connection, flush: Flush) -> Result<()> {
    let (name, level) = match flush {
        Flush::AtCommit => ("FULL", 2_i64),
        Flush::WithTheNext => ("NORMAL", 1),
    };
    connection.execute_batch(match flush {
        Flush::AtCommit => "PRAGMA synchronous = FULL",
        Flush::WithTheNext => "PRAGMA synchronous = NORMAL",
    })?;
    let set: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
    if set == level { Ok(()) } else { Err(unsettled("synchronous", name, "use the SQLite this relay is built with")) }
}

/// Settings of a reading connection.
pub(super) fn configure_reader(connection: &Connection) -> Result<()> {
    connection.execute_batch("PRAGMA query_only = ON")?;
    configure(connection)
}

fn configure(connection: &Connection) -> Result<()> {
    connection.busy_timeout(BUSY_WAIT)?;
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn unsettled(pragma: &str, value: &str, cure: &str) -> StoreError {
    StoreError::Unavailable(format!("SQLite refused {pragma} = {value}, which the relay rests on: {cure}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_commit_flushes_what_it_needs_to_be_read_again_and_not_the_time_of_the_last_change() {
        // By `.cargo/config.toml`, for whatever is built in this workspace.
        let flags = option_env!("LIBSQLITE3_FLAGS").unwrap_or_default();
        assert!(flags.contains("-DHAVE_FDATASYNC=1"), "SQLite is built with {flags:?}");
    }
}
