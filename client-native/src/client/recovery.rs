//! Recovery words: making them, and coming back with nothing else.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use zerok_sync_core::io::RelayAddress;
use zerok_sync_core::passphrase::Passphrase;
use zerok_sync_core::{
    Event, MirrorPolicy, Problem, Recovery, RecoveryDraft, RecoverySheet, RecoveryWords, RestoreError, Restorer,
    Restoring, Secrets, Status,
};
use zerok_sync_protocol::NoisePublicKey;

use super::Client;
use super::open::secrets;
use crate::clock::Clock;
use crate::driver::Driver;
use crate::error::ClientError;
use crate::link::{Dialer, Transport};
use crate::storage::{Opened, Storage};

/// How long the log may take to be read, unless told otherwise.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(600);

/// How to restore a group.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Directory of the new membership.
    pub home: PathBuf,
    /// The words.
    pub words: RecoveryWords,
    /// `https://host` or `http://host:port` of a relay that the sheet names.
    pub relay: String,
    /// Its key, as the sheet has it; needed over plain http to another machine.
    pub relay_key: Option<NoisePublicKey>,
    /// What the new device is called in the group.
    pub device_name: String,
    /// How to reach the relay.
    pub transport: Transport,
    /// Locks the home.
    pub passphrase: Option<Passphrase>,
    /// How long the whole log may take.
    pub timeout: Duration,
}

impl RestoreOptions {
    /// As a device that is called after this machine.
    pub fn new(home: impl Into<PathBuf>, words: RecoveryWords, relay: impl Into<String>) -> Self {
        Self {
            home: home.into(),
            words,
            relay: relay.into(),
            relay_key: None,
            device_name: crate::default_device_name(),
            transport: Transport::default(),
            passphrase: None,
            timeout: RESTORE_TIMEOUT,
        }
    }
}

impl Client {
    /// New recovery words: show them once, and ask for those that the draft names, before
    /// [`Self::create_recovery`]. Nothing is stored.
    ///
    /// # Errors
    /// [`ClientError::Closed`], [`ClientError::StorageFailed`].
    pub async fn draft_recovery(&self) -> Result<RecoveryDraft, ClientError> {
        self.ask(|engine, _| engine.draft_recovery()).await
    }

    /// The sheet to print: words, relays and their keys.
    ///
    /// # Errors
    /// [`ClientError::Closed`], [`ClientError::StorageFailed`].
    pub async fn recovery_sheet(&self, words: RecoveryWords) -> Result<RecoverySheet, ClientError> {
        self.ask(move |engine, _| engine.recovery_sheet(words)).await
    }

    /// Makes these words good: from then on they bring the group back when every device is lost.
    /// Words that were made before are no longer good. Returns when the home relay has
    /// what a restore needs; the others get it by themselves, and it too if that is not now.
    ///
    /// # Errors
    /// [`ClientError::Membership`], [`ClientError::WordsReplaced`], [`ClientError::Relay`] if the relay
    /// does not let this device in any more, [`ClientError::StorageFailed`], [`ClientError::Closed`].
    pub async fn create_recovery(&self, words: RecoveryWords) -> Result<(), ClientError> {
        let paper = words.membership().device();
        self.ask(move |engine, now| engine.enrol_recovery(now, words)).await??;
        let is_there = |status: &Status| status.members.iter().any(|member| member.device == paper);
        let mut changes = self.status();
        loop {
            changes.borrow_and_update();
            // Asked for: what is watched may be from before the words.
            let status = self.ask(|engine, _| engine.status()).await?;
            match (&status.recovery, status.problem.clone()) {
                (Recovery::Ready { .. }, _) if is_there(&status) => return Ok(()),
                (Recovery::UnderWay, Some(problem @ (Problem::Revoked | Problem::Left))) => return Err(problem.into()),
                (Recovery::UnderWay, _) => changes.changed().await.map_err(|_| self.watched.end())?,
                _ => return Err(ClientError::WordsReplaced),
            }
        }
    }

    /// Restores a group from its words into an empty home, or one whose restore was cut off, as a new
    /// device of it. Leaves nothing behind if that fails; the words are as good as before. The devices that are lost are still
    /// members: [`Client::revoke`] them.
    ///
    /// # Errors
    /// [`ClientError::Restore`] with what was wrong; [`ClientError::Storage`] if the home cannot be
    /// used, [`ClientError::NotARelayAddress`], [`ClientError::TimedOut`].
    pub async fn restore(options: RestoreOptions) -> Result<Self, ClientError> {
        let url = crate::link::normal_origin(&options.relay)
            .ok_or_else(|| ClientError::NotARelayAddress(options.relay.clone()))?;
        let Opened { storage, store_key } = Self::create_home_again(&options.home, options.passphrase).await?;
        let secrets = match secrets(store_key.clone()) {
            Ok(secrets) => secrets,
            Err(error) => {
                storage.abandon().await;
                return Err(error);
            }
        };
        let relay = RelayAddress { url, key: options.relay_key };
        let restoring = Restoring { words: options.words, relay, device_name: options.device_name };
        let storage = run(storage, secrets, restoring, options.transport).await?;
        let client = Self::resume(storage, store_key, options.transport, true, MirrorPolicy::default()).await?;
        match client.read_back(options.timeout).await {
            Ok(()) => Ok(client),
            Err(error) => {
                client.abandon().await;
                Err(error)
            }
        }
    }

    /// Waits until the log has shown all that the words vouch for, and has this device.
    async fn read_back(&self, timeout: Duration) -> Result<(), ClientError> {
        let mut status = self.status();
        let settled = status.wait_for(|status| status.restored().is_some());
        match tokio::time::timeout(timeout, settled).await {
            Ok(Ok(status)) => status.restored().unwrap_or(Ok(())).map_err(ClientError::Restore),
            Ok(Err(_)) => Err(self.watched.end()),
            Err(_) => Err(ClientError::TimedOut(self.status().borrow().problem.clone())),
        }
    }
}

/// Runs a restorer to its end; the storage, if it holds a membership then.
async fn run(
    storage: Storage,
    secrets: Secrets,
    restoring: Restoring,
    transport: Transport,
) -> Result<Storage, ClientError> {
    let clock = Clock::start();
    let dialer = Arc::new(Dialer::new(transport));
    let mut ended = Err(ClientError::Restore(RestoreError::Cancelled));
    let on_event = |_: &Restorer, event: Event| {
        ended = match event {
            Event::Restored => Ok(()),
            Event::RestoreFailed(error) => Err(error.into()),
            Event::StorageFailed(fault) => Err(ClientError::StorageFailed(fault)),
            _ => return ControlFlow::Continue(()),
        };
        ControlFlow::Break(())
    };
    let restorer = Restorer::new(clock.now(), secrets, restoring);
    let driver = Driver::new(restorer, storage, dialer.clone(), clock, on_event);
    // Nobody commands it: whoever drops this future takes the home's lock along.
    let (_commands, queue) = mpsc::channel(1);
    let storage = driver.run(queue, Box::new(Restorer::cancel)).await;
    dialer.close().await;
    match ended {
        Ok(()) => Ok(storage),
        Err(error @ ClientError::StorageFailed(_)) => {
            storage.close().await;
            Err(error)
        }
        Err(error) => {
            storage.abandon().await;
            Err(error)
        }
    }
}
