use proptest::prelude::*;
use zerok_sync_protocol::BlobId;

use super::*;
use crate::content::Content;
use crate::fixtures::{Group, content, membership};
use crate::keys::{EpochSecret, Membership};
use crate::seal;

fn card(of: &Membership) -> Card {
    Card { keys: of.keys.clone(), name: "phone".parse().expect("a name") }
}

fn invited(group: &Group, joiner: &Membership) -> JoinCertificate {
    let epoch = group.keyring.current().id;
    JoinCertificate::issue(group.keyring.group(), &group.founder.signing, card(joiner), epoch)
}

fn join(joiner: &Membership, certificate: &JoinCertificate) -> Content {
    Content { kind: Kind::JOIN, ..content(joiner, 1, BlobId::ZERO, certificate.to_bytes()) }
}

/// Seals and opens an entry by `author`.
fn entry(group: &Group, author: &Membership, content: &Content) -> Authenticated {
    let keyring = &group.keyring;
    let sealed = seal::seal(keyring.group(), keyring.current(), &author.signing, [1; 24], content).expect("fits");
    seal::open(keyring, &sealed.envelope).expect("opens").verify().expect("signed")
}

#[test]
fn a_joiners_first_entry_brings_its_certificate() {
    let group = Group::new(1);
    let joiner = membership(2);
    let certificate = invited(&group, &joiner);
    let entry = entry(&group, &joiner, &join(&joiner, &certificate));
    let found = JoinCertificate::of_entry(&entry).expect("valid");
    assert_eq!(found, certificate);
    assert_eq!(found.card(), &card(&joiner));
    assert_eq!(found.inviter(), group.founder.device());
}

#[test]
fn a_certificate_of_another_group_is_refused() {
    let group = Group::new(1);
    let certificate = invited(&Group::new(2), &membership(2));
    assert_eq!(certificate.verify(group.keyring.group()), Err(CertificateError::BadSignature));
}

#[test]
fn nobody_can_invite_in_anothers_name() {
    let group = Group::new(1);
    let (joiner, stranger) = (membership(2), membership(3));
    let mut forged =
        JoinCertificate::issue(group.keyring.group(), &stranger.signing, card(&joiner), group.keyring.current().id);
    assert_eq!(forged.verify(group.keyring.group()), Ok(()));
    forged.statement.inviter = group.founder.device();
    forged.signed.statement = wire::encode(&forged.statement).into();
    let entry = entry(&group, &joiner, &join(&joiner, &forged));
    assert_eq!(JoinCertificate::of_entry(&entry), Err(CertificateError::BadSignature));
}

#[test]
fn every_changed_byte_of_a_certificate_is_refused() {
    let group = Group::new(1);
    let bytes = invited(&group, &membership(2)).to_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        let accepted = JoinCertificate::from_bytes(&changed)
            .is_ok_and(|certificate| certificate.verify(group.keyring.group()).is_ok());
        assert!(!accepted, "byte {at}");
    }
}

#[test]
fn a_stolen_certificate_serves_no_other_device() {
    let group = Group::new(1);
    let thief = membership(3);
    let stolen = join(&thief, &invited(&group, &membership(2)));
    assert_eq!(JoinCertificate::of_entry(&entry(&group, &thief, &stolen)), Err(CertificateError::AnotherDevice));
}

#[test]
fn a_rotation_voids_a_certificate() {
    let mut group = Group::new(1);
    let joiner = membership(2);
    let certificate = invited(&group, &joiner);
    let next = group.keyring.insert(EpochSecret::from_bytes([2; 32]));
    assert!(group.keyring.set_current(&next));
    let late = entry(&group, &joiner, &join(&joiner, &certificate));
    assert_eq!(JoinCertificate::of_entry(&late), Err(CertificateError::AnotherEpoch));
}

#[test]
fn a_certificate_counts_only_in_a_first_entry_of_kind_join() {
    let group = Group::new(1);
    let joiner = membership(2);
    let first = join(&joiner, &invited(&group, &joiner));
    let later = Content { seq: 2, prev: BlobId([1; 32]), ..first.clone() };
    let chained = Content { prev: BlobId([1; 32]), ..first.clone() };
    let app = Content { kind: Kind::APP, ..first };
    for content in [later, chained, app] {
        let entry = entry(&group, &joiner, &content);
        assert_eq!(JoinCertificate::of_entry(&entry), Err(CertificateError::NotAFirstEntry));
    }
}

#[test]
fn a_body_that_is_no_certificate_is_refused() {
    let group = Group::new(1);
    let joiner = membership(2);
    let content = Content { kind: Kind::JOIN, ..content(&joiner, 1, BlobId::ZERO, "let me in") };
    let refusal = JoinCertificate::of_entry(&entry(&group, &joiner, &content)).expect_err("no certificate");
    assert!(matches!(refusal, CertificateError::Malformed(_)));
}

#[test]
fn fields_a_newer_inviter_adds_stay_under_its_signature() {
    let group = Group::new(1);
    let mut certificate = invited(&group, &membership(2));
    let mut statement = certificate.signed.statement.to_vec();
    statement[0] += 1;
    statement.push(0xc3);
    let signature = group.founder.signing.sign(&signed_message(group.keyring.group(), &statement)).to_bytes();
    certificate.signed = SignedStatement { statement: statement.into(), signature: Signature(signature) };
    let passed_on = JoinCertificate::from_bytes(&certificate.to_bytes()).expect("parses");
    assert_eq!(passed_on.verify(group.keyring.group()), Ok(()));
    assert_eq!(wire::decode::<JoinCertificate>(&wire::encode(&passed_on)), Ok(passed_on));
}

#[test]
fn a_name_that_could_repaint_the_question_is_refused() {
    let overlong = "x".repeat(65);
    for name in ["", "  ", "a\nb", "a\u{1b}[2J", "a\u{202e}b", "a\u{2066}b", "a\u{2028}b", "\u{7f}", &overlong] {
        assert_eq!(name.parse::<DeviceName>(), Err(NotAName), "{name:?}");
        assert!(wire::decode::<DeviceName>(&wire::encode(&name.to_owned())).is_err(), "{name:?} from the wire");
    }
    for name in ["a", "Jürgens Gerät", "家のパソコン", "👩‍💻 laptop", &"ü".repeat(64)] {
        assert!(name.parse::<DeviceName>().is_ok(), "{name:?}");
    }
}

#[test]
fn any_text_can_be_cleaned_into_a_name() {
    assert_eq!(&*DeviceName::cleaned("  my\nphone "), "myphone");
    assert_eq!(&*DeviceName::cleaned(" \u{202e} "), "device");
    assert_eq!(DeviceName::cleaned(&"y".repeat(100)).chars().count(), 64);
}

proptest! {
    #[test]
    fn a_cleaned_name_is_a_name(text: String) {
        let cleaned = DeviceName::cleaned(&text);
        prop_assert_eq!(cleaned.parse::<DeviceName>(), Ok(cleaned));
    }
}
