// A person whose browser forgot everything gets the group back from the words on paper: the real
// demo and the real relay, mostly by keyboard.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { launchChromium } from "../../client-wasm/test/support/chromium.mjs";
import { startRelay } from "../../client-wasm/test/support/relay.mjs";
import { openProfile } from "./support/notes-page.mjs";

const webRoot = fileURLToPath(new URL("../../web-demo/dist", import.meta.url));
const WORDS = 24;

describe("recovery words", { timeout: 60_000 }, () => {
  /** What the page wrote to the console. */
  const said = [];
  let relay, browser, person, page, words;

  before(async () => {
    [relay, browser] = await Promise.all([startRelay({ webRoot }), launchChromium()]);
    person = await openProfile(browser);
    page = person.page;
    page.on("console", (message) => said.push(message.text()));
    await person.createGroup(relay.url, "old laptop");
    await person.add("worth keeping");
    await person.settled(["worth keeping"]);
  });

  after(async () => {
    await browser?.close();
    await relay?.stop();
  });

  const nag = () => page.getByRole("complementary", { name: "No way back yet" });
  const complaint = (text) => page.getByRole("alert").filter({ hasText: text }).waitFor();
  const press = async (name) => {
    await page.getByRole("button", { name }).focus();
    await page.keyboard.press("Enter");
  };
  /** Which of the words stand anywhere within reach of the page: three in a row, for one may be any word. */
  async function wordsLeft() {
    const within = await page.evaluate(() => [
      // Elements apart, as the items of a list are.
      document.documentElement.innerHTML.replaceAll(/<[^>]*>/g, " "),
      ...[...document.querySelectorAll("input, textarea")].map(({ value }) => value),
      ...[localStorage, sessionStorage].map((kept) => JSON.stringify({ ...kept })),
      location.href,
      JSON.stringify(history.state),
    ]);
    const found = [...within, ...said].map((text) => text.toLowerCase().match(/[a-z]+/g)?.join(" ") ?? "").join("\n");
    return words.slice(2).map((word, at) => `${words[at]} ${words[at + 1]} ${word}`).filter((row) => found.includes(row));
  }
  /** Types the words asked for, each as `change` makes it of the right one. */
  async function typeAsked(change) {
    for (const label of await page.getByLabel(/^Word \d+$/).all()) {
      const number = Number((await label.getAttribute("id")).replace("asked-", ""));
      await label.fill(change(words[number - 1]));
    }
    await page.keyboard.press("Enter");
  }

  test("a group on one device asks for a way back, and shows words that can be printed with relay and key", async () => {
    await nag().getByRole("button").focus();
    await page.keyboard.press("Enter");
    const list = page.getByRole("list", { name: "Recovery words" });
    words = await list.getByRole("listitem").allTextContents();
    assert.equal(words.length, WORDS);
    assert.equal((await wordsLeft()).length, WORDS - 2, "they are looked for where they are");
    assert.equal(await list.getAttribute("translate"), "no", "and are sent to no translator");
    assert.equal(await page.locator(".sheet").getAttribute("translate"), "no");

    await page.emulateMedia({ media: "print" });
    const printed = await page.locator("body").innerText();
    for (const part of [relay.url, relay.key, "old laptop", ...words]) assert.ok(printed.includes(part), `${part} is printed`);
    assert.ok(!printed.includes("worth keeping"), "nothing else of the page is printed");
    await page.emulateMedia({ media: null });
  });

  test("words are good only when three of them were typed from the paper, and are nowhere afterwards", async () => {
    await press("I have them on paper");
    const asked = await page.getByLabel(/^Word \d+$/).count();
    assert.equal(asked, 3);
    assert.deepEqual(await wordsLeft(), []);
    await typeAsked((word) => (word === "zebra" ? "zoo" : "zebra"));
    await complaint("look at the paper");
    assert.ok(await nag().isVisible(), "and until then the group has none");

    await typeAsked((word) => word.slice(0, 4).toUpperCase());
    await page.getByText("The words are good").waitFor();
    await page.keyboard.press("Escape");
    await page.getByText("There are recovery words on paper").waitFor();
    assert.ok(!(await nag().isVisible()));
    assert.deepEqual(await wordsLeft(), []);
  });

  test("words are looked at while they are typed, and the one that is wrong is named", async () => {
    await page.goto("about:blank");
    const session = await person.context.newCDPSession(page);
    await session.send("Storage.clearDataForOrigin", { origin: relay.url, storageTypes: "all" });
    await page.goto(relay.url);
    await press("Restore from 24 words");

    const field = page.getByLabel(`The ${WORDS} words`);
    assert.ok(await field.evaluate((one) => one === document.activeElement), "typing can begin");
    const state = page.locator("#words-state");
    await field.focus();
    await page.keyboard.type(`${words.slice(0, 6).join(" ")} abandom ${words[7]} aba`);
    await page.getByText("Word 7, “abandom”, is not in the list").waitFor();
    assert.equal(await state.textContent(), `9 of ${WORDS} words`);
    assert.equal(await page.getByText("Word 9").count(), 0, "an unfinished word is not judged");
    await press("Use “abandon” as word 7");
    assert.match(await field.inputValue(), / abandon /);

    // Its checksum is wrong for certain, which that of the right words in another order need not be.
    await field.fill("abandon ".repeat(WORDS));
    await page.getByText("do not belong together").waitFor();
    await press("Bring my notes back");
    await complaint("do not belong together");
    await field.fill(words.map((word, index) => `${index + 1}. ${word}`).join("  "));
    await page.getByText(`All ${WORDS} words fit together`).waitFor();
  });

  test("a relay with another key than the sheet's gets nothing", async () => {
    await page.getByLabel("The relay's key").fill("ab".repeat(32));
    await press("Bring my notes back");
    await complaint("another key");
  });

  test("the words bring the notes back, and the lost device can be removed", async () => {
    await page.getByLabel("The relay's key").fill(relay.key);
    await page.getByLabel("device's name").fill("new laptop");
    await press("Bring my notes back");
    await person.settled(["worth keeping"]);
    const lost = page.getByText("The devices you lost are still in the group");
    await lost.waitFor();
    assert.deepEqual(await wordsLeft(), []);
    await person.reload();
    await lost.waitFor();
    await press("Remove old laptop");
    await page.getByRole("dialog").getByRole("button", { name: "Remove", exact: true }).focus();
    await page.keyboard.press("Enter");
    await page.getByText("old laptop is out").waitFor();
    await lost.waitFor({ state: "hidden" });
    await person.add("written after all");
    await person.settled(["worth keeping", "written after all"]);
    await person.reload();
    await person.settled(["worth keeping", "written after all"]);
    const devices = await page.getByRole("list", { name: "Devices" }).innerText();
    assert.match(devices, /new laptop/);
    assert.doesNotMatch(devices, /old laptop/);
  });

  test("the page reported no error", () => assert.deepEqual(person.errors, []));
});
