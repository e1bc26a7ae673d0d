//! Who gets in, who gets back in, who does not.
//!
//! Nothing about a log is told before a signature over this session's handshake was checked,
//! except to a device that the log's allow-list names: it gets the current epoch envelope, which
//! only it and the other members can open.

use std::sync::Arc;

use bytes::Bytes;
use zerok_sync_protocol::envelope::ENVELOPE_BYTES_MIN;
use zerok_sync_protocol::frame::{Limits, LogState, Usage, Who};
use zerok_sync_protocol::limits::{
    ALLOW_LIST_MAX, EPOCH_ENVELOPE_BYTES_MAX, FRAME_BYTES_MAX_GUEST, MINOR_MAX, MINOR_MIN, SUPERSEDED_LOGS_MAX,
};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{
    AuthPublicKey, BlobId, ErrorCode, LogName, NoisePublicKey, RelayFrame, Signature, Timeline, hello,
};

use super::member::Member;
use super::open::{Open, Role};
use crate::core::Core;
use crate::limits::{HELLOS_MAX, RelayLimits};
use crate::metrics::Refusal;
use crate::store::{Admission, Admitted, DeviceNote, GroupKey, Lookup, NewLog, Slot, StoreError};

/// The fields of `Hello`.
pub(super) struct HelloFrame {
    pub(super) minor_min: u8,
    pub(super) minor_max: u8,
    pub(super) who: Who,
    pub(super) create: bool,
    pub(super) token: Option<Bytes>,
}

/// A session that proved the auth key of a log that does not exist, and may make it.
pub(super) struct Founder {
    auth_public: AuthPublicKey,
    minor: u8,
}

impl Open {
    /// Answers `Hello`.
    pub(super) async fn hello(&mut self, core: &Arc<Core>, frame: HelloFrame) {
        if matches!(self.role, Role::Guest) {
            return self.wire.fail(ErrorCode::InvalidMessage, "a guest says Hello once");
        }
        self.hellos = self.hellos.saturating_add(1);
        if self.hellos > HELLOS_MAX {
            self.wire.count(Refusal::Hellos);
            return self.wire.fail(ErrorCode::RateLimited, "too many Hellos on one session: connect again");
        }
        self.finish_pushes(core).await;
        let Some(minor) = common_minor(&frame) else {
            let older = if frame.minor_min > MINOR_MAX { "relay" } else { "client" };
            return self.wire.fail(
                ErrorCode::UnsupportedVersion,
                &format!("the {older} is too old: this relay speaks minor versions {MINOR_MIN} to {MINOR_MAX}"),
            );
        };
        match frame.who {
            Who::Guest {} => self.welcome_guest(core, minor),
            Who::Device {} => self.answer_superseded(core, Denial::Unknown).await,
            Who::Member { auth_public, signature } => {
                if !self.proves(&auth_public, frame.create, &signature) {
                    return self.wire.fail(
                        ErrorCode::Unauthorized,
                        "the Hello's signature is not this session's or not this key's",
                    );
                }
                let may_create = frame.create.then(|| self.may_create(core, frame.token.as_deref()));
                if let Err(error) = self.member_hello(core, minor, auth_public, may_create).await {
                    self.wire.storage_failed(&error);
                }
            }
        }
    }

    /// Answers `Create`.
    pub(super) async fn create(
        &mut self,
        core: &Arc<Core>,
        allow: Vec<NoisePublicKey>,
        epoch_envelope: Bytes,
        envelopes: Vec<Bytes>,
    ) {
        let Role::Founder(founder) = &self.role else {
            return self.wire.fail(ErrorCode::Unauthorized, "Create follows a Welcome with timeline zero");
        };
        let (auth_public, minor) = (founder.auth_public, founder.minor);
        if let Some(code) = refusal_of_epoch(&core.limits, &epoch_envelope)
            .or_else(|| envelopes.iter().find_map(|envelope| refusal_of(&core.limits, envelope)))
        {
            if code == ErrorCode::EnvelopeTooLarge {
                self.wire.count(Refusal::EnvelopeBytes);
            }
            return self.wire.fail(code, "an envelope of Create is too short or too long");
        }
        // Looked at again: several sessions may have been told that there is room for one.
        if let Err(retry_after_ms) = core.admission.make_group(self.origin, core.now().monotonic_ms) {
            self.role = Role::Stranger;
            return self.deny(core, Denial::CreationRate { retry_after_ms });
        }
        let log = NewLog { auth_public, timeline: core.fresh_timeline(), allow, epoch_envelope, envelopes };
        match core.store.create(log, core.now().unix_ms).await {
            Ok(Some(group)) => {
                if let Err(error) = self.admit(core, minor, group, auth_public).await {
                    self.wire.storage_failed(&error);
                }
            }
            Ok(None) => {
                self.role = Role::Stranger;
                self.wire.refuse(ErrorCode::RotationConflict, 0, "the log was made a moment ago: say Hello again");
            }
            Err(error) => self.wire.storage_failed(&error),
        }
    }

    fn may_create(&self, core: &Core, token: Option<&[u8]>) -> Result<(), Denial> {
        if !core.create.allows(token) {
            return Err(Denial::Creation);
        }
        core.admission
            .may_make_group(self.origin, core.now().monotonic_ms)
            .map_err(|retry_after_ms| Denial::CreationRate { retry_after_ms })
    }

    fn deny(&mut self, core: &Core, denial: Denial) {
        // Another Hello may follow on the same session: an older epoch's, or one with a token.
        match denial {
            Denial::Revoked => self.wire.fail(ErrorCode::DeviceRevoked, "the group moved on without this device"),
            Denial::Unknown => self.wire.refuse(ErrorCode::UnknownLog, 0, ErrorCode::UnknownLog.advice()),
            Denial::Creation => {
                core.metrics.refused(Refusal::Creation);
                self.wire.refuse(ErrorCode::CreationRefused, 0, ErrorCode::CreationRefused.advice());
            }
            Denial::CreationRate { retry_after_ms } => {
                core.metrics.refused(Refusal::GroupsPerAddress);
                self.wire.refuse(
                    ErrorCode::CreationRefused,
                    retry_after_ms,
                    "too many groups were made from this address today",
                );
            }
        }
    }

    fn proves(&self, auth_public: &AuthPublicKey, create: bool, signature: &Signature) -> bool {
        hello::verify(auth_public, &self.wire.handshake, create, signature)
    }

    fn welcome_guest(&mut self, core: &Core, minor: u8) {
        if !matches!(self.role, Role::Stranger) {
            return self.wire.fail(ErrorCode::InvalidMessage, "a member's session cannot become a guest's");
        }
        self.role = Role::Guest;
        self.wire.set_frame_bytes_max(FRAME_BYTES_MAX_GUEST);
        self.wire.send(&RelayFrame::Welcome {
            minor,
            log: None,
            limits: limits(&core.limits),
            usage: Usage { group_bytes: 0 },
            slot: Bytes::new(),
            allow: List::empty(),
        });
    }

    /// `may_create` is `None` unless creation was asked for.
    async fn member_hello(
        &mut self,
        core: &Arc<Core>,
        minor: u8,
        auth_public: AuthPublicKey,
        may_create: Option<Result<(), Denial>>,
    ) -> Result<(), StoreError> {
        match core.store.lookup(&LogName::of(&auth_public)).await? {
            Lookup::Current(group) => self.admit(core, minor, group, auth_public).await?,
            Lookup::Superseded(_) => self.answer_superseded(core, Denial::Revoked).await,
            Lookup::Unknown => match may_create {
                Some(Ok(())) => self.welcome_founder(core, minor, auth_public),
                Some(Err(denial)) => self.answer_superseded(core, denial).await,
                None => self.answer_superseded(core, Denial::Unknown).await,
            },
        }
        Ok(())
    }

    async fn admit(
        &mut self,
        core: &Arc<Core>,
        minor: u8,
        group: GroupKey,
        auth_public: AuthPublicKey,
    ) -> Result<(), StoreError> {
        let now_ms = core.now().unix_ms;
        let device = self.wire.device;
        match core.store.admit(group, &auth_public, &device, now_ms).await? {
            Admission::Admitted(admitted) => {
                self.welcome_member(core, minor, group, auth_public, admitted);
                let seen = DeviceNote { group, device, acked: None, slot: None, seen_ms: now_ms, durable: false };
                core.writer.note(seen).await;
            }
            Admission::ListFull => {
                self.wire.count(Refusal::Devices);
                self.wire.fail(ErrorCode::TooManyConnections, "the group has as many devices as it may: remove one");
            }
            Admission::Restricted => {
                self.wire.fail(
                    ErrorCode::DeviceRevoked,
                    "a removal is under way and this device is not among those that stay",
                );
            }
            Admission::Superseded => self.answer_superseded(core, Denial::Revoked).await,
        }
        Ok(())
    }

    fn welcome_founder(&mut self, core: &Core, minor: u8, auth_public: AuthPublicKey) {
        self.role = Role::Founder(Founder { auth_public, minor });
        self.wire.set_frame_bytes_max(core.limits.member_frame_bytes_max());
        self.wire.send(&RelayFrame::Welcome {
            minor,
            log: Some(LogState {
                timeline: Timeline::ZERO,
                auth_gen: 0,
                head: 0,
                head_blob_id: BlobId::ZERO,
                floor: 1,
            }),
            limits: limits(&core.limits),
            usage: Usage { group_bytes: 0 },
            slot: Bytes::new(),
            allow: List::empty(),
        });
    }

    fn welcome_member(
        &mut self,
        core: &Core,
        minor: u8,
        group: GroupKey,
        auth_public: AuthPublicKey,
        admitted: Admitted,
    ) {
        let auth_gen = admitted.state.auth_gen;
        let mut slots = admitted.slots;
        match &mut self.role {
            Role::Member(member) if member.group == group => {
                member.readmit(auth_public, auth_gen);
                // It was shown them when it came, and what came since as it came.
                slots.clear();
            }
            role => {
                *role = Role::Member(Box::new(Member::new(group, auth_public, auth_gen, self.presence.sit(group))));
            }
        }
        core.hub.admitted(group, &admitted.state, admitted.removals);
        self.wire.set_frame_bytes_max(core.limits.member_frame_bytes_max());
        let mut allow = admitted.allow;
        allow.truncate(ALLOW_LIST_MAX);
        self.wire.send(&RelayFrame::Welcome {
            minor,
            log: Some(admitted.state),
            limits: limits(&core.limits),
            usage: Usage { group_bytes: admitted.group_bytes },
            slot: admitted.slot,
            allow: List::try_from(allow).expect("cut to the maximum above"),
        });
        // What the others have said of themselves while this device was away.
        for Slot { device, acked, data } in slots {
            self.wire.caused(data.len() as u64);
            self.wire.send(&RelayFrame::Acked { device, cursor: acked, receipt: Some(data) });
        }
    }

    /// Gives the device the current epoch envelope of each log that lists it; `otherwise` if none
    /// does.
    async fn answer_superseded(&mut self, core: &Arc<Core>, otherwise: Denial) {
        let mut logs = match core.store.logs_of(&self.wire.device).await {
            Ok(logs) => logs,
            Err(error) => return self.wire.storage_failed(&error),
        };
        logs.truncate(SUPERSEDED_LOGS_MAX);
        let more = (0..logs.len()).rev();
        for (log, more) in logs.iter().zip(more) {
            self.wire.send(&RelayFrame::Superseded {
                epoch_envelope: log.epoch_envelope.clone(),
                slot: log.slot.clone(),
                more: u8::try_from(more).expect("at most four logs"),
            });
        }
        if logs.is_empty() {
            self.deny(core, otherwise);
        }
    }
}

/// Why a `Hello` leads to no log.
#[derive(Debug, Clone, Copy)]
enum Denial {
    /// The device is on no list any more.
    Revoked,
    /// There is no such log.
    Unknown,
    /// There is none, and this client may not make it.
    Creation,
    /// The address has made as many as it may; another may follow after this long.
    CreationRate { retry_after_ms: u64 },
}

/// Why an envelope cannot be stored, if so. Its inside is the members' business.
pub(super) fn refusal_of(limits: &RelayLimits, envelope: &Bytes) -> Option<ErrorCode> {
    if envelope.len() as u64 > limits.envelope_bytes_max {
        Some(ErrorCode::EnvelopeTooLarge)
    } else if envelope.len() < ENVELOPE_BYTES_MIN {
        Some(ErrorCode::InvalidMessage)
    } else {
        None
    }
}

/// As [`refusal_of`], for one that the relay hands to a device which has only proven its own key.
pub(super) fn refusal_of_epoch(limits: &RelayLimits, envelope: &Bytes) -> Option<ErrorCode> {
    let too_large = (envelope.len() > EPOCH_ENVELOPE_BYTES_MAX).then_some(ErrorCode::EnvelopeTooLarge);
    too_large.or_else(|| refusal_of(limits, envelope))
}

/// The highest minor version both sides speak.
fn common_minor(frame: &HelloFrame) -> Option<u8> {
    (MINOR_MIN..=MINOR_MAX).rev().find(|minor| (frame.minor_min..=frame.minor_max).contains(minor))
}

/// What `Welcome` says about limits.
fn limits(limits: &RelayLimits) -> Limits {
    Limits {
        envelope_bytes_max: u32::try_from(limits.envelope_bytes_max).unwrap_or(u32::MAX),
        group_bytes_max: limits.group_bytes_max,
        push_bytes_in_flight_max: limits.push_bytes_in_flight_max,
        idle_days_max: u32::try_from(limits.idle_days_max).unwrap_or(u32::MAX),
    }
}
