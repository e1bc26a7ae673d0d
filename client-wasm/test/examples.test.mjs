// Every example in the README and in the JSDoc compiles against the package as built.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL("../", import.meta.url));
const directory = join(here, "generated", "examples");
const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc");

/** What the examples take for granted about the app around them. */
const APP = `
import * as zerok from "@0k-sync/client";
declare global {
  const Client: typeof zerok.Client;
  const ZerokError: typeof zerok.ZerokError;
  const init: typeof zerok.init;
  const codeOrLink: string;
  const readExport: typeof zerok.readExport;
  const checkRecoveryWords: typeof zerok.checkRecoveryWords;
  const typedRecoveryWords: typeof zerok.typedRecoveryWords;
  const input: HTMLInputElement;
  const file: Blob;
  const blob: Uint8Array;
  const passphrase: string;
  function show(text: string): void;
  function askForANewInvitation(): void;
  function showAndAsk(words: readonly string[], asked: readonly number[], html: string): Promise<void>;
  function readFile(path: string): Promise<Uint8Array<ArrayBuffer>>;
}
`;

function examples() {
  const inJsdoc = readdirSync(join(here, "ts")).flatMap((file) =>
    [...readFileSync(join(here, "ts", file), "utf8").matchAll(/@example\n(?<code>(?:\s*\* .*\n)+)/g)].map(({ groups }) => ({
      name: file,
      code: groups.code.replaceAll(/^\s*\* /gm, ""),
    })),
  );
  const inReadme = [...readFileSync(join(here, "README.md"), "utf8").matchAll(/```ts\n(?<code>[^]*?)```/g)].map(
    ({ groups }) => ({ name: "README.md", code: groups.code }),
  );
  return [...inJsdoc, ...inReadme];
}

test("every example compiles", () => {
  const found = examples();
  assert.ok(found.length >= 5, "the examples were not found");
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "app.d.ts"), APP);
  found.forEach(({ name, code }, at) => {
    const client = /const client\b/.test(code) ? "" : 'declare const client: import("@0k-sync/client").Client;\n';
    writeFileSync(join(directory, `${name.replace(/\W/g, "_")}_${at}.ts`), `${client}${code}\nexport {};\n`);
  });
  writeFileSync(
    join(directory, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: { strict: true, noEmit: true, module: "es2022", target: "es2022", moduleResolution: "bundler", types: [] },
      include: ["."],
    }),
  );
  const { status, stdout } = spawnSync(process.execPath, [tsc, "-p", directory], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
});
