//! The group's keys as they change: genesis, rotations read from the log, and the way back in for
//! a device that was away.
//!
//! Two epochs are told apart here: the *accepted* one, whose envelope was read in the log and
//! checked against the membership before it (the keyring's current one; new entries are sealed
//! under it), and the one this session said `Hello` with, which the relay may have handed out in
//! `Superseded`. Nothing is sealed while they differ.

use std::sync::Arc;

use zerok_sync_protocol::EnvelopeHeader;
use zerok_sync_protocol::wire;

use super::Engine;
use super::mirror::ForApp;
use super::reading::{Lookup, Placed};
use super::relay::RelayAt;
use super::rows::{EpochRow, IdentityRow, epoch_envelope_key, epoch_key, hot, hot_key};
use crate::epoch::{self, AcceptedEpoch, KEYRING_MAX, SignedEpoch, UnwrapError};
use crate::error::Problem;
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::keyring::{Keyring, UNPROVEN_MAX};
use crate::keys::{EpochKeys, EpochSecret};
use crate::one_by_one::set_of;
use crate::snapshot::archived_bytes;
use crate::store_seal;

/// How often a relay may answer `Hello` with another epoch on one link: as often as the group may
/// have rotated meanwhile, and no longer than a relay could keep it up for its pleasure.
const REDIRECTS_MAX: u32 = 8;

impl Engine {
    /// An epoch envelope at its place in the log.
    ///
    /// # Errors
    /// [`Problem::EpochNotOpened`] when a member started an epoch that this device cannot follow.
    pub(super) fn accept_epoch(&mut self, placed: Placed) -> Result<(), Problem> {
        let corrupt = IntegrityEvent::Corrupt { cursor: placed.cursor, blob_id: placed.blob_id };
        let (signed, secret) = match self.open_signed(&placed.envelope) {
            Ok(Some(opened)) => opened,
            Ok(None) => {
                self.find(corrupt);
                return Ok(());
            }
            Err(UnwrapError::NotAnEpoch(_)) => {
                self.find(corrupt);
                return Ok(());
            }
            // The relay has let this device in by the name of its own epoch, so this is not the one in
            // force: somebody put it there. Whoever was removed is not let in.
            Err(UnwrapError::NotForMe(_))
                if self.relays[placed.at].session.admitted_by() == Some(self.keyring.current().id) =>
            {
                self.find_once(corrupt);
                return Ok(());
            }
            // Nor by the name of another one that this device has the keys of and is on its way to: it may
            // be of a branch that whoever let this device in did not know.
            Err(UnwrapError::NotForMe(id))
                if self.relays[placed.at].session.admitted_by().is_some_and(|admitted_by| admitted_by != id) =>
            {
                self.relays[placed.at].note_unopened_epoch(placed.cursor);
                self.doubt(corrupt);
                return Ok(());
            }
            Err(UnwrapError::NotForMe(_) | UnwrapError::WrappedWrong(_)) => return Err(Problem::EpochNotOpened),
        };
        let sender = signed.sender;
        if signed.previous_epoch.is_zero() && self.chains.contains_key(&sender) {
            // Genesis again, or another one: it is its founder's entry 1.
            let genesis = self.epochs.first().is_some_and(|first| first.blob_id == placed.blob_id);
            let mut again = false;
            if genesis {
                again = self.relays[placed.at].read_again(sender, 1);
                // Of others there is no end, and what was read of the epochs is kept.
                self.relays[placed.at].epoch_read_again(placed.blob_id);
                self.genesis_shown(placed.at, sender);
            }
            let Placed { cursor, blob_id, .. } = placed;
            self.look_up(Lookup { at: placed.at, sender, seq: 1, cursor, blob_id, again, signed: true });
            return Ok(());
        }
        if self.relays.iter().any(|relay| relay.has_epoch(placed.blob_id)) {
            let gone = self.relays[placed.at].need_not_have_epoch(&placed.blob_id);
            if self.relays[placed.at].epoch_read_again(placed.blob_id) && !gone {
                self.find(IntegrityEvent::Replayed { cursor: placed.cursor, blob_id: placed.blob_id });
            }
            return Ok(());
        }
        self.consider_epoch(&placed, &signed, secret.as_ref());
        Ok(())
    }

    /// Opens an epoch envelope, with a secret that is held or that is wrapped in it. A new secret
    /// comes back beside it: it proves nothing about who started the epoch, so it joins the keyring
    /// only with the epoch.
    pub(super) fn open_signed(
        &self,
        envelope: &[u8],
    ) -> Result<Option<(SignedEpoch, Option<EpochSecret>)>, UnwrapError> {
        let (header, _) = EnvelopeHeader::parse(envelope).map_err(|error| UnwrapError::NotAnEpoch(error.into()))?;
        let group = self.keyring.group();
        let (opened, secret) = match self.keyring.get(&header.epoch) {
            Some(keys) => (epoch::open_epoch(group, keys, envelope), None),
            None => {
                let secret = epoch::unwrap_secret(group, &self.me, envelope)?;
                let keys = EpochKeys::derive(group, &secret);
                (epoch::open_epoch(group, &keys, envelope), Some(secret))
            }
        };
        Ok(opened.ok().and_then(|epoch| epoch.verify().ok()).map(|signed| (signed, secret)))
    }

    /// An epoch envelope under a known secret, if its author signed it.
    pub(super) fn open_with(&self, secret: &EpochSecret, envelope: &[u8]) -> Option<SignedEpoch> {
        let keys = EpochKeys::derive(self.keyring.group(), secret);
        epoch::open_epoch(self.keyring.group(), &keys, envelope).ok()?.verify().ok()
    }

    /// The secrets in the keyring of an epoch that is not accepted yet: the log before it may need
    /// one of a branch that this device was unknown to. They open envelopes, and prove nothing.
    fn learn_older_secrets(&mut self, secret: &EpochSecret, envelope: &[u8]) {
        let Some(signed) = self.open_with(secret, envelope) else { return };
        if self.members.contains_key(&signed.sender) {
            self.learn_unproven(signed.keyring.iter());
            self.put_identity();
        }
    }

    /// Secrets of epochs that are not accepted, or not yet.
    pub(super) fn learn_unproven<'a>(&mut self, secrets: impl ExactSizeIterator<Item = &'a EpochSecret>) {
        // The latest of more than there is room for.
        let too_many = secrets.len().saturating_sub(UNPROVEN_MAX);
        for secret in secrets.skip(too_many) {
            self.keyring_mut().insert_unproven(secret);
        }
    }

    /// A secret joins the keyring with its epoch.
    pub(super) fn learn_secret(&mut self, secret: Option<&EpochSecret>) {
        if let Some(secret) = secret {
            self.keyring_mut().insert(secret.clone());
        }
    }

    /// The epoch behind the current one begins.
    pub(super) fn enter_epoch(&mut self, placed: &Placed, accepted: &AcceptedEpoch) {
        let founding = self.progress.epoch_blob_id.is_zero();
        let blob_id = placed.blob_id;
        if founding {
            self.relays[placed.at].read_again(accepted.sender, 1);
            self.genesis_shown(placed.at, accepted.sender);
            for founder in accepted.members() {
                // Named by its first own entry.
                self.add_member(founder.clone(), "founder", None, accepted.sent_at_ms, false);
            }
            self.extend_chain(accepted.sender, 1, blob_id, accepted.sent_at_ms);
        }
        self.take_over(placed, accepted);
        self.close_epochs_before(&accepted.id());
        let held = self.keyring_mut().set_current(&accepted.id());
        debug_assert!(held, "it was opened with this secret");
        self.progress.epoch_blob_id = blob_id;
        self.progress_changed = true;
        self.put_identity();
        self.take_up_held(placed, accepted);
        self.greet_again();
        if !founding {
            self.rotation_settled();
            self.event(Event::KeysChanged { by: accepted.sender });
        }
        self.event(Event::StatusChanged);
    }

    /// What an accepted epoch says counts, whether it is the current one or another branch.
    pub(super) fn take_over(&mut self, placed: &Placed, accepted: &AcceptedEpoch) {
        let founding = accepted.previous_epoch.is_zero();
        let hands_on_all = self.hands_on_all(accepted);
        self.keyring_mut().prove(&accepted.id());
        self.learn_unproven(accepted.keyring.iter());
        for removed in accepted.removed.iter() {
            self.remove_member(accepted.sender, removed);
        }
        self.note_seen(accepted.sender, &accepted.seen);
        self.note_seen_by(accepted.sender, &accepted.seen);
        self.vouch_for_removed(&accepted.seen);
        if !founding {
            self.void_grants();
        }
        self.note_epoch(placed, accepted, hands_on_all);
        for relay in self.relays.iter_mut() {
            relay.hello_epoch.take_if(|keys| keys.id == accepted.id());
        }
        self.relays[placed.at].epoch_read_again(placed.blob_id);
        self.follow_time(accepted.lamport);
        self.progress_changed = true;
        self.put_identity();
        self.mirror(placed.clone(), founding.then_some((accepted.sender, 1)), ForApp::Nothing, false);
    }

    /// An epoch has begun, and everything that it says counts: so does what waited for it.
    pub(super) fn take_up_held(&mut self, placed: &Placed, accepted: &AcceptedEpoch) {
        self.take_up_joins();
        if self.joining.as_ref().is_some_and(|joining| joining.epoch == accepted.id()) {
            self.release_beyond_grant(placed.at);
        }
    }

    /// Whether an epoch carries the secrets of all before it, as whoever comes back by words alone
    /// needs them; of very many the latest, which its author had room for.
    fn hands_on_all(&self, accepted: &AcceptedEpoch) -> bool {
        let before = self.lineage(&accepted.previous_epoch);
        let mut needed = before.iter().take(KEYRING_MAX).filter_map(|id| self.keyring.secret(id));
        needed.all(|secret| accepted.keyring.iter().any(|carried| carried == secret))
    }

    /// The secrets that others are handed: of accepted epochs, whatever else somebody has spoken of. Where
    /// there are too many the way that the group went to its current epoch comes first, and then the
    /// latest of other branches: a member makes as many of those as it likes.
    pub(super) fn keyring_to_hand_on(&self) -> Keyring {
        let lineage = self.lineage(&self.keyring.current().id);
        let in_lineage = set_of(lineage.iter().copied());
        let others = self.epochs.iter().rev().map(|row| row.id).filter(|id| !in_lineage.contains(id));
        let handed_on = set_of(lineage.into_iter().chain(others).take(KEYRING_MAX));
        let accepted = self.keyring.only(|id| handed_on.contains(id));
        accepted.unwrap_or_else(|| Keyring::clone(&self.keyring))
    }

    /// Keeps an accepted epoch: a relay that missed it is told again.
    fn note_epoch(&mut self, placed: &Placed, accepted: &AcceptedEpoch, hands_on_all: bool) {
        let number = self.epochs.len() as u64;
        let row = EpochRow {
            id: accepted.id(),
            blob_id: placed.blob_id,
            previous: accepted.previous_epoch,
            author: accepted.sender,
            allow: accepted.allow.to_vec(),
            members: accepted.devices().to_vec(),
            closed: false,
            hands_on_all,
        };
        self.effects.put(epoch_key(number), wire::encode(&row));
        self.effects.put(epoch_envelope_key(number), placed.envelope.to_vec());
        self.progress.control_bytes += archived_bytes(placed.envelope.len()) as u64;
        self.note_log(placed.envelope.len() as u64);
        self.epochs.push(row);
    }

    /// To change it; who reads entries meanwhile goes on with the one it was.
    pub(super) fn keyring_mut(&mut self) -> &mut Keyring {
        Arc::make_mut(&mut self.keyring)
    }

    /// A relay shows the founder's entry 1, which never was in an outbox.
    fn genesis_shown(&mut self, at: RelayAt, founder: DeviceId) {
        if founder == self.me.device() {
            self.acked_up_to(at, 1);
        }
    }

    pub(super) fn put_identity(&mut self) {
        let key = hot_key(hot::IDENTITY, &[]);
        let row = IdentityRow {
            seed: bytes::Bytes::copy_from_slice(self.seed.expose()),
            genesis: self.genesis.clone(),
            epoch_secrets: self.keyring.secrets().cloned().collect(),
            current_epoch: self.keyring.current().id,
            unproven_secrets: self.keyring.unproven().map(|(secret, _)| secret.clone()).collect(),
        };
        let plaintext = zeroize::Zeroizing::new(wire::encode(&row));
        let nonce = super::connection::random(&mut self.rng);
        let value = store_seal::seal_row(&self.store_key, nonce, &key, &plaintext);
        self.effects.put(key, value);
    }

    /// The relay says the group's keys moved on, and hands out the epoch's envelope: whoever it is
    /// wrapped to says `Hello` again with it. On a live session reading goes on meanwhile; pushes wait
    /// for the `Welcome` and begin again with `resume`.
    ///
    /// # Errors
    /// [`Problem::EpochNotOpened`] when it is not, or when that was tried already.
    pub(super) fn on_superseded(&mut self, at: RelayAt, epoch_envelope: &[u8], more: u8) -> Result<(), Problem> {
        // One that is held already need not be wrapped to this device: it may have been let in later.
        let header = EnvelopeHeader::parse(epoch_envelope).ok().map(|(header, _)| header);
        let held = header.and_then(|header| self.keyring.get(&header.epoch)).map(|keys| keys.id);
        let handed_out = match held {
            Some(_) => None,
            None => match epoch::unwrap_secret(self.keyring.group(), &self.me, epoch_envelope) {
                Ok(secret) => {
                    self.learn_older_secrets(&secret, epoch_envelope);
                    let older = self.open_with(&secret, epoch_envelope).map(|signed| signed.keyring.to_vec());
                    self.relays[at].handed_out = older.into_iter().flatten().chain([secret.clone()]).collect();
                    Some(EpochKeys::derive(self.keyring.group(), &secret))
                }
                // Another group's log with the same key cannot be; an unreadable one may be followed by
                // one that can be read.
                Err(_) if more > 0 => return Ok(()),
                // On a relay that forgot the log somebody else has one that lists this device: that
                // keeps nobody from making it again under its own name. Of a log that was not
                // forgotten the name is taken.
                Err(_) if self.recreate(at) => return Ok(()),
                Err(_) => return Err(Problem::EpochNotOpened),
            },
        };
        let Some(id) = held.or(handed_out.as_ref().map(|keys| keys.id)) else { return Ok(()) };
        let relay = &mut self.relays[at];
        if relay.row.cursor > 0 && relay.row.creation.take().is_some() {
            relay.changed = true;
        }
        let Some(open) = relay.session.open() else { return Ok(()) };
        if open.superseded && open.hello_by == id {
            // Said twice before the `Hello` had arrived.
            return Ok(());
        }
        open.redirects += 1;
        if open.hello_by == id || open.redirects > REDIRECTS_MAX {
            return Err(Problem::EpochNotOpened);
        }
        let was_live = open.is_live();
        open.superseded = was_live;
        open.resending = None;
        // A relay that was rolled back, or missed a rotation, hands out an epoch of before: then it
        // is told what it missed.
        if handed_out.is_some() {
            relay.hello_epoch = handed_out;
        }
        if was_live {
            relay.sending.refuse(relay.row.acked_seq);
            self.rotation_lost(at);
        }
        if let Ok(Some((signed, secret))) = self.open_signed(epoch_envelope) {
            self.overrule(at, &signed, secret.as_ref());
        }
        self.hello_as_member(at, id, false);
        Ok(())
    }

    /// The epoch to say `Hello` with at a relay.
    pub(super) fn keys_for_hello(&self, at: RelayAt) -> &EpochKeys {
        self.relays[at].hello_epoch.as_ref().unwrap_or(self.keyring.current())
    }
}
