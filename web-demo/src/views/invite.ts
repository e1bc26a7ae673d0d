// Adding a device: a link with its QR code, or a code to type; then the digits that the other
// device shows.

import type { Client, Invitation, InvitedDevice, WaitingJoiner } from "@0k-sync/client";

import { type Dialog, openDialog } from "../dialog.ts";
import { announce, button, codeOf, el, sentence } from "../dom.ts";
import { pageAddress } from "../invite-fragment.ts";
import { drawQrCode } from "../qr.ts";

type Kind = Invitation["kind"];

/** Opens the dialog and sees the invitation through. */
export async function inviteDevice(client: Client): Promise<void> {
  const dialog = openDialog("Add a device");
  // One invitation is open at a time: asking for the other kind takes this one back.
  let stopper = new AbortController();
  dialog.closed.addEventListener("abort", () => stopper.abort());

  async function offer(kind: Kind): Promise<void> {
    const { signal } = (stopper = new AbortController());
    const isAway = client.status.group?.connection !== "live";
    dialog.tell(isAway ? "The relay cannot be reached just now: this goes on by itself when it is back …" : "Asking the relay for a meeting place …");
    try {
      const invitation = await client.invite({
        kind,
        baseUrl: pageAddress(),
        signal,
        onJoiner: (joiner) => ask(dialog, joiner, signal),
      });
      const change = button(kind === "link" ? "Use a code instead" : "Use a link instead", "plain", () => {
        stopper.abort();
        void invitation.done.catch(() => offer(kind === "link" ? "code" : "link"));
      });
      dialog.show(...(kind === "link" ? linkToShow(invitation) : codeToShow(invitation)), change);
      welcomeIn(await invitation.done);
      dialog.close();
    } catch (error) {
      // Taken back by the person: there is nobody left to tell.
      if (signal.aborted) return;
      dialog.show(el("p", { class: "problem", role: "alert" }, sentence(error)), ...afterHandover(client, dialog, error));
      dialog.leaveBy("Close");
    }
  }
  await offer("link");
}

/** What to do about a device that was given the keys and is not known to be in: the sentence says to change them. */
function afterHandover(client: Client, dialog: Dialog, error: unknown): readonly HTMLElement[] {
  const code = codeOf(error);
  if (code !== "refused_by_joiner" && code !== "unconfirmed") return [];
  const change = button("Change the keys", "danger", () => {
    dialog.tell("Changing the group's keys … If the relay is away, this goes on by itself when it is back.");
    client.rotate().then(
      () => dialog.tell("The group's keys are changed: what that device was given opens nothing that is written from now on."),
      (failure: unknown) => dialog.show(el("p", { class: "problem", role: "alert" }, sentence(failure))),
    );
  });
  return [el("div", { class: "row" }, change)];
}

function welcomeIn({ name }: InvitedDevice): void {
  announce(`${name} is in.`);
}

function linkToShow({ text, qr }: Invitation): readonly HTMLElement[] {
  const field = el("input", { id: "invite-link", type: "text", readonly: true, value: text });
  field.addEventListener("focus", () => field.select());
  const copy = button("Copy link", "primary", () => {
    // Pages without https have no clipboard, though TypeScript knows only the others.
    const copied = (navigator.clipboard as Clipboard | undefined)?.writeText(text) ?? Promise.reject(new Error("no clipboard"));
    copied.then(
      () => (copy.textContent = "Copied"),
      () => {
        field.focus();
        copy.textContent = "Now Ctrl-C";
      },
    );
  });
  const scan = qr === undefined ? [] : [el("div", { class: "qr-frame" }, drawQrCode(qr, "The invite link as a QR code"))];
  return [
    el("p", {}, "Scan this with the other device, or open the link there. It works once, within ten minutes; show it to nobody else."),
    ...scan,
    el("label", { for: "invite-link" }, "Invite link"),
    el("div", { class: "row" }, field, copy),
    el("p", { class: "quiet" }, "In a terminal: ", el("code", {}, "zerok --home B join LINK --name b")),
  ];
}

function codeToShow({ text }: Invitation): readonly HTMLElement[] {
  return [
    el("p", {}, "Type this code on the other device, on this same page. It is good for one try, within ten minutes."),
    el("output", { class: "digits code", "aria-label": "Pairing code" }, text),
    el("p", { class: "quiet" }, "In a terminal: ", el("code", {}, `zerok --home B join ${text} --relay ${location.origin}`)),
  ];
}

/** Resolves to the digits that the person types, or to nothing if the device is turned away. */
function ask(dialog: Dialog, { name, entries, members }: WaitingJoiner, signal: AbortSignal): Promise<string | undefined> {
  return new Promise((resolve) => {
    const field = el("input", {
      id: "digits",
      class: "digits",
      type: "text",
      inputmode: "numeric",
      autocomplete: "off",
      maxlength: "2",
      pattern: "[0-9]{2}",
      required: true,
    });
    const answer = (digits: string | undefined) => {
      dialog.tell(digits === undefined ? `${name} was turned away.` : `Handing the group's keys to ${name} …`);
      resolve(digits);
    };
    signal.addEventListener("abort", () => resolve(undefined), { once: true });
    const form = el(
      "form",
      {},
      el("label", { for: "digits" }, `The two digits that ${name} shows`),
      field,
      el(
        "div",
        { class: "row" },
        el("button", { type: "submit", class: "primary" }, "Let it in"),
        button("Decline", "danger", () => answer(undefined)),
      ),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      answer(field.value);
    });
    const notes = entries === 1 ? "1 entry" : `${entries} entries`;
    dialog.show(
      el("p", {}, el("strong", {}, name), " wants to join."),
      el("p", {}, `It would get the group's keys: it could read ${notes}, and all that ${members.join(", ")} and others write from now on.`),
      form,
    );
    field.focus();
  });
}
