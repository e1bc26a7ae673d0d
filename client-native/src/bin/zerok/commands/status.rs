//! `zerok status`: where things stand.

use serde_json::{Value, json};
use zerok_sync::{Connection, Status};

use super::heard::{now_ms, warnings};
use super::newcomers::Newcomers;
use super::repair::{hole_object, hole_told};
use super::{REPORT_TIMEOUT, Session, catch_up, meet_relays, recovery};
use crate::args::Global;
use crate::exit::Failure;
use crate::finding::{self, describe, on_record};

pub async fn run(global: &Global) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let mut newcomers = Newcomers::since(&session.client);
    // A relay that is away is part of the report, not a failure of it.
    let _ = catch_up(&session.client, REPORT_TIMEOUT).await;
    meet_relays(&session.client).await;
    let status = session.client.status().borrow().clone();
    let joined = newcomers.tell(&status);
    recovery::nag(&status);
    let printed = global.output.line(|| text(&status), || object(&status, joined));
    session.close(printed.map_err(Failure::from)).await
}

fn text(status: &Status) -> String {
    let mut lines = vec![
        format!("device     {} ({})", status.device_name, status.device),
        format!("relay      {} ({})", status.relay.url, connection(status)),
        format!("devices    {}", status.members.iter().filter(|member| !member.paper).count()),
        format!("recovery   {}", recovery::told(status)),
        format!("position   {} (processed {})", status.position, status.processed),
        format!("outbox     {} waiting ({} bytes)", status.outbox_count, status.outbox_bytes),
    ];
    lines.extend(status.snapshot.iter().map(|snapshot| {
        let by = status.members.iter().find(|member| member.device == snapshot.device);
        let name = by.map_or("a device that was removed", |member| member.name.as_str());
        format!("snapshot   {} bytes, by {name}", snapshot.bytes)
    }));
    if status.compaction_advised {
        lines.push(
            "compact    the log has outgrown its snapshot: a new one makes it shorter, see zerok compact --help".into(),
        );
    }
    let given_up = status.relays.iter().filter(|relay| relay.floor > 1);
    lines.extend(
        given_up.map(|relay| format!("floor      {} serves entries from {} on", relay.address.url, relay.floor)),
    );
    lines.extend(warnings(&status.members, now_ms()).into_iter().map(|warning| format!("stale      {warning}")));
    if status.unknown_at_relay > 0 {
        lines.push(format!(
            "unknown    {} admitted by the relay that no device of the group knows",
            status.unknown_at_relay
        ));
    }
    lines.extend(status.holes.iter().map(|hole| format!("missing    {}", hole_told(hole))));
    lines.extend(status.problem.iter().map(|problem| format!("problem    {problem}")));
    // What keeps this device from one relay, while it has another.
    let others = status.relays.iter().filter(|relay| relay.problem.is_some() && relay.problem != status.problem);
    lines.extend(
        others.filter_map(|relay| Some(format!("problem    {}: {}", relay.address.url, relay.problem.as_ref()?))),
    );
    lines.extend(on_record(&status.integrity).into_iter().map(|finding| format!("integrity  {}", describe(finding))));
    lines.join("\n")
}

fn object(status: &Status, joined: Vec<Value>) -> Value {
    json!({
        "connection": connection(status),
        "caught_up": status.caught_up,
        "device": status.device.to_string(),
        "name": status.device_name,
        "relay": status.relay.url,
        "relay_key": status.relay.key.map(|key| key.to_string()),
        "relay_head": status.relay_head,
        "devices": status.members.iter().filter(|member| !member.paper).count(),
        "recovery": recovery::word(status),
        "stale": stale(status),
        "unknown_at_relay": status.unknown_at_relay,
        "joined": joined,
        "position": status.position,
        "processed": status.processed,
        "snapshot": status.snapshot.as_ref().map(|snapshot| {
            json!({ "device": snapshot.device.to_string(), "bytes": snapshot.bytes })
        }),
        "compaction_advised": status.compaction_advised,
        "relays": status.relays.iter().map(|relay| json!({
            "relay": relay.address.url,
            "live": relay.connection == Connection::Live,
            "problem": relay.problem.as_ref().map(ToString::to_string),
        })).collect::<Vec<_>>(),
        "floors": status.relays.iter().map(|relay| json!({ "relay": relay.address.url, "floor": relay.floor })).collect::<Vec<_>>(),
        "outbox": status.outbox_count,
        "outbox_bytes": status.outbox_bytes,
        "holes": status.holes.iter().map(hole_object).collect::<Vec<_>>(),
        "problem": status.problem.as_ref().map(ToString::to_string),
        "integrity": on_record(&status.integrity).into_iter().map(finding::object).collect::<Vec<_>>(),
    })
}

/// Names of the devices that were not heard from for long.
fn stale(status: &Status) -> Vec<&str> {
    let now_ms = now_ms();
    status.members.iter().filter(|member| member.is_stale(now_ms)).map(|member| member.name.as_str()).collect()
}

fn connection(status: &Status) -> &'static str {
    match status.connection {
        Connection::Offline => "offline",
        Connection::Connecting => "connecting",
        Connection::Handshaking => "handshaking",
        Connection::CatchingUp => "catching up",
        Connection::Live => "live",
        Connection::WaitingToRetry => "waiting to retry",
    }
}
