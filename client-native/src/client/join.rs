//! Becoming a device of somebody's group.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use zerok_sync_core::keys::StoreKey;
use zerok_sync_core::passphrase::Passphrase;
use zerok_sync_core::{
    Digits, Engine, Event, FormerGroup, Invite, JoinError, Joiner, Joining as Begun, MirrorPolicy, Secrets,
};
use zerok_sync_protocol::NoisePublicKey;

use super::Client;
use super::open::{offline, secrets};
use crate::clock::Clock;
use crate::driver::{Command, Driver};
use crate::error::ClientError;
use crate::link::{Dialer, Transport};
use crate::storage::{Opened, Storage, thread_gone};

/// A join has two events before its end.
const EVENTS_MAX: usize = 4;

/// How to join a group.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// Directory of the new membership.
    pub home: PathBuf,
    /// The link or code that the inviting device showed.
    pub invite: Invite,
    /// With a code: `https://host` or `http://host:port` of the relay that the inviting device
    /// uses. A link says it itself.
    pub relay: Option<String>,
    /// The relay's key, if the person knows better than the link. Needed with a code over plain http
    /// to another machine.
    pub relay_key: Option<NoisePublicKey>,
    /// What this device is called in the group.
    pub device_name: String,
    /// How to reach the relay.
    pub transport: Transport,
    /// Locks the home from its first moment: it opens with this only. With `bring_data`: opens a home
    /// that is locked, and stays its lock.
    pub passphrase: Option<Passphrase>,
    /// The home holds a group in which this device is alone, or which it has left: join from there, and
    /// bring along what it wrote, as new entries of its own in their order. Until it has joined the
    /// home stays as it is.
    pub bring_data: bool,
}

impl JoinOptions {
    /// As a device that is called after this machine.
    pub fn new(home: impl Into<PathBuf>, invite: Invite) -> Self {
        Self {
            home: home.into(),
            invite,
            relay: None,
            relay_key: None,
            device_name: crate::default_device_name(),
            transport: Transport::default(),
            passphrase: None,
            bring_data: false,
        }
    }
}

/// What happens to a device that joins, in this order.
pub enum JoinEvent {
    /// Show these: the person at the inviting device types them.
    ShowDigits(Digits),
    /// The inviting person let this device in: ask this one's, then call [`Joining::confirm`] or
    /// [`Joining::cancel`].
    Confirm(GroupOffered),
    /// This device is a member. The last event.
    Joined(Client),
}

/// Whose group it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffered {
    /// What the inviting device calls itself. Untrusted text.
    pub inviter: String,
    /// Where the group's log is kept.
    pub relay: String,
    /// The names of the group's devices.
    pub members: Vec<String>,
}

/// A join under way. Dropping it takes it back and tells the inviting device.
pub struct Joining {
    commands: mpsc::Sender<Command<Joiner>>,
    events: mpsc::Receiver<JoinEvent>,
    /// Taken at the end.
    task: Option<JoinHandle<Result<Storage, ClientError>>>,
    store_key: StoreKey,
    transport: Transport,
}

impl Client {
    /// Begins to join a group: read the returned join's events. Leaves nothing behind if it fails.
    ///
    /// # Errors
    /// [`ClientError::Invite`] for a code without a relay, [`ClientError::Storage`] if the home
    /// cannot be used.
    pub async fn begin_join(options: JoinOptions) -> Result<Joining, ClientError> {
        let relay = options.invite.relay(options.relay.as_deref(), options.relay_key)?;
        let bring_data = options.bring_data;
        let Opened { storage, store_key } = if bring_data {
            open_former(&options).await?
        } else {
            Client::create_home(&options.home, options.passphrase).await?
        };
        let secrets = match secrets(store_key.clone()) {
            Ok(secrets) => secrets,
            Err(error) => {
                give_up(storage, bring_data).await;
                return Err(error);
            }
        };
        let begun = Begun { invite: options.invite, relay, device_name: options.device_name, bring_data };
        let (commands, queue) = mpsc::channel(EVENTS_MAX);
        let (events_tx, events) = mpsc::channel(EVENTS_MAX);
        let task = tokio::spawn(run(storage, secrets, begun, options.transport, queue, events_tx));
        Ok(Joining { commands, events, task: Some(task), store_key, transport: options.transport })
    }

    /// Joins the group that an invitation leads to, whosever it is; `show_digits` gets the two
    /// digits that the person at the inviting device types. To ask this device's person before
    /// anything is stored, use [`Client::begin_join`].
    ///
    /// # Errors
    /// As [`Client::begin_join`]; [`ClientError::Join`] if no membership came of it.
    pub async fn join(options: JoinOptions, mut show_digits: impl FnMut(Digits) + Send) -> Result<Self, ClientError> {
        let mut joining = Self::begin_join(options).await?;
        loop {
            match joining.next().await? {
                JoinEvent::ShowDigits(digits) => show_digits(digits),
                JoinEvent::Confirm(_) => joining.confirm().await?,
                JoinEvent::Joined(client) => return Ok(client),
            }
        }
    }
}

impl Joining {
    /// The next event.
    ///
    /// # Errors
    /// [`ClientError::Join`] if no membership came of it, [`ClientError::StorageFailed`]; and
    /// [`ClientError::Closed`] behind the last event.
    pub async fn next(&mut self) -> Result<JoinEvent, ClientError> {
        if let Some(event) = self.events.recv().await {
            return Ok(event);
        }
        let task = self.task.take().ok_or(ClientError::Closed)?;
        let storage = task.await.map_err(|_| ClientError::Closed)??;
        let client =
            Client::resume(storage, self.store_key.clone(), self.transport, true, MirrorPolicy::default()).await?;
        Ok(JoinEvent::Joined(client))
    }

    /// The person wants this group.
    ///
    /// # Errors
    /// [`ClientError::Closed`] if it is over already: [`Joining::next`] says how.
    pub async fn confirm(&self) -> Result<(), ClientError> {
        self.act(Joiner::confirm).await
    }

    /// Gives up, and tells the inviting device. [`JoinError::Cancelled`] follows or, if it came too
    /// late, [`JoinEvent::Joined`].
    ///
    /// # Errors
    /// [`ClientError::Closed`] if it is over already.
    pub async fn cancel(&self) -> Result<(), ClientError> {
        self.act(Joiner::cancel).await
    }

    async fn act(&self, act: fn(&mut Joiner, zerok_sync_core::Now)) -> Result<(), ClientError> {
        self.commands.send(Command::Act(Box::new(act))).await.map_err(|_| ClientError::Closed)
    }
}

/// Opens a home whose group this device may leave for another.
async fn open_former(options: &JoinOptions) -> Result<Opened, ClientError> {
    // What an earlier join was to bring along comes first.
    Client::open(offline(&options.home, options.passphrase.clone())).await?.close().await;
    let opened = Storage::open_to_replace(&options.home, options.passphrase.clone()).await?;
    let checked = async {
        let (from, to) = (Engine::HOT_FROM.to_vec(), Engine::HOT_TO.to_vec());
        let rows = opened.storage.scan(from, to, usize::MAX).await.await.unwrap_or_else(|_| Err(thread_gone()))?;
        FormerGroup::open(opened.store_key.clone(), rows)?.check_free()?;
        Ok::<_, ClientError>(())
    };
    match checked.await {
        Ok(()) => Ok(opened),
        Err(error) => {
            opened.storage.close().await;
            Err(error)
        }
    }
}

/// Leaves a home as it was found.
async fn give_up(storage: Storage, was_there: bool) {
    if was_there { storage.close().await } else { storage.abandon().await }
}

/// Runs a joiner to its end; the storage, if it holds a membership then.
async fn run(
    storage: Storage,
    secrets: Secrets,
    begun: Begun,
    transport: Transport,
    commands: mpsc::Receiver<Command<Joiner>>,
    events: mpsc::Sender<JoinEvent>,
) -> Result<Storage, ClientError> {
    let clock = Clock::start();
    let dialer = Arc::new(Dialer::new(transport));
    let mut outcome = Err(ClientError::Join(JoinError::Cancelled));
    let on_event = |_: &Joiner, event: Event| {
        let told = match event {
            Event::ShowDigits { digits } => JoinEvent::ShowDigits(digits),
            Event::ConfirmJoin { inviter, relay, members } => {
                JoinEvent::Confirm(GroupOffered { inviter, relay, members })
            }
            other => {
                outcome = match other {
                    Event::Joined => Ok(()),
                    Event::JoinFailed(error) => Err(error.into()),
                    Event::StorageFailed(fault) => Err(ClientError::StorageFailed(fault)),
                    _ => return ControlFlow::Continue(()),
                };
                return ControlFlow::Break(());
            }
        };
        // The reader has gone, and its join with it.
        let _ = events.try_send(told);
        ControlFlow::Continue(())
    };
    let bring_data = begun.bring_data;
    let joiner = Joiner::new(clock.now(), secrets, begun);
    let driver = Driver::new(joiner, storage, dialer.clone(), clock, on_event);
    let storage = driver.run(commands, Box::new(Joiner::cancel)).await;
    dialer.close().await;
    match outcome {
        Ok(()) => Ok(storage),
        // Storage that failed may hold the membership already: keep it.
        Err(error @ ClientError::StorageFailed(_)) => {
            storage.close().await;
            Err(error)
        }
        Err(error) => {
            give_up(storage, bring_data).await;
            Err(error)
        }
    }
}
