//! The rules that both databases follow, as plain functions over rows already read under the
//! group's lock: who is admitted, which cursor an envelope gets, what a page of the log looks like.
//!
//! The databases differ in SQL only; a decision found there is in the wrong room.

pub(super) mod mailbox;
pub(super) mod retention;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::{AbsentReason, LogState};
use zerok_sync_protocol::limits::{ALLOW_LIST_MAX, READS_NOTHING};
use zerok_sync_protocol::{AuthPublicKey, BlobId, NoisePublicKey, Timeline};

use super::{
    Admission, Admitted, Append, AppendRequest, Appended, DeviceNote, GroupKey, Missing, Result, RotateRequest, Slot,
    StoreError, StoredEntry,
};

/// The row of a log in `groups`, without its epoch envelope.
#[derive(Debug, Clone)]
pub(super) struct GroupRow {
    pub group: GroupKey,
    pub auth_public: AuthPublicKey,
    pub auth_gen: u64,
    pub timeline: Timeline,
    pub head: u64,
    pub head_blob_id: BlobId,
    pub floor: u64,
    pub floor_blob_id: BlobId,
    pub bytes: u64,
    pub restricted: bool,
    pub removals: u64,
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

/// A log's allow-list, as one of its devices is told.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub allow: Vec<NoisePublicKey>,
    /// The device's slot; `None` if it is not listed.
    pub slot: Option<Bytes>,
    /// The others' slots that were ever written.
    pub slots: Vec<Slot>,
}

impl Members {
    /// Adds one of the list.
    pub fn add(&mut self, device: NoisePublicKey, own: bool, slot: Bytes, acked: u64) {
        self.allow.push(device);
        if own {
            self.slot = Some(slot);
        } else if !slot.is_empty() {
            self.slots.push(Slot { device, acked, data: slot });
        }
    }
}

/// The answer to a device that asked for entrance.
pub(super) fn admission(entrance: Entrance, row: GroupRow, members: Members) -> Admission {
    match entrance {
        Entrance::Superseded => Admission::Superseded,
        Entrance::Restricted => Admission::Restricted,
        Entrance::ListFull => Admission::ListFull,
        Entrance::Listed | Entrance::ListNow => Admission::Admitted(Admitted {
            state: row.state(),
            removals: row.removals,
            group_bytes: row.bytes,
            slot: members.slot.unwrap_or_default(),
            allow: members.allow,
            slots: members.slots,
        }),
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
    /// How many they are.
    pub bytes: u64,
}

/// Which of these blobs a log lacks, given the rows that it has.
pub(super) fn missing(group: GroupKey, blob_ids: &[BlobId], known: &HashMap<(GroupKey, BlobId), KnownRow>) -> Missing {
    let is_missing = |id: &BlobId| known.get(&(group, *id)).is_none_or(|row| !row.sound);
    Missing { flags: blob_ids.iter().map(is_missing).collect(), bytes_read: known.values().map(|row| row.bytes).sum() }
}

/// What the database holds about the appends of a batch, read under the locks of their logs.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Rows of `groups`; a log that is not among them is gone.
    pub groups: BTreeMap<GroupKey, GroupRow>,
    /// Which of the appending devices are on their log's allow-list.
    pub listed: HashSet<(GroupKey, NoisePublicKey)>,
    /// Entries that are there already.
    pub known: HashMap<(GroupKey, BlobId), KnownRow>,
    /// Current epoch envelope of each log that [`Found::superseded`] names.
    pub epoch_envelopes: HashMap<GroupKey, Bytes>,
}

impl Found {
    /// Logs of which some append carries another generation than the current one: their epoch
    /// envelopes are needed for the answers.
    pub fn superseded<'a>(&self, appends: impl IntoIterator<Item = &'a AppendRequest>) -> BTreeSet<GroupKey> {
        let moved_on = |append: &&AppendRequest| {
            self.groups.get(&append.group).is_some_and(|row| row.auth_gen != append.auth_gen)
                && self.listed.contains(&(append.group, append.device))
        };
        appends.into_iter().filter(moved_on).map(|append| append.group).collect()
    }

    /// How far a device has the log, by its own word: never beyond the head, unless it never reads.
    pub fn acked(&self, note: &DeviceNote) -> u64 {
        let head = self.groups.get(&note.group).map_or(0, |row| row.head);
        match note.acked {
            Some(READS_NOTHING) => READS_NOTHING,
            acked => acked.unwrap_or(0).min(head),
        }
    }
}

/// A new row of `entries`.
#[derive(Debug)]
pub(super) struct NewRow<'a> {
    pub group: GroupKey,
    pub cursor: u64,
    pub blob_id: &'a BlobId,
    pub envelope: &'a Bytes,
    pub received_at_ms: u64,
}

/// What a batch writes and answers.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// One answer per append, in order.
    pub answers: Vec<Append>,
    /// New rows; those of one log are in the order of their cursors.
    pub insert: Vec<NewRow<'a>>,
    /// Rows whose bytes are put back.
    pub heal: Vec<(GroupKey, u64, &'a Bytes)>,
    /// Logs that grew, as they are afterwards.
    pub grown: BTreeMap<GroupKey, GroupRow>,
}

/// Decides a batch: requests for one log are numbered one behind the other, in order, and one that
/// cannot be served fails alone. Leaves the rows of `found` as they are afterwards.
pub(super) fn plan<'a>(found: &mut Found, appends: impl IntoIterator<Item = &'a AppendRequest>) -> Plan<'a> {
    let mut plan = Plan::default();
    for append in appends {
        let answer = plan.append(found, append);
        plan.answers.push(answer);
    }
    plan
}

/// Whether a log would hold more than a rotation may make it hold.
pub(super) fn is_over_quota(row: &GroupRow, request: &RotateRequest) -> bool {
    row.bytes.saturating_add(request.epoch_envelope.len() as u64) > request.group_bytes_max
}

/// Numbers envelopes that no rule refuses any more: those of a new log, or the epoch envelope of a
/// rotation.
pub(super) fn plan_unchecked<'a>(
    row: &mut GroupRow,
    known: &mut HashMap<(GroupKey, BlobId), KnownRow>,
    envelopes: &'a [(BlobId, Bytes)],
    now_ms: u64,
) -> (Plan<'a>, Vec<Appended>) {
    let mut plan = Plan::default();
    let numbered = plan.number(row, known, envelopes, u64::MAX, now_ms);
    (plan, numbered.cursors)
}

struct Numbered {
    cursors: Vec<Appended>,
    over_quota: bool,
}

impl<'a> Plan<'a> {
    fn append(&mut self, found: &mut Found, request: &'a AppendRequest) -> Append {
        let group = request.group;
        let Some(row) = found.groups.get_mut(&group) else { return Append::Gone };
        if !found.listed.contains(&(group, request.device)) {
            return Append::Revoked;
        }
        if row.auth_gen != request.auth_gen {
            let epoch_envelope = found.epoch_envelopes.get(&group).cloned();
            return epoch_envelope.map_or(Append::Gone, |epoch_envelope| Append::Superseded { epoch_envelope });
        }
        let Numbered { cursors, over_quota } =
            self.number(row, &mut found.known, &request.envelopes, request.group_bytes_max, request.now_ms);
        let head = row.head;
        if over_quota { Append::QuotaExceeded { cursors, head } } else { Append::Stored { cursors, head } }
    }

    /// Numbers what is new behind the head, in order; what is known keeps its cursor.
    fn number(
        &mut self,
        row: &mut GroupRow,
        known: &mut HashMap<(GroupKey, BlobId), KnownRow>,
        envelopes: &'a [(BlobId, Bytes)],
        group_bytes_max: u64,
        now_ms: u64,
    ) -> Numbered {
        let group = row.group;
        let before = row.head;
        let mut numbered = Numbered { cursors: Vec::with_capacity(envelopes.len()), over_quota: false };
        for (id, envelope) in envelopes {
            if let Some(found) = known.get_mut(&(group, *id)) {
                if !found.sound {
                    self.heal.push((group, found.cursor, envelope));
                    found.sound = true;
                }
                numbered.cursors.push(Appended { cursor: found.cursor, new: false });
                continue;
            }
            let bytes = row.bytes.saturating_add(envelope.len() as u64);
            if bytes > group_bytes_max {
                numbered.over_quota = true;
                break;
            }
            row.head += 1;
            row.head_blob_id = *id;
            row.bytes = bytes;
            self.insert.push(NewRow { group, cursor: row.head, blob_id: id, envelope, received_at_ms: now_ms });
            numbered.cursors.push(Appended { cursor: row.head, new: true });
            let bytes = envelope.len() as u64;
            known.insert((group, *id), KnownRow { cursor: row.head, sound: true, bytes });
        }
        if row.head > before {
            self.grown.insert(group, row.clone());
        }
        numbered
    }

    /// Whether anything is written.
    pub fn writes(&self) -> bool {
        !self.insert.is_empty() || !self.heal.is_empty()
    }
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
