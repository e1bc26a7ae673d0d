//! The scenarios with real processes: `zerok-chaos run ID --processes`.

use std::collections::BTreeSet;

use zerok_sync_chaos::process_scenarios::{self, Extent};

async fn assert_holds(id: &str) {
    let scenario = process_scenarios::find(id).unwrap_or_else(|| panic!("{id} is no scenario"));
    match scenario.check(Extent::Small).await {
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
    a_database_in_trouble => ["C-STOR-05", "C-STOR-05-FAILOVER"],
    what_clients_can_cost => ["A-RES-05", "A-RES-06"],
    two_relays_on_one_database => ["S-CUR-01", "MR-06", "MR-07"],
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_defects_are_found() {
    let planted = process_scenarios::ALL.iter().flat_map(|scenario| scenario.planted);
    let finding = planted.map(async |planted| match planted.find().await {
        Ok(found) => assert!(found.contains(planted.found), "{}: {found}", planted.what),
        Err(error) => panic!("{error:#}"),
    });
    futures_util::future::join_all(finding).await;
}

/// The processes that another one has started.
fn children_of(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let of_threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_threads = of_threads.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let all: BTreeSet<u32> = of_threads
        .chain([children])
        .flat_map(|pids| pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    all.into_iter().collect()
}

#[test]
fn a_run_that_is_told_to_stop_leaves_no_relay_behind() {
    for (signal, arguments) in
        [("-TERM", &["load", "idle", "--duration", "600"][..]), ("-INT", &["run", "T-CONN-03", "--processes"])]
    {
        // It builds nothing: the scenarios above have.
        zerok_sync_chaos::processes::binary::relay_binary().expect("the relay builds");
        let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_zerok-chaos"))
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("started");
        let relay = loop {
            let is_relay = |pid: &u32| {
                std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "zerok-relay")
            };
            if let Some(relay) = children_of(run.id()).into_iter().find(is_relay) {
                break relay;
            }
            assert!(run.try_wait().expect("asked").is_none(), "it ended before it had started a relay");
            std::thread::sleep(std::time::Duration::from_millis(10));
        };

        let told = std::process::Command::new("kill").args([signal, &run.id().to_string()]).status();

        assert!(told.expect("kill").success());
        assert!(!run.wait().expect("it ends").success(), "it says that it was not done");
        let is_gone = || !std::path::Path::new(&format!("/proc/{relay}")).exists();
        for _ in 0..500 {
            if is_gone() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(is_gone(), "{signal}: the relay is still there");
    }
}
