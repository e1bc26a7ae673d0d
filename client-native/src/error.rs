//! Why a call on a client failed, and what to do next.

use std::path::{Path, PathBuf};

use zerok_sync_core::export::ExportError;
use zerok_sync_core::io::StorageFault;
use zerok_sync_core::{
    CompactError, InviteError, JoinError, MembershipError, OpenError, Problem, PushError, RelaysError, RestoreError,
    WhisperError,
};

use crate::storage::StorageError;

/// What a [`crate::Client`]'s calls fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The home cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The home can be opened, what is in it cannot.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The relay's address is not one.
    #[error("{0:?} is not the address of a relay: give it as https://host or http://host:port")]
    NotARelayAddress(String),
    /// The relay could not be reached or did not take this device in.
    #[error(transparent)]
    Relay(#[from] Problem),
    /// The relay was not reached in time.
    #[error("the relay was not reached in time{}", .0.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default())]
    TimedOut(Option<Problem>),
    /// The invitation does not say enough.
    #[error(transparent)]
    Invite(#[from] InviteError),
    /// Pairing ended without a new device.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The words brought no group back.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// Words did not become good: another device changed what words there are.
    #[error("another device made newer recovery words, or removed these: they are void; make new ones")]
    WordsReplaced,
    /// The blob was not taken.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The whisper was not said.
    #[error(transparent)]
    Whisper(#[from] WhisperError),
    /// No snapshot was made.
    #[error(transparent)]
    Compact(#[from] CompactError),
    /// A change to the group was not begun.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The group's list of relays was not changed.
    #[error(transparent)]
    Relays(#[from] RelaysError),
    /// The relay will not take this blob; it stays in the outbox.
    #[error("the relay refused what was pushed, it stays queued on this device: {0}")]
    PushRefused(Problem),
    /// Local storage failed while running; memory may be ahead of it.
    #[error("{0}; close the client and open it again")]
    StorageFailed(StorageFault),
    /// An export file is not whole, or not the one that was wanted.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A file is there already.
    #[error("{} is there already: name another file, or remove it", path.display())]
    FileExists {
        /// Which.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot use {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The client was closed.
    #[error("this client is closed")]
    Closed,
}

impl ClientError {
    pub(crate) fn file(path: &Path, error: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), error }
    }
}
