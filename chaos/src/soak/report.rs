//! How a soak went, for people.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::check::Violation;
use super::stage::{Cast, Judged};
use super::{Kill, Plan};

/// Violations of which more than this many are there are counted, not listed.
const LISTED_MAX: usize = 20;

/// Everything that came of a soak.
#[derive(Debug)]
pub struct Report {
    /// What was to happen.
    pub plan: Plan,
    /// Pushes per second that were asked for.
    pub rate: f64,
    /// How long the load lasted.
    pub load: Duration,
    /// Pushed, acknowledged, delivered.
    pub counts: [u64; 3],
    /// Milliseconds from a push to its acknowledgement, outages included.
    pub ack_ms: Histogram<u64>,
    /// What was killed.
    pub kills: Vec<Kill>,
    /// What was seen in the end.
    pub judged: Judged,
    /// What is wrong.
    pub violations: Vec<Violation>,
}

/// Median and maximum, in seconds.
fn spread(durations: impl Iterator<Item = Duration>) -> String {
    let mut sorted: Vec<Duration> = durations.collect();
    sorted.sort();
    match (sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(median), Some(longest)) => {
            format!("p50 {:.2} s, max {:.2} s", median.as_secs_f64(), longest.as_secs_f64())
        }
        _ => "none".into(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { store, cast: Cast { groups, devices, scribes, .. }, every, seed, .. } = &self.plan;
        let Judged { trace, settled, searched_bytes } = &self.judged;
        let [pushed, acked, delivered] = self.counts;
        let mut row = |what: &str, value: String| writeln!(f, "  {what:28} {value}");
        row("store", format!("{store:?}"))?;
        row("devices", format!("{devices} in each of {groups} groups, WebSocket and iroh"))?;
        let written: usize = trace.scribes.iter().map(Vec::len).sum();
        row("scribes", format!("{scribes}, {written} acknowledgements written down"))?;
        row("load", format!("{:.0} s at {:.1} pushes/s, seed {seed}", self.load.as_secs_f64(), self.rate))?;
        row("pushed", pushed.to_string())?;
        row("acknowledged", acked.to_string())?;
        row("delivered", delivered.to_string())?;
        let ack = |quantile| self.ack_ms.value_at_quantile(quantile);
        row(
            "push to acknowledgement",
            format!("p50 {} ms, p99 {} ms, max {} ms", ack(0.5), ack(0.99), self.ack_ms.max()),
        )?;
        let mut faults: Vec<_> = self.kills.iter().map(|kill| kill.fault).collect();
        faults.sort();
        row("kills", format!("{}, one every {:.1} s", self.kills.len(), every.as_secs_f64()))?;
        for chunk in faults.chunk_by(|a, b| a == b) {
            row("", format!("{} × {}", chunk.len(), chunk[0]))?;
        }
        row("outage", spread(self.kills.iter().map(|kill| kill.outage)))?;
        let recovered = self.kills.iter().filter_map(|kill| kill.recovery);
        row("until everybody pushes again", spread(recovered.clone()))?;
        let late = self.kills.len() - recovered.count();
        if late > 0 {
            row("not before the next kill", format!("{late} times"))?;
        }
        row("settled and verified in", format!("{:.1} s", settled.as_secs_f64()))?;
        for (relay, held) in trace.held.iter().enumerate() {
            let (before, after) = (held.before, held.after);
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            row(
                &format!("relay {relay} before, after"),
                format!(
                    "{:.1} → {:.1} MiB, {} → {} threads, {} → {} files",
                    mib(before.rss_bytes),
                    mib(after.rss_bytes),
                    before.threads,
                    after.threads,
                    before.fds,
                    after.fds
                ),
            )?;
        }
        row("searched for plaintext", format!("{} MiB", searched_bytes >> 20))?;
        match self.violations.len() {
            0 => writeln!(f, "nothing was lost, doubled, reordered, altered, raised or left readable"),
            count => {
                writeln!(f, "{count} VIOLATIONS")?;
                self.violations.iter().take(LISTED_MAX).try_for_each(|violation| writeln!(f, "  {violation}"))
            }
        }
    }
}
