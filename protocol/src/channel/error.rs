//! Why a channel did not come about, or ended.

use crate::limits::{HANDSHAKE_MESSAGE_BYTES_MAX, NOISE_PLAINTEXT_BYTES_MAX, SUITE};

/// Who is at fault, as far as this side can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The peer runs something else, or something broken, or attacks.
    Peer,
    /// The peer, or anything between it and us: unauthenticated bytes cannot tell.
    PeerOrPath,
    /// This side's code or its caller.
    Local,
}

/// Why a channel did not come about, or ended. None can be retried on the same link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The peer's first byte names another channel construction. Close with
    /// [`crate::close::UNSUPPORTED_VERSION`].
    #[error("the peer speaks channel suite {theirs}, this side {SUITE}: update the older of the two")]
    UnsupportedSuite {
        /// The suite byte that came.
        theirs: u8,
    },
    /// A handshake message over [`HANDSHAKE_MESSAGE_BYTES_MAX`]; none of it was processed.
    #[error(
        "a handshake message of {bytes} bytes is longer than the {HANDSHAKE_MESSAGE_BYTES_MAX} allowed: \
         check that the address is a 0k-Sync relay"
    )]
    HandshakeTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A handshake message is shorter than its fixed parts, or than the KEM part in it.
    #[error("handshake message {message} is cut off: check that the address is a 0k-Sync relay")]
    HandshakeTruncated {
        /// 1, 2 or 3.
        message: u8,
    },
    /// A handshake message does not authenticate. In message 1 of a pairing: the secrets differ.
    #[error(
        "handshake message {message} does not authenticate: it was damaged or replaced on its way, \
         or the two sides do not share the same secret; connect again"
    )]
    HandshakeRejected {
        /// 1, 2 or 3.
        message: u8,
    },
    /// A relay channel's message 1 or 2 carries more than its KEM part.
    #[error("handshake message {message} carries bytes that suite {SUITE} does not know: update the older side")]
    UnexpectedPayload {
        /// 1 or 2.
        message: u8,
    },
    /// A Diffie-Hellman result is zero: the peer sent a key of small order, which no honest one does.
    #[error("the peer sent a public key of small order: do not trust it")]
    WeakKey,
    /// The peer's ML-KEM encapsulation key fails the FIPS 203 modulus check.
    #[error("the peer sent an invalid ML-KEM key: it is broken or was tampered with; connect again")]
    InvalidKemKey,
    /// A transport message was damaged, replayed, dropped or reordered on its way.
    #[error("a message on the channel was damaged, lost, repeated or reordered: connect again")]
    MessageRejected,
    /// An earlier message did not open; nothing after it can be believed.
    #[error("the channel ended with an earlier message that did not open: connect again")]
    Poisoned,
    /// The caller's plaintext or payload is longer than a message can carry.
    #[error("{bytes} bytes do not fit one message of at most {max}: split them")]
    PayloadTooLong {
        /// Its length.
        bytes: usize,
        /// What fits.
        max: usize,
    },
}

impl ChannelError {
    /// Who is at fault.
    #[must_use]
    pub const fn fault(self) -> Fault {
        match self {
            // What these report was authenticated, or no path damages bytes into it.
            Self::WeakKey | Self::InvalidKemKey => Fault::Peer,
            Self::UnsupportedSuite { .. }
            | Self::HandshakeTooLong { .. }
            | Self::HandshakeTruncated { .. }
            | Self::HandshakeRejected { .. }
            | Self::UnexpectedPayload { .. }
            | Self::MessageRejected => Fault::PeerOrPath,
            Self::Poisoned | Self::PayloadTooLong { .. } => Fault::Local,
        }
    }

    pub(super) const fn plaintext_too_long(bytes: usize) -> Self {
        Self::PayloadTooLong { bytes, max: NOISE_PLAINTEXT_BYTES_MAX }
    }

    /// What snow's error means when it came while reading handshake message `message`.
    pub(super) fn reading(message: u8, error: snow::Error) -> Self {
        match error {
            snow::Error::Input => Self::HandshakeTruncated { message },
            snow::Error::Dh => Self::WeakKey,
            _ => Self::HandshakeRejected { message },
        }
    }
}
