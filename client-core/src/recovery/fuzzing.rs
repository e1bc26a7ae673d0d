//! What a person types, and what a relay hands out as a slot.

use super::anchor::Anchor;
use super::words::{RecoveryWords, WordsError};

const WORDS: RecoveryWords = RecoveryWords::from_entropy([0x51; 32]);

/// Any text as words: an error that can be shown, or words that survive another round.
pub fn recovery_words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<RecoveryWords>() {
        Ok(words) => assert_eq!(words.phrase().parse(), Ok(words)),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            if let WordsError::Unknown(unknown) = error {
                assert!(unknown.iter().all(|word| word.number > 0 && !word.typed.is_empty()));
            }
        }
    }
}

/// Any bytes as a slot: only the one that was sealed with the words opens.
pub fn recovery_slot(data: &[u8]) {
    if let Ok(anchor) = Anchor::open(&WORDS, data) {
        assert_eq!(Ok(anchor.group), Anchor::open(&WORDS, &slot()).map(|anchor| anchor.group));
    }
}

fn slot() -> Vec<u8> {
    super::anchor::fixture().seal(&WORDS, &mut zerok_sync_protocol::fuzzing::SeededRng::new(b"slot"))
}

/// Where fuzzing starts.
#[cfg(test)]
pub(crate) fn seeds(target: &str) -> Vec<(&'static str, Vec<u8>)> {
    match target {
        "recovery_words" => {
            let phrase = WORDS.phrase();
            let swapped: Vec<&str> = phrase.split(' ').rev().collect();
            vec![
                ("words", phrase.as_bytes().to_vec()),
                ("backwards", swapped.join(" ").into_bytes()),
                ("a-sheet", b" 1. legal  2. winner  3. thank".to_vec()),
            ]
        }
        "recovery_slot" => vec![("slot", slot())],
        other => panic!("no such target: {other}"),
    }
}
