//! After the faults: everybody has everything, once, in one order, and nothing is left to do.

use std::collections::BTreeMap;

use zerok_sync_core::id::DeviceId;
use zerok_sync_core::{Connection, Engine};
use zerok_sync_protocol::BlobId;

use super::Trial;
use crate::sim::Defect;

/// What identifies an entry in the total order, and what it says.
type Ordered = (u64, DeviceId, u64, BlobId);

impl Trial {
    /// Checks what must hold once everything has settled.
    pub(super) fn judge(&mut self) {
        if self.world.defect == Some(Defect::DiskDropsEntry) {
            let (from, to) = Engine::entry_range(0);
            let key = self.world.rows(1, &from, &to).into_iter().next_back().map(|row| row.key);
            key.and_then(|key| self.world.devices[1].storage.remove(&key));
        }
        let pushed: BTreeMap<(DeviceId, u64), Vec<u8>> = self
            .persons
            .iter()
            .filter_map(|person| Some((person.id?, &person.pushes)))
            .flat_map(|(id, pushes)| pushes.iter().map(move |(seq, blob)| ((id, *seq), blob.to_vec())))
            .collect();
        let mut everybody: Vec<DeviceId> = self.persons.iter().filter_map(|person| person.id).collect();
        everybody.sort();
        if everybody.len() != self.plan.devices {
            self.violations.push(format!("{} devices of {} are there", everybody.len(), self.plan.devices));
        }
        let mut first: Option<Vec<Ordered>> = None;
        for device in 0..self.world.devices.len() {
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
        members.sort();
        if members != everybody {
            return Err(format!("{} members of {}", members.len(), everybody.len()));
        }
        if status.relay_head != Some(self.world.relay.entries().len() as u64) {
            return Err(format!("the relay's head is taken for {:?}", status.relay_head));
        }
        // Each signature again: dear, so at one device of the group.
        if self.seed % self.plan.devices as u64 == device as u64 {
            let mut audit = engine.audit();
            let (from, to) = Engine::mirror_range();
            self.world.devices[device].rows(&from, &to).for_each(|row| audit.row(&row));
            let findings = audit.finish().findings;
            if !findings.is_empty() {
                return Err(format!("the audit finds {findings:?}"));
            }
        }

        let (from, to) = Engine::entry_range(0);
        let app = &self.persons[device].app;
        let mut order = Vec::new();
        let mut latest: BTreeMap<DeviceId, (u64, u64)> = BTreeMap::new();
        for (row, expected) in self.world.devices[device].rows(&from, &to).zip(1..) {
            let entry = engine.read_entry(&row).map_err(|error| error.to_string())?;
            let place = (entry.sender, entry.seq);
            if entry.position != expected {
                return Err(format!("position {} stands where {expected} belongs", entry.position));
            }
            if pushed.get(&place).is_none_or(|blob| *blob != entry.data) {
                return Err(format!("position {expected} is not what was pushed as {place:?}"));
            }
            if app.seen.get(&expected).is_none_or(|seen| seen.blob_id != entry.blob_id) {
                return Err(format!("the app was not handed position {expected}"));
            }
            let (seq, lamport) = latest.insert(entry.sender, (entry.seq, entry.lamport)).unwrap_or_default();
            if seq >= entry.seq || lamport >= entry.lamport {
                return Err(format!("position {expected} is out of its sender's order"));
            }
            order.push((entry.lamport, entry.sender, entry.seq, entry.blob_id));
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
