//! The last quarter of an hour in memory, one sample a second: so that the status page shows the
//! past at once, with nothing else installed.
//!
//! A ring of fixed size: what a relay spends on it does not grow (see [`HISTORY_SAMPLES_MAX`]).

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::clock::Now;
use crate::limits::HISTORY_SAMPLES_MAX;
use crate::metrics::process::resident_bytes;
use crate::metrics::{Counts, Delivery, Direction, HandshakeOutcome, Metrics, Refusal, Transport};

/// Declares [`Sample`] and the names of its columns in one place.
macro_rules! sample {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One second. A quantile of nothing is NaN, which JSON has as `null`.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub(crate) struct Sample {
            pub(crate) at_unix_ms: u64,
            $($(#[doc = $doc])+ pub(crate) $name: f32,)+
        }

        /// The columns of a row, in order.
        pub(crate) const COLUMNS: &[&str] = &[$(stringify!($name),)+];

        impl Sample {
            fn row(&self) -> [f32; COLUMNS.len()] {
                [$(self.$name,)+]
            }
        }
    };
}

sample! {
    /// `Push` frames in a second.
    pushes,
    /// Entries in a second.
    entries_stored,
    /// Entries to live subscribers in a second, from memory.
    delivered_inline,
    /// Entries to subscribers in a second, read from the store.
    delivered_stored,
    /// Bytes from clients in a second.
    bytes_in,
    /// Bytes to clients in a second.
    bytes_out,
    /// Refusals in a second.
    refusals,
    /// Handshakes in a second that led to no session.
    handshakes_failed,
    /// Median of the group commits of this second.
    commit_p50_ms,
    /// Their 99th percentile.
    commit_p99_ms,
    /// Median from append to acknowledgement.
    append_p50_ms,
    /// Its 99th percentile.
    append_p99_ms,
    /// Open WebSocket connections.
    connections_websocket,
    /// Open iroh connections.
    connections_iroh,
    /// Sessions behind the handshake.
    sessions,
    /// Appends that wait for a writer.
    append_queue,
    /// Bytes that wait for live subscribers.
    fanout_bytes,
    /// Logs in the store.
    groups,
    /// Bytes of envelopes in the store.
    stored_bytes,
    /// Database connections in use.
    store_connections_used,
    /// Resident memory.
    resident_bytes,
}

/// Everything that only ever grows, at one moment.
struct Totals {
    monotonic_ms: u64,
    pushes: u64,
    entries_stored: u64,
    delivered_inline: u64,
    delivered_stored: u64,
    bytes_in: u64,
    bytes_out: u64,
    refusals: u64,
    handshakes_failed: u64,
    commit: Counts,
    append: Counts,
}

impl Totals {
    fn read(metrics: &Metrics, now: Now) -> Self {
        let delivered = |from: Delivery| metrics.entries_delivered.get_or_create(&from.into()).get();
        let bytes = |direction: Direction| metrics.link_bytes.get_or_create(&direction.into()).get();
        let failed = HandshakeOutcome::ALL.iter().filter(|&&outcome| outcome != HandshakeOutcome::Done);
        Self {
            monotonic_ms: now.monotonic_ms,
            pushes: metrics.pushes.get(),
            entries_stored: metrics.entries_stored.get(),
            delivered_inline: delivered(Delivery::Inline),
            delivered_stored: delivered(Delivery::Stored),
            bytes_in: bytes(Direction::In),
            bytes_out: bytes(Direction::Out),
            refusals: Refusal::ALL.iter().map(|&limit| metrics.refusals.get_or_create(&limit.into()).get()).sum(),
            handshakes_failed: failed.map(|&outcome| metrics.handshakes.get_or_create(&outcome.into()).get()).sum(),
            commit: metrics.commit_seconds.0.read(),
            append: metrics.append_seconds.0.read(),
        }
    }

    /// What happened between an earlier moment and this one, and what is now.
    fn sample(&self, earlier: &Self, metrics: &Metrics, now: Now) -> Sample {
        // A tick that comes late covers more than a second.
        let seconds = self.monotonic_ms.saturating_sub(earlier.monotonic_ms).max(1) as f32 / 1000.0;
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f32 / seconds;
        let (commit, append) = (self.commit.since(&earlier.commit), self.append.since(&earlier.append));
        let ms = |counts: &Counts, share| counts.quantile(share).map_or(f32::NAN, |seconds| (seconds * 1000.0) as f32);
        let connections = |carrier: Transport| metrics.connections.get_or_create(&carrier.into()).get() as f32;
        let sessions = Transport::ALL.iter().map(|&carrier| metrics.sessions.get_or_create(&carrier.into()).get());
        Sample {
            at_unix_ms: now.unix_ms,
            pushes: rate(self.pushes, earlier.pushes),
            entries_stored: rate(self.entries_stored, earlier.entries_stored),
            delivered_inline: rate(self.delivered_inline, earlier.delivered_inline),
            delivered_stored: rate(self.delivered_stored, earlier.delivered_stored),
            bytes_in: rate(self.bytes_in, earlier.bytes_in),
            bytes_out: rate(self.bytes_out, earlier.bytes_out),
            refusals: rate(self.refusals, earlier.refusals),
            handshakes_failed: rate(self.handshakes_failed, earlier.handshakes_failed),
            commit_p50_ms: ms(&commit, 0.5),
            commit_p99_ms: ms(&commit, 0.99),
            append_p50_ms: ms(&append, 0.5),
            append_p99_ms: ms(&append, 0.99),
            connections_websocket: connections(Transport::WebSocket),
            connections_iroh: connections(Transport::Iroh),
            sessions: sessions.sum::<i64>() as f32,
            append_queue: metrics.append_queue.get() as f32,
            fanout_bytes: metrics.fanout_bytes.get() as f32,
            groups: metrics.groups.get() as f32,
            stored_bytes: metrics.stored_bytes.get() as f32,
            store_connections_used: metrics.store_connections_used.get() as f32,
            resident_bytes: resident_bytes().map_or(f32::NAN, |bytes| bytes as f32),
        }
    }
}

/// The ring.
pub(crate) struct History {
    metrics: Metrics,
    ring: Mutex<Ring>,
}

struct Ring {
    last: Totals,
    samples: VecDeque<Sample>,
    /// Number of the sample to come; the first is 0.
    next: u64,
}

/// Samples from some number on.
#[derive(Debug, Serialize, PartialEq)]
pub(crate) struct Page {
    /// What to ask from the next time.
    pub(crate) next: u64,
    /// Unix milliseconds of each row.
    pub(crate) times: Vec<u64>,
    pub(crate) rows: Vec<[f32; COLUMNS.len()]>,
}

impl History {
    pub(crate) fn new(metrics: Metrics, now: Now) -> Self {
        let last = Totals::read(&metrics, now);
        Self { metrics, ring: Mutex::new(Ring { last, samples: VecDeque::new(), next: 0 }) }
    }

    /// Adds what happened since the last time.
    pub(crate) fn tick(&self, now: Now) {
        let totals = Totals::read(&self.metrics, now);
        let mut ring = self.lock();
        let sample = totals.sample(&ring.last, &self.metrics, now);
        ring.last = totals;
        if ring.samples.len() == HISTORY_SAMPLES_MAX {
            ring.samples.pop_front();
        }
        ring.samples.push_back(sample);
        ring.next += 1;
    }

    /// The samples from this number on that are still there. A number of another run of the relay
    /// is one that has not come yet: it gets everything.
    pub(crate) fn from(&self, number: u64) -> Page {
        let ring = self.lock();
        let first = ring.next - ring.samples.len() as u64;
        let skip = if number > ring.next { 0 } else { number.saturating_sub(first) };
        let samples = || ring.samples.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX));
        Page {
            next: ring.next,
            times: samples().map(|sample| sample.at_unix_ms).collect(),
            rows: samples().map(Sample::row).collect(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ring> {
        // Nothing that can panic leaves the ring half changed.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { monotonic_ms: seconds * 1000, unix_ms: 1_700_000_000_000 + seconds * 1000 }
    }

    fn column(page: &Page, name: &str) -> Vec<f32> {
        let index = COLUMNS.iter().position(|column| *column == name).expect("a column");
        page.rows.iter().map(|row| row[index]).collect()
    }

    #[test]
    fn a_rate_is_what_was_counted_over_the_time_that_passed() {
        let metrics = Metrics::new();
        metrics.pushes.inc_by(1_000);
        let history = History::new(metrics.clone(), at(0));
        metrics.pushes.inc_by(30);
        history.tick(at(1));
        metrics.pushes.inc_by(30);
        history.tick(at(4));
        assert_eq!(column(&history.from(0), "pushes"), [30.0, 10.0]);
    }

    #[test]
    fn quantiles_are_of_their_second_alone() {
        let metrics = Metrics::new();
        let history = History::new(metrics.clone(), at(0));
        metrics.commit_seconds.0.observe(5.0);
        history.tick(at(1));
        history.tick(at(2));
        metrics.commit_seconds.0.observe(0.001);
        history.tick(at(3));
        let medians = column(&history.from(0), "commit_p50_ms");
        assert!(medians[0] > 3_000.0 && medians[1].is_nan() && medians[2] <= 1.0, "{medians:?}");
    }

    #[test]
    fn the_ring_keeps_the_newest_and_no_more() {
        let metrics = Metrics::new();
        let history = History::new(metrics, at(0));
        for second in 1..=HISTORY_SAMPLES_MAX as u64 + 10 {
            history.tick(at(second));
        }
        let page = history.from(0);
        assert_eq!((page.rows.len(), page.times.len()), (HISTORY_SAMPLES_MAX, HISTORY_SAMPLES_MAX));
        assert_eq!(page.times.last(), Some(&at(HISTORY_SAMPLES_MAX as u64 + 10).unix_ms));
    }

    #[test]
    fn a_reader_gets_what_is_new_to_it_and_after_a_restart_everything() {
        let history = History::new(Metrics::new(), at(0));
        (1..=5).for_each(|second| history.tick(at(second)));
        let page = history.from(3);
        assert_eq!((page.next, page.times), (5, vec![at(4).unix_ms, at(5).unix_ms]));
        assert_eq!(history.from(5).rows.len(), 0);
        assert_eq!(history.from(1_000).rows.len(), 5);
    }
}
