//! What all sessions of a relay share. No sockets: a simulation builds one of these around a store
//! and feeds [`crate::session::Session`]s by hand.

use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;
use zerok_sync_protocol::Timeline;
use zerok_sync_protocol::channel::StaticKey;

use crate::admission::Admission;
use crate::clock::{self, Clock, Entropy, Now};
use crate::hub::Hub;
use crate::limits::RelayLimits;
use crate::metrics::Metrics;
use crate::store::DynStore;
use crate::writer::Writer;

/// Who may make new logs at this relay.
#[derive(Clone, PartialEq, Eq)]
pub enum CreatePolicy {
    /// Anybody.
    Open,
    /// Whoever knows the operator's token.
    Token(Zeroizing<Vec<u8>>),
    /// Nobody.
    Closed,
}

impl CreatePolicy {
    /// Whether a `Hello` with this token may create. Takes the same time for every token of the
    /// right length.
    #[must_use]
    pub fn allows(&self, token: Option<&[u8]>) -> bool {
        match self {
            Self::Open => true,
            Self::Closed => false,
            Self::Token(secret) => token.is_some_and(|token| secret.as_slice().ct_eq(token).into()),
        }
    }
}

impl fmt::Debug for CreatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Token(_) => "Token([redacted])",
            Self::Closed => "Closed",
        })
    }
}

/// What all sessions of a relay share.
pub struct Core {
    /// The log.
    pub store: DynStore,
    /// The way into the log.
    pub writer: Writer,
    /// Who is here, and who waits for what.
    pub hub: Hub,
    /// Limits and deadlines.
    pub limits: RelayLimits,
    /// Who may come in, and how fast.
    pub admission: Admission,
    /// Who may make new logs.
    pub create: CreatePolicy,
    /// What the operator is told.
    pub metrics: Metrics,
    /// The relay's Noise static.
    pub noise_key: StaticKey,
    /// Time.
    pub clock: Box<dyn Clock>,
    /// Randomness.
    pub entropy: Box<dyn Entropy>,
}

impl Core {
    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Says that the store works again if it was away and does: whoever only reads cannot tell.
    pub(crate) async fn look_whether_the_store_is_back(&self) {
        let log = self.writer.store_log();
        if log.is_away() && self.store.ready().await.is_ok() {
            log.works();
        }
    }

    /// A freshly seeded generator.
    #[must_use]
    pub fn rng(&self) -> ChaCha20Rng {
        clock::rng(self.entropy.as_ref())
    }

    /// A random timeline; never the zero that means "none yet".
    #[must_use]
    pub fn fresh_timeline(&self) -> Timeline {
        let mut rng = self.rng();
        loop {
            let mut timeline = Timeline::ZERO;
            rng.fill_bytes(&mut timeline.0);
            if !timeline.is_zero() {
                return timeline;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_lets_in() {
        let policy = CreatePolicy::Token(Zeroizing::new(b"secret".to_vec()));
        assert!(policy.allows(Some(b"secret")));
        assert!(!policy.allows(Some(b"secreT")));
        assert!(!policy.allows(Some(b"")));
        assert!(!policy.allows(None));
    }

    #[test]
    fn a_closed_relay_lets_nobody_create_and_an_open_one_everybody() {
        assert!(!CreatePolicy::Closed.allows(Some(b"secret")));
        assert!(CreatePolicy::Open.allows(None));
    }
}
