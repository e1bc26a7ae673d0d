//! What changes a log. Each function runs in a writing transaction, of which SQLite has one at a
//! time: holding it is the group's lock.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use rusqlite::{OptionalExtension, Transaction, params};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{AuthPublicKey, BlobId, LogName, NoisePublicKey, Timeline};

use super::{commit, read, retention};
use crate::store::rules::{Entrance, admission, allow_set, entrance, is_over_quota, plan_unchecked, present, to_db};
use crate::store::{Admission, GroupKey, NewLog, RestrictRequest, Restricted, Result, RotateRequest, Rotated};

/// Puts a device on the allow-list if it still may, and brings back a log that was deleted.
pub(super) fn list_now(
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
    let mut members = read::members(db, group, device)?;
    let entrance = entrance(&row, auth_public, members.slot.is_some(), members.allow.len());
    if entrance == Entrance::ListNow {
        list(db, group, device, now_ms)?;
        members.allow.push(*device);
    }
    Ok(admission(entrance, row, members))
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
        list(db, group, &device, 0)?;
    }
    let envelopes: Vec<(BlobId, Bytes)> = std::iter::once(&log.epoch_envelope)
        .chain(&log.envelopes)
        .map(|envelope| (blob_id(envelope), envelope.clone()))
        .collect();
    let mut row = present(read::group(db, group)?)?;
    let (plan, _) = plan_unchecked(&mut row, &mut HashMap::new(), &envelopes, now_ms);
    commit::write_plan(db, &plan)?;
    Ok(Some(group))
}

pub(super) fn rotate(db: &Transaction<'_>, request: &RotateRequest) -> Result<Rotated> {
    let group = request.group;
    let mut row = present(read::group(db, group)?)?;
    let name = LogName::of(&request.next_auth_public);
    let id = blob_id(&request.epoch_envelope);
    let envelopes = [(id, request.epoch_envelope.clone())];
    let mut known = read::known_rows(db, &BTreeSet::from([(group, id)]))?;
    // The name tells a rotation that happened from an envelope that was merely pushed.
    let taken_by: Option<Vec<u8>> = db
        .prepare_cached("SELECT group_id FROM names WHERE name = ?1")?
        .query_row([&name.0], |row| row.get(0))
        .optional()?;
    if let (Some(found), Some(owner)) = (known.get(&(group, id)), &taken_by)
        && owner[..] == group.0
    {
        return Ok(Rotated::Again { auth_gen: row.auth_gen, cursor: found.cursor });
    }
    if !is_listed(db, group, &request.device)? {
        return Ok(Rotated::Revoked);
    }
    if row.auth_gen != request.expect_gen || taken_by.is_some() {
        return Ok(Rotated::Conflict { auth_gen: row.auth_gen });
    }
    if is_over_quota(&row, request) {
        return Ok(Rotated::QuotaExceeded);
    }
    take_name(db, &name, group)?;
    let (plan, cursors) = plan_unchecked(&mut row, &mut known, &envelopes, request.now_ms);
    commit::write_plan(db, &plan)?;
    db.prepare_cached(
        "UPDATE groups SET auth_pub = ?2, auth_gen = ?3, epoch_envelope = ?4, restricted = 0,
                           removals = removals + 1
         WHERE group_id = ?1",
    )?
    .execute(params![
        &group.0,
        &request.next_auth_public.0,
        to_db(row.auth_gen + 1),
        &request.epoch_envelope[..],
    ])?;
    keep_listed(db, group, &request.allow)?;
    for device in allow_set(&request.allow) {
        list(db, group, &device, 0)?;
    }
    Ok(Rotated::Done { auth_gen: row.auth_gen + 1, cursor: cursors[0].cursor })
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
    db.prepare_cached("UPDATE groups SET restricted = 1, removals = removals + 1 WHERE group_id = ?1")?
        .execute([&group.0])?;
    Ok(Restricted::Done { head: row.head })
}

pub(super) fn new_timeline(db: &Transaction<'_>, group: GroupKey, old: Timeline, fresh: Timeline) -> Result<Timeline> {
    db.prepare_cached("UPDATE groups SET timeline = ?3 WHERE group_id = ?1 AND timeline = ?2")?
        .execute(params![&group.0, &old.0, &fresh.0])?;
    Ok(present(read::group(db, group)?)?.timeline)
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

pub(super) fn is_listed(db: &Transaction<'_>, group: GroupKey, device: &NoisePublicKey) -> Result<bool> {
    Ok(db
        .prepare_cached("SELECT 1 FROM devices WHERE group_id = ?1 AND noise_key = ?2")?
        .exists(params![&group.0, &device.0])?)
}

/// Puts a device on the allow-list; one that is there keeps its slot.
fn list(db: &Transaction<'_>, group: GroupKey, device: &NoisePublicKey, seen_ms: u64) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO devices (group_id, noise_key, slot, acked, last_seen) VALUES (?1, ?2, x'', 0, ?3)
         ON CONFLICT DO NOTHING",
    )?
    .execute(params![&group.0, &device.0, to_db(seen_ms)])?;
    Ok(())
}

/// Takes everybody else off the allow-list.
fn keep_listed(db: &Transaction<'_>, group: GroupKey, allow: &[NoisePublicKey]) -> Result<()> {
    let keep = allow_set(allow);
    let mut statement = db.prepare_cached("DELETE FROM devices WHERE group_id = ?1 AND noise_key = ?2")?;
    for device in read::allow_list(db, group)?.iter().filter(|device| !keep.contains(*device)) {
        statement.execute(params![&group.0, &device.0])?;
    }
    Ok(())
}
