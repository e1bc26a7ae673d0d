//! Getting in, from the handshake's end to a live session.
//!
//! `Hello` is by the newest epoch's auth key, then by older ones', then by the device key alone;
//! `create` only where this device is to make the log and it has never stood: a relay that forgot
//! the log is reported, not papered over.

use zerok_sync_protocol::frame::{Limits, LogState, Who};
use zerok_sync_protocol::hello;
use zerok_sync_protocol::limits::{
    ENVELOPE_BYTES_MAX_CEILING, FRAME_OVERHEAD_BYTES_MAX, MINOR_MAX, MINOR_MIN, TOKEN_BYTES_MAX,
};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{ClientFrame, EpochId};

use super::session::{Phase, State};
use crate::engine::Engine;
use crate::engine::comparing::Anchor;
use crate::engine::relay::RelayAt;
use crate::error::Problem;
use crate::event::Event;
use crate::io::Now;

impl Engine {
    /// The first `Hello` of a link: by the newest epoch's auth key.
    pub(in crate::engine) fn say_hello(&mut self, at: RelayAt) {
        if let State::Open(open) = &mut self.relays[at].session.state {
            open.phase = Phase::Hello;
            open.hello_attempt = 0;
            if open.as_paper {
                // Nothing is made and nothing found out as the paper.
                return self.hello_as_member(at, self.keyring.current().id, false);
            }
        }
        self.try_hello(at);
    }

    /// The relay did not know that name: an older epoch's (it was rolled back, or missed a
    /// rotation), then by the device key alone (it forgot the names). `false` if all was tried.
    pub(super) fn try_next_hello(&mut self, at: RelayAt) -> bool {
        match &mut self.relays[at].session.state {
            State::Open(open) if open.phase == Phase::Hello => open.hello_attempt += 1,
            _ => return false,
        }
        self.try_hello(at)
    }

    fn try_hello(&mut self, at: RelayAt) -> bool {
        let State::Open(open) = &self.relays[at].session.state else { return false };
        let newest = self.keys_for_hello(at);
        let older = self.keyring.iter().rev().filter(|keys| keys.id != newest.id && !self.relays[at].squatted);
        let candidates: Vec<_> = std::iter::once(newest).chain(older).map(|keys| keys.id).collect();
        let attempt = open.hello_attempt;
        match candidates.get(attempt) {
            Some(&epoch) => {
                // Only where the log has never stood, and only by the newest name.
                let create = attempt == 0 && self.relays[at].row.creation.is_some();
                self.hello_as_member(at, epoch, create);
            }
            None if attempt == candidates.len() => {
                // By no name: whatever it is answered with is news.
                if let State::Open(open) = &mut self.relays[at].session.state {
                    open.hello_by = EpochId::ZERO;
                }
                self.send_hello(at, Who::Device {}, false);
            }
            None => return false,
        }
        true
    }

    /// Proves membership by the auth key of an epoch whose keys are held.
    pub(in crate::engine) fn hello_as_member(&mut self, at: RelayAt, epoch: EpochId, create: bool) {
        let relay = &mut self.relays[at];
        let held = relay.hello_epoch.as_ref().filter(|keys| keys.id == epoch).or_else(|| self.keyring.get(&epoch));
        let (Some(keys), State::Open(open)) = (held, &mut relay.session.state) else { return };
        open.hello_by = epoch;
        let signature = hello::sign(&keys.auth, &open.handshake, create);
        let who = Who::Member { auth_public: keys.auth_public(), signature };
        self.send_hello(at, who, create);
    }

    fn send_hello(&mut self, at: RelayAt, who: Who, create: bool) {
        let relay = &mut self.relays[at];
        let creation = relay.row.creation.as_ref().filter(|_| create);
        let token = creation.and_then(|it| it.token.clone()).filter(|token| token.len() <= TOKEN_BYTES_MAX);
        let hello = ClientFrame::Hello { minor_min: MINOR_MIN, minor_max: MINOR_MAX, who, create, token };
        if let State::Open(open) = &mut relay.session.state {
            open.send(&hello);
        }
    }

    pub(super) fn on_welcome(&mut self, now: Now, at: RelayAt, log: LogState, limits: Limits) {
        let relay = &mut self.relays[at];
        let State::Open(open) = &mut relay.session.state else { return };
        if log.timeline.is_zero() {
            return match &relay.row.creation {
                Some(creation) if open.phase == Phase::Hello => {
                    open.phase = Phase::Creating;
                    // Who has the group's keys comes in anyhow; the paper, who has not, by this list only.
                    let members = self.members.values().map(|member| member.keys.noise);
                    let others = members.filter(|noise| *noise != self.me.keys.noise);
                    let allow: Vec<_> = std::iter::once(self.me.keys.noise).chain(others).collect();
                    let frame = ClientFrame::Create {
                        allow: List::try_from(allow).expect("a group has no more members than the list places"),
                        epoch_envelope: creation.epoch_envelope.clone(),
                        envelopes: List::empty(),
                    };
                    open.send(&frame);
                }
                _ => self.refused(now, at, Problem::ProtocolViolation("a log without a history")),
            };
        }
        let limits = clamp(limits);
        open.relay.set_frame_bytes_max(limits.envelope_bytes_max as usize + FRAME_OVERHEAD_BYTES_MAX);
        let created = std::mem::replace(&mut open.phase, Phase::Live) == Phase::Creating;
        open.head = log.head;
        open.limits = Some(limits);
        let relay_key = open.relay_key;
        open.log = Some(log.clone());

        relay.truncation.asked = None;
        self.set_floor(at, log.floor.min(log.head.saturating_add(1)));
        let relay = &mut self.relays[at];
        let made_again = created && !relay.row.timeline.is_zero();
        if relay.row.key.is_none() || relay.row.creation.is_some() {
            relay.row.key = Some(relay_key);
            relay.row.creation = None;
            relay.changed = true;
        }
        relay.sending.restart(relay.row.acked_seq);
        if relay.row.timeline.is_zero() {
            relay.row.timeline = log.timeline;
            relay.changed = true;
        }
        if made_again {
            relay.begin_timeline(log.timeline, Anchor::start(), true);
            self.stand_on_base(at);
            self.stand_on_covered(at);
            self.tell_of_what_was_caught(at);
        }
        let relay = &mut self.relays[at];
        relay.note_timeline_said(log.timeline);
        if log.timeline != relay.row.timeline || log.head < relay.row.cursor {
            self.compare(at);
        } else if relay.leave_order && relay.recheck_wanted.is_none() {
            self.leave_order(at);
        } else {
            self.subscribe(at);
        }
        self.set_problem(at, self.progress.copied.then_some(Problem::NeedsApproval));
        self.expect_granted_order(at);
        self.open_mailbox();
        self.event(Event::StatusChanged);
    }

    /// The relay has let this device in by the next epoch's name, on the same session: its
    /// subscription goes on, pushes begin again.
    pub(super) fn on_readmitted(&mut self, now: Now, at: RelayAt, log: LogState) {
        if log.timeline != self.relays[at].row.timeline {
            return self.diverged(now, at);
        }
        if let Some(open) = self.relays[at].session.live() {
            open.superseded = false;
            open.log = Some(log);
        }
    }

    /// Whether a relay that forgot the log knows it by an older name only, and there as somebody
    /// else's: any device with the keys of that time can make a log of that name, one that was
    /// removed, too. That is no word about this device, and the newest name is still free.
    pub(super) fn is_squatted(&self, at: RelayAt) -> bool {
        let relay = &self.relays[at];
        let by_older_name =
            matches!(&relay.session.state, State::Open(open) if open.phase == Phase::Hello && open.hello_attempt > 0);
        by_older_name && relay.row.cursor > 0 && !relay.squatted
    }
}

/// A relay's numbers are believed within reason only.
fn clamp(limits: Limits) -> Limits {
    Limits { envelope_bytes_max: limits.envelope_bytes_max.clamp(4 * 1024, ENVELOPE_BYTES_MAX_CEILING), ..limits }
}
