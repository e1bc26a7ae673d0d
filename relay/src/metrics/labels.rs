//! The labels of metrics: small enums, so that the number of series is known when this is read.

use std::fmt::Write;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// Declares an enum of label values and the label set that holds one of them.
macro_rules! label {
    (
        $(#[doc = $doc:literal])+
        $value:ident as $set:ident { $field:ident }:
        $($(#[doc = $variant_doc:literal])+ $variant:ident = $text:literal,)+
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $value {
            $($(#[doc = $variant_doc])+ $variant,)+
        }

        impl $value {
            /// Every value there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The value as it stands in `/metrics`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl EncodeLabelValue for $value {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                encoder.write_str(self.as_str())
            }
        }

        #[doc = concat!("The label `", stringify!($field), "`.")]
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $set {
            $(#[doc = $doc])+
            pub $field: $value,
        }

        impl From<$value> for $set {
            fn from($field: $value) -> Self {
                Self { $field }
            }
        }

        impl Label for $set {
            fn all() -> impl Iterator<Item = Self> {
                $value::ALL.iter().map(|&value| value.into())
            }
        }
    };
}

/// A label set of which all values are known.
pub(super) trait Label: Sized {
    /// Each of them.
    fn all() -> impl Iterator<Item = Self>;
}

label! {
    /// Which carrier a link has.
    Transport as TransportLabel { transport }:
    /// HTTP, while it is not a WebSocket.
    Http = "http",
    /// A WebSocket.
    WebSocket = "websocket",
    /// A stream of an iroh connection.
    Iroh = "iroh",
}

label! {
    /// How a handshake ended.
    HandshakeOutcome as HandshakeLabel { outcome }:
    /// The channel stands.
    Done = "done",
    /// A message of it was not what it must be.
    Invalid = "invalid",
    /// The client speaks another suite.
    UnsupportedSuite = "unsupported_suite",
    /// It took too long.
    TimedOut = "timed_out",
    /// The link ended in the middle.
    Abandoned = "abandoned",
    /// No place for it.
    Refused = "refused",
}

label! {
    /// What a client was refused for; where it is a limit, by the limit's name.
    Refusal as RefusalLabel { limit }:
    /// `connections_max`.
    Connections = "connections_max",
    /// `connections_per_address_max`.
    ConnectionsPerAddress = "connections_per_address_max",
    /// `handshakes_pending_max` and its share per address.
    HandshakesPending = "handshakes_pending_max",
    /// `handshakes_per_minute_per_address`.
    HandshakeRate = "handshakes_per_minute_per_address",
    /// More sessions of a device than it may have.
    SessionsPerDevice = "sessions_per_device_max",
    /// More `Hello`s on one session than there are reasons for.
    Hellos = "hellos_max",
    /// More devices of a log than there may be.
    Devices = "allow_list_max",
    /// `groups_per_address_per_day`.
    GroupsPerAddress = "groups_per_address_per_day",
    /// Creation is closed, or the token is wrong.
    Creation = "create",
    /// `envelope_bytes_max`.
    EnvelopeBytes = "envelope_bytes_max",
    /// `push_envelopes_max`.
    PushEnvelopes = "push_envelopes_max",
    /// `push_bytes_in_flight_max`.
    PushBytes = "push_bytes_in_flight_max",
    /// `partial_frames_bytes_max`.
    PartialFrames = "partial_frames_bytes_max",
    /// `group_bytes_max`.
    GroupBytes = "group_bytes_max",
    /// `frames_per_second`, `acks_per_second` or `bytes_per_second`: read later, not refused.
    Throttled = "throttled",
    /// `whispers_per_second`.
    Whispers = "whispers_per_second",
    /// `mailboxes_max` and its share per log.
    Mailboxes = "mailboxes_max",
    /// `mailbox_joins_per_minute_per_address`.
    MailboxJoins = "mailbox_joins_per_minute_per_address",
    /// `truncate_interval_ms` or a floor that some device has not reached.
    Truncation = "truncate",
    /// The store did not answer or did not keep up.
    Storage = "storage",
}

label! {
    /// Which way bytes went, seen from the relay.
    Direction as DirectionLabel { direction }:
    /// From clients.
    In = "in",
    /// To clients.
    Out = "out",
}

label! {
    /// How a fresh entry reached a live subscriber.
    Delivery as DeliveryLabel { from }:
    /// With the commit, from memory.
    Inline = "inline",
    /// Read from the store.
    Stored = "stored",
}

label! {
    /// What garbage collection removed.
    Garbage as GarbageLabel { kind }:
    /// Entries below a floor.
    Entries = "entries",
    /// Whole logs that were deleted.
    DeletedGroups = "deleted_groups",
    /// Whole logs that were idle for too long.
    IdleGroups = "idle_groups",
    /// Mailboxes that expired.
    Mailboxes = "mailboxes",
}
