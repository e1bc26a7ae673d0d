// What must not be in a committed file.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { lstatSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { root } from "./lib/root.mjs";

const committed = execFileSync("git", ["ls-files", "-z"], { cwd: root, encoding: "utf8" }).split("\0").filter(Boolean);

/** Committed text files as they are in the work tree. */
const texts = committed
  .map((path) => ({ path, file: join(root, path) }))
  .filter(({ file }) => lstatSync(file, { throwIfNoEntry: false })?.isFile())
  .map(({ path, file }) => ({ path, text: readFileSync(file) }))
  .filter(({ text }) => !text.includes(0))
  .map(({ path, text }) => ({ path, text: text.toString("utf8") }));

/** Folders that exist on somebody's machine only. */
const MACHINE_PATHS = ["/root", "/home/[a-z]", "/Users/[A-Za-z]", "/work", String.raw`[A-Z]:\\Users`].map(
  (path) => new RegExp(String.raw`(?<![\w.}\-])${path}(?:/|\b)`),
);

function offenders(patterns) {
  return texts.flatMap(({ path, text }) =>
    text.split("\n").flatMap((line, index) => (patterns.some((pattern) => pattern.test(line)) ? [`${path}:${index + 1}: ${line.trim().slice(0, 120)}`] : [])),
  );
}

test("there are committed files to look at", () => {
  assert.ok(texts.some(({ path }) => path === "Cargo.lock"));
  assert.ok(texts.some(({ path }) => path === "package-lock.json"));
});

test("no committed file names a path of somebody's machine", () => {
  const here = new RegExp(root.replace(/\/$/, "").replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&") + "(?![\\w-])");
  // A checkout in / or /app says nothing by itself.
  const patterns = root.split("/").filter(Boolean).length > 1 ? [...MACHINE_PATHS, here] : MACHINE_PATHS;
  assert.deepEqual(offenders(patterns).filter((line) => !line.startsWith("tests/repository.test.mjs:")), []);
});

test("the lockfiles name no registry but the public ones", () => {
  const lockfiles = texts.filter(({ path }) => /(?:^|\/)(?:Cargo\.lock|package-lock\.json)$/.test(path));
  const hosts = lockfiles.flatMap(({ path, text }) => [...text.matchAll(/https?:\/\/[^/"\s]+(?:\/[^"\s#]*)?/g)].map(([url]) => ({ path, url })));
  const isPublic = ({ path, url }) =>
    path.endsWith("Cargo.lock") ? url === "https://github.com/rust-lang/crates.io-index" : isAboutFunding(url);
  assert.deepEqual(hosts.filter((host) => !isPublic(host)), []);
});

test("nothing that is built is committed", () => {
  assert.deepEqual(committed.filter((path) => /(?:^|\/)(?:target|node_modules|dist)\//.test(path) || path.endsWith(".wasm")), []);
});

/** package-lock.json repeats where a package's authors take donations. */
function isAboutFunding(url) {
  const { packages } = JSON.parse(texts.find(({ path }) => path === "package-lock.json").text);
  const funding = Object.values(packages).flatMap(({ funding: entry }) => [entry ?? []].flat());
  return funding.some((entry) => (typeof entry === "string" ? entry : entry.url) === url);
}
