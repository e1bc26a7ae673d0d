//! Lists with a maximum in their type.

use std::fmt;
use std::ops::Deref;

use super::{Reader, Wire, WireError, Writer};

/// A list of at most `MAX` items.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct List<T, const MAX: usize>(Vec<T>);

/// More items than a [`List`] may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{have} items where at most {max} are allowed")]
pub struct TooMany {
    /// How many there were.
    pub have: usize,
    /// How many may be.
    pub max: usize,
}

impl<T, const MAX: usize> List<T, MAX> {
    /// How many items fit.
    pub const MAX: usize = MAX;

    /// The empty list.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// The items.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<T, const MAX: usize> TryFrom<Vec<T>> for List<T, MAX> {
    type Error = TooMany;
    fn try_from(items: Vec<T>) -> Result<Self, TooMany> {
        if items.len() > MAX { Err(TooMany { have: items.len(), max: MAX }) } else { Ok(Self(items)) }
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: fmt::Debug, const MAX: usize> fmt::Debug for List<T, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Wire, const MAX: usize> Wire for List<T, MAX> {
    fn write(&self, out: &mut Writer<'_>) {
        self.0.write(out);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = bytes.count()?;
        match usize::try_from(count) {
            Ok(have) if have <= MAX => Ok(Self(bytes.items(count)?)),
            have => Err(too_many(have.unwrap_or(usize::MAX), MAX)),
        }
    }
}

fn too_many(have: usize, max: usize) -> WireError {
    WireError::new(TooMany { have, max }.to_string())
}
