//! Reads every log out of a database without the relay: what is really there.

use anyhow::{Context, Result};
use rusqlite::OpenFlags;
use zerok_sync::BlobId;
use zerok_sync_protocol::envelope::blob_id;

use super::trace::{StoredLog, StoredRow};
use crate::processes::Deployment;
use crate::processes::deployment::blocking;

const HEADS: &str = "SELECT group_id, head FROM groups ORDER BY group_id";
const ROWS: &str = "SELECT group_id, cursor, blob_id, envelope FROM entries ORDER BY group_id, cursor";

/// Every log of a deployment. The database must be up; on SQLite the relay may run.
///
/// # Errors
/// If the database cannot be read.
pub async fn stored_logs(deployment: &Deployment) -> Result<Vec<StoredLog>> {
    match (deployment.sqlite_file(), deployment.database()) {
        (Some(file), _) => blocking(move || from_sqlite(&file)).await,
        (None, Some(database)) => from_postgres(database.url()).await,
        (None, None) => anyhow::bail!("a deployment without a store"),
    }
}

/// Gathers logs from rows that come in order.
struct Gathering {
    logs: Vec<(Vec<u8>, StoredLog)>,
    at: usize,
}

impl Gathering {
    fn new(heads: Vec<(Vec<u8>, i64)>) -> Self {
        let logs = heads.into_iter().map(|(group, head)| (group, StoredLog { head: head as u64, rows: Vec::new() }));
        Self { logs: logs.collect(), at: 0 }
    }

    fn row(&mut self, group: &[u8], cursor: i64, id: &[u8], envelope: &[u8]) -> Result<()> {
        while self.logs.get(self.at).is_some_and(|(known, _)| known != group) {
            self.at += 1;
        }
        let (_, log) = self.logs.get_mut(self.at).context("an entry of no group")?;
        let id = BlobId::from_slice(id).context("a blob id of the wrong length")?;
        log.rows.push(StoredRow { cursor: cursor as u64, blob_id: id, intact: blob_id(envelope) == id });
        Ok(())
    }

    fn logs(self) -> Vec<StoredLog> {
        self.logs.into_iter().map(|(_, log)| log).collect()
    }
}

fn from_sqlite(file: &std::path::Path) -> Result<Vec<StoredLog>> {
    let database = rusqlite::Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    database.busy_timeout(std::time::Duration::from_secs(20))?;
    let snapshot = database.unchecked_transaction()?;
    let heads = snapshot
        .prepare(HEADS)?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut gathering = Gathering::new(heads);
    let mut statement = snapshot.prepare(ROWS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (group, id, envelope) =
            (row.get_ref(0)?.as_blob()?, row.get_ref(2)?.as_blob()?, row.get_ref(3)?.as_blob()?);
        gathering.row(group, row.get(1)?, id, envelope)?;
    }
    Ok(gathering.logs())
}

async fn from_postgres(url: &str) -> Result<Vec<StoredLog>> {
    use futures_util::TryStreamExt;

    let (mut client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let snapshot = client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let heads = snapshot.query(HEADS, &[]).await?;
    let mut gathering = Gathering::new(heads.iter().map(|row| (row.get(0), row.get(1))).collect());
    let none: [&(dyn tokio_postgres::types::ToSql + Sync); 0] = [];
    {
        let rows = snapshot.query_raw(ROWS, none).await?;
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.try_next().await? {
            gathering.row(row.get(0), row.get(1), row.get(2), row.get(3))?;
        }
    }
    snapshot.commit().await?;
    drop(client);
    connection.await??;
    Ok(gathering.logs())
}
