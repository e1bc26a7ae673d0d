//! Who the relay admits: allow-list, removal, rotation. As the real relay does it.

use bytes::Bytes;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{AuthPublicKey, ErrorCode, LogName, NoisePublicKey, RelayFrame, Signature, hello};

use super::{Conn, Log, Phase, Relay, Stored};
use crate::sim::Defect;

/// The fields of `Rotate`.
pub(super) struct Rotation {
    pub(super) expect_gen: u64,
    pub(super) next: AuthPublicKey,
    pub(super) proof: Signature,
    pub(super) allow: Vec<NoisePublicKey>,
    pub(super) epoch_envelope: Bytes,
}

impl Relay {
    pub(super) fn device(&self, conn: Conn) -> Option<NoisePublicKey> {
        match self.sessions.get(&conn)?.phase.as_ref()? {
            Phase::Open(stream) => Some(stream.remote_static()),
            Phase::First | Phase::Final(_) => None,
        }
    }

    fn is_listed(&self, conn: Conn) -> bool {
        let device = self.device(conn);
        self.log.as_ref().is_some_and(|log| device.is_some_and(|device| log.allow.contains(&device)))
    }

    /// What the session's device keeps here.
    pub(super) fn slot(&self, conn: Conn) -> Bytes {
        self.device(conn).and_then(|device| self.slots.get(&device).cloned()).unwrap_or_default()
    }

    /// A member proved the current key.
    pub(super) fn admit(&mut self, conn: Conn) {
        let listed = self.is_listed(conn);
        let Some(device) = self.device(conn) else { return };
        let Some(log) = &mut self.log else { return };
        if !listed && log.restricted {
            return self.revoke(conn);
        }
        log.allow.insert(device);
        self.welcome(conn);
    }

    /// Hands the current epoch envelope to a device on the list.
    pub(super) fn supersede(&mut self, conn: Conn, otherwise: ErrorCode) {
        match self.epoch_envelope.clone().filter(|_| self.is_listed(conn)).or_else(|| self.foreign_epoch.clone()) {
            Some(epoch_envelope) => {
                let slot = self.slot(conn);
                self.send(conn, &RelayFrame::Superseded { epoch_envelope, slot, more: 0 });
            }
            None => self.fail(conn, otherwise),
        }
    }

    /// Tells a live session that the keys moved on.
    pub(super) fn tell_superseded(&mut self, conn: Conn) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            (session.superseded, session.refused) = (true, true);
        }
        self.supersede(conn, ErrorCode::DeviceRevoked);
    }

    fn revoke(&mut self, conn: Conn) {
        self.fail(conn, ErrorCode::DeviceRevoked);
        if let Some(session) = self.sessions.get_mut(&conn) {
            // It ends with this word.
            (session.member, session.next) = (false, None);
        }
    }

    /// Only who is on the list stays, and nobody new comes, until the next rotation.
    pub(super) fn on_restrict(&mut self, conn: Conn, allow: &[NoisePublicKey]) {
        let listed = self.is_listed(conn);
        let auth_gen = self.sessions.get(&conn).map(|session| session.auth_gen);
        let Some(log) = &mut self.log else { return };
        if !listed {
            return self.revoke(conn);
        }
        if Some(log.auth_gen) != auth_gen {
            self.tell_superseded(conn);
            return self.fail(conn, ErrorCode::RotationConflict);
        }
        let head = log.entries.len() as u64;
        if self.defect != Some(Defect::RelayKeepsRemoved) {
            log.allow.retain(|device| allow.contains(device));
            log.restricted = true;
        }
        self.send(conn, &RelayFrame::Restricted { head });
        self.kick_unlisted();
    }

    /// Appends, renames, admits: at once or not at all.
    ///
    /// # Panics
    /// When the device does not prove the next key.
    pub(super) fn on_rotate(&mut self, conn: Conn, rotation: Rotation) {
        let Rotation { expect_gen, next, proof, allow, epoch_envelope } = rotation;
        let listed = self.is_listed(conn);
        let Some(Phase::Open(stream)) = self.sessions.get(&conn).and_then(|session| session.phase.as_ref()) else {
            return;
        };
        let handshake = stream.handshake_hash();
        let Some(log) = &mut self.log else { return };
        let id = blob_id(&epoch_envelope);
        let known = log.entries.iter().position(|stored| stored.blob_id == id);
        if let Some(index) = known.filter(|_| log.auth == next || log.older.contains(&next)) {
            let (auth_gen, cursor) = (log.auth_gen, index as u64 + 1);
            return self.rotated(conn, auth_gen, cursor);
        }
        if !listed {
            return self.revoke(conn);
        }
        if log.auth_gen != expect_gen && self.defect != Some(Defect::RelayRotatesTwice) {
            return self.fail(conn, ErrorCode::RotationConflict);
        }
        let proven = hello::verify_rotate(&next, &handshake, &LogName::of(&log.auth), &proof);
        assert!(proven || self.defect.is_some(), "members prove the next key");
        let before = Log { entries: Vec::new(), ..log.clone() };
        self.before_rotations.push((log.entries.len(), before, self.epoch_envelope.clone()));
        log.older.insert(std::mem::replace(&mut log.auth, next));
        log.auth_gen += 1;
        log.restricted = false;
        if self.defect != Some(Defect::RelayKeepsRemoved) {
            log.allow = allow.into_iter().collect();
        }
        let index = known.unwrap_or(log.entries.len());
        if known.is_none() {
            log.entries.push(Stored { blob_id: id, envelope: Some(epoch_envelope.clone()) });
        }
        let auth_gen = log.auth_gen;
        self.epoch_envelope = Some(epoch_envelope);
        self.rotations += 1;
        if self.lose_acks > 0 {
            self.lose_acks -= 1;
            self.hang_ups.push(conn);
        }
        self.rotated(conn, auth_gen, index as u64 + 1);
        self.kick_unlisted();
        self.tell_the_others(auth_gen);
    }

    fn rotated(&mut self, conn: Conn, auth_gen: u64, cursor: u64) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.auth_gen = auth_gen;
            session.superseded = false;
            session.own.insert(cursor);
        }
        self.send(conn, &RelayFrame::Rotated { auth_gen, cursor });
    }

    pub(super) fn members_here(&self) -> Vec<Conn> {
        self.sessions.iter().filter(|(_, session)| session.member).map(|(conn, _)| *conn).collect()
    }

    fn kick_unlisted(&mut self) {
        for conn in self.members_here() {
            if !self.is_listed(conn) {
                self.revoke(conn);
            }
        }
    }

    fn tell_the_others(&mut self, auth_gen: u64) {
        if self.defect == Some(Defect::RelayKeepsRemoved) {
            return;
        }
        for conn in self.members_here() {
            let session = &self.sessions[&conn];
            if session.auth_gen < auth_gen && !session.superseded {
                self.tell_superseded(conn);
            }
        }
    }
}
