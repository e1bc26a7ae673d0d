//! The MessagePack codec: compact arrays, a numeric tag first where there is a choice.
//!
//! Forward compatible in one direction on purpose: unknown *trailing* fields are skipped (a newer
//! peer may append), an unknown tag or a missing field is an error (its meaning cannot be
//! guessed). Lists have their maximum in their type, so a count is checked before it is allocated.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{self, DeserializeOwned, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::WIRE_DEPTH_MAX;

/// Bytes that do not decode as the message that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid message: {0}")]
pub struct WireError(String);

impl WireError {
    /// An error with a reason of the caller's.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// Encodes a value.
///
/// # Panics
/// Never: writing to memory cannot fail and every wire type knows its length.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("wire types serialise without errors")
}

/// Encodes a value behind what is in `bytes`.
///
/// # Panics
/// Never, as [`encode`].
pub fn encode_onto<T: Serialize>(value: &T, bytes: &mut Vec<u8>) {
    rmp_serde::encode::write(bytes, value).expect("wire types serialise without errors");
}

/// Decodes exactly one value; bytes behind it are an error.
///
/// # Errors
/// [`WireError`] when the bytes are not such a value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let mut rest = bytes;
    let value = decode_prefix(&mut rest)?;
    if rest.is_empty() { Ok(value) } else { Err(WireError(format!("{} bytes too many", rest.len()))) }
}

/// Decodes one value from the front of `bytes` and moves `bytes` past it.
///
/// # Errors
/// [`WireError`] when the bytes do not begin with such a value.
pub fn decode_prefix<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<T, WireError> {
    let mut decoder = rmp_serde::Deserializer::new(&mut *bytes);
    decoder.set_max_depth(WIRE_DEPTH_MAX);
    T::deserialize(&mut decoder).map_err(|error| WireError(error.to_string()))
}

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

impl<T: Serialize, const MAX: usize> Serialize for List<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
            type Value = List<T, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX} items")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                if let Some(len) = seq.size_hint().filter(|&len| len > MAX) {
                    return Err(de::Error::invalid_length(len, &self));
                }
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    if items.len() == MAX {
                        return Err(de::Error::invalid_length(MAX + 1, &self));
                    }
                    items.push(item);
                }
                Ok(List(items))
            }
        }
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

/// Skips the fields that a newer peer appended.
#[doc(hidden)]
pub fn skip_rest<'de, A: SeqAccess<'de>>(seq: &mut A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// The next field of an array, or "missing field".
#[doc(hidden)]
pub fn next_field<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(seq: &mut A, name: &'static str) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| de::Error::missing_field(name))
}

/// Defines a struct that travels as an array of its fields.
#[macro_export]
macro_rules! wire_struct {
    ($(#[$meta:meta])* pub struct $name:ident { $( $(#[$field_meta:meta])* $field:ident : $ty:ty ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $( $(#[$field_meta])* pub $field: $ty ),* }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use ::serde::ser::SerializeTuple;
                const LEN: usize = [$( stringify!($field) ),*].len();
                let mut tuple = serializer.serialize_tuple(LEN)?;
                $( tuple.serialize_element(&self.$field)?; )*
                tuple.end()
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct StructVisitor;
                impl<'de> ::serde::de::Visitor<'de> for StructVisitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str(concat!("an array for ", stringify!($name)))
                    }
                    fn visit_seq<A: ::serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<$name, A::Error> {
                        $( let $field = $crate::wire::next_field(&mut seq, stringify!($field))?; )*
                        $crate::wire::skip_rest(&mut seq)?;
                        Ok($name { $( $field ),* })
                    }
                }
                deserializer.deserialize_seq(StructVisitor)
            }
        }
    };
}

/// Defines an enum that travels as an array of a numeric tag and the variant's fields.
#[macro_export]
macro_rules! wire_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $(
        $(#[$variant_meta:meta])* $tag:literal => $variant:ident { $( $(#[$field_meta:meta])* $field:ident : $ty:ty ),* $(,)? }
    ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name { $( $(#[$variant_meta])* $variant { $( $(#[$field_meta])* $field: $ty ),* } ),* }

        impl $name {
            /// Every tag this version knows, in the order of the declaration.
            pub const TAGS: &'static [u16] = &[$( $tag ),*];

            /// The numeric tag on the wire.
            #[must_use]
            pub const fn tag(&self) -> u16 {
                match self { $( Self::$variant { .. } => $tag ),* }
            }

            /// The variant's name, for logs and errors.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $( Self::$variant { .. } => stringify!($variant) ),* }
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use ::serde::ser::SerializeTuple;
                match self { $(
                    Self::$variant { $( $field ),* } => {
                        const FIELDS: &[&str] = &[$( stringify!($field) ),*];
                        let mut tuple = serializer.serialize_tuple(1 + FIELDS.len())?;
                        tuple.serialize_element(&($tag as u16))?;
                        $( tuple.serialize_element($field)?; )*
                        tuple.end()
                    }
                )* }
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct EnumVisitor;
                impl<'de> ::serde::de::Visitor<'de> for EnumVisitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str(concat!("a tagged array for ", stringify!($name)))
                    }
                    fn visit_seq<A: ::serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<$name, A::Error> {
                        let tag: u16 = $crate::wire::next_field(&mut seq, "tag")?;
                        let value = match tag {
                            $( $tag => {
                                $( let $field = $crate::wire::next_field(&mut seq, stringify!($field))?; )*
                                $name::$variant { $( $field ),* }
                            } )*
                            other => return Err(::serde::de::Error::custom(format_args!(
                                concat!("unknown tag {} for ", stringify!($name)), other
                            ))),
                        };
                        $crate::wire::skip_rest(&mut seq)?;
                        Ok(value)
                    }
                }
                deserializer.deserialize_seq(EnumVisitor)
            }
        }
    };
}
