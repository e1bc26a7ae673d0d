// What can be said about the built package without a browser: it loads, it is small, it refuses
// what it should before any I/O.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { Client, init, readInvite, ZerokError } from "@0k-sync/client";

const dist = new URL("../dist/", import.meta.url);
const wasm = readFileSync(new URL("zerok_sync_wasm_bg.wasm", dist));

/** Raise only with a reason: people load this on phones. What it is made of: docs/PERFORMANCE.md. */
const WASM_GZIPPED_BYTES_MAX = 536 * 1024;

test("importing the package loads nothing and starts nothing", () => {
  const program = `
    for (const name of ["fetch", "setTimeout", "setInterval"]) globalThis[name] = () => process.exit(1);
    await import("@0k-sync/client");`;
  const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", program], {
    cwd: fileURLToPath(new URL("../", import.meta.url)),
    encoding: "utf8",
    timeout: 30_000,
  });
  assert.equal(status, 0, stderr);
});

test("the wasm stays within its budget", () => {
  const bytes = gzipSync(wasm, { level: 9 }).length;
  assert.ok(bytes <= WASM_GZIPPED_BYTES_MAX, `${bytes} bytes gzipped, ${WASM_GZIPPED_BYTES_MAX} allowed`);
});

test("every file the package's entry imports is in the package", () => {
  const files = new Set(readdirSync(dist));
  for (const file of [...files].filter((name) => /\.(js|d\.ts)$/.test(name))) {
    for (const [, imported] of readFileSync(new URL(file, dist), "utf8").matchAll(/from "\.\/([^"]+)"/g)) {
      const wanted = file.endsWith(".d.ts") ? imported.replace(/\.js$/, ".d.ts") : imported;
      assert.ok(files.has(wanted), `${file} imports ${wanted}`);
    }
  }
});

test("init rejects what is no wasm, and can be called again", async () => {
  await assert.rejects(init(new Uint8Array([1, 2, 3])));
  await init(wasm);
  await init();
});

test("a text that is neither link nor code is refused with a reason", async () => {
  for (const text of ["", "hello", "0000-0001"]) {
    const error = await readInvite(text).catch((error) => error);
    assert.equal(error.code, "invalid_code", text);
  }
  assert.deepEqual(await readInvite("jkyw xyzy"), { kind: "code" });
  for (const text of ["https://relay.example/", "https://relay.example/#0k1.AAAA", `https://x/#${"a".repeat(10_000)}`]) {
    const error = await readInvite(text).catch((error) => error);
    assert.ok(error instanceof ZerokError, text);
    assert.equal(error.code, "invalid_link");
    assert.ok(error.message.length > 20);
  }
});

test("without a database the client works in memory, and warns", async () => {
  const warnings = [];
  const client = await Client.open({ relay: "http://127.0.0.1:9", onWarning: ({ code }) => warnings.push(code) });
  assert.deepEqual(warnings, ["memory_only"]);
  await client.createGroup();
  const waiting = client.status.group.outboxCount;
  const { number } = await client.push(new TextEncoder().encode("hello"));
  const { storage, group } = client.status;
  await client.close();
  assert.equal(storage, "memory");
  assert.equal(group.storedPush, number);
  assert.equal(group.outboxCount, waiting + 1);
  assert.equal(client.status.state, "closed");
});

test("wrong arguments are refused before anything is stored", async () => {
  for (const options of [
    { relay: "relay.example" },
    { relay: "ftp://relay.example" },
    { relay: "http://127.0.0.1:9", relayKey: "abc" },
  ]) {
    const client = await Client.open(options);
    const error = await client.createGroup().catch((error) => error);
    assert.equal(error.code, "invalid_argument", JSON.stringify(options));
    assert.equal(client.status.state, "empty");
    await client.close();
  }
});

test("a closed client says so, whatever is asked of it", async () => {
  const client = await Client.open({ relay: "http://127.0.0.1:9" });
  await client.close();
  await client.close();
  for (const ask of [() => client.createGroup(), () => client.push(new Uint8Array()), () => client.join("x")]) {
    assert.equal((await ask().catch((error) => error)).code, "closed");
  }
  assert.throws(() => client.entries(), { code: "closed" });
});
