//! The two clocks a machine is driven by.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use zerok_sync_core::Now;

/// Reads both clocks; the one that never goes back starts at zero.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        // A clock before 1970 is as good as one at it: the value is information for people.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: millis(self.start.elapsed()), wall_ms: millis(wall) }
    }

    /// When `mono_ms` is, for a timer.
    pub(crate) fn instant(&self, mono_ms: u64) -> tokio::time::Instant {
        let far = Duration::from_secs(24 * 3600);
        let until = Duration::from_millis(mono_ms).saturating_sub(self.start.elapsed());
        tokio::time::Instant::now() + until.min(far)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
