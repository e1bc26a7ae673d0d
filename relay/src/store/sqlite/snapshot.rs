//! Archives of a SQLite file: read from one snapshot beside the writer, written in one transaction.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, Transaction, params_from_iter};
use tokio::sync::mpsc;

use super::{Sqlite, retention};
use crate::store::snapshot::{Columns, Table, Value};
use crate::store::{Import, Record, Result, Snapshot, StoreError, Timelines};

#[async_trait]
impl Snapshot for Sqlite {
    async fn export(&self, records: mpsc::Sender<Record>) -> Result<()> {
        self.connections.read(move |snapshot| export(snapshot, &records)).await
    }

    async fn import(&self, records: mpsc::Receiver<Record>, replace: bool, timelines: Timelines) -> Result<Import> {
        self.connections
            .write(move |transaction| {
                let import = import(transaction, records, replace)?;
                if import == Import::Done && timelines == Timelines::Fresh {
                    retention::declare_restore(transaction)?;
                }
                Ok(import)
            })
            .await
    }
}

fn export(db: &Connection, records: &mpsc::Sender<Record>) -> Result<()> {
    for table in Table::ALL {
        let mut statement = db.prepare(&table.select())?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let gone = |_| StoreError::Unavailable("whoever took the records has stopped".into());
            records.blocking_send(table.record(row)?).map_err(gone)?;
        }
    }
    Ok(())
}

impl Columns for Row<'_> {
    fn bytes(&self, column: usize) -> Result<Bytes> {
        Ok(Bytes::from(self.get::<_, Vec<u8>>(column)?))
    }

    fn number(&self, column: usize) -> Result<i64> {
        Ok(self.get(column)?)
    }

    fn flag(&self, column: usize) -> Result<bool> {
        Ok(self.get(column)?)
    }
}

fn import(db: &Transaction<'_>, mut records: mpsc::Receiver<Record>, replace: bool) -> Result<Import> {
    if replace {
        db.execute_batch(
            "DELETE FROM entries; DELETE FROM devices; DELETE FROM names; DELETE FROM groups;
             DELETE FROM mailboxes; DELETE FROM mailbox_messages;",
        )?;
    } else if db.query_row("SELECT EXISTS (SELECT 1 FROM groups)", [], |row| row.get(0))? {
        return Ok(Import::NotEmpty);
    }
    while let Some(record) = records.blocking_recv() {
        match (record.row(), &record) {
            (Some((table, values)), _) => {
                let places = vec!["?"; values.len()].join(", ");
                let insert = format!("INSERT INTO {} ({}) VALUES ({places})", table.name(), table.list());
                db.prepare_cached(&insert)?.execute(params_from_iter(values))?;
            }
            (None, Record::End { .. }) => return Ok(Import::Done),
            (None, _) => break,
        }
    }
    // What is committed when this returns is the empty transaction begun here.
    db.execute_batch("ROLLBACK; BEGIN IMMEDIATE")?;
    Ok(Import::Incomplete)
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Self::Number(number) => ToSqlOutput::from(*number),
            Self::Flag(flag) => ToSqlOutput::from(*flag),
        })
    }
}
