//! Sessions that do nothing, and what they cost: the mode `idle`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use tokio::task::JoinSet;
use zerok_sync_protocol::RelayFrame;

use super::client::Group;
use super::population::{Dialer, connect};
use super::process;
use super::session::subscribe;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Idle {
    /// Live sessions.
    pub sessions: usize,
    /// From the first handshake to the last session's being live.
    pub connect_seconds: f64,
    /// Resident bytes of the relay without them …
    pub relay_rss_before_bytes: Option<u64>,
    /// … and with them, after the rest.
    pub relay_rss_after_bytes: Option<u64>,
    /// The difference, for each.
    pub bytes_per_session: Option<f64>,
    /// Processor time of the relay for all of them in a second of rest.
    pub relay_cpu_ms_per_second: Option<f64>,
}

/// Opens `sessions` sessions of every device, has them follow, and lets them rest for `rest`.
///
/// # Errors
/// When the relay refuses some.
pub async fn idle(
    dialer: &Dialer,
    groups: &[Arc<Group>],
    sessions: usize,
    rest: Duration,
    relay: Option<u32>,
) -> Result<Idle> {
    let relay_rss_before_bytes = relay.and_then(process::rss_bytes);
    let started = Instant::now();
    let connected = connect(dialer, groups, sessions).await?;
    let mut live = JoinSet::new();
    for mut session in connected {
        live.spawn(async move {
            session.client.queue(&subscribe(true))?;
            while !matches!(session.client.next().await?, RelayFrame::CaughtUp { .. }) {}
            anyhow::Ok(session.client)
        });
    }
    let mut clients = Vec::new();
    while let Some(client) = live.join_next().await {
        clients.push(client??);
    }
    let connect_seconds = started.elapsed().as_secs_f64();
    let cpu_before = relay.and_then(process::cpu);
    tokio::time::sleep(rest).await;
    let relay_rss_after_bytes = relay.and_then(process::rss_bytes);
    let cpu = relay.and_then(process::cpu).zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    let count = clients.len();
    drop(clients);
    Ok(Idle {
        sessions: count,
        connect_seconds,
        relay_rss_before_bytes,
        relay_rss_after_bytes,
        bytes_per_session: relay_rss_after_bytes
            .zip(relay_rss_before_bytes)
            .map(|(after, before)| after.saturating_sub(before) as f64 / count as f64),
        relay_cpu_ms_per_second: cpu.map(|cpu| cpu.as_secs_f64() * 1000.0 / rest.as_secs_f64()),
    })
}
