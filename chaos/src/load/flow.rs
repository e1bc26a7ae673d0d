//! Pushing and following for a while: the modes `push` and `live`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use zerok_sync_protocol::RelayFrame;
use zerok_sync_protocol::frame::EntryItem;

use super::client::{Client, Group, Stamp, template};
use super::pace::{Pace, Pacer};
use super::population::{Connected, Dialer, connect};
use super::record::{Latency, Recorder};
use super::rig::{Cores, CoresSince, Rig};
use super::session::{CREDIT_BYTES, Reader, Run, Seen, Session, subscribe};

/// Between the last session's being live and the first entry.
const LEAD: Duration = Duration::from_millis(50);

/// What happens in a flow.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Sessions of each device.
    pub sessions: usize,
    /// Sessions that push, in each group; all if there are fewer.
    pub pushers: usize,
    /// Whether every session follows its group.
    pub follow: bool,
    /// Entries a second of all together; flat out without.
    pub rate: Option<f64>,
    /// Unanswered pushes of a session that pushes flat out.
    pub in_flight: usize,
    /// Envelopes in a push.
    pub batch: u64,
    /// Bytes of an envelope.
    pub payload_bytes: usize,
    /// Not counted.
    pub warm_up: Duration,
    /// Counted.
    pub duration: Duration,
    /// Read every log back and compare it with what was acknowledged.
    pub verify: bool,
}

/// What a flow measured.
#[derive(Debug, Clone, Serialize)]
pub struct Flowed {
    /// Sessions there were.
    pub sessions: usize,
    /// Entries acknowledged in the counted time.
    pub acked: u64,
    /// … a second.
    pub acked_per_second: f64,
    /// Entries that reached another session in the counted time, a second.
    pub delivered_per_second: f64,
    /// From the intended sending to when the generator came to it, which is part of the next two.
    pub sent_late: Latency,
    /// From the intended sending to the acknowledgement.
    pub push_to_ack: Latency,
    /// From the intended sending to the arrival at another session.
    pub push_to_delivery: Latency,
    /// Entries whose log was read back and held them where the relay had said.
    pub verified: u64,
    /// Who used the processors in the counted time.
    pub cores: Cores,
}

/// Connects everybody, runs the flow, checks that nothing is missing.
///
/// # Errors
/// The first thing that is not as it should be.
pub async fn flow(rig: Option<&Rig>, dialer: &Dialer, groups: &[Arc<Group>], flow: &Flow) -> Result<Flowed> {
    let connected = connect(dialer, groups, flow.sessions).await?;
    let population = connected.len();
    let group_of: Vec<usize> = connected.iter().map(|session| session.group).collect();
    let (run, pacer, sessions) = cast(connected, groups.len(), flow).await?;
    let mut tasks = JoinSet::new();
    for session in sessions {
        let (index, session) = session;
        tasks.spawn(
            async move { anyhow::Ok((index, session.run().await.with_context(|| format!("session {index}"))?)) },
        );
    }
    let seeing = async {
        let mut seen: Vec<(usize, Seen)> = Vec::with_capacity(population);
        while let Some(done) = tasks.join_next().await {
            seen.push(done??);
        }
        anyhow::Ok(seen)
    };
    let (seen, cores) = tokio::join!(seeing, cores_while_counted(rig, &run));
    let seen = seen?;
    drop(pacer);
    let verified = if flow.verify { verify(dialer, groups, &group_of, &seen, run.id).await? } else { 0 };
    let sum = |count: fn(&Seen) -> u64| seen.iter().map(|(_, seen)| count(seen)).sum::<u64>();
    let seconds = flow.duration.as_secs_f64();
    ensure!(sum(|seen| seen.sent) == sum(|seen| seen.acked), "some entries were not acknowledged");
    Ok(Flowed {
        sessions: population,
        acked: sum(|seen| seen.acked_counted),
        acked_per_second: sum(|seen| seen.acked_counted) as f64 / seconds,
        delivered_per_second: sum(|seen| seen.delivered_counted) as f64 / seconds,
        sent_late: run.late.summary(),
        push_to_ack: run.acks.summary(),
        push_to_delivery: run.deliveries.summary(),
        verified,
        cores,
    })
}

async fn cores_while_counted(rig: Option<&Rig>, run: &Run) -> Cores {
    tokio::time::sleep_until(run.count_from.into()).await;
    let since = CoresSince::now(rig);
    tokio::time::sleep_until(run.end.into()).await;
    since.cores()
}

/// Gives everybody a role; all who follow are live when this returns.
async fn cast(
    connected: Vec<Connected>,
    groups: usize,
    flow: &Flow,
) -> Result<(Arc<Run>, Option<Pacer>, Vec<(usize, Session)>)> {
    let mut pushers_of = vec![0; groups];
    let pushes: Vec<bool> = connected
        .iter()
        .map(|session| {
            let before = &mut pushers_of[session.group];
            *before += 1;
            *before <= flow.pushers
        })
        .collect();
    let pushing = pushes.iter().filter(|pushes| **pushes).count();
    let turns = flow.rate.map(|rate| Pacer::turns(pushing, rate));
    let mut paces: Vec<Pace> = match &turns {
        Some(turns) => turns.iter().cloned().map(Pace::Scheduled).collect(),
        None => vec![Pace::FlatOut { in_flight: flow.in_flight }; pushing],
    };
    let connected = follow(connected, flow.follow).await?;
    let start = Instant::now() + LEAD;
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let run = Arc::new(Run {
        id: u64::from_le_bytes(id),
        start,
        count_from: start + flow.warm_up,
        end: start + flow.warm_up + flow.duration,
        template: template(flow.payload_bytes)?,
        batch: flow.batch,
        late: Recorder::default(),
        acks: Recorder::default(),
        deliveries: Recorder::default(),
        pushing: AtomicUsize::new(connected.len()),
        all_acked: watch::Sender::new(false),
    });
    let group_acked: Vec<Arc<AtomicU64>> = (0..groups).map(|_| Arc::default()).collect();
    let mut sessions = Vec::with_capacity(connected.len());
    for (index, ((connected, reader), pushes)) in connected.into_iter().zip(pushes).enumerate() {
        let pace = if pushes { paces.pop() } else { None };
        let number = u32::try_from(index).context("too many sessions")?;
        let acked = group_acked[connected.group].clone();
        sessions.push((index, Session::new(run.clone(), connected.client, number, pace, reader, acked)));
    }
    let pacer = turns.map(|turns| Pacer::start(turns, start, run.end)).transpose()?;
    Ok((run, pacer, sessions))
}

/// Has all sessions follow their groups, if they are to; all are live when this returns.
async fn follow(connected: Vec<Connected>, follow: bool) -> Result<Vec<(Connected, Option<Reader>)>> {
    let mut following = JoinSet::new();
    let mut places: Vec<_> = connected.iter().map(|_| None).collect();
    for (index, mut session) in connected.into_iter().enumerate() {
        following.spawn(async move {
            let reader = if follow { Some(Reader::follow(&mut session.client).await?) } else { None };
            anyhow::Ok((index, session, reader))
        });
    }
    while let Some(live) = following.join_next().await {
        let (index, session, reader) = live??;
        places[index] = Some((session, reader));
    }
    Ok(places.into_iter().flatten().collect())
}

/// Reads every log back: at each acknowledged cursor stands what was sent.
async fn verify(
    dialer: &Dialer,
    groups: &[Arc<Group>],
    group_of: &[usize],
    seen: &[(usize, Seen)],
    run: u64,
) -> Result<u64> {
    let mut verified = 0;
    for (index, group) in groups.iter().enumerate() {
        let stamps = read_log(dialer, group).await?;
        for (sender, seen) in seen.iter().filter(|(sender, _)| group_of[*sender] == index) {
            for (seq, cursor) in seen.cursors.iter().enumerate() {
                let stands = usize::try_from(*cursor).ok().and_then(|cursor| stamps.get(cursor - 1).copied().flatten());
                let is_it = stands
                    .is_some_and(|stamp| (stamp.run, stamp.sender as usize, stamp.seq) == (run, *sender, seq as u64));
                ensure!(is_it, "entry {seq} of sender {sender} was acknowledged at {cursor}, where {stands:?} stands");
                verified += 1;
            }
        }
    }
    Ok(verified)
}

/// The stamps of a log, from cursor 1 on.
async fn read_log(dialer: &Dialer, group: &Group) -> Result<Vec<Option<Stamp>>> {
    let (mut client, _) = Client::member(&dialer.dial(0), group, &group.devices[0], Some(dialer.noise_key)).await?;
    client.queue(&subscribe(false))?;
    let mut stamps = Vec::new();
    loop {
        match client.next().await? {
            RelayFrame::Entries { items } => {
                for item in items.iter() {
                    let EntryItem::Stored { cursor, envelope, .. } = item else {
                        anyhow::bail!("{} where an entry was expected", item.name());
                    };
                    ensure!(*cursor == stamps.len() as u64 + 1, "cursor {cursor} out of order");
                    stamps.push(Stamp::of(envelope));
                }
                client.queue(&zerok_sync_protocol::ClientFrame::Credit { bytes: CREDIT_BYTES })?;
            }
            RelayFrame::CaughtUp { .. } => return Ok(stamps),
            other => anyhow::bail!("an unexpected {}", other.name()),
        }
    }
}
