//! The latest cursors of one relay's timeline, as they were shown in this run: held against what
//! others observed there, and against where a snapshot says that it ends.
//!
//! Cursors are consecutive. The first is where this run began to read: what stood before it is not
//! known any more, and of it itself only where reading had come to, not what stood there.

use std::collections::VecDeque;

use zerok_sync_protocol::{BlobId, Timeline};

use super::Relay;
use crate::engine::comparing::Anchor;
use crate::engine::rows::RelayRow;
use crate::id::{DeviceId, SenderTag};
use crate::observed::{FoldHash, ObservedHash};

/// Cursors that are remembered, 96 bytes each: the parts of the largest snapshot where envelopes are
/// large, and what came beside it.
const SHOWN_MAX: usize = 4_096;
/// What others observed further on; more is not waited for.
const AHEAD_MAX: usize = 1_024;

/// The latest cursors.
#[derive(Debug)]
pub(super) struct Shown(VecDeque<At>);

/// One of them.
#[derive(Debug)]
struct At {
    cursor: u64,
    blob_id: BlobId,
    /// Fold up to there.
    observed: FoldHash,
    /// Whose entry it is, and which.
    entry: Option<(SenderTag, u64)>,
}

impl Shown {
    /// Nothing but where reading stands.
    pub(super) fn from_here(row: &RelayRow) -> Self {
        let (cursor, blob_id, observed) = (row.cursor, row.blob_id_at_cursor, row.observed);
        Self(VecDeque::from([At { cursor, blob_id, observed, entry: None }]))
    }

    fn at(&self, cursor: u64) -> Option<&At> {
        let first = self.0.front()?.cursor;
        self.0.get(usize::try_from(cursor.checked_sub(first)?).ok()?)
    }

    fn add(&mut self, at: At) {
        if self.0.len() == SHOWN_MAX {
            self.0.pop_front();
        }
        self.0.push_back(at);
    }
}

impl Relay {
    /// Moves the reading position by one cursor. Who observed something else there?
    pub(in crate::engine) fn advance(&mut self, cursor: u64, blob_id: BlobId, observed: FoldHash) -> Vec<DeviceId> {
        self.row.cursor = cursor;
        self.row.blob_id_at_cursor = blob_id;
        self.row.observed = observed;
        self.changed = true;
        if let Some(open) = self.session.live() {
            open.head = open.head.max(cursor);
        }
        self.shown.add(At { cursor, blob_id, observed, entry: None });
        let (fold, comparable) = (observed.short(), !observed.is_zero());
        let mut forked = Vec::new();
        self.observed_ahead.retain(|(observer, at, hash)| {
            if *at == cursor && comparable && *hash != fold {
                forked.push(*observer);
            }
            *at > cursor
        });
        forked
    }

    /// Whether another device was shown something else at a cursor; kept for later where this one
    /// has not read as far.
    pub(in crate::engine) fn contradicts(&mut self, observer: DeviceId, cursor: u64, hash: ObservedHash) -> bool {
        if cursor > self.row.cursor {
            if self.observed_ahead.len() == AHEAD_MAX {
                self.observed_ahead.pop_front();
            }
            if !self.observed_ahead.contains(&(observer, cursor, hash)) {
                self.observed_ahead.push_back((observer, cursor, hash));
            }
            return false;
        }
        self.shown.at(cursor).is_some_and(|shown| !shown.observed.is_zero() && shown.observed.short() != hash)
    }

    /// Whose entry was shown at a cursor, and which.
    pub(in crate::engine) fn showed(&mut self, timeline: Timeline, cursor: u64, sender: &DeviceId, seq: u64) {
        if timeline != self.row.timeline {
            return;
        }
        let first = self.shown.0.front().map_or(0, |first| first.cursor);
        let index = cursor.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        if let Some(at) = index.and_then(|index| self.shown.0.get_mut(index)) {
            at.entry = Some((sender.tag(), seq));
        }
    }

    /// Whether this device has read the log up to there itself, and remembers that it did.
    pub(in crate::engine) fn has_come_to(&self, there: &Anchor) -> bool {
        let is_it = |at: &At| !at.observed.is_zero() && (at.blob_id, at.observed) == (there.blob_id, there.observed);
        there.cursor > self.row.jumped_to && self.shown.at(there.cursor).is_some_and(is_it)
    }

    /// The place before a cursor, as far as it is remembered.
    pub(in crate::engine) fn place_before(&self, cursor: u64) -> Option<Anchor> {
        let At { cursor, blob_id, observed, .. } = *self.shown.at(cursor.checked_sub(1)?)?;
        Some(Anchor { cursor, blob_id, observed }).filter(|place| !place.blob_id.is_zero())
    }

    /// Where an entry was shown, as far as it is remembered.
    pub(in crate::engine) fn shown_at(&self, sender: SenderTag, seq: u64) -> Option<u64> {
        self.shown.0.iter().find(|at| at.entry == Some((sender, seq))).map(|at| at.cursor)
    }

    /// Whether a snapshot's manifest was read here, and not behind the place where it says that it ends:
    /// its author had read up to there before.
    pub(in crate::engine) fn shows_not_behind(&self, sender: &DeviceId, seq: u64, end: u64) -> bool {
        let read = || self.has_read(sender, seq).then_some(self.row.cursor);
        self.shown_at(sender.tag(), seq).or_else(read).is_some_and(|cursor| cursor <= end)
    }

    /// Where an envelope was shown, as far as it is remembered.
    pub(in crate::engine) fn shown_as(&self, blob_id: &BlobId) -> Option<u64> {
        self.shown.0.iter().skip(1).find(|at| at.blob_id == *blob_id).map(|at| at.cursor)
    }
}
