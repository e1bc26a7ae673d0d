//! What a real relay or client must never do, done to one behind its back, to see the soak find it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

/// One planted defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// The database of a killed relay is put back to what it was at the first kill: everything
    /// acknowledged since is gone (SQLite).
    DatabaseCopiedBack,
    /// The home of a closed device is put back to what it was at the first kill.
    HomeCopiedBack,
}

/// A copy of some files, taken while nobody had them open.
#[derive(Debug)]
pub struct Copy {
    original: PathBuf,
    belongs: fn(&str) -> bool,
    copy: TempDir,
}

impl Copy {
    /// Copies the files of a folder that `belongs` picks by name; no folders in it.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn of(folder: &Path, belongs: fn(&str) -> bool) -> Result<Self> {
        let copy = tempfile::tempdir()?;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() && belongs(&entry.file_name().to_string_lossy()) {
                std::fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
            }
        }
        Ok(Self { original: folder.to_owned(), belongs, copy })
    }

    /// Puts it back in place of what has become of it.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn put_back(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.original)? {
            let entry = entry?;
            // What was not there then must not stay.
            if entry.file_type()?.is_file() && (self.belongs)(&entry.file_name().to_string_lossy()) {
                std::fs::remove_file(entry.path())?;
            }
        }
        for entry in std::fs::read_dir(self.copy.path())? {
            let entry = entry?;
            std::fs::copy(entry.path(), self.original.join(entry.file_name()))?;
        }
        Ok(())
    }
}
