//! Rows of the catalogue that are played in a crate's own tests: on the engine in its simulated world,
//! on a relay's real database, with frames that no client sends.
//!
//! `tests/defects.json` says which tests those are, and with which planted defect each has been seen to
//! fail (`node scripts/defects.mjs`). `zerok-chaos run ID` has cargo run them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

const ROWS: &str = include_str!("../../tests/defects.json");

/// A planted defect. Without a package it is one that a scenario of this crate plants itself.
#[derive(Debug, Deserialize)]
struct Planted {
    row: String,
    test: String,
    package: Option<String>,
    #[serde(default)]
    target: Vec<String>,
}

/// One test of one row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tested {
    /// The row's id, such as `B-ROLL`.
    pub row: String,
    package: String,
    /// What cargo is told of where it is.
    target: Vec<String>,
    /// Its path inside the test's binary.
    pub test: String,
}

/// Every row that has tests, with the tests, each once.
///
/// # Errors
/// When `tests/defects.json` is not what it should be.
pub fn all() -> Result<Vec<Tested>> {
    let planted: Vec<Planted> = serde_json::from_str(ROWS).context("tests/defects.json")?;
    let tested = |Planted { row, test, package, target }| Some(Tested { row, package: package?, target, test });
    let each_once: BTreeSet<Tested> = planted.into_iter().filter_map(tested).collect();
    Ok(each_once.into_iter().collect())
}

/// The tests of one row; none if it has none.
///
/// # Errors
/// When `tests/defects.json` is not what it should be.
pub fn of(row: &str) -> Result<Vec<Tested>> {
    Ok(all()?.into_iter().filter(|it| it.row.eq_ignore_ascii_case(row)).collect())
}

/// Runs them, those of one test binary together; whether all passed.
///
/// # Errors
/// When cargo cannot be run.
pub fn run(tests: &[Tested]) -> Result<bool> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the project's folder")?;
    let mut passed = true;
    for together in tests.chunk_by(|one, next| (&one.package, &one.target) == (&next.package, &next.target)) {
        let [first, ..] = together else { continue };
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(project).args(["test", "--locked", "--package", &first.package]).args(&first.target);
        cargo.args(["--", "--exact"]).args(together.iter().map(|it| &it.test));
        passed &= cargo.status().context("cargo")?.success();
    }
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue, process_scenarios};

    #[test]
    fn a_byzantine_relay_and_devices_that_go_wrong_are_found_by_their_ids() {
        let rows = "A-PROTO-01 A-PROTO-02 A-PROTO-03 A-PROTO-04 B-DOWN B-DROP B-EXPIRE B-FORK B-FRAME B-HEAL B-KEY \
                    B-MEMBER B-ROLL B-ROLL-02 B-ROLL-03 B-WIPE D-KEY-01 D-PAIR-01 D-PAIR-02 D-PAIR-03 D-REC-01 \
                    D-REV-01 D-REV-02 D-REV-03 D-REV-04 D-REV-05 H-HONEST MR-01 MR-02 MR-03 MR-04 MR-05 MR-06 MR-07";
        for row in rows.split_whitespace() {
            let tested = !of(row).expect("sound").is_empty();
            let known = catalogue::find(row).is_some() || process_scenarios::find(row).is_some();
            assert!(tested || known, "{row}");
        }
    }
}
