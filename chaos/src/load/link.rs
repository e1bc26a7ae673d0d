//! One connection of the generator, below the protocol: WebSocket frames on TCP, or an iroh stream.
//!
//! Written for throughput, not for strangers: whatever is queued leaves in one write, one read takes
//! all that has arrived, and there is no lock between the halves. The WebSocket half knows exactly
//! what a relay sends (whole binary messages, pings, a close) and masks with a key of zero, which is
//! well-formed and saves the generator the time, not the relay.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use zerok_sync_protocol::label::{IROH_ALPN, WS_PATH, WS_SUBPROTOCOL};

/// Room for one read: a link message and its framing.
const READ_BYTES: usize = 68 * 1024;
/// Longest answer to the upgrade.
const UPGRADE_BYTES_MAX: usize = 8 * 1024;

const OPCODE_BINARY: u8 = 0x2;
const OPCODE_CLOSE: u8 = 0x8;
const OPCODE_PING: u8 = 0x9;
const OPCODE_PONG: u8 = 0xA;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// How a link ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The relay closed it and said why.
    #[error("closed with {code}: {reason}")]
    Closed {
        /// The close code.
        code: u16,
        /// For people.
        reason: String,
    },
    /// The carrier failed, or was cut.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// The relay did not upgrade the connection.
    #[error("the relay answered {0:?} instead of upgrading")]
    NotUpgraded(String),
    /// Bytes no relay sends.
    #[error("the relay sent something that is not a link message")]
    NotAMessage,
    /// iroh could not connect.
    #[error("iroh: {0}")]
    Iroh(String),
}

#[derive(Clone, Copy)]
enum Framing {
    WebSocket,
    /// u16be length, as on iroh streams.
    Prefix,
}

/// See the module's documentation.
pub struct Link {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    framing: Framing,
    incoming: BytesMut,
    outgoing: BytesMut,
    /// A connection lives as long as somebody holds it.
    _connection: Option<iroh::endpoint::Connection>,
}

impl Link {
    /// Connects to a relay's WebSocket.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn websocket(addr: std::net::SocketAddr) -> Result<Self, Ended> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let mut link = Self::new(Box::new(reader), Box::new(writer), Framing::WebSocket, None);
        let request = format!(
            "GET {WS_PATH} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             Sec-WebSocket-Protocol: {WS_SUBPROTOCOL}\r\n\r\n"
        );
        link.outgoing.put_slice(request.as_bytes());
        link.upgraded().await?;
        Ok(link)
    }

    /// Opens a stream to a relay's iroh endpoint.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn iroh(endpoint: &iroh::Endpoint, relay: iroh::EndpointAddr) -> Result<Self, Ended> {
        let connection = endpoint.connect(relay, IROH_ALPN).await.map_err(|error| Ended::Iroh(format!("{error:#}")))?;
        let (send, recv) = connection.open_bi().await.map_err(|error| Ended::Iroh(error.to_string()))?;
        Ok(Self::new(Box::new(recv), Box::new(send), Framing::Prefix, Some(connection)))
    }

    fn new(
        reader: Box<dyn AsyncRead + Send + Unpin>,
        writer: Box<dyn AsyncWrite + Send + Unpin>,
        framing: Framing,
        connection: Option<iroh::endpoint::Connection>,
    ) -> Self {
        let (incoming, outgoing) = (BytesMut::new(), BytesMut::new());
        Self { reader, writer, framing, incoming, outgoing, _connection: connection }
    }

    async fn upgraded(&mut self) -> Result<(), Ended> {
        loop {
            self.exchange().await?;
            if let Some(end) = self.incoming.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = self.incoming.split_to(end + 4);
                let status = head[..].split(|&byte| byte == b'\r').next().unwrap_or_default();
                let is_upgrade = status.starts_with(b"HTTP/1.1 101");
                return is_upgrade
                    .then_some(())
                    .ok_or_else(|| Ended::NotUpgraded(String::from_utf8_lossy(status).into_owned()));
            }
            if self.incoming.len() > UPGRADE_BYTES_MAX {
                return Err(Ended::NotAMessage);
            }
        }
    }

    /// Queues a link message; [`Self::exchange`] sends it.
    pub fn queue(&mut self, message: &[u8]) {
        match self.framing {
            Framing::WebSocket => self.queue_frame(OPCODE_BINARY, message),
            Framing::Prefix => {
                let length = u16::try_from(message.len()).expect("a Noise message has at most 65,535 bytes");
                self.outgoing.put_u16(length);
                self.outgoing.put_slice(message);
            }
        }
    }

    fn queue_frame(&mut self, opcode: u8, payload: &[u8]) {
        self.outgoing.reserve(payload.len() + 14);
        self.outgoing.put_u8(FINAL | opcode);
        match payload.len() {
            short @ 0..=125 => self.outgoing.put_u8(MASKED | u8::try_from(short).expect("at most 125")),
            medium @ 126..=65_535 => {
                self.outgoing.put_u8(MASKED | 126);
                self.outgoing.put_u16(u16::try_from(medium).expect("at most 65,535"));
            }
            long => {
                self.outgoing.put_u8(MASKED | 127);
                self.outgoing.put_u64(long as u64);
            }
        }
        self.outgoing.put_u32(0);
        self.outgoing.put_slice(payload);
    }

    /// Bytes that the socket has not taken.
    pub fn queued_bytes(&self) -> usize {
        self.outgoing.len()
    }

    /// Sends what is queued and waits for something to read. Cancel-safe.
    ///
    /// # Errors
    /// [`Ended`], once all that came before the end has been read.
    pub async fn exchange(&mut self) -> Result<(), Ended> {
        self.exchange_unless_sent(false).await.map(|_read| ())
    }

    /// The same; where there is `more` to queue it also returns once what is queued was sent. Whether
    /// there is something to read.
    ///
    /// # Errors
    /// [`Ended`], once all that came before the end has been read.
    pub async fn exchange_unless_sent(&mut self, more: bool) -> Result<bool, Ended> {
        poll_fn(|cx| {
            self.poll_send(cx)?;
            if more && self.outgoing.is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.incoming.reserve(READ_BYTES);
            match pin!(self.reader.read_buf(&mut self.incoming)).poll(cx) {
                Poll::Ready(Ok(0)) => Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
                Poll::Ready(Ok(_)) => Poll::Ready(Ok(true)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    if self.incoming.is_empty() {
                        // A quiet session keeps no buffer.
                        self.incoming = BytesMut::new();
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        while !self.outgoing.is_empty() {
            match Pin::new(&mut self.writer).poll_write(cx, &self.outgoing) {
                Poll::Ready(sent) => self.outgoing.advance(sent?),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// The next whole link message that has arrived.
    ///
    /// # Errors
    /// [`Ended`] when the relay closed, or sent what it never sends.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, Ended> {
        match self.framing {
            Framing::WebSocket => self.next_binary(),
            Framing::Prefix => {
                let Some(prefix) = self.incoming.first_chunk::<2>() else { return Ok(None) };
                let length = usize::from(u16::from_be_bytes(*prefix));
                Ok((self.incoming.len() >= 2 + length).then(|| {
                    self.incoming.advance(2);
                    self.incoming.split_to(length).freeze()
                }))
            }
        }
    }

    fn next_binary(&mut self) -> Result<Option<Bytes>, Ended> {
        loop {
            let Some((opcode, header, length)) = parse_header(&self.incoming)? else { return Ok(None) };
            if self.incoming.len() < header + length {
                return Ok(None);
            }
            self.incoming.advance(header);
            let payload = self.incoming.split_to(length).freeze();
            match opcode {
                OPCODE_BINARY => return Ok(Some(payload)),
                OPCODE_PING => self.queue_frame(OPCODE_PONG, &payload),
                OPCODE_PONG => {}
                OPCODE_CLOSE => {
                    let code = payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                    return Err(Ended::Closed { code, reason });
                }
                _ => return Err(Ended::NotAMessage),
            }
        }
    }
}

/// Opcode, length of the header and of the payload of an unfragmented, unmasked frame.
fn parse_header(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, Ended> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0xF0 != FINAL || second & MASKED != 0 {
        return Err(Ended::NotAMessage);
    }
    let (header, length) = match (second, rest) {
        (126, [a, b, ..]) => (4, u64::from(u16::from_be_bytes([*a, *b]))),
        (127, rest) => match rest.first_chunk::<8>() {
            Some(length) => (10, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        (126, _) => return Ok(None),
        (short, _) => (2, u64::from(*short)),
    };
    let length = usize::try_from(length).ok().filter(|&length| length <= 1 << 20).ok_or(Ended::NotAMessage)?;
    Ok(Some((first & 0x0F, header, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_cut_short_is_waited_for_and_a_fragment_or_a_giant_is_refused() {
        let mut medium = vec![FINAL | OPCODE_BINARY, 126, 1, 0];
        medium.extend([7; 256]);
        for cut in 0..4 {
            assert!(matches!(parse_header(&medium[..cut]), Ok(None)), "{cut}");
        }
        assert!(matches!(parse_header(&medium), Ok(Some((OPCODE_BINARY, 4, 256)))));
        assert!(matches!(parse_header(&[OPCODE_BINARY, 1, 0]), Err(Ended::NotAMessage)), "a fragment");
        let giant = [FINAL | OPCODE_BINARY, 127, 0xFF, 0, 0, 0, 0, 0, 0, 0];
        assert!(matches!(parse_header(&giant), Err(Ended::NotAMessage)), "a giant");
    }
}
