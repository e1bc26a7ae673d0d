//! How things happen: what a machine wants is carried out, what is on its way arrives.

use bytes::Bytes;
use zerok_sync_core::io::{Batch, CommitId, LinkDownReason, LinkId, Machine, StorageFault};
use zerok_sync_core::{Event, Input, Output};

use super::defect::Defect;
use super::device::{Link, Running};
use super::network::Parcel;
use super::relay::Conn;
use super::world::{Loss, World};

impl World {
    /// Hands an input to what runs on a device, and carries out what it wants.
    pub fn handle(&mut self, device: usize, input: Input) {
        self.tell(device, input);
        self.drain(device);
    }

    fn tell(&mut self, device: usize, input: Input) {
        let now = self.now_at(device);
        if let Some(machine) = self.devices[device].running.machine() {
            machine.handle(now, input);
        }
    }

    /// Carries out what the machine wants, until it wants nothing more or crashes.
    pub fn drain(&mut self, device: usize) {
        while let Some(output) = self.devices[device].running.machine().and_then(Machine::poll_output) {
            self.carry_out(device, output);
            if let Some(left) = &mut self.devices[device].crash_after {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.counts.planned_crashes += 1;
                    self.crash_losing(device, Loss::Downstream);
                }
            }
        }
    }

    fn carry_out(&mut self, device: usize, output: Output) {
        let run = self.devices[device].run;
        match output {
            Output::Connect(id, address) => {
                let relay = (0..=self.others.len()).find(|index| Self::url(*index) == address.url);
                let relay = relay.expect("devices know relays of this world only");
                let links = &mut self.devices[device].links;
                let held = links.iter().any(|link| link.relay == relay && !link.silent);
                assert!(!held, "device {device} asks for a second link before it has ended the first");
                links.retain(|link| link.relay != relay);
                self.links += 1;
                self.leads_to.insert(self.links, relay);
                if self.is_up(relay) && !self.devices[device].cut_off {
                    self.devices[device].links.push(Link { id, number: self.links, relay, silent: false });
                    self.post(Parcel::LinkUp((device, self.links)));
                } else {
                    self.post(Parcel::LinkDown(device, run, id));
                }
            }
            Output::Transmit(id, message) => {
                let links = &self.devices[device].links;
                if let Some(link) = links.iter().find(|link| link.id == id && !link.silent).copied() {
                    self.post(Parcel::ToRelay((device, link.number), message));
                }
            }
            Output::Disconnect(id) => {
                let links = &mut self.devices[device].links;
                let index = links.iter().position(|link| link.id == id);
                if let Some(link) = index.map(|index| links.remove(index))
                    && !link.silent
                {
                    self.post(Parcel::RelayHearsClose((device, link.number)));
                }
            }
            Output::Commit(id, batch) => self.commit(device, id, batch),
            Output::Scan { id, from, to, bytes_max } => {
                let mut bytes = 0;
                let mut rows = Vec::new();
                for row in self.devices[device].rows(&from, &to) {
                    bytes += row.value.len();
                    rows.push(row);
                    if bytes >= bytes_max {
                        break;
                    }
                }
                match self.disk_delay_ms() {
                    0 => self.tell(device, Input::Scanned(id, rows)),
                    ms => self.network.send(self.now_ms + ms, Parcel::Scanned(device, run, id, rows)),
                }
            }
            Output::Event(event) => {
                if let Event::EntriesAvailable { position } = event
                    && !self.devices[device].has_entry_at(position)
                {
                    self.violations.push(format!("device {device} was told of {position}, which is not on disk"));
                }
                let asked = matches!(event, Event::ConfirmJoin { .. });
                if !matches!(event, Event::StatusChanged) {
                    self.told(|| format!("device {device} tells {event:?}"));
                }
                self.devices[device].events.push(event);
                let now = self.now_at(device);
                if asked && let Running::Joiner(joiner) = &mut self.devices[device].running {
                    // Its person wanted this group.
                    joiner.confirm(now);
                }
            }
        }
    }

    fn commit(&mut self, device: usize, id: CommitId, batch: Batch) {
        let delay_ms = (self.disk_delay_ms(), self.disk_delay_ms());
        let (now_ms, defect) = (self.now_ms, self.defect);
        let at = &mut self.devices[device];
        let run = at.run;
        if !at.disk.unconfirmed.is_empty() {
            let before = at.disk.unconfirmed.clone();
            self.violations.push(format!("device {device} gave {id:?} while {before:?} is unconfirmed"));
        }
        at.disk.unconfirmed.push_back(id);
        if at.disk.fail_next > 0 {
            at.disk.fail_next -= 1;
            self.counts.commits_refused += 1;
            let fault = StorageFault::Failed("the disk refused".into());
            return self.network.send(now_ms + delay_ms.0, Parcel::Refuse(device, run, id, fault));
        }
        match defect {
            Some(Defect::DiskLosesConfirmedCommit) => {
                if let Some(owed) = at.disk.owed.replace(batch) {
                    at.apply(owed);
                }
                return self.confirm(device, id);
            }
            Some(Defect::DiskSwapsCommits) => {
                match at.disk.owed.take() {
                    Some(owed) => {
                        at.apply(batch);
                        at.apply(owed);
                    }
                    None => at.disk.owed = Some(batch),
                }
                return self.confirm(device, id);
            }
            Some(Defect::DriverConfirmsEarly) => {
                at.disk.pending = Some(batch.clone());
                self.network.send(now_ms + 1, Parcel::Apply(device, run, id, batch));
                return self.tell(device, Input::Committed(id));
            }
            _ => {}
        }
        if at.slow_disk {
            return at.apply(batch);
        }
        match delay_ms {
            (0, 0) => {
                at.apply(batch);
                self.confirm(device, id);
            }
            (apply_ms, confirm_ms) => {
                at.disk.pending = Some(batch.clone());
                self.network.send(now_ms + apply_ms, Parcel::Apply(device, run, id, batch));
                self.network.send(now_ms + apply_ms + confirm_ms, Parcel::Confirm(device, run, id));
            }
        }
    }

    fn confirm(&mut self, device: usize, id: CommitId) {
        self.devices[device].disk.unconfirmed.retain(|unconfirmed| *unconfirmed != id);
        self.tell(device, Input::Committed(id));
    }

    fn disk_delay_ms(&mut self) -> u64 {
        if self.dice.chance(self.conditions.slow_disk_per_mille) {
            self.dice.within(&self.conditions.disk_ms)
        } else {
            0
        }
    }

    pub(super) fn carry(&mut self, parcel: Parcel) {
        self.take(parcel);
        if self.traced {
            self.tell_frames();
        }
    }

    fn take(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::LinkUp(conn) => {
                let Some(id) = self.link_of(conn) else { return };
                let relay = self.leads_to[&conn.1];
                if self.is_up(relay) {
                    self.relay_at_mut(relay).open(conn);
                    self.handle(conn.0, Input::LinkUp(id));
                } else {
                    self.devices[conn.0].links.retain(|link| link.number != conn.1);
                    self.handle(conn.0, Input::LinkDown(id, LinkDownReason::Unreachable("refused".into())));
                }
            }
            Parcel::LinkDown(device, run, id) => {
                if self.devices[device].run == run {
                    self.handle(device, Input::LinkDown(id, LinkDownReason::Unreachable("cut".into())));
                }
            }
            Parcel::ToRelay(conn, message) => {
                if self.passes(conn) {
                    let relay = self.leads_to[&conn.1];
                    let answers = self.relay_at_mut(relay).receive(conn, &message);
                    self.post_all(answers);
                    for (device, number) in self.relay_at_mut(relay).take_hang_ups() {
                        self.counts.acks_lost += 1;
                        if self.devices[device].links.iter().any(|link| link.number == number) {
                            self.cut_from(device, relay, Loss::Everything);
                        }
                    }
                    self.count_message(conn.0);
                }
            }
            Parcel::ToDevice(conn, message) => {
                if let Some(id) = self.link_of(conn).filter(|_| self.passes(conn)) {
                    self.handle(conn.0, Input::LinkMessage(id, message));
                    self.count_message(conn.0);
                }
            }
            Parcel::RelayHearsClose(conn) => {
                let answers = self.relay_at_mut(self.leads_to[&conn.1]).close(conn);
                self.post_all(answers);
            }
            Parcel::Apply(device, run, _, batch) => {
                if self.devices[device].run == run && self.devices[device].is_running() {
                    self.devices[device].disk.pending = None;
                    self.devices[device].apply(batch);
                }
            }
            Parcel::Confirm(device, run, id) => {
                if self.devices[device].run == run {
                    self.confirm(device, id);
                    self.drain(device);
                }
            }
            Parcel::Refuse(device, run, id, fault) => {
                if self.devices[device].run == run {
                    self.devices[device].disk.unconfirmed.clear();
                    self.handle(device, Input::CommitFailed(id, fault));
                }
            }
            Parcel::Scanned(device, run, id, rows) => {
                if self.devices[device].run == run {
                    self.handle(device, Input::Scanned(id, rows));
                }
            }
        }
    }

    fn count_message(&mut self, device: usize) {
        if let Some((left, loss)) = &mut self.devices[device].cut_after {
            *left = left.saturating_sub(1);
            if *left == 0 {
                let loss = *loss;
                self.devices[device].cut_after = None;
                self.counts.planned_cuts += 1;
                self.cut_losing(device, loss);
            }
        }
    }

    /// The machine's name for a link that it has not lost.
    fn link_of(&self, conn: Conn) -> Option<LinkId> {
        self.devices[conn.0].links.iter().find(|link| link.number == conn.1).map(|link| link.id)
    }

    /// Whether anything still passes on a link.
    fn passes(&self, conn: Conn) -> bool {
        !self.silenced.contains(&conn)
    }

    /// Puts messages of a relay on their way, one after the other.
    pub fn post_all(&mut self, answers: Vec<(Conn, Bytes)>) {
        for (conn, message) in answers {
            self.post(Parcel::ToDevice(conn, message));
        }
    }

    pub(super) fn post(&mut self, parcel: Parcel) {
        let latency_ms = self.dice.within(&self.conditions.latency_ms);
        let relay = match &parcel {
            Parcel::LinkUp(conn)
            | Parcel::ToRelay(conn, _)
            | Parcel::ToDevice(conn, _)
            | Parcel::RelayHearsClose(conn) => self.leads_to[&conn.1],
            _ => 0,
        };
        let slower_ms = relay.checked_sub(1).map_or(self.relay_slower_ms, |other| self.others[other].slower_ms);
        self.network.send(self.now_ms + latency_ms + slower_ms, parcel);
    }
}
