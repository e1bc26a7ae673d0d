// The recorded test vectors of protocol and core, recomputed by the code as compiled to wasm.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const here = new URL("../", import.meta.url);
const directory = new URL("generated/vectors/", here);

test("the wasm build recomputes every recorded vector", async () => {
  const build = spawnSync(process.execPath, [fileURLToPath(new URL("scripts/build.mjs", here)), "--vectors"], {
    encoding: "utf8",
  });
  assert.equal(build.status, 0, build.stderr);
  const { default: start, checkVectors } = await import(new URL("zerok_sync_wasm.js", directory).href);
  await start({ module_or_path: await readFile(new URL("zerok_sync_wasm_bg.wasm", directory)) });
  assert.doesNotThrow(() => checkVectors());
});
