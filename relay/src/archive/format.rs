//! The bytes of an archive: a line that names the format, then records (`u32be length ‖
//! MessagePack`), the last of them an `End`, then the BLAKE3 of everything before.
//!
//! A reader gives out nothing it has not bounded, and calls an archive whole only after its last
//! byte: whoever takes records keeps them in a transaction until then.

use std::io::{Read, Write};

use zerok_sync_protocol::limits::{ENVELOPE_BYTES_MAX_CEILING, FRAME_OVERHEAD_BYTES_MAX};
use zerok_sync_protocol::wire;

use crate::store::Record;

const MAGIC: &[u8] = b"0k-sync relay archive 1\n";
/// What every version's line begins with.
const MAGIC_START: &[u8] = b"0k-sync relay archive ";
/// The largest envelope there can be, with what is stored beside it.
const RECORD_BYTES_MAX: usize = ENVELOPE_BYTES_MAX_CEILING as usize + FRAME_OVERHEAD_BYTES_MAX;

/// Why bytes are not a whole archive.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Another file.
    #[error("it is not a relay's archive: name the file that `zerok-relay backup` wrote")]
    NotAnArchive,
    /// Written by a newer relay.
    #[error("it is of another version: restore it with the relay version that wrote it")]
    OtherVersion,
    /// Cut off, or changed.
    #[error("it is damaged ({0}): take another backup's file")]
    Damaged(&'static str),
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// Writes an archive.
pub(super) struct ArchiveWriter<W> {
    out: W,
    hash: blake3::Hasher,
    records: u64,
}

impl<W: Write> ArchiveWriter<W> {
    pub fn new(out: W) -> std::io::Result<Self> {
        let mut writer = Self { out, hash: blake3::Hasher::new(), records: 0 };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    pub fn write(&mut self, record: &Record) -> std::io::Result<()> {
        let bytes = wire::encode(record);
        let length = u32::try_from(bytes.len()).expect("the store holds no envelope of 4 GiB");
        self.put(&length.to_be_bytes())?;
        self.put(&bytes)?;
        self.records += 1;
        Ok(())
    }

    /// Ends the archive; what it was written to.
    pub fn finish(mut self) -> std::io::Result<W> {
        let records = self.records;
        self.write(&Record::End { records })?;
        self.out.write_all(self.hash.finalize().as_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hash.update(bytes);
        self.out.write_all(bytes)
    }
}

/// Reads an archive: call [`Self::next`] until it answers an `End`.
pub(super) struct ArchiveReader<R> {
    input: R,
    hash: blake3::Hasher,
    records: u64,
}

impl<R: Read> ArchiveReader<R> {
    pub fn new(input: R) -> Result<Self, FormatError> {
        let mut reader = Self { input, hash: blake3::Hasher::new(), records: 0 };
        let mut magic = [0; MAGIC.len()];
        reader.get(&mut magic).map_err(|_| FormatError::NotAnArchive)?;
        match &magic[..] {
            MAGIC => Ok(reader),
            other if other.starts_with(MAGIC_START) => Err(FormatError::OtherVersion),
            _ => Err(FormatError::NotAnArchive),
        }
    }

    /// The next record. An `End` is given out only if everything before it, and it, is as written.
    pub fn next(&mut self) -> Result<Record, FormatError> {
        let mut length = [0; 4];
        self.get(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > RECORD_BYTES_MAX {
            return Err(FormatError::Damaged("a record is too long"));
        }
        let mut bytes = vec![0; length];
        self.get(&mut bytes)?;
        let record = wire::decode(&bytes).map_err(|_| FormatError::Damaged("a record makes no sense"))?;
        if let Record::End { records } = record {
            if records != self.records {
                return Err(FormatError::Damaged("records are missing"));
            }
            self.check_end()?;
        }
        self.records += 1;
        Ok(record)
    }

    fn check_end(&mut self) -> Result<(), FormatError> {
        let expected = self.hash.finalize();
        let mut found = [0; blake3::OUT_LEN];
        self.get(&mut found)?;
        if expected != blake3::Hash::from_bytes(found) {
            return Err(FormatError::Damaged("its checksum is another"));
        }
        match self.input.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(FormatError::Damaged("something stands behind its end")),
        }
    }

    fn get(&mut self, bytes: &mut [u8]) -> Result<(), FormatError> {
        self.input.read_exact(bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => FormatError::Damaged("it is cut off"),
            _ => FormatError::Io(error),
        })?;
        self.hash.update(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use zerok_sync_protocol::LogName;

    use super::*;

    fn archive() -> Vec<u8> {
        let mut writer = ArchiveWriter::new(Vec::new()).expect("memory");
        writer.write(&Record::Head { created_at: 7, noise_secret: None }).expect("memory");
        let entry = Record::Entry {
            group: LogName([1; 32]),
            cursor: 1,
            blob_id: Bytes::from_static(&[2; 32]),
            received_at: 3,
            envelope: Bytes::from_static(b"sealed"),
        };
        writer.write(&entry).expect("memory");
        writer.finish().expect("memory")
    }

    fn read(bytes: &[u8]) -> Result<u64, FormatError> {
        let mut reader = ArchiveReader::new(bytes)?;
        loop {
            if let Record::End { records } = reader.next()? {
                return Ok(records);
            }
        }
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(read(&archive()).expect("whole"), 2);
    }

    #[test]
    fn an_archive_cut_off_anywhere_is_refused() {
        let archive = archive();
        for length in 0..archive.len() {
            assert!(read(&archive[..length]).is_err(), "{length} bytes of {}", archive.len());
        }
    }

    #[test]
    fn an_archive_with_any_byte_changed_or_added_is_refused() {
        let archive = archive();
        for at in 0..archive.len() {
            let mut changed = archive.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "byte {at}");
        }
        assert!(read(&[&archive[..], b"\n"].concat()).is_err());
    }

    #[test]
    fn a_length_of_four_gigabytes_is_refused_before_it_is_allocated() {
        let error = read(&[MAGIC, &[0xff; 4]].concat()).expect_err("not a record");
        assert!(matches!(error, FormatError::Damaged("a record is too long")), "{error}");
    }

    #[test]
    fn another_version_and_another_file_are_told_apart() {
        let newer = [MAGIC_START, b"2\n"].concat();
        assert!(matches!(read(&newer), Err(FormatError::OtherVersion)));
        assert!(matches!(read(b"SQLite format 3\0 and more of it"), Err(FormatError::NotAnArchive)));
    }
}
