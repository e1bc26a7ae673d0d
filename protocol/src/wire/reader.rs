//! Taking MessagePack apart. Every length is compared with what is there before anything is made
//! of it, and nothing recurses that the bytes could drive: types nest as deep as they are written,
//! and what is skipped is counted.

use super::marker::*;
use super::{Wire, WireError};

const CUT_OFF: WireError = WireError::fixed("it ends too early");

/// The rest of some bytes that are being decoded.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// The fields of an array, one after the other.
#[derive(Debug)]
pub struct Fields<'r, 'a> {
    reader: &'r mut Reader<'a>,
    left: u64,
    of: &'static str,
}

impl<'a> Reader<'a> {
    /// From the first byte on.
    #[must_use]
    pub const fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// With how much is.
    pub fn end(&self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(WireError::new(format!("{left} bytes too many"))),
        }
    }

    /// An unsigned number, however many bytes it was given.
    ///
    /// # Errors
    /// Anything else is there.
    pub fn number(&mut self) -> Result<u64, WireError> {
        match self.first()? {
            value @ ..=FIXINT_MAX => Ok(value.into()),
            UINT_8 => self.big_endian::<1>(),
            UINT_16 => self.big_endian::<2>(),
            UINT_32 => self.big_endian::<4>(),
            UINT_64 => self.big_endian::<8>(),
            other => Err(unexpected("a number", other)),
        }
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// Anything else is there.
    pub fn boolean(&mut self) -> Result<bool, WireError> {
        match self.first()? {
            TRUE => Ok(true),
            FALSE => Ok(false),
            other => Err(unexpected("true or false", other)),
        }
    }

    /// Passes `nil`, if that is next.
    pub fn nil(&mut self) -> bool {
        let nil = self.rest.first() == Some(&NIL);
        if nil {
            self.rest = &self.rest[1..];
        }
        nil
    }

    /// Bytes.
    ///
    /// # Errors
    /// Anything else is there, or less than announced.
    pub fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = match self.first()? {
            BIN_8 => self.big_endian::<1>()?,
            BIN_16 => self.big_endian::<2>()?,
            BIN_32 => self.big_endian::<4>()?,
            other => return Err(unexpected("bytes", other)),
        };
        self.take(length)
    }

    /// Exactly `N` bytes.
    ///
    /// # Errors
    /// Anything else is there.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let bytes = self.bytes()?;
        bytes.try_into().map_err(|_| wrong_length(bytes.len(), N))
    }

    /// Text.
    ///
    /// # Errors
    /// Anything else is there, less than announced, or no UTF-8.
    pub fn text(&mut self) -> Result<&'a str, WireError> {
        let length = match self.first()? {
            first @ FIXSTR..=FIXSTR_MAX => (first - FIXSTR).into(),
            STR_8 => self.big_endian::<1>()?,
            STR_16 => self.big_endian::<2>()?,
            STR_32 => self.big_endian::<4>()?,
            other => return Err(unexpected("text", other)),
        };
        std::str::from_utf8(self.take(length)?).map_err(|_| WireError::fixed("text that is not UTF-8"))
    }

    /// How many values follow as one array.
    ///
    /// # Errors
    /// No array is there.
    pub fn count(&mut self) -> Result<u64, WireError> {
        match self.first()? {
            first @ FIXARRAY..=FIXARRAY_MAX => Ok((first - FIXARRAY).into()),
            ARRAY_16 => self.big_endian::<2>(),
            ARRAY_32 => self.big_endian::<4>(),
            other => Err(unexpected("an array", other)),
        }
    }

    /// The fields of a value whose type is called `of`.
    ///
    /// # Errors
    /// No array is there.
    pub fn fields(&mut self, of: &'static str) -> Result<Fields<'_, 'a>, WireError> {
        let left = self.count()?;
        Ok(Fields { reader: self, left, of })
    }

    /// So many values of one type. Room is made as they come: a count costs its sender nothing.
    ///
    /// # Errors
    /// One of them is missing, or not such a value.
    pub fn items<T: Wire>(&mut self, count: u64) -> Result<Vec<T>, WireError> {
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(T::read(self)?);
        }
        Ok(items)
    }

    /// Passes so many values of any kind.
    fn skip(&mut self, values: u64) -> Result<(), WireError> {
        let mut left = values;
        while left > 0 {
            left -= 1;
            let length = match self.first()? {
                ..=FIXINT_MAX | NIL | FALSE | TRUE | NEGATIVE.. => 0,
                UINT_8 | INT_8 => 1,
                UINT_16 | INT_16 | FIXEXT_1 => 2,
                FIXEXT_2 => 3,
                UINT_32 | INT_32 | FLOAT_32 => 4,
                FIXEXT_4 => 5,
                UINT_64 | INT_64 | FLOAT_64 => 8,
                FIXEXT_8 => 9,
                FIXEXT_16 => 17,
                first @ FIXSTR..=FIXSTR_MAX => (first - FIXSTR).into(),
                BIN_8 | STR_8 => self.big_endian::<1>()?,
                BIN_16 | STR_16 => self.big_endian::<2>()?,
                BIN_32 | STR_32 => self.big_endian::<4>()?,
                EXT_8 => 1 + self.big_endian::<1>()?,
                EXT_16 => 1 + self.big_endian::<2>()?,
                EXT_32 => 1 + self.big_endian::<4>()?,
                container => {
                    // No overflow: at most 2^33 a byte.
                    left += match container {
                        FIXARRAY..=FIXARRAY_MAX => (container - FIXARRAY).into(),
                        ARRAY_16 => self.big_endian::<2>()?,
                        ARRAY_32 => self.big_endian::<4>()?,
                        FIXMAP..=FIXMAP_MAX => 2 * u64::from(container - FIXMAP),
                        MAP_16 => 2 * self.big_endian::<2>()?,
                        MAP_32 => 2 * self.big_endian::<4>()?,
                        other => return Err(unexpected("a value", other)),
                    };
                    0
                }
            };
            self.take(length)?;
        }
        Ok(())
    }

    fn first(&mut self) -> Result<u8, WireError> {
        let (&first, rest) = self.rest.split_first().ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(first)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(length).map_err(|_| CUT_OFF)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(taken)
    }

    fn big_endian<const N: usize>(&mut self) -> Result<u64, WireError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }
}

impl Fields<'_, '_> {
    /// The next one.
    ///
    /// # Errors
    /// There is none, or it is not such a value.
    pub fn read<T: Wire>(&mut self) -> Result<T, WireError> {
        self.step()?;
        T::read(self.reader)
    }

    /// Skips those that a newer peer appended.
    ///
    /// # Errors
    /// They are no MessagePack.
    pub fn finish(self) -> Result<(), WireError> {
        self.reader.skip(self.left)
    }

    /// No variant of this type has this tag.
    #[must_use]
    pub fn unknown_tag(&self, tag: u16) -> WireError {
        WireError::new(format!("unknown tag {tag} for {}", self.of))
    }

    /// Apart from `read`, so that there is one of it and not one for each type.
    fn step(&mut self) -> Result<(), WireError> {
        self.left =
            self.left.checked_sub(1).ok_or_else(|| WireError::new(format!("a field of {} is missing", self.of)))?;
        Ok(())
    }
}

#[cold]
fn unexpected(wanted: &str, first: u8) -> WireError {
    WireError::new(format!("{wanted} cannot begin with the byte 0x{first:02x}"))
}

#[cold]
fn wrong_length(have: usize, want: usize) -> WireError {
    WireError::new(format!("{have} bytes where {want} should be"))
}
