//! The tables themselves: stable for operators, and ready to be distributed by group.

use crate::subject::{Backend, Subject};

/// What is looked up before a group is known.
const GROUPLESS: [&str; 5] =
    ["devices_by_noise_key.noise_key", "mailbox_messages.mailbox_id", "mailboxes.mailbox_id", "meta.key", "names.name"];

/// `table.column` (of a primary key) or `index.column`: the first column of each key.
async fn first_columns(subject: &Subject) -> Vec<String> {
    let query = match subject.backend {
        Backend::Sqlite(_) => {
            "SELECT DISTINCT iif(keys.origin = 'pk', tables.name, keys.name) || '.' || columns.name
             FROM sqlite_schema AS tables, pragma_index_list(tables.name) AS keys, pragma_index_info(keys.name) AS columns
             WHERE tables.type = 'table' AND columns.seqno = 0 ORDER BY 1"
        }
        Backend::Postgres { .. } => {
            "SELECT CASE WHEN indisprimary THEN tables.relname ELSE keys.relname END || '.' || attname
             FROM pg_index
             JOIN pg_class AS keys ON keys.oid = indexrelid
             JOIN pg_class AS tables ON tables.oid = indrelid
             JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
             WHERE tables.relnamespace = 'public'::regnamespace ORDER BY 1"
        }
    };
    let mut columns = subject.texts(query).await;
    columns.sort();
    columns
}

pub async fn every_key_starts_with_the_group(subject: Subject) {
    let keys = first_columns(&subject).await;

    let (grouped, others): (Vec<_>, Vec<_>) =
        keys.iter().map(String::as_str).partition(|key| key.ends_with(".group_id"));
    let expected = [
        "devices.group_id",
        "entries.group_id",
        "entries_by_blob_id.group_id",
        "groups.group_id",
        "names_by_group.group_id",
    ];
    assert_eq!(grouped, expected);
    assert_eq!(others, GROUPLESS);
}

pub async fn every_table_keeps_its_name_and_columns(subject: Subject) {
    let query = match subject.backend {
        Backend::Sqlite(_) => {
            "SELECT tables.name || '.' || columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
             WHERE tables.type = 'table'"
        }
        Backend::Postgres { .. } => {
            "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'"
        }
    };
    let columns = subject.texts(query).await;

    let promised = [
        "meta.key",
        "names.name",
        "names.group_id",
        "groups.group_id",
        "groups.auth_pub",
        "groups.auth_gen",
        "groups.timeline",
        "groups.head",
        "groups.floor",
        "groups.bytes",
        "entries.group_id",
        "entries.cursor",
        "entries.blob_id",
        "entries.envelope",
        "entries.received_at",
        "devices.group_id",
        "devices.noise_key",
        "devices.slot",
        "devices.acked",
        "devices.last_seen",
        "mailboxes.mailbox_id",
    ];
    for column in promised {
        assert!(columns.iter().any(|found| found == column), "{column} is not there");
    }
    let of_entries = columns.iter().filter(|column| column.starts_with("entries.")).count();
    assert_eq!(of_entries, 5, "an entry's row says nothing about who pushed it");
}
