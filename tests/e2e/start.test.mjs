// What `npm start` does with signals: whoever sends one, and to whom, the relay ends in order, and
// nothing of it is left when the process that was told to stop has gone.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { cargoBin } from "../../client-wasm/test/support/relay.mjs";

const module = fileURLToPath(new URL("../../scripts/lib/serve.mjs", import.meta.url));

/** The relay as `npm start` runs it, once it is ready; `begin` says through whom. */
async function started(begin) {
  const directory = mkdtempSync(join(tmpdir(), "zerok-start-"));
  const args = ["--listen", "127.0.0.1:0", "--data-dir", join(directory, "data"), "--no-iroh"];
  const program = JSON.stringify([cargoBin("zerok-relay"), args]);
  writeFileSync(
    join(directory, "start.mjs"),
    `import { serve } from ${JSON.stringify(module)};\nprocess.exit(await serve(...${program}));\n`,
  );
  writeFileSync(join(directory, "package.json"), '{ "private": true, "scripts": { "start": "node start.mjs" } }');
  // In a group of its own, as in a terminal.
  const child = spawn(...begin, { cwd: directory, detached: true, stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal)));
  // The pipe ends with the last of them.
  const silent = new Promise((resolve) => child.stdout.once("close", resolve));
  const url = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const ready = /^ready (\S+)/.exec(line);
      if (ready) resolve(ready[1]);
    });
    child.once("exit", (code) => reject(new Error(`it ended with ${code} before the relay was ready`)));
  });
  return { child, ended, silent, url, remove: () => rmSync(directory, { recursive: true, force: true }) };
}

const isThere = (url) =>
  fetch(`${url}/health`).then(
    () => true,
    () => false,
  );

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  test(`${signal} to the script alone ends the relay first`, { timeout: 60_000 }, async () => {
    const start = await started(["node", ["start.mjs"]]);
    try {
      start.child.kill(signal);
      assert.equal(await start.ended, 0, "as the relay ended: in order");
      assert.equal(await isThere(start.url), false);
      await start.silent;
    } finally {
      start.remove();
    }
  });
}

test("Ctrl-C at a terminal ends the relay in order", { timeout: 60_000 }, async () => {
  const start = await started(["node", ["start.mjs"]]);
  try {
    process.kill(-start.child.pid, "SIGINT");
    assert.equal(await start.ended, 0);
    await start.silent;
  } finally {
    start.remove();
  }
});

// (npm passes over a SIGINT of its own: it takes it for the terminal's, which its script has heard.)
test("SIGTERM to npm alone leaves no relay running", { timeout: 60_000 }, async () => {
  const start = await started(["npm", ["start", "--silent"]]);
  try {
    start.child.kill("SIGTERM");
    await start.silent;
    assert.equal(await isThere(start.url), false);
  } finally {
    start.remove();
  }
});
