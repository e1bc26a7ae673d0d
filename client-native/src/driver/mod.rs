//! The loop that `zerok_sync_core::io` documents: one task owns a machine, its storage, its links
//! and its timer, and carries out what the machine asks for. It decides nothing about the protocol.
//!
//! Every queue into the task is bounded, so whoever asks faster than it works waits. It never waits
//! for a socket: links are tasks of their own. It waits for the storage thread only when that has a
//! full queue.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use zerok_sync_core::io::{CommitId, LinkDownReason, LinkId, Row, ScanId, StorageFault};
use zerok_sync_core::{Event, Input, Machine, Now, Output};

use crate::clock::Clock;
use crate::link::{Dialer, Link, LinkInput};
use crate::storage::{Storage, thread_gone};

/// What links may have heard that the machine has not taken in yet.
const LINK_INPUTS_MAX: usize = 64;
/// Commands that may wait; each asker waits for its own anyway.
pub(crate) const COMMANDS_MAX: usize = 64;
/// How long a machine that was stopped may take to have its last changes stored and its links
/// closed.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

type Act<M> = Box<dyn FnOnce(&mut M, Now) + Send>;
type Then<M> = Box<dyn FnOnce(&M, Result<Vec<Row>, StorageFault>) + Send>;
type Answer<T> = oneshot::Receiver<Result<T, StorageFault>>;

/// What others want of a running machine.
pub(crate) enum Command<M> {
    /// Call a mutator.
    Act(Act<M>),
    /// Read rows, and have the machine interpret them.
    Read {
        /// First key.
        from: Vec<u8>,
        /// Key behind the last.
        to: Vec<u8>,
        /// As for [`Output::Scan`].
        bytes_max: usize,
        /// Gets the rows.
        then: Then<M>,
    },
    /// Call this mutator, which takes the machine offline, and end once all it wrote is stored.
    Stop(Act<M>),
}

/// Something a machine asked of storage. Answers come in the order of the questions.
enum Pending {
    Commit(CommitId, Answer<()>),
    Scan(ScanId, Answer<Vec<Row>>),
}

/// The answer to the oldest [`Pending`].
enum Answered {
    Commit(Result<(), StorageFault>),
    Rows(Result<Vec<Row>, StorageFault>),
}

/// A machine and all it acts upon.
pub(crate) struct Driver<M, F> {
    machine: M,
    storage: Storage,
    dialer: Arc<Dialer>,
    clock: Clock,
    links: HashMap<LinkId, Link>,
    /// Links that are sending their last messages.
    closing: Vec<JoinHandle<()>>,
    pending: VecDeque<Pending>,
    /// What others read meanwhile, in the order of their questions.
    reads: VecDeque<(Then<M>, Answer<Vec<Row>>)>,
    /// Gets every event; breaks to end the loop.
    on_event: F,
    link_inputs_tx: mpsc::Sender<(LinkId, LinkInput)>,
    link_inputs: mpsc::Receiver<(LinkId, LinkInput)>,
}

impl<M, F> Driver<M, F>
where
    M: Machine + Send + 'static,
    F: FnMut(&M, Event) -> ControlFlow<()>,
{
    pub(crate) fn new(machine: M, storage: Storage, dialer: Arc<Dialer>, clock: Clock, on_event: F) -> Self {
        let (link_inputs_tx, link_inputs) = mpsc::channel(LINK_INPUTS_MAX);
        Self {
            machine,
            storage,
            dialer,
            clock,
            links: HashMap::new(),
            closing: Vec::new(),
            pending: VecDeque::new(),
            reads: VecDeque::new(),
            on_event,
            link_inputs_tx,
            link_inputs,
        }
    }

    /// Runs until it is stopped, `on_event` breaks, or every sender of commands is gone (then
    /// `on_abandoned` is its last command). Returns the storage with everything written.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command<M>>, on_abandoned: Act<M>) -> Storage {
        let mut on_abandoned = Some(on_abandoned);
        let mut stop_at = None;
        let mut flow = self.carry_out().await;
        while flow.is_continue() {
            if stop_at.is_some() && self.pending.is_empty() && self.reads.is_empty() {
                break;
            }
            let timer = self.machine.next_deadline_ms().map(|deadline| self.clock.instant(deadline));
            tokio::select! {
                Some((link, input)) = self.link_inputs.recv() => self.link_input(link, input),
                answered = oldest_answer(&mut self.pending) => flow = self.answered(answered),
                rows = oldest_read(&mut self.reads) => {
                    if let Some((then, _)) = self.reads.pop_front() {
                        then(&self.machine, rows);
                    }
                }
                command = commands.recv(), if stop_at.is_none() => {
                    let command = command.or_else(|| on_abandoned.take().map(Command::Stop));
                    match command {
                        Some(Command::Act(act)) => act(&mut self.machine, self.clock.now()),
                        Some(Command::Read { from, to, bytes_max, then }) => {
                            let answer = self.storage.read(from, to, bytes_max).await;
                            self.reads.push_back((then, answer));
                        }
                        Some(Command::Stop(act)) => {
                            act(&mut self.machine, self.clock.now());
                            stop_at = Some(tokio::time::Instant::now() + STOP_DEADLINE);
                        }
                        None => break,
                    }
                }
                () = sleep_until(timer) => self.machine.handle(self.clock.now(), Input::Tick),
                () = sleep_until(stop_at) => break,
            }
            if flow.is_continue() {
                flow = self.carry_out().await;
            }
        }
        self.finish().await
    }

    /// Drains the machine's outputs: after every input, before the next.
    async fn carry_out(&mut self) -> ControlFlow<()> {
        loop {
            let mut congested = Vec::new();
            while let Some(output) = self.machine.poll_output() {
                match output {
                    Output::Connect(id, relay) => {
                        let link = Link::open(id, relay, self.dialer.clone(), self.link_inputs_tx.clone());
                        self.links.insert(id, link);
                    }
                    Output::Transmit(id, message) => {
                        if self.links.get(&id).is_some_and(|link| link.send(message).is_err()) {
                            congested.push(id);
                        }
                    }
                    Output::Disconnect(id) => {
                        self.closing.retain(|task| !task.is_finished());
                        self.closing.extend(self.links.remove(&id).map(Link::close));
                    }
                    Output::Commit(id, batch) => {
                        let answer = self.storage.apply(batch).await;
                        self.pending.push_back(Pending::Commit(id, answer));
                    }
                    Output::Scan { id, from, to, bytes_max } => {
                        let answer = self.storage.scan(from, to, bytes_max).await;
                        self.pending.push_back(Pending::Scan(id, answer));
                    }
                    Output::Event(event) => (self.on_event)(&self.machine, event)?,
                }
            }
            if congested.is_empty() {
                return ControlFlow::Continue(());
            }
            for id in congested {
                if let Some(link) = self.links.remove(&id) {
                    link.cut();
                    self.machine.handle(self.clock.now(), Input::LinkDown(id, LinkDownReason::Closed));
                }
            }
        }
    }

    fn link_input(&mut self, id: LinkId, input: LinkInput) {
        // What a link said before it heard of its end is of no interest any more.
        if !self.links.contains_key(&id) {
            return;
        }
        let input = match input {
            LinkInput::Up => {
                tracing::debug!(link = id.0, "link up");
                Input::LinkUp(id)
            }
            LinkInput::Message(message) => Input::LinkMessage(id, message),
            LinkInput::Down(reason) => {
                tracing::debug!(link = id.0, ?reason, "link down");
                self.links.remove(&id);
                Input::LinkDown(id, reason)
            }
        };
        self.machine.handle(self.clock.now(), input);
    }

    fn answered(&mut self, answered: Answered) -> ControlFlow<()> {
        let Some(pending) = self.pending.pop_front() else { return ControlFlow::Continue(()) };
        let input = match (pending, answered) {
            (Pending::Commit(id, _), Answered::Commit(Ok(()))) => Input::Committed(id),
            (Pending::Commit(id, _), Answered::Commit(Err(fault))) => Input::CommitFailed(id, fault),
            (Pending::Scan(id, _), Answered::Rows(Ok(rows))) => Input::Scanned(id, rows),
            // A machine knows no failed read; it cannot go on without what it asked for.
            (Pending::Scan(..), Answered::Rows(Err(fault))) => {
                return (self.on_event)(&self.machine, Event::StorageFailed(fault));
            }
            (Pending::Commit(..), Answered::Rows(_)) | (Pending::Scan(..), Answered::Commit(_)) => {
                unreachable!("the answer was received from this question's own channel")
            }
        };
        self.machine.handle(self.clock.now(), input);
        ControlFlow::Continue(())
    }

    /// Lets the links send their last messages.
    async fn finish(mut self) -> Storage {
        self.closing.extend(self.links.drain().map(|(_, link)| link.close()));
        // Links that still have something to say would wait for room in a queue nobody reads.
        drop(self.link_inputs);
        for task in self.closing {
            // It has a deadline of its own.
            let _ = task.await;
        }
        self.storage
    }
}

/// Waits for the answer to the oldest question, which comes first.
async fn oldest_answer(pending: &mut VecDeque<Pending>) -> Answered {
    match pending.front_mut() {
        Some(Pending::Commit(_, answer)) => Answered::Commit(answer.await.unwrap_or_else(|_| Err(thread_gone()))),
        Some(Pending::Scan(_, answer)) => Answered::Rows(answer.await.unwrap_or_else(|_| Err(thread_gone()))),
        None => std::future::pending().await,
    }
}

async fn oldest_read<M>(reads: &mut VecDeque<(Then<M>, Answer<Vec<Row>>)>) -> Result<Vec<Row>, StorageFault> {
    match reads.front_mut() {
        Some((_, answer)) => answer.await.unwrap_or_else(|_| Err(thread_gone())),
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
