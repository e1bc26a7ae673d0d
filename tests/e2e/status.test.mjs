// The relay's status page in a browser: whoever is not on the relay's machine needs the token, and
// what the relay does is drawn within seconds.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { launchChromium } from "../../client-wasm/test/support/chromium.mjs";
import { startRelay } from "../../client-wasm/test/support/relay.mjs";
import { makeTerminal } from "./support/zerok.mjs";

const TOKEN = "a-token-of-a-status-page-test";
/** What a reverse proxy on the relay's machine adds. */
const FROM_ELSEWHERE = { "X-Forwarded-For": "192.0.2.1" };

describe("the status page", { timeout: 120_000 }, () => {
  let relay, browser, terminal;

  before(async () => {
    relay = await startRelay({ arguments: ["--no-iroh", "--metrics-token", TOKEN] });
    browser = await launchChromium();
    terminal = makeTerminal();
  });

  after(async () => {
    await browser?.close();
    await terminal?.remove();
    await relay?.stop();
  });

  async function open(headers) {
    const context = await browser.newContext({ extraHTTPHeaders: headers, viewport: { width: 390, height: 844 } });
    const page = await context.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (message) => {
      // The first answer without a token is one; what its own policy forbids would be another.
      if (message.type() === "error" && !message.text().includes("401")) errors.push(message.text());
    });
    await page.goto(`${relay.url}/status`);
    return { context, page, errors };
  }

  test("shows the pushes of a device to somebody on the relay's machine", async () => {
    const { context, page, errors } = await open({});
    await page.getByText("ready", { exact: true }).waitFor();
    await terminal.run("a", "init", "--relay", relay.url);
    await terminal.run("a", "push", "something to count", "--wait", "relay");
    await page.getByRole("img", { name: /^Pushes, per second: .*highest shown [1-9]/ }).waitFor();
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `it fits a phone, but for ${overflow} pixels`);
    assert.deepEqual(errors, []);
    await context.close();
  });

  test("asks for the token from elsewhere and keeps it nowhere", async () => {
    const { context, page, errors } = await open(FROM_ELSEWHERE);
    const field = page.getByLabel("metrics_token");
    await field.fill("not-the-token-at-all");
    await page.getByRole("button", { name: "Show" }).click();
    await page.getByText("That is not the token.").waitFor();
    assert.equal(await page.getByRole("img").count(), 0);

    await field.fill(TOKEN);
    await page.getByRole("button", { name: "Show" }).click();
    await page.getByRole("img", { name: /^Pushes/ }).waitFor();
    const kept = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie, location.href]);
    assert.deepEqual(kept, [0, 0, "", `${relay.url}/status`]);
    assert.deepEqual(errors, []);

    await page.reload();
    await field.waitFor();
    await context.close();
  });
});
