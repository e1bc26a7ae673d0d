// Builds the npm package into dist/: Rust to wasm, glue, wasm-opt, TypeScript. Needs rustup's Rust
// and this workspace's npm packages, nothing else. A step whose inputs did not change is skipped.
//
//   node scripts/build.mjs             the package
//   node scripts/build.mjs --vectors   a test build with the recorded vectors inside, in generated/vectors/

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const TARGET = "wasm32-unknown-unknown";
const NAME = "zerok_sync_wasm";

/** What rustc switches on for this target by default; wasm-opt has to be told. */
const WASM_FEATURES = [
  "--enable-bulk-memory",
  "--enable-multivalue",
  "--enable-mutable-globals",
  "--enable-nontrapping-float-to-int",
  "--enable-reference-types",
  "--enable-sign-ext",
];

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const workspace = dirname(here);
const generated = join(here, "generated");
const dist = join(here, "dist");
const stamps = join(generated, "stamps.json");

/** Runs a program and returns its standard output; ends the build if it fails. */
function run(program, args, options = {}) {
  const { status, error, stdout } = spawnSync(program, args, {
    cwd: workspace,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
    stdio: ["ignore", "pipe", "inherit"],
    ...options,
  });
  if (error) stop(`could not run ${program}: ${error.message}`);
  if (status !== 0) {
    if (stdout) process.stderr.write(stdout);
    stop(`${program} ${args[0]} failed`);
  }
  return stdout;
}

function stop(sentence) {
  console.error(`build of @0k-sync/client: ${sentence}`);
  process.exit(1);
}

/** Path of a program that an npm package ships, wherever npm put the package. */
function npmBin(packageName, bin) {
  let path;
  try {
    path = createRequire(import.meta.url).resolve(`${packageName}/package.json`);
  } catch {
    stop(`the npm package ${packageName} is not installed; run \`npm install\` in ${workspace}`);
  }
  const { bin: bins } = JSON.parse(readFileSync(path, "utf8"));
  return join(dirname(path), typeof bins === "string" ? bins : bins[bin]);
}

function hash(...parts) {
  const sum = createHash("sha256");
  for (const part of parts) sum.update(part).update("\0");
  return sum.digest("hex");
}

/** Runs `step` unless it ran before with the same inputs and its outputs are still there. */
function unlessDone(name, inputs, outputs, step) {
  const done = existsSync(stamps) ? JSON.parse(readFileSync(stamps, "utf8")) : {};
  if (done[name] === inputs && outputs.every((path) => existsSync(path))) return;
  delete done[name];
  mkdirSync(generated, { recursive: true });
  writeFileSync(stamps, JSON.stringify(done));
  step();
  writeFileSync(stamps, JSON.stringify({ ...done, [name]: inputs }));
}

function ensureTarget() {
  const library = run("rustc", ["--print", "target-libdir", "--target", TARGET]).trim();
  if (existsSync(library)) return;
  if (spawnSync("rustup", ["--version"]).error) {
    stop(`Rust's target ${TARGET} is missing and there is no rustup to add it; install it with your Rust's package manager`);
  }
  run("rustup", ["target", "add", TARGET]);
}

/** Compiles with Cargo and returns the path of the one artifact named `file`. */
function cargoBuild(args, file) {
  const messages = run("cargo", ["build", "--message-format=json-render-diagnostics", ...args]);
  const path = messages
    .split("\n")
    .filter((line) => line.startsWith('{"reason":"compiler-artifact"'))
    .flatMap((line) => JSON.parse(line).filenames)
    .find((name) => name.endsWith(file));
  return path ?? stop(`cargo built no ${file}`);
}

/** Compiles the crate and writes its glue to `directory`. */
function compile(profile, features, directory) {
  const wasm = cargoBuild(
    ["--profile", profile, "--target", TARGET, "--package", "zerok-sync-wasm", ...features],
    `${NAME}.wasm`,
  );
  const lock = readFileSync(join(workspace, "Cargo.lock"), "utf8");
  const bindgenVersion = /name = "wasm-bindgen-cli-support"\nversion = "(.*)"/.exec(lock)?.[1] ?? "";
  const inputs = hash(readFileSync(wasm), bindgenVersion, readFileSync(join(here, "bindgen/src/main.rs")));
  const outputs = [join(directory, `${NAME}.js`), join(directory, `${NAME}_bg.wasm`)];
  unlessDone(`bindgen ${directory}`, inputs, outputs, () => {
    const tool = cargoBuild(["--package", "zerok-sync-wasm-bindgen"], `zerok-sync-wasm-bindgen${process.platform === "win32" ? ".exe" : ""}`);
    run(tool, [wasm, directory]);
  });
}

function optimise() {
  const input = join(generated, `${NAME}_bg.wasm`);
  const output = join(dist, `${NAME}_bg.wasm`);
  const wasmOpt = npmBin("binaryen", "wasm-opt");
  const flags = ["-Os", "--strip-debug", "--strip-producers", "--strip-target-features", ...WASM_FEATURES];
  unlessDone("wasm-opt", hash(readFileSync(input), ...flags, wasmOpt), [output], () => {
    mkdirSync(dist, { recursive: true });
    run(process.execPath, [wasmOpt, input, "-o", output, ...flags]);
  });
}

function typescript() {
  const sources = readdirSync(join(here, "ts")).sort().map((name) => join(here, "ts", name));
  const glue = [join(generated, `${NAME}.js`), join(generated, `${NAME}.d.ts`)];
  const inputs = hash(...[...sources, ...glue, join(here, "tsconfig.json")].flatMap((path) => [path, readFileSync(path)]));
  unlessDone("tsc", inputs, [join(dist, "index.js"), join(dist, "index.d.ts")], () => {
    for (const name of existsSync(dist) ? readdirSync(dist) : []) {
      if (!name.endsWith(".wasm")) rmSync(join(dist, name));
    }
    run(process.execPath, [npmBin("typescript", "tsc"), "-p", here]);
    // Its types are for this build only: no type of the package mentions them.
    cpSync(join(generated, `${NAME}.js`), join(dist, `${NAME}.js`));
  });
}

function report() {
  const files = readdirSync(dist).filter((name) => /\.(js|wasm)$/.test(name));
  const size = (names) => {
    const bytes = names.map((name) => readFileSync(join(dist, name)));
    const kib = (sum) => `${(sum / 1024).toFixed(1)} KiB`;
    const total = (list) => list.reduce((sum, { length }) => sum + length, 0);
    return `${kib(total(bytes))}, ${kib(total(bytes.map((file) => gzipSync(file, { level: 9 }))))} gzipped`;
  };
  console.log(`@0k-sync/client: wasm ${size(files.filter((name) => name.endsWith(".wasm")))}`);
  console.log(`@0k-sync/client: JavaScript ${size(files.filter((name) => name.endsWith(".js")))}`);
}

ensureTarget();
if (process.argv.includes("--vectors")) {
  compile("wasm", ["--features", "vectors"], join(generated, "vectors"));
} else {
  compile("wasm", [], generated);
  optimise();
  typescript();
  report();
}
