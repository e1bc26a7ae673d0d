// Where things are.

import { isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The project's folder. */
export const root = fileURLToPath(new URL("../../", import.meta.url));

/** Cargo's output, shared by every step. */
export const target = targetDirectory(process.env.CARGO_TARGET_DIR);

/** Where each step of `npm test` leaves its whole output. */
export const logs = join(target, "test-logs");

/** What the relay serves at `/`. */
export const webRoot = join(root, "web-demo", "dist");

/** Path of a program that Cargo built in its dev profile. */
export function binary(name) {
  return join(target, "debug", process.platform === "win32" ? `${name}.exe` : name);
}

function targetDirectory(wish) {
  if (!wish) return join(root, "target");
  return isAbsolute(wish) ? wish : join(root, wish);
}
