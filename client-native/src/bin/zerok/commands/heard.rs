//! When another device was last heard from, in words.
//!
//! The time is its own clock's, out of the newest entry or receipt that it signed, so a relay cannot
//! make it newer; what a relay withholds shows here and nowhere else.

use std::time::{SystemTime, UNIX_EPOCH};

use zerok_sync::Member;

use super::shown;

/// Unix milliseconds of this machine's clock.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether it is there, or when it was heard from.
pub fn standing(member: &Member, now_ms: u64) -> String {
    match member.last_heard_at_ms {
        _ if member.online => "online".into(),
        Some(at_ms) => format!("heard from {}", ago(now_ms.saturating_sub(at_ms))),
        None => "not heard from yet".into(),
    }
}

/// What to think of devices that were not heard from for long.
pub fn warnings(members: &[Member], now_ms: u64) -> Vec<String> {
    let stale = members.iter().filter(|member| member.is_stale(now_ms));
    stale
        .filter_map(|member| {
            Some(format!(
                "{} was last heard from {}: it may be switched off, its clock may be wrong, or the relay may keep back what it sends; if it is in use, compare what the two show",
                shown(&member.name),
                ago(now_ms.saturating_sub(member.last_heard_at_ms?))
            ))
        })
        .collect()
}

/// A span of time, roughly.
fn ago(ms: u64) -> String {
    let (seconds, many) = (ms / 1_000, |n: u64, what: &str| format!("{n} {what}{} ago", if n == 1 { "" } else { "s" }));
    match seconds {
        0..60 => "just now".into(),
        60..3_600 => many(seconds / 60, "minute"),
        3_600..86_400 => many(seconds / 3_600, "hour"),
        _ => many(seconds / 86_400, "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::ago;

    #[test]
    fn spans_are_named_by_their_largest_unit() {
        const MINUTE: u64 = 60_000;
        let told = [0, 59_999, MINUTE, 119 * MINUTE, 24 * 60 * MINUTE - 1, 24 * 60 * MINUTE, 72 * 60 * MINUTE].map(ago);
        let expected =
            ["just now", "just now", "1 minute ago", "1 hour ago", "23 hours ago", "1 day ago", "3 days ago"];
        assert_eq!(told, expected);
    }
}
