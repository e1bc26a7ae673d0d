//! Targets without cryptography.

use crate::diverged::Diverged;
use crate::envelope::{EnvelopeHeader, blob_id};
use crate::record::{Inbound, LENGTH_BYTES, RecordError};
use crate::{ClientFrame, RelayFrame};

/// A relay reads a frame: an error, or a frame that means the same after another round.
pub fn client_frame(data: &[u8]) {
    if let Ok(frame) = ClientFrame::decode(data) {
        assert_eq!(ClientFrame::decode(&frame.encode()), Ok(frame));
    }
}

/// A client reads a frame, and what an error's detail says about the log: an error, or something
/// that means the same after another round.
pub fn relay_frame(data: &[u8]) {
    if let Ok(frame) = RelayFrame::decode(data) {
        if let RelayFrame::Error { detail, .. } = &frame
            && let Ok(diverged) = detail.parse::<Diverged>()
        {
            assert_eq!(diverged.to_string().parse(), Ok(diverged));
        }
        assert_eq!(RelayFrame::decode(&frame.encode()), Ok(frame));
    }
}

/// An envelope's outside: what parses is written back the same, and anything has a blob id.
pub fn envelope_header(data: &[u8]) {
    let _ = blob_id(data);
    if let Ok((header, rest)) = EnvelopeHeader::parse(data) {
        assert_eq!([header.to_bytes().as_slice(), rest].concat(), data);
    }
}

/// A record stream that arrives in pieces gives what it would give in one.
///
/// Input: frame limit (2, little-endian) ‖ bytes per piece − 1 (1) ‖ stream.
pub fn record_stream(data: &[u8]) {
    let Some(([low, high, piece], stream)) = data.split_first_chunk::<3>() else { return };
    let frame_bytes_max = usize::from(u16::from_le_bytes([*low, *high]));
    let (expected, end) = parse_at_once(stream, frame_bytes_max);

    let mut inbound = Inbound::new(frame_bytes_max);
    let mut frames = Vec::new();
    for piece in stream.chunks(usize::from(*piece) + 1) {
        inbound.buffer().extend(piece);
        loop {
            match inbound.next_frame() {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!((frames, Some(error)), (expected, end));
                    return;
                }
            }
        }
    }
    assert_eq!((frames, None), (expected, end));
}

fn parse_at_once(mut stream: &[u8], max: usize) -> (Vec<Vec<u8>>, Option<RecordError>) {
    let mut frames = Vec::new();
    while let Some((header, rest)) = stream.split_first_chunk::<LENGTH_BYTES>() {
        let bytes = u32::from_be_bytes(*header) as usize;
        if bytes > max {
            return (frames, Some(RecordError::FrameTooLong { bytes, max }));
        }
        let Some((frame, later)) = rest.split_at_checked(bytes) else { break };
        frames.push(frame.to_vec());
        stream = later;
    }
    (frames, None)
}
