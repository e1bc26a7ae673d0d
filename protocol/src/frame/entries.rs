//! `Entries` written item by item, for a relay that sends the same items to many sessions: an item
//! is encoded once and its bytes are put into as many frames as it takes.
//!
//! The bytes are those of [`RelayFrame::Entries`](super::RelayFrame::Entries); a test holds the
//! two together.

use bytes::Bytes;

use super::EntryItem;
use crate::limits::ENTRIES_ITEMS_MAX;
use crate::wire;

/// MessagePack: an array of two, the tag of `Entries`, and an array of 16-bit length. The length
/// is written when it is known; a short list then begins two bytes later.
const HEADER_BYTES: usize = 5;
const TAG: u8 = 4;
const ARRAY_OF_2: u8 = 0x92;
const ARRAY_16: u8 = 0xdc;
const FIXARRAY: u8 = 0x90;
const FIXARRAY_MAX: usize = 15;

/// Bytes that an item has beside its envelope, at most.
pub const ITEM_OVERHEAD_BYTES_MAX: usize = 64;

/// An `Entries` frame under construction.
#[derive(Debug)]
pub struct EntriesEncoder {
    bytes: Vec<u8>,
    items: usize,
}

impl EntriesEncoder {
    /// An empty frame with room for items of `capacity_bytes` together.
    #[must_use]
    pub fn with_capacity(capacity_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + capacity_bytes);
        bytes.resize(HEADER_BYTES, 0);
        Self { bytes, items: 0 }
    }

    /// Appends an item.
    ///
    /// # Panics
    /// Beyond [`ENTRIES_ITEMS_MAX`] items: the caller cuts frames before.
    pub fn push(&mut self, item: &EntryItem) {
        self.count();
        wire::encode_onto(item, &mut self.bytes);
    }

    /// Appends an item that was encoded before.
    ///
    /// # Panics
    /// As [`Self::push`].
    pub fn push_encoded(&mut self, item: &[u8]) {
        self.count();
        self.bytes.extend_from_slice(item);
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Bytes of the items so far.
    #[must_use]
    pub fn items_bytes(&self) -> usize {
        self.bytes.len() - HEADER_BYTES
    }

    /// The frame. Its last [`Self::items_bytes`] bytes are the items, one behind the other.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        let items = u16::try_from(self.items).expect("at most ENTRIES_ITEMS_MAX");
        if self.items <= FIXARRAY_MAX {
            self.bytes[2..HEADER_BYTES].copy_from_slice(&[ARRAY_OF_2, TAG, FIXARRAY | items.to_be_bytes()[1]]);
            Bytes::from(self.bytes).slice(2..)
        } else {
            let [high, low] = items.to_be_bytes();
            self.bytes[..HEADER_BYTES].copy_from_slice(&[ARRAY_OF_2, TAG, ARRAY_16, high, low]);
            self.bytes.into()
        }
    }

    fn count(&mut self) {
        assert!(self.items < ENTRIES_ITEMS_MAX, "the caller cuts frames at ENTRIES_ITEMS_MAX items");
        self.items += 1;
    }
}

const _: () = assert!(ENTRIES_ITEMS_MAX <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::RelayFrame;
    use crate::id::BlobId;
    use crate::wire::List;

    fn frame_of(items: &[EntryItem]) -> Bytes {
        let items = List::try_from(items.to_vec()).expect("few enough");
        RelayFrame::Entries { items }.encode().into()
    }

    fn items(count: usize, bytes: usize) -> Vec<EntryItem> {
        (0..count as u64)
            .map(|index| match index % 3 {
                0 => EntryItem::Stored {
                    cursor: u64::MAX - index,
                    blob_id: BlobId([7; 32]),
                    envelope: vec![3; bytes].into(),
                },
                1 => EntryItem::Own { cursor: index * 1_000, blob_id: BlobId([9; 32]) },
                _ => EntryItem::Absent { cursor: index, blob_id: None, reason: super::super::AbsentReason::Lost {} },
            })
            .collect()
    }

    #[test]
    fn it_writes_what_the_frame_writes() {
        for count in [0, 1, 15, 16, 17, 255, 256, ENTRIES_ITEMS_MAX] {
            let items = items(count, 5);
            let mut encoder = EntriesEncoder::with_capacity(0);
            items.iter().for_each(|item| encoder.push(item));
            let items_bytes = encoder.items_bytes();
            let frame = encoder.finish();
            assert_eq!(frame, frame_of(&items), "{count} items");
            assert!(items_bytes <= frame.len());
        }
    }

    #[test]
    fn an_item_of_one_frame_can_be_put_into_another() {
        let items = items(3, 70_000);
        let mut alone = EntriesEncoder::with_capacity(0);
        alone.push(&items[0]);
        let bytes = alone.items_bytes();
        let frame = alone.finish();
        let mut encoder = EntriesEncoder::with_capacity(0);
        encoder.push(&items[1]);
        encoder.push_encoded(&frame[frame.len() - bytes..]);
        assert_eq!(encoder.finish(), frame_of(&[items[1].clone(), items[0].clone()]));
    }

    proptest! {
        #[test]
        fn no_item_costs_more_than_its_envelope_and_the_overhead(cursor: u64, bytes in 0_usize..70_000) {
            let item = EntryItem::Stored { cursor, blob_id: BlobId([255; 32]), envelope: vec![0; bytes].into() };
            prop_assert!(wire::encode(&item).len() <= bytes + ITEM_OVERHEAD_BYTES_MAX);
        }
    }
}
