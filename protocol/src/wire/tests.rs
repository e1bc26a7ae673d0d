//! The codec against another one: `rmp-serde`, an implementation of MessagePack that shares nothing
//! with it. A message is an array of these values, so what holds for each holds for all.

use bytes::Bytes;
use proptest::prelude::*;
use serde::de::{Deserialize as _, IgnoredAny};

use super::*;
use crate::EpochId;

/// Where MessagePack takes another form for a length or a number.
fn around_a_limit() -> impl Strategy<Value = u64> {
    let limits = [0, 0xf, 0x1f, 0x7f, 0xff, 0xffff, 0xffff_ffff];
    prop_oneof![any::<u64>(), (prop::sample::select(limits.to_vec()), 0_u64..3).prop_map(|(limit, more)| limit + more),]
}

fn length_around_a_limit() -> impl Strategy<Value = usize> {
    let limits = [0_usize, 0xf, 0x1f, 0xff, 0xffff];
    (prop::sample::select(limits.to_vec()), 0_usize..3).prop_map(|(limit, more)| limit + more)
}

fn reference<T: serde::Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("plain values")
}

/// Bytes most of which begin values, and containers more than anything.
fn likely_values() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![2 => 0x80_u8..=0x95, 2 => 0xc0_u8..=0xe1, 1 => 0xa0_u8..=0xa3, 2 => 0_u8..=3];
    prop::collection::vec(byte, 0..60)
}

proptest! {
    #[test]
    fn every_value_is_written_as_messagepack_says_and_read_again(
        number in around_a_limit(),
        length in length_around_a_limit(),
        flag: bool,
        text: String,
    ) {
        prop_assert_eq!(encode(&number), reference(&number));
        prop_assert_eq!(decode::<u64>(&encode(&number)), Ok(number));
        prop_assert_eq!(encode(&flag), reference(&flag));
        prop_assert_eq!(decode::<bool>(&encode(&flag)), Ok(flag));
        for option in [Some(number), None] {
            prop_assert_eq!(encode(&option), reference(&option));
            prop_assert_eq!(decode::<Option<u64>>(&encode(&option)), Ok(option));
        }
        prop_assert_eq!(encode(&(number, flag)), reference(&(number, flag)));
        for text in [text, "x".repeat(length)] {
            prop_assert_eq!(encode(&text), reference(&text));
            prop_assert_eq!(decode::<String>(&encode(&text)), Ok(text));
        }
        let bytes = Bytes::from(vec![7; length]);
        prop_assert_eq!(encode(&bytes), reference(&serde_bytes::Bytes::new(&bytes)));
        prop_assert_eq!(decode::<Bytes>(&encode(&bytes)), Ok(bytes.clone()));
        let items = bytes.to_vec();
        prop_assert_eq!(encode(&items), reference(&items));
        prop_assert_eq!(decode::<Vec<u8>>(&encode(&items)), Ok(items));
    }

    #[test]
    fn a_number_is_read_in_any_width_and_never_cut(number in around_a_limit()) {
        let be = number.to_be_bytes();
        prop_assert_eq!(decode::<u64>(&[&[0xcf], &be[..]].concat()), Ok(number));
        prop_assert_eq!(decode::<u32>(&[&[0xcf], &be[..]].concat()).ok(), u32::try_from(number).ok());
        prop_assert_eq!(decode::<u16>(&encode(&number)).ok(), u16::try_from(number).ok());
        prop_assert_eq!(decode::<u8>(&encode(&number)).ok(), u8::try_from(number).ok());
    }

    #[test]
    fn what_a_newer_peer_appended_is_passed_exactly(appended in likely_values()) {
        let mut theirs = &appended[..];
        let passed = IgnoredAny::deserialize(&mut rmp_serde::Deserializer::new(&mut theirs)).is_ok();
        // A pair with a field more, and a number behind it all.
        let bytes = [&[0x92, 0x93, 1, 2], &appended[..], &[9]].concat();
        let ours = decode::<((u8, u8), u8)>(&bytes);
        if passed && theirs.is_empty() {
            prop_assert_eq!(ours, Ok(((1, 2), 9)));
        } else if !passed {
            prop_assert!(ours.is_err(), "{ours:?}");
        }
    }

    #[test]
    fn any_bytes_end_in_a_value_or_an_error(bytes: Vec<u8>, likely in likely_values()) {
        for bytes in [bytes, likely] {
            let _ = decode::<(Bytes, Option<String>)>(&bytes);
            let _ = decode::<List<(bool, u64), 8>>(&bytes);
            let _ = decode::<Vec<Vec<Bytes>>>(&bytes);
        }
    }
}

#[test]
fn another_kind_of_value_is_refused_and_named() {
    let refused = |error: Result<(), WireError>| error.expect_err("another kind").to_string();
    for other in [&[0xc0][..], &[0xa1, b'x'], &[0xc4, 1, 0], &[0x90], &[0xff], &[0xd0, 1], &[0xca, 0, 0, 0, 0]] {
        let said = refused(decode::<u64>(other).map(drop));
        assert!(said.contains("a number cannot begin with") && said.contains(&hex::encode(&other[..1])), "{said}");
    }
    for other in [&[0xa1, b'x'][..], &[0x91, 7], &[7]] {
        assert!(refused(decode::<Bytes>(other).map(drop)).contains("bytes cannot begin"));
    }
    assert!(refused(decode::<String>(&[0xc4, 1, b'x']).map(drop)).contains("text cannot begin"));
    assert!(refused(decode::<String>(&[0xa1, 0xff]).map(drop)).contains("not UTF-8"));
    assert!(refused(decode::<(u8, u8)>(&[0x91, 1]).map(drop)).contains("a field of a pair is missing"));
    assert!(refused(decode::<EpochId>(&[0xc4, 1, 0]).map(drop)).contains("1 bytes where 8"));
}

#[test]
fn a_length_beyond_what_is_there_makes_no_room() {
    for bytes in [&[0xc6, 0xff, 0xff, 0xff, 0xff][..], &[0xdb, 0xff, 0xff, 0xff, 0xff], &[0xdd, 0xff, 0xff, 0xff, 0xff]]
    {
        assert!(
            decode::<Bytes>(bytes).is_err() && decode::<String>(bytes).is_err() && decode::<Vec<u64>>(bytes).is_err()
        );
    }
}
