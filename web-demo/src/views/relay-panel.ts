// What the relay stores of each note: the very bytes that came from it.

import type { Entry } from "@0k-sync/client";

import { el } from "../dom.ts";
import type { Change } from "../note-blob.ts";

/** Bytes of an envelope that are shown: its header and the beginning of the ciphertext. */
const SHOWN_BYTES = 96;
/** Rows that are kept: this is a look at the relay, not a copy of it. */
const ROWS_MAX = 50;
const LABEL_CHARS = 28;

export interface RelayPanel {
  readonly element: HTMLElement;
  readonly add: (entry: Entry, change: Change | undefined) => void;
}

export function relayPanel(): RelayPanel {
  const rows = el("ol", { class: "envelopes", "aria-label": "Envelopes at the relay" });
  const element = el(
    "section",
    { class: "card", "aria-labelledby": "relay-title" },
    el("h2", { id: "relay-title" }, "What the relay stores"),
    el("p", { class: "quiet" }, "One sealed envelope for each note or removal: padded to blur its length, and without a sender."),
    rows,
    el(
      "p",
      { class: "aside" },
      "This page itself came from the relay, so while you use it you trust that relay not to send a page that leaks. ",
      "Apps are served from their developer's own address, and need to trust no relay.",
    ),
  );
  const add = (entry: Entry, change: Change | undefined) => {
    rows.prepend(row(entry, change));
    rows.children[ROWS_MAX]?.remove();
  };
  return { element, add };
}

function row({ cursor, envelope }: Entry, change: Change | undefined): HTMLElement {
  return el(
    "li",
    {},
    el(
      "div",
      { class: "row between" },
      el("span", { class: "quiet" }, label(change)),
      el("span", { class: "quiet nowrap" }, `no. ${cursor} · ${envelope.length.toLocaleString()} bytes`),
    ),
    el("code", { class: "hex" }, `${hex(envelope.subarray(0, SHOWN_BYTES))} …`),
  );
}

/** What this device knows it to be. */
function label(change: Change | undefined): string {
  if (change === undefined) return "Not a note";
  if (change.kind === "remove") return "A removal";
  const text = change.text.length > LABEL_CHARS ? `${change.text.slice(0, LABEL_CHARS)}…` : change.text;
  return `“${text}”`;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
