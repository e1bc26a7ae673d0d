//! Numbers with which a relay closes a link before the channel stands: WebSocket close codes and
//! QUIC application error codes alike. Nothing vouches for them: the first is shown to people, the
//! second believed within [`RETRY_AFTER_MAX_UNAUTHENTICATED_MS`].

use crate::limits::RETRY_AFTER_MAX_UNAUTHENTICATED_MS;

/// The relay does not speak this version; the reason is JSON `{"min":…,"max":…}`.
pub const UNSUPPORTED_VERSION: u16 = 4004;
/// The relay has no place for a handshake just now; the reason is JSON `{"retry_after_ms":…}`.
/// The number is the one registered as "try again later" for WebSocket.
pub const TRY_LATER: u16 = 1013;

const BEFORE: &str = r#"{"retry_after_ms":"#;
const AFTER: &str = "}";
const MIN: &str = r#"{"min":"#;
const MAX: &str = r#","max":"#;

/// The reason that goes with [`UNSUPPORTED_VERSION`]: the first and the last suite the relay speaks.
#[must_use]
pub fn unsupported_version_reason(min: u8, max: u8) -> String {
    format!("{MIN}{min}{MAX}{max}{AFTER}")
}

/// The suites that a relay says it speaks, if that is what it says.
#[must_use]
pub fn suites(reason: &str) -> Option<(u8, u8)> {
    let (min, max) = reason.strip_prefix(MIN)?.strip_suffix(AFTER)?.split_once(MAX)?;
    Some((min.parse().ok()?, max.parse().ok()?))
}

/// The reason that goes with [`TRY_LATER`].
#[must_use]
pub fn try_later_reason(retry_after_ms: u64) -> String {
    format!("{BEFORE}{retry_after_ms}{AFTER}")
}

/// How long the relay asks to wait, as far as it is believed; zero if it does not say.
#[must_use]
pub fn retry_after_ms(reason: &str) -> u64 {
    let digits = reason.strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix(AFTER));
    let asked: Option<u64> = digits.and_then(|digits| digits.parse().ok());
    asked.unwrap_or(0).min(RETRY_AFTER_MAX_UNAUTHENTICATED_MS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_suites_that_were_said_are_read_back(min: u8, max: u8) {
            prop_assert_eq!(suites(&unsupported_version_reason(min, max)), Some((min, max)));
        }

        #[test]
        fn what_was_asked_is_read_back_up_to_a_minute(asked: u64) {
            prop_assert_eq!(retry_after_ms(&try_later_reason(asked)), asked.min(60_000));
        }

        #[test]
        fn other_reasons_ask_for_nothing(reason in "\\PC*") {
            prop_assert_eq!(retry_after_ms(&reason), 0);
            prop_assert_eq!(suites(&reason), None);
        }
    }
}
