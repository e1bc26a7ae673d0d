//! Moves messages between a link and a session. No decision about the protocol is made here.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rand_core::Rng;
use tokio::time::{sleep, timeout};
use tracing::Instrument;

use super::Session;
use crate::admission::Peer;
use crate::core::Core;
use crate::link::{Close, Link, LinkError, LinkReader, LinkWriter};

/// Messages taken from a link before the session's other work has its turn.
const READ_AHEAD_MESSAGES_MAX: usize = 64;
/// How long a close may take before the link is dropped.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// How long a client is given to take the goodbye and close its end.
const LINGER: Duration = Duration::from_secs(1);

/// The writing half of a link. A message under way is a future of its own, polled beside whatever
/// the session does: a link that takes nothing holds up nothing but itself, and an idle session
/// keeps neither a task nor a queue for it.
enum Writing {
    Idle(Box<dyn LinkWriter>),
    Busy(BoxFuture<'static, Result<Box<dyn LinkWriter>, LinkError>>),
    Broken,
}

impl Writing {
    fn is_idle(&self) -> bool {
        matches!(self, Self::Idle(_))
    }

    fn is_busy(&self) -> bool {
        matches!(self, Self::Busy(_))
    }

    /// Begins to send a message; what is not idle takes none.
    fn begin(&mut self, message: Bytes) {
        *self = match std::mem::replace(self, Self::Broken) {
            Self::Idle(mut writer) => Self::Busy(
                async move {
                    writer.send(message).await?;
                    Ok(writer)
                }
                .boxed(),
            ),
            busy_or_broken => busy_or_broken,
        };
    }

    /// Waits until no message is under way. Cancel-safe.
    async fn done(&mut self) {
        if let Self::Busy(sending) = self {
            *self = sending.await.map_or(Self::Broken, Self::Idle);
        }
    }

    /// Does `work` to its end and goes on writing meanwhile.
    async fn beside<T>(&mut self, mut work: Pin<&mut impl Future<Output = T>>) -> T {
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => return outcome,
                () = self.done(), if self.is_busy() => {}
            }
        }
    }

    async fn say_goodbye(mut self, close: Close) {
        // Whoever takes nothing more is not waited for.
        let _ = timeout(CLOSE_DEADLINE, async {
            self.done().await;
            if let Self::Idle(writer) = &mut self {
                writer.close(close).await;
            }
        })
        .await;
    }
}

/// Runs one client's session to its end.
///
/// A future holds the arguments of an `async fn` twice, as what was handed over and as what it works
/// on, for as long as it lives, which is as long as the client rests. So what can be made beforehand is.
pub fn run_session(core: Arc<Core>, link: Link, peer: Peer) -> impl Future<Output = ()> + Send {
    // A random number by which the log lines of one session are read together. It is nowhere else.
    let number = || core.rng().next_u32();
    let span = tracing::debug_span!("session", number = number(), transport = peer.transport.as_str());
    let session = Session::new(core, peer);
    let Link { reader, writer } = link;
    drive(session, reader, Writing::Idle(writer)).instrument(span)
}

fn drive(
    mut session: Session,
    mut reader: Box<dyn LinkReader>,
    mut writing: Writing,
) -> impl Future<Output = ()> + Send {
    let core = session.core.clone();
    // Nobody looks at the session's clock while the store is asked: a database that hangs would hold
    // the session, and all that it holds, for ever.
    let patience = Duration::from_millis(core.limits.dead_after_ms);
    async move {
        tracing::debug!("begins");
        let said_goodbye = loop {
            if timeout(patience, writing.beside(pin!(session.work()))).await.is_err() {
                return abandon(session, writing).await;
            }
            if writing.is_idle()
                && let Some(message) = session.poll_transmit()
            {
                writing.begin(message);
            }
            if !session.has_output()
                && let Some(close) = session.closing()
            {
                tracing::debug!(code = close.code, "says goodbye");
                writing.say_goodbye(close.clone()).await;
                break true;
            }
            let now_ms = core.now().monotonic_ms;
            let wait = Duration::from_millis(session.deadline_ms().saturating_sub(now_ms));
            let (wants_input, bytes_max) = (session.wants_input(), session.message_bytes_max());
            tokio::select! {
                received = reader.recv(bytes_max), if wants_input => {
                    let mut received = received;
                    let mut taken = 0;
                    let ended = loop {
                        let taken_in = timeout(patience, writing.beside(pin!(take_in(&mut session, received)))).await;
                        match taken_in {
                            Ok(false) => {}
                            Ok(true) => break true,
                            Err(_) => return abandon(session, writing).await,
                        }
                        // What has arrived together is appended together.
                        taken += 1;
                        if taken == READ_AHEAD_MESSAGES_MAX || !session.wants_input() {
                            break false;
                        }
                        match reader.recv(session.message_bytes_max()).now_or_never() {
                            Some(next) => received = next,
                            None => break false,
                        }
                    };
                    if ended {
                        break false;
                    }
                }
                () = writing.done(), if writing.is_busy() => if matches!(writing, Writing::Broken) {
                    break false;
                },
                () = session.woken() => {}
                () = sleep(wait) => session.handle_timeout(),
            }
        };
        // Whatever is not told to the other party of a mailbox by then, its end tells.
        let _ = timeout(patience, Box::pin(session.leave())).await;
        tracing::debug!("ended");
        if said_goodbye {
            // A socket that is closed over unread bytes is reset, and the goodbye may be lost.
            let _ = timeout(LINGER, async { while let Ok(Some(_)) = reader.recv(usize::MAX).await {} }).await;
        }
    }
}

/// Ends a session in the middle of a request. What it had handed to the writer is committed or not;
/// the client that heard no answer says it again.
async fn abandon(session: Session, writing: Writing) {
    drop(session);
    tracing::debug!("ended: the store does not answer");
    let why = "the relay's storage does not answer: connect again";
    Box::pin(writing.say_goodbye(Close::new(Close::TIMEOUT, why))).await;
}

/// Whether the link has ended.
async fn take_in(session: &mut Session, received: Result<Option<Bytes>, LinkError>) -> bool {
    match received {
        Ok(Some(message)) => session.receive(&message).await,
        Ok(None) | Err(LinkError::Broken(_)) => return true,
        Err(error) => session.end(Close::new(Close::PROTOCOL, error.to_string())),
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_session_is_small() {
        assert!(size_of_future(run_session) <= 1_152, "{} bytes", size_of_future(run_session));
    }
}
