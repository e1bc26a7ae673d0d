//! 0k-Sync for desktop and server applications: keeps the instances of a local-first app in step
//! across a person's devices, through a relay that nobody has to trust.
//!
//! The app pushes opaque blobs and reads those of its other devices; everything is sealed end to
//! end. Merging them (CRDTs, last-writer-wins, SQL) is the app's business.
//!
//! ```no_run
//! use futures_util::StreamExt;
//! use zerok_sync::{Client, OpenOptions};
//!
//! # async fn example() -> Result<(), zerok_sync::ClientError> {
//! let client = Client::open(OpenOptions::new("notes.zerok")).await?;
//! client.push("buy milk").await?; // on disk here; sent as soon as the relay can be reached
//! let mut entries = client.entries(); // the other devices' blobs, live
//! while let Some(entry) = entries.next().await.transpose()? {
//!     println!("{}: {:?}", entry.sender, entry.data);
//!     client.mark_processed(entry.position).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A home comes into being with [`Client::found`] (the first device) or [`Client::join`] (every
//! other one, with a link or a code from [`Client::invite`]), or with [`Client::restore`] when every
//! device is lost and the words of [`Client::create_recovery`] are not; the `zerok` command line does the same.
//!
//! This crate holds drivers only: sockets, files and timers around `zerok-sync-core`, which decides
//! everything. Inside out: `driver` (the loop), `link` (WebSocket and iroh), `storage` (SQLite),
//! `client` (this API).

mod client;
mod clock;
mod device_name;
mod driver;
mod error;
mod home;
mod key_file;
mod link;
mod storage;

pub use client::{
    Archive, Client, Entries, EntriesOptions, ExportOptions, FoundOptions, GroupOffered, ImportOptions, Invitation,
    InviteEvent, InviteOptions, JoinEvent, JoinOptions, Joining, OpenOptions, PushReceipt, RelayOptions,
    RestoreOptions, Whisper, Whispers,
};
pub use device_name::default_device_name;
pub use error::ClientError;
pub use link::{ParseTransportError, Transport};
pub use storage::StorageError;
pub use zerok_sync_core::export::ExportError;
pub use zerok_sync_core::export::record::{ExportedGroup, ExportedMember, ExportedRelay};
pub use zerok_sync_core::id::DeviceId;
pub use zerok_sync_core::io::{RelayAddress, StorageFault};
pub use zerok_sync_core::link::LinkError;
pub use zerok_sync_core::passphrase::{Passphrase, PassphraseError};
pub use zerok_sync_core::recovery::words::WORDS_TEXT_BYTES_MAX as RECOVERY_TEXT_BYTES_MAX;
pub use zerok_sync_core::statement::WHISPER_BODY_BYTES_MAX;
pub use zerok_sync_core::{
    AuditReport, AuditedSender, CompactError, Connection, Digits, Entry, GrantedDevice, Hole, IntegrityEvent, Invite,
    InviteError, InviteKind, InviteLink, JoinError, LikelySlip, Member, MembershipError, MirrorPolicy, OpenError,
    PUSH_BYTES_MAX, PairingCode, Problem, PushError, Recovery, RecoveryDraft, RecoverySheet, RecoveryWords,
    RelayStatus, RelaysError, RestoreError, Status, UnknownWord, WhisperError, WordsError,
};
pub use zerok_sync_protocol::{BlobId, ErrorCode, NoisePublicKey};

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
