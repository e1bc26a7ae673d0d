import type { Entry } from "./entry.js";

// The places in a packed entry, as src/packed.rs writes them: five numbers, flags, two lengths, two
// ids, and then the bytes of those lengths.
const POSITION = 0;
const CURSOR = 8;
const SENT_AT = 16;
const LAMPORT = 24;
const SEQ = 32;
const FLAGS = 40;
const DATA_BYTES = 44;
const ENVELOPE_BYTES = 48;
const SENDER = 52;
const BLOB_ID = 84;
const HEADER_BYTES = 116;

const OWN = 1;
const MISSING_DEPS = 2;
const SNAPSHOT = 4;
const NEWS = 8;

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Takes entries out of the one piece of memory in which they come from wasm. */
export function* unpackEntries(packed: Uint8Array): Generator<Entry, void> {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  const number = (at: number) => view.getFloat64(at, true);
  for (let at = 0; at < packed.length; ) {
    const flags = view.getUint32(at + FLAGS, true);
    const data = at + HEADER_BYTES;
    const envelope = data + view.getUint32(at + DATA_BYTES, true);
    const end = envelope + view.getUint32(at + ENVELOPE_BYTES, true);
    yield {
      position: number(at + POSITION),
      // Copies: an entry that the app keeps must not keep the others.
      data: packed.slice(data, envelope),
      sender: hex(packed, at + SENDER),
      own: (flags & OWN) !== 0,
      news: (flags & NEWS) !== 0,
      sentAt: number(at + SENT_AT),
      lamport: number(at + LAMPORT),
      seq: number(at + SEQ),
      missingDeps: (flags & MISSING_DEPS) !== 0,
      snapshot: (flags & SNAPSHOT) !== 0,
      cursor: number(at + CURSOR),
      blobId: hex(packed, at + BLOB_ID),
      envelope: packed.slice(envelope, end),
    };
    at = end;
  }
}

/** The one entry in there. */
export function unpackEntry(packed: Uint8Array): Entry {
  const [entry] = unpackEntries(packed);
  return entry as Entry;
}

/** 32 bytes as text. */
function hex(bytes: Uint8Array, at: number): string {
  let text = "";
  for (let index = at; index < at + 32; index++) text += HEX[bytes[index] as number];
  return text;
}
