//! The invariants, as a function of what was seen: no acknowledged entry lost, none delivered again
//! once processed or out of its sender's order, every cursor what the database says, all devices
//! the same in the end, nobody accused, nothing readable on the relay's disk, nothing left held.
//!
//! Pure, so that every violation has a test that plants it into a sound trace.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use zerok_sync::{BlobId, DeviceId};

use super::trace::{Delivery, DeviceTrace, Fingerprint, Leak, Seat, Seen, StoredLog, Trace};

/// Memory that a relay may hold in the end beyond what it held at first: allocators and databases
/// keep what they once had, so a leak shows above it.
pub const RSS_GROWTH_BYTES_MAX: u64 = 64 << 20;
/// Threads and file descriptors: pools of database connections fill with use.
pub const HANDLES_GROWTH_MAX: u64 = 48;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A push that was acknowledged is not at some device, or not in the log.
    #[error("push {seq} of {of} was acknowledged and {missing} does not have it")]
    AckedLost {
        /// Whose push.
        of: Seat,
        /// Its number.
        seq: u64,
        /// Who does not have it.
        missing: Place,
    },
    /// A push that was durable on its device never arrived.
    #[error("push {seq} of {of} was on its device's disk and {missing} does not have it")]
    PushLost {
        /// Whose push.
        of: Seat,
        /// Its number.
        seq: u64,
        /// Who does not have it.
        missing: Place,
    },
    /// An entry came again after it was processed, or twice in one run.
    #[error("{at} was given position {position} again")]
    DeliveredAgain {
        /// To whom.
        at: Seat,
        /// The position.
        position: u64,
    },
    /// A run did not go on with the next position.
    #[error("{at} was given position {position} where {expected} was next")]
    Skipped {
        /// To whom.
        at: Seat,
        /// What came.
        position: u64,
        /// What should have come.
        expected: u64,
    },
    /// One position, two entries; or one entry, two positions.
    #[error("{at} was given entry {seq} of {of} as position {position} and before as {before}")]
    Renumbered {
        /// To whom.
        at: Seat,
        /// Whose entry.
        of: Seat,
        /// Its number.
        seq: u64,
        /// Its position now.
        position: u64,
        /// Its position before.
        before: u64,
    },
    /// An opened client has forgotten what was processed.
    #[error("{at} had processed position {processed} and, opened again, says {opened}")]
    PositionLost {
        /// Whose.
        at: Seat,
        /// What had been stored.
        processed: u64,
        /// What came back.
        opened: u64,
    },
    /// Entries of one sender in the wrong order.
    #[error("{at} was given entry {seq} of {of} behind entry {after}")]
    OutOfOrder {
        /// To whom.
        at: Seat,
        /// Whose.
        of: Seat,
        /// What came.
        seq: u64,
        /// Behind this one.
        after: u64,
    },
    /// What came is not what was pushed, or nobody pushed it.
    #[error("{at} was given position {position}, which is not what anybody pushed")]
    Altered {
        /// To whom.
        at: Seat,
        /// Which.
        position: u64,
    },
    /// The database has another entry at the cursor that the relay told.
    #[error("{at} was told cursor {cursor} for position {position}; the database has another entry there")]
    WrongCursor {
        /// To whom.
        at: Seat,
        /// Which.
        position: u64,
        /// The cursor.
        cursor: u64,
    },
    /// No log in the database is this group's.
    #[error("the database has no log of group {group}")]
    NoLog {
        /// Which.
        group: usize,
    },
    /// A log with a hole, a repetition, or a wrong head.
    #[error("log {log} of the database: {what}")]
    Log {
        /// Which, in the order of the database.
        log: usize,
        /// What is wrong.
        what: String,
    },
    /// A cursor that acknowledged a push, and the database has something else there.
    #[error("scribe {scribe} was told cursor {told}, the database has {stored:?}")]
    AckWrong {
        /// Who was told.
        scribe: usize,
        /// What was told.
        told: u64,
        /// Where the entry really is.
        stored: Option<u64>,
    },
    /// A scribe's log holds more or less than what was acknowledged to it, and its founding.
    #[error("scribe {scribe} has {acknowledged} entries acknowledged, its log holds {stored} beside the first")]
    Miscounted {
        /// Whose log.
        scribe: usize,
        /// What was acknowledged, each once.
        acknowledged: usize,
        /// What is there.
        stored: usize,
    },
    /// A device did not come to rest.
    #[error("{at} has not settled: {what}")]
    Unsettled {
        /// Who.
        at: Seat,
        /// Why.
        what: String,
    },
    /// Two devices of a group hold different things.
    #[error("{at} differs from device 0: {what}")]
    Diverged {
        /// Who.
        at: Seat,
        /// In what.
        what: &'static str,
    },
    /// An honest relay was accused.
    #[error("{at} raised {finding}")]
    Accused {
        /// By whom.
        at: Seat,
        /// Of what.
        finding: String,
    },
    /// Something readable where it must not be.
    #[error("{file} holds {what}")]
    Leaked {
        /// Where.
        file: String,
        /// What.
        what: String,
    },
    /// A relay did not give back what it took.
    #[error("relay {relay} holds {after} {what} and held {before}")]
    NotGivenBack {
        /// Which.
        relay: usize,
        /// Of what.
        what: &'static str,
        /// At first.
        before: u64,
        /// In the end.
        after: u64,
    },
    /// A trace in which nothing happened proves nothing.
    #[error("nothing that was pushed was acknowledged")]
    Idle,
}

/// Where an entry belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At a device.
    At(Seat),
    /// In the database.
    Log,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(seat) => seat.fmt(f),
            Self::Log => f.write_str("the database"),
        }
    }
}

/// What was pushed in one group.
struct Pushes {
    /// By author and number.
    blobs: HashMap<(usize, u64), Fingerprint>,
    /// Highest acknowledged number by author.
    acked: Vec<u64>,
    /// Which device an identity is.
    seats: BTreeMap<DeviceId, usize>,
}

/// Everything that is wrong with what was seen; empty if nothing is.
#[must_use]
pub fn check(trace: &Trace) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut busy = false;
    for (group, devices) in trace.groups.iter().enumerate() {
        let pushes = Pushes::of(devices);
        busy |= pushes.blobs.keys().any(|(device, seq)| *seq <= pushes.acked[*device]);
        for (device, seen) in devices.iter().enumerate() {
            deliveries(Seat { group, device }, seen, &pushes, &mut found);
        }
        arrivals(group, devices, &pushes, &mut found);
        let log = log_of(devices, &trace.logs);
        match log {
            Some(log) => told(group, devices, &pushes, log, &mut found),
            None => found.push(Violation::NoLog { group }),
        }
        ends(group, devices, log, &mut found);
    }
    trace.logs.iter().enumerate().for_each(|(number, log)| sound(number, log, &mut found));
    acknowledged(trace, &mut found);
    if !busy {
        found.push(Violation::Idle);
    }
    found.extend(
        trace.leaks.iter().map(|Leak { file, what }| Violation::Leaked { file: file.clone(), what: what.clone() }),
    );
    held(trace, &mut found);
    found
}

impl Pushes {
    fn of(devices: &[DeviceTrace]) -> Self {
        let mut pushes = Self { blobs: HashMap::new(), acked: vec![0; devices.len()], seats: BTreeMap::new() };
        for (device, trace) in devices.iter().enumerate() {
            pushes.seats.insert(trace.id, device);
            for seen in &trace.seen {
                match seen {
                    Seen::Pushed { seq, blob } => drop(pushes.blobs.insert((device, *seq), *blob)),
                    Seen::Acked { up_to } => pushes.acked[device] = pushes.acked[device].max(*up_to),
                    _ => {}
                }
            }
        }
        pushes
    }

    /// Which push this is, if its bytes are those of one.
    fn author(&self, delivery: &Delivery) -> Option<(usize, u64)> {
        let push = (*self.seats.get(&delivery.sender)?, delivery.seq);
        (self.blobs.get(&push) == Some(&delivery.blob)).then_some(push)
    }
}

fn delivered(device: &DeviceTrace) -> impl Iterator<Item = &Delivery> {
    device.seen.iter().filter_map(|seen| match seen {
        Seen::Delivered(delivery) => Some(delivery),
        _ => None,
    })
}

/// What one app saw, in its order.
fn deliveries(at: Seat, device: &DeviceTrace, pushes: &Pushes, found: &mut Vec<Violation>) {
    let (mut processed, mut expected) = (0, 1);
    let mut positions: HashMap<(usize, u64), u64> = HashMap::new();
    let mut latest: BTreeMap<usize, u64> = BTreeMap::new();
    for seen in &device.seen {
        match seen {
            Seen::Opened { processed: opened } => {
                if *opened < processed {
                    found.push(Violation::PositionLost { at, processed, opened: *opened });
                }
                expected = opened + 1;
                // Read again from here: the order starts over with what had been processed.
                latest = latest_up_to(&positions, *opened);
            }
            Seen::Processed { position } => processed = processed.max(*position),
            Seen::Accused { finding } => found.push(Violation::Accused { at, finding: finding.clone() }),
            Seen::Delivered(delivery) => {
                let position = delivery.position;
                if position <= processed || position < expected {
                    found.push(Violation::DeliveredAgain { at, position });
                } else if position > expected {
                    found.push(Violation::Skipped { at, position, expected });
                }
                expected = expected.max(position + 1);
                let Some(push @ (author, seq)) = pushes.author(delivery) else {
                    found.push(Violation::Altered { at, position });
                    continue;
                };
                let of = Seat { group: at.group, device: author };
                let before = *positions.entry(push).or_insert(position);
                if before != position {
                    found.push(Violation::Renumbered { at, of, seq, position, before });
                }
                let after = latest.insert(author, seq).unwrap_or(0);
                if after >= seq && before == position {
                    found.push(Violation::OutOfOrder { at, of, seq, after });
                }
            }
            Seen::Pushed { .. } | Seen::Acked { .. } => {}
        }
    }
}

/// Highest number by author among the entries up to a position.
fn latest_up_to(positions: &HashMap<(usize, u64), u64>, up_to: u64) -> BTreeMap<usize, u64> {
    let mut latest = BTreeMap::new();
    for ((author, seq), _) in positions.iter().filter(|(_, position)| **position <= up_to) {
        let known = latest.entry(*author).or_insert(0);
        *known = (*seq).max(*known);
    }
    latest
}

/// Everything that was pushed is with everybody.
fn arrivals(group: usize, devices: &[DeviceTrace], pushes: &Pushes, found: &mut Vec<Violation>) {
    for (device, trace) in devices.iter().enumerate() {
        let got: HashSet<(usize, u64)> = delivered(trace).filter_map(|delivery| pushes.author(delivery)).collect();
        let missing = Place::At(Seat { group, device });
        for push in lost(pushes, |push| got.contains(push)) {
            found.push(pushes.loss(group, push, missing));
        }
    }
}

/// What is not there, in order.
fn lost(pushes: &Pushes, there: impl Fn(&(usize, u64)) -> bool) -> BTreeSet<(usize, u64)> {
    pushes.blobs.keys().filter(|push| !there(push)).copied().collect()
}

impl Pushes {
    fn loss(&self, group: usize, (device, seq): (usize, u64), missing: Place) -> Violation {
        let of = Seat { group, device };
        match self.acked[device] >= seq {
            true => Violation::AckedLost { of, seq, missing },
            false => Violation::PushLost { of, seq, missing },
        }
    }
}

/// The log that holds what the group's devices were given.
fn log_of<'a>(devices: &[DeviceTrace], logs: &'a [StoredLog]) -> Option<&'a StoredLog> {
    let known: HashSet<BlobId> = devices.iter().flat_map(delivered).map(|delivery| delivery.blob_id).collect();
    logs.iter().find(|log| log.rows.iter().any(|row| known.contains(&row.blob_id)))
}

/// A log on its own.
fn sound(log: usize, stored: &StoredLog, found: &mut Vec<Violation>) {
    let mut wrong = |what: String| found.push(Violation::Log { log, what });
    if stored.head != stored.rows.len() as u64 {
        wrong(format!("the head is {}, and there are {} rows", stored.head, stored.rows.len()));
    }
    let mut ids = HashSet::new();
    for (row, expected) in stored.rows.iter().zip(1..) {
        if row.cursor != expected {
            wrong(format!("cursor {} stands where {expected} belongs", row.cursor));
            break;
        }
        if !ids.insert(row.blob_id) {
            wrong(format!("cursor {} holds an entry that is there already", row.cursor));
        }
        if !row.intact {
            wrong(format!("the bytes at cursor {} are not those of their id", row.cursor));
        }
    }
}

/// What scribes were told is where it was said to be, and nothing else is.
fn acknowledged(trace: &Trace, found: &mut Vec<Violation>) {
    for (scribe, told) in trace.scribes.iter().enumerate() {
        let ids: HashSet<BlobId> = told.iter().map(|ack| ack.blob_id).collect();
        let log = trace.logs.iter().find(|log| log.rows.iter().any(|row| ids.contains(&row.blob_id)));
        let rows = log.map_or(&[][..], |log| &log.rows);
        let stored: HashMap<BlobId, u64> = rows.iter().map(|row| (row.blob_id, row.cursor)).collect();
        for ack in told {
            let stored = stored.get(&ack.blob_id).copied();
            if stored != Some(ack.cursor) {
                found.push(Violation::AckWrong { scribe, told: ack.cursor, stored });
            }
        }
        let stored = rows.len().saturating_sub(1);
        if stored != ids.len() {
            found.push(Violation::Miscounted { scribe, acknowledged: ids.len(), stored });
        }
    }
}

/// Whether the database agrees with what devices were told.
fn told(group: usize, devices: &[DeviceTrace], pushes: &Pushes, log: &StoredLog, found: &mut Vec<Violation>) {
    let at_cursor: HashMap<u64, BlobId> = log.rows.iter().map(|row| (row.cursor, row.blob_id)).collect();
    let mut there = HashSet::new();
    for (device, trace) in devices.iter().enumerate() {
        for delivery in delivered(trace) {
            if at_cursor.get(&delivery.cursor) == Some(&delivery.blob_id) {
                there.extend(pushes.author(delivery));
            } else {
                let (at, position, cursor) = (Seat { group, device }, delivery.position, delivery.cursor);
                found.push(Violation::WrongCursor { at, position, cursor });
            }
        }
    }
    for push in lost(pushes, |push| there.contains(push)) {
        found.push(pushes.loss(group, push, Place::Log));
    }
}

/// Everybody is at rest, with the same things.
fn ends(group: usize, devices: &[DeviceTrace], log: Option<&StoredLog>, found: &mut Vec<Violation>) {
    let mut everybody: Vec<DeviceId> = devices.iter().map(|device| device.id).collect();
    everybody.sort();
    for (device, trace) in devices.iter().enumerate() {
        let (at, end) = (Seat { group, device }, &trace.end);
        let mut unsettled = |what: String| found.push(Violation::Unsettled { at, what });
        if let Some(trouble) = &end.trouble {
            unsettled(trouble.clone());
        }
        if end.outbox > 0 {
            unsettled(format!("{} pushes wait", end.outbox));
        }
        if end.processed != end.position {
            unsettled(format!("it has processed {} of {} entries", end.processed, end.position));
        }
        if let Some(finding) = end.findings.first() {
            found.push(Violation::Accused { at, finding: finding.clone() });
        }
        let mut differs = |what| found.push(Violation::Diverged { at, what });
        let mut members = end.members.clone();
        members.sort();
        if members != everybody {
            differs("members");
        }
        if let Some(log) = log {
            if end.relay_head != Some(log.head) {
                differs("the relay's head");
            }
            if end.verified != log.rows.len() as u64 {
                differs("the entries of the log");
            }
        }
        let mut order = end.order.clone();
        order.sort();
        let mut first = devices[0].end.order.clone();
        first.sort();
        if order != first || order.len() as u64 != end.position {
            differs("entries");
        }
    }
}

fn held(trace: &Trace, found: &mut Vec<Violation>) {
    for (relay, held) in trace.held.iter().enumerate() {
        let mut compare = |what, before: u64, after: u64, growth_max: u64| {
            if after > before + growth_max {
                found.push(Violation::NotGivenBack { relay, what, before, after });
            }
        };
        compare("bytes of memory", held.before.rss_bytes, held.after.rss_bytes, RSS_GROWTH_BYTES_MAX);
        compare("threads", held.before.threads, held.after.threads, HANDLES_GROWTH_MAX);
        compare("file descriptors", held.before.fds, held.after.fds, HANDLES_GROWTH_MAX);
    }
}

#[cfg(test)]
mod tests;
