//! Who may come in, how many at a time, and how fast.
//!
//! Everything here happens before anything costly: a place is a number, a rate is a bucket, and
//! both are asked before any Diffie-Hellman, any query and any buffer. Memory is bounded whatever
//! comes: places by their number, rates by a table of fixed size that forgets the oldest.
//!
//! | file | role |
//! |---|---|
//! | `origin.rs` | what counts as one address |
//! | `proxy.rs` | whose word about a client's address is taken |
//! | `places.rs` | so many at a time, in total and for each address |
//! | `connection.rs` | a connection that was let in |
//! | `partial.rs` | so many bytes of frames that have come in part |
//! | `rate.rs` | so many in a while, for each address or device |

mod connection;
mod origin;
mod partial;
mod places;
mod proxy;
mod rate;

use std::sync::Arc;

use zerok_sync_protocol::NoisePublicKey;

pub use self::connection::Connection;
pub use self::origin::{Origin, Origins};
pub use self::partial::{Held, PartialFrames};
pub use self::places::{Full, Place, Places, Share};
pub use self::proxy::{AddressHeader, Network, ProxyError, TrustedProxies};
pub use self::rate::{Allowance, Bucket, Budget, Budgets, Rate, Rates, Spent};
use crate::limits::{ADDRESSES_REMEMBERED_MAX, DEVICES_REMEMBERED_MAX, RelayLimits};
use crate::metrics::Transport;

const MINUTE_MS: u64 = 60 * 1_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// The relay's doors.
#[derive(Debug)]
pub struct Admission {
    origins: Origins,
    /// Connections of all kinds.
    pub connections: Places,
    /// Handshakes under way.
    pub handshakes: Places,
    /// What sessions hold of frames that are not whole.
    pub partial_frames: PartialFrames,
    handshake_rate: Rates<Origin>,
    group_rate: Rates<Origin>,
    mailbox_join_rate: Rates<Origin>,
    whisper_rate: Rates<NoisePublicKey>,
    devices: Budgets<NoisePublicKey>,
}

/// Why a handshake may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too many are under way.
    Pending,
    /// The address began too many lately; one more may begin after this long.
    Rate {
        /// Milliseconds.
        retry_after_ms: u64,
    },
}

impl Admission {
    /// All doors open.
    #[must_use]
    pub fn new(limits: &RelayLimits) -> Self {
        let per_origin = |rate| Rates::new(rate, ADDRESSES_REMEMBERED_MAX);
        Self {
            origins: Origins::default(),
            connections: Places::new(limits.connections_max, limits.connections_per_address_max),
            handshakes: Places::new(limits.handshakes_pending_max, limits.handshakes_pending_per_address_max),
            partial_frames: PartialFrames::new(limits.partial_frames_bytes_max),
            handshake_rate: per_origin(Rate::per(limits.handshakes_per_minute_per_address, MINUTE_MS)),
            group_rate: per_origin(Rate::per(limits.groups_per_address_per_day, DAY_MS)),
            mailbox_join_rate: per_origin(Rate::per(limits.mailbox_joins_per_minute_per_address, MINUTE_MS)),
            whisper_rate: Rates::new(Rate::per_second_with_reserve(limits.whispers_per_second), DEVICES_REMEMBERED_MAX),
            devices: Budgets::new(
                Allowance {
                    frames: Rate::per_second_with_reserve(limits.frames_per_second),
                    acks: Rate::per_second_with_reserve(limits.acks_per_second),
                    bytes: Rate::per_second_with_reserve(limits.bytes_per_second),
                },
                DEVICES_REMEMBERED_MAX,
            ),
        }
    }

    /// The name under which an address is counted.
    #[must_use]
    pub fn origin(&self, address: std::net::IpAddr) -> Origin {
        self.origins.of(address)
    }

    /// A place for one handshake.
    ///
    /// # Errors
    /// [`Refused`]: nothing was computed for it.
    pub fn begin_handshake(&self, origin: Origin, now_ms: u64) -> Result<Place, Refused> {
        let place = self.handshakes.enter(Some(origin)).map_err(|_| Refused::Pending)?;
        self.handshake_rate.take(origin, now_ms).map_err(|retry_after_ms| Refused::Rate { retry_after_ms })?;
        Ok(place)
    }

    /// Whether an address that is only claimed has to be proven before it is let in.
    ///
    /// A datagram's sender can be made up. While there is plenty, its word is taken; once half of
    /// anything is used, whoever claims the address must show that it receives there: so nobody
    /// can use up what is another's.
    #[must_use]
    pub fn must_prove_address(&self, origin: Origin, now_ms: u64) -> bool {
        self.connections.are_scarce_for(origin)
            || self.handshakes.are_scarce_for(origin)
            || self.handshake_rate.is_scarce_for(origin, now_ms)
    }

    /// Counts one whisper of a device.
    ///
    /// # Errors
    /// Milliseconds until it may whisper again.
    pub fn whisper(&self, device: NoisePublicKey, now_ms: u64) -> Result<(), u64> {
        self.whisper_rate.take(device, now_ms)
    }

    /// Counts one new log.
    ///
    /// # Errors
    /// Milliseconds until the address may make another.
    pub fn make_group(&self, origin: Origin, now_ms: u64) -> Result<(), u64> {
        self.group_rate.take(origin, now_ms)
    }

    /// Whether [`Self::make_group`] would succeed.
    ///
    /// # Errors
    /// Milliseconds until it would.
    pub fn may_make_group(&self, origin: Origin, now_ms: u64) -> Result<(), u64> {
        self.group_rate.peek(origin, now_ms)
    }

    /// Counts one attempt to join a mailbox.
    ///
    /// # Errors
    /// Milliseconds until the next one may follow.
    pub fn join_mailbox(&self, origin: Origin, now_ms: u64) -> Result<(), u64> {
        self.mailbox_join_rate.take(origin, now_ms)
    }

    /// What all sessions of a device may send together.
    #[must_use]
    pub fn budget(&self, device: NoisePublicKey, now_ms: u64) -> Arc<Budget> {
        self.devices.of(device, now_ms)
    }
}

/// Whom a link leads to, as far as is known before the first byte.
#[derive(Debug)]
pub struct Peer {
    /// Whose limits it counts against.
    pub origin: Origin,
    /// What carries it.
    pub transport: Transport,
    /// When it came, on the core's monotonic clock: the deadline of handshake and `Hello` runs
    /// from here.
    pub arrived_ms: u64,
    /// Its place among the handshakes, if it had to take one already.
    pub handshake: Option<Place>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> std::net::IpAddr {
        std::net::IpAddr::from([192, 0, 2, last])
    }

    /// Whether somebody must prove the address, after each of so many `uses` by `user`.
    fn proofs(limits: &RelayLimits, user: u8, uses: usize, mut take: impl FnMut(&Admission, Origin)) -> Vec<bool> {
        let admission = Admission::new(limits);
        let (user, asked) = (admission.origin(address(user)), admission.origin(address(1)));
        (0..uses)
            .map(|_| {
                take(&admission, user);
                admission.must_prove_address(asked, 0)
            })
            .collect()
    }

    #[test]
    fn an_address_is_believed_until_half_of_anything_is_used() {
        let plenty = RelayLimits::default();
        let mut held = Vec::new();
        let mut connect = |admission: &Admission, origin| held.push(admission.connections.enter(Some(origin)));
        let own = RelayLimits { connections_per_address_max: 6, ..plenty.clone() };
        assert_eq!(proofs(&own, 1, 4, &mut connect), [false, false, true, true], "its connections");
        assert_eq!(proofs(&own, 2, 4, &mut connect), [false; 4], "another's are another's");
        let all = RelayLimits { connections_max: 6, ..plenty.clone() };
        assert_eq!(proofs(&all, 2, 4, &mut connect), [false, false, true, true], "all connections");

        let mut held = Vec::new();
        let mut begin = |admission: &Admission, origin| held.push(admission.begin_handshake(origin, 0));
        let own = RelayLimits { handshakes_pending_per_address_max: 6, ..plenty.clone() };
        assert_eq!(proofs(&own, 1, 4, &mut begin), [false, false, true, true], "its handshakes");
        let all = RelayLimits { handshakes_pending_max: 6, ..plenty.clone() };
        assert_eq!(proofs(&all, 2, 4, &mut begin), [false, false, true, true], "all handshakes");
        let rate = RelayLimits { handshakes_per_minute_per_address: 6, ..plenty };
        assert_eq!(proofs(&rate, 1, 4, &mut begin), [false, false, true, true], "its handshakes of the minute");
        assert_eq!(proofs(&rate, 2, 4, &mut begin), [false; 4]);
    }
}
