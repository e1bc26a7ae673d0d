//! Mirrors that shrink, in real databases: what becomes of the file, of who reads meanwhile, and of
//! an export.

use std::path::Path;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{StreamExt, poll};
use zerok_sync::{Client, EntriesOptions, MirrorPolicy, OpenOptions};

use crate::client::{found, let_in};
use crate::support::{Homes, RelayProcess, RelaySetup};

const TIMEOUT: Duration = Duration::from_secs(120);
/// Small edits before the snapshot; `ZEROK_EDITS=100000` for the long form.
const EDITS: usize = 2_000;

/// Two devices, of which the second keeps no more than its own.
async fn two() -> (RelaySetup, RelayProcess, Homes, [Client; 2]) {
    let setup = RelaySetup::sqlite();
    let (relay, homes) = (setup.start(), Homes::new());
    let a = found(&homes, &relay).await;
    let b = let_in(&a, &homes).await;
    b.set_mirror_policy(MirrorPolicy::Own).await.unwrap();
    (setup, relay, homes, [a, b])
}

/// Once the other one has all the first has pushed, and its app has processed it.
async fn processed(a: &Client, b: &Client) {
    let pushed = a.push("the last").await.unwrap();
    pushed.at_all_devices().await.unwrap();
    let position = b.status().borrow().position;
    b.mark_processed(position).await.unwrap();
}

/// The first one makes a snapshot; the other one's mirror then begins with it.
async fn shrink(a: &Client, b: &Client, state: &str) {
    let before = b.status().borrow().first_position;
    let position = a.status().borrow().position;
    a.mark_processed(position).await.unwrap();
    a.compact(state.to_owned(), TIMEOUT).await.unwrap();
    let mut status = b.status();
    let shrunk = status.wait_for(|status| status.first_position > before);
    tokio::time::timeout(TIMEOUT, shrunk).await.expect("another device has the snapshot").unwrap();
}

fn bytes_of(home: &Path) -> u64 {
    let files = std::fs::read_dir(home).unwrap().map(|file| file.unwrap());
    files.map(|file| file.metadata().unwrap().len()).sum()
}

async fn open(home: &Path) -> Client {
    Client::open(OpenOptions { mirror: MirrorPolicy::Own, ..OpenOptions::new(home) }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_gets_smaller_with_its_mirror_and_what_is_exported_of_it_is_put_back() {
    let edits = std::env::var("ZEROK_EDITS").map_or(EDITS, |edits| edits.parse().unwrap());
    let (_setup, _relay, homes, [a, b]) = two().await;
    let mut state = String::new();
    for chunk in (0..edits).collect::<Vec<_>>().chunks(200) {
        let texts = chunk.iter().map(|edit| format!("edit {edit}\n"));
        state.extend(texts.clone());
        let pushes = try_join_all(texts.map(|text| a.push(text))).await.unwrap();
        pushes.last().unwrap().at_relay().await.unwrap();
    }
    processed(&a, &b).await;
    let device = homes.device("b");
    b.close().await;
    let before = bytes_of(&device.home);

    let b = open(&device.home).await;
    shrink(&a, &b, &state).await;
    a.push("tail").await.unwrap().at_all_devices().await.unwrap();
    // Rows go in small steps, of which nothing tells.
    let gone = async {
        while b.verify().await.unwrap().entries > 20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, gone).await.expect("what the snapshot stands for goes");
    b.close().await;
    let after = bytes_of(&device.home);
    println!("{edits} edits: {before} bytes before, {after} after");
    assert!(after < before / 4 + 200_000, "{before} bytes before, {after} after");

    let file = device.home.with_extension("export");
    let file = file.to_str().unwrap();
    let knowing = |name: &str| homes.device(name).with("ZEROK_EXPORT_PASSPHRASE", "correct horse");
    knowing("b").succeed(&["export", file, "--identity"]);
    let has = device.json(&["pull", "--own", "--after", "0"]);
    let texts: Vec<_> = has.iter().map(|entry| (entry["snapshot"] == true, entry["text"].as_str().unwrap())).collect();
    assert_eq!(texts, [(true, state.as_str()), (false, "tail")]);
    assert_eq!(knowing("nobody").json(&["import", "--read", file]), has, "the archive is what there is");
    std::fs::remove_dir_all(&device.home).unwrap();
    knowing("again").succeed(&["import", file]);
    let again = homes.device("again");
    assert_eq!(again.json(&["pull", "--own", "--after", "0"]), has);
    again.succeed(&["push", "put back"]);
    let own = EntriesOptions { after: Some(edits as u64), ..EntriesOptions::default() };
    let next = a.entries_with(own).next().await.unwrap().unwrap();
    assert_eq!(&next.data[..], b"put back");
    again.succeed(&["verify"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_whose_parts_go_while_it_is_read_gives_way_to_the_snapshot() {
    let (_setup, _relay, _homes, [a, b]) = two().await;
    a.push("before").await.unwrap();
    a.push(vec![7; 3 * 1024 * 1024]).await.unwrap();
    processed(&a, &b).await;
    let mut slow = Box::pin(b.entries_with(EntriesOptions { after: Some(1), ..EntriesOptions::default() }));
    // It has asked for the large one, and is not looked at again until that is gone.
    let mut next = slow.next();
    assert!(poll!(&mut next).is_pending());
    shrink(&a, &b, "before, large and the last").await;
    let entry = tokio::time::timeout(TIMEOUT, next).await.expect("it goes on").unwrap().unwrap();
    assert!(entry.snapshot, "{} bytes", entry.data.len());
    a.push("behind").await.unwrap();
    let entry = slow.next().await.unwrap().unwrap();
    assert_eq!(&entry.data[..], b"behind");
}
