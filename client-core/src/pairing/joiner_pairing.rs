//! The joining device's half of a pairing.

use bytes::Bytes;
use rand_core::CryptoRng;
use zerok_sync_protocol::channel::{AwaitingResponse, Channel, Initiator, Secret32};
use zerok_sync_protocol::{MailboxId, wire};

use super::digits::{NONCE_BYTES, Nonce, commitment, digits};
use super::grant::Granted;
use super::message::{Answer, Confirmation, Introduction, JoinerNonce, sign_card};
use super::{PairingMode, channel_error, prologue};
use crate::certificate::{Card, DeviceName};
use crate::error::JoinError;
use crate::keys::Membership;

/// What to do next.
#[derive(Debug)]
pub enum JoinerStep {
    /// Send message 3 through the mailbox and show these digits.
    Introduce {
        /// Message 3.
        message: Vec<u8>,
        /// 0 to 99, shown with two places.
        digits: u8,
    },
    /// Let in: store this, then send [`JoinerPairing::stored`].
    Granted(Box<Granted>),
}

/// Asks to be let in. After an error it is over: close the mailbox.
#[derive(Debug)]
pub struct JoinerPairing {
    membership: Membership,
    card: Card,
    state: State,
}

#[derive(Debug)]
enum State {
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
    /// Starts; the second value is message 1. `psk0` is [`super::pairing_psk`] of the link's
    /// secret, `membership` the one this device will have. Draws 32 bytes of `rng` (`r_j`) and then
    /// 96 (the channel's).
    pub fn start(
        mode: PairingMode,
        mailbox: &MailboxId,
        psk0: Secret32,
        membership: Membership,
        name: DeviceName,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> (Self, Vec<u8>) {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let (handshake, message) =
            Initiator::pairing(&membership.noise, psk0, &prologue(mode, mailbox), &commitment(&nonce), rng)
                .expect("32 bytes fit beside an ML-KEM key");
        let card = Card { keys: membership.keys.clone(), name };
        let state = State::AwaitingResponse { handshake: Box::new(handshake), nonce };
        (Self { membership, card, state }, message)
    }

    /// Takes one mailbox message in.
    ///
    /// # Errors
    /// [`JoinError`]: the pairing is over and the mailbox must be closed.
    pub fn receive(&mut self, message: &[u8]) -> Result<JoinerStep, JoinError> {
        match std::mem::replace(&mut self.state, State::Ended) {
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
        let inviter = handshake.read(message).map_err(channel_error)?;
        let nonce: Nonce = inviter.extra().try_into().map_err(|_| JoinError::Invalid("no nonce"))?;
        let h2 = inviter.hash_after_message_2();
        let card = Bytes::from(wire::encode(&self.card));
        let signature = sign_card(&self.membership.signing, &h2, &card);
        let introduction = Introduction { nonce: JoinerNonce(*own_nonce), card, signature };
        let (message, channel) = inviter.finish(&wire::encode(&introduction)).map_err(channel_error)?;
        self.state = State::AwaitingAnswer(Box::new(channel));
        Ok(JoinerStep::Introduce { message, digits: digits(&h2, &nonce, own_nonce) })
    }

    fn read_answer(&mut self, mut channel: Box<Channel>, message: &[u8]) -> Result<JoinerStep, JoinError> {
        let plaintext = zeroize::Zeroizing::new(channel.open(message).map_err(channel_error)?);
        match wire::decode(&plaintext).map_err(|_| JoinError::Invalid("an answer that cannot be read"))? {
            Answer::Declined {} => Err(JoinError::Declined),
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
        let State::Storing(channel) = &mut self.state else { return None };
        let message = channel.seal(&wire::encode(&Confirmation::Stored {})).ok();
        self.state = State::Ended;
        message
    }

    /// What it means that the mailbox closed now. An inviter that cannot read message 1 closes
    /// without a word, for it has no channel to say one in.
    #[must_use]
    pub fn closed(&self) -> JoinError {
        match self.state {
            State::AwaitingResponse { .. } => JoinError::WrongSecret,
            State::AwaitingAnswer(_) | State::Storing(_) | State::Ended => JoinError::InviteGone,
        }
    }
}
