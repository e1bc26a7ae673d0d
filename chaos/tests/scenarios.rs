//! Every scenario of the catalogue but H-HONEST and H-RELAYS, which have files of their own: nothing is wrong, and what
//! it is about did happen.

use std::collections::BTreeSet;

use zerok_sync_chaos::catalogue::{self, Scenario};
use zerok_sync_chaos::sim::Defect;

fn scenario(id: &str) -> &'static Scenario {
    catalogue::find(id).unwrap_or_else(|| panic!("{id} is not in the catalogue"))
}

fn assert_holds(id: &str) {
    let scenario = scenario(id);
    let mut happened = 0;
    for seed in 0..scenario.seeds {
        let tally = scenario.check(seed).unwrap_or_else(|failure| panic!("{failure}"));
        happened += tally.get(scenario.happens).copied().unwrap_or_default();
    }
    assert!(happened >= scenario.seeds / 3, "{id}: {} only {happened} times", scenario.happens);
}

macro_rules! scenarios {
    ($($name:ident => $id:literal,)*) => {
        $(
            #[test]
            fn $name() {
                assert_holds($id);
            }
        )*

        #[test]
        fn every_scenario_is_run() {
            let run: BTreeSet<&str> = [$($id,)* "H-HONEST", "H-RELAYS"].into();
            assert_eq!(run, catalogue::ALL.iter().map(|scenario| scenario.id).collect());
        }
    };
}

scenarios! {
    t_lat_01_a_slow_link => "T-LAT-01",
    t_lat_02_jitter => "T-LAT-02",
    t_lat_04_a_satellite => "T-LAT-04",
    t_conn_02_killed_in_mid_push => "T-CONN-02",
    t_conn_03_nobody_reaches_the_relay => "T-CONN-03",
    t_conn_04_ten_links_in_five_seconds => "T-CONN-04",
    t_conn_05_links_dead_without_a_word => "T-CONN-05",
    e_hs_01_cut_in_the_handshake => "E-HS-01",
    e_pq_05_clocks_years_apart => "E-PQ-05",
    s_sm_01_cut_in_mid_push => "S-SM-01",
    s_sm_02_cut_in_mid_catch_up => "S-SM-02",
    s_conc_01_two_push_at_once => "S-CONC-01",
    s_conc_02_a_push_during_a_catch_up => "S-CONC-02",
    s_conv_01_partition_and_heal => "S-CONV-01",
    s_conv_02_the_relay_restarts => "S-CONV-02",
    s_conv_04_no_fault => "S-CONV-04",
    s_blob_04_empty_blobs => "S-BLOB-04",
    s_cur_02_acknowledgements_lost => "S-CUR-02",
    s_cur_04_apps_crash_before_processing => "S-CUR-04",
    mr_01_one_of_two_relays_killed => "MR-01",
    mr_02_one_of_two_relays_forgets => "MR-02",
    mr_03_all_relays_away => "MR-03",
    mr_04_one_of_two_relays_flaps => "MR-04",
    mr_05_the_home_relay_is_slow => "MR-05",
    c_stor_02_storage_refuses => "C-STOR-02",
    d_pair_02_closed_at_every_step => "D-PAIR-02",
    d_rev_01_a_device_is_removed => "D-REV-01",
    d_rev_02_rotations_at_once => "D-REV-02",
    d_rev_03_keys_changed_with_filled_outboxes => "D-REV-03",
    s_sm_03_killed_in_a_change_of_keys => "S-SM-03",
    s_sm_03_killed_in_a_truncation => "S-SM-03-TRUNCATE",
    d_rev_04_away_for_rotations_and_a_truncation => "D-REV-04",
    c_coll_02_truncated_while_read => "C-COLL-02",
    b_expire_a_floor_too_high => "B-EXPIRE",
}

#[test]
fn s_conv_04_finds_a_planted_difference() {
    let failure = scenario("S-CONV-04").check_with(0, Defect::DiskDropsEntry).expect_err("a row is missing");
    assert!(failure.contains("device 1"), "{failure}");
}

/// What a scenario's seeds find with a defect.
fn found(id: &str, defect: Defect) -> String {
    let scenario = scenario(id);
    (0..scenario.seeds).find_map(|seed| scenario.check_with(seed, defect).err()).unwrap_or_default()
}

#[test]
fn d_rev_01_finds_a_relay_that_goes_on_taking_what_a_removed_device_pushes() {
    let failure = found("D-REV-01", Defect::RelayKeepsRemoved);
    let expected = ["which was removed before", "Quarantined", "Corrupt"];
    assert!(expected.iter().any(|expected| failure.contains(expected)), "{failure}");
}

#[test]
fn d_rev_02_finds_a_relay_that_takes_two_rotations_of_one_generation() {
    let failure = found("D-REV-02", Defect::RelayRotatesTwice);
    assert!(failure.contains("a second change of the same generation of keys"), "{failure}");
}

#[test]
fn d_rev_04_and_c_coll_02_find_a_relay_that_gives_up_more_than_it_was_asked_to() {
    for id in ["D-REV-04", "C-COLL-02"] {
        let failure = found(id, Defect::RelayGivesUpMore);
        assert!(failure.contains("Withheld"), "{failure}");
    }
}

#[test]
fn b_expire_finds_a_relay_that_will_not_be_given_back_what_it_gave_up() {
    let failure = found("B-EXPIRE", Defect::RelayClaimsToHaveAll);
    assert!(failure.contains("entries of") || failure.contains("Gap"), "{failure}");
}

#[test]
fn an_unknown_id_is_no_scenario() {
    assert!(catalogue::find("T-NONE-99").is_none());
    assert_eq!(scenario("s-sm-01").id, "S-SM-01");
}
