//! The core's errors as JavaScript gets them: `Failure` in `ts/error.ts`, with codes that never
//! change meaning.

use js_sys::Object;
use wasm_bindgen::prelude::*;
use zerok_sync_core::export::ExportError;
use zerok_sync_core::io::StorageFault;
use zerok_sync_core::passphrase::PassphraseError;
use zerok_sync_core::store_lock::{StoredKeyError, UnlockError};
use zerok_sync_core::{
    CompactError, InviteError, JoinError, MembershipError, OpenError, Problem, PushError, RelaysError, RestoreError,
    WhisperError, WordsError,
};

use crate::convert::object;

/// An error with a stable code.
pub(crate) trait Failure: std::fmt::Display {
    /// One of `ZerokErrorCode`.
    fn code(&self) -> &'static str;

    /// A sentence for people.
    fn message(&self) -> String {
        self.to_string()
    }

    /// The relay's number, if it refused.
    fn relay_code(&self) -> Option<u16> {
        None
    }
}

/// The plain object that TypeScript makes a `ZerokError` of.
pub(crate) fn failure(error: &impl Failure) -> Object {
    let failure = object(&[("code", error.code().into()), ("message", error.message().into())]);
    if let Some(number) = error.relay_code() {
        crate::convert::set(&failure, "relayCode", &number.into());
    }
    failure
}

/// The same, to be thrown.
pub(crate) fn thrown(error: &impl Failure) -> JsValue {
    failure(error).into()
}

/// A locked database was opened without a passphrase.
#[derive(Debug)]
pub(crate) struct PassphraseNeeded;

impl std::fmt::Display for PassphraseNeeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the local database is locked: ask for its passphrase, and open it with that")
    }
}

impl Failure for PassphraseNeeded {
    fn code(&self) -> &'static str {
        "passphrase_needed"
    }
}

/// An argument that the caller got wrong.
#[derive(Debug)]
pub(crate) struct InvalidArgument(pub(crate) &'static str);

impl std::fmt::Display for InvalidArgument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Failure for InvalidArgument {
    fn code(&self) -> &'static str {
        "invalid_argument"
    }
}

impl Failure for InviteError {
    fn code(&self) -> &'static str {
        match self {
            Self::Link(_) => "invalid_link",
            Self::Code(_) => "invalid_code",
            Self::RelayNeeded | Self::NotARelayAddress(_) => "invalid_argument",
        }
    }
}

impl Failure for StorageFault {
    fn code(&self) -> &'static str {
        match self {
            Self::Full(_) => "storage_full",
            Self::Failed(_) => "storage_failed",
        }
    }

    fn message(&self) -> String {
        // This package's storage made it, as a whole sentence.
        match self {
            Self::Full(sentence) | Self::Failed(sentence) => sentence.clone(),
        }
    }
}

impl Failure for OpenError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoGroup => "no_group",
            Self::Corrupt(_) => "corrupt",
            Self::Newer { .. } => "newer_database",
        }
    }
}

impl Failure for StoredKeyError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotAKey { .. } | Self::Cost(_) => "corrupt",
            Self::Newer => "newer_database",
        }
    }

    fn message(&self) -> String {
        format!("the local database's key cannot be used: {self}; nothing was overwritten")
    }
}

impl Failure for UnlockError {
    fn code(&self) -> &'static str {
        match self {
            Self::WrongPassphrase => "wrong_passphrase",
            Self::Damaged => "corrupt",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::WrongPassphrase => "wrong passphrase: the local database stays locked".into(),
            Self::Damaged => "the local database's key is damaged; nothing was overwritten".into(),
        }
    }
}

impl Failure for ExportError {
    fn code(&self) -> &'static str {
        match self {
            Self::WrongPassphrase => "wrong_passphrase",
            _ => "invalid_export",
        }
    }
}

impl Failure for PassphraseError {
    fn code(&self) -> &'static str {
        "invalid_argument"
    }
}

impl Failure for PushError {
    fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Stopped => "stopped",
            Self::Left => "left",
        }
    }
}

impl Failure for WhisperError {
    fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::NotConnected => "not_connected",
            Self::TooOften => "too_often",
        }
    }
}

impl Failure for CompactError {
    fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } | Self::TooMuchHistory => "too_large",
            Self::NotProcessed { .. } => "not_processed",
            Self::NotCaughtUp => "not_caught_up",
            Self::UnderWay => "busy",
            Self::Membership(error) => error.code(),
        }
    }
}

impl Failure for MembershipError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSuchDevice(_) => "no_such_device",
            Self::Ambiguous { .. } => "ambiguous_device",
            Self::OwnDevice => "own_device",
            Self::LastDevice => "last_device",
            Self::NothingToApprove => "nothing_to_approve",
            Self::NotAlone => "not_alone",
            Self::NotAName => "invalid_argument",
            Self::GroupFull => "group_full",
            Self::WordsUnderWay => "busy",
            Self::WordsUsed => "words_used",
            Self::NotYet | Self::RelayUnread { .. } => "not_yet",
            Self::Left => "left",
            Self::NotNeeded => "not_needed",
            Self::Stopped => "stopped",
        }
    }
}

impl Failure for RelaysError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotAnAddress(_) => "invalid_argument",
            Self::KeyNeeded(_) => "relay_key_needed",
            Self::Listed(_) => "relay_listed",
            Self::NotListed(_) => "relay_not_listed",
            Self::TooMany(_) => "too_many_relays",
            Self::LastRelay => "last_relay",
            Self::Membership(error) => error.code(),
        }
    }
}

impl Failure for WordsError {
    fn code(&self) -> &'static str {
        "invalid_words"
    }
}

impl Failure for RestoreError {
    fn code(&self) -> &'static str {
        match self {
            Self::UnknownWords { .. } => "unknown_words",
            Self::AnchorLost => "anchor_lost",
            Self::NotYourGroup => "not_your_group",
            Self::OlderState => "older_state",
            Self::NotTheLog | Self::LogIncomplete => "log_incomplete",
            Self::KeysChanged => "keys_changed",
            Self::Relay(problem) => problem.code(),
            Self::Cancelled => "cancelled",
            _ => "internal",
        }
    }

    fn relay_code(&self) -> Option<u16> {
        match self {
            Self::Relay(problem) => problem.relay_code(),
            _ => None,
        }
    }
}

impl Failure for Problem {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::RelayKeyChanged { .. } => "relay_key_changed",
            Self::RelayKeyNeeded { .. } => "relay_key_needed",
            Self::NotARelay(_) => "not_a_relay",
            Self::UnsupportedVersion(_) => "unsupported_version",
            Self::Refused { .. } => "refused",
            Self::EpochNotOpened => "epoch_not_opened",
            Self::Revoked => "revoked",
            Self::Left => "left",
            Self::NeedsApproval => "needs_approval",
            Self::UpdateNeeded => "update_needed",
            Self::SnapshotUnusable => "snapshot_unusable",
            Self::SnapshotAwaited => "snapshot_awaited",
            Self::ProtocolViolation(_) => "protocol_violation",
            // The core may learn of more before this crate does.
            _ => "internal",
        }
    }

    fn relay_code(&self) -> Option<u16> {
        match self {
            Self::Refused { number, .. } => Some(*number),
            _ => None,
        }
    }
}

impl Failure for JoinError {
    fn code(&self) -> &'static str {
        match self {
            Self::InviteGone => "invite_gone",
            Self::WrongSecret | Self::WrongCode => "wrong_secret",
            Self::NoSuchCode { .. } => "invite_gone",
            Self::Declined => "declined",
            Self::WrongDigits => "wrong_digits",
            Self::Refused => "refused_by_joiner",
            Self::PeerLeft => "peer_left",
            Self::Unconfirmed => "unconfirmed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Invalid(_) => "invalid_peer",
            Self::Relay(problem) => problem.code(),
            Self::AlreadyInGroup => "already_in_group",
            Self::OnlyInSnapshot => "only_in_snapshot",
            _ => "internal",
        }
    }

    fn relay_code(&self) -> Option<u16> {
        match self {
            Self::Relay(problem) => problem.relay_code(),
            _ => None,
        }
    }
}
