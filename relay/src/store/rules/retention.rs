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
    // A clock that went back must not lengthen the wait.
    let since_raised = request.now_ms.saturating_sub(floors.raised_at);
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
