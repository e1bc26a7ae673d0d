//! Where a reader stands, without I/O: what it is sent next, from memory or from the store.
//!
//! One number decides, the next cursor: what comes is taken if it is at that cursor and left if it
//! is not, so no way of reading can skip an entry or send one twice. Credit is spent on `Entries`
//! alone, and one entry may overdraw it.

use bytes::Bytes;
use zerok_sync_protocol::envelope::ENVELOPE_BYTES_MIN;
use zerok_sync_protocol::frame::{EntriesEncoder, EntryItem, ITEM_OVERHEAD_BYTES_MAX};
use zerok_sync_protocol::limits::ENTRIES_ITEMS_MAX;
use zerok_sync_protocol::{BlobId, Timeline};

use super::own::OwnCursors;
use crate::hub::{Found, Seat};
use crate::limits::{ENTRIES_BYTES_TARGET, PAGE_BYTES_MAX, PAGE_ENTRY_BYTES};
use crate::store::StoredEntry;

/// See the module's documentation.
pub(super) struct Subscription {
    /// The history that the client reads.
    pub(super) timeline: Timeline,
    /// The next cursor to send.
    next: u64,
    /// What stands at the cursor before it, if that is known.
    last: Option<BlobId>,
    /// Bytes of `Entries` the client still takes; negative by what the last entry overdrew.
    credit: i64,
    follow: bool,
    /// `CaughtUp` is owed once the head is reached.
    behind: bool,
    /// Bytes of an entry, on average of the page before: so many are asked for as fill a page. A
    /// database looks at all that is asked for, not only at what fits.
    entry_bytes: usize,
}

/// What is to be done for a reader.
#[derive(Debug)]
pub(super) enum Step {
    /// Send this `Entries` frame of so many entries.
    Entries(Bytes, u64),
    /// Say that everything up to this head was sent.
    CaughtUp(u64),
    /// Read this from the store, and give it to [`Subscription::take_page`].
    Read(PageRequest),
    /// Nothing, until the doorbell rings or there is more credit.
    Wait,
    /// The head is reached and the client does not follow.
    Done,
}

/// A page to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageRequest {
    pub(super) from: u64,
    pub(super) bytes_max: usize,
    pub(super) count_max: usize,
    /// The head that was known when the page was asked for.
    head: u64,
}

/// A page does not begin where the reader stands: a truncation overtook it, or the log is not the
/// one that it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misplaced;

impl Subscription {
    /// A reader behind `after`, where `last` stands.
    pub(super) fn new(timeline: Timeline, after: u64, last: BlobId, credit: u64, follow: bool) -> Self {
        // `after` was compared with the log: it is at most the head.
        Self {
            timeline,
            next: after + 1,
            last: Some(last),
            credit: signed(credit),
            follow,
            behind: true,
            entry_bytes: PAGE_ENTRY_BYTES,
        }
    }

    /// The next cursor to send.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// What stands before it, if that is known.
    pub(super) fn last(&self) -> Option<BlobId> {
        self.last
    }

    pub(super) fn add_credit(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_add(signed(bytes));
    }

    /// What to do next.
    pub(super) fn step(&mut self, seat: &Seat, own: &mut OwnCursors) -> Step {
        match seat.take(self.next, self.credit) {
            Found::AtHead if self.behind => {
                self.behind = false;
                Step::CaughtUp(self.next - 1)
            }
            Found::AtHead if self.follow => Step::Wait,
            Found::AtHead => Step::Done,
            Found::Fresh(slice) => {
                let frame = if own.touches(slice.first(), slice.end()) {
                    slice.with_stubs(|cursor| own.contains(cursor))
                } else {
                    slice.whole().clone()
                };
                let count = slice.end() - slice.first();
                self.sent(slice.end(), Some(slice.last_blob_id()), frame.len());
                own.forget_below(self.next);
                Step::Entries(frame, count)
            }
            Found::Behind(head) => {
                let Some(credit) = usize::try_from(self.credit).ok().filter(|&credit| credit > 0) else {
                    self.behind = true;
                    return Step::Wait;
                };
                Step::Read(self.page(credit, head))
            }
        }
    }

    fn page(&self, credit: usize, head: u64) -> PageRequest {
        let bytes_max = credit.min(PAGE_BYTES_MAX);
        let count = bytes_max / self.entry_bytes;
        // Looking at a quarter too many costs less than another page for those that were missing.
        let count_max = (count + count / 4 + 1).min(ENTRIES_ITEMS_MAX);
        PageRequest { from: self.next, bytes_max, count_max, head }
    }

    /// Cuts a page into `Entries`, as many as the credit is for.
    ///
    /// # Errors
    /// [`Misplaced`]; the reader stands where it stood.
    pub(super) fn take_page(
        &mut self,
        request: PageRequest,
        page: &[StoredEntry],
        own: &mut OwnCursors,
        mut send: impl FnMut(Bytes, u64),
    ) -> Result<(), Misplaced> {
        if page.first().map(StoredEntry::cursor) != Some(self.next) {
            return Err(Misplaced);
        }
        let bytes: usize = page.iter().map(StoredEntry::bytes).sum();
        self.entry_bytes = (bytes / page.len()).max(ENVELOPE_BYTES_MIN);
        let mut rest = page;
        while self.credit > 0 && !rest.is_empty() {
            let budget = usize::try_from(self.credit).unwrap_or(usize::MAX).min(ENTRIES_BYTES_TARGET);
            let (count, bytes) = run_within(rest, budget);
            let (entries, behind) = rest.split_at(count);
            let mut encoder = EntriesEncoder::with_capacity(bytes);
            entries.iter().for_each(|entry| encoder.push(&item_of(entry, |cursor| own.contains(cursor))));
            let frame = encoder.finish();
            self.sent(self.next + count as u64, entries.last().and_then(StoredEntry::blob_id), frame.len());
            send(frame, count as u64);
            rest = behind;
        }
        own.forget_below(self.next);
        self.behind |= self.next <= request.head;
        Ok(())
    }

    fn sent(&mut self, next: u64, last: Option<BlobId>, frame_bytes: usize) {
        self.next = next;
        self.last = last;
        self.credit = self.credit.saturating_sub(signed(frame_bytes as u64));
    }
}

/// How many of these entries (at least one) make a frame within `budget`, and their bytes.
fn run_within(entries: &[StoredEntry], budget: usize) -> (usize, usize) {
    let mut bytes = 0;
    let mut count = 0;
    for entry in entries.iter().take(ENTRIES_ITEMS_MAX) {
        let cost = ITEM_OVERHEAD_BYTES_MAX + entry.bytes();
        if count > 0 && bytes + cost > budget {
            break;
        }
        bytes += cost;
        count += 1;
    }
    (count, bytes)
}

/// What does not fit is as good as the largest number.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn item_of(entry: &StoredEntry, is_own: impl Fn(u64) -> bool) -> EntryItem {
    match entry {
        StoredEntry::Present { cursor, blob_id, .. } if is_own(*cursor) => {
            EntryItem::Own { cursor: *cursor, blob_id: *blob_id }
        }
        StoredEntry::Present { cursor, blob_id, envelope } => {
            EntryItem::Stored { cursor: *cursor, blob_id: *blob_id, envelope: envelope.clone() }
        }
        StoredEntry::Absent { cursor, blob_id, reason } => {
            EntryItem::Absent { cursor: *cursor, blob_id: *blob_id, reason: reason.clone() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_entries_are_asked_for_as_fill_a_page_whatever_their_size() {
        let mut reader = Subscription::new(Timeline([1; 8]), 0, BlobId([0; 32]), u64::MAX, true);
        for bytes in [ENVELOPE_BYTES_MIN, 16 * 1024, 1_000_000, 2_000] {
            let request = reader.page(usize::MAX, u64::MAX);
            let page: Vec<StoredEntry> = (0..request.count_max as u64)
                .scan(0, |taken, index| {
                    *taken += bytes;
                    let cursor = request.from + index;
                    let envelope = Bytes::from(vec![0; bytes]);
                    (*taken < request.bytes_max + bytes).then_some(StoredEntry::Present {
                        cursor,
                        blob_id: BlobId([0; 32]),
                        envelope,
                    })
                })
                .collect();
            reader.take_page(request, &page, &mut OwnCursors::default(), |_, _| ()).expect("it is at its place");

            let filled = PAGE_BYTES_MAX.div_ceil(bytes);
            let asked = reader.page(usize::MAX, u64::MAX).count_max;
            assert!((filled..=filled * 5 / 4 + 1).contains(&asked), "{asked} of {bytes} bytes");
        }
    }
}
