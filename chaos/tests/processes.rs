//! The scenarios with real processes: `zerok-chaos run ID --processes`.

use std::collections::BTreeSet;

use zerok_sync_chaos::process_scenarios;

async fn assert_holds(id: &str) {
    let scenario = process_scenarios::find(id).unwrap_or_else(|| panic!("{id} is no scenario"));
    match scenario.check().await {
        Ok(what) => println!("{id}: {what}"),
        Err(error) => panic!("{error:#}"),
    }
}

macro_rules! scenarios {
    ($($name:ident => [$($id:literal),*],)*) => {
        $(
            /// At the same time: most of each is waiting.
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                tokio::join!($(assert_holds($id)),*);
            }
        )*

        #[test]
        fn every_scenario_is_run() {
            let run: BTreeSet<&str> = [$($($id,)*)*].into();
            assert_eq!(run, process_scenarios::ALL.iter().map(|scenario| scenario.id).collect());
        }
    };
}

scenarios! {
    a_relay_that_is_killed_or_away => ["T-CONN-01", "T-CONN-03"],
    a_disk_a_burst_and_a_lost_answer => ["C-STOR-04", "C-COLL-01", "S-CUR-02"],
    a_database_in_trouble => ["C-STOR-05"],
    two_relays_on_one_database => ["S-CUR-01", "MR-06", "MR-07"],
}
