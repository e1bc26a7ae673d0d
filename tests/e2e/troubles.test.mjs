// What a person reads where pairing or recovery does not go as meant, in the real demo: each sentence
// says what to do next, and whatever was there is still there.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { startCable } from "../../client-wasm/test/support/cable.mjs";
import { launchChromium } from "../../client-wasm/test/support/chromium.mjs";
import { startRelay } from "../../client-wasm/test/support/relay.mjs";
import { openProfile } from "./support/notes-page.mjs";
import { makeTerminal } from "./support/zerok.mjs";

const webRoot = fileURLToPath(new URL("../../web-demo/dist", import.meta.url));

/** What a pairing code is made of. */
const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const alert = ({ page }, text) => page.getByRole("alert").filter({ hasText: text }).waitFor();
const press = ({ page }, name) => page.getByRole("button", { name, exact: true }).click();
const told = ({ page }, text) => page.getByText(text).first().waitFor();

describe("what does not go as meant", { timeout: 120_000 }, () => {
  let relay, cable, browser, terminal, home, guest;

  before(async () => {
    [relay, browser] = await Promise.all([startRelay({ webRoot, arguments: ["--mailbox-joins-per-minute-per-address", "1000"] }), launchChromium()]);
    cable = await startCable(relay.url);
    terminal = makeTerminal();
    [home, guest] = await Promise.all([openProfile(browser), openProfile(browser)]);
    await home.createGroup(relay.url, "kitchen tablet");
    await home.add("milk");
    await home.settled(["milk"]);
  });

  after(async () => {
    await browser?.close();
    await terminal?.remove();
    await cable?.stop();
    await relay?.stop();
  });

  /** Types something into the first page's field, as far as the question whether to join. */
  const typeInvite = async (one, text) => {
    await one.page.getByLabel(/invite link or a code/).fill(text);
    await press(one, "Join");
  };
  const back = async (one) => {
    await press(one, "Back");
    await one.page.getByLabel(/invite link or a code/).waitFor();
  };

  test("a mistyped code, and a link that was cut off, cost nothing and say what to look at", async () => {
    const code = await home.inviteByCode();
    const last = code.at(-1);
    await guest.page.goto(relay.url);
    await typeInvite(guest, code.slice(0, -1) + (last === "0" ? "1" : "0"));
    await alert(guest, "There is a typo in this code");
    await typeInvite(guest, code.slice(0, 6));
    await alert(guest, "eight letters and digits");
    await typeInvite(guest, "https://relay.example/#0k1.abc");
    await alert(guest, "cut off or damaged");
    await typeInvite(guest, "https://relay.example/notes");
    await alert(guest, "not an invitation link");
    await press(home, "Cancel");
  });

  test("a code that was taken back, and one that fits another password, say to ask for a new one", async () => {
    const gone = await home.inviteByCode();
    await press(home, "Cancel");
    await typeInvite(guest, gone);
    await press(guest, "Join");
    await alert(guest, "There is no invitation with this code at");
    await back(guest);

    const code = await home.inviteByCode();
    // Another password, and one of these is the check character that fits.
    const other = code.slice(0, 7) + (code[7] === "0" ? "1" : "0");
    for (const character of ALPHABET) {
      await typeInvite(guest, other + character);
      const screen = await Promise.race([
        guest.page.getByText("Join these notes?").waitFor().then(() => "question"),
        guest.page.getByRole("alert").filter({ hasText: "typo" }).waitFor().then(() => "typo"),
      ]);
      if (screen === "question") break;
    }
    await press(guest, "Join");
    await alert(guest, "not the one that the inviting device shows");
    await alert(home, "a code is good for one try");
    await press(home, "Close");
    await back(guest);
  });

  test("who opens a link that another device is using, or has used, gets nothing", async () => {
    const link = await home.invite();
    await guest.askToJoin(link, "guest");
    await home.asksAbout("guest");
    const second = await openProfile(browser);
    await second.page.goto(link);
    await press(second, "Join");
    await alert(second, "used, cancelled or has expired: ask for a new one");
    await second.context.close();
    assert.ok(await home.page.getByRole("dialog").getByText("guest wants to join").isVisible(), "and the first one is still asked about");

    await press(guest, "Not now");
    await alert(home, "gave up before it was let in: make a new invitation");
    await press(home, "Close");
    await guest.page.goto("about:blank");
    await guest.page.goto(link);
    await press(guest, "Join");
    await alert(guest, "used, cancelled or has expired: ask for a new one");
    assert.ok(!(await guest.page.getByRole("button", { name: "Join", exact: true }).isVisible()), "nobody tries that again");
    await back(guest);
  });

  test("each side hears that the other one has called it off", async () => {
    await guest.askToJoin(await home.invite(), "guest");
    await home.asksAbout("guest");
    await press(home, "Cancel");
    await alert(guest, "turned the other one away: nothing was handed over");
    await back(guest);

    const digits = await guest.askToJoin(await home.invite(), "guest");
    await home.asksAbout("guest");
    await home.page.getByLabel(/^The two digits that/).fill(digits);
    await press(home, "Let it in");
    await press(guest, "No");
    await alert(guest, "You did not join: nothing was kept here");
    await alert(home, "did not join after all");
    await press(home, "Change the keys");
    await told(home, "The group's keys are changed");
    await press(home, "Close");
    await back(guest);
  });

  test("an invitation that nobody used in time says so, and so does the link", async () => {
    const hasty = await startRelay({ webRoot, arguments: ["--mailbox-ttl-ms-max", "1s"] });
    const patient = await openProfile(browser);
    try {
      await patient.createGroup(hasty.url, "patient");
      const link = await patient.invite();
      await alert(patient, "Nobody came in time: make a new invitation");
      const late = await openProfile(browser);
      await late.page.goto(link);
      await press(late, "Join");
      await alert(late, "used, cancelled or has expired: ask for a new one");
      await late.context.close();
    } finally {
      await patient.context.close();
      await hasty.stop();
    }
  });

  test("without the relay neither side waits for ever", async () => {
    const away = await openProfile(browser);
    await away.createGroup(cable.url, "away");
    const link = await away.invite();
    await press(away, "Cancel");
    const late = await openProfile(browser);
    await late.page.goto(link);
    await told(late, "Join these notes?");
    cable.pull();
    await press(late, "Join");
    await alert(late, "No relay reachable");
    await away.offline();
    await press(away, "Add a device");
    await told(away, "this goes on by itself when it is back");
    await press(away, "Cancel");
    await press(away, "Make recovery words");
    await told(away, "cannot be reached just now. Try again");
    await press(away, "Close");
    cable.plugIn();
    await Promise.all([away.context.close(), late.context.close()]);
  });

  test("a second window, and a link opened in a group, say what to do instead", async () => {
    const page = await home.context.newPage();
    await page.goto(relay.url);
    await page.getByRole("alert").filter({ hasText: "open in another tab or window" }).waitFor();
    await page.close();
    const link = await home.invite();
    await press(home, "Cancel");
    await home.page.evaluate((hash) => (location.hash = hash), new URL(link).hash);
    await told(home, "This browser is in a group already");
  });

  test("a device that was removed keeps what it has, and says that it gets and sends nothing more", async () => {
    const digits = await guest.askToJoin(await home.invite(), "guest");
    await home.asksAbout("guest");
    await Promise.all([home.letIn(digits), guest.confirm()]);
    await guest.settled(["milk"]);
    await home.page.getByRole("button", { name: "Remove guest" }).click();
    await home.page.getByRole("dialog").getByRole("button", { name: "Remove", exact: true }).click();
    await alert(guest, "this device was removed from the group: what it has stays readable here");
    assert.deepEqual(await guest.notes(), ["milk"]);
    await guest.page.reload();
    await alert(guest, "this device was removed from the group");
    await guest.page.getByText("Removed", { exact: true }).waitFor();
    assert.deepEqual(await guest.notes(), ["milk"]);
    for (const name of ["Add", "Add a device", "Remove kitchen tablet", "Delete the note “milk”"]) {
      assert.ok(!(await guest.page.getByRole("button", { name, exact: true }).isVisible()), `${name} would come to nothing`);
    }
  });

  test("a full disk stops the page before anything is lost, and with room it goes on", async () => {
    // The browser itself looks at its quota before large writes only.
    await home.page.evaluate(() => {
      IDBObjectStore.prototype.put = () => {
        throw new DOMException("no room", "QuotaExceededError");
      };
    });
    await home.add("bread");
    await alert(home, "This note was not added. This device's storage is full: free some space, then reload the page");
    await told(home, "Stopped");
    assert.equal(await home.page.getByLabel("New note").inputValue(), "bread", "it is not lost");
    await home.reload();
    await home.add("bread");
    await home.settled(["milk", "bread"]);
  });

  describe("with recovery words", () => {
    /** Words that are void, and words that are good. */
    let older, newer;

    const restoring = async (words, { at = relay.url } = {}) => {
      await guest.page.getByLabel("The 24 words").fill(words.join(" "));
      await guest.page.getByLabel("The relay's address").fill(at);
      await press(guest, "Bring my notes back");
    };
    /** Lets a page open so many more connections; further ones break until it calls `restoreLinks`. */
    const moreLinks = ({ page }, count) =>
      page.evaluate((count) => {
        const Whole = WebSocket;
        globalThis.WebSocket = class extends Whole {
          constructor(...where) {
            super(...where);
            if (count-- <= 0) this.close();
          }
        };
        globalThis.restoreLinks = () => (globalThis.WebSocket = Whole);
      }, count);

    test("words that another device replaces before they are good are to be thrown away", async () => {
      const joined = terminal.join("laptop", await home.invite(), "--name", "laptop");
      await home.asksAbout("laptop");
      await home.letIn(await joined.digits);
      await joined.end;
      await home.page.getByRole("region", { name: "Devices" }).getByRole("button", { name: "Make recovery words" }).click();
      older = await home.page.getByRole("list", { name: "Recovery words" }).getByRole("listitem").allTextContents();
      await press(home, "I have them on paper");
      for (const field of await home.page.getByLabel(/^Word \d+$/).all()) {
        await field.fill(older[Number((await field.getAttribute("id")).replace("asked-", "")) - 1]);
      }
      await moreLinks(home, 1);
      await press(home, "Make the words good");
      await told(home, "Making the words good");
      await home.offline();
      const made = (await terminal.run("laptop", "--json", "recovery", "create", "--yes")).split("\n")[0];
      newer = JSON.parse(made).words.split(" ");
      await home.page.evaluate(() => {
        restoreLinks();
        dispatchEvent(new Event("online"));
      });
      await alert(home, "These words are not good: throw them away, and make new ones");
      await press(home, "Close");
      await told(home, "There are recovery words on paper, made on laptop. All others are void.");
    });

    test("words in the wrong order, void ones, and a relay that is away are told apart", async () => {
      guest = await openProfile(browser);
      await guest.page.setViewportSize({ width: 375, height: 700 });
      await guest.page.goto(relay.url);
      await press(guest, "Restore from 24 words");
      const swapped = [...newer];
      const place = newer.findIndex((word, at) => word !== newer[at + 1]);
      [swapped[place], swapped[place + 1]] = [newer[place + 1], newer[place]];
      await restoring(swapped);
      await alert(guest, /do not belong together|knows no group of these words/);
      await restoring(older);
      await alert(guest, "knows no group of these words: look at the relay's address on the sheet; or the words were replaced");
      await restoring(newer, { at: "http://127.0.0.1:9" });
      await alert(guest, "No relay reachable");
      const seen = () => [...document.querySelectorAll("[role=alert]")].some((one) => one.textContent !== "" && one.getBoundingClientRect().bottom < innerHeight && one.getBoundingClientRect().top > 0);
      await guest.page.waitForFunction(seen);
    });

    test("a restore that the page's end cuts off leaves nothing, and begins again", async () => {
      await moreLinks(guest, 1);
      await restoring(newer);
      await told(guest, "Asking the relay for your group, and checking all of it");
      await guest.offline();
      await guest.page.reload();
      await guest.page.getByRole("button", { name: "Start on this device" }).waitFor();
      await press(guest, "Restore from 24 words");
      await restoring(newer);
      await guest.settled(["milk", "bread"]);
    });
  });

  test("the pages reported no error", () => assert.deepEqual([...home.errors, ...guest.errors], []));
});
