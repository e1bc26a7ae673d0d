//! A device of the soak: a real client on a home on disk, an app that pushes at a rate and reads
//! everything, and a record of what that app saw.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, TryStreamExt};
use hdrhistogram::Histogram;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at};
use zerok_sync::{
    Client, Connection, DeviceId, EntriesOptions, ErrorCode, FoundOptions, InviteEvent, InviteOptions, JoinOptions,
    OpenOptions, Problem, Status, Transport,
};

use super::trace::{Delivery, DeviceTrace, End, Fingerprint, Seat, Seen};

/// Entries that an app processes before it says so.
const CHUNK_ENTRIES: usize = 64;
/// Letting a device in takes a second or two.
const PAIRING_WITHIN: Duration = Duration::from_secs(60);
/// Pushes of one device that may wait for their acknowledgement when it goes flat out.
const FLAT_OUT_PENDING_MAX: u64 = 32;

/// What an app pushes: recognisable wherever it turns up, and different each time.
#[derive(Debug, Clone)]
pub struct Blobs {
    /// In every blob, and nowhere else in the world.
    pub marker: String,
    /// Bytes of the largest.
    pub bytes_max: usize,
}

impl Blobs {
    /// The `number`th blob of a device, of this length unless its head is longer.
    fn blob(&self, seat: Seat, number: u64, bytes: usize) -> Vec<u8> {
        let head = format!("{} {seat} blob {number};", self.marker);
        let filler = b" the quick brown fox keeps a secret from the lazy relay".iter().cycle();
        head.bytes().chain(filler.take(bytes.saturating_sub(head.len())).copied()).collect()
    }
}

/// How fast every device pushes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Not at all.
    Still,
    /// As fast as the relay acknowledges.
    FlatOut,
    /// One in this time.
    Every(Duration),
}

/// What is written down about a device, by the tasks that are its app.
#[derive(Debug)]
pub struct Record {
    seen: Mutex<Vec<Seen>>,
    /// Pushes that are not acknowledged, with when they were made.
    pending: Mutex<VecDeque<(u64, Instant)>>,
    /// Milliseconds from a push to its acknowledgement.
    ack_ms: Mutex<Histogram<u64>>,
    /// Blobs made so far.
    blobs: Mutex<u64>,
}

impl Record {
    fn new() -> Self {
        let ack_ms = ack_times();
        Self { seen: Mutex::default(), pending: Mutex::default(), ack_ms: Mutex::new(ack_ms), blobs: Mutex::default() }
    }

    fn note(&self, seen: Seen) {
        lock(&self.seen).push(seen);
    }

    fn next_blob(&self) -> u64 {
        let mut made = lock(&self.blobs);
        *made += 1;
        *made
    }

    /// Pushes and writes it down.
    async fn push(&self, client: &Client, blob: Vec<u8>) -> Result<()> {
        let fingerprint = Fingerprint::of(&blob);
        let begun = Instant::now();
        let receipt = client.push(blob).await?;
        lock(&self.pending).push_back((receipt.number(), begun));
        self.note(Seen::Pushed { seq: receipt.number(), blob: fingerprint });
        Ok(())
    }
}

/// An empty histogram of milliseconds, up to an hour.
#[must_use]
pub fn ack_times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000, 2).expect("two digits are a valid precision")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A device that runs.
pub struct Device {
    /// Which it is.
    pub seat: Seat,
    /// Its identity.
    pub id: DeviceId,
    home: PathBuf,
    transport: Transport,
    blobs: Blobs,
    pace: watch::Receiver<Pace>,
    record: Arc<Record>,
    running: Option<Running>,
}

struct Running {
    client: Client,
    /// Stops pushing before the client is closed, so that every push is known to be made or not.
    stop: watch::Sender<bool>,
    pushing: JoinHandle<Result<()>>,
    others: [JoinHandle<Result<()>>; 2],
}

impl Device {
    /// Founds a group and its other devices, by turns on WebSocket and on iroh.
    ///
    /// # Errors
    /// What a client said.
    pub async fn group(
        group: usize,
        devices: usize,
        relay: &str,
        homes: &Path,
        blobs: &Blobs,
        pace: &watch::Receiver<Pace>,
    ) -> Result<Vec<Self>> {
        let home = |device| homes.join(format!("group-{group}-device-{device}"));
        let name = |device| format!("{}-name-{group}-{device}", blobs.marker);
        let transport = |device| [Transport::WebSocket, Transport::Iroh][(group + device) % 2];
        let founding =
            FoundOptions { device_name: name(0), transport: transport(0), ..FoundOptions::new(home(0), relay) };
        let mut clients = vec![Client::found(founding).await?];
        for device in 1..devices {
            let joined = async {
                let mut invitation = clients[0].invite(InviteOptions::default()).await?;
                let InviteEvent::Ready { invite } = invitation.next().await? else { bail!("no link") };
                let options = JoinOptions {
                    device_name: name(device),
                    transport: transport(device),
                    ..JoinOptions::new(home(device), invite)
                };
                let joining = tokio::spawn(Client::join(options, |_digits| {}));
                let InviteEvent::JoinerWaiting { .. } = invitation.next().await? else { bail!("no joiner") };
                invitation.accept_unchecked().await?;
                let InviteEvent::Accepted { .. } = invitation.next().await? else { bail!("not accepted") };
                Ok(joining.await??)
            };
            let joined = tokio::time::timeout(PAIRING_WITHIN, joined).await.context("pairing took too long")?;
            clients.push(joined.with_context(|| format!("device {device} of group {group} was not let in"))?);
        }
        let mut seated = Vec::new();
        for (device, client) in clients.into_iter().enumerate() {
            let id = client.status().borrow().device;
            let mut device = Self {
                seat: Seat { group, device },
                id,
                home: home(device),
                transport: transport(device),
                blobs: blobs.clone(),
                pace: pace.clone(),
                record: Arc::new(Record::new()),
                running: None,
            };
            device.run(client);
            seated.push(device);
        }
        Ok(seated)
    }

    fn run(&mut self, client: Client) {
        self.record.note(Seen::Opened { processed: client.status().borrow().processed });
        let (stop, stopped) = watch::channel(false);
        let pusher = Pusher {
            client: client.clone(),
            record: self.record.clone(),
            seat: self.seat,
            blobs: self.blobs.clone(),
            pace: self.pace.clone(),
            stopped,
        };
        let reading = tokio::spawn(read(client.clone(), self.record.clone()));
        let watching = tokio::spawn(watch_status(client.status(), self.record.clone()));
        self.running = Some(Running { client, stop, pushing: tokio::spawn(pusher.run()), others: [reading, watching] });
    }

    /// Closes it in good order; what it did not send waits in its home.
    ///
    /// # Errors
    /// What its app stumbled over.
    pub async fn close(&mut self) -> Result<()> {
        let Some(running) = self.running.take() else { return Ok(()) };
        running.stop.send_replace(true);
        running.pushing.await??;
        running.client.close().await;
        for task in running.others {
            task.await??;
        }
        Ok(())
    }

    /// Opens it again.
    ///
    /// # Errors
    /// What the client said.
    pub async fn open(&mut self) -> Result<()> {
        let options = OpenOptions { transport: self.transport, ..OpenOptions::new(&self.home) };
        let client = Client::open(options).await?;
        self.run(client);
        Ok(())
    }

    /// Pushes so many blobs of this length at once.
    ///
    /// # Errors
    /// If it does not run, or what the client said.
    pub async fn burst(&self, count: usize, bytes: usize) -> Result<()> {
        let running = self.running.as_ref().context("it does not run")?;
        for _ in 0..count {
            let blob = self.blobs.blob(self.seat, self.record.next_blob(), bytes);
            self.record.push(&running.client, blob).await?;
        }
        Ok(())
    }

    /// Its app comes to the foreground.
    ///
    /// # Errors
    /// If the client has ended.
    pub async fn wake(&self) -> Result<()> {
        match &self.running {
            Some(running) => Ok(running.client.wake().await?),
            None => Ok(()),
        }
    }

    /// Where it keeps everything.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// What it says of itself, if it runs.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.running.as_ref().map(|running| running.client.status().borrow().clone())
    }

    /// Pushes that were made, of them acknowledged, and entries that came, so far.
    #[must_use]
    pub fn counts(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        for seen in lock(&self.record.seen).iter() {
            match seen {
                Seen::Pushed { .. } => counts[0] += 1,
                Seen::Delivered(_) => counts[2] += 1,
                _ => {}
            }
        }
        counts[1] = counts[0] - lock(&self.record.pending).len() as u64;
        counts
    }

    /// Number of the latest push that is on its disk.
    #[must_use]
    pub fn latest_push(&self) -> u64 {
        let seen = lock(&self.record.seen);
        let latest = seen.iter().rev().find_map(|seen| match seen {
            Seen::Pushed { seq, .. } => Some(*seq),
            _ => None,
        });
        latest.unwrap_or(0)
    }

    /// Waits until the relay has acknowledged this push. For ever, if the device does not run.
    pub async fn acknowledged(&self, push: u64) {
        let Some(running) = &self.running else { return std::future::pending().await };
        let mut status = running.client.status();
        if status.wait_for(|status| status.acked_push >= push).await.is_err() {
            std::future::pending().await
        }
    }

    /// Adds its times from push to acknowledgement to those of [`ack_times`].
    pub fn add_ack_times(&self, all: &mut Histogram<u64>) {
        all.add(&*lock(&self.record.ack_ms)).expect("both have the same bounds");
    }

    /// Waits until it is at rest with this many entries; else, after the time given, what is in the
    /// way.
    pub async fn settled(&self, entries: u64, within: Duration) -> Option<String> {
        let Some(running) = &self.running else { return Some("it does not run".into()) };
        let mut status = running.client.status();
        let at_rest = status.wait_for(|status| trouble(status, entries).is_none());
        match tokio::time::timeout(within, at_rest).await {
            Ok(Ok(_)) => None,
            Ok(Err(_)) => Some("it has ended".into()),
            Err(_) => trouble(&running.client.status().borrow(), entries),
        }
    }

    /// Looks through everything it has.
    ///
    /// # Errors
    /// What the client said.
    pub async fn end(&self, trouble: Option<String>) -> Result<End> {
        let running = self.running.as_ref().context("it does not run")?;
        let audit = running.client.verify().await?;
        let all = EntriesOptions { after: Some(0), own: true, stored_only: true };
        let order = running.client.entries_with(all);
        let order = order.map_ok(|entry| (entry.lamport, entry.sender, entry.seq, entry.blob_id)).try_collect().await?;
        let status = running.client.status().borrow().clone();
        Ok(End {
            trouble,
            outbox: status.outbox_count,
            members: status.members.iter().map(|member| member.device).collect(),
            relay_head: status.relay_head,
            position: status.position,
            processed: status.processed,
            verified: audit.entries,
            findings: audit.findings.iter().chain(&status.integrity).map(|finding| format!("{finding:?}")).collect(),
            order,
        })
    }

    /// All that was seen.
    #[must_use]
    pub fn trace(&self, end: End) -> DeviceTrace {
        DeviceTrace { id: self.id, seen: lock(&self.record.seen).clone(), end }
    }
}

/// What keeps a device from being at rest with this many entries.
fn trouble(status: &Status, entries: u64) -> Option<String> {
    let Status { connection, caught_up, outbox_count, position, processed, problem, .. } = status;
    let at_rest = *connection == Connection::Live && *caught_up && problem.is_none() && *outbox_count == 0;
    let complete = *position >= entries && processed == position;
    (!at_rest || !complete).then(|| {
        format!("{connection:?}, {outbox_count} to push, {processed} of {position} of {entries} processed, {problem:?}")
    })
}

/// The app's pushing half.
struct Pusher {
    client: Client,
    record: Arc<Record>,
    seat: Seat,
    blobs: Blobs,
    pace: watch::Receiver<Pace>,
    stopped: watch::Receiver<bool>,
}

impl Pusher {
    /// Keeps the pace until it is stopped. A push under way is never dropped, so that each is known
    /// to be made or not.
    async fn run(mut self) -> Result<()> {
        while !*self.stopped.borrow() {
            let pace = *self.pace.borrow_and_update();
            match pace {
                Pace::Still => tokio::select! {
                    changed = self.pace.changed() => changed?,
                    stopped = self.stopped.changed() => stopped?,
                },
                Pace::Every(period) => self.steadily(period).await?,
                Pace::FlatOut => self.flat_out().await?,
            }
        }
        Ok(())
    }

    /// Something else is to be done.
    fn is_over(&self) -> bool {
        *self.stopped.borrow() || self.pace.has_changed().unwrap_or(true)
    }

    async fn steadily(&self, period: Duration) -> Result<()> {
        // Devices do not tick together.
        let phase = period.mul_f64(((self.seat.group * 7 + self.seat.device * 3) % 10) as f64 / 10.0);
        let mut ticks = interval_at(tokio::time::Instant::now() + phase, period);
        // The rate is kept on average: what a slow moment held up is made good.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            ticks.tick().await;
            if self.is_over() {
                return Ok(());
            }
            self.push().await?;
        }
    }

    async fn flat_out(&self) -> Result<()> {
        let mut status = self.client.status();
        loop {
            status.wait_for(|status| status.outbox_count < FLAT_OUT_PENDING_MAX).await?;
            if self.is_over() {
                return Ok(());
            }
            self.push().await?;
        }
    }

    async fn push(&self) -> Result<()> {
        let number = self.record.next_blob();
        // Every size comes up, in no order that has to do with anything.
        let bytes = (number as usize * 7_919 + self.seat.device * 31) % self.blobs.bytes_max.max(1);
        self.record.push(&self.client, self.blobs.blob(self.seat, number, bytes)).await
    }
}

async fn read(client: Client, record: Arc<Record>) -> Result<()> {
    let options = EntriesOptions { own: true, ..EntriesOptions::default() };
    let mut entries = client.entries_with(options).ready_chunks(CHUNK_ENTRIES);
    while let Some(chunk) = entries.next().await {
        let mut last = 0;
        for entry in chunk {
            let entry = entry?;
            last = entry.position;
            record.note(Seen::Delivered(Delivery {
                position: entry.position,
                cursor: entry.cursor,
                blob_id: entry.blob_id,
                sender: entry.sender,
                seq: entry.seq,
                blob: Fingerprint::of(&entry.data),
            }));
        }
        // A client that is being closed takes no more: what was read comes again.
        if client.mark_processed(last).await.is_err() {
            break;
        }
        record.note(Seen::Processed { position: last });
    }
    Ok(())
}

async fn watch_status(mut status: watch::Receiver<Status>, record: Arc<Record>) -> Result<()> {
    let mut acked = 0;
    let mut known = BTreeSet::new();
    loop {
        let now = status.borrow_and_update().clone();
        if now.acked_push > acked {
            acked = now.acked_push;
            record.note(Seen::Acked { up_to: acked });
            let mut pending = lock(&record.pending);
            let done = pending.partition_point(|(number, _)| *number <= acked);
            for (_, begun) in pending.drain(..done) {
                let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                lock(&record.ack_ms).saturating_record(ms);
            }
        }
        let accusations = now.integrity.iter().map(|finding| format!("{finding:?}"));
        let unexpected = now.problem.filter(|problem| !is_an_outage(problem)).map(|problem| problem.to_string());
        for finding in accusations.chain(unexpected) {
            if known.insert(finding.clone()) {
                record.note(Seen::Accused { finding });
            }
        }
        if status.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Whether a killed relay or database explains it.
fn is_an_outage(problem: &Problem) -> bool {
    match problem {
        Problem::Unreachable(_) => true,
        Problem::Refused { code, .. } => {
            matches!(code, Some(ErrorCode::StorageUnavailable | ErrorCode::Overloaded | ErrorCode::ShuttingDown))
        }
        _ => false,
    }
}
