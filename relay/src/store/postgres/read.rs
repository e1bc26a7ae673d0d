//! Queries: names, states, pages of the log. Generic over a connection and a transaction on it.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use bytes::Bytes;
use deadpool_postgres::{Client, GenericClient};
use futures_util::future::join;
use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::Row;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::LogState;
use zerok_sync_protocol::limits::SUPERSEDED_LOGS_MAX;
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, NoisePublicKey, Timeline};

use super::pool::failed;
use crate::store::rules::{
    Entrance, GroupRow, KnownRow, Members, Page, admission, entrance, fixed, from_db, present, to_db,
};
use crate::store::{Admission, GroupKey, KnownLog, Lookup, Missing, Result, Standing, StoredEntry, rules};

pub(super) async fn lookup(db: &Client, name: &LogName) -> Result<Lookup> {
    // A deleted log keeps its names until its removal begins: a member's Hello brings it back.
    let statement = db
        .prepare_cached(
            "SELECT group_id, auth_pub FROM names JOIN groups USING (group_id) WHERE name = $1 AND NOT removing",
        )
        .await
        .map_err(failed)?;
    let Some(row) = db.query_opt(&statement, &[&&name.0[..]]).await.map_err(failed)? else {
        return Ok(Lookup::Unknown);
    };
    let (key, auth_public) = (GroupKey(fixed(row.get(0))?), AuthPublicKey(fixed(row.get(1))?));
    Ok(if LogName::of(&auth_public) == *name { Lookup::Current(key) } else { Lookup::Superseded(key) })
}

/// The group that a name belongs to.
pub(super) async fn owner(db: &impl GenericClient, name: &LogName) -> Result<Option<GroupKey>> {
    let statement = db.prepare_cached("SELECT group_id FROM names WHERE name = $1").await.map_err(failed)?;
    let row = db.query_opt(&statement, &[&&name.0[..]]).await.map_err(failed)?;
    row.map(|row| fixed(row.get(0)).map(GroupKey)).transpose()
}

pub(super) async fn logs_of(db: &Client, device: &NoisePublicKey) -> Result<Vec<KnownLog>> {
    let statement = db
        .prepare_cached(
            "SELECT epoch_envelope, slot FROM devices JOIN groups USING (group_id)
             WHERE noise_key = $1 AND NOT removing ORDER BY last_seen DESC, group_id LIMIT $2",
        )
        .await
        .map_err(failed)?;
    let rows = db.query(&statement, &[&&device.0[..], &(SUPERSEDED_LOGS_MAX as i64)]).await.map_err(failed)?;
    let log = |row: &Row| KnownLog { epoch_envelope: bytes(row, 0), slot: bytes(row, 1) };
    Ok(rows.iter().map(log).collect())
}

/// The row of a log that is served, as of now.
pub(super) async fn group(db: &impl GenericClient, group: GroupKey) -> Result<Option<GroupRow>> {
    group_row(db, group, "").await
}

/// The row of a log, locked until the transaction ends. Whatever is to be consistent with it must
/// be read by a later statement: this one's snapshot may be older than its lock.
pub(super) async fn lock_group(db: &impl GenericClient, group: GroupKey) -> Result<GroupRow> {
    present(group_row(db, group, "FOR UPDATE").await?)
}

pub(super) async fn standings(db: &Client, groups: &[GroupKey]) -> Result<Vec<(GroupKey, Standing)>> {
    let statement = db
        .prepare_cached(
            "SELECT group_id, timeline, auth_gen, head, head_blob_id, floor, removals
             FROM groups WHERE group_id = ANY($1) AND delete_at = 0",
        )
        .await
        .map_err(failed)?;
    let groups: Vec<&[u8]> = groups.iter().map(|group| &group.0[..]).collect();
    let rows = db.query(&statement, &[&groups]).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            let state = LogState {
                timeline: Timeline(fixed(row.get(1))?),
                auth_gen: from_db(row.get(2))?,
                head: from_db(row.get(3))?,
                head_blob_id: BlobId(fixed(row.get(4))?),
                floor: from_db(row.get(5))?,
            };
            Ok((GroupKey(fixed(row.get(0))?), Standing { state, removals: from_db(row.get(6))? }))
        })
        .collect()
}

async fn group_row(db: &impl GenericClient, group: GroupKey, lock: &str) -> Result<Option<GroupRow>> {
    let sql = format!("SELECT {GROUP_COLUMNS} FROM groups WHERE group_id = $1 AND delete_at = 0 {lock}");
    let statement = db.prepare_cached(&sql).await.map_err(failed)?;
    let row = db.query_opt(&statement, &[&&group.0[..]]).await.map_err(failed)?;
    row.as_ref().map(parse_group).transpose()
}

/// What [`parse_group`] reads.
pub(super) const GROUP_COLUMNS: &str =
    "group_id, auth_pub, auth_gen, timeline, head, head_blob_id, floor, floor_blob_id, bytes, restricted, removals";

pub(super) fn parse_group(row: &Row) -> Result<GroupRow> {
    Ok(GroupRow {
        group: GroupKey(fixed(row.get(0))?),
        auth_public: AuthPublicKey(fixed(row.get(1))?),
        auth_gen: from_db(row.get(2))?,
        timeline: Timeline(fixed(row.get(3))?),
        head: from_db(row.get(4))?,
        head_blob_id: BlobId(fixed(row.get(5))?),
        floor: from_db(row.get(6))?,
        floor_blob_id: BlobId(fixed(row.get(7))?),
        bytes: from_db(row.get(8))?,
        restricted: row.get(9),
        removals: from_db(row.get(10))?,
    })
}

pub(super) async fn epoch_envelope(db: &impl GenericClient, group: GroupKey) -> Result<Bytes> {
    let statement = db.prepare_cached("SELECT epoch_envelope FROM groups WHERE group_id = $1").await.map_err(failed)?;
    let row = db.query_opt(&statement, &[&&group.0[..]]).await.map_err(failed)?;
    present(row.map(|row| bytes(&row, 0)))
}

/// The head is read before the rows: what it covers is committed, so a row that is not there then
/// is lost, not late.
pub(super) async fn page(
    db: &Client,
    group: GroupKey,
    from: u64,
    bytes_max: usize,
    count_max: usize,
) -> Result<Vec<StoredEntry>> {
    loop {
        let row = present(self::group(db, group).await?)?;
        let page = page_of(db, &row, from, bytes_max, count_max).await?;
        // A floor that rose between the two statements may have taken rows along: not a loss.
        let whole = !page.iter().any(|entry| matches!(entry, StoredEntry::Absent { .. }));
        if whole || present(self::group(db, group).await?)?.floor == row.floor {
            return Ok(page);
        }
    }
}

async fn page_of(
    db: &Client,
    row: &GroupRow,
    from: u64,
    bytes_max: usize,
    count_max: usize,
) -> Result<Vec<StoredEntry>> {
    let Some(mut page) = Page::new(row, from, bytes_max, count_max) else { return Ok(Vec::new()) };
    let (first, last) = page.range();
    // The length of a stored value is known without reading it, so a page of large envelopes
    // costs their number in rows and only `bytes_max` in bytes.
    let statement = db
        .prepare_cached(
            "SELECT cursor, blob_id, envelope FROM (
                 SELECT cursor, blob_id, envelope,
                        sum(octet_length(envelope)) OVER (ORDER BY cursor) - octet_length(envelope) AS bytes_before
                 FROM entries WHERE group_id = $1 AND cursor BETWEEN $2 AND $3
             ) AS sized
             WHERE bytes_before < $4 ORDER BY cursor",
        )
        .await
        .map_err(failed)?;
    let bytes_max = to_db(bytes_max.max(1) as u64);
    let rows =
        db.query(&statement, &[&&row.group.0[..], &to_db(first), &to_db(last), &bytes_max]).await.map_err(failed)?;
    for row in &rows {
        let cursor = from_db(row.get(0))?;
        if let ControlFlow::Break(()) = page.push(cursor, BlobId::from_slice(row.get(1)), bytes(row, 2)) {
            break;
        }
    }
    Ok(page.finish())
}

pub(super) async fn blob_ids(db: &Client, group: GroupKey, cursors: &[u64]) -> Result<Vec<Option<BlobId>>> {
    let statement = db
        .prepare_cached("SELECT cursor, blob_id FROM entries WHERE group_id = $1 AND cursor = ANY($2)")
        .await
        .map_err(failed)?;
    let wanted: Vec<i64> = cursors.iter().map(|cursor| to_db(*cursor)).collect();
    loop {
        let row = present(self::group(db, group).await?)?;
        let mut found = HashMap::new();
        for row in db.query(&statement, &[&&group.0[..], &wanted]).await.map_err(failed)? {
            let cursor = from_db(row.get(0))?;
            found.extend(BlobId::from_slice(row.get(1)).map(|id| (cursor, id)));
        }
        let blob_ids = row.blob_ids(cursors, &found);
        // As for a page.
        let lost = |(cursor, id): (&u64, &Option<BlobId>)| id.is_none() && (row.floor..=row.head).contains(cursor);
        if !cursors.iter().zip(&blob_ids).any(lost) || present(self::group(db, group).await?)?.floor == row.floor {
            return Ok(blob_ids);
        }
    }
}

pub(super) async fn missing(db: &Client, group: GroupKey, blob_ids: &[BlobId]) -> Result<Missing> {
    present(self::group(db, group).await?)?;
    let known = known_rows(db, &blob_ids.iter().map(|id| (group, *id)).collect()).await?;
    Ok(rules::missing(group, blob_ids, &known))
}

/// The answer to a device that asks for entrance; `None` if something has to be written first. One
/// that is listed only reads, without a lock: that is what nearly every Hello is.
pub(super) async fn admit(
    db: &Client,
    group: GroupKey,
    auth_public: &AuthPublicKey,
    device: &NoisePublicKey,
) -> Result<Option<Admission>> {
    let (row, members) = join(self::group(db, group), members(db, group, device)).await;
    let (Some(row), members) = (row?, members?) else { return Ok(None) };
    let entrance = entrance(&row, auth_public, members.slot.is_some(), members.allow.len());
    Ok((entrance != Entrance::ListNow).then(|| admission(entrance, row, members)))
}

/// The allow-list, and what is kept for each device of it.
pub(super) async fn members(db: &impl GenericClient, group: GroupKey, device: &NoisePublicKey) -> Result<Members> {
    let select = db
        .prepare_cached("SELECT noise_key, slot, acked FROM devices WHERE group_id = $1 ORDER BY noise_key")
        .await
        .map_err(failed)?;
    let mut members = Members::default();
    for row in db.query(&select, &[&&group.0[..]]).await.map_err(failed)? {
        let listed = NoisePublicKey(fixed(row.get(0))?);
        members.add(listed, listed == *device, bytes(&row, 1), from_db(row.get(2))?);
    }
    Ok(members)
}

/// Of these blob ids the stored ones, with their rows. Their envelopes are hashed as they come in,
/// one at a time; nothing is read for an id that is not there.
pub(super) async fn known_rows(
    db: &impl GenericClient,
    wanted: &BTreeSet<(GroupKey, BlobId)>,
) -> Result<HashMap<(GroupKey, BlobId), KnownRow>> {
    let statement = db
        .prepare_cached(
            "SELECT entries.group_id, entries.blob_id, cursor, envelope
             FROM unnest($1::bytea[], $2::bytea[]) AS wanted (group_id, blob_id)
             JOIN entries ON entries.group_id = wanted.group_id AND entries.blob_id = wanted.blob_id",
        )
        .await
        .map_err(failed)?;
    let groups: Vec<&[u8]> = wanted.iter().map(|(group, _)| &group.0[..]).collect();
    let ids: Vec<&[u8]> = wanted.iter().map(|(_, id)| &id.0[..]).collect();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&groups, &ids];
    let rows = db.query_raw(&statement, parameters).await.map_err(failed)?;
    pin_mut!(rows);
    let mut known = HashMap::new();
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let id = BlobId(fixed(row.get(1))?);
        let envelope: &[u8] = row.get(3);
        let (sound, bytes) = (blob_id(envelope) == id, envelope.len() as u64);
        let found = KnownRow { cursor: from_db(row.get(2))?, sound, bytes };
        known.insert((GroupKey(fixed(row.get(0))?), id), found);
    }
    Ok(known)
}

pub(super) fn bytes(row: &Row, column: usize) -> Bytes {
    Bytes::copy_from_slice(row.get(column))
}
