//! The soak in short: real clients on a real relay, whose processes are killed again and again. And
//! the soak itself: what must never happen, done behind the product's back, is found.

use std::time::Duration;

use zerok_sync_chaos::processes::Store;
use zerok_sync_chaos::soak::check::Violation;
use zerok_sync_chaos::soak::{Cast, Defect, Plan, Report, run};

fn plan(store: Store) -> Plan {
    Plan {
        store,
        cast: Cast { groups: 2, devices: 2, scribes: 1, blob_bytes_max: 2_048 },
        duration: Duration::from_secs(10),
        every: Duration::from_millis(2_500),
        outage_max: Duration::from_millis(300),
        rate: Some(60.0),
        settle: Duration::from_secs(60),
        look_up: true,
        seed: 1,
        defect: None,
    }
}

async fn soak(plan: Plan) -> Report {
    let dir = tempfile::tempdir().expect("a temporary directory");
    run(&plan, dir.path(), |line| println!("{line}")).await.expect("the soak runs to its end")
}

async fn assert_holds(store: Store) {
    let report = soak(plan(store)).await;
    println!("{report}");
    assert_eq!(report.violations, [], "{store:?}");
    assert_eq!(report.kills.len(), 4);
    let [pushed, acked, delivered] = report.counts;
    assert!(pushed > 200 && acked == pushed && delivered >= 2 * pushed, "{store:?}: {:?}", report.counts);
    assert!(report.judged.searched_bytes > 1 << 20, "{store:?}: {} bytes", report.judged.searched_bytes);
}

/// At the same time: most of it is waiting.
#[tokio::test(flavor = "multi_thread")]
async fn kill_minus_nine_of_relays_and_databases_loses_nothing_on_any_store() {
    tokio::join!(assert_holds(Store::Sqlite), assert_holds(Store::Postgres), assert_holds(Store::Two));
}

/// What is found when a defect is planted.
async fn found(defect: Defect) -> Vec<Violation> {
    let defective = Plan {
        cast: Cast { groups: 1, devices: 2, scribes: 1, blob_bytes_max: 2_048 },
        duration: Duration::from_secs(6),
        every: Duration::from_secs(2),
        settle: Duration::from_secs(5),
        defect: Some(defect),
        ..plan(Store::Sqlite)
    };
    soak(defective).await.violations
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_forgot_what_it_acknowledged_is_found() {
    let found = found(Defect::DatabaseCopiedBack).await;
    // Devices put back what they have; scribes have no mirror, and miss what they were told is there.
    assert!(found.iter().any(|violation| matches!(violation, Violation::AckWrong { stored: None, .. })), "{found:?}");
    assert!(found.iter().any(|violation| matches!(violation, Violation::Accused { .. })), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_forgot_what_it_processed_is_found() {
    let found = found(Defect::HomeCopiedBack).await;
    assert!(found.iter().any(|violation| matches!(violation, Violation::PositionLost { .. })), "{found:?}");
    assert!(found.iter().any(|violation| matches!(violation, Violation::DeliveredAgain { .. })), "{found:?}");
}
