//! Recorded test vectors of what only members compute:
//! `docs/vectors/{keys,envelope,epoch,statement,pairing,recovery}.json`.
//!
//! As in [`zerok_sync_protocol::vectors`] each file is recomputed and compared as a whole, natively
//! and in the browser's build; `ZEROK_WRITE_VECTORS=1 cargo test` writes them anew after a deliberate
//! format change. The signatures are deterministic (RFC 8032), so everything is.

mod envelope;
mod epoch;
mod keys;
mod statement;

use serde_json::Value;
use zerok_sync_protocol::vectors::compare;

/// A file of vectors: its name, its recorded text, and what it should say.
type File = (&'static str, &'static str, fn() -> Value);

const FILES: [File; 6] = [
    ("keys.json", include_str!("../../../docs/vectors/keys.json"), keys::vectors),
    ("envelope.json", include_str!("../../../docs/vectors/envelope.json"), envelope::vectors),
    ("epoch.json", include_str!("../../../docs/vectors/epoch.json"), epoch::vectors),
    ("statement.json", include_str!("../../../docs/vectors/statement.json"), statement::vectors),
    ("pairing.json", include_str!("../../../docs/vectors/pairing.json"), crate::pairing::vectors::vectors),
    ("recovery.json", include_str!("../../../docs/vectors/recovery.json"), crate::recovery::vectors::vectors),
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

#[cfg(test)]
mod tests {
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
}
