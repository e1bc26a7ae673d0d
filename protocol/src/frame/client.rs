//! What a client says.

use bytes::Bytes;

use crate::id::{AuthPublicKey, BlobId, MailboxId, NoisePublicKey, Signature, Timeline};
use crate::limits::{ALLOW_LIST_MAX, MISSING_BLOB_IDS_MAX, PROBE_CURSORS_MAX, PUSH_ENVELOPES_MAX};
use crate::wire::List;
use crate::wire_enum;

wire_enum! {
    /// In which role a session is opened.
    pub enum Who {
        /// With a throw-away key: mailbox frames only.
        0 => Guest {},
        /// By a known device key alone: answered with the current epoch envelope, nothing else.
        1 => Device {},
        /// With the auth key of the group's current epoch: a full session.
        2 => Member {
            /// Names the log: [`crate::LogName::of`] this key.
            auth_public: AuthPublicKey,
            /// [`crate::hello::sign`]ed over this session's handshake.
            signature: Signature,
        },
    }
}

wire_enum! {
    /// A message from client to relay.
    pub enum ClientFrame {
        /// Opens the session; may be repeated after `Superseded`.
        1 => Hello {
            /// Lowest protocol minor version the client speaks.
            minor_min: u8,
            /// Highest protocol minor version the client speaks.
            minor_max: u8,
            /// Role, and proof where the role needs one.
            who: Who,
            /// Make the log if the name is unknown: answered `Welcome` with timeline zero.
            create: bool,
            /// What a relay with restricted creation asks for.
            token: Option<Bytes>,
        },
        /// Makes the log after a `Welcome` with timeline zero, in one transaction.
        2 => Create {
            /// Noise keys that may open sessions.
            allow: List<NoisePublicKey, ALLOW_LIST_MAX>,
            /// Stored as cursor 1 and kept for `Superseded`.
            epoch_envelope: Bytes,
            /// Stored behind it.
            envelopes: List<Bytes, PUSH_ENVELOPES_MAX>,
        },
        /// Appends envelopes in this order. Answered by one `PushAck` when they are on disk.
        3 => Push {
            /// The client's number for this push, echoed in the answer.
            push: u64,
            /// Sealed envelopes.
            envelopes: List<Bytes, PUSH_ENVELOPES_MAX>,
            /// Lifts the refusal of everything behind an earlier failed push.
            resume: bool,
        },
        /// Reads the log behind `after`, and what comes later if `follow`. One at a time; a second
        /// replaces the first.
        4 => Subscribe {
            /// The history the client read so far; zero at the first contact.
            timeline: Timeline,
            /// Highest cursor the client has; 0 for none.
            after: u64,
            /// The blob id the client has there; zero for `after` = 0.
            blob_id_at_after: BlobId,
            /// Bytes of `Entries` the relay may send.
            credit: u64,
            /// Stay subscribed after `CaughtUp`.
            follow: bool,
        },
        /// Adds to the credit.
        5 => Credit {
            /// Additional bytes.
            bytes: u64,
        },
        /// Asks which blob ids stand at some cursors.
        6 => Probe {
            /// Cursors, any order.
            cursors: List<u64, PROBE_CURSORS_MAX>,
        },
        /// Asks which of these the relay does not have.
        7 => Missing {
            /// Blob ids, any order.
            blob_ids: List<BlobId, MISSING_BLOB_IDS_MAX>,
        },
        /// Starts a new history after a rollback, if the relay still is at `old`.
        8 => NewTimeline {
            /// Compare …
            old: Timeline,
        },
        /// Says up to where this device has stored the log, with a sealed receipt for its slot.
        9 => Ack {
            /// Highest cursor stored, or [`crate::limits::READS_NOTHING`].
            cursor: u64,
            /// Sealed receipt, opaque to the relay.
            receipt: Option<Bytes>,
        },
        /// Replaces the session's own slot.
        10 => SlotPut {
            /// At most [`crate::limits::SLOT_BYTES_MAX`].
            data: Bytes,
        },
        /// First step of a removal: at once refuses every device not listed.
        11 => Restrict {
            /// Noise keys that stay.
            allow: List<NoisePublicKey, ALLOW_LIST_MAX>,
        },
        /// New epoch: new auth key, name, allow-list and epoch envelope, in one transaction.
        12 => Rotate {
            /// Refused with 1008 unless this is the log's `auth_gen`.
            expect_gen: u64,
            /// Auth key of the next epoch.
            next_auth_public: AuthPublicKey,
            /// [`crate::hello::sign_rotate`]: whoever rotates holds the next key.
            proof: Signature,
            /// Noise keys that may open sessions from now on.
            allow: List<NoisePublicKey, ALLOW_LIST_MAX>,
            /// Appended to the log and kept for `Superseded`.
            epoch_envelope: Bytes,
        },
        /// Drops entries with a cursor lower than `below`.
        13 => Truncate {
            /// The new floor.
            below: u64,
        },
        /// Deletes the log after the relay's grace.
        14 => DeleteGroup {},
        /// Sends an ephemeral message to the group's live sessions.
        15 => Whisper {
            /// Sealed, at most [`crate::limits::WHISPER_BYTES_MAX`].
            data: Bytes,
        },
        /// Opens a pairing mailbox (members only).
        16 => MailboxOpen {
            /// Whether a person will type the id.
            short: bool,
            /// Wished life in milliseconds, at most [`crate::limits::MAILBOX_TTL_MS`].
            ttl_ms: u64,
        },
        /// Enters a mailbox (guests only, one per mailbox).
        17 => MailboxJoin {
            /// From the link or code.
            mailbox: MailboxId,
        },
        /// Sends to the other party of the session's mailbox.
        18 => MailboxSend {
            /// At most [`crate::limits::MAILBOX_MESSAGE_BYTES_MAX`].
            data: Bytes,
        },
        /// Ends the session's mailbox for both parties.
        19 => MailboxClose {},
        /// Asks for a sign of life.
        20 => Ping {},
        /// Says goodbye, so that the relay need not wait for a dead link.
        21 => Bye {},
    }
}
