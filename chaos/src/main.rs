//! `zerok-chaos`: what can go wrong, by its id in the catalogue.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use zerok_sync_chaos::catalogue::{self, Scenario};
use zerok_sync_chaos::load::bench::{self, BenchOptions};
use zerok_sync_chaos::load::{self, options::LoadOptions};
use zerok_sync_chaos::process_scenarios;
use zerok_sync_chaos::processes::told_to_stop;
use zerok_sync_chaos::soak;
use zerok_sync_chaos::tested;
use zerok_sync_chaos::trial::Tally;

#[derive(Debug, Parser)]
#[command(name = "zerok-chaos", about = "Runs 0k-Sync's chaos scenarios")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints every scenario there is.
    List,
    /// Runs one scenario.
    Run {
        /// Its id, such as H-HONEST.
        id: String,
        /// Replays one seed.
        #[arg(long, conflicts_with = "seeds")]
        seed: Option<u64>,
        /// Runs this many seeds, from 0 or from `--from`.
        #[arg(long)]
        seeds: Option<u64>,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Prints what happens in that seed: who says what to whom, what each envelope is, what is told.
        #[arg(long, requires = "seed")]
        trace: bool,
        /// Runs it with real processes instead of the simulation; without seeds.
        #[arg(long, conflicts_with_all = ["seed", "seeds", "from"])]
        processes: bool,
    },
    /// Puts load on a relay and measures it.
    Load(Box<LoadOptions>),
    /// Kills relays and databases under a steady load, and checks that nothing is lost.
    Soak(soak::arguments::Arguments),
    /// Measures every figure that is promised.
    Bench(BenchOptions),
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::List => {
            for scenario in catalogue::ALL {
                println!("{:10} simulated  {}", scenario.id, scenario.what);
            }
            for scenario in process_scenarios::ALL {
                println!("{:10} processes  {}", scenario.id, scenario.what);
            }
            for test in tested::all()? {
                println!("{:10} tested     {}", test.row, test.test);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Run { id, processes, .. } if processes || catalogue::find(&id).is_none() => {
            let Some(scenario) = process_scenarios::find(&id) else {
                let tests = tested::of(&id)?;
                if processes || tests.is_empty() {
                    bail!("no scenario {id} of that kind: see `zerok-chaos list`");
                }
                return Ok(if tested::run(&tests)? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            };
            until_told_to_stop(async {
                println!("{}: {}", scenario.id, scenario.check(process_scenarios::Extent::Full).await?);
                Ok(())
            })
        }
        Command::Run { id, seed: Some(seed), trace: true, .. } => {
            let scenario = catalogue::find(&id).with_context(|| format!("no scenario {id}: see `zerok-chaos list`"))?;
            Ok(match scenario.trace(seed) {
                Ok(_) => ExitCode::SUCCESS,
                Err(failure) => {
                    eprintln!("{failure}");
                    ExitCode::FAILURE
                }
            })
        }
        Command::Run { id, seed, seeds, from, .. } => {
            let scenario = catalogue::find(&id).with_context(|| format!("no scenario {id}: see `zerok-chaos list`"))?;
            let (from, seeds) = seed.map_or((from, seeds.unwrap_or(scenario.seeds)), |seed| (seed, 1));
            run(scenario, from, seeds)
        }
        Command::Bench(options) => until_told_to_stop(bench::run(&options)),
        Command::Load(options) => until_told_to_stop(load::run(&options)),
        Command::Soak(arguments) => arguments.run(),
    }
}

/// Runs `work`. SIGTERM and SIGINT end it where it is: what it holds is dropped, and with it the
/// relays and databases that it started.
fn until_told_to_stop<T>(work: impl Future<Output = Result<T>>) -> Result<ExitCode> {
    tokio::runtime::Runtime::new()?.block_on(async {
        tokio::select! {
            done = work => done.map(|_done| ExitCode::SUCCESS),
            stopped = told_to_stop() => Err(stopped),
        }
    })
}

/// Runs the seeds on every core, in order, up to the first failure.
fn run(scenario: &Scenario, from: u64, seeds: u64) -> Result<ExitCode> {
    let next = AtomicU64::new(from);
    let failed = AtomicBool::new(false);
    let work = || {
        let mut tally = Tally::new();
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                break;
            }
            match scenario.check(seed) {
                Ok(counted) => counted.into_iter().for_each(|(what, count)| *tally.entry(what).or_default() += count),
                Err(failure) => {
                    failed.store(true, Ordering::Relaxed);
                    eprintln!("{failure}");
                }
            }
        }
        tally
    };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut total = Tally::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let Ok(tally) = worker.join() else { bail!("a worker died") };
            tally.into_iter().for_each(|(what, count)| *total.entry(what).or_default() += count);
        }
        Ok(())
    })?;
    if failed.into_inner() {
        return Ok(ExitCode::FAILURE);
    }
    println!("{}: {seeds} seeds from {from}, nothing wrong", scenario.id);
    total.into_iter().for_each(|(what, count)| println!("{count:10} {what}"));
    Ok(ExitCode::SUCCESS)
}
