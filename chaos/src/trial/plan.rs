//! What will go wrong and when: drawn from a seed, and nothing else.
//!
//! Each seed leaves out some kinds of faults altogether: what hides behind one kind shows when the
//! others are away.

use std::ops::RangeInclusive;

use zerok_sync_protocol::limits::ENVELOPE_BYTES_MAX_DEFAULT;

use crate::sim::{Conditions, Dice, Loss};

/// Longest schedule.
const OPS_MAX: u64 = 60;
/// Less than so many of what only concerns floors, where that is drawn by itself.
const TRUNCATION_OPS_MAX: usize = 9;
/// How often what is done, relative to the others; the numbers are those of [`draw_op`].
const WEIGHTS: [u64; 25] = [12, 4, 3, 6, 1, 1, 2, 2, 2, 1, 1, 2, 1, 3, 1, 3, 1, 2, 1, 1, 1, 1, 3, 3, 2];
/// Milliseconds in five years.
const FIVE_YEARS_MS: i64 = 5 * 365 * 24 * 3_600 * 1_000;

/// Something done to the world. Devices and relays are meant modulo how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The app pushes so many blobs.
    Push {
        /// Which device.
        device: usize,
        /// How many.
        count: u64,
        /// Bytes of padding in each.
        bytes: usize,
    },
    /// A link breaks.
    Cut(usize, Loss),
    /// A process dies at once.
    Crash(usize, Loss),
    /// A process dies right after so many outputs were carried out.
    CrashAfter(usize, u32),
    /// The next batch is not carried out.
    FailDisk(usize),
    /// A relay's process is gone for so long.
    RestartRelay(usize, u64),
    /// A relay's database is replaced by an older copy that lacks so many entries, and the relay
    /// says so or not.
    RollBack(usize, usize, bool),
    /// A relay's database is gone.
    Wipe(usize),
    /// From now on messages to and from a relay take so much longer.
    SlowRelay(usize, u64),
    /// No link of a device comes about for so long, and the one it has breaks.
    CutOff(usize, u64),
    /// So many pushes are refused for now, from the envelope at an index on.
    RefusePushes(u32, usize),
    /// So many pushes are stored and not acknowledged.
    LoseAcks(u32),
    /// Own entries come back in full, or as stubs.
    Stubs(bool),
    /// Most items of one page.
    Pages(usize),
    /// A link breaks after so many more messages on it.
    CutAfter(usize, u32, Loss),
    /// The system says that the network may be back.
    Wake(usize),
    /// A tick nobody asked for.
    Tick(usize),
    /// A device invites another, if the group is to grow.
    Invite(usize),
    /// The next device that is let in dies right after so many outputs were carried out.
    CrashNewcomer(u32),
    /// Its link breaks after so many messages on it.
    CutNewcomer(u32, Loss),
    /// An invitation is taken back.
    CancelInvite(usize),
    /// The app closes its client and starts it again after so long, in one process.
    Close(usize, u64),
    /// A device removes another.
    Revoke(usize, usize),
    /// A device changes the group's keys.
    Rotate(usize),
    /// A device leaves the group.
    Leave(usize),
    /// A device's app makes a snapshot, if it has read everything.
    Compact(usize),
    /// A wall clock jumps to so far from the right time.
    TurnClock(usize, i64),
    /// A relay removes what lies below its floor.
    Purge(usize),
    /// A relay takes whoever is away for a device not seen for a month, or not any more.
    ForgetAway(usize, bool),
    /// A relay gives up so many entries that no snapshot stands for, and their bytes or not.
    Expire(usize, u64, bool),
}

/// A trial's course.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Devices in the group before anything goes wrong.
    pub founders: usize,
    /// Devices in it at the end.
    pub devices: usize,
    /// Relays that carry it.
    pub relays: usize,
    /// What is done, at how many milliseconds after the beginning.
    pub ops: Vec<(u64, Op)>,
    /// The largest envelope the relay takes: a push that is larger goes in parts.
    pub envelope_bytes_max: u32,
    /// Network and disks while things go wrong.
    pub conditions: Conditions,
    /// How late apps read and say what they processed.
    pub lateness_ms: RangeInclusive<u64>,
    /// All blobs are empty; otherwise some.
    pub empty_blobs: bool,
    /// How long a crashed process stays away.
    pub down_ms: RangeInclusive<u64>,
}

impl Plan {
    /// Whether the group's keys change in it: then who is a member at the end is for the run to say.
    #[must_use]
    pub fn rotates(&self) -> bool {
        self.ops.iter().any(|(_, op)| matches!(op, Op::Revoke(..) | Op::Rotate(_) | Op::Leave(_)))
    }

    /// The plan of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, b'p');
        let devices = 3 + dice.index(3);
        let founders = 1 + dice.index(devices - 1);
        let mut plan = Self::draw_with(&mut dice, WEIGHTS);
        (plan.founders, plan.devices) = (founders, devices);
        // From dice of its own, so that what else a seed means stays as it was.
        plan.envelope_bytes_max = [8 * 1024, ENVELOPE_BYTES_MAX_DEFAULT][Dice::new(seed, b'e').index(2)];
        plan
    }

    /// The plan of a seed for five devices and two relays: pairing, pushing, removing, changing keys
    /// and repairing come thicker than other faults.
    #[must_use]
    pub fn draw_two_relays(seed: u64) -> Self {
        let mut dice = Dice::new(seed, b'q');
        let founders = 2 + dice.index(3);
        let mut plan =
            Self::draw_with(&mut dice, [12, 2, 1, 2, 1, 3, 2, 1, 1, 1, 1, 2, 1, 5, 0, 1, 1, 1, 3, 2, 1, 3, 2, 0, 0]);
        (plan.founders, plan.devices, plan.relays) = (founders, 5, 2);
        plan.envelope_bytes_max = [8 * 1024, ENVELOPE_BYTES_MAX_DEFAULT][Dice::new(seed, b'e').index(2)];
        plan.add_truncation(&mut Dice::new(seed, b'f'));
        plan
    }

    /// Relays that remove what lies below their floors, and that take whoever is away for gone: somewhere
    /// among the rest, which stays as it was.
    fn add_truncation(&mut self, dice: &mut Dice) {
        let planned = self.ops.len();
        for _ in 0..dice.index(TRUNCATION_OPS_MAX) {
            let at_ms = self.ops[dice.index(planned)].0;
            let relay = dice.index(2);
            let op = if dice.chance(500) { Op::Purge(relay) } else { Op::ForgetAway(relay, dice.chance(700)) };
            self.ops.push((at_ms, op));
        }
    }

    /// Everything but who is there.
    fn draw_with(dice: &mut Dice, mut weights: [u64; 25]) -> Self {
        let (founders, devices) = (1, 1);
        for weight in &mut weights[1..] {
            if dice.chance(300) {
                *weight = 0;
            }
        }
        let mut ops = Vec::new();
        let mut at_ms = 0;
        for _ in 0..dice.within(&(10..=OPS_MAX)) {
            // Bursts and pauses; a pause lets backoff, pings and dead links come in.
            at_ms += match dice.index(10) {
                0 => dice.within(&(0..=20_000)),
                1..=3 => dice.within(&(0..=2_000)),
                _ => dice.within(&(0..=30)),
            };
            ops.push((at_ms, draw_op(dice, &weights)));
        }
        let conditions = Conditions {
            latency_ms: match dice.index(4) {
                0 => 5..=5,
                1 => 1..=50,
                2 => 50..=350,
                _ => 0..=1_500,
            },
            slow_disk_per_mille: [0, 100, 500, 1_000][dice.index(4)],
            disk_ms: match dice.index(3) {
                0 => 0..=3,
                1 => 0..=50,
                _ => 0..=2_000,
            },
        };
        let lateness_ms = [0..=0, 0..=100, 0..=10_000][dice.index(3)].clone();
        let down_ms = [0..=0, 0..=200, 0..=10_000][dice.index(3)].clone();
        let envelope_bytes_max = ENVELOPE_BYTES_MAX_DEFAULT;
        Self {
            founders,
            devices,
            relays: 1,
            ops,
            envelope_bytes_max,
            conditions,
            lateness_ms,
            empty_blobs: false,
            down_ms,
        }
    }
}

fn draw_op(dice: &mut Dice, weights: &[u64]) -> Op {
    let mut left = dice.any() % weights.iter().sum::<u64>();
    let mut kind = 0;
    while left >= weights[kind] {
        left -= weights[kind];
        kind += 1;
    }
    let device = dice.index(5);
    let loss = [Loss::Everything, Loss::Downstream, Loss::Downstream, Loss::Silence][dice.index(4)];
    match kind {
        // Many small ones, a few of any size.
        0 if dice.chance(50) => Op::Push { device, count: dice.within(&(20..=90)), bytes: dice.index(100) },
        0 if dice.chance(50) => Op::Push { device, count: 1, bytes: dice.index(40_000) },
        0 => Op::Push { device, count: dice.within(&(1..=5)), bytes: dice.index(100) },
        1 => Op::Cut(device, loss),
        2 => Op::Crash(device, loss),
        3 => Op::CrashAfter(device, u32::try_from(dice.within(&(1..=25))).expect("small")),
        4 => Op::FailDisk(device),
        5 => Op::RestartRelay(device, dice.within(&(0..=5_000))),
        // Long enough that the others take it for gone, and truncate without it.
        6 if dice.chance(300) => Op::CutOff(device, dice.within(&(30_000..=120_000))),
        6 => Op::CutOff(device, dice.within(&(0..=15_000))),
        7 => Op::RefusePushes(1 + u32::from(dice.chance(300)), dice.index(3)),
        8 => Op::LoseAcks(1 + u32::from(dice.chance(300))),
        9 => Op::Stubs(dice.chance(500)),
        10 => Op::Pages([1, 2, 7, 50][dice.index(4)]),
        11 => Op::Wake(device),
        12 => Op::Tick(device),
        13 => Op::Invite(device),
        15 => Op::CutAfter(device, u32::try_from(dice.within(&(1..=12))).expect("small"), loss),
        16 => Op::CancelInvite(device),
        18 => Op::Revoke(device, dice.index(5)),
        19 => Op::Rotate(device),
        20 => Op::Leave(device),
        21 if dice.chance(250) => Op::Wipe(device),
        21 => Op::RollBack(device, dice.within(&(1..=20)) as usize, dice.chance(500)),
        22 => Op::Compact(device),
        23 => Op::Purge(device),
        24 => Op::ForgetAway(device, dice.chance(700)),
        17 => Op::Close(device, dice.within(&(0..=3_000))),
        _ => Op::TurnClock(device, (dice.any() % 2_000) as i64 * FIVE_YEARS_MS / 1_000 - FIVE_YEARS_MS),
    }
}
