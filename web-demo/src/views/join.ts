// Joining by link: asks first, then shows the two digits until the other device has answered.

import { button, el } from "../dom.ts";
import { attempt, nameField } from "./welcome.ts";

export interface JoinActions {
  /** Joins; calls back with the digits to show. */
  readonly join: (deviceName: string, onDigits: (digits: string) => void, signal: AbortSignal) => Promise<void>;
  readonly leave: () => void;
}

/** `relay` is where the link leads. */
export function confirmJoin(relay: string, actions: JoinActions): HTMLElement {
  const name = nameField();
  const stopper = new AbortController();
  const problem = el("p", { class: "problem", role: "alert" });
  const digits = el("output", { class: "digits", "aria-label": "Two digits to compare" });
  const waiting = el(
    "div",
    { class: "waiting", hidden: true, "aria-live": "polite" },
    el("p", {}, "Look at the device that made the invitation: it must show the same two digits. Accept there."),
    digits,
  );
  const progress = el("p", { class: "quiet", role: "status" });

  const join = button("Join", "primary", () => {
    progress.textContent = "Reaching the other device …";
    void attempt([join], problem, () =>
      actions.join(
        name.value(),
        (shown) => {
          progress.textContent = "Waiting for the other device to accept …";
          digits.textContent = shown;
          waiting.hidden = false;
        },
        stopper.signal,
      ),
    ).finally(() => {
      progress.textContent = "";
      waiting.hidden = true;
    });
  });
  const leave = button("Not now", "plain", () => {
    stopper.abort();
    actions.leave();
  });

  return el(
    "section",
    { class: "card hero" },
    el("h1", {}, "Join these notes?"),
    el(
      "p",
      { class: "lead" },
      "This link adds this browser to a group of devices on ",
      el("strong", {}, new URL(relay).host),
      ". Go on only if you, or somebody you trust with everything in the group, made it a moment ago.",
    ),
    name.element,
    waiting,
    progress,
    problem,
    el("div", { class: "row" }, join, leave),
  );
}
