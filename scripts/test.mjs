// npm test: sets itself up, runs every check and test there is, and ends with `N passed, N failed`.

import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

import { buildClient, buildDemo } from "./lib/build.mjs";
import { countCargoTest, countNodeTest } from "./lib/counts.mjs";
import { root, target } from "./lib/paths.mjs";
import { runSteps } from "./lib/report.mjs";
import { MissingRequirement, offerContainers, requireNode, requireNpmPackages, requireRust, requireTestPrograms } from "./lib/requirements.mjs";
import { ask, npm, run } from "./lib/run.mjs";

/** Repeats the failed tests at the end, where they are looked for. */
const REPORTER = "--test-reporter=spec";
const WASM = ["--target", "wasm32-unknown-unknown"];

/** In the order in which the work of one is of use to the next. */
const STEPS = [
  { name: "Rust format", run: command("cargo", "fmt", "--all", "--check", "--", "--color", "never") },
  {
    name: "Rust lints",
    run: command("cargo", "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"),
  },
  {
    name: "Rust lints for wasm",
    run: command("cargo", "clippy", "--locked", "-p", "zerok-sync-protocol", "-p", "zerok-sync-core", "-p", "zerok-sync-wasm", ...WASM, "--", "-D", "warnings"),
  },
  {
    // With the very features that `cargo test` selects, so that nothing is compiled twice.
    name: "Build of the Rust programs and tests",
    run: command("cargo", "build", "--locked", "--workspace", "--bins", "--tests"),
  },
  {
    name: "Rust tests",
    run: command("cargo", "test", "--locked", "--workspace", "--no-fail-fast"),
    count: countCargoTest,
  },
  { name: "Build of the browser package", run: buildClient },
  { name: "Build of the demo", run: buildDemo },
  { name: "TypeScript of the browser package", run: typecheck("client-wasm") },
  { name: "TypeScript of the demo", run: typecheck("web-demo") },
  { name: "Browser package tests", run: npmTest("client-wasm"), count: countNodeTest },
  { name: "Demo tests", run: npmTest("web-demo"), count: countNodeTest },
  { name: "Repository tests", run: nodeTest("tests"), count: countNodeTest },
  { name: "End-to-end tests", run: nodeTest("tests/e2e"), count: countNodeTest },
  ...(ask("cargo", "deny", "--version") ? [{ name: "cargo deny", run: cargoDeny }] : []),
];

function command(...words) {
  return ({ log }) => run(words, { log });
}

function typecheck(folder) {
  return command(process.execPath, join(root, "node_modules", "typescript", "bin", "tsc"), "--strict", "--noEmit", "-p", folder);
}

function npmTest(workspace) {
  return ({ log }) => run([...npm, "run", "--silent", "test", "-w", workspace], { log, env: { NODE_OPTIONS: REPORTER } });
}

/** The test files of one folder, one after the other: they start browsers and relays. */
function nodeTest(folder) {
  const files = readdirSync(join(root, folder)).filter((name) => name.endsWith(".test.mjs"));
  return command(process.execPath, "--test", REPORTER, "--test-concurrency=1", ...files.map((name) => join(folder, name)));
}

/** Known vulnerabilities are looked up only where the list of them can be had. */
async function cargoDeny({ log }) {
  const { ok } = await run(["cargo", "deny", "fetch", "db"], { log });
  const checks = ok ? ["advisories", "bans", "licenses", "sources"] : ["bans", "licenses", "sources"];
  return run(["cargo", "deny", "--locked", "check", ...checks], { log });
}

async function setUp() {
  const log = join(target, "test-setup.log");
  mkdirSync(target, { recursive: true });
  rmSync(log, { force: true });
  const say = (text) => console.log(`▸ ${text}`);
  requireNode();
  await requireRust({ log, say });
  await requireNpmPackages({ log, say });
  await requireTestPrograms({ log, say });
  await offerContainers({ log, say });
}

let failed = 1;
try {
  await setUp();
  const total = await runSteps(STEPS);
  failed = total.failed;
  console.log(`\n${total.passed} passed, ${total.failed} failed`);
} catch (error) {
  if (!(error instanceof MissingRequirement)) throw error;
  console.error(`✗ ${error.message}`);
  console.log("\n0 passed, 1 failed");
}
process.exitCode = failed === 0 ? 0 : 1;
