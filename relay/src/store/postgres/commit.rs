//! A batch of appends and notes: one statement for logs that stand as this instance left them, one
//! transaction of two round trips for the rest.
//!
//! *As left* ([`RecentLogs`]): one statement moves the heads of those logs that stand as it says, and
//! inserts behind them; it is its own transaction, and the only round trip. A log that stands
//! otherwise is left alone and goes the other way, as all do if an envelope is there already.
//!
//! *Under locks.* First trip: begin, lock the logs' rows in the order of their ids (so that instances never wait
//! for each other in a circle), and look at everything else in later statements, whose snapshots
//! are then no older than the locks. Second trip: one statement over arrays for each kind of
//! change, and the commit. The server works through a trip's statements in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use deadpool_postgres::{Client, GenericClient};
use futures_util::future::{OptionFuture, join, join3, join4};
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;
use zerok_sync_protocol::{BlobId, NoisePublicKey};

use super::pool::{Connection, failed};
use super::read::{self, GROUP_COLUMNS};
use super::recent::RecentLogs;
use crate::store::rules::{Found, GroupRow, NewRow, Plan, fixed, plan, to_db};
use crate::store::{Append, AppendRequest, Batch, DeviceNote, GroupKey, Result};

/// A connection with a transaction that was begun by hand. Dropped before [`Self::ended`] it is
/// closed, and the server rolls back: nobody gets a connection with somebody else's transaction.
struct Begun(Option<Connection>);

impl Begun {
    fn db(&self) -> &Client {
        self.0.as_deref().expect("the connection is there until the transaction has ended")
    }

    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(client.detach());
        }
    }
}

pub(super) async fn commit(client: Connection, recent: &RecentLogs, batch: &Batch) -> Result<Vec<Append>> {
    let statements = Statements::prepare(&*client).await?;
    let mut answers = vec![None; batch.appends.len()];
    // A note wants its log locked, for the head that it may not be ahead of.
    if batch.notes.is_empty() {
        answers = append_as_left(&client, &statements, recent, &batch.appends).await?;
    }
    let (open, rest): (Vec<usize>, Vec<&AppendRequest>) =
        batch.appends.iter().enumerate().filter(|(index, _)| answers[*index].is_none()).unzip();
    if !rest.is_empty() || !batch.notes.is_empty() {
        let answered = commit_under_locks(client, &statements, recent, &rest, &batch.notes).await?;
        open.into_iter().zip(answered).for_each(|(index, answer)| answers[index] = Some(answer));
    }
    Ok(answers.into_iter().map(|answer| answer.expect("what was not answered first was answered now")).collect())
}

/// Appends to the logs that stand as they were left; the others have no answer yet.
async fn append_as_left(
    db: &Client,
    statements: &Statements,
    recent: &RecentLogs,
    appends: &[AppendRequest],
) -> Result<Vec<Option<Append>>> {
    let mut answers = vec![None; appends.len()];
    let mut found = recent.recall(appends);
    if found.groups.is_empty() {
        return Ok(answers);
    }
    let before = found.groups.clone();
    let (indices, guessed): (Vec<usize>, Vec<&AppendRequest>) =
        appends.iter().enumerate().filter(|(_, append)| before.contains_key(&append.group)).unzip();
    let plan = plan(&mut found, guessed.iter().copied());
    let moved = match append_if_as_left(db, statements, &before, &plan).await {
        Ok(moved) => moved,
        Err(error) => {
            recent.forget(before.into_keys());
            // Something was pushed again: where it stands is looked up.
            let known = error.code() == Some(&SqlState::UNIQUE_VIOLATION);
            return if known { Ok(answers) } else { Err(failed(error)) };
        }
    };
    let moved: BTreeSet<GroupKey> = moved.iter().map(|row| fixed(row.get(0)).map(GroupKey)).collect::<Result<_>>()?;
    recent.forget(before.into_keys().filter(|group| !moved.contains(group)));
    recent.left(plan.grown.into_values().filter(|row| moved.contains(&row.group)));
    for ((index, append), answer) in indices.into_iter().zip(guessed).zip(plan.answers) {
        answers[index] = moved.contains(&append.group).then_some(answer);
    }
    Ok(answers)
}

async fn append_if_as_left(
    db: &Client,
    statements: &Statements,
    before: &BTreeMap<GroupKey, GroupRow>,
    plan: &Plan<'_>,
) -> std::result::Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
    // In the order of their ids, as everywhere, and each of them grows.
    let groups: Vec<&[u8]> = before.keys().map(|group| &group.0[..]).collect();
    let timelines: Vec<&[u8]> = before.values().map(|row| &row.timeline.0[..]).collect();
    let auth_gens: Vec<i64> = before.values().map(|row| to_db(row.auth_gen)).collect();
    let (heads, head_ids, bytes) = standing(before);
    let (new_heads, new_head_ids, new_bytes) = standing(&plan.grown);
    let rows = Rows::of(&plan.insert);
    db.query(
        &statements.append_as_left,
        &[
            &groups,
            &timelines,
            &auth_gens,
            &heads,
            &head_ids,
            &bytes,
            &new_heads,
            &new_head_ids,
            &new_bytes,
            &rows.groups,
            &rows.cursors,
            &rows.ids,
            &rows.envelopes,
            &rows.times,
        ],
    )
    .await
}

/// What every append changes of each log.
fn standing(logs: &BTreeMap<GroupKey, GroupRow>) -> (Vec<i64>, Vec<&[u8]>, Vec<i64>) {
    let heads = logs.values().map(|row| to_db(row.head)).collect();
    let head_ids = logs.values().map(|row| &row.head_blob_id.0[..]).collect();
    let bytes = logs.values().map(|row| to_db(row.bytes)).collect();
    (heads, head_ids, bytes)
}

async fn commit_under_locks(
    client: Connection,
    statements: &Statements,
    recent: &RecentLogs,
    appends: &[&AppendRequest],
    notes: &[DeviceNote],
) -> Result<Vec<Append>> {
    let begun = Begun(Some(client));
    let mut found = look(begun.db(), statements, appends, notes).await?;
    let superseded = found.superseded(appends.iter().copied());
    if !superseded.is_empty() {
        found.epoch_envelopes = epoch_envelopes(begun.db(), statements, &superseded).await?;
    }
    let before = found.groups.clone();
    let plan = plan(&mut found, appends.iter().copied());
    let answers = match write(begun.db(), statements, plan, notes, &found).await {
        Ok(answers) => answers,
        Err(error) => {
            recent.forget(before.into_keys());
            return Err(error);
        }
    };
    begun.ended();
    recent.learn(&before, found);
    Ok(answers)
}

/// The first round trip.
async fn look(db: &Client, statements: &Statements, appends: &[&AppendRequest], notes: &[DeviceNote]) -> Result<Found> {
    let groups: BTreeSet<GroupKey> =
        appends.iter().map(|append| append.group).chain(notes.iter().map(|note| note.group)).collect();
    let devices: BTreeSet<(GroupKey, NoisePublicKey)> =
        appends.iter().map(|append| (append.group, append.device)).collect();
    let ids: BTreeSet<(GroupKey, BlobId)> =
        appends.iter().flat_map(|append| append.envelopes.iter().map(|(id, _)| (append.group, *id))).collect();
    let groups: Vec<&[u8]> = groups.iter().map(|group| &group.0[..]).collect();
    let device_groups: Vec<&[u8]> = devices.iter().map(|(group, _)| &group.0[..]).collect();
    let device_keys: Vec<&[u8]> = devices.iter().map(|(_, key)| &key.0[..]).collect();
    let (begun, locked, listed, known) = join4(
        db.batch_execute("BEGIN"),
        db.query(&statements.lock, &[&groups]),
        db.query(&statements.listed, &[&device_groups, &device_keys]),
        read::known_rows(db, &ids),
    )
    .await;
    begun.map_err(failed)?;
    let mut found = Found::default();
    for row in locked.map_err(failed)? {
        let row = read::parse_group(&row)?;
        found.groups.insert(row.group, row);
    }
    for row in listed.map_err(failed)? {
        found.listed.insert((GroupKey(fixed(row.get(0))?), NoisePublicKey(fixed(row.get(1))?)));
    }
    found.known = known?;
    Ok(found)
}

async fn epoch_envelopes(
    db: &Client,
    statements: &Statements,
    groups: &BTreeSet<GroupKey>,
) -> Result<HashMap<GroupKey, Bytes>> {
    let groups: Vec<&[u8]> = groups.iter().map(|group| &group.0[..]).collect();
    let rows = db.query(&statements.epoch_envelopes, &[&groups]).await.map_err(failed)?;
    rows.iter().map(|row| Ok((GroupKey(fixed(row.get(0))?), read::bytes(row, 1)))).collect()
}

/// The second round trip.
async fn write(
    db: &Client,
    statements: &Statements,
    plan: Plan<'_>,
    notes: &[DeviceNote],
    found: &Found,
) -> Result<Vec<Append>> {
    let notes: Vec<&DeviceNote> = notes.iter().filter(|note| found.groups.contains_key(&note.group)).collect();
    let durable = plan.writes() || notes.iter().any(|note| note.durable);
    // Nothing that anybody was promised: the next flush takes it along.
    let relaxed = (!durable && !notes.is_empty()).then(|| db.batch_execute("SET LOCAL synchronous_commit = off"));
    let end = if durable || !notes.is_empty() { "COMMIT" } else { "ROLLBACK" };
    let insert = (!plan.insert.is_empty()).then(|| insert(db, statements, &plan.insert));
    let grow = (!plan.grown.is_empty()).then(|| grow(db, statements, &plan.grown));
    let heal = (!plan.heal.is_empty()).then(|| heal(db, statements, &plan.heal));
    let note = (!notes.is_empty()).then(|| note(db, statements, &notes, found));
    // Polled, and so sent, in this order.
    let ((relaxed, insert, grow), (heal, note, ended)) = join(
        join3(OptionFuture::from(relaxed), OptionFuture::from(insert), OptionFuture::from(grow)),
        join3(OptionFuture::from(heal), OptionFuture::from(note), db.batch_execute(end)),
    )
    .await;
    relaxed.transpose().map_err(failed)?;
    for outcome in [insert, grow, heal, note] {
        outcome.transpose().map_err(failed)?;
    }
    ended.map_err(failed)?;
    Ok(plan.answers)
}

/// Writes a plan within a transaction that does more.
pub(super) async fn write_plan(db: &impl GenericClient, plan: &Plan<'_>) -> Result<()> {
    let statements = Statements::prepare(db).await?;
    if !plan.insert.is_empty() {
        insert(db, &statements, &plan.insert).await.map_err(failed)?;
    }
    if !plan.grown.is_empty() {
        grow(db, &statements, &plan.grown).await.map_err(failed)?;
    }
    if !plan.heal.is_empty() {
        heal(db, &statements, &plan.heal).await.map_err(failed)?;
    }
    Ok(())
}

type Executed = std::result::Result<u64, tokio_postgres::Error>;

/// New rows, by column.
struct Rows<'a> {
    groups: Vec<&'a [u8]>,
    cursors: Vec<i64>,
    ids: Vec<&'a [u8]>,
    envelopes: Vec<&'a [u8]>,
    times: Vec<i64>,
}

impl<'a> Rows<'a> {
    fn of(rows: &'a [NewRow<'_>]) -> Self {
        Self {
            groups: rows.iter().map(|row| &row.group.0[..]).collect(),
            cursors: rows.iter().map(|row| to_db(row.cursor)).collect(),
            ids: rows.iter().map(|row| &row.blob_id.0[..]).collect(),
            envelopes: rows.iter().map(|row| &row.envelope[..]).collect(),
            times: rows.iter().map(|row| to_db(row.received_at_ms)).collect(),
        }
    }
}

async fn insert(db: &impl GenericClient, statements: &Statements, rows: &[NewRow<'_>]) -> Executed {
    let Rows { groups, cursors, ids, envelopes, times } = Rows::of(rows);
    db.execute(&statements.insert, &[&groups, &cursors, &ids, &envelopes, &times]).await
}

async fn grow(db: &impl GenericClient, statements: &Statements, logs: &BTreeMap<GroupKey, GroupRow>) -> Executed {
    let groups: Vec<&[u8]> = logs.keys().map(|group| &group.0[..]).collect();
    let (heads, head_ids, bytes) = standing(logs);
    db.execute(&statements.grow, &[&groups, &heads, &head_ids, &bytes]).await
}

async fn heal(db: &impl GenericClient, statements: &Statements, rows: &[(GroupKey, u64, &Bytes)]) -> Executed {
    let groups: Vec<&[u8]> = rows.iter().map(|(group, ..)| &group.0[..]).collect();
    let cursors: Vec<i64> = rows.iter().map(|(_, cursor, _)| to_db(*cursor)).collect();
    let envelopes: Vec<&[u8]> = rows.iter().map(|(.., envelope)| &envelope[..]).collect();
    db.execute(&statements.heal, &[&groups, &cursors, &envelopes]).await
}

async fn note(db: &impl GenericClient, statements: &Statements, notes: &[&DeviceNote], found: &Found) -> Executed {
    let groups: Vec<&[u8]> = notes.iter().map(|note| &note.group.0[..]).collect();
    let keys: Vec<&[u8]> = notes.iter().map(|note| &note.device.0[..]).collect();
    let acked: Vec<i64> = notes.iter().map(|note| to_db(found.acked(note))).collect();
    let slots: Vec<Option<&[u8]>> = notes.iter().map(|note| note.slot.as_deref()).collect();
    let seen: Vec<i64> = notes.iter().map(|note| to_db(note.seen_ms)).collect();
    db.execute(&statements.note, &[&groups, &keys, &acked, &slots, &seen]).await
}

/// Prepared once per connection.
struct Statements {
    append_as_left: Statement,
    lock: Statement,
    listed: Statement,
    epoch_envelopes: Statement,
    insert: Statement,
    grow: Statement,
    heal: Statement,
    note: Statement,
}

impl Statements {
    async fn prepare(db: &impl GenericClient) -> Result<Self> {
        let prepare = async |sql: &str| db.prepare_cached(sql).await.map_err(failed);
        Ok(Self {
            // Looked up in a set that is built once: joins are nested loops here (see the settings
            // of each connection), and many rows would be held against many logs.
            append_as_left: prepare(
                "WITH moved AS (
                     UPDATE groups SET head = wanted.new_head, head_blob_id = wanted.new_head_blob_id,
                                       bytes = wanted.new_bytes
                     FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bigint[],
                                 $7::bigint[], $8::bytea[], $9::bigint[])
                         AS wanted (group_id, timeline, auth_gen, head, head_blob_id, bytes,
                                    new_head, new_head_blob_id, new_bytes)
                     WHERE groups.group_id = wanted.group_id AND groups.timeline = wanted.timeline
                       AND groups.auth_gen = wanted.auth_gen AND groups.head = wanted.head
                       AND groups.head_blob_id = wanted.head_blob_id AND groups.bytes = wanted.bytes
                       AND NOT groups.restricted AND groups.delete_at = 0
                     RETURNING groups.group_id
                 ), appended AS (
                     INSERT INTO entries (group_id, cursor, blob_id, envelope, received_at)
                     SELECT * FROM unnest($10::bytea[], $11::bigint[], $12::bytea[], $13::bytea[], $14::bigint[])
                         AS fresh (group_id, cursor, blob_id, envelope, received_at)
                     WHERE (group_id IN (SELECT group_id FROM moved)) IS TRUE
                 )
                 SELECT group_id FROM moved",
            )
            .await?,
            lock: prepare(&format!(
                "SELECT {GROUP_COLUMNS} FROM groups WHERE group_id = ANY($1) AND delete_at = 0 ORDER BY group_id FOR UPDATE"
            ))
            .await?,
            listed: prepare(
                "SELECT devices.group_id, devices.noise_key
                 FROM unnest($1::bytea[], $2::bytea[]) AS wanted (group_id, noise_key)
                 JOIN devices ON devices.group_id = wanted.group_id AND devices.noise_key = wanted.noise_key",
            )
            .await?,
            epoch_envelopes: prepare("SELECT group_id, epoch_envelope FROM groups WHERE group_id = ANY($1)").await?,
            insert: prepare(
                "INSERT INTO entries (group_id, cursor, blob_id, envelope, received_at)
                 SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bigint[])",
            )
            .await?,
            grow: prepare(
                "UPDATE groups SET head = grown.head, head_blob_id = grown.head_blob_id, bytes = grown.bytes
                 FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bigint[])
                     AS grown (group_id, head, head_blob_id, bytes)
                 WHERE groups.group_id = grown.group_id",
            )
            .await?,
            heal: prepare(
                "UPDATE entries SET envelope = sound.envelope
                 FROM unnest($1::bytea[], $2::bigint[], $3::bytea[]) AS sound (group_id, cursor, envelope)
                 WHERE entries.group_id = sound.group_id AND entries.cursor = sound.cursor",
            )
            .await?,
            note: prepare(
                "UPDATE devices SET acked = greatest(devices.acked, note.acked),
                                    slot = coalesce(note.slot, devices.slot),
                                    last_seen = greatest(devices.last_seen, note.last_seen)
                 FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bytea[], $5::bigint[])
                     AS note (group_id, noise_key, acked, slot, last_seen)
                 WHERE devices.group_id = note.group_id AND devices.noise_key = note.noise_key
                   AND (note.acked > devices.acked OR note.slot IS NOT NULL OR note.last_seen > devices.last_seen)",
            )
            .await?,
        })
    }
}
