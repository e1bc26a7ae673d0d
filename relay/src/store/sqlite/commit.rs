//! A batch of appends and notes, within one writing transaction.

use std::collections::BTreeSet;

use rusqlite::{Transaction, params};
use zerok_sync_protocol::BlobId;

use super::{log, read};
use crate::store::rules::{Found, Plan, plan, to_db};
use crate::store::{Append, Batch, DeviceNote, GroupKey, Result};

pub(super) fn commit(db: &Transaction<'_>, batch: &Batch) -> Result<Vec<Append>> {
    let mut found = look(db, batch)?;
    let plan = plan(&mut found, &batch.appends);
    write_plan(db, &plan)?;
    for note in &batch.notes {
        write_note(db, note, found.acked(note))?;
    }
    Ok(plan.answers)
}

/// Whether somebody is promised that this is on disk when it is answered.
pub(super) fn is_promised(batch: &Batch) -> bool {
    batch.appends.iter().any(|append| !append.envelopes.is_empty()) || batch.notes.iter().any(|note| note.durable)
}

fn look(db: &Transaction<'_>, batch: &Batch) -> Result<Found> {
    let mut found = Found::default();
    let groups: BTreeSet<GroupKey> =
        batch.appends.iter().map(|append| append.group).chain(batch.notes.iter().map(|note| note.group)).collect();
    for group in groups {
        found.groups.extend(read::group(db, group)?.map(|row| (group, row)));
    }
    let mut ids: BTreeSet<(GroupKey, BlobId)> = BTreeSet::new();
    for append in &batch.appends {
        if log::is_listed(db, append.group, &append.device)? {
            found.listed.insert((append.group, append.device));
        }
        ids.extend(append.envelopes.iter().map(|(id, _)| (append.group, *id)));
    }
    found.known = read::known_rows(db, &ids)?;
    for group in found.superseded(&batch.appends) {
        found.epoch_envelopes.insert(group, read::epoch_envelope(db, group)?);
    }
    Ok(found)
}

pub(super) fn write_plan(db: &Transaction<'_>, plan: &Plan<'_>) -> Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO entries (group_id, cursor, blob_id, envelope, received_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for row in &plan.insert {
        insert.execute(params![
            &row.group.0,
            to_db(row.cursor),
            &row.blob_id.0,
            &row.envelope[..],
            to_db(row.received_at_ms)
        ])?;
    }
    let mut heal = db.prepare_cached("UPDATE entries SET envelope = ?3 WHERE group_id = ?1 AND cursor = ?2")?;
    for (group, cursor, envelope) in &plan.heal {
        heal.execute(params![&group.0, to_db(*cursor), &envelope[..]])?;
    }
    let mut grow =
        db.prepare_cached("UPDATE groups SET head = ?2, head_blob_id = ?3, bytes = ?4 WHERE group_id = ?1")?;
    for (group, row) in &plan.grown {
        grow.execute(params![&group.0, to_db(row.head), &row.head_blob_id.0, to_db(row.bytes)])?;
    }
    Ok(())
}

fn write_note(db: &Transaction<'_>, note: &DeviceNote, acked: u64) -> Result<()> {
    db.prepare_cached(
        "UPDATE devices SET acked = max(acked, ?3), slot = coalesce(?4, slot), last_seen = max(last_seen, ?5)
         WHERE group_id = ?1 AND noise_key = ?2 AND (?3 > acked OR ?4 IS NOT NULL OR ?5 > last_seen)",
    )?
    .execute(params![&note.group.0, &note.device.0, to_db(acked), note.slot.as_deref(), to_db(note.seen_ms)])?;
    Ok(())
}
