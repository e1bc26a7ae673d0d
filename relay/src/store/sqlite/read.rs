//! Queries on one snapshot: names, states, pages of the log.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::limits::SUPERSEDED_LOGS_MAX;
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, NoisePublicKey, Timeline};

use crate::store::rules::{
    Entrance, GroupRow, KnownRow, Members, Page, admission, entrance, fixed, from_db, present, to_db,
};
use crate::store::{Admission, GroupKey, KnownLog, Lookup, Missing, Result, Standing, StoredEntry, rules};

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
        "SELECT group_id, auth_pub, auth_gen, timeline, head, head_blob_id, floor, floor_blob_id, bytes, restricted,
                removals
         FROM groups WHERE group_id = ?1 AND delete_at = 0",
    )?;
    let mut rows = statement.query([&group.0])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let bytes = |column: usize| row.get::<_, Vec<u8>>(column);
    let number = |column: usize| from_db(row.get(column)?);
    Ok(Some(GroupRow {
        group: GroupKey(fixed(&bytes(0)?)?),
        auth_public: AuthPublicKey(fixed(&bytes(1)?)?),
        auth_gen: number(2)?,
        timeline: Timeline(fixed(&bytes(3)?)?),
        head: number(4)?,
        head_blob_id: BlobId(fixed(&bytes(5)?)?),
        floor: number(6)?,
        floor_blob_id: BlobId(fixed(&bytes(7)?)?),
        bytes: number(8)?,
        restricted: row.get(9)?,
        removals: number(10)?,
    }))
}

pub(super) fn standings(db: &Connection, groups: &[GroupKey]) -> Result<Vec<(GroupKey, Standing)>> {
    let mut standings = Vec::with_capacity(groups.len());
    for key in groups {
        let row = group(db, *key)?;
        standings.extend(row.map(|row| (*key, Standing { state: row.state(), removals: row.removals })));
    }
    Ok(standings)
}

pub(super) fn allow_list(db: &Connection, group: GroupKey) -> Result<Vec<NoisePublicKey>> {
    let mut statement = db.prepare_cached("SELECT noise_key FROM devices WHERE group_id = ?1 ORDER BY noise_key")?;
    let mut rows = statement.query([&group.0])?;
    let mut allow = Vec::new();
    while let Some(row) = rows.next()? {
        allow.push(NoisePublicKey(fixed(blob(row, 0)?)?));
    }
    Ok(allow)
}

/// The allow-list, and what is kept for each device of it.
pub(super) fn members(db: &Connection, group: GroupKey, device: &NoisePublicKey) -> Result<Members> {
    let mut statement =
        db.prepare_cached("SELECT noise_key, slot, acked FROM devices WHERE group_id = ?1 ORDER BY noise_key")?;
    let mut rows = statement.query([&group.0])?;
    let mut members = Members::default();
    while let Some(row) = rows.next()? {
        let listed = NoisePublicKey(fixed(blob(row, 0)?)?);
        members.add(listed, listed == *device, Bytes::copy_from_slice(blob(row, 1)?), from_db(row.get(2)?)?);
    }
    Ok(members)
}

/// The answer to a device that asks for entrance; `None` if something has to be written first. One
/// that is listed only reads: that is what nearly every Hello is.
pub(super) fn admit(
    db: &Connection,
    group: GroupKey,
    auth_public: &AuthPublicKey,
    device: &NoisePublicKey,
) -> Result<Option<Admission>> {
    let Some(row) = self::group(db, group)? else { return Ok(None) };
    let members = members(db, group, device)?;
    let entrance = entrance(&row, auth_public, members.slot.is_some(), members.allow.len());
    Ok((entrance != Entrance::ListNow).then(|| admission(entrance, row, members)))
}

/// Of these blob ids the stored ones, with their rows. Nothing is read for an id that is not there.
pub(super) fn known_rows(
    db: &Connection,
    wanted: &BTreeSet<(GroupKey, BlobId)>,
) -> Result<HashMap<(GroupKey, BlobId), KnownRow>> {
    let mut statement =
        db.prepare_cached("SELECT cursor, envelope FROM entries WHERE group_id = ?1 AND blob_id = ?2")?;
    let mut known = HashMap::new();
    for (group, id) in wanted {
        let mut rows = statement.query(params![&group.0, &id.0])?;
        if let Some(row) = rows.next()? {
            let envelope = blob(row, 1)?;
            let (sound, bytes) = (blob_id(envelope) == *id, envelope.len() as u64);
            known.insert((*group, *id), KnownRow { cursor: from_db(row.get(0)?)?, sound, bytes });
        }
    }
    Ok(known)
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

pub(super) fn missing(db: &Connection, group: GroupKey, blob_ids: &[BlobId]) -> Result<Missing> {
    present(self::group(db, group)?)?;
    let known = known_rows(db, &blob_ids.iter().map(|id| (group, *id)).collect())?;
    Ok(rules::missing(group, blob_ids, &known))
}

/// A column's bytes without a copy.
fn blob<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a [u8]> {
    Ok(row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?)
}
