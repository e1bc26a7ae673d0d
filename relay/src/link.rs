//! A link: an ordered, message-oriented byte pipe to one client, whatever carries it.
//!
//! The listeners ([`crate::websocket`], [`crate::iroh`]) only move link messages; from the first
//! byte on all clients are treated alike by [`crate::session`]. The two halves are separate so
//! that a blocked writer never keeps the session from noticing anything else.

use async_trait::async_trait;
use bytes::Bytes;

/// Why and with what words a link is closed. The number travels as WebSocket close code and as
/// QUIC error code alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The number.
    pub code: u16,
    /// For people (for [`Close::UNSUPPORTED_VERSION`]: JSON `{"min":…,"max":…}`).
    pub reason: String,
}

impl Close {
    /// All was said.
    pub const NORMAL: u16 = 1000;
    /// The relay shuts down.
    pub const GOING_AWAY: u16 = 1001;
    /// Bytes that no client of this protocol sends.
    pub const PROTOCOL: u16 = 1002;
    /// A version or channel suite the relay does not speak.
    pub const UNSUPPORTED_VERSION: u16 = zerok_sync_protocol::close::UNSUPPORTED_VERSION;
    /// Handshake or `Hello` took too long, or the link was silent.
    pub const TIMEOUT: u16 = 4008;
    /// No place for a handshake: the reason says when to come back.
    pub const TRY_LATER: u16 = zerok_sync_protocol::close::TRY_LATER;
    /// The session ended with an `Error` frame that says why.
    pub const REFUSED: u16 = 4000;

    /// Sends a client away before its handshake.
    #[must_use]
    pub fn try_later(retry_after_ms: u64) -> Self {
        Self::new(Self::TRY_LATER, zerok_sync_protocol::close::try_later_reason(retry_after_ms))
    }

    /// A close with a reason.
    #[must_use]
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// Why a link ended other than by the peer's wish.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A message longer than allowed in this phase.
    #[error("a link message of {bytes} bytes, where at most {max} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Something that is not a link message: a WebSocket text message, an empty prefix.
    #[error("not a binary link message")]
    NotAMessage,
    /// A WebSocket that carries pings and no messages.
    #[error("nothing but control frames came")]
    OnlyControlFrames,
    /// The carrier failed.
    #[error("the link broke: {0}")]
    Broken(String),
}

/// The half that brings the client's messages.
#[async_trait]
pub trait LinkReader: Send {
    /// The next message, of at most `bytes_max`; `None` when the client closed the link.
    /// Cancel-safe: a message is lost by dropping the future never.
    async fn recv(&mut self, bytes_max: usize) -> Result<Option<Bytes>, LinkError>;
}

/// The half that takes the relay's messages.
#[async_trait]
pub trait LinkWriter: Send {
    /// Sends one message; returns when the carrier took it.
    async fn send(&mut self, message: Bytes) -> Result<(), LinkError>;
    /// Says goodbye. Best effort.
    async fn close(&mut self, close: Close);
}

/// Both halves.
pub struct Link {
    /// From the client.
    pub reader: Box<dyn LinkReader>,
    /// To the client.
    pub writer: Box<dyn LinkWriter>,
}
