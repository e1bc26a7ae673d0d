// A few words for making elements.

import type { ZerokError, ZerokErrorCode } from "@0k-sync/client";

type Child = Node | string;
type Attributes = Readonly<Record<string, string | boolean>>;

/** Makes an element. `true` sets an empty attribute, `false` leaves it out; text is never HTML. */
export function el<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** A button that does something. */
export function button(label: string, look: "primary" | "plain" | "danger", onClick: () => void): HTMLButtonElement {
  const made = el("button", { type: "button", class: look }, label);
  made.addEventListener("click", onClick);
  return made;
}

/** The element of index.html with this id. */
export function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html has no #${id}`);
  return found;
}

/** Says something to everybody: shown for a moment, and read out. */
export function announce(text: string): void {
  const toast = byId("announcements");
  toast.textContent = text;
  toast.classList.remove("shown");
  // Restarts the animation for the new text.
  void toast.offsetWidth;
  toast.classList.add("shown");
}

/** What the client calls it, if it is the client's. */
export function codeOf(error: unknown): ZerokErrorCode | undefined {
  return error instanceof Error ? (error as Partial<ZerokError>).code : undefined;
}

/** What went wrong, as a sentence for a person. */
export function sentence(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}
