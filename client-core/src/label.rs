//! Every domain separator that only members compute, in one place.
//!
//! One label, one purpose. Within one kind of use (signatures of a device, hashes, HKDF under one
//! key) no label is a prefix of another, so no two messages can be read as each other's. What a
//! relay computes as well stands in [`zerok_sync_protocol::label`].

/// Hashed with the genesis body: the `GroupId`.
pub const GROUP: &[u8] = b"0k-sync/1 group";

/// HKDF from an epoch's secret: its public name.
pub const EPOCH_ID: &[u8] = b"0k-sync/1 epoch_id";
/// HKDF from an epoch's secret: seals entries and epoch envelopes.
pub const DATA_KEY: &[u8] = b"0k-sync/1 data_key";
/// HKDF from an epoch's secret: Ed25519 seed of the key that proves membership to relays.
pub const AUTH_KEY: &[u8] = b"0k-sync/1 auth_key";
/// HKDF from an epoch's secret: seals whispers.
pub const WHISPER_KEY: &[u8] = b"0k-sync/1 whisper_key";
/// HKDF from an epoch's secret: seals receipts.
pub const RECEIPT_KEY: &[u8] = b"0k-sync/1 receipt_key";

/// HKDF from a membership's seed: Ed25519 seed of the device's signing key.
pub const SIGNING_KEY: &[u8] = b"0k-sync/1 signing_key";
/// HKDF from a membership's seed: X25519 static key of its channels.
pub const NOISE_KEY: &[u8] = b"0k-sync/1 noise_key";
/// HKDF from a membership's seed: X-Wing decapsulation key.
pub const KEM_KEY: &[u8] = b"0k-sync/1 kem_key";

/// HKDF from a data, whisper or receipt key: one envelope's own key and commitment.
pub const SEAL: &[u8] = b"0k-sync/1 seal";

/// Signed by a device: an entry of the log.
pub const SIGN_ENTRY: &[u8] = b"0k-sync/1 entry";
/// Signed by a device: an epoch envelope.
pub const SIGN_EPOCH: &[u8] = b"0k-sync/1 epoch";
/// Signed by a device: a receipt.
pub const SIGN_RECEIPT: &[u8] = b"0k-sync/1 receipt";
/// Signed by a device: a whisper.
pub const SIGN_WHISPER: &[u8] = b"0k-sync/1 whisper";
/// Signed by the inviting device: a join certificate.
pub const SIGN_CERTIFICATE: &[u8] = b"0k-sync/1 certificate";
/// Signed by the joining device inside the pairing channel: its card.
pub const SIGN_CARD: &[u8] = b"0k-sync/1 card";
/// Signed by the inviting device inside the pairing channel: the grant.
pub const SIGN_GRANT: &[u8] = b"0k-sync/1 grant";

/// Hashed with epoch id and KEM public key: which wrap in an epoch envelope is whose.
pub const WRAP_TAG: &[u8] = b"0k-sync/1 wrap-to";
/// HKDF from an X-Wing shared secret: the key that seals an epoch's secret to one device.
pub const WRAP_KEY: &[u8] = b"0k-sync/1 wrap";

/// Hashed alone: where the fold over a relay's order starts.
pub const OBSERVED: &[u8] = b"0k-sync/1 observed";

/// First bytes of the pairing channel's prologue.
pub const PAIRING_PROLOGUE: &[u8] = b"0k-sync/1 pair";
/// HKDF from the invitation's secret: psk0 of the pairing channel.
pub const PAIRING_PSK: &[u8] = b"0k-sync/1 pair-psk";
/// Hashed with the joiner's nonce: its commitment before the digits.
pub const PAIRING_COMMITMENT: &[u8] = b"0k-sync/1 sas";
/// HKDF from the pairing channel: the two digits.
pub const PAIRING_DIGITS: &[u8] = b"0k-sync/1 digits";

/// Hashed with a link's array: the checksum that tells one that was cut off.
pub const LINK: &[u8] = b"0k-sync/1 link";

/// HKDF from the recovery words' entropy: seals the paper's anchor.
pub const ANCHOR_KEY: &[u8] = b"0k-sync/1 anchor_key";
/// Associated data of a sealed anchor.
pub const ANCHOR: &[u8] = b"0k-sync/1 anchor";

/// First bytes of the associated data of a sealed row in the local store.
pub const STORE_ROW: &[u8] = b"0k-sync/1 store";
/// HKDF from a stretched passphrase: locks the store key.
pub const STORE_LOCK: &[u8] = b"0k-sync/1 lock";
/// HKDF from a stretched passphrase: seals an export file.
pub const EXPORT: &[u8] = b"0k-sync/1 export";

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use zerok_sync_protocol::label::{CHANNEL_PROLOGUE, CHANNEL_PSK, HELLO, LOG_NAME, RELAY_TAG, ROTATE};
    use zerok_sync_protocol::limits::SUITE;

    use super::*;

    /// In front of what an Ed25519 key signs.
    const SIGNED: &[&[u8]] =
        &[SIGN_ENTRY, SIGN_EPOCH, SIGN_RECEIPT, SIGN_WHISPER, SIGN_CERTIFICATE, SIGN_CARD, SIGN_GRANT, HELLO, ROTATE];
    /// What HKDF expands a key to.
    const EXPANDED: &[&[u8]] = &[
        EPOCH_ID,
        DATA_KEY,
        AUTH_KEY,
        WHISPER_KEY,
        RECEIPT_KEY,
        SIGNING_KEY,
        NOISE_KEY,
        KEM_KEY,
        SEAL,
        WRAP_KEY,
        PAIRING_PSK,
        PAIRING_DIGITS,
        STORE_LOCK,
        EXPORT,
        ANCHOR_KEY,
        CHANNEL_PSK,
    ];
    /// In front of what is hashed.
    const HASHED: &[&[u8]] = &[GROUP, WRAP_TAG, OBSERVED, PAIRING_COMMITMENT, LINK, LOG_NAME, RELAY_TAG];
    /// In front of what is authenticated beside a ciphertext.
    const ASSOCIATED: &[&[u8]] = &[ANCHOR, STORE_ROW];
    /// In front of a handshake's prologue.
    const PROLOGUES: &[&[u8]] = &[PAIRING_PROLOGUE];
    const USES: [&[&[u8]]; 5] = [SIGNED, EXPANDED, HASHED, ASSOCIATED, PROLOGUES];

    #[test]
    fn within_one_use_no_label_is_a_prefix_of_another() {
        for labels in USES {
            for (i, a) in labels.iter().enumerate() {
                assert!(a.starts_with(b"0k-sync/1 "));
                assert!(labels.iter().enumerate().all(|(j, b)| i == j || !b.starts_with(a)), "{a:?}");
            }
        }
        let relay_channel = [CHANNEL_PROLOGUE, &[SUITE]].concat();
        assert!(!PAIRING_PROLOGUE.starts_with(&relay_channel));
    }

    #[test]
    fn every_label_has_one_use_above_and_stands_nowhere_else() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let uses = |label: &[u8]| USES.iter().filter(|labels| labels.contains(&label)).count();
        let mut found = 0;
        for file in
            ["protocol", "client-core", "relay"].iter().flat_map(|room| sources(&workspace.join(room).join("src")))
        {
            let source = std::fs::read_to_string(&file).expect("a source");
            // What tests say is not what the program says.
            let shipped = source.split("#[cfg(test)]").next().expect("a beginning");
            for text in shipped.split("b\"0k-sync/1 ").skip(1) {
                let label = format!("0k-sync/1 {}", text.split('"').next().expect("an end"));
                assert!(file.ends_with("label.rs"), "{label:?} stands in {} and belongs into label.rs", file.display());
                assert_eq!(uses(label.as_bytes()), 1, "{label:?} belongs to one use in this file's tests");
                found += 1;
            }
        }
        assert_eq!(found, USES.concat().len(), "the sources have what the lists have");
    }

    /// What is compiled into programs below a directory: no tests, no recorded vectors, no fuzzing.
    fn sources(directory: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("readable").path());
        let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
        let named =
            |path: &Path, names: &[&str]| names.iter().any(|name| path.file_stem().is_some_and(|stem| stem == *name));
        let shipped = directories.iter().filter(|path| !named(path, &["tests", "vectors", "fuzzing"]));
        let here =
            files.into_iter().filter(|path| path.extension().is_some_and(|it| it == "rs") && !named(path, &["tests"]));
        here.chain(shipped.flat_map(|path| sources(path))).collect()
    }
}
