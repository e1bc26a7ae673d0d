//! The group's list of relays: a control entry, the home relay first.
//!
//! Whoever changes the list writes the whole of it. Of two lists the later one counts, in the total
//! order of entries, so that all devices come to the same one whatever they read first. A relay
//! that is to be added is met first: its key becomes known, the log is made there, and only then is
//! the group told. One that is taken off is left alone: nothing is deleted there.

use zerok_sync_protocol::wire::{self, List};
use zerok_sync_protocol::{NoisePublicKey, wire_struct};

use super::Engine;
use super::relay::{Relay, RelayAt};
use super::rows::{RelayRow, RelaysBy, hot, hot_key};
use crate::content::Kind;
use crate::error::RelaysError;
use crate::event::Event;
use crate::io::{Now, RelayAddress};
use crate::origin::Origin;
use crate::pairing::GRANT_RELAYS_MAX;
use crate::seal::Authenticated;

/// Relays of a group.
const RELAYS_MAX: usize = GRANT_RELAYS_MAX;

wire_struct! {
    /// Body of a relays entry.
    pub struct RelayList {
        /// The home relay first.
        relays: List<ListedRelay, RELAYS_MAX>,
    }
}

wire_struct! {
    /// One of them.
    pub struct ListedRelay {
        /// Its origin.
        url: String,
        /// Its Noise key.
        key: NoisePublicKey,
    }
}

impl RelayList {
    /// The relays of an entry's body, by the origins that a person can name them by; none if no
    /// honest device wrote it.
    fn parse(body: &[u8]) -> Option<Vec<ListedRelay>> {
        let Self { relays } = wire::decode(body).ok()?;
        let origin = |relay: &ListedRelay| {
            let url = Origin::parse(&relay.url).ok()?.as_str().to_owned();
            Some(ListedRelay { url, key: relay.key })
        };
        relays.iter().map(origin).collect::<Option<Vec<_>>>().filter(|relays| !relays.is_empty())
    }
}

impl Engine {
    /// Has another relay carry the group's log as well, or makes one that does the home relay. The
    /// group is told once this device has met it, and it is filled from this device's mirror; until
    /// then, and why not yet, see [`crate::RelayStatus`]. Returns its address as it is listed.
    ///
    /// # Errors
    /// [`RelaysError`]; nothing changed.
    pub fn add_relay(
        &mut self,
        now: Now,
        address: RelayAddress,
        token: Option<Vec<u8>>,
        home: bool,
    ) -> Result<String, RelaysError> {
        self.check_acts()?;
        let origin = Origin::parse(&address.url).map_err(|_| RelaysError::NotAnAddress(address.url.clone()))?;
        let url = origin.as_str().to_owned();
        let known = self.relays.all().find(|at| self.relays[*at].is_at(&url, address.key.as_ref()));
        if known.is_none() && address.key.is_none() && !origin.allows_trust_on_first_use() {
            return Err(RelaysError::KeyNeeded(url));
        }
        match known {
            Some(at) if home && at != self.relays.home() => {
                self.relays.make_home(at);
                self.tell_relays();
            }
            Some(_) => return Err(RelaysError::Listed(url)),
            None if self.relays.all().count() >= RELAYS_MAX => return Err(RelaysError::TooMany(RELAYS_MAX)),
            None => {
                let rank = self.relays.iter().map(|relay| relay.row.rank + 1).max().unwrap_or_default();
                let address = RelayAddress { url: url.clone(), key: address.key };
                let row =
                    RelayRow { token: token.map(Into::into), unlisted: true, ..RelayRow::new(rank, address, None) };
                let at = self.relays.add(row);
                self.relays[at].becomes_home = home;
            }
        }
        self.event(Event::StatusChanged);
        self.step(now);
        Ok(url)
    }

    /// Takes a relay off the group's list. What it holds stays there.
    ///
    /// # Errors
    /// [`RelaysError`]; nothing changed.
    pub fn remove_relay(&mut self, now: Now, url: &str) -> Result<(), RelaysError> {
        // A copy that is to go on must be able to give up a relay that is gone for good.
        if !self.progress.copied || self.stopped || self.leaving.is_some() {
            self.check_acts()?;
        }
        let given = Origin::parse(url).map_or_else(|_| url.trim().to_owned(), |origin| origin.as_str().to_owned());
        let at = self.relays.all().find(|at| self.relays[*at].row.url == given);
        let at = at.ok_or_else(|| RelaysError::NotListed(url.to_owned()))?;
        let listed = |relay: &&Relay| !relay.row.unlisted;
        if !self.relays[at].row.unlisted && self.relays.iter().filter(listed).count() < 2 {
            return Err(RelaysError::LastRelay);
        }
        let was_listed = !self.relays[at].row.unlisted;
        self.drop_relay(at);
        if was_listed {
            self.tell_relays();
        }
        self.event(Event::StatusChanged);
        self.step(now);
        Ok(())
    }

    /// Tells the group of a relay that is new. It was met, and has shown all it has: its key is known.
    pub(super) fn list_relay(&mut self, at: RelayAt) {
        let relay = &mut self.relays[at];
        if relay.row.unlisted {
            relay.row.unlisted = false;
            relay.changed = true;
            if std::mem::take(&mut relay.becomes_home) {
                self.relays.make_home(at);
            }
            self.tell_relays();
        }
    }

    /// Queues the list as it is here.
    fn tell_relays(&mut self) {
        let mut listed: Vec<&Relay> = self.relays.iter().filter(|relay| !relay.row.unlisted).collect();
        listed.sort_by_key(|relay| relay.row.rank);
        let listed = listed
            .into_iter()
            .filter_map(|relay| Some(ListedRelay { url: relay.row.url.clone(), key: relay.row.key? }));
        let Ok(relays) = List::try_from(listed.collect::<Vec<_>>()) else { return };
        self.queue(Kind::RELAYS, wire::encode(&RelayList { relays }).into());
    }

    /// A list of the group's relays, this device's or another's.
    pub(super) fn take_relays(&mut self, entry: &Authenticated) {
        let order = (entry.lamport, entry.sender, entry.seq);
        let in_force = self.group.relays_by.as_ref().map(|by| (by.lamport, by.sender, by.seq));
        let Some(relays) = RelayList::parse(&entry.body) else { return };
        // No list could take the place of one from the end of all time.
        if in_force.is_some_and(|in_force| in_force >= order) || !self.is_possible_time(entry.lamport) {
            return;
        }
        let (lamport, sender, seq) = order;
        self.group.relays_by = Some(RelaysBy { lamport, sender, seq });
        // A new member reads lists of long ago first; its inviter told it of the newest.
        self.group.relays_read = self.joining.is_some().then(|| entry.body.clone());
        self.effects.put(hot_key(hot::GROUP, &[]), wire::encode(&self.group));
        if self.joining.is_none() {
            self.follow_list(&relays);
        }
    }

    /// A new member has read as far as its inviter: the list it came upon last is in force.
    pub(super) fn take_relays_read(&mut self) {
        let Some(body) = self.group.relays_read.take() else { return };
        self.effects.put(hot_key(hot::GROUP, &[]), wire::encode(&self.group));
        if let Some(relays) = RelayList::parse(&body) {
            self.follow_list(&relays);
        }
    }

    fn follow_list(&mut self, relays: &[ListedRelay]) {
        for (rank, listed) in (0..).zip(relays.iter()) {
            let known = self.relays.all().find(|at| self.relays[*at].is_at(&listed.url, Some(&listed.key)));
            let at = known.unwrap_or_else(|| {
                let address = RelayAddress { url: listed.url.clone(), key: Some(listed.key) };
                self.relays.add(RelayRow::new(rank, address, None))
            });
            let relay = &mut self.relays[at];
            (relay.row.rank, relay.row.unlisted, relay.changed) = (rank, false, true);
        }
        for at in self.relays.all() {
            let relay = &self.relays[at];
            let listed = relays.iter().any(|listed| relay.is_at(&listed.url, Some(&listed.key)));
            // One that this device is adding is still to be told of.
            if !listed && !relay.row.unlisted {
                self.drop_relay(at);
            }
        }
        self.event(Event::StatusChanged);
    }

    /// Leaves a relay for good.
    fn drop_relay(&mut self, at: RelayAt) {
        self.hang_up_at(at);
        self.effects.delete(self.relays[at].row.row_key());
        self.relays.drop(at);
    }
}

impl Relay {
    /// Whether it is the one of this key or, before it was met, of this address.
    fn is_at(&self, url: &str, key: Option<&NoisePublicKey>) -> bool {
        match (&self.row.key, key) {
            (Some(own), Some(key)) => own == key,
            _ => self.row.url == url,
        }
    }
}
