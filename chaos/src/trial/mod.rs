//! One run of the honest world under a [`Plan`]: faults, apps, people, and the checks beside them.
//!
//! While it runs: no integrity event, no problem but an unreachable relay, no broken contract of
//! the core, nothing reported that is not so, nothing at the relay that is not the next of its
//! sender's chain. Then the faults end, [`SETTLE_MS`] pass, and everybody has everything: see
//! [`verdict`]. All of it follows from the seed; a trial that fails is replayed by its seed.

pub mod app;
pub mod inspector;
pub mod plan;
pub mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zerok_sync_core::id::DeviceId;
use zerok_sync_core::io::StorageFault;
use zerok_sync_core::{Engine, Event, Input, IntegrityEvent, Invite, InviteKind, Member, Problem, PushError};
use zerok_sync_protocol::{BlobId, ErrorCode, Timeline, wire, wire_struct};

use crate::sim::{Clock, Conditions, Defect, Dice, Loss, Run, Running, World, trace};
use app::App;
use inspector::Inspector;
use plan::{Op, Plan};

/// Virtual time from the end of the faults until everything must have converged: the longest
/// backoff, a dead link found by its ping, and a refused push tried again, one after the other.
pub const SETTLE_MS: u64 = 180_000;
/// Virtual time in which a second relay is filled when nothing goes wrong.
const FILLED_MS: u64 = 10_000;
/// Virtual time in which a device must be let in when nothing goes wrong.
const PAIRING_MS: u64 = 30_000;

wire_struct! {
    /// Where a device has another's chain, as the core writes it; what follows is of no interest.
    pub struct Chain {
        /// Its last entry.
        seq: u64,
        /// That entry.
        blob_id: BlobId,
    }
}

/// How often what happened; a trial in which nothing happens proves nothing.
pub type Tally = BTreeMap<&'static str, u64>;

/// How a trial went.
#[derive(Debug)]
pub struct Report {
    /// What replays it.
    pub seed: u64,
    /// What was wrong; empty if nothing.
    pub violations: Vec<String>,
    /// What happened.
    pub tally: Tally,
}

/// What one device's app and its user know.
#[derive(Debug, Default)]
struct Person {
    app: App,
    id: Option<DeviceId>,
    /// What was pushed and is not known to be lost, by push number.
    pushes: BTreeMap<u64, Bytes>,
    /// Highest number reported durable here.
    stored: u64,
    /// Highest number reported durable at the relay.
    acked: u64,
    /// A start is planned.
    starting: bool,
    /// It was asked to leave the group.
    leaves: bool,
    /// Timelines in which the relay went back without a word, that this device may tell of …
    may_tell: BTreeSet<Timeline>,
    /// … and must: it had read this far, and what stood there is gone and not put back yet.
    must_tell: Vec<Unsaid>,
    /// How often it told.
    told: usize,
}

/// Something that a relay lost without a word.
#[derive(Debug)]
struct Unsaid {
    relay: usize,
    timeline: Timeline,
    /// How far a device had read, and what stood there.
    read: u64,
    blob_id: BlobId,
}

/// Something that will be done.
#[derive(Debug)]
enum Act {
    Op(Op),
    Start(usize),
    RelayBack(usize),
    Online(usize, Run),
    Reachable(usize),
    Join(Box<Invite>),
    Answer(usize, Run),
    Read(usize, Run),
    Mark(usize, Run, u64),
}

/// A trial under way.
#[derive(Debug)]
pub struct Trial {
    seed: u64,
    world: World,
    plan: Plan,
    dice: Dice,
    agenda: BTreeMap<(u64, u64), Act>,
    acts: u64,
    persons: Vec<Person>,
    /// One for each relay.
    inspectors: Vec<Inspector>,
    /// The keys change in this trial.
    rotates: bool,
    /// Devices that somebody removes, or that leave.
    doomed: BTreeSet<DeviceId>,
    /// The faults are over.
    healed: bool,
    /// The relay was put back without a word: being told so is no mistake.
    rolled_back: bool,
    /// The relay was wiped.
    wiped: bool,
    /// The relay gave up what no snapshot stands for: being told so is no mistake.
    expired: bool,
    /// A link was shown and nobody has used it yet.
    inviting: bool,
    /// What is planned for the next device that is let in.
    newcomer: Option<Op>,
    blobs: u64,
    violations: Vec<String>,
    tally: Tally,
}

impl Trial {
    /// A group of the plan's founders, and everything planned.
    #[must_use]
    pub fn new(seed: u64, plan: Plan) -> Self {
        let mut dice = Dice::new(seed, b't');
        let mut world = World::seeded(seed);
        world.relay.envelope_bytes_max = plan.envelope_bytes_max;
        world.form_group(plan.founders);
        world.relay.keeps_received = true;
        for relay in 1..plan.relays {
            let relay_at = world.add_relay();
            debug_assert_eq!(relay_at, relay);
            world.list_relay(0, relay);
            world.advance(FILLED_MS);
            world.relay_at_mut(relay).keeps_received = true;
            world.relay_at_mut(relay).envelope_bytes_max = plan.envelope_bytes_max;
        }
        let inspectors = (0..plan.relays).map(|_| {
            let mut inspector = Inspector::new(world.keys(0).1);
            (0..plan.founders).for_each(|device| inspector.learn(world.keys(device).0));
            inspector.partial = plan.relays > 1;
            inspector
        });
        let inspectors = inspectors.collect();
        let mut trial = Self {
            seed,
            world,
            rotates: plan.rotates(),
            plan,
            agenda: BTreeMap::new(),
            acts: 0,
            persons: Vec::new(),
            inspectors,
            doomed: BTreeSet::new(),
            healed: false,
            rolled_back: false,
            wiped: false,
            expired: false,
            inviting: false,
            newcomer: None,
            blobs: 0,
            violations: Vec::new(),
            tally: Tally::new(),
            dice: Dice::new(seed, b'a'),
        };
        for device in 0..trial.plan.founders {
            trial.persons.push(Person::default());
            trial.persons[device].id = Some(trial.world.id(device));
            // Setting up was no part of the trial.
            trial.world.devices[device].events.clear();
            trial.world.devices[device].clock = Clock { mono_ahead_ms: 0, wall_ahead_ms: years(&mut dice) };
        }
        for (at_ms, op) in std::mem::take(&mut trial.plan.ops) {
            trial.after(at_ms, Act::Op(op));
        }
        trial
    }

    /// The same with something wrong that a check must find.
    #[must_use]
    pub fn with_defect(mut self, defect: Defect) -> Self {
        self.world.defect = Some(defect);
        self.world.relay.defect = Some(defect);
        self
    }

    /// The same with everything that happens printed to standard error.
    #[must_use]
    pub fn traced(mut self) -> Self {
        self.world.trace();
        for (device, person) in self.persons.iter().enumerate() {
            self.world.told(|| {
                format!("device {device} is {}", person.id.map_or("nobody yet".into(), |id| trace::short(&id.0)))
            });
        }
        self.inspectors.iter_mut().for_each(|inspector| inspector.traced = true);
        self
    }

    /// Runs it to the end or to the first thing that is wrong.
    #[must_use]
    pub fn run(mut self) -> Report {
        self.world.conditions = self.plan.conditions.clone();
        let busy_until_ms = self.agenda.last_key_value().map_or(0, |(&(at_ms, _), _)| at_ms);
        if !self.until(busy_until_ms) {
            return self.report();
        }
        self.heal();
        if self.until(self.world.now_ms() + SETTLE_MS) && (self.rotates || self.complete_group()) {
            let now_ms = self.world.now_ms();
            if self.until(now_ms + PAIRING_MS) {
                self.judge();
            }
        }
        self.report()
    }

    fn report(mut self) -> Report {
        for (what, count) in self.world.counts() {
            *self.tally.entry(what).or_default() += count;
        }
        for relay in 0..self.plan.relays {
            *self.tally.entry("floors moved").or_default() += self.world.relay_at(relay).truncations;
        }
        Report { seed: self.seed, violations: self.violations, tally: self.tally }
    }

    /// Faults end; what is down comes back as planned.
    fn heal(&mut self) {
        self.agenda.retain(|_, act| !matches!(act, Act::Op(_)));
        self.world.conditions = Conditions::CALM;
        self.plan.lateness_ms = 0..=100;
        self.healed = true;
        (0..self.plan.relays).for_each(|relay| self.world.set_up(relay, true));
        self.world.relay_slower_ms = 0;
        self.world.others.iter_mut().for_each(|other| other.slower_ms = 0);
        self.world.relay.refuse_pushes = 0;
        self.world.relay.lose_acks = 0;
        for device in &mut self.world.devices {
            device.cut_off = false;
            device.crash_after = None;
            device.cut_after = None;
            device.disk.fail_next = 0;
        }
    }

    /// Lets in who is still missing.
    fn complete_group(&mut self) -> bool {
        while self.members() < self.plan.devices {
            let before = self.members();
            let at_ms = self.world.now_ms();
            self.inviting = false;
            self.after(0, Act::Op(Op::Invite(0)));
            if !self.until(at_ms + PAIRING_MS) {
                return false;
            }
            if self.members() == before {
                self.violations.push("nothing goes wrong, and a device is not let in".into());
                return false;
            }
        }
        true
    }

    /// Devices that hold a group's state.
    fn members(&self) -> usize {
        self.world.devices.iter().filter(|device| !device.storage.is_empty()).count()
    }

    /// Lets everything happen until then; whether nothing was wrong.
    fn until(&mut self, until_ms: u64) -> bool {
        loop {
            let next_ms = self.agenda.first_key_value().map(|(&(at_ms, _), _)| at_ms);
            let stop_ms = next_ms.map_or(until_ms, |next_ms| next_ms.min(until_ms));
            if self.world.step(stop_ms) {
                self.observe();
            } else if next_ms.is_some_and(|next_ms| next_ms <= until_ms) {
                if let Some((_, act)) = self.agenda.pop_first() {
                    self.act(act);
                    self.observe();
                }
            } else {
                return self.violations.is_empty();
            }
            if !self.violations.is_empty() {
                return false;
            }
        }
    }

    fn after(&mut self, ms: u64, act: Act) {
        self.acts += 1;
        self.agenda.insert((self.world.now_ms() + ms, self.acts), act);
    }

    fn late(&mut self, act: Act) {
        let ms = self.dice.within(&self.plan.lateness_ms.clone());
        self.after(ms, act);
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn wrong(&mut self, device: usize, what: impl std::fmt::Display) {
        self.violations.push(format!("at {} ms, device {device}: {what}", self.world.now_ms()));
    }

    fn runs(&self, device: usize, run: Run) -> bool {
        self.world.devices[device].run() == run && self.world.devices[device].engine().is_some()
    }

    fn act(&mut self, act: Act) {
        if matches!(act, Act::Op(_) | Act::Start(_) | Act::RelayBack(_) | Act::Reachable(_)) {
            self.world.told(|| format!("{act:?}"));
        }
        match act {
            Act::Op(op) => self.op(op),
            Act::Start(device) => self.start(device),
            Act::RelayBack(relay) => self.world.set_up(relay, true),
            Act::Reachable(device) => self.world.devices[device].cut_off = false,
            Act::Join(invite) => self.join(*invite),
            Act::Answer(device, run) if self.runs(device, run) => {
                let (now, accept) = (self.world.now_at(device), self.healed || !self.dice.chance(100));
                let engine = self.world.engine(device);
                if accept {
                    engine.accept_joiner_unchecked(now)
                } else {
                    engine.decline_joiner(now)
                }
                self.world.drain(device);
            }
            Act::Read(device, run) if self.runs(device, run) => self.read(device),
            Act::Mark(device, run, position) if self.runs(device, run) => {
                self.persons[device].app.marked = self.persons[device].app.marked.max(position);
                let now = self.world.now_at(device);
                self.world.engine(device).mark_processed(now, position);
                self.world.drain(device);
            }
            Act::Online(device, run) if self.runs(device, run) => {
                let now = self.world.now_at(device);
                self.world.engine(device).start(now);
                self.world.drain(device);
            }
            Act::Answer(..) | Act::Read(..) | Act::Mark(..) | Act::Online(..) => {}
        }
    }

    fn op(&mut self, op: Op) {
        let count = self.world.devices.len();
        match op {
            Op::Push { device, count: blobs, bytes } => self.push(device % count, blobs, bytes),
            Op::Cut(device, loss) => {
                self.count("links cut");
                self.world.cut_losing(device % count, loss);
            }
            Op::Crash(device, loss) => {
                self.count("crashes");
                self.world.crash_losing(device % count, loss);
            }
            Op::CrashAfter(device, outputs) => {
                self.world.devices[device % count].crash_after = Some(outputs);
            }
            Op::CutAfter(device, messages, loss) => {
                self.world.devices[device % count].cut_after = Some((messages, loss));
            }
            Op::FailDisk(device) => self.world.devices[device % count].disk.fail_next = 1,
            Op::RestartRelay(relay, ms) => {
                let relay = relay % self.plan.relays;
                self.count("relay restarts");
                self.world.set_up(relay, false);
                self.after(ms, Act::RelayBack(relay));
            }
            Op::RollBack(relay, entries, declared) => {
                let relay = relay % self.plan.relays;
                self.count(if declared { "restores declared" } else { "rollbacks" });
                self.expect_told(relay, entries, declared);
                self.world.roll_back_at(relay, entries, declared);
            }
            Op::Wipe(relay) => {
                let relay = relay % self.plan.relays;
                self.count("relays wiped");
                self.wiped = true;
                self.expect_told(relay, 0, true);
                self.world.wipe_at(relay);
            }
            Op::SlowRelay(relay, ms) => match (relay % self.plan.relays).checked_sub(1) {
                None => self.world.relay_slower_ms = ms,
                Some(other) => self.world.others[other].slower_ms = ms,
            },
            Op::CutOff(device, ms) => {
                self.count("partitions");
                let device = device % count;
                self.world.devices[device].cut_off = true;
                self.world.cut_losing(device, Loss::Downstream);
                self.after(ms, Act::Reachable(device));
            }
            Op::RefusePushes(pushes, index) => {
                self.world.relay.refuse_pushes = pushes;
                self.world.relay.refuse_index = index;
            }
            Op::LoseAcks(pushes) => self.world.relay.lose_acks = pushes,
            Op::Stubs(stubs) => self.world.relay.no_stubs = !stubs,
            Op::Pages(items) => self.world.relay.page_items = items,
            Op::Wake(device) => self.world.handle(device % count, Input::Wake),
            Op::Tick(device) => self.world.handle(device % count, Input::Tick),
            Op::Invite(device) => self.invite(device % count),
            Op::CrashNewcomer(_) | Op::CutNewcomer(..) => self.newcomer = Some(op),
            Op::CancelInvite(device) => {
                let (device, now) = (device % count, self.world.now_at(device % count));
                if self.world.devices[device].engine().is_some() {
                    self.count("invitations taken back");
                    self.world.engine(device).cancel_invite(now);
                    self.world.drain(device);
                }
            }
            Op::Close(device, ms) => {
                let (device, now) = (device % count, self.world.now_at(device % count));
                if self.world.devices[device].engine().is_some() {
                    self.count("closed and started");
                    self.world.engine(device).close(now);
                    self.world.drain(device);
                    let run = self.world.devices[device].run();
                    self.after(ms, Act::Online(device, run));
                }
            }
            Op::Revoke(by, device) => self.revoke(by % count, device % count),
            Op::Rotate(by) => {
                let by = by % count;
                if self.world.devices[by].engine().is_some() {
                    let now = self.world.now_at(by);
                    // One that is not fully in yet, or out again, does not.
                    if self.world.engine(by).rotate(now).is_ok() {
                        self.count("rotations asked for");
                    }
                    self.world.drain(by);
                }
            }
            Op::Leave(device) => self.leave(device % count),
            Op::Compact(device) => self.compact(device % count),
            Op::Purge(relay) => self.world.relay_at_mut(relay % self.plan.relays).purge(),
            Op::ForgetAway(relay, forgets) => {
                self.world.relay_at_mut(relay % self.plan.relays).forgets_who_is_away = forgets;
            }
            Op::Expire(relay, entries, purges) => {
                let relay = relay % self.plan.relays;
                self.expired = true;
                self.inspectors[relay].gave_up = true;
                self.count("floors moved too high");
                let at = self.world.relay_at_mut(relay);
                if let Some(log) = &mut at.log {
                    let floor = log.floor.saturating_add(entries).min(log.entries.len() as u64);
                    log.move_floor(floor);
                }
                if purges {
                    at.purge();
                }
                (0..count).for_each(|device| self.world.cut_from(device, relay, Loss::Everything));
            }
            Op::TurnClock(device, ahead_ms) => {
                self.world.devices[device % count].clock.wall_ahead_ms = ahead_ms;
            }
        }
    }

    /// Notes who is to find out that the relay goes back: every device that has read what will be
    /// gone. A loss that is declared hides one that was not, from all who have not found that out.
    fn expect_told(&mut self, relay: usize, entries: usize, declared: bool) {
        let Some(log) = &self.world.relay_at(relay).log else { return };
        let (timeline, head) = (log.timeline, log.entries.len());
        let to = head.saturating_sub(entries).max(1) as u64;
        for (device, person) in self.persons.iter_mut().enumerate() {
            let at = &self.world.devices[device];
            if declared {
                person.must_tell.retain(|unsaid| unsaid.timeline != timeline);
            } else if (to as usize) < head {
                self.rolled_back = true;
                person.may_tell.insert(timeline);
                let status = at.engine().map(Engine::status).filter(|_| at.disk_is_idle());
                let relays = status.into_iter().flat_map(|status| status.relays);
                let mut here = relays.filter(|it| it.address.url == World::url(relay) && it.caught_up);
                let read = here.next().and_then(|it| it.head).filter(|&read| read > to);
                let known = person.must_tell.iter().any(|unsaid| unsaid.timeline == timeline);
                if let Some((read, stored)) = read.and_then(|it| Some((it, log.entries.get(it as usize - 1)?)))
                    && !known
                {
                    let blob_id = stored.blob_id;
                    person.must_tell.push(Unsaid { relay, timeline, read, blob_id });
                }
            }
        }
    }

    /// Whether the group keeps two devices if one more goes.
    fn can_spare_one(&mut self, by: usize) -> bool {
        let Some(engine) = self.world.devices[by].engine() else { return false };
        engine.status().members.iter().filter(|member| !self.doomed.contains(&member.device)).count() > 2
    }

    fn revoke(&mut self, by: usize, device: usize) {
        let Some(id) = self.persons.get(device).and_then(|person| person.id) else { return };
        if !self.can_spare_one(by) {
            return;
        }
        let now = self.world.now_at(by);
        if self.world.engine(by).revoke(now, id).is_ok() {
            self.doomed.insert(id);
            self.count("removals asked for");
        }
        self.world.drain(by);
    }

    fn leave(&mut self, device: usize) {
        if !self.can_spare_one(device) {
            return;
        }
        let now = self.world.now_at(device);
        if self.world.engine(device).leave(now).is_ok() {
            self.persons[device].leaves = true;
            self.doomed.extend(self.persons[device].id);
            self.count("leavings asked for");
        }
        self.world.drain(device);
    }

    fn push(&mut self, device: usize, count: u64, bytes: usize) {
        for _ in 0..count {
            if self.world.devices[device].engine().is_none() {
                return;
            }
            self.blobs += 1;
            let blob = match self.dice.index(20) {
                0 => Bytes::new(),
                _ if self.plan.empty_blobs => Bytes::new(),
                1 => Bytes::from_static(b"the same from everybody"),
                _ => Bytes::from(format!("blob {} {}", self.blobs, "x".repeat(bytes))),
            };
            let now = self.world.now_at(device);
            match self.world.engine(device).push(now, blob.clone()) {
                Ok(push) => {
                    let person = &mut self.persons[device];
                    if person.pushes.last_key_value().is_some_and(|(last, _)| *last >= push) {
                        self.wrong(device, format!("push {push} was numbered before"));
                    } else {
                        person.pushes.insert(push, blob);
                    }
                }
                Err(PushError::Left) if self.persons[device].leaves => return,
                Err(error) => self.wrong(device, error),
            }
            self.world.drain(device);
            self.count("pushes");
            if bytes > self.plan.envelope_bytes_max as usize {
                self.count("pushes in parts");
            }
        }
    }

    /// What a device's app has made of everything that is stored there.
    fn state_of(&self, device: usize) -> Result<Vec<app::Kept>, String> {
        let storage = &self.world.devices[device];
        let Some(engine) = storage.engine() else { return Ok(Vec::new()) };
        let (from, to) = Engine::entry_range(engine.first_position() - 1);
        let reader = engine.entry_reader();
        let mut state = Vec::new();
        for stored in storage.rows(&from, &to).flat_map(|row| reader.entries(row, 0)) {
            let read = |from: Vec<u8>, to: Vec<u8>| storage.rows(&from, &to).collect();
            let entry = stored.and_then(|stored| stored.whole(read)).map_err(|error| error.to_string())?;
            if entry.snapshot {
                state.clear();
            }
            state.extend(app::kept(&entry)?);
        }
        Ok(state)
    }

    /// The app of a device hands its state over, if it has read and processed everything.
    fn compact(&mut self, device: usize) {
        let Some(engine) = self.world.devices[device].engine() else { return };
        let position = engine.status().position;
        if self.persons[device].app.read != position {
            return;
        }
        let state = match self.state_of(device) {
            Ok(state) => state,
            Err(fault) => return self.wrong(device, fault),
        };
        let now = self.world.now_at(device);
        self.persons[device].app.marked = self.persons[device].app.marked.max(position);
        self.world.engine(device).mark_processed(now, position);
        if self.world.engine(device).compact(now, wire::encode(&state).into()).is_ok() {
            self.count("snapshots");
        }
        self.world.drain(device);
    }

    fn invite(&mut self, device: usize) {
        let room = self.world.devices.iter().filter(|device| device.is_running() || !device.storage.is_empty()).count()
            < self.plan.devices;
        if room && !self.inviting && self.world.devices[device].engine().is_some() {
            self.inviting = true;
            let now = self.world.now_at(device);
            let kind = if self.dice.chance(500) { InviteKind::Code } else { InviteKind::Link { base: None } };
            self.world.engine(device).invite(now, kind, 600_000);
            self.world.drain(device);
        }
    }

    fn join(&mut self, invite: Invite) {
        self.inviting = false;
        let free = self.world.devices.iter().position(|device| !device.is_running() && device.storage.is_empty());
        let device = free.unwrap_or_else(|| {
            if self.world.devices.len() == self.plan.devices {
                return usize::MAX;
            }
            self.persons.push(Person::default());
            self.world.add_device()
        });
        if device == usize::MAX {
            return;
        }
        self.count("joins begun");
        let wall_ahead_ms = years(&mut self.dice);
        self.world.devices[device].clock = Clock { mono_ahead_ms: self.dice.any() % 1_000_000_000, wall_ahead_ms };
        match self.newcomer.take() {
            Some(Op::CrashNewcomer(outputs)) => self.world.devices[device].crash_after = Some(outputs),
            Some(Op::CutNewcomer(messages, loss)) => self.world.devices[device].cut_after = Some((messages, loss)),
            _ => {}
        }
        self.world.join(device, invite, &format!("device {device}"));
    }

    /// The process starts again, and the app with it, from what is stored.
    fn start(&mut self, device: usize) {
        self.persons[device].starting = false;
        if self.world.devices[device].engine().is_some() || self.world.devices[device].storage.is_empty() {
            return;
        }
        self.world.devices[device].clock.mono_ahead_ms = self.dice.any() % 1_000_000_000;
        self.world.open(device);
        self.count("starts");
        let mut status = self.world.engine(device).status();
        if self.world.defect == Some(Defect::AppReadsProcessedAgain) {
            status.processed = status.processed.saturating_sub(1);
        }
        let person = &mut self.persons[device];
        let mut faults = Vec::new();
        faults.extend(person.app.begin(status.processed, status.position).err());
        if status.stored_push < person.stored {
            faults.push(format!("push {} was reported stored; after a restart {}", person.stored, status.stored_push));
        }
        if status.acked_push < person.acked {
            faults.push(format!("push {} was acknowledged; after a restart {}", person.acked, status.acked_push));
        }
        // The rest was never reported, and is lost.
        person.pushes.split_off(&(status.stored_push + 1));
        person.id = Some(status.device);
        // Told on disk, and killed before the app heard of it.
        for finding in &status.integrity {
            if let IntegrityEvent::RolledBack { from, .. } = finding {
                person.must_tell.retain(|unsaid| unsaid.read != *from);
            }
        }
        let unread = person.app.read < person.app.rung;
        for fault in faults {
            self.wrong(device, fault);
        }
        let run = self.world.devices[device].run();
        if unread {
            self.late(Act::Read(device, run));
        }
        let now = self.world.now_at(device);
        self.world.engine(device).start(now);
        self.world.drain(device);
    }

    fn read(&mut self, device: usize) {
        let most = 1 + self.dice.index(20);
        let person = &mut self.persons[device];
        let after = person.app.read;
        let first = self.world.devices[device].engine().map_or(1, Engine::first_position);
        let (from, to) = Engine::entry_range(after.max(first - 1));
        let rows: Vec<_> = self.world.devices[device].rows(&from, &to).take(most).collect();
        let reader = self.world.engine(device).entry_reader();
        let mut faults = Vec::new();
        let (mut delivered, mut again, mut begun) = (0, 0, 0);
        let storage = &self.world.devices[device];
        for stored in rows.into_iter().flat_map(|row| reader.entries(row, after)).take(most) {
            match stored.and_then(|stored| stored.whole(|from, to| storage.rows(&from, &to).collect())) {
                Ok(entry) if entry.position > person.app.rung => break,
                Ok(entry) => {
                    delivered += 1;
                    begun += u64::from(entry.snapshot);
                    again += u64::from(person.app.seen.contains_key(&entry.position));
                    faults.extend(person.app.take(&entry).err());
                    // From one of several relays it may come before what it names, and from one that lost
                    // something: each device puts its own chain back first, whatever that names.
                    let in_order = self.plan.relays == 1 && self.world.relay.rewrites() == 0;
                    if entry.missing_deps && in_order {
                        faults.push(format!("position {} lacks what its author had seen", entry.position));
                    }
                }
                Err(error) => faults.push(error.to_string()),
            }
        }
        let (read, rung) = (person.app.read, person.app.rung);
        if delivered == 0 && read < rung {
            faults.push(format!("told of {rung}, and nothing to read behind {read}"));
        }
        *self.tally.entry("snapshots begun with").or_default() += begun;
        *self.tally.entry("entries delivered").or_default() += delivered;
        *self.tally.entry("entries delivered again").or_default() += again;
        for fault in faults {
            self.wrong(device, fault);
        }
        let run = self.world.devices[device].run();
        if read < rung {
            self.late(Act::Read(device, run));
        }
        if read == rung || self.dice.chance(500) {
            self.late(Act::Mark(device, run, read));
        }
    }

    /// A device that its sender takes for a member and that has not stored its entry.
    fn who_lacks(&self, sender: usize, push: u64) -> Option<usize> {
        let status = self.world.devices[sender].engine()?.status();
        // The event was on its way while its commit was: who was let in since, and wrote nothing but
        // that, was no member when it was said.
        let since = |member: &Member| member.has_push < push && member.last_wrote_at_ms == Some(member.joined_at_ms);
        let others = status.members.iter().filter(|member| !member.own && !member.leaving && !since(member));
        let of = |id: DeviceId| self.persons.iter().position(|person| person.id == Some(id));
        // The row of the sender's chain: how far it is there, read or in a snapshot.
        let key = [&b"\x01c"[..], &status.device.0].concat();
        others.filter_map(|member| of(member.device)).find(|device| {
            let row = self.world.devices[*device].storage.get(&key);
            let chain: Option<Chain> = row.and_then(|row| wire::decode(row).ok());
            chain.is_none_or(|chain| chain.seq < push)
        })
    }

    /// Whether a device may write, or join, where the others do not know of it yet: in what a relay
    /// has lost, or on another relay.
    fn may_be_unknown(&self) -> bool {
        self.plan.relays > 1 || self.world.relay.rewrites() > 0
    }

    /// Highest seq of a device that ever stood at a relay.
    fn stored_seq(&self, device: &DeviceId) -> u64 {
        self.inspectors.iter().map(|inspector| inspector.stored_seq(device)).max().unwrap_or_default()
    }

    /// Looks at everything that the last step brought.
    fn observe(&mut self) {
        for (relay, inspector) in self.inspectors.iter_mut().enumerate() {
            if let Err(fault) = inspector.inspect(self.world.relay_at_mut(relay)) {
                self.violations.push(format!("at {} ms, the relay: {fault}", self.world.now_ms()));
            }
        }
        for person in &mut self.persons {
            // Who finds it at its place again has lost nothing.
            person.must_tell.retain(|unsaid| {
                let stands = self.world.relay_at(unsaid.relay).entries().get(unsaid.read as usize - 1);
                stands.is_none_or(|stored| stored.blob_id != unsaid.blob_id)
            });
        }
        for device in 0..self.world.devices.len() {
            for event in std::mem::take(&mut self.world.devices[device].events) {
                self.on_event(device, event);
            }
            let at = &self.world.devices[device];
            if !at.is_running() && !at.storage.is_empty() && !self.persons[device].starting {
                self.persons[device].starting = true;
                let down_ms = self.dice.within(&self.plan.down_ms.clone());
                self.after(down_ms, Act::Start(device));
            } else if at.is_running() && at.disk_is_idle() {
                let app = &mut self.persons[device].app;
                app.durable = app.marked;
            }
        }
        self.violations.append(&mut self.world.violations);
    }

    fn on_event(&mut self, device: usize, event: Event) {
        let run = self.world.devices[device].run();
        match event {
            Event::EntriesAvailable { position } => {
                if self.world.defect == Some(Defect::DriverLosesDoorbell) {
                    return;
                }
                let app = &mut self.persons[device].app;
                let idle = app.read == app.rung;
                app.rung = app.rung.max(position);
                if idle {
                    self.late(Act::Read(device, run));
                }
            }
            Event::ProcessedStored { position } => {
                let app = &mut self.persons[device].app;
                app.durable = app.durable.max(position);
            }
            Event::PushesStored { push } => self.persons[device].stored = self.persons[device].stored.max(push),
            Event::PushesAcked { push } => {
                self.persons[device].acked = self.persons[device].acked.max(push);
                let at_relay = self.persons[device].id.map_or(0, |id| self.stored_seq(&id));
                if at_relay < push {
                    self.wrong(device, format!("push {push} is acknowledged, and the relay has {at_relay}"));
                }
            }
            Event::PushesEverywhere { push } => {
                self.count("pushes known to be everywhere");
                if let Some(lacking) = self.who_lacks(device, push) {
                    self.wrong(device, format!("push {push} is everywhere, and device {lacking} has it not"));
                }
            }
            Event::Whispered { .. } => self.wrong(device, "nobody whispered"),
            Event::StatusChanged => {
                let problem = self.world.devices[device].engine().and_then(|engine| engine.status().problem);
                match problem {
                    None | Some(Problem::Unreachable(_)) => {}
                    // Shut out for good, or for as long as a removal under way has not read that it
                    // joined: the end tells.
                    Some(Problem::Revoked) if self.rotates => {}
                    // An older copy of the log lets in who was removed since, to read its own removal.
                    Some(Problem::EpochNotOpened) if self.rotates && self.may_be_unknown() => {}
                    Some(Problem::Left) if self.persons[device].leaves => {}
                    // Until somebody who has the log makes it again.
                    Some(Problem::LogGone | Problem::Refused { code: Some(ErrorCode::UnknownLog), .. })
                        if self.wiped || self.may_be_unknown() => {}
                    // Until somebody who has the snapshot gives it back to the relay that lost it.
                    Some(Problem::SnapshotAwaited) if self.wiped || self.may_be_unknown() => {}
                    Some(problem) => self.wrong(device, problem),
                }
            }
            Event::Integrity(IntegrityEvent::RolledBack { from, .. }) if self.rolled_back => {
                self.persons[device].told += 1;
                self.persons[device].must_tell.retain(|unsaid| unsaid.read != from);
                self.count("rollbacks told");
            }
            Event::Integrity(IntegrityEvent::Withheld { .. }) if self.expired => {
                self.count("entries told to be withheld");
            }
            // An older copy of the log admits who was removed since, until a member comes.
            Event::Integrity(IntegrityEvent::Quarantined { sender, .. })
                if self.may_be_unknown() && self.doomed.contains(&sender) =>
            {
                self.count("entries from outside held back");
            }
            Event::Integrity(finding) => self.wrong(device, format!("{finding:?}")),
            Event::Repairing { done: true, uploaded, .. } if uploaded > 0 => self.count("relays healed"),
            Event::Repairing { .. } => {}
            Event::PushRefused { push, problem } => self.wrong(device, format!("push {push} is refused: {problem}")),
            Event::InviteReady { invite, .. } => {
                let think_ms = self.dice.within(&(0..=3_000));
                self.after(think_ms, Act::Join(Box::new(invite)));
            }
            Event::JoinerWaiting { .. } => {
                let think_ms = self.dice.within(&(0..=3_000));
                self.after(think_ms, Act::Answer(device, run));
            }
            Event::InviteFailed(_) => self.inviting = false,
            // No simulated person says so.
            Event::EntriesGivenUp { .. } => self.wrong(device, "gave up entries although nobody asked for that"),
            Event::Reset { .. } => self.count("states replaced by a snapshot"),
            Event::CompactionAdvised { .. } | Event::SnapshotQueued { .. } | Event::InviteAccepted { .. }
            | Event::ShowDigits { .. }
            | Event::ConfirmJoin { .. }
            | Event::MemberJoined { .. }
            | Event::KeysChanged { .. }
            | Event::Left
            // A device on its way in is unknown for a moment.
            | Event::UnknownDeviceAtRelay { .. } => {}
            Event::MemberRemoved { device: id, .. } => {
                self.count("removals read");
                // Who joined in what was lost may be unknown to whoever changes the keys next.
                if !self.doomed.contains(&id) && !self.may_be_unknown() {
                    self.wrong(device, format!("{id} was removed, and nobody asked for that"));
                }
            }
            Event::Joined => {
                self.count("joins completed");
                let keys = self.world.keys(device).0;
                self.inspectors.iter_mut().for_each(|inspector| inspector.learn(keys.clone()));
                self.world.devices[device].running = Running::Nothing;
            }
            Event::Restored | Event::RestoreFailed(_) => self.wrong(device, "nobody restores here"),
            Event::JoinFailed(_) => {
                self.world.devices[device].running = Running::Nothing;
                if !self.world.devices[device].storage.is_empty() {
                    self.wrong(device, "joining failed and left something behind");
                }
            }
            Event::StorageFailed(fault) => {
                self.count("reopened after a failed commit");
                if fault != StorageFault::Failed("the disk refused".into()) {
                    self.wrong(device, fault);
                }
                self.world.crash_losing(device, Loss::Downstream);
            }
        }
    }
}

/// A wall clock within five years of the right time.
fn years(dice: &mut Dice) -> i64 {
    const FIVE_YEARS_MS: i64 = 5 * 365 * 24 * 3_600 * 1_000;
    (dice.any() % 2_001) as i64 * (FIVE_YEARS_MS / 1_000) - FIVE_YEARS_MS
}
