//! WebSocket framing (RFC 6455 §5), a server's side, without I/O: bytes in, messages out.
//!
//! Invariants: a length over the limit is refused from its header alone; what is kept is what has
//! come and is not a whole message yet, so an idle connection keeps nothing; no extension is agreed
//! on, so reserved bits are an error.

use bytes::{Buf, Bytes, BytesMut};

/// Longest header of a frame: two bytes, a length of eight, a mask of four.
const HEADER_BYTES_MAX: usize = 14;
/// Longest payload of a control frame (§5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;
/// The length follows in two bytes, or in eight.
const LENGTH_IN_2: u8 = 126;
const LENGTH_IN_8: u8 = 127;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A whole binary message.
    Message(Bytes),
    /// A text message, whatever is in it: no link message is one.
    Text,
    Ping(Bytes),
    Pong,
    /// Nothing that follows counts.
    Close(Bytes),
}

/// What no client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a WebSocket frame without a mask")]
    Unmasked,
    #[error("a WebSocket frame of a kind or with bits that were not agreed on")]
    Unknown,
    #[error("a WebSocket control frame that is fragmented or longer than {CONTROL_BYTES_MAX} bytes")]
    Control,
    #[error("a WebSocket message that begins within another, or goes on without a beginning")]
    Fragment,
    #[error("a WebSocket message of more than {max} bytes")]
    TooLong { max: usize },
}

/// Cuts received bytes into messages.
#[derive(Debug)]
pub(super) struct Frames {
    /// Not a whole frame yet.
    unread: BytesMut,
    /// A binary message of which the last fragment has not come.
    begun: Option<BytesMut>,
    message_bytes_max: usize,
}

/// A frame's header.
struct Header {
    is_final: bool,
    opcode: Opcode,
    mask: [u8; 4],
    payload_bytes: usize,
    header_bytes: usize,
}

impl Frames {
    /// `message_bytes_max` holds for a message and for each of its frames.
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self { unread: BytesMut::new(), begun: None, message_bytes_max }
    }

    /// Takes received bytes in; [`Self::next`] is then called until it has nothing more.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// What came next; `None` until more is received.
    pub(super) fn next(&mut self) -> Result<Option<Incoming>, FrameError> {
        loop {
            let Some((header, payload)) = self.next_frame()? else { return Ok(None) };
            if let Some(incoming) = self.take(&header, payload)? {
                return Ok(Some(incoming));
            }
        }
    }

    fn next_frame(&mut self) -> Result<Option<(Header, BytesMut)>, FrameError> {
        let Some(header) = parse(&self.unread, self.message_bytes_max)? else { return Ok(None) };
        let frame_bytes = header.header_bytes + header.payload_bytes;
        if self.unread.len() < frame_bytes {
            // One allocation for the rest of it: the length was checked.
            self.unread.reserve(frame_bytes - self.unread.len());
            return Ok(None);
        }
        self.unread.advance(header.header_bytes);
        let mut payload = self.unread.split_to(header.payload_bytes);
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
        unmask(&mut payload, header.mask);
        Ok(Some((header, payload)))
    }

    /// What a frame completes, if anything.
    fn take(&mut self, header: &Header, payload: BytesMut) -> Result<Option<Incoming>, FrameError> {
        let incoming = match (header.opcode, self.begun.take()) {
            (Opcode::Binary, None) if header.is_final => Incoming::Message(payload.freeze()),
            (Opcode::Binary, None) => {
                self.begun = Some(payload);
                return Ok(None);
            }
            (Opcode::Continuation, Some(mut begun)) => {
                if begun.len() + payload.len() > self.message_bytes_max {
                    return Err(FrameError::TooLong { max: self.message_bytes_max });
                }
                begun.extend_from_slice(&payload);
                if !header.is_final {
                    self.begun = Some(begun);
                    return Ok(None);
                }
                Incoming::Message(begun.freeze())
            }
            (Opcode::Text, None) => Incoming::Text,
            (Opcode::Continuation, None) | (Opcode::Binary | Opcode::Text, Some(_)) => {
                return Err(FrameError::Fragment);
            }
            // Control frames may come between the fragments of a message.
            (control, begun) => {
                self.begun = begun;
                match control {
                    Opcode::Ping => Incoming::Ping(payload.freeze()),
                    Opcode::Close => Incoming::Close(payload.freeze()),
                    _ => Incoming::Pong,
                }
            }
        };
        Ok(Some(incoming))
    }
}

/// The header that `bytes` begin with; `None` if it has not come whole.
fn parse(bytes: &[u8], message_bytes_max: usize) -> Result<Option<Header>, FrameError> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let opcode = Opcode::from_bits(first & OPCODE).filter(|_| first & RESERVED == 0).ok_or(FrameError::Unknown)?;
    let is_final = first & FINAL != 0;
    if second & MASKED == 0 {
        return Err(FrameError::Unmasked);
    }
    if opcode.is_control() && (!is_final || second & LENGTH > 125) {
        return Err(FrameError::Control);
    }
    let (length, rest) = match second & LENGTH {
        LENGTH_IN_2 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
            None => return Ok(None),
        },
        LENGTH_IN_8 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(None),
        },
        short => (u64::from(short), rest),
    };
    let payload_bytes = usize::try_from(length)
        .ok()
        .filter(|&length| length <= message_bytes_max)
        .ok_or(FrameError::TooLong { max: message_bytes_max })?;
    let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
    let header_bytes = bytes.len() - rest.len();
    debug_assert!(header_bytes <= HEADER_BYTES_MAX);
    Ok(Some(Header { is_final, opcode, mask: *mask, payload_bytes, header_bytes }))
}

/// §5.3, eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    tail.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// The header of an unmasked, whole frame of this payload: what a server sends.
pub(super) fn header(opcode: Opcode, payload_bytes: usize) -> Bytes {
    let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
    header.push(FINAL | opcode.bits());
    match (u8::try_from(payload_bytes), u16::try_from(payload_bytes)) {
        (Ok(short), _) if short < LENGTH_IN_2 => header.push(short),
        (_, Ok(medium)) => {
            header.push(LENGTH_IN_2);
            header.extend(medium.to_be_bytes());
        }
        _ => {
            header.push(LENGTH_IN_8);
            header.extend((payload_bytes as u64).to_be_bytes());
        }
    }
    header.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 70_000;

    /// A frame as a client sends it.
    fn masked(opcode: Opcode, is_final: bool, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut frame = header(opcode, payload.len()).to_vec();
        frame[0] &= if is_final { 0xFF } else { !FINAL };
        frame[1] |= MASKED;
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn frame(opcode: Opcode, is_final: bool, payload: &[u8]) -> Vec<u8> {
        masked(opcode, is_final, payload, [0x12, 0x34, 0x56, 0x78])
    }

    fn all(bytes: &[u8]) -> Result<Vec<Incoming>, FrameError> {
        let mut frames = Frames::new(MAX);
        frames.receive(bytes);
        let mut came = Vec::new();
        while let Some(incoming) = frames.next()? {
            came.push(incoming);
        }
        Ok(came)
    }

    #[test]
    fn a_message_may_come_in_fragments_with_control_frames_between_them() {
        let bytes = [
            frame(Opcode::Binary, false, b"one "),
            frame(Opcode::Ping, true, b"there?"),
            frame(Opcode::Continuation, false, b"link "),
            frame(Opcode::Pong, true, b""),
            frame(Opcode::Continuation, true, b"message"),
            frame(Opcode::Close, true, &1000_u16.to_be_bytes()),
        ]
        .concat();
        let close = Bytes::copy_from_slice(&1000_u16.to_be_bytes());
        let expected = [
            Incoming::Ping(Bytes::from_static(b"there?")),
            Incoming::Pong,
            Incoming::Message(Bytes::from_static(b"one link message")),
            Incoming::Close(close),
        ];
        assert_eq!(all(&bytes).expect("a client may send this"), expected);
    }

    #[test]
    fn what_no_client_sends_is_refused() {
        let unmasked = [0x82, 1, 0].to_vec();
        let reserved_bit = [0xC2, 0x80, 0, 0, 0, 0].to_vec();
        let reserved_opcode = [0x83, 0x80, 0, 0, 0, 0].to_vec();
        let long_ping = frame(Opcode::Ping, true, &[0; 126]);
        let fragmented_ping = frame(Opcode::Ping, false, b"");
        let no_beginning = frame(Opcode::Continuation, true, b"");
        let begun = frame(Opcode::Binary, false, b"");
        let twice_begun = [begun.clone(), frame(Opcode::Binary, true, b"")].concat();
        let text_within = [begun, frame(Opcode::Text, true, b"")].concat();
        for (bytes, error) in [
            (unmasked, FrameError::Unmasked),
            (reserved_bit, FrameError::Unknown),
            (reserved_opcode, FrameError::Unknown),
            (long_ping, FrameError::Control),
            (fragmented_ping, FrameError::Control),
            (no_beginning, FrameError::Fragment),
            (twice_begun, FrameError::Fragment),
            (text_within, FrameError::Fragment),
        ] {
            assert_eq!(all(&bytes), Err(error));
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_from_its_header_alone() {
        let too_long = Err(FrameError::TooLong { max: MAX });
        for length in [MAX as u64 + 1, u64::from(u32::MAX), 1 << 63, u64::MAX] {
            let header = [[0x82, 0xFF].as_slice(), &length.to_be_bytes()].concat();
            assert_eq!(all(&header), too_long, "{length}");
        }
    }

    #[test]
    fn fragments_together_are_no_longer_than_a_message() {
        let half = vec![0; MAX / 2 + 1];
        let bytes = [frame(Opcode::Binary, false, &half), frame(Opcode::Continuation, true, &half)].concat();
        assert_eq!(all(&bytes), Err(FrameError::TooLong { max: MAX }));
    }

    #[test]
    fn an_idle_connection_keeps_no_buffer() {
        let mut frames = Frames::new(MAX);
        frames.receive(&frame(Opcode::Binary, true, &[7; 60_000]));
        assert!(matches!(frames.next(), Ok(Some(Incoming::Message(_)))));
        assert_eq!(frames.next(), Ok(None));
        assert_eq!((frames.unread.capacity(), frames.begun), (0, None));
    }

    #[test]
    fn a_promised_length_takes_no_more_memory_than_the_limit() {
        let mut frames = Frames::new(MAX);
        frames.receive(&frame(Opcode::Binary, true, &[7; MAX])[..20]);
        assert_eq!(frames.next(), Ok(None));
        assert!(frames.unread.capacity() <= 2 * MAX);
    }

    proptest! {
        /// However the bytes are cut, and whatever the lengths and masks.
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<[u8; 4]>()), 1..8),
            long in 0..MAX,
            cuts in prop::collection::vec(1_usize..400, 1..20),
        ) {
            let mut sent: Vec<Vec<u8>> = messages.iter().map(|(payload, _)| payload.clone()).collect();
            let mut bytes: Vec<u8> = messages
                .iter()
                .flat_map(|(payload, mask)| masked(Opcode::Binary, true, payload, *mask))
                .collect();
            sent.push(vec![9; long]);
            bytes.extend(frame(Opcode::Binary, true, &vec![9; long]));
            let (mut frames, mut came, mut rest, mut cuts) = (Frames::new(MAX), Vec::new(), &bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(*cuts.next().expect("a cycle")));
                rest = later;
                frames.receive(now);
                while let Some(incoming) = frames.next().expect("a client may send this") {
                    came.push(incoming);
                }
            }
            let sent: Vec<Incoming> = sent.into_iter().map(|payload| Incoming::Message(payload.into())).collect();
            prop_assert_eq!(came, sent);
        }

        /// Any bytes at all: an error or messages within the limit, never a panic, and never more
        /// kept than came.
        #[test]
        fn any_bytes_are_survived(
            start in prop::sample::select(vec![0x82_u8, 0x02, 0x80, 0x00, 0x89, 0x88, 0x8A, 0x81, 0xFF]),
            length in prop::sample::select(vec![0x80_u8, 0x81, 0xFD, 0xFE, 0xFF, 0x05]),
            bytes in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut frames = Frames::new(500);
            frames.receive(&[start, length]);
            frames.receive(&bytes);
            while let Ok(Some(incoming)) = frames.next() {
                if let Incoming::Message(message) = incoming {
                    prop_assert!(message.len() <= 500);
                }
            }
            prop_assert!(frames.unread.len() <= bytes.len() + 2);
        }
    }
}
