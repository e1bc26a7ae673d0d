//! Letting another device in: a mailbox at the relay, a pairing in it, a person's word.
//!
//! One invitation at a time, good for one attempt. It lives in memory only: a crash before the
//! grant leaves nothing, after it the joiner can finish alone.

use std::cmp::Reverse;

use litemap::LiteMap;
use zerok_sync_protocol::limits::MAILBOX_TTL_MS;
use zerok_sync_protocol::{ClientFrame, MailboxId};

use super::Engine;
use super::relay::{Relay, RelayAt};
use super::rows::ChainRow;
use crate::certificate::{Card, DeviceName};
use crate::code::PairingCode;
use crate::content::{SeenHash, SeenItem};
use crate::error::{JoinError, Problem};
use crate::event::Event;
use crate::genesis::Genesis;
use crate::id::DeviceId;
use crate::invite::{Invite, InviteKind};
use crate::io::Now;
use crate::link::{InviteLink, PairingSecret};
use crate::pairing::{Digits, GrantMaterial, GrantedMember, InviterPairing, InviterStep, pairing_psk};

/// An invitation under way.
#[derive(Debug)]
pub(super) struct Invitation {
    /// The relay with the mailbox.
    at: RelayAt,
    kind: InviteKind,
    ttl_ms: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The relay is not reached yet.
    Wanted,
    /// `MailboxOpen` is out.
    Opening,
    /// The link or code is out; a joiner may be there.
    Pairing { pairing: Box<InviterPairing>, card: Option<Card> },
}

impl Engine {
    /// Makes an invitation: [`Event::InviteReady`] with a link or code as soon as the relay has
    /// opened a mailbox, then [`Event::JoinerWaiting`], and at the end [`Event::InviteAccepted`] or
    /// [`Event::InviteFailed`]. An invitation that is under way is cancelled.
    pub fn invite(&mut self, now: Now, kind: InviteKind, ttl_ms: u64) {
        self.cancel_invite(now);
        let (at, ttl_ms) = (self.relays.home(), ttl_ms.min(MAILBOX_TTL_MS));
        self.invitation = Some(Invitation { at, kind, ttl_ms, state: State::Wanted });
        self.open_mailbox();
        self.step(now);
    }

    /// The answer to [`Event::JoinerWaiting`]: what the person read on the joining device. Other
    /// digits than it shows end the invitation on both sides with [`JoinError::WrongDigits`].
    pub fn answer_joiner(&mut self, now: Now, typed: Digits) {
        let checked = match self.pairing_with_joiner() {
            Some(pairing) => pairing.check_digits(typed),
            None => return,
        };
        match checked {
            Ok(()) => self.let_in(),
            Err((error, message)) => {
                message.into_iter().for_each(|message| self.mailbox_send(message));
                self.end_invitation(error);
            }
        }
        self.step(now);
    }

    /// Lets in whoever holds the invitation, unseen: for scripts, where no person looks at a screen.
    pub fn accept_joiner_unchecked(&mut self, now: Now) {
        if self.pairing_with_joiner().is_some() {
            self.let_in();
        }
        self.step(now);
    }

    /// The person said no to [`Event::JoinerWaiting`].
    pub fn decline_joiner(&mut self, now: Now) {
        if self.pairing_with_joiner().is_some() {
            self.decline();
        }
        self.step(now);
    }

    /// The pairing, if somebody waits for an answer.
    fn pairing_with_joiner(&mut self) -> Option<&mut InviterPairing> {
        match &mut self.invitation {
            Some(Invitation { state: State::Pairing { pairing, card: Some(_) }, .. }) => Some(pairing),
            _ => None,
        }
    }

    /// Hands over what a member needs, if this device can vouch for it now.
    fn let_in(&mut self) {
        let material = self.grant_material();
        let Some(Invitation { state: State::Pairing { pairing, card }, .. }) = &mut self.invitation else { return };
        let Some(card) = card.take() else { return };
        let collides = self.members.keys().any(|member| member.tag() == card.keys.device.tag());
        match material {
            Some(material) if !collides => match pairing.accept(&material) {
                Ok(message) => {
                    self.note_grant(&card);
                    self.mailbox_send(message);
                }
                Err(error) => self.end_invitation(error),
            },
            _ => self.decline(),
        }
    }

    fn decline(&mut self) {
        if let Some(Invitation { state: State::Pairing { pairing, .. }, .. }) = &mut self.invitation {
            let message = pairing.decline();
            message.into_iter().for_each(|message| self.mailbox_send(message));
            self.end_invitation(JoinError::Declined);
        }
    }

    /// Takes an invitation back. Once the keys are out that is too late: it ends as unconfirmed.
    pub fn cancel_invite(&mut self, now: Now) {
        let Some(invitation) = &mut self.invitation else { return };
        let mut error = JoinError::Cancelled;
        if let State::Pairing { pairing, .. } = &mut invitation.state {
            if pairing.awaits_confirmation() {
                error = JoinError::Unconfirmed;
            }
            let message = pairing.decline();
            message.into_iter().for_each(|message| self.mailbox_send(message));
        }
        self.end_invitation(error);
        self.step(now);
    }

    /// Asks for a mailbox if one is wanted and the relay is there.
    pub(super) fn open_mailbox(&mut self) {
        let Some(invitation) = &mut self.invitation else { return };
        let Some(at) = self.relays.first_live() else { return };
        let Some(open) = self.relays[at].session.live() else { return };
        if matches!(invitation.state, State::Wanted) {
            invitation.at = at;
            let short = invitation.kind == InviteKind::Code;
            open.send(&ClientFrame::MailboxOpen { short, ttl_ms: invitation.ttl_ms });
            invitation.state = State::Opening;
        }
    }

    /// The mailbox is open: the link or code can be shown.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`] when none was asked for, or another kind of one.
    pub(super) fn on_mailbox_opened(
        &mut self,
        at: RelayAt,
        mailbox: MailboxId,
        salt: &[u8],
        expires_in_ms: u64,
    ) -> Result<(), Problem> {
        if let Some(open) = self.relays[at].session.live()
            && open.mailboxes_given_up > 0
        {
            open.mailboxes_given_up -= 1;
            return Ok(());
        }
        let Some(invitation) = &mut self.invitation else { return Ok(()) };
        if !matches!(invitation.state, State::Opening) || invitation.at != at {
            return Err(Problem::ProtocolViolation("a mailbox that was not asked for"));
        }
        let me = self.me.clone();
        let (pairing, invite) = match &invitation.kind {
            InviteKind::Link { base } => {
                let secret = PairingSecret::generate(&mut self.rng);
                let pairing = InviterPairing::by_link(&mailbox, pairing_psk(secret.expose()), me);
                (
                    pairing,
                    InviteLink::new(base.as_deref(), &self.relays[at].address(), mailbox, secret).map(Invite::Link),
                )
            }
            InviteKind::Code => {
                let code = PairingCode::generate(mailbox, &mut self.rng)
                    .ok_or(Problem::ProtocolViolation("a mailbox whose id does not fit a code"))?;
                (InviterPairing::by_code(code.clone(), salt, me), Ok(Invite::Code(code)))
            }
        };
        invitation.state = State::Pairing { pairing: Box::new(pairing), card: None };
        match invite {
            Ok(invite) => {
                let expires_in_ms = expires_in_ms.min(MAILBOX_TTL_MS);
                self.event(Event::InviteReady { invite, expires_in_ms });
            }
            Err(_) => self.end_invitation(JoinError::Invalid("an address that no link can be made of")),
        }
        Ok(())
    }

    pub(super) fn on_mailbox_message(&mut self, at: RelayAt, data: &[u8]) {
        let Some(Invitation { at: mine, state: State::Pairing { pairing, card }, .. }) = &mut self.invitation else {
            return;
        };
        if *mine != at {
            return;
        }
        match pairing.receive(data, &mut self.rng) {
            Ok(InviterStep::Send(message)) => self.mailbox_send(message),
            Ok(InviterStep::Ask { card: asking }) => {
                let name = asking.name.to_string();
                *card = Some(asking);
                let members = self.members.values().map(|member| member.name.clone()).collect();
                self.event(Event::JoinerWaiting { name, entries: self.progress.position, members });
            }
            Ok(InviterStep::Accepted { certificate }) => {
                let card = certificate.card();
                self.close_mailbox();
                self.invitation = None;
                self.event(Event::InviteAccepted { device: card.keys.device, name: card.name.to_string() });
            }
            Err(error) => self.end_invitation(error),
        }
    }

    /// The relay says the mailbox is gone. One that is not open yet cannot be meant.
    pub(super) fn on_mailbox_closed(&mut self, at: RelayAt) {
        if matches!(self.invitation, Some(Invitation { at: mine, state: State::Pairing { .. }, .. }) if mine == at) {
            self.invitation_gone();
        }
    }

    /// The relay refused something about a mailbox; it may have closed while that was on its way.
    pub(super) fn on_mailbox_refused(&mut self, at: RelayAt) {
        if let Some(open) = self.relays[at].session.live()
            && open.mailboxes_given_up > 0
        {
            open.mailboxes_given_up -= 1;
            return;
        }
        if self.invitation.as_ref().is_some_and(|invitation| invitation.at == at) {
            self.invitation_gone();
        }
    }

    fn invitation_gone(&mut self) {
        if let Some(invitation) = self.invitation.take() {
            let error = match invitation.state {
                State::Pairing { mut pairing, .. } => pairing.closed(),
                State::Wanted | State::Opening => JoinError::InviteGone,
            };
            self.event(Event::InviteFailed(error));
        }
    }

    /// The link to the relay is gone, and the mailbox's session with it. One that is only wanted
    /// waits for the next.
    pub(super) fn invitation_lost(&mut self, at: RelayAt, problem: Option<&Problem>) {
        let Some(invitation) = self.invitation.as_mut().filter(|invitation| invitation.at == at) else { return };
        match &mut invitation.state {
            State::Wanted | State::Opening => invitation.state = State::Wanted,
            State::Pairing { pairing, .. } => {
                let error = match (pairing.closed(), problem) {
                    (JoinError::Unconfirmed, _) => JoinError::Unconfirmed,
                    (error, None) => error,
                    (_, Some(problem)) => JoinError::Relay(problem.clone()),
                };
                self.invitation = None;
                self.event(Event::InviteFailed(error));
            }
        }
    }

    fn end_invitation(&mut self, error: JoinError) {
        self.close_mailbox();
        self.invitation = None;
        self.event(Event::InviteFailed(error));
    }

    fn mailbox_send(&mut self, message: Vec<u8>) {
        let Some(invitation) = &self.invitation else { return };
        if let Some(open) = self.relays[invitation.at].session.live() {
            open.send(&ClientFrame::MailboxSend { data: message.into() });
        }
    }

    fn close_mailbox(&mut self) {
        let Some(invitation) = &self.invitation else { return };
        let opening = matches!(invitation.state, State::Opening);
        let opened = matches!(invitation.state, State::Pairing { .. });
        if (opening || opened)
            && let Some(open) = self.relays[invitation.at].session.live()
        {
            open.mailboxes_given_up += usize::from(opening);
            open.send(&ClientFrame::MailboxClose {});
        }
    }

    /// What a new member needs, as of now. `None` when this device cannot vouch for itself yet.
    fn grant_material(&self) -> Option<GrantMaterial> {
        let own = self.members.get(&self.me.device())?;
        // A certificate is good for the newest epoch only.
        let at = self.invitation.as_ref()?.at;
        let in_epoch = self.keys_for_hello(at).id == self.keyring.current().id;
        if self.check_acts().is_err() || self.is_rotating() || !in_epoch {
            return None;
        }
        let relay = &self.relays[at];
        Some(GrantMaterial {
            genesis: Genesis::parse(self.genesis.clone()).ok()?,
            keyring: self.keyring_to_hand_on(),
            inviter_certificate: own.certificate.clone(),
            observed: relay.observed().filter(|_| !relay.row.observed.is_zero()),
            relays: self.relays.iter().map(Relay::address).collect(),
            frontier: frontier(&self.chains, |device| self.members.contains_key(device)),
            history_start: self.history_start(at),
            members: self
                .members
                .iter()
                .map(|(device, member)| GrantedMember { device: *device, name: DeviceName::cleaned(&member.name) })
                .collect(),
        })
    }
}

/// How far the chains go: those of members first, then those whose authors wrote last. What a former
/// member wrote and is not in it waits at the joining device for the epochs, which name its end.
fn frontier(chains: &LiteMap<DeviceId, ChainRow>, is_member: impl Fn(&DeviceId) -> bool) -> Vec<SeenItem> {
    let mut chains: Vec<_> = chains.iter().collect();
    chains.sort_by_key(|(device, chain)| (!is_member(device), Reverse(chain.sent_at_ms)));
    let item = |(device, chain): (&DeviceId, &ChainRow)| SeenItem {
        tag: device.tag(),
        seq: chain.seq,
        hash: SeenHash::of(&chain.blob_id),
    };
    chains.into_iter().map(item).collect()
}

#[cfg(test)]
mod tests {
    use zerok_sync_protocol::BlobId;

    use super::*;

    #[test]
    fn a_member_that_wrote_long_ago_comes_before_a_former_one_that_wrote_lately() {
        let chain = |sent_at_ms| ChainRow { seq: 1, blob_id: BlobId::ZERO, said_seq: 0, sent_at_ms };
        let devices = [1, 2, 3].map(|number| DeviceId([number; 32]));
        let chains = devices.into_iter().zip([300, 200, 100].map(chain)).collect();
        let named = frontier(&chains, |device| *device == devices[2]);
        let tags = [2, 0, 1].map(|at: usize| devices[at].tag());
        assert_eq!(named.iter().map(|item| item.tag).collect::<Vec<_>>(), tags);
    }
}
