//! The mirror: every envelope this device accepted, in the order in which it did, many to a row.
//!
//! A *segment* is a row of consecutive records, an *index run* a row that says where consecutive
//! entries of one device stand. Both gather while a commit is under way and are written with the
//! next one, so a catch-up costs a row for some hundred entries and a live entry one of its own.
//!
//! Invariants: records stand in local order, and a segment's key is that of its last record: so the
//! first segment at or behind a [`Place`] is the one that holds it. Every record says its own
//! numbers, so a segment may be written again with some of them left out, under the same key.

use bytes::{Buf, BufMut, Bytes};
use litemap::LiteMap;
use zerok_sync_protocol::{BlobId, Timeline};

use super::rows::{self, MIRROR};
use crate::error::OpenError;
use crate::id::DeviceId;
use crate::io::Row;
use crate::observed::FoldHash;

/// A segment is closed before it grows beyond this, unless a single envelope is larger: what is
/// read at least for one entry, and what a slow app has in memory at a time.
const SEGMENT_BYTES_MAX: usize = 128 * 1024;
/// Entries in one index run: what is read to find one of them.
const INDEX_RUN_ENTRIES_MAX: usize = 1_024;

/// ordinal 8 ‖ position 8 ‖ timeline 8 ‖ cursor 8 ‖ observed 32 ‖ flags 1 ‖ length 4, little-endian;
/// then of a batch the place of its first part, and the envelope.
const RECORD_HEADER_BYTES: usize = 69;
/// The entry is the app's: its position is its own, and not that of the app's entry before it.
const FLAG_APP: u8 = 1;
/// It named entries that this device did not have.
const FLAG_MISSING_DEPS: u8 = 2;
/// It ends a batch, which is what the app reads.
const FLAG_BATCH: u8 = 4;
/// ordinal 8 ‖ position 8, little-endian.
const PLACE_BYTES: usize = 16;

/// BlobId 32 ‖ position 8 ‖ ordinal 8, little-endian.
const INDEX_ENTRY_BYTES: usize = 48;

/// Where an envelope stands in this device's own order. Both numbers only rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Of the app's newest entry up to here; 0 before the first.
    pub(crate) position: u64,
    /// Of the envelope, counted over all from 1.
    pub(crate) ordinal: u64,
}

/// What of an envelope the app reads at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForApp {
    /// It is none of the app's.
    Nothing,
    /// What it says.
    Blob,
    /// What the parts before it in its sender's chain say.
    Batch {
        /// Where the first of them stands.
        first: Place,
    },
}

/// An envelope as it was read, kept to serve the app and to repair relays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) place: Place,
    /// What the app reads of it, at this position.
    pub(crate) for_app: ForApp,
    /// It named entries this device did not have.
    pub(crate) missing_deps: bool,
    /// History it was read from.
    pub(crate) timeline: Timeline,
    /// Its cursor there.
    pub(crate) cursor: u64,
    /// Fold of that history up to it.
    pub(crate) observed: FoldHash,
    /// The sealed bytes.
    pub(crate) envelope: Bytes,
}

/// What was accepted and is not in a batch yet.
#[derive(Debug, Default)]
pub(crate) struct MirrorWriter {
    segment: Vec<u8>,
    /// Of the segment's last record.
    last: Place,
    runs: LiteMap<DeviceId, IndexRun>,
    closed: Vec<Row>,
}

/// Consecutive entries of one device.
#[derive(Debug)]
struct IndexRun {
    last_seq: u64,
    entries: Vec<u8>,
}

impl MirrorWriter {
    pub(crate) fn is_empty(&self) -> bool {
        self.segment.is_empty() && self.runs.is_empty() && self.closed.is_empty()
    }

    /// Adds an envelope; places rise.
    pub(crate) fn append(&mut self, record: &Record) {
        let bytes = RECORD_HEADER_BYTES + PLACE_BYTES + record.envelope.len();
        if !self.segment.is_empty() && self.segment.len() + bytes > SEGMENT_BYTES_MAX {
            self.close_segment();
        }
        debug_assert!(record.place > self.last, "records stand in local order");
        self.last = record.place;
        record.write(&mut self.segment);
    }

    /// Notes where an entry of a device's chain stands.
    pub(crate) fn index(&mut self, sender: DeviceId, seq: u64, blob_id: &BlobId, place: Place) {
        let goes_on =
            |run: &IndexRun| run.last_seq + 1 == seq && run.entries.len() < INDEX_RUN_ENTRIES_MAX * INDEX_ENTRY_BYTES;
        if self.runs.get(&sender).is_some_and(|run| !goes_on(run)) {
            let run = self.runs.remove(&sender).map(|run| run.row(&sender));
            self.closed.extend(run);
        }
        let run = self.runs.entry(sender).or_insert(IndexRun { last_seq: seq, entries: Vec::new() });
        run.last_seq = seq;
        run.entries.put_slice(&blob_id.0);
        run.entries.put_u64_le(place.position);
        run.entries.put_u64_le(place.ordinal);
    }

    /// The rows to be written, all of them.
    pub(crate) fn take(&mut self) -> Vec<Row> {
        self.close_segment();
        let runs = std::mem::take(&mut self.runs);
        self.closed.extend(runs.into_iter().map(|(sender, run)| run.row(&sender)));
        std::mem::take(&mut self.closed)
    }

    fn close_segment(&mut self) {
        if !self.segment.is_empty() {
            // Exact: the row lives until it is on disk, and much of a fresh buffer may be spare.
            let value = self.segment.as_slice().to_vec();
            self.segment.clear();
            self.closed.push(Row { key: segment_key(self.last), value });
        }
    }
}

impl IndexRun {
    fn row(self, sender: &DeviceId) -> Row {
        Row { key: rows::index_key(sender, self.last_seq), value: self.entries }
    }
}

impl Record {
    fn write(&self, segment: &mut Vec<u8>) {
        let app = match self.for_app {
            ForApp::Nothing => 0,
            ForApp::Blob => FLAG_APP,
            ForApp::Batch { .. } => FLAG_APP | FLAG_BATCH,
        };
        let flags = app | if self.missing_deps { FLAG_MISSING_DEPS } else { 0 };
        segment.put_u64_le(self.place.ordinal);
        segment.put_u64_le(self.place.position);
        segment.put_slice(&self.timeline.0);
        segment.put_u64_le(self.cursor);
        segment.put_slice(&self.observed.0);
        segment.put_u8(flags);
        segment.put_u32_le(u32::try_from(self.envelope.len()).expect("an envelope is a part of a frame"));
        if let ForApp::Batch { first } = self.for_app {
            segment.put_u64_le(first.ordinal);
            segment.put_u64_le(first.position);
        }
        segment.put_slice(&self.envelope);
    }

    /// Takes the first record off `segment`; its envelope shares the segment's memory.
    fn read(segment: &mut Bytes) -> Option<Self> {
        if segment.len() < RECORD_HEADER_BYTES {
            return None;
        }
        let ordinal = segment.get_u64_le();
        let position = segment.get_u64_le();
        let mut timeline = Timeline::ZERO;
        segment.copy_to_slice(&mut timeline.0);
        let cursor = segment.get_u64_le();
        let mut observed = FoldHash::ZERO;
        segment.copy_to_slice(&mut observed.0);
        let flags = segment.get_u8();
        let length = segment.get_u32_le() as usize;
        let for_app = match flags & !FLAG_MISSING_DEPS {
            0 => ForApp::Nothing,
            FLAG_APP => ForApp::Blob,
            both if both == FLAG_APP | FLAG_BATCH && segment.len() >= PLACE_BYTES => {
                let (ordinal, position) = (segment.get_u64_le(), segment.get_u64_le());
                ForApp::Batch { first: Place { position, ordinal } }
            }
            _ => return None,
        };
        (length <= segment.len()).then(|| Self {
            place: Place { position, ordinal },
            for_app,
            missing_deps: flags & FLAG_MISSING_DEPS != 0,
            timeline,
            cursor,
            observed,
            envelope: segment.split_to(length),
        })
    }
}

/// The records of one stored segment, in local order. Ends with an error where the row is damaged.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    rest: Bytes,
}

impl Records {
    /// Of a row between [`mirror_range`]'s keys.
    pub(crate) fn of(row: Row) -> Self {
        Self { rest: row.value.into() }
    }
}

impl Iterator for Records {
    type Item = Result<Record, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = Record::read(&mut self.rest).ok_or(OpenError::Corrupt("mirror"));
        if record.is_err() {
            self.rest.clear();
        }
        Some(record)
    }
}

/// Key of the segment that ends with this record.
pub(crate) fn segment_key(last: Place) -> Vec<u8> {
    [&[MIRROR][..], &last.position.to_be_bytes(), &last.ordinal.to_be_bytes()].concat()
}

/// Keys of the segments with app entries behind a position.
pub(crate) fn app_entry_range(after: u64) -> (Vec<u8>, Vec<u8>) {
    (segment_key(Place { position: after.saturating_add(1), ordinal: 0 }), vec![MIRROR + 1])
}

/// Whether it is the key of a segment.
pub(crate) fn is_segment(key: &[u8]) -> bool {
    key.first() == Some(&MIRROR)
}

/// Keys of the segments from the one on that holds the record there.
pub(crate) fn range_from(place: Place) -> (Vec<u8>, Vec<u8>) {
    (segment_key(place), vec![MIRROR + 1])
}

/// Keys of every segment.
pub(crate) fn mirror_range() -> (Vec<u8>, Vec<u8>) {
    (vec![MIRROR], vec![MIRROR + 1])
}

/// Keys of the index runs that hold a device's entries from `seq` on: the first row has that one.
pub(crate) fn index_range(sender: &DeviceId, seq: u64) -> (Vec<u8>, Vec<u8>) {
    let mut behind = rows::index_key(sender, u64::MAX);
    behind.push(0);
    (rows::index_key(sender, seq), behind)
}

/// What an index run says of a device's entry; nothing if it is not in it.
pub(crate) fn indexed(run: &Row, sender: &DeviceId, seq: u64) -> Option<(BlobId, Place)> {
    let last_seq = rows::index_seq_of(&run.key, sender)?;
    let (entries, []) = run.value.as_chunks::<INDEX_ENTRY_BYTES>() else { return None };
    let from_end = usize::try_from(last_seq.checked_sub(seq)?).ok()?;
    let entry = &entries[entries.len().checked_sub(from_end + 1)?];
    let (blob_id, mut place) = entry.split_at(BlobId::LEN);
    let (position, ordinal) = (place.get_u64_le(), place.get_u64_le());
    Some((BlobId::from_slice(blob_id)?, Place { position, ordinal }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(position: u64, ordinal: u64, envelope: Vec<u8>) -> Record {
        Record {
            place: Place { position, ordinal },
            for_app: if ordinal.is_multiple_of(3) {
                ForApp::Batch { first: Place { position, ordinal: 1 } }
            } else {
                ForApp::Blob
            },
            missing_deps: ordinal.is_multiple_of(2),
            timeline: Timeline([3; 8]),
            cursor: ordinal * 10,
            observed: FoldHash([4; 32]),
            envelope: envelope.into(),
        }
    }

    fn records(rows: impl IntoIterator<Item = Row>) -> Vec<Record> {
        rows.into_iter().flat_map(Records::of).map(|record| record.expect("just written")).collect()
    }

    #[test]
    fn the_first_segment_behind_a_place_holds_it() {
        let mut writer = MirrorWriter::default();
        let written: Vec<_> = (1..=300).map(|n| record(n / 2, n, vec![7; 1_200])).collect();
        written.iter().for_each(|record| writer.append(record));
        let rows = writer.take();
        assert!(writer.is_empty());
        assert!(rows.len() > 2 && rows.iter().all(|row| row.value.len() <= SEGMENT_BYTES_MAX), "{}", rows.len());
        assert!(rows.is_sorted_by(|a, b| a.key < b.key));
        for wanted in &written {
            let row = rows.iter().find(|row| row.key >= segment_key(wanted.place)).expect("one is behind it");
            assert!(records([row.clone()]).contains(wanted));
        }
        for after in 0..150 {
            let (from, _) = app_entry_range(after);
            let row = rows.iter().find(|row| row.key >= from).expect("one is behind it");
            assert!(records([row.clone()]).iter().any(|record| record.place.position == after + 1));
        }
        assert_eq!(records(rows), written);
    }

    #[test]
    fn an_envelope_larger_than_a_segment_has_one_of_its_own() {
        let mut writer = MirrorWriter::default();
        for (ordinal, bytes) in [(1, 10), (2, 2 * SEGMENT_BYTES_MAX), (3, 10)] {
            writer.append(&record(ordinal, ordinal, vec![1; bytes]));
        }
        assert_eq!(writer.take().len(), 3);
    }

    #[test]
    fn an_entry_is_found_by_its_device_and_seq_and_others_are_not() {
        let (one, other) = (DeviceId([1; 32]), DeviceId([2; 32]));
        let mut writer = MirrorWriter::default();
        let entries = INDEX_RUN_ENTRIES_MAX as u64 + 10;
        let id = |seq: u64| BlobId([seq.to_le_bytes()[0]; 32]);
        for seq in 5..5 + entries {
            writer.index(one, seq, &id(seq), Place { position: seq, ordinal: seq + 1 });
        }
        writer.index(other, 1, &id(9), Place { position: 1, ordinal: 2 });
        let mut rows = writer.take();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(rows.len(), 3, "a run has a limit");
        let find = |device: &DeviceId, seq| {
            let (from, to) = index_range(device, seq);
            indexed(rows.iter().find(|row| row.key >= from && row.key < to)?, device, seq)
        };
        for seq in 5..5 + entries {
            assert_eq!(find(&one, seq), Some((id(seq), Place { position: seq, ordinal: seq + 1 })));
        }
        assert_eq!(find(&other, 1), Some((id(9), Place { position: 1, ordinal: 2 })));
        for (device, seq) in [(one, 4), (one, 5 + entries), (one, u64::MAX), (other, 0), (other, 2)] {
            assert_eq!(find(&device, seq), None, "{seq}");
        }
    }

    #[test]
    fn a_hole_in_a_chain_begins_another_run() {
        let mut writer = MirrorWriter::default();
        let sender = DeviceId([1; 32]);
        for seq in [1, 2, 7] {
            writer.index(sender, seq, &BlobId::ZERO, Place::default());
        }
        assert_eq!(writer.take().len(), 2);
    }

    proptest! {
        #[test]
        fn damaged_segments_end_with_an_error_and_never_with_a_panic(
            value: Vec<u8>,
            at in 0_usize..400,
            byte: u8,
        ) {
            Records::of(Row { key: vec![], value }).for_each(drop);
            let mut writer = MirrorWriter::default();
            (1..=3).for_each(|n| writer.append(&record(n, n, vec![1; 60])));
            let mut row = writer.take().remove(0);
            let at = at % row.value.len();
            row.value[at] = byte;
            Records::of(row.clone()).for_each(drop);
            row.value.truncate(at);
            let last = Records::of(row.clone()).last();
            prop_assert!(last.is_none_or(|last| last.is_err()) || at % (RECORD_HEADER_BYTES + 60) == 0);
        }

        #[test]
        fn a_damaged_index_run_is_no_answer_and_never_a_panic(key: Vec<u8>, value: Vec<u8>, seq: u64) {
            let sender = DeviceId([1; 32]);
            prop_assert_eq!(indexed(&Row { key, value: value.clone() }, &sender, seq), None);
            let _ = indexed(&Row { key: rows::index_key(&sender, seq), value }, &sender, seq);
        }
    }
}
