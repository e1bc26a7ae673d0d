//! The relay's own limits and deadlines, each with its unit and its reason. What both sides must
//! agree on lives in `zerok_sync_protocol::limits`.
//!
//! The first part is fixed: sizes of buffers and batches that only a measurement changes. The
//! second, [`RelayLimits`], is what an operator can set; `docs/LIMITS.md` shows it as a table.
//! What a limit may be is part of the table, so that a value nobody can mean is refused at the
//! start and not found out under load.

mod unit;

use std::ops::RangeInclusive;

use std::time::Duration;

use zerok_sync_protocol::limits::{
    DEAD_AFTER_PING_MS, ENVELOPE_BYTES_MAX_CEILING, ENVELOPE_BYTES_MAX_DEFAULT, FRAME_OVERHEAD_BYTES_MAX,
    HANDSHAKE_DEADLINE_MS, MAILBOX_TTL_MS, NOISE_MESSAGE_BYTES_MAX, NOISE_PLAINTEXT_BYTES_MAX, PING_AFTER_IDLE_MS,
    PUSH_ENVELOPES_MAX,
};

pub use self::unit::Unit;
use self::unit::{DAY_MS, HOUR_MS, KIB, MIB, MINUTE_MS, SECOND_MS, TIB};

/// Bytes that may wait in a session for the link to take them. Above it the session neither reads
/// the link nor the store: so a slow consumer costs this much and one page, and no more.
pub const OUTGOING_BYTES_MAX: usize = 128 * 1024;
/// Bytes of envelopes read from the store at a time. Small enough that a page is soon sent, large
/// enough that a catch-up is bound by the link.
pub const PAGE_BYTES_MAX: usize = 128 * 1024;
/// Bytes of an entry by which a reader's first page is asked for.
pub const PAGE_ENTRY_BYTES: usize = 1024;
/// Bytes of items put into one `Entries`, unless a single one is larger: such a frame, its header
/// and its length fill one Noise message, so that none is sent for a few bytes left over.
pub const ENTRIES_BYTES_TARGET: usize = NOISE_PLAINTEXT_BYTES_MAX - 16;
/// Bytes of pushes put into one append. Bounds the memory of a session and the time that its
/// transaction holds the group.
pub const APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Envelopes put into one append, for the same reason.
pub const APPEND_ENVELOPES_MAX: usize = 1_000;
/// Bytes of envelopes after which a commit takes no more. A larger one would keep the next waiting
/// for longer than its share of the disk flush saves.
pub const COMMIT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Envelopes after which a commit takes no more, for the same reason.
pub const COMMIT_ENVELOPES_MAX: usize = 4_000;
/// Devices of which one commit notes something, for the same reason.
pub const COMMIT_NOTES_MAX: usize = 1_000;
/// Where much comes a commit begins this long after the one before it at the earliest, so that what
/// comes in between shares its cost, and its way to whoever follows. Half of that is what an append
/// waits longer on average; at rest none does.
pub const COMMIT_PACE: Duration = Duration::from_millis(2);
/// Appends in the batch before from which on much comes. Fewer may all be one device that waits for
/// each answer, and would get it later for nothing.
pub const COMMIT_SIBLINGS: usize = 3;
/// Batches in a run, of which the first waits for a whole pace and so learns how many appends come
/// in one. A larger share of such batches would slow devices that wait for each answer; a smaller one
/// would be long in noticing that more devices push than before.
pub const COMMIT_RUN: usize = 64;
/// Bytes that rotations may take beyond a log's quota: a full log must not keep a device from being
/// removed. A rotation of 65 devices takes less than 100 KiB; without an end to it a member could
/// fill the disk by rotating.
pub const ROTATION_RESERVE_BYTES: u64 = 16 * MIB;
/// A commit that the database has not answered for this long is given up, and its sessions are told
/// 3002. Longer than the server lets a statement take, so that only a server that hangs is left.
pub const COMMIT_WAIT_MAX: Duration = Duration::from_secs(35);
/// Commits under way at once on Postgres, up to as many as there are processors but two at least, so
/// that one is filled while the other is written. With more each would hold less, and cost more for
/// each entry, and all wait for one disk.
pub const WRITER_LOOPS_MAX: usize = 4;
/// Logs whose standing an instance on Postgres remembers, so that it need not ask for it: some 400
/// bytes each, and 2 KiB at most. More than are appended to at a time.
pub const RECENT_LOGS_MAX: usize = 8 * 1024;
/// Appends and notes that may wait for one writer loop; beyond it sessions wait for a place.
pub const WRITER_INBOX_MAX: usize = 4_096;
/// A session that gets no place in a writer loop for this long is told 3002.
pub const WRITER_WAIT_MAX: Duration = Duration::from_secs(10);
/// Pause before a failed commit is repeated; doubles each time,
pub const COMMIT_BACKOFF_MIN: Duration = Duration::from_millis(20);
/// up to this.
pub const COMMIT_BACKOFF_MAX: Duration = Duration::from_millis(640);
/// Runs of own cursors a session remembers for stubs. Past it own entries come back whole, which
/// is always valid.
pub const OWN_RUNS_MAX: usize = 256;
/// Notices (`Acked`, `Whispered`) that may wait for a session; more are dropped. They are
/// ephemeral by definition, and the newest receipt is in the slot.
pub const NOTICES_MAX: usize = 16;
/// Longest payload of a `NOTIFY`: Postgres takes less than 8,000 bytes.
pub const NOTIFY_PAYLOAD_BYTES_MAX: usize = 7_900;
/// Logs, and mailboxes, that other instances have still to hear of. More are left to their poll.
pub const DOORBELL_PENDING_MAX: usize = 10_000;
/// Bytes of notices that wait for other instances; more are dropped.
pub const DOORBELL_NOTICES_BYTES_MAX: usize = 1024 * 1024;
/// Pages read at a time for sessions that wait for what another instance committed. Beyond it each
/// session reads for itself.
pub const DOORBELL_READS_MAX: usize = 4;
/// `Hello` frames on one session: enough for a long keyring, too few to make the relay verify
/// signatures for a living.
pub const HELLOS_MAX: u8 = 32;
/// Free ids tried for a mailbox whose id a person types. With 1,000 of 32,768 in use, all eight
/// being taken has a chance of 10⁻¹².
pub const SHORT_MAILBOX_CANDIDATES: usize = 8;
/// A device that was not seen for this long does not keep its log's floor down.
pub const DEVICE_SEEN_MS: u64 = 30 * 24 * HOUR_MS;
/// Bytes of envelopes removed in one transaction, beside `gc_entries_per_step`: large envelopes take
/// long to remove.
pub const GC_BYTES_PER_STEP: u64 = 8 * MIB;
/// Logs looked at in one query of the collector.
pub const SURVEY_GROUPS: usize = 500;
/// After each query or transaction the collector pauses for so many times what that took: it never
/// takes more than a fifth of the writer.
pub const GC_PAUSE_FACTOR: u32 = 4;
/// Free pages (of 4 KiB) given back to the file system in one transaction.
pub const GIVE_BACK_PAGES_PER_STEP: u64 = 256;
/// A relay that was away has not seen its clients: idle logs are evicted only by one that has run
/// for this long.
pub const EVICTION_UPTIME_MS: u64 = 24 * HOUR_MS;
/// How far the time of a log's last use may be behind, beside `gc_interval_ms`.
pub const ACTIVITY_SLACK_MS: u64 = HOUR_MS;
/// How long a closed mailbox keeps its last messages for the other side, which looks each second.
pub const MAILBOX_LAST_WORDS_MS: u64 = 60_000;
/// `retry_after` of an error that storage trouble caused.
pub const STORAGE_RETRY_AFTER_MS: u64 = 1_000;
/// How often the status page's history gets a sample.
pub const HISTORY_INTERVAL_MS: u64 = 1_000;
/// Samples it keeps: a quarter of an hour, some 80 KiB.
pub const HISTORY_SAMPLES_MAX: usize = 900;
/// How long an answer to "is the store ready?" is believed. However many ask, the store is asked
/// once in this time.
pub const READINESS_BELIEVED_MS: u64 = 1_000;
/// A store that has not answered within this time is not ready. Shorter than what health checks
/// commonly wait.
pub const READINESS_DEADLINE_MS: u64 = 2_000;
/// Connections at a time to the address of `metrics_listen`: a few scrapers and pages.
pub const METRICS_CONNECTIONS_MAX: u64 = 64;
/// Shortest token for metrics. Nothing slows guessing down but the limits on connections.
pub const METRICS_TOKEN_BYTES_MIN: usize = 16;

/// Pause before a chore that panicked is begun again: its defect costs a line a second, and no more.
pub const CHORE_PAUSE: Duration = Duration::from_secs(1);
/// Addresses whose rates are remembered. Some 50 bytes each; past it those not seen lately are
/// forgotten and start afresh.
pub const ADDRESSES_REMEMBERED_MAX: usize = 64 * 1024;
/// Devices whose rates are remembered: more than there can be connections by default.
pub const DEVICES_REMEMBERED_MAX: usize = 32 * 1024;
/// `retry_after` where too many connections or handshakes are there just now: handshakes are done
/// or dropped after ten seconds.
pub const BUSY_RETRY_AFTER_MS: u64 = 5_000;
/// Refused connections that are kept for a moment, so that they can read why. The others are reset.
pub const REFUSED_LINGERING_MAX: usize = 64;

/// QUIC clients that are told when to come back, of those that are refused: each costs the
/// handshake that it is refused for, and these together a hundredth of a processor.
pub const REFUSALS_EXPLAINED_PER_SECOND: u64 = 20;

/// One line of the table of limits.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Its name in `relay.toml`; the flag and the variable follow from it. It ends with its unit,
    /// or with what it counts.
    pub name: &'static str,
    /// Its value where nobody sets another.
    pub default: u64,
    /// The lowest value that makes sense.
    pub min: u64,
    /// The highest.
    pub max: u64,
    /// What it bounds, and why it is what it is.
    pub reason: &'static str,
}

impl Limit {
    const fn new(name: &'static str, default: u64, range: Option<RangeInclusive<u64>>, reason: &'static str) -> Self {
        let unit = unit_of(name);
        let (min, max) = match range {
            Some(range) => (*range.start(), *range.end()),
            // Never zero, and small enough that sums and deadlines do not overflow.
            None => (
                1,
                match unit {
                    Unit::Count => 1_000_000_000,
                    Unit::Bytes => 1024 * TIB,
                    Unit::Milliseconds => 365 * DAY_MS,
                },
            ),
        };
        assert!(min <= default && default <= max, "a default is a value that its limit may have");
        Self { name, default, min, max, reason }
    }

    /// What its number counts.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        unit_of(self.name)
    }

    /// The value of a text.
    ///
    /// # Errors
    /// What was expected instead, to be put behind "is not".
    pub fn parse(&self, text: &str) -> Result<u64, String> {
        let unit = self.unit();
        let value = unit.parse(text).ok_or_else(|| unit.expected().to_owned())?;
        if value < self.min {
            Err(format!("at least {}", unit.show(self.min)))
        } else if value > self.max {
            Err(format!("at most {}", unit.show(self.max)))
        } else {
            Ok(value)
        }
    }
}

/// A limit's name says its unit.
const fn unit_of(name: &str) -> Unit {
    let name = name.as_bytes();
    let mut at = 0;
    while at < name.len() {
        let (_, rest) = name.split_at(at);
        match rest {
            [b'_', b'm', b's'] | [b'_', b'm', b's', b'_', ..] => return Unit::Milliseconds,
            [b'b', b'y', b't', b'e', b's', ..] => return Unit::Bytes,
            _ => at += 1,
        }
    }
    Unit::Count
}

/// The range written behind a default, if there is one.
macro_rules! range {
    () => {
        None
    };
    ($range:expr) => {
        Some($range)
    };
}

/// Declares [`RelayLimits`], its defaults and its table in one place: `name = default, "reason";`,
/// or `name = default, in lowest..=highest, "reason";` where the unit's own range is too wide.
macro_rules! limits {
    ($($name:ident = $default:expr, $(in $range:expr,)? $reason:literal;)+) => {
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
                &[$(Limit::new(stringify!($name), $default, range!($($range)?), $reason),)+];

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

limits! {
    connections_max = 10_000,
        "Connections of both kinds, HTTP requests among them, at a time. Bounds memory: an idle session costs about 12 KiB.";
    connections_per_address_max = 100,
        "Connections of one address (IPv6: one /64) at a time. A household or an office behind one address fits; one machine alone cannot take all places.";
    http_header_deadline_ms = HANDSHAKE_DEADLINE_MS,
        "An HTTP request's line and headers must have come after this long (slowloris), and the next request on a connection that is kept.";
    http_connection_ms_max = 5 * MINUTE_MS,
        "An HTTP connection that is no WebSocket ends after this long, whatever it does: reading an answer slowly keeps no place for ever. Long enough for the demo's megabyte at 56 kbit/s.";
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
    dead_after_ms = 60 * SECOND_MS, in LIVE_CLIENT_SILENT_MS_MAX + SECOND_MS..=HOUR_MS,
        "A link on which no byte came for this long is dead. A live client pings after 25 s.";
    envelope_bytes_max = ENVELOPE_BYTES_MAX_DEFAULT as u64, in 16 * KIB..=ENVELOPE_BYTES_MAX_CEILING as u64,
        "Largest envelope: a blob of 1 MiB with what sealing adds. Members' certificates and what they have seen take some KiB, so much less would lock groups out.";
    push_envelopes_max = PUSH_ENVELOPES_MAX as u64, in 1..=PUSH_ENVELOPES_MAX as u64,
        "Envelopes in one Push.";
    push_bytes_in_flight_max = 4 * MIB,
        "Bytes of pushes a client may have unanswered; told in Welcome. More than a fast link's bandwidth-delay product.";
    partial_frames_bytes_max = 256 * MIB, in MIB..=TIB,
        "Bytes of frames that have come in part, of all sessions together. Beyond it whoever sends more of one over 64 KiB is told 3000 and ended: links that send most of a megabyte and then nothing cannot take all memory.";
    frames_per_second = 5_000,
        "Frames of one device in a second, on average; twice as many at once. Beyond it the session is read more slowly.";
    bytes_per_second = 32 * MIB, in NOISE_MESSAGE_BYTES_MAX as u64..=1024 * TIB,
        "Bytes of one device in a second, on average; twice as many at once. Beyond it the session is read more slowly.";
    acks_per_second = 100,
        "Acknowledgements of one device in a second, on average; twice as many at once. Each goes to every other session of the group. Beyond it the session is read more slowly: the last one is never lost.";
    whispers_per_second = 20,
        "Whispers of one device in a second, on average; twice as many at once. They go to every other session of the group.";
    group_bytes_max = 1024 * MIB,
        "Bytes of envelopes one log may hold; what is used is told in Welcome.";
    append_queue_bytes_max = 64 * MIB, in MIB..=TIB,
        "Bytes of envelopes of all sessions that wait for their commit. Beyond it sessions wait, and read their links no further.";
    commit_groups_max = 1_000,
        "Logs written to in one commit. 1 where a distributed Postgres locks rows of one shard at a time (docs/SCALING.md).";
    commit_retry_ms = 5 * SECOND_MS,
        "How long a commit that the database did not take is repeated before the sessions are told 3002. A restart of Postgres fits.";
    store_connections_max = 16, in 3..=1_000,
        "Connections of one instance to Postgres. A part is kept for commits, so that reads cannot starve them; more would only wait for the same disk.";
    fanout_bytes_per_session_max = 128 * 1024,
        "Bytes of fresh entries kept for one live subscriber. One that is further behind reads from the store.";
    fanout_bytes_max = 64 * MIB,
        "The same for all subscribers together.";
    mailboxes_max = 1_000,
        "Open pairing mailboxes at a time. Short ids are guessable by their number: with 1,000 open, one guess in 32 hits one, and still needs its password.";
    mailboxes_per_group_max = 16,
        "The same of one log. A closed one counts for another minute: until then its last messages can be read.";
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
    idle_days_max = 0, in 0..=36_500,
        "A log that no device has opened for this many days is evicted whole; told in Welcome. 0: never.";
    gc_interval_ms = 60 * SECOND_MS,
        "How often the relay looks for what can be removed.";
    gc_entries_per_step = 500,
        "Entries removed in one transaction, so that pushes never wait long for one.";
    doorbell_coalesce_ms = 15,
        "News for other instances are gathered for this long: one notification for many commits.";
    backstop_poll_ms = SECOND_MS,
        "How often the head of a followed log, or a mailbox, is looked up without a doorbell.";
    store_wait_ms = 30 * SECOND_MS,
        "How long a start waits for a database that cannot be reached, before it gives up with exit code 1.";
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

/// How long a client that pings as the protocol says may be silent: it is never taken for dead.
const LIVE_CLIENT_SILENT_MS_MAX: u64 = PING_AFTER_IDLE_MS + DEAD_AFTER_PING_MS;

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str) -> &'static Limit {
        RelayLimits::TABLE.iter().find(|limit| limit.name == name).expect("a limit of that name")
    }

    #[test]
    fn names_say_their_units() {
        for (name, unit) in [
            ("connections_max", Unit::Count),
            ("envelope_bytes_max", Unit::Bytes),
            ("bytes_per_second", Unit::Bytes),
            ("fanout_bytes_per_session_max", Unit::Bytes),
            ("mailbox_ttl_ms_max", Unit::Milliseconds),
            ("dead_after_ms", Unit::Milliseconds),
            ("idle_days_max", Unit::Count),
        ] {
            assert_eq!(limit(name).unit(), unit, "{name}");
        }
    }

    #[test]
    fn a_value_outside_its_limits_range_is_refused_with_the_range() {
        for (name, text, expected) in [
            ("connections_max", "0", "at least 1"),
            ("connections_max", "2000000000", "at most 1000000000"),
            ("dead_after_ms", "10 s", "at least 36 s"),
            ("envelope_bytes_max", "1 GiB", "at most 16 MiB"),
            ("bytes_per_second", "1 KiB", "at least 65535 B"),
            ("handshake_deadline_ms", "800 d", "at most 365 d"),
        ] {
            assert_eq!(limit(name).parse(text), Err(expected.to_owned()), "{name} {text}");
        }
        assert_eq!(limit("idle_days_max").parse("0"), Ok(0));
        assert_eq!(limit("envelope_bytes_max").parse("2 MiB"), Ok(2 * MIB));
    }

    /// Run with `WRITE_LIMITS=1` to bring the document up to date.
    #[test]
    fn the_document_shows_exactly_this_table() {
        const START: &str = "<!-- The table is checked against relay/src/limits.rs by a test. -->\n";
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/LIMITS.md");
        let document = std::fs::read_to_string(&path).expect("docs/LIMITS.md");
        let (before, shown) = document.split_once(START).expect("the line before the table");
        let (_, after) = shown.split_once("\n\n").expect("an empty line behind the table");
        let mut table =
            "| setting | default | from | to | what it bounds, and why |\n|---|---|---|---|---|\n".to_owned();
        for Limit { name, default, min, max, reason } in RelayLimits::TABLE {
            let show = |value| limit(name).unit().show(value);
            table += &format!("| `{name}` | {} | {} | {} | {reason} |\n", show(*default), show(*min), show(*max));
        }
        let current = format!("{before}{START}{table}\n{after}");
        if std::env::var_os("WRITE_LIMITS").is_some() {
            std::fs::write(&path, &current).expect("written");
        }
        assert!(
            document == current || std::env::var_os("WRITE_LIMITS").is_some(),
            "docs/LIMITS.md differs from the table in limits.rs: WRITE_LIMITS=1 cargo test -p zerok-sync-relay --lib limits"
        );
    }
}
