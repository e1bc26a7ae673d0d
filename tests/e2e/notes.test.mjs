// Two browsers and a terminal in one group, through a relay that can read nothing: the real demo,
// the real relay, the real command line.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { startCable } from "../../client-wasm/test/support/cable.mjs";
import { launchChromium } from "../../client-wasm/test/support/chromium.mjs";
import { startRelay } from "../../client-wasm/test/support/relay.mjs";
import { filesBelow, filesWith, isIn } from "./support/disk.mjs";
import { openProfile } from "./support/notes-page.mjs";
import { makeTerminal } from "./support/zerok.mjs";

const webRoot = fileURLToPath(new URL("../../web-demo/dist", import.meta.url));

/** Longest that a note may take from the key press to another device's screen. */
const TRAVEL_MS_MAX = 1_000;

describe("notes", { timeout: 240_000 }, () => {
  /** Everything that was written, to be looked for on the relay's disk. */
  const written = [];
  let relay, cable, browser, terminal, first, second;

  before(async () => {
    relay = await startRelay({ webRoot, arguments: ["--log", "trace"] });
    // The second browser's way to the relay can be cut.
    cable = await startCable(relay.url);
    browser = await launchChromium();
    terminal = makeTerminal();
    first = await openProfile(browser);
    second = await openProfile(browser);
  });

  after(async () => {
    await browser?.close();
    await terminal?.remove();
    await cable?.stop();
    await relay?.stop();
  });

  const note = (text) => {
    written.push(text);
    return text;
  };

  test("a browser founds a group and lets another browser in by its link", async () => {
    await first.createGroup(relay.url, "first browser");
    const link = await first.invite();
    assert.match(link, /^http:\/\/127\.0\.0\.1:\d+\/#0k1\./);
    const shown = await second.askToJoin(link.replace(relay.url, cable.url), "second browser");
    assert.match(shown, /^\d\d$/);
    await first.asksAbout("second browser");
    await Promise.all([first.letIn(shown), second.confirm()]);
    await second.live();
    assert.equal(new URL(second.page.url()).hash, "", "the secret left the address bar");
    for (const { page } of [first, second]) {
      const devices = page.getByRole("list", { name: "Devices" });
      await devices.getByText("first browser").waitFor();
      await devices.getByText("second browser").waitFor();
    }
  });

  test("a declined device is turned away and the group goes on", async () => {
    const stranger = await openProfile(browser);
    const link = await first.invite();
    await stranger.askToJoin(link, "stranger");
    await first.asksAbout("stranger");
    await first.page.getByRole("button", { name: "Decline" }).click();
    await stranger.page.getByRole("alert").filter({ hasText: /\w/ }).waitFor();
    await first.page.getByRole("button", { name: "Close" }).click();
    assert.equal(await first.page.getByText("stranger").count(), 0);
    await stranger.context.close();
  });

  test("a third browser comes in by a code that was read out, and wrong digits keep it out", async () => {
    const third = await openProfile(browser);
    const refused = await third.joinByCode(relay.url, (await first.inviteByCode()).toLowerCase(), "third browser");
    await first.asksAbout("third browser");
    await first.page.getByLabel(/^The two digits that/).fill(refused === "00" ? "01" : "00");
    await first.page.getByRole("button", { name: "Let it in" }).click();
    for (const { page } of [first, third]) await page.getByRole("alert").filter({ hasText: "not the ones" }).waitFor();
    await first.page.getByRole("button", { name: "Close" }).click();
    const shown = await third.joinByCode(relay.url, await first.inviteByCode(), "third browser");
    await first.asksAbout("third browser");
    await Promise.all([first.letIn(shown), third.confirm()]);
    await third.live();
    assert.deepEqual(third.errors, []);
    await third.context.close();
  });

  test("a terminal joins the same group", async () => {
    const link = await first.invite();
    const joined = terminal.join("laptop", link, "--name", "terminal");
    await first.asksAbout("terminal");
    await first.letIn(await joined.digits);
    await joined.end;
    await second.page.getByRole("list", { name: "Devices" }).getByText("terminal").waitFor();
  });

  test("a note typed in one browser appears in the other and in the terminal within a second", async (t) => {
    const follower = terminal.follow("laptop");
    // The first one waits for everybody to be there and is not measured.
    await first.add(note("is everybody listening?"));
    await Promise.all([second.waitFor("is everybody listening?"), follower.waitFor("is everybody listening?")]);

    const travel = [];
    for (const [from, to] of [[first, second], [second, first], [first, second], [second, first], [first, second]]) {
      const text = note(`measured note number ${travel.length}`);
      const started = performance.now();
      const arrived = Promise.all([to.waitFor(text), follower.waitFor(text)]);
      await from.add(text);
      await arrived;
      travel.push(performance.now() - started);
    }
    await follower.stop();
    t.diagnostic(`from key press to both other screens: ${travel.map((ms) => `${ms.toFixed(0)} ms`).join(", ")}`);
    assert.ok(Math.max(...travel) < TRAVEL_MS_MAX, `${travel}`);
    assert.equal(new Set(follower.texts).size, follower.texts.length, "each came once");
  });

  test("a line pushed in the terminal appears in both browsers within a second of its being stored", async () => {
    const text = note("hello from the terminal");
    await terminal.run("laptop", "push", text);
    const started = performance.now();
    await Promise.all([first.waitFor(text), second.waitFor(text)]);
    assert.ok(performance.now() - started < TRAVEL_MS_MAX);
  });

  test("after a reload every note is there once", async () => {
    const before = await first.notes();
    assert.equal(before.length, 7);
    for (const one of [first, second]) {
      await one.reload();
      await one.settled(before);
    }
    assert.deepEqual(await second.notes(), await first.notes(), "in the same order");
  });

  test("a deleted note goes everywhere and does not come back", async () => {
    await second.remove("is everybody listening?");
    const rest = (await second.notes()).filter((text) => text !== "is everybody listening?");
    await first.settled(rest);
    await first.reload();
    await first.settled(rest);
  });

  test("after an offline period with edits on both sides everything is there once", async () => {
    const before = await first.notes();
    cable.pull();
    await second.offline();
    await second.add(note("written on a train"));
    await second.add(note("written in a tunnel"));
    await second.remove("measured note number 0");
    await first.add(note("written at home meanwhile"));
    await terminal.run("laptop", "push", note("written in the office meanwhile"));
    await second.page.getByText("On its way").first().waitFor();

    cable.plugIn();
    const expected = [
      ...before.filter((text) => text !== "measured note number 0"),
      "written on a train",
      "written in a tunnel",
      "written at home meanwhile",
      "written in the office meanwhile",
    ];
    await Promise.all([first.settled(expected), second.settled(expected)]);
    assert.deepEqual(await second.notes(), await first.notes(), "in the same order");
  });

  test("edits made offline survive the page", async () => {
    const before = await second.notes();
    cable.pull();
    await second.offline();
    await second.add(note("the battery is nearly empty"));
    await second.waitFor("the battery is nearly empty");
    // Gone as with a crash: nothing is said to anybody. The page can only come back with the relay.
    await second.page.close();
    cable.plugIn();
    second.page = await second.context.newPage();
    await second.page.goto(cable.url);
    const expected = [...before, "the battery is nearly empty"];
    await Promise.all([first.settled(expected), second.settled(expected)]);
  });

  test("the terminal has every note once, too", async () => {
    const lines = (await terminal.run("laptop", "--json", "pull", "--after", "0", "--own")).trim().split("\n");
    const entries = lines.map((line) => JSON.parse(line));
    for (const text of written) {
      assert.equal(entries.filter((entry) => entry.text === text || entry.text.includes(`"${text}"`)).length, 1, text);
    }
  });

  test("the panel shows what the relay stores: the envelope's own bytes, not the note's", async () => {
    const panel = first.page.getByRole("list", { name: "Envelopes at the relay" });
    const shown = await panel.getByRole("listitem").filter({ hasText: "the battery is nearly" }).textContent();
    const hex = /(?:[0-9a-f]{2} ){90,}/.exec(shown)?.[0] ?? "";
    const bytes = Buffer.from(hex.replaceAll(" ", ""), "hex");
    assert.equal(bytes[0], 1, "version");
    const held = filesBelow(relay.dataDir).filter((path) => path.includes("relay.db"));
    assert.ok(held.some((path) => readFileSync(path).includes(bytes)), "these bytes are in the relay's database");
  });

  test("no note, and no device's name, is in the relay's files or in what it logs", () => {
    assert.ok(filesBelow(relay.dataDir).some((path) => path.endsWith("relay.db")));
    for (const text of [...written, "first browser", "second browser"]) {
      assert.deepEqual(filesWith(relay.dataDir, text), [], text);
      assert.ok(!isIn(relay.log(), text), `“${text}” was logged`);
    }
  });

  test("the pages reported no error", () => {
    assert.deepEqual([...first.errors, ...second.errors], []);
  });
});
