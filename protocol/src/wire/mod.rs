//! The codec: MessagePack, compact arrays, a numeric tag first where there is a choice.
//!
//! Forward compatible in one direction on purpose: unknown *trailing* fields are skipped (a newer
//! peer may append), an unknown tag or a missing field is an error (its meaning cannot be
//! guessed). Lists have their maximum in their type, so a count is checked before it is allocated.
//!
//! Written by hand and not with serde: of what a page loads, serde's code for each type and for
//! each shape that MessagePack could give it was a third. Here a type is its reads and writes.

mod list;
mod macros;
mod marker;
mod reader;
#[cfg(test)]
mod tests;
mod values;
mod writer;

use std::borrow::Cow;

pub use list::{List, TooMany};
pub use reader::{Fields, Reader};
pub use writer::Writer;

/// Bytes that do not decode as the message that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid message: {0}")]
pub struct WireError(Cow<'static, str>);

impl WireError {
    /// An error with a reason of the caller's.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into())
    }

    const fn fixed(reason: &'static str) -> Self {
        Self(Cow::Borrowed(reason))
    }
}

/// A value that travels, or is stored, as one MessagePack value. [`crate::wire_struct`] and
/// [`crate::wire_enum`] implement it.
pub trait Wire: Sized {
    /// Appends the value.
    fn write(&self, out: &mut Writer<'_>);

    /// Reads the value from the front.
    ///
    /// # Errors
    /// [`WireError`] when the bytes do not begin with such a value.
    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError>;
}

/// Encodes a value.
#[must_use]
pub fn encode<T: Wire>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_onto(value, &mut bytes);
    bytes
}

/// Encodes a value behind what is in `bytes`.
pub fn encode_onto<T: Wire>(value: &T, bytes: &mut Vec<u8>) {
    value.write(&mut Writer::onto(bytes));
}

/// Decodes exactly one value; bytes behind it are an error.
///
/// # Errors
/// [`WireError`] when the bytes are not such a value.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, WireError> {
    let mut reader = Reader::of(bytes);
    let value = T::read(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Decodes one value from the front of `bytes` and moves `bytes` past it.
///
/// # Errors
/// [`WireError`] when the bytes do not begin with such a value.
pub fn decode_prefix<T: Wire>(bytes: &mut &[u8]) -> Result<T, WireError> {
    let mut reader = Reader::of(bytes);
    let value = T::read(&mut reader)?;
    *bytes = reader.rest();
    Ok(value)
}
