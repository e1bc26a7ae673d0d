//! Links to a relay: ordered pipes of whole messages, over WebSocket or iroh alike.
//!
//! A link is one task. It dials, says [`LinkInput::Up`], then moves messages both ways at once, so
//! that a peer that does not read cannot keep us from reading. What it hears goes into the driver's
//! bounded queue (a slow driver slows the link down); what it is to send waits in a bounded queue
//! of its own, whose overflow ends the link. Nothing here looks inside a message.

mod dial;
mod iroh;
#[cfg(test)]
mod tests;
mod websocket;
mod well_known;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use zerok_sync_core::io::{LinkDownReason, LinkId, RelayAddress};
use zerok_sync_protocol::close;

pub use dial::{ParseTransportError, Transport};

pub(crate) use dial::{Dialer, normal_origin};

/// Messages that may wait to be sent. A machine bounds what is unanswered far below; a queue this
/// long means a peer that stopped reading.
const OUTGOING_MESSAGES_MAX: usize = 4_096;
/// How long a link that was told to close may take to send what it still has.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// Longest sentence of a peer that is passed on to people.
const PEER_TEXT_CHARS_MAX: usize = 200;

/// What happened to a link.
#[derive(Debug)]
pub(crate) enum LinkInput {
    /// It stands.
    Up,
    /// One whole message came.
    Message(Bytes),
    /// It ended or never stood. The last thing said about it.
    Down(LinkDownReason),
}

/// The driver's end of a link. Dropping it cuts the link off.
pub(crate) struct Link {
    outgoing: mpsc::Sender<Bytes>,
    closing: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// The peer reads more slowly than any real one does.
pub(crate) struct Congested;

impl Link {
    /// Dials in a task of its own; everything about the link goes to `inputs`.
    pub(crate) fn open(
        id: LinkId,
        relay: RelayAddress,
        dialer: Arc<Dialer>,
        inputs: mpsc::Sender<(LinkId, LinkInput)>,
    ) -> Self {
        let (outgoing, queue) = mpsc::channel(OUTGOING_MESSAGES_MAX);
        let (closing, closed) = oneshot::channel();
        let task = tokio::spawn(async move {
            let work = run(id, &relay, &dialer, queue, &inputs);
            let reason = tokio::select! {
                reason = work => reason,
                () = close_deadline(closed) => None,
            };
            if let Some(reason) = reason {
                // A driver that is gone needs no farewell.
                let _ = inputs.send((id, LinkInput::Down(reason))).await;
            }
        });
        Self { outgoing, closing, task }
    }

    /// Queues one message.
    pub(crate) fn send(&self, message: Bytes) -> Result<(), Congested> {
        match self.outgoing.try_send(message) {
            // A link that has just ended says so itself.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Congested),
        }
    }

    /// Sends what is queued, within a deadline, and closes. The returned task ends when that is
    /// done; nothing has to wait for it.
    pub(crate) fn close(self) -> JoinHandle<()> {
        drop(self.outgoing);
        drop(self.closing);
        self.task
    }

    /// Ends the link at once.
    pub(crate) fn cut(self) {
        self.task.abort();
    }
}

/// Resolves a while after the driver let go of the link.
async fn close_deadline(closed: oneshot::Receiver<()>) {
    let _dropped = closed.await;
    tokio::time::sleep(CLOSE_DEADLINE).await;
}

/// Returns why the link ended, or nothing if the driver closed it.
async fn run(
    id: LinkId,
    relay: &RelayAddress,
    dialer: &Dialer,
    mut queue: mpsc::Receiver<Bytes>,
    inputs: &mpsc::Sender<(LinkId, LinkInput)>,
) -> Option<LinkDownReason> {
    let (mut sender, mut receiver) = match dialer.dial(&relay.url).await {
        Ok(halves) => halves,
        Err(reason) => return Some(reason),
    };
    inputs.send((id, LinkInput::Up)).await.ok()?;

    let read = async {
        loop {
            match receiver.receive().await {
                Ok(message) => inputs.send((id, LinkInput::Message(message))).await.ok()?,
                Err(reason) => return Some(reason),
            }
        }
    };
    let write = async {
        let mut failed = None;
        while failed.is_none()
            && let Some(message) = queue.recv().await
        {
            failed = write_all_waiting(&mut sender, message, &mut queue).await.err();
        }
        if failed.is_none() {
            sender.close().await;
        }
        failed
    };
    tokio::pin!(read, write);
    tokio::select! {
        reason = &mut read => reason,
        // The reader usually knows better why: the peer's close frame lies in front of the reset.
        Some(reason) = &mut write => {
            tokio::time::timeout(CLOSE_DEADLINE, read).await.unwrap_or(Some(reason))
        }
        else => None,
    }
}

/// Writes `first` and what else waits already, and flushes once.
async fn write_all_waiting(
    sender: &mut Sender,
    first: Bytes,
    queue: &mut mpsc::Receiver<Bytes>,
) -> Result<(), LinkDownReason> {
    sender.feed(first).await?;
    while let Ok(next) = queue.try_recv() {
        sender.feed(next).await?;
    }
    sender.flush().await
}

/// The sending half of either transport.
enum Sender {
    WebSocket(websocket::Sender),
    Iroh(iroh::Sender),
}

/// The receiving half of either transport.
enum Receiver {
    WebSocket(websocket::Receiver),
    Iroh(iroh::Receiver),
}

impl Sender {
    async fn feed(&mut self, message: Bytes) -> Result<(), LinkDownReason> {
        match self {
            Self::WebSocket(sender) => sender.feed(message).await,
            Self::Iroh(sender) => sender.feed(message).await,
        }
    }

    async fn flush(&mut self) -> Result<(), LinkDownReason> {
        match self {
            Self::WebSocket(sender) => sender.flush().await,
            // QUIC sends by itself.
            Self::Iroh(_) => Ok(()),
        }
    }

    /// Says goodbye and waits until the peer has what was sent.
    async fn close(&mut self) {
        match self {
            Self::WebSocket(sender) => sender.close().await,
            Self::Iroh(sender) => sender.close().await,
        }
    }
}

impl Receiver {
    async fn receive(&mut self) -> Result<Bytes, LinkDownReason> {
        match self {
            Self::WebSocket(receiver) => receiver.receive().await,
            Self::Iroh(receiver) => receiver.receive().await,
        }
    }
}

/// What a relay meant by closing with this number, on either transport.
fn closed(code: u64, reason: &[u8]) -> LinkDownReason {
    match u16::try_from(code) {
        Ok(close::UNSUPPORTED_VERSION) => LinkDownReason::UnsupportedVersion(peer_text(reason)),
        Ok(close::TRY_LATER) => {
            LinkDownReason::TryLater { retry_after_ms: close::retry_after_ms(&String::from_utf8_lossy(reason)) }
        }
        _ => LinkDownReason::Closed,
    }
}

/// What a peer said, fit to be shown: bounded, and without anything that moves a cursor.
fn peer_text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !c.is_control()).take(PEER_TEXT_CHARS_MAX).collect()
}
