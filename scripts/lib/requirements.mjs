// What the two commands need on the machine: brought along where that is possible, otherwise named
// in one sentence that says what to do.

import { createHash } from "node:crypto";
import { accessSync, constants, existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";

import { canInstall, install } from "./apt.mjs";
import { root } from "./paths.mjs";
import { ask, npm, run } from "./run.mjs";

const NODE_MAJOR_MIN = 20;
const POSTGRES_MAJOR_MIN = 15;
const WASM_TARGET = "wasm32-unknown-unknown";
/** Where Debian has programs of the system, which are not on everybody's PATH. */
const SYSTEM_FOLDERS = ["/usr/sbin", "/sbin"];
const CONTAINER_PROGRAMS = ["podman", "runc"];
const CHROMIUM_NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** Something is missing that we cannot bring along. The message says what to do. */
export class MissingRequirement extends Error {}

/** Node.js, before anything else is asked of it. */
export function requireNode() {
  if (Number(process.versions.node.split(".")[0]) >= NODE_MAJOR_MIN) return;
  throw new MissingRequirement(
    `Node.js ${process.versions.node} is too old: install version ${NODE_MAJOR_MIN} or later from https://nodejs.org.`,
  );
}

/** Rust, with a linker, and its wasm target. */
export async function requireRust({ log, say }) {
  if (!ask("cargo", "--version")) {
    throw new MissingRequirement("Rust is not installed: install it from https://rustup.rs and open a new terminal.");
  }
  if (process.platform !== "win32" && !ask("cc", "--version")) {
    throw new MissingRequirement("There is no C compiler: install one (Debian: apt-get install gcc libc6-dev, macOS: xcode-select --install).");
  }
  const installed = ask("rustc", "--print", "target-libdir", "--target", WASM_TARGET);
  if (installed && existsSync(installed)) return;
  say(`adding Rust's target ${WASM_TARGET}`);
  const { ok } = await run(["rustup", "target", "add", WASM_TARGET], { log });
  if (!ok) {
    throw new MissingRequirement(
      `Rust's target ${WASM_TARGET} is missing and could not be added: run \`rustup target add ${WASM_TARGET}\` while online.`,
    );
  }
}

/** The npm packages of the lockfile. */
export async function requireNpmPackages({ log, say }) {
  const stamp = join(root, "node_modules", ".zerok-sync-installed");
  const wanted = lockHash();
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  say("installing npm packages");
  // None of the packages needs its install script, so none gets to run one.
  const { ok } = await run([...npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], { log });
  if (!ok) throw new MissingRequirement("The npm packages could not be installed: run `npm ci` while online to see why.");
  writeFileSync(stamp, wanted);
}

/** A browser for the browser tests and PostgreSQL for the relay's. */
export async function requireTestPrograms({ log, say }) {
  const missing = () => [
    ...(hasChromium() ? [] : ["chromium"]),
    ...(hasPostgres() ? [] : ["postgresql"]),
  ];
  if (missing().length > 0 && canInstall()) {
    say(`installing ${missing().join(" and ")}`);
    await install(missing(), log);
  }
  if (missing().length > 0) {
    const names = { chromium: "Chromium", postgresql: `PostgreSQL ${POSTGRES_MAJOR_MIN} or later` };
    const list = missing().map((name) => names[name]).join(" and ");
    throw new MissingRequirement(`The tests need ${list}: install it (Debian: sudo apt-get install ${missing().join(" ")}) and try again.`);
  }
}

/** Containers for the test of the image. Where they cannot be had, that test says so and is skipped. */
export async function offerContainers({ log, say }) {
  if (process.platform !== "linux" || CONTAINER_PROGRAMS.every(hasProgram)) return;
  if (canInstall()) {
    say(`installing ${CONTAINER_PROGRAMS.join(" and ")}`);
    await install(CONTAINER_PROGRAMS, log);
  }
  if (!hasProgram("podman")) {
    say("podman is missing: the container image will NOT be tested (Debian: sudo apt-get install podman runc)");
  }
}

function hasChromium() {
  return CHROMIUM_NAMES.some(hasProgram);
}

function hasProgram(name) {
  const folders = [...(process.env.PATH ?? "").split(delimiter), ...SYSTEM_FOLDERS];
  return folders.some((folder) => isProgram(join(folder, name)));
}

function hasPostgres() {
  const versions = "/usr/lib/postgresql";
  const folders = [
    ...(process.env.PATH ?? "").split(delimiter),
    ...(existsSync(versions) ? readdirSync(versions).map((version) => join(versions, version, "bin")) : []),
  ];
  return folders.some((folder) => {
    const initdb = join(folder, "initdb");
    const version = isProgram(initdb) && /\d+/.exec(ask(initdb, "--version") ?? "")?.[0];
    return version && Number(version) >= POSTGRES_MAJOR_MIN;
  });
}

function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function lockHash() {
  const sum = createHash("sha256");
  for (const name of ["package.json", "package-lock.json", "client-wasm/package.json", "web-demo/package.json"]) {
    sum.update(readFileSync(join(root, name))).update("\0");
  }
  return sum.digest("hex");
}
