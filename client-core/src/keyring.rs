//! The epochs a member can open: one secret each, oldest first, and which one is current.
//!
//! Never empty. Old epochs stay, because old entries are sealed under them.

use zerok_sync_protocol::EpochId;

use crate::id::GroupId;
use crate::keys::{EpochKeys, EpochSecret};

/// All epochs of one group that this device holds the secret of.
#[derive(Debug, Clone)]
pub struct Keyring {
    group: GroupId,
    epochs: Vec<(EpochSecret, EpochKeys)>,
    current: usize,
}

impl Keyring {
    /// A keyring with one epoch, the current one.
    #[must_use]
    pub fn new(group: GroupId, secret: EpochSecret) -> Self {
        let keys = EpochKeys::derive(&group, &secret);
        Self { group, epochs: vec![(secret, keys)], current: 0 }
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

    /// Adds an epoch behind the others and returns its id. One that is known stays where it is.
    pub fn insert(&mut self, secret: EpochSecret) -> EpochId {
        let keys = EpochKeys::derive(&self.group, &secret);
        let id = keys.id;
        if self.get(&id).is_none() {
            self.epochs.push((secret, keys));
        }
        id
    }

    /// The keys of an epoch.
    #[must_use]
    pub fn get(&self, id: &EpochId) -> Option<&EpochKeys> {
        self.epochs.iter().map(|(_, keys)| keys).find(|keys| keys.id == *id)
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

    /// Every epoch's keys, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &EpochKeys> {
        self.epochs.iter().map(|(_, keys)| keys)
    }

    /// Every secret, oldest first: for a grant, an epoch envelope, or the local store.
    pub fn secrets(&self) -> impl ExactSizeIterator<Item = &EpochSecret> {
        self.epochs.iter().map(|(secret, _)| secret)
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
}
