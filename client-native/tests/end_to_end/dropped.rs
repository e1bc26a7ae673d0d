//! Rows of the relay's database taken out, put in from elsewhere, or declared gone: each is told
//! with exit code 4 by whoever reads next, and nothing of it reaches the app.

use rusqlite::{Connection, params};

use crate::membership::id_of;
use crate::tampering::{Group, change, sorted};

/// Takes these rows out and closes the ranks behind them, so that no cursor is missing.
fn cut_out(database: &Connection, from: i64, to: i64) {
    let count = to + 1 - from;
    let rows = database.execute("DELETE FROM entries WHERE cursor BETWEEN ?1 AND ?2", [from, to]).unwrap();
    assert_eq!(i64::try_from(rows), Ok(count), "they were there");
    // In two steps, because cursors are unique at every moment.
    database.execute("UPDATE entries SET cursor = -cursor WHERE cursor > ?1", [to]).unwrap();
    database.execute("UPDATE entries SET cursor = -cursor - ?1 WHERE cursor < 0", [count]).unwrap();
    change(database, "UPDATE groups SET head = head - ?1", [count]);
}

/// The highest cursor.
const HEAD: &str = "SELECT head FROM groups";

#[test]
fn a_proto_02_another_groups_row_is_told_delivers_nothing_and_stays_without_effect() {
    let mut group = Group::new();
    let other = group.homes.device("other");
    other.init(&group.relay);
    other.succeed(&["push", "theirs"]);
    group.tamper_with_rows(|database| {
        let log = |founded: i64| -> Vec<u8> {
            let groups = "SELECT group_id FROM groups ORDER BY rowid LIMIT 1 OFFSET ?1";
            database.query_row(groups, [founded], |row| row.get(0)).unwrap()
        };
        let (ours, theirs) = (log(0), log(1));
        let moved = "INSERT INTO entries SELECT ?1, (SELECT head + 1 FROM groups WHERE group_id = ?1), blob_id, received_at, envelope FROM entries WHERE group_id = ?2 ORDER BY cursor DESC LIMIT 1";
        change(database, moved, params![ours, theirs]);
        let head = "UPDATE groups SET head = head + 1, head_blob_id = (SELECT head_blob_id FROM groups WHERE group_id = ?2) WHERE group_id = ?1";
        change(database, head, params![ours, theirs]);
    });
    let ended = group.b.run(&["pull"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (4, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("is damaged or forged"), "{}", ended.stderr);
    group.a.fail(4, &["repair"]);
    group.b.succeed(&["repair"]);
    group.a.succeed(&["push", "four"]);
    assert_eq!(group.b.succeed(&["pull"]), "four\n");
    for device in [&group.a, &group.b] {
        device.succeed(&["verify"]);
    }
    // One that joins reads the row for the first time, and says so.
    let (later, inviting) = (group.homes.device("later"), group.a.invite(&["--yes"]));
    let said = later.fail(4, &["join", &inviting.link]);
    assert!(said.contains("is damaged or forged") && said.contains("has joined the group"), "{said}");
    assert_eq!(inviting.end().code, 0);
    assert_eq!(later.succeed(&["pull"]), "one\ntwo\nthree\nfour\n");
    assert_eq!(other.succeed(&["pull", "--after", "0", "--own"]), "theirs\n");
}

#[test]
fn b_drop_an_entry_cut_out_without_a_missing_cursor_is_a_gap_and_is_put_back() {
    let mut group = Group::empty();
    for text in ["one", "two", "three"] {
        group.a.succeed(&["push", text]);
    }
    let head = group.count(HEAD);
    group.tamper_with_rows(|database| cut_out(database, head - 1, head - 1));
    let ended = group.b.run(&["pull"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (4, "one\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains(" missing"), "{}", ended.stderr);
    let found = group.a.fail(4, &["repair"]);
    assert!(found.contains("no longer has what it had"), "{found}");
    // What the other found out in this history is told here, too, once.
    let ended = group.b.run(&["pull"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (4, "two\nthree\n"), "{}", ended.stderr);
    group.b.succeed(&["repair"]);
    group.assert_whole();
}

#[test]
fn b_drop_one_devices_whole_stream_is_missed_by_who_reads_what_another_wrote() {
    let mut group = Group::empty();
    let c = group.third("c");
    let missing = format!("entries 2 to 3 of device {} are missing", id_of(&c));
    group.b.succeed(&["pull"]);
    let before = group.count(HEAD);
    for text in ["one", "two"] {
        c.succeed(&["push", text]);
    }
    let after = group.count(HEAD);
    group.a.succeed(&["push", "three"]);
    group.tamper_with_rows(|database| cut_out(database, before + 1, after));
    let ended = group.b.run(&["pull"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (4, "three\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains(&missing), "{}", ended.stderr);
    group.a.fail(4, &["repair"]);
    let ended = group.b.run(&["pull"]);
    assert_eq!(sorted(&ended.stdout), ["one", "two"], "{}", ended.stderr);
    group.b.succeed(&["repair"]);
    group.assert_whole();
}

#[test]
fn b_expire_a_floor_moved_by_hand_is_told_taken_back_and_nothing_is_gone() {
    let mut group = Group::new();
    let head = group.count(HEAD);
    group.tamper_with_rows(|database| change(database, "UPDATE groups SET floor = ?1", [head - 1]));
    let said = group.b.fail(4, &["pull"]);
    assert!(said.contains("keeps back entries") && said.contains("no snapshot"), "{said}");
    assert_eq!(group.count("SELECT floor FROM groups"), 1, "it was asked back");
    assert_eq!(group.b.succeed(&["pull"]), "");
    group.b.succeed(&["repair"]);
    group.assert_whole();
}

#[test]
fn b_member_a_device_that_the_relay_put_on_its_list_is_told_and_the_next_rotation_drops_it() {
    let mut group = Group::new();
    let stranger = [0x42_u8; 32];
    group.tamper_with_rows(|database| {
        let row = "INSERT INTO devices SELECT group_id, ?1, x'', 0, 0 FROM groups";
        change(database, row, [stranger]);
    });
    let listed = "SELECT count(*) FROM devices WHERE noise_key = x'4242424242424242424242424242424242424242424242424242424242424242'";
    assert_eq!(group.count(listed), 1);
    let looked = group.a.run(&["devices"]);
    assert_eq!(looked.code, 0, "{}", looked.stderr);
    assert!(looked.stderr.contains("admits 1 more") && looked.stderr.contains("zerok rotate"), "{}", looked.stderr);
    assert_eq!(group.a.json(&["devices"]).len(), 2, "it is no member for that");
    assert_eq!(group.b.json(&["status"])[0]["unknown_at_relay"], 1);

    group.a.succeed(&["rotate"]);

    assert_eq!(group.count(listed), 0);
    assert!(!group.a.run(&["devices"]).stderr.contains("admits"));
    assert_eq!(group.b.json(&["status"])[0]["unknown_at_relay"], 0);
    group.assert_whole();
}
