//! Filling a log, and reading all of it: the mode `catch-up`.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde::Serialize;
use zerok_sync_protocol::frame::{EntryItem, PushResult};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{ClientFrame, RelayFrame};

use super::client::{Client, Group, Stamp, template};
use super::population::Dialer;
use super::process;
use super::session::{CREDIT_BYTES, subscribe};

/// Envelopes in one push of the filling.
const FILL_BATCH: u64 = 64;
/// Pushes of the filling under way.
const FILL_AHEAD: u64 = 16;
/// Between two looks at memory.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// What a reader measured.
#[derive(Debug, Clone, Serialize)]
pub struct CaughtUp {
    /// Entries read.
    pub entries: u64,
    /// From `Subscribe` to `CaughtUp`.
    pub seconds: f64,
    /// Entries a second.
    pub entries_per_second: f64,
    /// Resident bytes of the relay before …
    pub relay_rss_before_bytes: Option<u64>,
    /// … and at most, while it was read.
    pub relay_rss_max_bytes: Option<u64>,
}

/// Appends `entries` envelopes to a group's log.
///
/// # Errors
/// When the relay refuses.
pub async fn fill(dialer: &Dialer, group: &Group, entries: u64, payload_bytes: usize) -> Result<()> {
    let (mut client, log) = Client::member(&dialer.dial(0), group, &group.devices[0], Some(dialer.noise_key)).await?;
    let template = template(payload_bytes)?;
    let mut run = [0; 8];
    getrandom::fill(&mut run).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let run = u64::from_le_bytes(run);
    let (mut sent, mut answered, mut pushes, mut answers) = (0, 0, 0, 0);
    while answered < entries {
        while sent < entries && pushes - answers < FILL_AHEAD {
            let batch = FILL_BATCH.min(entries - sent);
            let envelopes: Vec<_> = (sent..sent + batch)
                .map(|seq| Stamp { run, sender: u32::MAX, seq, intended_ns: 0 }.envelope(&template))
                .collect();
            let envelopes = List::try_from(envelopes).expect("a batch is within the limit");
            client.queue(&ClientFrame::Push { push: pushes, envelopes, resume: false })?;
            (sent, pushes) = (sent + batch, pushes + 1);
        }
        match client.next().await? {
            RelayFrame::PushAck { results, .. } => {
                for result in results.iter() {
                    let PushResult::Stored { cursor } = result else { bail!("the filling was refused: {result:?}") };
                    answered += 1;
                    ensure!(*cursor == log.head + answered, "cursor {cursor} where {} was due", log.head + answered);
                }
                answers += 1;
            }
            other => bail!("an unexpected {}", other.name()),
        }
    }
    Ok(())
}

/// Reads a whole log as one client with a bounded credit; `relay` is its process, if it is ours.
///
/// # Errors
/// When an entry is missing, doubled or out of order.
pub async fn catch_up(dialer: &Dialer, index: usize, group: &Group, relay: Option<u32>) -> Result<CaughtUp> {
    let (mut client, log) =
        Client::member(&dialer.dial(index), group, &group.devices[0], Some(dialer.noise_key)).await?;
    let relay_rss_before_bytes = relay.and_then(process::rss_bytes);
    let (mut relay_rss_max_bytes, mut sampled) = (relay_rss_before_bytes, Instant::now());
    let started = Instant::now();
    client.queue(&subscribe(false))?;
    let (mut read, mut credit_used) = (0, 0);
    loop {
        match client.next().await? {
            RelayFrame::Entries { items } => {
                for item in items.iter() {
                    let EntryItem::Stored { cursor, envelope, .. } = item else {
                        bail!("{} where an entry was expected", item.name());
                    };
                    read += 1;
                    ensure!(*cursor == read, "cursor {cursor} where {read} was due");
                    credit_used += envelope.len() as u64 + 64;
                }
                if credit_used >= CREDIT_BYTES / 4 {
                    let bytes = std::mem::take(&mut credit_used);
                    client.queue(&ClientFrame::Credit { bytes })?;
                }
                if sampled.elapsed() > SAMPLE_EVERY {
                    sampled = Instant::now();
                    relay_rss_max_bytes = relay_rss_max_bytes.max(relay.and_then(process::rss_bytes));
                }
            }
            RelayFrame::CaughtUp { head } => {
                ensure!(head == log.head && read == head, "CaughtUp at {head} after {read} of {}", log.head);
                let seconds = started.elapsed().as_secs_f64();
                let entries_per_second = read as f64 / seconds;
                return Ok(CaughtUp {
                    entries: read,
                    seconds,
                    entries_per_second,
                    relay_rss_before_bytes,
                    relay_rss_max_bytes,
                });
            }
            other => bail!("an unexpected {}", other.name()),
        }
    }
}
