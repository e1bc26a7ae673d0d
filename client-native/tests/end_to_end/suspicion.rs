//! What a relay or a disk did to stored entries ends a command with exit code 4, once.

use rusqlite::{Connection, params};
use zerok_sync_protocol::envelope::blob_id;

use crate::support::{RelaySetup, pair};

/// Changes the newest envelope in the relay's database, and its id along with it.
fn tamper_with_newest(setup: &RelaySetup) -> i64 {
    let database = Connection::open(setup.directory().join("relay.db")).unwrap();
    let (cursor, mut envelope): (i64, Vec<u8>) = database
        .query_row("SELECT cursor, envelope FROM entries ORDER BY cursor DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    *envelope.last_mut().unwrap() ^= 1;
    let changed = database
        .execute(
            "UPDATE entries SET envelope = ?1, blob_id = ?2 WHERE cursor = ?3",
            params![envelope, blob_id(&envelope).as_bytes(), cursor],
        )
        .unwrap();
    assert_eq!(changed, 1);
    cursor
}

#[test]
fn an_entry_edited_at_the_relay_is_reported_once_and_not_delivered() {
    let setup = RelaySetup::sqlite();
    let (mut relay, _homes, a, b) = pair(&setup);
    b.succeed(&["pull"]);
    a.succeed(&["push", "hello"]);
    relay.kill();
    let cursor = tamper_with_newest(&setup);
    let relay = setup.restart(&relay);

    let ended = b.run(&["pull"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (4, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("entry {cursor} ")), "{}", ended.stderr);

    // That its author has seen another order is a finding of its own.
    let told: Vec<_> = (0..3).map(|_| b.run(&["pull"])).take_while(|again| again.code != 0).collect();
    assert!(told.len() < 2, "{told:#?}");
    for again in told {
        assert_eq!((again.code, again.stdout.as_str()), (4, ""), "{}", again.stderr);
        assert!(again.stderr.contains("another order than this one"), "{}", again.stderr);
        assert!(!again.stderr.contains(&format!("entry {cursor} ")), "{}", again.stderr);
    }
    assert!(!b.json(&["status"])[0]["integrity"].as_array().unwrap().is_empty(), "it stays on record");
    drop(relay);
}

#[test]
fn verify_finds_what_the_disk_did() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, b) = pair(&setup);
    a.succeed(&["push", "hello"]);
    b.succeed(&["pull"]);
    b.succeed(&["verify"]);

    let database = Connection::open(b.home.join("state.db")).unwrap();
    let (key, mut value): (Vec<u8>, Vec<u8>) = database
        .query_row("SELECT key, value FROM kv ORDER BY length(value) DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let middle = value.len() / 2;
    value[middle] ^= 1;
    database.execute("UPDATE kv SET value = ?1 WHERE key = ?2", params![value, key]).unwrap();
    drop(database);

    let said = b.fail(4, &["verify"]);
    assert!(said.contains("zerok repair"), "{said}");
}
