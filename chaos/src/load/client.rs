//! One device's session with a relay, without an engine: the real handshake, the real frames, and
//! whatever the generator wants to say.
//!
//! Envelopes are not sealed: a relay cannot look inside one, so random bytes of the same length
//! cost it exactly as much. What they carry instead is a [`Stamp`].

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zerok_sync_protocol::channel::{Initiator, StaticKey};
use zerok_sync_protocol::envelope::{ENVELOPE_BYTES_MIN, HEADER_BYTES};
use zerok_sync_protocol::frame::{LogState, Who};
use zerok_sync_protocol::limits::{ENVELOPE_BYTES_MAX_DEFAULT, FRAME_OVERHEAD_BYTES_MAX, MINOR_MAX, MINOR_MIN};
use zerok_sync_protocol::record::{RecordError, SecureStream};
use zerok_sync_protocol::wire::{List, WireError};
use zerok_sync_protocol::{AuthPublicKey, ClientFrame, ErrorCode, NoisePublicKey, RelayFrame, hello};

use super::link::{Ended, Link};

/// Sealed bytes handed to the socket ahead of what it takes.
const SEND_AHEAD_BYTES: usize = 256 * 1024;

/// Why a session is not, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The link.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The relay said no.
    #[error("the relay refused: {code} {detail}")]
    Refused {
        /// [`ErrorCode`] as a number.
        code: u16,
        /// When to come back.
        retry_after: Duration,
        /// For people.
        detail: String,
    },
    /// The relay is going away.
    #[error("the relay said goodbye")]
    Bye {
        /// When to come back.
        retry_after: Duration,
    },
    /// Noise, records or frames.
    #[error("the relay broke the protocol: {0}")]
    Protocol(String),
}

impl SessionError {
    /// Whether no later attempt could succeed: fatal for this device.
    #[must_use]
    pub fn is_for_good(&self) -> bool {
        match self {
            Self::Refused { code, .. } => ErrorCode::from_number(*code).is_none_or(|code| {
                matches!(
                    code,
                    ErrorCode::UnknownLog
                        | ErrorCode::Unauthorized
                        | ErrorCode::DeviceRevoked
                        | ErrorCode::UnsupportedVersion
                        | ErrorCode::InvalidMessage
                        | ErrorCode::CreationRefused
                )
            }),
            Self::Protocol(_) => true,
            Self::Ended(_) | Self::Bye { .. } => false,
        }
    }

    /// What the relay asked for.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Refused { retry_after, .. } | Self::Bye { retry_after } => *retry_after,
            _ => Duration::ZERO,
        }
    }

    fn protocol(error: impl std::fmt::Display) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<RecordError> for SessionError {
    fn from(error: RecordError) -> Self {
        Self::protocol(error)
    }
}

impl From<WireError> for SessionError {
    fn from(error: WireError) -> Self {
        Self::protocol(error)
    }
}

/// Where a relay is dialled, and over what.
#[derive(Debug, Clone)]
pub enum Dial {
    /// WebSocket.
    WebSocket(SocketAddr),
    /// iroh, from an endpoint that several sessions may share.
    Iroh(iroh::Endpoint, iroh::EndpointAddr),
}

/// A group as a relay sees it: an auth key, and the devices on its list.
#[derive(Clone)]
pub struct Group {
    auth: SigningKey,
    /// Its devices.
    pub devices: Vec<StaticKey>,
}

impl Group {
    /// A group of `devices` devices.
    #[must_use]
    pub fn random(devices: usize, rng: &mut ChaCha20Rng) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let devices = (0..devices).map(|_| StaticKey::generate(rng)).collect();
        Self { auth: SigningKey::from_bytes(&seed), devices }
    }

    fn allow(&self) -> Vec<NoisePublicKey> {
        self.devices.iter().map(StaticKey::public).collect()
    }
}

/// See the module's documentation.
pub struct Client {
    link: Link,
    stream: SecureStream,
}

impl Client {
    /// Connects and does the handshake.
    ///
    /// # Errors
    /// [`SessionError`]; also when the relay's key is not `relay`, if one is given.
    pub async fn connect(dial: &Dial, device: &StaticKey, relay: Option<NoisePublicKey>) -> Result<Self, SessionError> {
        let mut link = match dial {
            Dial::WebSocket(addr) => Link::websocket(*addr).await?,
            Dial::Iroh(endpoint, addr) => Link::iroh(endpoint, addr.clone()).await?,
        };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(SessionError::protocol)?;
        let (state, first) = Initiator::relay(device, &mut ChaCha20Rng::from_seed(seed));
        link.queue(&first);
        let second = loop {
            link.exchange().await?;
            if let Some(message) = link.next_message()? {
                break message;
            }
        };
        let peer = state.read(&second).map_err(SessionError::protocol)?;
        if relay.is_some_and(|relay| relay != peer.remote_static()) {
            return Err(SessionError::Protocol("another relay answers here".into()));
        }
        let (third, channel) = peer.finish(&[]).map_err(SessionError::protocol)?;
        link.queue(&third);
        let frame_bytes_max = ENVELOPE_BYTES_MAX_DEFAULT as usize + FRAME_OVERHEAD_BYTES_MAX;
        Ok(Self { link, stream: SecureStream::new(channel, frame_bytes_max) })
    }

    /// Connects and says a member's `Hello`.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn member(
        dial: &Dial,
        group: &Group,
        device: &StaticKey,
        relay: Option<NoisePublicKey>,
    ) -> Result<(Self, LogState), SessionError> {
        let mut client = Self::connect(dial, device, relay).await?;
        let log = client.hello(group, false).await?;
        Ok((client, log))
    }

    /// Connects and makes the group's log, with all its devices on the list.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn founder(
        dial: &Dial,
        group: &Group,
        relay: Option<NoisePublicKey>,
    ) -> Result<(Self, LogState), SessionError> {
        let device = group.devices.first().expect("a group has devices");
        let mut client = Self::connect(dial, device, relay).await?;
        client.hello(group, true).await?;
        let mut epoch_envelope = vec![0; ENVELOPE_BYTES_MIN];
        getrandom::fill(&mut epoch_envelope).map_err(SessionError::protocol)?;
        client.queue(&ClientFrame::Create {
            allow: List::try_from(group.allow()).map_err(SessionError::protocol)?,
            epoch_envelope: epoch_envelope.into(),
            envelopes: List::empty(),
        })?;
        let log = client.welcomed().await?;
        Ok((client, log))
    }

    async fn hello(&mut self, group: &Group, create: bool) -> Result<LogState, SessionError> {
        let auth_public = AuthPublicKey(group.auth.verifying_key().to_bytes());
        let signature = hello::sign(&group.auth, &self.stream.handshake_hash(), create);
        let who = Who::Member { auth_public, signature };
        let (minor_min, minor_max) = (MINOR_MIN, MINOR_MAX);
        self.queue(&ClientFrame::Hello { minor_min, minor_max, who, create, token: None })?;
        self.welcomed().await
    }

    async fn welcomed(&mut self) -> Result<LogState, SessionError> {
        match self.next().await? {
            RelayFrame::Welcome { log: Some(log), .. } => Ok(log),
            other => Err(SessionError::Protocol(format!("{} instead of a Welcome", other.name()))),
        }
    }

    /// Queues a frame; [`Self::exchange`] and [`Self::next`] send it.
    ///
    /// # Errors
    /// [`SessionError::Protocol`] for a frame over every limit.
    pub fn queue(&mut self, frame: &ClientFrame) -> Result<(), SessionError> {
        Ok(self.stream.send_bytes(Bytes::from(frame.encode()))?)
    }

    /// Sends what is queued and waits until something has arrived. Cancel-safe.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn exchange(&mut self) -> Result<(), SessionError> {
        loop {
            while self.link.queued_bytes() < SEND_AHEAD_BYTES
                && let Some(message) = self.stream.poll_transmit()
            {
                self.link.queue(&message);
            }
            let more = self.stream.queued_bytes() > 0;
            if self.link.exchange_unless_sent(more).await? {
                return Ok(());
            }
        }
    }

    /// The next frame that has arrived whole; never waits. `Error` and `Bye` come as errors.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn poll_frame(&mut self) -> Result<Option<RelayFrame>, SessionError> {
        let frame = loop {
            if let Some(frame) = self.stream.next_frame()? {
                break RelayFrame::decode(&frame)?;
            }
            match self.link.next_message()? {
                Some(message) => self.stream.receive(&message)?,
                None => return Ok(None),
            }
        };
        match frame {
            RelayFrame::Error { code, retry_after_ms, detail } => {
                Err(SessionError::Refused { code, retry_after: Duration::from_millis(retry_after_ms), detail })
            }
            RelayFrame::Bye { retry_after_ms } => {
                Err(SessionError::Bye { retry_after: Duration::from_millis(retry_after_ms) })
            }
            frame => Ok(Some(frame)),
        }
    }

    /// The next frame. Cancel-safe.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn next(&mut self) -> Result<RelayFrame, SessionError> {
        loop {
            if let Some(frame) = self.poll_frame()? {
                return Ok(frame);
            }
            self.exchange().await?;
        }
    }
}

/// What the generator writes into an envelope behind its header: who sent it as which of its
/// entries, and when it was meant to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Random per run, so that a store that is used again never takes an entry for a repetition.
    pub run: u64,
    /// Index of the sending session.
    pub sender: u32,
    /// Counts the sender's entries from 0.
    pub seq: u64,
    /// Nanoseconds since the run's start.
    pub intended_ns: u64,
}

impl Stamp {
    const BYTES: usize = 28;

    /// An envelope of the template's length that carries this stamp.
    #[must_use]
    pub fn envelope(&self, template: &[u8]) -> Bytes {
        let mut envelope = template.to_vec();
        let stamp = &mut envelope[HEADER_BYTES..HEADER_BYTES + Self::BYTES];
        stamp[..8].copy_from_slice(&self.run.to_le_bytes());
        stamp[8..12].copy_from_slice(&self.sender.to_le_bytes());
        stamp[12..20].copy_from_slice(&self.seq.to_le_bytes());
        stamp[20..].copy_from_slice(&self.intended_ns.to_le_bytes());
        envelope.into()
    }

    /// The stamp of an envelope; `None` if it is too short to have one.
    #[must_use]
    pub fn of(envelope: &[u8]) -> Option<Self> {
        let stamp: &[u8; Self::BYTES] = envelope.get(HEADER_BYTES..)?.first_chunk()?;
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&stamp[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let sender = u32::from_le_bytes([stamp[8], stamp[9], stamp[10], stamp[11]]);
        Some(Self { run: word(0), sender, seq: word(12), intended_ns: word(20) })
    }
}

/// Random bytes of an envelope's length: what [`Stamp::envelope`] starts from.
///
/// # Errors
/// When the system has no randomness.
pub fn template(bytes: usize) -> anyhow::Result<Vec<u8>> {
    let mut template = vec![0; bytes.max(ENVELOPE_BYTES_MIN)];
    getrandom::fill(&mut template).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_from_its_envelope() {
        let template = template(1024).expect("randomness");
        let stamp = Stamp { run: 1, sender: 2, seq: 3, intended_ns: 4 };
        let envelope = stamp.envelope(&template);
        assert_eq!((Stamp::of(&envelope), envelope.len()), (Some(stamp), 1024));
        assert_eq!(Stamp::of(&envelope[..90]), None);
    }
}
