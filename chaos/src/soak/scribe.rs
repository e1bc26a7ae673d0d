//! A device without an engine, which writes down what the relay says: for each push the cursor that
//! acknowledged it. It sends one entry at a time and, until that is acknowledged, the same bytes
//! again; now and then it leaves before the answer, or sends what was acknowledged long ago.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use zerok_sync::BlobId;
use zerok_sync_protocol::envelope::{ENVELOPE_BYTES_MIN, blob_id};
use zerok_sync_protocol::frame::PushResult;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{ClientFrame, RelayFrame};

use super::trace::Acknowledged;
use crate::load::client::{Client, Dial, Group, SessionError};
use crate::sim::Dice;

/// From an answer to the next push.
const PAUSE: Duration = Duration::from_millis(20);
/// From a lost connection to the next attempt, unless the relay asks for more.
const RETRY: Duration = Duration::from_millis(250);
/// A relay that says nothing for this long is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// It leaves before the answer, or repeats itself, in so many of a thousand cases.
const LEAVES_PER_MILLE: u64 = 30;

/// A scribe at work.
#[derive(Debug)]
pub struct Scribe {
    written: Arc<Mutex<Vec<Acknowledged>>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

impl Scribe {
    /// Founds a log of its own and begins.
    ///
    /// # Errors
    /// If there is no log.
    pub async fn start(relay: SocketAddr, mut dice: Dice) -> Result<Self> {
        let dial = Dial::WebSocket(relay);
        let mut rng = ChaCha20Rng::from_seed(dice.bytes());
        let group = Group::random(1, &mut rng);
        let (client, _) = Client::founder(&dial, &group, None).await?;
        drop(client);
        let written = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = watch::channel(false);
        let work = Work { dial, group, dice, rng, written: written.clone(), stopped, pushes: 0 };
        Ok(Self { written, stop, task: tokio::spawn(work.run()) })
    }

    /// Ends it once its last push is acknowledged; everything it wrote down.
    ///
    /// # Errors
    /// If that push is not acknowledged in this time, or the relay broke the protocol.
    pub async fn finish(self, within: Duration) -> Result<Vec<Acknowledged>> {
        self.stop.send_replace(true);
        timeout(within, self.task).await.context("a scribe's last push was not acknowledged")???;
        Ok(self.written.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Everything it has written down so far.
    #[must_use]
    pub fn written(&self) -> Vec<Acknowledged> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Work {
    dial: Dial,
    group: Group,
    dice: Dice,
    rng: ChaCha20Rng,
    written: Arc<Mutex<Vec<Acknowledged>>>,
    stopped: watch::Receiver<bool>,
    pushes: u64,
}

impl Work {
    async fn run(mut self) -> Result<()> {
        let device = self.group.devices[0].clone();
        let mut pending: Option<Bytes> = None;
        let mut known: Vec<Bytes> = Vec::new();
        loop {
            let session = timeout(ANSWER_WITHIN, Client::member(&self.dial, &self.group, &device, None)).await;
            let mut client = match session {
                Ok(Ok((client, _))) => client,
                Ok(Err(SessionError::Protocol(error))) => anyhow::bail!(error),
                Ok(Err(error)) => {
                    sleep(error.retry_after().max(RETRY)).await;
                    continue;
                }
                Err(_) => continue,
            };
            loop {
                if pending.is_none() && *self.stopped.borrow() {
                    return Ok(());
                }
                let old =
                    (!known.is_empty() && self.dice.chance(LEAVES_PER_MILLE)).then(|| self.dice.index(known.len()));
                let envelope = match old {
                    Some(old) if pending.is_none() => known[old].clone(),
                    _ => pending.get_or_insert_with(|| envelope(&mut self.rng)).clone(),
                };
                let leaves = self.dice.chance(LEAVES_PER_MILLE);
                match self.push(&mut client, &envelope, leaves).await? {
                    Some(cursor) => {
                        self.note(blob_id(&envelope), cursor);
                        if pending.take_if(|pending| *pending == envelope).is_some() {
                            known.push(envelope);
                        }
                        sleep(PAUSE).await;
                    }
                    None => break,
                }
            }
            sleep(RETRY).await;
        }
    }

    /// The cursor, or nothing if there is no answer: then nothing is known.
    async fn push(&mut self, client: &mut Client, envelope: &Bytes, leaves: bool) -> Result<Option<u64>> {
        self.pushes += 1;
        let push = self.pushes;
        let envelopes = List::try_from(vec![envelope.clone()]).context("one envelope fits")?;
        client.queue(&ClientFrame::Push { push, envelopes, resume: true })?;
        if leaves {
            // Long enough for the push to leave, too short for every answer.
            let _whether_it_was_answered = timeout(Duration::from_millis(2), client.exchange()).await;
            return Ok(None);
        }
        loop {
            match timeout(ANSWER_WITHIN, client.next()).await {
                Ok(Ok(RelayFrame::PushAck { push: answered, results })) if answered == push => {
                    return Ok(match results.first() {
                        Some(PushResult::Stored { cursor }) => Some(*cursor),
                        _ => None,
                    });
                }
                Ok(Ok(_)) => {}
                Ok(Err(SessionError::Protocol(error))) => anyhow::bail!(error),
                Ok(Err(_)) | Err(_) => return Ok(None),
            }
        }
    }

    fn note(&self, blob_id: BlobId, cursor: u64) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).push(Acknowledged { blob_id, cursor });
    }
}

fn envelope(rng: &mut ChaCha20Rng) -> Bytes {
    let mut bytes = vec![0; ENVELOPE_BYTES_MIN];
    rng.fill_bytes(&mut bytes);
    bytes.into()
}
