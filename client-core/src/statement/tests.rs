//! What is believed of a statement, and what is not.

use zerok_sync_protocol::id::RelayTag;
use zerok_sync_protocol::limits::SLOT_BYTES_MAX;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{EpochId, Timeline};

use super::whisper::ECHO_MAX;
use super::*;
use crate::content::{Observed, SEEN_ITEMS_MAX, SeenHash, SeenItem};
use crate::fixtures::{Group, membership};
use crate::id::SenderTag;
use crate::keys::{EpochSecret, Membership};
use crate::observed::ObservedHash;
use crate::snapshot::FLOORS_MAX;

/// The longest that can be said.
fn receipt(sender: &Membership) -> Receipt {
    let item = SeenItem { tag: SenderTag([9; 8]), seq: u64::MAX, hash: SeenHash([8; 16]) };
    let observed =
        Observed { relay: RelayTag([7; 8]), timeline: Timeline([6; 8]), cursor: u64::MAX, hash: ObservedHash([5; 16]) };
    Receipt {
        sender: sender.device(),
        seq: u64::MAX,
        seen: vec![item; SEEN_ITEMS_MAX].try_into().expect("as many as fit"),
        observed: Some(observed),
        position: u64::MAX,
        sent_at_ms: u64::MAX,
        vouches: vec![Vouch { relay: RelayTag([4; 8]), manifest: SeenHash([3; 16]) }; FLOORS_MAX]
            .try_into()
            .expect("as many"),
    }
}

fn whisper(sender: &Membership) -> Whisper {
    Whisper {
        sender: sender.device(),
        session: SessionId([1; 16]),
        counter: u64::MAX,
        echo: vec![SessionId([2; 16]); ECHO_MAX].try_into().expect("as many as fit"),
        body: WhisperBody::App { data: vec![3; WHISPER_BODY_BYTES_MAX].into() },
    }
}

fn sealed<S: Statement>(group: &Group, signer: &Membership, statement: &S) -> Vec<u8> {
    seal(group.keyring.group(), group.keyring.current(), &signer.signing, [4; 24], statement).to_vec()
}

#[test]
fn the_longest_statements_fit_a_slot_and_a_whisper() {
    let group = Group::new(1);
    let (receipt, whisper) = (receipt(&group.founder), whisper(&group.founder));
    let (slot, said) = (sealed(&group, &group.founder, &receipt), sealed(&group, &group.founder, &whisper));
    assert!(slot.len() <= SLOT_BYTES_MAX && said.len() <= WHISPER_BYTES_MAX, "{} and {}", slot.len(), said.len());
    assert_eq!(open::<Receipt>(&group.keyring, &slot), Ok(receipt));
    assert_eq!(open::<Whisper>(&group.keyring, &said), Ok(whisper));
}

#[test]
fn a_statement_in_anothers_name_is_not_believed() {
    let group = Group::new(1);
    let forged = Receipt { seen: List::empty(), ..receipt(&membership(2)) };
    let failure = open::<Receipt>(&group.keyring, &sealed(&group, &group.founder, &forged));
    assert_eq!(failure, Err(OpenFailure::Malformed("not signed by whom it names")));
}

#[test]
fn a_statement_sealed_again_by_another_member_is_not_believed() {
    let group = Group::new(1);
    let statement = receipt(&group.founder);
    let envelope = sealed(&group, &group.founder, &statement);
    let (header, body) = EnvelopeHeader::parse(&envelope).expect("sealed");
    let (id, epoch) = (group.keyring.group(), group.keyring.current());
    let keys = EnvelopeKeys::derive(epoch.receipt.expose(), EnvelopeType::Receipt, &epoch.id, id, &header.nonce);
    let plaintext = keys.decrypt(&header, &[&header.to_bytes(), &id.0], body).expect("its own key");
    let signed = seal::unpad(plaintext.as_ref()).expect("padded").to_vec();

    let nonce = [5; 24];
    let keys = EnvelopeKeys::derive(epoch.receipt.expose(), EnvelopeType::Receipt, &epoch.id, id, &nonce);
    let header = keys.header(EnvelopeType::Receipt, epoch.id, nonce);
    let mut again = header.to_vec();
    keys.encrypt_onto(&mut again, &nonce, &[&header, &id.0], &[&signed]).expect("short");
    let failure = open::<Receipt>(&group.keyring, &again);
    assert_eq!(failure, Err(OpenFailure::Malformed("not signed by whom it names")));
}

#[test]
fn one_kind_of_statement_is_not_read_as_another() {
    let group = Group::new(1);
    let said = sealed(&group, &group.founder, &whisper(&group.founder));
    assert_eq!(open::<Receipt>(&group.keyring, &said), Err(OpenFailure::WrongType(EnvelopeType::Whisper)));
    let mut renamed = said;
    renamed[1] = EnvelopeType::Receipt as u8;
    assert_eq!(open::<Receipt>(&group.keyring, &renamed), Err(OpenFailure::Corrupt("another key")));
}

#[test]
fn another_groups_statement_does_not_open() {
    let (group, other) = (Group::new(1), Group::new(2));
    let slot = sealed(&group, &group.founder, &receipt(&group.founder));
    assert!(matches!(open::<Receipt>(&other.keyring, &slot), Err(OpenFailure::UnknownEpoch(_))));
    let mut renamed = slot;
    renamed[4..4 + EpochId::LEN].copy_from_slice(&other.keyring.current().id.0);
    assert_eq!(open::<Receipt>(&other.keyring, &renamed), Err(OpenFailure::Corrupt("another key")));
}

#[test]
fn no_bit_of_a_statement_can_be_changed_and_no_end_cut_off() {
    let group = Group::new(1);
    let statement = Receipt { seen: List::empty(), ..receipt(&group.founder) };
    let slot = sealed(&group, &group.founder, &statement);
    for at in 0..slot.len() {
        let mut changed = slot.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(open::<Receipt>(&group.keyring, &changed).is_err(), "byte {at}");
        assert!(open::<Receipt>(&group.keyring, &slot[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_statement_under_an_older_epoch_opens_and_under_an_unknown_one_waits() {
    let mut group = Group::new(1);
    let slot = sealed(&group, &group.founder, &receipt(&group.founder));
    let fresh = group.keyring.insert(EpochSecret::from_bytes([0xe1; 32]));
    assert!(group.keyring.set_current(&fresh));
    assert!(open::<Receipt>(&group.keyring, &slot).is_ok());
    let newer = sealed(&group, &group.founder, &receipt(&group.founder));
    assert_eq!(open::<Receipt>(&Group::new(1).keyring, &newer), Err(OpenFailure::UnknownEpoch(fresh)));
}
