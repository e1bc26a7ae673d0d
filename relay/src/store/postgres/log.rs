//! What changes a log. Each function is one transaction that locks the group's row first.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use deadpool_postgres::{Client, Transaction};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, NoisePublicKey, Timeline};

use super::pool::failed;
use super::{commit, read, retention};
use crate::store::rules::{Entrance, admission, allow_set, entrance, is_over_quota, plan_unchecked, present, to_db};
use crate::store::{
    Admission, GroupKey, NewLog, RestrictRequest, Restricted, Result, RotateRequest, Rotated, StoreError,
};

/// Puts a device on the allow-list if it still may under the log's lock, and brings back a log that
/// was deleted.
pub(super) async fn list_now(
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
    let mut members = read::members(&db, group, device).await?;
    let entrance = entrance(&row, auth_public, members.slot.is_some(), members.allow.len());
    if entrance == Entrance::ListNow {
        list(&db, group, &[*device], now_ms).await?;
        members.allow.push(*device);
    }
    if matches!(entrance, Entrance::Listed | Entrance::ListNow) {
        db.commit().await.map_err(failed)?;
    }
    Ok(admission(entrance, row, members))
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
    list(&db, group, &log.allow, 0).await?;
    let envelopes: Vec<(BlobId, Bytes)> = std::iter::once(&log.epoch_envelope)
        .chain(&log.envelopes)
        .map(|envelope| (blob_id(envelope), envelope.clone()))
        .collect();
    let mut row = read::lock_group(&db, group).await?;
    let (plan, _) = plan_unchecked(&mut row, &mut HashMap::new(), &envelopes, now_ms);
    commit::write_plan(&db, &plan).await?;
    db.commit().await.map_err(failed)?;
    Ok(Some(group))
}

pub(super) async fn rotate(client: &mut Client, request: &RotateRequest) -> Result<Rotated> {
    let group = request.group;
    let db = client.transaction().await.map_err(failed)?;
    let mut row = read::lock_group(&db, group).await?;
    let name = LogName::of(&request.next_auth_public);
    let id = blob_id(&request.epoch_envelope);
    let envelopes = [(id, request.epoch_envelope.clone())];
    let mut known = read::known_rows(&db, &BTreeSet::from([(group, id)])).await?;
    // The name tells a rotation that happened from an envelope that was merely pushed.
    let taken_by = read::owner(&db, &name).await?;
    if let (Some(found), Some(owner)) = (known.get(&(group, id)), taken_by)
        && owner == group
    {
        return Ok(Rotated::Again { auth_gen: row.auth_gen, cursor: found.cursor });
    }
    if !is_listed(&db, group, &request.device).await? {
        return Ok(Rotated::Revoked);
    }
    let conflict = Rotated::Conflict { auth_gen: row.auth_gen };
    if row.auth_gen != request.expect_gen || taken_by.is_some() {
        return Ok(conflict);
    }
    if is_over_quota(&row, request) {
        return Ok(Rotated::QuotaExceeded);
    }
    // Another log may be taking it just now.
    if !take_name(&db, &name, group).await? {
        return Ok(conflict);
    }
    let (plan, cursors) = plan_unchecked(&mut row, &mut known, &envelopes, request.now_ms);
    commit::write_plan(&db, &plan).await?;
    let auth_gen = row.auth_gen + 1;
    let update = db
        .prepare_cached(
            "UPDATE groups SET auth_pub = $2, auth_gen = $3, epoch_envelope = $4, restricted = false,
                               removals = removals + 1
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
    list(&db, group, &request.allow, 0).await?;
    db.commit().await.map_err(failed)?;
    Ok(Rotated::Done { auth_gen, cursor: cursors[0].cursor })
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
    let update = db
        .prepare_cached("UPDATE groups SET restricted = true, removals = removals + 1 WHERE group_id = $1")
        .await
        .map_err(failed)?;
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

/// Whether the name was free. Waits for another transaction that is taking it.
async fn take_name(db: &Transaction<'_>, name: &LogName, group: GroupKey) -> Result<bool> {
    let insert = db
        .prepare_cached("INSERT INTO names (name, group_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .await
        .map_err(failed)?;
    Ok(db.execute(&insert, &[&&name.0[..], &&group.0[..]]).await.map_err(failed)? == 1)
}

pub(super) async fn is_listed(db: &Transaction<'_>, group: GroupKey, device: &NoisePublicKey) -> Result<bool> {
    let select =
        db.prepare_cached("SELECT 1 FROM devices WHERE group_id = $1 AND noise_key = $2").await.map_err(failed)?;
    Ok(db.query_opt(&select, &[&&group.0[..], &&device.0[..]]).await.map_err(failed)?.is_some())
}

/// Puts devices on the allow-list; those that are there keep their slots.
async fn list(db: &Transaction<'_>, group: GroupKey, allow: &[NoisePublicKey], seen_ms: u64) -> Result<()> {
    let allow = allow_set(allow);
    let keys: Vec<&[u8]> = allow.iter().map(AsRef::as_ref).collect();
    let insert = db
        .prepare_cached(
            "INSERT INTO devices (group_id, noise_key, slot, acked, last_seen)
             SELECT $1, noise_key, ''::bytea, 0, $3 FROM unnest($2::bytea[]) AS noise_key
             ON CONFLICT DO NOTHING",
        )
        .await
        .map_err(failed)?;
    db.execute(&insert, &[&&group.0[..], &keys, &to_db(seen_ms)]).await.map_err(failed)?;
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
