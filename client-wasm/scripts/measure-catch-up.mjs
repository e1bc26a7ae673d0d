// How fast this package catches up in Chromium, from opening its database to the app: one page
// fills a group's log, another one, away all the while, comes back and reads it. Every entry is
// really sealed, opened, authenticated and stored in IndexedDB.
//
//   npm run build -w client-wasm
//   cargo build --release -p zerok-sync-relay
//   node client-wasm/scripts/measure-catch-up.mjs [entries, default 20000] [bytes, default 1024]

import { readdirSync, readFileSync } from "node:fs";
import { loadavg } from "node:os";

import { launchChromium } from "../test/support/chromium.mjs";
import { openDevice, pair } from "../test/support/device.mjs";
import { startRelay } from "../test/support/relay.mjs";
import { makeWebRoot } from "../test/support/web-root.mjs";

/** Sealing adds header, tag, signature, sender, chain and padding: with this much less in a blob the envelope has the size asked for, nearly. */
const SEALING_BYTES = 272;
/** Pushes under way at a time while the log is filled. */
const PUSHES_AHEAD = 500;

const entries = Number(process.argv[2] ?? 20_000);
const bytes = Number(process.argv[3] ?? 1_024);

/**
 * Processor time so far of the processes that this one has started, in microseconds: the relay, and
 * Chromium's by their task (`renderer` has the page, wasm included; a `utility` has the network,
 * another one IndexedDB). Linux tells; elsewhere it is empty.
 */
function cpuUsByProcess() {
  const parents = new Map([[process.pid, "self"]]);
  const used = {};
  const read = (pid, file) => {
    try {
      return readFileSync(`/proc/${pid}/${file}`, "utf8");
    } catch {
      return "";
    }
  };
  const pids = process.platform === "linux" ? readdirSync("/proc").filter((name) => /^\d+$/.test(name)) : [];
  // Children have higher numbers than their parents, unless the numbers have begun anew.
  for (const pid of pids.map(Number).sort((a, b) => a - b)) {
    // The name is in parentheses and may hold anything; behind it come state, parent, …
    const fields = read(pid, "stat").split(")").at(-1).trim().split(/\s+/);
    if (!parents.has(Number(fields[1]))) continue;
    const commandLine = read(pid, "cmdline").replaceAll("\0", " ");
    const type = /--type=(\S+)/.exec(commandLine)?.[1];
    const service = /--utility-sub-type=(\w+)/.exec(commandLine)?.[1];
    const name = commandLine.includes("zerok-relay") ? "relay" : (service ?? type ?? "browser");
    parents.set(pid, name);
    // Ticks of a hundredth of a second: fixed in Linux's interface.
    used[name] = (used[name] ?? 0) + (Number(fields[11]) + Number(fields[12])) * 10_000;
  }
  return used;
}

const web = makeWebRoot();
const relay = await startRelay({ webRoot: web.path, profile: "release" });
const browser = await launchChromium();
try {
  const [writer, reader] = await Promise.all(
    ["laptop", "phone"].map(async (name) => openDevice(await browser.newContext(), relay.url, relay.url, name)),
  );
  await writer.createGroup();
  await pair(writer, reader);
  await reader.page.evaluate(() => client.close());

  const fillSeconds = await writer.page.evaluate(
    async ({ entries, size, ahead }) => {
      const started = performance.now();
      let last;
      for (let from = 0; from < entries; from += ahead) {
        const numbers = Array.from({ length: Math.min(ahead, entries - from) }, (_, index) => from + index);
        const pushed = await Promise.all(
          numbers.map((number) => {
            const blob = new Uint8Array(size).fill(0x5a);
            new DataView(blob.buffer).setUint32(0, number, true);
            return client.push(blob);
          }),
        );
        last = pushed.at(-1);
      }
      await last?.atRelay;
      await client.close();
      return (performance.now() - started) / 1_000;
    },
    { entries, size: Math.max(8, bytes - SEALING_BYTES), ahead: PUSHES_AHEAD },
  );

  const before = cpuUsByProcess();
  const read = await reader.page.evaluate(
    async ({ entries, url }) => {
      const { Client } = await import("/client/index.js");
      const started = performance.now();
      const client = await Client.open({ relay: url, name: "phone" });
      const seen = new Set();
      for await (const entry of client.entries()) {
        seen.add(new DataView(entry.data.buffer, entry.data.byteOffset).getUint32(0, true));
        if (seen.size < entries) continue;
        await client.processed(entry.position);
        break;
      }
      const seconds = (performance.now() - started) / 1_000;
      const { integrity } = client.status.group;
      await client.close();
      return { seconds, distinct: seen.size, integrity };
    },
    { entries, url: relay.url },
  );
  const cpuUs = Object.entries(cpuUsByProcess()).map(([name, us]) => [name, Math.round((us - (before[name] ?? 0)) / entries)]);
  if (read.distinct !== entries || read.integrity.length > 0) throw new Error(`not all is well: ${JSON.stringify(read)}`);

  console.log(
    JSON.stringify({
      entries,
      bytes,
      pushed_per_second: Math.round(entries / fillSeconds),
      seconds: Number(read.seconds.toFixed(2)),
      entries_per_second: Math.round(entries / read.seconds),
      cpu_us_per_entry: Object.fromEntries(cpuUs.filter(([, us]) => us > 0)),
      browser: browser.version(),
      load_average: loadavg().map((load) => Number(load.toFixed(1))),
    }),
  );
} finally {
  await browser.close();
  await relay.stop();
  web.remove();
}
