// Runs steps one after the other, says how each went, and adds up.

import { mkdirSync, rmSync } from "node:fs";
import { join, relative } from "node:path";

import { logs, root } from "./paths.mjs";

/** Lines of a failed step's log that are shown at once. */
const TAIL_LINES = 80;

/**
 * A step counts as one test, unless it has a `count` that reads a test runner's closing lines.
 *
 * @typedef {object} Step
 * @property {string} name
 * @property {(options: { log: string }) => Promise<{ ok: boolean, output: string }>} run
 * @property {(output: string) => { passed: number, failed: number }} [count]
 */

/** Runs all steps, whatever becomes of the earlier ones; answers the sums. */
export async function runSteps(steps) {
  rmSync(logs, { recursive: true, force: true });
  mkdirSync(logs, { recursive: true });
  const total = { passed: 0, failed: 0 };
  for (const [index, step] of steps.entries()) {
    const slug = step.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
    const log = join(logs, `${String(index + 1).padStart(2, "0")}-${slug}.log`);
    const { passed, failed } = await runStep(step, log);
    total.passed += passed;
    total.failed += failed;
  }
  return total;
}

async function runStep(step, log) {
  process.stdout.write(`▸ ${step.name} … `);
  const started = performance.now();
  const { ok, output } = await step.run({ log });
  const counts = judge(step, ok, output);
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  const mark = counts.failed === 0 ? "ok" : "FAILED";
  const detail = step.count ? `${counts.passed} passed, ${counts.failed} failed, ` : "";
  console.log(`${mark} (${detail}${seconds} s)${counts.note ? ` ${counts.note}` : ""}`);
  if (counts.failed > 0) {
    const tail = output.trimEnd().split("\n").slice(-TAIL_LINES);
    console.log(tail.map((line) => `    ${line}`).join("\n"));
    console.log(`    whole log: ${relative(root, log)}`);
  }
  return counts;
}

/** A runner that ran nothing, or failed without saying that a test did, is a failure too. */
export function judge(step, ok, output) {
  if (!step.count) return { passed: ok ? 1 : 0, failed: ok ? 0 : 1 };
  const { passed, failed } = step.count(output);
  if (passed + failed === 0) return { passed, failed: 1, note: "it ran no test" };
  if (!ok && failed === 0) return { passed, failed: 1, note: "its runner failed" };
  return { passed, failed };
}
