//! Files that come back whole, and every way in which they do not.

use zerok_sync_protocol::{BlobId, Timeline};

use super::record::Record;
use super::stream::{HEADER_BYTES, Sealer};
use super::*;
use crate::engine::mirror::{self, MirrorWriter, Place, Records};
use crate::engine::opening::Belonging;
use crate::fixtures::{content, membership};
use crate::io::{Change, Now, RelayAddress, Row};
use crate::keys::StoreKey;
use crate::observed::FoldHash;
use crate::passphrase::{Cost, Passphrase};
use crate::seal;
use crate::{Engine, Founding, Secrets};

const NOW: Now = Now { mono_ms: 0, wall_ms: 1_700_000_000_000 };
const BODY: &str = "what was written down";

fn store_key() -> StoreKey {
    StoreKey::from_bytes([1; 32])
}

fn passphrase() -> Passphrase {
    Passphrase::given("correct horse".into())
}

/// A founder's rows, with so many entries in its mirror.
fn database(entries: u64) -> Vec<Row> {
    let relay = RelayAddress { url: "http://127.0.0.1:8080".into(), key: None };
    let founding = Founding { relay, device_name: "first".into(), token: None };
    let founded = Engine::found(NOW, &Secrets { store_key: store_key(), rng_seed: [2; 32] }, founding);
    let mut rows: Vec<Row> = founded
        .changes
        .into_iter()
        .map(|change| match change {
            Change::Put(row) => row,
            Change::Delete { .. } => panic!("nothing is there to be removed"),
        })
        .collect();
    let of = Belonging::read(&store_key(), hot(&rows)).expect("just founded");
    let author = membership(7);
    let mut writer = MirrorWriter::default();
    for number in 1..=entries {
        let nonce = [u8::try_from(number % 251).expect("below 256"); 24];
        let entry = content(&author, number, BlobId::ZERO, format!("{BODY} {number}"));
        let sealed =
            seal::seal(of.keyring.group(), of.keyring.current(), &author.signing, nonce, &entry).expect("fits");
        writer.append(&mirror::Record {
            place: Place { position: number, ordinal: number },
            for_app: mirror::ForApp::Blob,
            missing_deps: false,
            timeline: Timeline([3; 8]),
            cursor: number + 1,
            observed: FoldHash([4; 32]),
            envelope: sealed.envelope,
        });
    }
    rows.extend(writer.take());
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows
}

fn hot(rows: &[Row]) -> Vec<Row> {
    rows.iter().filter(|row| (Engine::HOT_FROM..Engine::HOT_TO).contains(&row.key.as_slice())).cloned().collect()
}

fn exported(rows: Vec<Row>, identity: bool) -> Vec<u8> {
    let exporting =
        Exporting { passphrase: passphrase(), cost: Cost::Browser, random: [5; EXPORT_RANDOM_BYTES], identity };
    let mut file = Vec::new();
    let mut exporter = Exporter::start(NOW, &store_key(), hot(&rows), &exporting, &mut file).expect("sound rows");
    for row in rows {
        exporter.row(row, &mut file).expect("a sound row");
    }
    exporter.finish(&mut file);
    file
}

/// The records of a file that is read in pieces of this length.
fn read(file: &[u8], piece: usize, passphrase: Passphrase) -> Result<Vec<Record>, ExportError> {
    let mut reader = Reader::new(passphrase);
    let mut records = Vec::new();
    for piece in file.chunks(piece) {
        reader.feed(piece)?;
        while let Some(record) = reader.record()? {
            records.push(record);
        }
    }
    reader.end()?;
    while let Some(record) = reader.record()? {
        records.push(record);
    }
    Ok(records)
}

/// The header of a small file, and the records in it as they lie there.
pub(super) fn parts(identity: bool) -> (Vec<u8>, Vec<u8>) {
    let file = exported(database(2), identity);
    let mut records = Vec::new();
    for record in read(&file, file.len(), passphrase()).expect("just written") {
        record.write(&mut records);
    }
    (file[..HEADER_BYTES].to_vec(), records)
}

fn archive_of(records: &[Record]) -> Archive {
    let Some(Record::Group { group }) = records.first() else { panic!("a group comes first") };
    Archive::new(group.clone()).expect("a group")
}

#[test]
fn an_archive_gives_every_entry_in_its_order_however_it_is_read() {
    let file = exported(database(400), false);
    for piece in [1_000, 65_536, file.len()] {
        let records = read(&file, piece, passphrase()).expect("just written");
        let mut archive = archive_of(&records);
        assert_eq!(archive.group().device_name, "first");
        let entries = records.iter().filter_map(|record| match record {
            Record::Entry { entry } => archive.entry(entry).expect("opens"),
            _ => None,
        });
        let read: Vec<_> = entries.map(|entry| (entry.position, entry.cursor, entry.data)).collect();
        let written: Vec<_> = (1..=400).map(|n| (n, n + 1, format!("{BODY} {n}").into())).collect();
        assert_eq!(read, written);
    }
}

#[test]
fn a_device_comes_back_as_it_was() {
    let rows = database(300);
    let file = exported(rows.clone(), true);
    let records = read(&file, 10_000, passphrase()).expect("just written");
    let Some(Record::Group { group }) = records.first() else { panic!("a group comes first") };
    let mut restoring = Restoring::new(group).expect("with its identity");
    assert_eq!(restoring.store_key(), &store_key());
    let mut changes = Vec::new();
    for record in records {
        let batch = restoring.record(record).expect("just written");
        changes.extend(batch.into_iter().flat_map(|batch| batch.changes));
    }
    assert!(
        !changes.iter().any(|change| matches!(change, Change::Put(row) if !hot(std::slice::from_ref(row)).is_empty()))
    );
    changes.extend(restoring.finish().changes);

    let (mut segments, mut others) = (Vec::new(), Vec::new());
    for change in changes {
        match change {
            Change::Put(row) if mirror::is_segment(&row.key) => segments.push(row),
            Change::Put(row) => others.push(row),
            Change::Delete { .. } => panic!("nothing is there to be removed"),
        }
    }
    let (was_segments, was_others): (Vec<Row>, Vec<Row>) =
        rows.into_iter().partition(|row| mirror::is_segment(&row.key));
    others.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(others, was_others);
    let flat = |rows: Vec<Row>| rows.into_iter().flat_map(Records::of).collect::<Result<Vec<_>, _>>();
    assert_eq!(flat(segments), flat(was_segments));
}

#[test]
fn an_archive_holds_neither_the_store_key_nor_the_secret_of_an_epoch() {
    let secret = *Belonging::read(&store_key(), hot(&database(0))).expect("founded").keyring.current_secret().expose();
    let holds = |identity, key: [u8; 32]| parts(identity).1.windows(32).any(|window| window == key);
    assert!(!holds(false, secret) && !holds(false, *store_key().expose()));
    assert!(holds(true, *store_key().expose()), "the search finds what is there");
    let records = read(&exported(database(1), false), 1_000, passphrase()).expect("just written");
    let Some(Record::Group { group }) = records.first() else { panic!("a group comes first") };
    assert!(matches!(Restoring::new(group), Err(ExportError::NoIdentity)));
}

#[test]
fn a_file_that_is_cut_off_is_refused_wherever_that_is() {
    let file = exported(database(600), false);
    let chunk = 65_536 + 16;
    let chunks_end = HEADER_BYTES + chunk;
    assert!(file.len() > HEADER_BYTES + 2 * chunk);
    for cut in [HEADER_BYTES, HEADER_BYTES + 3, chunks_end, HEADER_BYTES + 2 * chunk] {
        assert_eq!(read(&file[..cut], 5_000, passphrase()), Err(ExportError::CutOff), "{cut}");
    }
    for cut in [chunks_end - 1, chunks_end + 100, file.len() - 1] {
        let refused = read(&file[..cut], 5_000, passphrase());
        assert!(matches!(refused, Err(ExportError::CutOff | ExportError::Damaged)), "{cut}: {refused:?}");
    }
    for cut in [0, 1, HEADER_BYTES - 1] {
        assert_eq!(read(&file[..cut], 5_000, passphrase()), Err(ExportError::NotAnExport), "{cut}");
    }
}

#[test]
fn changed_bytes_are_refused_wherever_they_are() {
    let file = exported(database(300), false);
    let last = file.len() - 1;
    // line, costs, salt, commitment, nonce, the chunks.
    for at in [0, 16, 17, 40, 60, 80, HEADER_BYTES, HEADER_BYTES + 65_540, HEADER_BYTES + 70_000, last] {
        let mut changed = file.clone();
        changed[at] ^= 1;
        assert!(read(&changed, 5_000, passphrase()).is_err(), "byte {at}");
    }
    let longer = [&file[..], &[0]].concat();
    assert!(read(&longer, 5_000, passphrase()).is_err());
}

#[test]
fn chunks_cannot_change_places_come_twice_or_come_from_another_file() {
    let file = exported(database(300), false);
    let (header, sealed) = file.split_at(HEADER_BYTES);
    let chunks: Vec<&[u8]> = sealed.chunks(65_536 + 16).collect();
    let [one, two, rest @ ..] = &chunks[..] else { panic!("a file of several chunks") };
    let rest = rest.concat();
    for damaged in [[header, two, one, &rest], [header, one, one, &rest], [header, two, &rest, &[]]] {
        assert_eq!(read(&damaged.concat(), 5_000, passphrase()), Err(ExportError::Damaged));
    }
    let other = exported(database(299), true);
    let foreign = &other[HEADER_BYTES..HEADER_BYTES + one.len()];
    // The same passphrase, salt and nonce: only here, where nothing is random, is that one stream.
    assert_ne!(foreign, *one);
}

/// A file with these records, sealed as it should be.
fn sealed(records: &[Record]) -> Vec<u8> {
    let mut sealer = Sealer::new(&passphrase(), Cost::Browser, &[5; EXPORT_RANDOM_BYTES]);
    let (mut file, mut plain) = (sealer.header().to_vec(), Vec::new());
    records.iter().for_each(|record| record.write(&mut plain));
    sealer.write(&plain, &mut file);
    sealer.finish(&mut file);
    file
}

#[test]
fn who_knows_the_passphrase_can_still_not_leave_records_out_or_mix_them() {
    let records = read(&exported(database(3), false), 5_000, passphrase()).expect("just written");
    assert_eq!(read(&sealed(&records), 5_000, passphrase()), Ok(records.clone()));
    let [group, one, two, three, end] = &records[..] else { panic!("three entries: {}", records.len()) };
    for mixed in [
        vec![group, one, two, three],
        vec![group, one, three, end],
        vec![group, two, one, three, end],
        vec![group, group, one, two, three, end],
        vec![one, two, three, end],
        vec![group, one, two, three, end, end],
        vec![],
    ] {
        let mixed: Vec<Record> = mixed.into_iter().cloned().collect();
        let refused = read(&sealed(&mixed), 5_000, passphrase());
        assert!(matches!(refused, Err(ExportError::Malformed(_))), "{refused:?}");
    }
}

#[test]
fn a_wrong_passphrase_is_told_from_damage() {
    let file = exported(database(1), false);
    let wrong = read(&file, 5_000, Passphrase::given("battery staple".into()));
    assert_eq!(wrong, Err(ExportError::WrongPassphrase));
}

#[test]
fn a_file_that_asks_for_less_work_is_not_tried() {
    let mut file = exported(database(1), false);
    file[17..21].copy_from_slice(&8_u32.to_le_bytes());
    assert!(matches!(read(&file, 5_000, passphrase()), Err(ExportError::Cost(_))));
}

#[test]
fn other_files_are_said_to_be_none() {
    assert_eq!(read(&[0; 500], 100, passphrase()), Err(ExportError::NotAnExport));
    let mut newer = exported(database(1), false);
    newer[15] = b'2';
    assert_eq!(read(&newer, 5_000, passphrase()), Err(ExportError::Newer));
}

#[test]
fn the_bytes_of_a_file_are_these() {
    let file = sealed(&[]);
    // The tag holds what is associated with the chunk: the whole header.
    assert_eq!(hex::encode(&file[file.len() - 16..]), "08099651fa9d8e9ff8f8a5c712bc4c10");
}
