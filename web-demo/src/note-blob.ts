// What a note looks like as a blob, the bytes that are handed to the client.

/** One change to the list. Notes are written once; only their removal can follow. */
export type Change =
  | { readonly kind: "add"; readonly id: string; readonly text: string }
  | { readonly kind: "remove"; readonly id: string };

/** Longest text that the page sends or shows. */
export const NOTE_CHARS_MAX = 4_000;
const ID_CHARS_MAX = 64;

export function encodeChange(change: Change): Uint8Array {
  const { id } = change;
  const body = change.kind === "add" ? { id, text: change.text } : { id, removed: true };
  return new TextEncoder().encode(JSON.stringify(body));
}

/**
 * Reads a blob. Plain text (`zerok push hello` in a terminal) is a note too, known by its blob's
 * id; anything else is not ours and answers `undefined`.
 */
export function decodeChange(blob: Uint8Array, blobId: string): Change | undefined {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(blob);
  } catch {
    return undefined;
  }
  return decodeJson(text) ?? (text.trim() === "" ? undefined : { kind: "add", id: blobId, text: shorten(text) });
}

function decodeJson(text: string): Change | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null || !("id" in value)) return undefined;
  const { id } = value;
  if (typeof id !== "string" || id === "" || id.length > ID_CHARS_MAX) return undefined;
  if ("removed" in value && value.removed === true) return { kind: "remove", id };
  if ("text" in value && typeof value.text === "string") return { kind: "add", id, text: shorten(value.text) };
  return undefined;
}

function shorten(text: string): string {
  return text.length > NOTE_CHARS_MAX ? `${text.slice(0, NOTE_CHARS_MAX - 1)}…` : text;
}
