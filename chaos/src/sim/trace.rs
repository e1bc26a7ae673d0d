//! One line for each thing that happens, for whoever replays a seed.

use std::fmt::Write as _;

use bytes::Bytes;
use zerok_sync_protocol::frame::{EntryItem, Who};
use zerok_sync_protocol::{BlobId, ClientFrame, RelayFrame, envelope::blob_id};

/// Of a frame that is not broken up below, no more than this is shown.
const CHARS_MAX: usize = 120;

/// What a client said; nothing of what only keeps a link up.
#[must_use]
pub fn client_frame(frame: &ClientFrame) -> Option<String> {
    Some(match frame {
        ClientFrame::Ping {} | ClientFrame::Whisper { .. } => return None,
        ClientFrame::Hello { who, create, .. } => {
            let who = match who {
                Who::Guest {} => "guest",
                Who::Device {} => "device",
                Who::Member { .. } => "member",
            };
            format!("Hello as {who}{}", if *create { ", to create a log" } else { "" })
        }
        ClientFrame::Ack { cursor, receipt } => {
            format!("Ack {cursor}{}", if receipt.is_some() { " with a receipt" } else { "" })
        }
        ClientFrame::Subscribe { after, blob_id_at_after, follow, .. } => {
            format!("Subscribe after {after}:{}{}", name(blob_id_at_after), if *follow { ", to follow" } else { "" })
        }
        ClientFrame::Create { epoch_envelope, envelopes, allow } => {
            let allowed = allow.len();
            format!("Create {} {}, {allowed} allowed", name_of(epoch_envelope), names_of(envelopes.iter()))
        }
        ClientFrame::Push { push, envelopes, resume } => {
            format!("Push {push}{} {}", if *resume { " resumed" } else { "" }, names_of(envelopes.iter()))
        }
        ClientFrame::Rotate { expect_gen, epoch_envelope, allow, .. } => {
            format!("Rotate {} expect_gen: {expect_gen}, {} allowed", name_of(epoch_envelope), allow.len())
        }
        ClientFrame::Missing { blob_ids } => {
            blob_ids.iter().fold("Missing".into(), |text, id| format!("{text} {}", name(id)))
        }
        other => shortened(&format!("{other:?}")),
    })
}

/// What a relay said; nothing of what only keeps a link up.
#[must_use]
pub fn relay_frame(frame: &RelayFrame) -> Option<String> {
    Some(match frame {
        RelayFrame::Pong {} | RelayFrame::Whispered { .. } => return None,
        RelayFrame::Welcome { log: None, .. } => "Welcome, there is no log".into(),
        RelayFrame::Welcome { log: Some(log), allow, .. } => format!(
            "Welcome to {:?}, gen {}, floor {}, head {}:{}, {} allowed",
            log.timeline,
            log.auth_gen,
            log.floor,
            log.head,
            name(&log.head_blob_id),
            allow.len()
        ),
        RelayFrame::Acked { device, cursor, .. } => format!("Acked {cursor} of {}", short(&device.0)),
        RelayFrame::Probed { blob_ids } => blob_ids
            .iter()
            .fold("Probed".into(), |text, id| format!("{text} {}", id.as_ref().map_or_else(|| "none".into(), name))),
        RelayFrame::Superseded { epoch_envelope, more, .. } => {
            format!("Superseded {}, {more} more", name_of(epoch_envelope))
        }
        RelayFrame::Entries { items } => items.iter().fold("Entries".into(), |mut text: String, item| {
            let written = match item {
                EntryItem::Stored { cursor, blob_id, .. } => write!(text, " {cursor}:{}", name(blob_id)),
                EntryItem::Own { cursor, blob_id } => write!(text, " {cursor}:{} own", name(blob_id)),
                EntryItem::Absent { cursor, reason, .. } => write!(text, " {cursor}: {reason:?}"),
            };
            written.expect("a string takes everything");
            text
        }),
        other => shortened(&format!("{other:?}")),
    })
}

/// The beginning of a blob id: enough to tell the envelopes of one run apart.
#[must_use]
pub fn name(id: &BlobId) -> String {
    short(&id.0)
}

/// The beginning of an id or a key.
#[must_use]
pub fn short(bytes: &[u8]) -> String {
    bytes.iter().take(4).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn name_of(envelope: &Bytes) -> String {
    name(&blob_id(envelope))
}

fn names_of<'a>(envelopes: impl Iterator<Item = &'a Bytes>) -> String {
    envelopes.map(name_of).collect::<Vec<_>>().join(" ")
}

fn shortened(text: &str) -> String {
    text.chars().take(CHARS_MAX).collect()
}
