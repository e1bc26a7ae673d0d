//! The group's time: a Lamport clock, by which apps and lists of relays are put in one order.
//!
//! An honest device is ahead of another one by no more than the entries that the other has not read.
//! What claims to be further ahead than any group has entries moves nobody's clock: it stays what its
//! author signed, in its chain and with the app, but no device follows it, so there always is a time
//! behind the latest one, and what a member has settled another one can settle anew.

use super::Engine;
use crate::snapshot::Manifest;

/// How far behind an entry's time this device's may be: a step. Nobody writes so many entries; and from
/// there to the end of all time it takes as many steps of that length.
const LAMPORT_AHEAD_MAX: u64 = 1 << 32;
/// No snapshot takes a device further than this, unless it is there already: so however much a snapshot
/// says that it has, half of all time is left.
const LAMPORT_OF_SNAPSHOT_MAX: u64 = 1 << 63;

impl Engine {
    /// The time of the next own entry.
    pub(super) fn next_lamport(&self) -> u64 {
        self.progress.lamport.saturating_add(1)
    }

    /// Whether an honest device can have written at that time.
    pub(super) fn is_possible_time(&self, lamport: u64) -> bool {
        lamport <= self.progress.lamport.saturating_add(LAMPORT_AHEAD_MAX)
    }

    /// Whether a snapshot can have been made at the time that it says: each entry and each epoch that it
    /// has and this device has not is a step at most, and one more is what its author alone may have read
    /// of a device that has no head in it. A clock that it sets skips those steps, so one from the end of
    /// all time would leave none.
    pub(super) fn is_possible_time_of(&self, manifest: &Manifest) -> bool {
        let epochs = manifest.epochs.saturating_sub(self.epochs.len() as u64);
        let more = manifest.heads.iter().map(|head| head.seq.saturating_sub(self.seq_of(&head.device)));
        let steps = more.fold(epochs, u64::saturating_add).saturating_add(1);
        let ahead = steps.saturating_mul(LAMPORT_AHEAD_MAX);
        let latest = self.progress.lamport.saturating_add(ahead);
        let bound = self.progress.lamport.saturating_add(LAMPORT_AHEAD_MAX).max(LAMPORT_OF_SNAPSHOT_MAX);
        manifest.lamport <= latest.min(bound)
    }

    /// Something of that time was accepted.
    pub(super) fn follow_time(&mut self, lamport: u64) {
        if self.is_possible_time(lamport) && lamport > self.progress.lamport {
            self.progress.lamport = lamport;
            self.progress_changed = true;
        }
    }
}
