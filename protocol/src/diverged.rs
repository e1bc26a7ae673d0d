//! What a relay says about its log with 1009 (diverged) and 1011 (below floor): the `detail` of
//! the `Error` frame, readable by people and parsed by clients.
//!
//! `timeline=00112233aabbccdd head=12 floor=1`

use std::fmt;
use std::str::FromStr;

use crate::frame::LogState;
use crate::id::Timeline;

/// Where the relay's log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Diverged {
    /// The current history.
    pub timeline: Timeline,
    /// Highest cursor.
    pub head: u64,
    /// Lowest cursor that is kept.
    pub floor: u64,
}

/// A detail that does not say where the log stands; `Welcome` of the next session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the relay's error does not say where its log stands")]
pub struct NotDiverged;

impl Diverged {
    /// What to say about a log.
    #[must_use]
    pub const fn of(state: &LogState) -> Self {
        Self { timeline: state.timeline, head: state.head, floor: state.floor }
    }
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timeline={} head={} floor={}", self.timeline, self.head, self.floor)
    }
}

impl FromStr for Diverged {
    type Err = NotDiverged;

    fn from_str(detail: &str) -> Result<Self, NotDiverged> {
        let field = |name: &str| {
            detail.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).ok_or(NotDiverged)
        };
        Ok(Self {
            timeline: field("timeline")?.parse().map_err(|_| NotDiverged)?,
            head: field("head")?.parse().map_err(|_| NotDiverged)?,
            floor: field("floor")?.parse().map_err(|_| NotDiverged)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_the_detail_of_an_error() {
        let diverged = Diverged { timeline: Timeline([1, 2, 3, 4, 5, 6, 7, 8]), head: u64::MAX, floor: 1 };
        assert_eq!(diverged.to_string().parse(), Ok(diverged));
    }

    #[test]
    fn other_details_do_not_parse() {
        for detail in ["", "try later", "timeline=01 head=1 floor=1", "timeline=0102030405060708 head=1"] {
            assert_eq!(detail.parse::<Diverged>(), Err(NotDiverged), "{detail}");
        }
    }
}
