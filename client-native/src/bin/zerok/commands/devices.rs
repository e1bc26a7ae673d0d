//! `zerok devices`: who is in the group.

use std::time::Duration;

use serde_json::json;
use zerok_sync::Client;

use super::heard::{now_ms, standing, warnings};
use super::{REPORT_TIMEOUT, Session, catch_up, recovery, shown, wait_for};
use crate::args::Global;
use crate::exit::Failure;

/// How long a device that is there has to say so: to the relay and back, twice, from far away.
const PRESENCE_TIMEOUT: Duration = Duration::from_millis(400);

pub async fn run(global: &Global) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    if let Err(error) = catch_up(&session.client, REPORT_TIMEOUT).await {
        eprintln!("zerok: as of the last contact with the relay ({error})");
    }
    who_is_there(&session.client).await;
    let status = session.client.status().borrow().clone();
    recovery::nag(&status);
    let now_ms = now_ms();
    let printed = status.members.iter().try_for_each(|member| {
        // The others learn of a new name from the log, as this device's own list does.
        let before = (member.own && member.name != status.device_name).then(|| shown(&member.name));
        let name = shown(if before.is_some() { &status.device_name } else { &member.name });
        global.output.line(
            || {
                let own = match &before {
                    Some(before) => format!(" (this device; the others know it as {before} until it reaches a relay)"),
                    None if member.own => " (this device)".into(),
                    None => String::new(),
                };
                let leaving = if member.leaving { " (leaving)" } else { "" };
                if member.paper {
                    return format!("{}  {name} (on paper)  made {}", member.device, time(member.joined_at_ms));
                }
                let wrote = member.last_wrote_at_ms.map_or_else(String::new, |ms| format!(", last wrote {}", time(ms)));
                let heard = if member.own { String::new() } else { format!(", {}", standing(member, now_ms)) };
                format!("{}  {name}{own}{leaving}  joined {}{wrote}{heard}", member.device, time(member.joined_at_ms))
            },
            || {
                json!({
                    "device": member.device.to_string(),
                    "name": name,
                    "known_as": shown(&member.name),
                    "own": member.own,
                    "joined_at": member.joined_at_ms,
                    "last_wrote_at": member.last_wrote_at_ms,
                    "last_heard_at": member.last_heard_at_ms,
                    "online": member.online,
                    "stale": member.is_stale(now_ms),
                    "has_push": member.has_push,
                    "leaving": member.leaving,
                    "paper": member.paper,
                })
            },
        )
    });
    let printed = printed.and_then(|()| {
        status.granted.iter().try_for_each(|granted| {
            let name = shown(&granted.name);
            global.output.line(
                || format!("{}  {name} (let in, not arrived; `zerok rotate` takes that back)", granted.device),
                || json!({ "device": granted.device.to_string(), "name": name, "arrived": false }),
            )
        })
    });
    warnings(&status.members, now_ms).iter().for_each(|warning| eprintln!("zerok: {warning}"));
    if status.unknown_at_relay > 0 {
        eprintln!(
            "zerok: the relay admits {} more that no device of the group knows: one that is being let in, or one that the relay has put there; `zerok rotate` shuts it out",
            status.unknown_at_relay
        );
    }
    session.close(printed.map_err(Failure::from)).await
}

/// Gives the other devices a moment to say that they are there.
async fn who_is_there(client: &Client) {
    let deadline = tokio::time::Instant::now() + PRESENCE_TIMEOUT;
    let _ =
        wait_for(client, deadline, |status| status.members.iter().all(|member| member.online || member.paper)).await;
}

/// A device's clock, in UTC.
pub fn time(unix_ms: u64) -> String {
    let (days, minutes) = (unix_ms / 86_400_000, unix_ms / 60_000 % 1_440);
    // Howard Hinnant's civil_from_days, for days since 1970.
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(time(0), "1970-01-01 00:00");
        assert_eq!(time(951_827_696_000), "2000-02-29 12:34");
        assert_eq!(time(1_704_067_199_999), "2023-12-31 23:59");
    }
}
