//! Backups: one file that holds a relay's logs as of one moment, taken while the relay runs, and
//! restored into either kind of database.
//!
//! The file appears whole or not at all (mode 0600, fsynced, then renamed), and a restore is one
//! transaction that ends with the file's checksum: half a restore does not exist. Both stream, so
//! memory is bounded by a few records. A restore of anything but the newest state gives the logs
//! fresh [`Timelines`], in the same transaction: clients then compare, and put back what is missing.

mod format;

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};
use zeroize::Zeroizing;

pub use self::format::FormatError;

use self::format::{ArchiveReader, ArchiveWriter};
use crate::store::{Import, Record, Store, StoreError, Timelines};

/// Records that may wait between the database and the file. Each holds an envelope at most.
const RECORDS_WAITING_MAX: usize = 8;
/// Buffer between the archive and the file.
const FILE_BUFFER_BYTES: usize = 256 * 1024;

/// Why there is no backup, or nothing was restored. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system said no.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// A backup would overwrite something.
    #[error("{0} exists: name a new file, a backup never overwrites one")]
    Exists(PathBuf),
    /// The file is not a whole archive.
    #[error("{path} was not restored, {source}", path = path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The store is not empty.
    #[error("the database holds logs already: restore into an empty one, or replace them with --replace")]
    NotEmpty,
    /// A thread ended early.
    #[error("the work was interrupted: try again")]
    Interrupted,
}

impl From<JoinError> for ArchiveError {
    fn from(_: JoinError) -> Self {
        Self::Interrupted
    }
}

/// What an archive holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// When it was taken, in Unix milliseconds.
    pub created_at_ms: u64,
    /// Logs.
    pub groups: u64,
    /// Devices on their allow-lists.
    pub devices: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of the entries' envelopes.
    pub bytes: u64,
    /// The relay's Noise secret, if it was put in.
    pub noise_secret: Option<Zeroizing<[u8; 32]>>,
}

impl Contents {
    fn add(&mut self, record: &Record) {
        match record {
            Record::Head { created_at, noise_secret } => {
                self.created_at_ms = *created_at;
                self.noise_secret =
                    noise_secret.as_ref().and_then(|secret| secret[..].try_into().ok()).map(Zeroizing::new);
            }
            Record::Group { .. } => self.groups += 1,
            Record::Device { .. } => self.devices += 1,
            Record::Entry { envelope, .. } => {
                self.entries += 1;
                self.bytes += envelope.len() as u64;
            }
            Record::Name { .. } | Record::End { .. } => {}
        }
    }
}

/// Writes what the store holds now to a new file. The relay may run meanwhile; a SQLite file is
/// opened with [`crate::store::Sqlite::inspect`] for that. `noise_secret` makes the archive enough
/// to bring the same relay up elsewhere.
///
/// # Errors
/// [`ArchiveError`]; there is no file then.
pub async fn backup(
    store: &dyn Store,
    path: &Path,
    noise_secret: Option<Zeroizing<[u8; 32]>>,
    now_ms: u64,
) -> Result<Contents, ArchiveError> {
    if path.exists() {
        return Err(ArchiveError::Exists(path.to_owned()));
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let (records, waiting) = mpsc::channel(RECORDS_WAITING_MAX);
    let head = Record::Head {
        created_at: now_ms,
        noise_secret: noise_secret.map(|secret| Bytes::copy_from_slice(secret.as_slice())),
    };
    let writing = spawn_blocking({
        let partial = partial.clone();
        move || {
            write(&partial, head, waiting).map_err(|source| ArchiveError::Io { action: "write", path: partial, source })
        }
    });
    let exported = store.export(records).await;
    // The writer's error comes first: that the receiver stopped is what the store sees of it.
    let written = match (writing.await?, exported) {
        (Err(error), _) => Err(error),
        (Ok(_), Err(error)) => Err(error.into()),
        (Ok(written), Ok(())) => Ok(written),
    };
    let finished = match written {
        Ok((archive, contents)) => {
            let (partial, path) = (partial.clone(), path.to_owned());
            spawn_blocking(move || {
                finish(archive, &partial, &path).map(|()| contents).map_err(|source| ArchiveError::Io {
                    action: "write",
                    path,
                    source,
                })
            })
            .await?
        }
        Err(error) => Err(error),
    };
    if finished.is_err() {
        // It may not have been made.
        let _ = std::fs::remove_file(&partial);
    }
    finished
}

/// Reads the archive into an empty store; with `replace`, into one whose logs make room for it. No
/// relay may run on the store. The caller puts the Noise secret where the store keeps it.
///
/// # Errors
/// [`ArchiveError`]; the store is as it was then.
pub async fn restore(
    store: &dyn Store,
    path: &Path,
    replace: bool,
    timelines: Timelines,
) -> Result<Contents, ArchiveError> {
    let (records, waiting) = mpsc::channel(RECORDS_WAITING_MAX);
    let reading = spawn_blocking({
        let path = path.to_owned();
        move || read(&path, Some(&records))
    });
    let imported = store.import(waiting, replace, timelines).await;
    let contents = reading.await?;
    match imported? {
        Import::Done => contents,
        Import::NotEmpty => Err(ArchiveError::NotEmpty),
        Import::Incomplete => Err(contents.err().unwrap_or(ArchiveError::Interrupted)),
    }
}

/// Reads the archive and does nothing with it: what it holds, if it is whole.
///
/// # Errors
/// [`ArchiveError`] if it is not.
pub async fn verify(path: &Path) -> Result<Contents, ArchiveError> {
    let path = path.to_owned();
    spawn_blocking(move || read(&path, None)).await?
}

type Archive = ArchiveWriter<BufWriter<File>>;

/// Everything but the end.
fn write(partial: &Path, head: Record, mut records: mpsc::Receiver<Record>) -> io::Result<(Archive, Contents)> {
    // What an interrupted backup left goes; made anew, so that nobody else's rights to it last.
    match std::fs::remove_file(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut archive = ArchiveWriter::new(BufWriter::with_capacity(FILE_BUFFER_BYTES, options.open(partial)?))?;
    let mut contents = Contents::default();
    let mut next = Some(head);
    while let Some(record) = next {
        contents.add(&record);
        archive.write(&record)?;
        next = records.blocking_recv();
    }
    Ok((archive, contents))
}

fn finish(archive: Archive, partial: &Path, path: &Path) -> io::Result<()> {
    let file = archive.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    publish(partial, path, |partial, path| std::fs::hard_link(partial, path))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Gives the file its name, which nobody else's may have: a link is refused there. Where the file
/// system has no links (FAT, some network shares), the name is taken by an empty file first.
fn publish(partial: &Path, path: &Path, link: impl Fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    match link(partial, path) {
        Ok(()) => return std::fs::remove_file(partial),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path)?;
    std::fs::rename(partial, path).inspect_err(|_| {
        // It is empty, and ours.
        let _ = std::fs::remove_file(path);
    })
}

fn open(path: &Path) -> Result<ArchiveReader<BufReader<File>>, ArchiveError> {
    let file = File::open(path).map_err(|source| ArchiveError::Io { action: "open", path: path.to_owned(), source })?;
    ArchiveReader::new(BufReader::with_capacity(FILE_BUFFER_BYTES, file))
        .map_err(|source| ArchiveError::Format { path: path.to_owned(), source })
}

/// Reads to the end; the rows and the end go to `records`, if somebody wants them.
fn read(path: &Path, records: Option<&mpsc::Sender<Record>>) -> Result<Contents, ArchiveError> {
    let damaged = |source| ArchiveError::Format { path: path.to_owned(), source };
    let mut archive = open(path)?;
    let mut contents = Contents::default();
    loop {
        let record = archive.next().map_err(damaged)?;
        contents.add(&record);
        let ended = matches!(record, Record::End { .. });
        if let Some(records) = records.filter(|_| !matches!(record, Record::Head { .. })) {
            // Whoever takes them has stopped, and says why itself.
            records.blocking_send(record).map_err(|_| ArchiveError::Interrupted)?;
        }
        if ended {
            return Ok(contents);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_links(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    #[test]
    fn where_there_are_no_links_a_backup_gets_its_name_all_the_same_and_overwrites_nothing() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (partial, path) = (dir.path().join("new.partial"), dir.path().join("new"));
        std::fs::write(&partial, "whole").expect("written");

        publish(&partial, &path, no_links).expect("published");

        assert_eq!(std::fs::read(&path).expect("readable"), b"whole");
        assert!(!partial.exists());
        std::fs::write(&partial, "another").expect("written");
        for link in [no_links, |partial: &Path, path: &Path| std::fs::hard_link(partial, path)] {
            let refused = publish(&partial, &path, link).expect_err("the name is taken");
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(std::fs::read(&path).expect("readable"), b"whole");
    }
}
