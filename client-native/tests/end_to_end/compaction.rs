//! Snapshots with the real programs: made by one device, begun with by the next that joins.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use rusqlite::Connection;
use zerok_sync::{Client, ClientError, CompactError, OpenOptions};

use crate::client::{found, let_in};
use crate::support::{Homes, RelaySetup, pair};

const TIMEOUT: Duration = Duration::from_secs(120);
/// Small edits before the snapshot; `ZEROK_EDITS=100000` for the long form.
const EDITS: usize = 2_000;

#[tokio::test]
async fn who_joins_a_log_of_many_small_edits_reads_the_snapshot_and_the_tail() {
    let edits = std::env::var("ZEROK_EDITS").map_or(EDITS, |edits| edits.parse().unwrap());
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let a = found(&homes, &relay).await;
    let mut state = String::new();
    for chunk in (0..edits).collect::<Vec<_>>().chunks(200) {
        let texts = chunk.iter().map(|edit| format!("edit {edit}\n"));
        state.extend(texts.clone());
        try_join_all(texts.map(|text| a.push(text))).await.unwrap();
    }
    let snapshot = a.compact(state.clone(), TIMEOUT).await.unwrap();
    a.push("behind").await.unwrap().at_relay().await.unwrap();
    snapshot.at_relay().await.unwrap();

    // Whether the newest snapshot counts is known once it was read back.
    let behind = a.status().borrow().stored_push;
    a.status().wait_for(|status| status.relay_head >= Some(behind) && status.position > edits as u64).await.unwrap();
    let b = let_in(&a, &homes).await;
    let mut entries = b.entries();
    let first = entries.next().await.unwrap().unwrap();
    assert!(first.snapshot && first.data == state, "{} bytes", first.data.len());
    let second = entries.next().await.unwrap().unwrap();
    assert_eq!((second.position, second.snapshot, &second.data[..]), (2, false, &b"behind"[..]));
    let report = b.verify().await.unwrap();
    assert!(report.entries < 20, "it keeps the snapshot and the tail: {} envelopes", report.entries);
    assert_eq!(report.findings, []);
}

#[test]
fn a_snapshot_made_at_a_terminal_is_what_the_next_device_pulls_first() {
    let setup = RelaySetup::sqlite();
    let (_relay, homes, a, b) = pair(&setup);
    a.succeed(&["push", "one"]);
    b.succeed(&["push", "two"]);
    let file = a.home.join("state");
    std::fs::write(&file, "one and two").unwrap();
    let compact = ["compact", "--file", file.to_str().unwrap()];
    let refused = a.fail(2, &compact);
    assert!(refused.contains("has not processed"), "{refused}");
    a.succeed(&["pull"]);
    assert!(a.succeed(&compact).contains("Once another device has read it"));
    b.succeed(&["push", "three"]);
    b.succeed(&["pull"]);
    let c = homes.device("c");
    b.let_in(&c);
    let pulled = c.json(&["pull"]);
    assert_eq!((&pulled[0]["snapshot"], &pulled[0]["text"]), (&true.into(), &"one and two".into()));
    assert_eq!((&pulled[1]["snapshot"], &pulled[1]["text"]), (&serde_json::Value::Null, &"three".into()));
    assert_eq!(pulled.len(), 2);
    for device in [&a, &b, &c] {
        device.succeed(&["verify"]);
        assert_eq!(device.json(&["status"])[0]["devices"], 3);
    }
}

#[test]
fn the_log_shrinks_to_the_snapshot_and_the_tail_and_who_was_away_goes_on_from_there() {
    let edits = std::env::var("ZEROK_EDITS").map_or(EDITS / 4, |edits| edits.parse().unwrap());
    let setup = RelaySetup::sqlite().with(&["--truncate-grace-ms", "1ms", "--gc-interval-ms", "100ms"]);
    let (mut relay, homes, a, b) = pair(&setup);
    let away = homes.device("away");
    a.let_in(&away);
    away.succeed(&["push", "early"]);
    a.succeed(&["pull"]);
    let mut state = String::from("early\n");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = Client::open(OpenOptions::new(&a.home)).await.unwrap();
        for chunk in (0..edits).collect::<Vec<_>>().chunks(200) {
            let texts = chunk.iter().map(|edit| format!("edit {edit}\n"));
            state.extend(texts.clone());
            let pushes = try_join_all(texts.map(|text| client.push(text))).await.unwrap();
            pushes.last().unwrap().at_relay().await.unwrap();
        }
        client.close().await;
    });
    let entries = || -> i64 {
        let database = Connection::open(setup.directory().join("relay.db")).unwrap();
        database.query_row("SELECT count(*) FROM entries", [], |row| row.get(0)).unwrap()
    };
    assert!(entries() > edits as i64);

    // Nobody has seen the third device for a month.
    relay.kill();
    let database = Connection::open(setup.directory().join("relay.db")).unwrap();
    database.execute("UPDATE devices SET last_seen = 0", []).unwrap();
    drop(database);
    relay = setup.restart(&relay);
    let file = a.home.join("state");
    std::fs::write(&file, &state).unwrap();
    a.succeed(&["compact", "--file", file.to_str().unwrap()]);
    b.succeed(&["pull"]);
    let status = &b.json(&["status"])[0];
    assert!(status["floors"][0]["floor"].as_u64().unwrap() > edits as u64, "{status}");
    assert!(status["snapshot"]["bytes"].as_u64().unwrap() > state.len() as u64, "{status}");
    let begun = Instant::now();
    while entries() > 20 {
        assert!(begun.elapsed() < TIMEOUT, "{} entries are left", entries());
        std::thread::sleep(Duration::from_millis(50));
    }
    b.succeed(&["push", "tail"]);

    away.succeed(&["push", "late"]);
    let pulled = away.json(&["pull"]);
    let snapshot = pulled.iter().position(|entry| entry["snapshot"] == true).expect("it goes on from there");
    let texts: Vec<_> = pulled[snapshot..].iter().map(|entry| entry["text"].clone()).collect();
    assert_eq!(texts, [state.as_str(), "tail", "late"], "its own that the snapshot does not stand for comes again");
    a.succeed(&["pull"]);
    let later = homes.device("later");
    b.let_in(&later);
    let texts: Vec<_> = later.json(&["pull"]).iter().map(|entry| entry["text"].clone()).collect();
    assert_eq!(texts, [state.as_str(), "tail", "late"]);
    for device in [&a, &b, &away, &later] {
        device.succeed(&["verify"]);
        assert_eq!(device.json(&["status"])[0]["devices"], 4);
    }
    assert!(entries() < 30);
    relay.kill();
}

#[tokio::test]
async fn too_large_a_state_is_refused_by_name() {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let client = found(&homes, &relay).await;
    let refused = client.compact(vec![0; 33 * 1024 * 1024], TIMEOUT).await;
    assert!(matches!(refused, Err(ClientError::Compact(CompactError::TooLarge { .. }))));
}
