//! Frames: their bytes, and the MessagePack value in them with `bin` shown as `{"bin": hex}`.

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::samples::{client_frames, relay_frames};
use crate::record::Outbound;
use crate::{ClientFrame, RelayFrame};

pub(super) fn vectors() -> Value {
    let client: Vec<_> = client_frames()
        .into_iter()
        .map(|(name, frame)| {
            let bytes = frame.encode();
            assert_eq!(ClientFrame::decode(&bytes).as_ref(), Ok(&frame), "{name} survives the wire");
            entry(name, frame.name(), &bytes)
        })
        .collect();
    let relay: Vec<_> = relay_frames()
        .into_iter()
        .map(|(name, frame)| {
            let bytes = frame.encode();
            assert_eq!(RelayFrame::decode(&bytes).as_ref(), Ok(&frame), "{name} survives the wire");
            entry(name, frame.name(), &bytes)
        })
        .collect();
    json!({
        "about": "Frames as MessagePack, and the record stream that carries them. In `value`, bytes are {\"bin\": hex}.",
        "client_to_relay": client,
        "relay_to_client": relay,
        "record_stream": records(),
    })
}

fn entry(name: &str, kind: &str, bytes: &[u8]) -> Value {
    let Shown(value) = rmp_serde::from_slice(bytes).expect("a frame is one MessagePack value");
    json!({ "name": name, "frame": kind, "value": value, "bytes": hex::encode(bytes) })
}

/// Three frames in a row, as they stand in the plaintexts of a channel.
fn records() -> Value {
    let frames = [ClientFrame::Ping {}, ClientFrame::Credit { bytes: 65_536 }, ClientFrame::Bye {}];
    let frames = frames.map(|frame| frame.encode());
    let mut outbound = Outbound::default();
    for frame in &frames {
        outbound.push(frame.clone().into()).expect("short frames");
    }
    let stream = outbound.take().expect("three frames are queued");
    json!({ "frames": frames.map(hex::encode), "stream": hex::encode(stream) })
}

/// Any MessagePack value of the kinds that frames use, as JSON.
struct Shown(Value);

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShownVisitor).map(Self)
    }
}

struct ShownVisitor;

impl<'de> Visitor<'de> for ShownVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a kind that frames use")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        // JSON's readers lose integers over 2^53.
        Ok(if value >> 53 == 0 { value.into() } else { value.to_string().into() })
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E: de::Error>(self, value: &[u8]) -> Result<Value, E> {
        Ok(json!({ "bin": hex::encode(value) }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Shown(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }
}
