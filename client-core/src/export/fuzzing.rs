//! What the fuzz target does with an export file's bytes. The passphrase is not stretched: what is
//! behind it is handed over as it would come out.

use super::record::Record;
use super::stream::{HEADER_BYTES, parse_header};
use super::{Archive, Restoring};

/// Mode 0: a header. Mode 1: records. Input: mode (1) ‖ bytes.
pub(crate) fn exercise(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    if mode.is_multiple_of(2) {
        if let Some(header) = bytes.first_chunk::<HEADER_BYTES>()
            && let Ok(stretched) = parse_header(header)
        {
            assert!(header.windows(stretched.to_bytes().len()).any(|window| window == stretched.to_bytes()));
        }
        return;
    }
    let (mut rest, mut archive, mut restoring) = (bytes, None, None);
    while let Ok(Some((record, length))) = Record::read(rest) {
        rest = &rest[length..];
        let mut written = Vec::new();
        record.write(&mut written);
        assert_eq!(Record::read(&written), Ok(Some((record.clone(), written.len()))));
        match &record {
            Record::Group { group } => {
                archive = Archive::new(group.clone()).ok();
                restoring = Restoring::new(group).ok();
            }
            Record::Entry { entry } => {
                let _ = archive.as_mut().map(|archive: &mut Archive| archive.entry(entry));
            }
            Record::Row { .. } | Record::End { .. } => {}
        }
        // Places rise: the reader has seen to that.
        if matches!(record, Record::Row { .. })
            && let Some(restoring) = &mut restoring
        {
            let _ = Restoring::record(restoring, record);
        }
    }
}

/// Where fuzzing starts.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let (header, archive) = super::tests::parts(false);
    let (_, device) = super::tests::parts(true);
    vec![
        ("header", [&[0], &header[..]].concat()),
        ("archive", [&[1], &archive[..]].concat()),
        ("device", [&[1], &device[..]].concat()),
    ]
}
