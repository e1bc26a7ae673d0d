//! The relay's own limits and deadlines, each with its unit and its reason. What both sides must
//! agree on lives in `zerok_sync_protocol::limits`.
//!
//! The first part is fixed: sizes of buffers and batches that only a measurement changes. The
//! second, [`RelayLimits`], is what an operator can set; `docs/LIMITS.md` shows it as a table.

use zerok_sync_protocol::limits::{
    DEAD_AFTER_PING_MS, ENVELOPE_BYTES_MAX_DEFAULT, FRAME_OVERHEAD_BYTES_MAX, HANDSHAKE_DEADLINE_MS, MAILBOX_TTL_MS,
    PING_AFTER_IDLE_MS,
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
/// Runs of own cursors a session remembers for stubs. Past it own entries come back whole, which
/// is always valid.
pub const OWN_RUNS_MAX: usize = 256;
/// Notices (`Acked`, `Whispered`) that may wait for a session; more are dropped. They are
/// ephemeral by definition, and the newest receipt is in the slot.
pub const NOTICES_MAX: usize = 16;
/// `Hello` frames on one session: enough for a long keyring, too few to make the relay verify
/// signatures for a living.
pub const HELLOS_MAX: u8 = 32;
/// Free ids tried for a mailbox whose id a person types. With 1,000 of 32,768 in use, all eight
/// being taken has a chance of 10⁻¹².
pub const SHORT_MAILBOX_CANDIDATES: usize = 8;
/// `retry_after` of an error that storage trouble caused.
pub const STORAGE_RETRY_AFTER_MS: u64 = 1_000;

/// One line of the table of limits.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Its name in `relay.toml`; the flag and the variable follow from it. It ends with its unit,
    /// or with what it counts.
    pub name: &'static str,
    /// Its value where nobody sets another.
    pub default: u64,
    /// What it bounds, and why it is what it is.
    pub reason: &'static str,
}

/// Declares [`RelayLimits`], its defaults and its table in one place.
macro_rules! limits {
    ($($name:ident = $default:expr, $reason:literal;)+) => {
        /// Limits an operator or a test can set.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct RelayLimits {
            $(#[doc = $reason] pub $name: u64,)+
        }

        impl Default for RelayLimits {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl RelayLimits {
            /// Every limit, in the order in which a client meets them.
            pub const TABLE: &[Limit] =
                &[$(Limit { name: stringify!($name), default: $default, reason: $reason },)+];

            /// The limit of this name.
            #[must_use]
            pub fn get_mut(&mut self, name: &str) -> Option<&mut u64> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)+
                    _ => None,
                }
            }
        }
    };
}

const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 60 * 60 * SECOND_MS;
const MIB: u64 = 1024 * 1024;

limits! {
    connections_max = 10_000,
        "Connections of both kinds, HTTP requests among them, at a time. Bounds memory: an idle session costs about 12 KiB.";
    connections_per_address_max = 100,
        "Connections of one address (IPv6: one /64) at a time. A household or an office behind one address fits; one machine alone cannot take all places.";
    http_header_deadline_ms = HANDSHAKE_DEADLINE_MS,
        "An HTTP request's line and headers must have come after this long (slowloris).";
    handshake_deadline_ms = HANDSHAKE_DEADLINE_MS,
        "Handshake and Hello must be done after this long: nothing is known about the client before.";
    handshakes_pending_max = 1_000,
        "Handshakes under way at a time; a place is taken before any Diffie-Hellman is computed for it.";
    handshakes_pending_per_address_max = 50,
        "The same for one address, so that half-open handshakes of one machine keep nobody else out.";
    handshakes_per_minute_per_address = 600,
        "Handshakes begun by one address in a minute. A handshake costs the relay about half a millisecond of computing; a client that reconnects needs one.";
    groups_per_address_per_day = 100,
        "New logs made from one address in a day.";
    dead_after_ms = 60 * SECOND_MS,
        "A link on which no byte came for this long is dead. A live client pings after 25 s.";
    envelope_bytes_max = ENVELOPE_BYTES_MAX_DEFAULT as u64,
        "Largest envelope: a blob of 1 MiB with what sealing adds.";
    push_envelopes_max = 1_000,
        "Envelopes in one Push.";
    push_bytes_in_flight_max = 4 * MIB,
        "Bytes of pushes a client may have unanswered; told in Welcome. More than a fast link's bandwidth-delay product.";
    frames_per_second = 5_000,
        "Frames of one device in a second, on average; twice as many at once. Beyond it the session is read more slowly.";
    bytes_per_second = 32 * MIB,
        "Bytes of one device in a second, on average; twice as many at once. Beyond it the session is read more slowly.";
    whispers_per_second = 20,
        "Whispers of one device in a second, on average; twice as many at once. They go to every other session of the group.";
    group_bytes_max = 1024 * MIB,
        "Bytes of envelopes one log may hold; what is used is told in Welcome.";
    fanout_bytes_per_session_max = 128 * 1024,
        "Bytes of fresh entries kept for one live subscriber. One that is further behind reads from the store.";
    fanout_bytes_max = 64 * MIB,
        "The same for all subscribers together.";
    mailboxes_max = 1_000,
        "Open pairing mailboxes at a time. Short ids are guessable by their number: with 1,000 open, one guess in 32 hits one, and still needs its password.";
    mailboxes_per_group_max = 4,
        "Open mailboxes of one log.";
    mailbox_ttl_ms_max = MAILBOX_TTL_MS,
        "How long a mailbox stays open.";
    mailbox_joins_per_minute_per_address = 10,
        "Attempts of one address to join a mailbox in a minute: each is a guess at an id.";
    truncate_grace_ms = 24 * HOUR_MS,
        "Entries below a raised floor keep their bytes for this long; until then any member may lower it again.";
    truncate_interval_ms = HOUR_MS,
        "One log's floor is raised at most this often.";
    delete_grace_ms = 24 * HOUR_MS,
        "A deleted log keeps its bytes for this long, and comes back if a member says Hello.";
    idle_days_max = 0,
        "A log that no device has opened for this many days is evicted whole; told in Welcome. 0: never.";
    gc_interval_ms = 60 * SECOND_MS,
        "How often the relay looks for what can be removed.";
    gc_entries_per_step = 500,
        "Entries removed in one transaction, so that pushes never wait long for one.";
    doorbell_coalesce_ms = 15,
        "News for other instances are gathered for this long: one notification for many commits.";
    backstop_poll_ms = SECOND_MS,
        "How often the head of a followed log, or a mailbox, is looked up without a doorbell.";
    shutdown_spread_ms = 3 * SECOND_MS,
        "Upper end of the spread of retry_after at a shutdown: a restarted relay is not met by all its clients in the same second.";
    shutdown_grace_ms = 3 * SECOND_MS,
        "How long a shutdown waits for sessions to say goodbye.";
}

impl RelayLimits {
    /// Longest frame of a member.
    #[must_use]
    pub fn member_frame_bytes_max(&self) -> usize {
        usize::try_from(self.envelope_bytes_max).unwrap_or(usize::MAX).saturating_add(FRAME_OVERHEAD_BYTES_MAX)
    }

    /// Permits of a semaphore for this many of something.
    pub(crate) fn permits(count: u64) -> usize {
        usize::try_from(count).unwrap_or(usize::MAX).min(tokio::sync::Semaphore::MAX_PERMITS)
    }
}

// A client that pings as the protocol says is never taken for dead.
const _: () = assert!(PING_AFTER_IDLE_MS + DEAD_AFTER_PING_MS < 60 * SECOND_MS);
