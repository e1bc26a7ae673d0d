//! The two halves of a link on a TCP stream.
//!
//! What was received is read through a buffer that all connections of a thread share; what is sent
//! leaves in one write, header and payload, without being copied. Both halves write (the reading one
//! answers pings), so they share what waits to go out, frame behind frame: no frame is ever cut into
//! by another. They are polled by one task, the session's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use zerok_sync_protocol::limits::NOISE_MESSAGE_BYTES_MAX;

use super::frames::{CONTROL_BYTES_MAX, Frames, Incoming, Opcode, header};
use crate::link::{Close, Link, LinkError, LinkReader, LinkWriter};

/// A little over a link message, so that one that is just too long is answered with a close code;
/// anything longer breaks the connection.
const MESSAGE_BYTES_MAX: usize = NOISE_MESSAGE_BYTES_MAX + 4 * 1024;
/// Pings and pongs between two messages. A live client sends a message each 25 s, and a proxy that
/// pings each second is still far below.
const CONTROL_FRAMES_MAX: u8 = 64;
/// What is read at once: a link message of the largest kind and its header.
const READ_BYTES: usize = NOISE_MESSAGE_BYTES_MAX + 32;
/// Pieces handed to the system in one write: two frames.
const PIECES_MAX: usize = 4;

thread_local! {
    /// What a read goes into first: how much comes is known only then. One for each thread of the
    /// runtime, instead of one for each connection.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// A link over a stream on which `received` has been read beyond the request.
pub(super) fn link(stream: TcpStream, received: &[u8]) -> Link {
    let (read, write) = stream.into_split();
    let mut frames = Frames::new(MESSAGE_BYTES_MAX);
    frames.receive(received);
    let outgoing = Arc::new(Mutex::new(Outgoing { socket: write, pieces: VecDeque::new(), pong: None }));
    let reader = Reader { socket: read, frames, outgoing: outgoing.clone(), controls: 0, ended: false };
    Link { reader: Box::new(reader), writer: Box::new(Writer(outgoing)) }
}

/// What waits to be sent.
struct Outgoing {
    socket: OwnedWriteHalf,
    /// Headers and payloads by turns.
    pieces: VecDeque<Bytes>,
    /// The answer to the latest ping: earlier ones need none (§5.5.3).
    pong: Option<Bytes>,
}

impl Outgoing {
    fn queue(&mut self, opcode: Opcode, payload: Bytes) {
        self.pieces.push_back(header(opcode, payload.len()));
        self.pieces.push_back(payload);
    }

    /// Sends until nothing waits.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while self.pieces.front().is_some_and(Bytes::is_empty) {
                self.pieces.pop_front();
            }
            if self.pieces.is_empty() {
                let Some(pong) = self.pong.take() else {
                    self.pieces = VecDeque::new();
                    return Poll::Ready(Ok(()));
                };
                self.queue(Opcode::Pong, pong);
            }
            let count = self.pieces.len().min(PIECES_MAX);
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
            }
            let mut sent = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..count]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            while let Some(piece) = self.pieces.front_mut().filter(|_| sent > 0) {
                let part = sent.min(piece.len());
                piece.advance(part);
                sent -= part;
                if !piece.has_remaining() {
                    self.pieces.pop_front();
                }
            }
        }
    }
}

fn locked(outgoing: &Mutex<Outgoing>) -> MutexGuard<'_, Outgoing> {
    outgoing.lock().unwrap_or_else(PoisonError::into_inner)
}

fn broken(error: impl std::fmt::Display) -> LinkError {
    LinkError::Broken(error.to_string())
}

struct Reader {
    socket: OwnedReadHalf,
    frames: Frames,
    outgoing: Arc<Mutex<Outgoing>>,
    /// Control frames since the last message.
    controls: u8,
    /// The client closed: nothing that follows counts.
    ended: bool,
}

impl Reader {
    /// What has come next; `None` until more is read.
    fn take(&mut self, bytes_max: usize) -> Result<Option<Bytes>, LinkError> {
        while !self.ended {
            match self.frames.next().map_err(broken)? {
                None => break,
                Some(Incoming::Message(message)) if message.len() > bytes_max => {
                    return Err(LinkError::TooLong { bytes: message.len(), max: bytes_max });
                }
                Some(Incoming::Message(message)) => {
                    self.controls = 0;
                    return Ok(Some(message));
                }
                Some(Incoming::Text) => return Err(LinkError::NotAMessage),
                Some(Incoming::Ping(payload)) => {
                    self.count_control()?;
                    locked(&self.outgoing).pong = Some(payload);
                }
                Some(Incoming::Pong) => self.count_control()?,
                Some(Incoming::Close(payload)) => {
                    self.ended = true;
                    // Its own code back (§5.5.1).
                    locked(&self.outgoing).queue(Opcode::Close, payload.slice(..payload.len().min(2)));
                }
            }
        }
        Ok(None)
    }

    fn count_control(&mut self) -> Result<(), LinkError> {
        self.controls += 1;
        if self.controls > CONTROL_FRAMES_MAX { Err(LinkError::OnlyControlFrames) } else { Ok(()) }
    }

    fn poll_recv(&mut self, bytes_max: usize, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, LinkError>> {
        loop {
            if let Some(message) = self.take(bytes_max)? {
                return Poll::Ready(Ok(Some(message)));
            }
            // A pong, or the last of a message that the other half goes on with.
            let flushed = locked(&self.outgoing).poll_flush(cx).map_err(broken)?;
            if self.ended {
                return flushed.map(|()| Ok(None));
            }
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let mut scratch = ReadBuf::new(scratch);
                let read = Pin::new(&mut self.socket).poll_read(cx, &mut scratch);
                self.frames.receive(scratch.filled());
                read.map_ok(|()| scratch.filled().len())
            });
            if ready!(read).map_err(broken)? == 0 {
                return Poll::Ready(Ok(None));
            }
        }
    }
}

#[async_trait]
impl LinkReader for Reader {
    async fn recv(&mut self, bytes_max: usize) -> Result<Option<Bytes>, LinkError> {
        poll_fn(|cx| self.poll_recv(bytes_max, cx)).await
    }
}

struct Writer(Arc<Mutex<Outgoing>>);

impl Writer {
    async fn send_frame(&mut self, opcode: Opcode, payload: Bytes) -> io::Result<()> {
        locked(&self.0).queue(opcode, payload);
        poll_fn(|cx| locked(&self.0).poll_flush(cx)).await
    }
}

#[async_trait]
impl LinkWriter for Writer {
    async fn send(&mut self, message: Bytes) -> Result<(), LinkError> {
        self.send_frame(Opcode::Binary, message).await.map_err(broken)
    }

    async fn close(&mut self, close: Close) {
        let mut reason = close.reason;
        reason.truncate(reason.floor_char_boundary(CONTROL_BYTES_MAX - size_of::<u16>()));
        let mut payload = BytesMut::with_capacity(CONTROL_BYTES_MAX);
        payload.put_u16(close.code);
        payload.put_slice(reason.as_bytes());
        // The link may be gone already; then there is nobody to tell.
        let _ = self.send_frame(Opcode::Close, payload.freeze()).await;
    }
}
