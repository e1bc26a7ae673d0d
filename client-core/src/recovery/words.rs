//! The 24 words: 256 bits of entropy and 8 of checksum, as BIP-39's English list writes them.
//!
//! Source: BIP-39 (word list, and the checksum: the first byte of SHA-256 of the entropy), crate
//! `bip39`. Its key stretching is not used: the words *are* the entropy, there is no passphrase.
//!
//! What people type is read in any case and spacing, with the numbers of a printed sheet in between;
//! four letters are enough, because no two words of the list begin with the same four. What does
//! not fit is named and never repaired: a word that is not in the list by its place and what it may
//! have been, a checksum that fails by the one slip that would explain it, if there is only one.

use std::fmt;
use std::str::FromStr;

use bip39::Language;
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};
use zerok_sync_protocol::wire::{Reader, Wire, WireError, Writer};

use crate::keys::{Membership, MembershipSeed};

/// Words on a sheet.
pub const WORDS: usize = 24;
/// Words that a person is asked for, to see whether they were written down.
pub const WORDS_ASKED: usize = 3;
/// Longest text that is looked at: 24 words of the list have at most 215 letters and spaces, and a
/// pasted sheet has numbers and frames around them.
pub const WORDS_TEXT_BYTES_MAX: usize = 4 * 1024;
/// This many letters name a word of the list.
const LETTERS_ENOUGH: usize = 4;
/// A list of 2,048 words.
const WORD_BITS: usize = 11;
/// A word of the list that differs in more letters is no suggestion.
const DISTANCE_MAX: usize = 2;
/// Suggestions for one word.
const NEAREST_MAX: usize = 3;

/// The words of one paper: its entropy. Wiped on drop.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct RecoveryWords([u8; 32]);

/// Words that were just made, and which of them to ask for.
#[derive(Debug, Clone)]
pub struct RecoveryDraft {
    /// To be shown once.
    pub words: RecoveryWords,
    /// Numbers (from 1, rising) of the words to ask for before they are used.
    pub asked: [usize; WORDS_ASKED],
}

/// A word that is not in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord {
    /// Its number, from 1.
    pub number: usize,
    /// As it was typed, in lower case.
    pub typed: String,
    /// Words of the list that differ from it by two letters at most, the likeliest first.
    pub nearest: Vec<&'static str>,
}

/// The one slip that would explain a failed checksum. Only its place is said: a checksum of eight
/// bits proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikelySlip {
    /// This word and the next changed places.
    Swapped(usize),
    /// This word was mistaken for another that differs in one letter.
    Misread(usize),
}

/// Why a text is not a paper's words. Nothing was sent anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// Longer than any sheet.
    #[error("this is too long to be 24 words: type the words of the sheet, and nothing else")]
    TooLong,
    /// Words that are not in the list.
    #[error("{}: look at the sheet again", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unknown(Vec<UnknownWord>),
    /// Too few or too many.
    #[error("{}", counted(*found))]
    WrongCount {
        /// How many there are.
        found: usize,
    },
    /// All are words of the list, and they do not belong together.
    #[error(
        "all of these are words of the list, but they do not belong together: one is wrong, or two have changed places{}",
        .0.as_ref().map(|slip| format!(". {slip}")).unwrap_or_default()
    )]
    Checksum(Option<LikelySlip>),
}

impl RecoveryWords {
    /// New words, from 32 bytes of `rng`.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut words = Self([0; 32]);
        rng.fill_bytes(&mut words.0);
        words
    }

    /// The words of this entropy.
    #[must_use]
    pub const fn from_entropy(entropy: [u8; 32]) -> Self {
        Self(entropy)
    }

    /// The entropy, which is the paper's membership seed.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The words, first to last.
    #[must_use]
    pub fn list(&self) -> [&'static str; WORDS] {
        indices_of(&self.0).map(|index| all_words()[index])
    }

    /// The words with single spaces in between.
    #[must_use]
    pub fn phrase(&self) -> Zeroizing<String> {
        Zeroizing::new(self.list().join(" "))
    }

    /// The device that the words are.
    #[must_use]
    pub fn membership(&self) -> Membership {
        Membership::from_seed(&MembershipSeed::from_bytes(self.0))
    }

    /// Whether a person typed this word where it was asked for.
    #[must_use]
    pub fn is_word(&self, number: usize, typed: &str) -> bool {
        let typed = Zeroizing::new(typed.trim().to_ascii_lowercase());
        let word = number.checked_sub(1).and_then(|index| self.list().get(index).copied());
        word.is_some() && index_of(&typed).and_then(word_at) == word
    }
}

/// Words are written down in one place besides paper: a sealed row, while they are being enrolled.
impl Wire for RecoveryWords {
    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(&self.0);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
        bytes.array().map(Self)
    }
}

impl RecoveryDraft {
    /// New words and three places to ask for, from `rng`.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let words = RecoveryWords::generate(rng);
        // The first three of a shuffle (Fisher-Yates); a bias of 2^-27 chooses what is asked.
        let mut numbers: [usize; WORDS] = std::array::from_fn(|index| index + 1);
        for place in 0..WORDS_ASKED {
            let left = u32::try_from(WORDS - place).expect("24 at most");
            numbers.swap(place, place + (rng.next_u32() % left) as usize);
        }
        let mut asked = [0; WORDS_ASKED];
        asked.copy_from_slice(&numbers[..WORDS_ASKED]);
        asked.sort_unstable();
        Self { words, asked }
    }
}

impl fmt::Debug for RecoveryWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryWords([redacted])")
    }
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "word {}, {:?}, is not in the list", self.number, self.typed)?;
        match &self.nearest[..] {
            [] => Ok(()),
            [others @ .., last] if !others.is_empty() => write!(f, " (is it {} or {last}?)", others.join(", ")),
            [only, ..] => write!(f, " (is it {only}?)"),
        }
    }
}

fn counted(found: usize) -> String {
    match found {
        0 => "these are no words: type the 24 words of the sheet".into(),
        23 => "there are 24 words on a sheet, and these are 23: one is left out".into(),
        25 => "there are 24 words on a sheet, and these are 25: one may stand there twice".into(),
        found => format!("there are 24 words on a sheet, and these are {found}: type all of them, once"),
    }
}

impl fmt::Display for LikelySlip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Swapped(number) => write!(f, "Look at words {number} and {} first", number + 1),
            Self::Misread(number) => write!(f, "Look at word {number} first"),
        }
    }
}

impl FromStr for RecoveryWords {
    type Err = WordsError;

    fn from_str(text: &str) -> Result<Self, WordsError> {
        if text.len() > WORDS_TEXT_BYTES_MAX {
            return Err(WordsError::TooLong);
        }
        let typed: Zeroizing<Vec<String>> = Zeroizing::new(typed_words(text).collect());
        let found = typed.len();
        let mut indices = Zeroizing::new(Vec::with_capacity(found));
        let mut unknown = Vec::new();
        for (number, word) in (1..).zip(typed.iter()) {
            match index_of(word) {
                Some(index) => indices.push(index),
                None => unknown.push(UnknownWord { number, typed: word.clone(), nearest: nearest(word) }),
            }
        }
        if !unknown.is_empty() {
            // Beyond what a sheet has there is nothing to look up.
            unknown.truncate(WORDS);
            return Err(WordsError::Unknown(unknown));
        }
        if found != WORDS {
            return Err(WordsError::WrongCount { found });
        }
        entropy_of(&indices).map(Self).ok_or_else(|| WordsError::Checksum(likely_slip(&indices)))
    }
}

/// The words in what was typed: numbers, dots and frames of a sheet are no words.
pub(super) fn typed_words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| c.is_whitespace() || c == ',')
        .map(|word| word.trim_matches(|c: char| !c.is_alphabetic()).to_ascii_lowercase())
        .filter(|word| !word.is_empty())
}

/// A word's place in the list, from the whole word or from its first four letters on.
pub(super) fn index_of(word: &str) -> Option<usize> {
    let list = all_words();
    if let Some(index) = list.iter().position(|listed| *listed == word) {
        return Some(index);
    }
    let begins = |listed: &&str| word.len() >= LETTERS_ENOUGH && listed.starts_with(word);
    list.iter().position(begins)
}

pub(super) fn word_at(index: usize) -> Option<&'static str> {
    all_words().get(index).copied()
}

/// Words of the list that `word` may have been.
pub(super) fn nearest(word: &str) -> Vec<&'static str> {
    let list = all_words().iter();
    let close = list.filter(|listed| listed.len().abs_diff(word.len()) <= DISTANCE_MAX);
    let mut near: Vec<_> = close
        .map(|listed| (strsim::osa_distance(word, listed), *listed))
        .filter(|(distance, _)| *distance <= DISTANCE_MAX)
        .collect();
    // Whoever slips seldom does at the first letter.
    near.sort_by_key(|(distance, listed)| (*distance, word.chars().next() != listed.chars().next(), *listed));
    near.into_iter().map(|(_, listed)| listed).take(NEAREST_MAX).collect()
}

/// BIP-39 of 32 bytes: these and the first byte of their SHA-256, cut into 24 groups of 11 bits, each
/// a word's place in the list. Of the library that has the list the rest is not used: it brings
/// another SHA-256 and the list a second time, which every page would load.
fn indices_of(entropy: &[u8; 32]) -> [usize; WORDS] {
    let mut bytes = Zeroizing::new([0; 33]);
    bytes[..32].copy_from_slice(entropy);
    bytes[32] = checksum(entropy);
    let bit = |at: usize| usize::from(bytes[at / 8] >> (7 - at % 8) & 1);
    std::array::from_fn(|word| (0..WORD_BITS).fold(0, |index, at| index << 1 | bit(word * WORD_BITS + at)))
}

/// The entropy of 24 words of the list, if its checksum fits.
fn entropy_of(indices: &[usize]) -> Option<[u8; 32]> {
    let mut bytes = Zeroizing::new([0_u8; 33]);
    for at in 0..WORDS * WORD_BITS {
        let bit = indices.get(at / WORD_BITS)? >> (WORD_BITS - 1 - at % WORD_BITS) & 1;
        bytes[at / 8] |= u8::from(bit == 1) << (7 - at % 8);
    }
    let (entropy, rest) = bytes.split_first_chunk()?;
    (rest == [checksum(entropy)]).then_some(*entropy)
}

fn checksum(entropy: &[u8; 32]) -> u8 {
    Sha256::digest(entropy)[0]
}

/// The list, in one place: wherever it is named the compiler makes another copy of it.
fn all_words() -> &'static [&'static str; 2048] {
    Language::English.word_list()
}

/// The only adjacent swap, or word that differs in one letter, with which the checksum would fit.
fn likely_slip(indices: &[usize]) -> Option<LikelySlip> {
    let swaps = (1..indices.len()).filter(|second| {
        let mut swapped = Zeroizing::new(indices.to_vec());
        swapped.swap(second - 1, *second);
        *swapped != *indices && entropy_of(&swapped).is_some()
    });
    let misread = (0..indices.len()).flat_map(|place| one_letter_away(indices[place]).map(move |other| (place, other)));
    let misread = misread.filter(|(place, other)| {
        let mut replaced = Zeroizing::new(indices.to_vec());
        replaced[*place] = *other;
        entropy_of(&replaced).is_some()
    });
    let mut slips = swaps.map(LikelySlip::Swapped).chain(misread.map(|(place, _)| LikelySlip::Misread(place + 1)));
    let first = slips.next()?;
    // Two explanations are none.
    slips.next().is_none().then_some(first)
}

/// Other words of the list that differ in one letter, or in two that changed places.
fn one_letter_away(index: usize) -> impl Iterator<Item = usize> {
    let word = word_at(index).unwrap_or_default();
    let list = all_words().iter().enumerate();
    list.filter(move |(_, listed)| listed.len().abs_diff(word.len()) <= 1 && strsim::osa_distance(word, listed) == 1)
        .map(|(other, _)| other)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn words(seed: u8) -> RecoveryWords {
        RecoveryWords::generate(&mut ChaCha20Rng::from_seed([seed; 32]))
    }

    fn read(text: &str) -> Result<RecoveryWords, WordsError> {
        text.parse()
    }

    fn with(words: &RecoveryWords, change: impl FnOnce(&mut Vec<String>)) -> String {
        let mut list: Vec<String> = words.list().map(String::from).to_vec();
        change(&mut list);
        list.join(" ")
    }

    /// The 256-bit vectors of BIP-39's reference implementation (trezor/python-mnemonic).
    #[test]
    fn the_published_vectors_hold() {
        let vectors = [
            (
                "00",
                "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art",
            ),
            (
                "7f",
                "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth title",
            ),
            (
                "80",
                "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic bless",
            ),
            ("ff", "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo vote"),
        ];
        for (byte, phrase) in vectors {
            let entropy: [u8; 32] = hex::decode(byte.repeat(32)).expect("hex").try_into().expect("32 bytes");
            assert_eq!(*RecoveryWords::from_entropy(entropy).phrase(), phrase);
            assert_eq!(read(phrase).expect("a published vector").expose(), &entropy);
        }
        let phrase = "void come effort suffer camp survey warrior heavy shoot primary clutch crush open amazing screen patrol group space point ten exist slush involve unfold";
        let entropy = "f585c11aec520db57dd353c69554b21a89b20fb0650966fa0a9d6f74fd989d8f";
        assert_eq!(hex::encode(read(phrase).expect("a published vector").expose()), entropy);
    }

    #[test]
    fn words_are_read_in_any_case_and_spacing_by_four_letters_and_from_a_pasted_sheet() {
        let words = words(1);
        assert_eq!(read(&words.phrase().to_uppercase()), Ok(words.clone()));
        assert_eq!(read(&format!("\n\t {} \r\n", words.phrase().replace(' ', "\u{a0} \n"))), Ok(words.clone()));
        let short: Vec<String> = words.list().iter().map(|word| word.chars().take(4).collect()).collect();
        assert_eq!(read(&short.join(", ")), Ok(words.clone()));
        let numbered: Vec<String> = (1..).zip(words.list()).map(|(n, word)| format!("{n:>2}. {word}")).collect();
        assert_eq!(read(&numbered.join("   ")), Ok(words));
    }

    #[test]
    fn four_letters_name_a_word_and_three_only_a_word_of_three() {
        let list = Language::English.word_list();
        for (index, word) in list.iter().enumerate() {
            assert_eq!(index_of(word), Some(index));
            assert_eq!(index_of(&word[..word.len().min(4)]), Some(index), "{word}");
        }
        // "act" is a word, although "action" begins with it; "aba" is none.
        assert_eq!(index_of("act").and_then(word_at), Some("act"));
        assert_eq!(index_of("aba"), None);
        assert_eq!(index_of(""), None);
    }

    #[test]
    fn a_word_that_is_not_in_the_list_is_named_with_what_it_may_have_been() {
        let text = with(&words(1), |list| list[6] = "abandom".into());
        let Err(WordsError::Unknown(unknown)) = read(&text) else { panic!("{:?}", read(&text)) };
        assert_eq!((unknown.len(), unknown[0].number, &unknown[0].typed[..]), (1, 7, "abandom"));
        assert_eq!(unknown[0].nearest[0], "abandon");
        let said = WordsError::Unknown(unknown).to_string();
        assert!(said.contains("word 7") && said.contains("abandom") && said.contains("abandon"), "{said}");

        let text = with(&words(1), |list| (list[0], list[23]) = ("qqqqqq".into(), "ümlaut".into()));
        let said = read(&text).expect_err("two of them").to_string();
        assert!(said.contains("word 1,") && said.contains("word 24,") && said.contains("ümlaut"), "{said}");
    }

    #[test]
    fn too_few_and_too_many_words_are_counted() {
        for (change, found) in [
            (with(&words(1), |list| drop(list.pop())), 23),
            (with(&words(1), |list| list.push("zoo".into())), 25),
            (String::new(), 0),
        ] {
            assert_eq!(read(&change), Err(WordsError::WrongCount { found }));
        }
        assert_eq!(read(&"zoo ".repeat(2_000)), Err(WordsError::TooLong));
    }

    #[test]
    fn two_neighbours_that_changed_places_are_pointed_at_and_never_put_right() {
        let words = words(2);
        let mut pointed_at = 0;
        for place in 0..WORDS - 1 {
            let text = with(&words, |list| list.swap(place, place + 1));
            match read(&text) {
                Err(WordsError::Checksum(Some(LikelySlip::Swapped(number)))) => {
                    assert_eq!(number, place + 1);
                    let said = read(&text).expect_err("swapped").to_string();
                    assert!(said.contains(&format!("words {number} and {}", number + 1)), "{said}");
                    pointed_at += 1;
                }
                // One in 256 swaps keeps the checksum, some have two explanations.
                Ok(other) => assert_ne!(other, words),
                Err(WordsError::Checksum(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert!(pointed_at > WORDS / 2, "{pointed_at}");
    }

    #[test]
    fn a_wrong_word_of_the_list_fails_the_checksum_and_its_place_is_said_only_where_one_letter_explains_it() {
        let words = words(3);
        let (mut pointed_at, mut kept) = (0, 0);
        for place in 0..WORDS {
            let right = words.list()[place];
            let index = index_of(right).expect("a word of the list");
            for other in one_letter_away(index).filter_map(word_at) {
                let text = with(&words, |list| list[place] = other.into());
                match read(&text) {
                    Err(WordsError::Checksum(Some(LikelySlip::Misread(number)))) => {
                        assert_eq!(number, place + 1);
                        pointed_at += 1;
                    }
                    Err(WordsError::Checksum(_)) => {}
                    Ok(_) => kept += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            let text = with(&words, |list| list[place] = "zebra".into());
            if let Err(error) = read(&text) {
                let said = error.to_string();
                assert!(said.contains("do not belong together"), "{said}");
                assert!(!said.contains(right), "what it should be is not said: {said}");
            }
        }
        assert!(pointed_at > kept, "{pointed_at} pointed at, {kept} unnoticed");
    }

    #[test]
    fn three_different_words_are_asked_for_and_each_is_known_when_typed() {
        for seed in 0..50 {
            let draft = RecoveryDraft::generate(&mut ChaCha20Rng::from_seed([seed; 32]));
            let [a, b, c] = draft.asked;
            assert!(1 <= a && a < b && b < c && c <= WORDS, "{:?}", draft.asked);
            let word = draft.words.list()[a - 1];
            assert!(draft.words.is_word(a, &format!(" {} ", word.to_uppercase())));
            assert!(draft.words.is_word(a, &word[..word.len().min(4)]));
            assert!(!draft.words.is_word(a, "") && !draft.words.is_word(a, "abandom"));
            assert_eq!(draft.words.is_word(a, draft.words.list()[b - 1]), word == draft.words.list()[b - 1]);
            assert!(!draft.words.is_word(0, word) && !draft.words.is_word(25, word));
        }
    }

    #[test]
    fn words_print_as_redacted() {
        let draft = RecoveryDraft::generate(&mut ChaCha20Rng::from_seed([1; 32]));
        let printed = format!("{:?} {draft:?}", draft.words);
        assert!(printed.contains("[redacted]"));
        assert!(draft.words.list().iter().all(|word| !printed.contains(&format!(" {word} "))));
    }
}
