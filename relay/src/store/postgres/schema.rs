//! The Postgres schema, its migrations, and the settings that the promises of [`crate::store`]
//! rest on.
//!
//! Every key starts with the group, so that the tables distribute by it unchanged; the exceptions
//! are what is looked up before a group is known: `meta`, `names`, `mailboxes` with their
//! messages, and the index from a device to its logs.

use deadpool_postgres::Client;

use super::pool::failed;
use crate::store::{Result, StoreError};

/// Migration `n` (from 1) takes schema version `n - 1` to `n`.
pub(in crate::store) const MIGRATIONS: &[&str] = &["
CREATE TABLE names (
    name     bytea PRIMARY KEY,
    group_id bytea NOT NULL
);
CREATE INDEX names_by_group ON names (group_id);

-- floor_blob_id is the blob id at floor - 1, kept so that a device standing there can go on.
CREATE TABLE groups (
    group_id       bytea PRIMARY KEY,
    auth_pub       bytea NOT NULL,
    auth_gen       bigint NOT NULL,
    timeline       bytea NOT NULL,
    head           bigint NOT NULL,
    head_blob_id   bytea NOT NULL,
    floor          bigint NOT NULL,
    floor_blob_id  bytea NOT NULL,
    bytes          bigint NOT NULL,
    restricted     boolean NOT NULL,
    -- How often devices may have been taken off the list.
    removals       bigint NOT NULL DEFAULT 0,
    created_at     bigint NOT NULL,
    -- Retention. Rows below kept_from were removed, kept_blob_id is the blob id below it; what is
    -- below purge_below goes from purge_at on. A log with a delete_at is not served.
    kept_from      bigint NOT NULL DEFAULT 1,
    kept_blob_id   bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    raised_at      bigint NOT NULL DEFAULT 0,
    purge_below    bigint NOT NULL DEFAULT 1,
    purge_at       bigint NOT NULL DEFAULT 0,
    active_at      bigint NOT NULL DEFAULT 0,
    delete_at      bigint NOT NULL DEFAULT 0,
    removing       boolean NOT NULL DEFAULT false,
    epoch_envelope bytea NOT NULL
);
-- Rewritten with every append: room for in-page updates keeps it small.
ALTER TABLE groups SET (fillfactor = 50);
ALTER TABLE groups ALTER COLUMN epoch_envelope SET STORAGE EXTERNAL;

CREATE TABLE entries (
    group_id    bytea NOT NULL,
    cursor      bigint NOT NULL,
    blob_id     bytea NOT NULL,
    received_at bigint NOT NULL,
    envelope    bytea NOT NULL,
    PRIMARY KEY (group_id, cursor)
);
-- Sealed bytes do not compress.
ALTER TABLE entries ALTER COLUMN envelope SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX entries_by_blob_id ON entries (group_id, blob_id);

-- The allow-list.
CREATE TABLE devices (
    group_id  bytea NOT NULL,
    noise_key bytea NOT NULL,
    slot      bytea NOT NULL,
    acked     bigint NOT NULL,
    last_seen bigint NOT NULL,
    PRIMARY KEY (group_id, noise_key)
);
CREATE INDEX devices_by_noise_key ON devices (noise_key);

-- Autovacuum's defaults wait until a fifth of a table is dead: with a large log that is too much
-- space, with `groups`, rewritten at every append, too many rows to step over.
ALTER TABLE entries SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05,
    toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 10000
);
ALTER TABLE groups SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
ALTER TABLE devices SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

CREATE TABLE mailboxes (
    mailbox_id bytea PRIMARY KEY,
    group_id   bytea NOT NULL,
    salt       bytea NOT NULL,
    expires_at bigint NOT NULL,
    joined     boolean NOT NULL,
    closed     boolean NOT NULL
);
CREATE TABLE mailbox_messages (
    mailbox_id  bytea NOT NULL,
    number      bigint NOT NULL,
    from_joiner boolean NOT NULL,
    data        bytea NOT NULL,
    PRIMARY KEY (mailbox_id, number)
);
"];

/// Serialises migrations of instances that start at once ('0k-sync' in ASCII).
const MIGRATION_LOCK: i64 = 0x30_6b_2d_73_79_6e_63;

/// What every connection runs under, whatever the server's defaults. The timeouts bound how long
/// a dead instance can hold a log's lock, or a stuck one its sessions. Every statement here finds
/// its rows by a key: the planner is kept from reading whole tables, which it prefers while they
/// are small and would go on doing with a plan made then; and plans are made once, because making
/// one over arrays of envelopes costs more than carrying it out.
pub(super) const SESSION_SETTINGS: &str = "
SET synchronous_commit = on;
SET default_transaction_isolation = 'read committed';
SET default_transaction_read_only = off;
SET lock_timeout = '2s';
SET statement_timeout = '30s';
SET idle_in_transaction_session_timeout = '30s';
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET jit = off;
";

/// Brings the database to this version's schema.
///
/// # Errors
/// [`StoreError::Busy`] while another instance does: worth trying again.
pub(super) async fn migrate(client: &mut Client) -> Result<()> {
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).await.map_err(failed)?;
    // Migrating a large database takes as long as it takes.
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(failed)?;
    transaction
        .batch_execute("CREATE TABLE IF NOT EXISTS meta (key text PRIMARY KEY, value bytea NOT NULL)")
        .await
        .map_err(failed)?;
    let row =
        transaction.query_opt("SELECT value FROM meta WHERE key = 'schema_version'", &[]).await.map_err(failed)?;
    let version = match row {
        None => 0,
        Some(row) => {
            let text = String::from_utf8_lossy(row.get(0)).into_owned();
            text.parse::<usize>().ok().filter(|version| *version <= MIGRATIONS.len()).ok_or_else(|| {
                StoreError::Corrupt(format!(
                    "the database has schema version {text}, this relay knows {}: run the newer relay version",
                    MIGRATIONS.len()
                ))
            })?
        }
    };
    for migration in &MIGRATIONS[version..] {
        transaction.batch_execute(migration).await.map_err(failed)?;
    }
    let version = MIGRATIONS.len().to_string().into_bytes();
    transaction
        .execute(
            "INSERT INTO meta (key, value) VALUES ('schema_version', $1)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            &[&version],
        )
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)
}
