//! Locking a home under a passphrase, changing that, and taking it away: while nobody has it open.

use std::path::Path;

use zerok_sync_core::passphrase::Passphrase;

use super::Client;
use crate::error::ClientError;
use crate::home::Home;
use crate::storage::StorageError;

impl Client {
    /// Whether a home opens with a passphrase only.
    ///
    /// # Errors
    /// [`ClientError::Storage`] if there is no group in it, or its key cannot be read.
    pub fn is_locked(home: &Path) -> Result<bool, ClientError> {
        expect_group(home)?;
        Ok(Home::key_file(home).is_locked()?)
    }

    /// Locks a home under `new`, or unlocks it for good without one; `current` opens it if it is
    /// locked. Takes the home for itself meanwhile. After a crash the home opens as before or as
    /// wanted.
    ///
    /// A copy of the home made while it was not locked, or locked under the passphrase before, opens
    /// as it did then: the key under the lock stays the same.
    ///
    /// # Errors
    /// [`ClientError::Storage`]; nothing was changed.
    pub async fn set_passphrase(
        home: impl AsRef<Path>,
        current: Option<Passphrase>,
        new: Option<Passphrase>,
    ) -> Result<(), ClientError> {
        let directory = home.as_ref().to_owned();
        let set = move || {
            expect_group(&directory)?;
            let home = Home::lock(&directory)?;
            let key = home.store_key(false, current.as_ref())?;
            Home::key_file(&directory).write(&key, new.as_ref())
        };
        // Seconds, on a slow machine.
        let set = tokio::task::spawn_blocking(set).await;
        Ok(set.map_err(|_| ClientError::Closed)??)
    }
}

/// Looked for first: a question must not leave a directory or a lock file behind.
fn expect_group(home: &Path) -> Result<(), StorageError> {
    if Home::database_path(home).exists() { Ok(()) } else { Err(StorageError::Missing { path: home.to_owned() }) }
}
