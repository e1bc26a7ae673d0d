//! The relay's identity: 32-byte secrets in files of mode 0600, as 64 hexadecimal digits.
//!
//! A file that others on the machine can read is refused; its group may read it, because that is
//! how service managers and containers hand secrets over.
//!
//! A key is written once, fsynced with its directory before it is used, and never overwritten: a
//! file that does not hold a key is an error, because a relay that quietly came up with another
//! identity would be refused by every client that pinned the old one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::clock::Entropy;

/// The Noise key's file in the data directory, where neither `--key-file` nor the database has it.
pub(crate) const NOISE_KEY_FILE: &str = "relay.key";
/// The iroh endpoint's file in the data directory.
pub(crate) const IROH_KEY_FILE: &str = "iroh.key";
/// 64 digits and some white space.
const KEY_FILE_BYTES_MAX: u64 = 256;
/// Rights that nobody may have to a key: its group to change it, others to anything.
#[cfg(unix)]
const FORBIDDEN_MODE: u32 = 0o027;

/// A 32-byte secret.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file exists and holds something else.
    #[error(
        "{0} does not hold a key (64 hexadecimal digits): restore it from a backup, or move it away \
         to start with a new identity, which every client then has to be told"
    )]
    Damaged(PathBuf),
    /// The file named by `--key-file` is not there.
    #[error("the key file {0} does not exist: create it with 64 random hexadecimal digits, or leave --key-file out")]
    Missing(PathBuf),
    /// The relay has not run yet.
    #[error("there is no key yet: the relay makes one at its first start")]
    NoneYet,
    /// The file can be read by people it is none of the business of.
    #[error(
        "{path} is open to other users of this machine (mode {mode:04o}): run `chmod 600 {path}`, and think about \
         who may have read it",
        path = path.display()
    )]
    TooOpen {
        /// Which.
        path: PathBuf,
        /// Its rights.
        mode: u32,
    },
    /// The file system said no.
    #[error("cannot {action} the key file {path}: {source}; the relay's user must own it and its folder", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
}

/// Reads a key that must exist.
pub(crate) fn load(path: &Path) -> Result<Secret, KeyError> {
    load_if_there(path)?.ok_or_else(|| KeyError::Missing(path.to_owned()))
}

/// Reads a key, or makes one where there is none.
pub(crate) fn load_or_create(path: &Path, entropy: &dyn Entropy) -> Result<Secret, KeyError> {
    load_or_keep(path, &Zeroizing::new(entropy.seed()))
}

/// Reads a key, or keeps this one where there is none.
pub(crate) fn load_or_keep(path: &Path, secret: &Secret) -> Result<Secret, KeyError> {
    if let Some(found) = load_if_there(path)? {
        return Ok(found);
    }
    create(path, secret)?;
    // Read back: of two processes that start at once, the file has one's key.
    load(path)
}

/// Reads a key, if there is one.
pub(crate) fn load_if_there(path: &Path) -> Result<Option<Secret>, KeyError> {
    let failed = |source| KeyError::Io { action: "read", path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        if mode & FORBIDDEN_MODE != 0 {
            return Err(KeyError::TooOpen { path: path.to_owned(), mode });
        }
    }
    let mut text = Zeroizing::new(Vec::new());
    // A file that is no key is not read whole.
    io::Read::read_to_end(&mut io::Read::take(&mut file, KEY_FILE_BYTES_MAX), &mut text).map_err(failed)?;
    let mut secret = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_ascii(), secret.as_mut_slice()).map_err(|_| KeyError::Damaged(path.to_owned()))?;
    Ok(Some(secret))
}

/// Writes a file beside it first, so that the key is there whole or not at all.
fn create(path: &Path, secret: &Secret) -> Result<(), KeyError> {
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let written = write_private(&fresh, secret.as_slice()).and_then(|()| match fs::hard_link(&fresh, path) {
        // Another process was faster: its key counts.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let removed = fs::remove_file(&fresh);
    written
        .and(removed)
        .and_then(|()| File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all())
        .map_err(|source| KeyError::Io { action: "write", path: path.to_owned(), source })
}

fn write_private(path: &Path, secret: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let mut line = Zeroizing::new(hex::encode(secret));
    line.push('\n');
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemEntropy;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("relay.key");
        let first = load_or_create(&path, &SystemEntropy).expect("made");
        let second = load_or_create(&path, &SystemEntropy).expect("read");
        assert_eq!(first, second);
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1, "no file is left beside it");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("relay.key");
        load_or_create(&path, &SystemEntropy).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays_as_it_is() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("relay.key");
        for damage in ["", "00ff", "not hexadecimal", &"0".repeat(63), &"0".repeat(65), &"0".repeat(10_000)] {
            write_with_mode(&path, damage, 0o600);
            let error = load_or_create(&path, &SystemEntropy).expect_err("not a key");
            assert!(matches!(error, KeyError::Damaged(_)), "{damage:?}: {error}");
            assert_eq!(fs::read_to_string(&path).expect("there"), damage);
        }
    }

    #[test]
    fn a_key_file_that_was_named_must_exist() {
        let error = load(Path::new("/nonexistent/relay.key")).expect_err("not there");
        assert!(matches!(error, KeyError::Missing(_)), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused_and_one_that_the_group_can_read_is_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("relay.key");
        for mode in [0o644, 0o604, 0o660, 0o602, 0o640, 0o440, 0o400] {
            write_with_mode(&path, &"77".repeat(32), mode);
            let outcome = load(&path);
            let refused = matches!(outcome, Err(KeyError::TooOpen { mode: told, .. }) if told == mode);
            assert_eq!(refused, mode & 0o007 != 0 || mode & 0o020 != 0, "{mode:o}: {outcome:?}");
            assert_eq!(outcome.is_ok(), !refused, "{mode:o}: {outcome:?}");
            fs::remove_file(&path).expect("removed");
        }
    }

    fn write_with_mode(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).expect("written");
        #[cfg(unix)]
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("changed");
    }
}
