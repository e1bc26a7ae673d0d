//! Export files: a group with all its entries, in one file sealed under a passphrase
//! (`docs/EXPORT.md`).
//!
//! Bottom up: [`stream`] is the sealed stream of chunks, [`record`] what is in it, [`Exporter`] makes
//! a file of a local database, [`Reader`] takes one apart again, and what comes out is either read as
//! an [`Archive`] or put back as a device by [`Restoring`].
//!
//! An *archive* opens the entries it holds and gives nobody a place in the group: it has the data
//! keys of the epochs and not their secrets, so its holder cannot even ask a relay for the log. Only
//! a file made with the device's identity can become that device again.

mod exporting;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod reading;
pub mod record;
mod restoring;
mod stream;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzing::exercise;
#[cfg(test)]
pub(crate) use fuzzing::seeds;

pub use exporting::{EXPORT_RANDOM_BYTES, Exporter, Exporting};
pub use reading::{Archive, Reader};
pub use restoring::Restoring;

use crate::passphrase::ForeignCost;

/// Why bytes are not a whole export file, or not the one that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Another file.
    #[error("this is no export file: name the one that `export` wrote")]
    NotAnExport,
    /// Another format.
    #[error("this file was written by a newer version: update")]
    Newer,
    /// The passphrase would be stretched less, or more, than this version does.
    #[error("{0}")]
    Cost(#[from] ForeignCost),
    /// Not the one it was sealed under.
    #[error("wrong passphrase: this file was sealed under another one")]
    WrongPassphrase,
    /// Its end is missing.
    #[error("this file is cut off: its end is missing, take another copy of it")]
    CutOff,
    /// A piece of it is not what was written, or not where it was.
    #[error("this file is damaged or was changed: take another copy of it")]
    Damaged,
    /// Sealed under the passphrase, by somebody who put in what this version does not.
    #[error("this file does not hold what an export holds ({0}): it was made by something else")]
    Malformed(&'static str),
    /// An archive, where a device was wanted.
    #[error(
        "this file holds a group's entries and no device: read it with `import --read`. To move a device, export it with `--identity`"
    )]
    NoIdentity,
}
