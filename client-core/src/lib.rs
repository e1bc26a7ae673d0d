//! The 0k-Sync client without any I/O: sealing, chains, groups, pairing and the sync engine.
//!
//! Bytes, time and randomness go in; bytes, storage batches and events come out. The same code runs
//! in a browser and in a desktop process; [`io`] is the contract with whoever drives it.
//!
//! Three machines are driven: a [`Joiner`] from a link or code to a stored membership, a [`Restorer`] from
//! recovery words to one, and an [`Engine`] for the rest of its life. Below them, bottom up: [`keys`], [`seal`] and [`epoch`] (cryptography as
//! composed by the protocol), [`content`] and [`observed`] (what entries say), [`statement`] (what is said
//! outside the log), [`certificate`] and
//! [`genesis`] (who may write), [`pairing`], [`link`] and [`code`] (how somebody new comes in),
//! [`recovery`] (how somebody who lost everything comes back).
//!
//! "Decrypted" and "authenticated" are different types: only a [`seal::Authenticated`] entry, whose
//! signature was checked or which a signed successor vouches for, ever reaches the app.

pub mod certificate;
pub mod code;
pub mod content;
pub mod engine;
pub mod epoch;
pub mod error;
pub mod event;
pub mod export;
#[cfg(any(test, feature = "fuzzing", feature = "vectors"))]
mod fixtures;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod genesis;
pub mod id;
pub mod invite;
pub mod io;
mod kdf;
pub mod keyring;
pub mod keys;
pub mod label;
pub mod link;
pub mod observed;
mod one_by_one;
mod origin;
mod pad;
pub mod pairing;
pub mod passphrase;
pub mod recovery;
pub mod relay_link;
pub mod seal;
pub mod snapshot;
pub mod statement;
pub mod store_lock;
pub mod store_seal;
#[cfg(any(test, feature = "vectors"))]
pub mod vectors;

pub use code::PairingCode;
pub use engine::{
    Audit, AuditReport, AuditedSender, Backoff, Connection, Engine, Entry, EntryReader, FormerEntry, FormerGroup,
    Founding, GrantedDevice, Hole, InParts, Member, MirrorPolicy, PUSH_BYTES_MAX, RelayStatus, STALE_AFTER_MS, Secrets,
    SnapshotStatus, Status, Stored, StoredEntries,
};
pub use error::{CompactError, JoinError, MembershipError, OpenError, Problem, PushError, RelaysError, WhisperError};
pub use event::{Event, IntegrityEvent};
pub use invite::{Invite, InviteError, InviteKind};
pub use io::{Input, Machine, Now, Output};
pub use link::InviteLink;
pub use pairing::{Digits, Joiner, Joining};
pub use recovery::Recovery;
pub use recovery::restorer::{RestoreError, Restorer, Restoring};
pub use recovery::sheet::RecoverySheet;
pub use recovery::typing::TypedWord;
pub use recovery::words::{LikelySlip, RecoveryDraft, RecoveryWords, UnknownWord, WordsError};
