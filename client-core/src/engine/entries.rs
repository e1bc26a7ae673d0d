//! What the app reads: its entries, out of the rows of the mirror.
//!
//! Reading needs the group's keys and nothing else of the engine, so an [`EntryReader`] can be taken
//! along to wherever the app is, and opens one envelope at a time, as the app asks for it.

use std::sync::Arc;

use bytes::Bytes;
use zerok_sync_protocol::BlobId;

use super::Engine;
use super::mirror::{self, Record, Records};
use crate::error::OpenError;
use crate::id::DeviceId;
use crate::io::Row;
use crate::keyring::Keyring;
use crate::seal;

/// An authenticated entry of the app's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// This device's stable number for it.
    pub position: u64,
    /// Where the relay had it.
    pub cursor: u64,
    /// Identifies the envelope everywhere.
    pub blob_id: BlobId,
    /// Who wrote it.
    pub sender: DeviceId,
    /// Whether that was this device.
    pub own: bool,
    /// The author's wall clock, Unix milliseconds: information only.
    pub sent_at_ms: u64,
    /// With `sender` and `seq`, a total order that is the same on every device.
    pub lamport: u64,
    /// Position in the sender's chain.
    pub seq: u64,
    /// Its author had seen entries that this device had not when it came.
    pub missing_deps: bool,
    /// The app's blob.
    pub data: Bytes,
    /// The sealed bytes, as the relay stores them.
    pub envelope: Bytes,
}

/// Opens stored entries. Good for every row that was stored when it was made.
#[derive(Debug, Clone)]
pub struct EntryReader {
    keyring: Arc<Keyring>,
    me: DeviceId,
}

/// The app's entries in one row, in the order of their positions. After an error comes nothing.
#[derive(Debug, Clone)]
pub struct StoredEntries {
    reader: EntryReader,
    records: Records,
    after: u64,
}

impl Engine {
    /// Storage keys `from <= key < to` of the rows with the app's entries behind a position, for
    /// [`EntryReader::entries`].
    #[must_use]
    pub fn entry_range(after: u64) -> (Vec<u8>, Vec<u8>) {
        mirror::app_entry_range(after)
    }

    /// Storage keys of every envelope kept.
    #[must_use]
    pub fn mirror_range() -> (Vec<u8>, Vec<u8>) {
        mirror::mirror_range()
    }

    /// What opens the rows that are stored now.
    #[must_use]
    pub fn entry_reader(&self) -> EntryReader {
        EntryReader { keyring: self.keyring.clone(), me: self.me.device() }
    }
}

impl EntryReader {
    /// The app's entries behind the position `after` in a row from [`Engine::entry_range`].
    #[must_use]
    pub fn entries(&self, row: Row, after: u64) -> StoredEntries {
        StoredEntries { reader: self.clone(), records: Records::of(row), after }
    }

    fn open(&self, record: Record) -> Result<Entry, OpenError> {
        // Authenticated before it was stored; the AEAD shows that it still is what was stored.
        let opened = seal::open(&self.keyring, &record.envelope).map_err(|_| OpenError::Corrupt("entry"))?;
        let blob_id = opened.blob_id();
        let content = opened.into_claims();
        Ok(Entry {
            position: record.place.position,
            cursor: record.cursor,
            blob_id,
            sender: content.sender,
            own: content.sender == self.me,
            sent_at_ms: content.sent_at_ms,
            lamport: content.lamport,
            seq: content.seq,
            missing_deps: record.missing_deps,
            data: content.body,
            // A copy, so that an entry which the app keeps does not keep the whole row.
            envelope: Bytes::copy_from_slice(&record.envelope),
        })
    }
}

impl Iterator for StoredEntries {
    type Item = Result<Entry, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.records.next()? {
                Ok(record) if record.for_app && record.place.position > self.after => {
                    return Some(self.reader.open(record));
                }
                Ok(_) => {}
                Err(damaged) => return Some(Err(damaged)),
            }
        }
    }
}
