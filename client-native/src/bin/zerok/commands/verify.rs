//! `zerok verify`: check everything stored on this device once more.

use serde_json::json;

use super::{Session, shown};
use crate::args::Global;
use crate::exit::{Failure, describe};

pub async fn run(global: &Global) -> Result<(), Failure> {
    let session = Session::open(global, false).await?;
    let report = session.client.verify().await;
    session.client.close().await;
    let report = report?;
    global.output.line(
        || {
            let senders = report.senders.iter().map(|sender| {
                let name = sender.name.as_deref().map_or_else(|| "unknown".into(), shown);
                format!("\n{}  {name}: {} entries, last {}", sender.device, sender.entries, sender.last_seq)
            });
            format!("{} entries examined{}", report.entries, senders.collect::<String>())
        },
        || {
            json!({
                "entries": report.entries,
                "senders": report.senders.iter().map(|sender| json!({
                    "device": sender.device.to_string(),
                    "name": sender.name.as_deref().map(shown),
                    "entries": sender.entries,
                    "last_seq": sender.last_seq,
                })).collect::<Vec<_>>(),
                "findings": report.findings.iter().map(describe).collect::<Vec<_>>(),
            })
        },
    )?;
    if report.findings.is_empty() { Ok(()) } else { Err(Failure::integrity(&report.findings)) }
}
