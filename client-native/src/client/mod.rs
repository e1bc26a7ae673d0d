//! The client: an async handle on a task that drives the core (see `driver`).
//!
//! Calls become commands to that task; answers come back through watches and one-shot channels,
//! never through an unbounded queue. Entries are read from storage when the app asks for them.

mod bringing;
mod compact;
mod entries;
mod export;
mod invite;
mod join;
mod lock;
mod membership;
mod open;
mod push;
mod recovery;
mod relays;
mod repair;
mod verify;
mod whisper;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use zerok_sync_core::io::{Row, StorageFault};
use zerok_sync_core::keys::StoreKey;
use zerok_sync_core::{Engine, Event, IntegrityEvent, Now, Problem, Status};

pub use entries::{Entries, EntriesOptions};
pub use export::{Archive, ExportOptions, ImportOptions};
pub use invite::{Invitation, InviteEvent, InviteOptions};
pub use join::{GroupOffered, JoinEvent, JoinOptions, Joining};
pub use open::{FoundOptions, OpenOptions};
pub use push::PushReceipt;
pub use recovery::RestoreOptions;
pub use relays::RelayOptions;
pub use whisper::{Whisper, Whispers};

use crate::clock::Clock;
use crate::driver::{COMMANDS_MAX, Command, Driver};
use crate::error::ClientError;
use crate::link::Dialer;
use crate::storage::Storage;

/// Findings that a client keeps for [`Client::findings`].
const FOUND_MAX: usize = 64;

/// One membership of one group, open. Cheap to clone; all clones are the same client.
///
/// Dropping the last clone, stream and receipt closes it in the background; [`Client::close`] also
/// waits until the home can be opened again.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command<Engine>>,
    watched: Watched,
    whispers: broadcast::Sender<Whisper>,
    invitations: Arc<invite::Slot>,
    /// Set to have the home removed at the end: no group came to be in it.
    abandon: Arc<AtomicBool>,
    kept: Arc<export::Kept>,
    task: Arc<std::sync::Mutex<Option<JoinHandle<()>>>>,
}

/// What the driver's task tells everybody.
#[derive(Clone)]
struct Watched {
    status: watch::Receiver<Status>,
    progress: watch::Receiver<Progress>,
}

/// What is durable, and what ended the client.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// Highest position that can be read.
    position: u64,
    /// Highest position that counts as processed, also after a crash.
    processed: u64,
    /// Highest push number that is durable here.
    stored: u64,
    /// Highest push number that is durable at the relay.
    acked: u64,
    /// Highest push number that all other devices have said they have.
    everywhere: u64,
    /// Push number of the newest snapshot made here in this run.
    snapshot: u64,
    /// The relay refused this push for good.
    refused: Option<(u64, Problem)>,
    /// What was found out about relays and devices.
    found: Vec<IntegrityEvent>,
    /// Storage failed.
    failed: Option<StorageFault>,
}

impl Client {
    /// Runs `engine` on a task of its own.
    fn start(engine: Engine, storage: Storage, store_key: StoreKey, dialer: Arc<Dialer>, clock: Clock) -> Self {
        let kept = Arc::new(export::Kept { database: storage.path.clone(), store_key });
        let status = engine.status();
        let (progress_tx, progress) = watch::channel(Progress {
            position: status.position,
            processed: status.processed,
            stored: status.stored_push,
            acked: status.acked_push,
            everywhere: status.everywhere_push,
            ..Progress::default()
        });
        let (status_tx, status) = watch::channel(status);
        let invitations = Arc::new(invite::Slot::default());
        let (whispers, _) = broadcast::channel(whisper::WHISPERS_KEPT);
        let abandon = Arc::new(AtomicBool::new(false));
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);

        let on_event = {
            let (invitations, whispers) = (invitations.clone(), whispers.clone());
            move |engine: &Engine, event: Event| {
                if let Event::Whispered { device, data } = &event {
                    // Nobody may be listening.
                    let _ = whispers.send(Whisper { device: *device, data: data.clone() });
                }
                let flow = note(&progress_tx, &event);
                status_tx.send_if_modified(|known| {
                    let status = engine.status();
                    let changed = *known != status;
                    *known = status;
                    changed
                });
                invitations.note(event);
                flow
            }
        };
        let driver = Driver::new(engine, storage, dialer.clone(), clock, on_event);
        let abandoned = abandon.clone();
        let task = tokio::spawn(async move {
            let storage = driver.run(queue, Box::new(Engine::close)).await;
            if abandoned.load(Ordering::Relaxed) {
                storage.abandon().await;
            } else {
                storage.close().await;
            }
            dialer.close().await;
        });
        Self {
            commands,
            watched: Watched { status, progress },
            whispers,
            invitations,
            abandon,
            kept,
            task: Arc::new(std::sync::Mutex::new(Some(task))),
        }
    }

    /// Where things stand, now and whenever it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.watched.status.clone()
    }

    /// The app has processed every entry up to this position: after a restart it is not given them
    /// again. Returns once that is on disk, so mark the last of many rather than each.
    ///
    /// # Errors
    /// [`ClientError::Closed`], [`ClientError::StorageFailed`]: the entries may come again.
    pub async fn mark_processed(&self, position: u64) -> Result<(), ClientError> {
        let position = self.ask(move |engine, now| engine.mark_processed(now, position)).await?;
        self.watched.progress(|progress| (progress.processed >= position).then_some(())).await
    }

    /// The network may have changed, or the machine woke up: look after the connection now.
    ///
    /// # Errors
    /// [`ClientError::Closed`], [`ClientError::StorageFailed`].
    pub async fn wake(&self) -> Result<(), ClientError> {
        use zerok_sync_core::{Input, Machine};
        self.act(|engine, now| engine.handle(now, Input::Wake)).await
    }

    /// Says goodbye to the relay, stores what is left to store and unlocks the home. What was
    /// pushed and not yet sent stays in the outbox for the next time.
    pub async fn close(self) {
        // A task that has ended already needs no command.
        let _ = self.commands.send(Command::Stop(Box::new(Engine::close))).await;
        let task = self.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    /// Closes and removes the home: no group came to be in it.
    async fn abandon(self) {
        self.abandon.store(true, Ordering::Relaxed);
        self.close().await;
    }

    /// Calls a mutator. A client that is being closed takes commands and does not carry them out:
    /// only the answer tells.
    async fn act(&self, act: impl FnOnce(&mut Engine, Now) + Send + 'static) -> Result<(), ClientError> {
        self.ask(act).await
    }

    /// Calls a mutator and returns what it returned.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Engine, Now) -> T + Send + 'static,
    ) -> Result<T, ClientError> {
        let (answer, receiver) = oneshot::channel();
        let act = move |engine: &mut Engine, now: Now| drop(answer.send(ask(engine, now)));
        self.command(Command::Act(Box::new(act))).await?;
        receiver.await.map_err(|_| self.watched.end())
    }

    /// Reads rows and has the engine interpret them.
    async fn read<T: Send + 'static>(
        &self,
        (from, to): (Vec<u8>, Vec<u8>),
        bytes_max: usize,
        interpret: impl FnOnce(&Engine, Vec<Row>) -> T + Send + 'static,
    ) -> Result<T, ClientError> {
        let (answer, receiver) = oneshot::channel();
        let then = Box::new(move |engine: &Engine, rows: Result<Vec<Row>, StorageFault>| {
            drop(answer.send(rows.map(|rows| interpret(engine, rows))));
        });
        self.command(Command::Read { from, to, bytes_max, then }).await?;
        receiver.await.map_err(|_| self.watched.end())?.map_err(ClientError::StorageFailed)
    }

    async fn command(&self, command: Command<Engine>) -> Result<(), ClientError> {
        self.commands.send(command).await.map_err(|_| self.watched.end())
    }
}

impl Watched {
    /// Why the task has ended.
    fn end(&self) -> ClientError {
        match self.progress.borrow().failed.clone() {
            Some(fault) => ClientError::StorageFailed(fault),
            None => ClientError::Closed,
        }
    }

    /// Waits until `reached` returns something.
    async fn progress<T>(&self, mut reached: impl FnMut(&Progress) -> Option<T>) -> Result<T, ClientError> {
        let mut progress = self.progress.clone();
        loop {
            {
                let now = progress.borrow_and_update();
                if let Some(value) = reached(&now) {
                    return Ok(value);
                }
                if let Some(fault) = &now.failed {
                    return Err(ClientError::StorageFailed(fault.clone()));
                }
            }
            progress.changed().await.map_err(|_| self.end())?;
        }
    }
}

/// Brings what everybody waits for up to date.
fn note(progress: &watch::Sender<Progress>, event: &Event) -> ControlFlow<()> {
    progress.send_if_modified(|progress| {
        match event {
            Event::EntriesAvailable { position } => progress.position = progress.position.max(*position),
            Event::ProcessedStored { position } => progress.processed = progress.processed.max(*position),
            Event::PushesStored { push } => progress.stored = progress.stored.max(*push),
            Event::SnapshotQueued { push } => progress.snapshot = *push,
            Event::PushesAcked { push } => progress.acked = progress.acked.max(*push),
            Event::PushesEverywhere { push } => progress.everywhere = progress.everywhere.max(*push),
            Event::PushRefused { push, problem } => progress.refused = Some((*push, problem.clone())),
            Event::Integrity(finding) if progress.found.len() < FOUND_MAX => progress.found.push(finding.clone()),
            Event::StorageFailed(fault) => progress.failed = Some(fault.clone()),
            _ => return false,
        }
        true
    });
    if matches!(event, Event::StorageFailed(_)) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
