//! Pairing codes: `XXXX-XXXX`, an invitation short enough to be read out and typed.
//!
//! Eight characters of Crockford's base32: three name the mailbox at the relay (15 bits), four are
//! the password of the PAKE (20 bits), the last is a check of the other seven. The check is linear
//! over GF(32) with another weight at each place, so one wrong character, or two that changed
//! places, never make another valid code: a typo is found before anything is sent, and does not
//! cost the one try that a code is good for. It protects nothing else.

use std::fmt;
use std::str::FromStr;

use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop};
use zerok_sync_protocol::MailboxId;

/// Characters of a code, without the dash in its middle.
pub const CODE_CHARS: usize = 8;
/// Longest text that is looked at: a code with a separator between any two characters.
pub const CODE_TEXT_BYTES_MAX: usize = 64;

/// Characters of the password: what a guess has to hit, one in 2^20.
const PASSWORD_CHARS: usize = 4;
const MAILBOX_CHARS: usize = 3;
const BITS_PER_CHAR: usize = 5;
/// Crockford's base32: no I, L, O (they are read as 1 and 0) and no U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const _: () = assert!(MAILBOX_CHARS + PASSWORD_CHARS + 1 == CODE_CHARS);

/// Why a text is not a code. None of these costs the try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Too few or too many characters.
    #[error("a pairing code has eight letters and digits, like 4F7Q-2KXM, and this has {found}: type it again")]
    WrongLength {
        /// How many there are.
        found: usize,
    },
    /// A character that no code has.
    #[error("no pairing code has {0:?} in it: look again at the code on the other device, it is still good")]
    WrongCharacter(char),
    /// The check character does not fit.
    #[error("there is a typo in this code: compare it with the one on the other device, it is still good")]
    Typo,
}

/// The password in a code: four characters in their normal form.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Password([u8; PASSWORD_CHARS]);

impl Password {
    /// The characters, upper case: what the PAKE takes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password([redacted])")
    }
}

/// An invitation as a code. `Display` writes it as `XXXX-XXXX`; `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct PairingCode {
    mailbox: MailboxId,
    password: Password,
}

impl PairingCode {
    /// A code for a mailbox that was just opened, with a password from 4 bytes of `rng`; `None` if
    /// the relay gave the mailbox an id that does not fit three characters.
    pub fn generate(mailbox: MailboxId, rng: &mut (impl CryptoRng + ?Sized)) -> Option<Self> {
        mailbox_number(&mailbox)?;
        let mut password = [0; PASSWORD_CHARS];
        rng.fill_bytes(&mut password);
        // 256 is a multiple of 32, so each character is equally likely.
        let password = Password(password.map(|byte| character(byte % 32)));
        Some(Self { mailbox, password })
    }

    /// Where the two devices meet.
    #[must_use]
    pub fn mailbox(&self) -> &MailboxId {
        &self.mailbox
    }

    /// What only they know.
    #[must_use]
    pub fn password(&self) -> &Password {
        &self.password
    }
}

impl fmt::Debug for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairingCode([redacted])")
    }
}

impl fmt::Display for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = mailbox_number(&self.mailbox).expect("checked when the code was made");
        let mailbox = [10, 5, 0].map(|shift| (number >> shift) as u8 % 32);
        let password = self.password.0.map(|c| value(char::from(c)).expect("made of the alphabet"));
        let mut values = [0; CODE_CHARS];
        values[..MAILBOX_CHARS].copy_from_slice(&mailbox);
        values[MAILBOX_CHARS..CODE_CHARS - 1].copy_from_slice(&password);
        values[CODE_CHARS - 1] = check(&values[..CODE_CHARS - 1]);
        for (place, value) in values.into_iter().enumerate() {
            let dash = if place == CODE_CHARS / 2 { "-" } else { "" };
            write!(f, "{dash}{}", char::from(character(value)))?;
        }
        Ok(())
    }
}

impl FromStr for PairingCode {
    type Err = CodeError;

    /// Reads a code as people type it: in any case, O for 0, I and L for 1, with spaces and dashes
    /// anywhere.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        if text.len() > CODE_TEXT_BYTES_MAX {
            return Err(CodeError::WrongLength { found: significant(text).count() });
        }
        let mut values = [0; CODE_CHARS];
        let mut found = 0;
        for c in significant(text) {
            let value = value(c).ok_or(CodeError::WrongCharacter(c))?;
            if let Some(place) = values.get_mut(found) {
                *place = value;
            }
            found += 1;
        }
        if found != CODE_CHARS {
            return Err(CodeError::WrongLength { found });
        }
        if check(&values[..CODE_CHARS - 1]) != values[CODE_CHARS - 1] {
            return Err(CodeError::Typo);
        }
        let number =
            values[..MAILBOX_CHARS].iter().fold(0, |number, value| number << BITS_PER_CHAR | u16::from(*value));
        let mut password = [0; PASSWORD_CHARS];
        password.copy_from_slice(&values[MAILBOX_CHARS..CODE_CHARS - 1]);
        Ok(Self {
            mailbox: MailboxId::from_slice(&number.to_be_bytes()).expect("two bytes are a typed id"),
            password: Password(password.map(character)),
        })
    }
}

/// The 15 bits of a mailbox id that people type, big-endian.
fn mailbox_number(mailbox: &MailboxId) -> Option<u16> {
    let bytes: [u8; MailboxId::SHORT_LEN] = mailbox.as_bytes().try_into().ok()?;
    Some(u16::from_be_bytes(bytes)).filter(|number| number >> (MAILBOX_CHARS * BITS_PER_CHAR) == 0)
}

/// Without what people put between groups of characters.
fn significant(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '_'))
}

fn character(value: u8) -> u8 {
    ALPHABET[usize::from(value)]
}

fn value(c: char) -> Option<u8> {
    let c = match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        c => c,
    };
    let place = ALPHABET.iter().position(|&known| char::from(known) == c)?;
    u8::try_from(place).ok()
}

/// `Σ αⁱ·vᵢ` for i = 1, 2, … over GF(32) = GF(2)\[α\] / (α⁵ + α² + 1). All weights are different
/// and none is 0 or 1 (the check character's own): so a wrong value, and an exchange of two
/// different ones, always show.
fn check(values: &[u8]) -> u8 {
    // Horner's rule from the last place.
    values.iter().rev().fold(0, |sum, value| times_alpha(sum ^ value))
}

fn times_alpha(value: u8) -> u8 {
    let doubled = value << 1;
    if doubled & 0x20 == 0 { doubled } else { doubled ^ 0x25 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerok_sync_protocol::fuzzing::SeededRng;

    use super::*;

    fn code(number: u16, seed: &[u8]) -> PairingCode {
        let mailbox = MailboxId::from_slice(&number.to_be_bytes()).expect("two bytes");
        PairingCode::generate(mailbox, &mut SeededRng::new(seed)).expect("15 bits")
    }

    fn parse(text: &str) -> Result<PairingCode, CodeError> {
        text.parse()
    }

    #[test]
    fn a_code_is_two_groups_of_four() {
        let text = code(0x7fff, b"x").to_string();
        assert_eq!(text.len(), 9);
        assert!(text.starts_with("ZZZ") && text.as_bytes()[4] == b'-', "{text}");
        assert!(code(0, b"x").to_string().starts_with("000"));
    }

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let code = code(0x0021, b"typed");
        let text = code.to_string();
        assert!(text.starts_with("011"), "{text}");
        let (head, tail) = text.split_at(4);
        for typed in [
            text.to_lowercase(),
            text.replace('-', ""),
            format!("  {head} {tail}\n"),
            text.replace('-', "\u{2014}"),
            text.replacen("011", "OIL", 1),
            text.replacen("011", "oli", 1),
            text.chars().map(|c| format!("{c} ")).collect(),
        ] {
            assert_eq!(parse(&typed).as_ref(), Ok(&code), "{typed:?}");
        }
    }

    #[test]
    fn one_wrong_character_is_always_found() {
        for seed in 0..20u8 {
            let text = code(u16::from(seed) * 1_234 % 0x8000, &[seed]).to_string();
            for place in (0..9).filter(|place| *place != 4) {
                for wrong in ALPHABET.iter().map(|c| char::from(*c)) {
                    let mut typed = text.clone();
                    typed.replace_range(place..=place, wrong.encode_utf8(&mut [0; 4]));
                    assert!(typed == text || parse(&typed) == Err(CodeError::Typo), "{text} {typed}");
                }
            }
        }
    }

    #[test]
    fn two_characters_that_changed_places_are_always_found() {
        for seed in 0..50u8 {
            let text = code(u16::from(seed) * 641 % 0x8000, &[seed]).to_string().replace('-', "");
            for (i, j) in (0..8).flat_map(|i| (0..i).map(move |j| (i, j))) {
                let mut typed: Vec<char> = text.chars().collect();
                typed.swap(i, j);
                let typed: String = typed.into_iter().collect();
                assert!(typed == text || parse(&typed) == Err(CodeError::Typo), "{text} {typed}");
            }
        }
    }

    #[test]
    fn what_is_no_code_is_told_apart() {
        assert_eq!(parse(""), Err(CodeError::WrongLength { found: 0 }));
        assert_eq!(parse("0000-000"), Err(CodeError::WrongLength { found: 7 }));
        assert_eq!(parse("0000-00000"), Err(CodeError::WrongLength { found: 9 }));
        assert_eq!(parse(&"0".repeat(1_000)), Err(CodeError::WrongLength { found: 1_000 }));
        assert_eq!(parse("000U-0000"), Err(CodeError::WrongCharacter('U')));
        assert_eq!(parse("000!0000"), Err(CodeError::WrongCharacter('!')));
    }

    #[test]
    fn only_the_relays_short_ids_make_a_code() {
        let generate = |id: &[u8]| {
            PairingCode::generate(MailboxId::from_slice(id).expect("a length"), &mut SeededRng::new(b"x")).is_some()
        };
        assert!(generate(&[0x7f, 0xff]));
        assert!(!generate(&[0x80, 0]), "16 bits");
        assert!(!generate(&[0; 16]), "a link's");
    }

    #[test]
    fn a_code_is_in_no_log() {
        let code = code(3, b"secret");
        let said = format!("{code:?} {:?} {:?}", code.password(), code.mailbox());
        assert!(!said.contains(&code.to_string()[..4]) && !said.contains(&code.to_string()[5..]), "{said}");
    }

    proptest! {
        #[test]
        fn every_code_survives_its_text(number in 0u16..0x8000, seed: [u8; 8]) {
            let code = code(number, &seed);
            prop_assert_eq!(parse(&code.to_string()), Ok(code));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,100}") {
            let _ = parse(&text);
        }
    }
}
