//! What the app reads: its entries, out of the rows of the mirror.
//!
//! Reading needs the group's keys and nothing else of the engine, so an [`EntryReader`] can be taken
//! along to wherever the app is, and opens one envelope at a time, as the app asks for it. A batch is
//! put together here, too: [`InParts`] says which rows it wants next, and never holds more than the
//! one batch.

use std::sync::Arc;

use bytes::Bytes;
use zerok_sync_protocol::BlobId;

use super::Engine;
use super::batches::Commit;
use super::mirror::{self, ForApp, Place, Record, Records};
use crate::content::Kind;
use crate::error::OpenError;
use crate::id::DeviceId;
use crate::io::Row;
use crate::keyring::Keyring;
use crate::seal;
use crate::snapshot::Manifest;

const CORRUPT_BATCH: OpenError = OpenError::Corrupt("batch");

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
    /// Whether the app's state lacks it: another device wrote it, or it is an own one behind a snapshot
    /// that took the place of that state and does not hold it. A snapshot that stands for what is gone
    /// is news to who reads from below an entry of another device's that it stands for.
    pub news: bool,
    /// The author's wall clock, Unix milliseconds: information only.
    pub sent_at_ms: u64,
    /// With `sender` and `seq`, a total order that is the same on every device.
    pub lamport: u64,
    /// Position in the sender's chain.
    pub seq: u64,
    /// Its author had seen entries that this device had not when it came.
    pub missing_deps: bool,
    /// It stands for everything before it: the app replaces its state by this and goes on from here.
    pub snapshot: bool,
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
    /// Position of the snapshot that took the place of the app's state, and the last own entry then.
    reset: Option<(u64, u64)>,
    /// Position of the snapshot that stands for all before it …
    base: u64,
    /// … and how far the app has got that knows what it says.
    base_news: u64,
}

/// What stands at one of the app's positions.
#[derive(Debug, Clone)]
pub enum Stored {
    /// An entry.
    Whole(Entry),
    /// An entry whose blob lies in several rows.
    InParts(Box<InParts>),
}

/// A batch that is being read: hand it the rows it asks for, page by page, until it has all of it.
#[derive(Debug, Clone)]
pub struct InParts {
    reader: EntryReader,
    /// With what there is of the blob so far.
    entry: Entry,
    /// Bytes that come before the blob: a snapshot's control archive.
    skip: usize,
    /// How long the whole blob is.
    bytes: usize,
    data: Vec<u8>,
    /// The next part's place in its sender's chain.
    next_seq: u64,
    /// Read up to here.
    range: (Vec<u8>, Vec<u8>),
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
    /// [`EntryReader::entries`]. Below [`Self::first_position`] is nothing to be read.
    #[must_use]
    pub fn entry_range(after: u64) -> (Vec<u8>, Vec<u8>) {
        mirror::app_entry_range(after)
    }

    /// Lowest position that can be read; above 1 a snapshot stands there for everything before it.
    #[must_use]
    pub fn first_position(&self) -> u64 {
        self.shrinking.first_position()
    }

    /// Storage keys of every envelope kept.
    #[must_use]
    pub fn mirror_range() -> (Vec<u8>, Vec<u8>) {
        mirror::mirror_range()
    }

    /// What opens the rows that are stored now.
    #[must_use]
    pub fn entry_reader(&self) -> EntryReader {
        let (position, seq) = (self.progress.reset_position, self.progress.reset_seq);
        let reset = (position > 0).then_some((position, seq));
        let (base, base_news) = (self.progress.base_position, self.progress.base_news);
        EntryReader { keyring: self.keyring.clone(), me: self.me.device(), reset, base, base_news }
    }
}

impl EntryReader {
    /// The app's entries behind the position `after` in a row from [`Engine::entry_range`].
    #[must_use]
    pub fn entries(&self, row: Row, after: u64) -> StoredEntries {
        StoredEntries { reader: self.clone(), records: Records::of(row), after }
    }

    fn open(&self, record: Record, after: u64) -> Result<Stored, OpenError> {
        match record.for_app {
            ForApp::Batch { first } => {
                self.open_batch(record, first, after).map(|batch| Stored::InParts(Box::new(batch)))
            }
            ForApp::Blob | ForApp::Nothing => self.open_entry(record).map(Stored::Whole),
        }
    }

    fn open_batch(&self, record: Record, first: Place, after: u64) -> Result<InParts, OpenError> {
        let mut entry = self.open_entry(record)?;
        if entry.snapshot {
            entry.news = entry.position != self.base || after < self.base_news;
        }
        let (parts, skip, bytes) = if entry.snapshot {
            let manifest = Manifest::parse(&entry.data).map_err(|_| CORRUPT_BATCH)?;
            (manifest.parts, manifest.archive_bytes, manifest.state_bytes())
        } else {
            let commit = Commit::parse(&entry.data).ok_or(CORRUPT_BATCH)?;
            (commit.parts, 0, commit.bytes)
        };
        let next_seq = entry.seq.checked_sub(parts).ok_or(CORRUPT_BATCH)?;
        let length = |bytes: u64| usize::try_from(bytes).map_err(|_| CORRUPT_BATCH);
        let (skip, bytes) = (length(skip)?, length(bytes)?);
        let (data, range) = (Vec::with_capacity(bytes), mirror::range_from(first));
        Ok(InParts { reader: self.clone(), entry, skip, bytes, data, next_seq, range })
    }

    fn open_entry(&self, record: Record) -> Result<Entry, OpenError> {
        // Authenticated before it was stored; the AEAD shows that it still is what was stored.
        let opened = seal::open(&self.keyring, &record.envelope).map_err(|_| OpenError::Corrupt("entry"))?;
        let blob_id = opened.blob_id();
        let content = opened.into_claims();
        let own = content.sender == self.me;
        let position = record.place.position;
        let behind_reset = self.reset.is_some_and(|(reset, seq)| position >= reset && content.seq <= seq);
        Ok(Entry {
            position,
            cursor: record.cursor,
            blob_id,
            sender: content.sender,
            own,
            news: !own || behind_reset,
            sent_at_ms: content.sent_at_ms,
            lamport: content.lamport,
            seq: content.seq,
            missing_deps: record.missing_deps,
            snapshot: content.kind == Kind::SNAPSHOT,
            data: content.body,
            // A copy, so that an entry which the app keeps does not keep the whole row.
            envelope: Bytes::copy_from_slice(&record.envelope),
        })
    }
}

impl Stored {
    /// Its position.
    #[must_use]
    pub fn position(&self) -> u64 {
        match self {
            Self::Whole(entry) => entry.position,
            Self::InParts(batch) => batch.position(),
        }
    }

    /// Which entry it is.
    #[must_use]
    pub fn blob_id(&self) -> BlobId {
        match self {
            Self::Whole(entry) => entry.blob_id,
            Self::InParts(batch) => batch.blob_id(),
        }
    }

    /// Whether the app's state lacks it.
    #[must_use]
    pub fn is_news(&self) -> bool {
        match self {
            Self::Whole(entry) => entry.news,
            Self::InParts(batch) => batch.is_news(),
        }
    }

    /// The entry, from storage that can be read at once: `read` returns rows from the first key on,
    /// one at least if there is one before the second.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] where storage has lost a part of it.
    pub fn whole(self, mut read: impl FnMut(Vec<u8>, Vec<u8>) -> Vec<Row>) -> Result<Entry, OpenError> {
        match self {
            Self::Whole(entry) => Ok(entry),
            Self::InParts(mut batch) => {
                while let Some((from, to)) = batch.wants() {
                    batch.take(read(from, to))?;
                }
                batch.finish()
            }
        }
    }
}

impl InParts {
    /// Its position.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.entry.position
    }

    /// Which entry it is.
    #[must_use]
    pub fn blob_id(&self) -> BlobId {
        self.entry.blob_id
    }

    /// Whether the app's state lacks it.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.entry.news
    }

    /// Which rows it wants next, some of them at least; nothing once it is whole.
    #[must_use]
    pub fn wants(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        (self.next_seq < self.entry.seq).then(|| self.range.clone())
    }

    /// Takes the next rows, in key order.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] where storage has lost a part of it.
    pub fn take(&mut self, rows: Vec<Row>) -> Result<(), OpenError> {
        let Some(last) = rows.last() else { return Err(CORRUPT_BATCH) };
        self.range.0 = [last.key.as_slice(), &[0]].concat();
        for record in rows.into_iter().flat_map(Records::of) {
            let opened = seal::open(&self.reader.keyring, &record?.envelope).map(seal::Decrypted::into_claims);
            // An epoch, or what another wrote in between.
            let Ok(part) = opened else { continue };
            if part.sender != self.entry.sender || part.seq != self.next_seq || self.wants().is_none() {
                continue;
            }
            let skipped = self.skip.min(part.body.len());
            self.skip -= skipped;
            let body = &part.body[skipped..];
            if part.kind != Kind::PART || body.len() > self.bytes - self.data.len() {
                return Err(CORRUPT_BATCH);
            }
            self.data.extend_from_slice(body);
            self.next_seq += 1;
        }
        Ok(())
    }

    /// The entry.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] if it is not whole.
    pub fn finish(self) -> Result<Entry, OpenError> {
        if self.wants().is_some() || self.data.len() != self.bytes {
            return Err(CORRUPT_BATCH);
        }
        Ok(Entry { data: self.data.into(), ..self.entry })
    }
}

impl Iterator for StoredEntries {
    type Item = Result<Stored, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.records.next()? {
                Ok(record) if record.for_app != ForApp::Nothing && record.place.position > self.after => {
                    return Some(self.reader.open(record, self.after));
                }
                Ok(_) => {}
                Err(damaged) => return Some(Err(damaged)),
            }
        }
    }
}
