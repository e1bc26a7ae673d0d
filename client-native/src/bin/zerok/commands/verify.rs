//! `zerok verify`: check everything stored on this device once more, and what the relays have of it.

use std::time::Duration;

use serde_json::json;

use super::{REPORT_TIMEOUT, Session, catch_up, count, shown};
use crate::args::Global;
use crate::exit::{Failure, describe};

/// How long reading the relays' logs again may take.
const RELAYS_TIMEOUT: Duration = Duration::from_secs(600);

pub async fn run(global: &Global) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    // A relay that is away is part of the report, not a failure of it.
    let compared = match catch_up(&session.client, REPORT_TIMEOUT).await {
        Ok(()) => session.client.verify_relays(RELAYS_TIMEOUT).await.is_ok(),
        Err(_) => false,
    };
    if !compared {
        eprintln!("zerok: no relay could be compared; only what this device has was checked");
    }
    let report = session.client.verify().await;
    // What was found on the way here is told also if it has been put right since.
    let mut findings = session.client.findings();
    session.client.close().await;
    let report = report?;
    findings.extend(report.findings.into_iter().filter(|finding| !findings.contains(finding)).collect::<Vec<_>>());
    global.output.line(
        || {
            let senders = report.senders.iter().map(|sender| {
                let name = sender.name.as_deref().map_or_else(|| "a device that was removed".into(), shown);
                format!("\n{}  {name}: {}, last {}", sender.device, entries(sender.entries), sender.last_seq)
            });
            let relays = if compared { "\nthe relays have what this device has read there" } else { "" };
            let relays = if findings.is_empty() { relays } else { "" };
            format!("{} examined{}{relays}", entries(report.entries), senders.collect::<String>())
        },
        || {
            json!({
                "entries": report.entries,
                "relays_compared": compared,
                "senders": report.senders.iter().map(|sender| json!({
                    "device": sender.device.to_string(),
                    "name": sender.name.as_deref().map(shown),
                    "entries": sender.entries,
                    "last_seq": sender.last_seq,
                })).collect::<Vec<_>>(),
                "findings": findings.iter().map(describe).collect::<Vec<_>>(),
            })
        },
    )?;
    if findings.is_empty() {
        return Ok(());
    }
    Err(Failure::integrity(&findings).advice("What this device has of it is put back by: zerok repair"))
}

fn entries(number: u64) -> String {
    count(number, "entry", "entries")
}
