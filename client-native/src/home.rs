//! A home: the directory that holds one membership.
//!
//! ```text
//! lock        held by the one process that has the home open; names it
//! store.key   32 random bytes that seal the secrets in the database, bare or locked (`key_file`)
//! state.db    the database
//! ```
//!
//! Everything in it is readable by its owner only. The key is on disk before the database exists,
//! so a database without its key was tampered with and is never given a new one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zerok_sync_core::keys::StoreKey;
use zerok_sync_core::passphrase::Passphrase;

use crate::key_file::KeyFile;
use crate::storage::StorageError;

/// How long to wait for another process that is about to finish.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How often to look again meanwhile; a lock released is noticed by nobody else.
const LOCK_RETRY: Duration = Duration::from_millis(25);

/// A locked home directory. Another process can open it once this is dropped.
pub(crate) struct Home {
    directory: PathBuf,
    directory_is_new: bool,
    _lock: File,
}

impl Home {
    /// Creates the directory if need be and locks it. Blocks up to five seconds.
    pub(crate) fn lock(directory: &Path) -> Result<Self, StorageError> {
        let directory_is_new = create_private_directory(directory).map_err(|e| StorageError::io(directory, e))?;
        let lock = wait_for_lock(directory)?;
        Ok(Self { directory: directory.to_owned(), directory_is_new, _lock: lock })
    }

    /// Where the database is or will be.
    pub(crate) fn database_path(directory: &Path) -> PathBuf {
        directory.join("state.db")
    }

    /// The file with the store key.
    pub(crate) fn key_file(directory: &Path) -> KeyFile {
        KeyFile::at(directory.join("store.key"))
    }

    /// Reads the store key, with the passphrase if it is locked; with `create`, makes it if neither
    /// it nor a database exists, locked if there is a passphrase.
    pub(crate) fn store_key(&self, create: bool, passphrase: Option<&Passphrase>) -> Result<StoreKey, StorageError> {
        let file = Self::key_file(&self.directory);
        let fresh = create && !Self::database_path(&self.directory).exists();
        match file.read(passphrase) {
            Err(StorageError::KeyMissing { .. }) if fresh => file.create(passphrase),
            // Left by something that was cut off before there was a database, and wanted no lock perhaps.
            Ok(key) if fresh && passphrase.is_some() => file.write(&key, passphrase).map(|()| key),
            other => other,
        }
    }

    /// Removes what a home holds, except its lock. Only called while it is known to hold no group.
    pub(crate) fn empty(&self) -> io::Result<()> {
        for name in ["state.db", "state.db-wal", "state.db-shm", "state.db.new", "store.key", "store.key.new"] {
            match std::fs::remove_file(self.directory.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes back a home in which no group came to be: what was created since [`Self::lock`].
    ///
    /// Only called while the home is locked and known to hold no group.
    pub(crate) fn abandon(self) -> io::Result<()> {
        self.empty()?;
        std::fs::remove_file(self.directory.join("lock"))?;
        if self.directory_is_new { std::fs::remove_dir(&self.directory) } else { Ok(()) }
    }
}

fn wait_for_lock(directory: &Path) -> Result<File, StorageError> {
    let path = directory.join("lock");
    let io_error = |error| StorageError::io(&path, error);
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        private(&mut options);
        let mut file = options.open(&path).map_err(io_error)?;
        match file.try_lock() {
            // An abandoned home takes its lock file along: a lock on a removed file locks nothing.
            Ok(()) if is_same_file(&file, &path) => {
                file.set_len(0).map_err(io_error)?;
                write!(file, "{}", std::process::id()).map_err(io_error)?;
                return Ok(file);
            }
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let mut holder = String::new();
                let _unreadable_on_windows = file.take(16).read_to_string(&mut holder);
                return Err(StorageError::InUse { path: directory.to_owned(), pid: holder.trim().parse().ok() });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::Error(error)) => return Err(io_error(error)),
        }
    }
}

/// Writes a file that is there whole or not at all.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    create_private_file(&unfinished, content)?;
    std::fs::rename(&unfinished, path)?;
    sync_directory(path)
}

/// Creates a file that only its owner can read, with its content on disk.
pub(crate) fn create_private_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = private_file(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Creates a file that only its owner can read, where there is none.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    private(&mut options);
    options.open(path)
}

/// Makes a rename or creation in the file's directory durable.
pub(crate) fn sync_directory(file: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(directory) = file.parent() {
        return File::open(if directory.as_os_str().is_empty() { Path::new(".") } else { directory })?.sync_all();
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
}

#[cfg(not(unix))]
fn private(_options: &mut OpenOptions) {}

/// Takes the group's and others' permissions away, should a copy or restore have given them.
#[cfg(unix)]
pub(crate) fn restrict_to_owner(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if std::fs::metadata(path)?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
pub(crate) fn restrict_to_owner(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |meta: &std::fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata(), std::fs::metadata(path)), (Ok(a), Ok(b)) if identity(&a) == identity(&b))
}

#[cfg(not(unix))]
fn is_same_file(_file: &File, _path: &Path) -> bool {
    true
}

/// Creates a directory (0700) and its parents; says whether it was not there before.
fn create_private_directory(path: &Path) -> io::Result<bool> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    #[allow(unused_mut, reason = "only Unix has a mode to set")]
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}
