//! Floors, deletion and the collector in SQLite. The collector's transactions go through the
//! writer's queue like everybody's.

use std::ops::ControlFlow;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::sync::MutexGuard;
use zerok_sync_protocol::{AuthPublicKey, BlobId};

use super::connections::Connections;
use super::{Sqlite, log, read};
use crate::store::rules::retention::{Aim, Doomed, Floors, aim, seen_since};
use crate::store::rules::{GroupRow, fixed, from_db, present, to_db};
use crate::store::{
    Account, Budget, Collector, DeleteRequest, Deleted, GroupKey, Removal, Result, Retention, Step, Storage, Then,
    TruncateRequest, Truncated,
};

#[async_trait]
impl Retention for Sqlite {
    async fn truncate(&self, request: TruncateRequest) -> Result<Truncated> {
        self.connections.write(move |transaction| truncate(transaction, &request)).await
    }

    async fn delete_group(&self, request: DeleteRequest) -> Result<Deleted> {
        self.connections.write(move |transaction| delete_group(transaction, &request)).await
    }

    async fn mark_active(&self, groups: &[GroupKey], stale_ms: u64, now_ms: u64) -> Result<()> {
        let groups = groups.to_vec();
        self.connections.write(move |transaction| mark_active(transaction, &groups, stale_ms, now_ms)).await
    }

    async fn survey(&self, after: Option<GroupKey>, count_max: usize) -> Result<Vec<Account>> {
        self.connections.read(move |snapshot| survey(snapshot, after, count_max)).await
    }

    async fn collector(&self) -> Result<Option<Box<dyn Collector + '_>>> {
        let Ok(turn) = self.collecting.try_lock() else { return Ok(None) };
        Ok(Some(Box::new(SqliteCollector { connections: &self.connections, _turn: turn })))
    }

    async fn storage(&self) -> Result<Storage> {
        self.connections.read(storage).await
    }

    async fn declare_restore(&self) -> Result<u64> {
        self.connections.write(declare_restore).await
    }
}

pub(super) fn declare_restore(db: &Transaction<'_>) -> Result<u64> {
    Ok(db.execute("UPDATE groups SET timeline = randomblob(8)", [])? as u64)
}

struct SqliteCollector<'a> {
    connections: &'a Connections,
    _turn: MutexGuard<'a, ()>,
}

#[async_trait]
impl Collector for SqliteCollector<'_> {
    async fn purge(&mut self, group: GroupKey, budget: Budget, now_ms: u64, grace_ms: u64) -> Result<Step> {
        self.connections.write(move |transaction| purge(transaction, group, budget, now_ms, grace_ms)).await
    }

    async fn remove(&mut self, group: GroupKey, why: Removal, budget: Budget, now_ms: u64) -> Result<Step> {
        self.connections.write(move |transaction| remove(transaction, group, why, budget, now_ms)).await
    }

    async fn give_back(&mut self, pages_max: u64) -> Result<bool> {
        self.connections.write(move |transaction| give_back(transaction, pages_max)).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// A deleted log is served again, if the key is its current one and its removal has not begun.
pub(super) fn revive(db: &Transaction<'_>, group: GroupKey, auth_public: &AuthPublicKey) -> Result<()> {
    db.prepare_cached(
        "UPDATE groups SET delete_at = 0 WHERE group_id = ?1 AND auth_pub = ?2 AND delete_at <> 0 AND removing = 0",
    )?
    .execute(params![&group.0, &auth_public.0])?;
    Ok(())
}

fn truncate(db: &Transaction<'_>, request: &TruncateRequest) -> Result<Truncated> {
    let group = request.group;
    let row = present(read::group(db, group)?)?;
    if !log::is_listed(db, group, &request.device)? {
        return Ok(Truncated::Revoked);
    }
    if row.auth_gen != request.auth_gen {
        return Ok(Truncated::Superseded { epoch_envelope: read::epoch_envelope(db, group)? });
    }
    let floors = present(floors(db, group)?)?;
    let acked_min: i64 = db
        .prepare_cached("SELECT min(acked) FROM devices WHERE group_id = ?1 AND (last_seen >= ?2 OR noise_key = ?3)")?
        .query_row(params![&group.0, to_db(seen_since(request.now_ms)), &request.device.0], |row| row.get(0))?;
    let below = match aim(&row, &floors, request, from_db(acked_min)?) {
        Aim::Stay => return Ok(Truncated::Done { floor: row.floor }),
        Aim::TooSoon { retry_after_ms } => return Ok(Truncated::TooSoon { retry_after_ms }),
        Aim::NotReached { below_max } => return Ok(Truncated::NotReached { below_max }),
        Aim::Move { below } => below,
    };
    let (floor, floor_blob_id) = anchor(db, group, &row, &floors, below)?;
    // A floor that is raised never ends up lower for want of a row.
    if (floor > row.floor) != (below > row.floor) {
        return Ok(Truncated::Done { floor: row.floor });
    }
    db.prepare_cached("UPDATE groups SET floor = ?2, floor_blob_id = ?3 WHERE group_id = ?1")?.execute(params![
        &group.0,
        to_db(floor),
        &floor_blob_id.0
    ])?;
    write_floors(db, group, &floors.moved(&row, floor, request))?;
    Ok(Truncated::Done { floor })
}

/// The highest floor up to `below` whose lower neighbour's blob id is known, and that blob id.
fn anchor(db: &Connection, group: GroupKey, row: &GroupRow, floors: &Floors, below: u64) -> Result<(u64, BlobId)> {
    if below == row.head + 1 {
        return Ok((below, row.head_blob_id));
    }
    let neighbour: Option<(i64, Vec<u8>)> = db
        .prepare_cached(
            "SELECT cursor, blob_id FROM entries WHERE group_id = ?1 AND cursor >= ?2 AND cursor < ?3
             ORDER BY cursor DESC LIMIT 1",
        )?
        .query_row(params![&group.0, to_db(floors.kept_from), to_db(below)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match neighbour {
        Some((cursor, id)) => Ok((from_db(cursor)? + 1, BlobId(fixed(&id)?))),
        None => Ok((floors.kept_from, floors.kept_blob_id)),
    }
}

fn delete_group(db: &Transaction<'_>, request: &DeleteRequest) -> Result<Deleted> {
    let group = request.group;
    let row = present(read::group(db, group)?)?;
    if !log::is_listed(db, group, &request.device)? {
        return Ok(Deleted::Revoked);
    }
    if row.auth_gen != request.auth_gen {
        return Ok(Deleted::Superseded { epoch_envelope: read::epoch_envelope(db, group)? });
    }
    // Zero stands for "not deleted".
    let delete_at = request.now_ms.saturating_add(request.grace_ms).max(1);
    db.prepare_cached("UPDATE groups SET delete_at = ?2 WHERE group_id = ?1")?
        .execute(params![&group.0, to_db(delete_at)])?;
    Ok(Deleted::Done)
}

fn mark_active(db: &Transaction<'_>, groups: &[GroupKey], stale_ms: u64, now_ms: u64) -> Result<()> {
    let mut update = db.prepare_cached("UPDATE groups SET active_at = ?3 WHERE group_id = ?1 AND active_at < ?2")?;
    for group in groups {
        update.execute(params![&group.0, to_db(stale_ms), to_db(now_ms)])?;
    }
    Ok(())
}

fn survey(db: &Connection, after: Option<GroupKey>, count_max: usize) -> Result<Vec<Account>> {
    let mut statement = db.prepare_cached(
        "SELECT group_id, head, kept_from, bytes, purge_below, purge_at, delete_at, created_at, active_at FROM groups
         WHERE group_id > ?1 ORDER BY group_id LIMIT ?2",
    )?;
    let after = after.as_ref().map_or(&[][..], |group| &group.0[..]);
    let mut rows = statement.query(params![after, to_db(count_max as u64)])?;
    let mut accounts = Vec::new();
    while let Some(row) = rows.next()? {
        let number = |column: usize| from_db(row.get(column)?);
        let (head, kept_from, created_at_ms) = (number(1)?, number(2)?, number(7)?);
        let (purge_below, purge_at, delete_at) = (number(4)?, number(5)?, number(6)?);
        accounts.push(Account {
            group: GroupKey(fixed(&row.get::<_, Vec<u8>>(0)?)?),
            entries: (head + 1).saturating_sub(kept_from),
            bytes: number(3)?,
            purge_at_ms: (kept_from < purge_below).then_some(purge_at),
            delete_at_ms: (delete_at > 0).then_some(delete_at),
            created_at_ms,
            active_at_ms: number(8)?.max(created_at_ms),
        });
    }
    Ok(accounts)
}

fn purge(db: &Transaction<'_>, group: GroupKey, budget: Budget, now_ms: u64, grace_ms: u64) -> Result<Step> {
    let (Some(row), Some(floors)) = (read::group(db, group)?, floors(db, group)?) else { return Ok(Step::default()) };
    if !floors.is_due(now_ms) {
        return Ok(Step::default());
    }
    let doomed = doomed(db, group, floors.purge_below, budget)?;
    delete_entries(db, group, &doomed)?;
    write_floors(db, group, &floors.purged(&row, &doomed, now_ms, grace_ms))?;
    db.prepare_cached("UPDATE groups SET bytes = max(bytes - ?2, 0) WHERE group_id = ?1")?
        .execute(params![&group.0, to_db(doomed.bytes)])?;
    let then = if doomed.more { Then::Continue } else { Then::Finished };
    Ok(Step { entries: doomed.entries, bytes: doomed.bytes, then })
}

fn remove(db: &Transaction<'_>, group: GroupKey, why: Removal, budget: Budget, now_ms: u64) -> Result<Step> {
    if !begin_removal(db, group, why, now_ms)? {
        return Ok(Step::default());
    }
    let doomed = doomed(db, group, u64::MAX, budget)?;
    delete_entries(db, group, &doomed)?;
    let step = Step { entries: doomed.entries, bytes: doomed.bytes, then: Then::Continue };
    if doomed.more {
        return Ok(step);
    }
    db.prepare_cached("DELETE FROM devices WHERE group_id = ?1")?.execute([&group.0])?;
    // The log's first name goes last: as long as it is taken nobody makes the log anew.
    let names = db
        .prepare_cached(
            "DELETE FROM names WHERE name IN (SELECT name FROM names WHERE group_id = ?1 AND name <> ?1 LIMIT ?2)",
        )?
        .execute(params![&group.0, to_db(budget.entries_max)])?;
    if names as u64 >= budget.entries_max {
        return Ok(step);
    }
    db.prepare_cached("DELETE FROM names WHERE group_id = ?1")?.execute([&group.0])?;
    db.prepare_cached("DELETE FROM groups WHERE group_id = ?1")?.execute([&group.0])?;
    Ok(Step { then: Then::Finished, ..step })
}

/// Whether the log is to be removed, now that it is locked. From then on it cannot come back.
fn begin_removal(db: &Transaction<'_>, group: GroupKey, why: Removal, now_ms: u64) -> Result<bool> {
    let begun = match why {
        Removal::Deleted => db
            .prepare_cached(
                "UPDATE groups SET removing = 1
                 WHERE group_id = ?1 AND (removing <> 0 OR (delete_at <> 0 AND delete_at <= ?2))",
            )?
            .execute(params![&group.0, to_db(now_ms)])?,
        Removal::Idle { since_ms } => {
            // `active_at` is noted now and then; a Hello is noted with the device.
            db.prepare_cached(
                "UPDATE groups SET active_at = max(active_at, created_at, coalesce(
                     (SELECT max(last_seen) FROM devices WHERE devices.group_id = groups.group_id), 0))
                 WHERE group_id = ?1",
            )?
            .execute([&group.0])?;
            db.prepare_cached(
                "UPDATE groups SET removing = 1, delete_at = ?3
                 WHERE group_id = ?1 AND (removing <> 0 OR active_at < ?2)",
            )?
            .execute(params![&group.0, to_db(since_ms), to_db(now_ms.max(1))])?
        }
    };
    Ok(begun == 1)
}

/// The lowest entries of a log, as many as one step may remove.
fn doomed(db: &Transaction<'_>, group: GroupKey, below: u64, budget: Budget) -> Result<Doomed> {
    let mut statement = db.prepare_cached(
        "SELECT cursor, blob_id, length(envelope) FROM entries WHERE group_id = ?1 AND cursor < ?2 ORDER BY cursor",
    )?;
    let mut rows = statement.query(params![&group.0, to_db(below)])?;
    let mut doomed = Doomed::new(budget);
    while let Some(row) = rows.next()? {
        let id = BlobId::from_slice(&row.get::<_, Vec<u8>>(1)?);
        if let ControlFlow::Break(()) = doomed.push(from_db(row.get(0)?)?, id, from_db(row.get(2)?)?) {
            break;
        }
    }
    Ok(doomed)
}

fn delete_entries(db: &Transaction<'_>, group: GroupKey, doomed: &Doomed) -> Result<()> {
    if let Some((last, _)) = doomed.last {
        db.prepare_cached("DELETE FROM entries WHERE group_id = ?1 AND cursor <= ?2")?
            .execute(params![&group.0, to_db(last)])?;
    }
    Ok(())
}

fn floors(db: &Connection, group: GroupKey) -> Result<Option<Floors>> {
    let mut statement = db.prepare_cached(
        "SELECT kept_from, kept_blob_id, raised_at, purge_below, purge_at FROM groups WHERE group_id = ?1",
    )?;
    let mut rows = statement.query([&group.0])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let number = |column: usize| from_db(row.get(column)?);
    Ok(Some(Floors {
        kept_from: number(0)?,
        kept_blob_id: BlobId(fixed(&row.get::<_, Vec<u8>>(1)?)?),
        raised_at: number(2)?,
        purge_below: number(3)?,
        purge_at: number(4)?,
    }))
}

fn write_floors(db: &Transaction<'_>, group: GroupKey, floors: &Floors) -> Result<()> {
    db.prepare_cached(
        "UPDATE groups SET kept_from = ?2, kept_blob_id = ?3, raised_at = ?4, purge_below = ?5, purge_at = ?6
         WHERE group_id = ?1",
    )?
    .execute(params![
        &group.0,
        to_db(floors.kept_from),
        &floors.kept_blob_id.0,
        to_db(floors.raised_at),
        to_db(floors.purge_below),
        to_db(floors.purge_at),
    ])?;
    Ok(())
}

fn give_back(db: &Transaction<'_>, pages_max: u64) -> Result<bool> {
    let free = pragma(db, "freelist_count")?;
    // The pragma gives one page back for each step of its statement.
    let mut vacuum = db.prepare(&format!("PRAGMA incremental_vacuum({pages_max})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    // A file made without auto_vacuum keeps its pages.
    Ok((1..free).contains(&pragma(db, "freelist_count")?))
}

fn storage(db: &Connection) -> Result<Storage> {
    let page_bytes = pragma(db, "page_size")?;
    let wal = db.path().map(|path| format!("{path}-wal"));
    let count = |sql: &str| from_db(db.query_row(sql, [], |row| row.get(0))?);
    Ok(Storage {
        database_bytes: pragma(db, "page_count")? * page_bytes,
        wal_bytes: wal.and_then(|wal| std::fs::metadata(wal).ok()).map(|wal| wal.len()),
        free_bytes: Some(pragma(db, "freelist_count")? * page_bytes),
        tables: Vec::new(),
        devices: count("SELECT count(*) FROM devices")?,
        mailboxes: count("SELECT count(*) FROM mailboxes")?,
    })
}

fn pragma(db: &Connection, name: &str) -> Result<u64> {
    from_db(db.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?)
}
