//! Putting MessagePack together: every number, length and count in its shortest form, so that one
//! value has one encoding.

use super::marker::*;

/// Appends values to some bytes.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Behind what is there.
    pub const fn onto(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// An unsigned number.
    pub fn number(&mut self, value: u64) {
        match value {
            0..=0x7f => self.out.push(value as u8),
            0x80..=0xff => self.marked::<1>(UINT_8, value),
            0x100..=0xffff => self.marked::<2>(UINT_16, value),
            0x1_0000..=0xffff_ffff => self.marked::<4>(UINT_32, value),
            0x1_0000_0000.. => self.marked::<8>(UINT_64, value),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, value: bool) {
        self.out.push(if value { TRUE } else { FALSE });
    }

    /// `nil`.
    pub fn nil(&mut self) {
        self.out.push(NIL);
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        match bytes.len() as u64 {
            length @ 0..=0xff => self.marked::<1>(BIN_8, length),
            length @ 0x100..=0xffff => self.marked::<2>(BIN_16, length),
            length => self.marked::<4>(BIN_32, length),
        }
        self.out.extend_from_slice(bytes);
    }

    /// Text.
    pub fn text(&mut self, text: &str) {
        match text.len() as u64 {
            length @ 0..=0x1f => self.out.push(FIXSTR | length as u8),
            length @ 0x20..=0xff => self.marked::<1>(STR_8, length),
            length @ 0x100..=0xffff => self.marked::<2>(STR_16, length),
            length => self.marked::<4>(STR_32, length),
        }
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Begins an array of so many values, which follow.
    pub fn count(&mut self, count: usize) {
        match count as u64 {
            count @ 0..=0xf => self.out.push(FIXARRAY | count as u8),
            count @ 0x10..=0xffff => self.marked::<2>(ARRAY_16, count),
            count => self.marked::<4>(ARRAY_32, count),
        }
    }

    /// A first byte, and a number of `N` bytes.
    fn marked<const N: usize>(&mut self, first: u8, value: u64) {
        let bytes = value.to_be_bytes();
        let (above, number) = bytes.split_at(bytes.len() - N);
        // Beyond 4 GiB: no frame, row or file has room for that.
        assert!(above.iter().all(|&byte| byte == 0), "longer than MessagePack can say");
        self.out.push(first);
        self.out.extend_from_slice(number);
    }
}
