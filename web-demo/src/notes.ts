// The list of notes: the same on every device that has seen the same changes, in whatever order
// they came. An addition and a removal of one note commute because a removal always wins and ids
// are never used again.

import type { Change } from "./note-blob.ts";

/** A note as it is shown. */
export interface Note {
  readonly id: string;
  readonly text: string;
  /** The device that wrote it, as hex; `undefined` for this one. */
  readonly sender: string | undefined;
  readonly writtenAt: number;
  /** Whether the relay has it. */
  readonly isSent: boolean;
}

/** Where a change came from. */
export interface Origin {
  readonly sender: string | undefined;
  readonly sentAt: number;
  /** With the sender an order that is the same on every device. */
  readonly lamport: number;
}

interface Added {
  readonly text: string;
  readonly origin: Origin;
}

export class Notes {
  readonly #added = new Map<string, Added>();
  readonly #removed = new Set<string>();
  /** Own changes that did not come back from the relay yet, by what they do. */
  readonly #waiting = new Map<string, { readonly change: Change; readonly at: number }>();

  /** Takes in a change that went through the relay; its own coming back ends the waiting. */
  apply(change: Change, origin: Origin): void {
    this.#waiting.delete(keyOf(change));
    if (change.kind === "remove") {
      this.#removed.add(change.id);
      return;
    }
    const known = this.#added.get(change.id);
    // Two devices claiming one id: every device keeps the same of the two.
    if (known === undefined || isBefore(origin, known.origin)) this.#added.set(change.id, { text: change.text, origin });
  }

  /** Takes in an own change that is durable here and on its way. */
  applyOwn(change: Change, at: number): void {
    if (change.kind === "remove" ? this.#removed.has(change.id) : this.#added.has(change.id)) return;
    this.#waiting.set(keyOf(change), { change, at });
  }

  /** Own changes that are still on their way, for keeping them over a reload. */
  get waiting(): readonly { readonly change: Change; readonly at: number }[] {
    return [...this.#waiting.values()];
  }

  /** The notes that are there, in the order of their writing. */
  list(): readonly Note[] {
    const sent = [...this.#added]
      .sort(([, left], [, right]) => (isBefore(left.origin, right.origin) ? -1 : 1))
      .map(([id, { text, origin }]) => ({ id, text, sender: origin.sender, writtenAt: origin.sentAt, isSent: true }));
    const unsent = this.waiting.flatMap(({ change, at }) =>
      change.kind === "add" ? [{ id: change.id, text: change.text, sender: undefined, writtenAt: at, isSent: false }] : [],
    );
    return [...sent, ...unsent].filter(({ id }) => !this.#removed.has(id) && !this.#waiting.has(`-${id}`));
  }
}

function keyOf(change: Change): string {
  return `${change.kind === "add" ? "+" : "-"}${change.id}`;
}

function isBefore(left: Origin, right: Origin): boolean {
  if (left.lamport !== right.lamport) return left.lamport < right.lamport;
  return (left.sender ?? "") < (right.sender ?? "");
}
