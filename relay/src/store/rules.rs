//! The rules that both databases follow, as plain functions over rows already read under the
//! group's lock: who is admitted, which cursor an envelope gets, what a page of the log looks like.
//!
//! The databases differ in SQL only; a decision found there is in the wrong room.

pub(super) mod retention;

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use bytes::Bytes;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::{AbsentReason, LogState};
use zerok_sync_protocol::limits::ALLOW_LIST_MAX;
use zerok_sync_protocol::{AuthPublicKey, BlobId, NoisePublicKey, Timeline};

use super::{Appended, Result, StoreError, StoredEntry};

/// The row of a log in `groups`, without its epoch envelope.
#[derive(Debug, Clone)]
pub(super) struct GroupRow {
    pub auth_public: AuthPublicKey,
    pub auth_gen: u64,
    pub timeline: Timeline,
    pub head: u64,
    pub head_blob_id: BlobId,
    pub floor: u64,
    pub floor_blob_id: BlobId,
    pub bytes: u64,
    pub restricted: bool,
}

impl GroupRow {
    pub fn state(&self) -> LogState {
        LogState {
            timeline: self.timeline,
            auth_gen: self.auth_gen,
            head: self.head,
            head_blob_id: self.head_blob_id,
            floor: self.floor,
        }
    }

    /// Blob id at each cursor, given those found in `entries`. The head's and the floor's are kept
    /// in `groups` as well, so that a device standing there is recognised when the row was lost.
    pub fn blob_ids(&self, cursors: &[u64], found: &HashMap<u64, BlobId>) -> Vec<Option<BlobId>> {
        let below_floor = self.floor.saturating_sub(1);
        let at = |cursor: u64| {
            if cursor == below_floor {
                Some(self.floor_blob_id)
            } else if cursor < self.floor || cursor > self.head {
                None
            } else {
                found.get(&cursor).copied().or_else(|| (cursor == self.head).then_some(self.head_blob_id))
            }
        };
        cursors.iter().map(|cursor| at(*cursor)).collect()
    }
}

/// Whether a device that proved an auth key may open a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entrance {
    Listed,
    ListNow,
    ListFull,
    Restricted,
    Superseded,
}

/// Decides an admission. `listed` devices are on the allow-list, this one among them or not.
pub(super) fn entrance(row: &GroupRow, auth_public: &AuthPublicKey, listed: bool, list_len: usize) -> Entrance {
    if row.auth_public != *auth_public {
        Entrance::Superseded
    } else if listed {
        Entrance::Listed
    } else if row.restricted {
        Entrance::Restricted
    } else if list_len >= ALLOW_LIST_MAX {
        Entrance::ListFull
    } else {
        Entrance::ListNow
    }
}

/// An allow-list as a set.
///
/// # Panics
/// If it is longer than [`ALLOW_LIST_MAX`]; the frame codec refuses such a list.
pub(super) fn allow_set(allow: &[NoisePublicKey]) -> BTreeSet<NoisePublicKey> {
    assert!(allow.len() <= ALLOW_LIST_MAX, "the frame codec bounds allow-lists");
    allow.iter().copied().collect()
}

/// A row that `entries` holds already for a blob id being appended.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownRow {
    pub cursor: u64,
    /// Whether the stored bytes still hash to the blob id.
    pub sound: bool,
}

/// What an append writes and answers.
#[derive(Debug)]
pub(super) struct AppendPlan<'a> {
    /// Where each envelope stands, up to the first that the quota refuses.
    pub cursors: Vec<Appended>,
    /// New rows.
    pub insert: Vec<(u64, &'a BlobId, &'a Bytes)>,
    /// Rows whose bytes are put back.
    pub heal: Vec<(u64, &'a Bytes)>,
    /// `groups.head` afterwards.
    pub head: u64,
    /// `groups.head_blob_id` afterwards.
    pub head_blob_id: BlobId,
    /// `groups.bytes` afterwards.
    pub bytes: u64,
    /// Whether the quota cut the append short.
    pub over_quota: bool,
}

/// Numbers what is new behind the head, in order; what is known keeps its cursor.
pub(super) fn plan_append<'a>(
    row: &GroupRow,
    envelopes: &'a [(BlobId, Bytes)],
    mut known: HashMap<BlobId, KnownRow>,
    group_bytes_max: u64,
) -> AppendPlan<'a> {
    let mut plan = AppendPlan {
        cursors: Vec::with_capacity(envelopes.len()),
        insert: Vec::new(),
        heal: Vec::new(),
        head: row.head,
        head_blob_id: row.head_blob_id,
        bytes: row.bytes,
        over_quota: false,
    };
    for (id, envelope) in envelopes {
        if let Some(found) = known.get_mut(id) {
            if !found.sound {
                plan.heal.push((found.cursor, envelope));
                found.sound = true;
            }
            plan.cursors.push(Appended { cursor: found.cursor, new: false });
            continue;
        }
        let bytes = plan.bytes.saturating_add(envelope.len() as u64);
        if bytes > group_bytes_max {
            plan.over_quota = true;
            break;
        }
        plan.head += 1;
        plan.head_blob_id = *id;
        plan.bytes = bytes;
        plan.insert.push((plan.head, id, envelope));
        plan.cursors.push(Appended { cursor: plan.head, new: true });
        known.insert(*id, KnownRow { cursor: plan.head, sound: true });
    }
    plan
}

/// A page of the log under construction: consecutive cursors, whatever rows there are.
#[derive(Debug)]
pub(super) struct Page {
    next: u64,
    last: u64,
    bytes_left: usize,
    full: bool,
    items: Vec<StoredEntry>,
}

impl Page {
    /// A page from `from` (or the floor) to the head; `None` if that is empty.
    pub fn new(row: &GroupRow, from: u64, bytes_max: usize, count_max: usize) -> Option<Self> {
        let next = from.max(row.floor).max(1);
        let last = row.head.min(next.saturating_add(count_max.max(1) as u64 - 1));
        (next <= last).then(|| Self { next, last, bytes_left: bytes_max, full: false, items: Vec::new() })
    }

    /// First and last cursor that may be on the page.
    pub fn range(&self) -> (u64, u64) {
        (self.next, self.last)
    }

    /// Adds a row; rows come in cursor order. Breaks when the page has no room for another.
    pub fn push(&mut self, cursor: u64, id: Option<BlobId>, envelope: Bytes) -> ControlFlow<()> {
        self.absent_until(cursor);
        self.next = cursor + 1;
        self.bytes_left = self.bytes_left.saturating_sub(envelope.len());
        self.items.push(match id {
            Some(id) if blob_id(&envelope) == id => StoredEntry::Present { cursor, blob_id: id, envelope },
            _ => StoredEntry::Absent { cursor, blob_id: id, reason: AbsentReason::Rotten {} },
        });
        if self.bytes_left == 0 {
            self.full = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// The page. Holes behind the last row are reported unless the page was full before them.
    pub fn finish(mut self) -> Vec<StoredEntry> {
        if !self.full {
            self.absent_until(self.last + 1);
        }
        self.items
    }

    fn absent_until(&mut self, end: u64) {
        let lost = |cursor| StoredEntry::Absent { cursor, blob_id: None, reason: AbsentReason::Lost {} };
        self.items.extend((self.next..end).map(lost));
        self.next = end;
    }
}

/// A number as databases store it. Cursors and times beyond `i64::MAX` come from peers only and
/// stand for "beyond everything", so they saturate.
pub(super) fn to_db(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A stored number; none that this code writes is negative.
pub(super) fn from_db(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| damaged("a negative number"))
}

/// Stored bytes of a fixed length.
pub(super) fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| damaged("a key or id of the wrong length"))
}

fn damaged(what: &str) -> StoreError {
    StoreError::Corrupt(format!("a row of the log holds {what}: restore a backup, or look for what else writes there"))
}

/// A group's state or entry that must be there in the same transaction.
pub(super) fn present<T>(row: Option<T>) -> Result<T> {
    row.ok_or(StoreError::Gone)
}
