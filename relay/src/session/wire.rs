//! The session's side of the secure channel: typed frames out, and the two ways to say no.

use std::sync::Arc;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use zerok_sync_protocol::channel::Channel;
use zerok_sync_protocol::hello::HandshakeHash;
use zerok_sync_protocol::limits::{ERROR_DETAIL_BYTES_MAX, FRAME_BYTES_MAX_HELLO};
use zerok_sync_protocol::record::{RecordError, SecureStream};
use zerok_sync_protocol::{ClientFrame, ErrorCode, NoisePublicKey, RelayFrame};

use crate::admission::Spent;
use crate::core::Core;
use crate::limits::{OUTGOING_BYTES_MAX, STORAGE_RETRY_AFTER_MS};
use crate::link::Close;
use crate::metrics::{Refusal, RefusalLabel};
use crate::store::StoreError;
use crate::store_log::StoreLog;

/// See the module's documentation.
pub(super) struct Wire {
    stream: SecureStream,
    /// The client's Noise static, proven by the handshake.
    pub(super) device: NoisePublicKey,
    /// What signatures of this session are bound to.
    pub(super) handshake: HandshakeHash,
    /// Set once: nothing is sent after it.
    closing: Option<Close>,
    /// What is queued will not be sent any more.
    abandoned: bool,
    /// Frames taken since they were last counted.
    frames_taken: u64,
    /// `Ack`s among them.
    acks_taken: u64,
    /// Bytes that they made the store read, beyond what they were sent, since then.
    bytes_caused: u64,
    /// Where refusals are counted.
    refusals: Family<RefusalLabel, Counter>,
    store_log: Arc<StoreLog>,
}

impl Wire {
    pub(super) fn new(channel: Channel, core: &Core) -> Self {
        let stream = SecureStream::new(channel, FRAME_BYTES_MAX_HELLO);
        let (device, handshake) = (stream.remote_static(), stream.handshake_hash());
        Self {
            stream,
            device,
            handshake,
            closing: None,
            abandoned: false,
            frames_taken: 0,
            acks_taken: 0,
            bytes_caused: 0,
            refusals: core.metrics.refusals.clone(),
            store_log: core.writer.store_log().clone(),
        }
    }

    /// Takes a link message in.
    pub(super) fn receive(&mut self, message: &[u8]) {
        if let Err(error) = self.stream.receive(message) {
            self.broken(&error);
        }
    }

    /// The next frame, unless there is none, the session is closing, or too much waits to go out.
    pub(super) fn next_frame(&mut self) -> Option<ClientFrame> {
        if self.closing.is_some() || self.is_full() {
            return None;
        }
        match self.stream.next_frame() {
            Ok(bytes) => match ClientFrame::decode(&bytes?) {
                Ok(frame) => {
                    self.frames_taken += 1;
                    self.acks_taken += u64::from(matches!(frame, ClientFrame::Ack { .. }));
                    Some(frame)
                }
                Err(error) => {
                    self.fail(ErrorCode::InvalidMessage, &error.to_string());
                    None
                }
            },
            Err(error) => {
                self.broken(&error);
                None
            }
        }
    }

    /// What was taken since this was last asked, but for the bytes of link messages.
    pub(super) fn spent(&mut self) -> Spent {
        let frames = std::mem::take(&mut self.frames_taken);
        let acks = std::mem::take(&mut self.acks_taken);
        let bytes = std::mem::take(&mut self.bytes_caused);
        Spent { frames, acks, bytes }
    }

    /// Notes that a request made the store read so many bytes.
    pub(super) fn caused(&mut self, bytes: u64) {
        self.bytes_caused += bytes;
    }

    /// Whether received bytes wait that [`Self::next_frame`] has not been asked for because too
    /// much waits to go out.
    pub(super) fn is_full(&self) -> bool {
        self.stream.queued_bytes() >= OUTGOING_BYTES_MAX
    }

    /// Bytes that came and are no whole frame yet.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.stream.buffered_bytes()
    }

    /// Bytes that the link has not taken.
    pub(super) fn queued_bytes(&self) -> usize {
        if self.abandoned { 0 } else { self.stream.queued_bytes() }
    }

    /// The next link message.
    pub(super) fn poll_transmit(&mut self) -> Option<Bytes> {
        if self.abandoned { None } else { self.stream.poll_transmit().map(Bytes::from) }
    }

    /// Admits longer frames as the session enters another phase.
    pub(super) fn set_frame_bytes_max(&mut self, bytes: usize) {
        self.stream.set_frame_bytes_max(bytes);
    }

    /// Queues a frame.
    pub(super) fn send(&mut self, frame: &RelayFrame) {
        self.send_encoded(frame.encode().into());
    }

    /// Queues an encoded frame.
    pub(super) fn send_encoded(&mut self, frame: Bytes) {
        if self.closing.is_none()
            && let Err(error) = self.stream.send_bytes(frame)
        {
            // Our own frame is over the ceiling: a limit is configured beyond what the protocol has.
            self.broken(&error);
        }
    }

    /// Refuses one request; the session goes on.
    pub(super) fn refuse(&mut self, code: ErrorCode, retry_after_ms: u64, detail: &str) {
        let mut detail = detail.to_owned();
        detail.truncate(detail.floor_char_boundary(ERROR_DETAIL_BYTES_MAX));
        self.send(&RelayFrame::Error { code: code.number(), retry_after_ms, detail });
    }

    /// Counts that a limit was reached, once for each refusal.
    pub(super) fn count(&self, limit: Refusal) {
        self.refusals.get_or_create(&limit.into()).inc();
    }

    /// Says why, then ends the session.
    pub(super) fn fail(&mut self, code: ErrorCode, detail: &str) {
        self.refuse(code, 0, detail);
        self.close(Close::new(Close::REFUSED, code.advice()));
    }

    /// Answers a request that the store could not serve.
    pub(super) fn storage_failed(&mut self, error: &StoreError) {
        if matches!(error, StoreError::Gone) {
            return self.fail(ErrorCode::UnknownLog, ErrorCode::UnknownLog.advice());
        }
        self.store_log.failed(error);
        self.count(Refusal::Storage);
        self.refuse(
            ErrorCode::StorageUnavailable,
            STORAGE_RETRY_AFTER_MS,
            "the relay's storage does not answer; it is tried again",
        );
    }

    /// Ends the session once what is queued is sent.
    pub(super) fn close(&mut self, close: Close) {
        self.closing.get_or_insert(close);
    }

    /// Ends the session without waiting for what is queued: the link does not take it.
    pub(super) fn abandon(&mut self, close: Close) {
        self.close(close);
        self.abandoned = true;
    }

    /// How the session ends, if it does.
    pub(super) fn closing(&self) -> Option<&Close> {
        self.closing.as_ref()
    }

    fn broken(&mut self, error: &RecordError) {
        match error {
            // The channel still stands: say it in a frame.
            RecordError::FrameTooLong { .. } => self.fail(ErrorCode::InvalidMessage, &error.to_string()),
            _ => self.close(Close::new(Close::PROTOCOL, error.to_string())),
        }
    }
}
