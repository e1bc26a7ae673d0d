//! Time and randomness as inputs: the session logic asks a [`Clock`] and an [`Entropy`], so that a
//! simulation runs it in virtual time and replays it from a seed.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// A moment, twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds that never jump: deadlines.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970: what is stored.
    pub unix_ms: u64,
}

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// What time it is.
    fn now(&self) -> Now;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { monotonic_ms: millis(self.0.elapsed()), unix_ms: millis(unix) }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Gives random bytes.
pub trait Entropy: Send + Sync + 'static {
    /// 32 fresh bytes that nobody can guess.
    fn seed(&self) -> [u8; 32];
}

/// The operating system's random number generator.
#[derive(Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("the operating system has random bytes once it is up");
        seed
    }
}

/// A generator for one purpose, seeded afresh.
pub(crate) fn rng(entropy: &dyn Entropy) -> ChaCha20Rng {
    ChaCha20Rng::from_seed(entropy.seed())
}
