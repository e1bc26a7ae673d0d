// How the parts are built. Each answers what `run` answers; each is quick when nothing changed.

import { npm, run } from "./run.mjs";

/**
 * The relay and the command line, in the dev profile: its cryptography is optimised (see the root
 * Cargo.toml), and it builds in a fraction of the release profile's time.
 */
export function buildBinaries(options) {
  return run(["cargo", "build", "--locked", "-p", "zerok-sync-relay", "-p", "zerok-sync", "--bins"], options);
}

/** The npm package `@0k-sync/client`: Rust to wasm, glue, TypeScript. */
export function buildClient(options) {
  return run([...npm, "run", "--silent", "build", "-w", "client-wasm"], options);
}

/** The web demo. */
export function buildDemo(options) {
  return run([...npm, "run", "--silent", "build", "-w", "web-demo", "--", "--logLevel", "warn"], options);
}
