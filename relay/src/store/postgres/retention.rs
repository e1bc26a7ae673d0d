//! Floors, deletion and the collector in Postgres. The collector has a connection of its own, taken
//! out of the pool, whose advisory lock ends with it: an instance that dies gives it up.

use std::ops::ControlFlow;

use async_trait::async_trait;
use deadpool_postgres::{ClientWrapper, GenericClient, Transaction};
use zerok_sync_protocol::{AuthPublicKey, BlobId};

use super::pool::failed;
use super::{Postgres, log, read};
use crate::store::rules::retention::{Aim, Doomed, Floors, aim, seen_since};
use crate::store::rules::{GroupRow, fixed, from_db, to_db};
use crate::store::{
    Account, Budget, Collector, DeleteRequest, Deleted, GroupKey, Removal, Result, Retention, Step, Storage,
    StoreError, TableSize, Then, TruncateRequest, Truncated,
};

/// Held by the collector ('0k-gc' in ASCII).
const COLLECTOR_LOCK: i64 = 0x30_6b_2d_67_63;

#[async_trait]
impl Retention for Postgres {
    async fn truncate(&self, request: TruncateRequest) -> Result<Truncated> {
        let mut client = self.connection().await?;
        let db = client.transaction().await.map_err(failed)?;
        let truncated = truncate(&db, &request).await?;
        db.commit().await.map_err(failed)?;
        Ok(truncated)
    }

    async fn delete_group(&self, request: DeleteRequest) -> Result<Deleted> {
        let mut client = self.connection().await?;
        let db = client.transaction().await.map_err(failed)?;
        let deleted = delete_group(&db, &request).await?;
        db.commit().await.map_err(failed)?;
        Ok(deleted)
    }

    async fn mark_active(&self, groups: &[GroupKey], stale_ms: u64, now_ms: u64) -> Result<()> {
        let keys: Vec<&[u8]> = groups.iter().map(|group| &group.0[..]).collect();
        // In order, so that two instances do not wait for each other in a circle.
        execute(
            &*self.connection().await?,
            "UPDATE groups SET active_at = $3 FROM (
                 SELECT group_id FROM groups WHERE group_id = ANY($1) AND active_at < $2 ORDER BY group_id FOR UPDATE
             ) AS used WHERE groups.group_id = used.group_id",
            &[&keys, &to_db(stale_ms), &to_db(now_ms)],
        )
        .await?;
        Ok(())
    }

    async fn survey(&self, after: Option<GroupKey>, count_max: usize) -> Result<Vec<Account>> {
        let db = self.connection().await?;
        let select = db
            .prepare_cached(
                "SELECT group_id, head, kept_from, bytes, purge_below, purge_at, delete_at, created_at, active_at
                 FROM groups WHERE group_id > $1 ORDER BY group_id LIMIT $2",
            )
            .await
            .map_err(failed)?;
        let after = after.as_ref().map_or(&[][..], |group| &group.0[..]);
        let rows = db.query(&select, &[&after, &to_db(count_max as u64)]).await.map_err(failed)?;
        rows.iter()
            .map(|row| {
                let number = |column: usize| from_db(row.get(column));
                let (head, kept_from, created_at_ms) = (number(1)?, number(2)?, number(7)?);
                let (purge_below, purge_at, delete_at) = (number(4)?, number(5)?, number(6)?);
                Ok(Account {
                    group: GroupKey(fixed(row.get(0))?),
                    entries: (head + 1).saturating_sub(kept_from),
                    bytes: number(3)?,
                    purge_at_ms: (kept_from < purge_below).then_some(purge_at),
                    delete_at_ms: (delete_at > 0).then_some(delete_at),
                    created_at_ms,
                    active_at_ms: number(8)?.max(created_at_ms),
                })
            })
            .collect()
    }

    async fn collector(&self) -> Result<Option<Box<dyn Collector + '_>>> {
        let client = self.connection().await?.detach();
        let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&COLLECTOR_LOCK]).await.map_err(failed)?;
        Ok(if row.get(0) { Some(Box::new(PostgresCollector { client })) } else { None })
    }

    async fn storage(&self) -> Result<Storage> {
        let db = self.connection().await?;
        let row = db
            .query_one(
                "SELECT pg_database_size(current_database()), (SELECT count(*) FROM devices),
                        (SELECT count(*) FROM mailboxes)",
                &[],
            )
            .await
            .map_err(failed)?;
        let tables = db
            .query(
                "SELECT relname::text, pg_total_relation_size(relid), n_live_tup, n_dead_tup FROM pg_stat_user_tables
                 WHERE schemaname = current_schema() ORDER BY relname",
                &[],
            )
            .await
            .map_err(failed)?;
        let size = |row: &tokio_postgres::Row| {
            Ok(TableSize {
                name: row.get(0),
                bytes: from_db(row.get(1))?,
                rows: from_db(row.get(2))?,
                dead_rows: from_db(row.get(3))?,
            })
        };
        Ok(Storage {
            database_bytes: from_db(row.get(0))?,
            wal_bytes: None,
            free_bytes: None,
            tables: tables.iter().map(size).collect::<Result<_>>()?,
            devices: from_db(row.get(1))?,
            mailboxes: from_db(row.get(2))?,
        })
    }

    async fn declare_restore(&self) -> Result<u64> {
        declare_restore(&*self.connection().await?).await
    }
}

pub(super) async fn declare_restore(db: &impl GenericClient) -> Result<u64> {
    // The second half of a random UUID: 62 random bits, never all zero.
    execute(db, "UPDATE groups SET timeline = substring(uuid_send(gen_random_uuid()) FROM 9)", &[]).await
}

struct PostgresCollector {
    client: ClientWrapper,
}

#[async_trait]
impl Collector for PostgresCollector {
    async fn purge(&mut self, group: GroupKey, budget: Budget, now_ms: u64, grace_ms: u64) -> Result<Step> {
        let db = self.client.transaction().await.map_err(failed)?;
        let step = purge(&db, group, budget, now_ms, grace_ms).await?;
        db.commit().await.map_err(failed)?;
        Ok(step)
    }

    async fn remove(&mut self, group: GroupKey, why: Removal, budget: Budget, now_ms: u64) -> Result<Step> {
        let db = self.client.transaction().await.map_err(failed)?;
        let step = remove(&db, group, why, budget, now_ms).await?;
        db.commit().await.map_err(failed)?;
        Ok(step)
    }

    async fn give_back(&mut self, _pages_max: u64) -> Result<bool> {
        Ok(false)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        self.client.execute("SELECT pg_advisory_unlock($1)", &[&COLLECTOR_LOCK]).await.map_err(failed)?;
        Ok(())
    }
}

/// A deleted log is served again, if the key is its current one and its removal has not begun.
pub(super) async fn revive(db: &Transaction<'_>, group: GroupKey, auth_public: &AuthPublicKey) -> Result<()> {
    execute(
        db,
        "UPDATE groups SET delete_at = 0 WHERE group_id = $1 AND auth_pub = $2 AND delete_at <> 0 AND NOT removing",
        &[&&group.0[..], &&auth_public.0[..]],
    )
    .await?;
    Ok(())
}

async fn truncate(db: &Transaction<'_>, request: &TruncateRequest) -> Result<Truncated> {
    let group = request.group;
    let row = read::lock_group(db, group).await?;
    if !log::is_listed(db, group, &request.device).await? {
        return Ok(Truncated::Revoked);
    }
    if row.auth_gen != request.auth_gen {
        return Ok(Truncated::Superseded { epoch_envelope: read::epoch_envelope(db, group).await? });
    }
    let floors = floors(db, group).await?;
    let select = db
        .prepare_cached("SELECT min(acked) FROM devices WHERE group_id = $1 AND (last_seen >= $2 OR noise_key = $3)")
        .await
        .map_err(failed)?;
    let acked = db
        .query_one(&select, &[&&group.0[..], &to_db(seen_since(request.now_ms)), &&request.device.0[..]])
        .await
        .map_err(failed)?;
    let below = match aim(&row, &floors, request, from_db(acked.get(0))?) {
        Aim::Stay => return Ok(Truncated::Done { floor: row.floor }),
        Aim::TooSoon { retry_after_ms } => return Ok(Truncated::TooSoon { retry_after_ms }),
        Aim::NotReached { below_max } => return Ok(Truncated::NotReached { below_max }),
        Aim::Move { below } => below,
    };
    let (floor, floor_blob_id) = anchor(db, group, &row, &floors, below).await?;
    // A floor that is raised never ends up lower for want of a row.
    if (floor > row.floor) != (below > row.floor) {
        return Ok(Truncated::Done { floor: row.floor });
    }
    execute(
        db,
        "UPDATE groups SET floor = $2, floor_blob_id = $3 WHERE group_id = $1",
        &[&&group.0[..], &to_db(floor), &&floor_blob_id.0[..]],
    )
    .await?;
    write_floors(db, group, &floors.moved(&row, floor, request)).await?;
    Ok(Truncated::Done { floor })
}

/// The highest floor up to `below` whose lower neighbour's blob id is known, and that blob id.
async fn anchor(
    db: &Transaction<'_>,
    group: GroupKey,
    row: &GroupRow,
    floors: &Floors,
    below: u64,
) -> Result<(u64, BlobId)> {
    if below == row.head + 1 {
        return Ok((below, row.head_blob_id));
    }
    let select = db
        .prepare_cached(
            "SELECT cursor, blob_id FROM entries WHERE group_id = $1 AND cursor >= $2 AND cursor < $3
             ORDER BY cursor DESC LIMIT 1",
        )
        .await
        .map_err(failed)?;
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&&group.0[..], &to_db(floors.kept_from), &to_db(below)];
    match db.query_opt(&select, &parameters).await.map_err(failed)? {
        Some(neighbour) => Ok((from_db(neighbour.get(0))? + 1, BlobId(fixed(neighbour.get(1))?))),
        None => Ok((floors.kept_from, floors.kept_blob_id)),
    }
}

async fn delete_group(db: &Transaction<'_>, request: &DeleteRequest) -> Result<Deleted> {
    let group = request.group;
    let row = read::lock_group(db, group).await?;
    if !log::is_listed(db, group, &request.device).await? {
        return Ok(Deleted::Revoked);
    }
    if row.auth_gen != request.auth_gen {
        return Ok(Deleted::Superseded { epoch_envelope: read::epoch_envelope(db, group).await? });
    }
    // Zero stands for "not deleted".
    let delete_at = request.now_ms.saturating_add(request.grace_ms).max(1);
    execute(db, "UPDATE groups SET delete_at = $2 WHERE group_id = $1", &[&&group.0[..], &to_db(delete_at)]).await?;
    Ok(Deleted::Done)
}

async fn purge(db: &Transaction<'_>, group: GroupKey, budget: Budget, now_ms: u64, grace_ms: u64) -> Result<Step> {
    let row = match read::lock_group(db, group).await {
        Err(StoreError::Gone) => return Ok(Step::default()),
        row => row?,
    };
    let floors = floors(db, group).await?;
    if !floors.is_due(now_ms) {
        return Ok(Step::default());
    }
    let doomed = doomed(db, group, floors.purge_below, budget).await?;
    delete_entries(db, group, &doomed).await?;
    write_floors(db, group, &floors.purged(&row, &doomed, now_ms, grace_ms)).await?;
    execute(
        db,
        "UPDATE groups SET bytes = greatest(bytes - $2, 0) WHERE group_id = $1",
        &[&&group.0[..], &to_db(doomed.bytes)],
    )
    .await?;
    let then = if doomed.more { Then::Continue } else { Then::Finished };
    Ok(Step { entries: doomed.entries, bytes: doomed.bytes, then })
}

async fn remove(db: &Transaction<'_>, group: GroupKey, why: Removal, budget: Budget, now_ms: u64) -> Result<Step> {
    if !begin_removal(db, group, why, now_ms).await? {
        return Ok(Step::default());
    }
    let doomed = doomed(db, group, u64::MAX, budget).await?;
    delete_entries(db, group, &doomed).await?;
    let step = Step { entries: doomed.entries, bytes: doomed.bytes, then: Then::Continue };
    if doomed.more {
        return Ok(step);
    }
    let key = &group.0[..];
    execute(db, "DELETE FROM devices WHERE group_id = $1", &[&key]).await?;
    // The log's first name goes last: as long as it is taken nobody makes the log anew.
    let names = execute(
        db,
        "DELETE FROM names WHERE name IN (SELECT name FROM names WHERE group_id = $1 AND name <> $1 LIMIT $2)",
        &[&key, &to_db(budget.entries_max)],
    )
    .await?;
    if names >= budget.entries_max {
        return Ok(step);
    }
    execute(db, "DELETE FROM names WHERE group_id = $1", &[&key]).await?;
    execute(db, "DELETE FROM groups WHERE group_id = $1", &[&key]).await?;
    Ok(Step { then: Then::Finished, ..step })
}

/// Whether the log is to be removed, now that it is locked. From then on it cannot come back.
async fn begin_removal(db: &Transaction<'_>, group: GroupKey, why: Removal, now_ms: u64) -> Result<bool> {
    let key = &group.0[..];
    let begun = match why {
        Removal::Deleted => {
            execute(
                db,
                "UPDATE groups SET removing = true
                 WHERE group_id = $1 AND (removing OR (delete_at <> 0 AND delete_at <= $2))",
                &[&key, &to_db(now_ms)],
            )
            .await?
        }
        Removal::Idle { since_ms } => {
            // `active_at` is noted now and then; a Hello is noted with the device, under this lock.
            execute(db, "SELECT 1 FROM groups WHERE group_id = $1 FOR UPDATE", &[&key]).await?;
            execute(
                db,
                "UPDATE groups SET active_at = greatest(active_at, created_at, coalesce(
                     (SELECT max(last_seen) FROM devices WHERE devices.group_id = $1), 0))
                 WHERE group_id = $1",
                &[&key],
            )
            .await?;
            execute(
                db,
                "UPDATE groups SET removing = true, delete_at = $3
                 WHERE group_id = $1 AND (removing OR active_at < $2)",
                &[&key, &to_db(since_ms), &to_db(now_ms.max(1))],
            )
            .await?
        }
    };
    Ok(begun == 1)
}

/// The lowest entries of a log, as many as one step may remove.
async fn doomed(db: &Transaction<'_>, group: GroupKey, below: u64, budget: Budget) -> Result<Doomed> {
    // The length of a stored value is known without reading it.
    let select = db
        .prepare_cached(
            "SELECT cursor, blob_id, octet_length(envelope)::bigint FROM entries
             WHERE group_id = $1 AND cursor < $2 ORDER BY cursor LIMIT $3",
        )
        .await
        .map_err(failed)?;
    let mut doomed = Doomed::new(budget);
    let rows = db.query(&select, &[&&group.0[..], &to_db(below), &to_db(doomed.rows_max())]).await.map_err(failed)?;
    for row in &rows {
        let id = BlobId::from_slice(row.get(1));
        if let ControlFlow::Break(()) = doomed.push(from_db(row.get(0))?, id, from_db(row.get(2))?) {
            break;
        }
    }
    Ok(doomed)
}

async fn delete_entries(db: &Transaction<'_>, group: GroupKey, doomed: &Doomed) -> Result<()> {
    if let Some((last, _)) = doomed.last {
        execute(db, "DELETE FROM entries WHERE group_id = $1 AND cursor <= $2", &[&&group.0[..], &to_db(last)]).await?;
    }
    Ok(())
}

async fn floors(db: &Transaction<'_>, group: GroupKey) -> Result<Floors> {
    let select = db
        .prepare_cached(
            "SELECT kept_from, kept_blob_id, raised_at, purge_below, purge_at FROM groups WHERE group_id = $1",
        )
        .await
        .map_err(failed)?;
    let row = db.query_one(&select, &[&&group.0[..]]).await.map_err(failed)?;
    Ok(Floors {
        kept_from: from_db(row.get(0))?,
        kept_blob_id: BlobId(fixed(row.get(1))?),
        raised_at: from_db(row.get(2))?,
        purge_below: from_db(row.get(3))?,
        purge_at: from_db(row.get(4))?,
    })
}

async fn write_floors(db: &Transaction<'_>, group: GroupKey, floors: &Floors) -> Result<()> {
    execute(
        db,
        "UPDATE groups SET kept_from = $2, kept_blob_id = $3, raised_at = $4, purge_below = $5, purge_at = $6
         WHERE group_id = $1",
        &[
            &&group.0[..],
            &to_db(floors.kept_from),
            &&floors.kept_blob_id.0[..],
            &to_db(floors.raised_at),
            &to_db(floors.purge_below),
            &to_db(floors.purge_at),
        ],
    )
    .await?;
    Ok(())
}

async fn execute(
    db: &impl GenericClient,
    sql: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<u64> {
    let statement = db.prepare_cached(sql).await.map_err(failed)?;
    db.execute(&statement, parameters).await.map_err(failed)
}
