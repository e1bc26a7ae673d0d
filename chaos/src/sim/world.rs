//! The world: who is there, what time it is, and what happens next.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::Bytes;
use zerok_sync_core::id::{DeviceId, GroupId};
use zerok_sync_core::io::LinkDownReason;
use zerok_sync_core::io::{RelayAddress, Row};
use zerok_sync_core::keyring::Keyring;
use zerok_sync_core::keys::{EpochSecret, Membership, MembershipSeed, StoreKey};
use zerok_sync_core::store_seal;
use zerok_sync_core::{
    Engine, Entry, Event, Founding, Input, IntegrityEvent, Invite, InviteKind, Joiner, Joining, Now, RecoveryWords,
    Restorer, Restoring, Secrets, Stored,
};
use zerok_sync_protocol::{EpochId, RelayFrame, wire, wire_struct};

use super::defect::Defect;
use super::device::{Device, Link, Running};
use super::dice::Dice;
use super::network::{Network, Parcel};
use super::relay::{Conn, Relay};

/// Steps without time passing after which the world is stuck.
const STEPS_AT_ONCE_MAX: u32 = 100_000;
/// How long a relay keeps the session of a link that went silent.
const RELAY_PATIENCE_MS: u64 = 60_000;

/// How good the network and the disks are.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// One way, per message.
    pub latency_ms: RangeInclusive<u64>,
    /// So many of a thousand batches and scans take time; the others are done at once.
    pub slow_disk_per_mille: u64,
    /// How long those take, before they are carried out and again before they are confirmed.
    pub disk_ms: RangeInclusive<u64>,
}

impl Conditions {
    /// Five milliseconds everywhere, and disks without delay.
    pub const CALM: Self = Self { latency_ms: 5..=5, slow_disk_per_mille: 0, disk_ms: 0..=0 };
}

/// What becomes of what is on a link that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing of it arrives.
    Everything,
    /// What the device sent still arrives, what the relay sent does not.
    Downstream,
    /// Nothing of it arrives, and neither side is told.
    Silence,
}

wire_struct! {
    /// A device's row with its secrets, as the core writes it.
    pub struct Identity {
        /// Of the membership.
        seed: Bytes,
        /// The genesis body.
        genesis: Bytes,
        /// Of all epochs.
        secrets: Vec<EpochSecret>,
        /// Which of them is sealed under.
        current: EpochId,
    }
}

/// A relay besides the first.
#[derive(Debug)]
pub struct Other {
    /// The relay.
    pub relay: Relay,
    /// Whether links to it come about.
    pub up: bool,
    /// What a message to or from it takes longer.
    pub slower_ms: u64,
}

/// Devices, relays and a network. See [`crate::sim`].
#[derive(Debug)]
pub struct World {
    /// The first relay; most worlds have no other.
    pub relay: Relay,
    /// Whether links to it come about.
    pub relay_up: bool,
    /// What a message to or from it takes longer.
    pub relay_slower_ms: u64,
    /// The second, and so on.
    pub others: Vec<Other>,
    /// Numbered by their index.
    pub devices: Vec<Device>,
    /// How good the network and the disks are.
    pub conditions: Conditions,
    /// Something that is not honest.
    pub defect: Option<Defect>,
    /// Everything that happens is printed to standard error.
    pub traced: bool,
    /// Contracts of [`zerok_sync_core::io`] that were broken.
    pub violations: Vec<String>,
    pub(super) now_ms: u64,
    pub(super) network: Network,
    pub(super) links: u64,
    /// Which relay each link leads to.
    pub(super) leads_to: BTreeMap<u64, usize>,
    /// Links on which nothing passes, also once the device has given them up.
    pub(super) silenced: BTreeSet<Conn>,
    pub(super) dice: Dice,
    steps_at_once: u32,
    pub(super) counts: Counts,
}

/// How often something happened that chance decides.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) crashes_while_writing: u64,
    pub(super) crashes_before_confirmation: u64,
    pub(super) acks_lost: u64,
    pub(super) commits_refused: u64,
    pub(super) planned_cuts: u64,
    pub(super) planned_crashes: u64,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// An empty world with a relay, in calm conditions.
    #[must_use]
    pub fn new() -> Self {
        Self::seeded(0)
    }

    /// An empty world whose chances are those of a seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            relay: Relay::new(),
            relay_up: true,
            relay_slower_ms: 0,
            others: Vec::new(),
            devices: Vec::new(),
            conditions: Conditions::CALM,
            defect: None,
            traced: false,
            violations: Vec::new(),
            now_ms: 1_000_000,
            network: Network::default(),
            links: 0,
            leads_to: BTreeMap::new(),
            silenced: BTreeSet::new(),
            dice: Dice::new(seed, b'w'),
            steps_at_once: 0,
            counts: Counts::default(),
        }
    }

    /// A world with a group of this many devices, all caught up.
    #[must_use]
    pub fn with_group(devices: usize) -> Self {
        let mut world = Self::new();
        world.form_group(devices);
        world
    }

    /// Founds a group and pairs devices until there are this many, all caught up.
    pub fn form_group(&mut self, devices: usize) {
        self.found("device 0");
        for number in 1..devices {
            self.pair(0, &format!("device {number}"));
        }
    }

    /// Where a relay is found.
    #[must_use]
    pub fn url(relay: usize) -> String {
        format!("http://127.0.0.1:{}", 8080 + relay)
    }

    /// Another relay, with nothing on it; its index.
    pub fn add_relay(&mut self) -> usize {
        let number = self.others.len() + 1;
        let relay = Relay::numbered(u8::try_from(number).expect("few relays"));
        self.others.push(Other { relay, up: true, slower_ms: 0 });
        number
    }

    /// A relay by its index.
    #[must_use]
    pub fn relay_at(&self, index: usize) -> &Relay {
        index.checked_sub(1).map_or(&self.relay, |other| &self.others[other].relay)
    }

    /// A relay by its index, to change it.
    pub fn relay_at_mut(&mut self, index: usize) -> &mut Relay {
        match index.checked_sub(1) {
            None => &mut self.relay,
            Some(other) => &mut self.others[other].relay,
        }
    }

    pub(super) fn is_up(&self, index: usize) -> bool {
        index.checked_sub(1).map_or(self.relay_up, |other| self.others[other].up)
    }

    /// Makes a relay reachable, or not: then its links break, and it keeps its log.
    pub fn set_up(&mut self, index: usize, up: bool) {
        match index.checked_sub(1) {
            None => self.relay_up = up,
            Some(other) => self.others[other].up = up,
        }
        if !up {
            self.restart_at(index);
        }
    }

    /// A device has another relay carry the group; the group knows once everything has settled.
    ///
    /// # Panics
    /// When the engine refuses it.
    pub fn list_relay(&mut self, device: usize, index: usize) {
        let now = self.now_at(device);
        let address = RelayAddress { url: Self::url(index), key: None };
        self.engine(device).add_relay(now, address, None, false).expect("not listed yet");
        self.drain(device);
    }

    /// Milliseconds since this world's beginning of time.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// What a device with right clocks reads.
    #[must_use]
    pub fn now(&self) -> Now {
        super::device::Clock::default().read(self.now_ms)
    }

    /// What this device reads.
    #[must_use]
    pub fn now_at(&self, device: usize) -> Now {
        self.devices[device].clock.read(self.now_ms)
    }

    /// Another device, with nothing on it; its index.
    pub fn add_device(&mut self) -> usize {
        self.devices.push(Device::default());
        self.devices.len() - 1
    }

    fn store_key(device: usize) -> StoreKey {
        StoreKey::from_bytes([u8::try_from(device).expect("few devices"); 32])
    }

    /// What a start brings: a process of its own.
    fn new_run(&mut self, device: usize) -> Secrets {
        self.devices[device].run += 1;
        Secrets { store_key: Self::store_key(device), rng_seed: self.dice.bytes() }
    }

    /// A device that founds the group and creates its log.
    pub fn found(&mut self, name: &str) -> usize {
        let device = self.add_device();
        let secrets = self.new_run(device);
        let relay = RelayAddress { url: Self::url(0), key: None };
        let founding = Founding { relay, device_name: name.into(), token: None };
        let batch = Engine::found(self.now_at(device), &secrets, founding);
        self.devices[device].apply(batch);
        self.start(device);
        self.settle();
        device
    }

    /// Pairs a new device through `inviter`; its index.
    ///
    /// # Panics
    /// When that fails.
    pub fn pair(&mut self, inviter: usize, name: &str) -> usize {
        let device = self.begin_joining(inviter, name);
        self.settle();
        let now = self.now_at(inviter);
        self.engine(inviter).accept_joiner_unchecked(now);
        self.settle();
        assert!(self.devices[device].events.contains(&Event::Joined), "{:?}", self.devices[device].events);
        self.start(device);
        self.settle();
        device
    }

    /// Invites, and starts a joiner on a new device with the link; its index.
    ///
    /// # Panics
    /// When no link comes.
    pub fn begin_joining(&mut self, inviter: usize, name: &str) -> usize {
        let now = self.now_at(inviter);
        self.engine(inviter).invite(now, InviteKind::Link { base: None }, 600_000);
        self.settle();
        let invite = self.devices[inviter].events.iter().rev().find_map(|event| match event {
            Event::InviteReady { invite, .. } => Some(invite.clone()),
            _ => None,
        });
        let device = self.add_device();
        self.join(device, invite.expect("the relay opened a mailbox"), name);
        device
    }

    /// Starts a joiner on an empty device; its person wants what the invitation leads to.
    ///
    /// # Panics
    /// When the invitation leads nowhere.
    pub fn join(&mut self, device: usize, invite: Invite, name: &str) {
        let secrets = self.new_run(device);
        let relay = invite.relay(Some(&Self::url(0)), None).expect("an address");
        let joining = Joining { invite, relay, device_name: name.into(), bring_data: false };
        let joiner = Joiner::new(self.now_at(device), secrets, joining);
        self.devices[device].running = Running::Joiner(Box::new(joiner));
        self.drain(device);
    }

    /// Makes recovery words on a device and lets them be enrolled.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn make_words(&mut self, device: usize) -> RecoveryWords {
        let words = self.engine(device).draft_recovery().words;
        let now = self.now_at(device);
        self.engine(device).enrol_recovery(now, words.clone()).expect("a member");
        self.drain(device);
        words
    }

    /// Starts to restore on a new, empty device; its index.
    pub fn begin_restoring(&mut self, words: RecoveryWords, name: &str) -> usize {
        let device = self.add_device();
        let secrets = self.new_run(device);
        let relay = RelayAddress { url: Self::url(0), key: None };
        let restoring = Restoring { words, relay, device_name: name.into() };
        let restorer = Restorer::new(self.now_at(device), secrets, restoring);
        self.devices[device].running = Running::Restorer(Box::new(restorer));
        self.drain(device);
        device
    }

    /// Restores on a new device and starts it; its index.
    ///
    /// # Panics
    /// When that fails.
    pub fn restore(&mut self, words: RecoveryWords, name: &str) -> usize {
        let device = self.begin_restoring(words, name);
        self.settle();
        assert!(self.devices[device].events.contains(&Event::Restored), "{:?}", self.devices[device].events);
        self.start(device);
        self.settle();
        device
    }

    /// Opens the device's engine from its storage and goes online.
    pub fn start(&mut self, device: usize) {
        self.open(device);
        let now = self.now_at(device);
        self.engine(device).start(now);
        self.drain(device);
    }

    /// Opens the device's engine from its storage, offline.
    ///
    /// # Panics
    /// When the storage is not sound.
    pub fn open(&mut self, device: usize) {
        let secrets = self.new_run(device);
        let rows = self.rows(device, Engine::HOT_FROM, Engine::HOT_TO);
        let engine = Engine::open(self.now_at(device), secrets, rows).expect("the storage is sound");
        self.devices[device].running = Running::Engine(Box::new(engine));
    }

    /// The process is gone; what was not committed is lost, and what was on its way.
    pub fn crash(&mut self, device: usize) {
        self.crash_losing(device, Loss::Everything);
    }

    /// The process is gone. A batch that was being written is there or not, as chance has it.
    pub fn crash_losing(&mut self, device: usize, loss: Loss) {
        for relay in 0..=self.others.len() {
            self.break_link_to(device, relay, loss);
        }
        let survives = self.dice.chance(500);
        let disk = &self.devices[device].disk;
        self.counts.crashes_while_writing += u64::from(disk.pending.is_some());
        self.counts.crashes_before_confirmation += u64::from(disk.pending.is_none() && !disk.unconfirmed.is_empty());
        let device = &mut self.devices[device];
        device.running = Running::Nothing;
        device.crash_after = None;
        device.disk.unconfirmed.clear();
        device.disk.owed = None;
        if let Some(batch) = device.disk.pending.take().filter(|_| survives) {
            device.apply(batch);
        }
    }

    /// The link breaks; both sides notice.
    pub fn cut(&mut self, device: usize) {
        self.cut_losing(device, Loss::Everything);
    }

    /// The link breaks.
    pub fn cut_losing(&mut self, device: usize, loss: Loss) {
        for relay in 0..=self.others.len() {
            self.cut_from(device, relay, loss);
        }
    }

    /// The link to one relay breaks.
    pub fn cut_from(&mut self, device: usize, relay: usize, loss: Loss) {
        if let Some(link) = self.break_link_to(device, relay, loss)
            && loss != Loss::Silence
        {
            let run = self.devices[device].run;
            self.post(Parcel::LinkDown(device, run, link.id));
        }
    }

    /// The relay ends the link because it has no place, and says when to come back.
    pub fn turn_away(&mut self, device: usize, retry_after_ms: u64) {
        if let Some(link) = self.break_link_to(device, 0, Loss::Everything) {
            self.handle(device, Input::LinkDown(link.id, LinkDownReason::TryLater { retry_after_ms }));
        }
    }

    fn break_link_to(&mut self, device: usize, relay: usize, loss: Loss) -> Option<Link> {
        let links = &mut self.devices[device].links;
        let index = links.iter().position(|link| link.relay == relay)?;
        let conn = (device, links[index].number);
        match loss {
            Loss::Everything => {
                let link = links.remove(index);
                let answers = self.relay_at_mut(relay).close(conn);
                self.post_all(answers);
                Some(link)
            }
            Loss::Downstream => {
                let link = links.remove(index);
                self.post(Parcel::RelayHearsClose(conn));
                Some(link)
            }
            Loss::Silence => {
                links[index].silent = true;
                let link = links[index];
                self.silenced.insert(conn);
                self.network.send(self.now_ms + RELAY_PATIENCE_MS, Parcel::RelayHearsClose(conn));
                Some(link)
            }
        }
    }

    /// The relay's process is gone and comes back with its log; every link to it breaks.
    pub fn restart_relay(&mut self) {
        self.restart_at(0);
    }

    fn restart_at(&mut self, relay: usize) {
        self.relay_at_mut(relay).restart();
        for device in 0..self.devices.len() {
            if self.devices[device].links.iter().any(|link| link.relay == relay && !link.silent) {
                self.cut_from(device, relay, Loss::Everything);
            }
        }
    }

    /// The relay's database is replaced by an older copy, of which it says so or not.
    pub fn roll_back_relay(&mut self, entries: usize, declared: bool) {
        self.roll_back_at(0, entries, declared);
    }

    /// The same with any relay.
    pub fn roll_back_at(&mut self, relay: usize, entries: usize, declared: bool) {
        self.relay_at_mut(relay).roll_back(entries, declared);
        self.restart_at(relay);
    }

    /// The relay's database is gone.
    pub fn wipe_relay(&mut self) {
        self.wipe_at(0);
    }

    /// The same with any relay.
    pub fn wipe_at(&mut self, relay: usize) {
        self.relay_at_mut(relay).wipe();
        self.restart_at(relay);
    }

    /// The relay says something to every session there is, of its own.
    pub fn relay_says(&mut self, frame: &RelayFrame) {
        let answers = self.relay.say_to_all(frame);
        self.post_all(answers);
    }

    /// The engine that runs on a device.
    ///
    /// # Panics
    /// When none does.
    pub fn engine(&mut self, device: usize) -> &mut Engine {
        match &mut self.devices[device].running {
            Running::Engine(engine) => engine,
            _ => panic!("device {device} runs no engine"),
        }
    }

    /// Pushes a text; its number.
    ///
    /// # Panics
    /// When the engine refuses it.
    pub fn push(&mut self, device: usize, text: &str) -> u64 {
        let now = self.now_at(device);
        let push = self.engine(device).push(now, Bytes::copy_from_slice(text.as_bytes())).expect("small enough");
        self.drain(device);
        push
    }

    /// Who a device is.
    pub fn id(&mut self, device: usize) -> DeviceId {
        self.engine(device).status().device
    }

    /// The keys a device holds, out of its storage.
    ///
    /// # Panics
    /// When it holds none.
    #[must_use]
    pub fn keys(&self, device: usize) -> (Membership, Keyring) {
        let key = b"\x01i".to_vec();
        let row = store_seal::open_row(&Self::store_key(device), &key, &self.devices[device].storage[&key])
            .expect("our own row");
        let Identity { seed, genesis, secrets, current } = wire::decode(&row).expect("an identity");
        let seed = MembershipSeed::from_bytes(seed[..].try_into().expect("32 bytes"));
        let keyring =
            Keyring::restore(GroupId::of(&genesis), secrets, &current).expect("the current one is among them");
        (Membership::from_seed(&seed), keyring)
    }

    /// Everything the app can read, from the device's storage.
    ///
    /// # Panics
    /// When an entry does not open.
    pub fn entries(&mut self, device: usize) -> Vec<Entry> {
        let (from, to) = Engine::entry_range(self.engine(device).first_position() - 1);
        let rows = self.rows(device, &from, &to);
        let reader = self.engine(device).entry_reader();
        let stored: Vec<_> = rows.into_iter().flat_map(|row| reader.entries(row, 0)).collect();
        let whole = |entry: Stored| entry.whole(|from, to| self.rows(device, &from, &to)).expect("parts are there");
        stored.into_iter().map(|entry| whole(entry.expect("entries open"))).collect()
    }

    /// What the app can read, as text.
    pub fn texts(&mut self, device: usize) -> Vec<String> {
        self.entries(device).iter().map(|entry| String::from_utf8_lossy(&entry.data).into_owned()).collect()
    }

    /// Accusations a device has raised.
    #[must_use]
    pub fn findings(&self, device: usize) -> Vec<IntegrityEvent> {
        self.devices[device]
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Integrity(finding) => Some(finding.clone()),
                _ => None,
            })
            .collect()
    }

    /// Rows of a device's storage with `from <= key < to`.
    #[must_use]
    pub fn rows(&self, device: usize, from: &[u8], to: &[u8]) -> Vec<Row> {
        self.devices[device].rows(from, to).collect()
    }

    /// Lets everything that is on its way arrive, and nothing else happen.
    ///
    /// # Panics
    /// When the world does not come to rest.
    pub fn settle(&mut self) {
        (0..self.devices.len()).for_each(|device| self.drain(device));
        let mut steps = 0;
        while let Some((at_ms, parcel)) = self.network.pop() {
            steps += 1;
            assert!(steps < 1_000_000, "the world does not come to rest");
            self.now_ms = self.now_ms.max(at_ms);
            self.carry(parcel);
        }
    }

    /// Lets time pass, with all that is due in it.
    pub fn advance(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.step(until_ms) {}
    }

    /// The next thing that happens, if it happens until then; otherwise time passes until then.
    ///
    /// # Panics
    /// When things go on happening without time passing.
    pub fn step(&mut self, until_ms: u64) -> bool {
        let due = (0..self.devices.len())
            .filter_map(|device| Some((self.deadline(device)?, device)))
            .min()
            .filter(|(at_ms, _)| self.network.next_at_ms().is_none_or(|parcel_ms| *at_ms < parcel_ms));
        let at_ms = due.map(|(at_ms, _)| at_ms).or(self.network.next_at_ms());
        let Some(at_ms) = at_ms.filter(|&at_ms| at_ms <= until_ms) else {
            self.now_ms = self.now_ms.max(until_ms);
            return false;
        };
        self.steps_at_once = if at_ms > self.now_ms { 0 } else { self.steps_at_once + 1 };
        assert!(self.steps_at_once < STEPS_AT_ONCE_MAX, "the world does not come to rest");
        self.now_ms = self.now_ms.max(at_ms);
        match due {
            Some((_, device)) => self.handle(device, Input::Tick),
            None => {
                if let Some((_, parcel)) = self.network.pop() {
                    self.carry(parcel);
                }
            }
        }
        true
    }

    /// Prints from now on what happens.
    pub fn trace(&mut self) {
        self.traced = true;
        for relay in 0..=self.others.len() {
            self.relay_at_mut(relay).frames = Some(Vec::new());
        }
    }

    /// Prints `line` at the present time, if things are printed.
    pub fn told(&self, line: impl FnOnce() -> String) {
        if self.traced {
            eprintln!("{:>8} ms  {}", self.now_ms, line());
        }
    }

    /// Prints what passed between devices and relays.
    pub(super) fn tell_frames(&mut self) {
        for relay in 0..=self.others.len() {
            for ((device, _), frame) in self.relay_at_mut(relay).take_frames() {
                self.told(|| format!("relay {relay}, device {device} {frame}"));
            }
        }
    }

    /// How often what happened that chance decides.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 8] {
        [
            ("crashes while a commit was written", self.counts.crashes_while_writing),
            ("crashes before a commit was confirmed", self.counts.crashes_before_confirmation),
            ("acknowledgements lost", self.counts.acks_lost),
            ("commits refused", self.counts.commits_refused),
            ("crashes between two outputs", self.counts.planned_crashes),
            ("links cut at a message", self.counts.planned_cuts),
            ("pushes refused", self.relay.refusals()),
            ("rotations", self.relay.rotations),
        ]
    }

    /// Confirms what a slow disk holds back.
    pub fn confirm_commits(&mut self, device: usize) {
        while let Some(id) = self.devices[device].disk.unconfirmed.pop_front() {
            self.handle(device, Input::Committed(id));
        }
    }

    /// A device's deadline in world time.
    fn deadline(&self, device: usize) -> Option<u64> {
        let device = &self.devices[device];
        device.running.deadline_ms().map(|mono_ms| mono_ms.saturating_sub(device.clock.mono_ahead_ms))
    }
}
