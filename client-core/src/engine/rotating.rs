//! Changing the group's keys: asked for by a person, carried out whenever a relay is there.
//!
//! ```text
//! Wanted ─Restrict→ Restricting ─Restricted{head}→ Reading ─read to head, own entries acknowledged→
//! sealed (durable) ─Rotate→ Rotating ─Rotated, envelope read back→ done
//! ```
//!
//! Invariants: the wish is durable before the first word about it, the sealed envelope before it is
//! sent, so a crash at any point resumes where it was and a repeated `Rotate` is recognised by its
//! BlobId; nothing is sealed under the old epoch from `Restrict` on; whoever loses (1008) reads the
//! winner and rotates again only if something of the wish is left.

use bytes::Bytes;
use zerok_sync_protocol::wire;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{ClientFrame, NoisePublicKey, hello};

use super::Engine;
use super::connection::{Open, random};
use super::relay::RelayAt;
use super::rows::{MemberRow, RotationRow, SealedRotation, hot, hot_key};
use crate::epoch::{self, EpochBody, MemberDigest, REMOVED_MAX, Removed};
use crate::error::{MembershipError, Problem};
use crate::event::Event;
use crate::id::DeviceId;
use crate::io::{LinkId, Now};
use crate::keys::{EpochKeys, EpochSecret, MemberKeys};
use crate::store_seal;

/// A change of keys that is wanted, and how far it has come on the link there is.
#[derive(Debug)]
pub(super) struct Rotation {
    pub(super) row: RotationRow,
    /// What was said on this link; on another one everything begins again.
    said: Option<(LinkId, Stage)>,
    /// More was wished for since `Restrict` went out.
    grown: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// `Restrict` is out.
    Restricting,
    /// From this head on the relay takes nothing more of who is removed.
    Reading { head: u64 },
    /// `Rotate` is out.
    Rotating,
    /// Another rotation came first, and is still to be read.
    Lost,
}

impl Rotation {
    pub(super) fn stored(row: RotationRow) -> Self {
        Self { row, said: None, grown: false }
    }
}

impl Engine {
    /// Changes the group's keys: invitations that were handed out and not used are void, devices
    /// the relay admits and no member knows are shut out. Carried out as soon as a relay is there,
    /// also after a restart; [`Event::KeysChanged`] tells.
    ///
    /// # Errors
    /// [`MembershipError`]; nothing changed.
    pub fn rotate(&mut self, now: Now) -> Result<(), MembershipError> {
        self.check_acts()?;
        self.want_rotation(Vec::new());
        self.step(now);
        Ok(())
    }

    /// Removes another device: the relay shuts it out at once, and the keys are changed. It keeps
    /// what it had. [`Event::MemberRemoved`] tells when it is done.
    ///
    /// # Errors
    /// [`MembershipError`]; nothing changed.
    pub fn revoke(&mut self, now: Now, device: DeviceId) -> Result<(), MembershipError> {
        self.check_acts()?;
        if device == self.me.device() {
            return Err(MembershipError::OwnDevice);
        }
        if !self.members.contains_key(&device) {
            return Err(MembershipError::NoSuchDevice(device.to_string()));
        }
        self.want_rotation(vec![device]);
        self.step(now);
        Ok(())
    }

    /// Stores a wish, beside what is wished for already.
    pub(super) fn want_rotation(&mut self, remove: Vec<DeviceId>) {
        let asked_in = self.keyring.current().id;
        let rotation = self
            .rotation
            .get_or_insert_with(|| Rotation::stored(RotationRow { remove: Vec::new(), asked_in, sealed: None }));
        let adds = remove.iter().any(|device| !rotation.row.remove.contains(device));
        if adds {
            rotation.row.remove.extend(remove);
            rotation.row.remove.sort_unstable();
            rotation.row.remove.dedup();
            // What is sealed may come about; what it leaves undone is done behind it.
            rotation.grown = rotation.row.sealed.is_none();
        }
        self.put_rotation();
        self.event(Event::StatusChanged);
    }

    /// Forgets the wish.
    pub(super) fn drop_rotation(&mut self) {
        if self.rotation.take().is_some() {
            self.effects.delete(hot_key(hot::ROTATION, &[]));
            self.event(Event::StatusChanged);
        }
    }

    /// Forgets the wish unless it is sealed: then it may be at the relay already, and is gone through
    /// with.
    pub(super) fn drop_unsealed_rotation(&mut self) {
        if self.rotation.as_ref().is_some_and(|rotation| rotation.row.sealed.is_none()) {
            self.drop_rotation();
        }
    }

    fn put_rotation(&mut self) {
        let Some(rotation) = &self.rotation else { return };
        let key = hot_key(hot::ROTATION, &[]);
        let plaintext = zeroize::Zeroizing::new(wire::encode(&rotation.row));
        let value = store_seal::seal_row(&self.store_key, random(&mut self.rng), &key, &plaintext);
        self.effects.put(key, value);
    }

    /// Whether a change of keys is under way here, so that nothing is sealed under the old ones.
    pub(super) fn is_rotating(&self) -> bool {
        self.rotation.is_some()
    }

    /// The sealed bytes of an own rotation's stub.
    pub(super) fn rotation_envelope(&self, blob_id: &zerok_sync_protocol::BlobId) -> Option<Bytes> {
        let sealed = self.rotation.as_ref()?.row.sealed.as_ref()?;
        (sealed.blob_id == *blob_id).then(|| sealed.envelope.clone())
    }

    /// Whether the home relay, which orders rotations, has shown everything under the newest name.
    pub(super) fn is_live(&self) -> bool {
        self.relays[self.relays.home()].session.live_ref().is_some_and(|open| open.caught_up)
            && self.relays[self.relays.home()].session.admitted_by() == Some(self.keyring.current().id)
    }

    /// Does whatever the wish, the session and the log allow now.
    pub(super) fn pump_rotation(&mut self, now: Now) {
        self.bid_farewell(now);
        self.change_unsound_keys();
        for at in self.relays.all() {
            self.tell_missed_rotations(at);
        }
        let sealed = self.rotation.as_ref().is_some_and(|rotation| rotation.row.sealed.is_some());
        if self.rotation.is_none() || !self.is_live() || (!sealed && self.check_acts().is_err()) {
            return;
        }
        let home = self.relays.home();
        let (Some(rotation), Some(open)) = (&mut self.rotation, self.relays[home].session.live()) else {
            return;
        };
        let asks_again = rotation.grown && matches!(rotation.said, Some((_, Stage::Reading { .. })));
        if asks_again || rotation.said.is_some_and(|(link, _)| link != open.link()) {
            rotation.said = None;
        }
        match rotation.said.map(|(_, stage)| stage) {
            None if rotation.row.sealed.is_some() => self.send_rotate(),
            None => {
                let allow = allow_list(&self.staying());
                // Shut out at once wherever a relay is there; the frozen head is the home relay's.
                for at in self.relays.all().filter(|at| *at != home) {
                    if let Some(open) = self.relays[at].session.live() {
                        open.send(&ClientFrame::Restrict { allow: allow.clone() });
                    }
                }
                if let (Some(rotation), Some(open)) = (&mut self.rotation, self.relays[home].session.live()) {
                    open.send(&ClientFrame::Restrict { allow });
                    rotation.said = Some((open.link(), Stage::Restricting));
                    rotation.grown = false;
                }
            }
            Some(Stage::Reading { head }) if self.home_has_all_up_to(head) => {
                self.seal_rotation(now);
                self.send_rotate();
            }
            Some(Stage::Restricting | Stage::Reading { .. } | Stage::Rotating | Stage::Lost) => {}
        }
    }

    /// A device that was removed has the current keys where the branch that they are of knows nothing
    /// of its removal. Or whoever began them left out older ones, which nobody can do without who comes
    /// back by words alone. Whoever changed them since may have known no better: so this rests on what
    /// is known here once a relay has shown all it has, and not on the way by which it became known.
    fn change_unsound_keys(&mut self) {
        let caught_up = self.relays.iter().any(super::relay::Relay::caught_up);
        if self.rotation.is_some() || !caught_up || self.check_acts().is_err() {
            return;
        }
        let hands_on_all = self.epoch_row(&self.keyring.current().id).is_none_or(|epoch| epoch.hands_on_all);
        if !hands_on_all || !self.removed_elsewhere().is_empty() {
            self.want_rotation(Vec::new());
        }
    }

    /// Whether this device has read the home relay's log up to there, and that has all it ever sealed.
    fn home_has_all_up_to(&self, head: u64) -> bool {
        let home = &self.relays[self.relays.home()].row;
        home.cursor >= head && home.acked_seq >= self.progress.sealed_seq
    }

    /// Members that the wish leaves.
    fn staying(&self) -> Vec<MemberKeys> {
        let removed = self.rotation.as_ref().map_or(&[][..], |rotation| &rotation.row.remove);
        // Whoever has said that it leaves goes with the first rotation there is.
        let stays = |member: &&MemberRow| !member.leaving && !removed.contains(&member.keys.device);
        self.members.values().filter(stays).map(|member| member.keys.clone()).collect()
    }

    /// Fixes the next epoch. The log is read to the frozen head: whoever is removed ends where it
    /// ends here.
    fn seal_rotation(&mut self, now: Now) {
        let next = self.seal_next_epoch(now, &self.staying());
        if let Some(rotation) = &mut self.rotation {
            rotation.row.sealed = Some(next);
            self.put_rotation();
        }
    }

    /// An epoch of these members that follows the current one.
    pub(super) fn seal_next_epoch(&mut self, now: Now, members: &[MemberKeys]) -> SealedRotation {
        let removed: Vec<Removed> = self
            .members
            .keys()
            .filter(|device| members.iter().all(|keys| keys.device != **device))
            .map(|device| {
                let chain = self.chains.get(device);
                let (last_seq, last_blob_id) =
                    chain.map_or((0, zerok_sync_protocol::BlobId::ZERO), |chain| (chain.seq, chain.blob_id));
                Removed { device: *device, last_seq, last_blob_id }
            })
            .chain(self.removed_elsewhere())
            .take(REMOVED_MAX)
            .collect();
        let keyring: Vec<EpochSecret> = self.keyring_to_hand_on().secrets().cloned().collect();
        let body = EpochBody {
            sender: self.me.device(),
            seq: self.progress.sealed_seq,
            prev: self.progress.sealed_blob_id,
            seen: List::try_from(self.seen_since_last()).expect("cut to the limit"),
            previous_epoch: self.keyring.current().id,
            previous_blob_id: self.progress.epoch_blob_id,
            removed: List::try_from(removed).expect("a group has no more members than that"),
            member_digest: MemberDigest::of(members.iter().map(|keys| keys.device)),
            allow: allow_list(members),
            keyring: List::try_from(keyring).expect("cut to the limit"),
            lamport: self.next_lamport(),
            sent_at_ms: now.wall_ms,
            genesis: Bytes::new(),
        };
        let secret = EpochSecret::from_bytes(random(&mut self.rng));
        let group = *self.keyring.group();
        let sealed = epoch::seal_epoch(&group, &secret, &self.me.signing, members, &body, &mut self.rng)
            .expect("as many members as a group can have, and a keyring cut to its limit");
        let (previous, allow) = (body.previous_epoch, body.allow.into_vec());
        SealedRotation { secret, previous, blob_id: sealed.blob_id, envelope: sealed.envelope, allow }
    }

    fn send_rotate(&mut self) {
        let current = self.keyring.current().log_name();
        let home = self.relays.home();
        let (Some(rotation), Some(open)) = (&mut self.rotation, self.relays[home].session.live()) else {
            return;
        };
        let (Some(sealed), Some(log)) = (&rotation.row.sealed, &open.log) else { return };
        let next = EpochKeys::derive(self.keyring.group(), &sealed.secret);
        let frame = ClientFrame::Rotate {
            expect_gen: log.auth_gen,
            next_auth_public: next.auth_public(),
            proof: hello::sign_rotate(&next.auth, &open.handshake, &current),
            allow: List::try_from(sealed.allow.clone()).expect("no longer than when it was sealed"),
            epoch_envelope: sealed.envelope.clone(),
        };
        open.send(&frame);
        open.rotates_unanswered += 1;
        rotation.said = Some((open.link(), Stage::Rotating));
        // Another relay may show it first: then it is nobody's wish any more when this one does.
        let blob_id = sealed.blob_id;
        self.relays[home].sending.rotated(blob_id);
    }

    /// The relay takes nothing more of who is to be removed: read up to here.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`] when nothing was asked.
    pub(super) fn on_restricted(&mut self, at: RelayAt, head: u64) -> Result<(), Problem> {
        if at != self.relays.home() {
            return Ok(());
        }
        let link = self.relays[self.relays.home()].session.live_ref().map(Open::link);
        match &mut self.rotation {
            Some(Rotation { said: Some((said, stage @ Stage::Restricting)), .. }) if Some(*said) == link => {
                *stage = Stage::Reading { head };
                Ok(())
            }
            // Asked for, and another device was first, or nothing is wished for any more.
            Some(Rotation { said: Some((_, Stage::Lost)) | None, .. }) | None => Ok(()),
            Some(_) => Err(Problem::ProtocolViolation("a restriction that was not asked for")),
        }
    }

    /// The relay has the rotation; its envelope follows in the log.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`] when nothing was asked.
    pub(super) fn on_rotated(&mut self, at: RelayAt, auth_gen: u64) -> Result<(), Problem> {
        let Some(open) = self.relays[at].session.live() else { return Ok(()) };
        open.rotates_unanswered = open
            .rotates_unanswered
            .checked_sub(1)
            .ok_or(Problem::ProtocolViolation("a rotation that was not asked for"))?;
        if let Some(log) = &mut open.log {
            log.auth_gen = auth_gen;
        }
        if self.missed_rotation_done(at) {
            return Ok(());
        }
        let home = self.relays.home();
        match &self.rotation {
            Some(Rotation { said: Some((_, Stage::Rotating)), row, .. }) if at == home => {
                let Some(sealed) = &row.sealed else { return Ok(()) };
                let next = EpochKeys::derive(self.keyring.group(), &sealed.secret);
                if let Some(open) = self.relays[home].session.live() {
                    open.hello_by = next.id;
                }
                if next.id != self.keyring.current().id {
                    self.relays[home].hello_epoch = Some(next);
                }
                Ok(())
            }
            // Its envelope was read before the answer came, from another relay perhaps.
            _ => Ok(()),
        }
    }

    /// Another device was first. Its envelope comes in `Superseded` and in the log.
    pub(super) fn rotation_lost(&mut self, at: RelayAt) {
        if at == self.relays.home()
            && let Some(Rotation { said: Some((_, stage)), .. }) = &mut self.rotation
        {
            *stage = Stage::Lost;
        }
    }

    /// An epoch was accepted: the own one, or another that may leave something to be done.
    pub(super) fn rotation_settled(&mut self) {
        let Some(rotation) = &mut self.rotation else { return };
        let current = self.keyring.current().id;
        rotation.row.remove.retain(|device| self.members.contains_key(device));
        rotation.row.sealed = None;
        rotation.said = None;
        let met = rotation.row.remove.is_empty() && rotation.row.asked_in != current;
        if met || self.leaving.is_some() {
            self.drop_rotation();
        } else {
            self.put_rotation();
        }
    }
}

fn allow_list(members: &[MemberKeys]) -> List<NoisePublicKey, { zerok_sync_protocol::limits::ALLOW_LIST_MAX }> {
    let allow: Vec<NoisePublicKey> = members.iter().map(|keys| keys.noise).collect();
    List::try_from(allow).expect("a group has no more members than an allow-list has places")
}
