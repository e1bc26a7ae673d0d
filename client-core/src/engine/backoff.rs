//! When to try a relay again: at a random moment in the upper half of a doubling ceiling, so that a
//! restarted relay meets its clients spread out instead of all at once.
//!
//! The lower half is left out ("equal jitter") because full jitter punishes the unlucky: of 2,000
//! clients some use up four attempts in an outage of two seconds and then draw up to sixteen. With
//! half a ceiling between attempts, one comes within three times the outage and a second.
//!
//! Source: Marc Brooker, "Exponential Backoff And Jitter", 2015.

use rand_core::Rng;

/// Ceilings in milliseconds of the first, second, … attempt after a failure.
const CEILINGS_MS: [u64; 6] = [1_000, 2_000, 4_000, 8_000, 16_000, 30_000];
/// A connection that lived this long wipes the slate.
const HEALTHY_AFTER_MS: u64 = 30_000;

/// Counts failures in a row.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: usize,
}

impl Backoff {
    /// A connection ended after `lived_ms`: how long to wait before the next. `at_least_ms` is
    /// what the relay asked for (`retry_after`, clamped by the caller).
    pub fn next_delay_ms(&mut self, lived_ms: u64, at_least_ms: u64, rng: &mut impl Rng) -> u64 {
        if lived_ms >= HEALTHY_AFTER_MS {
            self.failures = 0;
        }
        let ceiling = CEILINGS_MS[self.failures.min(CEILINGS_MS.len() - 1)];
        self.failures += 1;
        at_least_ms + ceiling / 2 + rng.next_u64() % (ceiling / 2 + 1)
    }

    /// The network came back: the next attempt starts from the lowest ceiling.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn longest_of_many(failures: usize, lived_ms: u64) -> u64 {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        (0..2_000).map(|_| Backoff { failures }.next_delay_ms(lived_ms, 0, &mut rng)).max().unwrap_or(0)
    }

    #[test]
    fn the_ceiling_doubles_up_to_thirty_seconds() {
        for (failures, ceiling) in [(0, 1_000), (1, 2_000), (4, 16_000), (5, 30_000), (50, 30_000)] {
            let longest = longest_of_many(failures, 0);
            assert!(longest <= ceiling && longest > ceiling * 9 / 10, "{failures}: {longest}");
        }
    }

    #[test]
    fn nobody_waits_much_longer_than_the_outage_lasted() {
        let mut rng = ChaCha20Rng::from_seed([2; 32]);
        for outage_ms in [500, 1_000, 2_000, 5_000, 20_000] {
            for _ in 0..2_000 {
                let mut backoff = Backoff::default();
                let mut tried_at_ms = 0;
                while tried_at_ms < outage_ms {
                    tried_at_ms += backoff.next_delay_ms(0, 0, &mut rng);
                }
                assert!(tried_at_ms <= 3 * outage_ms + 1_000, "{tried_at_ms} ms after an outage of {outage_ms} ms");
            }
        }
    }

    #[test]
    fn thirty_seconds_of_health_start_over() {
        assert!(longest_of_many(5, 30_000) <= 1_000);
    }

    #[test]
    fn what_the_relay_asks_for_is_added() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        assert!(Backoff::default().next_delay_ms(0, 5_000, &mut rng) >= 5_000);
    }
}
