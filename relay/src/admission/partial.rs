//! Bytes of frames that have come in part, and of pushes that wait to be appended, of all sessions
//! together. One session's are bounded by the longest frame; of ten thousand that send a megabyte
//! of one and then nothing, memory is bounded by this.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zerok_sync_protocol::limits::FRAME_BYTES_MAX_GUEST;

/// What one session may hold whatever the others do: short frames come through under attack.
const ALWAYS_BYTES: u64 = FRAME_BYTES_MAX_GUEST as u64;

/// What all sessions hold. Clones share it.
#[derive(Debug, Clone)]
pub struct PartialFrames {
    held: Arc<AtomicU64>,
    bytes_max: u64,
}

/// One session's part; given back by dropping it.
#[derive(Debug)]
pub struct Held {
    frames: PartialFrames,
    bytes: u64,
}

impl PartialFrames {
    /// Nothing is held.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { held: Arc::default(), bytes_max }
    }

    /// A session that holds nothing yet.
    #[must_use]
    pub fn none(&self) -> Held {
        Held { frames: self.clone(), bytes: 0 }
    }
}

impl Held {
    /// Notes what the session holds now; whether that is within bounds.
    #[must_use]
    pub fn set(&mut self, bytes: usize) -> bool {
        let before = std::mem::replace(&mut self.bytes, bytes as u64);
        let held = &self.frames.held;
        let total = if self.bytes >= before {
            held.fetch_add(self.bytes - before, Ordering::Relaxed) + (self.bytes - before)
        } else {
            held.fetch_sub(before - self.bytes, Ordering::Relaxed) - (before - self.bytes)
        };
        self.bytes <= ALWAYS_BYTES || total <= self.frames.bytes_max
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.frames.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_hold_so_much_and_each_a_little_whatever_the_others_do() {
        let frames = PartialFrames::new(1_000_000);
        let (mut one, mut other) = (frames.none(), frames.none());
        assert!(one.set(900_000));
        assert!(!other.set(200_000) && other.set(FRAME_BYTES_MAX_GUEST));
        assert!(one.set(0) && other.set(200_000));
        drop((one, other));
        assert_eq!(frames.held.load(Ordering::Relaxed), 0, "all is given back");
    }
}
