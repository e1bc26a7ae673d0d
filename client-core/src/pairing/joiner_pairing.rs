//! The joining device's half of a pairing.

use bytes::Bytes;
use rand_core::CryptoRng;
use zerok_sync_protocol::channel::{AwaitingResponse, Channel, Initiator, Secret32};
use zerok_sync_protocol::{MailboxId, wire};

use super::cpace::{Context, Exchange};
use super::digits::{Digits, NONCE_BYTES, Nonce, commitment, digits};
use super::grant::Granted;
use super::message::{Answer, Confirmation, Introduction, JoinerNonce, sign_card};
use super::{PairingMode, channel_error, pairing_psk, pake_channel, prologue, wrong_secret};
use crate::certificate::{Card, DeviceName};
use crate::code::PairingCode;
use crate::error::JoinError;
use crate::keys::Membership;

/// What to do next.
#[derive(Debug)]
pub enum JoinerStep {
    /// Send this through the mailbox.
    Send(Vec<u8>),
    /// Send message 3 through the mailbox and show these digits.
    Introduce {
        /// Message 3.
        message: Vec<u8>,
        /// What the inviting person is to type.
        digits: Digits,
    },
    /// Let in: ask this device's person, store it, then send [`JoinerPairing::stored`]; or send
    /// [`JoinerPairing::refuse`].
    Granted(Box<Granted>),
}

/// Asks to be let in. After an error it is over: close the mailbox.
#[derive(Debug)]
pub struct JoinerPairing {
    membership: Membership,
    card: Card,
    mode: PairingMode,
    mailbox: MailboxId,
    state: State,
}

#[derive(Debug)]
enum State {
    /// `Ya` is out.
    AwaitingShare {
        exchange: Exchange,
        salt: Vec<u8>,
    },
    /// Message 1 is out.
    AwaitingResponse {
        handshake: Box<AwaitingResponse>,
        nonce: Nonce,
    },
    /// Message 3 is out; the other person is asked.
    AwaitingAnswer(Box<Channel>),
    /// The grant is here.
    Storing(Box<Channel>),
    Ended,
}

impl JoinerPairing {
    /// Starts with a link's secret; the second value is message 1. `psk0` is
    /// [`super::pairing_psk`] of it, `membership` the one this device will have. Draws 32 bytes of
    /// `rng` (`r_j`) and then 96 (the channel's).
    pub fn by_link(
        mailbox: &MailboxId,
        psk0: Secret32,
        membership: Membership,
        name: DeviceName,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> (Self, Vec<u8>) {
        let mut pairing = Self::new(PairingMode::Link, mailbox, membership, name);
        let message = pairing.start(psk0, rng);
        (pairing, message)
    }

    /// Starts with a code; the second value is `Ya`. `salt` is what the relay told both. Draws 64
    /// bytes of `rng`, and for message 1 as with a link.
    pub fn by_code(
        code: &PairingCode,
        salt: &[u8],
        membership: Membership,
        name: DeviceName,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> (Self, Vec<u8>) {
        let mut pairing = Self::new(PairingMode::Code, code.mailbox(), membership, name);
        let channel = pake_channel(code.mailbox());
        let context = Context { password: code.password().expose(), channel: &channel, session: salt };
        let exchange = Exchange::start(context, rng);
        let share = exchange.share().to_vec();
        pairing.state = State::AwaitingShare { exchange, salt: salt.to_vec() };
        (pairing, share)
    }

    fn new(mode: PairingMode, mailbox: &MailboxId, membership: Membership, name: DeviceName) -> Self {
        let card = Card { keys: membership.keys.clone(), name };
        Self { membership, card, mode, mailbox: mailbox.clone(), state: State::Ended }
    }

    /// Message 1.
    fn start(&mut self, psk0: Secret32, rng: &mut (impl CryptoRng + ?Sized)) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let prologue = prologue(self.mode, &self.mailbox);
        let (handshake, message) =
            Initiator::pairing(&self.membership.noise, psk0, &prologue, &commitment(&nonce), rng)
                .expect("32 bytes fit beside an ML-KEM key");
        self.state = State::AwaitingResponse { handshake: Box::new(handshake), nonce };
        message
    }

    /// Takes one mailbox message in.
    ///
    /// # Errors
    /// [`JoinError`]: the pairing is over and the mailbox must be closed.
    pub fn receive(&mut self, message: &[u8], rng: &mut (impl CryptoRng + ?Sized)) -> Result<JoinerStep, JoinError> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::AwaitingShare { exchange, salt } => {
                let isk = exchange.finish_first(&salt, message).ok_or(JoinError::Invalid("a share that is none"))?;
                Ok(JoinerStep::Send(self.start(pairing_psk(isk.as_slice()), rng)))
            }
            State::AwaitingResponse { handshake, nonce } => self.introduce(*handshake, &nonce, message),
            State::AwaitingAnswer(channel) => self.read_answer(channel, message),
            State::Storing(_) | State::Ended => Err(JoinError::Invalid("a message where none may come")),
        }
    }

    fn introduce(
        &mut self,
        handshake: AwaitingResponse,
        own_nonce: &Nonce,
        message: &[u8],
    ) -> Result<JoinerStep, JoinError> {
        let inviter = handshake.read(message).map_err(|error| channel_error(self.mode, error))?;
        let nonce: Nonce = inviter.extra().try_into().map_err(|_| JoinError::Invalid("no nonce"))?;
        let h2 = inviter.hash_after_message_2();
        let card = Bytes::from(wire::encode(&self.card));
        let signature = sign_card(&self.membership.signing, &h2, &card);
        let introduction = Introduction { nonce: JoinerNonce(*own_nonce), card, signature };
        let (message, channel) =
            inviter.finish(&wire::encode(&introduction)).map_err(|error| channel_error(self.mode, error))?;
        self.state = State::AwaitingAnswer(Box::new(channel));
        Ok(JoinerStep::Introduce { message, digits: digits(&h2, &nonce, own_nonce) })
    }

    fn read_answer(&mut self, mut channel: Box<Channel>, message: &[u8]) -> Result<JoinerStep, JoinError> {
        let plaintext = channel.open(message).map_err(|error| channel_error(self.mode, error))?;
        let plaintext = zeroize::Zeroizing::new(plaintext);
        match wire::decode(&plaintext).map_err(|_| JoinError::Invalid("an answer that cannot be read"))? {
            Answer::Declined {} => Err(JoinError::Declined),
            Answer::WrongDigits {} => Err(JoinError::WrongDigits),
            Answer::Granted { grant, signature } => {
                let (hash, inviter) = (channel.handshake_hash(), channel.remote_static());
                let granted = Granted::check(&grant, &signature, &hash, &inviter, &self.card)?;
                self.state = State::Storing(channel);
                Ok(JoinerStep::Granted(Box::new(granted)))
            }
        }
    }

    /// Message 5, once the grant is on disk; `None` if there was no grant.
    pub fn stored(&mut self) -> Option<Vec<u8>> {
        self.confirm(&Confirmation::Stored {})
    }

    /// Message 5, if this device's person does not want it; `None` if there was no grant.
    pub fn refuse(&mut self) -> Option<Vec<u8>> {
        self.confirm(&Confirmation::Refused {})
    }

    fn confirm(&mut self, confirmation: &Confirmation) -> Option<Vec<u8>> {
        let State::Storing(channel) = &mut self.state else { return None };
        let message = channel.seal(&wire::encode(confirmation)).ok();
        self.state = State::Ended;
        message
    }

    /// What it means that the mailbox closed now. An inviter that cannot read message 1 closes
    /// without a word, for it has no channel to say one in.
    #[must_use]
    pub fn closed(&self) -> JoinError {
        match self.state {
            State::AwaitingResponse { .. } => wrong_secret(self.mode),
            State::AwaitingShare { .. } | State::AwaitingAnswer(_) | State::Storing(_) | State::Ended => {
                JoinError::InviteGone
            }
        }
    }
}
