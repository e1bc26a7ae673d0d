//! The channel against honest peers, wrong keys, and somebody on the path.

mod pairing;
mod relay;
mod tampering;
mod transport;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

pub(crate) fn key(seed: u64) -> StaticKey {
    StaticKey::generate(&mut rng(seed))
}

pub(crate) const CLIENT: u64 = 1;
pub(crate) const RELAY: u64 = 2;

/// The three link messages of a relay handshake and the two channels they make.
pub(crate) struct Handshake {
    pub(crate) messages: [Vec<u8>; 3],
    pub(crate) client: Channel,
    pub(crate) relay: Channel,
}

pub(crate) fn handshake(seed: u64) -> Handshake {
    let (client, first) = Initiator::relay(&key(CLIENT), &mut rng(seed));
    let (relay, second) = Responder::relay(&key(RELAY)).read(&first, &mut rng(seed + 1)).expect("message 1");
    let (third, client) = client.read(&second).expect("message 2").finish(&[]).expect("message 3");
    let (relay, payload) = relay.read(&third).expect("message 3");
    assert!(payload.is_empty());
    Handshake { messages: [first, second, third], client, relay }
}

/// A client and a relay that got as far as message 2, again and again the same.
pub(crate) fn after_message_2(seed: u64) -> (AwaitingResponse, Vec<u8>, AwaitingFinal) {
    let (client, first) = Initiator::relay(&key(CLIENT), &mut rng(seed));
    let (relay, second) = Responder::relay(&key(RELAY)).read(&first, &mut rng(seed + 1)).expect("message 1");
    (client, second, relay)
}
