//! Frames as a byte stream over the secure channel: `u32be length ‖ frame`, cut into Noise
//! messages wherever it suits the sender. So many small frames share a message and a large one
//! spans several, and neither needs a rule of its own.
//!
//! [`SecureStream`] is sans-IO: getters; `send*` (the application's frames in); `receive` (link
//! messages in), after each of which [`SecureStream::next_frame`] is called until it has none;
//! [`SecureStream::poll_transmit`] (link messages out), likewise.
//!
//! Invariants: a length over the limit is refused from its four bytes alone; buffers hold what
//! really came or was queued, never what a header promises; an idle stream holds no buffer.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::channel::{Channel, ChannelError};
use crate::hello::HandshakeHash;
use crate::id::NoisePublicKey;
use crate::limits::{ENVELOPE_BYTES_MAX_CEILING, FRAME_OVERHEAD_BYTES_MAX, NOISE_PLAINTEXT_BYTES_MAX};

/// Bytes of length in front of each frame.
pub const LENGTH_BYTES: usize = 4;

/// No limit is set higher than this: the largest envelope anybody accepts, and its framing.
pub const FRAME_BYTES_MAX_CEILING: usize = ENVELOPE_BYTES_MAX_CEILING as usize + FRAME_OVERHEAD_BYTES_MAX;

/// Why a stream of frames ended. None can be recovered from on the same link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The channel underneath ended.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// A frame, ours or the peer's, is longer than allowed in this phase of the session.
    #[error("a frame of {bytes} bytes, where at most {max} are allowed now: send it in smaller parts")]
    FrameTooLong {
        /// Length of the frame without its header.
        bytes: usize,
        /// The limit that held.
        max: usize,
    },
    /// [`SecureStream::receive`] was called over and over without [`SecureStream::next_frame`].
    #[error("{buffered} bytes wait to be read: take the frames before receiving more")]
    NotDrained {
        /// Bytes that wait.
        buffered: usize,
    },
}

/// Frames in both directions over one [`Channel`].
#[derive(Debug)]
pub struct SecureStream {
    channel: Channel,
    outbound: Outbound,
    inbound: Inbound,
}

impl SecureStream {
    /// A stream that accepts frames of at most `frame_bytes_max`.
    #[must_use]
    pub fn new(channel: Channel, frame_bytes_max: usize) -> Self {
        let mut stream = Self { channel, outbound: Outbound::default(), inbound: Inbound::default() };
        stream.set_frame_bytes_max(frame_bytes_max);
        stream
    }

    /// Hash of the handshake underneath; see [`Channel::handshake_hash`].
    #[must_use]
    pub fn handshake_hash(&self) -> HandshakeHash {
        self.channel.handshake_hash()
    }

    /// The peer's static key; see [`Channel::remote_static`].
    #[must_use]
    pub fn remote_static(&self) -> NoisePublicKey {
        self.channel.remote_static()
    }

    /// Bytes queued for [`Self::poll_transmit`], headers included. The queue is as long as its
    /// caller lets it become: stop sending at a bound of your own.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.outbound.bytes
    }

    /// Bytes received that do not make a whole frame yet.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.inbound.unread().len()
    }

    /// Changes the limit for frames that have not been taken yet, as the session enters another
    /// phase. Clamped to [`FRAME_BYTES_MAX_CEILING`].
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.inbound.frame_bytes_max = frame_bytes_max.min(FRAME_BYTES_MAX_CEILING);
    }

    /// Queues a copy of a frame.
    ///
    /// # Errors
    /// [`RecordError::FrameTooLong`] over [`FRAME_BYTES_MAX_CEILING`]; nothing is queued.
    pub fn send(&mut self, frame: &[u8]) -> Result<(), RecordError> {
        self.outbound.push(Bytes::copy_from_slice(frame))
    }

    /// Queues a frame that may be shared between many streams.
    ///
    /// # Errors
    /// [`RecordError::FrameTooLong`] over [`FRAME_BYTES_MAX_CEILING`]; nothing is queued.
    pub fn send_bytes(&mut self, frame: Bytes) -> Result<(), RecordError> {
        self.outbound.push(frame)
    }

    /// The next link message, as full as the queue allows, or `None` when all is sent (or the
    /// channel ended, which [`Self::receive`] reports).
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        let plaintext = self.outbound.take()?;
        self.channel.seal(&plaintext).ok()
    }

    /// Takes one link message in.
    ///
    /// # Errors
    /// [`RecordError::Channel`] if it does not open; [`RecordError::NotDrained`] when more waits
    /// than one frame and one message. Either ends the stream.
    pub fn receive(&mut self, link_message: &[u8]) -> Result<(), RecordError> {
        let buffered = self.inbound.unread().len();
        if buffered > LENGTH_BYTES + self.inbound.frame_bytes_max + NOISE_PLAINTEXT_BYTES_MAX {
            return Err(RecordError::NotDrained { buffered });
        }
        Ok(self.channel.open_onto(link_message, self.inbound.buffer())?)
    }

    /// The next whole frame, or `None` until more is received.
    ///
    /// # Errors
    /// [`RecordError::FrameTooLong`] as soon as a header says so, and at every call from then on.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, RecordError> {
        self.inbound.next_frame()
    }
}

/// Queued frames, each with its header in front, partly sent from the first on.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbound {
    pub(crate) fn push(&mut self, frame: Bytes) -> Result<(), RecordError> {
        let bytes = frame.len();
        let header = u32::try_from(bytes)
            .ok()
            .filter(|_| bytes <= FRAME_BYTES_MAX_CEILING)
            .ok_or(RecordError::FrameTooLong { bytes, max: FRAME_BYTES_MAX_CEILING })?;
        self.pieces.push_back(Bytes::copy_from_slice(&header.to_be_bytes()));
        if !frame.is_empty() {
            self.pieces.push_back(frame);
        }
        self.bytes += LENGTH_BYTES + bytes;
        Ok(())
    }

    /// Up to a Noise message's worth of the queue.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        if self.bytes == 0 {
            return None;
        }
        let len = self.bytes.min(NOISE_PLAINTEXT_BYTES_MAX);
        let mut plaintext = Vec::with_capacity(len);
        while let Some(piece) = self.pieces.front_mut() {
            let part = piece.len().min(len - plaintext.len());
            plaintext.extend_from_slice(&piece[..part]);
            piece.advance(part);
            if piece.has_remaining() {
                break;
            }
            self.pieces.pop_front();
        }
        self.bytes -= plaintext.len();
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
        Some(plaintext)
    }
}

/// Received bytes: `buffer[start..]` is not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    buffer: Vec<u8>,
    start: usize,
    frame_bytes_max: usize,
}

impl Inbound {
    /// `frame_bytes_max` as for [`SecureStream::new`].
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max, ..Self::default() }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The buffer to append to. Moves what is left to its front first; while one frame comes in,
    /// that happens once.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        self.buffer.drain(..self.start);
        self.start = 0;
        &mut self.buffer
    }

    pub(crate) fn next_frame(&mut self) -> Result<Option<Bytes>, RecordError> {
        let Some((header, rest)) = self.unread().split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let bytes = u32::from_be_bytes(*header) as usize;
        if bytes > self.frame_bytes_max {
            return Err(RecordError::FrameTooLong { bytes, max: self.frame_bytes_max });
        }
        // A copy, so that a short frame which is kept does not keep a long buffer.
        let Some(frame) = rest.get(..bytes).map(Bytes::copy_from_slice) else {
            return Ok(None);
        };
        self.start += LENGTH_BYTES + bytes;
        if self.start == self.buffer.len() {
            self.buffer = Vec::new();
            self.start = 0;
        }
        Ok(Some(frame))
    }
}
