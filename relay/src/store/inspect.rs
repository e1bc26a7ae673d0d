//! Looks at a store without changing anything in it: for the doctor, and for who asks for the
//! relay's key.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tokio_postgres::error::SqlState;
use zeroize::Zeroizing;

use super::postgres::pool::{self, failed};
use super::postgres::schema as postgres_schema;
use super::rules::fixed;
use super::sqlite::{lock_path, schema as sqlite_schema};
use super::{Result, StoreError};

/// Schema of SQLite files that this version writes.
pub(crate) const SQLITE_SCHEMA_VERSION: &str = sqlite_schema::SCHEMA_VERSION;
/// Commits that are timed.
const COMMITS: usize = 9;

/// Schema of Postgres databases that this version writes.
pub(crate) fn postgres_schema_version() -> String {
    postgres_schema::MIGRATIONS.len().to_string()
}

/// What a SQLite file says about itself.
#[derive(Debug)]
pub(crate) struct SqliteFacts {
    pub(crate) schema_version: Option<String>,
    /// Whether commits go to a write-ahead log, as the relay's do.
    pub(crate) write_ahead: bool,
    pub(crate) auto_vacuum: i64,
    /// Whether a relay has it open.
    pub(crate) in_use: bool,
    pub(crate) bytes: u64,
}

/// Looks at a SQLite file; `None` if there is none.
pub(crate) fn sqlite(path: &Path) -> Result<Option<SqliteFacts>> {
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(None) };
    let in_use = is_locked(path);
    let connection = open_untouched(path, in_use)?;
    let version = |row: &rusqlite::Row<'_>| row.get::<_, Vec<u8>>(0);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let ours: bool =
        connection.query_row("SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'meta'", [], |row| row.get(0))?;
    if tables > 0 && !ours {
        return Err(StoreError::Corrupt("the file is another program's database: name another one".into()));
    }
    let schema_version = if ours {
        connection.query_row("SELECT value FROM meta WHERE key = 'schema_version'", [], version).optional()?
    } else {
        None
    };
    Ok(Some(SqliteFacts {
        schema_version: schema_version.map(|version| String::from_utf8_lossy(&version).into_owned()),
        write_ahead: is_write_ahead(path)?,
        auto_vacuum: connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0))?,
        in_use,
        bytes: metadata.len(),
    }))
}

/// Even a reader makes side files, which would belong to whoever asks and be in the relay's way:
/// so where no relay has made them already, the file is read as if nothing else existed.
fn open_untouched(path: &Path, in_use: bool) -> Result<Connection> {
    if in_use {
        return Ok(Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?);
    }
    let path = path.to_str().ok_or_else(|| StoreError::Unusable("the file's name is not UTF-8".into()))?;
    let escaped = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags)?)
}

/// Bytes 18 and 19 of the file are its versions for writing and reading: 2 is the write-ahead log
/// (<https://www.sqlite.org/fileformat2.html#file_format_version_numbers>).
fn is_write_ahead(path: &Path) -> Result<bool> {
    let mut header = [0; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Ok(()) => Ok(header[18..] == [2, 2]),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(StoreError::Unavailable(format!("cannot read the file: {error}"))),
    }
}

fn is_locked(path: &Path) -> bool {
    // No lock file, no relay; one that cannot be opened is somebody's.
    let Ok(lock) = File::open(lock_path(path)) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// What a Postgres server says about itself and the database.
#[derive(Debug)]
pub(crate) struct PostgresFacts {
    pub(crate) version: String,
    /// `150004` for 15.4.
    pub(crate) version_number: i32,
    pub(crate) in_recovery: bool,
    pub(crate) read_only: bool,
    /// The settings that durability rests on, and whether each is on.
    pub(crate) durable_settings: Vec<(String, bool)>,
    pub(crate) schema_version: Option<String>,
    pub(crate) connections_used: u64,
    pub(crate) connections_max: u64,
    /// Since 1970.
    pub(crate) clock: Duration,
    pub(crate) bytes: u64,
    /// What a commit takes, at the median; `None` where there is nothing to write to yet.
    pub(crate) commit: Option<Duration>,
}

/// Looks at a database as a relay's connection finds it. Commits a row as it was, to time it.
pub(crate) async fn postgres(url: &str) -> Result<PostgresFacts> {
    let pool = pool::pool(url, 1)?;
    let mut db = pool::connection(&pool).await?;
    let row = db
        .query_one(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int,
                    pg_is_in_recovery(), current_setting('transaction_read_only')::bool,
                    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
                    current_setting('max_connections')::bigint,
                    (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
                    pg_database_size(current_database())",
            &[],
        )
        .await
        .map_err(failed)?;
    let number = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
    let settings = db
        .query("SELECT name, current_setting(name) FROM unnest($1::text[]) AS name", &[&DURABLE_SETTINGS.as_slice()])
        .await
        .map_err(failed)?;
    let mut facts = PostgresFacts {
        version: row.get(0),
        version_number: row.get(1),
        in_recovery: row.get(2),
        read_only: row.get(3),
        durable_settings: settings.iter().map(|row| (row.get(0), row.get::<_, &str>(1) == "on")).collect(),
        schema_version: None,
        connections_used: number(4),
        connections_max: number(5),
        clock: Duration::from_millis(number(6)),
        bytes: number(7),
        commit: None,
    };
    let version = meta(&db, "schema_version").await?;
    facts.schema_version = version.map(|version| String::from_utf8_lossy(&version).into_owned());
    if facts.schema_version.is_some() && !facts.in_recovery {
        facts.commit = Some(commit_time(&mut db).await?);
    }
    Ok(facts)
}

const DURABLE_SETTINGS: [&str; 3] = ["fsync", "full_page_writes", "synchronous_commit"];

async fn commit_time(db: &mut deadpool_postgres::Client) -> Result<Duration> {
    let mut times = Vec::with_capacity(COMMITS);
    for _ in 0..COMMITS {
        let began = Instant::now();
        let touched = "UPDATE meta SET value = value WHERE key = 'schema_version'";
        db.execute(touched, &[]).await.map_err(failed)?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[COMMITS / 2])
}

/// The relay's Noise secret in a database; `None` if no relay made one there.
pub(crate) async fn postgres_noise_secret(url: &str) -> Result<Option<Zeroizing<[u8; 32]>>> {
    let pool = pool::pool(url, 1)?;
    let secret = meta(&pool::connection(&pool).await?, "noise_secret").await?;
    secret.map(|secret| fixed(&Zeroizing::new(secret)).map(Zeroizing::new)).transpose()
}

async fn meta(db: &deadpool_postgres::Client, key: &str) -> Result<Option<Vec<u8>>> {
    match db.query_opt("SELECT value FROM meta WHERE key = $1", &[&key]).await {
        Ok(row) => Ok(row.map(|row| row.get(0))),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}
