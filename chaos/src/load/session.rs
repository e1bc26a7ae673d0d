//! One device under load: pushes at its pace, follows its group, and checks all it is told.
//!
//! Checked at every step: each push is answered once, in order, by a rising cursor; each entry of
//! the log comes once, in cursor order, with nothing left out; of each sender in its order. So no
//! figure comes from a relay that forgot something.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use tokio::sync::watch;
use zerok_sync_protocol::frame::{EntryItem, PushResult};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, ClientFrame, RelayFrame, Timeline};

use super::client::{Client, Stamp};
use super::pace::Pace;
use super::record::Recorder;

/// Bytes of entries a reader lets the relay send ahead, as the real client does.
pub const CREDIT_BYTES: u64 = 4 * 1024 * 1024;
/// What an entry costs of it beside its envelope, rounded up.
const ITEM_OVERHEAD_BYTES: u64 = 64;
/// How long followers may take to get what was acknowledged last.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// What all sessions of a run share.
pub struct Run {
    /// Marks this run's envelopes.
    pub id: u64,
    /// Time zero of stamps and schedules.
    pub start: Instant,
    /// What is sent from here on counts.
    pub count_from: Instant,
    /// Nothing is sent from here on.
    pub end: Instant,
    /// What envelopes are made of.
    pub template: Vec<u8>,
    /// Envelopes in one push.
    pub batch: u64,
    /// From the intended sending to when the session came to it.
    pub late: Recorder,
    /// From the intended sending to the acknowledgement.
    pub acks: Recorder,
    /// From the intended sending to the arrival at another session.
    pub deliveries: Recorder,
    /// Sessions that still wait for an acknowledgement, or have something to send.
    pub pushing: AtomicUsize,
    /// Turns true when there are none left.
    pub all_acked: watch::Sender<bool>,
}

impl Run {
    fn counts(&self, intended: Instant) -> bool {
        (self.count_from..self.end).contains(&intended)
    }

    fn one_has_all_acks(&self) {
        if self.pushing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all_acked.send_replace(true);
        }
    }
}

/// What one session did and saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Entries sent.
    pub sent: u64,
    /// Entries acknowledged.
    pub acked: u64,
    /// … between `count_from` and `end`.
    pub acked_counted: u64,
    /// Entries of others received.
    pub delivered: u64,
    /// … between `count_from` and `end`.
    pub delivered_counted: u64,
    /// Every cursor the relay gave, in the order of the entries. Only of pushing sessions.
    pub cursors: Vec<u64>,
}

/// One session of a run.
pub struct Session {
    run: Arc<Run>,
    client: Client,
    /// Its number in the run: the stamps' sender.
    index: u32,
    pace: Option<Pace>,
    /// The highest cursor that anybody's acknowledgement in this group named.
    group_acked: Arc<AtomicU64>,
    in_flight: VecDeque<InFlight>,
    next_push: u64,
    reader: Option<Reader>,
    seen: Seen,
}

struct InFlight {
    push: u64,
    first_seq: u64,
    count: u64,
    sent_at: Instant,
}

/// Where a follower stands.
#[derive(Debug)]
pub struct Reader {
    next: u64,
    credit_used: u64,
    /// The next entry of each sender, by the senders' numbers.
    senders: Vec<(u32, u64)>,
}

impl Session {
    /// A session that pushes at `pace`, if at all, and reads as `reader`, if it follows.
    #[must_use]
    pub fn new(
        run: Arc<Run>,
        client: Client,
        index: u32,
        pace: Option<Pace>,
        reader: Option<Reader>,
        group_acked: Arc<AtomicU64>,
    ) -> Self {
        let (in_flight, seen) = (VecDeque::new(), Seen::default());
        Self { run, client, index, pace, group_acked, in_flight, next_push: 0, reader, seen }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first thing that is not as it should be.
    pub async fn run(mut self) -> Result<Seen> {
        let (run, mut all_acked) = (self.run.clone(), self.run.all_acked.subscribe());
        let settled_by = tokio::time::Instant::from_std(run.end + SETTLE_MAX);
        tokio::time::sleep_until(run.start.into()).await;
        while !self.has_acks() {
            self.send()?;
            let turn = match &self.pace {
                Some(Pace::Scheduled(turn)) if Instant::now() < run.end => Some(turn.clone()),
                _ => None,
            };
            tokio::select! {
                exchanged = self.client.exchange() => exchanged?,
                () = async { turn.expect("checked").rung().await }, if turn.is_some() => {}
                () = tokio::time::sleep_until(run.end.into()), if Instant::now() < run.end => {}
                () = tokio::time::sleep_until(settled_by) => bail!("{} pushes were never answered", self.in_flight.len()),
            }
            self.take_all()?;
        }
        run.one_has_all_acks();
        // A follower stays until it has what was acknowledged last.
        if self.reader.is_some() {
            self.until_all_delivered(&mut all_acked, settled_by).await?;
        }
        Ok(self.seen)
    }

    async fn until_all_delivered(
        &mut self,
        all_acked: &mut watch::Receiver<bool>,
        settled_by: tokio::time::Instant,
    ) -> Result<()> {
        loop {
            let is_last = *all_acked.borrow_and_update();
            let next = self.reader.as_ref().map_or(0, |reader| reader.next);
            let acked = self.group_acked.load(Ordering::Acquire);
            if is_last && next > acked {
                return Ok(());
            }
            tokio::select! {
                exchanged = self.client.exchange() => exchanged?,
                _ = all_acked.changed(), if !is_last => {}
                () = tokio::time::sleep_until(settled_by) => bail!("acknowledged up to {acked}, delivered below {next}"),
            }
            self.take_all()?;
        }
    }

    /// Whether nothing is left to send, and all that was sent is answered.
    fn has_acks(&self) -> bool {
        let is_over = match &self.pace {
            None => true,
            Some(Pace::FlatOut { .. }) => Instant::now() >= self.run.end,
            Some(Pace::Scheduled(turn)) => Instant::now() >= self.run.end && self.seen.sent >= turn.due(),
        };
        is_over && self.in_flight.is_empty()
    }

    /// Queues what is due.
    fn send(&mut self) -> Result<()> {
        let now = Instant::now();
        match self.pace.clone() {
            None => {}
            Some(Pace::FlatOut { in_flight }) => {
                while now < self.run.end && self.in_flight.len() < in_flight {
                    self.push(self.run.batch, |_| now)?;
                }
            }
            Some(Pace::Scheduled(turn)) => {
                while turn.due() > self.seen.sent {
                    let count = (turn.due() - self.seen.sent).min(self.run.batch);
                    let start = self.run.start;
                    self.push(count, |seq| start + turn.intended(seq))?;
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, count: u64, intended: impl Fn(u64) -> Instant) -> Result<()> {
        let first_seq = self.seen.sent;
        let envelopes: Vec<Bytes> = (first_seq..first_seq + count)
            .map(|seq| {
                let intended = intended(seq).saturating_duration_since(self.run.start);
                let intended_ns = u64::try_from(intended.as_nanos()).unwrap_or(u64::MAX);
                Stamp { run: self.run.id, sender: self.index, seq, intended_ns }.envelope(&self.run.template)
            })
            .collect();
        let push = self.next_push;
        let envelopes = List::try_from(envelopes).context("--batch is too large")?;
        self.client.queue(&ClientFrame::Push { push, envelopes, resume: false })?;
        let sent_at = intended(first_seq);
        if self.run.counts(sent_at) {
            self.run.late.record(self.index as usize, [sent_at.elapsed()]);
        }
        self.in_flight.push_back(InFlight { push, first_seq, count, sent_at });
        self.next_push += 1;
        self.seen.sent += count;
        Ok(())
    }

    fn take_all(&mut self) -> Result<()> {
        while let Some(frame) = self.client.poll_frame()? {
            self.take(frame)?;
        }
        Ok(())
    }

    fn take(&mut self, frame: RelayFrame) -> Result<()> {
        match frame {
            RelayFrame::PushAck { push, results } => self.take_ack(push, &results),
            RelayFrame::Entries { items } => self.take_entries(items.into_vec()),
            RelayFrame::CaughtUp { head } => {
                self.reader.as_ref().context("CaughtUp without a Subscribe")?.expect_caught_up_at(head)
            }
            RelayFrame::Acked { .. } | RelayFrame::Whispered { .. } | RelayFrame::Pong {} => Ok(()),
            other => bail!("an unexpected {}", other.name()),
        }
    }

    fn take_ack(&mut self, push: u64, results: &[PushResult]) -> Result<()> {
        let now = Instant::now();
        let open = self.in_flight.pop_front().context("an answer to nothing")?;
        ensure!(open.push == push, "push {push} is answered before {}", open.push);
        ensure!(open.count == results.len() as u64, "{} answers to {} entries", results.len(), open.count);
        for result in results {
            match result {
                PushResult::Stored { cursor } => {
                    let before = self.seen.cursors.last().copied().unwrap_or(0);
                    ensure!(*cursor > before, "cursor {cursor} after {before}");
                    self.seen.cursors.push(*cursor);
                }
                PushResult::Refused { code } => bail!("an entry was refused: {code}"),
            }
        }
        self.seen.acked += open.count;
        if self.run.counts(now) {
            self.seen.acked_counted += open.count;
        }
        let last = self.seen.cursors.last().copied().unwrap_or(0);
        self.group_acked.fetch_max(last, Ordering::AcqRel);
        if self.run.counts(open.sent_at) {
            let latencies = match &self.pace {
                Some(Pace::Scheduled(turn)) => {
                    let intended = |seq| self.run.start + turn.intended(seq);
                    (open.first_seq..open.first_seq + open.count).map(intended).collect()
                }
                _ => vec![open.sent_at; results.len()],
            };
            let latencies = latencies.into_iter().map(|intended| now.saturating_duration_since(intended));
            self.run.acks.record(self.index as usize, latencies);
        }
        Ok(())
    }

    fn take_entries(&mut self, items: Vec<EntryItem>) -> Result<()> {
        let now = Instant::now();
        let run = self.run.clone();
        let reader = self.reader.as_mut().context("entries without a Subscribe")?;
        let (mut latencies, mut others) = (Vec::with_capacity(items.len()), 0);
        for item in &items {
            reader.take(item)?;
            let EntryItem::Stored { envelope, .. } = item else { continue };
            // Other runs' entries, and own ones that the relay did not recognise, are only counted.
            let is_of_others = |stamp: &Stamp| stamp.run == run.id && stamp.sender != self.index;
            let Some(stamp) = Stamp::of(envelope).filter(is_of_others) else { continue };
            reader.expect_in_order(stamp)?;
            others += 1;
            let intended = run.start + Duration::from_nanos(stamp.intended_ns);
            if run.counts(intended) {
                latencies.push(now.saturating_duration_since(intended));
            }
        }
        self.seen.delivered += others;
        if run.counts(now) {
            self.seen.delivered_counted += others;
        }
        reader.give_credit(&mut self.client)?;
        run.deliveries.record(self.index as usize, latencies);
        Ok(())
    }
}

impl Reader {
    /// Subscribes from the start of the log and returns when the session is live.
    ///
    /// # Errors
    /// When the relay refuses, or sends what no relay sends.
    pub async fn follow(client: &mut Client) -> Result<Self> {
        client.queue(&subscribe(true))?;
        let mut reader = Self { next: 1, credit_used: 0, senders: Vec::new() };
        loop {
            match client.next().await? {
                RelayFrame::Entries { items } => {
                    items.iter().try_for_each(|item| reader.take(item))?;
                    reader.give_credit(client)?;
                }
                RelayFrame::CaughtUp { head } => {
                    reader.expect_caught_up_at(head)?;
                    return Ok(reader);
                }
                other => bail!("an unexpected {}", other.name()),
            }
        }
    }

    fn expect_caught_up_at(&self, head: u64) -> Result<()> {
        ensure!(head + 1 == self.next, "CaughtUp at {head}, while {} comes next", self.next);
        Ok(())
    }

    fn give_credit(&mut self, client: &mut Client) -> Result<()> {
        if self.credit_used >= CREDIT_BYTES / 4 {
            let bytes = std::mem::take(&mut self.credit_used);
            client.queue(&ClientFrame::Credit { bytes })?;
        }
        Ok(())
    }

    /// Cursors come one after another.
    fn take(&mut self, item: &EntryItem) -> Result<()> {
        let cursor = match item {
            EntryItem::Stored { cursor, .. } | EntryItem::Own { cursor, .. } => *cursor,
            EntryItem::Absent { cursor, reason, .. } => bail!("the relay lost entry {cursor}: {reason:?}"),
        };
        ensure!(cursor == self.next, "cursor {cursor} came where {} was due", self.next);
        self.next += 1;
        self.credit_used += ITEM_OVERHEAD_BYTES;
        if let EntryItem::Stored { envelope, .. } = item {
            self.credit_used += envelope.len() as u64;
        }
        Ok(())
    }

    /// A sender's entries come one after another.
    fn expect_in_order(&mut self, stamp: Stamp) -> Result<()> {
        let place = match self.senders.iter().position(|(sender, _)| *sender == stamp.sender) {
            Some(place) => place,
            None => {
                self.senders.push((stamp.sender, 0));
                self.senders.len() - 1
            }
        };
        let next = &mut self.senders[place].1;
        ensure!(stamp.seq == *next, "entry {} of sender {} came where {next} was due", stamp.seq, stamp.sender);
        *next += 1;
        Ok(())
    }
}

/// Reads a log from its start.
pub fn subscribe(follow: bool) -> ClientFrame {
    ClientFrame::Subscribe {
        timeline: Timeline::ZERO,
        after: 0,
        blob_id_at_after: BlobId::ZERO,
        credit: CREDIT_BYTES,
        follow,
    }
}

#[cfg(test)]
mod tests {
    use zerok_sync_protocol::frame::AbsentReason;

    use super::*;

    fn reader() -> Reader {
        Reader { next: 1, credit_used: 0, senders: Vec::new() }
    }

    fn own(cursor: u64) -> EntryItem {
        EntryItem::Own { cursor, blob_id: BlobId::ZERO }
    }

    fn stamp(sender: u32, seq: u64) -> Stamp {
        Stamp { run: 1, sender, seq, intended_ns: 0 }
    }

    #[test]
    fn a_cursor_that_is_skipped_repeated_or_lost_ends_the_run() {
        let mut reader = reader();
        assert!(reader.take(&own(1)).is_ok());
        assert!(reader.take(&own(1)).is_err(), "repeated");
        assert!(reader.take(&own(3)).is_err(), "skipped");
        let lost = EntryItem::Absent { cursor: 2, blob_id: None, reason: AbsentReason::Lost {} };
        assert!(reader.take(&lost).is_err(), "lost");
        assert!(reader.take(&own(2)).is_ok());
    }

    #[test]
    fn a_senders_entry_that_is_skipped_or_repeated_ends_the_run() {
        let mut reader = reader();
        assert!(reader.expect_in_order(stamp(7, 0)).is_ok());
        assert!(reader.expect_in_order(stamp(8, 0)).is_ok(), "senders have no order among themselves");
        assert!(reader.expect_in_order(stamp(7, 0)).is_err(), "repeated");
        assert!(reader.expect_in_order(stamp(7, 2)).is_err(), "skipped");
        assert!(reader.expect_in_order(stamp(7, 1)).is_ok());
    }
}
