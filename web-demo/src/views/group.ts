// The main screen: the notes, the devices that share them, and what the relay has of it.

import type { Client, Entry, Status } from "@0k-sync/client";

import { announce, el, sentence } from "../dom.ts";
import { type Change, decodeChange, encodeChange } from "../note-blob.ts";
import { type Note, Notes } from "../notes.ts";
import { loadWaiting, saveWaiting } from "../waiting-store.ts";
import { endOf, problemOf } from "./connection.ts";
import { devicesPanel, sameMembers } from "./devices.ts";
import { noteList } from "./note-list.ts";
import { relayPanel } from "./relay-panel.ts";

export interface GroupView {
  readonly element: HTMLElement;
  readonly show: (status: Status) => void;
}

/** `isRestored`: it was just brought back from recovery words. */
export function groupView(client: Client, isRestored: boolean): GroupView {
  const notes = new Notes();
  let members = client.members;
  const list = noteList({
    add: (text) => push({ kind: "add", id: crypto.randomUUID(), text }),
    remove: (id) => void push({ kind: "remove", id }).catch((error: unknown) => announce(sentence(error))),
  });
  const panel = relayPanel();
  const devices = devicesPanel(client, isRestored);
  const problem = el("p", { class: "card problem", role: "alert", hidden: true });

  const nameOf = ({ sender }: Note) => {
    const member = members.find(({ device, own }) => (sender === undefined ? own : device === sender));
    return member === undefined ? "A device" : member.own ? "This device" : member.name;
  };
  const showNotes = () => list.show(notes.list(), nameOf);

  /** Durable here first; the client sends it whenever it can. */
  async function push(change: Change): Promise<void> {
    await client.push(encodeChange(change));
    notes.applyOwn(change, Date.now());
    saveWaiting(notes.waiting);
    showNotes();
  }

  function apply(entry: Entry): void {
    const change = decodeChange(entry.data, entry.blobId);
    panel.add(entry, change);
    if (change !== undefined) notes.apply(change, entry);
    if (entry.own) saveWaiting(notes.waiting);
  }

  /** The page keeps no notes of its own: it reads the client's from the first one on, then follows. */
  async function follow(): Promise<void> {
    for await (const entry of client.entries({ after: 0, own: true })) {
      apply(entry);
      // Not waited for: a note that is read twice is the same note.
      void client.processed(entry.position);
      scheduleShow();
    }
  }

  let isScheduled = false;
  function scheduleShow(): void {
    if (isScheduled) return;
    isScheduled = true;
    // A thousand stored notes are shown once, not a thousand times. A hidden page has no frames.
    const soon = document.hidden ? queueMicrotask : requestAnimationFrame;
    soon(() => {
      isScheduled = false;
      showNotes();
    });
  }

  const show = (status: Status) => {
    devices.show(status);
    if (status.group !== undefined && !sameMembers(members, status.group.members)) {
      members = status.group.members;
      showNotes();
    }
    // What a device that is out writes goes nowhere.
    element.classList.toggle("read-only", endOf(status) !== undefined);
    const text = problemOf(status) ?? "";
    if (problem.textContent !== text) problem.textContent = text;
    problem.hidden = text === "";
  };

  for (const { change, at } of loadWaiting()) notes.applyOwn(change, at);
  showNotes();
  follow().catch((error: unknown) => announce(sentence(error)));
  const element = el(
    "div",
    { class: "group" },
    el("h1", { class: "hidden" }, "Your notes"),
    problem,
    devices.nag,
    list.element,
    el(
      "div",
      { class: "side" },
      devices.element,
      panel.element,
    ),
  );
  return { element, show };
}
