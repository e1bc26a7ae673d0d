//! Letting another device in: two sans-IO machines that talk through a relay's mailbox.
//!
//! ```text
//!     joiner (initiator)            mailbox            inviter (responder)
//!     with a code only: Ya          ──▶
//!                                   ◀──         Yb                         psk0 of both
//!  1. e            { ek ‖ c }         ──▶                                   c = commitment to r_j
//!  2.                                 ◀──         e, ee, s, es { ct ‖ r_i } h2 = hash now
//!  3. s, se, psk3  { r_j, card, Sig } ──▶                                   c is opened
//!     both compute two digits from h2, r_i and r_j: shown at the joiner, typed at the inviter
//!  4.                                 ◀──         { Granted | Declined | WrongDigits }
//!  5. { Stored | Refused }            ──▶           once its person said yes and it is on disk
//! ```
//!
//! The channel is [`zerok_sync_protocol::channel`]'s pairing channel with a psk0 that both know
//! from the invitation: a link's secret, or what CPace makes of a code's password. Its statics are the two memberships' Noise keys. Invariants:
//! - nothing about the group is sent before the inviter's person typed the right digits, which are
//!   compared here and never shown at the inviter;
//! - each machine takes each message once and in order, and ends at the first that does not fit:
//!   an invitation is good for one attempt;
//! - `c` binds `r_j` before the joiner, or anybody in between who holds a leaked link, can know
//!   `r_i`: so whoever runs two handshakes cannot search for a message 3 that gives both people the
//!   same digits, and is left with one chance in a hundred.

mod cpace;
mod digits;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod grant;
mod inviter_pairing;
mod joiner;
mod joiner_pairing;
mod message;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "vectors"))]
pub(crate) mod vectors;

pub use digits::{Digits, NotDigits};
pub use grant::{GRANT_RELAYS_MAX, GrantMaterial, Granted, GrantedMember, GrantedRelay, HistoryStart, SnapshotRef};
pub use inviter_pairing::{InviterPairing, InviterStep};
pub use joiner::{Joiner, Joining};
pub use joiner_pairing::{JoinerPairing, JoinerStep};

use zerok_sync_protocol::MailboxId;
use zerok_sync_protocol::channel::{ChannelError, Secret32};

use crate::error::JoinError;
use crate::{kdf, label};

/// How the two devices came to share a secret. Part of the prologue, so the two ways cannot be
/// played against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PairingMode {
    /// 32 random bytes from a link or QR code.
    Link = 0,
    /// A PAKE over a short code that a person typed.
    Code = 1,
}

/// `psk0 = HKDF(secret, "0k-sync/1 pair-psk")`, where `secret` is a link's or the PAKE's.
#[must_use]
pub fn pairing_psk(secret: &[u8]) -> Secret32 {
    Secret32::new(*kdf::derive::<32>(&[], secret, &[label::PAIRING_PSK]))
}

/// `lv("0k-sync/1 pair") ‖ lv(mailbox id)`: what a code's exchange is for.
fn pake_channel(mailbox: &MailboxId) -> Vec<u8> {
    let mut channel = Vec::new();
    cpace::lv(&mut channel, label::PAIRING_PROLOGUE);
    cpace::lv(&mut channel, mailbox.as_bytes());
    channel
}

/// `"0k-sync/1 pair" ‖ mode ‖ lv(mailbox id)`. `lv(x)` is x behind its length as an unsigned
/// LEB128, the CPace draft's `prepend_len`: a single byte for both lengths of a mailbox id.
fn prologue(mode: PairingMode, mailbox: &MailboxId) -> Vec<u8> {
    const { assert!(MailboxId::LONG_LEN < 0x80 && MailboxId::SHORT_LEN < 0x80) };
    let id = mailbox.as_bytes();
    [label::PAIRING_PROLOGUE, &[mode as u8, id.len() as u8], id].concat()
}

/// What it means that the two sides do not share a secret.
fn wrong_secret(mode: PairingMode) -> JoinError {
    match mode {
        PairingMode::Link => JoinError::WrongSecret,
        PairingMode::Code => JoinError::WrongCode,
    }
}

/// What a channel error means to the person: bytes that were made under another secret or changed
/// on their way cannot be told apart; anything else no honest device sends.
fn channel_error(mode: PairingMode, error: ChannelError) -> JoinError {
    match error {
        ChannelError::HandshakeRejected { .. } | ChannelError::MessageRejected => wrong_secret(mode),
        ChannelError::HandshakeTooLong { .. } | ChannelError::HandshakeTruncated { .. } => {
            JoinError::Invalid("a handshake message of the wrong length")
        }
        ChannelError::WeakKey | ChannelError::InvalidKemKey => JoinError::Invalid("a key that no device makes"),
        ChannelError::PayloadTooLong { .. } => JoinError::Invalid("more than fits a message"),
        ChannelError::UnsupportedSuite { .. } | ChannelError::UnexpectedPayload { .. } | ChannelError::Poisoned => {
            JoinError::Invalid("a message where none may come")
        }
    }
}
