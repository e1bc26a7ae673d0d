//! Export files: writing one from an open client, reading one as an archive, and putting a device
//! back from one (`docs/EXPORT.md`).
//!
//! A file is written under another name and renamed, a home is built beside its place and moved
//! there: neither is ever there in part. Memory is bounded by a page, however long the log.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use zerok_sync_core::export::record::{ExportedGroup, Record};
use zerok_sync_core::export::{
    Archive as OpenArchive, EXPORT_RANDOM_BYTES, ExportError, Exporter, Exporting, Reader, Restoring,
};
use zerok_sync_core::keys::StoreKey;
use zerok_sync_core::passphrase::{Cost, Passphrase};
use zerok_sync_core::{Engine, Entry};

use super::Client;
use super::open::secrets;
use crate::clock::Clock;
use crate::error::ClientError;
use crate::home::{private_file, sync_directory};
use crate::storage::{HomeInTheMaking, Snapshot, StorageError};

/// Rows that are read and sealed at a time.
const PAGE_BYTES: usize = 1024 * 1024;
/// Bytes of a file that are read at a time.
const READ_BYTES: usize = 256 * 1024;

/// How to write an export file.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// What the file is sealed under.
    pub passphrase: Passphrase,
    /// Whether the file can become this device again, and whoever has it and the passphrase, too.
    pub identity: bool,
}

/// How to put a device back.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// The export file.
    pub file: PathBuf,
    /// What it was sealed under.
    pub file_passphrase: Passphrase,
    /// Directory of the membership; nothing may be there.
    pub home: PathBuf,
    /// Locks the home from its first moment.
    pub passphrase: Option<Passphrase>,
}

/// What a client needs to read its database beside the task that owns it.
pub(super) struct Kept {
    pub(super) database: PathBuf,
    pub(super) store_key: StoreKey,
}

/// The entries in an export file. Reading blocks.
pub struct Archive {
    records: Records,
    archive: OpenArchive,
}

impl Client {
    /// Writes the group with all entries that are stored here into a new file: as they are at one
    /// moment, while this client goes on. Returns how many envelopes are in it.
    ///
    /// # Errors
    /// [`ClientError::FileExists`] rather than overwriting; [`ClientError::File`],
    /// [`ClientError::Storage`], [`ClientError::Open`]: there is no file then.
    pub async fn export(&self, file: impl AsRef<Path>, options: ExportOptions) -> Result<u64, ClientError> {
        let (kept, file) = (self.kept.clone(), file.as_ref().to_owned());
        blocking(move || write_file(&kept, &file, options)).await
    }

    /// Makes a home of an export file that holds an identity: the device as it was when the file was
    /// written. If it wrote more since, it finds that in the log before it writes again, and only
    /// reads from then on. Returns how many envelopes it has.
    ///
    /// # Errors
    /// [`ClientError::Export`] if the file is not whole or holds no identity, [`ClientError::File`],
    /// [`ClientError::Storage`]: there is no home then.
    pub async fn import(options: ImportOptions) -> Result<u64, ClientError> {
        blocking(move || put_back(&options)).await
    }
}

impl Archive {
    /// Opens a file and reads it to its end once, so that nothing of one that is damaged or cut off is
    /// shown.
    ///
    /// # Errors
    /// [`ClientError::Export`], [`ClientError::File`].
    pub fn open(file: impl AsRef<Path>, passphrase: &Passphrase) -> Result<Self, ClientError> {
        let mut whole = Records::open(file.as_ref(), passphrase)?;
        whole.group()?;
        while whole.next()?.is_some() {}
        let mut records = Records::open(file.as_ref(), passphrase)?;
        let archive = OpenArchive::new(records.group()?)?;
        Ok(Self { records, archive })
    }

    /// Whose entries these are.
    #[must_use]
    pub fn group(&self) -> &ExportedGroup {
        self.archive.group()
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, ClientError> {
        while let Some(record) = self.records.next()? {
            if let Record::Entry { entry } = record
                && let Some(entry) = self.archive.entry(&entry)?
            {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

/// The app's entries, in the order of that device's positions.
impl Iterator for Archive {
    type Item = Result<Entry, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ClientError::Closed)?
}

fn write_file(kept: &Kept, path: &Path, options: ExportOptions) -> Result<u64, ClientError> {
    if path.exists() {
        return Err(ClientError::FileExists { path: path.to_owned() });
    }
    let mut random = [0; EXPORT_RANDOM_BYTES];
    let mut name = [0; 4];
    for bytes in [&mut random[..], &mut name[..]] {
        getrandom::fill(bytes).map_err(|error| StorageError::NoRandomness(error.to_string()))?;
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}.part", hex::encode(name)));
    let unfinished = PathBuf::from(unfinished);
    let exporting =
        Exporting { passphrase: options.passphrase, cost: Cost::Native, random, identity: options.identity };
    let written = write_whole(kept, &unfinished, &exporting).and_then(|entries| {
        let moved = std::fs::rename(&unfinished, path).and_then(|()| sync_directory(path));
        moved.map(|()| entries).map_err(|error| ClientError::file(path, error))
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    written
}

fn write_whole(kept: &Kept, path: &Path, exporting: &Exporting) -> Result<u64, ClientError> {
    let file_error = |error| ClientError::file(path, error);
    let database = Snapshot::take(&kept.database)?;
    let hot = database.scan(Engine::HOT_FROM, Engine::HOT_TO, usize::MAX)?;
    let mut file = private_file(path).map_err(file_error)?;
    let mut sealed = Vec::with_capacity(2 * PAGE_BYTES);
    let mut exporter = Exporter::start(Clock::start().now(), &kept.store_key, hot, exporting, &mut sealed)?;
    let (mut from, to) = Exporter::range();
    loop {
        let rows = database.scan(&from, &to, PAGE_BYTES)?;
        let Some(last) = rows.last() else { break };
        // The key behind it.
        from = [last.key.as_slice(), &[0]].concat();
        for row in rows {
            exporter.row(row, &mut sealed)?;
        }
        file.write_all(&sealed).map_err(file_error)?;
        sealed.clear();
    }
    let entries = exporter.finish(&mut sealed);
    file.write_all(&sealed).map_err(file_error)?;
    file.sync_all().map_err(file_error)?;
    Ok(entries)
}

fn put_back(options: &ImportOptions) -> Result<u64, ClientError> {
    let mut records = Records::open(&options.file, &options.file_passphrase)?;
    let mut restoring = Restoring::new(&records.group()?)?;
    let mut home = HomeInTheMaking::begin(&options.home)?;
    let filled = (|| {
        let mut entries = 0;
        while let Some(record) = records.next()? {
            entries += u64::from(matches!(record, Record::Entry { .. }));
            if let Some(batch) = restoring.record(record)? {
                home.apply(&batch)?;
            }
        }
        let store_key = restoring.store_key().clone();
        home.apply(&restoring.finish())?;
        let hot = home.scan(Engine::HOT_FROM, Engine::HOT_TO)?;
        Engine::open(Clock::start().now(), secrets(store_key.clone())?, hot)?;
        Ok((entries, store_key))
    })();
    match filled {
        Ok((entries, store_key)) => {
            home.finish(&store_key, options.passphrase.as_ref())?;
            Ok(entries)
        }
        Err(error) => {
            home.abandon();
            Err(error)
        }
    }
}

/// The records of a file.
struct Records {
    path: PathBuf,
    file: File,
    reader: Reader,
    buffer: Vec<u8>,
    ended: bool,
}

impl Records {
    fn open(path: &Path, passphrase: &Passphrase) -> Result<Self, ClientError> {
        let file = File::open(path).map_err(|error| ClientError::file(path, error))?;
        let reader = Reader::new(passphrase.clone());
        Ok(Self { path: path.to_owned(), file, reader, buffer: vec![0; READ_BYTES], ended: false })
    }

    /// The first record.
    fn group(&mut self) -> Result<ExportedGroup, ClientError> {
        match self.next()? {
            Some(Record::Group { group }) => Ok(group),
            _ => Err(ExportError::Malformed("no group").into()),
        }
    }

    /// The next record; nothing behind the last of a whole file.
    fn next(&mut self) -> Result<Option<Record>, ClientError> {
        loop {
            if let Some(record) = self.reader.record()? {
                return Ok(Some(record));
            }
            if self.ended {
                return Ok(None);
            }
            match self.file.read(&mut self.buffer).map_err(|error| ClientError::file(&self.path, error))? {
                0 => {
                    self.reader.end()?;
                    self.ended = true;
                }
                count => self.reader.feed(&self.buffer[..count])?,
            }
        }
    }
}
