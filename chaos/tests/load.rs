//! The bench in small: every mode against the real relay, on both databases, over both transports.
//! What it measures here means nothing; that all which was acknowledged is there, and all that was
//! delivered came once and in order, does: the sessions check it and the program fails otherwise.

use std::process::Command;

use serde_json::Value;

/// What docs/PERFORMANCE.md shows.
const FIGURES: [&str; 30] = [
    "push.sqlite",
    "push.sqlite.single",
    "push.postgres",
    "push.postgres.single",
    "push.postgres.ratio",
    "push.postgres.single.ratio",
    "push.hot.ratio",
    "push.hot.single.ratio",
    "delivery.sqlite.half",
    "delivery.sqlite.rest",
    "delivery.postgres.half",
    "delivery.postgres.rest",
    "fanout",
    "fanout.crowded.ratio",
    "catch-up.sqlite",
    "catch-up.sqlite.memory",
    "catch-up.postgres",
    "catch-up.postgres.memory",
    "catch-up.native",
    "catch-up.native.memory",
    "idle.ws",
    "idle.iroh",
    "storm",
    "storm.refused",
    "empty.memory",
    "empty.start",
    "large.sqlite.push",
    "large.sqlite.start",
    "large.postgres.push",
    "large.postgres.start",
];

#[test]
fn the_bench_measures_every_figure_and_finds_nothing_lost() {
    let out = tempfile::tempdir().expect("a directory");

    let ended = Command::new(env!("CARGO_BIN_EXE_zerok-chaos"))
        .args(["bench", "--quick", "--out"])
        .arg(out.path())
        .output()
        .expect("zerok-chaos runs");

    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}\n{}", String::from_utf8_lossy(&ended.stderr));
    let read = std::fs::read(out.path().join("results.json")).expect("a data file");
    let results: Value = serde_json::from_slice(&read).expect("JSON");
    let value = |id: &str| results["figures"].as_array()?.iter().find(|figure| figure["id"] == id)?["value"].as_f64();
    for id in FIGURES {
        let measured = value(id).unwrap_or_else(|| panic!("{id} was not measured:\n{said}"));
        assert!(measured >= 0.0, "{id}: {measured}");
    }
    for id in ["push.sqlite", "push.postgres", "fanout", "catch-up.sqlite", "catch-up.native"] {
        assert!(value(id) > Some(0.0), "{id}: nothing happened");
    }
    assert_eq!(value("storm.refused"), Some(0.0));
    for plot in ["clients.svg", "payload.svg"] {
        let drawn = std::fs::read_to_string(out.path().join(plot)).expect("a plot");
        assert!(drawn.contains("SQLite") && drawn.contains("PostgreSQL"), "{plot}");
    }
}
