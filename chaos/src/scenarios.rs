//! The plans of the scenarios that look at one kind of fault: small, and swept point by point
//! where "every point" is what the catalogue asks for.

use zerok_sync_protocol::limits::ENVELOPE_BYTES_MAX_DEFAULT;

use crate::sim::{Conditions, Dice, Loss};
use crate::trial::plan::{Op, Plan};

const LOSSES: [Loss; 3] = [Loss::Everything, Loss::Downstream, Loss::Silence];

/// Planned faults that have not come true by then do not any more.
const FAULTS_END: (u64, Op) = (66_000, Op::Tick(0));

/// The same, for what takes longer.
const FAULTS_END_LATE: (u64, Op) = (140_000, Op::Tick(0));

/// Three devices, nothing wrong.
fn calm(ops: Vec<(u64, Op)>) -> Plan {
    Plan {
        founders: 3,
        devices: 3,
        relays: 1,
        ops,
        envelope_bytes_max: ENVELOPE_BYTES_MAX_DEFAULT,
        conditions: Conditions::CALM,
        lateness_ms: 0..=100,
        empty_blobs: false,
        down_ms: 0..=100,
    }
}

fn push(device: usize, count: u64) -> Op {
    Op::Push { device, count, bytes: 20 }
}

/// Every device pushes a little all the time.
fn stream(dice: &mut Dice, duration_ms: u64) -> Vec<(u64, Op)> {
    (0..duration_ms / 200)
        .map(|n| (n * 200 + dice.within(&(0..=199)), push(dice.index(3), 1 + dice.any() % 3)))
        .collect()
}

fn with(mut ops: Vec<(u64, Op)>, more: impl IntoIterator<Item = (u64, Op)>) -> Vec<(u64, Op)> {
    ops.extend(more);
    ops
}

/// A point of a sweep, and the loss it is combined with.
fn point(seed: u64, points: u32) -> (u32, Loss) {
    let n = u32::try_from(seed % u64::from(points)).expect("below a u32");
    (n + 1, LOSSES[usize::try_from(seed / u64::from(points) % 3).expect("below 3")])
}

/// No fault.
pub fn no_fault(seed: u64) -> Plan {
    calm(stream(&mut Dice::new(seed, b's'), 5_000))
}

/// A device that pushes loses its link at one message after the other.
pub fn cut_in_push(seed: u64) -> Plan {
    let (messages, loss) = point(seed, 40);
    calm(vec![(0, Op::CutAfter(0, messages, loss)), (0, push(0, 30)), (8, push(0, 30)), (20, push(1, 3)), FAULTS_END])
}

/// A device that catches up loses its link at one message after the other.
pub fn cut_in_catch_up(seed: u64) -> Plan {
    let (messages, loss) = point(seed, 16);
    let ops = vec![
        (0, Op::Pages(3)),
        (0, Op::CutOff(1, 1_000)),
        (10, push(0, 60)),
        (500, push(2, 30)),
        (999, Op::CutAfter(1, messages, loss)),
        (1_001, Op::Wake(1)),
        FAULTS_END,
    ];
    calm(ops)
}

/// The handshake loses its link at one message after the other.
pub fn cut_in_handshake(seed: u64) -> Plan {
    let (messages, loss) = point(seed, 3);
    calm(vec![
        (0, push(0, 3)),
        (100, Op::Cut(0, Loss::Everything)),
        (100, Op::CutAfter(0, messages, loss)),
        (101, push(0, 3)),
        (110, Op::Wake(0)),
        FAULTS_END,
    ])
}

/// A device that pushes is killed after one output of its engine after the other.
pub fn killed_in_push(seed: u64) -> Plan {
    let (outputs, _) = point(seed, 60);
    let mut plan =
        calm(vec![(0, Op::CrashAfter(0, outputs)), (0, push(0, 10)), (3, push(1, 2)), (12, push(0, 10)), FAULTS_END]);
    // Half of the time the disk takes a while, so that a crash finds a batch on its way.
    if seed / 60 % 2 == 1 {
        plan.conditions = Conditions { slow_disk_per_mille: 1_000, disk_ms: 0..=5, ..Conditions::CALM };
    }
    plan
}

/// Nobody reaches the relay for a while.
pub fn relay_away(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = stream(&mut dice, 10_000);
    let away = Op::RestartRelay(0, dice.within(&(1_000..=60_000)));
    calm(with(ops, [(dice.within(&(0..=5_000)), away), FAULTS_END]))
}

/// The relay restarts again and again.
pub fn relay_restarts(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = stream(&mut dice, 20_000);
    let restarts: Vec<_> =
        (0..5).map(|n| (n * 4_000 + dice.within(&(0..=3_000)), Op::RestartRelay(0, dice.within(&(0..=500))))).collect();
    calm(with(ops, restarts))
}

/// A device connects and loses its link ten times in five seconds.
pub fn flapping(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = stream(&mut dice, 5_000);
    let flaps: Vec<_> =
        (0..10).flat_map(|n| [(n * 500, Op::Cut(1, Loss::Downstream)), (n * 500 + 1, Op::Wake(1))]).collect();
    let wakes: Vec<_> = (0..10).map(|n| (n * 500 + 6, Op::Wake(1))).collect();
    calm(with(with(ops, flaps), wakes))
}

/// The inviting or the joining device loses its link, or is killed, at one step of a pairing after the
/// other; then there is another invitation.
pub fn closed_in_pairing(seed: u64) -> Plan {
    let (step, loss) = point(seed, 14);
    let fault = match seed / 42 % 4 {
        0 => Op::CutAfter(0, step, loss),
        1 => Op::CrashAfter(0, step),
        2 => Op::CutNewcomer(step, loss),
        _ => Op::CrashNewcomer(step),
    };
    let mut plan = calm(vec![(0, push(0, 3)), (100, Op::Invite(0)), (100, fault), FAULTS_END, (70_000, Op::Invite(0))]);
    plan.founders = 2;
    plan
}

/// Links go dead without a word.
pub fn half_open(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = stream(&mut dice, 60_000);
    calm(with(
        ops,
        [
            (dice.within(&(0..=20_000)), Op::Cut(0, Loss::Silence)),
            (20_000, Op::Cut(1, Loss::Silence)),
            (22_000, Op::Wake(1)),
        ],
    ))
}

/// Any subset is cut off, again and again.
pub fn partitions(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = stream(&mut dice, 30_000);
    let cuts: Vec<_> =
        (0..8).map(|_| (dice.within(&(0..=29_000)), Op::CutOff(dice.index(3), dice.within(&(100..=20_000))))).collect();
    calm(with(ops, cuts))
}

/// Two devices push in the same millisecond.
pub fn push_at_once(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    calm((0..20).flat_map(|n| [(n * 50, push(0, 1 + dice.any() % 5)), (n * 50, push(1, 1 + dice.any() % 5))]).collect())
}

/// One device catches up while the others go on pushing.
pub fn push_during_catch_up(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let mut ops = vec![(0, Op::Pages(1 + dice.index(7))), (0, Op::CutOff(2, 2_000)), (5, push(0, 80))];
    ops.extend((0..300).map(|n| (1_900 + n * 8, push(dice.index(2), 1))));
    let mut plan = calm(ops);
    plan.conditions.latency_ms = 1..=60;
    plan
}

/// The relay stores pushes, and its answers are lost.
pub fn acks_lost(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = stream(&mut dice, 10_000);
    let losses: Vec<_> =
        (0..6).map(|_| (dice.within(&(0..=9_000)), Op::LoseAcks(1 + u32::from(dice.chance(500))))).collect();
    let stubs = (0, Op::Stubs(dice.chance(500)));
    calm(with(with(ops, losses), [stubs]))
}

/// Processes die while their apps have read more than they have processed.
pub fn app_crashes(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = stream(&mut dice, 20_000);
    let crashes: Vec<_> =
        (0..12).map(|_| (dice.within(&(0..=20_000)), Op::Crash(dice.index(3), LOSSES[dice.index(2)]))).collect();
    let mut plan = calm(with(ops, crashes));
    plan.lateness_ms = 0..=4_000;
    plan
}

/// Disks refuse batches.
pub fn disks_fail(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = stream(&mut dice, 10_000);
    let fails: Vec<_> = (0..8).map(|_| (dice.within(&(0..=10_000)), Op::FailDisk(dice.index(3)))).collect();
    calm(with(ops, fails))
}

/// Blobs without a byte.
pub fn empty_blobs(seed: u64) -> Plan {
    let mut plan = no_fault(seed);
    plan.empty_blobs = true;
    plan
}

/// Clocks years apart that jump.
pub fn clocks_apart(seed: u64) -> Plan {
    const YEAR_MS: i64 = 365 * 24 * 3_600 * 1_000;
    let mut dice = Dice::new(seed, b's');
    let ops = stream(&mut dice, 5_000);
    let turns: Vec<_> =
        (0..6).map(|n| (n * 800, Op::TurnClock(dice.index(3), (dice.index(11) as i64 - 5) * YEAR_MS))).collect();
    let mut plan = calm(with(ops, turns));
    plan.devices = 4;
    plan.ops.push((2_500, Op::Invite(1)));
    plan
}

/// 200 ms each way.
pub fn latency(seed: u64) -> Plan {
    slow_link(seed, 200, 200)
}

/// 200 ± 150 ms.
pub fn jitter(seed: u64) -> Plan {
    slow_link(seed, 50, 350)
}

/// 600 ± 50 ms.
pub fn satellite(seed: u64) -> Plan {
    slow_link(seed, 550, 650)
}

fn slow_link(seed: u64, from_ms: u64, to_ms: u64) -> Plan {
    let mut plan = no_fault(seed);
    plan.devices = 4;
    plan.ops.push((1_000, Op::Invite(0)));
    plan.ops.push((30_000, push(0, 1)));
    plan.conditions.latency_ms = from_ms..=to_ms;
    plan
}

/// A device is removed while it is connected, cut off, or pushing.
pub fn removed(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let mut ops = stream(&mut dice, 10_000);
    let at_ms = dice.within(&(500..=8_000));
    match seed % 3 {
        0 => {}
        1 => ops.push((at_ms - 300, Op::CutOff(2, 4_000))),
        _ => ops.extend((0..10).map(|n| (at_ms + n * 3, push(2, 2)))),
    }
    ops.push((at_ms, Op::Revoke(dice.index(2), 2)));
    calm(ops)
}

/// Two devices remove each other, or change the keys, in the same millisecond.
pub fn rotations_at_once(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = stream(&mut dice, 6_000);
    let at_ms = dice.within(&(500..=5_000));
    let both = match seed % 3 {
        0 => [Op::Rotate(0), Op::Rotate(1)],
        1 => [Op::Revoke(0, 1), Op::Revoke(1, 0)],
        _ => [Op::Revoke(0, 2), Op::Revoke(1, 3)],
    };
    let mut plan = calm(with(ops, both.map(|op| (at_ms, op))));
    (plan.founders, plan.devices) = (4, 4);
    plan.conditions.latency_ms = 1..=60;
    plan
}

/// The keys change while outboxes are filled with what was attempted and what was not.
pub fn rotation_with_filled_outboxes(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let at_ms = dice.within(&(300..=1_500));
    let ops = vec![
        (0, Op::LoseAcks(1 + u32::from(dice.chance(500)))),
        (1, push(0, 20)),
        (2, push(1, 20)),
        (at_ms - 200, Op::CutOff(1, dice.within(&(100..=3_000)))),
        (at_ms - 100, push(1, 10)),
        (at_ms, push(0, 10)),
        (at_ms, Op::Rotate(dice.index(3))),
        (at_ms + dice.within(&(0..=100)), push(2, 10)),
        FAULTS_END,
    ];
    calm(ops)
}

/// The device that removes another is killed, or loses its link, at one point after the other.
pub fn killed_in_rotation(seed: u64) -> Plan {
    let (point, loss) = point(seed / 2, 30);
    let fault = if seed.is_multiple_of(2) { Op::CrashAfter(0, point) } else { Op::CutAfter(0, point, loss) };
    calm(vec![(0, push(0, 3)), (10, push(2, 3)), (20, fault), (20, Op::Revoke(0, 2)), (25, push(1, 3)), FAULTS_END])
}

/// A device is away while the keys change twice and the log's beginning goes.
pub fn away_for_rotations_and_a_truncation(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = vec![
        (0, Op::ForgetAway(0, true)),
        (0, push(2, 1 + dice.any() % 5)),
        (10, push(0, 1 + dice.any() % 20)),
        (5_000, Op::CutOff(2, dice.within(&(150_000..=170_000)))),
        (5_100, push(2, dice.any() % 3)),
        (6_000, Op::Rotate(0)),
        (16_000, push(1, 5)),
        (17_000, Op::Rotate(1)),
        (60_000, Op::Compact(dice.index(2))),
        (61_000 + dice.within(&(0..=80_000)), push(dice.index(2), 3)),
        (140_000, Op::Purge(0)),
        (145_000, push(1, 2)),
    ];
    calm(ops)
}

/// A device reads the log while its beginning goes.
pub fn truncated_while_read(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = vec![
        (0, Op::ForgetAway(0, true)),
        (0, Op::Pages(1)),
        (0, Op::CutOff(2, 59_000 + dice.within(&(0..=2_500)))),
        (5, push(0, 40)),
        (2_000, push(1, 40)),
        (60_000, Op::Compact(dice.index(2))),
        (60_000 + dice.within(&(0..=3_000)), push(1, 3)),
        (75_000, Op::Purge(0)),
        FAULTS_END_LATE,
    ];
    let mut plan = calm(ops);
    plan.conditions.latency_ms = 1..=60;
    plan
}

/// A device is killed, or loses its link, at one point after the other while it makes a snapshot, or
/// while the log is truncated, or while it goes on from there.
pub fn killed_in_truncation(seed: u64) -> Plan {
    let (point, loss) = point(seed / 6, 20);
    let fault =
        |device| if seed.is_multiple_of(2) { Op::CrashAfter(device, point) } else { Op::CutAfter(device, point, loss) };
    let mut ops = vec![
        (0, Op::ForgetAway(0, true)),
        (0, push(2, 2)),
        (0, push(0, 3)),
        (5_000, Op::CutOff(2, 100_000)),
        (5_100, push(1, 3)),
        (60_000, Op::Compact(0)),
        (90_000, Op::Purge(0)),
        (90_100, push(1, 2)),
    ];
    ops.push(match seed / 2 % 3 {
        0 => (59_999, fault(0)),
        1 => (59_999, fault(1)),
        _ => (104_990, fault(2)),
    });
    calm(with(ops, [(180_000, Op::Tick(0))]))
}

/// A relay moves its floor above what any snapshot stands for.
pub fn floor_too_high(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let expire = Op::Expire(0, dice.within(&(3..=60)), seed.is_multiple_of(2));
    let ops = vec![
        (0, push(2, 2)),
        (10, push(0, 20)),
        (5_000, Op::CutOff(2, 40_000)),
        (6_000, push(0, 10)),
        (6_500, push(1, 10)),
        (20_000, expire),
        (30_000, push(1, 2)),
        FAULTS_END,
    ];
    calm(ops)
}

/// Two relays carry the group.
fn on_two_relays(mut plan: Plan) -> Plan {
    plan.relays = 2;
    plan
}

/// The home relay, or the other one, is killed while everybody pushes, and comes back.
pub fn one_of_two_relays_killed(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = stream(&mut dice, 10_000);
    let relay = usize::from(!seed.is_multiple_of(2));
    let kills: Vec<_> = (0..1 + dice.index(3))
        .map(|_| (dice.within(&(0..=9_000)), Op::RestartRelay(relay, dice.within(&(500..=60_000)))))
        .collect();
    on_two_relays(calm(with(with(ops, kills), [FAULTS_END])))
}

/// Both relays are away at once.
pub fn all_relays_away(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = stream(&mut dice, 10_000);
    let away = [0, 1].map(|relay| (dice.within(&(0..=3_000)), Op::RestartRelay(relay, dice.within(&(5_000..=60_000)))));
    on_two_relays(calm(with(with(ops, away), [FAULTS_END])))
}

/// One relay comes and goes.
pub fn one_of_two_relays_flaps(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = stream(&mut dice, 20_000);
    let flaps: Vec<_> = (0..15).map(|n| (n * 1_300, Op::RestartRelay(1, dice.within(&(0..=900))))).collect();
    on_two_relays(calm(with(ops, flaps)))
}

/// The home relay takes five seconds for everything.
pub fn home_relay_slow(seed: u64) -> Plan {
    let ops = stream(&mut Dice::new(seed, b's'), 10_000);
    on_two_relays(calm(with(ops, [(0, Op::SlowRelay(0, 2_500)), FAULTS_END])))
}

/// One relay goes back in time, or is emptied, while everybody pushes.
pub fn one_of_two_relays_forgets(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, b's');
    let ops = stream(&mut dice, 10_000);
    let relay = dice.index(2);
    let loss = match seed % 3 {
        0 => Op::Wipe(relay),
        1 => Op::RollBack(relay, 1 + dice.index(15), false),
        _ => Op::RollBack(relay, 1 + dice.index(15), true),
    };
    on_two_relays(calm(with(ops, [(dice.within(&(1_000..=9_000)), loss), FAULTS_END])))
}
