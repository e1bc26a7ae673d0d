//! Why local state cannot be opened. In none of these cases was anything overwritten.

use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// There is no database in this home.
    #[error("there is no group in {}: create one with `init` or join one with `join`", path.display())]
    Missing {
        /// The home.
        path: PathBuf,
    },
    /// The home has a database, but a new group was to be put there.
    #[error("{} already holds a group: use another home for another group", path.display())]
    Occupied {
        /// The home.
        path: PathBuf,
    },
    /// A restore ended while the log was read, so nothing vouches for what is there.
    #[error(
        "a restore into {} was cut off before the log was read, and nothing was written from there: `recovery restore` begins it again; to put something else there, remove that directory first",
        path.display()
    )]
    HalfRestored {
        /// The home.
        path: PathBuf,
    },
    /// The file is not a sound database of ours.
    #[error(
        "the local database {} is damaged ({detail}): it was not overwritten; restore it from a backup, or join again in a new home",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Written by a newer version of this software.
    #[error("{} was written by a newer version (format {found}, this one knows {known}): update", path.display())]
    Newer {
        /// Its format.
        found: i32,
        /// The newest known here.
        known: i32,
        /// The file.
        path: PathBuf,
    },
    /// The file system cannot give what `synchronous=FULL` needs.
    #[error("{} is on a file system on which SQLite cannot keep a write-ahead log: move the home to a local disk", path.display())]
    NotDurable {
        /// The file.
        path: PathBuf,
    },
    /// Another process has this home open.
    #[error("the home {} is in use by {}: stop that process first", path.display(), holder(*.pid))]
    InUse {
        /// The home.
        path: PathBuf,
        /// The process that holds it, if it could be read.
        pid: Option<u32>,
    },
    /// Another program holds a lock on the database itself.
    #[error("another program has {} locked: close it and try again", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The database is there, the key that its secrets are sealed under is not.
    #[error(
        "{} is missing although there is a database beside it: restore it from a backup, or join again in a new home; nothing was overwritten",
        path.display()
    )]
    KeyMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The key file is not a key.
    #[error(
        "{} is damaged ({length} bytes instead of 32): restore it from a backup, or join again in a new home; nothing was overwritten",
        path.display()
    )]
    KeyDamaged {
        /// Which file.
        path: PathBuf,
        /// Its length.
        length: u64,
    },
    /// The key file was written by a newer version, or tampered with.
    #[error("{} cannot be used: {why}; nothing was overwritten", path.display())]
    KeyRefused {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The home is locked and no passphrase was given.
    #[error("{} is locked: its passphrase is needed", path.display())]
    PassphraseNeeded {
        /// The home.
        path: PathBuf,
    },
    /// The home is locked under another passphrase.
    #[error("wrong passphrase: {} stays locked", path.display())]
    WrongPassphrase {
        /// The home.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot use {}: {error}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
    /// SQLite refused.
    #[error("cannot use {}: {detail}", path.display())]
    Sqlite {
        /// Which file.
        path: PathBuf,
        /// What it said.
        detail: String,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gave no random bytes: {0}")]
    NoRandomness(String),
    /// Storage worked and then failed.
    #[error(transparent)]
    Fault(#[from] zerok_sync_core::io::StorageFault),
}

impl StorageError {
    pub(crate) fn io(path: &Path, error: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }

    pub(super) fn from_sqlite(path: &Path, error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseCorrupt, DatabaseLocked, NotADatabase};
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => Self::Locked { path },
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged { path, detail: error.to_string() },
            _ => Self::Sqlite { path, detail: error.to_string() },
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}
