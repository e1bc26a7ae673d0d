//! What the fuzz targets in `fuzz/` call: one plain function for each parser of bytes that come
//! from relays, members or joiners.
//!
//! A function takes any bytes and panics when a rule is broken. Mutated ciphertext never gets past
//! its AEAD, so where there is one the target also seals the bytes itself and lets them through.

use zerok_sync_protocol::{EnvelopeType, wire};

use crate::certificate::{Card, JoinCertificate};
use crate::content::Content;
use crate::epoch;
use crate::fixtures::Group;
use crate::genesis::Genesis;
use crate::passphrase::Cost;
use crate::seal::{self, EnvelopeKeys, OpenFailure};
use crate::snapshot::{self, Manifest};
use crate::statement::{self, Receipt, Whisper};
use crate::store_lock::StoredKey;

pub use crate::pairing::fuzzing::{invite_link, pairing, pairing_code};
pub use crate::recovery::fuzzing::{recovery_slot, recovery_words};

/// An entry's envelope. Mode 0: raw bytes; they never authenticate. Mode 1: the *content* (array
/// and signature) inside a well-made envelope; it may open, and is nobody's. Input: mode (1) ‖ bytes.
pub fn entry_open(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let group = Group::new(1);
    let opened = match mode % 2 {
        0 => seal::open(&group.keyring, bytes),
        _ => seal::open(&group.keyring, &around(&group, EnvelopeType::Entry, &[], bytes)),
    };
    match opened {
        // The one authentic entry of the corpus may pass.
        Ok(entry) => match entry.verify() {
            Ok(entry) => assert_eq!(entry.sender, group.founder.device()),
            Err(entry) => drop(entry),
        },
        Err(failure) => assert!(*mode % 2 == 0 || matches!(failure, OpenFailure::Malformed(_)), "{failure}"),
    }
}

/// An epoch's envelope. Mode 0: raw bytes, also unwrapped. Mode 1: the content inside a well-made
/// envelope around the first 8 wraps' worth of zeros. Input: mode (1) ‖ bytes.
pub fn epoch_open(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let group = Group::new(1);
    let (id, keys) = (group.keyring.group(), group.keyring.current());
    let opened = if mode % 2 == 0 {
        let _ = epoch::unwrap_secret(id, &group.founder, bytes);
        epoch::open_epoch(id, keys, bytes)
    } else {
        epoch::open_epoch(id, keys, &around(&group, EnvelopeType::Epoch, &epoch::no_wraps(), bytes))
    };
    if let Ok(epoch) = opened
        && let Ok(signed) = epoch.verify()
    {
        assert_eq!(signed.sender, group.founder.device());
        let _ = signed.check_succession(epoch::Predecessor::None);
    }
}

/// A receipt or a whisper. Mode 0 and 1: raw bytes of either; they never open, but for the authentic
/// one of the corpus. Mode 2 and 3: the *content* inside a well-made envelope; nobody signed it.
/// Input: mode (1) ‖ bytes.
pub fn statement_open(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let group = Group::new(1);
    let founder = group.founder.device();
    let keyring = &group.keyring;
    let sealed = |kind| around(&group, kind, &[], bytes);
    match mode % 4 {
        0 => drop(statement::open::<Receipt>(keyring, bytes).map(|receipt| assert_eq!(receipt.sender, founder))),
        1 => drop(statement::open::<Whisper>(keyring, bytes).map(|whisper| assert_eq!(whisper.sender, founder))),
        2 => drop(statement::open::<Receipt>(keyring, &sealed(EnvelopeType::Receipt)).expect_err("nobody signed it")),
        _ => drop(statement::open::<Whisper>(keyring, &sealed(EnvelopeType::Whisper)).expect_err("nobody signed it")),
    }
}

/// The array of an entry: an error, or content that means the same after another round.
pub fn content(data: &[u8]) {
    if let Ok(content) = wire::decode::<Content>(data) {
        assert_eq!(wire::decode(&wire::encode(&content)), Ok(content));
    }
}

/// Certificate, card and genesis body: an error, or something that is passed on as it came.
pub fn certificate(data: &[u8]) {
    if let Ok(certificate) = JoinCertificate::from_bytes(data) {
        assert_eq!(JoinCertificate::from_bytes(&certificate.to_bytes()), Ok(certificate));
    }
    if let Ok(card) = wire::decode::<Card>(data) {
        assert_eq!(wire::decode(&wire::encode(&card)), Ok(card));
    }
    if let Ok(genesis) = Genesis::parse(data.to_vec()) {
        assert_eq!(genesis.bytes(), data);
    }
}

/// A store key as it is stored: an error, or something that is stored again as it came.
pub fn stored_key(data: &[u8]) {
    for least in [Cost::Browser, Cost::Native] {
        match StoredKey::parse(data, least) {
            Ok(StoredKey::Bare(key)) => assert_eq!(key.expose()[..], *data),
            Ok(StoredKey::Locked(locked)) => assert_eq!(locked.to_bytes(), data),
            Err(_) => {}
        }
    }
}

/// What is inside an export file, and the header in front of it: an error, or something that is written
/// again as it came.
pub fn export_file(data: &[u8]) {
    crate::export::exercise(data);
}

/// A snapshot's manifest, and its control archive: an error, or something that is written again as it
/// came.
pub fn snapshot(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data) {
        assert!(manifest.heads.iter().all(|head| manifest.covers(&head.device, head.seq)));
        assert_eq!(Manifest::parse(&wire::encode(&manifest)), Ok(manifest));
    }
    let read: Result<Vec<_>, _> = snapshot::Archived(data.to_vec().into()).collect();
    if let Ok(envelopes) = read {
        let mut again = Vec::new();
        envelopes.iter().for_each(|envelope| snapshot::archive(&mut again, envelope));
        assert_eq!(again, data);
    }
}

/// Seals any content under the group's key.
fn around(group: &Group, kind: EnvelopeType, wraps: &[u8], content: &[u8]) -> Vec<u8> {
    let (id, epoch) = (group.keyring.group(), group.keyring.current());
    let nonce = [7; 24];
    let key = match kind {
        EnvelopeType::Entry | EnvelopeType::Epoch => epoch.data.expose(),
        EnvelopeType::Whisper => epoch.whisper.expose(),
        EnvelopeType::Receipt => epoch.receipt.expose(),
    };
    let keys = EnvelopeKeys::derive(key, kind, &epoch.id, id, &nonce);
    let header = keys.header(kind, epoch.id, nonce);
    let hash = *blake3::hash(wraps).as_bytes();
    let bound: &[u8] = if wraps.is_empty() { &[] } else { &hash };
    let mut bytes = [&header[..], wraps].concat();
    keys.encrypt_onto(&mut bytes, &nonce, &[&header, &id.0, bound], &[content]).expect("fuzz inputs are short");
    bytes
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use zerok_sync_protocol::BlobId;
    use zerok_sync_protocol::fuzzing::{SeededRng, exercise};
    use zerok_sync_protocol::wire::List;

    use super::*;
    use crate::fixtures::{content as app_content, membership};
    use crate::keys::StoreKey;
    use crate::passphrase::Passphrase;
    use crate::statement::{SessionId, WhisperBody};
    use crate::store_lock::{LOCK_RANDOM_BYTES, LockedKey};

    fn corpus(target: &str) -> PathBuf {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        if std::env::var_os("ZEROK_WRITE_VECTORS").is_some() {
            std::fs::create_dir_all(&dir).expect("fuzz/corpus is writable");
            for (name, bytes) in seeds(target) {
                std::fs::write(dir.join(name), bytes).expect("fuzz/corpus is writable");
            }
        }
        dir
    }

    /// Where fuzzing starts: one valid input of each kind.
    fn seeds(target: &str) -> Vec<(&'static str, Vec<u8>)> {
        let group = Group::new(1);
        let me = &group.founder;
        let (id, keys) = (group.keyring.group(), group.keyring.current());
        let entry = app_content(me, 2, BlobId([9; 32]), "hello");
        let array = wire::encode(&entry);
        let card = Card { keys: membership(2).keys, name: "phone".parse().expect("a name") };
        let genesis = epoch::seal_genesis(&group.genesis, &group.keyring, me, 1, &mut SeededRng::new(b"epoch"));
        let epoch = epoch::open_epoch(id, keys, &genesis.envelope).expect("just sealed");
        match target {
            "entry_open" => {
                let sealed = seal::seal(id, keys, &me.signing, [1; 24], &entry).expect("fits");
                vec![("raw", [&[0], &sealed.envelope[..]].concat()), ("content", [&[1], &array[..], &[0; 64]].concat())]
            }
            "epoch_open" => {
                let content = wire::encode(epoch.claims());
                vec![
                    ("raw", [&[0], &genesis.envelope[..]].concat()),
                    ("content", [&[1], &content[..], &[0; 64]].concat()),
                ]
            }
            "statement_open" => {
                let receipt = Receipt {
                    sender: me.device(),
                    seq: 3,
                    seen: List::empty(),
                    observed: None,
                    position: 2,
                    sent_at_ms: 1_700_000_000_000,
                    vouches: List::empty(),
                };
                let (session, echo) = (SessionId([6; 16]), vec![SessionId([7; 16])].try_into().expect("one fits"));
                let whisper = Whisper { sender: me.device(), session, counter: 1, echo, body: WhisperBody::Here {} };
                let of = |mode: u8, bytes: &[u8], tail: &[u8]| [&[mode], bytes, tail].concat();
                vec![
                    ("receipt", of(0, &statement::seal(id, keys, &me.signing, [2; 24], &receipt), &[])),
                    ("whisper", of(1, &statement::seal(id, keys, &me.signing, [3; 24], &whisper), &[])),
                    ("receipt-content", of(2, &wire::encode(&receipt), &[0; 64])),
                    ("whisper-content", of(3, &wire::encode(&whisper), &[0; 64])),
                ]
            }
            "content" => vec![("app", array)],
            "certificate" => vec![
                ("card", wire::encode(&card)),
                ("certificate", JoinCertificate::issue(id, &me.signing, card, keys.id).to_bytes().to_vec()),
                ("genesis", group.genesis.bytes().to_vec()),
            ],
            "stored_key" => {
                let passphrase = Passphrase::given("open sesame".into());
                let key = StoreKey::from_bytes([9; 32]);
                let locked = |cost| LockedKey::lock(&key, &passphrase, cost, &[5; LOCK_RANDOM_BYTES]).to_bytes();
                vec![("bare", vec![9; 32]), ("browser", locked(Cost::Browser)), ("native", locked(Cost::Native))]
            }
            "export_file" => crate::export::seeds(),
            "recovery_words" | "recovery_slot" => crate::recovery::fuzzing::seeds(target),
            "snapshot" => snapshot::seeds(),
            other => crate::pairing::fuzzing::seeds(other),
        }
    }

    #[test]
    fn entries_hold_under_mutation() {
        exercise(&corpus("entry_open"), 2_000, entry_open);
    }

    #[test]
    fn epochs_hold_under_mutation() {
        exercise(&corpus("epoch_open"), 500, epoch_open);
    }

    #[test]
    fn statements_hold_under_mutation() {
        exercise(&corpus("statement_open"), 2_000, statement_open);
    }

    #[test]
    fn contents_hold_under_mutation() {
        exercise(&corpus("content"), 20_000, content);
    }

    #[test]
    fn snapshots_hold_under_mutation() {
        exercise(&corpus("snapshot"), 20_000, super::snapshot);
    }

    #[test]
    fn invite_links_hold_under_mutation() {
        exercise(&corpus("invite_link"), 20_000, invite_link);
    }

    #[test]
    fn pairing_codes_hold_under_mutation() {
        exercise(&corpus("pairing_code"), 20_000, pairing_code);
    }

    #[test]
    fn pairings_hold_under_mutation() {
        exercise(&corpus("pairing"), 300, pairing);
    }

    #[test]
    fn recovery_words_hold_under_mutation() {
        exercise(&corpus("recovery_words"), 500, recovery_words);
    }

    #[test]
    fn recovery_slots_hold_under_mutation() {
        exercise(&corpus("recovery_slot"), 2_000, recovery_slot);
    }

    #[test]
    fn certificates_hold_under_mutation() {
        exercise(&corpus("certificate"), 2_000, certificate);
    }

    #[test]
    fn stored_keys_hold_under_mutation() {
        exercise(&corpus("stored_key"), 20_000, stored_key);
    }

    #[test]
    fn export_files_hold_under_mutation() {
        exercise(&corpus("export_file"), 20_000, export_file);
    }
}
