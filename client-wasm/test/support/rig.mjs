// What a file of browser tests stands on: one Chromium, one relay that serves the built package, and
// devices, each on a profile of its own, that a test gives back when it ends.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { startCable } from "./cable.mjs";
import { launchChromium } from "./chromium.mjs";
import { openDevice, pair } from "./device.mjs";
import { startRelay } from "./relay.mjs";
import { makeWebRoot } from "./web-root.mjs";

/** Starts all of it before the file's first test, and ends it after the last. */
export function useRig() {
  let browser;
  let web;
  let relay;
  /** What the test under way has to give back. */
  const cleanups = [];

  before(async () => {
    web = makeWebRoot();
    // All of these people pair from one address.
    const limits = ["--mailbox-joins-per-minute-per-address", "1000"];
    [browser, relay] = await Promise.all([launchChromium(), startRelay({ webRoot: web.path, arguments: limits })]);
  });

  after(async () => {
    await browser?.close();
    await relay?.stop();
    web?.remove();
  });

  const rig = {
    get relay() {
      return relay;
    },

    /** A test that cannot hang, and leaves nothing behind. */
    scenario(name, run) {
      test(name, { timeout: 60_000 }, async () => {
        try {
          await run();
        } finally {
          for (const cleanup of cleanups.splice(0)) await cleanup();
        }
      });
    },

    /** A relay of the test's own, which it can end and start again on the same address and data. */
    async ownRelay() {
      const dataDir = mkdtempSync(join(tmpdir(), "zerok-relay-"));
      let running = await startRelay({ dataDir });
      const { url } = running;
      cleanups.push(async () => {
        await running?.stop("SIGKILL");
        rmSync(dataDir, { recursive: true, force: true });
      });
      return {
        url,
        dataDir,
        async stop(signal) {
          await running.stop(signal);
          running = undefined;
        },
        async start() {
          running = await startRelay({ listen: new URL(url).host, dataDir });
        },
      };
    },

    /** A cable to the relay that the test can pull. */
    async newCable() {
      const cable = await startCable(relay.url);
      cleanups.push(() => cable.stop());
      return cable;
    },

    /** A device on a profile of its own. */
    async device(name, relayUrl = relay.url) {
      const profile = await browser.newContext();
      cleanups.push(() => profile.close());
      return openDevice(profile, relay.url, relayUrl, name);
    },

    /** Two devices of one group. */
    async pairOfDevices(relayUrl = relay.url) {
      const [a, b] = await Promise.all([rig.device("laptop", relayUrl), rig.device("phone", relayUrl)]);
      await a.createGroup();
      await pair(a, b);
      return [a, b];
    },
  };
  return rig;
}

/** Calls a method of the client; what it rejects with, if it does. */
export const attempt = (one, method, ...args) =>
  one.page.evaluate(
    async ([method, args]) => {
      try {
        await client[method](...args);
      } catch (error) {
        return error.code;
      }
    },
    [method, args],
  );
