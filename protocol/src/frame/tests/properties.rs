//! What holds for every frame, and for every string of bytes.

use proptest::prelude::*;

use super::strategies::{client_frame, relay_frame};
use super::*;
use crate::vectors::{client_frames, relay_frames};

proptest! {
    #[test]
    fn every_client_frame_survives_the_wire(frame in client_frame()) {
        prop_assert_eq!(ClientFrame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn every_relay_frame_survives_the_wire(frame in relay_frame()) {
        prop_assert_eq!(RelayFrame::decode(&frame.encode()), Ok(frame));
    }

    /// What decodes at all means the same after another round: no two readings of one message.
    #[test]
    fn any_bytes_decode_to_one_frame_or_to_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(frame) = ClientFrame::decode(&bytes) {
            prop_assert_eq!(ClientFrame::decode(&frame.encode()), Ok(frame));
        }
        if let Ok(frame) = RelayFrame::decode(&bytes) {
            prop_assert_eq!(RelayFrame::decode(&frame.encode()), Ok(frame));
        }
    }
}

#[test]
fn a_frame_cut_at_any_length_is_an_error() {
    for (name, frame) in client_frames() {
        let bytes = frame.encode();
        for len in 0..bytes.len() {
            assert!(ClientFrame::decode(&bytes[..len]).is_err(), "{name} cut to {len}");
        }
    }
    for (name, frame) in relay_frames() {
        let bytes = frame.encode();
        for len in 0..bytes.len() {
            assert!(RelayFrame::decode(&bytes[..len]).is_err(), "{name} cut to {len}");
        }
    }
}

#[test]
fn every_frame_takes_a_field_more_from_a_newer_peer() {
    // A fixarray's length stands in the low bits of its first byte.
    let newer = |mut bytes: Vec<u8>| {
        assert!((0x90..0x9f).contains(&bytes[0]), "a frame is a short array");
        bytes[0] += 1;
        bytes.extend(rmp_serde::to_vec(&("later", 7, [-1; 3])).expect("plain values"));
        bytes
    };
    for (name, frame) in client_frames() {
        assert_eq!(ClientFrame::decode(&newer(frame.encode())), Ok(frame), "{name}");
    }
    for (name, frame) in relay_frames() {
        assert_eq!(RelayFrame::decode(&newer(frame.encode())), Ok(frame), "{name}");
    }
}
