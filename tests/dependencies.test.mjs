// What may be depended upon, and by whom.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { foreign, tree } from "./lib/metadata.mjs";
import { isBefore, isLicensed, readPolicy } from "./lib/policy.mjs";
import { root } from "./lib/root.mjs";

const policy = readPolicy(join(root, "deny.toml"));
const named = (crates) => crates.map(({ name, version }) => `${name} ${version}`);

/** Crates that talk to the world, or ask it for the time or for randomness. */
const IO_CRATES = [
  "async-std", "axum", "curl", "gloo", "gloo-net", "gloo-timers", "hyper", "instant", "iroh", "mio", "polling", "postgres", "quinn",
  "redb", "reqwest", "rusqlite", "libsqlite3-sys", "rustls", "smol", "socket2", "tempfile", "tokio", "tokio-postgres",
  "tokio-tungstenite", "tungstenite", "wasm-bindgen", "web-sys", "web-time",
];

test("the policy's lists are read", () => {
  assert.ok(policy.licences.has("MIT"));
  assert.ok(policy.banned.has("openssl"));
  assert.equal(policy.lowest.get("snow"), "0.10");
  assert.equal(policy.registries.size, 1);
  assert.ok(foreign.length > 100);
});

test("every crate has an allowed licence", () => {
  const refused = foreign.filter(({ license }) => license === null || !isLicensed(license, policy.licences));
  assert.deepEqual(refused.map(({ name, version, license }) => `${name} ${version}: ${license}`), []);
});

test("no crate is banned", () => {
  const banned = foreign.filter(({ name }) => policy.banned.has(name) || name.startsWith("pqcrypto"));
  assert.deepEqual(named(banned), []);
});

test("no crate is older than its first sound release", () => {
  const old = foreign.filter(({ name, version }) => isBefore(version, policy.lowest.get(name) ?? "0"));
  assert.deepEqual(named(old), []);
  for (const name of policy.lowest.keys()) assert.ok(foreign.some((crate) => crate.name === name), `${name} is a dependency`);
});

test("every crate comes from crates.io", () => {
  const elsewhere = foreign.filter(({ source }) => !policy.registries.has(source.replace(/^registry\+/, "")));
  assert.deepEqual(elsewhere.map(({ name, source }) => `${name} from ${source}`), []);
});

test("the relay cannot decrypt: the client core is not in its binary", () => {
  const crates = tree("zerok-sync-relay", "all");
  assert.ok(crates.has("zerok-sync-protocol"));
  assert.ok(!crates.has("zerok-sync-core"));
  assert.ok(!crates.has("zerok-sync"));
  assert.ok(tree("zerok-sync", "all").has("zerok-sync-core"), "the check would see it");
});

test("an app that embeds the library gets no relay with it", () => {
  const crates = tree("zerok-sync", "all", "--no-default-features");
  assert.ok(crates.has("zerok-sync-core"));
  assert.ok(!crates.has("zerok-sync-relay") && !crates.has("axum") && !crates.has("clap"));
  assert.ok(tree("zerok-sync", "all").has("zerok-sync-relay"), "the check would see it");
});

for (const member of ["zerok-sync-protocol", "zerok-sync-core"]) {
  test(`${member} does no I/O`, () => {
    const crates = tree(member, "all");
    assert.deepEqual(IO_CRATES.filter((name) => crates.has(name)), []);
  });
}

test("every npm package has an allowed licence, a hash, and no address of its own", () => {
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  const installed = Object.entries(packages).filter(([path, { link }]) => path.includes("node_modules/") && !link);
  assert.ok(installed.length > 5);
  for (const [path, { license, integrity, resolved }] of installed) {
    assert.ok(license !== undefined && isLicensed(license, policy.licences), `${path} has the licence ${license}`);
    assert.match(integrity ?? "", /^sha512-/, `${path} has no hash`);
    assert.equal(resolved, undefined, `${path} names a download address`);
  }
});

test("licence expressions are understood", () => {
  const allowed = new Set(["MIT", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"]);
  for (const good of ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(MIT OR GPL-2.0) AND Unicode-3.0", "Apache-2.0 WITH LLVM-exception"]) {
    assert.ok(isLicensed(good, allowed), good);
  }
  for (const bad of ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "(MIT OR GPL-2.0) AND GPL-2.0", "MIT OR"]) {
    assert.ok(!isLicensed(bad, allowed), bad);
  }
});

test("versions are compared by their numbers", () => {
  assert.ok(isBefore("0.9.6", "0.10"));
  assert.ok(isBefore("1.11.0", "1.11.1"));
  assert.ok(!isBefore("0.10.0", "0.10"));
  assert.ok(!isBefore("0.10.0-beta.1", "0.10"));
  assert.ok(!isBefore("2.0.0", "1.11.1"));
});
