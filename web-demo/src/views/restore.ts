// Bringing a group back from its recovery words: what stands on the sheet is typed here.

import { el, button } from "../dom.ts";
import type { Place } from "../group-client.ts";
import { attempt, nameField } from "./welcome.ts";
import { wordsField } from "./words-field.ts";

export interface RestoreActions {
  readonly restore: (deviceName: string, words: string, place: Place, signal: AbortSignal) => Promise<void>;
  readonly leave: () => void;
}

export function restoreFromWords(actions: RestoreActions): HTMLElement {
  const words = wordsField();
  const relay = textField("relay", "The relay's address, as it stands on the sheet", location.origin);
  const key = textField("relay-key", "The relay's key, from the sheet", "");
  const name = nameField();
  const stopper = new AbortController();
  const problem = el("p", { class: "problem", role: "alert" });
  const progress = el("p", { class: "quiet", role: "status" });
  const go = el("button", { type: "submit", class: "primary" }, "Bring my notes back");
  const leave = button("Back", "plain", () => {
    stopper.abort();
    actions.leave();
  });

  const form = el(
    "form",
    { class: "stack", novalidate: true },
    words.element,
    relay.element,
    key.element,
    el("p", { class: "quiet" }, "With the key, no other relay can pass for yours. Without it, the one that answers at that address is believed this once."),
    name.element,
    progress,
    problem,
    el("div", { class: "row" }, go, leave),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void attempt([go], problem, async () => {
      const text = await words.value();
      // Nobody who looks over a shoulder gets them while the log is read.
      words.element.hidden = true;
      progress.textContent = "Asking the relay for your group, and checking all of it …";
      const relayKey = key.value();
      const place = { relay: relay.value() || location.origin, ...(relayKey === "" ? {} : { relayKey }) };
      await actions.restore(name.value(), text, place, stopper.signal);
    }).finally(() => {
      progress.textContent = "";
      words.element.hidden = false;
      // The page is longer again, and the sentence is at its end.
      if (problem.textContent !== "") problem.scrollIntoView({ block: "center" });
    });
  });

  return el(
    "section",
    { class: "card hero" },
    el("h1", {}, "Bring your notes back"),
    el(
      "p",
      { class: "lead" },
      "Type the words of your recovery sheet; four letters of each are enough. ",
      "They stay in this browser: the relay is only asked for what they open.",
    ),
    form,
  );
}

function textField(id: string, label: string, value: string): { readonly element: HTMLElement; readonly value: () => string } {
  const input = el("input", { id, type: "text", autocomplete: "off", autocapitalize: "none", spellcheck: "false", value });
  return { element: el("div", { class: "field" }, el("label", { for: id }, label), input), value: () => input.value.trim() };
}
