//! Many seeds of one scenario, on every core: as many as the catalogue says, or as many as
//! `ZEROK_CHAOS_SEEDS` asks for, however long that takes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use zerok_sync_chaos::catalogue;
use zerok_sync_chaos::trial::Tally;

/// Runs them, but those that show a defect which is known and open; what happened in all of them
/// together.
pub fn run(id: &str, open: &[u64]) -> Tally {
    let scenario = catalogue::find(id).expect("it is in the catalogue");
    let asked: Option<u64> = std::env::var("ZEROK_CHAOS_SEEDS").ok().map(|seeds| seeds.parse().expect("a number"));
    let seeds = asked.unwrap_or(scenario.seeds);
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let work = || {
        let mut tally = Tally::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return tally;
            }
            if open.contains(&seed) && asked.is_none() {
                continue;
            }
            for (what, count) in scenario.check(seed).unwrap_or_else(|failure| panic!("{failure}")) {
                *tally.entry(what).or_default() += count;
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tally = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut total = Tally::new();
        for worker in workers {
            let tally = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            tally.into_iter().for_each(|(what, count)| *total.entry(what).or_default() += count);
        }
        total
    });
    println!("{id}: {seeds} seeds in {:?}: {tally:?}", begun.elapsed());
    tally
}

/// What must have happened, or the seeds proved nothing.
pub fn assert_happened(tally: &Tally, what: &[&str], at_least: u64) {
    for what in what {
        assert!(tally.get(what).is_some_and(|&count| count >= at_least), "hardly any {what}: {tally:?}");
    }
}
