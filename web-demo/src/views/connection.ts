// The state of the connection, in a person's words.

import type { GroupStatus, Status } from "@0k-sync/client";

import { el, sentence } from "../dom.ts";

type Look = "good" | "busy" | "off";

/** What to say about a status, and how it looks. */
export function describe(status: Status): { readonly text: string; readonly look: Look } | undefined {
  if (status.state === "stopped") return { text: "Stopped", look: "off" };
  if (status.group === undefined) return undefined;
  const end = endOf(status);
  if (end !== undefined) return { text: end === "left" ? "Left" : "Removed", look: "off" };
  const waiting = status.group.outboxCount;
  const unsent = waiting === 0 ? "" : ` · ${waiting} to send`;
  const [text, look] = words(status.group);
  return { text: `${text}${unsent}`, look };
}

function words({ connection }: GroupStatus): readonly [string, Look] {
  switch (connection) {
    case "live":
      return ["Live", "good"];
    case "catching_up":
      return ["Catching up", "busy"];
    case "connecting":
    case "handshaking":
      return ["Connecting", "busy"];
    case "waiting_to_retry":
      return ["Offline, retrying", "off"];
    case "offline":
      return ["Offline", "off"];
  }
}

/** Shows it in the page's header; nothing changes, and nothing is read out again, if it says the same. */
export function showConnection(place: HTMLElement, status: Status): void {
  const described = describe(status);
  const text = described?.text ?? "";
  if (place.textContent === text) return;
  place.replaceChildren();
  if (described !== undefined) place.append(el("span", { class: `pill ${described.look}` }, text));
}

/** Whether this device is in the group no more, and how that came: it goes on showing what it has. */
export function endOf({ group }: Status): "revoked" | "left" | undefined {
  const code = group?.problem?.code;
  return code === "revoked" || code === "left" ? code : undefined;
}

/** What is wrong, if a person should know. */
export function problemOf(status: Status): string | undefined {
  if (status.stoppedBy !== undefined) {
    // Which says that itself, and what comes before.
    const advice = status.stoppedBy.code === "storage_full" ? "" : " Reload the page to go on.";
    return sentence(status.stoppedBy) + advice;
  }
  const { group } = status;
  const finding = group?.integrity.at(-1);
  if (finding !== undefined) {
    return `The relay or a device did something an honest one does not do (${finding.kind.replaceAll("_", " ")}). Your notes on this device are safe.`;
  }
  if (endOf(status) === "revoked") {
    return "The relay says that this device was removed from the group: what it has stays readable here, and it gets and sends nothing more. To bring it back, let another device invite it, and open that link in a private window, or here once this site's data is cleared.";
  }
  // Being unreachable is what the connection's state says already.
  if (group?.problem === undefined || group.problem.code === "unreachable") return undefined;
  return sentence(group.problem);
}
