//! A histogram that can be read back, for the status page's quantiles, and that is observed
//! without a lock: `prometheus_client`'s own has neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Six bounds a decade (the E6 series), from a tenth of a millisecond to ten seconds: a quantile
/// is within a fifth of the truth.
const SECONDS_BOUNDS: &[f64] = &[
    0.0001, 0.00015, 0.00022, 0.00033, 0.00047, 0.00068, 0.001, 0.0015, 0.0022, 0.0033, 0.0047, 0.0068, 0.01, 0.015,
    0.022, 0.033, 0.047, 0.068, 0.1, 0.15, 0.22, 0.33, 0.47, 0.68, 1.0, 1.5, 2.2, 3.3, 4.7, 6.8, 10.0,
];
/// Powers of two up to more than a commit holds.
const COUNT_BOUNDS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];
/// The sum is kept in millionths, as a whole number: one atomic addition.
const SUM_UNIT: f64 = 1e-6;

/// Counts observations by size. Clones count into the same numbers.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: &'static [f64],
    /// One more than bounds: what is above all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Self(Arc::new(Inner { bounds, counts, sum: AtomicU64::new(0) }))
    }

    /// Counts one observation.
    pub fn observe(&self, value: f64) {
        let Inner { bounds, counts, sum } = &*self.0;
        let bucket = bounds.partition_point(|&bound| bound < value);
        counts[bucket].fetch_add(1, Ordering::Relaxed);
        // Negative and NaN become zero, what is too large the largest there is.
        sum.fetch_add((value / SUM_UNIT).round() as u64, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> Counts {
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Counts { bounds: self.0.bounds, counts }
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let Counts { bounds, counts } = self.read();
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        let sum = self.0.sum.load(Ordering::Relaxed) as f64 * SUM_UNIT;
        // The count is that of the buckets: so they agree even while somebody counts.
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// A histogram at one moment, or what was counted between two.
#[derive(Debug, Clone)]
pub struct Counts {
    bounds: &'static [f64],
    counts: Box<[u64]>,
}

impl Counts {
    /// What was counted since an earlier reading of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then)).collect();
        Self { bounds: self.bounds, counts }
    }

    /// The value below which this share of the observations lies, interpolated within its bucket;
    /// `None` without observations. What lies above all bounds is taken for the highest.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total: u64 = self.counts.iter().sum();
        let rank = share * total as f64;
        let mut below = 0.0;
        for (bucket, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let Some(&upper) = self.bounds.get(bucket) else { break };
            if below + count as f64 >= rank {
                let lower = if bucket == 0 { 0.0 } else { self.bounds[bucket - 1] };
                return Some(lower + (upper - lower) * (rank - below) / count as f64);
            }
            below += count as f64;
        }
        (total > 0).then(|| self.bounds.last().copied()).flatten()
    }
}

/// A histogram of seconds.
#[derive(Debug, Clone)]
pub struct Seconds(pub Histogram);

impl Default for Seconds {
    fn default() -> Self {
        Self(Histogram::new(SECONDS_BOUNDS))
    }
}

/// A histogram of envelopes per commit.
#[derive(Debug, Clone)]
pub struct CommitEnvelopes(pub Histogram);

impl Default for CommitEnvelopes {
    fn default() -> Self {
        Self(Histogram::new(COUNT_BOUNDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise() {
        for bounds in [SECONDS_BOUNDS, COUNT_BOUNDS] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let Seconds(histogram) = Seconds::default();
        for _ in 0..99 {
            histogram.observe(0.002);
        }
        histogram.observe(0.5);
        let counts = histogram.read();
        let (median, last) = (counts.quantile(0.5).expect("counted"), counts.quantile(0.999).expect("counted"));
        assert!((0.0015..=0.0022).contains(&median), "{median}");
        assert!((0.47..=0.68).contains(&last), "{last}");
    }

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let CommitEnvelopes(histogram) = CommitEnvelopes::default();
        histogram.observe(4.0);
        assert_eq!(histogram.read().quantile(1.0), Some(4.0));
    }

    #[test]
    fn only_what_came_since_counts() {
        let Seconds(histogram) = Seconds::default();
        histogram.observe(5.0);
        let earlier = histogram.read();
        assert_eq!(histogram.read().since(&earlier).quantile(0.5), None);
        histogram.observe(0.001);
        let median = histogram.read().since(&earlier).quantile(0.5).expect("counted");
        assert!(median <= 0.001, "{median}");
    }

    #[test]
    fn what_is_above_all_bounds_is_counted() {
        let Seconds(histogram) = Seconds::default();
        histogram.observe(1e9);
        histogram.observe(f64::NAN);
        assert_eq!(histogram.read().quantile(1.0), Some(10.0));
    }
}
