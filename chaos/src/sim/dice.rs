//! The one source of chance in a simulation: everything drawn from it follows from its seed.

use std::ops::RangeInclusive;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A seeded stream of decisions.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of a seed and a purpose; two purposes never share a stream, so that one more draw
    /// here changes nothing there.
    #[must_use]
    pub fn new(seed: u64, purpose: u8) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8] = purpose;
        Self(ChaCha8Rng::from_seed(bytes))
    }

    /// Any 64 bits.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number of the range.
    pub fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        let span = range.end().saturating_sub(*range.start()).saturating_add(1);
        range.start() + self.0.next_u64() % span
    }

    /// An index below `count`, which is not 0.
    pub fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.0.next_u64() % count as u64).expect("below a usize")
    }

    /// Yes, in so many of a thousand cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.0.next_u64() % 1_000 < per_mille
    }

    /// 32 bytes, such as an operating system gives to a starting process.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
