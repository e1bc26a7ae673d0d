//! Recovery words while they are being typed: which of them stand in the list so far.
//!
//! For the eye only: whether 24 words belong together says [`RecoveryWords`](super::words::RecoveryWords)
//! when they are read, and nothing here is repaired or kept.

use zeroize::Zeroizing;

use super::words::{WORDS, WORDS_TEXT_BYTES_MAX, WordsError, index_of, nearest, typed_words, word_at};

/// A word as somebody typed it.
#[derive(Clone, PartialEq, Eq)]
pub struct TypedWord {
    /// In lower case, without what stands around it.
    pub typed: Zeroizing<String>,
    /// The word of the list that it names, in full.
    pub listed: Option<&'static str>,
    /// If it names none: what it may have been, the likeliest first.
    pub nearest: Vec<&'static str>,
}

impl TypedWord {
    /// The words in a text, first to last: one more than a sheet has at most, because further ones
    /// change nothing about what has to be said.
    ///
    /// # Errors
    /// [`WordsError::TooLong`].
    pub fn all_of(text: &str) -> Result<Vec<Self>, WordsError> {
        if text.len() > WORDS_TEXT_BYTES_MAX {
            return Err(WordsError::TooLong);
        }
        Ok(typed_words(text).take(WORDS + 1).map(Self::look_up).collect())
    }

    fn look_up(typed: String) -> Self {
        let listed = index_of(&typed).and_then(word_at);
        let nearest = if listed.is_none() { nearest(&typed) } else { Vec::new() };
        Self { typed: Zeroizing::new(typed), listed, nearest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::words::RecoveryWords;

    fn listed(text: &str) -> Vec<Option<&'static str>> {
        TypedWord::all_of(text).expect("short enough").iter().map(|word| word.listed).collect()
    }

    #[test]
    fn each_word_is_known_as_soon_as_it_names_one_of_the_list() {
        assert_eq!(listed(""), []);
        assert_eq!(listed("aba"), [None]);
        assert_eq!(listed(" 1. ABAN  2. act"), [Some("abandon"), Some("act")]);
    }

    #[test]
    fn a_word_that_names_none_comes_with_what_it_may_have_been() {
        let words = TypedWord::all_of("zoo abandom").expect("short enough");
        assert_eq!((words[0].listed, words[0].nearest.len()), (Some("zoo"), 0));
        assert_eq!((&words[1].typed[..], words[1].listed, words[1].nearest[0]), ("abandom", None, "abandon"));
    }

    #[test]
    fn what_is_said_of_a_whole_sheet_is_what_is_read_of_it() {
        let words = RecoveryWords::from_entropy([0x5e; 32]);
        assert_eq!(listed(&words.phrase()), words.list().map(Some));
    }

    #[test]
    fn a_long_text_is_looked_at_no_further_than_it_matters() {
        assert_eq!(listed(&"x ".repeat(2_000)).len(), WORDS + 1);
        assert!(TypedWord::all_of(&"x ".repeat(3_000)) == Err(WordsError::TooLong));
    }
}
