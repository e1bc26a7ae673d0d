// A device at a terminal: the real `zerok`, with a home directory of its own.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { cargoBin } from "../../../client-wasm/test/support/relay.mjs";

/** Longest that one command may take on a busy machine. */
const COMMAND_MS_MAX = 60_000;

/** Makes homes in one directory, removed by `remove()`. */
export function makeTerminal() {
  const directory = mkdtempSync(join(tmpdir(), "zerok-e2e-"));
  const started = new Set();

  function start(home, args) {
    const child = spawn(cargoBin("zerok"), ["--home", join(directory, home), ...args], { stdio: ["ignore", "pipe", "pipe"] });
    started.add(child);
    const output = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"]) child[name].on("data", (chunk) => (output[name] += chunk));
    const exited = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => {
        started.delete(child);
        resolve({ code: code ?? signal, ...output });
      });
    });
    return { child, exited };
  }

  /** Runs a command to its end; answers what it printed, throws if it did not end well. */
  async function run(home, ...args) {
    const { child, exited } = start(home, args);
    const timer = setTimeout(() => child.kill("SIGKILL"), COMMAND_MS_MAX);
    const { code, stdout, stderr } = await exited;
    clearTimeout(timer);
    if (code !== 0) throw new Error(`zerok ${args.join(" ")} ended with ${code}:\n${stderr}`);
    return stdout;
  }

  return {
    run,

    /** Joins: answers the digits that it shows, and its end. */
    join(home, ...args) {
      const { child, exited } = start(home, ["join", ...args]);
      const digits = new Promise((resolve, reject) => {
        createInterface({ input: child.stderr }).on("line", (line) => {
          const shown = /shows (\d\d)/.exec(line);
          if (shown) resolve(shown[1]);
        });
        void exited.then(({ stderr }) => reject(new Error(`zerok join showed no digits:\n${stderr}`)));
      });
      const end = exited.then(({ code, stderr }) => {
        if (code !== 0) throw new Error(`zerok join ended with ${code}:\n${stderr}`);
      });
      for (const promise of [digits, end]) promise.catch(() => {});
      return { digits, end };
    },

    /** Starts a command that prints something and goes on: answers its first line and its end. */
    async begin(home, ...args) {
      const { child, exited } = start(home, args);
      const lines = createInterface({ input: child.stdout });
      const first = new Promise((resolve, reject) => {
        lines.once("line", resolve);
        lines.once("close", async () => reject(new Error(`zerok ${args.join(" ")} printed nothing:\n${(await exited).stderr}`)));
      });
      const end = exited.then(({ code, stderr }) => {
        if (code !== 0) throw new Error(`zerok ${args.join(" ")} ended with ${code}:\n${stderr}`);
      });
      // Looked at by whoever waits for `end`; until then it is not an unhandled rejection.
      end.catch(() => {});
      return { first: await first, end };
    },

    /** Follows a group's entries: `waitFor(text)` resolves once an entry with that text was printed. */
    follow(home) {
      const { child, exited } = start(home, ["--json", "pull", "--follow"]);
      const texts = [];
      const waiting = new Set();
      createInterface({ input: child.stdout }).on("line", (line) => {
        texts.push(JSON.parse(line).text);
        for (const look of waiting) look();
      });
      return {
        texts,
        waitFor(wanted) {
          return new Promise((resolve, reject) => {
            const look = () => {
              if (!texts.some((text) => text?.includes(wanted))) return;
              waiting.delete(look);
              resolve();
            };
            waiting.add(look);
            look();
            void exited.then(({ stderr }) => reject(new Error(`zerok pull --follow ended:\n${stderr}`)));
          });
        },
        async stop() {
          child.kill("SIGINT");
          await exited;
        },
      };
    },

    async remove() {
      for (const child of started) child.kill("SIGKILL");
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
