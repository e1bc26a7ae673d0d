//! Catching up with the real client: the crate `zerok-sync`, its engine, its SQLite home, every
//! envelope really sealed, opened, authenticated and stored. Mode `catch-up` with `--client native`.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt, TryStreamExt};
use serde::Serialize;
use zerok_sync::{Client, FoundOptions, InviteEvent, InviteOptions, JoinOptions, OpenOptions, Transport};

use super::process;

/// Pushes under way at a time while the log is filled.
const PUSHES_AHEAD: usize = 1_000;
/// Between two looks at memory.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Sealing adds header, tag, signature, sender, chain and padding; with this much less in a blob
/// the envelope has the size that was asked for, nearly.
const SEALING_BYTES: usize = 272;

/// What the client measured.
#[derive(Debug, Clone, Serialize)]
pub struct NativeCaughtUp {
    /// Entries that reached the app.
    pub entries: u64,
    /// Entries a second while the log was filled, each pushed by itself.
    pub pushed_per_second: f64,
    /// From opening the home to the last entry's being with the app.
    pub seconds: f64,
    /// Entries a second.
    pub entries_per_second: f64,
    /// Processor time of this process for an entry, in microseconds.
    pub cpu_us_per_entry: Option<f64>,
    /// The same by thread: `zerok-storage` writes, `zerok-reading` reads for the app, the runtime's
    /// threads have link, engine and app.
    pub cpu_us_per_entry_by_thread: BTreeMap<String, f64>,
    /// Resident bytes of this process before …
    pub rss_before_bytes: Option<u64>,
    /// … and at most meanwhile.
    pub rss_max_bytes: Option<u64>,
}

/// One device fills a log with `entries` envelopes of about `payload_bytes`; another one, away all
/// the while, comes back and reads them.
///
/// # Errors
/// When an entry is missing, changed or out of order, and whatever a client reports.
pub async fn native_catch_up(relay: &str, homes: &Path, entries: u64, payload_bytes: usize) -> Result<NativeCaughtUp> {
    let (home_a, home_b) = (homes.join("a"), homes.join("b"));
    let found = FoundOptions { transport: Transport::WebSocket, ..FoundOptions::new(&home_a, relay) };
    let writer = Client::found(found).await.context("founding a group")?;
    let reader = let_in(&writer, &home_b).await.context("letting the second device in")?;
    reader.close().await;

    let filling = Instant::now();
    let blob = vec![0x5A; payload_bytes.saturating_sub(SEALING_BYTES).max(8)];
    futures_util::stream::iter(0..entries)
        .map(|number| {
            let (writer, mut blob) = (writer.clone(), blob.clone());
            blob[..8].copy_from_slice(&number.to_le_bytes());
            async move { writer.push(blob).await }
        })
        .buffered(PUSHES_AHEAD)
        .try_fold(None, |_, receipt| async { Ok(Some(receipt)) })
        .await?
        .context("nothing was pushed")?
        .at_relay()
        .await?;
    let pushed_per_second = entries as f64 / filling.elapsed().as_secs_f64();
    writer.close().await;

    let own = std::process::id();
    let rss_before_bytes = process::rss_bytes(own);
    let (mut rss_max_bytes, mut sampled) = (rss_before_bytes, Instant::now());
    let (started, cpu_before, threads_before) = (Instant::now(), process::cpu(own), process::threads(own));
    let open = OpenOptions { transport: Transport::WebSocket, ..OpenOptions::new(&home_b) };
    let reader = Client::open(open).await?;
    let mut stream = reader.entries();
    // Pushes that were under way together have no order among themselves.
    let mut seen = HashSet::new();
    while (seen.len() as u64) < entries {
        let entry = stream.next().await.context("the client closed")??;
        ensure!(entry.data.len() == blob.len(), "an entry has another length");
        let number = entry.data.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        ensure!(number.is_some_and(|number| number < entries && seen.insert(number)), "{number:?} came twice");
        if sampled.elapsed() > SAMPLE_EVERY {
            sampled = Instant::now();
            rss_max_bytes = rss_max_bytes.max(process::rss_bytes(own));
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let cpu = process::cpu(own).zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    let threads = process::threads(own).since(&threads_before);
    drop(stream);
    reader.close().await;
    Ok(NativeCaughtUp {
        entries,
        pushed_per_second,
        seconds,
        entries_per_second: entries as f64 / seconds,
        cpu_us_per_entry: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / entries as f64),
        cpu_us_per_entry_by_thread: threads
            .into_iter()
            .map(|(name, ns)| (name, ns as f64 / 1e3 / entries as f64))
            .collect(),
        rss_before_bytes,
        rss_max_bytes,
    })
}

async fn let_in(inviter: &Client, home: &Path) -> Result<Client> {
    let mut invitation = inviter.invite(InviteOptions::default()).await?;
    let InviteEvent::Ready { invite } = invitation.next().await? else { bail!("no link") };
    let join = JoinOptions { transport: Transport::WebSocket, ..JoinOptions::new(home, invite) };
    let joining = Client::join(join, |_digits| {});
    let accepting = async {
        let InviteEvent::JoinerWaiting { .. } = invitation.next().await? else { bail!("nobody joins") };
        invitation.accept_unchecked().await?;
        let InviteEvent::Accepted { .. } = invitation.next().await? else { bail!("not accepted") };
        Ok(())
    };
    let (joined, accepted) = tokio::join!(joining, accepting);
    accepted?;
    Ok(joined?)
}
