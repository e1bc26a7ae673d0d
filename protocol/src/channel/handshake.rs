//! The three-message handshake, one type per state. Initiator first, responder below.

use std::fmt;

use rand_core::CryptoRng;
use snow::params::NoiseParams;
use snow::{Builder, HandshakeState};

use super::error::ChannelError;
use super::kem::{self, CIPHERTEXT_BYTES, Decapsulator, KEY_BYTES};
use super::key::{Secret32, StaticKey};
use super::resolver::Resolver;
use super::transport::{Channel, TAG_BYTES};
use crate::hello::HandshakeHash;
use crate::id::NoisePublicKey;
use crate::label;
use crate::limits::{HANDSHAKE_MESSAGE_BYTES_MAX, SUITE};

const RELAY_PARAMS: &str = "Noise_XXpsk3_25519_ChaChaPoly_SHA256";
const PAIRING_PARAMS: &str = "Noise_XXpsk0+psk3_25519_ChaChaPoly_SHA256";

/// What a message holds beside its payload: an ephemeral key, an encrypted static key, two tags.
const OVERHEAD_BYTES_MAX: usize = 32 + 32 + TAG_BYTES + TAG_BYTES;

/// Which of the two channels.
#[derive(Debug)]
pub(crate) enum Pattern {
    /// Client to relay. The suite byte goes before message 1; messages 1 and 2 carry no extra.
    Relay,
    /// Joiner to inviter.
    Pairing { psk0: Secret32, prologue: Vec<u8> },
}

impl Pattern {
    fn has_extra(&self) -> bool {
        matches!(self, Self::Pairing { .. })
    }

    /// Noise's own state before message 1.
    pub(crate) fn start(&self, key: &StaticKey, initiator: bool, resolver: Resolver) -> HandshakeState {
        let (params, psk0, prologue) = match self {
            Self::Relay => (RELAY_PARAMS, None, [label::CHANNEL_PROLOGUE, &[SUITE]].concat()),
            Self::Pairing { psk0, prologue } => (PAIRING_PARAMS, Some(psk0), prologue.clone()),
        };
        let params: NoiseParams = params.parse().expect("both names are well-formed");
        let built = Builder::with_resolver(params, Box::new(resolver))
            .local_private_key(key.expose())
            .and_then(|builder| builder.prologue(&prologue))
            .and_then(|builder| match psk0 {
                Some(psk0) => builder.psk(0, psk0.expose()),
                None => Ok(builder),
            })
            .and_then(|builder| if initiator { builder.build_initiator() } else { builder.build_responder() });
        built.expect("the resolver knows both patterns' primitives, and each parameter is set once")
    }
}

/// Starts a channel.
#[derive(Debug)]
pub struct Initiator;

impl Initiator {
    /// Starts a relay channel. The second value is the first link message: suite byte ‖ Noise
    /// message 1.
    pub fn relay(key: &StaticKey, rng: &mut (impl CryptoRng + ?Sized)) -> (AwaitingResponse, Vec<u8>) {
        let (state, message) =
            Self::start(&Pattern::Relay, key, &[], rng).expect("message 1 without an extra always fits");
        (state, [&[SUITE], message.as_slice()].concat())
    }

    /// Starts a pairing channel, as the joiner. `psk0` comes from the link or the PAKE, and
    /// `prologue` binds the channel to its mailbox and mode; where either differs, message 1 fails.
    /// Whoever knows both can read `extra`.
    ///
    /// # Errors
    /// [`ChannelError::PayloadTooLong`] when `extra` does not fit a handshake message.
    pub fn pairing(
        key: &StaticKey,
        psk0: Secret32,
        prologue: &[u8],
        extra: &[u8],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<(AwaitingResponse, Vec<u8>), ChannelError> {
        Self::start(&Pattern::Pairing { psk0, prologue: prologue.to_vec() }, key, extra, rng)
    }

    fn start(
        pattern: &Pattern,
        key: &StaticKey,
        extra: &[u8],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<(AwaitingResponse, Vec<u8>), ChannelError> {
        let mut noise = pattern.start(key, true, Resolver::draw(rng));
        let kem = Decapsulator::generate(rng);
        let message = write(&mut noise, &[&kem.encapsulation_key(), extra].concat())?;
        Ok((AwaitingResponse { noise, kem, has_extra: pattern.has_extra() }, message))
    }
}

/// Initiator that sent message 1.
pub struct AwaitingResponse {
    noise: HandshakeState,
    kem: Decapsulator,
    has_extra: bool,
}

impl AwaitingResponse {
    /// Reads message 2.
    ///
    /// # Errors
    /// [`ChannelError`]; the handshake is over.
    pub fn read(mut self, message: &[u8]) -> Result<PeerKnown, ChannelError> {
        let payload = read(&mut self.noise, 2, message)?;
        let (ciphertext, extra) = split_kem::<CIPHERTEXT_BYTES>(2, &payload, self.has_extra)?;
        let hash = hash(&self.noise);
        let psk = kem::psk(&hash, &self.kem.decapsulate(ciphertext));
        self.noise.set_psk(3, psk.expose()).expect("position 3 and 32 bytes are valid");
        let remote = remote_static(&self.noise);
        Ok(PeerKnown { noise: self.noise, remote, hash_after_message_2: hash, extra: extra.to_vec() })
    }
}

/// Initiator that knows whom it talks to and has not yet said who it is itself: here a client
/// compares [`Self::remote_static`] with the key it pinned.
pub struct PeerKnown {
    noise: HandshakeState,
    remote: NoisePublicKey,
    hash_after_message_2: HandshakeHash,
    extra: Vec<u8>,
}

impl PeerKnown {
    /// The responder's static key, whose possession message 2 proved.
    #[must_use]
    pub fn remote_static(&self) -> NoisePublicKey {
        self.remote
    }

    /// What message 2 carried behind its KEM part.
    #[must_use]
    pub fn extra(&self) -> &[u8] {
        &self.extra
    }

    /// `h2`: both sides' hash of all that was said up to here.
    #[must_use]
    pub fn hash_after_message_2(&self) -> HandshakeHash {
        self.hash_after_message_2
    }

    /// Writes message 3, which reveals this side's static key and carries `payload`.
    ///
    /// # Errors
    /// [`ChannelError::PayloadTooLong`] when `payload` does not fit a handshake message.
    pub fn finish(mut self, payload: &[u8]) -> Result<(Vec<u8>, Channel), ChannelError> {
        let message = write(&mut self.noise, payload)?;
        Ok((message, into_channel(self.noise)))
    }
}

/// Relay that waits for a channel to be started.
#[derive(Debug)]
pub struct Responder {
    key: StaticKey,
}

impl Responder {
    /// A relay with this key.
    #[must_use]
    pub fn relay(key: &StaticKey) -> Self {
        Self { key: key.clone() }
    }

    /// An inviter with this key, before message 1.
    #[must_use]
    pub fn pairing(key: &StaticKey, psk0: Secret32, prologue: &[u8]) -> PairingResponder {
        PairingResponder { key: key.clone(), pattern: Pattern::Pairing { psk0, prologue: prologue.to_vec() } }
    }

    /// Reads the first link message (suite byte ‖ message 1) and writes message 2.
    ///
    /// # Errors
    /// [`ChannelError`]; [`ChannelError::UnsupportedSuite`] asks for close code 4004.
    pub fn read(
        self,
        first_link_message: &[u8],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<(AwaitingFinal, Vec<u8>), ChannelError> {
        check_length(first_link_message)?;
        match first_link_message {
            [SUITE, message @ ..] => read_first(&Pattern::Relay, &self.key, message, rng)?.respond(&[]),
            [theirs, ..] => Err(ChannelError::UnsupportedSuite { theirs: *theirs }),
            [] => Err(ChannelError::HandshakeTruncated { message: 1 }),
        }
    }
}

/// Inviter that waits for a joiner.
#[derive(Debug)]
pub struct PairingResponder {
    key: StaticKey,
    pattern: Pattern,
}

impl PairingResponder {
    /// Reads message 1. That it can be read proves that the joiner knows psk0.
    ///
    /// # Errors
    /// [`ChannelError`]; [`ChannelError::HandshakeRejected`] for a joiner with another secret.
    pub fn read(self, message: &[u8], rng: &mut (impl CryptoRng + ?Sized)) -> Result<FirstMessage, ChannelError> {
        read_first(&self.pattern, &self.key, message, rng)
    }
}

/// Inviter that read message 1 and has yet to answer.
pub struct FirstMessage {
    noise: HandshakeState,
    ciphertext: [u8; CIPHERTEXT_BYTES],
    secret: Secret32,
    extra: Vec<u8>,
}

impl FirstMessage {
    /// What message 1 carried behind its KEM part.
    #[must_use]
    pub fn extra(&self) -> &[u8] {
        &self.extra
    }

    /// Writes message 2 with `extra` behind its KEM part.
    ///
    /// # Errors
    /// [`ChannelError::PayloadTooLong`] when `extra` does not fit a handshake message;
    /// [`ChannelError::WeakKey`] when message 1's ephemeral key is of small order.
    pub fn respond(mut self, extra: &[u8]) -> Result<(AwaitingFinal, Vec<u8>), ChannelError> {
        let message = write(&mut self.noise, &[&self.ciphertext, extra].concat())?;
        let hash = hash(&self.noise);
        let psk = kem::psk(&hash, &self.secret);
        self.noise.set_psk(3, psk.expose()).expect("position 3 and 32 bytes are valid");
        Ok((AwaitingFinal { noise: self.noise, hash_after_message_2: hash }, message))
    }
}

/// Responder that sent message 2 and does not know yet who the initiator is.
pub struct AwaitingFinal {
    noise: HandshakeState,
    hash_after_message_2: HandshakeHash,
}

impl AwaitingFinal {
    /// `h2`: both sides' hash of all that was said up to here.
    #[must_use]
    pub fn hash_after_message_2(&self) -> HandshakeHash {
        self.hash_after_message_2
    }

    /// Reads message 3: the channel, whose [`Channel::remote_static`] is now proven, and the
    /// message's payload.
    ///
    /// # Errors
    /// [`ChannelError`]; the handshake is over. A wrong KEM secret on either side fails here.
    pub fn read(mut self, message: &[u8]) -> Result<(Channel, Vec<u8>), ChannelError> {
        let payload = read(&mut self.noise, 3, message)?;
        Ok((into_channel(self.noise), payload))
    }
}

fn read_first(
    pattern: &Pattern,
    key: &StaticKey,
    message: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<FirstMessage, ChannelError> {
    let mut noise = pattern.start(key, false, Resolver::draw(rng));
    let payload = read(&mut noise, 1, message)?;
    let (key, extra) = split_kem::<KEY_BYTES>(1, &payload, pattern.has_extra())?;
    let (ciphertext, secret) = kem::encapsulate(key, rng)?;
    Ok(FirstMessage { noise, ciphertext, secret, extra: extra.to_vec() })
}

fn write(noise: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, ChannelError> {
    // One byte of the limit is the relay channel's suite byte.
    let max = HANDSHAKE_MESSAGE_BYTES_MAX - 1 - OVERHEAD_BYTES_MAX;
    if payload.len() > max {
        return Err(ChannelError::PayloadTooLong { bytes: payload.len(), max });
    }
    let mut message = vec![0; payload.len() + OVERHEAD_BYTES_MAX];
    let len = noise.write_message(payload, &mut message).map_err(|error| match error {
        snow::Error::Dh => ChannelError::WeakKey,
        other => unreachable!("each state writes its own message once, into a buffer that fits: {other}"),
    })?;
    message.truncate(len);
    Ok(message)
}

fn read(noise: &mut HandshakeState, number: u8, message: &[u8]) -> Result<Vec<u8>, ChannelError> {
    check_length(message)?;
    let mut payload = vec![0; message.len()];
    let len = noise.read_message(message, &mut payload).map_err(|error| ChannelError::reading(number, error))?;
    payload.truncate(len);
    Ok(payload)
}

fn check_length(message: &[u8]) -> Result<(), ChannelError> {
    if message.len() > HANDSHAKE_MESSAGE_BYTES_MAX {
        return Err(ChannelError::HandshakeTooLong { bytes: message.len() });
    }
    Ok(())
}

/// Splits a payload into its KEM part of `N` bytes and the extra behind it.
fn split_kem<const N: usize>(message: u8, payload: &[u8], has_extra: bool) -> Result<(&[u8; N], &[u8]), ChannelError> {
    let (kem, extra) = payload.split_first_chunk::<N>().ok_or(ChannelError::HandshakeTruncated { message })?;
    if !has_extra && !extra.is_empty() {
        return Err(ChannelError::UnexpectedPayload { message });
    }
    Ok((kem, extra))
}

fn hash(noise: &HandshakeState) -> HandshakeHash {
    noise.get_handshake_hash().try_into().expect("SHA-256 gives 32 bytes")
}

fn remote_static(noise: &HandshakeState) -> NoisePublicKey {
    noise
        .get_remote_static()
        .and_then(NoisePublicKey::from_slice)
        .expect("the last message read carried the peer's 32-byte static key")
}

fn into_channel(noise: HandshakeState) -> Channel {
    let (hash, remote) = (hash(&noise), remote_static(&noise));
    let transport = noise.into_transport_mode().expect("message 3 was written or read");
    Channel::new(transport, hash, remote)
}

/// States hold secrets and have nothing to show.
macro_rules! opaque_debug {
    ($($state:ident)*) => { $(
        impl fmt::Debug for $state {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($state)).finish_non_exhaustive()
            }
        }
    )* };
}
opaque_debug!(AwaitingResponse PeerKnown FirstMessage AwaitingFinal);
