//! Any frame of either direction, for property tests.

use bytes::Bytes;
use proptest::prelude::*;

use crate::frame::{AbsentReason, ClientFrame, EntryItem, Limits, LogState, PushResult, RelayFrame, Usage, Who};
use crate::id::{AuthPublicKey, BlobId, MailboxId, NoisePublicKey, Signature, Timeline};
use crate::wire::List;

fn bytes() -> impl Strategy<Value = Bytes> {
    // Around the borders of bin8 and bin16.
    prop_oneof![0usize..40, 250usize..260, 65_530usize..65_540]
        .prop_flat_map(|len| prop::collection::vec(any::<u8>(), len))
        .prop_map(Bytes::from)
}

fn short() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn list<T: std::fmt::Debug, const MAX: usize>(item: impl Strategy<Value = T>) -> impl Strategy<Value = List<T, MAX>> {
    prop::collection::vec(item, 0..20).prop_map(|items| List::try_from(items).expect("20 fit every list"))
}

fn id<T: From<[u8; N]> + std::fmt::Debug, const N: usize>() -> impl Strategy<Value = T> {
    any::<[u8; N]>().prop_map(T::from)
}

fn key() -> impl Strategy<Value = NoisePublicKey> {
    id::<NoisePublicKey, 32>()
}

fn blob() -> impl Strategy<Value = BlobId> {
    id::<BlobId, 32>()
}

fn timeline() -> impl Strategy<Value = Timeline> {
    id::<Timeline, 8>()
}

fn mailbox() -> impl Strategy<Value = MailboxId> {
    prop_oneof![Just(MailboxId::SHORT_LEN), Just(MailboxId::LONG_LEN)]
        .prop_flat_map(|len| prop::collection::vec(any::<u8>(), len))
        .prop_map(|bytes| MailboxId::from_slice(&bytes).expect("one of the two lengths"))
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        Just(Who::Guest {}),
        Just(Who::Device {}),
        (id::<AuthPublicKey, 32>(), id::<Signature, 64>())
            .prop_map(|(auth_public, signature)| Who::Member { auth_public, signature }),
    ]
}

pub(crate) fn client_frame() -> impl Strategy<Value = ClientFrame> {
    prop_oneof![
        (any::<(u8, u8, bool)>(), who(), prop::option::of(short())).prop_map(
            |((minor_min, minor_max, create), who, token)| ClientFrame::Hello {
                minor_min,
                minor_max,
                who,
                create,
                token
            }
        ),
        (list(key()), bytes(), list(short())).prop_map(|(allow, epoch_envelope, envelopes)| ClientFrame::Create {
            allow,
            epoch_envelope,
            envelopes
        }),
        (any::<(u64, bool)>(), list(bytes())).prop_map(|((push, resume), envelopes)| ClientFrame::Push {
            push,
            envelopes,
            resume
        }),
        (timeline(), blob(), any::<(u64, u64, bool)>()).prop_map(
            |(timeline, blob_id_at_after, (after, credit, follow))| ClientFrame::Subscribe {
                timeline,
                after,
                blob_id_at_after,
                credit,
                follow
            }
        ),
        any::<u64>().prop_map(|bytes| ClientFrame::Credit { bytes }),
        list(any::<u64>()).prop_map(|cursors| ClientFrame::Probe { cursors }),
        list(blob()).prop_map(|blob_ids| ClientFrame::Missing { blob_ids }),
        timeline().prop_map(|old| ClientFrame::NewTimeline { old }),
        (any::<u64>(), prop::option::of(bytes())).prop_map(|(cursor, receipt)| ClientFrame::Ack { cursor, receipt }),
        bytes().prop_map(|data| ClientFrame::SlotPut { data }),
        list(key()).prop_map(|allow| ClientFrame::Restrict { allow }),
        (any::<u64>(), id::<AuthPublicKey, 32>(), id::<Signature, 64>(), list(key()), bytes()).prop_map(
            |(expect_gen, next_auth_public, proof, allow, epoch_envelope)| ClientFrame::Rotate {
                expect_gen,
                next_auth_public,
                proof,
                allow,
                epoch_envelope
            }
        ),
        any::<u64>().prop_map(|below| ClientFrame::Truncate { below }),
        Just(ClientFrame::DeleteGroup {}),
        bytes().prop_map(|data| ClientFrame::Whisper { data }),
        any::<(bool, u64)>().prop_map(|(short, ttl_ms)| ClientFrame::MailboxOpen { short, ttl_ms }),
        mailbox().prop_map(|mailbox| ClientFrame::MailboxJoin { mailbox }),
        bytes().prop_map(|data| ClientFrame::MailboxSend { data }),
        Just(ClientFrame::MailboxClose {}),
        Just(ClientFrame::Ping {}),
        Just(ClientFrame::Bye {}),
    ]
}

fn entry() -> impl Strategy<Value = EntryItem> {
    let reason = prop_oneof![Just(AbsentReason::Lost {}), Just(AbsentReason::Rotten {})];
    prop_oneof![
        (any::<u64>(), blob(), bytes()).prop_map(|(cursor, blob_id, envelope)| EntryItem::Stored {
            cursor,
            blob_id,
            envelope
        }),
        (any::<u64>(), blob()).prop_map(|(cursor, blob_id)| EntryItem::Own { cursor, blob_id }),
        (any::<u64>(), prop::option::of(blob()), reason).prop_map(|(cursor, blob_id, reason)| EntryItem::Absent {
            cursor,
            blob_id,
            reason
        }),
    ]
}

fn welcome() -> impl Strategy<Value = RelayFrame> {
    let log = (timeline(), blob(), any::<[u64; 3]>()).prop_map(|(timeline, head_blob_id, [auth_gen, head, floor])| {
        LogState { timeline, auth_gen, head, head_blob_id, floor }
    });
    let limits = any::<(u32, u64, u64, u32)>().prop_map(
        |(envelope_bytes_max, group_bytes_max, push_bytes_in_flight_max, idle_days_max)| Limits {
            envelope_bytes_max,
            group_bytes_max,
            push_bytes_in_flight_max,
            idle_days_max,
        },
    );
    (any::<(u8, u64)>(), prop::option::of(log), limits, short(), list(key())).prop_map(
        |((minor, group_bytes), log, limits, slot, allow)| RelayFrame::Welcome {
            minor,
            log,
            limits,
            usage: Usage { group_bytes },
            slot,
            allow,
        },
    )
}

pub(crate) fn relay_frame() -> impl Strategy<Value = RelayFrame> {
    let result = prop_oneof![
        any::<u64>().prop_map(|cursor| PushResult::Stored { cursor }),
        any::<u16>().prop_map(|code| PushResult::Refused { code }),
    ];
    prop_oneof![
        welcome(),
        (bytes(), short(), any::<u8>()).prop_map(|(epoch_envelope, slot, more)| RelayFrame::Superseded {
            epoch_envelope,
            slot,
            more
        }),
        (any::<u64>(), list(result)).prop_map(|(push, results)| RelayFrame::PushAck { push, results }),
        list(entry()).prop_map(|items| RelayFrame::Entries { items }),
        any::<u64>().prop_map(|head| RelayFrame::CaughtUp { head }),
        list(prop::option::of(blob())).prop_map(|blob_ids| RelayFrame::Probed { blob_ids }),
        short().prop_map(|bitmap| RelayFrame::MissingBlobs { bitmap }),
        timeline().prop_map(|timeline| RelayFrame::TimelineChanged { timeline }),
        (key(), any::<u64>(), prop::option::of(bytes())).prop_map(|(device, cursor, receipt)| RelayFrame::Acked {
            device,
            cursor,
            receipt
        }),
        any::<u64>().prop_map(|head| RelayFrame::Restricted { head }),
        any::<(u64, u64)>().prop_map(|(auth_gen, cursor)| RelayFrame::Rotated { auth_gen, cursor }),
        any::<u64>().prop_map(|floor| RelayFrame::Truncated { floor }),
        Just(RelayFrame::Deleted {}),
        bytes().prop_map(|data| RelayFrame::Whispered { data }),
        (mailbox(), short(), any::<u64>()).prop_map(|(mailbox, salt, expires_in_ms)| RelayFrame::MailboxOpened {
            mailbox,
            salt,
            expires_in_ms
        }),
        bytes().prop_map(|data| RelayFrame::MailboxMessage { data }),
        Just(RelayFrame::MailboxClosed {}),
        Just(RelayFrame::Pong {}),
        any::<u64>().prop_map(|retry_after_ms| RelayFrame::Bye { retry_after_ms }),
        (any::<(u16, u64)>(), ".{0,200}").prop_map(|((code, retry_after_ms), detail)| RelayFrame::Error {
            code,
            retry_after_ms,
            detail
        }),
    ]
}
