//! Two of the three ways to a running client: found a group, open a home. The third is `join.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zerok_sync_core::engine::Founding;
use zerok_sync_core::io::{RelayAddress, StorageFault};
use zerok_sync_core::keys::StoreKey;
use zerok_sync_core::passphrase::Passphrase;
use zerok_sync_core::{Connection, Engine, MirrorPolicy, Secrets};
use zerok_sync_protocol::NoisePublicKey;

use super::Client;
use crate::clock::Clock;
use crate::error::ClientError;
use crate::link::{Dialer, Transport};
use crate::storage::{Opened, Storage, StorageError, thread_gone};

/// How long a relay may take to let a device in, unless told otherwise.
const RELAY_TIMEOUT: Duration = Duration::from_secs(20);

/// How to found a group.
#[derive(Debug, Clone)]
pub struct FoundOptions {
    /// Directory of the new membership.
    pub home: PathBuf,
    /// `https://host` or `http://host:port` of the relay.
    pub relay: String,
    /// The relay's key, if it is known from elsewhere; needed over plain http to another machine.
    pub relay_key: Option<NoisePublicKey>,
    /// What this device is called in the group.
    pub device_name: String,
    /// What a relay with restricted creation asks for.
    pub token: Option<Vec<u8>>,
    /// How to reach the relay.
    pub transport: Transport,
    /// How long the relay may take.
    pub timeout: Duration,
    /// Locks the home from its first moment: it opens with this only.
    pub passphrase: Option<Passphrase>,
}

/// How to open a home.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Directory of the membership.
    pub home: PathBuf,
    /// How to reach the relay.
    pub transport: Transport,
    /// Whether to reach it at all.
    pub online: bool,
    /// Opens a locked home; one that is not locked does not look at it.
    pub passphrase: Option<Passphrase>,
    /// How much of the log is kept here.
    pub mirror: MirrorPolicy,
}

impl FoundOptions {
    /// A group at `relay`, by a device that is called after this machine.
    pub fn new(home: impl Into<PathBuf>, relay: impl Into<String>) -> Self {
        Self {
            home: home.into(),
            relay: relay.into(),
            relay_key: None,
            device_name: crate::default_device_name(),
            token: None,
            transport: Transport::default(),
            timeout: RELAY_TIMEOUT,
            passphrase: None,
        }
    }
}

impl OpenOptions {
    /// Online, by whatever transport works.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        let (transport, mirror) = (Transport::default(), MirrorPolicy::default());
        Self { home: home.into(), transport, online: true, passphrase: None, mirror }
    }
}

impl Client {
    /// Founds a group whose log is kept by a relay, and leaves nothing behind if that relay cannot
    /// be reached or does not take it.
    ///
    /// # Errors
    /// [`ClientError::Storage`] if the home cannot be used, [`ClientError::NotARelayAddress`],
    /// [`ClientError::Relay`] and [`ClientError::TimedOut`] if there is no log at the relay.
    pub async fn found(options: FoundOptions) -> Result<Self, ClientError> {
        let url = crate::link::normal_origin(&options.relay)
            .ok_or_else(|| ClientError::NotARelayAddress(options.relay.clone()))?;
        let Opened { storage, store_key } = Self::create_home(&options.home, options.passphrase).await?;
        let clock = Clock::start();
        let founding = Founding {
            relay: RelayAddress { url, key: options.relay_key },
            device_name: options.device_name,
            token: options.token,
        };
        let secrets = match secrets(store_key.clone()) {
            Ok(secrets) => secrets,
            Err(error) => {
                storage.abandon().await;
                return Err(error);
            }
        };
        let batch = Engine::found(clock.now(), &secrets, founding);
        let stored = storage.apply(batch).await.await.unwrap_or_else(|_| Err(thread_gone()));
        if let Err(fault) = stored {
            storage.abandon().await;
            return Err(ClientError::Storage(fault.into()));
        }
        let client = Self::resume(storage, store_key, options.transport, true, MirrorPolicy::default()).await?;
        match client.reach_relay(options.timeout).await {
            Ok(()) => Ok(client),
            Err(error) => {
                client.abandon().await;
                Err(error)
            }
        }
    }

    /// Opens the membership in a home.
    ///
    /// # Errors
    /// [`ClientError::Storage`] and [`ClientError::Open`], in which cases nothing was changed.
    pub async fn open(options: OpenOptions) -> Result<Self, ClientError> {
        let path = options.home.clone();
        let client = Self::open_any(options).await?;
        if client.is_half_restored().await? {
            client.close().await;
            return Err(StorageError::HalfRestored { path }.into());
        }
        Ok(client)
    }

    /// Like [`Self::open`], also where a restore was cut off.
    async fn open_any(options: OpenOptions) -> Result<Self, ClientError> {
        let Opened { storage, store_key } = Storage::open(&options.home, options.passphrase).await?;
        match Self::resume(storage, store_key, options.transport, options.online, options.mirror).await {
            // An empty database: founding or joining never finished.
            Err(ClientError::Open(zerok_sync_core::OpenError::NoGroup)) => {
                Err(StorageError::Missing { path: options.home }.into())
            }
            other => other,
        }
    }

    async fn is_half_restored(&self) -> Result<bool, ClientError> {
        self.ask(|engine, _| engine.is_restoring()).await
    }

    /// Makes a home for a new membership.
    pub(super) async fn create_home(home: &Path, passphrase: Option<Passphrase>) -> Result<Opened, ClientError> {
        match Storage::create(home, passphrase.clone()).await {
            Err(occupied @ StorageError::Occupied { .. }) => match Self::open(offline(home, passphrase)).await {
                // No group of anybody's: what to do with it is another sentence.
                Err(half @ ClientError::Storage(StorageError::HalfRestored { .. })) => Err(half),
                Ok(client) => {
                    client.close().await;
                    Err(occupied.into())
                }
                Err(_) => Err(occupied.into()),
            },
            created => Ok(created?),
        }
    }

    /// Like [`Self::create_home`], in the place of a restore that was cut off: nothing was written in
    /// its name, and whoever has the words begins it again.
    pub(super) async fn create_home_again(home: &Path, passphrase: Option<Passphrase>) -> Result<Opened, ClientError> {
        match Storage::create(home, passphrase.clone()).await {
            Err(occupied @ StorageError::Occupied { .. }) => {
                let client = Self::open_any(offline(home, passphrase.clone())).await?;
                if !client.is_half_restored().await? {
                    client.close().await;
                    return Err(occupied.into());
                }
                // Nobody else can have it open since it was looked at.
                client.abandon().await;
                Ok(Storage::create(home, passphrase).await?)
            }
            created => Ok(created?),
        }
    }

    /// Starts the engine on a storage that holds a membership.
    pub(super) async fn resume(
        storage: Storage,
        store_key: StoreKey,
        transport: Transport,
        online: bool,
        mirror: MirrorPolicy,
    ) -> Result<Self, ClientError> {
        let clock = Clock::start();
        let opened = async {
            let (from, to) = (Engine::HOT_FROM.to_vec(), Engine::HOT_TO.to_vec());
            let rows = storage.scan(from, to, usize::MAX).await.await.unwrap_or_else(|_| Err(thread_gone()));
            let rows = rows.map_err(StorageError::Fault)?;
            Ok(Engine::open(clock.now(), secrets(store_key.clone())?, rows)?)
        };
        let mut engine = match opened.await {
            Ok(engine) => engine,
            Err(error) => {
                storage.close().await;
                return Err(error);
            }
        };
        engine.set_mirror_policy(mirror);
        let bringing = engine.bringing();
        if online {
            engine.start(clock.now());
        }
        let client = Self::start(engine, storage, store_key, Arc::new(Dialer::new(transport)), clock);
        if let Some(after) = bringing
            && let Err(error) = client.bring_along(after).await
        {
            client.close().await;
            return Err(error);
        }
        Ok(client)
    }

    /// How much of the log is kept here from now on; the next [`Client::open`] says it anew.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn set_mirror_policy(&self, policy: MirrorPolicy) -> Result<(), ClientError> {
        self.act(move |engine, _| engine.set_mirror_policy(policy)).await
    }

    /// Waits until the relay has let this device in.
    ///
    /// # Errors
    /// [`ClientError::Relay`] as soon as an attempt has failed; [`ClientError::TimedOut`].
    pub async fn reach_relay(&self, timeout: Duration) -> Result<(), ClientError> {
        let mut status = self.status();
        let reached = async {
            let settled = status.wait_for(|status| {
                matches!(status.connection, Connection::CatchingUp | Connection::Live) || status.problem.is_some()
            });
            let settled = settled.await.map_err(|_| self.watched.end())?;
            match (&settled.connection, &settled.problem) {
                (Connection::CatchingUp | Connection::Live, _) | (_, None) => Ok(()),
                (_, Some(problem)) => Err(ClientError::Relay(problem.clone())),
            }
        };
        match tokio::time::timeout(timeout, reached).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::TimedOut(self.status().borrow().problem.clone())),
        }
    }
}

/// Looks into a home, and does nothing else.
pub(super) fn offline(home: &Path, passphrase: Option<Passphrase>) -> OpenOptions {
    OpenOptions { online: false, passphrase, ..OpenOptions::new(home) }
}

pub(super) fn secrets(store_key: StoreKey) -> Result<Secrets, ClientError> {
    let mut rng_seed = [0; 32];
    getrandom::fill(&mut rng_seed).map_err(|error| StorageError::NoRandomness(error.to_string()))?;
    Ok(Secrets { store_key, rng_seed })
}

impl From<StorageFault> for ClientError {
    fn from(fault: StorageFault) -> Self {
        Self::StorageFailed(fault)
    }
}
