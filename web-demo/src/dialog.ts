// A dialog: a title, a line that tells how it goes, a body that changes with it, and a way out.

import { button, el } from "./dom.ts";

export interface Dialog {
  /** Shows this instead of what was there, for somebody to do something with. */
  readonly show: (...children: readonly (Node | string)[]) => void;
  /** Tells how it goes instead of what was there; that is read out. */
  readonly tell: (...children: readonly (Node | string)[]) => void;
  readonly close: () => void;
  /** What the button that leaves says. */
  readonly leaveBy: (label: string) => void;
  /** Aborted when the dialog is closed, in whatever way. */
  readonly closed: AbortSignal;
}

/** Opens a dialog. `Escape` closes it, as the button below does. */
export function openDialog(title: string, leave = "Cancel"): Dialog {
  const stopper = new AbortController();
  // There from the beginning: what a live region has when it comes is not read out everywhere.
  const progress = el("p", { class: "dialog-progress", role: "status" });
  const body = el("div", { class: "dialog-body" });
  const last = button(leave, "plain", () => dialog.close());
  const dialog = el(
    "dialog",
    { "aria-labelledby": "dialog-title" },
    el("h2", { id: "dialog-title" }, title),
    progress,
    body,
    el("div", { class: "row end" }, last),
  );
  dialog.addEventListener("close", () => {
    stopper.abort();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  const fill = (told: readonly (Node | string)[], shown: readonly (Node | string)[]) => {
    const hadFocus = body.contains(document.activeElement);
    progress.replaceChildren(...told);
    body.replaceChildren(...shown);
    // Else it falls to the page, and whoever types has to look for the dialog.
    if (hadFocus) last.focus();
  };
  return {
    show: (...children) => fill([], children),
    tell: (...children) => fill(children, []),
    close: () => dialog.close(),
    leaveBy: (label) => (last.textContent = label),
    closed: stopper.signal,
  };
}
