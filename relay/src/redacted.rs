//! Keeps what identifies people out of the logs, by type: an id, an address or a size that is put
//! into a log line goes in as [`Redacted`] and comes out as `[redacted]`, whatever the log level.
//!
//! A relay's logs are the one thing its operator is asked to send around; nothing in them may tell
//! who synchronised what with whom.

use std::fmt;

/// A value that is never shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Redacted<T>(pub T);

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T> fmt::Display for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T> From<T> for Redacted<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redacted_value_shows_nothing_of_itself() {
        let address = Redacted(std::net::Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(format!("{address} {address:?} {address:#?}"), "[redacted] [redacted] [redacted]");
    }
}
