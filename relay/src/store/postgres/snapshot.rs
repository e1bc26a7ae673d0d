//! Archives of a Postgres database: one `REPEATABLE READ` transaction streams the rows out, one
//! transaction copies them in.

use std::error::Error;
use std::pin::pin;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use deadpool_postgres::Transaction;
use futures_util::TryStreamExt;
use tokio::sync::mpsc;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{IsolationLevel, Row};

use super::pool::failed;
use super::{Postgres, read, retention};
use crate::store::snapshot::{Columns, Kind, Table, Value};
use crate::store::{Import, Record, Result, Snapshot, StoreError, Timelines};

/// A whole database takes as long as it takes.
const NO_TIMEOUTS: &str = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";

#[async_trait]
impl Snapshot for Postgres {
    async fn export(&self, records: mpsc::Sender<Record>) -> Result<()> {
        let mut client = self.connection().await?;
        let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let db = snapshot.start().await.map_err(failed)?;
        db.batch_execute(NO_TIMEOUTS).await.map_err(failed)?;
        for table in Table::ALL {
            export(&db, &records, table).await?;
        }
        db.commit().await.map_err(failed)
    }

    async fn import(&self, mut records: mpsc::Receiver<Record>, replace: bool, timelines: Timelines) -> Result<Import> {
        let mut client = self.connection().await?;
        let db = client.transaction().await.map_err(failed)?;
        db.batch_execute(NO_TIMEOUTS).await.map_err(failed)?;
        if replace {
            let tables = "TRUNCATE entries, devices, names, groups, mailboxes, mailbox_messages";
            db.batch_execute(tables).await.map_err(failed)?;
        } else if db.query_one("SELECT EXISTS (SELECT 1 FROM groups)", &[]).await.map_err(failed)?.get(0) {
            return Ok(Import::NotEmpty);
        }
        let mut next = records.recv().await;
        for table in Table::ALL {
            next = import(&db, table, next, &mut records).await?;
        }
        let Some(Record::End { .. }) = next else { return Ok(Import::Incomplete) };
        if timelines == Timelines::Fresh {
            retention::declare_restore(&db).await?;
        }
        // Without statistics the first minutes' queries might read whole tables.
        db.batch_execute("ANALYZE groups, names, devices, entries").await.map_err(failed)?;
        db.commit().await.map_err(failed)?;
        Ok(Import::Done)
    }
}

/// Streams a table: rows are read off the connection as fast as they are taken, and no faster.
async fn export(db: &Transaction<'_>, records: &mpsc::Sender<Record>, table: Table) -> Result<()> {
    let nothing: [&(dyn ToSql + Sync); 0] = [];
    let mut rows = pin!(db.query_raw(&table.select(), nothing).await.map_err(failed)?);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let gone = |_| StoreError::Unavailable("whoever took the records has stopped".into());
        records.send(table.record(&row)?).await.map_err(gone)?;
    }
    Ok(())
}

impl Columns for Row {
    fn bytes(&self, column: usize) -> Result<Bytes> {
        Ok(read::bytes(self, column))
    }

    fn number(&self, column: usize) -> Result<i64> {
        Ok(self.get(column))
    }

    fn flag(&self, column: usize) -> Result<bool> {
        Ok(self.get(column))
    }
}

/// Copies in the rows of one table, from `next` on; the first record that is none of them.
async fn import(
    db: &Transaction<'_>,
    table: Table,
    mut next: Option<Record>,
    records: &mut mpsc::Receiver<Record>,
) -> Result<Option<Record>> {
    let sql = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", table.name(), table.list());
    let sink = db.copy_in::<_, Bytes>(&sql).await.map_err(failed)?;
    let types: Vec<Type> = table.columns().iter().map(|(_, kind)| type_of(*kind)).collect();
    let mut copy = pin!(BinaryCopyInWriter::new(sink, &types));
    while let Some((of, values)) = next.as_ref().and_then(Record::row)
        && of == table
    {
        copy.as_mut().write_raw(values).await.map_err(failed)?;
        next = records.recv().await;
    }
    copy.finish().await.map_err(failed)?;
    Ok(next)
}

fn type_of(kind: Kind) -> Type {
    match kind {
        Kind::Bytes => Type::BYTEA,
        Kind::Number => Type::INT8,
        Kind::Flag => Type::BOOL,
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Bytes(bytes) => bytes.to_sql(of, out),
            Self::Number(number) => number.to_sql(of, out),
            Self::Flag(flag) => flag.to_sql(of, out),
        }
    }

    fn accepts(of: &Type) -> bool {
        [Kind::Bytes, Kind::Number, Kind::Flag].into_iter().any(|kind| type_of(kind) == *of)
    }

    to_sql_checked!();
}
