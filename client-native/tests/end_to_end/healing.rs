//! What somebody does by hand to the relay's database: `pull` or `verify` say so with exit code 4,
//! `repair` puts it right, and a device that joins later reads everything without an alarm.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rusqlite::params;
use zerok_sync::{Client, OpenOptions};

use crate::support::{Device, Homes, RelaySetup};
use crate::tampering::{Group, change, remove_database, second_newest};

#[test]
fn a_proto_01_c_stor_03_flipped_bits_are_told_and_replaced_in_place() {
    let mut group = Group::new();
    let mut before = Vec::new();
    group.tamper_with_rows(|database| {
        let cursor = second_newest(database);
        let mut envelope: Vec<u8> =
            database.query_row("SELECT envelope FROM entries WHERE cursor = ?1", [cursor], |row| row.get(0)).unwrap();
        before.clone_from(&envelope);
        envelope[100] ^= 1;
        change(database, "UPDATE entries SET envelope = ?1 WHERE cursor = ?2", params![envelope, cursor]);
    });
    let said = group.b.fail(4, &["verify"]);
    assert!(said.contains("is damaged or forged") || said.contains("lost entry"), "{said}");
    group.b.succeed(&["repair"]);
    group.assert_whole();
    group.tamper_with_rows(|database| {
        let healed =
            database.query_row("SELECT count(*) FROM entries WHERE envelope = ?1", [&before], |row| row.get(0));
        assert_eq!(healed, Ok(1), "the very bytes, in place");
    });
}

#[test]
fn a_reader_of_a_flipped_bit_is_told_until_another_device_has_healed_it_and_then_reads_on_at_once() {
    let mut group = Group::new();
    for text in ["four", "five"] {
        group.a.succeed(&["push", "--wait", "relay", text]);
    }
    group.tamper_with_rows(|database| {
        let cursor = second_newest(database);
        let flip = "UPDATE entries SET envelope = CAST(substr(envelope, 1, 100) || x'00' || substr(envelope, 102) AS BLOB) WHERE cursor = ?1";
        change(database, flip, [cursor]);
    });
    for _ in 0..2 {
        let ended = group.b.run(&["pull"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (4, ""), "{}", ended.stderr);
    }
    group.a.fail(4, &["repair"]);
    assert_eq!(group.b.succeed(&["pull"]), "four\nfive\n");
    assert_eq!(group.b.succeed(&["pull"]), "");
}

#[test]
fn b_heal_a_deleted_row_is_told_once_and_put_back() {
    let mut group = Group::new();
    group.tamper_with_rows(|database| {
        change(database, "DELETE FROM entries WHERE cursor = ?1", [second_newest(database)]);
    });
    group.a.fail(4, &["verify"]);
    let said = group.b.fail(4, &["repair"]);
    assert!(said.contains("lost entry"), "{said}");
    group.b.succeed(&["repair"]);
    group.a.succeed(&["verify"]);
    group.assert_whole();
}

#[test]
fn what_stands_behind_an_entry_that_nobody_has_comes_once_a_person_gives_that_up() {
    let mut group = Group::empty();
    let other = group.third("other");
    group.a.succeed(&["push", "one"]);
    for device in [&group.b, &other] {
        assert_eq!(device.succeed(&["pull"]), "one\n");
    }
    for text in ["two", "three"] {
        group.a.succeed(&["push", "--wait", "relay", text]);
    }
    group.tamper_with_rows(|database| {
        change(database, "DELETE FROM entries WHERE cursor = ?1", [second_newest(database)]);
    });
    std::fs::remove_dir_all(&group.a.home).expect("its device is lost");
    assert_eq!(group.b.run(&["pull"]).code, 4);
    let repaired = group.b.run(&["repair"]);
    assert_eq!(repaired.code, 4);
    let (printed, said) = (repaired.stdout, repaired.stderr);
    assert!(printed.contains("what is missing here is missing there") && !printed.contains("everything"), "{printed}");
    assert!(said.contains("zerok repair --accept-gap") && said.contains("(1 so far)"), "{said}");
    let said = group.b.run(&["status"]).stdout;
    assert_eq!(
        said.lines().filter(|line| line.starts_with("integrity") && line.ends_with("missing")).count(),
        1,
        "{said}"
    );
    let said = group.b.run(&["status", "--json"]).stdout;
    assert!(said.contains("\"holes\":[{") && said.contains("\"waiting\":1"), "{said}");
    let said = group.b.succeed(&["repair", "--accept-gap"]);
    assert!(said.contains("is given up"), "{said}");
    for device in [&group.b, &other] {
        assert_eq!(device.succeed(&["pull"]), "three\n");
    }
}

#[test]
fn a_proto_02_swapped_rows_are_told_and_are_history_after_a_repair() {
    let mut group = Group::new();
    group.tamper_with_rows(|database| {
        let cursor = second_newest(database);
        for (from, to) in [(cursor, -1), (cursor + 1, cursor), (-1, cursor + 1)] {
            change(database, "UPDATE entries SET cursor = ?2 WHERE cursor = ?1", [from, to]);
        }
    });
    // One of them stood where this device had read to: that is found out first.
    let said = group.b.fail(4, &["verify"]);
    assert!(said.contains("no longer has what it had"), "{said}");
    group.b.succeed(&["repair"]);
    // It was there, too.
    group.a.fail(4, &["pull"]);
    group.a.succeed(&["verify"]);
    group.assert_whole();
}

#[test]
fn a_proto_02_a_row_entered_twice_is_told_by_pull_and_delivered_once() {
    let mut group = Group::new();
    group.tamper_with_rows(|database| {
        let cursor = second_newest(database);
        database.execute_batch("DROP INDEX entries_by_blob_id").expect("it stands in the way of the doubled row");
        let again =
            "INSERT INTO entries SELECT group_id, ?2, blob_id, received_at, envelope FROM entries WHERE cursor = ?1";
        change(database, again, [cursor, cursor + 2]);
        change(
            database,
            "UPDATE groups SET head = ?2, head_blob_id = (SELECT blob_id FROM entries WHERE cursor = ?1)",
            [cursor, cursor + 2],
        );
    });
    let ended = group.b.run(&["pull"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (4, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("repeated"), "{}", ended.stderr);
    group.b.succeed(&["repair"]);
    group.assert_whole();
}

#[test]
fn b_roll_a_database_put_back_to_an_older_copy_is_told_by_pull_and_healed_by_repair() {
    let mut group = Group::empty();
    let older = group.copy();
    for text in ["one", "two", "three"] {
        group.a.succeed(&["push", text]);
    }
    group.b.succeed(&["pull"]);
    group.put_back(&older);

    let said = group.b.fail(4, &["pull"]);
    assert!(said.contains("no longer has what it had"), "{said}");
    let repaired = group.b.succeed(&["repair"]);
    assert!(repaired.contains("were put back"), "b heals what a wrote: {repaired}");
    // What it had read stands at its place again.
    group.a.succeed(&["pull"]);
    group.assert_whole();
}

#[test]
fn b_wipe_a_relay_without_its_database_is_filled_again_in_silence() {
    let mut group = Group::new();
    group.tamper(remove_database);
    group.b.succeed(&["repair"]);
    group.assert_whole();
    group.a.succeed(&["push", "--wait", "relay", "four"]);
    assert_eq!(group.b.succeed(&["pull"]), "four\n");
}

/// Prints the rate; `ZEROK_REPAIR_ENTRIES=100000` in a release build is the figure in
/// `docs/PERFORMANCE.md`.
#[tokio::test]
async fn a_wiped_relay_is_filled_from_one_device() {
    let entries: u64 = std::env::var("ZEROK_REPAIR_ENTRIES").map_or(2_000, |count| count.parse().unwrap());
    let setup = RelaySetup::sqlite();
    let mut relay = setup.start();
    let homes = Homes::new();
    let device = homes.device("a");
    device.init(&relay);
    let client = open(&device).await;
    let pushes = (0..entries).map(|number| client.push(format!("entry {number} {}", "x".repeat(200))));
    futures_util::stream::iter(pushes).buffered(256).for_each(|pushed| async { drop(pushed.unwrap()) }).await;
    let timeout = Duration::from_secs(600);
    let pushed =
        client.status().wait_for(|status| status.outbox_count == 0 && status.position >= entries).await.is_ok();
    assert!(pushed);
    client.close().await;

    relay.kill();
    remove_database(setup.directory());
    relay = setup.restart(&relay);
    let client = open(&device).await;
    let begun = Instant::now();
    let relays = client.repair(timeout).await.unwrap();
    let took = begun.elapsed();
    assert!(relays[0].put_back >= entries, "{relays:?}");
    assert_eq!(client.findings(), []);
    println!("{} entries put back in {took:?}: {:.0}/s", relays[0].put_back, entries as f64 / took.as_secs_f64());
    client.close().await;
    relay.kill();
}

async fn open(device: &Device) -> Client {
    let transport = "ws".parse().expect("a transport");
    Client::open(OpenOptions { transport, ..OpenOptions::new(&device.home) }).await.unwrap()
}
