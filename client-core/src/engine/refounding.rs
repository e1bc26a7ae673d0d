//! Taking the group back from a device that acted first.
//!
//! A stolen device that changes the keys and removes the others has the log, under a name that they
//! do not know: for them that relay is as good as wiped. One of them begins the next epoch by
//! itself, without the relay's order, and with it a name that is free. Every relay is then met as
//! one that forgot the log: it is made again under that name and filled from the mirrors, and lists
//! the others, who get back in by their own keys. Nothing of that happens by itself: a removed
//! device must not come to it by waiting.

use zerok_sync_protocol::Timeline;

use super::Engine;
use super::reading::Placed;
use crate::error::{MembershipError, Problem};
use crate::event::Event;
use crate::id::DeviceId;
use crate::io::Now;
use crate::keys::MemberKeys;
use crate::observed::FoldHash;

impl Engine {
    /// Begins the group anew without these devices, where no relay lets this device in any more.
    /// [`Event::KeysChanged`] tells; the relays are filled as soon as they are reached.
    ///
    /// # Errors
    /// [`MembershipError::NotNeeded`] while a relay lets this device in, and what else keeps a device
    /// from changing the group; nothing changed.
    pub fn refound(&mut self, now: Now, without: &[DeviceId]) -> Result<(), MembershipError> {
        self.check_acts()?;
        let shut_out = |problem: &Problem| {
            matches!(problem, Problem::Revoked | Problem::EpochNotOpened | Problem::LogGone)
                || matches!(problem, Problem::Refused { .. })
        };
        if !self.relays.iter().any(|relay| relay.problem.as_ref().is_some_and(shut_out)) || self.relays.any_live() {
            return Err(MembershipError::NotNeeded);
        }
        if without.contains(&self.me.device()) {
            return Err(MembershipError::OwnDevice);
        }
        if let Some(stranger) = without.iter().find(|device| !self.members.contains_key(device)) {
            return Err(MembershipError::NoSuchDevice(stranger.to_string()));
        }
        self.drop_rotation();
        let members = self.members.values().map(|member| member.keys.clone());
        let members: Vec<MemberKeys> = members.filter(|keys| !without.contains(&keys.device)).collect();
        let next = self.seal_next_epoch(now, &members);
        let placed = Placed {
            at: self.relays.home(),
            timeline: Timeline::ZERO,
            cursor: 0,
            observed: FoldHash::ZERO,
            blob_id: next.blob_id,
            envelope: next.envelope,
        };
        let secret = next.secret;
        let opened = self.open_with(&secret, &placed.envelope);
        let signed = opened.expect("it was sealed and signed with these keys a moment ago");
        self.consider_epoch(&placed, &signed, Some(&secret));
        for at in self.relays.all() {
            let relay = &mut self.relays[at];
            (relay.squatted, relay.hello_epoch) = (false, None);
            relay.row.epochs_there.retain(|blob_id| *blob_id != placed.blob_id);
            relay.changed = true;
            self.reconnect(now, at);
        }
        self.event(Event::StatusChanged);
        self.step(now);
        Ok(())
    }
}
