// A dialog: a title, a body that changes as things go on, and a way out.

import { button, el } from "./dom.ts";

export interface Dialog {
  /** Shows this instead of what was there. */
  readonly show: (...children: readonly (Node | string)[]) => void;
  readonly close: () => void;
  /** What the button that leaves says. */
  readonly leaveBy: (label: string) => void;
  /** Aborted when the dialog is closed, in whatever way. */
  readonly closed: AbortSignal;
}

/** Opens a dialog. `Escape` closes it, as the button below does. */
export function openDialog(title: string, leave = "Cancel"): Dialog {
  const stopper = new AbortController();
  const body = el("div", { class: "dialog-body", "aria-live": "polite" });
  const last = button(leave, "plain", () => dialog.close());
  const dialog = el(
    "dialog",
    { "aria-labelledby": "dialog-title" },
    el("h2", { id: "dialog-title" }, title),
    body,
    el("div", { class: "row end" }, last),
  );
  dialog.addEventListener("close", () => {
    stopper.abort();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  return {
    show: (...children) => body.replaceChildren(...children),
    close: () => dialog.close(),
    leaveBy: (label) => (last.textContent = label),
    closed: stopper.signal,
  };
}
