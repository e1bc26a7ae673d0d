//! After the faults: everybody has everything, once, in one order, and nothing is left to do.

use std::collections::{BTreeMap, BTreeSet};

use zerok_sync_core::id::DeviceId;
use zerok_sync_core::{Connection, Engine, IntegrityEvent, Member, Problem};
use zerok_sync_protocol::{BlobId, ErrorCode};

use super::app::{Kept, kept};
use super::{Person, Trial};
use crate::sim::{Defect, World};

/// What identifies an entry in the total order, and what it says.
type Ordered = (u64, DeviceId, u64, BlobId);

impl Trial {
    /// Checks what must hold once everything has settled.
    pub(super) fn judge(&mut self) {
        let inside: Vec<usize> = (0..self.world.devices.len()).filter(|&device| !self.is_out(device)).collect();
        if self.world.defect == Some(Defect::DiskDropsEntry)
            && let Some(&victim) = inside.get(1).or(inside.first())
        {
            let (from, to) = Engine::entry_range(0);
            let key = self.world.rows(victim, &from, &to).into_iter().next_back().map(|row| row.key);
            key.and_then(|key| self.world.devices[victim].storage.remove(&key));
        }
        let pushed: BTreeMap<(DeviceId, u64), Vec<u8>> = self
            .persons
            .iter()
            .enumerate()
            .filter_map(|(device, person)| Some((device, person.id?, person)))
            .flat_map(|(device, id, person)| {
                // Of who is out, what had reached the log counts: at least what was acknowledged. Where
                // the relay lost that again and nobody had read it, nobody can put it back.
                let counts = if inside.contains(&device) {
                    u64::MAX
                } else if self.may_be_unknown() {
                    self.read_of(inside.first().copied(), id)
                } else {
                    person.acked.max(self.stored_seq(&id))
                };
                person.pushes.range(..=counts).map(move |(seq, blob)| ((id, *seq), blob.to_vec()))
            })
            .collect();
        let mut everybody: Vec<DeviceId> = inside.iter().filter_map(|&device| self.persons[device].id).collect();
        everybody.sort();
        if !self.rotates && everybody.len() != self.plan.devices {
            self.violations.push(format!("{} devices of {} are there", everybody.len(), self.plan.devices));
        }
        let epochs: BTreeSet<_> =
            inside.iter().filter_map(|&device| Some(self.world.devices[device].engine()?.status().epoch)).collect();
        if epochs.len() > 1 {
            let of =
                |&device: &usize| self.world.devices[device].engine().map(|engine| (device, engine.status().epoch));
            self.violations.push(format!("{:?} are current", inside.iter().filter_map(of).collect::<Vec<_>>()));
        }
        if everybody.is_empty() {
            self.violations.push("nobody is left".into());
        }
        let mut first: Option<Vec<Ordered>> = None;
        for device in inside {
            match self.judge_device(device, &everybody, &pushed) {
                Err(fault) => self.wrong(device, fault),
                Ok(order) => match &first {
                    Some(first) if *first != order => self.wrong(device, "another order than at device 0"),
                    Some(_) => {}
                    None => first = Some(order),
                },
            }
        }
    }

    /// Highest entry of `sender` that a device's app was handed.
    fn read_of(&self, device: Option<usize>, sender: DeviceId) -> u64 {
        let state = device.and_then(|device| self.state_of(device).ok()).unwrap_or_default();
        state.into_iter().filter(|kept| kept.sender == sender).map(|kept| kept.seq).max().unwrap_or_default()
    }

    /// Whether a device is out of the group, for a reason: it was removed or has left, or the keys
    /// were changed between its invitation and its first entry.
    fn is_out(&self, device: usize) -> bool {
        let at = &self.world.devices[device];
        let Some(engine) = at.engine() else { return self.rotates && at.storage.is_empty() };
        let status = engine.status();
        let has_reason =
            self.doomed.contains(&status.device) || self.stored_seq(&status.device) == 0 || self.may_be_unknown();
        let out = match status.problem {
            Some(Problem::Revoked | Problem::Left) => true,
            // It got as far as its own removal before that was repeated to the relay.
            Some(Problem::EpochNotOpened) => self.may_be_unknown(),
            // The log was made again, and knows nothing of older names; who was let in behind a snapshot
            // and was no member in time has nothing to make it of.
            Some(Problem::LogGone | Problem::Refused { code: Some(ErrorCode::UnknownLog), .. }) => {
                self.may_be_unknown()
            }
            _ => false,
        };
        out && has_reason
    }

    fn judge_device(
        &mut self,
        device: usize,
        everybody: &[DeviceId],
        pushed: &BTreeMap<(DeviceId, u64), Vec<u8>>,
    ) -> Result<Vec<Ordered>, String> {
        let Some(engine) = self.world.devices[device].engine() else { return Err("it does not run".into()) };
        let status = engine.status();
        if status.connection != Connection::Live || status.problem.is_some() {
            return Err(format!("{:?}, {:?}", status.connection, status.problem));
        }
        if status.outbox_count > 0 || status.outbox_bytes > 0 {
            return Err(format!("{} entries, {} bytes left to push", status.outbox_count, status.outbox_bytes));
        }
        let mut members: Vec<DeviceId> = status.members.iter().map(|member| member.device).collect();
        // What a device said when it left was lost before anybody had read it: it is for a person to
        // remove it.
        let has_left = |id: &DeviceId| self.persons.iter().any(|person| person.leaves && person.id == Some(*id));
        members.retain(|id| everybody.contains(id) || !(self.may_be_unknown() && has_left(id)));
        members.sort();
        if members != everybody {
            return Err(format!("{} members of {}", members.len(), everybody.len()));
        }
        // Each loss that was not said is told once by whoever was there and does not find it put back;
        // unless the one that found it out was removed before it could tell the others.
        let Person { told, may_tell, must_tell, .. } = &self.persons[device];
        if *told > may_tell.len() || (!must_tell.is_empty() && self.doomed.is_empty()) {
            return Err(format!("told of {told} rollbacks of {}, and not of {must_tell:?}", may_tell.len()));
        }
        if status.rotating {
            return Err("a change of keys is still to be carried out".into());
        }
        if status.relays.len() != self.plan.relays {
            return Err(format!("{} relays of {}", status.relays.len(), self.plan.relays));
        }
        for (relay, inspector) in self.inspectors.iter().enumerate() {
            let of_it = status.relays.iter().find(|it| it.address.url == World::url(relay));
            let of_it = of_it.ok_or_else(|| format!("relay {relay} is not listed"))?;
            if of_it.head != Some(self.world.relay_at(relay).entries().len() as u64) || !of_it.settled {
                return Err(format!("relay {relay} is taken for {of_it:?}"));
            }
            let standing = inspector.standing_seq(&status.device);
            if standing != status.stored_push {
                return Err(format!("pushed up to {}, and relay {relay} has {standing}", status.stored_push));
            }
        }
        // Who has left without anybody having read it is a member still, from whom no receipt comes:
        // all the others have said that they have everything.
        let here = || status.members.iter().filter(|member| everybody.contains(&member.device));
        let has_all = |member: &Member| member.own || member.has_push == status.stored_push;
        let all_here = status.members.len() == everybody.len();
        if let Some(behind) = here().find(|member| !has_all(member)) {
            let (stored, has) = (status.stored_push, behind.has_push);
            return Err(format!("pushed up to {stored}, of which {} is known to have up to {has}", behind.device));
        }
        if all_here && status.everywhere_push != status.stored_push {
            return Err(format!(
                "pushed up to {}, known to be everywhere up to {}",
                status.stored_push, status.everywhere_push
            ));
        }
        if let Some(away) = here().find(|member| !member.online) {
            return Err(format!("{} is there, and is not taken for online", away.device));
        }
        // Each signature again: dear, so at one device of the group.
        if self.seed % self.plan.devices as u64 == device as u64 {
            let mut audit = engine.audit();
            let (from, to) = Engine::mirror_range();
            self.world.devices[device].rows(&from, &to).for_each(|row| audit.row(row));
            let mut findings = audit.finish().findings;
            // It was told when it was found.
            findings.retain(|finding| match finding {
                IntegrityEvent::RolledBack { .. } => !self.rolled_back,
                IntegrityEvent::Withheld { .. } => !self.expired,
                // Of who is removed nothing counts behind the end that its remover had read.
                IntegrityEvent::Quarantined { sender, .. } => !(self.may_be_unknown() && self.doomed.contains(sender)),
                _ => true,
            });
            if !findings.is_empty() {
                return Err(format!("the audit finds {findings:?}"));
            }
        }

        let first_position = engine.first_position();
        if first_position > 1 {
            *self.tally.entry("mirrors shrunk").or_default() += 1;
        }
        let (from, to) = Engine::entry_range(first_position - 1);
        let app = &self.persons[device].app;
        let mut order = Vec::new();
        let mut latest: BTreeMap<DeviceId, (u64, u64)> = BTreeMap::new();
        let reader = engine.entry_reader();
        let stored = self.world.devices[device].rows(&from, &to).flat_map(|row| reader.entries(row, 0));
        for (stored, expected) in stored.zip(first_position..) {
            let read = |from: Vec<u8>, to: Vec<u8>| self.world.devices[device].rows(&from, &to).collect();
            let entry = stored.and_then(|stored| stored.whole(read)).map_err(|error| error.to_string())?;
            if entry.position != expected {
                return Err(format!("position {} stands where {expected} belongs", entry.position));
            }
            // Above the first one a snapshot stands there that no app need be handed.
            let stands_for_others = entry.snapshot && expected == first_position;
            if app.seen.get(&expected).is_none_or(|seen| seen.blob_id != entry.blob_id && !stands_for_others) {
                return Err(format!("the app was not handed position {expected}"));
            }
            if entry.snapshot {
                order.clear();
                latest.clear();
            }
            for Kept { sender, seq, blob_id, lamport, data } in kept(&entry)? {
                let place = (sender, seq);
                if pushed.get(&place).is_none_or(|blob| *blob != data) {
                    return Err(format!("position {expected} is not what was pushed as {place:?}"));
                }
                let before = latest.insert(sender, (seq, lamport)).unwrap_or_default();
                if before.0 >= seq || before.1 >= lamport {
                    return Err(format!("position {expected} is out of its sender's order"));
                }
                order.push((lamport, sender, seq, blob_id));
            }
        }
        if order.len() != pushed.len() {
            return Err(format!("{} entries of {}", order.len(), pushed.len()));
        }
        if status.processed != status.position || app.read != status.position {
            return Err(format!("processed {} of {}", status.processed, status.position));
        }
        order.sort();
        Ok(order)
    }
}
