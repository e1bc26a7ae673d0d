//! Everybody comes back at once after a restart: the mode `reconnect-storm`.
//!
//! Clients wait as the engine does, by its own backoff. One is back when it is live again, behind
//! handshake, Hello and catch-up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use zerok_sync_core::Backoff;
use zerok_sync_protocol::RelayFrame;

use super::client::{Client, Group, SessionError};
use super::population::{Dialer, connect};
use super::record::Latency;
use super::rig::Rig;
use super::session::subscribe;

/// Whoever is not back after this long counts as lost.
const GIVE_UP: Duration = Duration::from_secs(120);

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Storm {
    /// Live sessions before, and to come back.
    pub sessions: usize,
    /// From the kill to the `ready` of the relay's successor.
    pub outage_seconds: f64,
    /// From `ready` to being live again.
    pub back_after: Latency,
    /// Attempts that were refused or broke off after the relay was ready again.
    pub failed_attempts: u64,
    /// Sessions that a refusal turned away for good.
    pub refused_for_good: usize,
    /// Sessions that were not back in time.
    pub lost: usize,
    /// Sessions whose first waits ended within the same tenth of a second, at the most.
    pub most_at_once: usize,
}

/// How long clients wait before their first attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// As the engine does.
    Jittered,
    /// All for the same time, which none may.
    Alike,
}

/// Connects everybody, kills the relay, starts it again after `outage`, and waits until all are
/// back.
///
/// # Errors
/// When the sessions or the restart do not come about.
pub async fn storm(
    dialer: &Dialer,
    groups: &[Arc<Group>],
    sessions: usize,
    rig: &mut Rig,
    outage: Duration,
    waits: Waits,
) -> Result<Storm> {
    let connected = connect(dialer, groups, sessions).await?;
    let count = connected.len();
    let (ready, ready_at) = watch::channel(None);
    let mut tasks = JoinSet::new();
    for (index, session) in connected.into_iter().enumerate() {
        let (dialer, group, ready_at) = (dialer.clone(), groups[session.group].clone(), ready_at.clone());
        let mut client = session.client;
        go_live(&mut client).await.context("before the restart")?;
        tasks.spawn(async move { come_back(&dialer, index, &group, session.device, client, (ready_at, waits)).await });
    }
    let killed_at = Instant::now();
    rig.restart(outage).await?;
    let back_at = Instant::now();
    ready.send_replace(Some(back_at));
    let (mut latencies, mut failed_attempts, mut refused_for_good, mut lost) = (Vec::new(), 0, 0, 0);
    let (mut clients, mut waits) = (Vec::new(), Vec::new());
    while let Some(returned) = tasks.join_next().await {
        match returned? {
            Returned::Live { client, at, failed, waited } => {
                waits.push(waited);
                latencies.push(at.saturating_duration_since(back_at));
                failed_attempts += failed;
                clients.push(client);
            }
            Returned::Refused => refused_for_good += 1,
            Returned::Late => lost += 1,
        }
    }
    ensure!(clients.len() + refused_for_good + lost == count, "everybody is accounted for");
    Ok(Storm {
        sessions: count,
        outage_seconds: (back_at - killed_at).as_secs_f64(),
        back_after: Latency::of_all(latencies),
        failed_attempts,
        refused_for_good,
        lost,
        most_at_once: most_within(Duration::from_millis(100), waits),
    })
}

/// The most of these that lie within so long of each other.
fn most_within(span: Duration, mut moments: Vec<Duration>) -> usize {
    moments.sort_unstable();
    let within = |(index, from): (usize, &Duration)| moments[index..].partition_point(|at| *at < *from + span);
    moments.iter().enumerate().map(within).max().unwrap_or(0)
}

enum Returned {
    Live { client: Box<Client>, at: Instant, failed: u64, waited: Duration },
    Refused,
    Late,
}

async fn come_back(
    dialer: &Dialer,
    index: usize,
    group: &Group,
    device: usize,
    mut client: Client,
    (ready_at, waits): (watch::Receiver<Option<Instant>>, Waits),
) -> Returned {
    let mut wait_at_least = loop {
        match client.next().await {
            Ok(_) => {}
            Err(error) => break error.retry_after(),
        }
    };
    drop(client);
    let mut rng = ChaCha20Rng::seed_from_u64(index as u64);
    let (give_up, mut failed, mut waited) = (Instant::now() + GIVE_UP, 0, None);
    let mut backoff = Backoff::default();
    while Instant::now() < give_up {
        let jittered_ms = backoff.next_delay_ms(0, 0, &mut rng);
        let delay_ms = if waits == Waits::Jittered { jittered_ms } else { 1_000 };
        let wait = wait_at_least + Duration::from_millis(delay_ms);
        let waited = *waited.get_or_insert(wait);
        tokio::time::sleep(wait).await;
        match attempt(dialer, index, group, device).await {
            Ok(client) => return Returned::Live { client: Box::new(client), at: Instant::now(), failed, waited },
            Err(error) if error.is_for_good() => return Returned::Refused,
            Err(error) => {
                wait_at_least = error.retry_after();
                failed += u64::from(ready_at.borrow().is_some());
            }
        }
    }
    Returned::Late
}

async fn attempt(dialer: &Dialer, index: usize, group: &Group, device: usize) -> Result<Client, SessionError> {
    let (mut client, _) =
        Client::member(&dialer.dial(index), group, &group.devices[device], Some(dialer.noise_key)).await?;
    go_live(&mut client).await?;
    Ok(client)
}

async fn go_live(client: &mut Client) -> Result<(), SessionError> {
    client.queue(&subscribe(true))?;
    while !matches!(client.next().await?, RelayFrame::CaughtUp { .. }) {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_at_once_are_those_within_the_span_wherever_it_begins() {
        let ms = |moments: &[u64]| moments.iter().map(|ms| Duration::from_millis(*ms)).collect();
        assert_eq!(most_within(Duration::from_millis(100), ms(&[0, 90, 500, 95, 189, 190])), 3);
        assert_eq!(most_within(Duration::from_millis(100), Vec::new()), 0);
    }
}
