//! What sealing promises, and each attack on an entry that must fail.

use bytes::Bytes;
use proptest::prelude::*;
use zerok_sync_protocol::Timeline;
use zerok_sync_protocol::id::RelayTag;
use zerok_sync_protocol::limits::ENVELOPE_BYTES_MAX_DEFAULT;
use zerok_sync_protocol::wire::List;

use super::*;
use crate::content::{Kind, Observed, SEEN_ITEMS_MAX, SeenHash, SeenItem};
use crate::epoch::open_epoch;
use crate::fixtures::{Group, content, membership};
use crate::id::SenderTag;
use crate::keys::{EpochSecret, Membership};
use crate::observed::ObservedHash;

fn sealed(group: &Group, author: &Membership, nonce: u8, content: &Content) -> Sealed {
    seal(group.keyring.group(), group.keyring.current(), &author.signing, [nonce; 24], content).expect("fits")
}

fn hello(group: &Group) -> Sealed {
    sealed(group, &group.founder, 1, &content(&group.founder, 2, BlobId([9; 32]), "hello"))
}

fn authenticated(group: &Group, envelope: &[u8]) -> Authenticated {
    open(&group.keyring, envelope).expect("opens").verify().expect("signed")
}

/// What somebody with the group's key can do: any plaintext, under any header.
fn seal_raw(group: &Group, nonce: u8, commitment: Option<[u8; 32]>, plaintext: &[u8]) -> Vec<u8> {
    let (id, epoch) = (group.keyring.group(), group.keyring.current());
    let nonce = [nonce; 24];
    let mut keys = EnvelopeKeys::derive(epoch.data.expose(), EnvelopeType::Entry, &epoch.id, id, &nonce);
    keys.commitment = commitment.unwrap_or(keys.commitment);
    let header = keys.header(EnvelopeType::Entry, epoch.id, nonce);
    let mut body = plaintext.to_vec();
    let aad = [&header[..], &id.0].concat();
    let tag = aead::encrypt(&keys.encryption, AeadNonce::Long(nonce), &aad, InOutBuf::from(&mut body[..]));
    [&header[..], &body, &tag[..]].concat()
}

/// Any signed array, padded as it should be.
fn padded(array: &[u8], signature: &[u8]) -> Vec<u8> {
    let content = [array, signature].concat();
    let mut plaintext = [&u32::try_from(content.len()).expect("short").to_le_bytes()[..], &content].concat();
    plaintext.resize(pad::padded_len(plaintext.len()), 0);
    plaintext
}

fn array_and_signature(group: &Group, envelope: &[u8]) -> (Bytes, Signature) {
    let opened = open(&group.keyring, envelope).expect("opens");
    (opened.0.array.clone(), opened.0.signature)
}

#[test]
fn a_sealed_entry_opens_and_is_its_authors() {
    let group = Group::new(1);
    let entry = content(&group.founder, 2, BlobId([9; 32]), "hello");
    let sealed = sealed(&group, &group.founder, 1, &entry);
    let opened = open(&group.keyring, &sealed.envelope).expect("opens");
    assert_eq!(opened.claims(), &entry);
    assert_eq!(opened.blob_id(), sealed.blob_id);
    assert_eq!(*opened.verify().expect("signed"), entry);
}

#[test]
fn an_entry_of_an_older_epoch_still_opens() {
    let mut group = Group::new(1);
    let sealed = hello(&group);
    let next = group.keyring.insert(EpochSecret::from_bytes([2; 32]));
    assert!(group.keyring.set_current(&next));
    authenticated(&group, &sealed.envelope);
}

#[test]
fn the_plaintext_does_not_show() {
    let sealed = hello(&Group::new(1));
    assert!(!sealed.envelope.windows(5).any(|window| window == b"hello"));
}

#[test]
fn every_flipped_bit_is_refused() {
    let group = Group::new(1);
    let envelope = hello(&group).envelope;
    for at in 0..envelope.len() {
        for bit in 0..8 {
            let mut changed = envelope.to_vec();
            changed[at] ^= 1 << bit;
            let failure = open(&group.keyring, &changed).expect_err("changed");
            let fits = match at {
                0 | 2 | 3 => matches!(failure, OpenFailure::UpdateNeeded(_)),
                1 => matches!(failure, OpenFailure::UpdateNeeded(_) | OpenFailure::WrongType(_)),
                4..12 => matches!(failure, OpenFailure::UnknownEpoch(_)),
                12..68 => failure == OpenFailure::Corrupt("another key"),
                _ => failure == OpenFailure::Corrupt("changed bytes"),
            };
            assert!(fits, "bit {bit} of byte {at}: {failure:?}");
        }
    }
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    let group = Group::new(1);
    let envelope = hello(&group).envelope;
    for length in 0..envelope.len() {
        let failure = open(&group.keyring, &envelope[..length]).expect_err("cut");
        assert!(matches!(failure, OpenFailure::Corrupt(_)), "cut at {length}: {failure:?}");
    }
    let longer = [&envelope[..], &[0]].concat();
    assert_eq!(open(&group.keyring, &longer), Err(OpenFailure::Corrupt("changed bytes")));
}

#[test]
fn an_entry_of_another_group_is_refused() {
    let (group, other) = (Group::new(1), Group::new(2));
    let envelope = hello(&group).envelope;
    assert!(matches!(open(&other.keyring, &envelope), Err(OpenFailure::UnknownEpoch(_))));

    // Even if both used the same data key under the same epoch id, the GroupId is in the key …
    let (header, body) = EnvelopeHeader::parse(&envelope).expect("an envelope");
    let data = group.keyring.current().data.expose();
    let keys = |id: &GroupId| EnvelopeKeys::derive(data, header.kind, &header.epoch, id, &header.nonce);
    let (mine, theirs) = (group.keyring.group(), other.keyring.group());
    assert!(keys(theirs).decrypt(&header, &[&header.to_bytes(), &mine.0], body).is_err());
    // … and in the associated data.
    assert!(keys(mine).decrypt(&header, &[&header.to_bytes(), &theirs.0], body).is_err());
    assert!(keys(mine).decrypt(&header, &[&header.to_bytes(), &mine.0], body).is_ok());
}

#[test]
fn an_entry_moved_to_another_epoch_is_refused() {
    let mut group = Group::new(1);
    let mut envelope = hello(&group).envelope.to_vec();
    let other = group.keyring.insert(EpochSecret::from_bytes([2; 32]));
    envelope[4..12].copy_from_slice(&other.0);
    assert_eq!(open(&group.keyring, &envelope), Err(OpenFailure::Corrupt("another key")));
}

#[test]
fn an_entry_passed_off_as_another_type_is_refused() {
    let group = Group::new(1);
    let mut envelope = hello(&group).envelope.to_vec();
    for (byte, kind) in [(1, EnvelopeType::Epoch), (2, EnvelopeType::Whisper), (3, EnvelopeType::Receipt)] {
        envelope[1] = byte;
        assert_eq!(open(&group.keyring, &envelope), Err(OpenFailure::WrongType(kind)));
    }
    envelope[1] = 1;
    assert!(open_epoch(group.keyring.group(), group.keyring.current(), &envelope).is_err());
    let keys = |kind| {
        let epoch = group.keyring.current();
        EnvelopeKeys::derive(epoch.data.expose(), kind, &epoch.id, group.keyring.group(), &[1; 24]).commitment
    };
    assert_ne!(keys(EnvelopeType::Entry), keys(EnvelopeType::Epoch));
}

#[test]
fn an_envelope_with_another_commitment_is_refused_although_its_cipher_opens() {
    let group = Group::new(1);
    let (array, signature) = array_and_signature(&group, &hello(&group).envelope);
    let plaintext = padded(&array, &signature.0);
    assert!(open(&group.keyring, &seal_raw(&group, 1, None, &plaintext)).is_ok());
    let forged = seal_raw(&group, 1, Some([7; 32]), &plaintext);
    assert_eq!(open(&group.keyring, &forged), Err(OpenFailure::Corrupt("another key")));
}

/// B-FRAME: with the victim's signed array under a fresh header there would be two envelopes of one
/// sequence number, both properly signed: the victim would look like a forked device.
#[test]
fn a_member_cannot_frame_another_by_sealing_its_entry_again() {
    let group = Group::new(1);
    let original = hello(&group);
    let (array, signature) = array_and_signature(&group, &original.envelope);
    let resealed = seal_raw(&group, 2, None, &padded(&array, &signature.0));
    let opened = open(&group.keyring, &resealed).expect("sealed with the group's key");
    assert_eq!(opened.claims(), open(&group.keyring, &original.envelope).expect("opens").claims());
    assert!(opened.verify().is_err());
}

#[test]
fn a_member_cannot_write_in_anothers_name() {
    let group = Group::new(1);
    let forged = sealed(&group, &membership(2), 1, &content(&group.founder, 2, BlobId([9; 32]), "as if"));
    let opened = open(&group.keyring, &forged.envelope).expect("sealed with the group's key");
    let back = opened.clone().verify().expect_err("signed by another");
    assert_eq!(back, opened);
}

#[test]
fn a_sender_whose_key_is_of_small_order_is_nobody() {
    let group = Group::new(1);
    let mut entry = content(&group.founder, 1, BlobId::ZERO, "");
    // The neutral element: S = 0, R = neutral satisfies the plain verification equation.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    entry.sender = DeviceId(neutral);
    let mut signature = [0; 64];
    signature[0] = 1;
    let envelope = seal_raw(&group, 1, None, &padded(&wire::encode(&entry), &signature));
    assert!(open(&group.keyring, &envelope).expect("opens").verify().is_err());
}

#[test]
fn padding_that_is_not_zero_is_refused() {
    let group = Group::new(1);
    let (array, signature) = array_and_signature(&group, &hello(&group).envelope);
    let honest = padded(&array, &signature.0);
    let used = 4 + array.len() + 64;
    for at in used..honest.len() {
        let mut plaintext = honest.clone();
        plaintext[at] = 1;
        let failure = open(&group.keyring, &seal_raw(&group, 1, None, &plaintext)).expect_err("carries a byte");
        assert_eq!(failure, OpenFailure::Malformed("padding is not zero"));
    }
}

#[test]
fn padding_to_another_size_is_refused() {
    let group = Group::new(1);
    let (array, signature) = array_and_signature(&group, &hello(&group).envelope);
    let mut plaintext = padded(&array, &signature.0);
    plaintext.resize(plaintext.len() + 16, 0);
    let failure = open(&group.keyring, &seal_raw(&group, 1, None, &plaintext)).expect_err("too long");
    assert_eq!(failure, OpenFailure::Malformed("wrong padded size"));
}

#[test]
fn a_length_beyond_the_plaintext_is_refused() {
    let group = Group::new(1);
    for length in [253, 257, u32::MAX] {
        let mut plaintext = vec![0; 256];
        plaintext[..4].copy_from_slice(&length.to_le_bytes());
        let failure = open(&group.keyring, &seal_raw(&group, 1, None, &plaintext)).expect_err("no such length");
        assert_eq!(failure, OpenFailure::Malformed("wrong padded size"), "{length}");
    }
}

#[test]
fn a_plaintext_that_is_no_entry_is_refused() {
    let group = Group::new(1);
    for (array, signature, why) in [
        (&b""[..], &[0; 63][..], "no signature"),
        (b"", &[0; 64], "not an entry"),
        (b"\x93\x01\x02\x03", &[0; 64], "not an entry"),
    ] {
        let failure = open(&group.keyring, &seal_raw(&group, 1, None, &padded(array, signature))).expect_err(why);
        assert_eq!(failure, OpenFailure::Malformed(why));
    }
}

#[test]
fn fields_a_newer_version_appends_are_under_the_signature_and_skipped() {
    let group = Group::new(1);
    let entry = content(&group.founder, 2, BlobId([9; 32]), "hello");
    let mut array = wire::encode(&entry);
    assert_eq!(array[0], 0x99);
    array[0] = 0x9a;
    array.push(0xc3);
    let nonce = 5;
    let header = EnvelopeHeader::parse(&seal_raw(&group, nonce, None, &[0; 256])).expect("an envelope").0;
    let message = entry_message(group.keyring.group(), &header.to_bytes(), &array);
    let signature = group.founder.signing.sign(&message).to_bytes();
    let envelope = seal_raw(&group, nonce, None, &padded(&array, &signature));
    assert_eq!(*authenticated(&group, &envelope), entry);
}

#[test]
fn an_entry_of_an_unknown_version_says_update() {
    let group = Group::new(1);
    let mut envelope = hello(&group).envelope.to_vec();
    envelope[0] = 2;
    let failure = open(&group.keyring, &envelope).expect_err("version 2");
    assert_eq!(failure, OpenFailure::UpdateNeeded(EnvelopeError::UnknownVersion(2)));
    assert!(failure.to_string().contains("update this device"));
}

/// Three entries of one sender; only the last one's signature is checked.
#[test]
fn a_signed_successor_vouches_for_the_whole_chain_before_it() {
    let group = Group::new(1);
    let me = &group.founder;
    let first = sealed(&group, me, 1, &content(me, 1, BlobId::ZERO, "1"));
    let second = sealed(&group, me, 2, &content(me, 2, first.blob_id, "2"));
    let third = sealed(&group, me, 3, &content(me, 3, second.blob_id, "3"));
    let third = authenticated(&group, &third.envelope);
    let second = open(&group.keyring, &second.envelope).expect("opens").vouched_by(&third).expect("named by 3");
    let first = open(&group.keyring, &first.envelope).expect("opens").vouched_by(&second).expect("named by 2");
    assert_eq!(&first.body[..], b"1");
}

#[test]
fn only_the_very_next_entry_of_the_same_sender_and_group_vouches() {
    let group = Group::new(1);
    let (me, other) = (&group.founder, membership(2));
    let first = sealed(&group, me, 1, &content(me, 1, BlobId::ZERO, "1"));
    let vouches = |successor: &Authenticated| {
        let decrypted = open(&group.keyring, &first.envelope).expect("opens");
        decrypted.vouched_by(successor).is_ok()
    };
    let entry = |author: &Membership, seq, prev| {
        authenticated(&group, &sealed(&group, author, 2, &content(author, seq, prev, "2")).envelope)
    };
    assert!(vouches(&entry(me, 2, first.blob_id)));
    assert!(!vouches(&entry(me, 2, BlobId([1; 32]))), "another predecessor");
    assert!(!vouches(&entry(me, 3, first.blob_id)), "not the next");
    assert!(!vouches(&entry(me, 1, first.blob_id)), "not later");
    assert!(!vouches(&entry(&other, 2, first.blob_id)), "another sender");
    let elsewhere = Group::new(2);
    let foreign = sealed(&elsewhere, me, 2, &content(me, 2, first.blob_id, "2"));
    assert!(!vouches(&authenticated(&elsewhere, &foreign.envelope)), "another group");
}

#[test]
fn a_sequence_number_cannot_wrap_around() {
    let group = Group::new(1);
    let me = &group.founder;
    let last = sealed(&group, me, 1, &content(me, u64::MAX, BlobId::ZERO, ""));
    let zero = authenticated(&group, &sealed(&group, me, 2, &content(me, 0, last.blob_id, "")).envelope);
    assert!(open(&group.keyring, &last.envelope).expect("opens").vouched_by(&zero).is_err());
}

#[test]
fn envelope_sizes_are_padme_and_nothing_else() {
    let group = Group::new(1);
    for length in [0, 1, 50, 100, 200, 1_000, 10_000, 100_000] {
        let entry = content(&group.founder, 1, BlobId::ZERO, vec![7; length]);
        let plaintext = 4 + wire::encode(&entry).len() + 64;
        let envelope = sealed(&group, &group.founder, 1, &entry).envelope;
        assert_eq!(envelope.len(), 68 + pad::padded_len(plaintext) + 16, "{length}");
    }
}

/// The content that leaves least room for a body.
fn bulky(body: Vec<u8>) -> Content {
    let item = SeenItem { tag: SenderTag([1; 8]), seq: u64::MAX, hash: SeenHash([2; 16]) };
    let relay = RelayTag([3; 8]);
    Content {
        seq: u64::MAX,
        seen: List::try_from(vec![item; SEEN_ITEMS_MAX]).expect("fits"),
        observed: Some(Observed { relay, timeline: Timeline([4; 8]), cursor: u64::MAX, hash: ObservedHash([5; 16]) }),
        lamport: u64::MAX,
        kind: Kind(u16::MAX),
        sent_at_ms: u64::MAX,
        ..content(&membership(1), 1, BlobId::ZERO, body)
    }
}

#[test]
fn the_largest_blob_fits_whatever_else_the_entry_says() {
    let group = Group::new(1);
    for limit in [3_200, 4_096, 65_536, 500_001, ENVELOPE_BYTES_MAX_DEFAULT as usize] {
        let blob = max_blob_bytes(limit);
        let envelope = sealed(&group, &group.founder, 1, &bulky(vec![0; blob])).envelope;
        assert!(blob > 0 && envelope.len() <= limit, "{blob} bytes sealed are {} of {limit}", envelope.len());
    }
}

#[test]
fn the_default_limit_takes_a_mebibyte_and_a_tiny_one_nothing() {
    assert_eq!(max_blob_bytes(ENVELOPE_BYTES_MAX_DEFAULT as usize), BLOB_BYTES_MAX);
    assert_eq!(max_blob_bytes(usize::MAX), BLOB_BYTES_MAX);
    assert_eq!(max_blob_bytes(0), 0);
    assert_eq!(max_blob_bytes(340), 0);
}

#[test]
fn the_overhead_allowed_for_is_what_a_bulky_entry_has() {
    let overhead = wire::encode(&bulky(vec![0; 70_000])).len() - 70_000;
    assert!(overhead <= CONTENT_OVERHEAD_BYTES_MAX && CONTENT_OVERHEAD_BYTES_MAX - overhead < 64, "{overhead}");
}

#[test]
fn an_entry_beyond_the_ceiling_is_not_sealed() {
    let group = Group::new(1);
    let entry = content(&group.founder, 1, BlobId::ZERO, vec![0; ENVELOPE_BYTES_MAX_CEILING as usize]);
    let result = seal(group.keyring.group(), group.keyring.current(), &group.founder.signing, [1; 24], &entry);
    assert!(matches!(result, Err(SealError::TooLarge { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_sealed_comes_back(
        seq: u64, prev: [u8; 32], lamport: u64, kind: u16, sent_at_ms: u64,
        body in proptest::collection::vec(any::<u8>(), 0..5_000),
        seen in proptest::collection::vec(any::<([u8; 8], u64, [u8; 16])>(), 0..SEEN_ITEMS_MAX),
        observed: Option<([u8; 8], [u8; 8], u64, [u8; 16])>,
        nonce: [u8; 24],
    ) {
        let group = Group::new(1);
        let seen: Vec<_> =
            seen.into_iter().map(|(tag, seq, hash)| SeenItem { tag: tag.into(), seq, hash: hash.into() }).collect();
        let entry = Content {
            sender: group.founder.device(),
            seq,
            prev: BlobId(prev),
            seen: seen.try_into().expect("below the limit"),
            observed: observed.map(|(relay, timeline, cursor, hash)| Observed {
                relay: relay.into(), timeline: timeline.into(), cursor, hash: hash.into(),
            }),
            lamport,
            kind: Kind(kind),
            sent_at_ms,
            body: body.into(),
        };
        let sealed = seal(group.keyring.group(), group.keyring.current(), &group.founder.signing, nonce, &entry)
            .expect("fits");
        let opened = authenticated(&group, &sealed.envelope);
        prop_assert_eq!(opened.header().nonce, nonce);
        prop_assert_eq!(opened.into_content(), entry);
    }
}
