//! What changes a log. Each function runs in a writing transaction, of which SQLite has one at a
//! time: holding it is the group's lock.

use std::collections::HashMap;

use bytes::Bytes;
use rusqlite::{OptionalExtension, Transaction, params};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, NoisePublicKey, Timeline};

use super::{read, retention};
use crate::store::rules::{
    AppendPlan, Entrance, KnownRow, allow_set, entrance, fixed, from_db, plan_append, present, to_db,
};
use crate::store::{
    Admission, Admitted, Append, AppendRequest, GroupKey, NewLog, RestrictRequest, Restricted, Result, RotateRequest,
    Rotated,
};

pub(super) fn admit(
    db: &Transaction<'_>,
    group: GroupKey,
    auth_public: &AuthPublicKey,
    device: &NoisePublicKey,
    now_ms: u64,
) -> Result<Admission> {
    let row = match read::group(db, group)? {
        Some(row) => row,
        None => {
            retention::revive(db, group, auth_public)?;
            present(read::group(db, group)?)?
        }
    };
    let mut allow = allow_list(db, group)?;
    match entrance(&row, auth_public, allow.contains(device), allow.len()) {
        Entrance::Superseded => return Ok(Admission::Superseded),
        Entrance::Restricted => return Ok(Admission::Restricted),
        Entrance::ListFull => return Ok(Admission::ListFull),
        Entrance::Listed => {}
        Entrance::ListNow => {
            list(db, group, device)?;
            allow.push(*device);
        }
    }
    let slot: Vec<u8> = db
        .prepare_cached(
            "UPDATE devices SET last_seen = max(last_seen, ?3) WHERE group_id = ?1 AND noise_key = ?2 RETURNING slot",
        )?
        .query_row(params![&group.0, &device.0, to_db(now_ms)], |row| row.get(0))?;
    Ok(Admission::Admitted(Admitted { state: row.state(), group_bytes: row.bytes, slot: Bytes::from(slot), allow }))
}

pub(super) fn create(db: &Transaction<'_>, log: &NewLog, now_ms: u64) -> Result<Option<GroupKey>> {
    let name = LogName::of(&log.auth_public);
    let group = GroupKey(name.0);
    if !take_name(db, &name, group)? {
        return Ok(None);
    }
    db.prepare_cached(
        "INSERT INTO groups (group_id, auth_pub, auth_gen, timeline, head, head_blob_id, floor, floor_blob_id,
                             bytes, restricted, created_at, epoch_envelope)
         VALUES (?1, ?2, 0, ?3, 0, ?4, 1, ?4, 0, 0, ?5, ?6)",
    )?
    .execute(params![
        &group.0,
        &log.auth_public.0,
        &log.timeline.0,
        &BlobId::ZERO.0,
        to_db(now_ms),
        &log.epoch_envelope[..],
    ])?;
    for device in allow_set(&log.allow) {
        list(db, group, &device)?;
    }
    let envelopes: Vec<(BlobId, Bytes)> = std::iter::once(&log.epoch_envelope)
        .chain(&log.envelopes)
        .map(|envelope| (blob_id(envelope), envelope.clone()))
        .collect();
    let row = present(read::group(db, group)?)?;
    write_plan(db, group, &plan_append(&row, &envelopes, HashMap::new(), u64::MAX), now_ms)?;
    Ok(Some(group))
}

pub(super) fn append(db: &Transaction<'_>, request: &AppendRequest) -> Result<Append> {
    let group = request.group;
    let row = present(read::group(db, group)?)?;
    if !is_listed(db, group, &request.device)? {
        return Ok(Append::Revoked);
    }
    if row.auth_gen != request.auth_gen {
        return Ok(Append::Superseded { epoch_envelope: read::epoch_envelope(db, group)? });
    }
    let known = known_rows(db, group, &request.envelopes)?;
    let plan = plan_append(&row, &request.envelopes, known, request.group_bytes_max);
    write_plan(db, group, &plan, request.now_ms)?;
    let (cursors, head) = (plan.cursors, plan.head);
    Ok(if plan.over_quota { Append::QuotaExceeded { cursors, head } } else { Append::Stored { cursors, head } })
}

pub(super) fn rotate(db: &Transaction<'_>, request: &RotateRequest) -> Result<Rotated> {
    let group = request.group;
    let row = present(read::group(db, group)?)?;
    let name = LogName::of(&request.next_auth_public);
    let envelopes = [(blob_id(&request.epoch_envelope), request.epoch_envelope.clone())];
    let known = known_rows(db, group, &envelopes)?;
    // The name tells a rotation that happened from an envelope that was merely pushed.
    let taken_by: Option<Vec<u8>> = db
        .prepare_cached("SELECT group_id FROM names WHERE name = ?1")?
        .query_row([&name.0], |row| row.get(0))
        .optional()?;
    if let (Some(found), Some(owner)) = (known.get(&envelopes[0].0), &taken_by)
        && owner[..] == group.0
    {
        return Ok(Rotated::Done { auth_gen: row.auth_gen, cursor: found.cursor });
    }
    if !is_listed(db, group, &request.device)? {
        return Ok(Rotated::Revoked);
    }
    if row.auth_gen != request.expect_gen || taken_by.is_some() {
        return Ok(Rotated::Conflict { auth_gen: row.auth_gen });
    }
    take_name(db, &name, group)?;
    // A quota must not keep a device from being removed.
    let plan = plan_append(&row, &envelopes, known, u64::MAX);
    write_plan(db, group, &plan, request.now_ms)?;
    db.prepare_cached(
        "UPDATE groups SET auth_pub = ?2, auth_gen = ?3, epoch_envelope = ?4, restricted = 0 WHERE group_id = ?1",
    )?
    .execute(params![
        &group.0,
        &request.next_auth_public.0,
        to_db(row.auth_gen + 1),
        &request.epoch_envelope[..],
    ])?;
    keep_listed(db, group, &request.allow)?;
    for device in allow_set(&request.allow) {
        list(db, group, &device)?;
    }
    Ok(Rotated::Done { auth_gen: row.auth_gen + 1, cursor: plan.cursors[0].cursor })
}

pub(super) fn restrict(db: &Transaction<'_>, request: &RestrictRequest) -> Result<Restricted> {
    let group = request.group;
    let row = present(read::group(db, group)?)?;
    if !is_listed(db, group, &request.device)? {
        return Ok(Restricted::Revoked);
    }
    if row.auth_gen != request.auth_gen {
        return Ok(Restricted::Superseded { epoch_envelope: read::epoch_envelope(db, group)? });
    }
    keep_listed(db, group, &request.allow)?;
    db.prepare_cached("UPDATE groups SET restricted = 1 WHERE group_id = ?1")?.execute([&group.0])?;
    Ok(Restricted::Done { head: row.head })
}

pub(super) fn new_timeline(db: &Transaction<'_>, group: GroupKey, old: Timeline, fresh: Timeline) -> Result<Timeline> {
    db.prepare_cached("UPDATE groups SET timeline = ?3 WHERE group_id = ?1 AND timeline = ?2")?
        .execute(params![&group.0, &old.0, &fresh.0])?;
    Ok(present(read::group(db, group)?)?.timeline)
}

pub(super) fn slot_put(db: &Transaction<'_>, group: GroupKey, device: &NoisePublicKey, data: &[u8]) -> Result<()> {
    db.prepare_cached("UPDATE devices SET slot = ?3 WHERE group_id = ?1 AND noise_key = ?2")?
        .execute(params![&group.0, &device.0, data])?;
    Ok(())
}

pub(super) fn ack(
    db: &Transaction<'_>,
    group: GroupKey,
    device: &NoisePublicKey,
    cursor: u64,
    receipt: Option<&[u8]>,
    now_ms: u64,
) -> Result<()> {
    let head = present(read::group(db, group)?)?.head;
    db.prepare_cached(
        "UPDATE devices SET acked = max(acked, ?3), slot = coalesce(?4, slot), last_seen = max(last_seen, ?5)
         WHERE group_id = ?1 AND noise_key = ?2",
    )?
    .execute(params![&group.0, &device.0, to_db(cursor.min(head)), receipt, to_db(now_ms)])?;
    Ok(())
}

/// Writes something that changes nothing, to find out whether writing works.
pub(super) fn touch(db: &Transaction<'_>) -> Result<()> {
    db.execute("UPDATE meta SET value = value WHERE key = 'schema_version'", [])?;
    Ok(())
}

/// Whether the name was free.
fn take_name(db: &Transaction<'_>, name: &LogName, group: GroupKey) -> Result<bool> {
    let taken = db
        .prepare_cached("INSERT INTO names (name, group_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![&name.0, &group.0])?;
    Ok(taken == 1)
}

fn allow_list(db: &Transaction<'_>, group: GroupKey) -> Result<Vec<NoisePublicKey>> {
    let mut statement = db.prepare_cached("SELECT noise_key FROM devices WHERE group_id = ?1 ORDER BY noise_key")?;
    let mut rows = statement.query([&group.0])?;
    let mut allow = Vec::new();
    while let Some(row) = rows.next()? {
        allow.push(NoisePublicKey(fixed(&row.get::<_, Vec<u8>>(0)?)?));
    }
    Ok(allow)
}

pub(super) fn is_listed(db: &Transaction<'_>, group: GroupKey, device: &NoisePublicKey) -> Result<bool> {
    Ok(db
        .prepare_cached("SELECT 1 FROM devices WHERE group_id = ?1 AND noise_key = ?2")?
        .exists(params![&group.0, &device.0])?)
}

/// Puts a device on the allow-list; one that is there keeps its slot.
fn list(db: &Transaction<'_>, group: GroupKey, device: &NoisePublicKey) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO devices (group_id, noise_key, slot, acked, last_seen) VALUES (?1, ?2, x'', 0, 0)
         ON CONFLICT DO NOTHING",
    )?
    .execute(params![&group.0, &device.0])?;
    Ok(())
}

/// Takes everybody else off the allow-list.
fn keep_listed(db: &Transaction<'_>, group: GroupKey, allow: &[NoisePublicKey]) -> Result<()> {
    let keep = allow_set(allow);
    let mut statement = db.prepare_cached("DELETE FROM devices WHERE group_id = ?1 AND noise_key = ?2")?;
    for device in allow_list(db, group)?.iter().filter(|device| !keep.contains(*device)) {
        statement.execute(params![&group.0, &device.0])?;
    }
    Ok(())
}

fn known_rows(
    db: &Transaction<'_>,
    group: GroupKey,
    envelopes: &[(BlobId, Bytes)],
) -> Result<HashMap<BlobId, KnownRow>> {
    let mut statement =
        db.prepare_cached("SELECT cursor, envelope FROM entries WHERE group_id = ?1 AND blob_id = ?2")?;
    let mut known = HashMap::new();
    for (id, _) in envelopes {
        let mut rows = statement.query(params![&group.0, &id.0])?;
        if let Some(row) = rows.next()? {
            let sound = blob_id(&row.get::<_, Vec<u8>>(1)?) == *id;
            known.insert(*id, KnownRow { cursor: from_db(row.get(0)?)?, sound });
        }
    }
    Ok(known)
}

fn write_plan(db: &Transaction<'_>, group: GroupKey, plan: &AppendPlan<'_>, now_ms: u64) -> Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO entries (group_id, cursor, blob_id, envelope, received_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (cursor, id, envelope) in &plan.insert {
        insert.execute(params![&group.0, to_db(*cursor), &id.0, &envelope[..], to_db(now_ms)])?;
    }
    let mut heal = db.prepare_cached("UPDATE entries SET envelope = ?3 WHERE group_id = ?1 AND cursor = ?2")?;
    for (cursor, envelope) in &plan.heal {
        heal.execute(params![&group.0, to_db(*cursor), &envelope[..]])?;
    }
    if !plan.insert.is_empty() {
        db.prepare_cached("UPDATE groups SET head = ?2, head_blob_id = ?3, bytes = ?4 WHERE group_id = ?1")?
            .execute(params![&group.0, to_db(plan.head), &plan.head_blob_id.0, to_db(plan.bytes)])?;
    }
    Ok(())
}
