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

test("every test that the decisions name is there", () => {
  const all = named("docs/DECISIONS.md");
  assert.ok(all.length > 10, `${all.length} are named`);
  assert.deepEqual(all.filter((one) => !exists(one)).map(({ module, name }) => `${module}::${name}`), []);
});

test("a test that is not there, or elsewhere, is found missing", () => {
  assert.ok(!exists({ module: "seal", name: "an_entry_that_nobody_wrote_is_accepted" }));
  const [{ module, name }] = named("docs/THREAT-MODEL.md");
  assert.ok(exists({ module, name }));
  assert.ok(!exists({ module: "nowhere", name }));
});

const defects = JSON.parse(readFileSync(join(root, "tests/defects.json"), "utf8"));

test("each row about devices and hostile relays has a test and a planted defect, where the document says", () => {
  const rows = [
    ...["A-PROTO-01", "A-PROTO-02", "A-PROTO-03", "A-PROTO-04", "B-DOWN", "B-DROP", "B-EXPIRE", "B-FORK", "B-FRAME", "B-HEAL", "B-KEY"],
    ...["B-MEMBER", "B-ROLL", "B-ROLL-02", "B-ROLL-03", "B-WIPE", "C-COLL-02", "C-STOR-03", "D-KEY-01", "D-PAIR-01", "D-PAIR-02", "D-PAIR-03"],
    ...["D-REC-01", "D-REV-01", "D-REV-02", "D-REV-03", "D-REV-04", "D-REV-05", "H-HONEST"],
  ];
  assert.deepEqual(rows.filter((row) => !defects.some((one) => one.row === row)), []);
  const documented = readFileSync(join(root, "docs/CHAOS.md"), "utf8");
  const lines = defects.map(({ row, test, defect, file }) => `| ${row} | \`${test}\` | ${defect} | ${file ? `\`${file}\`` : ""} |`);
  assert.deepEqual(lines.filter((line) => !documented.includes(`${line}\n`)), []);
  const named = defects.map(({ test }) => test.split("::")).map(([module, name]) => ({ module, name }));
  assert.deepEqual(named.filter((one) => !exists(one)), []);
});

test("each check that a planted defect takes out stands in its file, once", () => {
  const places = defects.filter(({ file }) => file).map(({ file, check }) => [check, readFileSync(join(root, file), "utf8").split(check).length - 1]);
  assert.ok(places.length > 25, `${places.length} checks`);
  assert.deepEqual(places.filter(([, times]) => times !== 1), []);
});
