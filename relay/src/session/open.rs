//! The session behind the handshake: which frames mean something in which role.

use std::future::pending;
use std::sync::Arc;

use zerok_sync_protocol::{ClientFrame, ErrorCode, RelayFrame};

use super::hello::{Founder, HelloFrame};
use super::mailbox::MailboxDoor;
use super::member::{Member, REVOKED};
use super::wire::Wire;
use crate::admission::{Held, Origin};
use crate::core::Core;
use crate::hub::{Kick, Presence};
use crate::limits::BUSY_RETRY_AFTER_MS;
use crate::link::Close;
use crate::metrics::Refusal;

/// A session whose channel stands.
pub(super) struct Open {
    pub(super) wire: Wire,
    pub(super) presence: Presence,
    pub(super) role: Role,
    /// Whose limits the session counts against.
    pub(super) origin: Origin,
    /// What is kept of what it sent.
    held: Held,
    /// `Hello` frames so far.
    pub(super) hellos: u8,
    /// The one mailbox that the session opened or joined; few sessions ever do.
    pub(super) mailbox: Option<Box<MailboxDoor>>,
}

/// What a session may do.
pub(super) enum Role {
    /// Say `Hello`.
    Stranger,
    /// Use mailboxes, with a throw-away key.
    Guest,
    /// Make the log that its `Hello` named.
    Founder(Founder),
    /// Everything about one log.
    Member(Box<Member>),
}

impl Open {
    pub(super) fn new(wire: Wire, presence: Presence, origin: Origin, held: Held) -> Self {
        Self { wire, presence, role: Role::Stranger, origin, held, hellos: 0, mailbox: None }
    }

    /// Whether a `Hello` counted, and with it the session's first deadline is met.
    pub(super) fn is_admitted(&self) -> bool {
        !matches!(self.role, Role::Stranger)
    }

    pub(super) fn wants_input(&self) -> bool {
        !self.wire.is_full() && self.wire.closing().is_none()
    }

    pub(super) async fn receive(&mut self, core: &Arc<Core>, message: &[u8]) {
        self.presence.touch(core.now().monotonic_ms);
        self.wire.receive(message);
        if !self.held.set(self.kept_bytes()) {
            self.wire.count(Refusal::PartialFrames);
            let why = "too many long frames are on their way to this relay: come back shortly";
            self.wire.refuse(ErrorCode::Overloaded, BUSY_RETRY_AFTER_MS, why);
            return self.wire.close(Close::new(Close::REFUSED, ErrorCode::Overloaded.advice()));
        }
        self.take_frames(core).await;
    }

    pub(super) async fn work(&mut self, core: &Arc<Core>) {
        if self.wire.closing().is_none()
            && let Some(kick) = self.presence.kicked()
        {
            // What was pushed before is answered.
            Box::pin(self.finish_pushes(core)).await;
            say_goodbye(&mut self.wire, kick);
        }
        // Frames may have been left when too much waited to go out.
        self.take_frames(core).await;
        if let Role::Member(member) = &mut self.role {
            member.work(core, &mut self.wire).await;
        }
        if self.mailbox.is_some() {
            Box::pin(self.work_mailbox(core)).await;
        }
    }

    /// Waits for the hub or the mailbox. Cancel-safe.
    pub(super) async fn woken(&mut self) {
        let Self { presence, mailbox, .. } = self;
        tokio::select! {
            () = presence.rung() => {}
            () = async {
                match mailbox {
                    Some(door) => door.woken().await,
                    None => pending().await,
                }
            } => {}
        }
    }

    /// When the mailbox wants to be looked at without a doorbell.
    pub(super) fn poll_at_ms(&self) -> Option<u64> {
        self.mailbox.as_deref().and_then(MailboxDoor::poll_at_ms)
    }

    pub(super) fn handle_timeout(&mut self, now_ms: u64) {
        if let Some(door) = &mut self.mailbox {
            door.handle_timeout(now_ms);
        }
    }

    /// The link is gone.
    pub(super) async fn leave(&mut self, core: &Arc<Core>) {
        self.finish_pushes(core).await;
        self.leave_mailbox(core).await;
    }

    /// Appends what was pushed before whatever comes next.
    pub(super) async fn finish_pushes(&mut self, core: &Arc<Core>) {
        if let Role::Member(member) = &mut self.role {
            member.finish_pushes(core, &mut self.wire).await;
        }
    }

    /// Bytes of frames that are not whole, and of pushes that wait for others to come.
    fn kept_bytes(&self) -> usize {
        let pushes = if let Role::Member(member) = &self.role { member.pushes.bytes() } else { 0 };
        self.wire.buffered_bytes() + pushes
    }

    async fn take_frames(&mut self, core: &Arc<Core>) {
        while let Some(frame) = self.wire.next_frame() {
            // An idle session's memory is its largest wait: the long ones are boxed while they last.
            Box::pin(self.handle(core, frame)).await;
        }
        // Whoever adds to it is asked, not whoever is done with a part.
        let _ = self.held.set(self.kept_bytes());
    }

    async fn handle(&mut self, core: &Arc<Core>, frame: ClientFrame) {
        match frame {
            ClientFrame::Ping {} => self.wire.send(&RelayFrame::Pong {}),
            ClientFrame::Bye {} => {
                self.finish_pushes(core).await;
                self.wire.close(Close::new(Close::NORMAL, ""));
            }
            ClientFrame::Hello { minor_min, minor_max, who, create, token } => {
                self.hello(core, HelloFrame { minor_min, minor_max, who, create, token }).await;
            }
            ClientFrame::Create { allow, epoch_envelope, envelopes } => {
                self.create(core, allow.into_vec(), epoch_envelope, envelopes.into_vec()).await;
            }
            ClientFrame::MailboxOpen { short, ttl_ms } => self.mailbox_open(core, short, ttl_ms).await,
            ClientFrame::MailboxJoin { mailbox } => self.mailbox_join(core, mailbox).await,
            ClientFrame::MailboxSend { data } => self.mailbox_send(core, data).await,
            ClientFrame::MailboxClose {} => self.leave_mailbox(core).await,
            frame => match &mut self.role {
                Role::Member(member) => member.handle(core, &mut self.wire, frame).await,
                _ => self
                    .wire
                    .fail(ErrorCode::Unauthorized, &format!("{} is for members: say Hello first", frame.name())),
            },
        }
    }
}

fn say_goodbye(wire: &mut Wire, kick: Kick) {
    match kick {
        Kick::TooManySessions => {
            wire.count(Refusal::SessionsPerDevice);
            wire.fail(ErrorCode::TooManyConnections, "this device opened another session and has too many");
        }
        Kick::Revoked => wire.fail(ErrorCode::DeviceRevoked, REVOKED),
        Kick::Gone => wire.fail(ErrorCode::UnknownLog, "the group was deleted at this relay"),
        Kick::ShuttingDown { retry_after_ms } => {
            wire.send(&RelayFrame::Bye { retry_after_ms });
            wire.close(Close::new(Close::GOING_AWAY, "the relay is restarting"));
        }
    }
}
