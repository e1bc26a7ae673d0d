//! Queries on one snapshot: names, states, pages of the log.

use std::collections::HashMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::limits::SUPERSEDED_LOGS_MAX;
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, NoisePublicKey, Timeline};

use crate::store::rules::{GroupRow, Page, fixed, from_db, present, to_db};
use crate::store::{GroupKey, KnownLog, Lookup, Result, Standing, StoredEntry};

pub(super) fn lookup(db: &Connection, name: &LogName) -> Result<Lookup> {
    // A deleted log keeps its names until its removal begins: a member's Hello brings it back.
    let found: Option<(Vec<u8>, Vec<u8>)> = db
        .prepare_cached(
            "SELECT group_id, auth_pub FROM names JOIN groups USING (group_id) WHERE name = ?1 AND removing = 0",
        )?
        .query_row([&name.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((group, auth_public)) = found else { return Ok(Lookup::Unknown) };
    let (key, auth_public) = (GroupKey(fixed(&group)?), AuthPublicKey(fixed(&auth_public)?));
    Ok(if LogName::of(&auth_public) == *name { Lookup::Current(key) } else { Lookup::Superseded(key) })
}

pub(super) fn logs_of(db: &Connection, device: &NoisePublicKey) -> Result<Vec<KnownLog>> {
    let mut statement = db.prepare_cached(
        "SELECT epoch_envelope, slot FROM devices JOIN groups USING (group_id)
         WHERE noise_key = ?1 AND removing = 0 ORDER BY last_seen DESC, group_id LIMIT ?2",
    )?;
    let logs = statement.query_map(params![&device.0, SUPERSEDED_LOGS_MAX as i64], |row| {
        Ok(KnownLog {
            epoch_envelope: Bytes::from(row.get::<_, Vec<u8>>(0)?),
            slot: Bytes::from(row.get::<_, Vec<u8>>(1)?),
        })
    })?;
    Ok(logs.collect::<std::result::Result<_, _>>()?)
}

/// The row of a log that is served. Inside a writing transaction it is locked: that transaction is the only one.
pub(super) fn group(db: &Connection, group: GroupKey) -> Result<Option<GroupRow>> {
    let mut statement = db.prepare_cached(
        "SELECT auth_pub, auth_gen, timeline, head, head_blob_id, floor, floor_blob_id, bytes, restricted
         FROM groups WHERE group_id = ?1 AND delete_at = 0",
    )?;
    let mut rows = statement.query([&group.0])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let bytes = |column: usize| row.get::<_, Vec<u8>>(column);
    let number = |column: usize| from_db(row.get(column)?);
    Ok(Some(GroupRow {
        auth_public: AuthPublicKey(fixed(&bytes(0)?)?),
        auth_gen: number(1)?,
        timeline: Timeline(fixed(&bytes(2)?)?),
        head: number(3)?,
        head_blob_id: BlobId(fixed(&bytes(4)?)?),
        floor: number(5)?,
        floor_blob_id: BlobId(fixed(&bytes(6)?)?),
        bytes: number(7)?,
        restricted: row.get(8)?,
    }))
}

pub(super) fn standings(db: &Connection, groups: &[GroupKey]) -> Result<Vec<(GroupKey, Standing)>> {
    let mut standings = Vec::with_capacity(groups.len());
    for key in groups {
        let row = group(db, *key)?;
        standings.extend(row.map(|row| (*key, Standing { state: row.state(), restricted: row.restricted })));
    }
    Ok(standings)
}

pub(super) fn epoch_envelope(db: &Connection, group: GroupKey) -> Result<Bytes> {
    let envelope: Option<Vec<u8>> = db
        .prepare_cached("SELECT epoch_envelope FROM groups WHERE group_id = ?1")?
        .query_row([&group.0], |row| row.get(0))
        .optional()?;
    present(envelope).map(Bytes::from)
}

pub(super) fn page(
    db: &Connection,
    group: GroupKey,
    from: u64,
    bytes_max: usize,
    count_max: usize,
) -> Result<Vec<StoredEntry>> {
    let row = present(self::group(db, group)?)?;
    let Some(mut page) = Page::new(&row, from, bytes_max, count_max) else { return Ok(Vec::new()) };
    let (first, last) = page.range();
    let mut statement = db.prepare_cached(
        "SELECT cursor, blob_id, envelope FROM entries
         WHERE group_id = ?1 AND cursor BETWEEN ?2 AND ?3 ORDER BY cursor",
    )?;
    let mut rows = statement.query(params![&group.0, to_db(first), to_db(last)])?;
    while let Some(row) = rows.next()? {
        let envelope = Bytes::from(row.get::<_, Vec<u8>>(2)?);
        let id = BlobId::from_slice(&row.get::<_, Vec<u8>>(1)?);
        if let ControlFlow::Break(()) = page.push(from_db(row.get(0)?)?, id, envelope) {
            break;
        }
    }
    Ok(page.finish())
}

pub(super) fn blob_ids(db: &Connection, group: GroupKey, cursors: &[u64]) -> Result<Vec<Option<BlobId>>> {
    let row = present(self::group(db, group)?)?;
    let mut statement = db.prepare_cached("SELECT blob_id FROM entries WHERE group_id = ?1 AND cursor = ?2")?;
    let mut found = HashMap::new();
    for cursor in cursors {
        let id: Option<Vec<u8>> =
            statement.query_row(params![&group.0, to_db(*cursor)], |row| row.get(0)).optional()?;
        found.extend(id.and_then(|id| BlobId::from_slice(&id)).map(|id| (*cursor, id)));
    }
    Ok(row.blob_ids(cursors, &found))
}

pub(super) fn missing(db: &Connection, group: GroupKey, blob_ids: &[BlobId]) -> Result<Vec<bool>> {
    present(self::group(db, group)?)?;
    let mut statement = db.prepare_cached("SELECT envelope FROM entries WHERE group_id = ?1 AND blob_id = ?2")?;
    let mut missing = Vec::with_capacity(blob_ids.len());
    for id in blob_ids {
        let envelope: Option<Vec<u8>> = statement.query_row(params![&group.0, &id.0], |row| row.get(0)).optional()?;
        missing.push(envelope.is_none_or(|envelope| blob_id(&envelope) != *id));
    }
    Ok(missing)
}
