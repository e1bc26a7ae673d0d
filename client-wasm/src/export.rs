//! Export files, piece by piece: TypeScript moves the pieces between database and `Blob`s.

use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;
use zerok_sync_core::export::record::Record;
use zerok_sync_core::export::{Archive, EXPORT_RANDOM_BYTES, ExportError, Exporter, Exporting, Reader, Restoring};
use zerok_sync_core::keys::StoreKey;
use zerok_sync_core::passphrase::{Cost, Passphrase};

use crate::clock::now;
use crate::driver::{js_bytes, read_rows, write_batch};
use crate::engine::key_range;
use crate::failure::{InvalidArgument, thrown};
use crate::host::{KeyRange, Rows};
use crate::packed::Packed;

/// An export file in the making. Each call returns the bytes that have become ready.
#[wasm_bindgen]
pub struct CoreExporter {
    exporter: Option<Exporter>,
    ready: Vec<u8>,
}

#[wasm_bindgen]
impl CoreExporter {
    /// The rows to hand over, in key order and of one state of the database.
    #[must_use]
    pub fn range() -> KeyRange {
        let (from, to) = Exporter::range();
        key_range(&from, &to)
    }

    /// Starts a file; `hot_rows` are those of `CoreEngine.hotRange`. `random` is fresh.
    ///
    /// # Errors
    /// `invalid_argument`, `corrupt`.
    pub fn start(
        store_key: &[u8],
        random: &[u8],
        hot_rows: &Rows,
        passphrase: String,
        identity: bool,
    ) -> Result<CoreExporter, JsValue> {
        let wrong = |_| thrown(&InvalidArgument("a store key has 32 bytes, and an export takes 35 random ones"));
        let random: [u8; EXPORT_RANDOM_BYTES] = random.try_into().map_err(wrong)?;
        let store_key = StoreKey::from_bytes(store_key.try_into().map_err(wrong)?);
        let passphrase = Passphrase::chosen(passphrase).map_err(|error| thrown(&error))?;
        let exporting = Exporting { passphrase, cost: Cost::Browser, random, identity };
        let mut ready = Vec::new();
        let exporter = Exporter::start(now(), &store_key, read_rows(hot_rows), &exporting, &mut ready)
            .map_err(|error| thrown(&error))?;
        Ok(Self { exporter: Some(exporter), ready })
    }

    /// How many random bytes `start` takes.
    #[wasm_bindgen(js_name = randomBytes)]
    #[must_use]
    pub fn random_bytes() -> usize {
        EXPORT_RANDOM_BYTES
    }

    /// Takes rows.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn rows(&mut self, rows: &Rows) -> Result<Uint8Array, JsValue> {
        for row in read_rows(rows) {
            if let Some(exporter) = &mut self.exporter {
                exporter.row(row, &mut self.ready).map_err(|error| thrown(&error))?;
            }
        }
        Ok(self.take())
    }

    /// The end of the file.
    pub fn finish(&mut self) -> Uint8Array {
        if let Some(exporter) = self.exporter.take() {
            exporter.finish(&mut self.ready);
        }
        self.take()
    }

    fn take(&mut self) -> Uint8Array {
        let ready = js_bytes(&self.ready);
        self.ready.clear();
        ready
    }
}

/// An export file being read.
#[wasm_bindgen]
pub struct CoreImporter {
    reader: Reader,
    archive: Option<Archive>,
    restoring: Option<Restoring>,
}

#[wasm_bindgen]
impl CoreImporter {
    /// For a file that this passphrase opens. What comes out are entries or batches of rows.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new(passphrase: String) -> Self {
        Self { reader: Reader::new(Passphrase::given(passphrase)), archive: None, restoring: None }
    }

    /// Takes more of the file.
    ///
    /// # Errors
    /// `invalid_export`, `wrong_passphrase`.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), JsValue> {
        self.reader.feed(bytes).map_err(|error| thrown(&error))
    }

    /// The file ends here.
    ///
    /// # Errors
    /// `invalid_export`.
    pub fn end(&mut self) -> Result<(), JsValue> {
        self.reader.end().map_err(|error| thrown(&error))
    }

    /// The app's entries in what was fed and not taken, packed.
    ///
    /// # Errors
    /// `invalid_export`.
    pub fn entries(&mut self) -> Result<Uint8Array, JsValue> {
        let mut entries = Packed::default();
        self.each(|importer, record| {
            if let Record::Entry { entry } = record
                && let Some(archive) = &mut importer.archive
                && let Some(entry) = archive.entry(&entry)?
            {
                entries.push(&entry);
            }
            Ok(())
        })?;
        Ok(entries.to_js())
    }

    /// The rows in what was fed and not taken: `[keys, values]` of each batch, to be committed in this
    /// order.
    ///
    /// # Errors
    /// `invalid_export`.
    pub fn batches(&mut self) -> Result<Array, JsValue> {
        let batches = Array::new();
        self.each(|importer, record| {
            if importer.restoring.is_none() {
                return Err(ExportError::NoIdentity);
            }
            if let Some(restoring) = &mut importer.restoring
                && let Some(batch) = restoring.record(record)?
            {
                let (keys, values) = write_batch(batch);
                batches.push(&Array::of2(&keys, &values));
            }
            Ok(())
        })?;
        Ok(batches)
    }

    /// Behind the last batch of a file that is whole: the store key, and the `[keys, values]` that make
    /// a storage a member's.
    ///
    /// # Errors
    /// `invalid_export`.
    pub fn finish(&mut self) -> Result<Array, JsValue> {
        let restoring = self.restoring.take().ok_or_else(|| thrown(&ExportError::NoIdentity))?;
        let store_key = js_bytes(restoring.store_key().expose());
        let (keys, values) = write_batch(restoring.finish());
        Ok(Array::of3(&store_key, &keys, &values))
    }

    fn each(&mut self, mut take: impl FnMut(&mut Self, Record) -> Result<(), ExportError>) -> Result<(), JsValue> {
        while let Some(record) = self.reader.record().map_err(|error| thrown(&error))? {
            if let Record::Group { group } = &record {
                self.archive = Some(Archive::new(group.clone()).map_err(|error| thrown(&error))?);
                self.restoring = Restoring::new(group).ok();
            }
            take(self, record).map_err(|error| thrown(&error))?;
        }
        Ok(())
    }
}
