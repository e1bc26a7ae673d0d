//! Latencies as HDR histograms, written to by many sessions at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency told apart; anything longer counts as this.
const LATENCY_MAX_US: u64 = 120_000_000;
/// Three digits: p99 = 15.0 ms and 15.1 ms are different.
const DIGITS: u8 = 3;
/// So that sessions on two cores rarely wait for each other.
const SHARDS: usize = 8;

/// Takes latencies from many sessions.
pub struct Recorder(Vec<Mutex<Histogram<u64>>>);

impl Default for Recorder {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::new(empty())).collect())
    }
}

impl Recorder {
    /// Notes latencies of one session.
    pub fn record(&self, session: usize, latencies: impl IntoIterator<Item = Duration>) {
        let mut latencies = latencies.into_iter().peekable();
        if latencies.peek().is_none() {
            return;
        }
        let shard = &self.0[session % SHARDS];
        let mut histogram = shard.lock().unwrap_or_else(PoisonError::into_inner);
        for latency in latencies {
            histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX_US));
        }
    }

    /// What was noted.
    #[must_use]
    pub fn summary(&self) -> Latency {
        let mut all = empty();
        for shard in &self.0 {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.add(&*shard).expect("all shards have the same bounds");
        }
        Latency::of(&all)
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, DIGITS).expect("1 < 120,000,000 and three digits are valid")
}

/// A distribution of latencies, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Half of all took at most this.
    pub p50_ms: f64,
    /// 90 % …
    pub p90_ms: f64,
    /// 99 % …
    pub p99_ms: f64,
    /// 99.9 % …
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |us: u64| us as f64 / 1000.0;
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(histogram.max()),
        }
    }

    /// The distribution of a handful of durations.
    pub fn of_all(latencies: impl IntoIterator<Item = Duration>) -> Self {
        let recorder = Recorder::default();
        recorder.record(0, latencies);
        recorder.summary()
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, p50_ms, p90_ms, p99_ms, p999_ms, max_ms } = self;
        write!(
            f,
            "p50 {p50_ms:.2}  p90 {p90_ms:.2}  p99 {p99_ms:.2}  p99.9 {p999_ms:.2}  max {max_ms:.2} ms  (of {count})"
        )
    }
}

/// The middle one; the mean of the two middle ones of an even number. Zero of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up_and_what_is_too_long_counts_as_the_longest() {
        let recorder = Recorder::default();
        for session in 0..99 {
            recorder.record(session, [Duration::from_millis(10)]);
        }
        recorder.record(99, [Duration::from_secs(1_000_000)]);
        let latency = recorder.summary();
        assert_eq!(latency.count, 100);
        assert!((latency.p50_ms - 10.0).abs() < 0.02 && (latency.p99_ms - 10.0).abs() < 0.02, "{latency}");
        assert!(latency.max_ms >= 119_000.0, "{latency}");
    }

    #[test]
    fn a_median_is_the_middle_one() {
        assert_eq!([median(&[]), median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])], [0.0, 2.0, 2.5]);
    }
}
