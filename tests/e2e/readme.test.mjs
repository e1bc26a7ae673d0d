// README.md is true: its commands and its JavaScript are run as they stand there. (Its Rust is
// compiled as a documentation test of `zerok-sync`.)

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { launchChromium } from "../../client-wasm/test/support/chromium.mjs";
import { startRelay } from "../../client-wasm/test/support/relay.mjs";
import { makeWebRoot } from "../../client-wasm/test/support/web-root.mjs";
import { startPostgres } from "./support/postgres.mjs";
import { makeTerminal } from "./support/zerok.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const readme = readFileSync(join(root, "README.md"), "utf8");

/** The code blocks of one language. */
const blocks = (language) => [...readme.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"))].map(([, code]) => code);

/** The commands for two terminals, each as words. */
const commands = blocks("sh")
  .find((code) => code.includes("zerok --home"))
  .trim()
  .split("\n")
  .map((line) => line.replace(/\s+#.*/, "").split(" "));

/** Runs the commands of the README and looks at what they did. */
async function followReadme(relay, { transportOfB } = {}) {
  const terminal = makeTerminal();
  try {
    const printed = {};
    let link, invited;
    for (const [program, , home, ...words] of commands) {
      assert.equal(program, "zerok");
      const args = words.map((word) => (word === "LINK" ? link : word === "http://127.0.0.1:8080" ? relay.url : word));
      if (home === "B" && transportOfB) args.unshift("--transport", transportOfB);
      if (args.includes("invite")) {
        ({ first: link, end: invited } = await terminal.begin(home, ...args));
      } else {
        printed[words[0]] = await terminal.run(home, ...args);
      }
    }
    await invited;
    assert.equal(printed.pull, "hello\n");
    for (const name of ["a", "b"]) assert.match(printed.devices, new RegExp(`^.*\\b${name}\\b`, "m"));
    // Removed by the last command.
    await assert.rejects(terminal.run("B", "pull"), /zerok pull ended with 5:/);
  } finally {
    await terminal.remove();
  }
}

test("the commands for two terminals do what they say, on SQLite", { timeout: 120_000 }, async () => {
  const relay = await startRelay({});
  try {
    await followReadme(relay);
  } finally {
    await relay.stop();
  }
});

test("the commands for two terminals do what they say, the second over iroh", { timeout: 120_000 }, async () => {
  const relay = await startRelay({});
  try {
    await followReadme(relay, { transportOfB: "iroh" });
  } finally {
    await relay.stop();
  }
});

test("the commands for two terminals do what they say, on PostgreSQL", { timeout: 120_000 }, async () => {
  const postgres = await startPostgres();
  try {
    const relay = await startRelay({ arguments: ["--store", postgres.url] });
    try {
      await followReadme(relay);
    } finally {
      await relay.stop();
    }
  } finally {
    postgres.stop();
  }
});

test("the JavaScript does what it says", { timeout: 120_000 }, async () => {
  const [code] = blocks("js");
  const web = makeWebRoot();
  const relay = await startRelay({ webRoot: web.path });
  const browser = await launchChromium();
  try {
    const example = code.replace('"@0k-sync/client"', '"/client/index.js"').replace("https://relay.example", relay.url);
    writeFileSync(join(web.path, "example.js"), example);
    writeFileSync(join(web.path, "example.html"), '<!doctype html><script type="module" src="/example.js"></script>');
    const page = await browser.newPage();
    const printed = page.waitForEvent("console", { predicate: (message) => message.type() === "log", timeout: 30_000 });
    const failed = page.waitForEvent("pageerror", { timeout: 30_000 }).then((error) => Promise.reject(error));
    await page.goto(`${relay.url}/example.html`);
    // Nobody waits for an error any more once the line was printed.
    failed.catch(() => {});
    assert.equal((await Promise.race([printed, failed])).text(), "hello");
  } finally {
    await browser.close();
    await relay.stop();
    web.remove();
  }
});

test("the links lead to files of this repository", () => {
  const links = [...readme.matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, path]) => path);
  assert.ok(links.length > 8);
  const missing = links.filter((path) => !fileExists(join(root, path)));
  assert.deepEqual(missing, []);
});

function fileExists(path) {
  try {
    readFileSync(path);
    return true;
  } catch (error) {
    return error.code === "EISDIR";
  }
}
