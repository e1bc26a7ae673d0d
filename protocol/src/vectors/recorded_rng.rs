//! Randomness that was written down.

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};

/// Gives out recorded bytes once, in order, so that a computation can be repeated anywhere.
#[derive(Debug, Clone)]
pub struct RecordedRng {
    bytes: Vec<u8>,
}

impl RecordedRng {
    /// A generator of exactly these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec() }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let Ok(()) = self.try_fill_bytes(&mut bytes);
        bytes
    }
}

impl TryRng for RecordedRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.take()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.take()))
    }

    /// # Panics
    /// When asked for more than was recorded: the vector does not describe this computation.
    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        assert!(dst.len() <= self.bytes.len(), "more randomness drawn than the vector records");
        let rest = self.bytes.split_off(dst.len());
        dst.copy_from_slice(&self.bytes);
        self.bytes = rest;
        Ok(())
    }
}

impl TryCryptoRng for RecordedRng {}
