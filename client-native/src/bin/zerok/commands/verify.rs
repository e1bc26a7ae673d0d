//! `zerok verify`: check everything stored on this device once more, and what the relays have of it.

use std::time::Duration;

use serde_json::{Value, json};
use zerok_sync::{AuditReport, Client, ClientError, IntegrityEvent, RelayStatus};

use super::{REPORT_TIMEOUT, Session, catch_up, count, left_out, shown};
use crate::args::Global;
use crate::exit::Failure;
use crate::finding;

/// How long reading the relays' logs again may take.
const RELAYS_TIMEOUT: Duration = Duration::from_secs(600);

pub async fn run(global: &Global) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let compared = compare(&session.client).await;
    let report = session.client.verify().await;
    // What was found on the way here is told also if it has been put right since.
    let mut findings = session.client.findings();
    session.client.close().await;
    let (relays, report) = (compared?, report?);
    findings.extend(report.findings.iter().filter(|finding| !findings.contains(finding)).cloned().collect::<Vec<_>>());
    global.output.line(|| text(&report, &relays, &findings), || object(&report, &relays, &findings))?;
    let failed = left_out(relays.iter().filter(|relay| !relay.compared), "compared");
    let found = (!findings.is_empty())
        .then(|| Failure::integrity(&findings).advice("What this device has of it is put back by: zerok repair"));
    match (failed, found) {
        (Some(failed), Some(found)) => Err(failed.and(found)),
        (Some(failure), None) | (None, Some(failure)) => Err(failure),
        (None, None) => Ok(()),
    }
}

/// Reads the relays' logs again. One that is away is part of the report, not a failure of it.
async fn compare(client: &Client) -> Result<Vec<RelayStatus>, ClientError> {
    let none = || client.relays().into_iter().map(|relay| RelayStatus { compared: false, ..relay }).collect();
    match catch_up(client, REPORT_TIMEOUT).await {
        Ok(()) => {}
        Err(ClientError::Relay(_) | ClientError::TimedOut(_)) => return Ok(none()),
        Err(error) => return Err(error),
    }
    match client.verify_relays(RELAYS_TIMEOUT).await {
        Err(ClientError::Relay(_)) => Ok(none()),
        // Some may have been read to their end.
        Err(ClientError::TimedOut(_)) => Ok(client.relays()),
        outcome => outcome,
    }
}

fn text(report: &AuditReport, relays: &[RelayStatus], findings: &[IntegrityEvent]) -> String {
    let senders = report.senders.iter().map(|sender| {
        let name = sender.name.as_deref().map_or_else(|| "a device that was removed".into(), shown);
        format!("\n{}  {name}: {}, last {}", sender.device, entries(sender.entries), sender.last_seq)
    });
    let compared = relays.iter().filter(|relay| relay.compared).count();
    let relays = match compared {
        _ if !findings.is_empty() => "",
        0 => "\nno relay was compared: only what this device has was checked",
        all if all == relays.len() => "\nthe relays have what this device has read there",
        _ => "\nthe relays that were compared have what this device has read there",
    };
    format!("{} examined{}{relays}", entries(report.entries), senders.collect::<String>())
}

fn object(report: &AuditReport, relays: &[RelayStatus], findings: &[IntegrityEvent]) -> Value {
    json!({
        "entries": report.entries,
        "relays_compared": relays.iter().all(|relay| relay.compared),
        "relays": relays.iter().map(|relay| json!({
            "relay": relay.address.url,
            "compared": relay.compared,
            "problem": relay.problem.as_ref().map(ToString::to_string),
        })).collect::<Vec<_>>(),
        "senders": report.senders.iter().map(|sender| json!({
            "device": sender.device.to_string(),
            "name": sender.name.as_deref().map(shown),
            "entries": sender.entries,
            "last_seq": sender.last_seq,
        })).collect::<Vec<_>>(),
        "findings": findings.iter().map(finding::object).collect::<Vec<_>>(),
    })
}

fn entries(number: u64) -> String {
    count(number, "entry", "entries")
}
