//! The largest frame of a phase fits that phase's limit.

use super::*;
use crate::frame::{Limits, LogState, Usage, Who};
use crate::id::{AuthPublicKey, NoisePublicKey, Signature, Timeline};
use crate::limits::{
    ALLOW_LIST_MAX, FRAME_BYTES_MAX_GUEST, FRAME_BYTES_MAX_HELLO, FRAME_OVERHEAD_BYTES_MAX, MAILBOX_MESSAGE_BYTES_MAX,
    MISSING_BLOB_IDS_MAX, SLOT_BYTES_MAX, TOKEN_BYTES_MAX,
};

fn zeros(len: usize) -> Bytes {
    Bytes::from(vec![0; len])
}

#[test]
fn the_longest_hello_fits_before_hello() {
    let hello = ClientFrame::Hello {
        minor_min: u8::MAX,
        minor_max: u8::MAX,
        who: Who::Member { auth_public: AuthPublicKey::ZERO, signature: Signature::ZERO },
        create: true,
        token: Some(zeros(TOKEN_BYTES_MAX)),
    };
    assert!(hello.encode().len() <= FRAME_BYTES_MAX_HELLO);
}

#[test]
fn the_longest_mailbox_message_fits_a_guests_frame() {
    let data = zeros(MAILBOX_MESSAGE_BYTES_MAX);
    assert!(ClientFrame::MailboxSend { data: data.clone() }.encode().len() <= FRAME_BYTES_MAX_GUEST);
    assert!(RelayFrame::MailboxMessage { data }.encode().len() <= FRAME_BYTES_MAX_GUEST);
}

#[test]
fn the_longest_frames_without_envelopes_fit_the_overhead_of_those_with_one() {
    let allow = || List::try_from(vec![NoisePublicKey::ZERO; ALLOW_LIST_MAX]).expect("full");
    let rotate = ClientFrame::Rotate {
        expect_gen: u64::MAX,
        next_auth_public: AuthPublicKey::ZERO,
        proof: Signature::ZERO,
        allow: allow(),
        epoch_envelope: Bytes::new(),
    };
    let missing =
        ClientFrame::Missing { blob_ids: List::try_from(vec![BlobId::ZERO; MISSING_BLOB_IDS_MAX]).expect("full") };
    let max = u64::MAX;
    let welcome = RelayFrame::Welcome {
        minor: u8::MAX,
        log: Some(LogState {
            timeline: Timeline::ZERO,
            auth_gen: max,
            head: max,
            head_blob_id: BlobId::ZERO,
            floor: max,
        }),
        limits: Limits {
            envelope_bytes_max: u32::MAX,
            group_bytes_max: max,
            push_bytes_in_flight_max: max,
            idle_days_max: u32::MAX,
        },
        usage: Usage { group_bytes: max },
        slot: zeros(SLOT_BYTES_MAX),
        allow: allow(),
    };
    for bytes in [rotate.encode(), missing.encode(), welcome.encode()] {
        assert!(bytes.len() <= FRAME_OVERHEAD_BYTES_MAX, "{}", bytes.len());
    }
    assert!(welcome.encode().len() > FRAME_BYTES_MAX_HELLO, "so a client needs the larger limit from the start");
}
