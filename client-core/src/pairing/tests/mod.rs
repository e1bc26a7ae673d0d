//! Both machines against each other, and the joiner against a relay, in virtual time.

mod attacks;
mod codes;
mod grants;
mod joining;
mod messages;
mod outcomes;

pub(in crate::pairing) use grants::honest_answer;

use std::sync::LazyLock;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerok_sync_protocol::{MailboxId, NoisePublicKey};

use super::*;
use crate::certificate::{Card, DeviceName, JoinCertificate};
use crate::content::{SeenHash, SeenItem};
use crate::fixtures::membership;
use crate::genesis::{Genesis, GenesisRandom};
use crate::io::RelayAddress;
use crate::keyring::Keyring;
use crate::keys::{EpochSecret, Membership};

const SECRET: [u8; 32] = [0x51; 32];
const RELAY_URL: &str = "https://relay.example";

fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

fn mailbox() -> MailboxId {
    MailboxId::from_slice(&[0xab; 16]).expect("16 bytes")
}

fn name(text: &str) -> DeviceName {
    text.parse().expect("a name")
}

/// The inviter's membership in every test.
fn inviter() -> Membership {
    static INVITER: LazyLock<Membership> = LazyLock::new(|| membership(1));
    INVITER.clone()
}

/// The joiner's membership in every test.
fn joiner() -> Membership {
    static JOINER: LazyLock<Membership> = LazyLock::new(|| membership(2));
    JOINER.clone()
}

/// What the founder of a young group with two epochs hands over.
fn material() -> GrantMaterial {
    let genesis = Genesis::new(GenesisRandom([7; 32]), inviter().keys);
    let mut keyring = Keyring::new(genesis.group(), EpochSecret::from_bytes([8; 32]));
    let second = keyring.insert(EpochSecret::from_bytes([9; 32]));
    assert!(keyring.set_current(&second));
    GrantMaterial {
        genesis,
        keyring,
        inviter_certificate: None,
        relays: vec![RelayAddress { url: RELAY_URL.into(), key: Some(NoisePublicKey([6; 32])) }],
        frontier: vec![SeenItem { tag: inviter().device().tag(), seq: 3, hash: SeenHash([5; 16]) }],
        observed: None,
        history_start: None,
        members: vec![GrantedMember { device: inviter().device(), name: name("laptop") }],
    }
}

fn start_inviter() -> InviterPairing {
    InviterPairing::by_link(&mailbox(), pairing_psk(&SECRET), inviter())
}

/// The joiner, and its message 1.
fn start_joiner() -> (JoinerPairing, Vec<u8>) {
    let psk0 = pairing_psk(&SECRET);
    JoinerPairing::by_link(&mailbox(), psk0, joiner(), name("phone"), &mut rng(2))
}

fn send(step: Result<InviterStep, crate::error::JoinError>) -> Vec<u8> {
    match step {
        Ok(InviterStep::Send(message)) => message,
        other => panic!("expected a message, got {other:?}"),
    }
}

fn ask(step: Result<InviterStep, crate::error::JoinError>) -> Card {
    match step {
        Ok(InviterStep::Ask { card }) => card,
        other => panic!("expected a question, got {other:?}"),
    }
}

fn introduce(step: Result<JoinerStep, crate::error::JoinError>) -> (Vec<u8>, Digits) {
    match step {
        Ok(JoinerStep::Introduce { message, digits }) => (message, digits),
        other => panic!("expected message 3, got {other:?}"),
    }
}

fn granted(step: Result<JoinerStep, crate::error::JoinError>) -> Granted {
    match step {
        Ok(JoinerStep::Granted(granted)) => *granted,
        other => panic!("expected a grant, got {other:?}"),
    }
}

fn accepted(step: Result<InviterStep, crate::error::JoinError>) -> JoinCertificate {
    match step {
        Ok(InviterStep::Accepted { certificate }) => certificate,
        other => panic!("expected the end, got {other:?}"),
    }
}

/// Both machines after messages 1 to `done`; the second value is every message so far, in order.
struct Pair {
    inviter: InviterPairing,
    joiner: JoinerPairing,
    messages: Vec<Vec<u8>>,
}

impl Pair {
    /// The state in which message `next` (1 to 5) was written and not delivered.
    fn before(next: usize) -> Self {
        let (joiner, first) = start_joiner();
        let mut pair = Self { inviter: start_inviter(), joiner, messages: vec![first] };
        while pair.messages.len() < next {
            pair.deliver();
        }
        pair
    }

    fn deliver(&mut self) {
        let message = self.messages.last().expect("message 1 is there").clone();
        let next = match self.messages.len() {
            1 => send(self.inviter.receive(&message, &mut rng(1))),
            2 => introduce(self.joiner.receive(&message, &mut rng(2))).0,
            3 => {
                ask(self.inviter.receive(&message, &mut rng(1)));
                self.inviter.accept(&material()).expect("it fits")
            }
            4 => {
                granted(self.joiner.receive(&message, &mut rng(2)));
                self.joiner.stored().expect("there is a grant")
            }
            _ => unreachable!("there are five messages"),
        };
        self.messages.push(next);
    }

    /// Gives `message` to whoever waits for the next one, and says whether it was refused.
    fn refuses(&mut self, message: &[u8]) -> bool {
        match self.messages.len() % 2 {
            1 => self.inviter.receive(message, &mut rng(1)).is_err(),
            _ => self.joiner.receive(message, &mut rng(2)).is_err(),
        }
    }
}
