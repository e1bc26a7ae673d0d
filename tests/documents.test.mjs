// What the documents name is there.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { root } from "./lib/root.mjs";

const committed = execFileSync("git", ["ls-files", "-z"], { cwd: root, encoding: "utf8" }).split("\0").filter(Boolean);

/** Each Rust test as the path of its file's names and its own: `client-core/src/seal/tests.rs` is `client core src seal tests`. */
const tests = new Map();
for (const path of committed.filter((path) => path.endsWith(".rs"))) {
  const text = readFileSync(join(root, path), "utf8");
  const modules = path.replace(/\.rs$/, "").split("/");
  for (const [, name] of text.matchAll(/#\[(?:tokio::)?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub )?(?:async )?fn (\w+)/g)) {
    tests.set(name, [...(tests.get(name) ?? []), modules]);
  }
}

/** The tests that a document names, as `module::test_name`. */
function named(document) {
  const text = readFileSync(join(root, document), "utf8");
  return [...text.matchAll(/`(\w+)::(\w{12,})`/g)].map(([, module, name]) => ({ module, name }));
}

const exists = ({ module, name }) => (tests.get(name) ?? []).some((modules) => modules.includes(module));

test("every test that the threat model names is there, under the module that it names", () => {
  const all = named("docs/THREAT-MODEL.md");
  assert.ok(all.length > 50, `${all.length} are named`);
  assert.deepEqual(all.filter((one) => !exists(one)).map(({ module, name }) => `${module}::${name}`), []);
});

test("a test that is not there, or elsewhere, is found missing", () => {
  assert.ok(!exists({ module: "seal", name: "an_entry_that_nobody_wrote_is_accepted" }));
  const [{ module, name }] = named("docs/THREAT-MODEL.md");
  assert.ok(exists({ module, name }));
  assert.ok(!exists({ module: "nowhere", name }));
});
