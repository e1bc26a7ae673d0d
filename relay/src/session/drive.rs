//! Moves messages between a link and a session. No decision about the protocol is made here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use rand_core::Rng;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::Instrument;

use super::Session;
use crate::admission::Peer;
use crate::core::Core;
use crate::link::{Close, Link, LinkError, LinkWriter};

/// Link messages handed to the writer ahead of the one it is sending.
const WRITER_MESSAGES_MAX: usize = 1;
/// Messages taken from a link before the session's other work has its turn.
const READ_AHEAD_MESSAGES_MAX: usize = 64;
/// How long a close may take before the link is dropped.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// How long a client is given to take the goodbye and close its end.
const LINGER: Duration = Duration::from_secs(1);

enum Outgoing {
    Message(Bytes),
    Close(Close),
}

/// Runs one client's session to its end.
pub async fn run_session(core: Arc<Core>, link: Link, peer: Peer) {
    // A random number by which the log lines of one session are read together. It is nowhere else.
    let number = || core.rng().next_u32();
    let span = tracing::debug_span!("session", number = number(), transport = peer.transport.as_str());
    drive(core, link, peer).instrument(span).await;
}

async fn drive(core: Arc<Core>, link: Link, peer: Peer) {
    tracing::debug!("begins");
    let Link { mut reader, writer } = link;
    let mut session = Session::new(core.clone(), peer);
    let (outgoing, writing) = start_writer(writer);
    let said_goodbye = loop {
        session.work().await;
        if !session.has_output()
            && let Some(close) = session.closing()
        {
            tracing::debug!(code = close.code, "says goodbye");
            say_goodbye(outgoing, writing, close.clone()).await;
            break true;
        }
        let now_ms = core.now().monotonic_ms;
        let wait = Duration::from_millis(session.deadline_ms().saturating_sub(now_ms));
        let (wants_input, has_output, bytes_max) =
            (session.wants_input(), session.has_output(), session.message_bytes_max());
        tokio::select! {
            received = reader.recv(bytes_max), if wants_input => {
                let mut received = received;
                let mut taken = 0;
                let ended = loop {
                    if take_in(&mut session, received).await {
                        break true;
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
            permit = outgoing.reserve(), if has_output => match (permit, session.poll_transmit()) {
                (Ok(permit), Some(message)) => permit.send(Outgoing::Message(message)),
                (Ok(_), None) => {}
                (Err(_), _) => break false,
            },
            () = session.woken() => {}
            () = sleep(wait) => session.handle_timeout(),
        }
    };
    session.leave().await;
    tracing::debug!("ended");
    if said_goodbye {
        // A socket that is closed over unread bytes is reset, and the goodbye may be lost.
        let _ = timeout(LINGER, async { while let Ok(Some(_)) = reader.recv(usize::MAX).await {} }).await;
    }
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

/// The writer has a task of its own, so that a link that takes nothing holds up nothing but itself.
fn start_writer(mut writer: Box<dyn LinkWriter>) -> (mpsc::Sender<Outgoing>, JoinHandle<()>) {
    let (outgoing, mut outbox) = mpsc::channel(WRITER_MESSAGES_MAX);
    let task = tokio::spawn(async move {
        while let Some(next) = outbox.recv().await {
            match next {
                Outgoing::Message(message) => {
                    if writer.send(message).await.is_err() {
                        break;
                    }
                }
                Outgoing::Close(close) => {
                    writer.close(close).await;
                    break;
                }
            }
        }
    });
    (outgoing, task)
}

async fn say_goodbye(outgoing: mpsc::Sender<Outgoing>, writing: JoinHandle<()>, close: Close) {
    let abort = writing.abort_handle();
    let goodbye = async {
        if outgoing.send(Outgoing::Close(close)).await.is_ok() {
            // An error means that the task panicked or was aborted: the link is gone either way.
            let _ = writing.await;
        }
    };
    if timeout(CLOSE_DEADLINE, goodbye).await.is_err() {
        abort.abort();
    }
}
