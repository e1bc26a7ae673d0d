// The first screen: what this is, and the ways to begin.

import { readInvite } from "@0k-sync/client";

import { DEVICE_NAME_CHARS_MAX, loadDeviceName } from "../device-name.ts";
import { button, el, sentence } from "../dom.ts";

/** The button that brings a group back; the printed sheet says "restore", too. */
export const RESTORE = "Restore from 24 words";

export interface WelcomeActions {
  /** Makes a group. */
  readonly create: (deviceName: string) => Promise<void>;
  /** Goes on to joining with a link or code that has been looked at. */
  readonly join: (invite: string, relay: string, deviceName: string) => void;
  /** Goes on to bringing a group back from its recovery words. */
  readonly restore: () => void;
}

export function welcome(actions: WelcomeActions): HTMLElement {
  const name = nameField();
  const link = el("input", {
    id: "link",
    name: "link",
    type: "text",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    placeholder: "https://…#0k1.… or XXXX-XXXX",
    "aria-describedby": "link-problem",
  });
  const notStarted = el("p", { class: "problem", role: "alert" });
  const notJoined = el("p", { id: "link-problem", class: "problem", role: "alert" });

  const create = button("Start on this device", "primary", () => {
    void attempt([create, join], notStarted, () => actions.create(name.value()));
  });
  const join = el("button", { type: "submit", class: "plain" }, "Join");
  const form = el(
    "form",
    { class: "join-form", novalidate: true },
    el("label", { for: "link" }, "Or join with an invite link or a code from another device"),
    el("div", { class: "row" }, link, join),
    notJoined,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void attempt([create, join], notJoined, async () => {
      const text = link.value.trim();
      const invite = await readInvite(text);
      // A code says no relay: it is at the one that serves this page.
      actions.join(text, invite.kind === "link" ? invite.relay : location.origin, name.value());
    });
  });

  return el(
    "section",
    { class: "card hero" },
    el("h1", {}, "Notes on all your devices, readable on none but yours"),
    el(
      "p",
      { class: "lead" },
      "Write on one device and read on the others a moment later: each note is encrypted before it leaves this one. ",
      "The relay in between only stores sealed envelopes, and your devices notice if it loses, changes or withholds any.",
    ),
    name.element,
    create,
    notStarted,
    form,
    el(
      "div",
      { class: "join-form" },
      el("p", {}, "Are all devices gone that you had your notes on?"),
      el("div", { class: "row" }, button(RESTORE, "plain", actions.restore)),
    ),
  );
}

/** The field for this device's name. */
export function nameField(): { readonly element: HTMLElement; readonly value: () => string } {
  const input = el("input", {
    id: "device-name",
    name: "device-name",
    type: "text",
    autocomplete: "off",
    maxlength: String(DEVICE_NAME_CHARS_MAX),
    value: loadDeviceName(),
  });
  const element = el(
    "div",
    { class: "field" },
    el("label", { for: "device-name" }, "This device's name, shown to your other devices"),
    input,
  );
  return { element, value: () => input.value.trim() || loadDeviceName() };
}

/** Does something once, with its buttons off meanwhile, and says it if that fails. */
export async function attempt(
  buttons: readonly HTMLButtonElement[],
  problem: HTMLElement,
  action: () => Promise<void>,
): Promise<void> {
  problem.textContent = "";
  for (const one of buttons) one.disabled = true;
  try {
    await action();
  } catch (error) {
    problem.textContent = sentence(error);
  } finally {
    for (const one of buttons) one.disabled = false;
  }
}
