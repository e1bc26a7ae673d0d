// Cargo's view of the workspace and of everything it depends on.

import { execFileSync } from "node:child_process";

import { root } from "./root.mjs";

const cargo = (...args) => execFileSync("cargo", args, { cwd: root, encoding: "utf8", maxBuffer: 256 * 1024 * 1024, stdio: ["ignore", "pipe", "ignore"] });

/** `cargo metadata` of the locked graph. */
export const metadata = JSON.parse(cargo("metadata", "--locked", "--format-version", "1"));

/** Packages of other people. */
export const foreign = metadata.packages.filter(({ source }) => source !== null);

/** Names of all crates in the tree of one workspace member, without its dev-dependencies; by default with all features. */
export function tree(member, target, features = "--all-features") {
  const lines = cargo("tree", "--locked", "-p", member, "-e", "normal,build", "--target", target, features, "--prefix", "none", "--format", "{p}");
  return new Set(lines.split("\n").filter(Boolean).map((line) => line.split(" ")[0]));
}
