//! What lies on the relay's disk after a group has used it.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use futures_util::TryStreamExt;
use rusqlite::Connection;
use zerok_sync::{Archive, Client, EntriesOptions, OpenOptions, Passphrase};

use crate::support::{Homes, RelaySetup};

const TEXT: &str = "the quick brown fox keeps a secret from the lazy relay";
const NAME: &str = "unmistakable-device-name";

/// Every file below a directory, in one piece each.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

/// The lengths of the envelopes of a relay's entries, but those that change the keys.
fn sizes_of_entries(database: &Path) -> Vec<usize> {
    let database = Connection::open(database).unwrap();
    let mut envelopes =
        database.prepare("SELECT length(envelope) FROM entries WHERE substr(envelope, 2, 1) = x'00'").unwrap();
    envelopes.query_map([], |row| row.get::<_, u32>(0)).unwrap().map(|size| size.unwrap() as usize).collect()
}

/// Whether an envelope's plaintext has one of the few sizes of PADMÉ: its low bits are zero, all but as
/// many as it takes to write down its length in bits. Before it stands the header, behind it the tag.
fn is_padded(envelope: usize) -> bool {
    let plaintext = envelope - 68 - 16;
    let bits = plaintext.ilog2();
    plaintext >= 256 && plaintext.trailing_zeros() + bits.ilog2() + 1 >= bits
}

/// The forms in which bytes may be written down.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = hex::encode(secret);
    let mut forms = vec![secret.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    // Inside a longer base64 text a secret begins at one of three offsets; its first and last
    // characters depend on its neighbours.
    for offset in 0..3 {
        let shifted = [&vec![0; offset][..], secret].concat();
        for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            forms.push(encoded.as_bytes()[offset + usize::from(offset > 0)..encoded.len() - 1].to_vec());
        }
    }
    forms
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proto_04_the_relays_files_and_logs_hold_sealed_bytes_of_padded_sizes_and_no_name_of_anything() {
    let setup = RelaySetup::sqlite();
    let mut relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.succeed(&["init", "--relay", &relay.url, "--name", NAME]);
    a.let_in(&b);
    a.succeed(&["push", TEXT]);
    b.succeed(&["push", TEXT]);
    // Of two lengths that look alike, and of one that looks otherwise.
    for length in [400, 402, 3_000] {
        b.succeed(&["push", &TEXT.repeat(length / TEXT.len() + 1)[..length]]);
    }
    assert_eq!(b.succeed(&["pull"]), format!("{TEXT}\n"));
    let exported = homes.device("exported").home;
    let of_b = b.clone().with("ZEROK_EXPORT_PASSPHRASE", "correct horse");
    of_b.succeed(&["export", exported.to_str().unwrap()]);
    // The write-ahead log is still there to be searched.
    relay.kill();

    let offline = OpenOptions { online: false, ..OpenOptions::new(&b.home) };
    let client = Client::open(offline).await.unwrap();
    let all = EntriesOptions { after: Some(0), own: true, stored_only: true };
    let entries: Vec<_> = client.entries_with(all).try_collect().await.unwrap();
    let members = client.status().borrow().members.clone();
    client.close().await;
    assert_eq!((entries.len(), members.len()), (5, 2));

    let files = files(setup.directory());
    assert!(files.iter().any(|(path, log)| path.ends_with("log") && !log.is_empty()), "there is a log to search");
    for entry in &entries {
        let found = files.iter().any(|(_, bytes)| contains(bytes, &entry.envelope));
        assert!(found, "the search finds what is there: the sealed envelope");
    }

    let sizes = sizes_of_entries(&setup.directory().join("relay.db"));
    assert!(sizes.len() > entries.len(), "what was pushed, and what the group says of itself: {sizes:?}");
    assert_eq!(sizes.iter().copied().filter(|size| !is_padded(*size)).collect::<Vec<_>>(), [0; 0]);

    let archive = Archive::open(&exported, &Passphrase::given("correct horse".into())).unwrap();
    let mut secrets = vec![TEXT.as_bytes().to_vec(), NAME.as_bytes().to_vec()];
    secrets.push(archive.group().group.0.to_vec());
    for member in &members {
        // Whole, and as the tag that stands for it in what others have seen.
        secrets.extend([member.device.as_bytes().to_vec(), member.device.as_bytes()[..8].to_vec()]);
    }
    for secret in secrets {
        for form in forms(&secret) {
            for (path, bytes) in &files {
                let form_text = String::from_utf8_lossy(&form);
                assert!(!contains(bytes, &form), "{path} holds {form_text:?}");
            }
        }
    }
}

#[test]
fn the_search_recognises_every_form_at_every_offset() {
    let secret = TEXT.as_bytes();
    for before in ["", "x", "xy", "xyz"] {
        let text = format!("{before}{TEXT}behind");
        for written in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text), hex::encode(&text), text] {
            assert!(forms(secret).iter().any(|form| contains(written.as_bytes(), form)), "{written}");
        }
    }
}
