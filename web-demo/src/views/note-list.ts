// The notes, and the field for a new one.

import { button, el, sentence } from "../dom.ts";
import { NOTE_CHARS_MAX } from "../note-blob.ts";
import type { Note } from "../notes.ts";

export interface NoteActions {
  readonly add: (text: string) => Promise<void>;
  readonly remove: (id: string) => void;
}

export interface NoteList {
  readonly element: HTMLElement;
  readonly show: (notes: readonly Note[], nameOf: (note: Note) => string) => void;
}

export function noteList(actions: NoteActions): NoteList {
  const list = el("ul", { class: "notes", "aria-label": "Notes" });
  const empty = el("p", { class: "quiet empty" }, "No notes yet. Write one, or add a device first and watch it arrive there.");
  const items = new Map<string, { readonly item: HTMLElement; readonly foot: HTMLElement }>();

  const show = (notes: readonly Note[], nameOf: (note: Note) => string) => {
    const shown = new Set(notes.map(({ id }) => id));
    for (const [id, { item }] of items) {
      if (shown.has(id)) continue;
      item.remove();
      items.delete(id);
    }
    // Newest first. Only what is new or out of place is touched: focus and selection stay.
    [...notes].reverse().forEach((note, index) => {
      const made = items.get(note.id) ?? makeItem(note, actions);
      items.set(note.id, made);
      const foot = note.isSent ? `${nameOf(note)} · ${timeOf(note.writtenAt)}` : "On its way";
      if (made.foot.textContent !== foot) made.foot.textContent = foot;
      made.item.classList.toggle("unsent", !note.isSent);
      if (list.children[index] !== made.item) list.insertBefore(made.item, list.children[index] ?? null);
    });
    empty.hidden = notes.length > 0;
  };

  return { element: el("section", { class: "card", "aria-label": "Notes" }, composer(actions), empty, list), show };
}

function makeItem({ id, text }: Note, actions: NoteActions): { readonly item: HTMLElement; readonly foot: HTMLElement } {
  const foot = el("span", { class: "quiet" });
  const remove = button("Delete", "plain", () => actions.remove(id));
  remove.classList.add("small");
  remove.setAttribute("aria-label", `Delete the note “${text.slice(0, 40)}”`);
  const item = el("li", {}, el("p", { class: "note-text" }, text), el("div", { class: "row between" }, foot, remove));
  return { item, foot };
}

function composer({ add }: NoteActions): HTMLElement {
  const field = el("textarea", {
    id: "note",
    rows: "2",
    maxlength: String(NOTE_CHARS_MAX),
    placeholder: "Write a note …",
    enterkeyhint: "send",
    "aria-describedby": "note-problem",
  });
  const problem = el("p", { id: "note-problem", class: "problem", role: "alert" });
  const form = el(
    "form",
    { class: "composer" },
    el("label", { for: "note", class: "hidden" }, "New note"),
    field,
    el("button", { type: "submit", class: "primary" }, "Add"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (text === "") return;
    // Cleared at once, so that the next note can be typed; given back if this one was not taken.
    field.value = "";
    problem.textContent = "";
    add(text).catch((error: unknown) => {
      problem.textContent = `This note was not added. ${sentence(error)}`;
      if (field.value === "") field.value = text;
    });
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  return el("div", {}, form, problem);
}

function timeOf(milliseconds: number): string {
  const at = new Date(milliseconds);
  const isToday = at.toDateString() === new Date().toDateString();
  return at.toLocaleString(undefined, isToday ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}
