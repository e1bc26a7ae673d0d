// Runs a program in the foreground until it ends. It is in a process group of its own, so that a
// signal reaches it once, through us, whoever sends it: the terminal to all of its foreground group,
// npm to a shell, `kill` to this process alone. We go when it has gone, and not before.

import { spawn } from "node:child_process";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];
/** How often to look whether npm is still there. */
const PARENT_EVERY_MS = 100;

/**
 * Ends with the program's exit code.
 *
 * @param {string} program
 * @param {string[]} args
 * @returns {Promise<number>}
 */
export function serve(program, args) {
  const child = spawn(program, args, { stdio: "inherit", detached: process.platform !== "win32" });
  // A second signal ends it at once.
  const stop = () => child.kill("SIGTERM");
  for (const signal of SIGNALS) process.on(signal, stop);
  // npm, told to stop, ends the shell between it and us, and we hear nothing of it.
  const parent = process.ppid;
  const orphaned = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(orphaned);
    stop();
  }, PARENT_EVERY_MS);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code ?? 1));
  }).finally(() => {
    clearInterval(orphaned);
    for (const signal of SIGNALS) process.off(signal, stop);
  });
}
