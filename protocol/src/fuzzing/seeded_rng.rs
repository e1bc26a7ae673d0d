//! Repeatable randomness for fuzzing: never for keys that protect anything.

use std::convert::Infallible;
use std::fmt;

use rand_core::{TryCryptoRng, TryRng};

/// BLAKE3's output stream over a seed.
pub struct SeededRng(blake3::OutputReader);

impl SeededRng {
    /// The generator of this seed.
    #[must_use]
    pub fn new(seed: &[u8]) -> Self {
        Self(blake3::Hasher::new().update(seed).finalize_xof())
    }

    /// A number below `bound`, which is not 0. (Its tiny bias does not matter here.)
    pub fn below(&mut self, bound: usize) -> usize {
        let Ok(number) = self.try_next_u64();
        (number % bound as u64) as usize
    }
}

impl TryRng for SeededRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(dst);
        Ok(())
    }
}

impl TryCryptoRng for SeededRng {}

impl fmt::Debug for SeededRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededRng(…)")
    }
}
