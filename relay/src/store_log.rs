//! What the operator's log says of a store that fails: one line when it goes and one when it is
//! back, with how long that was and how many operations failed; in between one a minute. A store
//! that is away fails everything that is tried, and a line for each would bury the first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::StoreError;

/// A line a minute for as long as the store is away.
const STILL_AWAY_PAUSE: Duration = Duration::from_secs(60);
/// A store that comes and goes, or damage that is met again and again, gets no more than a line in
/// this time.
const LINE_PAUSE: Duration = Duration::from_secs(10);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct StoreLog {
    /// Read before the lock: a store that works costs no more.
    away: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outage: Option<Outage>,
    /// Of a store that was there and did not do it.
    other: Option<Other>,
    last_line: Option<Instant>,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    failures: u64,
    /// When its last line was written, if one was.
    said: Option<Instant>,
}

#[derive(Debug)]
struct Other {
    said: Instant,
    left_out: u64,
}

/// A line to be written.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Away { failures: u64, since: Duration },
    Back { failures: u64, after: Duration },
    Other { left_out: u64 },
}

impl StoreLog {
    /// Something could not be done.
    pub(crate) fn failed(&self, error: &StoreError) {
        match self.failed_at(error, Instant::now()) {
            Some(Line::Away { failures, since }) => {
                tracing::error!(%error, failures, seconds = since.as_secs(), "the store is away; it is tried again");
            }
            Some(Line::Other { left_out }) => tracing::error!(%error, left_out, "the store failed"),
            Some(Line::Back { .. }) | None => {}
        }
    }

    /// Something was written that had to reach the disk.
    pub(crate) fn works(&self) {
        if self.is_away()
            && let Some(Line::Back { failures, after }) = self.works_at(Instant::now())
        {
            let seconds = format!("{:.1}", after.as_secs_f64());
            tracing::info!(failures, seconds, "the store works again");
        }
    }

    /// Whether it failed last.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    fn failed_at(&self, error: &StoreError, now: Instant) -> Option<Line> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            StoreError::Unavailable(_) | StoreError::Unusable(_) => {
                self.away.store(true, Ordering::Relaxed);
                state.fell_away(now)
            }
            StoreError::Busy(_) | StoreError::Corrupt(_) | StoreError::Defect => state.other_failure(now),
            StoreError::Gone => None,
        }
    }

    fn works_at(&self, now: Instant) -> Option<Line> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.away.store(false, Ordering::Relaxed);
        let Outage { since, failures, said } = state.outage.take()?;
        // One that was too short to be told of ends untold.
        said?;
        state.last_line = Some(now);
        Some(Line::Back { failures, after: now - since })
    }
}

impl State {
    fn fell_away(&mut self, now: Instant) -> Option<Line> {
        let rests = self.last_line.is_some_and(|last| now - last < LINE_PAUSE);
        let outage = self.outage.get_or_insert(Outage { since: now, failures: 0, said: None });
        outage.failures += 1;
        let due = outage.said.map_or(!rests, |said| now - said >= STILL_AWAY_PAUSE);
        due.then(|| {
            outage.said = Some(now);
            Line::Away { failures: outage.failures, since: now - outage.since }
        })
    }

    fn other_failure(&mut self, now: Instant) -> Option<Line> {
        match &mut self.other {
            Some(other) if now - other.said < LINE_PAUSE => {
                other.left_out += 1;
                None
            }
            other => {
                let left_out = other.replace(Other { said: now, left_out: 0 }).map_or(0, |other| other.left_out);
                Some(Line::Other { left_out })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn away() -> StoreError {
        StoreError::Unavailable("gone".into())
    }

    /// How many lines so many failures make, ten a second.
    fn lines(log: &StoreLog, error: &StoreError, from: Instant, failures: u32) -> usize {
        (0..failures).filter(|&index| log.failed_at(error, from + index * SECOND / 10).is_some()).count()
    }

    #[test]
    fn a_store_that_is_away_is_one_line_when_it_goes_one_a_minute_and_one_when_it_is_back() {
        let (log, begin) = (StoreLog::default(), Instant::now());
        assert_eq!(log.failed_at(&away(), begin), Some(Line::Away { failures: 1, since: Duration::ZERO }));
        assert_eq!(lines(&log, &away(), begin + SECOND, 1_500), 2, "two minutes and a half");
        let back = begin + 152 * SECOND;
        assert_eq!(log.works_at(back), Some(Line::Back { failures: 1_501, after: 152 * SECOND }));
        assert_eq!(log.works_at(back), None);
        assert!(!log.is_away());
    }

    #[test]
    fn a_store_that_comes_and_goes_is_not_told_of_each_time() {
        let (log, begin) = (StoreLog::default(), Instant::now());
        let mut told = 0;
        for second in 0..100 {
            told += usize::from(log.failed_at(&away(), begin + second * SECOND).is_some());
            told += usize::from(log.works_at(begin + second * SECOND + SECOND / 2).is_some());
        }
        assert!((10..=20).contains(&told), "{told} lines in a hundred seconds");
    }

    #[test]
    fn damage_that_is_met_again_and_again_is_a_line_in_ten_seconds_and_no_outage() {
        let (log, begin) = (StoreLog::default(), Instant::now());
        let damage = StoreError::Corrupt("a row".into());
        assert_eq!(log.failed_at(&damage, begin), Some(Line::Other { left_out: 0 }));
        assert_eq!(lines(&log, &damage, begin + SECOND, 80), 0);
        assert_eq!(log.failed_at(&damage, begin + LINE_PAUSE), Some(Line::Other { left_out: 80 }));
        assert!(!log.is_away());
        assert_eq!(log.failed_at(&StoreError::Gone, begin + 60 * SECOND), None, "no fault of the store's");
    }
}
