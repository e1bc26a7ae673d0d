//! Letting another device in.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use zerok_sync_core::id::DeviceId;
use zerok_sync_core::{Digits, Event, Invite, InviteKind, JoinError};
use zerok_sync_protocol::limits::MAILBOX_TTL_MS;

use super::Client;
use crate::driver::Command;
use crate::error::ClientError;

/// An invitation has three events at most; one that is not read in time is lost with it.
const EVENTS_MAX: usize = 8;

/// How to invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteOptions {
    /// By a link (or a QR code of it), or by a code that a person types.
    pub kind: InviteKind,
    /// How long the invitation is good for; ten minutes at most.
    pub ttl: Duration,
}

impl Default for InviteOptions {
    fn default() -> Self {
        Self { kind: InviteKind::Link { base: None }, ttl: Duration::from_millis(MAILBOX_TTL_MS) }
    }
}

/// What happens to an invitation, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InviteEvent {
    /// The relay has opened a mailbox: give this to the joining device. It holds the secret.
    Ready {
        /// The link or the code: `to_string()` is what to show.
        invite: Invite,
    },
    /// Somebody who holds it is there: say what would be handed over, ask the person for the two
    /// digits that the other device shows, then call [`Invitation::answer`].
    JoinerWaiting {
        /// What the joining device calls itself. Untrusted text.
        name: String,
        /// How many entries it could read, to begin with.
        entries: u64,
        /// The names of the group's devices.
        members: Vec<String>,
    },
    /// The device is a member. The last event.
    Accepted {
        /// Its identity.
        device: DeviceId,
        /// Its name.
        name: String,
    },
    /// It ended without a new device. The last event.
    Failed(JoinError),
}

/// An invitation under way. Dropping it takes it back.
pub struct Invitation {
    client: Client,
    events: mpsc::Receiver<InviteEvent>,
    ended: bool,
}

/// Where the driver's task finds the invitation that events belong to.
#[derive(Default)]
pub(super) struct Slot(Mutex<Option<mpsc::Sender<InviteEvent>>>);

impl Slot {
    pub(super) fn note(&self, event: Event) {
        let (event, last) = match event {
            Event::InviteReady { invite, .. } => (InviteEvent::Ready { invite }, false),
            Event::JoinerWaiting { name, entries, members } => {
                (InviteEvent::JoinerWaiting { name, entries, members }, false)
            }
            Event::InviteAccepted { device, name } => (InviteEvent::Accepted { device, name }, true),
            Event::InviteFailed(error) => (InviteEvent::Failed(error), true),
            _ => return,
        };
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(events) = slot.as_ref() {
            // The reader has gone, or never read: nothing to tell it.
            let _ = events.try_send(event);
        }
        if last {
            *slot = None;
        }
    }

    fn occupy(&self) -> mpsc::Receiver<InviteEvent> {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }
}

impl Client {
    /// Begins to let another device in: read the returned invitation's events. It waits for the
    /// relay if that is out of reach. One that is under way already is taken back.
    ///
    /// # Errors
    /// [`ClientError::StorageFailed`], [`ClientError::Closed`].
    pub async fn invite(&self, options: InviteOptions) -> Result<Invitation, ClientError> {
        let ttl_ms = u64::try_from(options.ttl.as_millis()).unwrap_or(u64::MAX);
        let slot = self.invitations.clone();
        let events = self
            .ask(move |engine, now| {
                // The old one ends in its own slot, the new one begins in a new one.
                engine.cancel_invite(now);
                let events = slot.occupy();
                engine.invite(now, options.kind, ttl_ms);
                events
            })
            .await?;
        Ok(Invitation { client: self.clone(), events, ended: false })
    }
}

impl Invitation {
    /// The next event.
    ///
    /// # Errors
    /// [`ClientError::Join`] (cancelled) behind the last event, [`ClientError::StorageFailed`],
    /// [`ClientError::Closed`].
    pub async fn next(&mut self) -> Result<InviteEvent, ClientError> {
        if self.ended {
            return Err(JoinError::Cancelled.into());
        }
        let commands = self.client.commands.clone();
        let event = tokio::select! {
            event = self.events.recv() => event,
            () = commands.closed() => return Err(self.client.watched.end()),
        };
        let event = event.unwrap_or(InviteEvent::Failed(JoinError::Cancelled));
        self.ended = matches!(event, InviteEvent::Accepted { .. } | InviteEvent::Failed(_));
        Ok(event)
    }

    /// The answer to [`InviteEvent::JoinerWaiting`]: what the person read on the joining device.
    /// Other digits than it shows end the invitation for both ([`JoinError::WrongDigits`]).
    ///
    /// # Errors
    /// [`ClientError::StorageFailed`], [`ClientError::Closed`].
    pub async fn answer(&self, typed: Digits) -> Result<(), ClientError> {
        self.client.act(move |engine, now| engine.answer_joiner(now, typed)).await
    }

    /// Lets in whoever holds the invitation, unseen: for scripts, where no person looks at a screen.
    ///
    /// # Errors
    /// [`ClientError::StorageFailed`], [`ClientError::Closed`].
    pub async fn accept_unchecked(&self) -> Result<(), ClientError> {
        self.client.act(|engine, now| engine.accept_joiner_unchecked(now)).await
    }

    /// The person said no to [`InviteEvent::JoinerWaiting`].
    ///
    /// # Errors
    /// [`ClientError::StorageFailed`], [`ClientError::Closed`].
    pub async fn decline(&self) -> Result<(), ClientError> {
        self.client.act(|engine, now| engine.decline_joiner(now)).await
    }

    /// Takes the invitation back. [`InviteEvent::Failed`] follows or, if it came too late,
    /// [`InviteEvent::Accepted`].
    ///
    /// # Errors
    /// [`ClientError::StorageFailed`], [`ClientError::Closed`].
    pub async fn take_back(&self) -> Result<(), ClientError> {
        self.client.act(|engine, now| engine.cancel_invite(now)).await
    }
}

impl Drop for Invitation {
    fn drop(&mut self) {
        if !self.ended {
            let cancel = Command::Act(Box::new(|engine: &mut zerok_sync_core::Engine, now| engine.cancel_invite(now)));
            // With a full queue it ends by its time instead.
            let _ = self.client.commands.try_send(cancel);
        }
    }
}
