//! What clients can cost a relay: A-RES-05, A-RES-06.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use zerok_sync_protocol::frame::{EntryItem, PushResult};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, ClientFrame, RelayFrame, Timeline};

use super::{Extent, PATIENCE, patiently};
use crate::load::client::{Client, Stamp, template};
use crate::load::population::{Transport, connect, found};
use crate::load::rig::Rig;
use crate::load::storm::{Waits, storm};
use crate::load::target::StoreKind;
use crate::processes::Vitals;
use crate::processes::binary::relay_binary;

/// Devices of each group in the storm.
const GROUP: usize = 4;
/// How long the relay is away beside its own start.
const OUTAGE: Duration = Duration::from_millis(300);
/// Most first attempts that may be due within the same tenth of a second. The first wait is drawn
/// from half a second: a fifth of all is to be expected.
const SHARE_MAX: f64 = 0.35;

/// What is done wrong on purpose in the storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StormDefect {
    /// The relay comes back without its database.
    DatabaseLost,
    /// Clients wait, but all for the same time.
    WithoutJitter,
}

pub(super) async fn reconnect_storm(extent: Extent, defect: Option<StormDefect>) -> Result<String> {
    let groups = match extent {
        Extent::Full => 500,
        Extent::Small => 50,
    };
    let mut rig = rig(&[]).await?;
    let dialer = rig.dialer(Transport::Ws, groups * GROUP).await?;
    let groups = found(&dialer, groups, GROUP).await?;
    let waits = if defect == Some(StormDefect::WithoutJitter) { Waits::Alike } else { Waits::Jittered };
    rig.forgets = defect == Some(StormDefect::DatabaseLost);

    let storm = storm(&dialer, &groups, 1, &mut rig, OUTAGE, waits).await?;

    let refused = storm.refused_for_good;
    ensure!(refused == 0, "{refused} of {} clients were refused for good", storm.sessions);
    ensure!(storm.lost == 0, "{} of {} clients did not come back", storm.lost, storm.sessions);
    let share = storm.most_at_once as f64 / storm.sessions as f64;
    ensure!(share <= SHARE_MAX, "{:.0} % of all first attempts came within a tenth of a second", share * 100.0);
    ensure!(!rig.relay.has_ended(), "the relay did not stand it");
    Ok(format!(
        "all of {} clients live again {:.2} s after the relay; at most {:.0} % of the first attempts in a tenth of a \
         second, {} attempts failed",
        storm.sessions,
        storm.back_after.max_ms / 1_000.0,
        share * 100.0,
        storm.failed_attempts
    ))
}

/// Bytes of an envelope that is pushed to those who do not read.
const ENVELOPE_BYTES: usize = 64 * 1024;
/// Envelopes in a push, and pushes before anything is measured: buffers and caches are there then.
const BATCH: u64 = 16;
const WARM_UP: u64 = 8;
/// By so much the relay's memory may grow beside them, whatever is pushed: pages and caches of the
/// database, and what the allocator keeps.
const GROWTH_BYTES_MAX: u64 = 12 << 20;
/// And so much for each that does not read: a room's share, a session's queue, a page, and room for
/// a frame.
const STUCK_BYTES_MAX: u64 = 512 * 1024;
/// Sessions that read nothing.
const STUCK: usize = 4;

pub(super) async fn never_reads(extent: Extent, unbounded: bool) -> Result<String> {
    let pushes = match extent {
        Extent::Full => 1_000,
        Extent::Small => 48,
    };
    let lifted: &[&str] = &["--fanout-bytes-per-session-max=1 TiB", "--fanout-bytes-max=1 TiB"];
    let rig = rig(if unbounded { lifted } else { &[] }).await?;
    let dialer = rig.dialer(Transport::Ws, STUCK + 2).await?;
    let groups = found(&dialer, 1, STUCK + 2).await?;
    let mut sessions = connect(&dialer, &groups, 1).await?.into_iter().map(|connected| connected.client);
    let (mut writer, mut reader) = sessions.next().zip(sessions.next()).context("two of the sessions")?;
    let mut stuck: Vec<Client> = sessions.collect();
    for client in stuck.iter_mut().chain([&mut reader]) {
        patiently("a live session", go_live(client)).await??;
    }
    let entries = pushes * BATCH;
    let reading = tokio::spawn(async move { read(&mut reader, 1 + WARM_UP * BATCH + entries).await });

    let template = template(ENVELOPE_BYTES)?;
    let pid = rig.relay.pid().context("the relay runs")?;
    let memory = || Ok::<_, anyhow::Error>(Vitals::of(pid).context("the relay is gone")?.rss_bytes);
    let (mut before, mut most) = (0, 0);
    for push in 0..WARM_UP + pushes {
        patiently("an acknowledgement", push_batch(&mut writer, push, &template)).await??;
        if push == WARM_UP {
            before = memory()?;
        }
        most = memory()?.max(most);
    }
    patiently("everything at who reads", reading).await???;

    let (grown, bound) = (most.saturating_sub(before), GROWTH_BYTES_MAX + STUCK as u64 * STUCK_BYTES_MAX);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let pushed = entries * ENVELOPE_BYTES as u64;
    let what = format!(
        "the relay's memory grew by {:.1} MiB while {:.0} MiB were pushed past {STUCK} who read nothing",
        mib(grown),
        mib(pushed)
    );
    ensure!(grown <= bound, "{what}: more than {:.0} MiB", mib(bound));
    drop(stuck);
    Ok(format!("{what}; who reads had all of it"))
}

async fn rig(options: &[&str]) -> Result<Rig> {
    let options: Vec<String> = ["--log=warn"].iter().chain(options).map(ToString::to_string).collect();
    Rig::start(StoreKind::Sqlite, relay_binary()?, &options).await
}

/// Follows with more credit than there is to read.
async fn go_live(client: &mut Client) -> Result<()> {
    client.queue(&ClientFrame::Subscribe {
        timeline: Timeline::ZERO,
        after: 0,
        blob_id_at_after: BlobId::ZERO,
        credit: 1 << 40,
        follow: true,
    })?;
    while !matches!(client.next().await?, RelayFrame::CaughtUp { .. }) {}
    Ok(())
}

async fn push_batch(writer: &mut Client, push: u64, template: &[u8]) -> Result<()> {
    let stamp = |seq| Stamp { run: 1, sender: 0, seq, intended_ns: 0 };
    let envelopes: Vec<Bytes> = (push * BATCH..(push + 1) * BATCH).map(|seq| stamp(seq).envelope(template)).collect();
    writer.queue(&ClientFrame::Push { push, envelopes: List::try_from(envelopes)?, resume: false })?;
    loop {
        match writer.next().await? {
            RelayFrame::PushAck { results, .. } => {
                let all = results.iter().all(|result| matches!(result, PushResult::Stored { .. }));
                ensure!(all, "a push was refused: {results:?}");
                return Ok(());
            }
            RelayFrame::Acked { .. } => {}
            other => bail!("an unexpected {}", other.name()),
        }
    }
}

/// Reads until so many cursors were seen, each behind the one before.
async fn read(reader: &mut Client, last: u64) -> Result<()> {
    let mut next = 2;
    while next <= last {
        let frame = tokio::time::timeout(PATIENCE, reader.next()).await.context("nothing more comes")??;
        let RelayFrame::Entries { items } = frame else { continue };
        for item in items.iter() {
            let EntryItem::Stored { cursor, .. } = item else { bail!("{} instead of an entry", item.name()) };
            ensure!(*cursor == next, "cursor {cursor} came where {next} was due");
            next += 1;
        }
    }
    Ok(())
}
