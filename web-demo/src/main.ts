// The page: opens the client and shows the screen that fits its state.

import { type Client, readInvite } from "@0k-sync/client";

import { announce, button, byId, el, sentence } from "./dom.ts";
import { currentClient, isOpenElsewhere, newcomer, openClient } from "./group-client.ts";
import { forgetOpenedLink, openedLink } from "./invite-fragment.ts";
import { showConnection } from "./views/connection.ts";
import { groupView } from "./views/group.ts";
import { confirmJoin } from "./views/join.ts";
import { restoreFromWords } from "./views/restore.ts";
import { welcome } from "./views/welcome.ts";

const main = byId("main");

function showScreen(screen: HTMLElement): void {
  const isFirst = !main.hasChildNodes();
  main.replaceChildren(screen);
  // What had the focus is gone, and who hears the page is to hear the new screen.
  if (isFirst) return;
  main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

async function start(): Promise<void> {
  let client: Client;
  try {
    client = await openClient(announce);
  } catch (error) {
    showFailure(error);
    return;
  }
  if (client.status.state === "open") showGroup(client);
  else showWelcome();
  window.addEventListener("hashchange", () => void followOpenedLink());
  await followOpenedLink();
}

/** An invitation in the address is asked about, never followed by itself. */
async function followOpenedLink(): Promise<void> {
  const link = openedLink();
  if (link === undefined) return;
  if (currentClient()?.status.state !== "empty") {
    forgetOpenedLink();
    announce("This browser is in a group already. To join another one, open the link in a private window or another browser.");
    return;
  }
  try {
    const invite = await readInvite(link);
    showJoin(link, invite.kind === "link" ? invite.relay : location.origin);
  } catch (error) {
    forgetOpenedLink();
    announce(sentence(error));
  }
}

function showWelcome(): void {
  showScreen(
    welcome({
      create: async (name) => {
        const client = await newcomer(name, announce);
        await client.createGroup();
        showGroup(client);
      },
      join: showJoin,
      restore: showRestore,
    }),
  );
}

function showJoin(invite: string, relay: string): void {
  showScreen(
    confirmJoin(relay, {
      join: async (name, { onDigits, onConfirm, signal }) => {
        const client = await newcomer(name, announce);
        await client.join(invite, { onDigits, onConfirm, signal });
        forgetOpenedLink();
        showGroup(client);
        announce("This device is in.");
      },
      leave: () => {
        forgetOpenedLink();
        showWelcome();
      },
    }),
  );
}

function showRestore(): void {
  showScreen(
    restoreFromWords({
      restore: async (name, words, place, signal) => {
        const client = await newcomer(name, announce, place);
        const connection = byId("connection");
        const stopShowing = client.onStatus((status) => showConnection(connection, status));
        try {
          await client.restore(words, { signal });
        } finally {
          stopShowing();
        }
        showGroup(client, true);
        announce("Your notes are back.");
      },
      leave: showWelcome,
    }),
  );
  byId("words").focus({ preventScroll: true });
}

function showGroup(client: Client, isRestored = false): void {
  const view = groupView(client, isRestored);
  const connection = byId("connection");
  showScreen(view.element);
  const show = () => {
    showConnection(connection, client.status);
    view.show(client.status);
  };
  client.onStatus(show);
  show();
}

function showFailure(error: unknown): void {
  const text = isOpenElsewhere(error) ? "These notes are open in another tab or window of this browser. Close it there, then try again." : sentence(error);
  showScreen(
    el("section", { class: "card hero" }, el("h1", {}, "The notes could not be opened"), el("p", { class: "lead", role: "alert" }, text), button("Try again", "primary", () => location.reload())),
  );
}

void start();
