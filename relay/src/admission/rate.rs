//! So many in a while: token buckets on the core's clock.
//!
//! A table of buckets has a fixed size. When it is full the half that was not used lately is
//! forgotten; whoever is forgotten starts with a full bucket, so that forgetting never refuses
//! anybody, and an attacker gains nothing by it that another address would not give as well.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// What a bucket holds and how fast it fills.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    per_ms: f64,
    reserve: f64,
}

impl Rate {
    /// `count` in each `period_ms`, all at once if need be.
    #[must_use]
    pub fn per(count: u64, period_ms: u64) -> Self {
        Self { per_ms: as_f64(count) / as_f64(period_ms), reserve: as_f64(count) }
    }

    /// `count` a second on average, twice as many at once.
    #[must_use]
    pub fn per_second_with_reserve(count: u64) -> Self {
        Self { reserve: 2.0 * as_f64(count), ..Self::per(count, 1_000) }
    }

    fn millis_until(&self, missing: f64) -> u64 {
        let millis = (missing / self.per_ms).ceil().max(1.0);
        // Saturates, which is all that is asked of a time that long.
        millis as u64
    }
}

/// Counts are far below 2⁵³, where this would begin to round.
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// A token, less what filling it up bit by bit may lose to rounding.
const WHOLE: f64 = 1.0 - 1e-6;

/// What is left of a [`Rate`].
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    tokens: f64,
    filled_at_ms: u64,
}

impl Bucket {
    /// Full.
    #[must_use]
    pub fn new(rate: &Rate, now_ms: u64) -> Self {
        Self { tokens: rate.reserve, filled_at_ms: now_ms }
    }

    fn fill(&mut self, rate: &Rate, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.filled_at_ms);
        self.tokens = rate.reserve.min(self.tokens + as_f64(passed_ms) * rate.per_ms);
        self.filled_at_ms = self.filled_at_ms.max(now_ms);
    }

    /// Takes one token if there is one.
    ///
    /// # Errors
    /// Milliseconds until there is one.
    pub fn take(&mut self, rate: &Rate, now_ms: u64) -> Result<(), u64> {
        self.peek(rate, now_ms)?;
        self.tokens -= 1.0;
        Ok(())
    }

    /// Whether there is a token.
    ///
    /// # Errors
    /// Milliseconds until there is one.
    pub fn peek(&mut self, rate: &Rate, now_ms: u64) -> Result<(), u64> {
        self.fill(rate, now_ms);
        if self.tokens >= WHOLE { Ok(()) } else { Err(rate.millis_until(1.0 - self.tokens)) }
    }

    /// Takes tokens that were used already, on credit if need be; milliseconds until the debt is
    /// paid.
    pub fn spend(&mut self, rate: &Rate, count: u64, now_ms: u64) -> u64 {
        self.fill(rate, now_ms);
        self.tokens -= as_f64(count);
        if self.tokens >= 0.0 { 0 } else { rate.millis_until(-self.tokens) }
    }
}

/// One bucket for each of the keys seen lately.
#[derive(Debug)]
pub struct Rates<K> {
    rate: Rate,
    buckets: Mutex<Lately<K, Bucket>>,
}

impl<K: Eq + Hash> Rates<K> {
    /// Nobody has been seen. `keys_max` are remembered.
    #[must_use]
    pub fn new(rate: Rate, keys_max: usize) -> Self {
        Self { rate, buckets: Mutex::new(Lately::new(keys_max)) }
    }

    /// Counts one.
    ///
    /// # Errors
    /// Milliseconds until the next one may follow.
    pub fn take(&self, key: K, now_ms: u64) -> Result<(), u64> {
        self.with(key, now_ms, |bucket, rate| bucket.take(rate, now_ms))
    }

    /// Whether [`Self::take`] would succeed.
    ///
    /// # Errors
    /// Milliseconds until it would.
    pub fn peek(&self, key: K, now_ms: u64) -> Result<(), u64> {
        self.with(key, now_ms, |bucket, rate| bucket.peek(rate, now_ms))
    }

    /// Whether half of what this key may have at once is used up.
    pub fn is_scarce_for(&self, key: K, now_ms: u64) -> bool {
        self.with(key, now_ms, |bucket, rate| {
            bucket.fill(rate, now_ms);
            bucket.tokens <= rate.reserve / 2.0
        })
    }

    fn with<R>(&self, key: K, now_ms: u64, then: impl FnOnce(&mut Bucket, &Rate) -> R) -> R {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        then(buckets.get_or_insert_with(key, || Bucket::new(&self.rate, now_ms)), &self.rate)
    }
}

/// How much one device may send.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Frames of any kind.
    pub frames: Rate,
    /// `Ack`s among them.
    pub acks: Rate,
    /// Bytes of link messages, and what they make the store read.
    pub bytes: Rate,
}

/// What was received of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Frames of any kind.
    pub frames: u64,
    /// `Ack`s among them.
    pub acks: u64,
    /// Bytes of link messages, and what they made the store read.
    pub bytes: u64,
}

/// What all sessions of one device may send together.
#[derive(Debug)]
pub struct Budget {
    allowance: Allowance,
    left: Mutex<[Bucket; 3]>,
}

impl Budget {
    /// Takes what was received; milliseconds for which nothing more is to be read.
    pub fn spend(&self, spent: Spent, now_ms: u64) -> u64 {
        let Allowance { frames, acks, bytes } = &self.allowance;
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let [for_frames, for_acks, for_bytes] = &mut *left;
        for_frames
            .spend(frames, spent.frames, now_ms)
            .max(for_acks.spend(acks, spent.acks, now_ms))
            .max(for_bytes.spend(bytes, spent.bytes, now_ms))
    }
}

/// The budgets of the devices seen lately. A session keeps its device's; a device that comes back
/// finds what it left, so that connecting anew gains nothing.
#[derive(Debug)]
pub struct Budgets<K> {
    allowance: Allowance,
    budgets: Mutex<Lately<K, Arc<Budget>>>,
}

impl<K: Eq + Hash> Budgets<K> {
    /// Nobody has been seen. `keys_max` are remembered.
    #[must_use]
    pub fn new(allowance: Allowance, keys_max: usize) -> Self {
        Self { allowance, budgets: Mutex::new(Lately::new(keys_max)) }
    }

    /// The budget of this key.
    pub fn of(&self, key: K, now_ms: u64) -> Arc<Budget> {
        let allowance = self.allowance;
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            let Allowance { frames, acks, bytes } = &allowance;
            let left = [frames, acks, bytes].map(|rate| Bucket::new(rate, now_ms));
            Arc::new(Budget { allowance, left: Mutex::new(left) })
        };
        budgets.get_or_insert_with(key, fresh).clone()
    }
}

/// A map of bounded size: two generations, of which the older is dropped when the younger is full.
/// What is used moves to the younger.
#[derive(Debug)]
struct Lately<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    generation_max: usize,
}

impl<K: Eq + Hash, V> Lately<K, V> {
    fn new(keys_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation_max: (keys_max / 2).max(1) }
    }

    fn get_or_insert_with(&mut self, key: K, fresh: impl FnOnce() -> V) -> &mut V {
        if self.young.len() >= self.generation_max && !self.young.contains_key(&key) {
            let older = std::mem::take(&mut self.young);
            let oldest = std::mem::replace(&mut self.old, older);
            drop(oldest);
        }
        let known = self.old.remove(&key);
        self.young.entry(key).or_insert_with(|| known.unwrap_or_else(fresh))
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn as_many_as_allowed_pass_at_once_and_the_rest_is_told_when() {
        let rates = Rates::new(Rate::per(60, 60_000), 100);
        for _ in 0..60 {
            assert_eq!(rates.take("one", 0), Ok(()));
        }
        assert_eq!(rates.take("one", 0), Err(1_000));
        assert_eq!(rates.take("one", 400), Err(600));
        assert_eq!(rates.take("other", 400), Ok(()));
        assert_eq!(rates.take("one", 1_000), Ok(()));
        assert_eq!(rates.take("one", 1_000), Err(1_000));
    }

    #[test]
    fn whoever_waits_as_told_passes() {
        let mut rng = ChaCha20Rng::from_seed([2; 32]);
        for _ in 0..200 {
            let rate = Rate::per(1 + rng.next_u64() % 1_000, 1 + rng.next_u64() % 86_400_000);
            let mut bucket = Bucket::new(&rate, 0);
            let mut now_ms = 0;
            for _ in 0..2_000 {
                if let Err(wait_ms) = bucket.take(&rate, now_ms) {
                    now_ms += wait_ms;
                    assert_eq!(bucket.take(&rate, now_ms), Ok(()), "{rate:?}");
                }
            }
        }
    }

    #[test]
    fn in_the_long_run_nobody_gets_more_than_the_rate() {
        let rate = Rate::per_second_with_reserve(100);
        let mut bucket = Bucket::new(&rate, 0);
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let (mut now_ms, mut spent) = (0, 0);
        while now_ms < 100_000 {
            let count = rng.next_u64() % 500;
            now_ms += bucket.spend(&rate, count, now_ms).max(1);
            spent += count;
        }
        assert!((9_000..=10_700).contains(&spent), "{spent}");
    }

    #[test]
    fn a_clock_that_stands_still_or_jumps_back_gives_nothing_away() {
        let rate = Rate::per(1, 1_000);
        let mut bucket = Bucket::new(&rate, 10_000);
        assert_eq!(bucket.take(&rate, 10_000), Ok(()));
        assert_eq!(bucket.take(&rate, 5_000), Err(1_000));
        assert_eq!(bucket.take(&rate, 10_500), Err(500));
    }

    #[test]
    fn all_sessions_of_a_device_share_its_budget_also_after_it_was_gone() {
        let [frames, acks, bytes] = [10, 5, 1_000].map(Rate::per_second_with_reserve);
        let budgets = Budgets::new(Allowance { frames, acks, bytes }, 100);
        let frames = |frames| Spent { frames, ..Spent::default() };
        let acks = |acks| Spent { acks, ..Spent::default() };
        let bytes = |bytes| Spent { bytes, ..Spent::default() };
        let first = budgets.of("device", 0);
        assert_eq!(first.spend(frames(10), 0), 0);
        let second = budgets.of("device", 0);
        assert_eq!(second.spend(frames(11), 0), 100);
        drop((first, second));
        assert_eq!(budgets.of("device", 100).spend(bytes(2_500), 100), 500);
        assert_eq!(budgets.of("device", 100).spend(acks(14), 100), 800, "the longest debt counts");
        assert_eq!(budgets.of("other", 100).spend(Spent { frames: 20, acks: 10, bytes: 2_000 }, 100), 0);
    }

    #[test]
    fn a_table_never_grows_past_its_size_and_keeps_whoever_is_active() {
        let rates = Rates::new(Rate::per(1, 1_000_000), 100);
        assert_eq!(rates.take(0_u32, 0), Ok(()));
        for stranger in 1..100_000 {
            let _ = rates.take(stranger, 0);
            if stranger % 40 == 0 {
                assert!(rates.take(0, 0).is_err(), "still remembered");
            }
        }
        let buckets = rates.buckets.lock().expect("no test panics while it holds the lock");
        assert!(buckets.young.len() + buckets.old.len() <= 100);
    }
}
