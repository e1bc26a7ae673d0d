//! What a limit's number counts, and how people write it: `16 MiB`, `10 s`, `1_000`.
//!
//! A number without a unit is bytes, milliseconds or things. Nothing is rounded: what cannot be
//! said exactly in whole numbers is not a value.

/// What a limit's number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
}

pub(super) const KIB: u64 = 1024;
pub(super) const MIB: u64 = 1024 * KIB;
pub(super) const GIB: u64 = 1024 * MIB;
pub(super) const TIB: u64 = 1024 * GIB;
pub(super) const SECOND_MS: u64 = 1_000;
pub(super) const MINUTE_MS: u64 = 60 * SECOND_MS;
pub(super) const HOUR_MS: u64 = 60 * MINUTE_MS;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;

impl Unit {
    /// Multiples in which values are shown, smallest first.
    const fn shown(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Count => &[],
            Self::Bytes => &[("B", 1), ("KiB", KIB), ("MiB", MIB), ("GiB", GIB), ("TiB", TIB)],
            Self::Milliseconds => &[("ms", 1), ("s", SECOND_MS), ("min", MINUTE_MS), ("h", HOUR_MS), ("d", DAY_MS)],
        }
    }

    /// Multiples that are understood besides.
    const fn understood(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Count => &[],
            Self::Bytes => &[("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000)],
            Self::Milliseconds => &[("m", MINUTE_MS)],
        }
    }

    /// What is expected, for an error message.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Count => "a whole number like 1000",
            Self::Bytes => "a number of bytes like 65536, 64 KiB, 16 MiB or 1 GiB",
            Self::Milliseconds => "a duration like 500 ms, 10 s, 5 min, 1 h or 1 d (a bare number is milliseconds)",
        }
    }

    /// The value of a text; `None` if it is none, or larger than can be counted.
    #[must_use]
    pub fn parse(self, text: &str) -> Option<u64> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let (number, unit) = (text[..digits].replace('_', ""), text[digits..].trim_start());
        let worth = match unit {
            "" => 1,
            name => {
                let mut known = self.shown().iter().chain(self.understood());
                known.find(|(known, _)| known.eq_ignore_ascii_case(name))?.1
            }
        };
        number.parse::<u64>().ok()?.checked_mul(worth)
    }

    /// A value in the largest multiple in which it is whole.
    #[must_use]
    pub fn show(self, value: u64) -> String {
        let whole = self.shown().iter().rev().find(|(_, worth)| value > 0 && value.is_multiple_of(*worth));
        match whole {
            Some((name, worth)) => format!("{} {name}", value / worth),
            None => value.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn values_are_read_as_people_write_them() {
        for (unit, text, value) in [
            (Unit::Bytes, "65536", 65_536),
            (Unit::Bytes, "64 KiB", 65_536),
            (Unit::Bytes, "16MiB", 16 << 20),
            (Unit::Bytes, "2 gib", 2 << 30),
            (Unit::Bytes, "1 MB", 1_000_000),
            (Unit::Milliseconds, "250", 250),
            (Unit::Milliseconds, "10 s", 10_000),
            (Unit::Milliseconds, "5m", 300_000),
            (Unit::Milliseconds, "1 h", 3_600_000),
            (Unit::Milliseconds, "30 d", 2_592_000_000),
            (Unit::Count, " 10_000 ", 10_000),
        ] {
            assert_eq!(unit.parse(text), Some(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_not_guessed_at() {
        for text in
            ["", " ", "MiB", "-1", "+1", "1.5 MiB", "1 MiB 2", "16 M", "10 s", "0x10", "16 EiB", "99999999999 TiB"]
        {
            assert_eq!(Unit::Bytes.parse(text), None, "{text}");
        }
        for text in ["10 KiB", "1e3", "1 hour", "soon", "10 ss"] {
            assert_eq!(Unit::Milliseconds.parse(text), None, "{text}");
        }
        for text in ["1 s", "1 B", "many", "18446744073709551616"] {
            assert_eq!(Unit::Count.parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back_exactly() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        for unit in [Unit::Count, Unit::Bytes, Unit::Milliseconds] {
            for _ in 0..1_000 {
                let value = (rng.next_u64() >> (rng.next_u32() % 64)) & !((1 << (rng.next_u32() % 24)) - 1);
                assert_eq!(unit.parse(&unit.show(value)), Some(value), "{}", unit.show(value));
            }
        }
    }

    #[test]
    fn values_are_shown_in_their_largest_whole_multiple() {
        assert_eq!(Unit::Bytes.show(1_179_648), "1152 KiB");
        assert_eq!(Unit::Milliseconds.show(90_000), "90 s");
        assert_eq!(Unit::Milliseconds.show(0), "0");
        assert_eq!(Unit::Count.show(10_000), "10000");
    }
}
