//! When entries are meant to be sent.
//!
//! At a fixed rate the schedule is fixed before the run: the `k`-th entry of all is due at
//! `start + k / rate`, whoever is late. Latencies count from there, so that a relay that stalls is
//! charged with every entry it made wait (no coordinated omission). One thread keeps the schedule,
//! because the runtime's own timers tick in milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A sleeping thread is woken this much too late at the worst, on a machine that rests: what the
/// thread waits for awake, where it has the time. Otherwise the relay would be charged with it.
const OVERSLEPT_MAX: Duration = Duration::from_micros(300);
/// Entries closer to each other are not waited for awake: the generator would take a core.
const AWAKE_INTERVAL_MIN: Duration = Duration::from_millis(5);

/// How one session sends.
#[derive(Clone)]
pub enum Pace {
    /// Whenever fewer than this many of its pushes are unanswered.
    FlatOut {
        /// Unanswered pushes.
        in_flight: usize,
    },
    /// By the schedule.
    Scheduled(Arc<Turn>),
}

/// One session's place in the schedule.
pub struct Turn {
    due: AtomicU64,
    bell: Notify,
    index: u64,
    sessions: u64,
    /// Between two entries of all sessions.
    interval: Duration,
}

impl Turn {
    /// How many entries should have been sent by now.
    pub fn due(&self) -> u64 {
        self.due.load(Ordering::Acquire)
    }

    /// When the session's entry `seq` is meant to be sent, after the start.
    pub fn intended(&self, seq: u64) -> Duration {
        let number = seq * self.sessions + self.index;
        Duration::from_nanos(u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX).saturating_mul(number))
    }

    /// Waits for [`Self::due`] to rise. Cancel-safe.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }
}

/// The thread that keeps the schedule. Stops when dropped.
pub struct Pacer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    /// The turns of `sessions` sessions that send `rate` entries a second together.
    #[must_use]
    pub fn turns(sessions: usize, rate: f64) -> Vec<Arc<Turn>> {
        let interval = Duration::from_secs_f64(1.0 / rate);
        (0..sessions as u64)
            .map(|index| {
                let (due, bell) = (AtomicU64::new(0), Notify::new());
                Arc::new(Turn { due, bell, index, sessions: sessions as u64, interval })
            })
            .collect()
    }

    /// Keeps the schedule from `start` to `end`.
    ///
    /// # Errors
    /// When the system has no thread.
    pub fn start(turns: Vec<Arc<Turn>>, start: Instant, end: Instant) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let keep = move || {
            for seq in 0.. {
                for turn in &turns {
                    let due = start + turn.intended(seq);
                    if due >= end || stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    wait_until(due, turn.interval);
                    turn.due.store(seq + 1, Ordering::Release);
                    turn.bell.notify_one();
                }
            }
        };
        let thread = std::thread::Builder::new().name("pacer".into()).spawn(keep)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

fn wait_until(due: Instant, interval: Duration) {
    let awake = if interval >= AWAKE_INTERVAL_MIN { OVERSLEPT_MAX } else { Duration::ZERO };
    if let Some(wait) = due.checked_duration_since(Instant::now()) {
        std::thread::sleep(wait.saturating_sub(awake));
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and there would be nothing left to do.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_goes_round_and_does_not_wait_for_anybody() {
        let turns = Pacer::turns(2, 1000.0);
        let intended: Vec<u128> =
            [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(turn, seq)| turns[turn as usize].intended(seq).as_millis()).into();
        assert_eq!(intended, [0, 1, 2, 3]);

        let start = Instant::now();
        let mut pacer = Pacer::start(turns.clone(), start, start + Duration::from_millis(20)).expect("a thread");
        pacer.thread.take().expect("it runs").join().expect("it ends");

        assert_eq!([turns[0].due(), turns[1].due()], [10, 10]);
        assert!(start.elapsed() >= Duration::from_millis(19));
    }
}
