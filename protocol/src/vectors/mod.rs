//! Recorded test vectors: `docs/vectors/*.json`, enough to check a second implementation against.
//!
//! Each file is recomputed from its inputs and compared as a whole, in `cargo test` and (with the
//! feature `vectors`) in the browser's build, so that every build speaks the same bytes. Run the
//! tests with `ZEROK_WRITE_VECTORS=1` to write the files anew, after a deliberate format change.

mod envelope;
mod frames;
mod handshake;
mod recorded_rng;
mod samples;

pub use recorded_rng::RecordedRng;
pub use samples::{client_frames, relay_frames};
use serde_json::Value;

/// A file of vectors: its name, its recorded text, and what it should say.
type File = (&'static str, &'static str, fn() -> Value);

const FILES: [File; 3] = [
    ("handshake.json", include_str!("../../../docs/vectors/handshake.json"), handshake::vectors),
    ("frames.json", include_str!("../../../docs/vectors/frames.json"), frames::vectors),
    ("envelope-outside.json", include_str!("../../../docs/vectors/envelope-outside.json"), envelope::vectors),
];

/// Recomputes every vector and compares it with the recorded one.
///
/// # Errors
/// Names the first place that differs.
pub fn check() -> Result<(), String> {
    for (name, recorded, compute) in FILES {
        let recorded: Value = serde_json::from_str(recorded).map_err(|error| format!("{name}: {error}"))?;
        compare(name, &recorded, &compute())?;
    }
    Ok(())
}

/// Compares two values of the same file; `path` says where they stand.
///
/// # Errors
/// Names the first place that differs.
pub fn compare(path: &str, recorded: &Value, computed: &Value) -> Result<(), String> {
    match (recorded, computed) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
            keys.into_iter().try_for_each(|key| compare(&format!("{path}/{key}"), &recorded[key], &computed[key]))
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            (0..left.len()).try_for_each(|index| compare(&format!("{path}/{index}"), &left[index], &right[index]))
        }
        _ if recorded == computed => Ok(()),
        _ => Err(format!("{path}: recorded {recorded}, computed {computed}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_build_speaks_the_recorded_bytes() {
        if std::env::var_os("ZEROK_WRITE_VECTORS").is_some() {
            for (name, _, compute) in FILES {
                let text = serde_json::to_string_pretty(&compute()).expect("JSON") + "\n";
                let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors").join(name);
                std::fs::write(path, text).expect("docs/vectors is writable");
            }
            return;
        }
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn a_difference_is_found_and_named() {
        let recorded = json!({ "a": [1, { "b": "00" }] });
        assert_eq!(compare("f", &recorded, &recorded), Ok(()));
        for (other, place) in [
            (json!({ "a": [1, { "b": "01" }] }), "f/a/1/b"),
            (json!({ "a": [1] }), "f/a"),
            (json!({ "a": [1, { "b": "00" }], "c": 1 }), "f/c"),
        ] {
            assert!(compare("f", &recorded, &other).expect_err("differs").starts_with(&format!("{place}: ")));
        }
    }

    #[test]
    fn every_variant_of_both_frames_has_a_vector() {
        let client: Vec<u16> = client_frames().iter().map(|(_, frame)| frame.tag()).collect();
        let relay: Vec<u16> = relay_frames().iter().map(|(_, frame)| frame.tag()).collect();
        assert!(crate::ClientFrame::TAGS.iter().all(|tag| client.contains(tag)));
        assert!(crate::RelayFrame::TAGS.iter().all(|tag| relay.contains(tag)));
    }
}
