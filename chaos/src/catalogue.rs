//! The scenarios by their ids.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::scenarios;
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
    /// What must have happened over all seeds, or they proved nothing: a line of the [`Tally`].
    pub happens: &'static str,
    /// How many seeds `cargo test` runs.
    pub seeds: u64,
    plan: fn(u64) -> Plan,
}

/// Everything there is.
pub const ALL: &[Scenario] = &[
    Scenario {
        id: "T-LAT-01",
        what: "200 ms each way: pushing, reading and pairing complete",
        happens: "joins completed",
        seeds: 20,
        plan: scenarios::latency,
    },
    Scenario {
        id: "T-LAT-02",
        what: "200 ± 150 ms: order kept, nothing damaged",
        happens: "joins completed",
        seeds: 20,
        plan: scenarios::jitter,
    },
    Scenario {
        id: "T-LAT-04",
        what: "600 ± 50 ms: handshake and transfer inside their deadlines",
        happens: "joins completed",
        seeds: 20,
        plan: scenarios::satellite,
    },
    Scenario {
        id: "T-CONN-02",
        what: "a device killed after each output of its engine during a push: resumes, nothing doubled or forked",
        happens: "crashes between two outputs",
        seeds: 60,
        plan: scenarios::killed_in_push,
    },
    Scenario {
        id: "T-CONN-03",
        what: "nobody reaches the relay for a while: nobody diverges, everybody resumes",
        happens: "relay restarts",
        seeds: 20,
        plan: scenarios::relay_away,
    },
    Scenario {
        id: "T-CONN-04",
        what: "ten links in five seconds: no damage",
        happens: "links cut",
        seeds: 20,
        plan: scenarios::flapping,
    },
    Scenario {
        id: "T-CONN-05",
        what: "links dead without a word: found by ping or wake-up",
        happens: "links cut",
        seeds: 20,
        plan: scenarios::half_open,
    },
    Scenario {
        id: "E-HS-01",
        what: "the link cut after each message of the handshake: clean retry",
        happens: "links cut at a message",
        seeds: 9,
        plan: scenarios::cut_in_handshake,
    },
    Scenario {
        id: "E-PQ-05",
        what: "wall clocks years apart: sync and pairing do not depend on them",
        happens: "joins completed",
        seeds: 20,
        plan: scenarios::clocks_apart,
    },
    Scenario {
        id: "S-SM-01",
        what: "the link cut at each message of a push: resumed, nothing doubled",
        happens: "links cut at a message",
        seeds: 60,
        plan: scenarios::cut_in_push,
    },
    Scenario {
        id: "S-SM-02",
        what: "the link cut at each message of a catch-up: goes on where it was",
        happens: "links cut at a message",
        seeds: 48,
        plan: scenarios::cut_in_catch_up,
    },
    Scenario {
        id: "S-CONC-01",
        what: "two devices push at once: both have both, in one order",
        happens: "entries delivered",
        seeds: 20,
        plan: scenarios::push_at_once,
    },
    Scenario {
        id: "S-CONC-02",
        what: "pushes while another device catches up: no gap between stored and live",
        happens: "partitions",
        seeds: 20,
        plan: scenarios::push_during_catch_up,
    },
    Scenario {
        id: "S-CONV-01",
        what: "any subset cut off and back: converged",
        happens: "partitions",
        seeds: 20,
        plan: scenarios::partitions,
    },
    Scenario {
        id: "S-CONV-02",
        what: "the relay restarts: as before",
        happens: "relay restarts",
        seeds: 20,
        plan: scenarios::relay_restarts,
    },
    Scenario {
        id: "S-CONV-04",
        what: "no fault: and a planted difference is found",
        happens: "entries delivered",
        seeds: 20,
        plan: scenarios::no_fault,
    },
    Scenario {
        id: "S-BLOB-04",
        what: "blobs without a byte are delivered as such",
        happens: "entries delivered",
        seeds: 20,
        plan: scenarios::empty_blobs,
    },
    Scenario {
        id: "S-CUR-02",
        what: "acknowledgements lost after the commit: one entry, the same cursor",
        happens: "acknowledgements lost",
        seeds: 20,
        plan: scenarios::acks_lost,
    },
    Scenario {
        id: "S-CUR-04",
        what: "apps crash between reading and processing: read again, nothing skipped",
        happens: "entries delivered again",
        seeds: 20,
        plan: scenarios::app_crashes,
    },
    Scenario {
        id: "C-STOR-02",
        what: "a device's storage refuses batches: told, reopened, nothing lost",
        happens: "reopened after a failed commit",
        seeds: 20,
        plan: scenarios::disks_fail,
    },
    Scenario {
        id: "D-PAIR-02",
        what: "the inviting or the joining device cut off or killed at every step: no half member, and both can start again",
        happens: "joins completed",
        seeds: 168,
        plan: scenarios::closed_in_pairing,
    },
    Scenario {
        id: "D-REV-01",
        what: "a device removed while connected, offline or pushing: it reads and writes nothing more, the others go on",
        happens: "removals read",
        seeds: 30,
        plan: scenarios::removed,
    },
    Scenario {
        id: "D-REV-02",
        what: "two devices remove each other, or rotate, at once: the same members and keys everywhere",
        happens: "rotations",
        seeds: 30,
        plan: scenarios::rotations_at_once,
    },
    Scenario {
        id: "D-REV-03",
        what: "keys changed with filled outboxes: no forked chain, nothing lost",
        happens: "rotations",
        seeds: 30,
        plan: scenarios::rotation_with_filled_outboxes,
    },
    Scenario {
        id: "S-SM-03",
        what: "a device killed, or cut off, at each point of a change of keys: carried out once, or not at all",
        happens: "removals read",
        seeds: 120,
        plan: scenarios::killed_in_rotation,
    },
    Scenario {
        id: "D-REV-04",
        what: "a device away for two changes of keys and a truncation: gets back in, reads everything",
        happens: "states replaced by a snapshot",
        seeds: 24,
        plan: scenarios::away_for_rotations_and_a_truncation,
    },
    Scenario {
        id: "C-COLL-02",
        what: "the log truncated while a device reads it: the floor is honoured, a snapshot taken instead, nothing lost",
        happens: "floors moved",
        seeds: 30,
        plan: scenarios::truncated_while_read,
    },
    Scenario {
        id: "S-SM-03-TRUNCATE",
        what: "a device killed, or cut off, at each point of a snapshot, of the truncation and of going on from it: no half state",
        happens: "floors moved",
        seeds: 60,
        plan: scenarios::killed_in_truncation,
    },
    Scenario {
        id: "B-EXPIRE",
        what: "a relay's floor above what a snapshot stands for: told, and healed from the mirrors",
        happens: "entries told to be withheld",
        seeds: 24,
        plan: scenarios::floor_too_high,
    },
    Scenario {
        id: "MR-01",
        what: "the home relay, or the other one, killed while everybody pushes: pushes are acknowledged by the one that is left, each entry once on each",
        happens: "relay restarts",
        seeds: 20,
        plan: scenarios::one_of_two_relays_killed,
    },
    Scenario {
        id: "MR-02",
        what: "one of two relays goes back in time or is emptied: filled from the mirrors, nothing lost or doubled",
        happens: "relays healed",
        seeds: 20,
        plan: scenarios::one_of_two_relays_forgets,
    },
    Scenario {
        id: "MR-03",
        what: "both relays away: outboxes are kept, everybody resumes",
        happens: "relay restarts",
        seeds: 12,
        plan: scenarios::all_relays_away,
    },
    Scenario {
        id: "MR-04",
        what: "one of two relays comes and goes: cursors resume, none lost or repeated",
        happens: "relay restarts",
        seeds: 12,
        plan: scenarios::one_of_two_relays_flaps,
    },
    Scenario {
        id: "MR-05",
        what: "the home relay takes five seconds for everything: the other one's acknowledgements count",
        happens: "entries delivered",
        seeds: 12,
        plan: scenarios::home_relay_slow,
    },
    Scenario {
        id: "H-RELAYS",
        what: "five devices and two relays, paired, removed, rotated and repaired in any order: equal members, keys and logs",
        happens: "removals read",
        seeds: 2_000,
        plan: Plan::draw_two_relays,
    },
    Scenario {
        id: "H-HONEST",
        what: "an honest relay with every fault at once: no integrity event, nothing lost, doubled or out of order",
        happens: "acknowledgements lost",
        seeds: 2_000,
        plan: Plan::draw,
    },
];

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
        self.outcome(seed, |trial| trial)
    }

    /// Runs one seed with a planted defect.
    ///
    /// # Errors
    /// What was found wrong: then the checks see this defect.
    pub fn check_with(&self, seed: u64, defect: Defect) -> Result<Tally, String> {
        self.outcome(seed, |trial| trial.with_defect(defect))
    }

    /// Runs one seed, and prints to standard error what happens in it.
    ///
    /// # Errors
    /// What was wrong, and how to replay it.
    pub fn trace(&self, seed: u64) -> Result<Tally, String> {
        self.outcome(seed, Trial::traced)
    }

    fn outcome(&self, seed: u64, prepare: impl FnOnce(Trial) -> Trial) -> Result<Tally, String> {
        let run = || prepare(Trial::new(seed, (self.plan)(seed))).run();
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
