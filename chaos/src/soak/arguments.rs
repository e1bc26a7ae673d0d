//! `zerok-chaos soak`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Cast, Plan};
use crate::processes::{Store, told_to_stop};

/// Real clients on a real relay, whose processes and database are killed again and again.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "For example: zerok-chaos soak --minutes 15 --every 30s --store postgres
Exit code 0: every invariant holds. 1: a violation; the files are kept.")]
pub struct Arguments {
    /// How long the load lasts.
    #[arg(long, default_value_t = 15.0)]
    minutes: f64,
    /// From one kill to the next: 30s, 500ms, 2m.
    #[arg(long, default_value = "30s", value_parser = duration)]
    every: Duration,
    /// sqlite, postgres, or two (relays on one Postgres).
    #[arg(long, default_value = "sqlite")]
    store: Store,
    /// Pushes per second of all devices together; by default half of what they reach flat out.
    #[arg(long)]
    rate: Option<f64>,
    /// Groups.
    #[arg(long, default_value_t = 4)]
    groups: usize,
    /// Devices in each group.
    #[arg(long, default_value_t = 3)]
    devices: usize,
    /// Devices without an engine that write down every acknowledgement, some 40 a second each.
    #[arg(long, default_value_t = 2)]
    scribes: usize,
    /// Bytes of the largest blob.
    #[arg(long, default_value_t = 2_048)]
    blob_bytes_max: usize,
    /// The longest outage beyond the restart itself.
    #[arg(long, default_value = "5s", value_parser = duration)]
    outage: Duration,
    /// How long everybody may take to have everything once the faults are over.
    #[arg(long, default_value = "90s", value_parser = duration)]
    settle: Duration,
    /// Decides outages and who closes the app meanwhile.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("expected a time such as 30s, 500ms or 2m".into()),
    };
    let number: f64 = number.parse().map_err(|_| "expected a time such as 30s, 500ms or 2m".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

impl Arguments {
    /// Runs it and prints how it went.
    ///
    /// # Errors
    /// If something does not start.
    pub fn run(self) -> Result<ExitCode> {
        let plan = Plan {
            store: self.store,
            cast: Cast {
                groups: self.groups.max(1),
                devices: self.devices.max(1),
                scribes: self.scribes,
                blob_bytes_max: self.blob_bytes_max,
            },
            duration: Duration::from_secs_f64(self.minutes * 60.0),
            every: self.every.max(Duration::from_millis(100)),
            outage_max: self.outage.min(self.every / 2),
            rate: self.rate,
            settle: self.settle,
            look_up: false,
            seed: self.seed,
            defect: None,
        };
        let dir = tempfile::Builder::new().prefix("zerok-soak-").tempdir()?;
        let runtime = tokio::runtime::Runtime::new().context("a runtime")?;
        let report = runtime.block_on(async {
            tokio::select! {
                report = super::run(&plan, dir.path(), |line| println!("{line}")) => report,
                stopped = told_to_stop() => Err(stopped),
            }
        })?;
        print!("{report}");
        if report.violations.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        println!("the relays' logs, the homes and the SQLite file are kept in {}", dir.keep().display());
        Ok(ExitCode::FAILURE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_number_and_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for text in ["", "30", "s", "-1s", "1h", "1e400s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
