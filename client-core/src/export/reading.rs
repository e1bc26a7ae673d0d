//! From an export file to its records, and to the entries in them.

use bytes::Bytes;
use litemap::LiteMap;
use zeroize::Zeroizing;
use zerok_sync_protocol::{EnvelopeHeader, EnvelopeType, EpochId};

use super::ExportError;
use super::record::{ExportedEntry, ExportedGroup, Record};
use super::stream::{HEADER_BYTES, Opener};
use crate::content::{Content, Kind};
use crate::engine::Entry;
use crate::engine::batches::Commit;
use crate::engine::mirror::Place;
use crate::genesis::Genesis;
use crate::id::DeviceId;
use crate::passphrase::Passphrase;
use crate::seal;
use crate::snapshot::{ARCHIVE_BYTES_MAX, Manifest, STATE_BYTES_MAX};

/// Takes a file's bytes and gives its records. What it gives is authenticated; that nothing is
/// missing is known once [`Self::end`] was called and [`Self::record`] has given the last one, so
/// whoever keeps something keeps it for himself until then.
pub struct Reader {
    passphrase: Passphrase,
    state: State,
    /// Opened and not taken.
    opened: Zeroizing<Vec<u8>>,
    taken: usize,
    begun: bool,
    complete: bool,
    entries: u64,
    rows: u64,
    last: Place,
}

enum State {
    Header(Vec<u8>),
    Chunks(Box<Opener>),
    Ended,
}

impl Reader {
    /// For a file that this passphrase opens.
    #[must_use]
    pub fn new(passphrase: Passphrase) -> Self {
        Self {
            passphrase,
            state: State::Header(Vec::with_capacity(HEADER_BYTES)),
            opened: Zeroizing::new(Vec::new()),
            taken: 0,
            begun: false,
            complete: false,
            entries: 0,
            rows: 0,
            last: Place::default(),
        }
    }

    /// Takes more of the file, of any length. Stretches the passphrase once the header is there.
    ///
    /// # Errors
    /// [`ExportError`]; the file is of no use.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), ExportError> {
        // What was taken makes room.
        self.opened.drain(..std::mem::take(&mut self.taken));
        if let State::Header(header) = &mut self.state {
            let (now, later) = bytes.split_at(bytes.len().min(HEADER_BYTES - header.len()));
            header.extend_from_slice(now);
            bytes = later;
            let Ok(header) = <&[u8; HEADER_BYTES]>::try_from(header.as_slice()) else { return Ok(()) };
            self.state = State::Chunks(Box::new(Opener::new(header, &self.passphrase)?));
        }
        match &mut self.state {
            State::Chunks(opener) => opener.read(bytes, &mut self.opened),
            _ => Ok(()),
        }
    }

    /// The file ends here.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn end(&mut self) -> Result<(), ExportError> {
        self.opened.drain(..std::mem::take(&mut self.taken));
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Chunks(opener) => opener.finish(&mut self.opened),
            State::Header(_) => Err(ExportError::NotAnExport),
            State::Ended => Ok(()),
        }
    }

    /// The next record; nothing until more was fed, and nothing behind the last.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn record(&mut self) -> Result<Option<Record>, ExportError> {
        let ended = matches!(self.state, State::Ended);
        let Some((record, length)) = Record::read(&self.opened[self.taken..])? else {
            return match (ended, self.complete && self.taken == self.opened.len()) {
                (true, false) => Err(ExportError::Malformed("no end")),
                _ => Ok(None),
            };
        };
        self.taken += length;
        self.check_order(&record)?;
        Ok(Some(record))
    }

    fn check_order(&mut self, record: &Record) -> Result<(), ExportError> {
        let fits = match record {
            Record::Group { .. } => !std::mem::replace(&mut self.begun, true),
            Record::Entry { entry } => {
                self.entries += 1;
                let (before, place) = (self.last, Place { position: entry.position, ordinal: entry.ordinal });
                self.last = place;
                self.begun && place.ordinal > before.ordinal && place.position >= before.position
            }
            Record::Row { .. } => {
                self.rows += 1;
                self.begun
            }
            Record::End { entries, rows } => self.begun && (*entries, *rows) == (self.entries, self.rows),
        };
        if !fits || self.complete {
            return Err(ExportError::Malformed("records that do not belong together"));
        }
        self.complete = matches!(record, Record::End { .. });
        Ok(())
    }
}

/// Opens the entries of an export file, without being a member.
#[derive(Debug, Clone)]
pub struct Archive {
    group: ExportedGroup,
    /// Of each device the parts at the end of its chain so far.
    parts: LiteMap<DeviceId, Vec<u8>>,
}

impl Archive {
    /// Of the file with this first record.
    ///
    /// # Errors
    /// [`ExportError::Malformed`].
    pub fn new(group: ExportedGroup) -> Result<Self, ExportError> {
        let genesis = Genesis::parse(group.genesis.clone()).map_err(|_| ExportError::Malformed("no genesis"))?;
        if genesis.group() != group.group {
            return Err(ExportError::Malformed("another group's genesis"));
        }
        Ok(Self { group, parts: LiteMap::new() })
    }

    /// Whose entries these are.
    #[must_use]
    pub const fn group(&self) -> &ExportedGroup {
        &self.group
    }

    /// An entry of the app's; nothing for one that is the group's own business, or a part of a larger
    /// one. Wants every entry of the file, in order.
    ///
    /// # Errors
    /// [`ExportError::Malformed`] if it does not open. That its author signed it was checked before the
    /// device that exported it stored it; the file's passphrase vouches for that.
    pub fn entry(&mut self, exported: &ExportedEntry) -> Result<Option<Entry>, ExportError> {
        if EnvelopeHeader::parse(&exported.envelope).is_ok_and(|(header, _)| header.kind == EnvelopeType::Epoch) {
            return Ok(None);
        }
        let key_of = |epoch: &EpochId| Some(&self.group.epochs.iter().find(|known| known.id == *epoch)?.key);
        let opened = seal::open_with(&self.group.group, key_of, &exported.envelope)
            .map_err(|_| ExportError::Malformed("an entry that does not open"))?;
        let blob_id = opened.blob_id();
        let mut content = opened.into_claims();
        let mut parts = self.parts.remove(&content.sender).unwrap_or_default();
        if content.kind == Kind::PART {
            // More than any batch is nobody's.
            if parts.len() <= ARCHIVE_BYTES_MAX + STATE_BYTES_MAX {
                parts.extend_from_slice(&content.body);
            }
            self.parts.insert(content.sender, parts);
            return Ok(None);
        }
        if !exported.for_app {
            return Ok(None);
        }
        if exported.parts_from.is_some() {
            content.body = batch(&content, parts)?;
        }
        Ok(Some(Entry {
            snapshot: content.kind == Kind::SNAPSHOT,
            position: exported.position,
            cursor: exported.cursor,
            blob_id,
            sender: content.sender,
            own: content.sender == self.group.device,
            news: content.sender != self.group.device,
            sent_at_ms: content.sent_at_ms,
            lamport: content.lamport,
            seq: content.seq,
            missing_deps: exported.missing_deps,
            data: content.body,
            envelope: exported.envelope.clone(),
        }))
    }
}

/// The blob that these parts are, by the entry behind them.
fn batch(commit: &Content, mut parts: Vec<u8>) -> Result<Bytes, ExportError> {
    let (skip, bytes) = match commit.kind {
        Kind::SNAPSHOT => Manifest::parse(&commit.body).ok().map(|manifest| (manifest.archive_bytes, manifest.bytes)),
        _ => Commit::parse(&commit.body).map(|commit| (0, commit.bytes)),
    }
    .ok_or(ExportError::Malformed("a batch without an end"))?;
    if parts.len() as u64 != bytes {
        return Err(ExportError::Malformed("a batch that is not whole"));
    }
    let skip = usize::try_from(skip).expect("no more than all of it");
    Ok(parts.split_off(skip).into())
}
