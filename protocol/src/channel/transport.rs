//! The channel after its handshake: ordered, authenticated messages in both directions.

use std::fmt;

use snow::TransportState;

use super::error::ChannelError;
use crate::hello::HandshakeHash;
use crate::id::NoisePublicKey;
use crate::limits::{NOISE_MESSAGE_BYTES_MAX, NOISE_PLAINTEXT_BYTES_MAX, REKEY_AFTER_MESSAGES};

/// ChaCha20-Poly1305 tag of each message.
pub(super) const TAG_BYTES: usize = NOISE_MESSAGE_BYTES_MAX - NOISE_PLAINTEXT_BYTES_MAX;

/// An established channel. Messages open only in the order in which they were sealed, each once.
pub struct Channel {
    /// `None` after a message did not open.
    transport: Option<TransportState>,
    handshake_hash: HandshakeHash,
    remote: NoisePublicKey,
    sent: u64,
    received: u64,
    rekey_after: u64,
}

impl Channel {
    pub(super) fn new(transport: TransportState, handshake_hash: HandshakeHash, remote: NoisePublicKey) -> Self {
        let transport = Some(transport);
        Self { transport, handshake_hash, remote, sent: 0, received: 0, rekey_after: REKEY_AFTER_MESSAGES }
    }

    /// Equal on both sides, unique to this channel, and bound by everything either has said: what
    /// a signature covers so that it counts here and nowhere else.
    #[must_use]
    pub fn handshake_hash(&self) -> HandshakeHash {
        self.handshake_hash
    }

    /// The peer's static key, whose possession the handshake proved.
    #[must_use]
    pub fn remote_static(&self) -> NoisePublicKey {
        self.remote
    }

    /// Seals one message.
    ///
    /// # Errors
    /// [`ChannelError::PayloadTooLong`] over [`NOISE_PLAINTEXT_BYTES_MAX`];
    /// [`ChannelError::Poisoned`] after a message did not open.
    pub fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, ChannelError> {
        if plaintext.len() > NOISE_PLAINTEXT_BYTES_MAX {
            return Err(ChannelError::plaintext_too_long(plaintext.len()));
        }
        let transport = self.transport.as_mut().ok_or(ChannelError::Poisoned)?;
        let mut message = vec![0; plaintext.len() + TAG_BYTES];
        // The one error left is 2^64 - 1 messages sent.
        let len = transport.write_message(plaintext, &mut message).map_err(|_| ChannelError::Poisoned)?;
        debug_assert_eq!(len, message.len());
        self.sent += 1;
        if self.sent.is_multiple_of(self.rekey_after) {
            transport.rekey_outgoing();
        }
        Ok(message)
    }

    /// Opens the next message.
    ///
    /// # Errors
    /// [`ChannelError::MessageRejected`] if it is not what the peer sealed next; from then on, and
    /// for [`Self::seal`] too, [`ChannelError::Poisoned`].
    pub fn open(&mut self, message: &[u8]) -> Result<Vec<u8>, ChannelError> {
        let mut plaintext = Vec::new();
        self.open_onto(message, &mut plaintext)?;
        Ok(plaintext)
    }

    /// [`Self::open`] onto the end of a buffer, which is left as it was on an error.
    pub(crate) fn open_onto(&mut self, message: &[u8], buffer: &mut Vec<u8>) -> Result<(), ChannelError> {
        // Taken out and put back only on success: every way out below leaves the channel poisoned.
        let mut transport = self.transport.take().ok_or(ChannelError::Poisoned)?;
        if message.len() > NOISE_MESSAGE_BYTES_MAX {
            return Err(ChannelError::MessageRejected);
        }
        let len = message.len().checked_sub(TAG_BYTES).ok_or(ChannelError::MessageRejected)?;
        let start = buffer.len();
        buffer.resize(start + len, 0);
        if transport.read_message(message, &mut buffer[start..]).is_err() {
            buffer.truncate(start);
            return Err(ChannelError::MessageRejected);
        }
        self.received += 1;
        if self.received.is_multiple_of(self.rekey_after) {
            transport.rekey_incoming();
        }
        self.transport = Some(transport);
        Ok(())
    }

    /// Rekeys after this many messages instead; both sides must agree.
    #[cfg(test)]
    pub(crate) fn set_rekey_after(&mut self, messages: u64) {
        self.rekey_after = messages;
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("sent", &self.sent)
            .field("received", &self.received)
            .field("poisoned", &self.transport.is_none())
            .finish_non_exhaustive()
    }
}
