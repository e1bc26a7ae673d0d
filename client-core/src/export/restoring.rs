//! From an export file with an identity back to a local database.

use super::ExportError;
use super::record::{ExportedEntry, ExportedGroup, Record};
use crate::engine::mirror::{self, ForApp, MirrorWriter, Place};
use crate::engine::rows;
use crate::io::{Batch, Row};
use crate::keys::StoreKey;

/// Rows that are gathered before they are handed over.
const BATCH_BYTES: usize = 1024 * 1024;

/// A device being put back: hand over every record behind the first, apply each batch to an empty
/// storage, and the last one of [`Restoring::finish`] once the file has proved whole. Without that
/// last one the storage holds no group.
///
/// What comes of it is the device as it was when the file was written. If it wrote more since, the
/// log shows that before it writes again, and it only reads from then on.
#[derive(Debug)]
pub struct Restoring {
    store_key: StoreKey,
    mirror: MirrorWriter,
    mirror_bytes: usize,
    batch: Batch,
    batch_bytes: usize,
    /// What makes a storage a member's: last.
    hot: Batch,
}

impl Restoring {
    /// Of the file with this first record.
    ///
    /// # Errors
    /// [`ExportError::NoIdentity`].
    pub fn new(group: &ExportedGroup) -> Result<Self, ExportError> {
        let store_key = group.identity.clone().ok_or(ExportError::NoIdentity)?;
        Ok(Self {
            store_key,
            mirror: MirrorWriter::default(),
            mirror_bytes: 0,
            batch: Batch::default(),
            batch_bytes: 0,
            hot: Batch::default(),
        })
    }

    /// The key of the storage.
    #[must_use]
    pub const fn store_key(&self) -> &StoreKey {
        &self.store_key
    }

    /// Takes a record; a batch, once there is enough for one.
    ///
    /// # Errors
    /// [`ExportError::Malformed`].
    pub fn record(&mut self, record: Record) -> Result<Option<Batch>, ExportError> {
        match record {
            Record::Entry { entry } => {
                self.mirror_bytes += entry.envelope.len();
                self.mirror.append(&entry.into_record());
            }
            Record::Row { key, value } => {
                if !rows::is_row(&key) || mirror::is_segment(&key) {
                    return Err(ExportError::Malformed("a row of no table"));
                }
                if rows::is_hot(&key) {
                    self.hot.put(key.into(), value.into());
                } else {
                    self.batch_bytes += value.len();
                    self.batch.put(key.into(), value.into());
                }
            }
            Record::Group { .. } | Record::End { .. } => {}
        }
        Ok((self.mirror_bytes + self.batch_bytes >= BATCH_BYTES).then(|| self.gathered()))
    }

    /// What is left, with what makes the storage a member's.
    #[must_use]
    pub fn finish(mut self) -> Batch {
        let mut batch = self.gathered();
        batch.changes.append(&mut self.hot.changes);
        batch
    }

    fn gathered(&mut self) -> Batch {
        let mut batch = std::mem::take(&mut self.batch);
        for Row { key, value } in self.mirror.take() {
            batch.put(key, value);
        }
        (self.mirror_bytes, self.batch_bytes) = (0, 0);
        batch
    }
}

impl ExportedEntry {
    fn into_record(self) -> mirror::Record {
        mirror::Record {
            place: Place { position: self.position, ordinal: self.ordinal },
            for_app: match self.parts_from {
                Some((position, ordinal)) => ForApp::Batch { first: Place { position, ordinal } },
                None if self.for_app => ForApp::Blob,
                None => ForApp::Nothing,
            },
            missing_deps: self.missing_deps,
            timeline: self.timeline,
            cursor: self.cursor,
            observed: self.observed,
            envelope: self.envelope,
        }
    }
}
