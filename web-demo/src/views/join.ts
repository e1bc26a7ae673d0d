// Joining by link or code: asks first, shows the two digits until they were typed at the other
// device, and asks once more when it is known whose group it is.

import type { GroupOffered, JoinOptions } from "@0k-sync/client";

import { button, codeOf, el } from "../dom.ts";
import { attempt, nameField } from "./welcome.ts";

export interface JoinActions {
  /** Joins; calls back with the digits to show, and to ask whether it is the right group. */
  readonly join: (deviceName: string, options: Required<Omit<JoinOptions, "bringData">>) => Promise<void>;
  readonly leave: () => void;
}

/** `relay` is where the invitation leads. */
export function confirmJoin(relay: string, actions: JoinActions): HTMLElement {
  const name = nameField();
  const stopper = new AbortController();
  const problem = el("p", { class: "problem", role: "alert" });
  const digits = el("output", { class: "digits", "aria-label": "Two digits to type on the other device" });
  const waiting = el(
    "div",
    { class: "waiting", hidden: true, "aria-live": "polite" },
    el("p", {}, "Type these two digits on the device that made the invitation. They are different each time."),
    digits,
  );
  const progress = el("p", { class: "quiet", role: "status" });
  const question = el("div", { "aria-live": "polite" });

  let isUnwanted = false;
  const join = button("Join", "primary", () => {
    progress.textContent = "Reaching the other device …";
    const joining = () =>
      actions.join(name.value(), {
        onDigits: (shown) => {
          progress.textContent = "Waiting for the digits to be typed …";
          digits.textContent = shown;
          waiting.hidden = false;
        },
        onConfirm: async (group) => {
          progress.textContent = "";
          waiting.hidden = true;
          isUnwanted = !(await ask(question, group, stopper.signal));
          return !isUnwanted;
        },
        signal: stopper.signal,
      });
    void attempt([join], problem, () =>
      joining().catch((error: unknown) => {
        // An invitation is good for one try, if there was one.
        join.hidden = !canTryAgain(error);
        leave.textContent = "Back";
        throw isUnwanted ? new Error("You did not join: nothing was kept here, and the other device was told") : error;
      }),
    ).finally(() => {
      progress.textContent = "";
      waiting.hidden = true;
      question.replaceChildren();
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
      "This invitation adds this browser to a group of devices on ",
      el("strong", {}, new URL(relay).host),
      ". Go on only if you, or somebody you trust with everything in the group, made it a moment ago.",
    ),
    name.element,
    waiting,
    question,
    progress,
    problem,
    el("div", { class: "row" }, join, leave),
  );
}

function canTryAgain(error: unknown): boolean {
  const code = codeOf(error);
  return code === "unreachable" || code === "refused";
}

/** Whether the person means this group. */
function ask(question: HTMLElement, { inviter, members }: GroupOffered, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(false), { once: true });
    const answer = (confirmed: boolean) => {
      question.replaceChildren();
      resolve(confirmed);
    };
    const yes = button("Yes, join", "primary", () => answer(true));
    question.replaceChildren(
      el("p", {}, el("strong", {}, inviter), ` lets this browser into its group (${members.join(", ")}). Is that the one you mean?`),
      el("div", { class: "row" }, yes, button("No", "danger", () => answer(false))),
    );
    yes.focus();
  });
}
