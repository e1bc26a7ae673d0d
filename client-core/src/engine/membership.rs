//! Who is in the group besides what joins and removals say: devices that leave, that were let in and
//! have not arrived, that a relay admits and nobody knows.
//!
//! Membership follows from sealed data, never from the relay's word.

use zerok_sync_protocol::wire;

use super::Engine;
use super::relay::RelayAt;
use super::rows::{GrantedRow, LeavingRow, hot, hot_key};
use crate::certificate::{Card, DeviceName};
use crate::content::Kind;
use crate::error::{MembershipError, Problem};
use crate::event::Event;
use crate::id::DeviceId;
use crate::io::Now;

/// Another device's wish to leave is carried out by one of those that stay, each a little later
/// than the one before it, so that they do not all rotate at once. One round trip is enough.
const LEAVE_TURN_MS: u64 = 3_000;

impl Engine {
    /// Gives this device another name in the group.
    ///
    /// # Errors
    /// [`MembershipError`]; nothing changed.
    pub fn rename(&mut self, now: Now, name: &str) -> Result<(), MembershipError> {
        self.check_acts()?;
        let name: DeviceName = name.trim().parse().map_err(|_| MembershipError::NotAName)?;
        self.group.device_name = name.to_string();
        self.effects.put(hot_key(hot::GROUP, &[]), wire::encode(&self.group));
        self.queue(Kind::RENAME, bytes::Bytes::copy_from_slice(name.as_bytes()));
        self.event(Event::StatusChanged);
        self.step(now);
        Ok(())
    }

    /// Takes this device out of the group: it says so with its last entry and pushes nothing more.
    /// [`Event::Left`] when the relay has that; another device then changes the keys. What this
    /// device has stored stays readable here.
    ///
    /// # Errors
    /// [`MembershipError`]; nothing changed.
    pub fn leave(&mut self, now: Now) -> Result<(), MembershipError> {
        self.check_acts()?;
        if self.members.values().filter(|member| !member.paper).count() < 2 {
            return Err(MembershipError::LastDevice);
        }
        self.cancel_invite(now);
        self.drop_unsealed_rotation();
        let seq = self.queue(Kind::LEAVE, bytes::Bytes::new());
        let row = LeavingRow { seq };
        self.effects.put(hot_key(hot::LEAVING, &[]), wire::encode(&row));
        self.leaving = Some(row);
        self.event(Event::StatusChanged);
        self.step(now);
        Ok(())
    }

    /// Whether this device may act for the group.
    pub(super) fn check_acts(&self) -> Result<(), MembershipError> {
        if self.stopped {
            Err(MembershipError::Stopped)
        } else if self.leaving.is_some() {
            Err(MembershipError::Left)
        } else if self.progress.copied || self.joining.is_some() || !self.members.contains_key(&self.me.device()) {
            Err(MembershipError::NotYet)
        } else {
            Ok(())
        }
    }

    /// Whether this device's last entry is at the relay.
    pub(super) fn has_left(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| self.progress.acked_seq >= leaving.seq)
    }

    /// Goes offline for good once this device has left.
    pub(super) fn finish_leaving(&mut self) {
        if self.has_left() {
            self.hang_up();
            self.say_left();
            self.event(Event::Left);
        }
    }

    /// Says why there is no session any more.
    pub(super) fn say_left(&mut self) {
        for at in self.relays.all() {
            self.set_problem(at, Some(Problem::Left));
        }
    }

    /// A member says that it leaves.
    pub(super) fn on_leave(&mut self, device: DeviceId) {
        if device == self.me.device() {
            return;
        }
        if let Some(member) = self.members.get_mut(&device) {
            member.leaving = true;
            self.effects.put(hot_key(hot::MEMBER, &device.0), wire::encode(member));
            self.receipts.recount();
            self.event(Event::StatusChanged);
        }
    }

    /// When this device's turn comes to remove who leaves: those that stay take turns in the order
    /// of their identities.
    fn plan_farewell(&mut self, now: Now) {
        let me = self.me.device();
        let before_me =
            self.members.iter().filter(|(device, member)| !member.leaving && !member.paper && **device < me).count();
        self.farewell_ms = Some(now.mono_ms + LEAVE_TURN_MS * before_me as u64);
    }

    /// Removes who has left, in this device's turn.
    pub(super) fn bid_farewell(&mut self, now: Now) {
        let leaving: Vec<DeviceId> =
            self.members.iter().filter(|(_, member)| member.leaving).map(|(device, _)| *device).collect();
        if leaving.is_empty() {
            self.farewell_ms = None;
        } else if self.rotation.is_none() && self.check_acts().is_ok() && self.is_live() {
            match self.farewell_ms {
                None => self.plan_farewell(now),
                Some(due_ms) if now.mono_ms >= due_ms => {
                    self.farewell_ms = None;
                    self.want_rotation(leaving);
                }
                Some(_) => {}
            }
        }
    }

    /// When [`Self::bid_farewell`] has something to do, while there is a session to do it in.
    pub(super) fn farewell_deadline_ms(&self) -> Option<u64> {
        self.farewell_ms.filter(|_| self.rotation.is_none() && self.check_acts().is_ok() && self.is_live())
    }

    /// A device was handed the group's keys here; it becomes a member with its first entry.
    pub(super) fn note_grant(&mut self, card: &Card) {
        let device = card.keys.device;
        let row = GrantedRow { name: card.name.to_string() };
        self.effects.put(hot_key(hot::GRANTED, &device.0), wire::encode(&row));
        self.granted.insert(device, row);
        self.event(Event::StatusChanged);
    }

    /// It has arrived.
    pub(super) fn grant_arrived(&mut self, device: &DeviceId) {
        if self.granted.remove(device).is_some() {
            self.effects.delete(hot_key(hot::GRANTED, &device.0));
        }
    }

    /// A change of keys voids what was handed out and not used.
    pub(super) fn void_grants(&mut self) {
        for (device, _) in std::mem::take(&mut self.granted) {
            self.effects.delete(hot_key(hot::GRANTED, &device.0));
        }
    }

    /// Says which of the devices that the relay admits are no members'. One may be on its way in; a
    /// relay may also have put it there. The next change of keys drops them.
    pub(super) fn compare_allow_list(&mut self, at: RelayAt) {
        let Some(open) = self.relays[at].session.live() else { return };
        let unknown: Vec<_> = std::mem::take(&mut open.allow)
            .into_iter()
            .filter(|noise| self.members.values().all(|member| member.keys.noise != *noise))
            .collect();
        let relay = &mut self.relays[at];
        if unknown != relay.unknown {
            relay.unknown.clone_from(&unknown);
            let url = relay.row.url.clone();
            for noise_key in unknown {
                self.event(Event::UnknownDeviceAtRelay { relay: url.clone(), noise_key });
            }
        }
    }
}
