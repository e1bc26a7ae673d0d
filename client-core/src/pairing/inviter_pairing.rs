//! The inviting device's half of a pairing.

use rand_core::CryptoRng;
use zerok_sync_protocol::channel::{AwaitingFinal, Channel, PairingResponder, Responder, Secret32};
use zerok_sync_protocol::limits::MAILBOX_MESSAGE_BYTES_MAX;
use zerok_sync_protocol::{MailboxId, wire};

use super::cpace::{Context, Exchange};
use super::digits::{Digits, NONCE_BYTES, Nonce, commitment, digits};
use super::grant::{GrantMaterial, encode_answer};
use super::message::{Answer, Confirmation, Introduction, verify_card};
use super::{PairingMode, channel_error, pairing_psk, pake_channel, prologue};
use crate::certificate::{Card, JoinCertificate};
use crate::code::PairingCode;
use crate::error::JoinError;
use crate::keys::Membership;

/// What to do next.
#[derive(Debug)]
pub enum InviterStep {
    /// Send this through the mailbox.
    Send(Vec<u8>),
    /// Ask the person for the two digits that the joining device shows. Then
    /// [`InviterPairing::check_digits`] and [`InviterPairing::accept`], or
    /// [`InviterPairing::decline`]. Before asking, decline a card that collides with a member.
    Ask {
        /// Who wants to come in; the name is what it calls itself.
        card: Card,
    },
    /// The joiner has stored the grant: close the mailbox, it is done.
    Accepted {
        /// What makes it a member.
        certificate: JoinCertificate,
    },
}

/// Lets one device in, or not. After an error, [`Self::decline`] or [`InviterStep::Accepted`] it
/// is over: close the mailbox.
#[derive(Debug)]
pub struct InviterPairing {
    membership: Membership,
    mode: PairingMode,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The mailbox is open and nobody came; with a code, no secret is shared yet.
    AwaitingShare {
        code: PairingCode,
        salt: Vec<u8>,
    },
    /// With a link, nobody came; with a code, somebody did.
    AwaitingJoiner(PairingResponder),
    /// Message 2 is sent.
    AwaitingIntroduction {
        handshake: Box<AwaitingFinal>,
        commitment: [u8; 32],
        nonce: Nonce,
    },
    /// The person is asked.
    AwaitingPerson {
        channel: Box<Channel>,
        card: Card,
        digits: Digits,
    },
    /// The grant is out.
    AwaitingStored {
        channel: Box<Channel>,
        certificate: JoinCertificate,
    },
    Ended,
}

impl InviterPairing {
    /// An invitation by link whose mailbox is open. `psk0` is [`super::pairing_psk`] of the link's
    /// secret.
    #[must_use]
    pub fn by_link(mailbox: &MailboxId, psk0: Secret32, membership: Membership) -> Self {
        let mode = PairingMode::Link;
        let responder = Responder::pairing(&membership.noise, psk0, &prologue(mode, mailbox));
        Self { membership, mode, state: State::AwaitingJoiner(responder) }
    }

    /// An invitation by code whose mailbox is open; `salt` is what the relay told both.
    #[must_use]
    pub fn by_code(code: PairingCode, salt: &[u8], membership: Membership) -> Self {
        let state = State::AwaitingShare { code, salt: salt.to_vec() };
        Self { membership, mode: PairingMode::Code, state }
    }

    /// Takes one mailbox message in. Draws, in this order, 64 bytes of `rng` for a code's share,
    /// 64 (the channel's) and 32 (`r_i`) for message 1.
    ///
    /// # Errors
    /// [`JoinError`]: the pairing is over and the mailbox must be closed, so that the joiner learns
    /// of it. Nothing was handed over, except with [`JoinError::Unconfirmed`] and
    /// [`JoinError::Refused`].
    pub fn receive(&mut self, message: &[u8], rng: &mut (impl CryptoRng + ?Sized)) -> Result<InviterStep, JoinError> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::AwaitingShare { code, salt } => self.answer_share(&code, &salt, message, rng),
            State::AwaitingJoiner(responder) => self.answer_first(responder, message, rng),
            State::AwaitingIntroduction { handshake, commitment, nonce } => {
                self.read_introduction(*handshake, &commitment, &nonce, message)
            }
            State::AwaitingStored { channel, certificate } => read_confirmation(*channel, certificate, message),
            State::AwaitingPerson { .. } | State::Ended => Err(JoinError::Invalid("a message where none may come")),
        }
    }

    fn answer_share(
        &mut self,
        code: &PairingCode,
        salt: &[u8],
        message: &[u8],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<InviterStep, JoinError> {
        let channel = pake_channel(code.mailbox());
        let context = Context { password: code.password().expose(), channel: &channel, session: salt };
        let exchange = Exchange::start(context, rng);
        let share = exchange.share();
        let isk = exchange.finish_second(salt, message).ok_or(JoinError::Invalid("a share that is none"))?;
        let prologue = prologue(self.mode, code.mailbox());
        let responder = Responder::pairing(&self.membership.noise, pairing_psk(isk.as_slice()), &prologue);
        self.state = State::AwaitingJoiner(responder);
        Ok(InviterStep::Send(share.to_vec()))
    }

    fn answer_first(
        &mut self,
        responder: PairingResponder,
        message: &[u8],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<InviterStep, JoinError> {
        let first = responder.read(message, rng).map_err(|error| channel_error(self.mode, error))?;
        let commitment = first.extra().try_into().map_err(|_| JoinError::Invalid("no commitment"))?;
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let (handshake, message) = first.respond(&nonce).map_err(|error| channel_error(self.mode, error))?;
        self.state = State::AwaitingIntroduction { handshake: Box::new(handshake), commitment, nonce };
        Ok(InviterStep::Send(message))
    }

    fn read_introduction(
        &mut self,
        handshake: AwaitingFinal,
        committed: &[u8; 32],
        own_nonce: &Nonce,
        message: &[u8],
    ) -> Result<InviterStep, JoinError> {
        let h2 = handshake.hash_after_message_2();
        let (channel, payload) = handshake.read(message).map_err(|error| channel_error(self.mode, error))?;
        let introduction: Introduction =
            wire::decode(&payload).map_err(|_| JoinError::Invalid("an introduction that cannot be read"))?;
        // Before anybody is asked: a nonce chosen after message 2 could be chosen for its digits.
        if commitment(&introduction.nonce.0) != *committed {
            return Err(JoinError::Invalid("another nonce than the one it was bound to"));
        }
        let card: Card =
            wire::decode(&introduction.card).map_err(|_| JoinError::Invalid("a card that cannot be read"))?;
        if card.keys.noise != channel.remote_static() {
            return Err(JoinError::Invalid("the card of another device"));
        }
        if !verify_card(&card.keys.device, &h2, &introduction.card, &introduction.signature) {
            return Err(JoinError::Invalid("a card it did not sign for this pairing"));
        }
        let digits = digits(&h2, own_nonce, &introduction.nonce.0);
        self.state = State::AwaitingPerson { channel: Box::new(channel), card: card.clone(), digits };
        Ok(InviterStep::Ask { card })
    }

    /// Compares what the person typed with what the joining device shows. If it differs the
    /// pairing is over, and the message, if there is one, tells the joiner.
    ///
    /// # Errors
    /// [`JoinError::WrongDigits`] with that message.
    pub fn check_digits(&mut self, typed: Digits) -> Result<(), (JoinError, Option<Vec<u8>>)> {
        match &self.state {
            State::AwaitingPerson { digits, .. } if *digits != typed => {
                Err((JoinError::WrongDigits, self.answer(&Answer::WrongDigits {})))
            }
            _ => Ok(()),
        }
    }

    /// The digits were right, or a script lets in whoever holds the invitation: message 4, with
    /// everything the new member needs.
    ///
    /// # Errors
    /// [`JoinError::Invalid`] when nobody waits to be let in, or when the group's state does not
    /// fit a mailbox message. Nothing is handed over.
    pub fn accept(&mut self, material: &GrantMaterial) -> Result<Vec<u8>, JoinError> {
        const TOO_LARGE: JoinError = JoinError::Invalid("a group whose state does not fit one message");
        let State::AwaitingPerson { mut channel, card, .. } = std::mem::replace(&mut self.state, State::Ended) else {
            return Err(JoinError::Invalid("an answer where none was asked for"));
        };
        let (answer, certificate) =
            material.grant(&self.membership, &channel.handshake_hash(), card).map_err(|_| TOO_LARGE)?;
        let message = channel.seal(&encode_answer(&answer)).map_err(|_| TOO_LARGE)?;
        if message.len() > MAILBOX_MESSAGE_BYTES_MAX {
            return Err(TOO_LARGE);
        }
        self.state = State::AwaitingStored { channel, certificate };
        Ok(message)
    }

    /// The person said no, or did not come back: a message that tells the joiner so, if one waits.
    pub fn decline(&mut self) -> Option<Vec<u8>> {
        match self.state {
            State::AwaitingPerson { .. } => self.answer(&Answer::Declined {}),
            _ => {
                self.state = State::Ended;
                None
            }
        }
    }

    /// Ends it with a word to whoever waits.
    fn answer(&mut self, answer: &Answer) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::AwaitingPerson { mut channel, .. } => channel.seal(&encode_answer(answer)).ok(),
            _ => None,
        }
    }

    /// What it means that the mailbox closed now, or that the link to it is gone.
    pub fn closed(&mut self) -> JoinError {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::AwaitingShare { .. } => JoinError::Expired,
            State::AwaitingJoiner(_) if self.mode == PairingMode::Link => JoinError::Expired,
            State::AwaitingJoiner(_)
            | State::AwaitingIntroduction { .. }
            | State::AwaitingPerson { .. }
            | State::Ended => JoinError::PeerLeft,
            State::AwaitingStored { .. } => JoinError::Unconfirmed,
        }
    }

    /// Whether the group's secrets were handed over without a confirmation that they arrived.
    #[must_use]
    pub fn awaits_confirmation(&self) -> bool {
        matches!(self.state, State::AwaitingStored { .. })
    }
}

/// From here on the joiner may be a member whatever comes, so every error says that.
fn read_confirmation(
    mut channel: Channel,
    certificate: JoinCertificate,
    message: &[u8],
) -> Result<InviterStep, JoinError> {
    let plaintext = channel.open(message).map_err(|_| JoinError::Unconfirmed)?;
    match wire::decode(&plaintext) {
        Ok(Confirmation::Stored {}) => Ok(InviterStep::Accepted { certificate }),
        Ok(Confirmation::Refused {}) => Err(JoinError::Refused),
        Err(_) => Err(JoinError::Unconfirmed),
    }
}
