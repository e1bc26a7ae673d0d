//! What changes a log. Each function is one transaction that locks the group's row first.

use bytes::Bytes;
use deadpool_postgres::{Client, Transaction};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, NoisePublicKey, Timeline};

use std::collections::HashMap;

use super::pool::failed;
use super::{read, retention};
use crate::store::rules::{AppendPlan, Entrance, KnownRow, allow_set, entrance, fixed, plan_append, present, to_db};
use crate::store::{
    Admission, Admitted, Append, AppendRequest, GroupKey, NewLog, RestrictRequest, Restricted, Result, RotateRequest,
    Rotated, StoreError,
};

pub(super) async fn admit(
    client: &mut Client,
    group: GroupKey,
    auth_public: &AuthPublicKey,
    device: &NoisePublicKey,
    now_ms: u64,
) -> Result<Admission> {
    let db = client.transaction().await.map_err(failed)?;
    let row = match read::lock_group(&db, group).await {
        Err(StoreError::Gone) => {
            retention::revive(&db, group, auth_public).await?;
            read::lock_group(&db, group).await?
        }
        row => row?,
    };
    let mut allow = allow_list(&db, group).await?;
    match entrance(&row, auth_public, allow.contains(device), allow.len()) {
        Entrance::Superseded => return Ok(Admission::Superseded),
        Entrance::Restricted => return Ok(Admission::Restricted),
        Entrance::ListFull => return Ok(Admission::ListFull),
        Entrance::Listed => {}
        Entrance::ListNow => {
            list(&db, group, &[*device]).await?;
            allow.push(*device);
        }
    }
    let seen = db
        .prepare_cached(
            "UPDATE devices SET last_seen = greatest(last_seen, $3)
             WHERE group_id = $1 AND noise_key = $2 RETURNING slot",
        )
        .await
        .map_err(failed)?;
    let slot = db.query_one(&seen, &[&&group.0[..], &&device.0[..], &to_db(now_ms)]).await.map_err(failed)?;
    let slot = read::bytes(&slot, 0);
    db.commit().await.map_err(failed)?;
    Ok(Admission::Admitted(Admitted { state: row.state(), group_bytes: row.bytes, slot, allow }))
}

pub(super) async fn create(client: &mut Client, log: &NewLog, now_ms: u64) -> Result<Option<GroupKey>> {
    let name = LogName::of(&log.auth_public);
    let group = GroupKey(name.0);
    let db = client.transaction().await.map_err(failed)?;
    if !take_name(&db, &name, group).await? {
        return Ok(None);
    }
    let insert = db
        .prepare_cached(
            "INSERT INTO groups (group_id, auth_pub, auth_gen, timeline, head, head_blob_id, floor, floor_blob_id,
                                 bytes, restricted, created_at, epoch_envelope)
             VALUES ($1, $2, 0, $3, 0, $4, 1, $4, 0, false, $5, $6)",
        )
        .await
        .map_err(failed)?;
    db.execute(
        &insert,
        &[
            &&group.0[..],
            &&log.auth_public.0[..],
            &&log.timeline.0[..],
            &&BlobId::ZERO.0[..],
            &to_db(now_ms),
            &&log.epoch_envelope[..],
        ],
    )
    .await
    .map_err(failed)?;
    list(&db, group, &log.allow).await?;
    let envelopes: Vec<(BlobId, Bytes)> = std::iter::once(&log.epoch_envelope)
        .chain(&log.envelopes)
        .map(|envelope| (blob_id(envelope), envelope.clone()))
        .collect();
    let row = read::lock_group(&db, group).await?;
    write_plan(&db, group, &plan_append(&row, &envelopes, HashMap::new(), u64::MAX), now_ms).await?;
    db.commit().await.map_err(failed)?;
    Ok(Some(group))
}

pub(super) async fn append(client: &mut Client, request: &AppendRequest) -> Result<Append> {
    let group = request.group;
    let db = client.transaction().await.map_err(failed)?;
    let row = read::lock_group(&db, group).await?;
    if !is_listed(&db, group, &request.device).await? {
        return Ok(Append::Revoked);
    }
    if row.auth_gen != request.auth_gen {
        return Ok(Append::Superseded { epoch_envelope: read::epoch_envelope(&db, group).await? });
    }
    let known = known_rows(&db, group, &request.envelopes).await?;
    let plan = plan_append(&row, &request.envelopes, known, request.group_bytes_max);
    write_plan(&db, group, &plan, request.now_ms).await?;
    db.commit().await.map_err(failed)?;
    let (cursors, head) = (plan.cursors, plan.head);
    Ok(if plan.over_quota { Append::QuotaExceeded { cursors, head } } else { Append::Stored { cursors, head } })
}

pub(super) async fn rotate(client: &mut Client, request: &RotateRequest) -> Result<Rotated> {
    let group = request.group;
    let db = client.transaction().await.map_err(failed)?;
    let row = read::lock_group(&db, group).await?;
    let name = LogName::of(&request.next_auth_public);
    let envelopes = [(blob_id(&request.epoch_envelope), request.epoch_envelope.clone())];
    let known = known_rows(&db, group, &envelopes).await?;
    // The name tells a rotation that happened from an envelope that was merely pushed.
    let taken_by = read::owner(&db, &name).await?;
    if let (Some(found), Some(owner)) = (known.get(&envelopes[0].0), taken_by)
        && owner == group
    {
        return Ok(Rotated::Done { auth_gen: row.auth_gen, cursor: found.cursor });
    }
    if !is_listed(&db, group, &request.device).await? {
        return Ok(Rotated::Revoked);
    }
    let conflict = Rotated::Conflict { auth_gen: row.auth_gen };
    if row.auth_gen != request.expect_gen || !take_name(&db, &name, group).await? {
        return Ok(conflict);
    }
    // A quota must not keep a device from being removed.
    let plan = plan_append(&row, &envelopes, known, u64::MAX);
    write_plan(&db, group, &plan, request.now_ms).await?;
    let auth_gen = row.auth_gen + 1;
    let update = db
        .prepare_cached(
            "UPDATE groups SET auth_pub = $2, auth_gen = $3, epoch_envelope = $4, restricted = false
             WHERE group_id = $1",
        )
        .await
        .map_err(failed)?;
    db.execute(
        &update,
        &[&&group.0[..], &&request.next_auth_public.0[..], &to_db(auth_gen), &&request.epoch_envelope[..]],
    )
    .await
    .map_err(failed)?;
    keep_listed(&db, group, &request.allow).await?;
    list(&db, group, &request.allow).await?;
    db.commit().await.map_err(failed)?;
    Ok(Rotated::Done { auth_gen, cursor: plan.cursors[0].cursor })
}

pub(super) async fn restrict(client: &mut Client, request: &RestrictRequest) -> Result<Restricted> {
    let group = request.group;
    let db = client.transaction().await.map_err(failed)?;
    let row = read::lock_group(&db, group).await?;
    if !is_listed(&db, group, &request.device).await? {
        return Ok(Restricted::Revoked);
    }
    if row.auth_gen != request.auth_gen {
        return Ok(Restricted::Superseded { epoch_envelope: read::epoch_envelope(&db, group).await? });
    }
    keep_listed(&db, group, &request.allow).await?;
    let update = db.prepare_cached("UPDATE groups SET restricted = true WHERE group_id = $1").await.map_err(failed)?;
    db.execute(&update, &[&&group.0[..]]).await.map_err(failed)?;
    db.commit().await.map_err(failed)?;
    Ok(Restricted::Done { head: row.head })
}

pub(super) async fn new_timeline(db: &Client, group: GroupKey, old: Timeline, fresh: Timeline) -> Result<Timeline> {
    let update = db
        .prepare_cached("UPDATE groups SET timeline = $3 WHERE group_id = $1 AND timeline = $2")
        .await
        .map_err(failed)?;
    db.execute(&update, &[&&group.0[..], &&old.0[..], &&fresh.0[..]]).await.map_err(failed)?;
    Ok(present(read::group(db, group).await?)?.timeline)
}

pub(super) async fn slot_put(db: &Client, group: GroupKey, device: &NoisePublicKey, data: &[u8]) -> Result<()> {
    let update = db
        .prepare_cached("UPDATE devices SET slot = $3 WHERE group_id = $1 AND noise_key = $2")
        .await
        .map_err(failed)?;
    db.execute(&update, &[&&group.0[..], &&device.0[..], &data]).await.map_err(failed)?;
    Ok(())
}

pub(super) async fn ack(
    db: &Client,
    group: GroupKey,
    device: &NoisePublicKey,
    cursor: u64,
    receipt: Option<&[u8]>,
    now_ms: u64,
) -> Result<()> {
    let head = present(read::group(db, group).await?)?.head;
    let update = db
        .prepare_cached(
            "UPDATE devices SET acked = greatest(acked, $3), slot = coalesce($4, slot),
                                last_seen = greatest(last_seen, $5)
             WHERE group_id = $1 AND noise_key = $2",
        )
        .await
        .map_err(failed)?;
    db.execute(&update, &[&&group.0[..], &&device.0[..], &to_db(cursor.min(head)), &receipt, &to_db(now_ms)])
        .await
        .map_err(failed)?;
    Ok(())
}

/// Whether the name was free. Waits for another transaction that is taking it.
async fn take_name(db: &Transaction<'_>, name: &LogName, group: GroupKey) -> Result<bool> {
    let insert = db
        .prepare_cached("INSERT INTO names (name, group_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .await
        .map_err(failed)?;
    Ok(db.execute(&insert, &[&&name.0[..], &&group.0[..]]).await.map_err(failed)? == 1)
}

async fn allow_list(db: &Transaction<'_>, group: GroupKey) -> Result<Vec<NoisePublicKey>> {
    let select = db
        .prepare_cached("SELECT noise_key FROM devices WHERE group_id = $1 ORDER BY noise_key")
        .await
        .map_err(failed)?;
    let rows = db.query(&select, &[&&group.0[..]]).await.map_err(failed)?;
    rows.iter().map(|row| fixed(row.get(0)).map(NoisePublicKey)).collect()
}

pub(super) async fn is_listed(db: &Transaction<'_>, group: GroupKey, device: &NoisePublicKey) -> Result<bool> {
    let select =
        db.prepare_cached("SELECT 1 FROM devices WHERE group_id = $1 AND noise_key = $2").await.map_err(failed)?;
    Ok(db.query_opt(&select, &[&&group.0[..], &&device.0[..]]).await.map_err(failed)?.is_some())
}

/// Puts devices on the allow-list; those that are there keep their slots.
async fn list(db: &Transaction<'_>, group: GroupKey, allow: &[NoisePublicKey]) -> Result<()> {
    let allow = allow_set(allow);
    let keys: Vec<&[u8]> = allow.iter().map(AsRef::as_ref).collect();
    let insert = db
        .prepare_cached(
            "INSERT INTO devices (group_id, noise_key, slot, acked, last_seen)
             SELECT $1, noise_key, ''::bytea, 0, 0 FROM unnest($2::bytea[]) AS noise_key
             ON CONFLICT DO NOTHING",
        )
        .await
        .map_err(failed)?;
    db.execute(&insert, &[&&group.0[..], &keys]).await.map_err(failed)?;
    Ok(())
}

/// Takes everybody else off the allow-list.
async fn keep_listed(db: &Transaction<'_>, group: GroupKey, allow: &[NoisePublicKey]) -> Result<()> {
    let allow = allow_set(allow);
    let keys: Vec<&[u8]> = allow.iter().map(AsRef::as_ref).collect();
    let delete =
        db.prepare_cached("DELETE FROM devices WHERE group_id = $1 AND noise_key <> ALL($2)").await.map_err(failed)?;
    db.execute(&delete, &[&&group.0[..], &keys]).await.map_err(failed)?;
    Ok(())
}

async fn known_rows(
    db: &Transaction<'_>,
    group: GroupKey,
    envelopes: &[(BlobId, Bytes)],
) -> Result<HashMap<BlobId, KnownRow>> {
    let ids: Vec<BlobId> = envelopes.iter().map(|(id, _)| *id).collect();
    let stored = read::stored(db, group, &ids).await?;
    Ok(stored.into_iter().map(|(id, cursor, sound)| (id, KnownRow { cursor, sound })).collect())
}

async fn write_plan(db: &Transaction<'_>, group: GroupKey, plan: &AppendPlan<'_>, now_ms: u64) -> Result<()> {
    let group = &group.0[..];
    if !plan.insert.is_empty() {
        let cursors: Vec<i64> = plan.insert.iter().map(|(cursor, ..)| to_db(*cursor)).collect();
        let ids: Vec<&[u8]> = plan.insert.iter().map(|(_, id, _)| &id.0[..]).collect();
        let envelopes: Vec<&[u8]> = plan.insert.iter().map(|(.., envelope)| &envelope[..]).collect();
        let insert = db
            .prepare_cached(
                "INSERT INTO entries (group_id, cursor, blob_id, envelope, received_at)
                 SELECT $1, cursor, blob_id, envelope, $5
                 FROM unnest($2::bigint[], $3::bytea[], $4::bytea[]) AS new (cursor, blob_id, envelope)",
            )
            .await
            .map_err(failed)?;
        db.execute(&insert, &[&group, &cursors, &ids, &envelopes, &to_db(now_ms)]).await.map_err(failed)?;
        let update = db
            .prepare_cached("UPDATE groups SET head = $2, head_blob_id = $3, bytes = $4 WHERE group_id = $1")
            .await
            .map_err(failed)?;
        db.execute(&update, &[&group, &to_db(plan.head), &&plan.head_blob_id.0[..], &to_db(plan.bytes)])
            .await
            .map_err(failed)?;
    }
    if !plan.heal.is_empty() {
        let cursors: Vec<i64> = plan.heal.iter().map(|(cursor, _)| to_db(*cursor)).collect();
        let envelopes: Vec<&[u8]> = plan.heal.iter().map(|(_, envelope)| &envelope[..]).collect();
        let heal = db
            .prepare_cached(
                "UPDATE entries SET envelope = sound.envelope
                 FROM unnest($2::bigint[], $3::bytea[]) AS sound (cursor, envelope)
                 WHERE entries.group_id = $1 AND entries.cursor = sound.cursor",
            )
            .await
            .map_err(failed)?;
        db.execute(&heal, &[&group, &cursors, &envelopes]).await.map_err(failed)?;
    }
    Ok(())
}
