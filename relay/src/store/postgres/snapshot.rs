//! Archives of a Postgres database: one `REPEATABLE READ` transaction streams the rows out, one
//! transaction copies them in.

use std::pin::pin;

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::Transaction;
use futures_util::TryStreamExt;
use tokio::sync::mpsc;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{IsolationLevel, Row};
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, NoisePublicKey, Timeline};

use super::pool::failed;
use super::read::bytes;
use super::{Postgres, retention};
use crate::store::rules::{fixed, from_db, to_db};
use crate::store::snapshot::{DEVICE_COLUMNS, ENTRY_COLUMNS, GROUP_COLUMNS, NAME_COLUMNS, select};
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
        export(&db, &records, GROUP_COLUMNS, "groups", group).await?;
        export(&db, &records, NAME_COLUMNS, "names", name).await?;
        export(&db, &records, DEVICE_COLUMNS, "devices", device).await?;
        export(&db, &records, ENTRY_COLUMNS, "entries", entry).await?;
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
        let mut tables = Tables { db: &db, next: records.recv().await, records: &mut records };
        tables.groups().await?;
        tables.names().await?;
        tables.devices().await?;
        tables.entries().await?;
        let Some(Record::End { .. }) = tables.next else { return Ok(Import::Incomplete) };
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
async fn export(
    db: &Transaction<'_>,
    records: &mpsc::Sender<Record>,
    columns: &str,
    table: &str,
    record: fn(&Row) -> Result<Record>,
) -> Result<()> {
    let nothing: [&(dyn ToSql + Sync); 0] = [];
    let mut rows = pin!(db.query_raw(&select(columns, table), nothing).await.map_err(failed)?);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let gone = |_| StoreError::Unavailable("whoever took the records has stopped".into());
        records.send(record(&row)?).await.map_err(gone)?;
    }
    Ok(())
}

fn group(row: &Row) -> Result<Record> {
    Ok(Record::Group {
        group: LogName(fixed(row.get(0))?),
        auth_public: AuthPublicKey(fixed(row.get(1))?),
        auth_gen: from_db(row.get(2))?,
        timeline: Timeline(fixed(row.get(3))?),
        head: from_db(row.get(4))?,
        head_blob_id: BlobId(fixed(row.get(5))?),
        floor: from_db(row.get(6))?,
        floor_blob_id: BlobId(fixed(row.get(7))?),
        bytes: from_db(row.get(8))?,
        restricted: row.get(9),
        created_at: from_db(row.get(10))?,
        kept_from: from_db(row.get(11))?,
        kept_blob_id: BlobId(fixed(row.get(12))?),
        raised_at: from_db(row.get(13))?,
        purge_below: from_db(row.get(14))?,
        purge_at: from_db(row.get(15))?,
        active_at: from_db(row.get(16))?,
        delete_at: from_db(row.get(17))?,
        epoch_envelope: bytes(row, 18),
    })
}

fn name(row: &Row) -> Result<Record> {
    Ok(Record::Name { name: LogName(fixed(row.get(0))?), group: LogName(fixed(row.get(1))?) })
}

fn device(row: &Row) -> Result<Record> {
    Ok(Record::Device {
        group: LogName(fixed(row.get(0))?),
        noise_key: NoisePublicKey(fixed(row.get(1))?),
        slot: bytes(row, 2),
        acked: from_db(row.get(3))?,
        last_seen: from_db(row.get(4))?,
    })
}

fn entry(row: &Row) -> Result<Record> {
    Ok(Record::Entry {
        group: LogName(fixed(row.get(0))?),
        cursor: from_db(row.get(1))?,
        blob_id: bytes(row, 2),
        received_at: from_db(row.get(3))?,
        envelope: bytes(row, 4),
    })
}

/// Copies records in, a table at a time: each method takes those of its table that come next.
struct Tables<'a> {
    db: &'a Transaction<'a>,
    next: Option<Record>,
    records: &'a mut mpsc::Receiver<Record>,
}

impl Tables<'_> {
    async fn groups(&mut self) -> Result<()> {
        const TYPES: &[Type] = &[
            Type::BYTEA,
            Type::BYTEA,
            Type::INT8,
            Type::BYTEA,
            Type::INT8,
            Type::BYTEA,
            Type::INT8,
            Type::BYTEA,
            Type::INT8,
            Type::BOOL,
            Type::INT8,
            Type::INT8,
            Type::BYTEA,
            Type::INT8,
            Type::INT8,
            Type::INT8,
            Type::INT8,
            Type::INT8,
            Type::BYTEA,
        ];
        let mut copy = pin!(self.copy("groups", GROUP_COLUMNS, TYPES).await?);
        while let Some(Record::Group {
            group,
            auth_public,
            auth_gen,
            timeline,
            head,
            head_blob_id,
            floor,
            floor_blob_id,
            bytes,
            restricted,
            created_at,
            kept_from,
            kept_blob_id,
            raised_at,
            purge_below,
            purge_at,
            active_at,
            delete_at,
            epoch_envelope,
        }) = &self.next
        {
            copy.as_mut()
                .write(&[
                    &&group.0[..],
                    &&auth_public.0[..],
                    &to_db(*auth_gen),
                    &&timeline.0[..],
                    &to_db(*head),
                    &&head_blob_id.0[..],
                    &to_db(*floor),
                    &&floor_blob_id.0[..],
                    &to_db(*bytes),
                    restricted,
                    &to_db(*created_at),
                    &to_db(*kept_from),
                    &&kept_blob_id.0[..],
                    &to_db(*raised_at),
                    &to_db(*purge_below),
                    &to_db(*purge_at),
                    &to_db(*active_at),
                    &to_db(*delete_at),
                    &&epoch_envelope[..],
                ])
                .await
                .map_err(failed)?;
            self.next = self.records.recv().await;
        }
        copy.finish().await.map_err(failed)?;
        Ok(())
    }

    async fn names(&mut self) -> Result<()> {
        let mut copy = pin!(self.copy("names", NAME_COLUMNS, &[Type::BYTEA, Type::BYTEA]).await?);
        while let Some(Record::Name { name, group }) = &self.next {
            copy.as_mut().write(&[&&name.0[..], &&group.0[..]]).await.map_err(failed)?;
            self.next = self.records.recv().await;
        }
        copy.finish().await.map_err(failed)?;
        Ok(())
    }

    async fn devices(&mut self) -> Result<()> {
        const TYPES: &[Type] = &[Type::BYTEA, Type::BYTEA, Type::BYTEA, Type::INT8, Type::INT8];
        let mut copy = pin!(self.copy("devices", DEVICE_COLUMNS, TYPES).await?);
        while let Some(Record::Device { group, noise_key, slot, acked, last_seen }) = &self.next {
            copy.as_mut()
                .write(&[&&group.0[..], &&noise_key.0[..], &&slot[..], &to_db(*acked), &to_db(*last_seen)])
                .await
                .map_err(failed)?;
            self.next = self.records.recv().await;
        }
        copy.finish().await.map_err(failed)?;
        Ok(())
    }

    async fn entries(&mut self) -> Result<()> {
        const TYPES: &[Type] = &[Type::BYTEA, Type::INT8, Type::BYTEA, Type::INT8, Type::BYTEA];
        let mut copy = pin!(self.copy("entries", ENTRY_COLUMNS, TYPES).await?);
        while let Some(Record::Entry { group, cursor, blob_id, received_at, envelope }) = &self.next {
            copy.as_mut()
                .write(&[&&group.0[..], &to_db(*cursor), &&blob_id[..], &to_db(*received_at), &&envelope[..]])
                .await
                .map_err(failed)?;
            self.next = self.records.recv().await;
        }
        copy.finish().await.map_err(failed)?;
        Ok(())
    }

    async fn copy(&self, table: &str, columns: &str, types: &[Type]) -> Result<BinaryCopyInWriter> {
        let sql = format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)");
        let sink = self.db.copy_in::<_, Bytes>(&sql).await.map_err(failed)?;
        Ok(BinaryCopyInWriter::new(sink, types))
    }
}
