//! H-HONEST: an honest relay with every fault at once, over many seeds. And the checks themselves:
//! each planted defect is found.

mod seeds;

use zerok_sync_chaos::catalogue;
use zerok_sync_chaos::sim::Defect;

/// Seeds that fail: what is known of each stands in docs/CHAOS.md. The nightly run has them.
const OPEN: [u64; 0] = [];

#[test]
fn an_honest_relay_with_every_fault_raises_nothing_and_loses_nothing() {
    let tally = seeds::run("H-HONEST", &OPEN);
    let happened = [
        "acknowledgements lost",
        "commits refused",
        "crashes",
        "crashes before a commit was confirmed",
        "crashes between two outputs",
        "crashes while a commit was written",
        "entries delivered",
        "floors moved",
        "joins completed",
        "links cut",
        "partitions",
        "pushes known to be everywhere",
        "pushes in parts",
        "pushes refused",
        "relay restarts",
        "mirrors shrunk",
        "relays healed",
        "removals read",
        "rollbacks told",
        "rotations",
        "reopened after a failed commit",
        "snapshots",
        "snapshots begun with",
    ];
    seeds::assert_happened(&tally, &happened, 10);
    seeds::assert_happened(&tally, &["states replaced by a snapshot"], 1);
}

#[test]
fn a_seed_determines_its_trial() {
    let scenario = catalogue::find("H-HONEST").expect("it is in the catalogue");
    for seed in 0..3 {
        assert_eq!(scenario.check(seed), scenario.check(seed));
    }
}

/// The first thing found wrong over some seeds with a defect.
fn found(defect: Defect) -> String {
    found_in("H-HONEST", 40, defect)
}

fn found_in(id: &str, seeds: u64, defect: Defect) -> String {
    let scenario = catalogue::find(id).expect("it is in the catalogue");
    (0..seeds).find_map(|seed| scenario.check_with(seed, defect).err()).unwrap_or_default()
}

fn assert_found(defect: Defect, any_of: &[&str]) {
    let found = found(defect);
    assert!(any_of.iter().any(|expected| found.contains(expected)), "{defect:?} is found as: {found:?}");
}

#[test]
fn a_failure_names_the_command_that_replays_it() {
    let found = found(Defect::RelaySkipsEntry);
    assert!(found.contains("replay: cargo run -p zerok-sync-chaos -- run H-HONEST --seed "), "{found}");
}

#[test]
fn a_disk_that_loses_a_confirmed_commit_is_found() {
    assert_found(Defect::DiskLosesConfirmedCommit, &["after a restart", "not on disk", "were sent for seq"]);
}

#[test]
fn a_disk_that_swaps_two_commits_is_found() {
    assert_found(Defect::DiskSwapsCommits, &["after a restart", "not on disk", "were sent for seq"]);
}

#[test]
fn a_commit_given_while_one_is_unconfirmed_is_found() {
    assert_found(Defect::DriverConfirmsEarly, &["is unconfirmed"]);
}

#[test]
fn a_difference_between_two_devices_is_found() {
    assert_found(Defect::DiskDropsEntry, &["the app was not handed", "stands where", "entries of"]);
}

#[test]
fn an_app_that_is_not_told_of_entries_is_found() {
    assert_found(Defect::DriverLosesDoorbell, &["the app was not handed"]);
}

#[test]
fn entries_delivered_again_once_processed_are_found() {
    assert_found(Defect::AppReadsProcessedAgain, &["processed up to"]);
}

#[test]
fn an_entry_delivered_twice_is_found() {
    assert_found(Defect::RelayDeliversTwice, &["CursorJump", "Replayed"]);
}

#[test]
fn an_entry_left_out_is_found() {
    assert_found(Defect::RelaySkipsEntry, &["CursorJump", "the end of a log that it did not send"]);
}

#[test]
fn an_acknowledgement_of_what_is_not_stored_is_found() {
    assert_found(Defect::RelayAcksWithoutStoring, &["is acknowledged, and the relay has"]);
}

#[test]
fn a_resent_entry_stored_again_is_found() {
    // A device reads what a relay has before it sends again: but for two that put the same thing back
    // at one time, which five devices on two relays do.
    let found = found_in("H-RELAYS", 40, Defect::RelayStoresTwice);
    assert!(found.contains("the relay: cursor"), "it is found as: {found:?}");
}
