//! The epochs a member can open: one secret each, oldest first, and which one is current.
//!
//! Never empty. Old epochs stay, because old entries are sealed under them. Beside those that this
//! device was granted or has accepted there are *unproven* secrets: of epochs that others speak of and
//! that are still to be accepted, if ever. They open what is sealed under them, and no more: nothing is
//! sealed or said to a relay with them, nobody is handed them. There is room for so many, and the
//! latest count: whoever makes some up drives out others only until an honest device changes the keys.

use zerok_sync_protocol::EpochId;

use crate::id::GroupId;
use crate::keys::{EpochKeys, EpochSecret};

/// Epochs that came about on a branch that this device has not read: as many as a group may have begun
/// while one of its relays was away.
pub const UNPROVEN_MAX: usize = 256;

type Epoch = (EpochSecret, EpochKeys);

/// All epochs of one group that this device holds the secret of.
#[derive(Debug, Clone)]
pub struct Keyring {
    group: GroupId,
    epochs: Vec<Epoch>,
    current: usize,
    /// The latest last.
    unproven: Vec<Epoch>,
}

impl Keyring {
    /// A keyring with one epoch, the current one.
    #[must_use]
    pub fn new(group: GroupId, secret: EpochSecret) -> Self {
        let keys = EpochKeys::derive(&group, &secret);
        Self { group, epochs: vec![(secret, keys)], current: 0, unproven: Vec::new() }
    }

    /// The keyring of these secrets, oldest first; `None` if `current` is not among them.
    #[must_use]
    pub fn restore(group: GroupId, secrets: impl IntoIterator<Item = EpochSecret>, current: &EpochId) -> Option<Self> {
        let mut secrets = secrets.into_iter();
        let mut keyring = Self::new(group, secrets.next()?);
        for secret in secrets {
            keyring.insert(secret);
        }
        keyring.set_current(current).then_some(keyring)
    }

    /// The group all epochs belong to.
    #[must_use]
    pub const fn group(&self) -> &GroupId {
        &self.group
    }

    /// Adds an epoch behind the others and returns its id. One that is there stays where it is.
    pub fn insert(&mut self, secret: EpochSecret) -> EpochId {
        let keys = EpochKeys::derive(&self.group, &secret);
        let id = keys.id;
        if self.iter().all(|keys| keys.id != id) {
            self.epochs.push((secret, keys));
        }
        self.unproven.retain(|(_, keys)| keys.id != id);
        id
    }

    /// Keeps the secret of an epoch that somebody speaks of.
    pub fn insert_unproven(&mut self, secret: &EpochSecret) {
        if self.epochs.iter().any(|(held, _)| held == secret) {
            return;
        }
        let known = self.unproven.iter().position(|(held, _)| held == secret);
        let epoch = match known {
            Some(index) => self.unproven.remove(index),
            None => (secret.clone(), EpochKeys::derive(&self.group, secret)),
        };
        if self.unproven.len() >= UNPROVEN_MAX {
            self.unproven.remove(0);
        }
        self.unproven.push(epoch);
    }

    /// An epoch has been accepted: its secret is proven, if it is held.
    pub fn prove(&mut self, id: &EpochId) {
        if let Some(index) = self.unproven.iter().position(|(_, keys)| keys.id == *id) {
            let epoch = self.unproven.remove(index);
            self.epochs.push(epoch);
        }
    }

    /// The same without what is unproven, and of the others those that are asked for; `None` if the
    /// current one is not.
    #[must_use]
    pub fn only(&self, wanted: impl Fn(&EpochId) -> bool) -> Option<Self> {
        let secrets = self.epochs.iter().filter(|(_, keys)| wanted(&keys.id));
        let epochs: Vec<Epoch> = secrets.cloned().collect();
        let current = epochs.iter().position(|(_, keys)| keys.id == self.current().id)?;
        Some(Self { group: self.group, epochs, current, unproven: Vec::new() })
    }

    /// The keys of an epoch.
    #[must_use]
    pub fn get(&self, id: &EpochId) -> Option<&EpochKeys> {
        self.epochs.iter().chain(&self.unproven).map(|(_, keys)| keys).find(|keys| keys.id == *id)
    }

    /// The secret of an epoch that is proven.
    #[must_use]
    pub fn secret(&self, id: &EpochId) -> Option<&EpochSecret> {
        self.epochs.iter().find(|(_, keys)| keys.id == *id).map(|(secret, _)| secret)
    }

    /// The epoch new entries are sealed under.
    #[must_use]
    pub fn current(&self) -> &EpochKeys {
        &self.epochs[self.current].1
    }

    /// The current epoch's secret.
    #[must_use]
    pub fn current_secret(&self) -> &EpochSecret {
        &self.epochs[self.current].0
    }

    /// Makes an epoch the current one; `false` (and no change) if its secret is not held.
    #[must_use]
    pub fn set_current(&mut self, id: &EpochId) -> bool {
        match self.epochs.iter().position(|(_, keys)| keys.id == *id) {
            Some(index) => {
                self.current = index;
                true
            }
            None => false,
        }
    }

    /// Every epoch's keys, oldest first, but unproven ones.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &EpochKeys> {
        self.epochs.iter().map(|(_, keys)| keys)
    }

    /// Every secret, oldest first, but unproven ones: for a grant, an epoch envelope, or the local store.
    pub fn secrets(&self) -> impl ExactSizeIterator<Item = &EpochSecret> {
        self.epochs.iter().map(|(secret, _)| secret)
    }

    /// Unproven secrets and their keys, the latest last: for the local store, and for who opens entries.
    pub fn unproven(&self) -> impl ExactSizeIterator<Item = (&EpochSecret, &EpochKeys)> {
        self.unproven.iter().map(|(secret, keys)| (secret, keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId([1; 32]);

    fn secret(byte: u8) -> EpochSecret {
        EpochSecret::from_bytes([byte; 32])
    }

    #[test]
    fn a_new_epoch_is_held_but_not_current_until_told() {
        let mut keyring = Keyring::new(GROUP, secret(1));
        let first = keyring.current().id;
        let second = keyring.insert(secret(2));
        assert_eq!(keyring.current().id, first);
        assert!(keyring.set_current(&second));
        assert_eq!(keyring.current().id, second);
        assert!(keyring.get(&first).is_some());
    }

    #[test]
    fn an_epoch_without_its_secret_cannot_become_current() {
        let mut keyring = Keyring::new(GROUP, secret(1));
        let first = keyring.current().id;
        assert!(!keyring.set_current(&EpochId([9; 8])));
        assert_eq!(keyring.current().id, first);
    }

    #[test]
    fn inserting_a_known_epoch_changes_nothing() {
        let mut keyring = Keyring::new(GROUP, secret(1));
        keyring.insert(secret(2));
        keyring.insert(secret(1));
        let secrets: Vec<_> = keyring.secrets().cloned().collect();
        assert_eq!(secrets, [secret(1), secret(2)]);
    }

    #[test]
    fn a_keyring_comes_back_from_its_secrets_in_order() {
        let mut keyring = Keyring::new(GROUP, secret(3));
        let second = keyring.insert(secret(1));
        assert!(keyring.set_current(&second));
        let secrets: Vec<_> = keyring.secrets().cloned().collect();
        let back = Keyring::restore(GROUP, secrets.clone(), &second).expect("current is among them");
        assert_eq!(back.current().id, second);
        assert_eq!(back.secrets().cloned().collect::<Vec<_>>(), secrets);
        assert!(Keyring::restore(GROUP, secrets, &EpochId([9; 8])).is_none());
        assert!(Keyring::restore(GROUP, [], &second).is_none());
    }

    #[test]
    fn of_unproven_secrets_the_latest_count_and_none_is_handed_on() {
        let mut keyring = Keyring::new(GROUP, secret(1));
        let made_up = |number: usize| EpochSecret::from_bytes(std::array::from_fn(|at| [number as u8, 255][at % 2]));
        keyring.insert_unproven(&secret(2));
        keyring.insert_unproven(&secret(1));
        (0..UNPROVEN_MAX - 1).for_each(|number| keyring.insert_unproven(&made_up(number)));
        keyring.insert_unproven(&secret(2));
        keyring.insert_unproven(&made_up(UNPROVEN_MAX - 1));
        let unproven: Vec<_> = keyring.unproven().map(|(secret, _)| secret.clone()).collect();
        assert_eq!(unproven.len(), UNPROVEN_MAX);
        assert!(unproven.contains(&secret(2)) && !unproven.contains(&made_up(0)));
        assert_eq!(keyring.secrets().cloned().collect::<Vec<_>>(), [secret(1)]);
    }

    #[test]
    fn an_unproven_epoch_opens_entries_and_becomes_current_only_once_it_is_proven() {
        let mut keyring = Keyring::new(GROUP, secret(1));
        let second = EpochKeys::derive(&GROUP, &secret(2)).id;
        keyring.insert_unproven(&secret(2));
        assert!(keyring.get(&second).is_some());
        assert!(!keyring.set_current(&second));
        keyring.prove(&second);
        assert!(keyring.set_current(&second));
        assert_eq!((keyring.secrets().len(), keyring.unproven().len()), (2, 0));
    }

    #[test]
    fn only_some_epochs_are_handed_on_but_never_without_the_current_one() {
        let mut keyring = Keyring::new(GROUP, secret(1));
        let first = keyring.current().id;
        let second = keyring.insert(secret(2));
        assert!(keyring.only(|id| *id == second).is_none());
        assert!(keyring.set_current(&second));
        let only = keyring.only(|id| *id == second).expect("the current one is asked for");
        assert_eq!(only.secrets().cloned().collect::<Vec<_>>(), [secret(2)]);
        assert!(only.get(&first).is_none());
    }
}
