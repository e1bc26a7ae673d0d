//! One frame of each kind and of each interesting form of it.

use bytes::Bytes;

use crate::diverged::Diverged;
use crate::frame::{AbsentReason, EntryItem, Limits, LogState, PushResult, Usage, Who};
use crate::id::{AuthPublicKey, BlobId, MailboxId, NoisePublicKey, Signature, Timeline};
use crate::limits::{ENVELOPE_BYTES_MAX_DEFAULT, MINOR_MAX, MINOR_MIN};
use crate::wire::List;
use crate::{ClientFrame, ErrorCode, RelayFrame};

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn list<T, const MAX: usize>(items: Vec<T>) -> List<T, MAX> {
    List::try_from(items).expect("samples are short")
}

fn mailbox(len: usize) -> MailboxId {
    MailboxId::from_slice(&vec![0x4d; len]).expect("one of the two lengths")
}

/// Named frames, at least one for each variant.
#[must_use]
pub fn client_frames() -> Vec<(&'static str, ClientFrame)> {
    let hello =
        |who, create, token| ClientFrame::Hello { minor_min: MINOR_MIN, minor_max: MINOR_MAX, who, create, token };
    let member = Who::Member { auth_public: AuthPublicKey([0xa1; 32]), signature: Signature([0x51; 64]) };
    vec![
        ("hello as guest", hello(Who::Guest {}, false, None)),
        ("hello as device", hello(Who::Device {}, false, None)),
        ("hello as member", hello(member.clone(), false, None)),
        ("hello that creates, with a token", hello(member, true, Some(bytes("token")))),
        (
            "create",
            ClientFrame::Create {
                allow: list(vec![NoisePublicKey([0x0a; 32])]),
                epoch_envelope: bytes("epoch envelope"),
                envelopes: list(vec![bytes("first entry")]),
            },
        ),
        ("push of nothing", ClientFrame::Push { push: 0, envelopes: List::empty(), resume: true }),
        (
            "push",
            ClientFrame::Push { push: 7, envelopes: list(vec![bytes("one"), bytes(""), bytes("two")]), resume: false },
        ),
        (
            "subscribe from the start",
            ClientFrame::Subscribe {
                timeline: Timeline::ZERO,
                after: 0,
                blob_id_at_after: BlobId::ZERO,
                credit: 1 << 20,
                follow: true,
            },
        ),
        (
            "subscribe further on",
            ClientFrame::Subscribe {
                timeline: Timeline([0x71; 8]),
                after: u64::MAX,
                blob_id_at_after: BlobId([0xb1; 32]),
                credit: 0,
                follow: false,
            },
        ),
        ("credit", ClientFrame::Credit { bytes: 65_536 }),
        ("probe", ClientFrame::Probe { cursors: list(vec![1, 127, 128, 255, 256, 65_535, 65_536, u64::MAX]) }),
        ("missing", ClientFrame::Missing { blob_ids: list(vec![BlobId([0xb1; 32]), BlobId([0xb2; 32])]) }),
        ("new timeline", ClientFrame::NewTimeline { old: Timeline([0x71; 8]) }),
        ("ack", ClientFrame::Ack { cursor: 9, receipt: None }),
        ("ack with a receipt", ClientFrame::Ack { cursor: 9, receipt: Some(bytes("receipt")) }),
        ("slot put", ClientFrame::SlotPut { data: bytes("slot") }),
        (
            "restrict",
            ClientFrame::Restrict { allow: list(vec![NoisePublicKey([0x0a; 32]), NoisePublicKey([0x0b; 32])]) },
        ),
        (
            "rotate",
            ClientFrame::Rotate {
                expect_gen: 3,
                next_auth_public: AuthPublicKey([0xa2; 32]),
                proof: Signature([0x52; 64]),
                allow: list(vec![NoisePublicKey([0x0a; 32])]),
                epoch_envelope: bytes("next epoch envelope"),
            },
        ),
        ("truncate", ClientFrame::Truncate { below: 100 }),
        ("delete group", ClientFrame::DeleteGroup {}),
        ("whisper", ClientFrame::Whisper { data: bytes("whisper") }),
        ("mailbox open", ClientFrame::MailboxOpen { short: true, ttl_ms: 600_000 }),
        ("mailbox join by code", ClientFrame::MailboxJoin { mailbox: mailbox(MailboxId::SHORT_LEN) }),
        ("mailbox join by link", ClientFrame::MailboxJoin { mailbox: mailbox(MailboxId::LONG_LEN) }),
        ("mailbox send", ClientFrame::MailboxSend { data: bytes("message 1") }),
        ("mailbox close", ClientFrame::MailboxClose {}),
        ("ping", ClientFrame::Ping {}),
        ("bye", ClientFrame::Bye {}),
    ]
}

/// Named frames, at least one for each variant.
#[must_use]
pub fn relay_frames() -> Vec<(&'static str, RelayFrame)> {
    let limits = Limits {
        envelope_bytes_max: ENVELOPE_BYTES_MAX_DEFAULT,
        group_bytes_max: 1 << 30,
        push_bytes_in_flight_max: 8 << 20,
        idle_days_max: 0,
    };
    let log =
        LogState { timeline: Timeline([0x71; 8]), auth_gen: 2, head: 41, head_blob_id: BlobId([0xb1; 32]), floor: 1 };
    let error = |code: ErrorCode, retry_after_ms, detail: &str| RelayFrame::Error {
        code: code.number(),
        retry_after_ms,
        detail: detail.to_owned(),
    };
    vec![
        (
            "welcome of a guest",
            RelayFrame::Welcome {
                minor: MINOR_MAX,
                log: None,
                limits: limits.clone(),
                usage: Usage { group_bytes: 0 },
                slot: Bytes::new(),
                allow: List::empty(),
            },
        ),
        (
            "welcome of a member",
            RelayFrame::Welcome {
                minor: MINOR_MAX,
                log: Some(log.clone()),
                limits,
                usage: Usage { group_bytes: 12_345 },
                slot: bytes("slot"),
                allow: list(vec![NoisePublicKey([0x0a; 32]), NoisePublicKey([0x0b; 32])]),
            },
        ),
        (
            "superseded",
            RelayFrame::Superseded { epoch_envelope: bytes("epoch envelope"), slot: bytes("slot"), more: 1 },
        ),
        (
            "push ack",
            RelayFrame::PushAck {
                push: 7,
                results: list(vec![
                    PushResult::Stored { cursor: 42 },
                    PushResult::Refused { code: ErrorCode::EnvelopeTooLarge.number() },
                    PushResult::Refused { code: ErrorCode::OutOfOrder.number() },
                ]),
            },
        ),
        (
            "entries",
            RelayFrame::Entries {
                items: list(vec![
                    EntryItem::Stored { cursor: 40, blob_id: BlobId([0xb0; 32]), envelope: bytes("envelope") },
                    EntryItem::Own { cursor: 41, blob_id: BlobId([0xb1; 32]) },
                    EntryItem::Absent { cursor: 42, blob_id: None, reason: AbsentReason::Lost {} },
                    EntryItem::Absent {
                        cursor: 43,
                        blob_id: Some(BlobId([0xb3; 32])),
                        reason: AbsentReason::Rotten {},
                    },
                ]),
            },
        ),
        ("caught up", RelayFrame::CaughtUp { head: 43 }),
        ("probed", RelayFrame::Probed { blob_ids: list(vec![Some(BlobId([0xb1; 32])), None]) }),
        ("missing blobs", RelayFrame::MissingBlobs { bitmap: Bytes::from_static(&[0b0000_0101]) }),
        ("timeline changed", RelayFrame::TimelineChanged { timeline: Timeline([0x72; 8]) }),
        (
            "acked",
            RelayFrame::Acked { device: NoisePublicKey([0x0b; 32]), cursor: 43, receipt: Some(bytes("receipt")) },
        ),
        ("restricted", RelayFrame::Restricted { head: 43 }),
        ("rotated", RelayFrame::Rotated { auth_gen: 3, cursor: 44 }),
        ("truncated", RelayFrame::Truncated { floor: 30 }),
        ("deleted", RelayFrame::Deleted {}),
        ("whispered", RelayFrame::Whispered { data: bytes("whisper") }),
        (
            "mailbox opened",
            RelayFrame::MailboxOpened {
                mailbox: mailbox(MailboxId::LONG_LEN),
                salt: Bytes::from_static(&[0x5a; 16]),
                expires_in_ms: 600_000,
            },
        ),
        ("mailbox message", RelayFrame::MailboxMessage { data: bytes("message 2") }),
        ("mailbox closed", RelayFrame::MailboxClosed {}),
        ("pong", RelayFrame::Pong {}),
        ("bye", RelayFrame::Bye { retry_after_ms: 1_500 }),
        ("error", error(ErrorCode::UnknownLog, 0, "")),
        ("error that says where the log stands", error(ErrorCode::Diverged, 0, &Diverged::of(&log).to_string())),
        ("error that passes", error(ErrorCode::Overloaded, 2_000, "too many sessions")),
    ]
}
