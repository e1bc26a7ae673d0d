//! Archives of a SQLite file: read from one snapshot beside the writer, written in one transaction.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, Row, Transaction, params};
use tokio::sync::mpsc;
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, NoisePublicKey, Timeline};

use super::{Sqlite, retention};
use crate::store::rules::{fixed, from_db, to_db};
use crate::store::snapshot::{DEVICE_COLUMNS, ENTRY_COLUMNS, GROUP_COLUMNS, NAME_COLUMNS, select};
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
    let table = |columns, table, record: fn(&Row<'_>) -> Result<Record>| {
        let mut statement = db.prepare(&select(columns, table))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let gone = |_| StoreError::Unavailable("whoever took the records has stopped".into());
            records.blocking_send(record(row)?).map_err(gone)?;
        }
        Ok(())
    };
    table(GROUP_COLUMNS, "groups", group)?;
    table(NAME_COLUMNS, "names", name)?;
    table(DEVICE_COLUMNS, "devices", device)?;
    table(ENTRY_COLUMNS, "entries", entry)
}

fn group(row: &Row<'_>) -> Result<Record> {
    Ok(Record::Group {
        group: LogName(key(row, 0)?),
        auth_public: AuthPublicKey(key(row, 1)?),
        auth_gen: number(row, 2)?,
        timeline: Timeline(key(row, 3)?),
        head: number(row, 4)?,
        head_blob_id: BlobId(key(row, 5)?),
        floor: number(row, 6)?,
        floor_blob_id: BlobId(key(row, 7)?),
        bytes: number(row, 8)?,
        restricted: row.get(9)?,
        created_at: number(row, 10)?,
        kept_from: number(row, 11)?,
        kept_blob_id: BlobId(key(row, 12)?),
        raised_at: number(row, 13)?,
        purge_below: number(row, 14)?,
        purge_at: number(row, 15)?,
        active_at: number(row, 16)?,
        delete_at: number(row, 17)?,
        epoch_envelope: bytes(row, 18)?,
    })
}

fn name(row: &Row<'_>) -> Result<Record> {
    Ok(Record::Name { name: LogName(key(row, 0)?), group: LogName(key(row, 1)?) })
}

fn device(row: &Row<'_>) -> Result<Record> {
    Ok(Record::Device {
        group: LogName(key(row, 0)?),
        noise_key: NoisePublicKey(key(row, 1)?),
        slot: bytes(row, 2)?,
        acked: number(row, 3)?,
        last_seen: number(row, 4)?,
    })
}

fn entry(row: &Row<'_>) -> Result<Record> {
    Ok(Record::Entry {
        group: LogName(key(row, 0)?),
        cursor: number(row, 1)?,
        blob_id: bytes(row, 2)?,
        received_at: number(row, 3)?,
        envelope: bytes(row, 4)?,
    })
}

fn key<const N: usize>(row: &Row<'_>, column: usize) -> Result<[u8; N]> {
    fixed(&row.get::<_, Vec<u8>>(column)?)
}

fn number(row: &Row<'_>, column: usize) -> Result<u64> {
    from_db(row.get(column)?)
}

fn bytes(row: &Row<'_>, column: usize) -> Result<Bytes> {
    Ok(Bytes::from(row.get::<_, Vec<u8>>(column)?))
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
        match record {
            Record::Head { .. } => break,
            Record::End { .. } => return Ok(Import::Done),
            row => insert(db, row)?,
        }
    }
    // What is committed when this returns is the empty transaction begun here.
    db.execute_batch("ROLLBACK; BEGIN IMMEDIATE")?;
    Ok(Import::Incomplete)
}

fn insert(db: &Transaction<'_>, row: Record) -> Result<()> {
    let into =
        |table, columns: &str, places| db.prepare_cached(&format!("INSERT INTO {table} ({columns}) VALUES ({places})"));
    match row {
        Record::Group {
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
        } => {
            into("groups", GROUP_COLUMNS, "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?")?.execute(params![
                &group.0,
                &auth_public.0,
                to_db(auth_gen),
                &timeline.0,
                to_db(head),
                &head_blob_id.0,
                to_db(floor),
                &floor_blob_id.0,
                to_db(bytes),
                restricted,
                to_db(created_at),
                to_db(kept_from),
                &kept_blob_id.0,
                to_db(raised_at),
                to_db(purge_below),
                to_db(purge_at),
                to_db(active_at),
                to_db(delete_at),
                &epoch_envelope[..],
            ])
        }
        Record::Name { name, group } => into("names", NAME_COLUMNS, "?, ?")?.execute(params![&name.0, &group.0]),
        Record::Device { group, noise_key, slot, acked, last_seen } => {
            into("devices", DEVICE_COLUMNS, "?, ?, ?, ?, ?")?.execute(params![
                &group.0,
                &noise_key.0,
                &slot[..],
                to_db(acked),
                to_db(last_seen)
            ])
        }
        Record::Entry { group, cursor, blob_id, received_at, envelope } => {
            into("entries", ENTRY_COLUMNS, "?, ?, ?, ?, ?")?.execute(params![
                &group.0,
                to_db(cursor),
                &blob_id[..],
                to_db(received_at),
                &envelope[..]
            ])
        }
        Record::Head { .. } | Record::End { .. } => unreachable!("the caller takes these"),
    }?;
    Ok(())
}
