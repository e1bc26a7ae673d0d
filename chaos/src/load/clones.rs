//! Filling a store with copies of a log, straight in the database.
//!
//! Every table that names a group gets its rows again under random ids, whatever its columns are:
//! the rows are the relay's own. The ids are made in order, so that every index grows at its edge,
//! as it does when one log after the other is written; in random order a million rows take the
//! better part of an hour.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use rusqlite::Connection;

/// Columns of each table that names a group.
type Tables = BTreeMap<String, Vec<String>>;

fn by_table(columns: impl IntoIterator<Item = (String, String)>) -> Tables {
    let mut tables = Tables::new();
    for (table, column) in columns {
        tables.entry(table).or_default().push(column);
    }
    tables
}

/// Copies a table's rows of the original once for each copy.
fn copy(table: &str, columns: &[String]) -> String {
    // A log's name is an id like its group's: any 32 bytes that nobody else has.
    let copied: Vec<&str> = columns
        .iter()
        .map(|column| if column == "group_id" || column == "name" { "copies.id" } else { column })
        .collect();
    let order = if columns.iter().any(|column| column == "cursor") { "copies.id, cursor" } else { "copies.id" };
    format!(
        "INSERT INTO {table} ({}) SELECT {} FROM copies CROSS JOIN {table} AS original
         WHERE original.group_id = (SELECT id FROM originals) ORDER BY {order}",
        columns.join(", "),
        copied.join(", ")
    )
}

/// In a file that nobody else has open.
pub(super) fn in_sqlite(path: &Path, count: usize) -> Result<()> {
    let database = Connection::open(path)?;
    // Nothing here need survive a crash, and what is written once need not be written twice. The
    // relay asks for a log again when it opens the file.
    database.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    database.query_row("PRAGMA journal_mode = OFF", [], |_| Ok(()))?;
    database.execute_batch(&format!(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; PRAGMA temp_store = MEMORY;
         CREATE TEMP TABLE copies AS
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         SELECT randomblob(32) AS id FROM n ORDER BY id;
         CREATE UNIQUE INDEX temp.copies_by_id ON copies (id);
         CREATE TEMP TABLE originals AS SELECT group_id AS id FROM main.groups LIMIT 1;"
    ))?;
    let columns: Vec<(String, String)> = database
        .prepare(
            "SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
             WHERE t.type = 'table' AND EXISTS
                 (SELECT 1 FROM pragma_table_info(t.name) WHERE name = 'group_id')",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    database.execute_batch("BEGIN IMMEDIATE")?;
    for (table, columns) in by_table(columns) {
        database.execute(&copy(&table, &columns), [])?;
    }
    database.execute_batch("COMMIT")?;
    drop(database);
    // On the disk before anything is measured.
    std::fs::File::open(path)?.sync_all()?;
    Ok(())
}

/// In a database to which no relay is connected.
pub(super) async fn in_postgres(url: &str, count: usize) -> Result<()> {
    let (mut database, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let columns = database
        .query(
            "SELECT table_name::text, column_name::text FROM information_schema.columns AS listed
             WHERE table_schema = current_schema() AND EXISTS
                 (SELECT 1 FROM information_schema.columns AS named WHERE named.table_schema = listed.table_schema
                  AND named.table_name = listed.table_name AND named.column_name = 'group_id')",
            &[],
        )
        .await?;
    let columns = columns.iter().map(|row| (row.get(0), row.get(1)));
    let transaction = database.transaction().await?;
    transaction
        .batch_execute(&format!(
            "CREATE TEMP TABLE copies ON COMMIT DROP AS
             SELECT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) AS id
             FROM generate_series(1, {count}) ORDER BY id;
             CREATE TEMP TABLE originals ON COMMIT DROP AS SELECT group_id AS id FROM groups LIMIT 1;"
        ))
        .await?;
    for (table, columns) in by_table(columns) {
        transaction.batch_execute(&copy(&table, &columns)).await.with_context(|| format!("copying {table}"))?;
    }
    transaction.commit().await?;
    // What the server would do by itself in the minutes after, while something is measured.
    database.batch_execute("VACUUM (ANALYZE)").await?;
    database.batch_execute("CHECKPOINT").await?;
    drop(database);
    connection.await??;
    Ok(())
}
