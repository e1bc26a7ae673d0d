//! Devices, a relay and a network in one virtual time: no sleeping, every run the same.

pub mod relay;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use zerok_sync_core::id::{DeviceId, GroupId};
use zerok_sync_core::io::{Change, LinkDownReason, LinkId, RelayAddress, Row};
use zerok_sync_core::keyring::Keyring;
use zerok_sync_core::keys::{EpochSecret, Membership, MembershipSeed, StoreKey};
use zerok_sync_core::store_seal;
use zerok_sync_core::{
    Engine, Entry, Event, Founding, Input, IntegrityEvent, InviteLink, Joiner, Joining, Machine, Now, Output, Secrets,
};
use zerok_sync_protocol::{EpochId, wire};

use relay::Relay;

const URL: &str = "http://127.0.0.1:8080";
/// One way, in virtual milliseconds.
const LATENCY_MS: u64 = 5;

/// What is on its way.
enum Parcel {
    LinkUp(usize, LinkId),
    LinkDown(usize, LinkId),
    ToRelay(usize, LinkId, Bytes),
    ToDevice(usize, LinkId, Bytes),
}

pub struct World {
    pub relay: Relay,
    pub relay_up: bool,
    pub devices: Vec<Device>,
    now_ms: u64,
    network: BTreeMap<(u64, u64), Parcel>,
    parcels: u64,
}

pub struct Device {
    machine: Running,
    pub storage: BTreeMap<Vec<u8>, Vec<u8>>,
    pub events: Vec<Event>,
    link: Option<LinkId>,
    starts: u8,
    /// Commits that are not confirmed yet, while `slow_disk`.
    pub slow_disk: bool,
    unconfirmed: VecDeque<zerok_sync_core::io::CommitId>,
}

enum Running {
    Nothing,
    Engine(Box<Engine>),
    Joiner(Box<Joiner>),
}

impl World {
    pub fn new() -> Self {
        Self {
            relay: Relay::new(),
            relay_up: true,
            devices: Vec::new(),
            now_ms: 1_000_000,
            network: BTreeMap::new(),
            parcels: 0,
        }
    }

    /// A world with a group of this many devices, all caught up.
    pub fn with_group(devices: usize) -> Self {
        let mut world = Self::new();
        world.found("device 0");
        for number in 1..devices {
            world.pair(0, &format!("device {number}"));
        }
        world
    }

    pub fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: 1_700_000_000_000 + self.now_ms }
    }

    fn add_device(&mut self) -> usize {
        self.devices.push(Device {
            machine: Running::Nothing,
            storage: BTreeMap::new(),
            events: Vec::new(),
            link: None,
            starts: 0,
            slow_disk: false,
            unconfirmed: VecDeque::new(),
        });
        self.devices.len() - 1
    }

    fn secrets(&mut self, device: usize) -> Secrets {
        let starts = &mut self.devices[device].starts;
        *starts += 1;
        let mut rng_seed = [*starts; 32];
        rng_seed[0] = u8::try_from(device).expect("few devices") + 1;
        Secrets { store_key: StoreKey::from_bytes([device as u8; 32]), rng_seed }
    }

    pub fn found(&mut self, name: &str) -> usize {
        let device = self.add_device();
        let secrets = self.secrets(device);
        let relay = RelayAddress { url: URL.into(), key: None };
        let founding = Founding { relay, device_name: name.into(), token: None };
        let batch = Engine::found(self.now(), &secrets, founding);
        apply(&mut self.devices[device].storage, batch.changes);
        self.start(device);
        self.settle();
        device
    }

    /// Pairs a new device through `inviter`; its index.
    pub fn pair(&mut self, inviter: usize, name: &str) -> usize {
        let device = self.begin_joining(inviter, name);
        self.settle();
        let now = self.now();
        self.engine(inviter).answer_joiner(now, true);
        self.settle();
        assert!(self.devices[device].events.contains(&Event::Joined), "{:?}", self.devices[device].events);
        self.start(device);
        self.settle();
        device
    }

    pub fn begin_joining(&mut self, inviter: usize, name: &str) -> usize {
        let now = self.now();
        self.engine(inviter).invite(now, None, 600_000);
        self.settle();
        let link = self.devices[inviter].events.iter().rev().find_map(|event| match event {
            Event::InviteReady { link, .. } => Some(link.clone()),
            _ => None,
        });
        let link: InviteLink = link.expect("the relay opened a mailbox").parse().expect("our own link");
        let device = self.add_device();
        let secrets = self.secrets(device);
        let joiner = Joiner::new(now, secrets, Joining { link, relay_key: None, device_name: name.into() });
        self.devices[device].machine = Running::Joiner(Box::new(joiner));
        self.drain(device);
        device
    }

    /// Opens the device's engine from its storage and goes online.
    pub fn start(&mut self, device: usize) {
        self.open(device);
        let now = self.now();
        self.engine(device).start(now);
        self.drain(device);
    }

    /// Opens the device's engine from its storage, offline.
    pub fn open(&mut self, device: usize) {
        let secrets = self.secrets(device);
        let rows = self.rows(device, Engine::HOT_FROM, Engine::HOT_TO);
        let engine = Engine::open(self.now(), secrets, rows).expect("the storage is sound");
        self.devices[device].machine = Running::Engine(Box::new(engine));
    }

    /// The process is gone; what was not committed is lost.
    pub fn crash(&mut self, device: usize) {
        self.devices[device].machine = Running::Nothing;
        self.devices[device].unconfirmed.clear();
        if let Some(link) = self.devices[device].link.take() {
            let answers = self.relay.close((device, link.0));
            self.post_all(answers);
        }
    }

    /// The link breaks; both sides notice.
    pub fn cut(&mut self, device: usize) {
        if let Some(link) = self.devices[device].link.take() {
            let answers = self.relay.close((device, link.0));
            self.post_all(answers);
            self.post(Parcel::LinkDown(device, link));
        }
    }

    pub fn engine(&mut self, device: usize) -> &mut Engine {
        match &mut self.devices[device].machine {
            Running::Engine(engine) => engine,
            _ => panic!("device {device} runs no engine"),
        }
    }

    pub fn push(&mut self, device: usize, text: &str) -> u64 {
        let now = self.now();
        let push = self.engine(device).push(now, Bytes::copy_from_slice(text.as_bytes())).expect("small enough");
        self.drain(device);
        push
    }

    pub fn id(&mut self, device: usize) -> DeviceId {
        self.engine(device).status().device
    }

    /// The keys a device holds, out of its storage.
    pub fn keys(&self, device: usize) -> (Membership, Keyring) {
        let key = b"\x01i".to_vec();
        let store_key = StoreKey::from_bytes([device as u8; 32]);
        let row = store_seal::open_row(&store_key, &key, &self.devices[device].storage[&key]).expect("our own row");
        let (seed, genesis, secrets, current): (Bytes, Bytes, Vec<EpochSecret>, EpochId) =
            wire::decode(&row).expect("an identity");
        let seed = MembershipSeed::from_bytes(seed[..].try_into().expect("32 bytes"));
        let keyring =
            Keyring::restore(GroupId::of(&genesis), secrets, &current).expect("the current one is among them");
        (Membership::from_seed(&seed), keyring)
    }

    /// Everything the app can read, from its storage.
    pub fn entries(&mut self, device: usize) -> Vec<Entry> {
        let (from, to) = Engine::entry_range(0);
        let rows = self.rows(device, &from, &to);
        let engine = self.engine(device);
        rows.iter().map(|row| engine.read_entry(row).expect("entries open")).collect()
    }

    pub fn texts(&mut self, device: usize) -> Vec<String> {
        self.entries(device).iter().map(|entry| String::from_utf8_lossy(&entry.data).into_owned()).collect()
    }

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

    pub fn rows(&self, device: usize, from: &[u8], to: &[u8]) -> Vec<Row> {
        self.devices[device]
            .storage
            .range(from.to_vec()..to.to_vec())
            .map(|(key, value)| Row { key: key.clone(), value: value.clone() })
            .collect()
    }

    /// Lets everything that is on its way arrive.
    pub fn settle(&mut self) {
        (0..self.devices.len()).for_each(|device| self.drain(device));
        let mut steps = 0;
        while let Some(((at_ms, _), parcel)) = self.network.pop_first() {
            steps += 1;
            assert!(steps < 1_000_000, "the world does not come to rest");
            self.now_ms = self.now_ms.max(at_ms);
            self.carry(parcel);
        }
    }

    /// Lets time pass, with all that is due in it.
    pub fn advance(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        loop {
            self.settle();
            let next_ms = (0..self.devices.len()).filter_map(|device| self.deadline(device)).min();
            match next_ms.filter(|&next_ms| next_ms <= until_ms) {
                None => break,
                Some(next_ms) => {
                    self.now_ms = self.now_ms.max(next_ms);
                    for device in 0..self.devices.len() {
                        if self.deadline(device).is_some_and(|deadline_ms| deadline_ms <= self.now_ms) {
                            self.handle(device, Input::Tick);
                        }
                    }
                }
            }
        }
        self.now_ms = self.now_ms.max(until_ms);
    }

    /// Confirms what a slow disk holds back.
    pub fn confirm_commits(&mut self, device: usize) {
        while let Some(id) = self.devices[device].unconfirmed.pop_front() {
            self.handle(device, Input::Committed(id));
        }
    }

    fn deadline(&self, device: usize) -> Option<u64> {
        match &self.devices[device].machine {
            Running::Nothing => None,
            Running::Engine(engine) => engine.next_deadline_ms(),
            Running::Joiner(joiner) => joiner.next_deadline_ms(),
        }
    }

    pub fn handle(&mut self, device: usize, input: Input) {
        let now = self.now();
        match &mut self.devices[device].machine {
            Running::Nothing => return,
            Running::Engine(engine) => engine.handle(now, input),
            Running::Joiner(joiner) => joiner.handle(now, input),
        }
        self.drain(device);
    }

    fn drain(&mut self, device: usize) {
        loop {
            let output = match &mut self.devices[device].machine {
                Running::Nothing => None,
                Running::Engine(engine) => engine.poll_output(),
                Running::Joiner(joiner) => joiner.poll_output(),
            };
            match output {
                None => return,
                Some(Output::Connect(link, _)) => {
                    self.devices[device].link = Some(link);
                    self.post(if self.relay_up {
                        Parcel::LinkUp(device, link)
                    } else {
                        Parcel::LinkDown(device, link)
                    });
                }
                Some(Output::Transmit(link, message)) => self.post(Parcel::ToRelay(device, link, message)),
                Some(Output::Disconnect(link)) => {
                    if self.devices[device].link == Some(link) {
                        self.devices[device].link = None;
                    }
                    let answers = self.relay.close((device, link.0));
                    self.post_all(answers);
                }
                Some(Output::Commit(id, batch)) => {
                    apply(&mut self.devices[device].storage, batch.changes);
                    if self.devices[device].slow_disk {
                        self.devices[device].unconfirmed.push_back(id);
                    } else {
                        let now = self.now();
                        match &mut self.devices[device].machine {
                            Running::Engine(engine) => engine.handle(now, Input::Committed(id)),
                            Running::Joiner(joiner) => joiner.handle(now, Input::Committed(id)),
                            Running::Nothing => {}
                        }
                    }
                }
                Some(Output::Scan { id, from, to, bytes_max }) => {
                    let mut bytes = 0;
                    let mut rows = Vec::new();
                    for row in self.rows(device, &from, &to) {
                        bytes += row.value.len();
                        rows.push(row);
                        if bytes >= bytes_max {
                            break;
                        }
                    }
                    let now = self.now();
                    self.engine(device).handle(now, Input::Scanned(id, rows));
                }
                Some(Output::Event(event)) => self.devices[device].events.push(event),
            }
        }
    }

    fn carry(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::LinkUp(device, link) if self.devices[device].link == Some(link) => {
                self.relay.open((device, link.0));
                self.handle(device, Input::LinkUp(link));
            }
            Parcel::LinkDown(device, link) => {
                if self.devices[device].link == Some(link) {
                    self.devices[device].link = None;
                }
                let reason = LinkDownReason::Unreachable("cut".into());
                self.handle(device, Input::LinkDown(link, reason));
            }
            Parcel::ToRelay(device, link, message) if self.devices[device].link == Some(link) => {
                let answers = self.relay.receive((device, link.0), &message);
                self.post_all(answers);
            }
            Parcel::ToDevice(device, link, message) if self.devices[device].link == Some(link) => {
                self.handle(device, Input::LinkMessage(link, message));
            }
            _ => {}
        }
    }

    fn post_all(&mut self, answers: Vec<(relay::Conn, Bytes)>) {
        for ((device, link), message) in answers {
            self.post(Parcel::ToDevice(device, LinkId(link), message));
        }
    }

    fn post(&mut self, parcel: Parcel) {
        self.parcels += 1;
        self.network.insert((self.now_ms + LATENCY_MS, self.parcels), parcel);
    }
}

fn apply(storage: &mut BTreeMap<Vec<u8>, Vec<u8>>, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put(row) => storage.insert(row.key, row.value),
            Change::Delete { key } => storage.remove(&key),
        };
    }
}
