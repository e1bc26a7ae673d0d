//! What the fuzz targets in `fuzz/` call: one plain function for each parser of outside bytes.
//!
//! A function takes any bytes and panics when a rule is broken. `cargo test` runs each on stable
//! over the committed corpus and a bounded number of seeded mutations of it ([`exercise`]); with
//! `cargo fuzz run NAME` the same function runs for as long as one likes.

mod bytes;
mod exercise;
mod handshake;
mod seeded_rng;

pub use bytes::{client_frame, envelope_header, record_stream, relay_frame};
pub use exercise::exercise;
pub use handshake::{handshake_initiator, handshake_responder};
pub use seeded_rng::SeededRng;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::channel::{Initiator, Responder, StaticKey};
    use crate::vectors::{client_frames, relay_frames};

    fn corpus(target: &str) -> PathBuf {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        if std::env::var_os("ZEROK_WRITE_VECTORS").is_some() {
            std::fs::create_dir_all(&dir).expect("fuzz/corpus is writable");
            for (name, bytes) in seeds(target) {
                std::fs::write(dir.join(name.replace(' ', "-")), bytes).expect("fuzz/corpus is writable");
            }
        }
        dir
    }

    /// Where fuzzing starts: one valid input of each kind.
    fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
        let named = |name: &str, bytes: Vec<u8>| (name.to_owned(), bytes);
        match target {
            "client_frame" => client_frames().iter().map(|(name, frame)| named(name, frame.encode())).collect(),
            "relay_frame" => relay_frames().iter().map(|(name, frame)| named(name, frame.encode())).collect(),
            "record_stream" => vec![
                named("three frames in small pieces", vec![64, 0, 2, 0, 0, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0, 2, 7, 7]),
                named("a frame over the limit", vec![1, 0, 255, 0, 0, 0, 2, 9, 9]),
            ],
            "envelope_header" => (0..4u8)
                .map(|kind| {
                    let mut bytes = vec![0; crate::envelope::ENVELOPE_BYTES_MIN];
                    bytes[..2].copy_from_slice(&[crate::envelope::VERSION, kind]);
                    named(&format!("type {kind}"), bytes)
                })
                .collect(),
            "handshake_responder" => {
                let (_, first) = Initiator::relay(&StaticKey::from_bytes([1; 32]), &mut SeededRng::new(b"seed"));
                handshake_seeds(first, handshake::encapsulation_key())
            }
            "handshake_initiator" => {
                let (_, first) = handshake::initiator();
                let responder = Responder::relay(&StaticKey::from_bytes([2; 32]));
                let (_, second) = responder.read(&first, &mut SeededRng::new(b"seed")).expect("message 1");
                handshake_seeds(second, vec![7; 1_088])
            }
            other => panic!("no seeds for {other}"),
        }
    }

    fn handshake_seeds(message: Vec<u8>, kem: Vec<u8>) -> Vec<(String, Vec<u8>)> {
        [("raw", 0, message), ("relay payload", 1, kem.clone()), ("pairing payload", 2, [kem, vec![5; 40]].concat())]
            .map(|(name, mode, bytes)| (name.to_owned(), [vec![mode], bytes].concat()))
            .to_vec()
    }

    #[test]
    fn client_frames_hold_under_mutation() {
        exercise(&corpus("client_frame"), 20_000, client_frame);
    }

    #[test]
    fn relay_frames_hold_under_mutation() {
        exercise(&corpus("relay_frame"), 20_000, relay_frame);
    }

    #[test]
    fn record_streams_hold_under_mutation() {
        exercise(&corpus("record_stream"), 20_000, record_stream);
    }

    #[test]
    fn envelope_headers_hold_under_mutation() {
        exercise(&corpus("envelope_header"), 20_000, envelope_header);
    }

    #[test]
    fn handshake_responders_hold_under_mutation() {
        exercise(&corpus("handshake_responder"), 1_000, handshake_responder);
    }

    #[test]
    fn handshake_initiators_hold_under_mutation() {
        exercise(&corpus("handshake_initiator"), 1_000, handshake_initiator);
    }
}
