// The real relay binary, on a port and in a directory of its own.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const workspace = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));
const target = process.env.CARGO_TARGET_DIR ?? join(workspace, "target");
const READY = /^ready (?<url>http:\/\/\S+) key=(?<key>[0-9a-f]{64}) iroh=(?<iroh>\S+)/;

/** Path of a program that Cargo built, by default for debugging. */
export function cargoBin(name, profile = "debug") {
  const path = join(target, profile, process.platform === "win32" ? `${name}.exe` : name);
  if (!existsSync(path)) throw new Error(`${path} is missing: build it with \`cargo build --bin ${name}\` (or \`--release\`)`);
  return path;
}

/**
 * Starts a relay and resolves once it says it is ready.
 *
 * @param {object} options
 * @param {string} [options.webRoot] what it serves at `/`
 * @param {string} [options.listen] default: any free port of this machine
 * @param {string} [options.dataDir] default: a new one, removed by `stop()`; give one to restart on it
 * @param {string[]} [options.arguments] further arguments
 * @param {string} [options.profile] the build that is measured; see `cargoBin`
 */
export async function startRelay({ webRoot, listen = "127.0.0.1:0", dataDir, arguments: more = [], profile } = {}) {
  const directory = dataDir ?? mkdtempSync(join(tmpdir(), "zerok-relay-"));
  const web = webRoot === undefined ? [] : ["--web-root", webRoot];
  const child = spawn(cargoBin("zerok-relay", profile), ["--listen", listen, "--data-dir", directory, ...web, ...more], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let errors = "";
  child.stderr.on("data", (text) => (errors = (errors + text).slice(-10_000)));
  const exited = new Promise((resolve) => child.once("exit", resolve));

  const ready = new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const { groups } = READY.exec(line) ?? {};
      if (groups !== undefined) resolve(groups);
    });
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the relay ended with ${code} before it was ready:\n${errors}`)));
  });
  const { url, key, iroh } = await ready;

  return {
    url,
    key,
    iroh,
    dataDir: directory,
    /** What it wrote to standard error, the latest of it. */
    log: () => errors,
    /** Ends it, by default politely. */
    async stop(signal = "SIGTERM") {
      child.kill(signal);
      await exited;
      if (dataDir === undefined) rmSync(directory, { recursive: true, force: true });
    },
  };
}
