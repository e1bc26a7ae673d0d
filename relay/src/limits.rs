//! The relay's own limits and deadlines, each with its unit and its reason. What both sides must
//! agree on lives in `zerok_sync_protocol::limits`.

use zerok_sync_protocol::limits::{
    DEAD_AFTER_PING_MS, ENVELOPE_BYTES_MAX_DEFAULT, FRAME_OVERHEAD_BYTES_MAX, HANDSHAKE_DEADLINE_MS, PING_AFTER_IDLE_MS,
};

/// Bytes that may wait in a session for the link to take them. Above it the session neither reads
/// the link nor the store: so a slow consumer costs this much and one page, and no more.
pub const OUTGOING_BYTES_MAX: usize = 128 * 1024;
/// Bytes of envelopes read from the store at a time. Small enough that a page is soon sent, large
/// enough that a catch-up is bound by the link.
pub const PAGE_BYTES_MAX: usize = 128 * 1024;
/// Bytes of pushes put into one append. Bounds the memory of a session and the time that its
/// transaction holds the group.
pub const APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Envelopes put into one append, for the same reason.
pub const APPEND_ENVELOPES_MAX: usize = 1_000;
/// Bytes of pushes a client may have unanswered; told in `Welcome`. More than a fast link's
/// bandwidth-delay product, and what does not fit stays in the client's socket.
pub const PUSH_BYTES_IN_FLIGHT_MAX: u64 = 4 * 1024 * 1024;
/// Runs of own cursors a session remembers for stubs. Past it own entries come back whole, which
/// is always valid.
pub const OWN_RUNS_MAX: usize = 256;
/// Notices (`Acked`, `Whispered`) that may wait for a session; more are dropped. They are
/// ephemeral by definition, and the newest receipt is in the slot.
pub const NOTICES_MAX: usize = 16;
/// `Hello` frames on one session: enough for a long keyring, too few to make the relay verify
/// signatures for a living.
pub const HELLOS_MAX: u8 = 32;
/// How often a mailbox, or the head of a followed log, is looked up without a doorbell: another
/// instance on the same database rings none here.
pub const BACKSTOP_POLL_MS: u64 = 1_000;
/// Free ids tried for a mailbox whose id a person types. With 1,000 of 32,768 in use, all eight
/// being taken has a chance of 10⁻¹².
pub const SHORT_MAILBOX_CANDIDATES: usize = 8;
/// Upper end of the spread of `retry_after` at a shutdown: a restarted relay is not met by all its
/// clients in the same second.
pub const SHUTDOWN_SPREAD_MS: u64 = 3_000;
/// How long a shutdown waits for sessions to say goodbye.
pub const SHUTDOWN_GRACE_MS: u64 = 3_000;
/// `retry_after` of an error that storage trouble caused.
pub const STORAGE_RETRY_AFTER_MS: u64 = 1_000;

/// Limits an operator or a test can set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayLimits {
    /// Largest envelope in bytes.
    pub envelope_bytes_max: u32,
    /// Bytes a log may hold.
    pub group_bytes_max: u64,
    /// Links of both kinds, and HTTP connections, at a time.
    pub connections_max: usize,
    /// HTTP request line and headers must have come after this long.
    pub http_header_deadline_ms: u64,
    /// Handshake and `Hello` must be done after this long.
    pub handshake_deadline_ms: u64,
    /// A link on which no byte came for this long is dead. A live client pings after 25 s.
    pub dead_after_ms: u64,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            envelope_bytes_max: ENVELOPE_BYTES_MAX_DEFAULT,
            group_bytes_max: 1024 * 1024 * 1024,
            connections_max: 10_000,
            http_header_deadline_ms: HANDSHAKE_DEADLINE_MS,
            handshake_deadline_ms: HANDSHAKE_DEADLINE_MS,
            dead_after_ms: 60_000,
        }
    }
}

impl RelayLimits {
    /// Longest frame of a member.
    #[must_use]
    pub fn member_frame_bytes_max(&self) -> usize {
        self.envelope_bytes_max as usize + FRAME_OVERHEAD_BYTES_MAX
    }
}

// A client that pings as the protocol says is never taken for dead.
const _: () = assert!(PING_AFTER_IDLE_MS + DEAD_AFTER_PING_MS < 60_000);
