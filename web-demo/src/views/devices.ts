// The group's devices, and what brings the group back without any of them.

import type { Client, GroupStatus, Member, Status } from "@0k-sync/client";

import { openDialog } from "../dialog.ts";
import { announce, button, el, sentence } from "../dom.ts";
import { inviteDevice } from "./invite.ts";
import { loadLost, saveLost } from "../lost-devices.ts";
import { makeRecoveryWords, WORDS_ON_PAPER } from "./make-words.ts";

export interface DevicesPanel {
  readonly element: HTMLElement;
  /** Asks for recovery words while there is one device and none; to be shown above everything. */
  readonly nag: HTMLElement;
  readonly show: (status: Status) => void;
}

/** `isRestored`: it was just brought back from recovery words, so all other devices may be lost. */
export function devicesPanel(client: Client, isRestored: boolean): DevicesPanel {
  const list = el("ul", { class: "members", "aria-label": "Devices" });
  const recovery = el("p", { class: "quiet", role: "status" });
  const words = button("Make recovery words", "plain", () => makeRecoveryWords(client));
  const lost = el("p", { class: "aside", hidden: true }, "The devices you lost are still in the group. Remove them: until then, whoever finds one can read on.");
  const nag = el(
    "aside",
    { class: "card nag", "aria-label": "No way back yet", hidden: true },
    el("p", {}, el("strong", {}, "These notes are on one device only."), " If it is lost, or this browser's data is cleared, they are gone. Add a device, or write down recovery words."),
    button("Make recovery words", "primary", () => makeRecoveryWords(client)),
  );
  let members: readonly Member[] = [];
  let missing = isRestored ? client.members.filter(({ own, paper }) => !own && !paper).map(({ device }) => device) : loadLost();
  if (isRestored) saveLost(missing);

  const show = ({ group }: Status) => {
    if (group === undefined) return;
    if (!sameMembers(members, group.members)) {
      members = group.members;
      list.replaceChildren(...members.map((member) => memberItem(client, member)));
      const left = missing.filter((device) => members.some((member) => member.device === device));
      if (left.length < missing.length) saveLost((missing = left));
    }
    nag.hidden = !group.needsRecoveryWords;
    lost.hidden = missing.length === 0;
    const text = {
      none: "",
      under_way: "The recovery words are being made good: the relay has to be reached.",
      ready: `${WORDS_ON_PAPER}, made on ${makerOf(group)}. All others are void.`,
    }[group.recovery];
    if (recovery.textContent !== text) recovery.textContent = text;
    recovery.hidden = text === "";
    words.textContent = group.recovery === "ready" ? "Make new words" : "Make recovery words";
    // One button for it is enough.
    words.hidden = group.needsRecoveryWords || group.recovery === "under_way";
  };

  const element = el(
    "section",
    { class: "card", "aria-labelledby": "devices-title" },
    el("h2", { id: "devices-title" }, "Devices"),
    list,
    lost,
    recovery,
    el("div", { class: "row actions" }, button("Add a device", "primary", () => void inviteDevice(client)), words),
  );
  return { element, nag, show };
}

/** Whose words are good: a paper from another device is worthless by now. */
function makerOf({ members, recoveryMadeBy }: GroupStatus): string {
  const maker = members.find(({ device }) => device === recoveryMadeBy);
  return maker === undefined ? "a device that was removed" : maker.own ? "this device" : maker.name;
}

function memberItem(client: Client, member: Member): HTMLElement {
  const { name, own, paper, device } = member;
  const kind = own ? " (this device)" : paper ? " (on paper)" : "";
  const short = el("code", { class: "quiet", title: "The beginning of the device's public key in this group" }, device.slice(0, 8));
  const last = el("span", { class: "row" }, short);
  if (!own && !paper) {
    const remove = button("Remove", "plain", () => removeDevice(client, member));
    remove.classList.add("small");
    remove.setAttribute("aria-label", `Remove ${name}`);
    last.append(remove);
  }
  return el("li", {}, el("span", {}, name, kind === "" ? "" : el("span", { class: "quiet" }, kind)), last);
}

function removeDevice(client: Client, { name, device }: Member): void {
  const dialog = openDialog(`Remove ${name}?`);
  const remove = button("Remove", "danger", () => {
    dialog.tell(`Removing ${name} …`);
    dialog.leaveBy("Close");
    client.revoke(device).then(
      () => announce(`${name} is out.`),
      (error: unknown) => announce(sentence(error)),
    ).finally(dialog.close);
  });
  dialog.show(
    el("p", {}, "The relay shuts it out at once, and the group's keys are changed: it reads nothing that is written from then on. What it has, it keeps."),
    remove,
  );
  remove.focus();
}

/** Whether two lists show the same. */
export function sameMembers(left: readonly Member[], right: readonly Member[]): boolean {
  return (
    left.length === right.length &&
    left.every(({ device, name }, index) => right[index]?.device === device && right[index].name === name)
  );
}
