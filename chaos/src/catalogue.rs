//! The scenarios by their ids.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sim::Defect;
use crate::trial::plan::Plan;
use crate::trial::{Report, Tally, Trial};

/// One row of the catalogue, as far as it is automated here.
#[derive(Debug)]
pub struct Scenario {
    /// Its name everywhere.
    pub id: &'static str,
    /// What goes wrong, and what must hold.
    pub what: &'static str,
    /// How many seeds `cargo test` runs.
    pub seeds: u64,
    plan: fn(u64) -> Plan,
}

/// Everything there is.
pub const ALL: &[Scenario] = &[Scenario {
    id: "H-HONEST",
    what: "an honest relay with every fault at once: no integrity event, nothing lost, doubled or out of order",
    seeds: 2_000,
    plan: Plan::draw,
}];

/// The scenario of an id, in any case.
#[must_use]
pub fn find(id: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.id.eq_ignore_ascii_case(id))
}

impl Scenario {
    /// Runs one seed; what happened.
    ///
    /// # Errors
    /// What was wrong, with the command that replays it.
    pub fn check(&self, seed: u64) -> Result<Tally, String> {
        self.outcome(seed, None)
    }

    /// Runs one seed with a planted defect.
    ///
    /// # Errors
    /// What was found wrong: then the checks see this defect.
    pub fn check_with(&self, seed: u64, defect: Defect) -> Result<Tally, String> {
        self.outcome(seed, Some(defect))
    }

    fn outcome(&self, seed: u64, defect: Option<Defect>) -> Result<Tally, String> {
        let run = || {
            let trial = Trial::new(seed, (self.plan)(seed));
            defect.into_iter().fold(trial, Trial::with_defect).run()
        };
        // The core's own assertions are checks, too.
        let violations = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Report { violations, tally, .. }) if violations.is_empty() => return Ok(tally),
            Ok(Report { violations, .. }) => violations.join("\n  "),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                format!("panic: {}", text.unwrap_or("without a text"))
            }
        };
        let id = self.id;
        Err(format!(
            "{id} seed {seed}:\n  {violations}\nreplay: cargo run -p zerok-sync-chaos -- run {id} --seed {seed}"
        ))
    }
}
