//! News between instances, and how they are put into text of bounded length.
//!
//! A payload is base64 of: the sender's instance, when the oldest of its news happened, and the
//! news as MessagePack, one behind the other. Databases are shared by one version of the relay at
//! a time; what does not decode is ignored.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use zerok_sync_protocol::wire::{decode_prefix, encode, encode_onto};
use zerok_sync_protocol::{LogName, MailboxId, wire_enum};

use crate::hub::Reader;
use crate::limits::NOTIFY_PAYLOAD_BYTES_MAX;

wire_enum! {
    /// Something that the other instances may want to know.
    pub enum News {
        /// A log has grown, or its key is another.
        0 => Log {
            /// Which: the bytes of its [`crate::store::GroupKey`].
            group: LogName,
            /// Its head.
            head: u64,
            /// Generation of its auth key.
            auth_gen: u64,
        },
        /// A log has another history: whoever reads it must compare.
        1 => Timeline {
            /// Which.
            group: LogName,
        },
        /// Somebody was taken off a log's list: whoever has it open must ask.
        2 => Members {
            /// Which.
            group: LogName,
        },
        /// A frame for the sessions that have a log open.
        3 => Notice {
            /// Which.
            group: LogName,
            /// See [`crate::hub::Notice`].
            reader: Option<Reader>,
            /// The encoded frame: `Acked` or `Whispered`.
            frame: Bytes,
        },
        /// A pairing mailbox changed.
        4 => Mailbox {
            /// Which.
            mailbox: MailboxId,
        },
    }
}

/// What one payload says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Letter {
    /// The instance that sent it.
    pub instance: u64,
    /// Unix milliseconds of the oldest of its news.
    pub since_ms: u64,
    pub news: Vec<News>,
}

/// Bytes that fit a payload in base64.
const LETTER_BYTES_MAX: usize = NOTIFY_PAYLOAD_BYTES_MAX / 4 * 3;

/// As many payloads as it takes. News too long for one alone are left out: nothing that is within
/// its own limits is.
pub(super) fn payloads(instance: u64, since_ms: u64, news: impl IntoIterator<Item = News>) -> Vec<String> {
    let head = [encode(&instance), encode(&since_ms)].concat();
    let mut letters = Vec::new();
    let mut letter = head.clone();
    let mut item = Vec::new();
    for news in news {
        item.clear();
        encode_onto(&news, &mut item);
        if letter.len() + item.len() > LETTER_BYTES_MAX && letter.len() > head.len() {
            letters.push(std::mem::replace(&mut letter, head.clone()));
        }
        if letter.len() + item.len() <= LETTER_BYTES_MAX {
            letter.extend_from_slice(&item);
        }
    }
    if letter.len() > head.len() {
        letters.push(letter);
    }
    letters.iter().map(|letter| STANDARD_NO_PAD.encode(letter)).collect()
}

/// What a payload says; `None` if it is not one.
pub(super) fn open(payload: &str) -> Option<Letter> {
    if payload.len() > NOTIFY_PAYLOAD_BYTES_MAX {
        return None;
    }
    let bytes = STANDARD_NO_PAD.decode(payload).ok()?;
    let mut rest = bytes.as_slice();
    let instance = decode_prefix(&mut rest).ok()?;
    let since_ms = decode_prefix(&mut rest).ok()?;
    let mut news = Vec::new();
    while !rest.is_empty() {
        news.push(decode_prefix(&mut rest).ok()?);
    }
    Some(Letter { instance, since_ms, news })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use zerok_sync_protocol::NoisePublicKey;
    use zerok_sync_protocol::limits::{SLOT_BYTES_MAX, WHISPER_BYTES_MAX};

    use crate::hub::Notice;

    use super::*;

    fn news() -> impl Strategy<Value = News> {
        let group = || any::<[u8; 32]>().prop_map(LogName);
        prop_oneof![
            (group(), any::<u64>(), any::<u64>()).prop_map(|(group, head, auth_gen)| News::Log {
                group,
                head,
                auth_gen
            }),
            group().prop_map(|group| News::Timeline { group }),
            group().prop_map(|group| News::Members { group }),
            (group(), any::<Option<([u8; 32], bool)>>(), vec(any::<u8>(), 0..4_200)).prop_map(
                |(group, reader, frame)| {
                    let reader = reader.map(|(device, receipt)| (NoisePublicKey(device), receipt));
                    News::Notice { group, reader, frame: frame.into() }
                }
            ),
            any::<[u8; 16]>()
                .prop_map(|id| News::Mailbox { mailbox: MailboxId::from_slice(&id).expect("a valid length") }),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_said_arrives_whole_and_in_order_in_payloads_that_postgres_takes(news in vec(news(), 0..60)) {
            let payloads = payloads(7, 8, news.clone());
            prop_assert!(payloads.iter().all(|payload| payload.len() <= NOTIFY_PAYLOAD_BYTES_MAX));
            let letters: Vec<Letter> = payloads.iter().map(|payload| open(payload).expect("a letter")).collect();
            prop_assert!(letters.iter().all(|letter| (letter.instance, letter.since_ms) == (7, 8)));
            prop_assert_eq!(letters.into_iter().flat_map(|letter| letter.news).collect::<Vec<_>>(), news);
        }

        #[test]
        fn no_payload_makes_it_panic(payload in "\\PC{0,300}", bytes in vec(any::<u8>(), 0..300)) {
            let _ = open(&payload);
            let _ = open(&STANDARD_NO_PAD.encode(bytes));
        }
    }

    #[test]
    fn the_longest_notices_fit() {
        let whispered = Notice::whispered(vec![1; WHISPER_BYTES_MAX].into());
        let receipt = Some(vec![1; SLOT_BYTES_MAX].into());
        let acked = Notice::acked(NoisePublicKey([1; 32]), u64::MAX, receipt);
        for Notice { reader, frame } in [whispered, acked] {
            let notice = News::Notice { group: LogName([255; 32]), reader, frame };
            assert_eq!(payloads(u64::MAX, u64::MAX, [notice]).len(), 1);
        }
    }
}
