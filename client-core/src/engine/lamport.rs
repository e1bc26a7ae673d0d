//! The group's time: a Lamport clock, by which apps and lists of relays are put in one order.
//!
//! An honest device is ahead of another one by no more than the entries that the other has not read.
//! What claims to be further ahead than any group has entries moves nobody's clock: it stays what its
//! author signed, in its chain and with the app, but no device follows it, so there always is a time
//! behind the latest one, and what a member has settled another one can settle anew.

use super::Engine;

/// How far behind an entry's time this device's may be. Nobody writes so many entries; and from there
/// to the end of all time it takes as many steps of that length.
const LAMPORT_AHEAD_MAX: u64 = 1 << 32;

impl Engine {
    /// The time of the next own entry.
    pub(super) fn next_lamport(&self) -> u64 {
        self.progress.lamport.saturating_add(1)
    }

    /// Whether an honest device can have written at that time.
    pub(super) fn is_possible_time(&self, lamport: u64) -> bool {
        lamport <= self.progress.lamport.saturating_add(LAMPORT_AHEAD_MAX)
    }

    /// Something of that time was accepted.
    pub(super) fn follow_time(&mut self, lamport: u64) {
        if self.is_possible_time(lamport) && lamport > self.progress.lamport {
            self.progress.lamport = lamport;
            self.progress_changed = true;
        }
    }
}
