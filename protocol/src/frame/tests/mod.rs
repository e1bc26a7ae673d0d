//! The codec by example; `properties` holds for all frames, `strategies` makes them.

mod limits;
mod properties;
mod strategies;

use bytes::Bytes;

use super::*;
use crate::id::BlobId;
use crate::wire::{self, List};

#[test]
fn a_push_survives_the_wire() {
    let push = ClientFrame::Push {
        push: 7,
        envelopes: List::try_from(vec![Bytes::from_static(b"a"), Bytes::new()]).expect("two fit"),
        resume: true,
    };
    assert_eq!(ClientFrame::decode(&push.encode()), Ok(push));
}

#[test]
fn a_frame_without_fields_is_its_tag_alone() {
    assert_eq!(ClientFrame::Ping {}.encode(), [0x91, 20]);
}

#[test]
fn fields_a_newer_peer_appends_are_skipped() {
    let bytes = rmp_serde::to_vec(&(5, 9, "later", vec![vec![-1.5]])).expect("plain values");
    assert_eq!(RelayFrame::decode(&bytes), Ok(RelayFrame::CaughtUp { head: 9 }));
}

#[test]
fn an_unknown_tag_is_an_error() {
    let error = RelayFrame::decode(&[0x91, 0xcd, 0x03, 0xe7]).expect_err("tag 999 does not exist");
    assert!(error.to_string().contains("unknown tag 999"), "{error}");
}

#[test]
fn a_missing_field_is_an_error() {
    assert!(RelayFrame::decode(&[0x91, 5]).is_err());
}

#[test]
fn bytes_behind_a_frame_are_an_error() {
    let mut bytes = ClientFrame::Ping {}.encode();
    bytes.push(0);
    assert!(ClientFrame::decode(&bytes).is_err());
}

#[test]
fn a_list_longer_than_its_limit_is_refused_before_it_is_read() {
    // array32 of 2^32-1 items, of which not one follows.
    let bytes = [0x92, 7, 0xdd, 0xff, 0xff, 0xff, 0xff];
    let error = ClientFrame::decode(&bytes).expect_err("longer than MISSING_BLOB_IDS_MAX");
    assert!(error.to_string().contains("at most 1000"), "{error}");
}

#[test]
fn an_id_of_the_wrong_length_is_refused() {
    assert!(wire::decode::<BlobId>(&wire::encode(&Bytes::from_static(&[0; 31]))).is_err());
}

#[test]
fn deep_nesting_costs_no_stack() {
    let mut bytes = vec![0x92, 20];
    bytes.extend([0x91; 1_000_000]);
    assert!(ClientFrame::decode(&bytes).is_err());
    bytes.push(0);
    assert_eq!(ClientFrame::decode(&bytes), Ok(ClientFrame::Ping {}));
}

#[test]
fn a_struct_inside_a_frame_takes_a_field_more_from_a_newer_peer() {
    let newer = rmp_serde::to_vec(&(1, 2, 3, 4, "later")).expect("plain values");
    let limits = Limits { envelope_bytes_max: 1, group_bytes_max: 2, push_bytes_in_flight_max: 3, idle_days_max: 4 };
    assert_eq!(wire::decode::<Limits>(&newer), Ok(limits));
}
