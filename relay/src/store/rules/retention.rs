//! Where a floor may go, and what is due below it.
//!
//! `1 ≤ kept_from ≤ purge_below ≤ floor ≤ head + 1`. Entries from `kept_from` on have their rows,
//! entries from `floor` on can be read. What lies below `purge_below` is removed from `purge_at`
//! on; a floor raised meanwhile waits for that to be done and then has its own grace. So an entry
//! keeps its bytes for the grace at least, and for twice that at most.

use std::ops::ControlFlow;

use zerok_sync_protocol::BlobId;

use super::GroupRow;
use crate::limits::DEVICE_SEEN_MS;
use crate::store::{Budget, TruncateRequest};

/// The columns of `groups` that only truncation reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Floors {
    /// Lowest cursor whose row was not removed.
    pub kept_from: u64,
    /// Blob id below it.
    pub kept_blob_id: BlobId,
    /// When the floor was last raised; 0 for never.
    pub raised_at: u64,
    /// Entries below it go …
    pub purge_below: u64,
    /// … from then on.
    pub purge_at: u64,
}

/// What becomes of a floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Aim {
    Stay,
    TooSoon { retry_after_ms: u64 },
    NotReached { below_max: u64 },
    Move { below: u64 },
}

/// Devices last seen before this do not keep a floor down.
pub(in crate::store) fn seen_since(now_ms: u64) -> u64 {
    now_ms.saturating_sub(DEVICE_SEEN_MS)
}

/// Where the floor is to go. `acked_min` is the lowest cursor acknowledged by a device that counts.
pub(in crate::store) fn aim(row: &GroupRow, floors: &Floors, request: &TruncateRequest, acked_min: u64) -> Aim {
    let below_max = acked_min.min(row.head).saturating_add(1);
    // A clock that went back must not lengthen the wait: a floor raised in the future holds nothing up.
    let since_raised = request.now_ms.checked_sub(floors.raised_at).unwrap_or(request.interval_ms);
    if request.below <= row.floor {
        let below = request.below.max(floors.kept_from);
        if below == row.floor { Aim::Stay } else { Aim::Move { below } }
    } else if request.below > below_max {
        Aim::NotReached { below_max }
    } else if floors.raised_at > 0 && since_raised < request.interval_ms {
        Aim::TooSoon { retry_after_ms: request.interval_ms - since_raised }
    } else {
        Aim::Move { below: request.below }
    }
}

impl Floors {
    /// The columns once the floor has moved to `floor`.
    pub fn moved(mut self, row: &GroupRow, floor: u64, request: &TruncateRequest) -> Self {
        if floor > row.floor {
            self.raised_at = request.now_ms;
        }
        self.purge_below = self.purge_below.min(floor);
        self.schedule(floor, request.now_ms, request.grace_ms);
        self
    }

    /// The columns once the doomed rows are gone.
    pub fn purged(mut self, row: &GroupRow, doomed: &Doomed, now_ms: u64, grace_ms: u64) -> Self {
        (self.kept_from, self.kept_blob_id) = match doomed.last {
            Some((cursor, id)) if doomed.more => (cursor + 1, id),
            _ if self.purge_below == row.floor => (row.floor, row.floor_blob_id),
            Some((cursor, id)) if cursor + 1 == self.purge_below => (self.purge_below, id),
            // The row was lost: nobody who stands there is recognised.
            _ => (self.purge_below, BlobId::ZERO),
        };
        self.schedule(row.floor, now_ms, grace_ms);
        self
    }

    /// What lies below the floor gets a date, unless something lower has one.
    fn schedule(&mut self, floor: u64, now_ms: u64, grace_ms: u64) {
        if self.purge_below == self.kept_from {
            self.purge_below = floor;
            self.purge_at = now_ms.saturating_add(grace_ms);
        }
    }

    /// Whether something is to be removed now.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.kept_from < self.purge_below && self.purge_at <= now_ms
    }
}

/// The lowest entries of a log, as many as one step may remove.
#[derive(Debug)]
pub(in crate::store) struct Doomed {
    budget: Budget,
    /// The last of them.
    pub last: Option<(u64, BlobId)>,
    pub entries: u64,
    pub bytes: u64,
    /// Whether there are others behind them.
    pub more: bool,
}

impl Doomed {
    pub fn new(budget: Budget) -> Self {
        Self { budget, last: None, entries: 0, bytes: 0, more: false }
    }

    /// How many rows to look at: one more than may go.
    pub fn rows_max(&self) -> u64 {
        self.budget.entries_max.max(1).saturating_add(1)
    }

    /// Takes the next row in; rows come in cursor order. Breaks when the step is full, with that
    /// row left over. At least one row goes with each step.
    pub fn push(&mut self, cursor: u64, id: Option<BlobId>, bytes: u64) -> ControlFlow<()> {
        let full = self.entries >= self.budget.entries_max || self.bytes >= self.budget.bytes_max;
        if full && self.entries > 0 {
            self.more = true;
            return ControlFlow::Break(());
        }
        // An id of the wrong length is damage that goes with the row.
        self.last = Some((cursor, id.unwrap_or(BlobId::ZERO)));
        self.entries += 1;
        self.bytes += bytes;
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};
    use zerok_sync_protocol::{AuthPublicKey, NoisePublicKey, Timeline};

    use super::*;
    use crate::store::GroupKey;

    const GRACE: u64 = 24;
    const INTERVAL: u64 = 1;

    /// A log of nothing but numbers. Each cursor's blob id tells the cursor.
    struct Log {
        row: GroupRow,
        floors: Floors,
        /// Since when each cursor lies below the floor, if it does, and whether its row is there.
        entries: Vec<(Option<u64>, bool)>,
    }

    fn id(cursor: u64) -> BlobId {
        let mut id = BlobId::ZERO;
        id.0[..8].copy_from_slice(&cursor.to_le_bytes());
        id
    }

    impl Log {
        fn new(head: u64) -> Self {
            let row = GroupRow {
                group: GroupKey([0; 32]),
                auth_public: AuthPublicKey([0; 32]),
                auth_gen: 0,
                timeline: Timeline([1; 8]),
                head,
                head_blob_id: id(head),
                floor: 1,
                floor_blob_id: BlobId::ZERO,
                bytes: 0,
                restricted: false,
                removals: 0,
            };
            let floors = Floors { kept_from: 1, kept_blob_id: BlobId::ZERO, raised_at: 0, purge_below: 1, purge_at: 0 };
            Self { row, floors, entries: vec![(None, true); usize::try_from(head).expect("small")] }
        }

        fn truncate(&mut self, below: u64, acked_min: u64, now_ms: u64) -> Aim {
            let request = TruncateRequest {
                group: GroupKey([0; 32]),
                auth_gen: 0,
                device: NoisePublicKey([0; 32]),
                below,
                grace_ms: GRACE,
                interval_ms: INTERVAL,
                now_ms,
            };
            let aim = aim(&self.row, &self.floors, &request, acked_min);
            if let Aim::Move { below } = aim {
                self.floors = self.floors.moved(&self.row, below, &request);
                (self.row.floor, self.row.floor_blob_id) = (below, id(below - 1));
                for (cursor, (below_since, _)) in (1..).zip(&mut self.entries) {
                    *below_since = (cursor < below).then(|| below_since.unwrap_or(now_ms));
                }
            }
            aim
        }

        fn purge(&mut self, entries_max: u64, now_ms: u64) {
            if !self.floors.is_due(now_ms) {
                return;
            }
            let mut doomed = Doomed::new(Budget { entries_max, bytes_max: u64::MAX });
            for cursor in self.floors.kept_from..self.floors.purge_below {
                if doomed.push(cursor, Some(id(cursor)), 1).is_break() {
                    break;
                }
            }
            let (last, _) = doomed.last.expect("something is due");
            for cursor in self.floors.kept_from..=last {
                let (below_since, there) = &mut self.entries[usize::try_from(cursor - 1).expect("small")];
                let below_since = below_since.expect("nothing from the floor on is removed");
                assert!(below_since + GRACE <= now_ms, "cursor {cursor} had its grace");
                assert!(std::mem::replace(there, false), "each row is removed once");
            }
            self.floors = self.floors.purged(&self.row, &doomed, now_ms, GRACE);
        }

        fn check(&self) {
            let Floors { kept_from, purge_below, .. } = self.floors;
            let order = [1, kept_from, purge_below, self.row.floor, self.row.head + 1];
            assert!(order.is_sorted(), "{order:?}");
            let first = self.entries.iter().position(|(_, there)| *there).map_or(self.row.head, |at| at as u64);
            assert_eq!(kept_from, first + 1, "it says which rows are there");
            assert_eq!(self.floors.kept_blob_id, if kept_from == 1 { BlobId::ZERO } else { id(kept_from - 1) });
            assert_eq!(self.row.floor_blob_id, if self.row.floor == 1 { BlobId::ZERO } else { id(self.row.floor - 1) });
        }
    }

    #[test]
    fn whatever_is_asked_nothing_goes_before_its_grace_or_from_the_floor_on() {
        for seed in 0..200 {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let mut below = |n: u64| u64::from(rng.next_u32()) % n;
            let mut log = Log::new(1 + below(30));
            let mut now_ms = 1;
            for _ in 0..300 {
                now_ms += below(8);
                match below(3) {
                    0 => drop(log.truncate(below(40), below(40), now_ms)),
                    1 => log.purge(1 + below(4), now_ms),
                    _ => {}
                }
                log.check();
            }
        }
    }

    #[test]
    fn a_clock_that_was_put_back_does_not_lengthen_the_wait() {
        let mut log = Log::new(30);
        assert_eq!(log.truncate(10, 30, 1_000), Aim::Move { below: 10 });
        assert_eq!(log.truncate(20, 30, 1_000), Aim::TooSoon { retry_after_ms: INTERVAL });
        assert_eq!(log.truncate(20, 30, 500), Aim::Move { below: 20 });
    }

    #[test]
    fn what_stays_below_the_floor_is_gone_after_twice_the_grace() {
        for seed in 0..50 {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let mut log = Log::new(30);
            for now_ms in 1..1_000 {
                let below = 1 + u64::from(rng.next_u32()) % 35;
                log.truncate(below.max(log.row.floor), 30, now_ms);
                log.purge(100, now_ms);
                let overdue = |&(below_since, there): &(Option<u64>, bool)| {
                    there && below_since.is_some_and(|since| since + 2 * GRACE <= now_ms)
                };
                assert!(!log.entries.iter().any(overdue), "at {now_ms}");
            }
            assert_eq!(log.floors.kept_from, log.row.floor);
        }
    }
}
