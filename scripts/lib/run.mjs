// Runs other programs.

import { spawn, spawnSync } from "node:child_process";
import { createWriteStream } from "node:fs";
import { finished } from "node:stream/promises";

import { root } from "./paths.mjs";

/** How to call npm: the very npm that called us, where there is one. */
export const npm = process.env.npm_execpath
  ? [process.execPath, process.env.npm_execpath]
  : [process.platform === "win32" ? "npm.cmd" : "npm"];

/** A log file has no colours. */
const PLAIN = { CARGO_TERM_COLOR: "never", NO_COLOR: "1" };

/**
 * Runs a program to its end.
 *
 * @param {string[]} command the program and its arguments
 * @param {object} options
 * @param {string} [options.log] file that gets the output; without one it goes to the terminal
 * @param {Record<string, string>} [options.env] additions to the environment
 * @returns {Promise<{ ok: boolean, output: string }>} `output` is empty where it went to the terminal
 */
export async function run(command, { log, env = {} } = {}) {
  const [program, ...args] = command;
  const child = spawn(program, args, {
    cwd: root,
    env: { ...process.env, ...(log && PLAIN), ...env },
    stdio: ["ignore", log ? "pipe" : "inherit", log ? "pipe" : "inherit"],
  });
  const chunks = [];
  const file = log && createWriteStream(log, { flags: "a" });
  file?.write(`$ ${command.join(" ")}\n`);
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk) => {
      chunks.push(chunk);
      file.write(chunk);
    });
  }
  const code = await new Promise((resolve) => {
    child.once("error", (error) => {
      const text = `could not run ${program}: ${error.message}\n`;
      if (file) file.write(text);
      else process.stderr.write(text);
      chunks.push(Buffer.from(text));
      resolve(-1);
    });
    child.once("close", (status) => resolve(status ?? -1));
  });
  if (file) await finished(file.end());
  return { ok: code === 0, output: Buffer.concat(chunks).toString("utf8") };
}

/** What a program prints, or `undefined` where it is missing or fails. */
export function ask(program, ...args) {
  const { status, stdout } = spawnSync(program, args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  return status === 0 ? stdout.trim() : undefined;
}
