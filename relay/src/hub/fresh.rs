//! Fresh entries: a committed batch, cut and encoded once for all who take it, and the budget for
//! what waits to be taken.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use zerok_sync_protocol::BlobId;
use zerok_sync_protocol::frame::{EntriesEncoder, EntryItem, ITEM_OVERHEAD_BYTES_MAX};
use zerok_sync_protocol::limits::ENTRIES_ITEMS_MAX;

use crate::limits::{ENTRIES_BYTES_TARGET, RelayLimits};
use crate::metrics::Metrics;

/// Entries that were just committed: consecutive cursors of one log.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// Cursor of the first one.
    pub first_cursor: u64,
    /// The rest follow it.
    pub entries: Vec<(BlobId, Bytes)>,
}

impl Fresh {
    /// The highest cursor; `first_cursor - 1` if there is no entry.
    #[must_use]
    pub fn last_cursor(&self) -> u64 {
        (self.first_cursor + self.entries.len() as u64).saturating_sub(1)
    }

    /// Cut into what fits one `Entries` each.
    pub(super) fn slices(&self) -> impl Iterator<Item = Slice> + '_ {
        let mut start = 0;
        std::iter::from_fn(move || {
            let rest = self.entries.get(start..).filter(|rest| !rest.is_empty())?;
            let mut bytes = 0;
            let count = rest
                .iter()
                .take(ENTRIES_ITEMS_MAX)
                .take_while(|(_, envelope)| {
                    bytes += envelope.len() + ITEM_OVERHEAD_BYTES_MAX;
                    bytes <= ENTRIES_BYTES_TARGET
                })
                .count()
                .max(1);
            let slice = Slice::new(self.first_cursor + start as u64, &rest[..count]);
            start += count;
            Some(slice)
        })
    }
}

/// Consecutive fresh entries as one encoded `Entries` frame.
#[derive(Debug)]
pub struct Slice {
    first: u64,
    frame: Bytes,
    /// Blob id of each entry, and where its item ends in `frame`.
    items: Vec<(BlobId, usize)>,
    /// Where the first item begins.
    start: usize,
}

impl Slice {
    fn new(first: u64, entries: &[(BlobId, Bytes)]) -> Self {
        let bytes = entries.iter().map(|(_, envelope)| envelope.len() + ITEM_OVERHEAD_BYTES_MAX).sum();
        let mut encoder = EntriesEncoder::with_capacity(bytes);
        let mut items = Vec::with_capacity(entries.len());
        for (cursor, (blob_id, envelope)) in (first..).zip(entries) {
            encoder.push(&EntryItem::Stored { cursor, blob_id: *blob_id, envelope: envelope.clone() });
            items.push((*blob_id, encoder.items_bytes()));
        }
        let items_bytes = encoder.items_bytes();
        let frame = encoder.finish();
        let start = frame.len() - items_bytes;
        items.iter_mut().for_each(|(_, end)| *end += start);
        Self { first, frame, items, start }
    }

    /// Its first cursor.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The cursor behind its last one.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// What stands at its last cursor.
    #[must_use]
    pub fn last_blob_id(&self) -> BlobId {
        self.items.last().expect("no slice is empty").0
    }

    /// The frame for a session that takes all of it.
    #[must_use]
    pub fn whole(&self) -> &Bytes {
        &self.frame
    }

    /// The frame for a session that pushed some of it: those come as stubs.
    #[must_use]
    pub fn with_stubs(&self, is_own: impl Fn(u64) -> bool) -> Bytes {
        let mut encoder = EntriesEncoder::with_capacity(ITEM_OVERHEAD_BYTES_MAX * self.items.len());
        for (index, cursor) in (0..self.items.len()).zip(self.first..) {
            if is_own(cursor) {
                encoder.push(&EntryItem::Own { cursor, blob_id: self.items[index].0 });
            } else {
                encoder.push_encoded(&self.frame[self.item(index)]);
            }
        }
        encoder.finish()
    }

    /// Bytes that it occupies.
    pub(super) fn bytes(&self) -> usize {
        self.frame.len() + self.items.len() * size_of::<(BlobId, usize)>()
    }

    fn item(&self, index: usize) -> Range<usize> {
        let start = if index == 0 { self.start } else { self.items[index - 1].1 };
        start..self.items[index].1
    }
}

/// How many bytes of fresh entries may wait, in a room and in all rooms together.
#[derive(Debug)]
pub(super) struct Budget {
    pub room_bytes_max: usize,
    bytes_max: usize,
    bytes: AtomicUsize,
    pub metrics: Metrics,
}

impl Budget {
    pub fn new(limits: &RelayLimits, metrics: &Metrics) -> Self {
        let bytes = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
        Self {
            room_bytes_max: bytes(limits.fanout_bytes_per_session_max),
            bytes_max: bytes(limits.fanout_bytes_max),
            bytes: AtomicUsize::new(0),
            metrics: metrics.clone(),
        }
    }

    /// Takes `bytes` of the budget of all rooms if there are that many left.
    pub fn reserve(&self, bytes: usize) -> bool {
        let reserved = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|&sum| sum <= self.bytes_max)
        });
        if reserved.is_ok() {
            self.metrics.fanout_bytes.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        reserved.is_ok()
    }

    pub fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.fanout_bytes.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub fn used(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use zerok_sync_protocol::RelayFrame;

    use super::*;

    fn fresh(count: usize, bytes: usize) -> Fresh {
        let entries = (0..count).map(|index| (BlobId([index as u8; 32]), vec![index as u8; bytes].into())).collect();
        Fresh { first_cursor: 10, entries }
    }

    fn items(frame: &Bytes) -> Vec<EntryItem> {
        match RelayFrame::decode(frame) {
            Ok(RelayFrame::Entries { items }) => items.into_vec(),
            other => panic!("expected Entries, not {other:?}"),
        }
    }

    #[test]
    fn slices_are_cut_at_the_frame_target_and_leave_nothing_out() {
        for (count, bytes) in [(1, 200_000), (3, 40_000), (100, 1_000), (1_001, 1), (2_500, 1)] {
            let fresh = fresh(count, bytes);
            let mut next = fresh.first_cursor;
            for slice in fresh.slices() {
                assert_eq!(slice.first(), next);
                let items = items(slice.whole());
                assert!(items.len() == 1 || slice.whole().len() <= ENTRIES_BYTES_TARGET);
                next += items.len() as u64;
                assert_eq!(slice.end(), next);
            }
            assert_eq!(next, fresh.last_cursor() + 1);
        }
    }

    #[test]
    fn what_the_session_pushed_comes_as_stubs_and_the_rest_as_it_is() {
        let slice = fresh(40, 100).slices().next().expect("not empty");
        let expected: Vec<EntryItem> = items(slice.whole())
            .into_iter()
            .map(|item| match item {
                EntryItem::Stored { cursor, blob_id, .. } if cursor % 3 == 0 => EntryItem::Own { cursor, blob_id },
                other => other,
            })
            .collect();
        assert_eq!(items(&slice.with_stubs(|cursor| cursor % 3 == 0)), expected);
    }
}
