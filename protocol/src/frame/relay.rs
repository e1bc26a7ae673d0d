//! What a relay says.

use bytes::Bytes;

use crate::id::{BlobId, MailboxId, NoisePublicKey, Timeline};
use crate::limits::{ALLOW_LIST_MAX, ENTRIES_ITEMS_MAX, PROBE_CURSORS_MAX, PUSH_ENVELOPES_MAX};
use crate::wire::List;
use crate::{wire_enum, wire_struct};

wire_struct! {
    /// What this relay accepts. The client clamps every number.
    pub struct Limits {
        /// Largest envelope.
        envelope_bytes_max: u32,
        /// Bytes a log may hold.
        group_bytes_max: u64,
        /// Bytes of pushes a session may have unanswered.
        push_bytes_in_flight_max: u64,
        /// Days without any session after which an idle log may be deleted; 0 for never.
        idle_days_max: u32,
    }
}

wire_struct! {
    /// What the group uses of its limits.
    pub struct Usage {
        /// Bytes of stored envelopes.
        group_bytes: u64,
    }
}

wire_struct! {
    /// Where a log stands.
    pub struct LogState {
        /// The current history; zero before `Create`.
        timeline: Timeline,
        /// Generation of the auth key; rises with each rotation.
        auth_gen: u64,
        /// Highest cursor, 0 when empty.
        head: u64,
        /// Blob id at `head`, zero when empty.
        head_blob_id: BlobId,
        /// Entries with a lower cursor are gone; initially 1.
        floor: u64,
    }
}

wire_enum! {
    /// What became of one pushed envelope.
    pub enum PushResult {
        /// On disk at this cursor (an old cursor when the relay had it already).
        0 => Stored {
            /// Position in the log.
            cursor: u64,
        },
        /// Refused; everything behind it gets 1010 until `resume`.
        1 => Refused {
            /// [`crate::ErrorCode`] as a number, so that newer codes pass.
            code: u16,
        },
    }
}

wire_enum! {
    /// Why an entry that was stored cannot be sent.
    pub enum AbsentReason {
        /// The row is gone.
        0 => Lost {},
        /// The row's bytes no longer hash to its blob id.
        1 => Rotten {},
    }
}

wire_enum! {
    /// One cursor of the log. Cursors in an `Entries` stream are consecutive.
    pub enum EntryItem {
        /// An envelope.
        0 => Stored {
            /// Position in the log.
            cursor: u64,
            /// What it hashes to; checked by the client.
            blob_id: BlobId,
            /// The sealed bytes.
            envelope: Bytes,
        },
        /// An envelope that this very session pushed; it has the bytes.
        1 => Own {
            /// Position in the log.
            cursor: u64,
            /// Which of its pushes.
            blob_id: BlobId,
        },
        /// The relay numbered something here and no longer has it.
        2 => Absent {
            /// Position in the log.
            cursor: u64,
            /// What stood there, if the relay still knows.
            blob_id: Option<BlobId>,
            /// Why it is gone.
            reason: AbsentReason,
        },
    }
}

wire_enum! {
    /// A message from relay to client.
    pub enum RelayFrame {
        /// The session stands. For a guest, `log` and everything about it is absent.
        1 => Welcome {
            /// Protocol minor version of this session.
            minor: u8,
            /// The log; `None` for guests.
            log: Option<LogState>,
            /// What the relay accepts.
            limits: Limits,
            /// What the group uses.
            usage: Usage,
            /// The device's own slot, empty if never written.
            slot: Bytes,
            /// Noise keys that may open sessions of this log.
            allow: List<NoisePublicKey, ALLOW_LIST_MAX>,
        },
        /// The group's keys moved on; unwrap this and say `Hello` again. Also sent in mid-session.
        2 => Superseded {
            /// The current epoch's envelope.
            epoch_envelope: Bytes,
            /// The device's own slot there.
            slot: Bytes,
            /// How many more `Superseded` follow for other logs of the same key.
            more: u8,
        },
        /// One result per envelope of the `Push` with this number, in order.
        3 => PushAck {
            /// The client's number.
            push: u64,
            /// Results in the order of the envelopes.
            results: List<PushResult, PUSH_ENVELOPES_MAX>,
        },
        /// Consecutive cursors of the log.
        4 => Entries {
            /// In cursor order.
            items: List<EntryItem, ENTRIES_ITEMS_MAX>,
        },
        /// Everything up to `head` was sent.
        5 => CaughtUp {
            /// The log's head at that moment.
            head: u64,
        },
        /// Answers `Probe`, in its order.
        6 => Probed {
            /// Blob id at each cursor, or nothing.
            blob_ids: List<Option<BlobId>, PROBE_CURSORS_MAX>,
        },
        /// Answers `Missing`.
        7 => MissingBlobs {
            /// One bit per asked blob id, least significant first; set = missing here.
            bitmap: Bytes,
        },
        /// Answers `NewTimeline`: the history that is current now.
        8 => TimelineChanged {
            /// Current timeline.
            timeline: Timeline,
        },
        /// Another device acknowledged; passed on unread.
        9 => Acked {
            /// Whose session.
            device: NoisePublicKey,
            /// Highest cursor it stored.
            cursor: u64,
            /// Its sealed receipt.
            receipt: Option<Bytes>,
        },
        /// Answers `Restrict`: nothing of a removed device comes behind this head.
        10 => Restricted {
            /// The frozen head.
            head: u64,
        },
        /// Answers `Rotate`.
        11 => Rotated {
            /// The new generation.
            auth_gen: u64,
            /// Cursor of the epoch envelope.
            cursor: u64,
        },
        /// Answers `Truncate`.
        12 => Truncated {
            /// The floor that holds now.
            floor: u64,
        },
        /// Answers `DeleteGroup`.
        13 => Deleted {},
        /// A whisper of another session.
        14 => Whispered {
            /// Sealed.
            data: Bytes,
        },
        /// Answers `MailboxOpen` and `MailboxJoin`.
        15 => MailboxOpened {
            /// Its id.
            mailbox: MailboxId,
            /// 16 random bytes, the PAKE's session id.
            salt: Bytes,
            /// Remaining life in milliseconds.
            expires_in_ms: u64,
        },
        /// From the other party of the mailbox.
        16 => MailboxMessage {
            /// What it sent.
            data: Bytes,
        },
        /// The mailbox ended: by the other party, or by time.
        17 => MailboxClosed {},
        /// Answers `Ping`.
        18 => Pong {},
        /// The relay is going away.
        19 => Bye {
            /// When to come back, in milliseconds.
            retry_after_ms: u64,
        },
        /// A request failed; fatal codes end the session.
        20 => Error {
            /// [`crate::ErrorCode`] as a number, so that newer codes pass.
            code: u16,
            /// When to try again, in milliseconds; 0 when waiting does not help.
            retry_after_ms: u64,
            /// For people, at most [`crate::limits::ERROR_DETAIL_BYTES_MAX`].
            detail: String,
        },
    }
}
