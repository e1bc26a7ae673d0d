//! A home in the making: built beside where it will be, and moved there once it is whole. So a home
//! that is there is always a whole one, and a failure leaves nothing.

use std::path::{Path, PathBuf};

use zerok_sync_core::io::{Batch, Row};
use zerok_sync_core::keys::StoreKey;
use zerok_sync_core::passphrase::Passphrase;

use super::error::StorageError;
use super::sqlite::Database;
use crate::home::{Home, sync_directory};

/// See the module.
pub(crate) struct HomeInTheMaking {
    target: PathBuf,
    making: PathBuf,
    home: Home,
    database: Database,
}

impl HomeInTheMaking {
    /// Begins one that is to be at `target`, where nothing may be.
    pub(crate) fn begin(target: &Path) -> Result<Self, StorageError> {
        if Home::database_path(target).exists() {
            return Err(StorageError::Occupied { path: target.to_owned() });
        }
        if std::fs::read_dir(target).is_ok_and(|mut files| files.next().is_some()) {
            return Err(StorageError::io(target, std::io::ErrorKind::DirectoryNotEmpty.into()));
        }
        let mut making = target.as_os_str().to_owned();
        making.push(".importing");
        let making = PathBuf::from(making);
        let home = Home::lock(&making)?;
        // What a crash left of an earlier one.
        home.empty().map_err(|error| StorageError::io(&making, error))?;
        let database = Database::create(&Home::database_path(&making))?;
        Ok(Self { target: target.to_owned(), making, home, database })
    }

    /// Applies a batch.
    pub(crate) fn apply(&mut self, batch: &Batch) -> Result<(), StorageError> {
        Ok(self.database.apply(batch)?)
    }

    /// Rows as they are now.
    pub(crate) fn scan(&self, from: &[u8], to: &[u8]) -> Result<Vec<Row>, StorageError> {
        Ok(self.database.scan(from, to, usize::MAX)?)
    }

    /// Moves it where it is to be.
    pub(crate) fn finish(self, key: &StoreKey, passphrase: Option<&Passphrase>) -> Result<(), StorageError> {
        let Self { target, making, home, database } = self;
        Home::key_file(&making).write(key, passphrase)?;
        // Nothing in it is open when it moves.
        drop((database, home));
        let moved = (|| {
            // An empty directory may have been there; a full one stops this.
            if target.exists() {
                std::fs::remove_dir(&target)?;
            }
            std::fs::rename(&making, &target)?;
            sync_directory(&target)
        })();
        moved.map_err(|error| StorageError::io(&target, error))
    }

    /// Leaves nothing.
    pub(crate) fn abandon(self) {
        let Self { making, home, database, .. } = self;
        drop(database);
        let removed = home.empty().and_then(|()| {
            drop(home);
            std::fs::remove_file(making.join("lock"))?;
            std::fs::remove_dir(&making)
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "could not remove a home in the making");
        }
    }
}
