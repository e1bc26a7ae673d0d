// The lists of deny.toml, and what they mean: the part of cargo-deny that has to hold everywhere.

import { readFileSync } from "node:fs";

/** Reads the lists. Knows only the form in which deny.toml is written: one item a line. */
export function readPolicy(path) {
  const text = readFileSync(path, "utf8");
  const list = (name) => {
    const body = new RegExp(`^${name} = \\[(.*?)\\]`, "ms").exec(text)?.[1];
    if (body === undefined) throw new Error(`deny.toml has no list "${name}"`);
    return body.replaceAll(/#.*$/gm, "");
  };
  const strings = (name) => [...list(name).matchAll(/"([^"]+)"/g)].map(([, item]) => item);
  const denied = [...list("deny").matchAll(/crate = "([^":]+)(?::<([\d.]+))?"/g)];
  return {
    licences: new Set(strings("allow")),
    registries: new Set(strings("allow-registry")),
    banned: new Set(denied.filter(([, , below]) => below === undefined).map(([, name]) => name)),
    lowest: new Map(denied.filter(([, , below]) => below !== undefined).map(([, name, below]) => [name, below])),
  };
}

/** Whether an SPDX expression can be satisfied with allowed licences only. */
export function isLicensed(expression, allowed) {
  // Older manifests write "MIT/Apache-2.0" for OR.
  const tokens = expression.replaceAll("/", " OR ").match(/\(|\)|[^\s()]+/g) ?? [];
  let at = 0;
  const either = () => {
    let ok = both();
    while (tokens[at] === "OR") {
      at += 1;
      ok = both() || ok;
    }
    return ok;
  };
  const both = () => {
    let ok = one();
    while (tokens[at] === "AND") {
      at += 1;
      ok = one() && ok;
    }
    return ok;
  };
  const one = () => {
    if (tokens[at] === "(") {
      at += 1;
      const ok = either();
      at += 1;
      return ok;
    }
    let name = tokens[at++];
    if (tokens[at] === "WITH") {
      name = `${name} WITH ${tokens[at + 1]}`;
      at += 2;
    }
    return allowed.has(name);
  };
  return either() && at === tokens.length;
}

/** Whether a version comes before another, by its numbers; a pre-release counts as its release. */
export function isBefore(version, other) {
  const numbers = (text) => text.split(/[-+]/)[0].split(".").map(Number);
  const [left, right] = [numbers(version), numbers(other)];
  for (let at = 0; at < 3; at++) {
    const difference = (left[at] ?? 0) - (right[at] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}
