//! Every statement finds its rows by the group first, so that the tables distribute by it
//! unchanged. Read from the sources: a statement that comes new is looked at without being told.

use std::path::Path;

/// Tables that are looked into before a group is known, or that have none.
const WITHOUT_GROUP: [&str; 5] = ["meta", "names", "mailboxes", "mailbox_messages", "pg_stat_user_tables"];
/// What asks every part of a distributed table, and why it may.
const EVERYWHERE: [(&str, &str); 6] = [
    ("WHERE noise_key = $1 ORDER BY last_seen", "a device that lost its way asks which logs list it"),
    ("WHERE group_id > $1 ORDER BY group_id", "the collector walks over all logs, a page at a time"),
    ("count(*)", "an operator asks for totals"),
    ("SET timeline = substring", "an operator declares a restore"),
    ("SELECT EXISTS (SELECT 1 FROM groups)", "a backup is restored into an empty database only"),
    ("pg_", "the server is asked about itself"),
];

/// String literals of Rust source that are SQL which finds or changes rows.
fn statements(source: &str) -> Vec<String> {
    let product = source.split("#[cfg(test)]").next().expect("split yields at least one part");
    let code: String =
        product.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    code.split('"')
        .skip(1)
        .step_by(2)
        .map(|literal| literal.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|text| {
            ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE ", "WITH "].iter().any(|verb| text.starts_with(verb))
        })
        .collect()
}

fn tables(statement: &str) -> Vec<String> {
    let words: Vec<&str> = statement.split([' ', ',', '(', ')']).filter(|word| !word.is_empty()).collect();
    words
        .windows(2)
        .filter(|pair| ["FROM", "JOIN", "INTO", "UPDATE"].contains(&pair[0]))
        .map(|pair| pair[1].to_owned())
        .filter(|table| {
            ["groups", "entries", "devices"].contains(&table.as_str()) || WITHOUT_GROUP.contains(&table.as_str())
        })
        .collect()
}

fn starts_with_the_group(statement: &str) -> bool {
    let condition = ["WHERE ", "ON ", "("].into_iter().any(|before| {
        statement.match_indices(before).any(|(at, _)| {
            let rest = &statement[at + before.len()..];
            let column = rest.split([' ', ',', ')']).next().expect("split yields at least one part");
            column == "group_id" || column.ends_with(".group_id")
        })
    });
    condition || statement.contains("USING (group_id)")
}

fn is_fine(statement: &str) -> bool {
    let tables = tables(statement);
    tables.iter().all(|table| WITHOUT_GROUP.contains(&table.as_str()))
        || EVERYWHERE.iter().any(|(part, _)| statement.contains(part))
        || starts_with_the_group(statement)
}

#[test]
fn every_statement_finds_its_rows_by_the_group_first() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/postgres");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for statement in statements(&source) {
            seen += 1;
            assert!(is_fine(&statement), "does not start with the group, and is no known exception: {statement}");
        }
    }
    assert!(seen > 30, "only {seen} statements were found");
}

#[test]
fn a_statement_that_does_not_is_found() {
    for statement in [
        "SELECT cursor FROM entries WHERE blob_id = $1",
        "UPDATE groups SET head = $1 WHERE head = $2",
        "DELETE FROM devices WHERE noise_key = $1 AND group_id = $2",
    ] {
        assert!(!is_fine(statement), "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envelopes_are_stored_as_they_are() {
    let url = crate::database().await;
    zerok_sync_relay::store::Postgres::connect(&url).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);

    let storage = "SELECT attrelid::regclass::text, attstorage::text FROM pg_attribute
                   WHERE attname IN ('envelope', 'epoch_envelope') AND attrelid::regclass::text IN ('groups', 'entries')
                   ORDER BY 1";
    let rows = client.query(storage, &[]).await.unwrap();

    let found: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(found, [("entries".into(), "e".into()), ("groups".into(), "e".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_wait_leave_connections_for_commits() {
    use zerok_sync_relay::metrics::Metrics;
    use zerok_sync_relay::store::{Postgres, Store};
    let url = crate::database().await;
    let metrics = Metrics::new();
    let store = std::sync::Arc::new(Postgres::connect_with(&url, 4, &metrics).await.unwrap());
    crate::create(&store).await;
    assert_eq!(metrics.store_connections_max.get(), 4);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // Names are looked up, and no commit touches them.
    client.batch_execute("BEGIN; LOCK TABLE names IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move { store.lookup(&zerok_sync_protocol::LogName([9; 32])).await })
        })
        .collect();
    while metrics.store_connections_used.get() < 2 {
        tokio::task::yield_now().await;
    }

    let appended = crate::append(&store, 1).await;

    assert!(appended.is_ok(), "{appended:?}");
    client.batch_execute("ROLLBACK").await.unwrap();
    for reader in readers {
        assert!(reader.await.unwrap().is_ok());
    }
    assert_eq!(metrics.store_connections_used.get(), 0);
}
