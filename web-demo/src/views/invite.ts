// Adding a device: a link and its QR code, then the question whether to let the device in.

import type { Client, InvitedDevice, WaitingJoiner } from "@0k-sync/client";

import { announce, button, el, sentence } from "../dom.ts";
import { pageAddress } from "../invite-fragment.ts";
import { qrCode } from "../qr.ts";

/** Opens the dialog and sees the invitation through. */
export async function inviteDevice(client: Client): Promise<void> {
  const stopper = new AbortController();
  const body = el("div", { class: "dialog-body", "aria-live": "polite" }, el("p", {}, "Asking the relay for a meeting place …"));
  const close = button("Cancel", "plain", () => dialog.close());
  const dialog = el(
    "dialog",
    { "aria-labelledby": "invite-title" },
    el("h2", { id: "invite-title" }, "Add a device"),
    body,
    el("div", { class: "row end" }, close),
  );
  dialog.addEventListener("close", () => {
    stopper.abort();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();

  try {
    const { link, done } = await client.invite({
      baseUrl: pageAddress(),
      signal: stopper.signal,
      onJoiner: (joiner) => ask(body, joiner, stopper.signal),
    });
    body.replaceChildren(...linkToShow(link));
    welcomeIn(await done);
    dialog.close();
  } catch (error) {
    // Closed by the person: there is nobody left to tell.
    if (stopper.signal.aborted) return;
    body.replaceChildren(el("p", { class: "problem", role: "alert" }, sentence(error)));
    close.textContent = "Close";
  }
}

function welcomeIn({ name }: InvitedDevice): void {
  announce(`${name} is in.`);
}

function linkToShow(link: string): readonly HTMLElement[] {
  const field = el("input", { id: "invite-link", type: "text", readonly: true, value: link });
  field.addEventListener("focus", () => field.select());
  const copy = button("Copy link", "primary", () => {
    // Pages without https have no clipboard, though TypeScript knows only the others.
    const copied = (navigator.clipboard as Clipboard | undefined)?.writeText(link) ?? Promise.reject(new Error("no clipboard"));
    copied.then(
      () => (copy.textContent = "Copied"),
      () => {
        field.focus();
        copy.textContent = "Now Ctrl-C";
      },
    );
  });
  return [
    el("p", {}, "Scan this with the other device, or open the link there. It works once, within ten minutes; show it to nobody else."),
    el("div", { class: "qr-frame" }, qrCode(link, "The invite link as a QR code")),
    el("label", { for: "invite-link" }, "Invite link"),
    el("div", { class: "row" }, field, copy),
    el("p", { class: "quiet" }, "In a terminal: ", el("code", {}, "zerok --home B join LINK --name b")),
  ];
}

/** Resolves to whether the person lets the device in; closing the dialog declines. */
function ask(body: HTMLElement, { name, digits }: WaitingJoiner, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const answer = (accept: boolean) => {
      body.replaceChildren(el("p", {}, accept ? `Handing the group's keys to ${name} …` : `${name} was turned away.`));
      resolve(accept);
    };
    signal.addEventListener("abort", () => resolve(false), { once: true });
    const decline = button("Decline", "danger", () => answer(false));
    body.replaceChildren(
      el("p", {}, el("strong", {}, name), " wants to join. Its screen must show these digits:"),
      el("output", { class: "digits", "aria-label": "Two digits to compare" }, digits),
      el("p", {}, "Accept only if it does: the device will read all notes here, old and new."),
      el("div", { class: "row" }, button("Accept", "primary", () => answer(true)), decline),
    );
    // A careless Enter must not let anybody in.
    decline.focus();
  });
}
